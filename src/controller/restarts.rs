//! Runs that an earlier controller began and never finished, without having changed anything.
//!
//! When their unit is met again the run goes on under its own id, so that a crash of the controller does not show as
//! an extra run in anybody's counts.

use std::sync::{Mutex, PoisonError};

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

    /// Takes all that are left.
    pub(crate) fn drain(&self) -> Vec<UnfinishedRun> {
        std::mem::take(&mut *self.runs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
