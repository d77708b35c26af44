//! What all slots share: the station, its hardware, its records.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::board::Board;
use super::permits::Permits;
use super::quota::Quota;
use super::restarts::Restarts;
use super::stop::Stop;
use crate::config::{Profile, Station};
use crate::domain::{BatchId, RunId};
use crate::firmware::Package;
use crate::hardware::{Bus, SlotPower};
use crate::host::{Clock, Random};
use crate::ledger::Ledger;
use crate::vault::Vault;

/// A profile that is ready to run: with its package opened, or none where it only verifies.
#[derive(Debug, Clone)]
pub struct Product {
    /// The profile.
    pub profile: Arc<Profile>,
    /// Its package, opened once and shared by all slots.
    pub package: Arc<Package>,
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
    pub(crate) permits: Permits,
    pub(crate) board: Board,
    pub(crate) stop: Stop,
    pub(crate) quota: Quota,
    pub(crate) active: Arc<ActiveRuns>,
    pub(crate) restarts: Restarts,
}

impl Floor {
    /// The product that a module of this model is made by.
    pub(crate) fn product(&self, model: &str) -> Option<&Product> {
        self.products.iter().find(|product| product.profile.models.iter().any(|known| known == model))
    }

    /// The product of a run that was started earlier: by profile name, whatever the model says.
    pub(crate) fn product_named(&self, profile: &str) -> Option<&Product> {
        self.products.iter().find(|product| product.profile.name == profile)
    }
}

/// The runs that slots are working on right now, so that no unit is worked on twice.
#[derive(Debug, Default)]
pub(crate) struct ActiveRuns {
    runs: Mutex<BTreeSet<RunId>>,
}

impl ActiveRuns {
    /// Takes a run; `None` when another slot has it.
    pub(crate) fn take(self: &Arc<Self>, run: RunId) -> Option<ActiveRun> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(run).then(|| ActiveRun { run, all: Arc::clone(self) })
    }
}

/// A run that a slot works on; given up when dropped.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    run: RunId,
    all: Arc<ActiveRuns>,
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        self.all.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.run);
    }
}
