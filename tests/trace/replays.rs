//! What was recorded replays to the same facts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stationmaster::cli::replay::{Replayed, replay};
use stationmaster::cli::trace::{TraceArguments, Traces};
use stationmaster::domain::{Fact, FailureCode, Imei, Outcome, Phase, SlotName};
use stationmaster::hardware::Listing;
use stationmaster::host::{Disk, MemoryDisk};
use stationmaster::ledger::Entry;
use stationmaster::sim::Factory;
use stationmaster::trace::{Event, Mode, Piece, Trace, TraceError};
use stationmaster::vault::Vault;

use crate::harness::{Line, station, two_slots};

const DIRECTORY: &str = "traces";

/// Writes down what goes over the wires of a line.
pub(crate) fn record(line: &mut Line, payloads: bool) {
    let arguments = TraceArguments { trace: Some(PathBuf::from(DIRECTORY)), trace_payloads: payloads };
    let hardware = (line.factory.bus(), line.factory.power());
    let made_of = (&*line.station, &*line.products);
    let traces = Traces::start_in(Mode::Inline, &arguments, made_of, &line.disk, &line.clock, hardware);
    line.traces = Some(traces.expect("a place for traces"));
}

/// The traces of a line, by name.
pub(crate) fn traces(disk: &dyn Disk) -> Vec<PathBuf> {
    let entries = disk.list(Path::new(DIRECTORY)).expect("the directory of traces");
    let is_trace = |name: &str| name.ends_with(".jsonl");
    entries.iter().filter(|entry| is_trace(&entry.name)).map(|entry| Path::new(DIRECTORY).join(&entry.name)).collect()
}

pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Trace {
    Trace::read(disk, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Replays a trace on the packages of the line; whether anything stood in for content.
pub(crate) async fn same(line: &Line, trace: Trace) -> bool {
    let facts = trace.facts.len();
    match replay(trace, &line.station, line.products.clone()).await.expect("it can be replayed") {
        Replayed::Same { facts: replayed, stood_in } => {
            assert_eq!(replayed, facts);
            stood_in
        }
        Replayed::Different(difference) => panic!("{difference}"),
        Replayed::OtherFacts(difference) => panic!("{difference}"),
    }
}

/// No page that was read of a module is in its trace.
fn assert_secret(line: &Line, entries: &[Entry], trace: &Path) {
    let text = line.disk.read(trace, 1 << 30).expect("the trace");
    let text = String::from_utf8(text).expect("a text");
    let run = read(line.disk.as_ref(), trace).header.run;
    let backups = entries.iter().filter_map(|entry| match &entry.fact {
        Fact::BackupStored { run: of, backup } if *of == run => Some(backup),
        _ => None,
    });
    let vault = Vault::new(std::sync::Arc::clone(&line.disk), PathBuf::from("state/vault"));
    let mut looked_at = 0;
    for backup in backups {
        for part in vault.load(backup).expect("a backup").parts.iter().filter(|part| part.efs) {
            for page in part.bytes.chunks(2048) {
                let stretch = &page[64..96];
                if stretch.windows(2).all(|pair| pair[0] == pair[1]) {
                    continue;
                }
                looked_at += 1;
                let hex: String = stretch.iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(!text.contains(&hex));
                if let Ok(plain) = std::str::from_utf8(stretch) {
                    assert!(!text.contains(plain));
                }
            }
        }
    }
    assert!(looked_at > 8, "only {looked_at} pages");
}

#[tokio::test(start_paused = true)]
async fn runs_of_every_family_replay_to_the_same_facts() {
    let mut line = Line::new(station("stations/demo.yaml", |text| text), 4).await;
    record(&mut line, false);
    let (_, entries) = line.run("TRACE", 4).await;
    let paths = traces(line.disk.as_ref());
    assert_eq!(paths.len(), 4);
    let mut families = std::collections::BTreeSet::new();
    for path in &paths {
        let trace = read(line.disk.as_ref(), path);
        assert_eq!(trace.outcome, Some(Outcome::Pass));
        assert_secret(&line, &entries, path);
        families.insert(trace.header.family.clone().expect("it came in normal mode"));
        assert!(same(&line, trace).await, "the EFS is not in the trace");
    }
    assert!(families.len() >= 3, "{families:?}");
}

#[tokio::test(start_paused = true)]
async fn with_payloads_nothing_stands_in() {
    let mut line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    record(&mut line, true);
    line.run("TRACE", 1).await;
    let [path] = traces(line.disk.as_ref()).try_into().expect("one trace");
    let trace = read(line.disk.as_ref(), &path);
    assert!(trace.has_payloads());
    assert!(!same(&line, trace.clone()).await);
    // Payloads of another run are noticed.
    let beside = stationmaster::trace::payloads_beside(&path);
    let bytes = line.disk.read(&beside, 1 << 30).expect("payloads");
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new(DIRECTORY)).expect("in memory");
    disk.replace(&path, &line.disk.read(&path, 1 << 30).expect("the trace"), false).expect("in memory");
    disk.replace(&beside, &bytes[..bytes.len() / 2], false).expect("in memory");
    let trace = read(&disk, &path);
    let refused = replay(trace, &line.station, line.products.clone()).await.expect_err("half is missing");
    assert!(refused.contains("payload"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_resumed_run_replays_to_the_same_facts() {
    let mut line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    record(&mut line, false);
    let work = line.work("TRACE", 1).await;
    let slot = "A1".parse().expect("a slot name");
    work.handle
        .slots()
        .wait_for(|slots| slots.iter().any(|slot| slot.phase == Some(Phase::Flash) && slot.bytes_done > 0))
        .await
        .expect("the board is there");
    let unit = line.factory.unplug(&slot).expect("a slot").expect("a unit");
    line.clock.sleep(Duration::from_secs(20)).await;
    line.factory.plug(unit, &slot).expect("a free slot");
    work.end(&line).await;
    let [path] = traces(line.disk.as_ref()).try_into().expect("one trace for one run");
    let trace = read(line.disk.as_ref(), &path);
    assert!(trace.facts.iter().any(|fact| matches!(fact, Fact::RunResumed { .. })));
    assert_eq!(trace.outcome, Some(Outcome::Pass));
    same(&line, trace).await;
}

/// Whether a trace holds what another unit's run did to this one.
fn has(trace: &Trace, wanted: impl Fn(&Event) -> bool) -> bool {
    trace.lines.iter().any(|line| wanted(&line.event))
}

#[tokio::test(start_paused = true)]
async fn runs_that_are_decided_by_other_units_replay_to_the_same_facts() {
    let clone = |text: String| {
        let (head, _) =
            two_slots(text).split_once("  units:").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("units");
        format!(
            "{head}  units:\n    - {{ model: EG25-G, revision: EG25GGBR07A07M2G_01.001.01.001, slots: [A1, A2] }}\n  \
             faults:\n    - {{ fault: imei-of-another-slot, unit: 2 }}\n"
        )
    };
    let mut line = Line::new(station("stations/demo.yaml", clone), 2).await;
    record(&mut line, false);
    let (_, entries) = line.run("TRACE", 2).await;
    let runs = crate::harness::records(&entries, "TRACE");
    assert!(runs.iter().all(|run| run.code == Some(FailureCode::ImeiDuplicate)), "{runs:#?}");
    let (mut refused, mut contested) = (0, 0);
    for path in traces(line.disk.as_ref()) {
        let trace = read(line.disk.as_ref(), &path);
        refused += usize::from(trace.facts.iter().any(|fact| matches!(fact, Fact::ClaimRefused { .. })));
        contested += usize::from(has(&trace, |event| matches!(event, Event::Elsewhere(_))));
        same(&line, trace).await;
    }
    assert_eq!((refused, contested), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_chip_that_comes_back_with_another_imei_replays_to_the_same_facts() {
    let changed = |text: String| {
        let (head, _) =
            two_slots(text).split_once("  units:").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("units");
        format!("{head}  units:\n    - {{ model: EG25-G, revision: EG25GGBR07A07M2G_01.001.01.001, slots: [A1] }}\n")
    };
    let mut line = Line::new(station("stations/demo.yaml", changed), 1).await;
    // Whoever takes it out before the operator does can put it in again.
    let slot: SlotName = "A1".parse().expect("a slot name");
    let hand = slot.clone();
    let take_out = move |factory: &Factory, _: &Listing, entry: &Entry| {
        if matches!(entry.fact, Fact::RunFinished(_)) {
            factory.unplug(&hand).expect("a slot").expect("a unit");
        }
    };
    let work = line.work_before("ONE", 1, Box::new(take_out)).await;
    work.end(&line).await;
    let unit = line.factory.unit(1).expect("the unit");
    let other = Imei::from_body(&format!("{}999999", &unit.identity().imei.as_str()[..8])).expect("valid");
    unit.rewrite_imei(other.as_str()).expect("stored");
    record(&mut line, false);
    let work = line.work("TWO", 1).await;
    line.factory.plug(1, &slot).expect("a free slot");
    // A guest in another unit's place does not end a batch.
    work.end_within(&line, Duration::from_secs(600)).await;
    let [path] = traces(line.disk.as_ref()).try_into().expect("one trace");
    let trace = read(line.disk.as_ref(), &path);
    let swapped = |fact: &Fact| matches!(fact, Fact::ClaimRefused { code: FailureCode::UnitSwapped, run, holder, .. } if run != holder);
    assert!(trace.facts.iter().any(swapped), "{:#?}", trace.facts);
    same(&line, trace).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_moved_to_another_slot_replays_to_the_same_facts() {
    let mut line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    record(&mut line, false);
    let work = line.work("TRACE", 1).await;
    let [from, to] = ["A1", "A2"].map(|name| name.parse().expect("a slot name"));
    work.handle
        .slots()
        .wait_for(|slots| slots.iter().any(|slot| slot.phase == Some(Phase::Flash) && slot.bytes_done > 0))
        .await
        .expect("the board is there");
    let unit = line.factory.unplug(&from).expect("a slot").expect("a unit");
    line.clock.sleep(Duration::from_secs(20)).await;
    line.factory.plug(unit, &to).expect("a free slot");
    work.end(&line).await;
    let [path] = traces(line.disk.as_ref()).try_into().expect("one trace for one run");
    let trace = read(line.disk.as_ref(), &path);
    let slots: Vec<_> = trace
        .lines
        .iter()
        .filter_map(|line| match &line.event {
            Event::Slot { slot, .. } => Some(slot),
            _ => None,
        })
        .collect();
    assert_eq!(slots, [&from, &to]);
    assert_eq!(trace.outcome, Some(Outcome::Pass));
    same(&line, trace).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_an_earlier_process_had_begun_is_refused_with_the_reason() {
    for phase in [Phase::Backup, Phase::Flash] {
        let mut line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
        record(&mut line, false);
        let work = line.work("TRACE", 1).await;
        work.handle
            .slots()
            .wait_for(|slots| slots.iter().any(|slot| slot.phase == Some(phase) && slot.bytes_done > 0))
            .await
            .expect("the board is there");
        work.kill().await;
        record(&mut line, false);
        line.run("TRACE", 1).await;
        let paths = traces(line.disk.as_ref());
        let refused = paths.iter().filter_map(|path| Trace::read(line.disk.as_ref(), path).err());
        let errors: Vec<TraceError> = refused.collect();
        let [error @ TraceError::Resumes] = errors.as_slice() else { panic!("{phase}: {errors:?}") };
        let said = error.to_string();
        assert!(said.contains("begun by an earlier process") && said.contains("not replayed"), "{said}");
        assert_eq!(paths.len(), 2, "each process has its own file");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_that_fail_replay_to_the_same_facts() {
    let mut line = Line::new(station("stations/faults.yaml", |text| text), 12).await;
    record(&mut line, false);
    line.run("TRACE", 12).await;
    let mut outcomes = std::collections::BTreeSet::new();
    for path in traces(line.disk.as_ref()) {
        let trace = read(line.disk.as_ref(), &path);
        let Some(outcome) = trace.outcome.filter(|outcome| *outcome != Outcome::Pass) else { continue };
        if outcomes.insert(outcome) {
            same(&line, trace).await;
        }
    }
    assert!(outcomes.contains(&Outcome::Fail), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn calibration_items_are_veiled() {
    let mut line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    record(&mut line, false);
    line.run("TRACE", 1).await;
    let [path] = traces(line.disk.as_ref()).try_into().expect("one trace");
    let trace = read(line.disk.as_ref(), &path);
    let veiled = |event: &Event| match event {
        Event::In { pieces, .. } => pieces.iter().any(|piece| matches!(piece, Piece::Veiled(_))),
        _ => false,
    };
    assert!(trace.lines.iter().any(|line| veiled(&line.event)));
}
