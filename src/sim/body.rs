//! A module's body: its flash, its identity, its faults, and the record of what was done to it.
//!
//! The module's task owns it while it lives; the ground truth of tests looks at it. The lock is held for single
//! operations only, never while waiting.

mod store;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::at_commands::Memory;
use super::boot::{self, Boot, System};
use super::efs::{self, BandKey, CFUN_PATH, EfsState, IMEI_PATH, encode_bands, encode_imei};
use super::faults::{Faults, Kind};
use super::flash_map::{Erased, FlashError, FlashMap};
use super::maker;
use super::models::Model;
use super::nand::{InWork, Nand, PageState};
use super::page_pool::mix;
use super::programmer::{ProgrammerInfo, programmer_info};
use super::sahara::RomVerdict;
use super::spec::SimError;
use super::stage::{Arrival, GuardedSight, Stage};
use super::unit::{Inspection, UnitIdentity, inspect, partition_digest};
use store::Journal;

use crate::domain::{BandSet, ChipId, KeyHash, PageRange, Sha256Digest};
use crate::host::Random;

/// Events kept per unit.
const EVENTS_MAX: usize = 10_000;
/// Sahara status of a programmer for another chip.
const STATUS_WRONG_IMAGE: u32 = 0x08;
/// Sahara status of a programmer whose signature the fuses do not trust.
const STATUS_NOT_TRUSTED: u32 = 0x25;

/// What was done to a module over the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BusAction {
    /// The switch into download mode by DIAG.
    EdlSwitch,
    /// A programmer was started.
    Programmer,
    /// A range was read.
    Read(PageRange),
    /// A range was erased.
    Erase(PageRange),
    /// A range was announced for programming.
    Program(PageRange),
    /// NV items or files were changed over DIAG, one or several one after the other.
    Store,
    /// The programmer was told to reset the chip.
    Power,
    /// The module was started (power-on or reset).
    Start,
}

/// An action and its station time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusEvent {
    /// When.
    pub at: Duration,
    /// What.
    pub action: BusAction,
}

impl BusEvent {
    /// Whether it changes flash, or will: what is stored over DIAG waits in a journal.
    #[must_use]
    pub const fn is_destructive(&self) -> bool {
        matches!(self.action, BusAction::Erase(_) | BusAction::Program(_) | BusAction::Store)
    }
}

/// What a start leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Started {
    /// Normal mode.
    Normal,
    /// The boot ROM stays in download mode.
    Edl,
    /// Memory dump.
    Dump,
    /// It enumerates and never answers.
    Mute,
    /// It starts, and starts again.
    Loop,
    /// On the bus without an interface, as an arrival that a test has chosen.
    Half,
}

/// What belongs to the unit.
const GUARDED: &[&str] = &["EFS2", "sys_rev", "RAWDATA"];

/// A body.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) faults: Faults,
    identity: UnitIdentity,
    born_revision: String,
    nand: Nand,
    /// What the programmer is at in the storage.
    in_work: Option<InWork>,
    seed: u64,
    programmer: Option<ProgrammerInfo>,
    running: Option<System>,
    journal: Journal,
    cfun: u8,
    altered: bool,
    /// Whether it was flashed and not started since.
    is_new: bool,
    /// Starts since the boot loader was programmed.
    flashed_starts: u32,
    starts: u32,
    events: Vec<BusEvent>,
    /// What a test has planned for it.
    pub(super) stage: Stage,
}

