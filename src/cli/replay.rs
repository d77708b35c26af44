//! `sim replay`: a trace played back to the controller, in virtual time.

mod others;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Status, complain, counted, prepare, print};
use crate::config::{IfAlready, PackageSource, Profile, SlotConfig, Station};
use crate::controller::{Controller, Handle, Parts, Product};
use crate::domain::{Fact, FailureCode, Phase, RunId, limits};
use crate::host::{Clock, Disk, MemoryDisk, OsDisk, Random};
use crate::ledger::{IndexPlace, Ledger, WriterMode};
use crate::trace::{Difference, Event, FactsDiffer, Player, Trace, TraceError, compare};
use crate::vault::Vault;

/// Where station files are looked for.
const STATIONS: &str = "stations";

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArguments {
    /// The trace, as `run --trace` wrote it
    trace: PathBuf,
    /// The station file it was recorded with; without it, the one below `stations` that has the trace's digest
    #[arg(long, value_name = "STATION.yaml")]
    station: Option<PathBuf>,
}

/// What a replay came to.
#[derive(Debug)]
pub enum Replayed {
    /// The controller did the same and came to the same facts.
    Same {
        /// How many facts.
        facts: usize,
        /// Whether something stood in for content that is not in the trace.
        stood_in: bool,
    },
    /// It did something else.
    Different(Box<Difference>),
    /// It did the same and came to other facts.
    OtherFacts(FactsDiffer),
}

pub(crate) fn run(arguments: &ReplayArguments) -> Status {
    match replay_file(arguments) {
        Ok(Replayed::Same { facts, stood_in }) => {
            let facts = counted(facts as u64, "fact", "facts");
            print(&format!("{}: the same, {facts}\n", arguments.trace.display()));
            if stood_in {
                print("what was read of the module is not in the trace; other bytes stood in for it\n");
            }
            Status::Good
        }
        Ok(Replayed::Different(difference)) => {
            print(&format!("{}: {difference}\n", arguments.trace.display()));
            Status::NotAllGood
        }
        Ok(Replayed::OtherFacts(difference)) => {
            print(&format!("{}: {difference}\n", arguments.trace.display()));
            Status::NotAllGood
        }
        Err(why) => {
            complain(format!("error: {why}"));
            Status::Refused
        }
    }
}

fn replay_file(arguments: &ReplayArguments) -> Result<Replayed, String> {
    let disk = OsDisk::new();
    let place = arguments.trace.display();
    let help = "help: name a trace that `run --trace DIR` wrote into DIR: a file that ends with .jsonl";
    let trace = Trace::read(&disk, &arguments.trace).map_err(|error| match error {
        TraceError::Disk { .. } => format!("{error}\n{help}"),
        TraceError::NoHeader(_) => format!("{place}: {error}\n{help}"),
        error => format!("{place}: {error}"),
    })?;
    let station = find_station(&disk, &trace, arguments.station.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let products = products(&trace, &station)?;
    runtime.block_on(replay(trace, &station, products)).map_err(|error| format!("{place}: {error}"))
}

fn find_station(disk: &OsDisk, trace: &Trace, given: Option<&Path>) -> Result<Station, String> {
    if let Some(path) = given {
        return prepare::station(disk, path).map_err(|errors| errors.to_string());
    }
    let files = disk.list(Path::new(STATIONS)).unwrap_or_default();
    files
        .iter()
        .filter(|entry| entry.name.ends_with(".yaml"))
        .filter_map(|entry| prepare::station(disk, &Path::new(STATIONS).join(&entry.name)).ok())
        .find(|station| station.digest == trace.header.config)
        .ok_or_else(|| {
            format!(
                "no file below {STATIONS} is that of station {} (digest {})\nhelp: name it with --station",
                trace.header.station, trace.header.config
            )
        })
}

/// The packages that the run needs; simulated ones are made in memory.
fn products(trace: &Trace, station: &Station) -> Result<Vec<Product>, String> {
    let memory: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let real: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let admitted: Vec<&str> = trace.facts.iter().filter_map(admitted_to).collect();
    let wanted = station.profiles.iter().filter(|profile| admitted.is_empty() || admitted.contains(&&*profile.name));
    wanted
        .map(|profile| {
            let disk = if matches!(profile.package, PackageSource::Simulated(_)) { &memory } else { &real };
            prepare::product(disk, profile, &station.state)
        })
        .collect()
}

fn admitted_to(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::Admitted { profile, .. } => Some(profile),
        _ => None,
    }
}

/// Whether the run was one of a qualification. What only its second reading can have ended has a backup and no intent.
fn was_read_twice(facts: &[Fact]) -> bool {
    let has = |is_meant: fn(&Fact) -> bool| facts.iter().any(is_meant);
    let failed =
        |fact: &Fact| matches!(fact, Fact::RunFinished(record) if record.code == Some(FailureCode::BackupFailed));
    has(|fact| matches!(fact, Fact::BackupConfirmed { .. }))
        || has(|fact| matches!(fact, Fact::BackupStored { .. }))
            && !has(|fact| matches!(fact, Fact::Intent { .. }))
            && has(failed)
}

/// Whether the backup was written back to a well unit.
fn was_round_trip(facts: &[Fact]) -> bool {
    facts.iter().any(|fact| matches!(fact, Fact::RestoreIntent { round_trip: true, .. }))
}

