//! `restore` and `backup`: one unit, by hand, in its slot.
//!
//! Both are runs of the controller with everything that belongs to one: the locks, the claim of the chip, the gates, the
//! facts in the ledger and the row in a report. A person decides which module and which backup; what may be written to
//! which chip nobody decides by hand.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::display::{Display, final_table};
use super::line::Line;
use super::projections::Projections;
use super::run::{Failed, obey_signals, open_ledger};
use super::slot::{self, Absent};
use super::{Status, backups, complain, prepare, print, print_json, qualify, station_words};
use crate::config::{HardwareKind, SlotConfig, Station};
use crate::controller::{Controller, Handle, Parts, Task};
use crate::domain::{BackupRef, BatchId, Fact, FailureCode, RunRecord};
use crate::hardware::{Bus, DeviceMode};
use crate::host::{Clock, Disk, OsDisk, Random};
use crate::ledger::{Entry, Ledger, LedgerError};
use crate::report::{Recorded, Summary};

/// How long a module that may still be starting is waited for, in station time.
const COMES_LIMIT: Duration = Duration::from_secs(120);
/// The pause between two looks at the slot, in station time.
const LOOK: Duration = Duration::from_secs(1);
/// How long the controller may do nothing with a module that is there, in station time.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub(crate) struct HandArguments {
    /// The station file
    station: PathBuf,
    /// The slot's name
    slot: String,
    /// Where ledger and backups are kept, instead of the station file's `state`
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where the CSV reports are written, instead of the station file's `reports`
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
    /// Print the result as one JSON document on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArguments {
    #[command(flatten)]
    hand: HandArguments,
    /// Which backup, by the first digits of its id; only one of this very module is ever written. Default: its first
    /// good one
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// Flash real hardware although the profile is not qualified; the row says so
    #[arg(long)]
    unqualified: bool,
}

/// `restore`.
pub(crate) fn restore(arguments: &RestoreArguments) -> Status {
    run(&arguments.hand, Wanted::Restore(arguments.backup.as_deref()), arguments.unqualified)
}

/// `backup`.
pub(crate) fn backup(arguments: &HandArguments) -> Status {
    // Nothing is flashed.
    run(arguments, Wanted::Backup, true)
}

/// What a person wants, as it was typed.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Backup,
    /// From the backup whose id begins so, or else the best one.
    Restore(Option<&'a str>),
}

fn run(arguments: &HandArguments, wanted: Wanted<'_>, unqualified: bool) -> Status {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format!("error: no runtime: {error}"));
            return Status::Stuck;
        }
    };
    match runtime.block_on(work(arguments, wanted, unqualified)) {
        Ok(status) => status,
        Err(failed) => failed.tell(),
    }
}

async fn work(arguments: &HandArguments, wanted: Wanted<'_>, unqualified: bool) -> Result<Status, Failed> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let station =
        prepare::station(disk.as_ref(), &arguments.station).map_err(|errors| Failed::Refused(errors.to_string()))?;
    let slot = slot::find(&station, &arguments.slot).map_err(Failed::Refused)?.clone();
    let clock = Clock::scaled(station.time_scale());
    let state = arguments.state.clone().unwrap_or_else(|| station.state.clone());
    let reports = arguments.reports.clone().unwrap_or_else(|| station.reports.clone());
    prepare::place_for(disk.as_ref(), &state, "state").map_err(Failed::Refused)?;
    prepare::place_for(disk.as_ref(), &reports, "reports").map_err(Failed::Refused)?;
    let named = station_words(&arguments.station, arguments.state.as_deref());
    let vault = prepare::vault(&disk, &station, &state);
    // One that cannot be meant is refused before anything is made or touched.
    let task = match wanted {
        Wanted::Backup => Task::Backup,
        Wanted::Restore(None) => Task::Restore { backup: None },
        Wanted::Restore(Some(id)) => {
            let recorded = backups::recorded(disk.as_ref(), &state).map_err(Failed::Stuck)?;
            Task::Restore { backup: Some(backups::named(&vault, &recorded, id, &named)?.id) }
        }
    };
    prepare::place(disk.as_ref(), &state, "state").map_err(Failed::Stuck)?;
    let mut products = prepare::products(&disk, &station, &state).map_err(Failed::Refused)?;
    let ledger = open_ledger(&disk, &clock, &station, &state).await?;
    let simulated = station.hardware == HardwareKind::Simulated;
    let standings = qualify::standings(&ledger).await?;
    qualify::admit(&mut products, &standings, (simulated, unqualified && !simulated), &arguments.station)
        .map_err(Failed::Refused)?;
    let places = (state.as_path(), reports.as_path());
    Projections::open(&disk, &ledger, &station, &products, &clock, places).await.map_err(Failed::Stuck)?;
    vault.prepare().map_err(|error| Failed::Stuck(error.to_string()))?;
    let line = Line::as_left(&station, &clock, &disk, &state).await.map_err(Failed::Stuck)?;
    if let Err(why) = await_module(line.bus.as_ref(), &clock, &slot, (line.carried() > 0, &named)).await {
        line.stop();
        ledger.close().await;
        return Err(Failed::Stuck(why));
    }
    let batch = batch(&clock)?;
    let from = *ledger.head().borrow() + 1;
    // Whatever is in the other slots is none of this.
    let own = Arc::new(Station { slots: vec![slot], ..station.clone() });
    let started = Controller::start_for(
        Parts {
            station: own,
            products: products.clone(),
            bus: Arc::clone(&line.bus),
            power: Arc::clone(&line.power),
            clock: clock.clone(),
            random: Random::from_host(),
            ledger: ledger.clone(),
            vault: Arc::new(vault),
            simulated: line.is_simulated(),
            batch: batch.clone(),
            units: Some(1),
            wait: Duration::ZERO,
        },
        task,
    )
    .await;
    let controller = match started {
        Ok(controller) => controller,
        Err(error) => {
            line.stop();
            return Err(error.into());
        }
    };
    let handle = controller.handle();
    let display = Display::start(handle.slots(), Some(1), arguments.json);
    let signals = tokio::spawn(obey_signals(handle.clone()));
    let watch = tokio::spawn(stop_after_one(handle, clock.clone()));
    let ended = controller.run().await;
    signals.abort();
    watch.abort();
    display.finish().await;
    line.stop();
    ended?;
    let entries = entries(&ledger, from).await?;
    let status = conclude(arguments, task, &batch, &entries);
    // The report, too, has what was done by hand.
    let reported = Projections::open(&disk, &ledger, &station, &products, &clock, places).await;
    ledger.close().await;
    reported.map_err(Failed::Stuck)?;
    Ok(status)
}