/// The shared body.
#[derive(Debug, Clone)]
pub(super) struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body {
    /// A body around a flash that is already what it should be.
    pub(super) fn new(identity: UnitIdentity, revision: String, nand: Nand, faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            identity,
            born_revision: revision,
            nand,
            in_work: None,
            seed,
            programmer: None,
            running: None,
            journal: Journal::default(),
            cfun: 0,
            altered: false,
            is_new: false,
            flashed_starts: 0,
            starts: 0,
            events: Vec::new(),
            stage: Stage::default(),
        }
    }

    // Ground truth.

    pub(super) fn identity(&self) -> &UnitIdentity {
        &self.identity
    }

    pub(super) fn chip(&self) -> ChipId {
        self.identity.chip
    }

    pub(super) fn key_hash(&self) -> KeyHash {
        self.identity.model.key_hash()
    }

    pub(super) fn nand(&self) -> &Nand {
        &self.nand
    }

    pub(super) fn starts(&self) -> u32 {
        self.starts
    }

    pub(super) fn events(&self) -> &[BusEvent] {
        &self.events
    }

    pub(super) fn inspect(&self) -> Option<Inspection> {
        inspect(&self.nand, self.identity.model).ok()
    }

    pub(super) fn digest(&self, partition: &str, bytes: u64) -> Option<Sha256Digest> {
        partition_digest(&self.nand, self.identity.model, partition, bytes)
    }

    pub(super) fn note(&mut self, at: Duration, action: BusAction) {
        let event = BusEvent { at, action };
        if event.is_destructive() {
            self.stage.count_command();
            if !std::mem::replace(&mut self.stage.is_noted, true) {
                self.see_guarded(at, false);
            }
        }
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        }
    }

    fn see_guarded(&mut self, at: Duration, is_boot: bool) {
        if !self.stage.is_watched {
            return;
        }
        let map = self.flash_map();
        let numbers = self.guarded().into_iter().flat_map(|range| range.start..range.end());
        let pages =
            numbers.fold(0, |hash, page| mix(hash ^ map.tag(&self.nand, page).unwrap_or_default()).wrapping_add(page));
        self.stage.sights.push(GuardedSight { at, is_boot, pages });
    }

    /// Makes blocks bad, for tests.
    pub(super) fn nand_mut(&mut self) -> &mut Nand {
        &mut self.nand
    }

    // Starting.

    /// Starts the module from its flash.
    pub(super) fn start(&mut self, at: Duration) -> Started {
        self.note(at, BusAction::Start);
        self.starts += 1;
        self.programmer = None;
        let flashed = self.faults.is_flashed();
        if flashed
            && !std::mem::replace(&mut self.altered, true)
            && let Err(error) = maker::alter_after_flash(&mut self.nand, &self.identity, &self.faults, self.seed)
        {
            tracing::warn!(%error, unit = self.identity.number, "a planted fault could not be stored");
        }
        if flashed
            && std::mem::take(&mut self.is_new)
            && self.faults.has(Kind::BandMissingPolicy)
            && let Err(error) = maker::take_policy(&mut self.nand, &self.identity)
        {
            tracing::warn!(%error, unit = self.identity.number, "the package's carrier policy could not be stored");
        }
        self.lose_efs_at_start(flashed);
        self.running = None;
        self.journal = Journal::default();
        match self.stage.arrival.take() {
            Some(Arrival::Dump) => return Started::Dump,
            Some(Arrival::Edl) => return Started::Edl,
            Some(Arrival::HalfEnumerated) => return Started::Half,
            None => {}
        }
        if self.stage.is_watched && matches!(boot::look(&self.nand, self.identity.model), Boot::Normal(_)) {
            self.see_guarded(at, true);
            self.stage.is_noted = false;
        }
        match boot::boot(&mut self.nand, self.identity.model) {
            Boot::Edl { .. } => Started::Edl,
            Boot::MemoryDump { .. } => Started::Dump,
            Boot::NoSystem { .. } => Started::Mute,
            Boot::Normal(_) if flashed && self.faults.has(Kind::CrashAfter) => Started::Dump,
            Boot::Normal(_) if flashed && self.faults.has(Kind::BootLoop) => Started::Loop,
            Boot::Normal(mut system) => {
                if flashed && self.faults.has(Kind::RevisionWrongAfter) {
                    system.revision.clone_from(&self.born_revision);
                }
                self.cfun = system.cfun();
                self.running = Some(system);
                Started::Normal
            }
        }
    }

    /// Loses the EFS where a fault does that at a start.
    fn lose_efs_at_start(&mut self, flashed: bool) {
        if !flashed {
            return;
        }
        self.flashed_starts += 1;
        let is_cut = self.flashed_starts > 1 && self.faults.take(Kind::EfsLostAtCut);
        if is_cut || self.faults.has(Kind::CfunAfterAlways) {
            self.lose_efs();
        }
    }

    /// Erases the file system and its second copy.
    pub(super) fn lose_efs(&mut self) {
        let map = self.flash_map();
        if let Err(error) = maker::lose_efs(&mut self.nand, &map) {
            tracing::warn!(%error, unit = self.identity.number, "the EFS could not be lost");
        }
    }

    /// Takes the RF calibration away that anyone asks for.
    pub(super) fn lose_calibration(&mut self) -> Result<(), SimError> {
        let map = self.flash_map();
        maker::lose_calibration(&mut self.nand, &map)
    }

    /// How long this start takes until the module is on the bus.
    pub(super) fn boot_time(&self) -> Duration {
        let timing = self.identity.model.timing;
        let span = timing.boot_max.saturating_sub(timing.boot_min).as_millis();
        let random = Random::seeded(self.seed ^ u64::from(self.chip().serial) << 16 ^ u64::from(self.starts));
        let share = u64::try_from(u128::from(random.next_u64()) % span.max(1)).unwrap_or_default();
        timing.boot_min + Duration::from_millis(share)
    }

    // The boot ROM.

    pub(super) fn reads_wide(&self) -> bool {
        // As loaders of the chips after SDX55 are pulled.
        self.identity.model.chip == "SDX62"
    }

    pub(super) fn says_pending(&self) -> bool {
        self.identity.model.chip == "MDM9607"
    }

    pub(super) fn rom_verdict(&self) -> RomVerdict {
        if self.faults.has(Kind::ProgrammerRejected) {
            RomVerdict::Refuse(STATUS_NOT_TRUSTED)
        } else if self.faults.has(Kind::ProgrammerSilent) {
            RomVerdict::Silence
        } else {
            RomVerdict::Check
        }
    }

    /// Checks a programmer as the fuses do, and starts it; else the status it is refused with.
    pub(super) fn start_programmer(&mut self, at: Duration, image: &[u8]) -> Result<(), u32> {
        let info = programmer_info(image).ok_or(STATUS_NOT_TRUSTED)?;
        if info.key_hash != self.key_hash() {
            return Err(STATUS_NOT_TRUSTED);
        }
        if info.chip != self.identity.model.chip {
            return Err(STATUS_WRONG_IMAGE);
        }
        self.programmer = Some(info);
        self.note(at, BusAction::Programmer);
        Ok(())
    }

    // The programmer.

    pub(super) fn programmer_can_read(&self) -> bool {
        self.programmer.as_ref().is_some_and(|info| info.can_read)
    }

    pub(super) fn programmer_build(&self) -> String {
        self.programmer.as_ref().map(|info| info.build.clone()).unwrap_or_default()
    }

    pub(super) fn flash_map(&self) -> FlashMap {
        FlashMap::of_module(&self.nand, self.identity.model)
    }

    pub(super) fn guarded(&self) -> Vec<PageRange> {
        let map = self.flash_map();
        GUARDED.iter().filter_map(|name| map.range(name)).collect()
    }

    pub(super) fn bad_blocks_in(&self, range: PageRange) -> Vec<u64> {
        let per_block = u64::from(self.nand.geometry().pages_per_block);
        self.nand.bad_in(range.start / per_block..range.end().div_ceil(per_block)).collect()
    }

    pub(super) fn erase(&mut self, map: &FlashMap, range: PageRange) -> Result<Erased, String> {
        let erased = map.erase(&mut self.nand, range).map_err(|error| error.to_string());
        self.in_work = self.nand.last_in_work();
        erased
    }

    /// What the programmer was at is done.
    pub(super) fn settle_storage(&mut self) {
        self.in_work = None;
    }

    /// The supply is gone, in the middle of whatever it was.
    pub(super) fn lose_power(&mut self) {
        if let Some(work) = self.in_work.take()
            && let Err(error) = self.nand.tear(work)
        {
            tracing::warn!(%error, unit = self.identity.number, "what was in work could not be spoiled");
        }
    }

    /// Programs pages. Pages that were not erased are spoiled by it, and the programmer notices.
    pub(super) fn program(&mut self, map: &FlashMap, page: u64, bytes: &[u8]) -> Result<(), String> {
        let pages = (bytes.len() / self.nand.page_bytes()) as u64;
        let dirty = (page..page + pages).find(|page| map.state(&self.nand, *page) != PageState::Erased);
        map.program(&mut self.nand, page, bytes).map_err(|error| error.to_string())?;
        self.in_work = self.nand.last_in_work();
        dirty.map_or(Ok(()), |page| Err(format!("Write Failed sector {page}, page is not erased")))
    }

    /// Reads a page; whether there is anything on it.
    pub(super) fn read(&self, map: &FlashMap, page: u64, buffer: &mut [u8]) -> Result<bool, String> {
        match map.read(&self.nand, page, buffer) {
            Ok(state) => Ok(state == PageState::Programmed),
            // Behind the last good block there is nothing: it reads as blank.
            Err(FlashError::OutOfGoodBlocks { .. }) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A program is complete. The new partition map, where it changed it.
    pub(super) fn programmed(&mut self, range: PageRange) -> Option<FlashMap> {
        if range.start == 0 {
            self.faults.boot_loader_programmed();
            self.is_new = true;
        }
        let table = self.identity.model.range("MIBIB")?;
        (table.start <= range.start && range.start < table.end())
            .then(|| FlashMap::from_table(&self.nand, self.identity.model))
            .flatten()
    }

    /// Stores an item at once, behind everything that waits.
    fn store(&mut self, path: &str, content: &[u8]) -> bool {
        self.write_journal();
        let map = self.flash_map();
        if efs::write(&mut self.nand, &map, path, Some(content)).is_err() {
            return false;
        }
        if let Some(system) = &mut self.running {
            system.items.set(path, content.to_vec());
        }
        true
    }
}

impl Memory for Body {
    fn model(&self) -> &'static Model {
        self.identity.model
    }

    fn revision(&self) -> String {
        self.running.as_ref().map(|system| system.revision.clone()).unwrap_or_default()
    }

    fn imei(&self) -> Option<String> {
        self.running.as_ref()?.items.imei()
    }

    fn set_imei(&mut self, imei: &str) -> bool {
        self.store(IMEI_PATH, &encode_imei(imei))
    }

    fn serial_number(&self) -> Option<String> {
        self.running.as_ref()?.items.serial()
    }

    fn cfun(&self) -> u8 {
        self.cfun
    }

    fn set_cfun(&mut self, level: u8) -> bool {
        let stored = self.store(CFUN_PATH, &[level]);
        if stored {
            self.cfun = level;
        }
        stored
    }

    fn is_lost(&self) -> bool {
        self.running.as_ref().is_none_or(|system| system.efs != EfsState::Present)
    }

    fn bands(&self, set: BandSet) -> Vec<u16> {
        self.running.as_ref().map(|system| system.items.bands(key_of(set))).unwrap_or_default()
    }

    fn set_bands(&mut self, set: BandSet, bands: &[u16]) -> bool {
        self.store(key_of(set).path(), &encode_bands(bands))
    }

    fn item(&self, path: &str) -> Option<Vec<u8>> {
        let items = &self.running.as_ref()?.items;
        items.get(path).filter(|_| !efs::is_of_nv(path)).map(<[u8]>::to_vec)
    }

    fn set_item(&mut self, path: &str, content: &[u8]) -> bool {
        !efs::is_of_nv(path) && self.store(path, content)
    }

    fn bad_blocks(&self) -> u32 {
        self.nand.bad_blocks()
    }

    fn restore_golden(&mut self) -> bool {
        let map = self.flash_map();
        efs::restore_golden(&mut self.nand, &map).unwrap_or(false)
    }
}

const fn key_of(set: BandSet) -> BandKey {
    match set {
        BandSet::LteConfig => BandKey::LteConfig,
        BandSet::LtePolicy => BandKey::LtePolicy,
        BandSet::NrSaConfig => BandKey::NrSaConfig,
        BandSet::NrSaPolicy => BandKey::NrSaPolicy,
        BandSet::NrNsaConfig => BandKey::NrNsaConfig,
        BandSet::NrNsaPolicy => BandKey::NrNsaPolicy,
    }
}
