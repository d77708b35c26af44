//! One answer that was late, lost or refused condemns no module: what is missing was asked for several times, and an order
//! counts as refused when it was refused several times. And what is done with a module that has lost its settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stationmaster::controller::Task;
use stationmaster::domain::{Belonging, Condition, Cure, Fact, FailureCode, ModeOrder, Outcome, Phase, RunRecord};
use stationmaster::sim::{BusEvent, UnitTruth};

use crate::harness::Line;
use crate::meddler::{Act, meddle};
use crate::repair::{KINDS, REPAIRED, UNIT, bench, end, out_and_in, own, put_in, run, run_for, was_touched};

const REWORK: &str = "rework: {}\n";
const STUCK: &str = "    - { fault: mode-stuck, unit: 7 }\n";

/// What becomes of a command that is meddled with.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// A busy module refuses it.
    Busy,
    /// It is not heard.
    Lost,
    /// Its answer is so many seconds late, and later than anybody waits.
    Late(u64),
}

impl Harm {
    fn act(self) -> Act {
        match self {
            Self::Busy => Act::Say(&["+CME ERROR: 14"]),
            Self::Lost => Act::Say(&[]),
            Self::Late(seconds) => Act::Late(Duration::from_secs(seconds)),
        }
    }
}

/// Harms the first `times` commands that begin so.
fn harm(line: &mut Line, begin: &'static str, times: u32, harm: Harm) -> Arc<AtomicU32> {
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    meddle(line, move |command| {
        if command.starts_with(begin) && count.fetch_add(1, Ordering::Relaxed) < times {
            return harm.act();
        }
        Act::Pass
    });
    seen
}

fn cures(line: &Line, record: &RunRecord) -> Vec<Cure> {
    let of_run = line.entries().into_iter().filter_map(|entry| match entry.fact {
        Fact::Cure { run, cure } if run == record.run => Some(cure),
        _ => None,
    });
    of_run.collect()
}

