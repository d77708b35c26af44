//! Backups over DIAG in a run: taken before anything is changed, required where the profile asks for them, and refused
//! where they are not what they should be.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stationmaster::cli::prepare;
use stationmaster::config::{Profile, Rework, Station};
use stationmaster::controller::{End, Product, Task};
use stationmaster::domain::{BackupKind, BackupRef, Fact, FailureCode, Guard, Outcome, Phase, RunRecord, SlotName};
use stationmaster::hardware::{AtPort, BoxFuture, Bus, DeviceKey, HardwareError};
use stationmaster::ledger::Entry;
use stationmaster::protocol::diag::{Deframer, ENTER_EDL, encode};
use stationmaster::protocol::xqcn::{self, Owner};
use stationmaster::report::{Recorded, rebuild};
use stationmaster::sim::efs::{BOOTS_PATH, EfsState, encode_imei};
use stationmaster::sim::{BusAction, BusEvent, UnitTruth};
use stationmaster::vault::Vault;

use crate::between::{Between, Middle};
use crate::harness::{Line, assert_sound, records, station_with, two_slots};
use crate::repair::{DONOR, KINDS, REPAIRED, UNIT, bench, end, make, out_and_in, put_in, run, run_for};
use crate::truth::{Diary, witness};

/// The demo station on which nothing but EG25-G arrives, with profiles that ask for that guard.
pub(crate) fn eg25(guard: Guard, variant: &str) -> Arc<Station> {
    let only_eg25 = |text: String| {
        let (head, rest) = text.split_once("    - model: RM500Q-GL").expect("the units of the demo station");
        let (_, tail) = rest.split_once("  # Inserts").expect("its operator");
        format!("{head}  # Inserts{tail}")
    };
    station_with("stations/demo.yaml", only_eg25, |text| guarded(&text, guard, variant))
}

/// A profile that asks for that guard, with a package of that variant.
fn guarded(profile: &str, guard: Guard, variant: &str) -> String {
    let text = profile.replace("    megabytes: 3\n", &format!("    megabytes: 3\n    variant: {variant}\n"));
    format!("{text}\nguard: {guard}\n")
}

fn stored(entries: &[Entry]) -> Vec<BackupRef> {
    let backups = entries.iter().filter_map(|entry| match &entry.fact {
        Fact::BackupStored { backup, .. } => Some(backup.clone()),
        _ => None,
    });
    backups.collect()
}

fn one(entries: &[Entry], batch: &str) -> RunRecord {
    let [record] = records(entries, batch).try_into().expect("one run");
    record
}

/// Runs a batch before the eyes of a witness.
async fn watched(line: &Line, batch: &str, units: u32) -> (End, Vec<Entry>, Arc<Mutex<Diary>>) {
    let (witness, diary) = witness(line.products.clone());
    let (end, entries) = line.work_before(batch, units, witness).await.end(line).await;
    (end, entries, diary)
}

/// All of these units are as they came, and in normal mode again.
fn assert_untouched(diary: &Mutex<Diary>, units: u32) {
    let diary = diary.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(diary.ends.len(), usize::try_from(units).expect("few"));
    for seen in &diary.ends {
        seen.assert_untouched(&diary.before[&seen.unit.expect("it is in its slot")]);
    }
}

