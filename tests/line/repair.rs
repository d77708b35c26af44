//! Units whose EFS is gone: whether they come back as they were, and that nothing but their own ever comes into them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stationmaster::controller::{End, Task};
use stationmaster::domain::{
    BackupRef, Condition, Fact, FailureCode, Outcome, PageRange, RunRecord, Sha256Digest, SlotName,
};
use stationmaster::ledger::Entry;
use stationmaster::report::{Recorded, Summary};
use stationmaster::sim::efs::{EfsState, Items};
use stationmaster::sim::nand::PageState;
use stationmaster::sim::{BusAction, BusEvent, UnitKind, UnitTruth};
use stationmaster::vault::Vault;

use crate::harness::{Line, Witness, assert_sound, records, station_with, two_slots};

/// The unit that comes to the bench, and another one of its model.
pub(crate) const UNIT: u32 = 7;
pub(crate) const DONOR: u32 = 8;
/// A kind with pages of 4 KiB, whose programmer reads erased pages as `0xee`, and one with pages of 2 KiB.
pub(crate) const KINDS: [(&str, &str); 2] =
    [("RM500Q-GL", "RM500QGLABR11A06M4G_01.201.01.201"), ("EG25-G", "EG25GGBR07A07M2G_01.001.01.001")];
/// A guarded partition as it was seen: where, what each page is, and what is on it.
type Seen = (PageRange, Vec<PageState>, Vec<u8>);
/// Lets a profile repair what arrives broken.
const REWORK: &str = "rework: {}\n";

/// A line with two slots whose operator puts nothing in.
pub(crate) async fn bench(rework: &str, faults: &str) -> Line {
    let change = |text: String| {
        let text = two_slots(text);
        if faults.is_empty() { text } else { format!("{text}  faults:\n{faults}") }
    };
    Line::new(station_with("stations/demo.yaml", change, |profile| with(profile, rework)), 0).await
}

/// A profile with that permission; one that has one keeps its own.
fn with(profile: String, rework: &str) -> String {
    if profile.contains("\nrework:") { profile } else { format!("{profile}\n{rework}") }
}

fn fault(name: &str, unit: u32) -> String {
    format!("    - {{ fault: {name}, unit: {unit} }}\n")
}

fn slot(name: &str) -> SlotName {
    name.parse().expect("a slot's name")
}

fn kind((model, revision): (&str, &str)) -> UnitKind {
    UnitKind { model: model.to_owned(), revision: revision.to_owned(), slots: None }
}

/// Makes a unit and puts it into a slot.
pub(crate) fn put_in(line: &Line, unit: u32, of: (&str, &str), name: &str) -> UnitTruth {
    let made = make(line, unit, of);
    line.factory.plug(unit, &slot(name)).expect("a free slot");
    made
}

/// Makes a unit.
pub(crate) fn make(line: &Line, unit: u32, of: (&str, &str)) -> UnitTruth {
    line.factory.make(unit, &kind(of)).expect("a unit");
    line.factory.unit(unit).expect("it was made")
}

/// Runs the unit in the slot; the one run of the batch.
pub(crate) async fn run(line: &Line, batch: &str) -> RunRecord {
    run_for(line, batch, Task::Line, Box::new(|_, _, _| {})).await
}

pub(crate) async fn run_for(line: &Line, batch: &str, task: Task, witness: Witness) -> RunRecord {
    let work = line.work_for(batch, 1, task, witness).await;
    let (end, entries) = work.end_within(line, Duration::from_secs(1800)).await;
    let mut runs = records(&entries, batch);
    assert_eq!(end, Some(End::Complete), "{runs:#?}");
    assert_sound(line, &entries);
    assert_eq!(runs.len(), 1, "{runs:#?}");
    runs.pop().expect("one run")
}

/// Takes a backup of the unit in the slot, by hand.
pub(crate) async fn save(line: &Line) -> (RunRecord, Vec<Entry>) {
    let work = line.work_for("HAND", 1, Task::Backup, Box::new(|_, _, _| {})).await;
    let mut batch = work.handle.batch();
    batch.wait_for(|count| count.ends > 0).await.expect("the controller works");
    work.handle.stop_gently();
    let (end, entries) = work.end(line).await;
    assert_eq!(end, End::Stopped);
    assert_sound(line, &entries);
    (records(&entries, "HAND").pop().expect("one run"), entries)
}

