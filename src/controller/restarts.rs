//! Runs that were begun and never finished, and did not come to a flash: those of an earlier controller, and those of a
//! unit that was told something and then left.
//!
//! When their unit is met again the run goes on under its own id, so that a crash of the controller does not show as
//! an extra run in anybody's counts, and what a unit was told is not forgotten.

use std::sync::{Mutex, PoisonError};

use crate::domain::{ChipId, Imei};
use crate::ledger::UnfinishedRun;

/// The runs that wait for their unit.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    runs: Mutex<Vec<UnfinishedRun>>,
}

impl Restarts {
    pub(crate) fn new(runs: Vec<UnfinishedRun>) -> Self {
        Self { runs: Mutex::new(runs) }
    }

    /// Waits for the unit of a run that was interrupted just now.
    pub(crate) fn put(&self, run: UnfinishedRun) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).push(run);
    }

    /// Whether a run waits whose unit was told something.
    pub(crate) fn has_cured(&self) -> bool {
        self.knows(UnfinishedRun::is_cured)
    }

    /// The chips of the units that were told something.
    pub(crate) fn cured_chips(&self, fits: impl Fn(&UnfinishedRun) -> bool) -> Vec<ChipId> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.iter().filter(|run| run.is_cured() && fits(run)).filter_map(UnfinishedRun::chip).collect()
    }

    /// Takes the run of a unit: of its chip, where it was asked for that, or else of its IMEI.
    pub(crate) fn take_of(&self, chip: Option<ChipId>, imei: Option<Imei>) -> Option<UnfinishedRun> {
        self.take(|run| {
            let said = run.identity.as_ref().and_then(|identity| identity.imei);
            match (run.is_cured(), chip) {
                (true, Some(chip)) => run.chip() == Some(chip),
                (true, None) => imei.is_some() && run.imei == imei,
                (false, _) => imei.is_some() && said == imei,
            }
        })
    }

    /// Takes the run that fits.
    pub(crate) fn take(&self, fits: impl Fn(&UnfinishedRun) -> bool) -> Option<UnfinishedRun> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let index = runs.iter().position(fits)?;
        Some(runs.remove(index))
    }

    /// Whether there is a run that fits.
    pub(crate) fn knows(&self, fits: impl Fn(&UnfinishedRun) -> bool) -> bool {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).iter().any(fits)
    }

    /// Takes all that are left and changed nothing. The others are interrupted, and stay so.
    pub(crate) fn drain(&self) -> Vec<UnfinishedRun> {
        let runs = std::mem::take(&mut *self.runs.lock().unwrap_or_else(PoisonError::into_inner));
        runs.into_iter().filter(|run| !run.is_cured()).collect()
    }
}
