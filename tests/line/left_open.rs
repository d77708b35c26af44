//! What the station did to a unit that was changed is no verdict: its run stays open, and nothing that went wrong loses
//! the unit.

use std::time::Duration;

use stationmaster::controller::{End, Task};
use stationmaster::domain::{Fact, FailureCode, Outcome, RunRecord, SlotName};
use stationmaster::ledger::Entry;
use stationmaster::sim::UnitTruth;

use crate::harness::{Line, Witness, Work, assert_sound, records, until_fact};
use crate::mishaps::{Left, Mishap, befall};
use crate::repair::{DONOR, KINDS, REPAIRED, UNIT, backup_of, bench, end, out_and_in, own, put_in, run, run_for};

const PATIENCE: Duration = Duration::from_secs(3600);
const BY_HAND: Task = Task::Restore { backup: None };

fn slot() -> SlotName {
    "A1".parse().expect("a slot's name")
}

/// Lets it go wrong from the first fact on that is like this.
fn from(left: &Left, times: u32, wanted: impl Fn(&Fact) -> bool + Send + 'static) -> Witness {
    let (left, mut is_over) = (left.clone(), false);
    Box::new(move |_, _, entry| {
        if !is_over && wanted(&entry.fact) {
            is_over = true;
            left.set(times);
        }
    })
}

fn interruptions(entries: &[Entry]) -> Vec<FailureCode> {
    let codes = entries.iter().filter_map(|entry| match &entry.fact {
        Fact::RunInterrupted { code, .. } => Some(*code),
        _ => None,
    });
    codes.collect()
}

fn unplug(line: &Line) {
    line.factory.unplug(&slot()).expect("a slot").expect("a unit");
}

fn plug(line: &Line) {
    line.factory.plug(UNIT, &slot()).expect("it is free");
}

async fn ended(line: &Line, work: Work, batch: &str) -> (RunRecord, Vec<Entry>) {
    let (end, entries) = work.end_within(line, PATIENCE).await;
    assert_eq!(end, Some(End::Complete), "{entries:#?}");
    assert_sound(line, &entries);
    let [record] = records(&entries, batch).try_into().unwrap_or_else(|runs| panic!("one run: {runs:#?}"));
    (record, entries)
}

