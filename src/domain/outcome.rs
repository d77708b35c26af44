//! How a run stands and how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a finished run ended. FAIL means the unit is bad; ERROR means the station is, and the unit was not judged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// Flashed (or only verified, where the profile says so) and proven.
    Pass,
    /// The unit is bad.
    Fail,
    /// The station, a hub or the host is bad; the unit was not judged.
    Error,
    /// Refused: nothing on the unit was changed, and it is back as it was.
    Held,
    /// Ended by the operator or an unplug before anything was changed.
    Aborted,
}

impl Outcome {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 5] = [Self::Pass, Self::Fail, Self::Error, Self::Held, Self::Aborted];

    /// The word used everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Error => "ERROR",
            Self::Held => "HELD",
            Self::Aborted => "ABORTED",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a run stands. Only a finished one has an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Under way.
    Running,
    /// The unit was changed and the run did not finish; it must be resumed.
    Interrupted,
    /// Has exactly one outcome.
    Finished,
}

/// The phases of a run, in the order in which they happen. `Verify` comes once per boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// AT: model, revision, IMEI, CFUN, bands, calibration.
    Identify,
    /// A profile fits, and the unit may be touched.
    Admit,
    /// Waiting for bandwidth on the unit's root port.
    Permit,
    /// The switch into emergency download mode.
    EnterEdl,
    /// Sahara: chip serial, hardware id, key hash, before any code is sent.
    Probe,
    /// The programmer is started; geometry and partition table are read; the plan is bound to them.
    Load,
    /// The guarded partitions are read and made durable.
    Backup,
    /// Erase and program, boot loader last.
    Flash,
    /// Out of download mode.
    Reset,
    /// The checks after a boot.
    Verify,
    /// The outcome is made durable.
    Record,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Identify,
        Self::Admit,
        Self::Permit,
        Self::EnterEdl,
        Self::Probe,
        Self::Load,
        Self::Backup,
        Self::Flash,
        Self::Reset,
        Self::Verify,
        Self::Record,
    ];

    /// The word used on the screen, in metrics and in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Admit => "admit",
            Self::Permit => "permit",
            Self::EnterEdl => "enter-edl",
            Self::Probe => "probe",
            Self::Load => "load",
            Self::Backup => "backup",
            Self::Flash => "flash",
            Self::Reset => "reset",
            Self::Verify => "verify",
            Self::Record => "record",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Phase {
    type Err = super::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text).ok_or(super::IdError::Format { what: "phase" })
    }
}

/// What else is true of a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flags {
    /// Passed after an automatic repair.
    pub repaired: bool,
    /// Was interrupted and finished later.
    pub resumed: bool,
    /// The unit must be set aside; a lead lifts it.
    pub quarantined: bool,
    /// The hardware was simulated.
    pub simulated: bool,
    /// Made with a profile that was not qualified, because somebody said so.
    #[serde(skip_serializing_if = "is_false")]
    pub unqualified: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
pub(super) const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl fmt::Display for Flags {
    /// The words of the flags that are set, separated by blanks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = [
            (self.repaired, "repaired"),
            (self.resumed, "resumed"),
            (self.quarantined, "quarantined"),
            (self.simulated, "simulated"),
            (self.unqualified, "unqualified"),
        ]
        .into_iter()
        .filter_map(|(set, word)| set.then_some(word))
        .collect();
        f.pad(&words.join(" "))
    }
}
