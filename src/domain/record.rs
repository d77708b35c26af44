//! The record of a finished run: one row of a report.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    BatchId, ChipId, Diagnosis, FailureCode, Flags, Guard, Identity, KeyHash, Measurement, Outcome, Phase, PortChain,
    RunId, Sha256Digest, SlotName, StationName, WaitTime,
};

/// How long a run was in a phase, all its visits together.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseTime {
    /// The phase.
    pub phase: Phase,
    /// Milliseconds of station time.
    pub milliseconds: u64,
}

/// Everything a report says of one run. Durations are in station time (see `time_scale`), timestamps are the host's
/// wall clock.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// The batch it was started under.
    pub batch: BatchId,
    /// The station.
    pub station: StationName,
    /// The slot in which it finished.
    pub slot: SlotName,
    /// The chain at which the module was found in normal mode.
    pub chain_normal: Option<PortChain>,
    /// The chain at which it was found in download mode.
    pub chain_edl: Option<PortChain>,
    /// The profile's name; empty when none fitted.
    pub profile: String,
    /// SHA-256 of the profile file.
    pub profile_digest: Option<Sha256Digest>,
    /// SHA-256 over the package.
    pub package_digest: Option<Sha256Digest>,
    /// The chip, once it was read.
    pub chip: Option<ChipId>,
    /// The digest of the key it trusts.
    pub key_hash: Option<KeyHash>,
    /// What the module said of itself on arrival.
    pub before: Option<Identity>,
    /// What it said in the last verification.
    pub after: Option<Identity>,
    /// The checks of the last verification.
    pub measurements: Vec<Measurement>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not pass.
    pub code: Option<FailureCode>,
    /// More for people: what exactly was found; printable.
    pub detail: String,
    /// The phase in which it ended.
    pub phase: Phase,
    /// What else is true of it.
    pub flags: Flags,
    /// Which attempt at this unit it was, from 1; 0 when the unit was never identified.
    pub attempt: u32,
    /// Boots after the flash that passed every check.
    pub boots_verified: u32,
    /// Boots that the profile asks for.
    pub boots_required: u32,
    /// Time in each phase, in the order of the phases.
    pub phases: Vec<PhaseTime>,
    /// The longest wait of each kind, of those that occurred and were not in vain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitTime>,
    /// Bytes written to the module.
    pub bytes_written: u64,
    /// Bytes per second while writing, in station time; 0 when nothing was written.
    pub bytes_per_second: u64,
    /// Bad blocks of its storage, as far as the programmer told.
    pub bad_blocks: u32,
    /// The backup that was taken, or used.
    pub backup: Option<Sha256Digest>,
    /// Which backups were durable when the module was changed; `None` where nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// What was wrong with the unit, where it was found not to be well: the last diagnosis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// How much faster than the wall clock the station's time ran.
    pub time_scale: u32,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
}

impl RunRecord {
    /// The record of a run that has just begun, at `now`: nothing is known of its unit yet.
    #[must_use]
    pub fn begun(
        run: RunId,
        batch: BatchId,
        station: StationName,
        slot: SlotName,
        time_scale: u32,
        now: Timestamp,
    ) -> Self {
        Self {
            run,
            batch,
            station,
            slot,
            chain_normal: None,
            chain_edl: None,
            profile: String::new(),
            profile_digest: None,
            package_digest: None,
            chip: None,
            key_hash: None,
            before: None,
            after: None,
            measurements: Vec::new(),
            outcome: Outcome::Error,
            code: None,
            detail: String::new(),
            phase: Phase::Identify,
            flags: Flags::default(),
            attempt: 0,
            boots_verified: 0,
            boots_required: 0,
            phases: Vec::new(),
            waits: Vec::new(),
            bytes_written: 0,
            bytes_per_second: 0,
            bad_blocks: 0,
            backup: None,
            guard: None,
            diagnosis: None,
            time_scale,
            started: now,
            ended: now,
        }
    }
}
