//! A unit that was cut off while it was written comes back in any mode, or as somebody else, and one that was late is
//! not a stranger.

use std::time::Duration;

use stationmaster::controller::End;
use stationmaster::domain::{Fact, FailureCode, Outcome, Phase, RunRecord, SlotName};
use stationmaster::sim::{Arrival, BusAction, UnitKind, UnitTruth};

use crate::harness::{Line, Work, assert_sound, records, station, two_slots, until_fact};

/// Station time within which everything that is waited for happens.
const PATIENCE: Duration = Duration::from_secs(1800);

fn slot(name: &str) -> SlotName {
    name.parse().expect("a slot name")
}

/// Waits until the run in A1 writes.
async fn until_written(line: &Line, work: &Work) {
    let mut slots = work.handle.slots();
    let writes =
        slots.wait_for(|slots| slots.iter().any(|slot| slot.phase == Some(Phase::Flash) && slot.bytes_done > 0));
    line.clock.timeout(PATIENCE, writes).await.expect("it is written").expect("the board is there");
}

/// A unit that is pulled out of A1 while it is written, changed by `change`, and put into `back`; the records.
async fn returned(batch: &str, back: &str, change: impl Fn(&UnitTruth)) -> (Line, Vec<RunRecord>) {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    let work = line.work(batch, 1).await;
    until_written(&line, &work).await;
    let number = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunInterrupted { .. })).await;
    change(&line.factory.unit(number).expect("the unit"));
    line.factory.plug(number, &slot(back)).expect("a free slot");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete, "{entries:#?}");
    assert_sound(&line, &entries);
    let records = records(&entries, batch);
    (line, records)
}

