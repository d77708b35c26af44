//! Every fault by itself, in every phase in which it can strike: it ends within a stated time, and the next unit in the
//! same slot passes.

use std::sync::PoisonError;
use std::time::Duration;

use stationmaster::controller::End;
use stationmaster::domain::{Fact, FailureCode, Outcome, Phase, RunRecord};
use stationmaster::sim::FAULTS;

use crate::harness::{Line, assert_sound, records, station, two_slots};
use crate::truth::witness;

/// Station time for the unit with the fault and the next one together. A flash with two boots takes a minute and a half,
/// and the slowest fault a fresh start and a second flash.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// The phases that can be seen on a cable.
const STEPS: [Phase; 8] = [
    Phase::Identify,
    Phase::EnterEdl,
    Phase::Probe,
    Phase::Load,
    Phase::Backup,
    Phase::Flash,
    Phase::Reset,
    Phase::Verify,
];

/// The demonstration line with one slot, in which unit 1 has a fault.
fn one_slot(text: &str, fault: &str, step: Option<Phase>) -> String {
    let slots = two_slots(text.to_owned());
    let one = slots.lines().filter(|line| !line.contains("name: A2")).map(|line| format!("{line}\n"));
    let step = step.map(|step| format!(", step: {step}")).unwrap_or_default();
    format!("{}  faults:\n    - {{ fault: {fault}, unit: 1{step} }}\n", one.collect::<String>())
}

/// Runs the unit with the fault and the next one; the ends of the first.
async fn run(fault: &str, step: Option<Phase>) -> Vec<RunRecord> {
    let what = format!("{fault} at {step:?}");
    let line = Line::new(station("stations/demo.yaml", |text| one_slot(&text, fault, step)), 2).await;
    let (end, entries) = line.work("ALONE", 2).await.end_within(&line, LIMIT).await;
    let mut records = records(&entries, "ALONE");
    let ends: Vec<String> = records
        .iter()
        .map(|record| {
            format!("{} {:?} {} {}: {}", record.outcome, record.code, record.phase, record.flags, record.detail)
        })
        .collect();
    assert_eq!(end, Some(End::Complete), "{what}: {ends:#?}");
    assert_sound(&line, &entries);
    let last = records.pop().expect("two units");
    assert_eq!(last.outcome, Outcome::Pass, "{what}: the next unit: {ends:#?}");
    assert!(!last.flags.resumed && last.boots_verified == 2, "{what}: {last:#?}");
    let hubs = entries.iter().filter(|entry| matches!(entry.fact, Fact::HubLost { .. })).count();
    assert_eq!(hubs, usize::from(fault == "hub-lost"), "{what}: one event for a lost hub");
    records
}

/// What a fault that takes the module away, or the driver, must come to when it strikes in `step`.
fn assert_interrupted(what: &str, step: Phase, code: FailureCode, records: &[RunRecord]) {
    let ends: Vec<_> = records.iter().map(|record| (record.outcome, record.code, record.flags.resumed)).collect();
    let again = (Outcome::Pass, None, false);
    let expected: &[&[_]] = match step {
        // Nothing was changed: the run is over, and the unit begins anew, or is judged as it is.
        step if step < Phase::Flash && code == FailureCode::Internal => &[&[(Outcome::Error, Some(code), false)]],
        step if step < Phase::Flash => &[&[(Outcome::Aborted, Some(code), false), again]],
        Phase::Flash => &[&[(Outcome::Pass, None, true)]],
        // Nobody can tell a pulled plug from a restart, nor one of a module that has not answered yet.
        _ => &[&[(Outcome::Pass, None, true)], &[again]],
    };
    assert!(expected.contains(&ends.as_slice()), "{what}: {records:#?}");
}

#[tokio::test(start_paused = true)]
async fn every_fault_ends_in_time_and_leaves_its_slot_fit_for_the_next_unit() {
    // The last one is left open: `left_open.rs` has what comes of such a unit.
    let others = ["unplug", "hub-lost", "panic", "swapped", "comes-back-lost", "silence-in-program-always"];
    for fault in FAULTS.iter().filter(|fault| !others.contains(&fault.name)) {
        let records = run(fault.name, None).await;
        assert_eq!(records.len(), 1, "{}: {records:#?}", fault.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_taken_away_in_any_phase_is_run_again_or_finished() {
    for step in STEPS {
        for (fault, code) in [("unplug", FailureCode::Unplugged), ("hub-lost", FailureCode::HubLost)] {
            let records = run(fault, Some(step)).await;
            assert_interrupted(&format!("{fault} at {step}"), step, code, &records);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_any_phase_ends_one_run() {
    for step in STEPS {
        let records = run("panic", Some(step)).await;
        assert_interrupted(&format!("panic at {step}"), step, FailureCode::Internal, &records);
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_swapped_in_any_phase_is_never_taken_for_its_guest() {
    for step in STEPS {
        let line = Line::new(station("stations/demo.yaml", |text| one_slot(&text, "swapped", Some(step))), 2).await;
        let (witness, diary) = witness(line.products.clone());
        let (end, entries) = line.work_before("ALONE", 2, witness).await.end_within(&line, LIMIT).await;
        assert_eq!(end, Some(End::Complete), "at {step}");
        assert_sound(&line, &entries);
        let diary = diary.lock().unwrap_or_else(PoisonError::into_inner);
        for seen in &diary.ends {
            match (seen.record.outcome, seen.unit) {
                (Outcome::Pass, Some(unit)) => seen.assert_proven(&diary.before[&unit]),
                (Outcome::Held, Some(unit)) => seen.assert_untouched(&diary.before[&unit]),
                (Outcome::Aborted, _) => {}
                _ => panic!("at {step}: {seen:#?}"),
            }
            if let (Some(chip), Some(identity)) = (seen.record.chip, &seen.identity)
                && seen.record.outcome != Outcome::Aborted
            {
                assert_eq!(chip, identity.chip, "at {step}: the record is of another unit than the one in the slot");
            }
        }
        let of_owner: Vec<&RunRecord> =
            diary.ends.iter().filter(|seen| seen.unit == Some(1)).map(|seen| &seen.record).collect();
        let last = of_owner.last().unwrap_or_else(|| panic!("at {step}: the owner came back"));
        assert_eq!(last.outcome, Outcome::Pass, "at {step}: {last:#?}");
        assert_eq!(last.flags.resumed, step >= Phase::Flash, "at {step}: {last:#?}");
    }
}
