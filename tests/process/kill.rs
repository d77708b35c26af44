//! Processes that are killed, and what they leave: nothing lost, nothing doubled, every module recoverable.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::place::{Place, Ran, Report, alone, copy, ended};

/// More lines than a batch of two units ever writes.
const LINES_MAX: u64 = 200;
/// Places in which stations are killed at the same time.
const WORKERS: usize = 3;

const STATION: &str = "\
name: small
hardware: simulated
profiles: [../profiles/eg25-g.yaml, ../profiles/rm520n-gl.yaml]
slots:
  - { name: A1, usb2: sim-0/usb2/1.1, usb3: sim-0/usb3/1.1 }
  - { name: A2, usb2: sim-0/usb2/1.2, usb3: sim-0/usb3/1.2 }
simulation:
  time_scale: 40
  seed: 5
  flash: files
  units:
    - { model: EG25-G, revision: EG25GGBR07A07M2G_01.001.01.001, slots: [A1] }
    - { model: RM520N-GL, revision: RM520NGLAAR03A02M4G_01.200.01.200, slots: [A2] }
";

const RUN: &str = "run stations/small.yaml --batch KILL --units 2 --listen off";

/// A place with a station of two slots, and its packages, which are the same for all.
fn small_station() -> Place {
    static PACKAGES: Mutex<Option<Place>> = Mutex::new(None);
    let place = Place::new();
    place.write("stations/small.yaml", STATION);
    for profile in ["profiles/eg25-g.yaml", "profiles/rm520n-gl.yaml"] {
        place.change(profile, |text| text.replace("megabytes: 3", "megabytes: 1"));
    }
    let mut shared = PACKAGES.lock().expect("nobody panics with it");
    match &*shared {
        Some(first) => copy(&first.path("state/small/packages"), &place.path("state/small/packages")),
        None => {
            // A run that dies with its first line has made its packages.
            assert_eq!(place.run(&format!("{RUN} --crash-after 1")).status, None);
            let first = Place::new();
            copy(&place.path("state/small/packages"), &first.path("state/small/packages"));
            std::fs::remove_dir_all(place.path("state/small/ledger")).expect("there");
            *shared = Some(first);
        }
    }
    drop(shared);
    place
}

/// The batch is as if nothing had happened: two units, two rows, both PASS, and the records agree.
fn assert_complete(place: &Place, what: &str, last: &Ran) {
    assert_eq!(last.status, Some(0), "{what}: {}\n{}", last.out, last.err);
    let report = Report::of(&place.read("reports/KILL.csv"));
    assert_eq!(report.column("outcome"), ["PASS", "PASS"], "{what}\n{}", last.out);
    let imeis: BTreeSet<&str> = report.column("imei_after").into_iter().collect();
    assert_eq!(imeis.len(), 2, "{what}: one unit twice");
    let runs: BTreeSet<&str> = report.column("run").into_iter().collect();
    assert_eq!(runs.len(), 2, "{what}: one run twice");
    let ledger = place.read("state/small/ledger/ledger-000001.jsonl");
    let count = |kind: &str| ledger.matches(&format!("\"fact\":{{\"{kind}\"")).count();
    assert_eq!((count("run_started"), count("run_finished")), (2, 2), "{what}: runs beside those of the report");
    let verified = place.run("verify --station stations/small.yaml");
    assert_eq!(verified.status, Some(0), "{what}: {}{}", verified.out, verified.err);
    assert!(verified.out.contains("2 runs, 2 finished, 0 to be resumed"), "{what}: {}", verified.out);
}

#[test]
fn killed_after_any_line_of_the_ledger_the_batch_ends_as_if_nothing_had_happened() {
    let _alone = alone();
    let next = AtomicU64::new(1);
    let whole = AtomicU64::new(LINES_MAX);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let lines = next.fetch_add(1, Ordering::Relaxed);
                    if lines > whole.load(Ordering::Relaxed) {
                        return;
                    }
                    let place = small_station();
                    let ran = place.run(&format!("{RUN} --crash-after {lines}"));
                    if ran.status.is_some() {
                        // It wrote fewer lines than that.
                        assert_complete(&place, "not killed", &ran);
                        whole.fetch_min(lines, Ordering::Relaxed);
                        return;
                    }
                    let written = place.read("state/small/ledger/ledger-000001.jsonl").lines().count();
                    assert_eq!(u64::try_from(written), Ok(lines), "the process ended with that line");
                    let ran = place.run(RUN);
                    assert_complete(&place, &format!("killed after line {lines}"), &ran);
                }
            });
        }
    });
    let whole = whole.into_inner();
    assert!((16..LINES_MAX).contains(&whole), "{whole}");
    let _closed = writeln!(std::io::stderr(), "killed after each of {} lines", whole - 1);
}

