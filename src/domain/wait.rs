//! What a run waits for, and how long it did.
//!
//! Each kind of wait has a deadline of that name in a profile's `timeouts`. The longest wait of each kind is part of a
//! run's record, so that deadlines can be judged by what they were needed for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// The answer to one AT command.
    At,
    /// From the AT port to its first answer; and everything that is asked then.
    Ready,
    /// From the switch to download mode until it is seen.
    Edl,
    /// A packet of Sahara before the programmer is sent.
    Hello,
    /// A packet of Sahara while the programmer is sent, and the programmer's first word.
    Loader,
    /// The answer to a command that neither erases nor reads.
    Configure,
    /// The answer to one erase.
    Erase,
    /// The answer after the last byte of one program.
    ProgramAck,
    /// One transfer of data.
    Transfer,
    /// The answers before and after the data of one read.
    Read,
    /// Until a module that was told to restart, or whose supply was cut, is off the bus.
    Reset,
    /// From there until it is back in normal mode.
    Boot,
}

impl Wait {
    /// All of them, in the order of [`Wait`].
    pub const ALL: [Self; 12] = [
        Self::At,
        Self::Ready,
        Self::Edl,
        Self::Hello,
        Self::Loader,
        Self::Configure,
        Self::Erase,
        Self::ProgramAck,
        Self::Transfer,
        Self::Read,
        Self::Reset,
        Self::Boot,
    ];

    /// The key of its deadline in a profile's `timeouts`, without the unit.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::At => "at",
            Self::Ready => "ready",
            Self::Edl => "edl",
            Self::Hello => "hello",
            Self::Loader => "loader",
            Self::Configure => "configure",
            Self::Erase => "erase",
            Self::ProgramAck => "program_ack",
            Self::Transfer => "transfer",
            Self::Read => "read",
            Self::Reset => "reset",
            Self::Boot => "boot",
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The longest wait of a kind in one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitTime {
    /// The kind.
    pub wait: Wait,
    /// Milliseconds of station time, rounded up.
    pub milliseconds: u64,
}
