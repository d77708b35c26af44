//! How units are made, and how the faults that lie in their flash get there.
//!
//! A fault of a unit is made of the same things as the real one: an IMEI of zeros stands in the EFS, a lost
//! calibration is missing from it, a moved partition is moved in the table and with its content. So a controller that
//! looks closer finds what it would find on a real unit.

use std::path::Path;

use super::efs::{self, BandKey, CFUN_PATH, EfsError, IMEI_PATH, RF_DIRECTORY, encode_bands, encode_imei};
use super::faults::{Faults, Kind};
use super::flash_map::FlashMap;
use super::mibib;
use super::models::Model;
use super::nand::{Nand, PagePool};
use super::programmer::{self, ProgrammerInfo};
use super::spec::SimError;
use super::unit::{UnitError, UnitIdentity, factory_fresh, identity};
use crate::domain::PageRange;
use crate::host::{Disk, Random};

/// Bad blocks that a unit may have from its maker.
const FACTORY_BAD_BLOCKS_MAX: u64 = 2;
/// The IMEI after a change is that of a unit so many numbers away: one that never comes down the line.
const STRANGER: u32 = 400_000;
/// Functionality level of factory test mode.
const CFUN_FTM: u8 = 5;
/// The band that goes missing where there is NR.
const NR_BAND: u16 = 77;
/// The band that goes missing elsewhere.
const LTE_BAND: u16 = 7;

/// Where a unit's flash lies.
pub(super) enum Place<'a> {
    /// In memory, pages shared.
    Memory(&'a PagePool),
    /// In a file and the one beside it.
    File(&'a dyn Disk, &'a Path),
}

/// Opens a unit's flash, erased or as it was left.
pub(super) fn open(model: &Model, place: &Place<'_>) -> Result<Nand, SimError> {
    Ok(match place {
        Place::Memory(pool) => Nand::in_memory(model.geometry, model.total_pages, pool),
        Place::File(disk, path) => Nand::in_file(model.geometry, model.total_pages, *disk, path)?,
    })
}

/// Fills an erased flash with what the unit holds when it comes to the line, its faults included.
pub(super) fn fill(
    nand: &mut Nand,
    unit: &UnitIdentity,
    revision: &str,
    faults: &Faults,
    seed: u64,
    other_imei: Option<&str>,
) -> Result<(), SimError> {
    let model = unit.model;
    let random = Random::seeded(seed ^ u64::from(unit.chip.serial));
    let bad = u32::try_from(random.next_u64() % (FACTORY_BAD_BLOCKS_MAX + 1)).unwrap_or_default();
    nand.scatter_bad_blocks(random.next_u64(), bad)?;
    if faults.has(Kind::BadBlock) {
        let system = model.range("system").ok_or_else(|| SimError::Model(model.name.to_owned()))?;
        // The second block: any image of some size meets it in its middle.
        nand.mark_bad(system.start / u64::from(model.geometry.pages_per_block) + 1)?;
    }
    factory_fresh(nand, unit, revision)?;
    if faults.has(Kind::PackageMovesEfs) {
        move_efs(nand, model)?;
    }
    let map = FlashMap::of_module(nand, model);
    let imei = if faults.has(Kind::ImeiZero) { Some("000000000000000") } else { other_imei };
    if let Some(imei) = imei {
        efs::write(nand, &map, IMEI_PATH, Some(&encode_imei(imei)))?;
    }
    if faults.has(Kind::CalibrationMissing) {
        lose_calibration(nand, &map)?;
    }
    if faults.has(Kind::ModeStuck) {
        efs::write(nand, &map, CFUN_PATH, Some(&[CFUN_FTM]))?;
    }
    if faults.has(Kind::EfsLost) {
        lose_efs(nand, &map)?;
    }
    Ok(())
}

/// Erases the file system and its golden copy.
pub(super) fn lose_efs(nand: &mut Nand, map: &FlashMap) -> Result<(), SimError> {
    ["EFS2", "sys_rev"].into_iter().filter_map(|name| map.range(name)).try_for_each(|range| erase(nand, map, range))
}