/// Takes the unit out, lets something happen to it, and puts it back.
pub(crate) fn out_and_in(line: &Line, unit: &UnitTruth, name: &str, happens: impl FnOnce(&UnitTruth)) {
    assert_eq!(line.factory.unplug(&slot(name)).expect("a slot"), Some(unit.number()));
    happens(unit);
    line.factory.plug(unit.number(), &slot(name)).expect("it is free");
}

/// What belongs to a unit, in its flash.
pub(crate) fn own(unit: &UnitTruth) -> (Option<String>, EfsState, Sha256Digest, Vec<Option<u64>>) {
    let found = unit.inspect().expect("its storage can be read");
    let rest = unit.flash(|nand, map| {
        let ranges = ["sys_rev", "RAWDATA"].into_iter().filter_map(|name| map.range(name));
        ranges.flat_map(|range| range.start..range.end()).map(|page| map.tag(nand, page)).collect()
    });
    (found.imei, found.efs, found.efs_digest, rest)
}

pub(crate) fn items(unit: &UnitTruth) -> Items {
    unit.inspect().expect("its storage can be read").items
}

/// Whether anything of the guarded partitions was erased or programmed over the cable.
pub(crate) fn was_touched(unit: &UnitTruth) -> bool {
    let guarded = unit.guarded();
    unit.events().iter().any(|event| match event.action {
        BusAction::Erase(range) | BusAction::Program(range) => guarded.iter().any(|own| own.overlaps(range)),
        _ => false,
    })
}

pub(crate) fn end(record: &RunRecord) -> (Outcome, Option<FailureCode>, bool, bool) {
    (record.outcome, record.code, record.flags.repaired, record.flags.quarantined)
}

fn condition(record: &RunRecord) -> Option<Condition> {
    record.diagnosis.as_ref().map(|diagnosis| diagnosis.condition)
}

pub(crate) const REPAIRED: (Outcome, Option<FailureCode>, bool, bool) = (Outcome::Pass, None, true, false);

