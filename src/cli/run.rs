//! `run`: the main job. `qualify` is the same job with another end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::crash::{After, CrashDisk};
use super::display::{Display, final_table};
use super::line::Line;
use super::projections::{Audience, Projections};
use super::{Status, complain, folded, prepare, print, print_json, qualify, signal, start};
use crate::config::{HardwareKind, Station};
use crate::controller::{Controller, End, Handle, Parts, Product};
use crate::domain::{BatchId, FailureCode, Phase, RunState, SlotName};
use crate::host::{Clock, Disk, OsDisk, Random};
use crate::ledger::{IndexPlace, Interruption, Ledger, LedgerError, UnfinishedRun, WriterMode};
use crate::metrics::Metrics;
use crate::report::{Recorded, Summary};
use crate::web::{self, Hosts, WebState};

/// Where `/metrics` is served unless something else is said.
const LISTEN: &str = "127.0.0.1:9464";

#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    /// The station file
    pub(super) station: PathBuf,
    /// The batch (work order) to work on; without it a name is made from the date and time
    #[arg(long, value_name = "ID")]
    batch: Option<BatchId>,
    /// End when the batch has this many finished units; without it, when stopped (`qualify`: one for each slot)
    #[arg(long, value_name = "N", value_parser = units)]
    units: Option<u32>,
    /// Where ledger and backups are kept, instead of the station file's `state`
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where the CSV reports are written, instead of the station file's `reports`
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
    /// Where to serve /metrics; `off` for nowhere
    #[arg(long, value_name = "ADDR", default_value = LISTEN)]
    listen: String,
    /// How long unfinished units are waited for once all others are finished, in seconds of station time
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait: u64,
    /// How long /metrics is still served after the end, in seconds, so that the last scrape sees the last unit
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    linger: u64,
    /// Run also profiles that are not qualified for real hardware; each of their rows says so
    #[arg(long)]
    unqualified: bool,
    #[command(flatten)]
    trace: super::trace::TraceArguments,
    /// Print the result as one JSON document on standard output
    #[arg(long)]
    json: bool,
    /// End the process abruptly after this many lines of the ledger were written: for proving what a crash leaves
    #[arg(long, value_name = "N", hide = true)]
    crash_after: Option<u64>,
    /// The disk has no room after this many lines of the ledger: for proving what a full disk does
    #[arg(long, value_name = "N", hide = true, conflicts_with = "crash_after")]
    full_after: Option<u64>,
}

/// Most units that a batch may be asked to have.
const UNITS_MAX: u32 = 1_000_000;

fn units(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=UNITS_MAX).contains(number));
    number.ok_or_else(|| format!("a number of units is 1 to {UNITS_MAX}"))
}

/// What a run is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// A batch.
    Batch,
    /// A qualification.
    Qualification {
        /// The profile's name, or its file.
        profile: &'a str,
        /// Whether backups are written back to real modules, too.
        erase_and_restore: bool,
    },
}

/// Everything that is known before a device is opened.
struct Prepared {
    station: Arc<Station>,
    products: Vec<Product>,
    state: PathBuf,
    reports: PathBuf,
    batch: BatchId,
    units: Option<u32>,
    clock: Clock,
    disk: Arc<dyn Disk>,
}

/// Why there is no result.
pub(super) enum Failed {
    Refused(String),
    Stuck(String),
}

impl Failed {
    /// Says so.
    pub(super) fn tell(self) -> Status {
        match self {
            Self::Refused(why) => {
                complain(why.trim_end());
                Status::Refused
            }
            Self::Stuck(why) => {
                complain(folded(&format!("error: {}", why.trim_end())));
                Status::Stuck
            }
        }
    }
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        Self::Stuck(format!("the ledger: {}", start::ledger_words(&error)))
    }
}

pub(crate) fn run(arguments: &RunArguments) -> Status {
    run_for(arguments, Purpose::Batch)
}

