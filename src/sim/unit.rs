//! A simulated unit: its identity, what it holds when it leaves its maker, and what is really in it.
//!
//! The inspection at the end is the ground truth that tests compare a PASS with. It reads the flash, not what the
//! module says.

use sha2::{Digest, Sha256};

use crate::domain::{ChipId, Imei, Sha256Digest};

use super::boot::{self, Boot};
use super::efs::{self, EfsError, EfsState, Items};
use super::flash_map::{FlashError, FlashMap};
use super::images::{Image, ImageSpec};
use super::mibib;
use super::models::{Model, Role};
use super::nand::Nand;
use super::page_pool::mix;

/// Serial number records of units: `RAWDATA` begins with it.
const RECORD_MAGIC: [u8; 8] = *b"SIMRAW01";
/// Pages of each image that a unit is born with: small, so that a unit can be inserted at once.
const FACTORY_IMAGE_PAGES: u64 = 3;
/// Serial numbers within a type allocation code.
const IMEI_SERIALS: u64 = 1_000_000;

/// Who a unit is.
#[derive(Clone, Debug)]
pub struct UnitIdentity {
    /// Its number in the factory, from 1.
    pub number: u32,
    /// Its model.
    pub model: &'static Model,
    /// Its chip.
    pub chip: ChipId,
    /// Its IMEI.
    pub imei: Imei,
    /// Its serial number, as `AT+EGMR=0,5` gives it.
    pub serial_number: String,
    /// Its USB serial string.
    pub usb_serial: String,
}

/// Why a unit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// Its images could not be written.
    #[error(transparent)]
    Flash(#[from] FlashError),
    /// Its file system could not be made.
    #[error(transparent)]
    Efs(#[from] EfsError),
}

/// The identity of the unit with a number. Two numbers below a million never share a chip or an IMEI.
#[must_use]
pub fn identity(model: &'static Model, number: u32, seed: u64) -> UnitIdentity {
    // A multiplication by a number prime to the modulus visits each serial once.
    let serial = (u64::from(number) * 368_787 + mix(seed) % IMEI_SERIALS) % IMEI_SERIALS;
    let imei = Imei::from_body(&format!("{}{serial:06}", model.tac)).expect("eight digits of TAC and six of serial");
    let chip = model.chip_id(chip_serial(number, seed));
    UnitIdentity {
        number,
        model,
        chip,
        imei,
        serial_number: format!("MPQ26K{:09}", u64::from(number) % 1_000_000_000),
        usb_serial: format!("{:08x}", chip.serial),
    }
}

/// A bijection of 30 bits, and a bit that keeps it from zero.
fn chip_serial(number: u32, seed: u64) -> u32 {
    const MASK: u32 = (1 << 30) - 1;
    let low = u32::try_from(mix(seed ^ 1) & u64::from(MASK)).unwrap_or_default();
    let mut word = (number & MASK) ^ low;
    word = word.wrapping_mul(0x2c1b_3c6d) & MASK;
    word ^= word >> 15;
    word = word.wrapping_mul(0x297a_2d39) & MASK;
    word | 1 << 30
}

/// Fills an erased NAND with what a unit holds when it leaves its maker: images of a revision, table, calibrated
/// file system with its golden copy, serial number record.
///
/// # Errors
/// [`UnitError`] when the NAND fails.
pub fn factory_fresh(nand: &mut Nand, unit: &UnitIdentity, revision: &str) -> Result<(), UnitError> {
    let model = unit.model;
    let map = FlashMap::of_model(model);
    let mut page = vec![0; nand.page_bytes()];
    for partition in model.partitions {
        if !matches!(partition.role, Role::BootLoader | Role::Chain | Role::System) {
            continue;
        }
        let image = Image::new(&ImageSpec {
            kind: partition.kind.to_owned(),
            chip: model.chip.to_owned(),
            revision: revision.to_owned(),
            bytes: FACTORY_IMAGE_PAGES * u64::from(model.geometry.page_bytes),
            page_bytes: model.geometry.page_bytes,
        });
        for index in 0..image.pages() {
            image.fill_page(index, &mut page);
            map.program(nand, partition.start + index, &page)?;
        }
    }
    if let Some(range) = map.range("MIBIB") {
        let per_block = u64::from(model.geometry.pages_per_block);
        for (block, age) in [(0, 2), (1, 1)] {
            let copy = mibib::encode(&mibib::entries(model), model.geometry, age);
            map.program(nand, range.start + block * per_block, &copy)?;
        }
    }
    if let Some(range) = map.range("RAWDATA") {
        page.fill(0xff);
        page[..8].copy_from_slice(&RECORD_MAGIC);
        page[8..23].copy_from_slice(unit.imei.as_str().as_bytes());
        page[24..24 + unit.serial_number.len()].copy_from_slice(unit.serial_number.as_bytes());
        map.program(nand, range.start, &page)?;
    }
    efs::format(nand, &map, &Items::of_unit(unit))?;
    Ok(())
}

/// What is really in a module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inspection {
    /// What a start would give.
    pub boot: Boot,
    /// The revision of its images, when it would run.
    pub revision: Option<String>,
    /// The IMEI in its file system.
    pub imei: Option<String>,
    /// What became of its file system.
    pub efs: EfsState,
    /// All items.
    pub items: Items,
    /// Digest of the items, the count of boots left out.
    pub efs_digest: Sha256Digest,
    /// Bad blocks of the whole storage.
    pub bad_blocks: u32,
}

