//! Units that are taken for one another by everything but their chips: clones, guests, units that come back damaged.

use std::time::Duration;

use stationmaster::controller::End;
use stationmaster::domain::{Fact, FailureCode, Outcome, Phase, RunRecord, SlotName, SlotStatus};
use stationmaster::ledger::Entry;
use stationmaster::sim::UnitKind;

use crate::harness::{Line, Work, assert_sound, records, station, two_slots, until_fact};

/// Station time within which everything that is waited for happens.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A unit that is made when its twin is there.
const CLONE: u32 = 900;

fn slot(name: &str) -> SlotName {
    name.parse().expect("a slot name")
}

/// Waits until the run in A1 is in `phase`; with `moved`, until the phase has moved bytes.
async fn until(line: &Line, work: &Work, phase: Phase, moved: bool) {
    let a1 = slot("A1");
    let mut slots = work.handle.slots();
    let reached = slots.wait_for(|slots| {
        slots.iter().any(|slot| slot.slot == a1 && slot.phase == Some(phase) && (!moved || slot.bytes_done > 0))
    });
    let reached = line.clock.timeout(PATIENCE, reached).await;
    let last = || format!("A1 does not reach {phase}: {:#?} {:#?}", work.handle.slots().borrow(), line.entries());
    reached.unwrap_or_else(|_| panic!("{}", last())).expect("the board is there");
}

/// Both slots get EG25-G modules; unit `clone` has the IMEI of the one before it.
fn with_clone(text: String, clone: u32) -> String {
    let text = two_slots(text);
    let (start, rest) = text.split_once("    - model: RM500Q-GL").expect("the demo's second kind");
    let (_, rest) = rest.split_once("  # Inserts and removes").expect("what follows the kinds");
    format!("{start}  # Inserts and removes{rest}  faults:\n    - {{ fault: imei-of-another-slot, unit: {clone} }}\n")
}

fn ends(records: &[RunRecord]) -> Vec<(Outcome, Option<FailureCode>)> {
    records.iter().map(|record| (record.outcome, record.code)).collect()
}

fn quarantined(entries: &[Entry]) -> Vec<(stationmaster::domain::RunId, FailureCode)> {
    let amendments = entries.iter().filter_map(|entry| match &entry.fact {
        Fact::Quarantined { run, code, .. } => Some((*run, *code)),
        _ => None,
    });
    amendments.collect()
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_comes_after_its_twin_has_passed_sets_both_aside() {
    let line = Line::new(station("stations/demo.yaml", |text| with_clone(text, CLONE)), 1).await;
    let work = line.work("TWINS", 2).await;
    until(&line, &work, Phase::Verify, false).await;
    line.factory.make(CLONE, &kind("EG25-G")).expect("a unit");
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunFinished(_))).await;
    line.factory.plug(CLONE, &slot("A2")).expect("a free slot");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let runs = records(&entries, "TWINS");
    let duplicate = Some(FailureCode::ImeiDuplicate);
    assert_eq!(ends(&runs), [(Outcome::Pass, None), (Outcome::Held, duplicate)], "{runs:#?}");
    assert!(runs[1].flags.quarantined);
    assert_eq!(quarantined(&entries), [(runs[0].run, FailureCode::ImeiDuplicate)], "the one that passed is amended");
}

#[tokio::test(start_paused = true)]
async fn clones_that_need_no_flash_are_told_apart_by_their_chips() {
    // What has the current revision already is only verified.
    let current = |text: String| with_clone(text, 2).replace("A07M2G_01.001.01.001", "A08M2G_30.006.30.006");
    let station = station("stations/demo.yaml", current);
    let wanted = &station.profile_for("EG25-G").expect("a profile").checks.revision;
    let revision = &station.simulation.as_ref().expect("simulated").units[0].revision;
    assert!(wanted.matches(revision), "the units arrive with {revision}, the profile wants {wanted}");
    let mut verify = (*station).clone();
    verify.profiles = station
        .profiles
        .iter()
        .map(|profile| {
            let mut profile = (**profile).clone();
            profile.if_already = stationmaster::config::IfAlready::Verify;
            std::sync::Arc::new(profile)
        })
        .collect();
    let line = Line::new(std::sync::Arc::new(verify), 2).await;
    let (end, entries) = line.run("VERIFY", 2).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::Intent { .. })), "nothing is flashed");
    let runs = records(&entries, "VERIFY");
    assert_eq!(runs.len(), 2, "{runs:#?}");
    assert!(runs.iter().all(|run| run.chip.is_some()), "{runs:#?}");
    assert_ne!(runs[0].chip, runs[1].chip);
    for run in &runs {
        let is_aside = run.flags.quarantined || quarantined(&entries).iter().any(|(amended, _)| *amended == run.run);
        assert!(is_aside, "neither may be shipped: {run:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_of_an_interrupted_unit_is_no_guest_and_both_are_set_aside() {
    let line = Line::new(station("stations/demo.yaml", |text| with_clone(text, CLONE)), 1).await;
    let work = line.work("TWINS", 2).await;
    until(&line, &work, Phase::Flash, true).await;
    line.factory.make(CLONE, &kind("EG25-G")).expect("a unit");
    let unit = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunInterrupted { .. })).await;
    line.factory.plug(CLONE, &slot("A2")).expect("a free slot");
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunFinished(_))).await;
    line.factory.plug(unit, &slot("A1")).expect("a free slot");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let runs = records(&entries, "TWINS");
    let duplicate = Some(FailureCode::ImeiDuplicate);
    assert_eq!(ends(&runs), [(Outcome::Held, duplicate), (Outcome::Fail, duplicate)], "{runs:#?}");
    assert!(runs.iter().all(|run| run.flags.quarantined), "{runs:#?}");
    assert!(runs[1].flags.resumed);
}