/// The same for one purpose.
pub(super) fn run_for(arguments: &RunArguments, purpose: Purpose<'_>) -> Status {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format!("error: no runtime: {error}"));
            return Status::Stuck;
        }
    };
    let result = runtime.block_on(async {
        let mut station = read_station(arguments)?;
        if let Purpose::Qualification { profile, .. } = purpose {
            station = qualify::narrowed(station, profile).map_err(Failed::Refused)?;
        }
        // A socket that cannot be had ends the command before anything is touched.
        let listener = bind(&arguments.listen).await?;
        let prepared = prepare_run(arguments, station, purpose)?;
        work(arguments, prepared, listener, purpose).await
    });
    result.unwrap_or_else(Failed::tell)
}

fn read_station(arguments: &RunArguments) -> Result<Station, Failed> {
    prepare::station(&OsDisk::new(), &arguments.station).map_err(|errors| Failed::Refused(errors.to_string()))
}

fn prepare_run(arguments: &RunArguments, station: Station, purpose: Purpose<'_>) -> Result<Prepared, Failed> {
    let os: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let clock = Clock::scaled(station.time_scale());
    let state = arguments.state.clone().unwrap_or_else(|| station.state.clone());
    let reports = arguments.reports.clone().unwrap_or_else(|| station.reports.clone());
    prepare::place_for(os.as_ref(), &state, "state").map_err(Failed::Refused)?;
    prepare::place_for(os.as_ref(), &reports, "reports").map_err(Failed::Refused)?;
    let batch = match &arguments.batch {
        Some(batch) => batch.clone(),
        None => {
            let now = clock.wall().to_string();
            let digits: String = now.chars().take(19).filter(|c| c.is_ascii_digit() || *c == 'T').collect();
            let letter = if matches!(purpose, Purpose::Batch) { "B" } else { "Q" };
            format!("{letter}-{digits}").parse().map_err(|error| Failed::Refused(format!("error: {error}")))?
        }
    };
    let disk: Arc<dyn Disk> = match (arguments.crash_after, arguments.full_after) {
        (Some(lines), _) => Arc::new(CrashDisk::new(os, lines, After::Death)),
        (None, Some(lines)) => Arc::new(CrashDisk::new(os, lines, After::Full)),
        (None, None) => os,
    };
    prepare::place(disk.as_ref(), &state, "state").map_err(Failed::Stuck)?;
    let mut products = prepare::products(&disk, &station, &state).map_err(Failed::Refused)?;
    for product in &products {
        for warning in product.package.warnings() {
            complain(format!("warning: package of profile {}: {warning}", product.profile.name));
        }
    }
    if let Some(warning) = prepare::vault_warning(&station) {
        complain(format!("warning: {warning}"));
    }
    let units = match purpose {
        Purpose::Batch => arguments.units,
        Purpose::Qualification { erase_and_restore, .. } => {
            qualify::try_more(&mut products, &station, erase_and_restore);
            Some(qualify::units(arguments.units, &station).map_err(Failed::Refused)?)
        }
    };
    Ok(Prepared { station: Arc::new(station), products, state, reports, batch, units, clock, disk })
}

/// Opens a station's ledger, which is that of the same kind of hardware.
pub(super) async fn open_ledger(
    disk: &Arc<dyn Disk>,
    clock: &Clock,
    station: &Station,
    state: &Path,
) -> Result<Ledger, Failed> {
    let ledger =
        Ledger::open(Arc::clone(disk), clock.clone(), state.join("ledger"), WriterMode::Thread, IndexPlace::File)
            .await
            .map_err(|error| Failed::Stuck(format!("{}: {}", state.display(), start::ledger_words(&error))))?;
    let simulated = station.hardware == HardwareKind::Simulated;
    if let Some(seen) = ledger.simulated().await?
        && seen != simulated
    {
        let (here, there) = if seen { ("simulated", "real") } else { ("real", "simulated") };
        return Err(Failed::Refused(format!(
            "error: {}: this state directory belongs to {here} hardware and is not used for {there} hardware\n\
             help: give each its own with `state:` in the station file or --state",
            state.display()
        )));
    }
    Ok(ledger)
}