fn batch(clock: &Clock) -> Result<BatchId, Failed> {
    let now = clock.wall().to_string();
    let digits: String = now.chars().take(19).filter(|c| c.is_ascii_digit() || *c == 'T').collect();
    format!("HAND-{digits}").parse().map_err(|error| Failed::Refused(format!("error: {error}")))
}

/// Waits until a module is in the slot; what is not there at once is waited for only where it may still be starting.
/// `station` is how the station is named on the command line.
async fn await_module(
    bus: &dyn Bus,
    clock: &Clock,
    slot: &SlotConfig,
    (may_come, station): (bool, &str),
) -> Result<(), String> {
    let deadline = clock.deadline(COMES_LIMIT);
    loop {
        let listing = bus.list().await.map_err(|error| error.to_string())?;
        let is_module = |mode| !matches!(mode, DeviceMode::Foreign | DeviceMode::Unconfigured);
        let here = slot::devices(slot, &listing.devices);
        if here.iter().any(|device| is_module(device.mode())) {
            return Ok(());
        }
        if !may_come || clock.now() >= deadline {
            let absent = here.first().and_then(|device| Absent::of(device.mode())).unwrap_or(Absent::Empty);
            return Err(absent.told(&slot.name, station));
        }
        clock.sleep(LOOK).await;
    }
}

/// Ends the work once one run has ended, or nothing is done with the module.
async fn stop_after_one(handle: Handle, clock: Clock) {
    let mut batch = handle.batch();
    loop {
        let count = batch.borrow_and_update().clone();
        if count.ends > 0 {
            break;
        }
        let is_idle = count.running == 0 && count.resuming == 0;
        match clock.timeout(IDLE_LIMIT, batch.changed()).await {
            Ok(Ok(())) => {}
            Err(_) if !is_idle => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    handle.stop_gently();
}

async fn entries(ledger: &Ledger, from: u64) -> Result<Vec<Entry>, LedgerError> {
    let mut all = Vec::new();
    let mut next = from;
    loop {
        let entries = ledger.read(next, 256).await?;
        let Some(last) = entries.last() else { return Ok(all) };
        next = last.seq + 1;
        all.extend(entries);
    }
}

fn conclude(arguments: &HandArguments, task: Task, batch: &BatchId, entries: &[Entry]) -> Status {
    let mut summary = Summary::new(batch.clone());
    entries.iter().for_each(|entry| summary.follow(&Recorded::from(entry)));
    let taken = entries.iter().find_map(|entry| match &entry.fact {
        Fact::BackupStored { backup, .. } => Some(backup),
        _ => None,
    });
    let ended = entries.iter().find_map(|entry| match &entry.fact {
        Fact::RunFinished(record) => Some(record.as_ref()),
        _ => None,
    });
    // A module that did not come back, say, is no success, though the backup is there.
    if task == Task::Backup
        && let (Some(backup), Some(record)) = (taken, ended)
        && record.code == Some(FailureCode::Stopped)
    {
        if arguments.json {
            print_json(&serde_json::json!({ "schema": "backup/1", "slot": record.slot, "backup": backup }));
        } else {
            print(&backup_words(backup, record));
        }
        return Status::Good;
    }
    if arguments.json {
        print_json(&summary.to_json());
    } else {
        print(&final_table(&summary));
        if let Some(record) = ended.filter(|record| record.code.is_none()) {
            print(&format!("{}  {} {}  {}\n", record.slot, record.outcome, record.flags, record.detail));
        }
        if ended.is_none() && summary.interrupted().is_empty() {
            print(
                "nothing was done with the module: see the log (-v);\na module whose run is interrupted is finished by `run`\n",
            );
        }
    }
    let is_good = ended.is_some() && summary.is_all_well();
    if is_good { Status::Good } else { Status::NotAllGood }
}

fn backup_words(backup: &BackupRef, record: &RunRecord) -> String {
    let mut text = format!("{}  backup {}\n", record.slot, backup.id);
    let _infallible = writeln!(text, "    chip {}, IMEI {}, {} bytes", backup.chip, backup.imei, backup.bytes);
    text
}
