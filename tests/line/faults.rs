//! `stations/faults.yaml`: everything goes wrong, and what comes of it stands in `tests/data/faults.tsv`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use stationmaster::controller::End;
use stationmaster::domain::{BatchId, Fact, FailureCode, Flags, Outcome, RunRecord};
use stationmaster::ledger::Entry;
use stationmaster::metrics::{Metrics, MetricsLabels, ProfileLabels};
use stationmaster::report::{Recorded, Summary, rebuild};
use stationmaster::sim::FAULTS;

use crate::harness::{Line, assert_sound_but, records, station};
use crate::table::{Found, Who, compare, compare_left_open, compare_metrics, found_in_csv, left_open, table, units};
use crate::truth::{Diary, Seen, assert_backed_up_first, witness};

const STATION: &str = "stations/faults.yaml";
const BATCH: &str = "FAULTS";
/// Station time within which the whole line is through: no fault holds anything up for longer. The ten minutes for which
/// the line waits for the unit that is left open are part of it.
const LIMIT: Duration = Duration::from_secs(30 * 60);

#[tokio::test(start_paused = true)]
async fn everything_that_goes_wrong_ends_as_the_table_says() {
    let line = Line::new(station(STATION, |text| text), units()).await;
    let who = Who::of_seed(line.station.simulation.as_ref().expect("simulated").seed);
    let (witness, diary) = witness(line.products.clone());
    let work = line.work_before(BATCH, units(), witness).await;
    let (end, entries) = work.end_within(&line, LIMIT).await;

    let found: Vec<Found> = records(&entries, BATCH).iter().map(|record| Found::of_record(record, &who)).collect();
    compare("the ledger", &found);
    assert_eq!(end, Some(End::GaveUp), "one unit is left open");
    assert_sound_but(&line, &entries, left_open().len());
    assert_one_hub_event(&entries);
    compare_reports(&line, &entries, &who);

    let diary = diary.lock().unwrap_or_else(PoisonError::into_inner);
    compare_with_truth(&diary, &found);
    assert_backed_up_first(&line.clock, &diary, &entries);
}

/// The hub of unit 13 was away once, and that is one event and one interrupted run.
fn assert_one_hub_event(entries: &[Entry]) {
    let lost: Vec<_> = entries.iter().filter(|entry| matches!(entry.fact, Fact::HubLost { .. })).collect();
    let [Entry { fact: Fact::HubLost { slots, .. }, .. }] = lost[..] else { panic!("one hub was lost: {lost:#?}") };
    assert_eq!(slots.iter().map(ToString::to_string).collect::<Vec<_>>(), ["D1"]);
    assert_eq!(entries.iter().filter(|entry| matches!(entry.fact, Fact::HubReturned { .. })).count(), 1);
    let hurt = |entry: &&Entry| matches!(entry.fact, Fact::RunInterrupted { code: FailureCode::HubLost, .. });
    assert_eq!(entries.iter().filter(hurt).count(), 1);
}

/// What people and programs read says the same as the ledger.
fn compare_reports(line: &Line, entries: &[Entry], who: &Who) {
    let batch: BatchId = BATCH.parse().expect("a batch name");
    let csv = rebuild(&batch, entries.iter().map(Recorded::from)).expect("a report");
    compare("the CSV report", &found_in_csv(&csv, who));

    let mut summary = Summary::new(batch);
    entries.iter().for_each(|entry| summary.follow(&Recorded::from(entry)));
    assert!(!summary.is_all_well());
    let json = summary.to_json();
    let runs = json["runs"].as_array().expect("a list");
    compare("the summary", &runs.iter().map(|run| Found::of_json(run, who)).collect::<Vec<_>>());
    compare_left_open(&json, who);
    for outcome in Outcome::ALL {
        let expected = table().iter().filter(|row| row.end.outcome == outcome).count();
        assert_eq!(json["counts"][outcome.as_str()], expected, "{outcome}");
    }

    let metrics = Metrics::new(&labels(line)).expect("a registry");
    entries.iter().for_each(|entry| metrics.apply(&entry.fact));
    compare_metrics(&metrics.render());
}

fn labels(line: &Line) -> MetricsLabels {
    MetricsLabels {
        station: line.station.name.clone(),
        version: "1".to_owned(),
        simulated: true,
        time_scale: line.clock.scale(),
        profiles: line
            .products
            .iter()
            .map(|product| ProfileLabels {
                name: product.profile.name.clone(),
                sha256: product.profile.digest.to_string(),
                firmware: product.profile.checks.revision.to_string(),
                firmware_sha256: product.package.digest().to_string(),
            })
            .collect(),
        slots: line
            .station
            .slots
            .iter()
            .map(|slot| (slot.usb2.hub().expect("it is behind a hub").to_string(), slot.name.clone()))
            .collect(),
    }
}

/// Every verdict is true of the module it was given to.
fn compare_with_truth(diary: &Diary, found: &[Found]) {
    assert_eq!(diary.ends.len(), found.len());
    let faults: BTreeMap<u32, &str> = table().iter().map(|row| (row.unit, row.fault)).collect();
    for (seen, found) in diary.ends.iter().zip(found) {
        let Some(unit) = seen.unit.filter(|_| seen.record.outcome != Outcome::Aborted) else {
            assert_eq!(seen.record.outcome, Outcome::Aborted, "{:#?}", seen.record);
            continue;
        };
        assert_eq!(found.unit, Some(unit), "the record is of the unit in the slot");
        let before = &diary.before[&unit];
        match seen.record.outcome {
            // What it was told is stored.
            Outcome::Pass if faults[&unit] == "mode-stuck" => {}
            Outcome::Pass => seen.assert_proven(before),
            Outcome::Held => seen.assert_untouched(before),
            // The panic before anything was changed.
            Outcome::Error if seen.record.code == Some(FailureCode::Internal) => seen.assert_untouched(before),
            _ => {}
        }
        assert_eq!(seen.programmers(), programmers(faults[&unit], seen), "starts of a programmer in unit {unit}");
    }
    let bad = diary.ends.iter().find(|seen| seen.unit.is_some_and(|unit| faults[&unit] == "bad-block"));
    assert!(bad.is_some_and(|seen| seen.record.bad_blocks > 0), "the bad block was not counted");
}