fn assert_finished(records: &[RunRecord], back: &str) {
    let [record] = records else { panic!("one run: {records:#?}") };
    assert_eq!((record.outcome, record.code), (Outcome::Pass, None), "{record:#?}");
    assert_eq!(record.slot, slot(back));
    assert!(record.flags.resumed, "{record:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_unit_is_finished_in_whichever_mode_and_slot_it_returns() {
    for back in ["A1", "A2"] {
        for arrival in [Arrival::Dump, Arrival::Edl, Arrival::HalfEnumerated] {
            let (_, records) = returned("MODES", back, |unit| unit.arrive(arrival)).await;
            assert_finished(&records, back);
        }
        let (_, records) = returned("MODES", back, UnitTruth::keep_vendor_id).await;
        assert_finished(&records, back);
    }
}

#[tokio::test(start_paused = true)]
async fn another_unit_in_whichever_mode_is_not_taken_for_the_interrupted_one() {
    for arrival in [None, Some(Arrival::Dump), Some(Arrival::Edl), Some(Arrival::HalfEnumerated)] {
        let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
        let kind =
            UnitKind { model: "EG25-G".to_owned(), revision: "EG25GGBR07A07M2G_01.001.01.001".to_owned(), slots: None };
        line.factory.make(900, &kind).expect("a unit");
        let other = line.factory.unit(900).expect("the other unit");
        let work = line.work("OTHER", 2).await;
        until_written(&line, &work).await;
        let owner = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
        until_fact(&line, &work, |fact| matches!(fact, Fact::RunInterrupted { .. })).await;
        if let Some(arrival) = arrival {
            other.arrive(arrival);
        }
        line.factory.plug(900, &slot("A1")).expect("a free slot");
        until_fact(&line, &work, |fact| matches!(fact, Fact::RunFinished(_))).await;
        // The operator takes a finished unit out only where it was handed out by the operator.
        line.clock.sleep(Duration::from_secs(10)).await;
        if line.factory.occupant(&slot("A1")).is_some() {
            line.factory.unplug(&slot("A1")).expect("a slot");
        }
        line.factory.plug(owner, &slot("A1")).expect("a free slot");
        let (end, entries) = work.end(&line).await;
        assert_eq!(end, End::Complete, "{arrival:?}: {entries:#?}");
        assert_sound(&line, &entries);
        let runs = records(&entries, "OTHER");
        let [of_other, of_owner] = &runs[..] else { panic!("{arrival:?}: two runs: {runs:#?}") };
        assert_eq!(of_other.chip, Some(other.identity().chip), "{arrival:?}");
        assert!(!of_other.flags.resumed, "{arrival:?}: {of_other:#?}");
        // In download mode with an intact boot loader nothing tells a stranger from one that was left there.
        let expected = match arrival {
            Some(Arrival::Edl) => (Outcome::Held, Some(FailureCode::EdlUnknownUnit)),
            _ => (Outcome::Pass, None),
        };
        assert_eq!((of_other.outcome, of_other.code), expected, "{arrival:?}: {of_other:#?}");
        assert_eq!((of_owner.outcome, of_owner.flags.resumed), (Outcome::Pass, true), "{arrival:?}: {of_owner:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_late_in_download_mode_is_brought_back_and_run() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    while line.factory.unit(1).is_none() {
        line.clock.sleep(Duration::from_millis(100)).await;
    }
    // The controller waits half a minute.
    line.factory.unit(1).expect("the unit").delay_edl(Duration::from_secs(60));
    let (end, entries) = line.run("LATE", 1).await;
    assert_eq!(end, End::Complete, "{entries:#?}");
    assert_sound(&line, &entries);
    let runs = records(&entries, "LATE");
    let ends: Vec<_> = runs.iter().map(|run| (run.outcome, run.code)).collect();
    assert_eq!(ends, [(Outcome::Aborted, Some(FailureCode::Unplugged)), (Outcome::Pass, None)], "{runs:#?}");
}

#[tokio::test(start_paused = true)]
async fn another_module_in_download_mode_where_one_is_late_stays_a_stranger() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    while line.factory.unit(1).is_none() {
        line.clock.sleep(Duration::from_millis(100)).await;
    }
    let unit = line.factory.unit(1).expect("the unit");
    unit.delay_edl(Duration::from_secs(300));
    let work = line.work("LATE", 1).await;
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunFinished(_))).await;
    // Its boot loader is gone: whatever it is, it is not one on which nothing was changed.
    unit.spoil_block(0).expect("block 0");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete, "{entries:#?}");
    let runs = records(&entries, "LATE");
    let last = runs.last().expect("a run");
    assert_eq!((last.outcome, last.code), (Outcome::Held, Some(FailureCode::EdlUnknownUnit)), "{runs:#?}");
    assert!(!unit.events().iter().any(|event| event.is_destructive()));
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_unit_that_says_another_valid_imei_is_known_by_its_chip() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    let work = line.work("RENAMED", 1).await;
    // Interrupted when it can say an IMEI again.
    let verifies = |slots: &std::sync::Arc<Vec<stationmaster::domain::SlotStatus>>| {
        slots.iter().any(|slot| slot.phase == Some(Phase::Verify))
    };
    let mut slots = work.handle.slots();
    line.clock.timeout(PATIENCE, slots.wait_for(verifies)).await.expect("it verifies").expect("the board is there");
    let number = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunInterrupted { .. })).await;
    let unit = line.factory.unit(number).expect("the unit");
    let other: stationmaster::domain::Imei =
        stationmaster::domain::Imei::from_body(&format!("{}999999", &unit.identity().imei.as_str()[..8]))
            .expect("valid");
    unit.rewrite_imei(other.as_str()).expect("stored");
    line.factory.plug(number, &slot("A1")).expect("a free slot");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete, "{entries:#?}");
    assert_sound(&line, &entries);
    let runs = records(&entries, "RENAMED");
    let [record] = &runs[..] else { panic!("one run and no refusal: {runs:#?}") };
    // Its own chip with another IMEI has lost its EFS in our hands, and gets it back.
    assert_eq!((record.outcome, record.code), (Outcome::Pass, None), "{record:#?}");
    assert!(record.flags.resumed && record.flags.repaired, "{record:#?}");
    let said = |identity: &Option<stationmaster::domain::Identity>| identity.as_ref().and_then(|said| said.imei);
    assert_eq!(said(&record.after), said(&record.before), "{record:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_unit_without_a_place_is_asked_for_its_chip_once() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    let kind =
        UnitKind { model: "EG25-G".to_owned(), revision: "EG25GGBR07A07M2G_01.001.01.001".to_owned(), slots: None };
    line.factory.make(900, &kind).expect("a unit");
    let other = line.factory.unit(900).expect("the other unit");
    other.rewrite_imei("000000000000000").expect("its storage works");
    let asked = || other.events().iter().filter(|event| event.action == BusAction::EdlSwitch).count();
    let work = line.work("ONCE", 1).await;
    until_written(&line, &work).await;
    let owner = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
    until_fact(&line, &work, |fact| matches!(fact, Fact::RunInterrupted { .. })).await;
    // Its run is open, so every place is taken; the other one may be the unit that is missed.
    line.factory.plug(900, &slot("A2")).expect("a free slot");
    line.clock.sleep(Duration::from_secs(200)).await;
    assert_eq!(asked(), 1, "however often it is looked at");
    // Taken out and put in again it may be any unit.
    line.factory.unplug(&slot("A2")).expect("a slot");
    line.clock.sleep(Duration::from_secs(10)).await;
    line.factory.plug(900, &slot("A2")).expect("a free slot");
    line.clock.sleep(Duration::from_secs(200)).await;
    assert_eq!(asked(), 2);
    line.factory.plug(owner, &slot("A1")).expect("a free slot");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete, "{entries:#?}");
    assert_sound(&line, &entries);
    assert_finished(&records(&entries, "ONCE"), "A1");
}

#[tokio::test(start_paused = true)]
async fn a_run_is_told_once_and_not_whenever_a_unit_without_a_place_is_looked_at() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 2).await;
    let work = line.work("PLACES", 1).await;
    let mut slots = work.handle.slots();
    let seen = tokio::spawn(async move {
        let mut runs = std::collections::BTreeMap::new();
        let mut last = std::collections::BTreeMap::new();
        while slots.changed().await.is_ok() {
            for status in slots.borrow_and_update().iter() {
                let before = last.insert(status.slot.clone(), status.run).flatten();
                if let Some(run) = status.run.filter(|run| before != Some(*run)) {
                    *runs.entry(run).or_insert(0) += 1;
                }
            }
        }
        runs
    });
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete);
    let started = entries.iter().filter(|entry| matches!(entry.fact, Fact::RunStarted { .. })).count();
    assert_eq!(started, 1, "one unit had a place");
    let runs = seen.await.expect("it only looks");
    assert_eq!(runs.into_values().collect::<Vec<i32>>(), [1], "the board names one run, once");
}