/// What the vault holds of that backup is whole, and the unit's own.
fn assert_whole(line: &Line, backup: &BackupRef, record: &RunRecord) {
    let vault = Vault::new(Arc::clone(&line.disk), PathBuf::from("state/vault"));
    let content = xqcn::read(&vault.load_xqcn(backup).expect("it is in the vault")).expect("an XQCN file");
    let before = record.before.as_ref().expect("an identity");
    let owner = Owner { imei: before.imei.expect("an IMEI"), calibration: before.calibration };
    let profile: &Profile = &line.products[0].profile;
    xqcn::check(&content, profile.family, &profile.manifest, &owner).expect("it is whole");
    let counts = backup.xqcn.expect("counts");
    assert_eq!(counts.nv_items, content.items.len() as u64);
    assert!(counts.nv_items > 160 && counts.files > 70 && counts.directories > 8, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn both_backups_are_durable_before_anything_is_changed() {
    let line = Line::new(eg25(Guard::RawXqcn, "update"), 1).await;
    let (end, entries) = line.run("BOTH", 1).await;
    assert_eq!(end, End::Complete);
    let record = one(&entries, "BOTH");
    assert_eq!((record.outcome, record.guard), (Outcome::Pass, Some(Guard::RawXqcn)), "{record:#?}");
    assert_sound(&line, &entries);
    let backups = stored(&entries);
    assert_eq!(backups.iter().map(|backup| backup.kind).collect::<Vec<_>>(), [BackupKind::Xqcn, BackupKind::Raw]);
    assert_eq!(record.backup, Some(backups[1].id));
    assert!(backups.iter().all(|backup| Some(backup.chip) == record.chip));
    assert_whole(&line, &backups[0], &record);
    let csv = rebuild(&record.batch, entries.iter().map(Recorded::from)).expect("a report");
    assert!(String::from_utf8(csv).expect("text").contains(",raw+xqcn,"));
}

#[tokio::test(start_paused = true)]
async fn a_backup_over_diag_alone_is_enough_where_the_table_is_left_alone() {
    let line = Line::new(eg25(Guard::Xqcn, "no-table"), 1).await;
    let (end, entries) = line.run("ALONE", 1).await;
    assert_eq!(end, End::Complete);
    let record = one(&entries, "ALONE");
    assert_eq!((record.outcome, record.guard), (Outcome::Pass, Some(Guard::Xqcn)), "{record:#?}");
    assert_sound(&line, &entries);
    let [backup] = stored(&entries).try_into().expect("one backup");
    assert_eq!((backup.kind, record.backup), (BackupKind::Xqcn, Some(backup.id)));
    assert_whole(&line, &backup, &record);
    let csv = rebuild(&record.batch, entries.iter().map(Recorded::from)).expect("a report");
    assert!(String::from_utf8(csv).expect("text").contains(",xqcn,"));
}

#[tokio::test(start_paused = true)]
async fn a_backup_over_diag_alone_is_refused_where_the_table_is_written() {
    let station = eg25(Guard::Xqcn, "update");
    let disk: Arc<dyn stationmaster::host::Disk> = Arc::new(stationmaster::host::MemoryDisk::new());
    let refusal = prepare::products(&disk, &station, Path::new("state")).expect_err("it writes the table");
    assert!(refusal.contains("it writes the partition table, and `guard: xqcn` backs up no partition"), "{refusal}");
    assert!(refusal.contains("help: write `guard: raw`"), "{refusal}");

    // And in the run itself, whatever was checked before.
    let mut line = Line::new(eg25(Guard::Raw, "update"), 1).await;
    for Product { profile, .. } in &mut line.products {
        *profile = Arc::new(Profile { guard: Guard::Xqcn, ..(**profile).clone() });
    }
    let (end, entries, diary) = watched(&line, "WEAK", 1).await;
    assert_eq!(end, End::Complete);
    let record = one(&entries, "WEAK");
    assert_eq!((record.outcome, record.code), (Outcome::Held, Some(FailureCode::GuardTooWeak)), "{record:#?}");
    assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::Intent { .. })));
    assert_sound(&line, &entries);
    assert_untouched(&diary, 1);
}

/// What is wrong with a module's DIAG port.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wrong {
    /// Listings show directories and no file, and nothing answers to its name.
    DirectoriesOnly,
    /// Nothing is said but the answer to the switch into download mode.
    Silent,
    /// The IMEI is another one.
    OtherImei,
    /// The files are another chip's.
    OtherFiles,
    /// Few directories can be opened, and then none any more.
    Closed,
    /// The files are another chip's when they are read a second time.
    Changing,
}

impl Wrong {
    /// What becomes of an answer; `None` for nothing. `opened` counts the directories that were opened.
    fn answer(self, payload: &[u8], opened: &mut u32) -> Option<Vec<u8>> {
        let mut changed = payload.to_vec();
        match (self, payload) {
            (Self::Silent, _) => return (payload == ENTER_EDL).then_some(changed),
            (Self::DirectoriesOnly, [0x4b, 0x13, 12, 0, ..]) if payload.len() > 41 && payload[16] != 1 => {
                changed.splice(40.., *b".\0");
            }
            (Self::DirectoriesOnly, [0x4b, 0x13, 39, 0, ..]) => {
                changed.splice(4.., [0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0]);
            }
            (Self::OtherImei, [0x26, 0x26, 0x02, ..]) => {
                let imei = encode_imei("490154203237518");
                changed[3..3 + imei.len()].copy_from_slice(&imei);
            }
            (Self::OtherFiles, [0x4b, 0x13, 39, 0, ..]) if payload.len() > 12 => {
                changed[12] ^= 1;
            }
            // A reading begins with listings, and only the first one has any.
            (Self::Changing, [0x4b, 0x13, 11, 0, ..]) => *opened += 1,
            (Self::Changing, [0x4b, 0x13, 39, 0, ..]) if payload.len() > 12 && *opened == 0 => {
                changed[12] ^= 1;
            }
            (Self::Closed, [0x4b, 0x13, 11, 0, ..]) => {
                *opened += 1;
                if *opened > 4 {
                    changed.splice(4.., [0xff, 0xff, 0xff, 0xff, 13, 0, 0, 0]);
                }
            }
            _ => {}
        }
        Some(changed)
    }
}