async fn work(
    arguments: &RunArguments,
    prepared: Prepared,
    listener: Option<TcpListener>,
    purpose: Purpose<'_>,
) -> Result<Status, Failed> {
    let Prepared { station, mut products, state, reports, batch, units, clock, disk } = prepared;
    let ledger = open_ledger(&disk, &clock, &station, &state).await?;
    let simulated = station.hardware == HardwareKind::Simulated;
    let vault = prepare::vault(&disk, &station, &state);
    vault.prepare().map_err(|error| Failed::Stuck(error.to_string()))?;
    let may_be_unqualified = arguments.unqualified || matches!(purpose, Purpose::Qualification { .. });
    let standings = qualify::standings(&ledger).await?;
    qualify::admit(&mut products, &standings, (simulated, may_be_unqualified), &arguments.station)
        .map_err(Failed::Refused)?;
    let projections = Projections::open(&disk, &ledger, &station, &products, &clock, (&state, &reports))
        .await
        .map_err(Failed::Stuck)?;
    let finished = ledger.finished_in_batch(batch.clone()).await?;
    let left = units.map(|units| units.saturating_sub(finished));
    let line = Line::start(&station, &clock, &disk, &ledger, &state, left).await.map_err(Failed::Stuck)?;
    let server = match listener {
        Some(listener) => Some(serve(listener, projections.metrics(), ledger.clone())?),
        None => None,
    };
    let hardware = (Arc::clone(&line.bus), Arc::clone(&line.power));
    let traces = super::trace::Traces::start(&arguments.trace, (&station, &products), &disk, &clock, hardware)
        .map_err(Failed::Refused)?;
    traces.follow(&ledger);
    let started = Controller::start(Parts {
        station: Arc::clone(&station),
        products: products.clone(),
        bus: traces.bus(),
        power: traces.power(),
        clock: clock.clone(),
        random: Random::from_host(),
        ledger: ledger.clone(),
        vault: Arc::new(vault),
        simulated,
        batch: batch.clone(),
        units,
        wait: Duration::from_secs(arguments.wait),
    })
    .await;
    let controller = match started {
        Ok(controller) => controller,
        Err(error) => {
            traces.finish(&ledger).await;
            line.stop();
            return Err(error.into());
        }
    };
    let handle = controller.handle();
    for line in interrupted(&ledger).await? {
        complain(line);
    }
    let display = Display::start(handle.slots(), left, arguments.json);
    let audience = Audience { handle: handle.clone(), operator: line.operator(), records: display.records() };
    let following = projections.follow(ledger.clone(), audience);
    let signals = tokio::spawn(obey_signals(handle.clone()));
    let ended = controller.run().await;
    signals.abort();
    let reported = following.finish().await;
    traces.finish(&ledger).await;
    display.finish().await;
    line.stop();
    let ended = ended?;
    let mut status = match purpose {
        Purpose::Batch => conclude(arguments, &ledger, &batch, &reports).await?,
        Purpose::Qualification { .. } => {
            let units = units.unwrap_or_default();
            let ended = qualify::Ended { station: &station.name, batch: &batch, products: &products, units, simulated };
            qualify::conclude(&ledger, ended, arguments.json).await?
        }
    };
    if ended == End::DiskFailed {
        let why = handle.disk_failure().unwrap_or_default();
        complain(format!(
            "error: the disk failed, and nothing new was begun: {why}\nhelp: what was under way is recorded; make room \
             on the disk, or replace it, and run the station again"
        ));
        status = Status::Stuck;
    }
    if let Some(server) = server {
        let real = Clock::real();
        tokio::select! {
            biased;
            () = real.sleep(Duration::from_secs(arguments.linger)) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        server.stop().await;
    }
    ledger.close().await;
    match reported {
        Ok(()) => Ok(status),
        Err(why) => {
            complain(format!("error: {why}"));
            Ok(Status::NotAllGood)
        }
    }
}

/// A server of metrics.
struct Server {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the web server failed");
        }
    }
}

async fn bind(address: &str) -> Result<Option<TcpListener>, Failed> {
    if address == "off" {
        return Ok(None);
    }
    let refuse = |why: String| {
        Failed::Refused(format!(
            "error: --listen {address}: {why}\nhelp: give an address and a port of this host such as {LISTEN}, port 0 \
             for any free one, or `off`"
        ))
    };
    let wanted: std::net::SocketAddr = address.parse().map_err(|_| refuse("not an address with a port".to_owned()))?;
    TcpListener::bind(wanted).await.map(Some).map_err(|error| refuse(start::listen_words(&error)))
}

