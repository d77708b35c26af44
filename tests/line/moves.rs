//! Units that are taken out, put elsewhere, or come in a state nobody left them in.

use std::path::Path;
use std::time::Duration;

use stationmaster::cli::prepare;
use stationmaster::controller::End;
use stationmaster::domain::{Fact, FailureCode, Outcome, Phase, SlotName};
use stationmaster::host::MemoryDisk;

use crate::harness::{Line, Work, assert_sound, records, station, two_slots};

fn slot(name: &str) -> SlotName {
    name.parse().expect("a slot name")
}

/// Waits until a slot's run is in `phase`; with `moved`, until the phase has moved bytes.
async fn until(work: &Work, name: &str, phase: Phase, moved: bool) {
    let name = slot(name);
    work.handle
        .slots()
        .wait_for(|slots| {
            slots.iter().any(|slot| slot.slot == name && slot.phase == Some(phase) && (!moved || slot.bytes_done > 0))
        })
        .await
        .expect("the board is there");
}

/// One unit, taken out of A1 in `phase` and put into A2 after `away`; the record of its run.
async fn moved_in(phase: Phase, moved: bool, away: Duration) -> stationmaster::domain::RunRecord {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    let work = line.work("MOVE", 1).await;
    until(&work, "A1", phase, moved).await;
    let unit = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
    line.clock.sleep(away).await;
    line.factory.plug(unit, &slot("A2")).expect("a free slot");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete, "{entries:#?}");
    assert_sound(&line, &entries);
    let [record] = records(&entries, "MOVE").try_into().expect("one run");
    record
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_moved_while_it_is_written_is_finished_in_its_new_slot() {
    let record = moved_in(Phase::Flash, true, Duration::from_secs(20)).await;
    assert_eq!((record.outcome, record.code), (Outcome::Pass, None), "{record:#?}");
    assert_eq!(record.slot, slot("A2"));
    assert!(record.flags.resumed);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_moved_while_it_restarts_is_not_billed_for_it() {
    let record = moved_in(Phase::Reset, false, Duration::from_secs(4)).await;
    assert_eq!((record.outcome, record.code), (Outcome::Pass, None), "{record:#?}");
    assert_eq!(record.slot, slot("A2"));
    assert!(record.flags.resumed);
}

#[tokio::test(start_paused = true)]
async fn a_package_that_changes_underneath_stops_the_run_before_the_boot_loader() {
    let disk = MemoryDisk::new();
    let mut line = Line::on(std::sync::Arc::new(disk.clone()), station("stations/demo.yaml", two_slots), 1).await;
    let work = line.work("TAMPER", 1).await;
    until(&work, "A1", Phase::Flash, true).await;
    let image = Path::new("state/packages/eg25-g/update/NON-HLOS.ubi");
    disk.tamper(image, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })
    .expect("the image is there");
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::GaveUp, "no package, no verdict");
    assert_eq!(records(&entries, "TAMPER"), []);
    let is_of_package = |fact: &Fact| matches!(fact, Fact::RunInterrupted { code: FailureCode::PackageChanged, .. });
    assert!(entries.iter().any(|entry| is_of_package(&entry.fact)), "{entries:#?}");
    assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::Flashed { .. })));
    // With the package that was released, opened anew, it is finished.
    disk.tamper(image, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })
    .expect("the image is there");
    line.products = prepare::products(&line.disk, &line.station, &line.state).expect("good packages");
    let unit = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
    line.factory.plug(unit, &slot("A1")).expect("a free slot");
    let (end, entries) = line.run("TAMPER", 1).await;
    assert_eq!(end, End::Complete);
    let [record] = records(&entries, "TAMPER").try_into().expect("one run");
    assert_eq!((record.outcome, record.flags.resumed), (Outcome::Pass, true), "{record:#?}");
    assert_sound(&line, &entries);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_unit_in_download_mode_is_held_and_left_alone() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    // Its boot loader is gone before anybody looks at it.
    while line.factory.unit(1).is_none() {
        line.clock.sleep(Duration::from_millis(100)).await;
    }
    let unit = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
    let truth = line.factory.unit(unit).expect("the unit");
    truth.spoil_block(0).expect("block 0");
    line.factory.plug(unit, &slot("A1")).expect("a free slot");
    let (end, entries) = line.run("STRANGE", 1).await;
    assert_eq!(end, End::Complete);
    let [record] = records(&entries, "STRANGE").try_into().expect("one run");
    assert_eq!((record.outcome, record.code), (Outcome::Held, Some(FailureCode::EdlUnknownUnit)), "{record:#?}");
    assert!(record.chip.is_some());
    assert!(!truth.events().iter().any(|event| event.is_destructive()));
    assert_sound(&line, &entries);
}

#[tokio::test(start_paused = true)]
async fn a_package_that_changes_before_anything_is_erased_is_the_stations_fault() {
    let disk = MemoryDisk::new();
    let line = Line::on(std::sync::Arc::new(disk.clone()), station("stations/demo.yaml", two_slots), 1).await;
    let work = line.work("TAMPER", 1).await;
    until(&work, "A1", Phase::EnterEdl, false).await;
    let programmer = line.products[0].package.programmer().key.clone();
    let path = Path::new("state/packages/eg25-g").join(programmer);
    disk.tamper(&path, |bytes| bytes[100] ^= 1).expect("the programmer is there");
    let (_, entries) = work.end(&line).await;
    let [record] = records(&entries, "TAMPER").try_into().expect("one run");
    assert_eq!((record.outcome, record.code), (Outcome::Error, Some(FailureCode::PackageChanged)), "{record:#?}");
    assert!(!line.factory.unit(1).is_some_and(|unit| unit.events().iter().any(|event| event.is_destructive())));
    assert_sound(&line, &entries);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_was_taken_out_is_looked_at_afresh_however_often_it_was_pulled_before() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    let work = line.work("PULLS", 1).await;
    for pull in 1..=5 {
        let admitted = |fact: &Fact| matches!(fact, Fact::Admitted { .. });
        let deadline = line.clock.now() + Duration::from_secs(600);
        while line.entries().iter().filter(|entry| admitted(&entry.fact)).count() < pull {
            assert!(line.clock.now() < deadline, "pull {pull}: {:#?}", line.entries());
            line.clock.sleep(Duration::from_millis(50)).await;
        }
        let unit = line.factory.unplug(&slot("A1")).expect("a slot").expect("a unit");
        // The fourth time it is really taken out; else it is back at once.
        line.clock.sleep(Duration::from_millis(if pull == 4 { 60_000 } else { 300 })).await;
        line.factory.plug(unit, &slot("A1")).expect("a free slot");
    }
    let (end, entries) = work.end(&line).await;
    assert_eq!(end, End::Complete, "{entries:#?}");
    assert_sound(&line, &entries);
    let outcomes: Vec<Outcome> = records(&entries, "PULLS").iter().map(|record| record.outcome).collect();
    assert_eq!(outcomes, [[Outcome::Aborted; 5].as_slice(), &[Outcome::Pass]].concat());
}
