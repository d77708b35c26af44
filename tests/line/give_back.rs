//! Giving back over DIAG under hostile hands: modules that change places, media that wear, ports that crawl.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stationmaster::controller::{End, Task};
use stationmaster::domain::{
    BackupKind, BackupRef, ChipId, Fact, FailureCode, Imei, Outcome, RunRecord, SlotName, XqcnCounts,
};
use stationmaster::hardware::{AtPort, BoxFuture, DeviceKey, DeviceMode, HardwareError};
use stationmaster::host::Clock;
use stationmaster::ledger::Entry;
use stationmaster::protocol::diag::{Deframer, encode};
use stationmaster::sim::efs::IMEI_PATH;
use stationmaster::sim::{BusAction, BusEvent, UnitTruth};
use stationmaster::vault::{Label, Taking, Vault, XqcnDraft};

use crate::between::{Between, Middle};
use crate::harness::{Line, Witness, Work, assert_sound, records};
use crate::meddler::{Act, meddle};
use crate::repair::{
    DONOR, KINDS, REPAIRED, UNIT, bench, end, items, make, out_and_in, put_in, run, run_for, was_touched,
};
use crate::xqcn::kept;

const BOTH: &str = "rework: {}\nguard: raw+xqcn\n";

fn a1() -> SlotName {
    "A1".parse().expect("a slot's name")
}

fn vault(line: &Line) -> Vault {
    Vault::new(Arc::clone(&line.disk), PathBuf::from("state/vault"))
}

fn nothing() -> Witness {
    Box::new(|_, _, _| {})
}

/// The backups of a chip that the ledger knows, of that kind.
fn known(line: &Line, chip: ChipId, kind: BackupKind) -> Vec<BackupRef> {
    let all = line.entries().into_iter().filter_map(|entry| match entry.fact {
        Fact::BackupStored { backup, .. } => Some(backup),
        _ => None,
    });
    all.filter(|backup| backup.chip == chip && backup.kind == kind).collect()
}

/// Takes the files of these backups out of the vault.
fn remove(line: &Line, backups: &[BackupRef]) {
    for backup in backups {
        let directory = PathBuf::from("state/vault").join(backup.chip.to_string());
        for entry in line.disk.list(&directory).expect("it has backups") {
            if entry.name.contains(&backup.id.to_string()) {
                line.disk.remove(&directory.join(entry.name)).expect("a file");
            }
        }
    }
}

/// A unit in A1 that has lost its EFS and whose only backup is one over DIAG; what it had.
async fn lost(line: &Line) -> (UnitTruth, std::collections::BTreeMap<String, Vec<u8>>) {
    let unit = put_in(line, UNIT, KINDS[1], "A1");
    let before = kept(&unit);
    assert_eq!(run(line, "FIRST").await.outcome, Outcome::Pass);
    remove(line, &known(line, unit.identity().chip, BackupKind::Raw));
    out_and_in(line, &unit, "A1", UnitTruth::lose_efs);
    (unit, before)
}

fn happened(unit: &UnitTruth, action: &BusAction) -> usize {
    unit.events().iter().filter(|event| event.action == *action).count()
}

/// Waits until the unit was asked for its chip after its flash and has left download mode again, before it has started.
async fn until_asked(line: &Line, work: &Work, unit: &UnitTruth, flashed_before: usize) {
    let flashed = || line.entries().iter().filter(|entry| matches!(entry.fact, Fact::Flashed { .. })).count();
    let until = async |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(work.ledger.is_open(), "{:#?}", line.entries());
            line.clock.sleep(Duration::from_millis(50)).await;
        }
    };
    until(&|| flashed() > flashed_before).await;
    let asked = happened(unit, &BusAction::EdlSwitch);
    until(&|| happened(unit, &BusAction::EdlSwitch) > asked).await;
    let bus = line.factory.bus();
    let mut was_there = false;
    loop {
        let listing = bus.list().await.expect("a simulated bus can be listed");
        let is_there = listing.devices.iter().any(|device| matches!(device.mode(), DeviceMode::Edl { .. }));
        if was_there && !is_there {
            return;
        }
        was_there |= is_there;
        line.clock.sleep(Duration::from_millis(20)).await;
    }
}

fn interruptions(entries: &[Entry]) -> Vec<FailureCode> {
    let codes = entries.iter().filter_map(|entry| match &entry.fact {
        Fact::RunInterrupted { code, .. } => Some(*code),
        _ => None,
    });
    codes.collect()
}