#[tokio::test(start_paused = true)]
async fn a_busy_port_does_not_keep_a_lost_efs_from_coming_back() {
    let mut line = bench("", "    - { fault: efs-wiped, unit: 7 }\n").await;
    let left = befall(&mut line, Mishap::Busy);
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let before = own(&unit);
    // ModemManager, say, looks at a module that has just started.
    let witness = from(&left, 1, |fact| matches!(fact, Fact::Diagnosed { .. }));
    let work = line.work_for("BUSY", 1, Task::Line, witness).await;
    let (record, entries) = ended(&line, work, "BUSY").await;
    assert_eq!(interruptions(&entries), [FailureCode::PortBusy]);
    assert_eq!((end(&record), record.flags.resumed), (REPAIRED, true), "{record:#?}");
    assert_eq!(own(&unit), before);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_fails_while_a_resumed_unit_is_loaded_costs_a_fresh_start() {
    let mut line = bench("", "").await;
    let left = befall(&mut line, Mishap::Transfer);
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let before = own(&unit);
    let witness = from(&left, 1, |fact| matches!(fact, Fact::RunResumed { .. }));
    let work = line.work_for("LOAD", 1, Task::Line, witness).await;
    until_fact(&line, &work, |fact| matches!(fact, Fact::Intent { .. })).await;
    line.clock.sleep(Duration::from_secs(2)).await;
    unplug(&line);
    line.clock.sleep(Duration::from_secs(10)).await;
    plug(&line);
    let (record, entries) = ended(&line, work, "LOAD").await;
    assert_eq!(interruptions(&entries), [FailureCode::Unplugged], "it is not interrupted a second time");
    assert_eq!((record.outcome, record.flags.resumed), (Outcome::Pass, true), "{record:#?}");
    assert_eq!(own(&unit), before);
}

/// A unit in the middle of its flash from which on nothing can be transferred any more; what the batch comes to.
async fn left_by(line: &Line, left: &Left) -> Vec<Entry> {
    let witness = from(left, Left::ALWAYS, |fact| matches!(fact, Fact::Staged { .. }));
    let work = line.work_for("CABLE", 1, Task::Line, witness).await;
    let (end, entries) = work.end_within(line, PATIENCE).await;
    assert_eq!(end, Some(End::GaveUp), "{entries:#?}");
    assert_eq!(records(&entries, "CABLE"), [], "nothing that is the unit's fault has happened");
    entries
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_station_that_stays_leaves_the_run_open_within_bounds() {
    let mut line = bench("", "").await;
    let left = befall(&mut line, Mishap::Transfer);
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let before = own(&unit);
    let entries = left_by(&line, &left).await;
    let codes = interruptions(&entries);
    assert!((1..=3).contains(&codes.len()), "it is not tried for ever: {codes:?}");
    assert!(codes.iter().all(|code| code.blame() == stationmaster::domain::Blame::Station), "{codes:?}");
    // Once the cable is good again, and the unit was put in anew, the line finishes it.
    left.set(0);
    out_and_in(&line, &unit, "A1", |_| {});
    let work = line.work("CABLE", 1).await;
    let (record, _) = ended(&line, work, "CABLE").await;
    assert_eq!((record.outcome, record.code, record.flags.resumed), (Outcome::Pass, None, true), "{record:#?}");
    assert_eq!(own(&unit), before);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_stays_open_is_finished_by_hand_too() {
    let mut line = bench("", "").await;
    let left = befall(&mut line, Mishap::Transfer);
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let before = own(&unit);
    left_by(&line, &left).await;
    left.set(0);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let own_backup = backup_of(&line.entries(), unit.identity().chip);

    // Its backup would be of what is left of it, and another backup than its own is none.
    let other = stationmaster::domain::Sha256Digest::of(b"another");
    for task in [Task::Backup, Task::Restore { backup: Some(other) }] {
        let work = line.work_for("NOT", 1, task, Box::new(|_, _, _| {})).await;
        line.clock.sleep(Duration::from_secs(60)).await;
        work.handle.stop_gently();
        let (_, entries) = work.end(&line).await;
        assert_eq!(records(&entries, "NOT"), []);
    }

    let work = line.work_for("HAND-1", 1, BY_HAND, Box::new(|_, _, _| {})).await;
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunFinished(_))).await;
    // Whoever waits for the one run of a hand is told of its end, whatever batch it is of.
    let batch = work.handle.batch();
    line.clock.sleep(Duration::from_secs(1)).await;
    assert!(batch.borrow().ends > 0);
    work.handle.stop_gently();
    let (_, entries) = work.end(&line).await;
    assert_sound(&line, &entries);
    let [record] = records(&entries, "CABLE").try_into().expect("the run it was begun in");
    assert_eq!((end(&record), record.flags.resumed), (REPAIRED, true), "{record:#?}");
    assert_eq!(record.backup, Some(own_backup.id));
    assert_eq!(own(&unit), before);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_failed_half_written_is_brought_back_by_hand() {
    for (command, code) in [("erase", FailureCode::EraseNak), ("program", FailureCode::ProgramNak)] {
        let mut line = bench("", "").await;
        let unit = put_in(&line, UNIT, KINDS[0], "A1");
        let efs = unit.flash(|_, map| map.range("EFS2")).expect("it has one");
        let left = befall(&mut line, Mishap::Refused(command, (command == "erase").then_some(efs.start)));
        let before = own(&unit);
        assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
        let backup = backup_of(&line.entries(), unit.identity().chip);
        out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
        // It is restored, and refuses that: without a boot loader, and without an EFS.
        let task = Task::Restore { backup: Some(backup.id) };
        let witness = from(&left, Left::ALWAYS, |fact| matches!(fact, Fact::RestoreIntent { .. }));
        let record = run_for(&line, "HALF", task, witness).await;
        assert_eq!(end(&record), (Outcome::Fail, Some(code), false, false), "{record:#?}");
        left.set(0);
        out_and_in(&line, &unit, "A1", |_| {});
        let record = run(&line, "LINE").await;
        assert_eq!((record.outcome, record.code), (Outcome::Held, Some(FailureCode::EdlUnknownUnit)), "{record:#?}");
        out_and_in(&line, &unit, "A1", |_| {});
        let record = run_for(&line, "BACK", BY_HAND, Box::new(|_, _, _| {})).await;
        assert_eq!(end(&record), REPAIRED, "{command}: {record:#?}");
        assert_eq!(record.backup, Some(backup.id), "{command}");
        assert_eq!(own(&unit), before, "{command}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_taken_out_while_it_restarts_is_waited_for_and_not_judged() {
    let line = bench("", "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let before = own(&unit);
    let work = line.work("GONE", 1).await;
    until_fact(&line, &work, |fact| matches!(fact, Fact::Flashed { .. })).await;
    line.clock.sleep(Duration::from_secs(2)).await;
    unplug(&line);
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunInterrupted { .. })).await;
    let interrupted = line.entries().into_iter().find_map(|entry| match entry.fact {
        Fact::RunInterrupted { code, detail, .. } => Some((code, detail)),
        _ => None,
    });
    let (code, detail) = interrupted.expect("it is there");
    assert_eq!(code, FailureCode::Unplugged);
    assert!(detail.contains("taken out, or it is dead"), "{detail}");
    line.clock.sleep(Duration::from_secs(120)).await;
    plug(&line);
    let (record, _) = ended(&line, work, "GONE").await;
    assert_eq!((record.outcome, record.flags.resumed), (Outcome::Pass, true), "{record:#?}");
    assert_eq!(own(&unit), before);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_never_comes_back_is_named_and_not_counted() {
    let line = bench("", "").await;
    put_in(&line, UNIT, KINDS[0], "A1");
    let work = line.work("DEAD", 1).await;
    until_fact(&line, &work, |fact| matches!(fact, Fact::Flashed { .. })).await;
    line.clock.sleep(Duration::from_secs(2)).await;
    unplug(&line);
    let (end, entries) = work.end_within(&line, PATIENCE).await;
    assert_eq!(end, Some(End::GaveUp), "{entries:#?}");
    assert_eq!(records(&entries, "DEAD"), []);
    assert_eq!(interruptions(&entries), [FailureCode::Unplugged]);
    let mut summary = stationmaster::report::Summary::new("DEAD".parse().expect("a batch name"));
    entries.iter().for_each(|entry| summary.follow(&stationmaster::report::Recorded::from(entry)));
    assert!(!summary.is_all_well());
    assert_eq!(summary.interrupted().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_falls_silent_again_and_again_is_left_open_and_its_slot_goes_on() {
    let line = bench("", "    - { fault: silence-in-program-always, unit: 7 }\n").await;
    put_in(&line, UNIT, KINDS[0], "A1");
    let work = line.work("SILENT", 2).await;
    let deadline = line.clock.now() + PATIENCE;
    while interruptions(&line.entries()).len() < 3 {
        assert!(line.clock.now() < deadline, "{:#?}", line.entries());
        line.clock.sleep(Duration::from_secs(1)).await;
    }
    line.clock.sleep(Duration::from_secs(60)).await;
    unplug(&line);
    line.clock.sleep(Duration::from_secs(10)).await;
    let other = put_in(&line, DONOR, KINDS[0], "A1");
    let (end, entries) = work.end_within(&line, PATIENCE).await;
    assert_eq!(end, Some(End::GaveUp), "{entries:#?}");
    assert_eq!(interruptions(&entries), [FailureCode::EdlSilent; 3]);
    let [record] = records(&entries, "SILENT").try_into().expect("one run");
    assert_eq!((record.outcome, record.chip), (Outcome::Pass, Some(other.identity().chip)), "{record:#?}");
}