fn serve(listener: TcpListener, metrics: Arc<Metrics>, ledger: Ledger) -> Result<Server, Failed> {
    let bound = listener.local_addr().map_err(|error| Failed::Stuck(format!("the socket of /metrics: {error}")))?;
    if let Some(warning) = web::exposure(bound) {
        complain(format!("warning: {warning}"));
    }
    complain(format!("metrics at http://{bound}/metrics"));
    let state = WebState {
        metrics: Arc::new(move || metrics.render()),
        health: Arc::new(move || if ledger.is_open() { Ok(()) } else { Err("the ledger is closed".to_owned()) }),
        hosts: Arc::new(Hosts::new(bound, &[])),
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn(web::serve(listener, state, stop.clone()));
    Ok(Server { stop, task })
}

/// The first signal stops gently, the second at once.
pub(super) async fn obey_signals(handle: Handle) {
    for round in 0..2 {
        if let Err(error) = signal().await {
            tracing::error!(%error, "signals cannot be received");
            return;
        }
        if round == 0 {
            complain("stopping: no further unit is taken, running ones reach a safe point; once more to stop at once");
            handle.stop_gently();
        } else {
            complain("stopping at once: what was being written is resumed when the station runs again");
            handle.stop_now();
        }
    }
}

/// What an earlier controller left interrupted: a line for each, of whatever batch, for whoever looks for the units.
async fn interrupted(ledger: &Ledger) -> Result<Vec<String>, LedgerError> {
    let mut lines = Vec::new();
    for open in ledger.open_runs().await?.into_iter().filter(|open| open.state == RunState::Interrupted) {
        let known = (open.identity_before.model.as_str(), open.imei.to_string(), &open.slot, &open.batch);
        lines.push(line(known, open.interruption.as_ref(), Phase::Flash));
    }
    // Units that were told something and did not come to a flash.
    let cured = |open: &UnfinishedRun| open.is_cured() && open.state == RunState::Interrupted;
    for open in ledger.unfinished_runs().await?.into_iter().filter(cured) {
        let model = open.identity.as_ref().map(|identity| identity.model.as_str()).unwrap_or_default();
        let imei = open.imei.map(|imei| imei.to_string()).unwrap_or_default();
        lines.push(line((model, imei, &open.slot, &open.batch), open.interruption.as_ref(), Phase::Reset));
    }
    Ok(lines)
}

fn line(
    (model, imei, slot, batch): (&str, String, &SlotName, &BatchId),
    interruption: Option<&Interruption>,
    phase: Phase,
) -> String {
    let (code, phase) = match interruption {
        Some(interruption) => (interruption.code, interruption.phase),
        None => (FailureCode::ControllerDied, phase),
    };
    format!(
        "interrupted: {model} IMEI {imei}, last in slot {slot}, batch {batch}, in {phase}: {code}
    {}",
        code.advice()
    )
}

/// The result, computed from the ledger alone.
async fn conclude(
    arguments: &RunArguments,
    ledger: &Ledger,
    batch: &BatchId,
    reports: &Path,
) -> Result<Status, LedgerError> {
    let mut summary = Summary::new(batch.clone());
    let mut next = 1;
    loop {
        let entries = ledger.read(next, 256).await?;
        let Some(last) = entries.last() else { break };
        next = last.seq + 1;
        entries.iter().for_each(|entry| summary.follow(&Recorded::from(entry)));
    }
    if arguments.json {
        print_json(&summary.to_json());
    } else {
        print(&final_table(&summary));
        print(&format!("report: {}\n", reports.join(format!("{batch}.csv")).display()));
    }
    let finished = ledger.finished_in_batch(batch.clone()).await?;
    let enough = arguments.units.is_none_or(|units| finished >= units);
    Ok(if summary.is_all_well() && enough { Status::Good } else { Status::NotAllGood })
}
