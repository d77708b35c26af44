//! The station's disk fails, at every single call that a run makes of it, in every way in which that call can fail.
//!
//! What may still happen to a module is sharply defined: the one erase or write that it had accepted when the call
//! failed may end; no further one is sent.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stationmaster::config::Station;
use stationmaster::controller::{End, Product};
use stationmaster::domain::{Fact, Outcome};
use stationmaster::host::{Call, Disk, FailKind, MemoryDisk};
use stationmaster::ledger::Entry;
use stationmaster::sim::{BusEvent, Moment};

use crate::harness::{Line, assert_sound, records, station_of, two_slots};

/// Station time within which everything that is waited for happens.
const PATIENCE: Duration = Duration::from_secs(1800);
const BATCH: &str = "DISK";

/// A disk on which a package lies that all cases share, each with a state directory of its own.
struct Bench {
    station: Arc<Station>,
    disk: MemoryDisk,
    products: Vec<Product>,
}

/// The demo station with the one profile that its two slots need.
fn small(text: String) -> String {
    let text = two_slots(text);
    let (head, rest) = text.split_once("    - model: RM500Q-GL").expect("the demo's second kind");
    let (_, tail) = rest.split_once("  # Inserts and removes").expect("what follows the kinds");
    let is_other = |line: &&str| line.trim_start().starts_with("- ../profiles/") && !line.ends_with("eg25-g.yaml");
    let head: String = head.lines().filter(|line| !is_other(line)).map(|line| format!("{line}\n")).collect();
    format!("{head}  # Inserts and removes{tail}")
}

impl Bench {
    fn new() -> Self {
        let station = station_of("stations/demo.yaml", 1, small);
        let disk = MemoryDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let products = stationmaster::cli::prepare::products(&shared, &station, std::path::Path::new("state"));
        Self { station, products: products.expect("good packages"), disk }
    }

    async fn line(&self, name: &str, units: u32) -> Line {
        let mut line = Line::with(&self.products, &self.station, Arc::new(MemoryDisk::new()), units).await;
        // The virtual factory has a disk of its own.
        line.disk = Arc::new(self.disk.clone());
        line.state = PathBuf::from(name);
        line
    }

    /// The `call`-th call of the run fails as `kind`; what kind of call it was, or `None` when there were fewer.
    async fn fails_once(&self, call: u64, kind: FailKind) -> Option<Call> {
        let what = format!("call {call} fails: {kind:?}");
        let line = self.line(&format!("case-{call}-{kind:?}"), 1).await;
        while line.factory.unit(1).is_none() {
            line.clock.sleep(Duration::from_millis(100)).await;
        }
        let unit = line.factory.unit(1).expect("the unit");
        let destructive = |events: &[BusEvent]| events.iter().filter(|event| event.is_destructive()).count();
        let before = Arc::new(AtomicUsize::new(usize::MAX));
        let recorded = Arc::new(Mutex::new(None));
        let (seen, witness) = (Arc::clone(&before), unit.clone());
        self.disk.when_failing(move || seen.store(destructive(&witness.events()), Ordering::SeqCst));
        let first = self.disk.calls();
        self.disk.fail_call(call, kind);
        let struck = || self.disk.calls() - first >= call;
        match line.try_work(BATCH, 1).await {
            // The station does not even start.
            Err(_) => assert_eq!(destructive(&unit.events()), 0, "{what}"),
            Ok(work) => {
                let ledger = work.ledger.clone();
                let told = Arc::clone(&recorded);
                let end = work.outcome(&line, PATIENCE, move |entries| {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(entries);
                });
                let end = end.await.unwrap_or_else(|| panic!("{what}: the station does not stop"));
                assert!(!ledger.is_open());
                if !struck() {
                    self.disk.clear_failures();
                    assert_eq!(end.expect("a good disk"), End::Complete);
                    let [record] = records(&line.entries(), BATCH).try_into().expect("one run");
                    assert_eq!(record.outcome, Outcome::Pass);
                    return None;
                }
                assert!(
                    matches!(end, Err(_) | Ok(End::DiskFailed)),
                    "{what}, a {:?}: the station must stop: {end:?}",
                    self.disk.failed_call()
                );
            }
        }
        let kind_of_call = self.disk.failed_call().expect("it failed");
        let (then, now) = (before.load(Ordering::SeqCst), destructive(&unit.events()));
        assert_eq!(then, now, "{what}, a {kind_of_call:?}: a command that changes the module was sent afterwards");
        // A good disk: everything that was acknowledged is there, and the unit is finished.
        let acknowledged = recorded.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        self.finish(&line, &what, &acknowledged).await;
        Some(kind_of_call)
    }

