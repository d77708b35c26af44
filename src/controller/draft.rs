//! The record of a run while it is being made.
//!
//! It is shared between a slot and the task that walks the run, so that a panic in the walk loses nothing: the slot
//! still knows what was done, and whether the module was changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::floor::ActiveRun;
use super::waits::Waits;
use crate::domain::{BatchId, Phase, PhaseTime, RunId, RunRecord, SlotName, StationName};
use crate::host::Clock;

/// A record in the making. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    clock: Clock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    record: RunRecord,
    times: BTreeMap<Phase, Duration>,
    waits: Waits,
    entered: Duration,
    begun: bool,
    changed: bool,
    cured: bool,
    /// Keeps other slots from the run until its end is recorded.
    active: Option<ActiveRun>,
}

impl Draft {
    pub(crate) fn new(
        clock: &Clock,
        run: RunId,
        batch: BatchId,
        station: StationName,
        slot: SlotName,
        simulated: bool,
    ) -> Self {
        let mut record = RunRecord::begun(run, batch, station, slot, clock.scale(), clock.wall());
        record.flags.simulated = simulated;
        let inner = Inner {
            record,
            times: BTreeMap::new(),
            waits: Waits::default(),
            entered: clock.now(),
            begun: false,
            changed: false,
            cured: false,
            active: None,
        };
        Self { clock: clock.clone(), inner: Arc::new(Mutex::new(inner)) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the record.
    pub(crate) fn update(&self, change: impl FnOnce(&mut RunRecord)) {
        self.with(|inner| change(&mut inner.record));
    }

    /// How long the run waited for what.
    pub(crate) fn waits(&self) -> Waits {
        self.with(|inner| inner.waits.clone())
    }

    /// A copy of the record as it stands.
    pub(crate) fn record(&self) -> RunRecord {
        self.with(|inner| inner.record.clone())
    }

    /// The run.
    pub(crate) fn run(&self) -> RunId {
        self.with(|inner| inner.record.run)
    }

    /// The phase the run is in.
    pub(crate) fn phase(&self) -> Phase {
        self.with(|inner| inner.record.phase)
    }

    /// Enters a phase; the time since the last change belongs to the one before.
    pub(crate) fn enter(&self, phase: Phase) {
        let now = self.clock.now();
        self.with(|inner| {
            let spent = now.saturating_sub(inner.entered);
            *inner.times.entry(inner.record.phase).or_default() += spent;
            inner.entered = now;
            inner.record.phase = phase;
        });
    }

    /// The ledger knows the run from now on.
    pub(crate) fn set_begun(&self) {
        self.with(|inner| inner.begun = true);
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.with(|inner| inner.begun)
    }

    /// The module may be changed from now on.
    pub(crate) fn set_changed(&self) {
        self.with(|inner| inner.changed = true);
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.with(|inner| inner.changed)
    }

    /// The module is told something that may change what it has stored, from now on: whatever passes in this run was
    /// repaired.
    pub(crate) fn set_cured(&self) {
        self.with(|inner| {
            inner.cured = true;
            inner.record.flags.repaired = true;
        });
    }

    pub(crate) fn is_cured(&self) -> bool {
        self.with(|inner| inner.cured)
    }

    /// Whether the module may be another one than it was before the run, in whichever way.
    pub(crate) fn is_touched(&self) -> bool {
        self.with(|inner| inner.changed || inner.cured)
    }

    /// Keeps the run as long as the draft lives: no other slot takes it before its end is recorded.
    pub(crate) fn hold(&self, active: Option<ActiveRun>) {
        self.with(|inner| inner.active = active);
    }

    /// Cancelled once the run's unit was seen in another slot.
    pub(crate) fn moved(&self) -> CancellationToken {
        self.with(|inner| inner.active.as_ref().map(|active| active.moved().clone())).unwrap_or_default()
    }

    /// The finished record: times summed up, end stamped.
    pub(crate) fn finish(&self) -> RunRecord {
        let phase = self.phase();
        self.enter(phase);
        let ended = self.clock.wall();
        self.with(|inner| {
            inner.record.ended = ended;
            inner.record.waits = inner.waits.times();
            inner.record.phases = inner
                .times
                .iter()
                .map(|(phase, time)| PhaseTime {
                    phase: *phase,
                    milliseconds: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
                })
                .collect();
            inner.record.clone()
        })
    }
}