/// How often a programmer must have been started in a unit: once for each time that it is flashed.
fn programmers(fault: &str, seen: &Seen) -> usize {
    match (fault, seen.record.outcome) {
        // One fresh start, and never a second one.
        ("silence-in-program", _) => 2,
        // It was sent, and did not start.
        ("programmer-rejected" | "programmer-silent", _) => 0,
        // Pulled out with the programmer running, in backup, flash or verify.
        ("unplug", Outcome::Pass) => 1 + usize::from(matches!(seen.unit, Some(38 | 39 | 41))),
        ("hub-lost" | "swapped" | "panic", Outcome::Pass) => 2,
        // Flashed again, with its EFS; or started for the backup, before it was told to leave its mode.
        ("cfun-5-after" | "cfun-5-always" | "imei-changed" | "calibration-lost" | "efs-wiped", _) => 2,
        ("efs-lost-at-power-cut" | "mode-stuck", _) => 2,
        // Its backup was tried, also where the package takes the band again.
        ("band-missing-config" | "band-missing-policy", _) => 2,
        ("comes-back-lost", _) => 1 + usize::from(seen.record.flags.repaired),
        ("imei-of-another-slot" | "imei-zero" | "wrong-model" | "edl-refused" | "silent-edl", _) => 0,
        ("efs-lost" | "calibration-missing", _) => 0,
        ("swapped", _) => 0,
        _ => 1,
    }
}

/// What must be equal of a unit's run on two lines.
fn essence(record: &RunRecord) -> impl PartialEq + std::fmt::Debug + use<> {
    let RunRecord { outcome, code, phase, flags, attempt, boots_verified, bytes_written, bad_blocks, .. } = *record;
    let said = (record.before.clone(), record.after.clone(), record.measurements.clone());
    ((outcome, code, phase, flags, attempt), (boots_verified, bytes_written, bad_blocks), said)
}

#[tokio::test(start_paused = true)]
async fn units_without_a_fault_do_not_feel_those_of_others() {
    let faults = table().into_iter().filter(|row| row.fault != "-").map(|row| row.unit);
    let faults: BTreeSet<u32> = faults.chain(left_open().into_iter().map(|(unit, ..)| unit)).collect();
    // Unit 5 has the IMEI that unit 8 has too.
    let clean: BTreeSet<u32> = (1..=units()).filter(|unit| !faults.contains(unit) && *unit != 5).collect();
    let mut lines = Vec::new();
    for with_faults in [true, false] {
        let change = |text: String| match text.split_once("  faults:\n") {
            Some((line, _)) if !with_faults => line.to_owned(),
            _ => text,
        };
        let line = Line::new(station(STATION, change), units()).await;
        let who = Who::of_seed(line.station.simulation.as_ref().expect("simulated").seed);
        let (end, entries) = line.work(BATCH, units()).await.end_within(&line, LIMIT).await;
        assert_eq!(end, Some(if with_faults { End::GaveUp } else { End::Complete }));
        let records = records(&entries, BATCH);
        if !with_faults {
            assert!(records.iter().all(|record| record.outcome == Outcome::Pass));
        }
        let of_unit = |record: RunRecord| Some((Found::of_record(&record, &who).unit?, record));
        let records: BTreeMap<u32, RunRecord> = records.into_iter().filter_map(of_unit).collect();
        lines.push(records);
    }
    assert!(clean.len() >= 8, "{clean:?}");
    for unit in clean {
        let [with, without] = [&lines[0][&unit], &lines[1][&unit]];
        assert_eq!(with.flags, Flags { simulated: true, ..Flags::default() });
        assert_eq!(essence(with), essence(without), "unit {unit}");
    }
}

#[test]
fn the_station_has_every_fault_and_the_table_every_unit() {
    let station = station(STATION, |text| text);
    let planned: BTreeSet<(u32, String, String)> = station
        .simulation
        .as_ref()
        .expect("simulated")
        .faults
        .iter()
        .map(|fault| (fault.unit, fault.fault.clone(), fault.step.map_or("-".to_owned(), |step| step.to_string())))
        .collect();
    let lines = include_str!("../data/faults.tsv").lines().skip(1);
    let columns: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
    let expected: BTreeSet<(u32, String, String)> = columns
        .iter()
        .map(|column| (column[0].parse().expect("a unit"), column[1].to_owned(), column[2].to_owned()))
        .filter(|(unit, fault, _)| fault != "-" && *unit <= units())
        .collect();
    assert_eq!(planned, expected);
    let in_table = table().into_iter().map(|row| row.unit).chain(left_open().into_iter().map(|(unit, ..)| unit));
    let units_in_table: BTreeSet<u32> = in_table.filter(|unit| *unit <= units()).collect();
    assert_eq!(units_in_table, (1..=units()).collect());
    for fault in FAULTS {
        assert!(planned.iter().any(|(_, name, _)| name == fault.name), "nobody has the fault {}", fault.name);
    }
    let steps: Vec<&str> =
        planned.iter().filter(|(_, name, _)| name == "unplug").map(|(.., step)| step.as_str()).collect();
    assert_eq!(steps, ["identify", "enter-edl", "probe", "load", "backup", "flash", "reset", "verify"]);
}
