//! The modem's private file system, as far as a flashing line can tell: NV items, item files, ordinary files and
//! directories, in a log inside the EFS partition.
//!
//! It is kept *in the flash*, not beside it. A flasher that erases the partition loses the items, a raw backup that
//! is restored the right way (erase, then only the used pages) brings them back, and one that programs blank pages
//! leaves the log without erased blocks, which a real modem answers with a crash.

mod items;
mod log;
mod page;
mod tree;

pub use items::{
    BOOTS_PATH, BandKey, CFUN_PATH, IMEI_PATH, NV_DIRECTORY, NV_TREE, RF_DIRECTORY, SERIAL_PATH, encode_bands,
    encode_imei, is_hidden, is_of_nv, nv_item_bytes, subscription_directory, subscriptions,
};
pub use log::EfsError;
use log::Log;
use page::{Record, Superblock, records_of};
pub use tree::{Change, Items, Node, NodeKind};

use crate::domain::{Geometry, PageRange};

use super::flash_map::FlashMap;
use super::models::Model;
use super::nand::Nand;

/// The partition of the file system.
const EFS: &str = "EFS2";
/// The partition of its golden copy.
const GOLDEN: &str = "sys_rev";

/// What became of a unit's file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EfsState {
    /// It holds calibration.
    Present,
    /// There is one, without calibration: of a factory package, or made anew by the modem.
    Skeleton,
    /// There is none.
    Lost,
}

/// A file system that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mounted {
    /// What became of it.
    pub state: EfsState,
    /// Its items; none when it is lost.
    pub items: Items,
}

fn range(map: &FlashMap, name: &'static str) -> Result<PageRange, EfsError> {
    map.range(name).ok_or(EfsError::NoPartition(name))
}

fn state_of(items: &Items) -> EfsState {
    if items.is_calibrated() { EfsState::Present } else { EfsState::Skeleton }
}

/// Reads the file system.
///
/// # Errors
/// [`EfsError::NoPartition`], [`EfsError::Nand`]. A missing file system is no error.
pub fn mount(nand: &Nand, map: &FlashMap) -> Result<Mounted, EfsError> {
    Ok(match Log::mount(nand, range(map, EFS)?)? {
        Some(log) => Mounted { state: state_of(&log.items), items: log.items },
        None => Mounted { state: EfsState::Lost, items: Items::default() },
    })
}

/// Stores an item in the file system, or takes it away.
///
/// # Errors
/// [`EfsError`]; [`EfsError::Lost`] when there is none.
pub fn write(nand: &mut Nand, map: &FlashMap, path: &str, data: Option<&[u8]>) -> Result<(), EfsError> {
    let node = data.map(|data| Node { kind: NodeKind::Item, data: data.to_vec() });
    apply(nand, map, &[Change { path: path.to_owned(), node }])
}

/// Makes changes, in their order.
///
/// # Errors
/// As for [`write()`]. What was changed before the one that failed stays.
pub fn apply(nand: &mut Nand, map: &FlashMap, changes: &[Change]) -> Result<(), EfsError> {
    let mut log = Log::mount(nand, range(map, EFS)?)?.ok_or(EfsError::Lost)?;
    changes.iter().try_for_each(|change| log.store(nand, &change.path, change.node.as_ref()))
}

/// Makes a new file system with these items, and a golden copy of it.
pub(super) fn format(nand: &mut Nand, map: &FlashMap, items: &Items) -> Result<(), EfsError> {
    Log::format(nand, range(map, EFS)?, items)?;
    if let Ok(range) = range(map, GOLDEN) {
        Log::format(nand, range, items)?;
    }
    Ok(())
}

/// What a start of the modem does to its file system: counts the boot. One that was lost is made anew with the
/// model's defaults, and one without calibration also replaces the golden copy: after such a boot only a backup from
/// outside helps.
pub(super) fn start(nand: &mut Nand, map: &FlashMap, model: &Model) -> Result<Mounted, EfsError> {
    let found = Log::mount(nand, range(map, EFS)?)?;
    let state = found.as_ref().map_or(EfsState::Lost, |log| state_of(&log.items));
    let mut log = match found {
        Some(log) => log,
        None => {
            format(nand, map, &Items::defaults(model))?;
            Log::mount(nand, range(map, EFS)?)?.ok_or(EfsError::Lost)?
        }
    };
    if state == EfsState::Skeleton && is_golden(nand, map)? {
        Log::format(nand, range(map, GOLDEN)?, &log.items)?;
    }
    let boots = log.items.boots().wrapping_add(1).to_le_bytes().to_vec();
    log.store(nand, BOOTS_PATH, Some(&Node { kind: NodeKind::Item, data: boots }))?;
    Ok(Mounted { state, items: log.items })
}

fn is_golden(nand: &Nand, map: &FlashMap) -> Result<bool, EfsError> {
    let Ok(range) = range(map, GOLDEN) else { return Ok(false) };
    Ok(Log::mount(nand, range)?.is_some_and(|log| log.items.is_calibrated()))
}

/// Replaces the file system by its golden copy (`AT+QPRTPARA=3`); `false` when there is no copy with calibration.
///
/// # Errors
/// [`EfsError`].
pub fn restore_golden(nand: &mut Nand, map: &FlashMap) -> Result<bool, EfsError> {
    let Some(golden) = Log::mount(nand, range(map, GOLDEN)?)?.filter(|log| log.items.is_calibrated()) else {
        return Ok(false);
    };
    Log::format(nand, range(map, EFS)?, &golden.items)?;
    Ok(true)
}

/// The image of a file system with these items, to be programmed at the partition's first page: the `cefs.mbn` of
/// factory packages.
pub(super) fn image(items: &Items, geometry: Geometry, blocks: u32) -> Vec<u8> {
    let records = items
        .nodes()
        .flat_map(|(path, node)| records_of(path, node, geometry))
        .chain(std::iter::once(Record::Complete));
    let mut image = Vec::new();
    let mut room = 0;
    let mut index = 0;
    for page in records.filter_map(|record| record.encode(geometry)) {
        if room == 0 {
            image.extend(Superblock { generation: 1, index }.encode(geometry, blocks));
            index += 1;
            room = geometry.pages_per_block - 1;
        }
        image.extend(page);
        room -= 1;
    }
    image
}

#[cfg(test)]
mod tests;
