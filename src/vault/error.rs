//! What can go wrong with a backup.

use std::io;
use std::path::{Path, PathBuf};

use super::section::ReadError;
use crate::domain::{FailureCode, Sha256Digest};

/// Why a backup was not stored, or not given out.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The disk refused.
    #[error("{}: {source}", path.display())]
    Disk {
        /// What was being read or written.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// What was read from the module is not a file system in use.
    #[error("partition `{partition}`: {reason}")]
    Implausible {
        /// The partition.
        partition: String,
        /// What is wrong with its content.
        reason: String,
    },
    /// The content does not fill its range, or overfills it.
    #[error("partition `{partition}` has {expected} bytes, {found} were read")]
    Length {
        /// The partition.
        partition: String,
        /// Bytes of its range.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The draft itself cannot be a backup.
    #[error("this is no backup: {reason}")]
    Draft {
        /// Why.
        reason: String,
    },
    /// A key of the vault cannot be used.
    #[error("the key {}: {reason}", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A stored file is not what was stored.
    #[error("backup {id}: {reason}; restore the file {} from a copy", path.display())]
    Damaged {
        /// The backup.
        id: Sha256Digest,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl VaultError {
    pub(super) fn disk(path: &Path, source: io::Error) -> Self {
        Self::Disk { path: path.to_owned(), source }
    }

    pub(super) fn of_file(id: Sha256Digest, path: &Path, error: ReadError) -> Self {
        match error {
            ReadError::Disk(source) => Self::disk(path, source),
            ReadError::Damaged(reason) => Self::Damaged { id, path: path.to_owned(), reason },
        }
    }

    pub(super) fn draft(reason: impl Into<String>) -> Self {
        Self::Draft { reason: reason.into() }
    }

    /// The failure code under which a run ends because of it.
    #[must_use]
    pub const fn code(&self) -> FailureCode {
        match self {
            Self::Disk { .. } | Self::Key { .. } | Self::Damaged { .. } => FailureCode::DiskFailed,
            Self::Implausible { .. } | Self::Draft { .. } => FailureCode::BackupInvalid,
            Self::Length { .. } => FailureCode::BackupFailed,
        }
    }
}
