//! Who owns a unit, and which facts are refused.

use std::sync::Arc;

use stationmaster::domain::{Belonging, Condition, Cure, Diagnosis, Evidence, Fact, FailureCode, Outcome, RunState};
use stationmaster::host::{Clock, MemoryDisk, OsDisk};
use stationmaster::ledger::{ClaimAnswer, IndexPlace, Ledger, LedgerError, WriterMode};

use crate::facts::{self, open, request, run};

fn refused(holder: u8, code: FailureCode) -> ClaimAnswer {
    ClaimAnswer::Refused { holder: run(holder), code }
}

async fn start(ledger: &Ledger, numbers: &[u8]) {
    for number in numbers {
        ledger.append(facts::started(*number)).await.expect("durable");
    }
}

#[tokio::test]
async fn of_two_equal_imeis_exactly_one_is_first() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mode = WriterMode::Thread;
    let path = directory.path().join("state");
    let ledger = Ledger::open(Arc::new(OsDisk::new()), Clock::real(), path, mode, IndexPlace::File).await;
    let ledger = ledger.expect("opened");
    let numbers: Vec<u8> = (1..=16).collect();
    start(&ledger, &numbers).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in numbers {
        let ledger = ledger.clone();
        tasks.spawn(async move { (number, ledger.claim(request(number, number, 1)).await.expect("answered")) });
    }
    let (granted, others): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(|(_, answer)| *answer == ClaimAnswer::Granted { attempt: 1 });
    assert_eq!((granted.len(), others.len()), (1, 15));
    let holder = granted[0].0;
    assert!(others.iter().all(|(_, answer)| *answer == refused(holder, FailureCode::ImeiDuplicate)));
    assert!(ledger.is_contested(run(holder)).await.expect("answered").is_some());
    assert_eq!(ledger.is_contested(run(others[0].0)).await.expect("answered"), None);
    ledger.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_binding_of_imei_and_chip_outlives_its_run() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    start(&ledger, &[1, 2, 3, 4]).await;
    let granted = |attempt| ClaimAnswer::Granted { attempt };
    assert_eq!(ledger.claim(request(1, 1, 1)).await.expect("answered"), granted(1));
    assert_eq!(ledger.claim(request(1, 1, 1)).await.expect("answered"), granted(1), "asked again");
    let head = *ledger.head().borrow();
    assert_eq!(head, 5, "which writes nothing");
    assert_eq!(ledger.claim(request(2, 1, 1)).await.expect("answered"), refused(1, FailureCode::UnitSwapped));
    ledger.append(facts::finished(1, Outcome::Held)).await.expect("durable");
    ledger.close().await;

    let ledger = open(&disk).await.expect("opened");
    assert_eq!(ledger.claim(request(2, 1, 1)).await.expect("answered"), granted(2));
    assert_eq!(ledger.claim(request(3, 3, 1)).await.expect("answered"), refused(2, FailureCode::ImeiDuplicate));
    assert_eq!(ledger.claim(request(4, 1, 4)).await.expect("answered"), refused(2, FailureCode::UnitSwapped));
    assert_eq!(ledger.is_contested(run(2)).await.expect("answered"), Some(run(3)));
    assert_eq!(ledger.imei_holder(facts::imei(1)).await.expect("answered"), Some((facts::chip(1), run(2))));
    assert_eq!(ledger.attempts(facts::chip(1)).await.expect("answered"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_process_died_keeps_its_unit_only_if_it_changed_it() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    start(&ledger, &[1]).await;
    ledger.claim(request(1, 1, 1)).await.expect("answered");
    facts::up_to_intent(&ledger, 2).await.expect("durable");
    let open_now = ledger.open_run_by_chip(facts::chip(2)).await.expect("answered").expect("open");
    assert_eq!((open_now.state, open_now.interruption), (RunState::Running, None));
    ledger.close().await;

    let ledger = open(&disk).await.expect("opened");
    let unfinished = ledger.unfinished_runs().await.expect("answered");
    assert_eq!(
        unfinished.iter().map(|found| (found.run, found.state)).collect::<Vec<_>>(),
        [(run(1), RunState::Interrupted)]
    );
    start(&ledger, &[3, 4]).await;
    assert_eq!(ledger.claim(request(3, 1, 1)).await.expect("answered"), ClaimAnswer::Granted { attempt: 2 });
    assert_eq!(ledger.claim(request(4, 2, 2)).await.expect("answered"), refused(2, FailureCode::UnitSwapped));
    let found = ledger.open_run_by_imei(facts::imei(2)).await.expect("answered").expect("open");
    assert_eq!((found.run, found.state), (run(2), RunState::Interrupted));
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_is_resumed_with_its_first_backup() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    facts::up_to_intent(&ledger, 1).await.expect("durable");
    ledger.append(Fact::Staged { run: run(1), bytes: 7, bytes_read_back: 7, bad_blocks: 0 }).await.expect("durable");
    ledger.append(facts::interrupted(1)).await.expect("durable");
    let found = ledger.open_runs().await.expect("answered").pop().expect("open");
    assert_eq!((found.state, found.staged), (RunState::Interrupted, Some(7)));
    assert_eq!(found.interruption.expect("known").code, FailureCode::Unplugged);

    ledger.append(facts::resumed(1)).await.expect("durable");
    let later = Fact::BackupStored { run: run(1), backup: facts::backup(1, 1) };
    ledger.append(later).await.expect("a later read may be stored");
    let error = ledger.append(facts::intent(1, 1)).await.expect_err("and is never the valid one");
    assert!(matches!(error, LedgerError::Refused { .. }), "{error}");
    ledger.append(facts::intent(1, 0)).await.expect("durable");
    let found = ledger.open_runs().await.expect("answered").pop().expect("open");
    assert_eq!((found.state, found.staged, found.resumed), (RunState::Running, None, true));
    assert_eq!((found.slot.as_str(), found.chains.len(), found.batch.as_str()), ("A2", 2, "B-1"));
    assert_eq!((found.backup, found.identity_before), (facts::backup(1, 0), facts::identity(1)));
    ledger.append(facts::finished(1, Outcome::Pass)).await.expect("durable");
    assert!(ledger.open_runs().await.expect("answered").is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_the_backup_of_a_runs_own_intent_is_restored() {
    let restore = |number: u8, generation: u8| Fact::RestoreIntent {
        run: run(1),
        chip: facts::chip(number),
        backup: facts::backup(number, generation).id,
        ranges: facts::backup(number, generation).parts.iter().map(|part| part.range).collect(),
        round_trip: false,
    };
    let restored = |number| Fact::Restored { run: run(1), backup: facts::backup(number, 0).id, bytes: 7 };
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    start(&ledger, &[1]).await;
    let refused = async |fact: Fact| {
        let error = ledger.append(fact.clone()).await.expect_err("refused");
        assert!(matches!(error, LedgerError::Refused { .. }), "{fact:?}: {error}");
    };
    refused(Fact::Cure { run: run(1), cure: Cure::OwnCopy }).await;
    refused(chosen(1, 1, false)).await;
    ledger.append(facts::admitted(1)).await.expect("durable");
    ledger.claim(request(1, 1, 1)).await.expect("answered");
    // A donor's.
    refused(chosen(1, 2, false)).await;
    refused(restore(1, 0)).await;
    ledger.append(chosen(1, 1, false)).await.expect("durable");
    refused(restore(1, 0)).await;
    ledger.append(facts::intent(1, 0)).await.expect("durable");
    for fact in [restore(2, 0), restore(1, 1)] {
        refused(fact).await;
    }
    let Fact::RestoreIntent { run: of, chip, backup, ranges, .. } = restore(1, 0) else { unreachable!() };
    let tried = Fact::RestoreIntent { run: of, chip, backup, ranges, round_trip: true };
    ledger.append(tried).await.expect("durable");
    assert!(ledger.open_runs().await.expect("answered").pop().expect("open").restoring);
    assert_eq!(ledger.repairs(facts::chip(1), run(2)).await.expect("answered"), 0, "a well unit was not repaired");
    ledger.append(restore(1, 0)).await.expect("durable");
    ledger.append(restored(1)).await.expect("durable");
    assert!(ledger.open_runs().await.expect("answered").pop().expect("open").restoring);
}

fn chosen(number: u8, backup: u8, by_hand: bool) -> Fact {
    Fact::BackupChosen { run: run(number), backup: facts::backup(backup, 0), by_hand }
}

#[tokio::test(start_paused = true)]
async fn only_what_came_broken_to_the_line_and_was_brought_to_an_end_counts_as_reworked() {
    let diagnosed = |number, boot| {
        let evidence = Evidence {
            cfun: Some(5),
            imei: Belonging::Missing,
            calibration: Belonging::Missing,
            bands: Belonging::Unknown,
            signal: None,
            mode_order: None,
        };
        Fact::Diagnosed { run: run(number), diagnosis: Diagnosis { boot, condition: Condition::EfsLost, evidence } }
    };
    // Whether it came broken, whether a person has it restored, how its run ended, and whether that counts.
    let cases = [
        (Some(0), false, None, 1),
        (Some(0), false, Some(Outcome::Pass), 1),
        (Some(0), false, Some(Outcome::Fail), 1),
        (Some(0), false, Some(Outcome::Error), 0),
        (Some(0), true, Some(Outcome::Pass), 0),
        (Some(1), false, Some(Outcome::Pass), 0),
        (None, false, Some(Outcome::Pass), 0),
    ];
    for case @ (boot, by_hand, outcome, expected) in cases {
        let disk = MemoryDisk::new();
        let ledger = open(&disk).await.expect("opened");
        start(&ledger, &[1]).await;
        if let Some(boot) = boot {
            ledger.append(diagnosed(1, boot)).await.expect("durable");
        }
        ledger.append(facts::admitted(1)).await.expect("durable");
        ledger.claim(request(1, 1, 1)).await.expect("answered");
        ledger.append(chosen(1, 1, by_hand)).await.expect("durable");
        ledger.append(facts::intent(1, 0)).await.expect("durable");
        let backup = facts::backup(1, 0);
        let ranges = backup.parts.iter().map(|part| part.range).collect();
        let restore =
            Fact::RestoreIntent { run: run(1), chip: facts::chip(1), backup: backup.id, ranges, round_trip: false };
        ledger.append(restore).await.expect("durable");
        if let Some(outcome) = outcome {
            ledger.append(facts::finished(1, outcome)).await.expect("durable");
        }
        for (chip, but, expected) in [(1, 2, expected), (1, 1, 0), (2, 2, 0)] {
            let found = ledger.repairs(facts::chip(chip), run(but)).await.expect("answered");
            assert_eq!(found, expected, "{case:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_unit_was_when_its_backup_was_taken_is_known_after_its_run() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    facts::up_to_intent(&ledger, 1).await.expect("durable");
    ledger.append(facts::finished(1, Outcome::Pass)).await.expect("durable");
    ledger.close().await;
    let ledger = open(&disk).await.expect("opened again");
    let id = facts::backup(1, 0).id;
    assert_eq!(ledger.origin_of(id).await.expect("answered"), Some(facts::identity(1)));
    assert_eq!(ledger.origin_of(facts::backup(2, 0).id).await.expect("answered"), None);
    assert_eq!(ledger.backups_of(facts::chip(1)).await.expect("answered"), [id].into());
    assert!(ledger.backups_of(facts::chip(2)).await.expect("answered").is_empty());
    // One that was taken elsewhere is known too, but not what its module said.
    let imported = Fact::BackupImported { backup: facts::backup(3, 0), given_by: "line4".into() };
    ledger.append(imported).await.expect("durable");
    let id = facts::backup(3, 0).id;
    assert_eq!(ledger.backups_of(facts::chip(3)).await.expect("answered"), [id].into());
    assert_eq!(ledger.origin_of(id).await.expect("answered"), None);
    assert_eq!(ledger.imei_of(facts::chip(1)).await.expect("answered"), Some(facts::imei(1)));
    assert_eq!(ledger.imei_of(facts::chip(2)).await.expect("answered"), None);
}

#[tokio::test(start_paused = true)]
async fn facts_that_break_the_gate_are_refused_and_nothing_is_written() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    facts::up_to_intent(&ledger, 1).await.expect("durable");
    ledger.append(facts::finished(1, Outcome::Pass)).await.expect("durable");
    ledger.append(facts::station_started(true)).await.expect("durable");
    start(&ledger, &[2]).await;
    ledger.append(facts::admitted(2)).await.expect("durable");
    ledger.claim(request(2, 2, 2)).await.expect("answered");
    let head = *ledger.head().borrow();
    let foreign = Fact::BackupStored { run: run(2), backup: facts::backup(1, 0) };
    let claimed = Fact::Claimed {
        run: run(2),
        chip: facts::chip(2),
        key_hash: facts::key_hash(),
        imei: facts::imei(2),
        attempt: 1,
    };
    for fact in [
        facts::intent(2, 0),
        facts::interrupted(2),
        foreign,
        claimed,
        facts::finished(1, Outcome::Fail),
        facts::resumed(1),
        facts::station_started(false),
    ] {
        let error = ledger.append(fact.clone()).await.expect_err("refused");
        assert!(matches!(error, LedgerError::Refused { .. }), "{fact:?}: {error}");
    }
    assert!(matches!(ledger.claim(request(9, 9, 9)).await, Err(LedgerError::Refused { .. })), "never started");
    assert_eq!(*ledger.head().borrow(), head);
    let amendment = Fact::Quarantined { run: run(1), code: FailureCode::ImeiDuplicate, other: None };
    ledger.append(amendment).await.expect("an amendment may follow the end");
    ledger.append(facts::backup_stored(2)).await.expect("durable");
    ledger.append(facts::intent(2, 0)).await.expect("now it may");
    assert_eq!(ledger.simulated().await.expect("answered"), Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_batch_counts_units_that_were_judged() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    let batch: stationmaster::domain::BatchId = "B-1".parse().expect("a name");
    for (number, outcome) in [(1, Outcome::Pass), (2, Outcome::Aborted), (3, Outcome::Fail)] {
        start(&ledger, &[number]).await;
        ledger.append(facts::finished(number, outcome)).await.expect("durable");
    }
    let counts = ledger.batch_counts(batch.clone()).await.expect("answered");
    assert_eq!((counts.units, counts.runs.values().sum::<u32>()), (2, 3));
    assert_eq!(ledger.finished_in_batch(batch).await.expect("answered"), 2);
    assert_eq!(ledger.finished_at(run(1)).await.expect("answered"), Some(2));
    assert_eq!(ledger.finished_at(run(9)).await.expect("answered"), None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_counts_a_unit_once_and_no_guest() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    let batch: stationmaster::domain::BatchId = "B-1".parse().expect("a name");
    let ended = |number: u8, chip: Option<u8>, imei: u8, outcome: Outcome, code: Option<FailureCode>| {
        let Fact::RunFinished(mut record) = facts::finished(number, outcome) else { panic!("a record") };
        record.code = code;
        record.chip = chip.map(facts::chip);
        record.before = Some(facts::identity(imei));
        Fact::RunFinished(record)
    };
    for (fact, units) in [
        // Refused before its chip was read, then run again: one unit.
        (ended(1, None, 1, Outcome::Held, Some(FailureCode::RevisionNotAllowed)), 1),
        (ended(2, Some(1), 1, Outcome::Fail, Some(FailureCode::BandMissing)), 1),
        (ended(3, Some(1), 1, Outcome::Pass, None), 1),
        // A guest is not the batch's unit until it is run itself.
        (ended(4, Some(2), 2, Outcome::Held, Some(FailureCode::UnitSwapped)), 1),
        (ended(5, Some(2), 2, Outcome::Pass, None), 2),
    ] {
        ledger.append(fact).await.expect("durable");
        assert_eq!(ledger.finished_in_batch(batch.clone()).await.expect("answered"), units);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fact_that_is_too_long_harms_nothing_else() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    start(&ledger, &[1]).await;
    let mut fact = facts::started(2);
    if let Fact::RunStarted { identity: Some(identity), .. } = &mut fact {
        identity.imei_text = "x".repeat(300_000);
    }
    let error = ledger.append(fact).await.expect_err("too long");
    assert!(matches!(error, LedgerError::TooLong { .. }), "{error}");
    ledger.append(facts::started(2)).await.expect("durable");
}
