//! What a module is told because it is not well: nothing of it before what it has is saved, and nothing of it is forgotten.

use stationmaster::domain::{Belonging, Condition, Cure, Diagnosis, Evidence, Fact, Outcome};
use stationmaster::host::MemoryDisk;
use stationmaster::ledger::{Ledger, LedgerError};

use crate::facts;

fn cure(number: u8, cure: Cure) -> Fact {
    Fact::Cure { run: facts::run(number), cure }
}

fn diagnosed(number: u8, condition: Condition) -> Fact {
    let evidence = Evidence { cfun: Some(5), imei: Belonging::Missing, ..Evidence::default() };
    Fact::Diagnosed { run: facts::run(number), diagnosis: Diagnosis { boot: 0, condition, evidence } }
}

async fn claimed(ledger: &Ledger, number: u8, unit: u8) {
    ledger.append(facts::started(number)).await.expect("durable");
    ledger.append(facts::admitted(number)).await.expect("durable");
    ledger.claim(facts::request(number, unit, unit)).await.expect("claimed");
}

fn is_refused<T>(answer: &Result<T, LedgerError>) -> bool {
    matches!(answer, Err(LedgerError::Refused { .. }))
}

#[tokio::test]
async fn what_a_module_has_is_saved_before_it_is_told_anything() {
    let ledger = facts::open(&MemoryDisk::new()).await.expect("opened");
    ledger.append(facts::started(1)).await.expect("durable");
    assert!(is_refused(&ledger.append(cure(1, Cure::LeaveMode)).await), "it is not claimed");
    ledger.append(facts::admitted(1)).await.expect("durable");
    ledger.claim(facts::request(1, 1, 1)).await.expect("claimed");
    for what in [Cure::LeaveMode, Cure::OwnCopy] {
        assert!(is_refused(&ledger.append(cure(1, what)).await), "{what:?}: nothing is saved");
    }
    // One that has no file system any more has nothing that could be saved: only its own copy can help it.
    ledger.append(diagnosed(1, Condition::EfsLost)).await.expect("durable");
    assert!(is_refused(&ledger.append(cure(1, Cure::LeaveMode)).await));
    ledger.append(cure(1, Cure::OwnCopy)).await.expect("it said that it has lost all");
    claimed(&ledger, 2, 2).await;
    ledger.append(diagnosed(2, Condition::ModeStuck)).await.expect("durable");
    assert!(is_refused(&ledger.append(cure(2, Cure::OwnCopy)).await));
    ledger.append(facts::backup_stored(2)).await.expect("durable");
    ledger.append(cure(2, Cure::LeaveMode)).await.expect("it is saved");
    ledger.close().await;
}

#[tokio::test]
async fn a_run_that_told_its_unit_something_is_interrupted_and_holds_it() {
    let disk = MemoryDisk::new();
    let ledger = facts::open(&disk).await.expect("opened");
    claimed(&ledger, 1, 1).await;
    assert!(is_refused(&ledger.append(facts::interrupted(1)).await), "nothing was changed");
    ledger.append(diagnosed(1, Condition::ModeStuck)).await.expect("durable");
    ledger.append(facts::backup_stored(1)).await.expect("durable");
    ledger.append(cure(1, Cure::LeaveMode)).await.expect("durable");
    for outcome in [Outcome::Held, Outcome::Aborted] {
        assert!(is_refused(&ledger.append(facts::finished(1, outcome)).await), "{outcome}: it may be changed");
    }
    ledger.append(facts::interrupted(1)).await.expect("durable");
    ledger.close().await;

    // It is still so for a later controller.
    let ledger = facts::open(&disk).await.expect("opened");
    let [open] = ledger.unfinished_runs().await.expect("answered").try_into().expect("one run");
    assert_eq!((open.is_cured(), open.cures.as_slice()), (true, [Cure::LeaveMode].as_slice()));
    assert_eq!((open.chip(), open.imei), (Some(facts::chip(1)), Some(facts::imei(1))));
    assert_eq!(open.findings.on_arrival.map(|found| found.condition), Some(Condition::ModeStuck));
    assert!(open.interruption.is_some());
    ledger.append(facts::started(2)).await.expect("durable");
    let answer = ledger.claim(facts::request(2, 1, 1)).await.expect("answered");
    assert!(matches!(answer, stationmaster::ledger::ClaimAnswer::Refused { holder, .. } if holder == facts::run(1)));
    ledger.close().await;
}

#[tokio::test]
async fn what_a_chip_was_told_counts_until_it_passes() {
    let ledger = facts::open(&MemoryDisk::new()).await.expect("opened");
    for (number, outcome) in [(1, Outcome::Error), (2, Outcome::Fail), (3, Outcome::Pass)] {
        claimed(&ledger, number, 1).await;
        ledger.append(diagnosed(number, Condition::EfsLost)).await.expect("durable");
        assert_eq!(ledger.was_cured(facts::chip(1)).await.expect("answered"), number > 1, "{outcome}");
        ledger.append(cure(number, Cure::OwnCopy)).await.expect("durable");
        let Fact::RunFinished(mut record) = facts::finished(number, outcome) else { unreachable!("it is one") };
        (record.chip, record.before) = (Some(facts::chip(1)), Some(facts::identity(1)));
        ledger.append(Fact::RunFinished(record)).await.expect("durable");
        // Whatever came of it, the budget of the unit knows it.
        let repairs = ledger.repairs(facts::chip(1), facts::run(9)).await.expect("answered");
        assert_eq!(repairs, u32::from(number), "{outcome}");
    }
    assert!(!ledger.was_cured(facts::chip(1)).await.expect("answered"), "it has passed");
    ledger.close().await;
}
