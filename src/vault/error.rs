//! What can go wrong with a backup.

use std::io;
use std::path::{Path, PathBuf};

use super::section::ReadError;
use crate::domain::{FailureCode, Sha256Digest};
use crate::host::disk_words;

/// Why a backup was not stored, or not given out.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The disk refused.
    #[error("{}: {}", path.display(), disk_words(source))]
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
    #[error("backup {id}: {fault}; {}", fault.remedy())]
    Damaged {
        /// The backup.
        id: Sha256Digest,
        /// Its file, and what is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with one file of a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// What helps against it.
    pub damage: Damage,
    /// What is wrong, as a clause.
    pub reason: String,
}

/// What kind of fault a file has: it decides what helps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Damage {
    /// It is not there.
    Missing,
    /// None of the keys at hand opens it.
    OtherKey,
    /// It is not what was stored.
    Content,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl Fault {
    const fn remedy(&self) -> &'static str {
        match self.damage {
            Damage::Missing | Damage::Content => "restore the file from a copy",
            Damage::OtherKey => "put back the key that it is sealed to",
        }
    }

    fn of(path: &Path, error: ReadError) -> Result<Self, io::Error> {
        let (damage, reason) = match error {
            ReadError::Disk(source) => return Err(source),
            ReadError::Missing => (Damage::Missing, "its file is missing".to_owned()),
            ReadError::OtherKey => {
                (Damage::OtherKey, "it is sealed to another key, or its head was altered".to_owned())
            }
            ReadError::Damaged(reason) => (Damage::Content, reason),
        };
        Ok(Self { path: path.to_owned(), damage, reason })
    }
}

impl VaultError {
    pub(super) fn disk(path: &Path, source: io::Error) -> Self {
        Self::Disk { path: path.to_owned(), source }
    }

    pub(super) fn of_file(id: Sha256Digest, path: &Path, error: ReadError) -> Self {
        match Fault::of(path, error) {
            Ok(fault) => Self::Damaged { id, fault },
            Err(source) => Self::disk(path, source),
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
