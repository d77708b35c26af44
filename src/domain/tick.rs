//! Ticks: what a slot is doing right now. They may be lost; nothing is decided by them.

use std::time::Duration;

use serde::Serialize;

use super::{FailureCode, Outcome, Phase, RunId, SlotName};

/// What a slot is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// No module in it.
    Empty,
    /// A module is there and no run is under way: starting up, or waiting to be taken.
    Waiting,
    /// A run is under way.
    Running,
    /// The last run is finished and its module has not been removed yet.
    Done,
    /// A run of a unit that was here is interrupted and waits for the unit.
    Interrupted,
    /// The slot's hub is gone.
    HubLost,
}

impl SlotState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Empty, Self::Waiting, Self::Running, Self::Done, Self::Interrupted, Self::HubLost];

    /// The word used on the screen and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Interrupted => "interrupted",
            Self::HubLost => "hub-lost",
        }
    }
}

/// A slot as it is now, for displays.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SlotStatus {
    /// Which slot.
    pub slot: SlotName,
    /// Grows with every change; commands name the version they were given for.
    pub version: u64,
    /// What it is doing.
    pub state: SlotState,
    /// The run under way, or the last one while its module is still there.
    pub run: Option<RunId>,
    /// The phase of the run.
    pub phase: Option<Phase>,
    /// Bytes moved in this phase.
    pub bytes_done: u64,
    /// Bytes that the phase will move; 0 where it moves none.
    pub bytes_total: u64,
    /// Bytes per second of station time in this phase.
    pub bytes_per_second: f64,
    /// How long the run has taken, in station time.
    pub elapsed: Duration,
    /// The outcome of the last run while its module is still there.
    pub outcome: Option<Outcome>,
    /// And its failure code.
    pub code: Option<FailureCode>,
    /// The model of the module, printable.
    pub model: Option<String>,
}

impl SlotStatus {
    /// A slot nothing is known of yet.
    #[must_use]
    pub fn empty(slot: SlotName) -> Self {
        Self {
            slot,
            version: 0,
            state: SlotState::Empty,
            run: None,
            phase: None,
            bytes_done: 0,
            bytes_total: 0,
            bytes_per_second: 0.0,
            elapsed: Duration::ZERO,
            outcome: None,
            code: None,
            model: None,
        }
    }
}
