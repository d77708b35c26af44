//! The controller: slots, runs, phases, permits, recovery.
//!
//! One reconciler knows what is plugged where; one task per slot serves the module in it; every run is a task of its
//! own below its slot. They share [`floor::Floor`] and speak to each other through it and through the ledger. What
//! others may ask of the controller is [`Handle`]. [`mapping`] works without all of them: it teaches a station its slots.

mod again;
mod backup;
mod board;
mod checks;
mod choose;
mod diagnose;
mod draft;
mod edl;
mod failure;
mod flash;
mod floor;
mod give_back;
mod halt;
mod identify;
pub mod mapping;
mod permits;
mod quota;
mod reconcile;
mod repair;
mod restarts;
mod restore;
mod resume;
mod rework;
mod session;
mod slot;
mod stop;
mod unheard;
mod verify;
mod visits;
mod waits;
mod walk;
mod work;
mod write;
mod xqcn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Station;
use crate::domain::{BatchId, Fact, FailureCode, Outcome, Phase, RunId, Sha256Digest, SlotName, SlotStatus};
use crate::hardware::{Bus, SlotPower};
use crate::host::{Clock, Random};
use crate::ledger::{Ledger, LedgerError, UnfinishedRun};
use crate::vault::Vault;

use board::Board;
use draft::Draft;
use floor::{ActiveRuns, Floor};
use halt::Halt;
use permits::Permits;
use quota::Quota;
use reconcile::SlotView;
use restarts::Restarts;
use slot::Slot;
use stop::Stop;
use visits::Visits;

pub(crate) use failure::SessionError;
pub use floor::{Product, Task};
pub use quota::BatchCount;
pub(crate) use session::at::AtSession;
pub use session::diag::{Collected, Compared, DiagFailure, DiagSession, Restored, Tree};

/// The name under which a backup holds the module's partition table.
pub const TABLE_PART: &str = "mibib";

/// What a controller is made of.
#[derive(Debug)]
pub struct Parts {
    /// The station.
    pub station: Arc<Station>,
    /// Its profiles with their packages.
    pub products: Vec<Product>,
    /// The buses.
    pub bus: Arc<dyn Bus>,
    /// The slots' supply.
    pub power: Arc<dyn SlotPower>,
    /// The clock.
    pub clock: Clock,
    /// For ids.
    pub random: Random,
    /// The record of facts.
    pub ledger: Ledger,
    /// The store of backups.
    pub vault: Arc<Vault>,
    /// Whether the hardware is simulated; part of every record.
    pub simulated: bool,
    /// The batch to work on.
    pub batch: BatchId,
    /// Finished units after which it is complete.
    pub units: Option<u32>,
    /// How long unfinished units are waited for once all others are finished, in station time.
    pub wait: Duration,
}

/// Why the controller ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The batch has all its units.
    Complete,
    /// Units of the batch did not come back in time.
    GaveUp,
    /// It was told to stop.
    Stopped,
    /// The disk has failed or is full. What was under way is recorded, and nothing new was begun;
    /// [`Handle::disk_failure`] says why.
    DiskFailed,
}

/// What others may ask of a running controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    floor: Arc<Floor>,
}

impl Handle {
    /// What every slot is doing, now and whenever that changes.
    #[must_use]
    pub fn slots(&self) -> watch::Receiver<Arc<Vec<SlotStatus>>> {
        self.floor.board.watch()
    }

    /// How the batch stands.
    #[must_use]
    pub fn batch(&self) -> watch::Receiver<BatchCount> {
        self.floor.quota.watch()
    }

    /// Takes no further unit and lets running ones reach a safe point.
    pub fn stop_gently(&self) {
        self.floor.stop.gently();
    }

    /// Why the station's disk cannot be worked with any more, once that is so.
    #[must_use]
    pub fn disk_failure(&self) -> Option<String> {
        self.floor.halt.reason()
    }

    /// Leaves everything as it is, to be resumed.
    pub fn stop_now(&self) {
        self.floor.stop.now();
    }
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    handle: Handle,
    slots: JoinSet<Result<(), LedgerError>>,
    reconciler: JoinSet<Result<(), LedgerError>>,
    wait: Duration,
}

