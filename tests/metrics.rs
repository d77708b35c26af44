//! What Prometheus is given: accepted by its own checker, complete from the start, and without identities.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use stationmaster::domain::{
    ChipId, Fact, FailureCode, Flags, Identity, KeyHash, Outcome, Phase, PhaseTime, RunId, RunRecord, Sha256Digest,
    SlotName, SlotState, SlotStatus,
};
use stationmaster::metrics::{Metrics, MetricsLabels, ProfileLabels};

const HUB_A: &str = "pci-0000:00:14.0/usb2/1";
const HUB_B: &str = "pci-0000:00:14.0/usb2/2";
const IMEI: &str = "490154203237518";

fn slot(name: &str) -> SlotName {
    name.parse().expect("a slot name")
}

fn metrics() -> Metrics {
    Metrics::new(&MetricsLabels {
        station: "demo".parse().expect("a station name"),
        version: "0.1.0".to_owned(),
        simulated: true,
        time_scale: 20,
        profiles: vec![ProfileLabels {
            name: "eg25".to_owned(),
            sha256: Sha256Digest::of(b"profile").to_string(),
            firmware: "EG25GGBR07A08M2G*".to_owned(),
            firmware_sha256: Sha256Digest::of(b"package").to_string(),
        }],
        slots: vec![(HUB_A.to_owned(), slot("A1")), (HUB_A.to_owned(), slot("A2")), (HUB_B.to_owned(), slot("B1"))],
    })
    .expect("the table of metrics is valid")
}

fn run(number: u8) -> RunId {
    RunId::new(1_700_000_000_000, &[number; 10])
}

fn record(number: u8, at: &str, outcome: Outcome, code: Option<FailureCode>) -> RunRecord {
    let identity = Identity {
        model: "EG25-G".to_owned(),
        imei: IMEI.parse().ok(),
        imei_text: IMEI.to_owned(),
        ..Identity::default()
    };
    RunRecord {
        run: run(number),
        batch: "SECRET-BATCH".parse().expect("a batch name"),
        station: "demo".parse().expect("a station name"),
        slot: slot(at),
        chain_normal: None,
        chain_edl: None,
        profile: "eg25".to_owned(),
        profile_digest: None,
        package_digest: None,
        chip: Some(ChipId { hw_id: 0x000f_50e1_0000_0000, serial: 0x49cb_d7ef }),
        key_hash: None,
        before: Some(identity.clone()),
        after: Some(identity),
        measurements: Vec::new(),
        outcome,
        code,
        detail: "+CFUN: 5".to_owned(),
        phase: Phase::Verify,
        flags: Flags { simulated: true, ..Flags::default() },
        attempt: 1,
        boots_verified: 0,
        boots_required: 2,
        phases: vec![
            PhaseTime { phase: Phase::Permit, milliseconds: 2500 },
            PhaseTime { phase: Phase::Flash, milliseconds: 61_000 },
        ],
        waits: Vec::new(),
        bytes_written: 1000,
        bytes_per_second: 0,
        bad_blocks: 0,
        backup: None,
        guard: None,
        diagnosis: None,
        time_scale: 20,
        started: "2026-11-23T03:55:12Z".parse().expect("a timestamp"),
        ended: "2026-11-23T03:55:13Z".parse().expect("a timestamp"),
    }
}

fn finished(number: u8, at: &str, outcome: Outcome, code: Option<FailureCode>) -> Fact {
    Fact::RunFinished(Box::new(record(number, at, outcome, code)))
}

fn opened() -> Fact {
    let batch = "SECRET-BATCH".parse().expect("a batch name");
    Fact::BatchOpened { batch, units: None, profiles: BTreeMap::new() }
}

fn started(number: u8, at: &str) -> Fact {
    Fact::RunStarted {
        run: run(number),
        batch: "SECRET-BATCH".parse().expect("a batch name"),
        slot: slot(at),
        chain: "pci-0000:00:14.0/usb2/1.4".parse().expect("a chain"),
        identity: None,
    }
}