fn of_chip(runs: &[RunRecord], chip: ChipId) -> Vec<RunRecord> {
    runs.iter().filter(|record| record.chip == Some(chip)).cloned().collect()
}

/// The owner comes back and its run is finished as it should be.
async fn owner_comes_back(
    line: &Line,
    work: Work,
    unit: &UnitTruth,
    before: &std::collections::BTreeMap<String, Vec<u8>>,
    batch: &str,
) -> Vec<Entry> {
    line.factory.unplug(&a1()).expect("a slot");
    line.factory.plug(unit.number(), &a1()).expect("it is free");
    let (end, entries) = work.end_within(line, Duration::from_secs(3600)).await;
    let own = of_chip(&records(&entries, batch), unit.identity().chip);
    let [record] = &own[..] else { panic!("{end:?} {own:#?}") };
    assert_eq!(self::end(record), REPAIRED, "{record:#?}");
    assert!(record.flags.resumed);
    assert!(kept(unit) == *before, "IMEI, NV items, calibration, bands and files are the unit's own");
    entries
}

#[tokio::test(start_paused = true)]
async fn a_module_that_takes_the_place_of_one_that_was_asked_is_known_by_its_chip_and_passes_for_nobody() {
    let line = bench(BOTH, "").await;
    let other = put_in(&line, DONOR, KINDS[1], "A1");
    let of_other = kept(&other);
    assert_eq!(run(&line, "OTHER").await.outcome, Outcome::Pass);
    line.factory.unplug(&a1()).expect("a slot");
    let (unit, before) = lost(&line).await;
    let imei = unit.identity().imei.to_string();
    other.lose_efs();
    let work = line.work("SWAP", 1).await;
    until_asked(&line, &work, &unit, 2).await;
    // At once: it takes no longer to start than the one that was there.
    line.factory.unplug(&a1()).expect("a slot");
    line.factory.plug(DONOR, &a1()).expect("it is free");
    while of_chip(&records(&line.entries(), "SWAP"), other.identity().chip).is_empty() && work.ledger.is_open() {
        line.clock.sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(items(&other).imei().as_deref(), Some(&*imei), "it was written to: nothing told that it is another one");
    let runs = records(&line.entries(), "SWAP");
    let strangers = of_chip(&runs, other.identity().chip);
    let [stranger] = &strangers[..] else { panic!("a record of its own: {runs:#?}") };
    let set_aside = (Outcome::Fail, Some(FailureCode::ForeignImei), false, true);
    assert_eq!(end(stranger), set_aside, "{stranger:#?}");
    assert!(stranger.detail.contains(&unit.identity().chip.to_string()), "{}", stranger.detail);
    assert_eq!(of_chip(&runs, unit.identity().chip), [], "nobody has passed");
    assert_eq!(interruptions(&line.entries()), [FailureCode::UnitSwapped]);
    let entries = owner_comes_back(&line, work, &unit, &before, "SWAP").await;
    assert_sound(&line, &entries);

    // Whenever it comes again it is refused by its chip, and the unit whose IMEI it carries is not doubted for it.
    line.factory.unplug(&a1()).expect("a slot");
    line.factory.plug(DONOR, &a1()).expect("it is free");
    let again = run(&line, "AGAIN").await;
    assert_eq!(end(&again), (Outcome::Held, Some(FailureCode::ForeignImei), false, true), "{again:#?}");
    assert!(!line.entries().iter().any(|entry| matches!(entry.fact, Fact::Quarantined { .. })));
    // Its own backup brings it back.
    out_and_in(&line, &other, "A1", |_| {});
    let record = run_for(&line, "OWN", Task::Restore { backup: None }, nothing()).await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert!(kept(&other) == of_other);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_comes_later_than_the_one_that_was_asked_could_is_asked_itself() {
    let line = bench(BOTH, "").await;
    let (unit, before) = lost(&line).await;
    let other = make(&line, DONOR, KINDS[1]);
    other.rewrite_imei("000000000000000").expect("its storage works");
    let of_other = kept(&other);
    let work = line.work("LATE", 1).await;
    until_asked(&line, &work, &unit, 1).await;
    line.factory.unplug(&a1()).expect("a slot");
    line.clock.sleep(Duration::from_secs(8)).await;
    line.factory.plug(DONOR, &a1()).expect("it is free");
    line.clock.sleep(Duration::from_secs(300)).await;
    assert!(kept(&other) == of_other, "nothing of it was written");
    assert!(!other.events().iter().any(BusEvent::is_destructive));
    assert_eq!(interruptions(&line.entries()), [FailureCode::UnitSwapped]);
    owner_comes_back(&line, work, &unit, &before, "LATE").await;
}

#[tokio::test(start_paused = true)]
async fn a_well_module_in_the_place_of_one_that_is_given_back_is_a_swap_and_no_failure_of_the_owner() {
    let line = bench(BOTH, "").await;
    let (unit, before) = lost(&line).await;
    let other = make(&line, DONOR, KINDS[1]);
    let of_other = kept(&other);
    let work = line.work("WELL", 1).await;
    until_asked(&line, &work, &unit, 1).await;
    line.factory.unplug(&a1()).expect("a slot");
    line.factory.plug(DONOR, &a1()).expect("it is free");
    while interruptions(&line.entries()).is_empty() {
        assert_eq!(of_chip(&records(&line.entries(), "WELL"), unit.identity().chip), []);
        line.clock.sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(interruptions(&line.entries()), [FailureCode::UnitSwapped]);
    assert!(kept(&other) == of_other);
    owner_comes_back(&line, work, &unit, &before, "WELL").await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_is_given_back_its_own_although_it_says_the_wrong_imei_that_is_to_be_cured() {
    let line = bench("guard: raw+xqcn\n", "    - { fault: imei-changed, unit: 7 }\n").await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let before = kept(&unit);
    let imei = unit.identity().imei.to_string();
    let witness: Witness = Box::new(|factory, _, entry| {
        if matches!(entry.fact, Fact::Diagnosed { .. }) {
            let unit = factory.unit(UNIT).expect("it is there");
            let per_block = u64::from(unit.identity().model.geometry.pages_per_block);
            let range = unit.flash(|_, map| map.range("EFS2")).expect("it has one");
            unit.spoil_block(range.end() / per_block - 2).expect("a block");
        }
    });
    let record = run_for(&line, "WRONG", Task::Line, witness).await;
    // This module takes an IMEI only where it has none: all the rest is its own again.
    assert_eq!(end(&record), (Outcome::Fail, Some(FailureCode::RestoreDiffers), false, true), "{record:#?}");
    assert!(record.detail.contains("NV item 550"), "{}", record.detail);
    let announced = |entry: &Entry| matches!(&entry.fact, Fact::RestoreIntent { ranges, .. } if ranges.is_empty());
    assert!(line.entries().iter().any(announced), "it was written to");
    assert_ne!(items(&unit).imei().as_deref(), Some(&*imei));
    let mut after = kept(&unit);
    after.insert(IMEI_PATH.to_owned(), before[IMEI_PATH].clone());
    assert!(after == before);
}

#[tokio::test(start_paused = true)]
async fn an_order_to_leave_its_mode_is_not_sent_to_another_module() {
    let stuck = "    - { fault: mode-stuck, unit: 7 }\n    - { fault: mode-stuck, unit: 8 }\n";
    let line = bench("rework: {}\n", stuck).await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let other = make(&line, DONOR, KINDS[0]);
    let work = line.work("STUCK", 1).await;
    let is_saved = |entry: &Entry| matches!(entry.fact, Fact::BackupStored { .. });
    while !line.entries().iter().any(is_saved) {
        line.clock.sleep(Duration::from_millis(50)).await;
    }
    let bus = line.factory.bus();
    let is_in_edl = |device: &stationmaster::hardware::DeviceRecord| matches!(device.mode(), DeviceMode::Edl { .. });
    while bus.list().await.expect("it can be listed").devices.iter().any(is_in_edl) {
        line.clock.sleep(Duration::from_millis(20)).await;
    }
    line.factory.unplug(&a1()).expect("a slot");
    line.factory.plug(DONOR, &a1()).expect("it is free");
    line.clock.sleep(Duration::from_secs(60)).await;
    let chip_of = |run| {
        let entries = line.entries();
        let found = entries.into_iter().rev().find_map(|entry| match entry.fact {
            Fact::Claimed { run: claimed, chip, .. } if claimed == run => Some(chip),
            _ => None,
        });
        found.expect("a claim comes first")
    };
    for entry in line.entries() {
        if let Fact::Cure { run, .. } = entry.fact {
            assert_eq!(chip_of(run), other.identity().chip, "only in a run of its own");
        }
    }
    assert_eq!(unit.cfun(), 5);
    work.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_pages_of_an_ill_module_are_not_written_over_themselves() {
    let mut line = bench("rework: {}\n", "    - { fault: mode-stuck, unit: 7 }\n").await;
    meddle(&mut line, |command| match command {
        "AT+CFUN?" => Act::Say(&["+CFUN: 5", "OK"]),
        "AT+CFUN=1" => Act::Say(&["+CME ERROR: 3"]),
        _ => Act::Pass,
    });
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let record = run(&line, "STUCK").await;
    assert_eq!(end(&record), (Outcome::Fail, Some(FailureCode::CfunFtm), false, true), "{record:#?}");
    assert!(!was_touched(&unit), "its EFS is whole, and what was saved of it is no better");
    assert!(!line.entries().iter().any(|entry| matches!(entry.fact, Fact::RestoreIntent { .. })));
}

/// Stores something over DIAG for a chip, with a name that the ledger knows.
async fn store(line: &Line, chip: ChipId, imei: Imei, suspect: Option<&str>, bytes: Vec<u8>) -> BackupRef {
    let label = Label { taken: line.clock.wall(), run: None, suspect: suspect.map(str::to_owned) };
    let taking = Taking { chip, imei, label, used_pages_min: 8, blank_efs: None };
    let counts = XqcnCounts { nv_items: 1, files: 1, directories: 69 };
    let backup = vault(line).store_xqcn(XqcnDraft { taking, counts, bytes }).expect("it is stored");
    line.append(Fact::BackupImported { backup: backup.clone(), given_by: "elsewhere".to_owned() }).await;
    backup
}

#[tokio::test(start_paused = true)]
async fn what_is_no_backup_over_diag_is_known_before_anything_is_changed_for_it() {
    let line = bench(BOTH, "").await;
    let (unit, before) = lost(&line).await;
    let chip = unit.identity().chip;
    let good = known(&line, chip, BackupKind::Xqcn).pop().expect("one over DIAG");
    let bytes = vault(&line).load_xqcn(&good).expect("it is there");
    remove(&line, std::slice::from_ref(&good));
    let junk = store(&line, chip, good.imei, None, b"<Storage Name='x'/>".to_vec()).await;
    let events = unit.events().len();
    let task = Task::Restore { backup: Some(junk.id) };
    let record = run_for(&line, "JUNK", task, nothing()).await;
    assert_eq!(end(&record), (Outcome::Held, Some(FailureCode::BackupInvalid), false, false), "{record:#?}");
    assert!(!unit.events()[events..].iter().any(BusEvent::is_destructive));
    assert!(!line.entries().iter().any(|entry| matches!(&entry.fact,
        Fact::BackupChosen { backup, .. } if backup.id == junk.id)));
    // A later good one takes its place.
    let good = store(&line, chip, good.imei, None, bytes).await;
    out_and_in(&line, &unit, "A1", |_| {});
    let record = run(&line, "GOOD").await;
    assert_eq!((end(&record), record.backup), (REPAIRED, Some(good.id)), "{record:#?}");
    assert!(kept(&unit) == before);
}

#[tokio::test(start_paused = true)]
async fn a_good_backup_is_found_behind_a_suspect_one_of_the_same_content() {
    let line = bench(BOTH, "").await;
    let (unit, before) = lost(&line).await;
    let chip = unit.identity().chip;
    let good = known(&line, chip, BackupKind::Xqcn).pop().expect("one over DIAG");
    let bytes = vault(&line).load_xqcn(&good).expect("it is there");
    remove(&line, std::slice::from_ref(&good));
    store(&line, chip, good.imei, Some("not well"), bytes.clone()).await;
    let again = store(&line, chip, good.imei, None, bytes).await;
    let task = Task::Restore { backup: Some(again.id) };
    let record = run_for(&line, "NAMED", task, nothing()).await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert!(kept(&unit) == before);
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_block_goes_bad_while_its_pages_are_restored_is_given_its_own_over_diag() {
    let line = bench(BOTH, "").await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let before = kept(&unit);
    assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let witness: Witness = Box::new(|factory, _, entry| {
        if matches!(&entry.fact, Fact::RestoreIntent { ranges, .. } if !ranges.is_empty()) {
            let unit = factory.unit(UNIT).expect("it is there");
            let per_block = u64::from(unit.identity().model.geometry.pages_per_block);
            let range = unit.flash(|_, map| map.range("EFS2")).expect("it has one");
            unit.spoil_block(range.start / per_block + 3).expect("a block");
        }
    });
    let record = run_for(&line, "WORN", Task::Line, witness).await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert!(record.detail.contains("given back over DIAG"), "{}", record.detail);
    assert_eq!(record.backup, known(&line, unit.identity().chip, BackupKind::Xqcn).first().map(|own| own.id));
    assert!(kept(&unit) == before);
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_pages_in_the_vault_are_damaged_is_given_its_own_over_diag() {
    let line = bench("guard: raw+xqcn\n", "    - { fault: efs-wiped, unit: 7 }\n").await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let before = kept(&unit);
    let (disk, chip) = (Arc::clone(&line.disk), unit.identity().chip);
    let raw: Mutex<Option<String>> = Mutex::default();
    let witness: Witness = Box::new(move |_, _, entry| {
        let mut raw = raw.lock().unwrap_or_else(PoisonError::into_inner);
        match &entry.fact {
            Fact::BackupStored { backup, .. } if backup.kind == BackupKind::Raw => *raw = Some(backup.id.to_string()),
            Fact::Diagnosed { .. } => {
                let directory = PathBuf::from("state/vault").join(chip.to_string());
                for entry in disk.list(&directory).expect("it has backups") {
                    if raw.as_ref().is_some_and(|raw| entry.name.contains(raw)) {
                        let path = directory.join(&entry.name);
                        let mut bytes = disk.read(&path, 1 << 30).expect("a file");
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 1;
                        disk.remove(&path).expect("a file");
                        disk.replace(&path, &bytes, true).expect("in memory");
                    }
                }
            }
            _ => {}
        }
    });
    let record = run_for(&line, "ROTTEN", Task::Line, witness).await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert!(kept(&unit) == before);
}

/// What a bus does to the answers of DIAG ports; `None` leaves one as it is.
type Change = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// A bus whose DIAG ports answer late, or otherwise than their modules do.
struct Altered {
    clock: Clock,
    /// Milliseconds before each request is passed on.
    delay: Arc<AtomicU64>,
    change: Change,
}

impl Middle for Altered {
    fn port(&self, _: &DeviceKey, interface: u8, inner: Box<dyn AtPort>) -> Result<Box<dyn AtPort>, HardwareError> {
        if interface != 0 {
            return Ok(inner);
        }
        let (clock, delay, change) = (self.clock.clone(), Arc::clone(&self.delay), Arc::clone(&self.change));
        let (frames, ready) = (Deframer::new(), VecDeque::new());
        Ok(Box::new(AlteredPort { inner, clock, delay, change, frames, ready }))
    }
}

struct AlteredPort {
    inner: Box<dyn AtPort>,
    clock: Clock,
    delay: Arc<AtomicU64>,
    change: Change,
    frames: Deframer,
    ready: VecDeque<u8>,
}

impl fmt::Debug for AlteredPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlteredPort").finish_non_exhaustive()
    }
}

impl AtPort for AlteredPort {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        Box::pin(async move {
            while self.ready.is_empty() {
                let mut bytes = [0; 4096];
                let length = self.inner.read(&mut bytes).await?;
                self.frames.feed(&bytes[..length]);
                for payload in self.frames.by_ref().flatten() {
                    let changed = (self.change)(&payload).unwrap_or(payload);
                    self.ready.extend(encode(&changed));
                }
            }
            let length = self.ready.len().min(buffer.len());
            for (place, byte) in buffer.iter_mut().zip(self.ready.drain(..length)) {
                *place = byte;
            }
            Ok(length)
        })
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async move {
            self.clock.sleep(Duration::from_millis(self.delay.load(Ordering::Relaxed))).await;
            self.inner.write(bytes).await
        })
    }
}

/// Puts such a bus into a line; gives the delay of its requests.
fn alter(line: &mut Line, change: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) -> Arc<AtomicU64> {
    let delay = Arc::new(AtomicU64::new(0));
    let middle = Altered { clock: line.clock.clone(), delay: Arc::clone(&delay), change: Arc::new(change) };
    line.bus = Some(Arc::new(Between { inner: line.factory.bus(), middle }));
    delay
}

#[tokio::test(start_paused = true)]
async fn a_slow_way_back_has_a_limit_of_its_own_and_is_not_billed_to_the_unit() {
    // Reading a whole backup takes some seconds here, and that is all that the profile gives it.
    let mut line = bench(&format!("{BOTH}timeouts:\n  xqcn_s: 60\n"), "").await;
    let delay = alter(&mut line, |_| None);
    let (unit, before) = lost(&line).await;
    // Each request takes so long from its announcement on: first only longer than reading may, then too long.
    for (millis, is_given_back) in [(120, true), (1500, false)] {
        let batch = format!("SLOW{millis}");
        let (slow, was_slow) = (Arc::clone(&delay), AtomicBool::new(false));
        let witness: Witness = Box::new(move |_, _, entry| match &entry.fact {
            Fact::RestoreIntent { .. } if !was_slow.swap(true, Ordering::Relaxed) => {
                slow.store(millis, Ordering::Relaxed);
            }
            Fact::Restored { .. } | Fact::RunInterrupted { .. } => slow.store(0, Ordering::Relaxed),
            _ => {}
        });
        let work = line.work_for(&batch, 1, Task::Line, witness).await;
        let is_over = |fact: &Fact| matches!(fact, Fact::RunInterrupted { .. } | Fact::RunFinished(_));
        let before_it = line.entries().len();
        while !line.entries()[before_it..].iter().any(|entry| is_over(&entry.fact)) {
            line.clock.sleep(Duration::from_secs(5)).await;
        }
        let interrupted = interruptions(&line.entries());
        assert_eq!(interrupted.is_empty(), is_given_back, "{interrupted:?}");
        assert!(interrupted.iter().all(|code| *code == FailureCode::RestoreSlow), "{interrupted:?}");
        // What was too slow is done again, and then it is not.
        let (ended, entries) = work.end_within(&line, Duration::from_secs(7200)).await;
        let runs = records(&entries, &batch);
        assert_eq!((ended, runs.len()), (Some(End::Complete), 1), "{millis}: {:#?}", &entries[before_it..]);
        assert_eq!(end(&runs[0]), REPAIRED, "{:#?}", runs[0]);
        assert!(kept(&unit) == before);
        out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    }
}

/// The answer to the writing of an NV item of a subscription: its number, and where its status stands.
fn written(answer: &[u8]) -> Option<(u16, u16)> {
    match answer {
        [0x27, low, high, ..] => Some((u16::from_le_bytes([*low, *high]), 0)),
        [0x4b, 0x30, 0x02, 0x00, low, high, index, _, ..] => Some((u16::from_le_bytes([*low, *high]), (*index).into())),
        _ => None,
    }
}

/// Refuses the writing of an item; what it was then stays.
fn refuse(answer: &[u8]) -> Vec<u8> {
    let mut changed = answer.to_vec();
    let status = changed.len() - 2;
    changed[status..].copy_from_slice(&[4, 0]);
    changed
}

#[tokio::test(start_paused = true)]
async fn what_a_module_does_not_take_back_is_in_its_record_and_more_than_the_profile_allows_is_a_failure() {
    for (allowed, outcome) in [(2, REPAIRED), (1, (Outcome::Fail, Some(FailureCode::RestoreDiffers), false, true))] {
        let manifest = format!("{BOTH}manifest:\n  unreadable: {allowed}\n");
        let mut line = bench(&manifest, "").await;
        let refused: Mutex<Vec<u16>> = Mutex::default();
        // Two that the manifest does not require.
        alter(&mut line, move |answer| {
            let (item, subscription) = written(answer)?;
            let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
            let is_one = item != 550 && subscription == 0 && (refused.len() < 2 || refused.contains(&item));
            is_one.then(|| {
                refused.push(item);
                refuse(answer)
            })
        });
        lost(&line).await;
        let record = run(&line, "REFUSED").await;
        assert_eq!(end(&record), outcome, "{allowed}: {record:#?}");
        assert!(record.detail.contains("2 items and files") && record.detail.contains("NV item "), "{}", record.detail);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_manifest_requires_is_compared_for_every_subscription() {
    let mut line = bench(&format!("{BOTH}manifest:\n  required_items: [1001]\n  unreadable: 200\n"), "").await;
    // It refuses that one, and has another content in its place.
    let has_refused = AtomicBool::new(false);
    alter(&mut line, move |answer| {
        if written(answer) == Some((1001, 1)) {
            has_refused.store(true, Ordering::Relaxed);
            return Some(refuse(answer));
        }
        let is_read = answer.starts_with(&[0x4b, 0x30, 0x01, 0x00, 0xe9, 0x03, 1, 0]);
        (is_read && has_refused.load(Ordering::Relaxed)).then(|| {
            let mut changed = answer.to_vec();
            changed[8] ^= 1;
            changed
        })
    });
    lost(&line).await;
    let record = run(&line, "SECOND").await;
    assert_eq!(end(&record), (Outcome::Fail, Some(FailureCode::RestoreDiffers), false, true), "{record:#?}");
    assert!(record.detail.starts_with("NV item 1001 of subscription 1"), "{}", record.detail);
}