type Case = (&'static str, Wrong, FailureCode, &'static str);

/// Any slot.
const EVERY: &str = "*";

/// Another one, where it is read twice.
pub(crate) const AGAIN: [Case; 1] = [(EVERY, Wrong::Changing, FailureCode::BackupFailed, "was read twice and differs")];

/// What is wrong in which slot, what the record says then, and words of its detail.
const CASES: [Case; 5] = [
    ("A1", Wrong::DirectoriesOnly, FailureCode::BackupInvalid, "0 files, at least 40 are needed; 0 RF items"),
    ("A2", Wrong::Silent, FailureCode::BackupFailed, "no answer over DIAG"),
    ("A3", Wrong::OtherImei, FailureCode::BackupInvalid, "it holds the IMEI 490154203237518, the module reported"),
    ("A4", Wrong::OtherFiles, FailureCode::BackupInvalid, "calibration is not the one that the module reported"),
    ("B1", Wrong::Closed, FailureCode::BackupFailed, "the module does not give out"),
];

/// A bus on which the DIAG ports of some slots are not what they should be.
pub(crate) struct Tampered {
    station: Arc<Station>,
    cases: &'static [Case],
}

impl Tampered {
    pub(crate) fn bus(inner: Arc<dyn Bus>, station: Arc<Station>, cases: &'static [Case]) -> Arc<dyn Bus> {
        Arc::new(Between { inner, middle: Self { station, cases } })
    }
}

impl Middle for Tampered {
    fn port(
        &self,
        device: &DeviceKey,
        interface: u8,
        inner: Box<dyn AtPort>,
    ) -> Result<Box<dyn AtPort>, HardwareError> {
        let slot = self.station.slots.iter().find(|slot| slot.chains().any(|chain| *chain == device.chain));
        let slot = slot.map(|slot| slot.name.to_string());
        match self.cases.iter().find(|(name, ..)| *name == EVERY || Some(*name) == slot.as_deref()) {
            Some((_, wrong, ..)) if interface == 0 => {
                let (frames, ready) = (Deframer::new(), VecDeque::new());
                Ok(Box::new(TamperedPort { inner, wrong: *wrong, opened: 0, frames, ready }))
            }
            _ => Ok(inner),
        }
    }
}

#[derive(Debug)]
struct TamperedPort {
    inner: Box<dyn AtPort>,
    wrong: Wrong,
    opened: u32,
    frames: Deframer,
    ready: VecDeque<u8>,
}

