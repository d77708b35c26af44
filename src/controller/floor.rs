//! What all slots share: the station, its hardware, its records.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::halt::Halt;
use super::permits::Permits;
use super::quota::Quota;
use super::reconcile::SlotView;
use super::restarts::Restarts;
use super::stop::Stop;
use super::visits::Visits;
use crate::config::{Profile, Station};
use crate::domain::{BatchId, ChipId, Family, Imei, RunId, RunState, Sha256Digest, SlotName};
use crate::firmware::Package;
use crate::hardware::{Bus, SlotPower};
use crate::host::{Clock, Random};
use crate::ledger::{Ledger, LedgerError, OpenRun, UnfinishedRun};
use crate::vault::Vault;

/// A profile that is ready to run: with its package opened, or none where it only verifies.
#[derive(Debug, Clone)]
pub struct Product {
    /// The profile.
    pub profile: Arc<Profile>,
    /// Its package, opened once and shared by all slots.
    pub package: Arc<Package>,
    /// Whether the profile is not qualified and runs because somebody said so: each row says it.
    pub unqualified: bool,
    /// Whether each backup is read a second time and compared, as a qualification does.
    pub read_twice: bool,
    /// Whether what belongs to a unit is erased and written again from its backup although the unit is well, as a
    /// qualification does.
    pub round_trip: bool,
}

/// What modules are put into the slots for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Task {
    /// To be flashed and proven.
    #[default]
    Line,
    /// One unit, by hand: only its backup is taken.
    Backup,
    /// One unit, by hand: its EFS is restored from its own backup, and it is flashed and proven.
    Restore {
        /// From which one; `None`: the best there is.
        backup: Option<Sha256Digest>,
    },
}

/// Everything that slots share.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) station: Arc<Station>,
    pub(crate) products: Vec<Product>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) power: Arc<dyn SlotPower>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) ledger: Ledger,
    pub(crate) vault: Arc<Vault>,
    pub(crate) batch: BatchId,
    pub(crate) simulated: bool,
    pub(crate) task: Task,
    pub(crate) permits: Permits,
    pub(crate) board: Board,
    pub(crate) stop: Stop,
    pub(crate) halt: Halt,
    pub(crate) visits: Visits,
    pub(crate) quota: Quota,
    pub(crate) active: Arc<ActiveRuns>,
    pub(crate) restarts: Restarts,
    /// What is plugged into each slot, in the order of the station's slots.
    pub(crate) views: Vec<watch::Receiver<SlotView>>,
}

impl Floor {
    /// The product that a module of this model is made by.
    pub(crate) fn product(&self, model: &str) -> Option<&Product> {
        self.products.iter().find(|product| product.profile.models.iter().any(|known| known == model))
    }

    /// Whether a module is in the slot of that name right now.
    pub(crate) fn is_occupied(&self, slot: &SlotName) -> bool {
        let index = self.station.slots.iter().position(|known| known.name == *slot);
        index.and_then(|index| self.views.get(index)).is_some_and(|view| view.borrow().module().is_some())
    }

    /// Whether a run is interrupted, of whichever unit.
    pub(crate) async fn has_interrupted(&self) -> Result<bool, LedgerError> {
        Ok(self.restarts.has_cured()
            || self.ledger.open_runs().await?.iter().any(|open| open.state == RunState::Interrupted))
    }

    /// Whether a module that says this IMEI may be one whose run is interrupted and which said another one before: a run
    /// of its family is, and it was not asked for its chip yet, or its chip is such a run's.
    pub(crate) async fn may_be_interrupted(&self, imei: Imei, family: &Family) -> Result<bool, LedgerError> {
        let open = self.ledger.open_runs().await?;
        let is_alike = |profile: &str| {
            let product = self.product_named(profile);
            product.is_none_or(|product| product.profile.family.name == family.name)
        };
        let is_interrupted = |open: &&OpenRun| open.state == RunState::Interrupted && is_alike(&open.profile);
        let interrupted = open.iter().filter(is_interrupted);
        let mut chips: Vec<ChipId> = interrupted.map(|open| open.chip).collect();
        let of_profile = |run: &UnfinishedRun| run.profile.as_ref().is_none_or(|(name, ..)| is_alike(name));
        chips.extend(self.restarts.cured_chips(of_profile));
        Ok(!chips.is_empty() && self.visits.chip_of(imei).is_none_or(|chip| chips.contains(&chip)))
    }

    /// Whether a run has not ended: it is being worked on, or interrupted.
    pub(crate) async fn is_open(&self, run: RunId) -> Result<bool, LedgerError> {
        Ok(self.ledger.open_runs().await?.iter().any(|open| open.run == run)
            || self.ledger.unfinished_runs().await?.iter().any(|open| open.run == run))
    }

    /// The product of a run that was started earlier: by profile name, whatever the model says.
    pub(crate) fn product_named(&self, profile: &str) -> Option<&Product> {
        self.products.iter().find(|product| product.profile.name == profile)
    }
}

/// The runs that slots are working on right now, so that no unit is worked on twice.
#[derive(Debug, Default)]
pub(crate) struct ActiveRuns {
    runs: Mutex<BTreeMap<RunId, CancellationToken>>,
}

impl ActiveRuns {
    /// Takes a run; `None` when another slot has it.
    pub(crate) fn take(self: &Arc<Self>, run: RunId) -> Option<ActiveRun> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Vacant(place) = runs.entry(run) else { return None };
        let moved = place.insert(CancellationToken::new()).clone();
        Some(ActiveRun { run, moved, all: Arc::clone(self) })
    }

    /// Tells the slot that works on a run that its unit was seen in another slot.
    pub(crate) fn seen_elsewhere(&self, run: RunId) {
        if let Some(moved) = self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(&run) {
            moved.cancel();
        }
    }
}

/// A run that a slot works on; given up when dropped.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    run: RunId,
    moved: CancellationToken,
    all: Arc<ActiveRuns>,
}

impl ActiveRun {
    /// Cancelled once the unit was seen in another slot.
    pub(crate) fn moved(&self) -> &CancellationToken {
        &self.moved
    }
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        self.all.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.run);
    }
}