pub(crate) fn backup_of(entries: &[Entry], chip: stationmaster::domain::ChipId) -> BackupRef {
    let found = entries.iter().find_map(|entry| match &entry.fact {
        Fact::BackupStored { backup, .. } if backup.chip == chip => Some(backup.clone()),
        _ => None,
    });
    found.expect("a backup of that chip")
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_comes_back_without_its_efs_is_repaired_from_its_own_backup() {
    for of in KINDS {
        let line = bench(REWORK, "").await;
        let unit = put_in(&line, UNIT, of, "A1");
        let before = own(&unit);
        assert_eq!(end(&run(&line, "FIRST").await), (Outcome::Pass, None, false, false));
        assert_eq!(own(&unit), before, "a flash touches nothing of it");
        assert!(!was_touched(&unit));
        out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);

        // Before the first boot after it, the flash is what the backup holds, page by page.
        let backup = backup_of(&line.entries(), unit.identity().chip);
        let stored =
            Vault::new(Arc::clone(&line.disk), PathBuf::from("state/vault")).load(&backup).expect("it is good");
        let found: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let pages = Arc::clone(&found);
        let witness: Witness = Box::new(move |factory, _, entry| {
            if matches!(entry.fact, Fact::Flashed { .. }) {
                let unit = factory.unit(UNIT).expect("it is there");
                let look = unit.guarded().into_iter().map(|range| {
                    unit.flash(|nand, map| {
                        let states = (range.start..range.end()).map(|page| map.state(nand, page)).collect();
                        let mut bytes = vec![0; usize::try_from(range.pages).expect("small") * nand.page_bytes()];
                        for (page, buffer) in (range.start..).zip(bytes.chunks_exact_mut(nand.page_bytes())) {
                            let _beyond_the_good_blocks = map.read(nand, page, buffer);
                        }
                        (range, states, bytes)
                    })
                });
                *pages.lock().unwrap_or_else(PoisonError::into_inner) = look.collect();
            }
        });
        let record = run_for(&line, "AGAIN", Task::Line, witness).await;
        assert_eq!(end(&record), REPAIRED, "{record:#?}");
        assert_eq!((condition(&record), record.backup), (Some(Condition::EfsLost), Some(backup.id)));
        assert_eq!(record.boots_verified, 2);
        assert_eq!(own(&unit), before, "{}", of.0);
        let found = found.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(found.len(), 3, "three guarded partitions");
        for (range, states, bytes) in found.iter() {
            let part = stored.parts.iter().find(|part| part.range == *range).expect("the backup has it");
            let page_bytes = part.bytes.len() / states.len();
            let mut used = 0;
            for (number, state) in states.iter().enumerate() {
                let place = number * page_bytes..(number + 1) * page_bytes;
                let kept = &part.bytes[place.clone()];
                let is_blank = kept.iter().all(|byte| *byte == 0xff) || kept.iter().all(|byte| *byte == 0xee);
                let expected = if is_blank { PageState::Erased } else { PageState::Programmed };
                assert_eq!(*state, expected, "page {number} of {}", part.partition);
                assert!(is_blank || bytes[place] == *kept, "page {number} of {}", part.partition);
                used += usize::from(!is_blank);
            }
            assert!(used > 0 && used < states.len(), "{} has {used} used pages", part.partition);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_is_repaired_at_another_station_from_what_the_first_one_gives() {
    for of in KINDS {
        let mut line = bench(REWORK, "").await;
        let unit = put_in(&line, UNIT, of, "A1");
        let before = own(&unit);
        assert_eq!(run(&line, "HERE").await.outcome, Outcome::Pass);
        let backup = backup_of(&line.entries(), unit.identity().chip);
        let here = Vault::new(Arc::clone(&line.disk), line.state.join("vault"));

        // Another station, which has never seen the unit: its own ledger, its own vault under its own key.
        line.state = PathBuf::from("there");
        let there = Vault::new(Arc::clone(&line.disk), line.state.join("vault"));
        line.disk.create_dir_all(&line.state).expect("a directory in memory");
        let stick = Path::new("0001.smb.age");
        let entries = here.list().expect("it can be read");
        let [entry] = entries.as_slice() else { panic!("one backup: {entries:?}") };
        here.export(entry, &[there.prepare().expect("a key")], stick).expect("sealed to the other one");
        let (given, is_new) = there.import(stick, line.clock.wall()).expect("it is good");
        assert_eq!((given.id, given.chip, is_new), (backup.id, unit.identity().chip, true));
        line.append(Fact::BackupImported { backup: given, given_by: "here".to_owned() }).await;

        out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
        let record = run(&line, "THERE").await;
        assert_eq!(end(&record), REPAIRED, "{record:#?}");
        assert_eq!((condition(&record), record.backup), (Some(Condition::EfsLost), Some(backup.id)));
        let after = record.after.as_ref().and_then(|after| after.imei);
        assert_eq!((after, record.boots_verified), (Some(backup.imei), 2), "{record:#?}");
        assert_eq!(own(&unit), before, "{}", of.0);
        assert!(was_touched(&unit));
        let entries = line.entries();
        assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::BackupStored { .. })), "it had nothing else");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_unit_is_refused_where_nothing_allows_to_repair_it() {
    for (name, code, what) in [
        ("efs-lost", FailureCode::CfunFtmOnArrival, Condition::EfsLost),
        ("mode-stuck", FailureCode::CfunFtmOnArrival, Condition::ModeStuck),
        ("calibration-missing", FailureCode::CalibrationMissing, Condition::EfsLost),
        ("imei-zero", FailureCode::ImeiInvalid, Condition::EfsLost),
    ] {
        let line = bench("", &fault(name, UNIT)).await;
        let unit = put_in(&line, UNIT, KINDS[0], "A1");
        let record = run(&line, "HELD").await;
        assert_eq!(end(&record), (Outcome::Held, Some(code), false, false), "{name}: {record:#?}");
        assert_eq!(condition(&record), Some(what), "{name}");
        assert!(record.detail.contains(what.as_str()), "{name}: {}", record.detail);
        assert!(!unit.events().iter().any(BusEvent::is_destructive), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_without_a_backup_is_lost_and_told_so() {
    for name in ["efs-lost", "calibration-missing", "imei-zero"] {
        let line = bench(REWORK, &fault(name, UNIT)).await;
        let unit = put_in(&line, UNIT, KINDS[0], "A1");
        let record = run(&line, "LOST").await;
        let expected = (Outcome::Fail, Some(FailureCode::EfsLostNoBackup), false, true);
        assert_eq!(end(&record), expected, "{name}: {record:#?}");
        assert!(record.detail.contains("no backup"), "{}", record.detail);
        assert!(!unit.events().iter().any(BusEvent::is_destructive), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_donors_backup_is_refused_whoever_wants_it() {
    let line = bench(REWORK, "").await;
    let donor = put_in(&line, DONOR, KINDS[0], "A1");
    assert_eq!(run(&line, "DONOR").await.outcome, Outcome::Pass);
    let backup = backup_of(&line.entries(), donor.identity().chip);
    line.factory.unplug(&slot("A1")).expect("a slot");
    let unit = put_in(&line, UNIT, KINDS[0], "A2");
    out_and_in(&line, &unit, "A2", UnitTruth::lose_efs);
    let task = Task::Restore { backup: Some(backup.id) };
    let record = run_for(&line, "FORCED", task, Box::new(|_, _, _| {})).await;
    assert_eq!(end(&record), (Outcome::Held, Some(FailureCode::BackupOfAnother), false, false), "{record:#?}");
    assert!(record.detail.contains(&donor.identity().chip.to_string()), "{}", record.detail);
    assert!(!unit.events().iter().any(BusEvent::is_destructive));
    // Neither is it taken where nobody names one.
    for (batch, task) in [("NONE", Task::Restore { backup: None }), ("LINE", Task::Line)] {
        let record = run_for(&line, batch, task, Box::new(|_, _, _| {})).await;
        let code = if task == Task::Line { FailureCode::EfsLostNoBackup } else { FailureCode::BackupMissing };
        assert_eq!(record.code, Some(code), "{record:#?}");
        assert!(!unit.events().iter().any(BusEvent::is_destructive));
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_not_written_over_other_bad_blocks() {
    let line = bench(REWORK, "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
    out_and_in(&line, &unit, "A1", |unit| {
        unit.lose_efs();
        let geometry = unit.identity().model.geometry;
        let range = unit.flash(|_, map| map.range("EFS2")).expect("it has one");
        unit.spoil_block(range.start / u64::from(geometry.pages_per_block) + 3).expect("a block");
    });
    let record = run(&line, "OTHER").await;
    let expected = (Outcome::Fail, Some(FailureCode::RestoreBadBlocks), false, true);
    assert_eq!(end(&record), expected, "{record:#?}");
    assert!(!was_touched(&unit));
}

#[tokio::test(start_paused = true)]
async fn an_efs_that_is_lost_in_our_own_hands_comes_back_without_being_asked_for() {
    let all = ["cfun-5-after", "efs-wiped", "efs-lost-at-power-cut", "calibration-lost", "imei-changed"];
    for (of, names) in [(KINDS[0], all.as_slice()), (KINDS[1], &all[..2])] {
        for name in names {
            let line = bench("", &fault(name, UNIT)).await;
            let unit = put_in(&line, UNIT, of, "A1");
            let before = own(&unit);
            let record = run(&line, "OURS").await;
            assert_eq!(end(&record), REPAIRED, "{name}: {record:#?}");
            assert_eq!((record.boots_verified, condition(&record)), (2, Some(Condition::EfsLost)), "{name}");
            assert_eq!(own(&unit), before, "{name}: {:?}", items(&unit).imei());
            assert!(was_touched(&unit), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_efs_that_is_lost_again_and_again_fails_the_unit() {
    let line = bench(REWORK, &fault("cfun-5-always", UNIT)).await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let record = run(&line, "TWICE").await;
    assert_eq!(end(&record), (Outcome::Fail, Some(FailureCode::CfunFtm), false, true), "{record:#?}");
    assert!(record.detail.contains("also after its own backup was restored"), "{}", record.detail);
    let efs = unit.flash(|_, map| map.range("EFS2")).expect("it has one");
    let erases = unit.events().into_iter().filter(|event| event.action == BusAction::Erase(efs)).count();
    assert_eq!(erases, 1, "restored once");
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_stuck_in_its_mode_is_told_to_leave_it_after_its_backup() {
    let line = bench(REWORK, &fault("mode-stuck", UNIT)).await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let record = run(&line, "STUCK").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert_eq!(condition(&record), Some(Condition::ModeStuck));
    assert!(!was_touched(&unit), "its EFS was whole");
    let entries = line.entries();
    let place = |wanted: fn(&Fact) -> bool| entries.iter().position(|entry| wanted(&entry.fact)).expect("it is there");
    let backup = place(|fact| matches!(fact, Fact::BackupStored { .. }));
    let told = place(|fact| matches!(fact, Fact::Cure { .. }));
    assert!(backup < told && told < place(|fact| matches!(fact, Fact::Intent { .. })));
}

/// Takes all that the vault holds of a unit.
pub(crate) fn lose_backups(line: &Line, unit: &UnitTruth) {
    let directory = PathBuf::from("state/vault").join(unit.identity().chip.to_string());
    for entry in line.disk.list(&directory).expect("it has backups") {
        line.disk.remove(&directory.join(entry.name)).expect("a file");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_backup_the_second_copy_helps_only_a_unit_whose_imei_is_known() {
    let line = bench(REWORK, "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let before = own(&unit);
    assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
    lose_backups(&line, &unit);
    out_and_in(&line, &unit, "A1", |unit| unit.lose_calibration().expect("its storage works"));
    let record = run(&line, "COPY").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert_eq!(own(&unit), before);
    // Once a start without EFS has replaced the second copy, nothing helps.
    lose_backups(&line, &unit);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let record = run(&line, "GONE").await;
    let expected = (Outcome::Fail, Some(FailureCode::EfsLostNoBackup), false, true);
    assert_eq!(end(&record), expected, "{record:#?}");
    assert!(record.detail.contains("second copy"), "{}", record.detail);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_cut_off_after_its_second_copy_helped_is_finished_as_what_it_was() {
    let line = bench(REWORK, "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let before = own(&unit);
    assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
    lose_backups(&line, &unit);
    out_and_in(&line, &unit, "A1", |unit| unit.rewrite_imei("000000000000000").expect("its storage works"));
    let work = line.work("CUT", 1).await;
    let mut head = work.ledger.head();
    while line.entries().iter().filter(|entry| matches!(entry.fact, Fact::Intent { .. })).count() < 2 {
        head.changed().await.expect("the ledger is open");
    }
    line.clock.sleep(Duration::from_secs(2)).await;
    line.factory.unplug(&slot("A1")).expect("a slot");
    line.clock.sleep(Duration::from_secs(10)).await;
    line.factory.plug(UNIT, &slot("A1")).expect("it is free");
    let (_, entries) = work.end_within(&line, Duration::from_secs(1800)).await;
    assert_sound(&line, &entries);
    assert!(entries.iter().any(|entry| matches!(entry.fact, Fact::RunInterrupted { .. })), "it was cut off");
    let runs = records(&entries, "CUT");
    let [record] = &runs[..] else { panic!("one run: {runs:#?}") };
    assert_eq!((end(record), record.flags.resumed), (REPAIRED, true), "{record:#?}");
    assert_eq!(own(&unit), before);
    assert!(!was_touched(&unit), "nothing had to be restored");
}

#[tokio::test(start_paused = true)]
async fn a_restore_by_hand_does_not_use_up_what_the_profile_allows() {
    let line = bench("rework: { per_unit: 1 }\n", "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let task = Task::Restore { backup: None };
    assert_eq!(end(&run_for(&line, "BY-HAND", task, Box::new(|_, _, _| {})).await), REPAIRED);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    assert_eq!(end(&run(&line, "ONCE").await), REPAIRED);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    assert_eq!(run(&line, "TWICE").await.code, Some(FailureCode::ReworkExhausted));
}

#[tokio::test(start_paused = true)]
async fn a_unit_is_not_reworked_for_ever() {
    let line = bench("rework: { per_unit: 1 }\n", "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    assert_eq!(end(&run(&line, "ONCE").await), REPAIRED);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let events = unit.events().len();
    let record = run(&line, "TWICE").await;
    assert_eq!(end(&record), (Outcome::Held, Some(FailureCode::ReworkExhausted), false, true), "{record:#?}");
    assert!(!unit.events()[events..].iter().any(BusEvent::is_destructive));
}

#[tokio::test(start_paused = true)]
async fn a_round_trip_leaves_a_unit_as_it_was_and_is_no_repair() {
    let mut line = bench("rework: { per_unit: 1 }\n", "").await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let before = own(&unit);
    line.products.iter_mut().for_each(|product| product.round_trip = true);
    let record = run(&line, "TRIED").await;
    assert_eq!(end(&record), (Outcome::Pass, None, false, false), "{record:#?}");
    assert!(was_touched(&unit));
    assert_eq!(own(&unit), before);
    // Its budget is whole.
    line.products.iter_mut().for_each(|product| product.round_trip = false);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    assert_eq!(end(&run(&line, "ONCE").await), REPAIRED);
    assert_eq!(own(&unit), before);
}

/// Brings the unit in without its EFS, and cuts its rework off `after` so long since the restore was announced.
async fn cut_off(cut: &str, after: Duration) {
    let what = format!("{cut} after {after:?}");
    let line = bench(REWORK, "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let before = own(&unit);
    save(&line).await;
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let mut work = line.work("CUT", 1).await;
    let mut head = work.ledger.head();
    loop {
        let entries = work.ledger.read(1, 10_000).await.expect("it can be read");
        if entries.iter().any(|entry| matches!(entry.fact, Fact::RestoreIntent { .. })) {
            break;
        }
        head.changed().await.expect("the ledger is open");
    }
    line.clock.sleep(after).await;
    match cut {
        "kill" => {
            work.kill().await;
            work = line.work("CUT", 1).await;
        }
        _ => {
            line.factory.unplug(&slot("A1")).expect("a slot");
            line.clock.sleep(Duration::from_secs(10)).await;
            line.factory.plug(UNIT, &slot("A2")).expect("it is free");
        }
    }
    let (end, entries) = work.end_within(&line, Duration::from_secs(1800)).await;
    let runs = records(&entries, "CUT");
    assert_eq!(end, Some(End::Complete), "{what}: {runs:#?}");
    assert_sound(&line, &entries);
    assert_eq!(runs.len(), 1, "{what}: {runs:#?}");
    assert_eq!(self::end(&runs[0]), REPAIRED, "{what}: {runs:#?}");
    assert!(runs[0].flags.resumed, "{what}");
    assert_eq!(own(&unit), before, "{what}");
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_is_cut_off_is_done_again_when_the_unit_is_back() {
    for (cut, steps) in [("unplug", 0..6), ("kill", 0..3)] {
        for step in steps {
            cut_off(cut, Duration::from_millis(step * 2700)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_comes_back_to_the_line_is_repaired_and_counts_once() {
    let change = |text: String| format!("{}  faults:\n{}", two_slots(text), fault("comes-back-lost", 1));
    let station = station_with("stations/demo.yaml", change, |profile| with(profile, REWORK));
    let line = Line::new(station, 3).await;
    let (end, entries) = line.run("SHIFT", 3).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let runs = records(&entries, "SHIFT");
    let repaired: Vec<&RunRecord> = runs.iter().filter(|record| record.flags.repaired).collect();
    assert_eq!(repaired.len(), 1, "{runs:#?}");
    assert!(runs.iter().all(|record| record.outcome == Outcome::Pass), "{runs:#?}");
    let mut summary = Summary::new("SHIFT".parse().expect("a name"));
    entries.iter().for_each(|entry| summary.follow(&Recorded::from(entry)));
    assert_eq!((summary.total(), summary.first_pass_yield()), (4, Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn a_backup_by_hand_changes_nothing_and_a_restore_by_hand_needs_no_permission() {
    let line = bench("", "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let before = own(&unit);
    let (record, entries) = save(&line).await;
    assert_eq!((record.outcome, record.code), (Outcome::Aborted, Some(FailureCode::Stopped)), "{record:#?}");
    let backup = backup_of(&entries, unit.identity().chip);
    assert!(record.detail.contains(&backup.id.to_string()), "{}", record.detail);
    assert!(!unit.events().iter().any(BusEvent::is_destructive));
    assert_eq!(own(&unit), before);
    let is_there = line.disk.list(Path::new("state/vault")).expect("a vault").len();
    assert_eq!(is_there, 1);

    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let task = Task::Restore { backup: Some(backup.id) };
    let record = run_for(&line, "BACK", task, Box::new(|_, _, _| {})).await;
    assert_eq!(self::end(&record), REPAIRED, "{record:#?}");
    assert_eq!(own(&unit), before);
}
