//! Records that were altered behind the station's back, and places that are not fit for them.

use std::sync::Arc;

use stationmaster::domain::{Fact, Sha256Digest};
use stationmaster::host::{Clock, OsDisk};
use stationmaster::ledger::{IndexPlace, Ledger, WriterMode};

use crate::place::{Place, alone};
use crate::transcript::Transcript;

const STATION: &str = "\
name: one
hardware: simulated
profiles: [../profiles/eg25-g.yaml]
slots:
  - { name: A1, usb2: sim-0/usb2/1.1 }
simulation:
  time_scale: 40
  units:
    - { model: EG25-G, revision: EG25GGBR07A07M2G_01.001.01.001 }
";

const RUN: &str = "run stations/one.yaml --batch LOT-7 --units 1 --listen off";
const REPORT: &str = "reports/LOT-7.csv";
const LEDGER: &str = "state/one/ledger/ledger-000001.jsonl";

fn station_that_worked() -> Place {
    let place = Place::new();
    place.write("stations/one.yaml", STATION);
    let ran = place.run(RUN);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    place
}

#[test]
fn an_edited_report_and_an_edited_ledger_are_found_and_stop_the_station() {
    let _alone = alone();
    let place = station_that_worked();
    let (report, ledger) = (place.read(REPORT), place.read(LEDGER));
    let mut transcript = Transcript::of(&place);
    transcript.run("verify");
    transcript.run("report csv LOT-8");
    transcript.run(RUN);

    transcript.note("the outcome in the report is changed by hand");
    place.write(REPORT, report.replace(",PASS,", ",FAIL,"));
    transcript.run("verify");
    transcript.run(RUN);

    transcript.note("the report's last row is gone");
    place.write(REPORT, report.lines().next().expect("a header").to_owned() + "\r\n");
    transcript.run("verify");
    assert_eq!(place.run("report csv LOT-7").out, report, "made anew byte for byte");
    let ran = place.run(RUN);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert_eq!(place.read(REPORT), report, "the next run completes it");

    transcript.note("an IMEI in the ledger is changed by hand");
    let later = place.read(LEDGER);
    let line = later.lines().nth(2).expect("a run has started").to_owned();
    place.write(LEDGER, later.replacen(&line, &line.replace("86481703", "86481704"), 1));
    transcript.run("verify");
    transcript.run("report csv LOT-7");
    transcript.run(RUN);
    place.write(LEDGER, later);

    transcript.note("the ledger's end is cut off");
    place.write(LEDGER, ledger.lines().take(4).map(|line| format!("{line}\n")).collect::<String>());
    transcript.run(RUN);
    transcript.assert("records");
}

#[test]
fn places_that_cannot_hold_records_are_refused_before_anything_is_touched() {
    let place = Place::new();
    place.write("stations/one.yaml", STATION);
    place.write("a-file", "not a directory");
    let before = place.everything();
    let mut transcript = Transcript::of(&place);
    for line in [
        format!("{RUN} --state a-file/state"),
        format!("{RUN} --reports a-file/reports"),
        "backup stations/one.yaml A1 --state a-file".to_owned(),
        "restore stations/one.yaml A1 --reports a-file".to_owned(),
        "at A1 ATI --station stations/one.yaml --state a-file".to_owned(),
        "at A1 ATI --station stations/one.yaml --state nowhere".to_owned(),
        "devices stations/one.yaml --state nowhere".to_owned(),
        "map stations/one.yaml --state a-file".to_owned(),
        "sim serve stations/one.yaml --pty ports --state a-file".to_owned(),
    ] {
        assert_eq!(transcript.run(&line).status, Some(2), "{line}");
    }
    assert_eq!(place.everything(), before);
    transcript.assert("places");
}

#[test]
fn simulated_hardware_does_not_write_into_the_records_of_real_hardware() {
    let place = Place::new();
    place.write("stations/one.yaml", STATION);
    let fact = Fact::StationStarted {
        station: "one".parse().expect("a station name"),
        version: "0.1.0".to_owned(),
        simulated: false,
        time_scale: 1,
        config: Sha256Digest::of(b""),
    };
    let directory = place.path("state/one/ledger");
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
        let disk = Arc::new(OsDisk::new());
        let ledger = Ledger::open(disk, Clock::real(), directory, WriterMode::Inline, IndexPlace::Memory);
        let ledger = ledger.await.expect("a ledger");
        ledger.append(fact).await.expect("durable");
        ledger.close().await;
    });
    let ledger = place.read(LEDGER);
    let mut transcript = Transcript::of(&place);
    assert_eq!(transcript.run(RUN).status, Some(2));
    transcript.assert("real-records");
    assert_eq!(place.read(LEDGER), ledger, "nothing was added");
}

#[test]
fn a_station_is_run_from_any_directory() {
    let _alone = alone();
    let place = Place::new();
    place.write("stations/one.yaml", STATION);
    place.write("elsewhere/note", "");
    let station = place.path("stations/one.yaml");
    let mut command = place.command(&format!("run {} --batch LOT-7 --units 1 --listen off", station.display()));
    let ran = crate::place::ended(command.current_dir(place.path("elsewhere")).spawn().expect("the binary starts"));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert!(place.read(REPORT).contains(",PASS,"));
    let elsewhere = std::fs::read_dir(place.path("elsewhere")).expect("a directory").count();
    assert_eq!(elsewhere, 1, "paths in a station file are as seen from that file");
}