/// Looks into a module without changing anything.
///
/// # Errors
/// [`EfsError::Nand`] when its storage cannot be read.
pub fn inspect(nand: &Nand, model: &Model) -> Result<Inspection, EfsError> {
    let boot = boot::look(nand, model);
    let revision = match &boot {
        Boot::Normal(system) => Some(system.revision.clone()),
        _ => None,
    };
    let mounted = efs::mount(nand, &FlashMap::of_module(nand, model))?;
    Ok(Inspection {
        boot,
        revision,
        imei: mounted.items.imei(),
        efs: mounted.state,
        efs_digest: mounted.items.digest(),
        items: mounted.items,
        bad_blocks: nand.bad_blocks(),
    })
}

/// Digest of the first `bytes` bytes of a partition, as a programmer would read them; `None` when they cannot all be
/// read. To be compared with the digest of an image file.
#[must_use]
pub fn partition_digest(nand: &Nand, model: &Model, partition: &str, bytes: u64) -> Option<Sha256Digest> {
    let map = FlashMap::of_module(nand, model);
    let range = map.range(partition)?;
    let mut page = vec![0; nand.page_bytes()];
    let mut hasher = Sha256::new();
    let mut rest = bytes;
    for number in range.start..range.end() {
        if rest == 0 {
            break;
        }
        map.read(nand, number, &mut page).ok()?;
        let used = usize::try_from(rest).map_or(page.len(), |rest| rest.min(page.len()));
        hasher.update(&page[..used]);
        rest -= used as u64;
    }
    (rest == 0).then(|| Sha256Digest::finish(hasher))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sim::models::MODELS;
    use crate::sim::nand::PagePool;

    #[test]
    fn numbers_never_share_a_chip_or_an_imei() {
        for seed in [0, 1, 77] {
            let (mut chips, mut imeis) = (BTreeSet::new(), BTreeSet::new());
            for number in 0..20_000 {
                let unit = identity(&MODELS[number as usize % MODELS.len()], number, seed);
                assert_eq!(unit.imei.tac().to_string(), unit.model.tac);
                assert!(chips.insert(unit.chip.serial) && imeis.insert(unit.imei.as_str()[8..].to_owned()));
            }
        }
    }

    #[test]
    fn units_of_each_model_boot_from_their_flash() {
        let pool = PagePool::new();
        for model in MODELS {
            for revision in model.revisions {
                let mut nand = Nand::in_memory(model.geometry, model.total_pages, &pool);
                nand.scatter_bad_blocks(5, 8).expect("bad blocks");
                let unit = identity(model, 12, 3);
                factory_fresh(&mut nand, &unit, revision).expect("a unit");
                let Boot::Normal(system) = boot::boot(&mut nand, model) else { panic!("{} is dead", model.name) };
                assert_eq!((system.revision.as_str(), system.cfun()), (*revision, 1));
                let found = inspect(&nand, model).expect("an inspection");
                assert_eq!(found.imei.as_deref(), Some(unit.imei.as_str()));
                assert_eq!((found.efs, found.items.boots()), (EfsState::Present, 1));
                assert!(found.bad_blocks > 0);
            }
        }
    }

    #[test]
    fn sixty_four_units_are_small() {
        let pool = PagePool::new();
        let units: Vec<Nand> = (0..64)
            .map(|number| {
                let model = &MODELS[number as usize % MODELS.len()];
                let mut nand = Nand::in_memory(model.geometry, model.total_pages, &pool);
                factory_fresh(&mut nand, &identity(model, number, 1), model.revisions[0]).expect("a unit");
                nand
            })
            .collect();
        assert!(pool.bytes() < 40 * 1024 * 1024, "{} bytes", pool.bytes());
        drop(units);
        assert_eq!(pool.bytes(), 0);
    }
}