#[tokio::test(start_paused = true)]
async fn a_stuck_module_of_which_one_answer_is_missing_is_stuck_and_nothing_else() {
    for (begin, how, times) in [
        ("AT+QNVFR", Harm::Busy, 2),
        ("AT+QNVFR", Harm::Late(12), 1),
        ("AT+CGSN", Harm::Busy, 2),
        ("AT+CGSN", Harm::Lost, 1),
        ("AT+QNWPREFCFG", Harm::Busy, 1),
    ] {
        let mut line = bench(REWORK, STUCK).await;
        harm(&mut line, begin, times, how);
        let unit = put_in(&line, UNIT, KINDS[0], "A1");
        let record = run(&line, "STUCK").await;
        assert_eq!(end(&record), REPAIRED, "{begin}, {how:?}: {record:#?}");
        let said = record.diagnosis.as_ref().map(|diagnosis| (diagnosis.boot, diagnosis.condition));
        assert_eq!(said, Some((0, Condition::ModeStuck)), "{begin}, {how:?}");
        assert_eq!(cures(&line, &record), [Cure::LeaveMode], "{begin}, {how:?}");
        assert!(!was_touched(&unit), "{begin}, {how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_refused_or_lost_once_is_given_again() {
    for (how, asked) in [(Harm::Busy, 2), (Harm::Lost, 2), (Harm::Late(90), 1)] {
        let mut line = bench(REWORK, STUCK).await;
        let orders = harm(&mut line, "AT+CFUN=1", 1, how);
        put_in(&line, UNIT, KINDS[0], "A1");
        let record = run(&line, "ORDER").await;
        assert_eq!(end(&record), REPAIRED, "{how:?}: {record:#?}");
        let condition = record.diagnosis.as_ref().map(|diagnosis| diagnosis.condition);
        assert_eq!(condition, Some(Condition::ModeStuck), "{how:?}");
        // With its supply cut it is restarted without an order.
        assert_eq!(orders.load(Ordering::Relaxed), asked, "{how:?}");

        // The same with the order to put its own second copy back.
        let mut line = bench(REWORK, "").await;
        let unit = put_in(&line, UNIT, KINDS[0], "A1");
        let before = own(&unit);
        assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
        crate::repair::lose_backups(&line, &unit);
        out_and_in(&line, &unit, "A1", |unit| unit.lose_calibration().expect("its storage works"));
        let orders = harm(&mut line, "AT+QPRTPARA=3", 1, how);
        let record = run(&line, "COPY").await;
        assert_eq!(end(&record), REPAIRED, "{how:?}: {record:#?}");
        assert_eq!(own(&unit), before, "{how:?}");
        assert!((1..=2).contains(&orders.load(Ordering::Relaxed)), "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_always_refused_or_lost_is_the_hardwares() {
    for (how, asked) in [(Harm::Busy, 3), (Harm::Lost, 2)] {
        let mut line = bench(REWORK, STUCK).await;
        let orders = harm(&mut line, "AT+CFUN=1", u32::MAX, how);
        put_in(&line, UNIT, KINDS[0], "A1");
        let record = run(&line, "NEVER").await;
        let expected = (Outcome::Fail, Some(FailureCode::CfunFtm), false, true);
        assert_eq!(end(&record), expected, "{how:?}: {record:#?}");
        assert_eq!(orders.load(Ordering::Relaxed), asked, "{how:?}: within a bound");
        let told = line.entries().into_iter().filter_map(|entry| match entry.fact {
            Fact::Diagnosed { diagnosis, .. } => Some((diagnosis.condition, diagnosis.evidence.mode_order)),
            _ => None,
        });
        let expected = [(Condition::ModeStuck, None), (Condition::Hardware, Some(ModeOrder::Refused))];
        assert_eq!(told.take(2).collect::<Vec<_>>(), expected, "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bands_that_are_not_there_at_first_are_no_loss() {
    let mut line = bench("", "").await;
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    meddle(&mut line, move |command| match command {
        "AT+QNWPREFCFG=\"nr5g_band\"" if count.fetch_add(1, Ordering::Relaxed) < 2 => {
            Act::Say(&["+QNWPREFCFG: \"nr5g_band\",0", "OK"])
        }
        _ => Act::Pass,
    });
    put_in(&line, UNIT, KINDS[0], "A1");
    let record = run(&line, "SOON").await;
    assert_eq!((end(&record), record.diagnosis.is_none()), ((Outcome::Pass, None, false, false), true), "{record:#?}");
    assert!(seen.load(Ordering::Relaxed) > 2);
}

fn lose_bands(unit: &UnitTruth) {
    unit.lose_bands().expect("its storage works");
}

#[tokio::test(start_paused = true)]
async fn a_module_that_has_lost_its_bands_is_held_where_nothing_allows_to_repair_it() {
    for of in KINDS {
        let line = bench("", "").await;
        let unit = put_in(&line, UNIT, of, "A1");
        out_and_in(&line, &unit, "A1", lose_bands);
        for (batch, task) in [("HELD", Task::Line), ("SAVE", Task::Backup)] {
            let record = run_for(&line, batch, task, Box::new(|_, _, _| {})).await;
            let expected = (Outcome::Held, Some(FailureCode::BandMissing), false, false);
            assert_eq!((end(&record), record.phase), (expected, Phase::Admit), "{batch}: {record:#?}");
            assert!(record.detail.contains("no bands"), "{}", record.detail);
            let facts = line.entries();
            let of_run = facts.iter().filter(|entry| entry.fact.run() == Some(record.run));
            let mut diagnosed = None;
            for entry in of_run {
                match &entry.fact {
                    Fact::Diagnosed { diagnosis, .. } => diagnosed = Some(diagnosis.clone()),
                    Fact::BackupStored { .. } | Fact::Claimed { .. } => panic!("nothing is taken of it: {entry:?}"),
                    _ => {}
                }
            }
            assert_eq!(record.diagnosis, diagnosed);
            if task == Task::Line {
                let diagnosis = diagnosed.expect("it is told what is wrong");
                assert_eq!((diagnosis.boot, diagnosis.condition), (0, Condition::ConfigurationMismatch));
                let evidence = diagnosis.evidence;
                assert_eq!((evidence.cfun, evidence.bands), (Some(1), Belonging::Missing));
                assert_eq!((evidence.imei, evidence.calibration), (Belonging::Sound, Belonging::Sound));
                assert!(evidence.signal.is_some_and(|signal| signal.contains(',')));
            }
        }
        assert!(!unit.events().iter().any(BusEvent::is_destructive));
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_has_lost_its_bands_gets_them_from_its_own_backup_where_that_is_allowed() {
    let line = bench(REWORK, "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let before = own(&unit);
    assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
    out_and_in(&line, &unit, "A1", lose_bands);
    let record = run(&line, "BACK").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert_eq!(own(&unit), before);

    // Without one it is only flashed, and what is read of it before is nobody's cure.
    let line = bench(REWORK, "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    out_and_in(&line, &unit, "A1", lose_bands);
    let record = run(&line, "NONE").await;
    assert_eq!(end(&record), (Outcome::Fail, Some(FailureCode::BandMissing), false, false), "{record:#?}");
    assert_eq!(record.diagnosis.map(|diagnosis| diagnosis.condition), Some(Condition::ConfigurationMismatch));
    let stored = line.entries().into_iter().filter_map(|entry| match entry.fact {
        Fact::BackupStored { backup, .. } => Some(backup.suspect),
        _ => None,
    });
    let suspect: Vec<Option<String>> = stored.collect();
    assert!(matches!(&suspect[..], [Some(why)] if why.contains("no bands")), "{suspect:?}");
    assert!(!was_touched(&unit));
}