impl Controller {
    /// Starts to work: opens the batch, looks at what an earlier controller left open, and serves the slots.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub async fn start(parts: Parts) -> Result<Self, LedgerError> {
        Self::start_for(parts, Task::Line).await
    }

    /// The same for something else than the line's work.
    ///
    /// # Errors
    /// As [`Controller::start`].
    pub async fn start_for(parts: Parts, task: Task) -> Result<Self, LedgerError> {
        let ledger = &parts.ledger;
        ledger
            .append(Fact::StationStarted {
                station: parts.station.name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                simulated: parts.simulated,
                time_scale: parts.clock.scale(),
                config: parts.station.digest,
            })
            .await?;
        ledger
            .append(Fact::BatchOpened {
                batch: parts.batch.clone(),
                units: parts.units,
                profiles: digests(&parts.products),
            })
            .await?;
        let open = interrupted_before(ledger).await?;
        let of_batch = open.iter().filter(|open| open.batch == parts.batch);
        let interrupted: BTreeSet<RunId> = of_batch.map(|open| open.run).collect();
        let unfinished = ledger.unfinished_runs().await?;
        let finished = ledger.finished_in_batch(parts.batch.clone()).await?;
        let station = Arc::clone(&parts.station);
        let (senders, views): (Vec<_>, Vec<_>) =
            station.slots.iter().map(|_| watch::channel(SlotView::default())).unzip();
        let floor = Arc::new(Floor {
            permits: Permits::new(station.slots.iter().map(|slot| &slot.usb2), station.permits_per_root_port),
            board: Board::new(station.slots.iter().map(|slot| slot.name.clone())),
            quota: Quota::new(parts.units, finished, interrupted),
            stop: Stop::default(),
            halt: Halt::new(parts.ledger.health()),
            visits: Visits::default(),
            active: Arc::new(ActiveRuns::default()),
            restarts: Restarts::new(unfinished),
            views: views.clone(),
            station: parts.station,
            products: parts.products,
            bus: parts.bus,
            power: parts.power,
            clock: parts.clock,
            random: parts.random,
            ledger: parts.ledger,
            vault: parts.vault,
            batch: parts.batch,
            simulated: parts.simulated,
            task,
        });
        let mut slots = JoinSet::new();
        for (index, view) in views.into_iter().enumerate() {
            let name = &floor.station.slots[index].name;
            let left = open.iter().rev().find(|open| open.slot == *name).map(|open| open.run);
            slots.spawn(Slot::new(Arc::clone(&floor), index, view, left).work());
        }
        let mut reconciler = JoinSet::new();
        reconciler.spawn(reconcile::run(Arc::clone(&floor), senders));
        Ok(Self { handle: Handle { floor }, slots, reconciler, wait: parts.wait })
    }

    /// What others may ask.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Works until the batch is complete, or given up, or the station is stopped; then closes what is open.
    ///
    /// # Errors
    /// When the ledger cannot make facts durable: the station cannot go on.
    pub async fn run(mut self) -> Result<End, LedgerError> {
        let floor = Arc::clone(&self.handle.floor);
        let end = tokio::select! {
            biased;
            failed = Self::first_failure(&mut self.slots, &mut self.reconciler) => {
                floor.stop.now();
                Err(failed)
            }
            () = floor.halt.until() => Ok(End::DiskFailed),
            () = floor.stop.until_gentle() => Ok(End::Stopped),
            end = Self::batch_end(&floor, self.wait) => Ok(end),
        };
        floor.stop.gently();
        let mut result = end;
        while let Some(joined) = self.slots.join_next().await {
            if let Ok(Err(error)) = joined {
                floor.stop.now();
                result = Err(error);
            }
        }
        self.reconciler.abort_all();
        let end = result?;
        close_unfinished(&floor).await?;
        floor.ledger.append(Fact::StationStopped { station: floor.station.name.clone() }).await?;
        // Also where that came while the last runs were ending.
        Ok(if floor.halt.reason().is_some() { End::DiskFailed } else { end })
    }

    async fn first_failure(
        slots: &mut JoinSet<Result<(), LedgerError>>,
        reconciler: &mut JoinSet<Result<(), LedgerError>>,
    ) -> LedgerError {
        loop {
            let joined = tokio::select! {
                biased;
                Some(joined) = slots.join_next() => joined,
                Some(joined) = reconciler.join_next() => joined,
                else => std::future::pending().await,
            };
            match joined {
                Ok(Err(error)) => return error,
                Ok(Ok(())) => {}
                Err(error) => tracing::error!(%error, "a task of the controller ended"),
            }
        }
    }

    async fn batch_end(floor: &Floor, wait: Duration) -> End {
        let mut count = floor.quota.watch();
        loop {
            let now = count.borrow_and_update().clone();
            if floor.quota.is_complete() {
                return End::Complete;
            }
            // Units that are still to come are waited for as long as it takes; interrupted ones only for a while.
            let is_idle = now.running == 0 && now.resuming == 0;
            if is_idle && !now.interrupted.is_empty() && floor.quota.is_taken() {
                match floor.clock.timeout(wait, count.changed()).await {
                    Ok(_) => {}
                    Err(_) => return End::GaveUp,
                }
            } else if count.changed().await.is_err() {
                return End::Stopped;
            }
        }
    }
}