#[test]
fn a_station_whose_disk_is_full_ends_with_status_3_and_goes_on_once_there_is_room() {
    let _alone = alone();
    // With the fifth line nothing is changed yet; with the fourteenth something is.
    for lines in [5, 14] {
        let place = small_station();
        let ran = place.run(&format!("{RUN} --full-after {lines}"));
        assert_eq!(ran.status, Some(3), "{lines}: {}\n{}", ran.out, ran.err);
        assert!(ran.err.contains("error: the disk failed, and nothing new was begun"), "{lines}: {}", ran.err);
        let ledger = place.read("state/small/ledger/ledger-000001.jsonl");
        assert!(ledger.lines().count() > lines, "{lines}: what was under way is recorded in the reserve's room");
        assert!(ledger.contains("\"station_stopped\""), "{lines}: {ledger}");
        let was_interrupted = ledger.contains("\"run_interrupted\"");
        let ran = place.run(RUN);
        assert_eq!(ran.status, Some(0), "{lines}: {}\n{}", ran.out, ran.err);
        assert_eq!(ran.err.contains("interrupted: "), was_interrupted, "{lines}: {}", ran.err);
        let report = Report::of(&place.read("reports/KILL.csv"));
        let passed = report.column("outcome").into_iter().filter(|outcome| *outcome == "PASS").count();
        assert_eq!(passed, 2, "{lines}: {}", ran.out);
    }
}

#[test]
fn killed_at_any_moment_again_and_again_the_batch_still_ends_well() {
    let _alone = alone();
    let seed = std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        now.subsec_nanos().into()
    });
    let _closed = writeln!(std::io::stderr(), "KILL_SEED={seed}");
    let mut moments: u64 = seed;
    for round in 0..3 {
        let place = small_station();
        for _ in 0..3 {
            // Numbers that look random (Knuth's constants); a run takes a few seconds.
            moments = moments.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut child = place.command(RUN).spawn().expect("the binary starts");
            std::thread::sleep(Duration::from_millis((moments >> 33) % 4000));
            child.kill().expect("it can be killed");
            ended(child);
        }
        let ran = place.run(RUN);
        assert_complete(&place, &format!("KILL_SEED={seed}, round {round}"), &ran);
    }
}

/// Sends a signal to a process that this test started.
fn signal(child: &std::process::Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("it can be sent");
}

/// Waits until the ledger holds a fact of that kind.
fn until_recorded(place: &Place, kind: &str) {
    let wanted = format!("\"fact\":{{\"{kind}\"");
    let ledger = place.path("state/small/ledger/ledger-000001.jsonl");
    for _ in 0..600 {
        if std::fs::read_to_string(&ledger).is_ok_and(|text| text.contains(&wanted)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no {kind} within half a minute");
}

#[test]
fn a_station_that_is_told_to_end_finishes_what_it_writes_and_takes_nothing_new() {
    let _alone = alone();
    let place = small_station();
    let child = place.command("run stations/small.yaml --batch KILL --listen off").spawn().expect("the binary starts");
    until_recorded(&place, "intent");
    signal(&child, rustix::process::Signal::TERM);
    let ran = ended(child);
    assert!(ran.err.contains("stopping: no further unit is taken"), "{}", ran.err);
    let report = Report::of(&place.read("reports/KILL.csv"));
    assert!(report.column("outcome").contains(&"PASS"), "what was being written was finished: {}", ran.err);
    let ledger = place.read("state/small/ledger/ledger-000001.jsonl");
    assert!(ledger.lines().last().expect("lines").contains("station_stopped"));
    let verified = place.run("verify --station stations/small.yaml --json");
    let document: serde_json::Value = serde_json::from_str(&verified.out).expect("one JSON document");
    assert_eq!(verified.status, Some(0), "{document:#}");
}

#[test]
fn told_twice_it_stops_at_once_and_the_units_are_resumed() {
    let _alone = alone();
    let place = small_station();
    let child = place.command(RUN).spawn().expect("the binary starts");
    until_recorded(&place, "intent");
    signal(&child, rustix::process::Signal::INT);
    std::thread::sleep(Duration::from_millis(100));
    signal(&child, rustix::process::Signal::INT);
    let ran = ended(child);
    assert_eq!(ran.status, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("stopping at once"), "{}", ran.err);
    assert!(ran.out.contains("NOT FINISHED"), "{}", ran.out);
    let ran = place.run(RUN);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let report = Report::of(&place.read("reports/KILL.csv"));
    let passed = report.column("outcome").into_iter().filter(|outcome| *outcome == "PASS").count();
    assert_eq!(passed, 2, "{}", ran.out);
    assert!(report.column("resumed").contains(&"true"), "{}", ran.out);
}

#[test]
fn a_second_controller_on_the_same_state_is_refused_and_does_not_disturb() {
    let _alone = alone();
    let place = small_station();
    let child = place.command(RUN).spawn().expect("the binary starts");
    until_recorded(&place, "run_started");
    let second = place.run("run stations/small.yaml --batch OTHER --units 1 --listen off");
    assert_eq!(second.status, Some(3), "{}", second.err);
    assert_eq!(
        second.err,
        "error: state/small: another controller works on this state directory\n  (state/small/ledger/ledger.lock is \
         locked); stop it, or choose another\n  directory\n"
    );
    let looked = place.run("devices stations/small.yaml");
    assert_eq!(looked.status, Some(3), "looking would start the modules a second time: {}{}", looked.out, looked.err);
    let first = ended(child);
    assert_complete(&place, "with a second one beside", &first);
}