/// Plays a trace to the controller; in virtual time it takes as long as its computations. Must be called in a paused
/// runtime.
///
/// # Errors
/// A sentence for people, where the trace cannot be played or belongs to other packages.
pub async fn replay(trace: Trace, station: &Station, mut products: Vec<Product>) -> Result<Replayed, String> {
    let trace = Arc::new(trace);
    if was_read_twice(&trace.facts) {
        for product in &mut products {
            let profile = Profile { if_already: IfAlready::Flash, ..(*product.profile).clone() };
            (product.profile, product.read_twice) = (Arc::new(profile), true);
            product.round_trip = was_round_trip(&trace.facts);
        }
    }
    for product in &products {
        let name = &product.profile.name;
        let digests = (product.profile.digest, product.package.digest());
        if trace.header.profiles.get(name) != Some(&digests) {
            return Err(format!(
                "it was recorded with another profile or package {name}\nhelp: replay it with the station file, the \
                 profile and the package of then"
            ));
        }
    }
    let clock = Clock::scaled(trace.header.time_scale);
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let state = PathBuf::from("state");
    let opened =
        Ledger::open(Arc::clone(&disk), clock.clone(), state.join("ledger"), WriterMode::Inline, IndexPlace::Memory);
    let ledger = opened.await.map_err(|error| error.to_string())?;
    others::earlier(&trace, &ledger).await?;
    // What others left is none of the replay's facts.
    let start = *ledger.head().borrow() + 1;
    let player = Player::start(Arc::clone(&trace), clock.clone()).map_err(|error| error.to_string())?;
    let controller = Controller::start(Parts {
        station: Arc::new(Station { slots: slots(&trace), ..station.clone() }),
        products,
        bus: player.bus(),
        power: player.power(),
        clock: clock.clone(),
        random: Random::seeded(trace.header.seed.unwrap_or_default()),
        ledger: ledger.clone(),
        vault: Arc::new(Vault::new(disk, state.join("vault"))),
        simulated: trace.header.simulated,
        batch: trace.header.batch.clone(),
        units: None,
        wait: Duration::ZERO,
    })
    .await
    .map_err(|error| error.to_string())?;
    let handle = controller.handle();
    let work = tokio::spawn(controller.run());
    let result = tokio::select! {
        biased;
        failed = others::meanwhile(&trace, &player, &ledger, start) => failed.map(|never| match never {}),
        result = watch(&trace, &player, &handle, (&ledger, start), &clock) => result,
    };
    work.abort();
    // Cancelled, or it has ended by itself.
    let _ended = work.await;
    ledger.close().await;
    result
}

/// The slots in which the run was.
fn slots(trace: &Trace) -> Vec<SlotConfig> {
    let mut slots: Vec<SlotConfig> = Vec::new();
    for line in &trace.lines {
        let Event::Slot { slot, chains, .. } = &line.event else { continue };
        let (Some(usb2), usb3) = (chains.first().cloned(), chains.get(1).cloned()) else { continue };
        if slots.iter().all(|known| known.name != *slot) {
            slots.push(SlotConfig { name: slot.clone(), usb2, usb3 });
        }
    }
    slots
}

/// Waits for the first difference, or for the end of the run.
async fn watch(
    trace: &Trace,
    player: &Player,
    handle: &Handle,
    (ledger, start): (&Ledger, u64),
    clock: &Clock,
) -> Result<Replayed, String> {
    let mut difference = player.difference();
    let mut head = ledger.head();
    let recorded = Duration::from_micros(trace.lines.last().map_or(0, |line| line.micros));
    let deadline = clock.now() + recorded + limits::TRACE_REPLAY_EXTRA;
    let mut is_over = false;
    loop {
        let facts = facts(ledger, start).await?;
        let is_finished = match trace.outcome {
            Some(_) => matches!(facts.last(), Some(Fact::RunFinished(_))),
            // The recorder ended before the run did.
            None => facts.len() >= trace.facts.len(),
        };
        if let Some(difference) = difference.borrow_and_update().clone() {
            return Ok(Replayed::Different(Box::new(Difference { phase: phase(handle), ..difference })));
        }
        if is_finished || is_over {
            if !is_finished && let Some(missing) = player.missing() {
                return Ok(Replayed::Different(Box::new(Difference { phase: phase(handle), ..missing })));
            }
            let stood_in = player.stood_in();
            return Ok(match compare(&trace.facts, &facts, stood_in) {
                Ok(()) => Replayed::Same { facts: facts.len(), stood_in },
                // What the controller left undone says more than what came of it.
                Err(differ) => match player.missing() {
                    Some(missing) => Replayed::Different(Box::new(Difference { phase: phase(handle), ..missing })),
                    None => Replayed::OtherFacts(differ),
                },
            });
        }
        tokio::select! {
            biased;
            _ = difference.changed() => {}
            changed = head.changed() => is_over = changed.is_err(),
            () = clock.sleep_until(deadline) => is_over = true,
        }
    }
}

/// The facts of the run from an entry of the ledger on, up to its end; of the first run, should there be several.
async fn facts(ledger: &Ledger, start: u64) -> Result<Vec<Fact>, String> {
    let (mut facts, mut run, mut next): (Vec<Fact>, Option<RunId>, u64) = (Vec::new(), None, start);
    loop {
        let entries = ledger.read(next, 256).await.map_err(|error| error.to_string())?;
        let Some(last) = entries.last() else { return Ok(facts) };
        next = last.seq + 1;
        for entry in entries {
            run = run.or(entry.fact.run());
            if run.is_some() && entry.fact.run() == run {
                let is_end = matches!(entry.fact, Fact::RunFinished(_));
                facts.push(entry.fact);
                if is_end {
                    return Ok(facts);
                }
            }
        }
    }
}

fn phase(handle: &Handle) -> Option<Phase> {
    handle.slots().borrow().iter().find_map(|slot| slot.phase)
}