fn claimed(number: u8) -> Fact {
    Fact::Claimed {
        run: run(number),
        chip: ChipId { hw_id: 1, serial: 2 },
        key_hash: KeyHash::new(&[0; 32]).expect("32 bytes"),
        imei: IMEI.parse().expect("an IMEI"),
        attempt: 1,
    }
}

fn value(text: &str, series: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no series {series}")).to_owned()
}

/// A shift with some of everything.
fn busy() -> Metrics {
    let metrics = metrics();
    for fact in [
        opened(),
        started(1, "A1"),
        claimed(1),
        Fact::Flashed { run: run(1), bytes: 1000 },
        Fact::Verified { run: run(1), boot: 1, identity: Identity::default(), measurements: Vec::new() },
        Fact::Verified { run: run(1), boot: 2, identity: Identity::default(), measurements: Vec::new() },
        finished(1, "A1", Outcome::Pass, None),
        finished(2, "A1", Outcome::Fail, Some(FailureCode::CfunFtm)),
        finished(3, "A1", Outcome::Error, Some(FailureCode::EdlSilent)),
        started(4, "B1"),
        Fact::RunInterrupted {
            run: run(4),
            phase: Phase::Flash,
            code: FailureCode::Unplugged,
            detail: "hostile \"text\"\n".to_owned(),
        },
        Fact::HubLost { hub: HUB_B.parse().expect("a chain"), slots: vec![slot("B1")] },
        Fact::HubReturned { hub: "pci-0000:99:14.0/usb2/7".parse().expect("a chain") },
    ] {
        metrics.apply(&fact);
    }
    metrics.ledger_up(true);
    metrics.disk_free_bytes(u64::MAX);
    metrics
}

/// Runs `promtool check metrics`; its complaints, or `None` where there is no promtool.
fn promtool(text: &str) -> Option<String> {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var("CI").is_err(), "promtool cannot be run: {error}");
            let _closed =
                writeln!(std::io::stderr(), "NOT CHECKED: promtool cannot be run ({error}); scripts/test fetches it");
            return None;
        }
    };
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let words = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some(if output.status.success() { words } else { format!("{}: {words}", output.status) })
}

#[test]
fn promtool_has_no_complaint() {
    for metrics in [metrics(), busy()] {
        let text = metrics.render();
        assert!(text.ends_with('\n'));
        if let Some(complaints) = promtool(&text) {
            assert_eq!(complaints, "");
        }
    }
}

#[test]
fn every_series_is_there_before_anything_happens() {
    let (before, after) = (metrics().render(), busy().render());
    let series = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series.to_owned())).collect()
    };
    assert_eq!(series(&before), series(&after));
    assert_eq!(value(&before, "stationmaster_failures_total{code=\"CFUN_FTM\",phase=\"verify\"}"), "0");
    assert_eq!(value(&before, "stationmaster_slots{state=\"hub-lost\"}"), "0");
    assert!(series(&before).len() < 1500, "{} series", series(&before).len());
}