    async fn finish(&self, line: &Line, what: &str, acknowledged: &[Entry]) {
        let work = line.try_work(BATCH, 1).await.unwrap_or_else(|error| panic!("{what}: no restart: {error}"));
        let (end, entries) = work.end_within(line, PATIENCE).await;
        assert_eq!(end, Some(End::Complete), "{what}: {entries:#?}");
        assert_sound(line, &entries);
        assert!(entries.starts_with(acknowledged), "{what}: what was acknowledged is lost or altered");
        let passed: Vec<_> =
            records(&entries, BATCH).into_iter().filter(|record| record.outcome == Outcome::Pass).collect();
        assert_eq!(passed.len(), 1, "{what}: {entries:#?}");
    }
}

/// Tries every `part`-th of `parts` calls.
async fn each_call(part: u64, parts: u64) {
    let bench = Bench::new();
    let (mut call, mut cases) = (1 + part, 0);
    loop {
        let Some(what) = bench.fails_once(call, FailKind::Error).await else { break };
        let others: &[FailKind] = match what {
            Call::Look => &[],
            Call::Write => &[FailKind::NoSpace, FailKind::ShortWrite],
            Call::Sync => &[FailKind::NoSpace, FailKind::FailedSync],
        };
        for kind in others {
            assert_eq!(bench.fails_once(call, *kind).await, Some(what), "call {call}");
        }
        cases += 1 + others.len();
        call += parts;
    }
    let _closed = writeln!(std::io::stderr(), "calls {} and every {parts}th up to {call}: {cases} failures", 1 + part);
    assert!(call > 80, "a run makes more than {call} calls");
}

#[tokio::test(start_paused = true)]
async fn whichever_call_of_the_disk_fails_no_further_command_is_sent_and_nothing_is_lost_first_half() {
    each_call(0, 2).await;
}

#[tokio::test(start_paused = true)]
async fn whichever_call_of_the_disk_fails_no_further_command_is_sent_and_nothing_is_lost_second_half() {
    each_call(1, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_while_two_units_are_written_leaves_both_recorded() {
    let bench = Bench::new();
    let line = bench.line("full", 2).await;
    let work = line.work(BATCH, 2).await;
    while line.factory.unit(2).is_none() {
        line.clock.sleep(Duration::from_millis(100)).await;
    }
    let stops = [1, 2].map(|number| line.factory.unit(number).expect("the unit").stop_at(20, Moment::Middle));
    for stop in &stops {
        line.clock.timeout(PATIENCE, stop.reached()).await.expect("it is written");
    }
    bench.disk.set_room(Some(bench.disk.used_bytes()));
    drop(stops);
    let (end, entries) = work.end_within(&line, PATIENCE).await;
    assert_eq!(end, Some(End::DiskFailed), "{entries:#?}");
    let interrupted = entries.iter().filter(|entry| matches!(entry.fact, Fact::RunInterrupted { .. })).count();
    let finished = records(&entries, BATCH).len();
    assert_eq!(interrupted + finished, 2, "both are recorded: {entries:#?}");
    assert!(interrupted > 0, "{entries:#?}");
    assert!(entries.iter().any(|entry| matches!(entry.fact, Fact::StationStopped { .. })));
    bench.disk.set_room(None);
    let (end, entries) = line.run(BATCH, 2).await;
    assert_eq!(end, End::Complete, "{entries:#?}");
    assert_sound(&line, &entries);
    let runs = records(&entries, BATCH);
    assert_eq!(runs.iter().filter(|record| record.outcome == Outcome::Pass).count(), 2, "{runs:#?}");
    assert!(runs.iter().any(|record| record.flags.resumed), "{runs:#?}");
}