#[tokio::test(start_paused = true)]
async fn a_guest_without_an_imei_is_not_judged_as_the_unit_that_restarts() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    line.factory.make(900, &kind("EG25-G")).expect("a unit");
    lose_efs(&line, 900);
    let work = line.work("GUEST", 1).await;
    until(&line, &work, Phase::Reset, false).await;
    line.clock.sleep(Duration::from_secs(1)).await;
    let owner = line.factory.swap(900, &slot("A1")).expect("a slot").expect("a unit");
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunFinished(_))).await;
    line.clock.sleep(Duration::from_secs(10)).await;
    if line.factory.occupant(&slot("A1")).is_some() {
        line.factory.unplug(&slot("A1")).expect("a slot");
    }
    line.factory.plug(owner, &slot("A1")).expect("a free slot");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let runs = records(&entries, "GUEST");
    let expected = [(Outcome::Held, Some(FailureCode::UnitSwapped)), (Outcome::Pass, None)];
    assert_eq!(ends(&runs), expected, "{runs:#?}");
    assert!(!line.factory.unit(900).expect("it lies somewhere").events().iter().any(|event| event.is_destructive()));
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_unit_that_comes_back_without_its_efs_is_known_by_its_chip() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    let work = line.work("DAMAGED", 1).await;
    until(&line, &work, Phase::Verify, false).await;
    let unit = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
    lose_efs(&line, unit);
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunInterrupted { .. })).await;
    line.factory.plug(unit, &slot("A1")).expect("a free slot");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let [record] = records(&entries, "DAMAGED").try_into().expect("one run");
    assert!(record.flags.resumed && record.flags.repaired, "{record:#?}");
    assert_eq!((record.outcome, record.code), (Outcome::Pass, None), "{record:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_moved_during_a_fresh_start_is_finished_where_it_is() {
    let silent =
        |text: String| format!("{}  faults:\n    - {{ fault: silence-in-program, unit: 1 }}\n", two_slots(text));
    let line = Line::new(station("stations/demo.yaml", silent), 1).await;
    let work = line.work("MOVED", 1).await;
    until(&line, &work, Phase::Flash, false).await;
    // The phase goes back when the programmer is started anew.
    until(&line, &work, Phase::Probe, false).await;
    let unit = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
    line.factory.plug(unit, &slot("A2")).expect("a free slot");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete, "{entries:#?}");
    assert_sound(&line, &entries);
    let [record] = records(&entries, "MOVED").try_into().expect("one run");
    assert_eq!((record.outcome, record.slot.as_str()), (Outcome::Pass, "A2"), "{record:#?}");
    assert!(record.flags.resumed);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_an_interrupted_unit_waits_for_bandwidth_leaves_its_run_as_it_is() {
    let one_permit = |text: String| two_slots(text).replace("permits_per_root_port: 4", "permits_per_root_port: 1");
    let line = Line::new(station("stations/demo.yaml", one_permit), 2).await;
    let work = line.work("STOP", 2).await;
    let mut slots = work.handle.slots();
    let writes = line.clock.timeout(PATIENCE, slots.wait_for(|slots| slots.iter().any(is_written))).await;
    let board = writes.expect("one is written").expect("the board is there").clone();
    let first = board.iter().find(|slot| is_written(slot)).expect("one is written").slot.clone();
    // It is back before the other one, which waits for the only place there is, is through.
    let unit = line.factory.unplug(&first).expect("a slot").expect("a unit");
    line.clock.sleep(Duration::from_secs(1)).await;
    line.factory.plug(unit, &first).expect("a free slot");
    let waits =
        slots.wait_for(|slots| slots.iter().any(|slot| slot.slot == first && slot.phase == Some(Phase::Permit)));
    line.clock.timeout(PATIENCE, waits).await.expect("it waits").expect("the board is there");
    work.handle.stop_gently();
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Stopped);
    let runs = records(&entries, "STOP");
    assert!(runs.iter().all(|run| run.slot != first), "the interrupted unit has no run but its open one: {runs:#?}");
    let (end, entries) = line.run("STOP", 2).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let runs = records(&entries, "STOP");
    let passed: Vec<&RunRecord> = runs.iter().filter(|run| run.outcome == Outcome::Pass).collect();
    assert_eq!(passed.len(), 2, "{runs:#?}");
    assert!(passed.iter().any(|run| run.slot == first && run.flags.resumed), "{runs:#?}");
}

fn is_written(slot: &SlotStatus) -> bool {
    slot.phase == Some(Phase::Flash) && slot.bytes_done > 0
}

fn kind(model: &str) -> UnitKind {
    UnitKind { model: model.to_owned(), revision: "EG25GGBR07A07M2G_01.001.01.001".to_owned(), slots: None }
}

/// Every block of a unit's file system is blank, as after an erase that should not have been.
fn lose_efs(line: &Line, unit: u32) {
    let truth = line.factory.unit(unit).expect("the unit");
    let efs = truth.flash(|nand, map| {
        let range = map.range("EFS2").expect("it has a file system");
        let pages = u64::from(nand.geometry().pages_per_block);
        (range.start / pages)..(range.end() / pages)
    });
    for block in efs {
        truth.erase_block(block).expect("a block");
    }
}