#[test]
fn facts_move_the_counters() {
    let text = busy().render();
    for (series, expected) in [
        ("units_total{attempt=\"first\",outcome=\"PASS\",profile=\"eg25\"}", "1"),
        ("units_total{attempt=\"retest\",outcome=\"PASS\",profile=\"eg25\"}", "0"),
        ("failures_total{code=\"EDL_SILENT\",phase=\"verify\"}", "1"),
        ("interruptions_total{code=\"UNPLUGGED\"}", "1"),
        ("slot_units_total{hub=\"pci-0000:00:14.0/usb2/1\",outcome=\"FAIL\",slot=\"A1\"}", "1"),
        ("slot_consecutive_failures{hub=\"pci-0000:00:14.0/usb2/1\",slot=\"A1\"}", "2"),
        ("usb_written_bytes_total{hub=\"pci-0000:00:14.0/usb2/1\"}", "3000"),
        // Into download mode, and the resets before the two checks.
        ("usb_disconnects_total{expected=\"true\",hub=\"pci-0000:00:14.0/usb2/1\"}", "3"),
        ("usb_disconnects_total{expected=\"false\",hub=\"pci-0000:00:14.0/usb2/2\"}", "1"),
        ("hub_events_total{event=\"lost\",hub=\"pci-0000:00:14.0/usb2/2\"}", "1"),
        ("hub_events_total{event=\"returned\",hub=\"other\"}", "1"),
        ("phase_duration_seconds_sum{phase=\"flash\"}", "183"),
        ("hub_permit_wait_seconds_bucket{hub=\"pci-0000:00:14.0/usb2/1\",le=\"5\"}", "3"),
        ("batch_units{result=\"PASS\"}", "1"),
        ("batch_units{result=\"interrupted\"}", "1"),
        ("ledger_up", "1"),
        ("time_scale_ratio", "20"),
        ("station_info{firmware=\"EG25GGBR07A08M2G*\"", ""),
    ] {
        if expected.is_empty() {
            assert!(text.contains(&format!("stationmaster_{series}")), "{series}");
        } else {
            assert_eq!(value(&text, &format!("stationmaster_{series}")), expected, "{series}");
        }
    }
    assert!(text.contains("simulated=\"true\""));
}

#[test]
fn no_identity_and_no_text_of_a_device_is_in_the_output() {
    let text = busy().render();
    for secret in [IMEI, "49cbd7ef", "SECRET-BATCH", "hostile", "CFUN: 5", &run(1).to_string()] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn a_profile_that_is_unknown_makes_no_new_series() {
    let metrics = metrics();
    for name in ["", "gone", "also\ngone"] {
        let profile = name.to_owned();
        let record = RunRecord { profile, ..record(1, "Z9", Outcome::Held, Some(FailureCode::ModelNotAllowed)) };
        metrics.apply(&Fact::RunFinished(Box::new(record)));
    }
    let text = metrics.render();
    let units = |profile: &str| {
        value(&text, &format!("stationmaster_units_total{{attempt=\"first\",outcome=\"HELD\",profile=\"{profile}\"}}"))
    };
    assert_eq!((units("none"), units("other")), ("1".to_owned(), "2".to_owned()));
    assert!(!text.contains("gone") && !text.contains("Z9"));
}

#[test]
fn what_earlier_processes_did_is_remembered_but_not_counted() {
    let metrics = metrics();
    metrics.remember(&opened());
    metrics.remember(&finished(1, "A1", Outcome::Pass, None));
    metrics.apply(&opened());
    metrics.apply(&finished(2, "A1", Outcome::Pass, None));
    let text = metrics.render();
    assert_eq!(value(&text, "stationmaster_batch_units{result=\"PASS\"}"), "2");
    let units = "stationmaster_units_total{attempt=\"first\",outcome=\"PASS\",profile=\"eg25\"}";
    assert_eq!(value(&text, units), "1");
}

#[test]
fn slots_set_the_gauges_and_leave_nothing_behind() {
    let metrics = metrics();
    let status = |name: &str, state, phase| SlotStatus { state, phase, ..SlotStatus::empty(slot(name)) };
    metrics.slots(&[
        status("A1", SlotState::Running, Some(Phase::Permit)),
        status("A2", SlotState::Running, Some(Phase::Flash)),
        status("B1", SlotState::Empty, None),
    ]);
    let text = metrics.render();
    assert_eq!(value(&text, "stationmaster_slots{state=\"running\"}"), "2");
    let permits = |text: &str, usage: &str| {
        value(text, &format!("stationmaster_hub_flash_permits{{hub=\"{HUB_A}\",use=\"{usage}\"}}"))
    };
    assert_eq!((permits(&text, "held"), permits(&text, "waiting")), ("1".to_owned(), "1".to_owned()));
    metrics.slots(&[status("A1", SlotState::Done, Some(Phase::Record))]);
    let text = metrics.render();
    assert_eq!(value(&text, "stationmaster_slots{state=\"running\"}"), "0");
    assert_eq!((permits(&text, "held"), permits(&text, "waiting")), ("0".to_owned(), "0".to_owned()));
}
