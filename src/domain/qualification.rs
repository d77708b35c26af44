//! What a qualification of a profile found: whether it keeps what it promises, on how many units, and how fast.
//!
//! It is a fact of the ledger, computed from the records of real runs that stand before it in the same chain. So
//! whoever audits it can name every run that it rests on, and compute it again.

use serde::{Deserialize, Serialize};

use super::{BatchId, PageRange, Phase, RunId, Sha256Digest, StationName, Wait};

/// Median and 99th percentile of a number of units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The middle value; of an even number the mean of the two, rounded up.
    pub median: u64,
    /// The smallest value that at least 99 of 100 do not exceed; of fewer than 100 units that is the largest one.
    pub p99: u64,
}

/// How long the units were in a phase, all visits together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseSpread {
    /// The phase.
    pub phase: Phase,
    /// Milliseconds of station time.
    pub milliseconds: Spread,
}

/// How long the longest wait of a kind was, and what deadline follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitSpread {
    /// The kind of wait.
    pub wait: Wait,
    /// The longest one of each unit, milliseconds of station time.
    pub milliseconds: Spread,
    /// The profile's deadline, in milliseconds.
    pub limit_ms: u64,
    /// The deadline that follows from what was measured, in milliseconds.
    pub proposed_ms: u64,
}

/// A guarded partition as the units had it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardedSpread {
    /// Its name.
    pub partition: String,
    /// Where it lies.
    pub range: PageRange,
    /// Pages that are not blank, of the unit with the fewest.
    pub used_pages_min: u64,
    /// Of the unit with the most.
    pub used_pages_max: u64,
}

/// What a qualification found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qualification {
    /// The station.
    pub station: StationName,
    /// The batch whose runs it rests on.
    pub batch: BatchId,
    /// The profile's name.
    pub profile: String,
    /// SHA-256 of the profile file. Another file is another profile, and not qualified.
    pub profile_digest: Sha256Digest,
    /// SHA-256 over the package. The same holds for it.
    pub package_digest: Sha256Digest,
    /// Whether the hardware was simulated: then it says nothing of real modules.
    pub simulated: bool,
    /// Whether the profile is qualified.
    pub qualified: bool,
    /// Why not, a sentence each.
    pub findings: Vec<String>,
    /// How many units were asked for.
    pub units_asked: u32,
    /// How many different chips passed.
    pub units: u32,
    /// The runs that they passed in.
    pub runs: Vec<RunId>,
    /// Units whose backups were read twice and were equal.
    pub read_twice: u32,
    /// Units whose guarded partitions were erased, written again from their backup, and equal after that. `None` where
    /// this was not tried.
    pub restored: Option<u32>,
    /// The guarded partitions, the EFS first; empty where units differ.
    pub guarded: Vec<GuardedSpread>,
    /// How long the phases took.
    pub phases: Vec<PhaseSpread>,
    /// How long the longest waits were.
    pub waits: Vec<WaitSpread>,
    /// How long a run took, milliseconds of station time.
    pub run_ms: Spread,
    /// Milliseconds of station time from the first unit's start to the last one's end, divided by the units; with as many
    /// slots as were used.
    pub takt_ms: u64,
    /// Slots that were used.
    pub slots: u32,
}