/// Gives the EFS's last block to its neighbour, in the table and with the content.
fn move_efs(nand: &mut Nand, model: &Model) -> Result<(), SimError> {
    let old = FlashMap::of_module(nand, model);
    let items = efs::mount(nand, &old)?.items;
    let mut entries = mibib::entries(model);
    for index in 1..entries.len() {
        if entries[index - 1].name.eq_ignore_ascii_case("EFS2") {
            entries[index - 1].blocks = entries[index - 1].blocks.map(|blocks| blocks - 1);
            entries[index].blocks = entries[index].blocks.map(|blocks| blocks + 1);
            entries[index].start_block -= 1;
        }
    }
    for name in ["MIBIB", "EFS2", "sys_rev"] {
        if let Some(range) = old.range(name) {
            erase(nand, &old, range)?;
        }
    }
    if let Some(table) = old.range("MIBIB") {
        old.program(nand, table.start, &mibib::encode(&entries, model.geometry, 3)).map_err(UnitError::from)?;
    }
    let map = FlashMap::of_module(nand, model);
    efs::format(nand, &map, &items)?;
    Ok(())
}

fn erase(nand: &mut Nand, map: &FlashMap, range: PageRange) -> Result<(), SimError> {
    map.erase(nand, range).map(|_| ()).map_err(|error| UnitError::from(error).into())
}

/// What a flash has done to a unit whose fault shows only afterwards.
pub(super) fn alter_after_flash(
    nand: &mut Nand,
    unit: &UnitIdentity,
    faults: &Faults,
    seed: u64,
) -> Result<(), SimError> {
    let map = FlashMap::of_module(nand, unit.model);
    if faults.has(Kind::BandMissingConfig) {
        let is_nr = !unit.model.nr_sa.is_empty();
        take_band(nand, unit, if is_nr { BandKey::NrSaConfig } else { BandKey::LteConfig })?;
    }
    if faults.has(Kind::ImeiChanged) {
        let other = identity(unit.model, unit.number + STRANGER, seed);
        efs::write(nand, &map, IMEI_PATH, Some(&encode_imei(other.imei.as_str())))?;
    }
    if faults.has(Kind::CalibrationLost) {
        lose_calibration(nand, &map)?;
    }
    if faults.has(Kind::CfunAfter) {
        lose_efs(nand, &map)?;
    }
    Ok(())
}

/// The first start after every flash with a package whose carrier policy lacks a band: the module takes it over.
pub(super) fn take_policy(nand: &mut Nand, unit: &UnitIdentity) -> Result<(), SimError> {
    let is_nr = !unit.model.nr_sa.is_empty();
    Ok(take_band(nand, unit, if is_nr { BandKey::NrSaPolicy } else { BandKey::LtePolicy })?)
}

/// Takes a band out of one of the module's sets.
fn take_band(nand: &mut Nand, unit: &UnitIdentity, key: BandKey) -> Result<(), EfsError> {
    let map = FlashMap::of_module(nand, unit.model);
    let gone = if unit.model.nr_sa.is_empty() { LTE_BAND } else { NR_BAND };
    let mut bands = efs::mount(nand, &map)?.items.bands(key);
    bands.retain(|band| *band != gone);
    efs::write(nand, &map, key.path(), Some(&encode_bands(&bands)))
}

/// Takes away the calibration items that anyone asks for. Some others stay, so the modem still starts as usual: the
/// hard case, in which only a look at the items tells.
pub(super) fn lose_calibration(nand: &mut Nand, map: &FlashMap) -> Result<(), SimError> {
    let items = efs::mount(nand, map)?.items;
    let mut paths: Vec<String> =
        items.iter().map(|(path, _)| path.to_owned()).filter(|path| path.starts_with(RF_DIRECTORY)).collect();
    paths.pop();
    for path in paths {
        efs::write(nand, map, &path, None)?;
    }
    Ok(())
}

/// A programmer file that a model's chip trusts, for hosts that have no package.
#[must_use]
pub fn programmer_for(model: &Model) -> Vec<u8> {
    let info = ProgrammerInfo {
        chip: model.chip.to_owned(),
        key_hash: model.key_hash(),
        can_read: true,
        build: "Apr 19 2020 @ 17:49:11".to_owned(),
    };
    programmer::build(&info, 0)
}
