//! What can go wrong with the ledger.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::FailureCode;
use crate::host::disk_words;

use super::index;

/// Why the ledger did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Somebody else writes to it.
    #[error("another controller works on this state directory ({} is locked); stop it, or choose another directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The disk refused.
    #[error("{}: {}", path.display(), disk_words(source))]
    Disk {
        /// What was being read or written.
        path: PathBuf,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// What is recorded was altered or damaged. It is never repaired by a program.
    #[error(
        "{segment}, line {line}: {reason}; the record was altered or damaged, run `stationmaster verify` and restore \
         the file from a copy"
    )]
    Corrupt {
        /// The file's name.
        segment: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Entries that were durable are gone from the end.
    #[error(
        "the ledger ends at entry {ledger} but entry {index} was recorded: its end was cut off; restore it from a \
         copy, or remove `index.sqlite` if the loss is known and accepted"
    )]
    Shortened {
        /// The last entry that is there.
        ledger: u64,
        /// The last entry that the index has seen.
        index: u64,
    },
    /// An earlier write failed. What is on the disk is unknown until a restart has read it again.
    #[error("the ledger stopped after a failed write ({reason}); restart the controller once the disk is well")]
    Poisoned {
        /// The failure that stopped it.
        reason: String,
    },
    /// The writer has ended.
    #[error("the ledger is closed")]
    Closed,
    /// The index failed. It may be removed; it is made anew.
    #[error("the ledger's index failed: {reason}; remove `index.sqlite`, it is made anew")]
    Index {
        /// What SQLite said.
        reason: String,
    },
    /// A fact is longer than a line may be.
    #[error("a fact of {bytes} bytes is longer than a line of the ledger may be")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The fact contradicts what is recorded; nothing was written.
    #[error("the fact was refused: {reason}")]
    Refused {
        /// Which rule it breaks.
        reason: String,
    },
}

impl LedgerError {
    pub(super) fn disk(path: &Path, source: io::Error) -> Self {
        Self::Disk { path: path.to_owned(), source: Arc::new(source) }
    }

    pub(super) fn corrupt(segment: &str, line: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { segment: segment.to_owned(), line, reason: reason.into() }
    }

    /// The failure code under which a run ends that could not go on because of it.
    #[must_use]
    pub const fn code(&self) -> FailureCode {
        match self {
            Self::Disk { .. } | Self::Corrupt { .. } | Self::Shortened { .. } | Self::Poisoned { .. } => {
                FailureCode::DiskFailed
            }
            Self::Locked { .. } | Self::Closed | Self::Index { .. } | Self::TooLong { .. } | Self::Refused { .. } => {
                FailureCode::Internal
            }
        }
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => io::ErrorKind::StorageFull,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => io::ErrorKind::Other,
            _ => return Self::Index { reason: error.to_string() },
        };
        Self::disk(Path::new(index::FILE), io::Error::new(kind, error.to_string()))
    }
}

impl From<serde_json::Error> for LedgerError {
    fn from(error: serde_json::Error) -> Self {
        Self::Index { reason: error.to_string() }
    }
}