impl AtPort for TamperedPort {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        Box::pin(async move {
            while self.ready.is_empty() {
                let mut bytes = [0; 4096];
                let length = self.inner.read(&mut bytes).await?;
                self.frames.feed(&bytes[..length]);
                for payload in self.frames.by_ref().flatten() {
                    if let Some(answer) = self.wrong.answer(&payload, &mut self.opened) {
                        self.ready.extend(encode(&answer));
                    }
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
        self.inner.write(bytes)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_backup_is_known_before_anything_is_changed() {
    let station = eg25(Guard::RawXqcn, "update");
    let units = u32::try_from(CASES.len()).expect("few");
    let mut line = Line::new(Arc::clone(&station), units).await;
    line.bus = Some(Tampered::bus(line.factory.bus(), station, &CASES));
    let (end, entries, diary) = watched(&line, "WRONG", units).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    assert_eq!(stored(&entries), []);
    let records = records(&entries, "WRONG");
    for (slot, wrong, code, words) in CASES {
        let record = records.iter().find(|record| record.slot.to_string() == slot).expect("a run in the slot");
        assert_eq!((record.outcome, record.code), (Outcome::Held, Some(code)), "{wrong:?}: {record:#?}");
        assert_eq!((record.phase, record.guard), (Phase::Backup, None), "{wrong:?}");
        assert!(record.detail.contains(words), "{wrong:?}: {}", record.detail);
    }
    assert_untouched(&diary, units);
}

/// Every file of a module with its content, and every NV item, but what changes at each start.
pub(crate) fn kept(unit: &UnitTruth) -> BTreeMap<String, Vec<u8>> {
    let items = unit.inspect().expect("its storage can be read").items;
    let files = items.iter().filter(|(path, _)| *path != BOOTS_PATH);
    files.map(|(path, data)| (path.to_owned(), data.to_vec())).collect()
}

pub(crate) fn spoil(unit: &UnitTruth) {
    unit.lose_efs();
    let pages_per_block = u64::from(unit.identity().model.geometry.pages_per_block);
    let range = unit.flash(|_, map| map.range("EFS2")).expect("it has one");
    unit.spoil_block(range.start / pages_per_block + 3).expect("a block");
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_pages_cannot_be_restored_is_given_its_own_back_over_diag() {
    let line = bench("rework: {}\nguard: raw+xqcn\n", "").await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let before = kept(&unit);
    assert_eq!(run(&line, "FIRST").await.guard, Some(Guard::RawXqcn));
    let first = stored(&line.entries());
    let [xqcn, raw] = &first[..] else { panic!("two backups: {first:?}") };
    out_and_in(&line, &unit, "A1", spoil);
    let record = run(&line, "AGAIN").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert_eq!((record.backup, record.boots_verified), (Some(xqcn.id), 2));
    assert!(record.detail.contains("given back over DIAG"), "{}", record.detail);
    let after = unit.inspect().expect("its storage can be read");
    assert_eq!((after.efs, unit.cfun()), (EfsState::Present, 1));
    assert!(kept(&unit) == before, "IMEI, NV items, calibration, bands and files are the unit's own");
    // What the ledger says of it: chosen, announced, done.
    let entries = line.entries();
    let place = |wanted: &dyn Fn(&Fact) -> bool| entries.iter().position(|entry| wanted(&entry.fact));
    let chosen = place(&|fact| matches!(fact, Fact::BackupChosen { backup, .. } if backup.id == xqcn.id));
    let announced = place(&|fact| matches!(fact, Fact::RestoreIntent { backup, .. } if *backup == xqcn.id));
    let done = place(&|fact| matches!(fact, Fact::Restored { backup, .. } if *backup == xqcn.id));
    assert!(chosen.is_some() && chosen < announced && announced < done, "{chosen:?} {announced:?} {done:?}");
    assert!(!entries.iter().any(|entry| matches!(&entry.fact,
        Fact::RestoreIntent { backup, .. } if *backup == raw.id)));
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_only_good_backup_is_one_over_diag_is_given_that_back() {
    // One whose package writes the partition table, and one whose package leaves it alone.
    let mut alone = Line::new(eg25(Guard::Xqcn, "no-table"), 0).await;
    for Product { profile, .. } in &mut alone.products {
        *profile = Arc::new(Profile { rework: Some(Rework::default()), ..(**profile).clone() });
    }
    for (line, kept_pages) in [(bench("rework: {}\nguard: raw+xqcn\n", "").await, true), (alone, false)] {
        let unit = put_in(&line, UNIT, KINDS[1], "A1");
        let before = kept(&unit);
        assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
        let backups = stored(&line.entries());
        let (over_diag, raw): (Vec<_>, Vec<_>) =
            backups.into_iter().partition(|backup| backup.kind == BackupKind::Xqcn);
        assert_eq!((over_diag.len(), raw.len()), (1, usize::from(kept_pages)));
        let directory = PathBuf::from("state/vault").join(unit.identity().chip.to_string());
        for entry in line.disk.list(&directory).expect("it has backups") {
            if raw.iter().any(|raw| entry.name.contains(&raw.id.to_string())) {
                line.disk.remove(&directory.join(entry.name)).expect("a file");
            }
        }
        out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
        let record = run(&line, "AGAIN").await;
        assert_eq!(end(&record), REPAIRED, "{record:#?}");
        assert_eq!(record.backup, Some(over_diag[0].id));
        assert!(kept(&unit) == before, "IMEI, NV items, calibration, bands and files are the unit's own");
        let entries = line.entries();
        assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::Cure { .. })));
        // What the table and the pages were is saved before they are changed, and cures nobody.
        let saved: Vec<_> = stored(&entries).into_iter().filter(|backup| backup.suspect.is_some()).collect();
        assert_eq!(saved.len(), usize::from(kept_pages));
        // A person may name it too.
        out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
        let task = Task::Restore { backup: Some(over_diag[0].id) };
        let record = run_for(&line, "NAMED", task, Box::new(|_, _, _| {})).await;
        assert_eq!(end(&record), REPAIRED, "{record:#?}");
        assert!(kept(&unit) == before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_donors_backup_over_diag_is_refused_whoever_wants_it() {
    let line = bench("rework: {}\nguard: raw+xqcn\n", "").await;
    let donor = put_in(&line, DONOR, KINDS[1], "A1");
    assert_eq!(run(&line, "DONOR").await.outcome, Outcome::Pass);
    let backup = stored(&line.entries()).into_iter().find(|backup| backup.kind == BackupKind::Xqcn);
    let backup = backup.expect("one over DIAG");
    line.factory.unplug(&"A1".parse().expect("a slot")).expect("a slot");
    let unit = put_in(&line, UNIT, KINDS[1], "A2");
    out_and_in(&line, &unit, "A2", spoil);
    let task = Task::Restore { backup: Some(backup.id) };
    let record = run_for(&line, "FORCED", task, Box::new(|_, _, _| {})).await;
    assert_eq!(end(&record), (Outcome::Held, Some(FailureCode::BackupOfAnother), false, false), "{record:#?}");
    assert!(record.detail.contains(&donor.identity().chip.to_string()), "{}", record.detail);
    assert!(!unit.events().iter().any(BusEvent::is_destructive));
}

#[tokio::test(start_paused = true)]
async fn another_unit_that_says_no_imei_is_not_given_what_is_anothers() {
    // It loses its calibration in our hands, and still says its IMEI.
    let lost = |text| format!("{}  faults:\n    - {{ fault: calibration-lost, unit: {UNIT} }}\n", two_slots(text));
    let profile = |text: String| guarded(&text, Guard::Xqcn, "no-table");
    let line = Line::new(station_with("stations/demo.yaml", lost, profile), 0).await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let before = kept(&unit);
    let other = make(&line, DONOR, KINDS[1]);
    other.rewrite_imei("000000000000000").expect("its storage works");
    let of_other = kept(&other);
    let work = line.work("SWAP", 1).await;
    // After its second flash it is asked for its chip, and starts again: then the other one is in its place.
    let until = async |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(work.ledger.is_open(), "{:#?}", line.entries());
            line.clock.sleep(Duration::from_millis(100)).await;
        }
    };
    let happened = |action| unit.events().iter().filter(|event| event.action == action).count();
    until(&|| line.entries().iter().filter(|entry| matches!(entry.fact, Fact::Flashed { .. })).count() == 2).await;
    let asked = happened(BusAction::EdlSwitch);
    until(&|| happened(BusAction::EdlSwitch) > asked).await;
    let started = happened(BusAction::Start);
    until(&|| happened(BusAction::Start) > started).await;
    let slot: SlotName = "A1".parse().expect("a slot");
    line.factory.unplug(&slot).expect("a slot");
    line.factory.plug(DONOR, &slot).expect("it is free");
    let interrupted = |entry: &Entry| match &entry.fact {
        Fact::RunInterrupted { code, .. } => Some(*code),
        _ => None,
    };
    line.clock.sleep(Duration::from_secs(300)).await;
    assert!(!other.events().iter().any(BusEvent::is_destructive), "{:?}", other.events());
    assert!(kept(&other) == of_other);
    assert_eq!(line.entries().iter().find_map(interrupted), Some(FailureCode::UnitSwapped));
    line.factory.unplug(&slot).expect("a slot");
    line.factory.plug(UNIT, &slot).expect("it is free");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let runs = records(&entries, "SWAP");
    let record = runs.iter().find(|record| record.chip == Some(unit.identity().chip)).expect("its run");
    assert_eq!(self::end(record), REPAIRED, "{record:#?}");
    assert!(kept(&unit) == before, "IMEI, NV items, calibration, bands and files are the unit's own");
}