/// A run that is interrupted when a controller begins.
struct Interrupted {
    run: RunId,
    batch: BatchId,
    slot: SlotName,
}

/// The runs that are interrupted when a controller begins, by when they began. What ended the one before without a word
/// is said now, so that whoever follows the facts knows of every interruption.
async fn interrupted_before(ledger: &Ledger) -> Result<Vec<Interrupted>, LedgerError> {
    let mut all = Vec::new();
    for open in ledger.open_runs().await? {
        let phase = if open.flashed.is_some() { Phase::Verify } else { Phase::Flash };
        let is_said = open.interruption.is_some();
        all.push((Interrupted { run: open.run, batch: open.batch, slot: open.slot }, is_said, phase));
    }
    for cured in ledger.unfinished_runs().await?.into_iter().filter(UnfinishedRun::is_cured) {
        // What it was told is followed by a start.
        let is_said = cured.interruption.is_some();
        all.push((Interrupted { run: cured.run, batch: cured.batch, slot: cured.slot }, is_said, Phase::Reset));
    }
    all.sort_by_key(|(interrupted, ..)| interrupted.run);
    for (Interrupted { run, .. }, _, phase) in all.iter().filter(|(_, is_said, _)| !is_said) {
        let detail = "the controller ended without a word".to_owned();
        let code = FailureCode::ControllerDied;
        ledger.append(Fact::RunInterrupted { run: *run, phase: *phase, code, detail }).await?;
    }
    Ok(all.into_iter().map(|(interrupted, ..)| interrupted).collect())
}

fn digests(products: &[Product]) -> BTreeMap<String, (Sha256Digest, Sha256Digest)> {
    products
        .iter()
        .map(|product| (product.profile.name.clone(), (product.profile.digest, product.package.digest())))
        .collect()
}

/// Ends the runs that a restart cut off before anything was changed and whose units did not come back.
async fn close_unfinished(floor: &Floor) -> Result<(), LedgerError> {
    for run in floor.restarts.drain() {
        floor.ledger.append(Fact::RunFinished(Box::new(closed(floor, &run)))).await?;
    }
    Ok(())
}

fn closed(floor: &Floor, run: &UnfinishedRun) -> crate::domain::RunRecord {
    let draft = Draft::new(
        &floor.clock,
        run.run,
        run.batch.clone(),
        floor.station.name.clone(),
        run.slot.clone(),
        floor.simulated,
    );
    draft.update(|record| {
        record.started = run.started;
        record.chip = run.chip();
        record.attempt = run.claim.as_ref().map_or(0, |(.., attempt)| *attempt);
        record.before.clone_from(&run.identity);
        record.outcome = Outcome::Aborted;
        record.code = Some(FailureCode::Stopped);
        "the controller ended before the flash had begun".clone_into(&mut record.detail);
    });
    draft.finish()
}
