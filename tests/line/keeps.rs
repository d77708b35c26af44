//! What a station keeps of a unit is never taken for less than it is, nor for more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stationmaster::controller::Task;
use stationmaster::domain::{Condition, Fact, FailureCode, Outcome};
use stationmaster::host::Disk;
use stationmaster::sim::nand::PageState;
use stationmaster::sim::{BusAction, UnitTruth};
use stationmaster::vault::Vault;

use crate::harness::{Line, Witness, assert_sound, records, station_with, two_slots};
use crate::meddler::{Act, meddle};
use crate::repair::{KINDS, UNIT, bench, end, items, out_and_in, put_in, run, run_for, was_touched};

const REWORK: &str = "rework: {}\n";
const REPAIRED: (Outcome, Option<FailureCode>, bool, bool) = (Outcome::Pass, None, true, false);

/// A flag, and who raises it when that fact is durable.
fn once(wanted: fn(&Fact) -> bool) -> (Arc<AtomicBool>, Witness) {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    let witness: Witness = Box::new(move |_, _, entry| {
        if wanted(&entry.fact) {
            raised.store(true, Ordering::Relaxed);
        }
    });
    (flag, witness)
}

/// The files of the unit's backups with their bytes.
fn files(line: &Line, unit: &UnitTruth) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new("state/vault").join(unit.identity().chip.to_string());
    let read = |entry: stationmaster::host::Entry| {
        let path = directory.join(entry.name);
        let bytes = line.disk.read(&path, 1 << 30).expect("a file");
        (path, bytes)
    };
    line.disk.list(&directory).expect("it has backups").into_iter().map(read).collect()
}

fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    disk.replace(path, bytes, true).expect("on a disk in memory");
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_cannot_be_opened_is_not_no_backup() {
    let key = Path::new("state/vault.key");
    for is_key in [false, true] {
        let line = bench(REWORK, "").await;
        let unit = put_in(&line, UNIT, KINDS[0], "A1");
        run(&line, "FIRST").await;
        let before = items(&unit);
        let (whole, own_key) = (files(&line, &unit), line.disk.read(key, 1 << 20).expect("a key"));
        if is_key {
            let other = Vault::new(Arc::clone(&line.disk), PathBuf::from("other/vault"));
            line.disk.create_dir_all(Path::new("other")).expect("in memory");
            other.prepare().expect("a key");
            replace(&*line.disk, key, &line.disk.read(Path::new("other/vault.key"), 1 << 20).expect("a key"));
        } else {
            for (path, bytes) in &whole {
                let mut bytes = bytes.clone();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                replace(&*line.disk, path, &bytes);
            }
        }
        out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
        for (batch, task) in [("LINE", Task::Line), ("BY-HAND", Task::Restore { backup: None })] {
            let record = run_for(&line, batch, task, Box::new(|_, _, _| {})).await;
            let expected = (Outcome::Held, Some(FailureCode::BackupMissing), false, false);
            assert_eq!(end(&record), expected, "{record:#?}");
            let file = whole[0].0.to_string_lossy();
            for said in ["vault.copy", "--identity", &*file, if is_key { "another key" } else { "altered" }] {
                assert!(record.detail.contains(said) || said == "altered", "{said}: {}", record.detail);
            }
            assert!(!was_touched(&unit), "nothing was done to it");
            out_and_in(&line, &unit, "A1", |_| {});
        }
        assert!(!line.entries().iter().any(|entry| matches!(entry.fact, Fact::Cure { .. })));
        // What is put back is found again.
        replace(&*line.disk, key, &own_key);
        whole.iter().for_each(|(path, bytes)| replace(&*line.disk, path, bytes));
        let record = run(&line, "AGAIN").await;
        assert_eq!(end(&record), REPAIRED, "{record:#?}");
        assert!(items(&unit) == before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_lies_in_the_second_place_alone_is_the_units_own() {
    let change = |text: String| format!("{}vault:\n  copy: second\n", two_slots(text));
    let profile = |text: String| if text.contains("\nrework:") { text } else { format!("{text}\n{REWORK}") };
    let line = Line::new(station_with("stations/demo.yaml", change, profile), 0).await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    run(&line, "FIRST").await;
    let before = items(&unit);
    for (path, _) in files(&line, &unit) {
        line.disk.remove(&path).expect("a file");
    }
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let record = run(&line, "SECOND").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert!(items(&unit) == before);
    assert!(!line.entries().iter().any(|entry| matches!(entry.fact, Fact::Cure { .. })));
}

#[tokio::test(start_paused = true)]
async fn what_was_read_of_a_unit_that_the_line_admits_is_a_good_backup() {
    for said in [&["+CFUN: 4", "OK"], &["+CFUN: 0", "OK"]] {
        let mut line = bench("", "").await;
        let (begun, witness) = once(|fact| matches!(fact, Fact::Intent { .. }));
        meddle(&mut line, move |command| match command {
            "AT+CFUN?" if !begun.load(Ordering::Relaxed) => Act::Say(said),
            _ => Act::Pass,
        });
        let unit = put_in(&line, UNIT, KINDS[0], "A1");
        let record = run_for(&line, "FIRST", Task::Line, witness).await;
        assert_eq!(record.outcome, Outcome::Pass, "{record:#?}");
        assert!(record.diagnosis.is_some(), "it is still noted how it came");
        let before = items(&unit);
        line.bus = None;
        out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
        let record = run_for(&line, "BY-HAND", Task::Restore { backup: None }, Box::new(|_, _, _| {})).await;
        assert_eq!(end(&record), REPAIRED, "{record:#?}");
        assert!(items(&unit) == before);
    }
}

/// What the supply failed in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Erase,
    Program,
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_was_cut_off_is_done_again_over_pages_that_cannot_be_read() {
    for (of, cut) in [(KINDS[0], Cut::Program), (KINDS[1], Cut::Program), (KINDS[1], Cut::Erase)] {
        let line = bench(REWORK, "").await;
        let unit = put_in(&line, UNIT, of, "A1");
        run(&line, "FIRST").await;
        let before = items(&unit);
        out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
        let efs = unit.flash(|_, map| map.range("EFS2")).expect("it has one");
        let is_reached = |unit: &UnitTruth| {
            unit.events().iter().any(|event| match (event.action, cut) {
                (BusAction::Program(range), Cut::Program) | (BusAction::Erase(range), Cut::Erase) => {
                    efs.overlaps(range)
                }
                _ => false,
            })
        };
        let work = line.work("CUT", 1).await;
        for _ in 0..1_000_000 {
            if is_reached(&unit) {
                break;
            }
            line.clock.sleep(Duration::from_millis(1)).await;
        }
        assert!(is_reached(&unit), "{cut:?}: it is restored");
        // In the middle of the command: its answer has not come.
        line.clock.sleep(Duration::from_millis(40)).await;
        let slot = "A1".parse().expect("a slot's name");
        line.factory.unplug(&slot).expect("a slot");
        line.clock.sleep(Duration::from_secs(10)).await;
        let spoiled = unit.flash(|nand, map| {
            (efs.start..efs.end()).filter(|page| map.state(nand, *page) == PageState::Spoiled).count()
        });
        assert!(spoiled > 0, "{cut:?}: what was in work is lost");
        line.factory.plug(UNIT, &slot).expect("it is free");
        let (_, entries) = work.end_within(&line, Duration::from_secs(1800)).await;
        assert_sound(&line, &entries);
        let runs = records(&entries, "CUT");
        let [record] = &runs[..] else { panic!("one run: {runs:#?}") };
        assert_eq!(end(record), REPAIRED, "{cut:?}: {record:#?}");
        assert!(record.flags.resumed && items(&unit) == before, "{cut:?}: {record:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_imei_that_is_an_error_is_a_lost_one() {
    for cfun in [&["+CFUN: 7", "OK"], &["+CFUN: 1", "OK"]] {
        // After our own flash its EFS is restored.
        let mut line = bench("", "").await;
        let (flashed, witness) = once(|fact| matches!(fact, Fact::Flashed { .. }));
        let restored = Arc::new(AtomicBool::new(false));
        let cured = Arc::clone(&restored);
        let is_ill = move || flashed.load(Ordering::Relaxed) && !cured.load(Ordering::Relaxed);
        let mut witness = witness;
        let watch: Witness = Box::new(move |factory, listing, entry| {
            if matches!(entry.fact, Fact::RestoreIntent { .. }) {
                restored.store(true, Ordering::Relaxed);
            }
            witness(factory, listing, entry);
        });
        meddle(&mut line, move |command| match command {
            "AT+CFUN?" if is_ill() => Act::Say(cfun),
            "AT+CGSN" if is_ill() => Act::Say(&["+CME ERROR: memory failure"]),
            _ => Act::Pass,
        });
        put_in(&line, UNIT, KINDS[0], "A1");
        let record = run_for(&line, "AFTER", Task::Line, watch).await;
        assert_eq!(end(&record), REPAIRED, "{record:#?}");

        // On arrival it is a diagnosis.
        let mut line = bench("", "").await;
        meddle(&mut line, move |command| match command {
            "AT+CFUN?" => Act::Say(cfun),
            "AT+CGSN" => Act::Say(&["+CME ERROR: memory failure"]),
            _ => Act::Pass,
        });
        put_in(&line, UNIT, KINDS[0], "A1");
        let record = run(&line, "ARRIVED").await;
        assert_eq!(record.outcome, Outcome::Held, "{record:#?}");
        let condition = record.diagnosis.map(|diagnosis| diagnosis.condition);
        assert_eq!(condition, Some(Condition::EfsLost), "{:?} {}", record.code, record.detail);
    }
}

#[tokio::test(start_paused = true)]
async fn a_band_that_was_lost_in_our_hands_comes_back_once_and_the_packages_policy_stays() {
    for (name, expected, restores) in [
        ("band-missing-config", REPAIRED, 1),
        ("band-missing-policy", (Outcome::Fail, Some(FailureCode::BandMissing), false, false), 1),
    ] {
        let line = bench("", &format!("    - {{ fault: {name}, unit: 7 }}\n")).await;
        put_in(&line, UNIT, KINDS[0], "A1");
        let record = run(&line, "BANDS").await;
        assert_eq!(end(&record), expected, "{name}: {record:#?}");
        let announced = line.entries().iter().filter(|entry| matches!(entry.fact, Fact::RestoreIntent { .. })).count();
        assert_eq!(announced, restores, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn bad_blocks_that_are_not_told_are_said_to_be_unknown() {
    let faults = ["bad-blocks-untold", "cfun-5-after"].map(|name| format!("    - {{ fault: {name}, unit: 7 }}\n"));
    let line = bench("", &faults.concat()).await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let record = run(&line, "UNTOLD").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert!(record.detail.contains("neither names nor counts bad blocks"), "{}", record.detail);
    assert_eq!(unit.cfun(), 1);

    // Where it tells, nothing is said.
    let line = bench("", &faults[1]).await;
    put_in(&line, UNIT, KINDS[1], "A1");
    let record = run(&line, "TOLD").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert!(!record.detail.contains("bad blocks"), "{}", record.detail);
}
