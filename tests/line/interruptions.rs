//! The controller dies and comes back; the modules keep their power and stay as they were left.

use std::time::Duration;

use stationmaster::controller::End;
use stationmaster::domain::{Fact, FailureCode, Outcome, Phase, SlotState};

use crate::harness::{Line, assert_sound, records, station, two_slots};

/// Lets a new controller finish what a killed one left; every unit ends once, with PASS.
async fn succeed(line: &Line, killed: &str) {
    let (end, entries) = line.run("KILL", 2).await;
    assert_eq!(end, End::Complete, "killed {killed}: {entries:#?}");
    let runs = records(&entries, "KILL");
    assert_eq!(runs.len(), 2, "killed {killed}: {runs:#?}");
    for record in &runs {
        assert_eq!(record.outcome, Outcome::Pass, "killed {killed}: {record:#?}");
    }
    assert_ne!(runs[0].chip, runs[1].chip);
    assert_sound(line, &entries);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_dies_after_any_fact_is_succeeded_without_loss() {
    for nth in 1.. {
        let line = Line::new(station("stations/demo.yaml", two_slots), 2).await;
        let work = line.work("KILL", 2).await;
        let mut head = work.ledger.head();
        let reached = line.clock.timeout(Duration::from_secs(3600), head.wait_for(|seq| *seq >= nth)).await;
        let is_over = !matches!(reached, Ok(Ok(_)));
        work.kill().await;
        if is_over {
            assert!(nth > 20, "only {nth} facts were met");
            break;
        }
        succeed(&line, &format!("after fact {nth}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_starts_names_what_the_one_before_left_interrupted() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    let work = line.work("LEFT", 1).await;
    let mut slots = work.handle.slots();
    let writes = slots
        .wait_for(|slots| slots.iter().any(|slot| slot.phase == Some(Phase::Flash) && slot.bytes_done > 0))
        .await
        .expect("the board is there")
        .iter()
        .find(|slot| slot.phase == Some(Phase::Flash))
        .expect("it is written")
        .slot
        .clone();
    work.kill().await;
    let unit = line.factory.unplug(&writes).expect("a slot").expect("a unit");
    let work = line.work("LEFT", 1).await;
    let [open] = work.ledger.open_runs().await.expect("answered").try_into().expect("one run");
    let interruption = open.interruption.expect("it is said now");
    assert_eq!((interruption.code, interruption.phase), (FailureCode::ControllerDied, Phase::Flash));
    let limit = Duration::from_secs(600);
    let mut slots = work.handle.slots();
    let is_named = slots.wait_for(|slots| slots.iter().any(|slot| slot.state == SlotState::Interrupted));
    let board = line.clock.timeout(limit, is_named).await.expect("the slot is shown").expect("the board is there");
    assert_eq!(board.iter().find(|slot| slot.state == SlotState::Interrupted).map(|slot| &slot.slot), Some(&writes));
    drop(board);
    let other = line.station.slots.iter().map(|slot| slot.name.clone()).find(|name| *name != writes);
    line.factory.plug(unit, &other.expect("a second slot")).expect("a free slot");
    // Finished in the other slot, it is waited for no longer in its own.
    let is_done = slots.wait_for(|slots| slots.iter().all(|slot| slot.state != SlotState::Interrupted));
    line.clock.timeout(limit, is_done).await.expect("nothing is interrupted").expect("the board is there");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let [record] = records(&entries, "LEFT").try_into().expect("one run");
    assert!(record.outcome == Outcome::Pass && record.flags.resumed, "{record:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_dies_at_any_moment_is_succeeded_without_loss() {
    // A run takes about 80 s; the steps are no divisor of anything in it.
    for moment in (0..14).map(|step| Duration::from_millis(9_000 + step * 5_300)) {
        let line = Line::new(station("stations/demo.yaml", two_slots), 2).await;
        let work = line.work("KILL", 2).await;
        line.clock.sleep(moment).await;
        work.kill().await;
        succeed(&line, &format!("after {moment:?}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gentle_stop_gives_untouched_units_back_and_finishes_the_others() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 4).await;
    let work = line.work("STOP", 4).await;
    let mut head = work.ledger.head();
    // Stop when the first unit is announced to be changed; the other is a little behind or ahead.
    loop {
        let seq = *head.borrow_and_update();
        let last = work.ledger.read(seq, 1).await.expect("read").pop();
        if last.is_some_and(|entry| matches!(entry.fact, Fact::Intent { .. })) {
            break;
        }
        head.changed().await.expect("the ledger is open");
    }
    work.handle.stop_gently();
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Stopped);
    let runs = records(&entries, "STOP");
    assert!(runs.iter().any(|record| record.outcome == Outcome::Pass), "{runs:#?}");
    for record in &runs {
        let changed = record.bytes_written > 0;
        let expected = if changed { Outcome::Pass } else { Outcome::Aborted };
        assert_eq!(record.outcome, expected, "{record:#?}");
    }
    assert_sound(&line, &entries);
}

#[tokio::test(start_paused = true)]
async fn an_immediate_stop_leaves_units_resumable() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 2).await;
    let work = line.work("CUT", 2).await;
    let mut slots = work.handle.slots();
    slots
        .wait_for(|slots| slots.iter().any(|slot| slot.phase == Some(Phase::Flash) && slot.bytes_done > 0))
        .await
        .expect("the board is there");
    work.handle.stop_now();
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Stopped);
    assert!(entries.iter().any(|entry| matches!(entry.fact, Fact::RunInterrupted { .. })));
    let (end, entries) = line.run("CUT", 2).await;
    assert_eq!(end, End::Complete);
    let runs = records(&entries, "CUT");
    let passed: Vec<_> = runs.iter().filter(|record| record.outcome == Outcome::Pass).collect();
    assert_eq!(passed.len(), 2, "{runs:#?}");
    assert!(passed.iter().any(|record| record.flags.resumed));
    assert_sound(&line, &entries);
}
