//! What a module says instead of an answer, and what is wrong with an answer that makes no sense.

use std::fmt;

/// Why a module refuses a command altogether: the first byte of the answer, which otherwise repeats the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It does not know the command (`13`).
    Command,
    /// A parameter makes no sense to it (`14`).
    Parameter,
    /// The request has the wrong length (`15`).
    Length,
    /// It does not belong to this device (`16`).
    Device,
    /// Not in the mode the module is in (`17`, `18`).
    Mode,
    /// The service programming code was not sent (`42`).
    Locked,
    /// The security password was not sent (`47`).
    Security,
}

impl Refusal {
    /// Of an answer's first byte.
    #[must_use]
    pub const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0x13 => Self::Command,
            0x14 => Self::Parameter,
            0x15 => Self::Length,
            0x16 => Self::Device,
            0x17 | 0x18 => Self::Mode,
            0x42 => Self::Locked,
            0x47 => Self::Security,
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Command => "unknown command",
            Self::Parameter => "bad parameter",
            Self::Length => "bad length",
            Self::Device => "not for this device",
            Self::Mode => "not in this mode",
            Self::Locked => "the service programming code is missing",
            Self::Security => "the security password is missing",
        })
    }
}

/// Why an NV item was not read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NvStatus {
    /// Busy (1).
    Busy,
    /// Unknown command (2).
    BadCommand,
    /// No room (3).
    Full,
    /// Failed (4).
    Failed,
    /// The item has never been written (5): the usual answer in a scan.
    NotActive,
    /// No such item, or not with this index (6).
    BadParameter,
    /// It may not be written (again) (7).
    ReadOnly,
    /// Not defined in this build (8).
    NotDefined,
    /// Another number.
    Other(u16),
}

impl NvStatus {
    /// Of the status word; `None` for 0, done.
    #[must_use]
    pub const fn of(word: u16) -> Option<Self> {
        Some(match word {
            0 => return None,
            1 => Self::Busy,
            2 => Self::BadCommand,
            3 => Self::Full,
            4 => Self::Failed,
            5 => Self::NotActive,
            6 => Self::BadParameter,
            7 => Self::ReadOnly,
            8 => Self::NotDefined,
            other => Self::Other(other),
        })
    }

    /// Whether it says that there is no such item: nothing to back up, and no failure.
    #[must_use]
    pub const fn is_absent(self) -> bool {
        matches!(self, Self::NotActive | Self::BadParameter | Self::NotDefined)
    }
}

impl fmt::Display for NvStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Busy => "busy",
            Self::BadCommand => "bad command",
            Self::Full => "no room",
            Self::Failed => "failed",
            Self::NotActive => "not active",
            Self::BadParameter => "bad parameter",
            Self::ReadOnly => "read only",
            Self::NotDefined => "not defined",
            Self::Other(status) => return write!(formatter, "status {status}"),
        })
    }
}

/// An error number of the module's file system. The numbers are those of POSIX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// No such file or directory.
    pub const NOT_FOUND: Self = Self(2);
    /// Not a handle that is open.
    pub const BAD_HANDLE: Self = Self(9);
    /// Not permitted: access lists, and more directories open than the module allows.
    pub const ACCESS: Self = Self(13);
    /// It exists already.
    pub const EXISTS: Self = Self(17);
    /// No space left: also while the journal is full.
    pub const NO_SPACE: Self = Self(28);

    /// The POSIX name; `None` for a number that has none here.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "EPERM",
            2 => "ENOENT",
            5 => "EIO",
            6 => "ENXIO",
            9 => "EBADF",
            11 => "EAGAIN",
            12 => "ENOMEM",
            13 => "EACCES",
            16 => "EBUSY",
            17 => "EEXIST",
            18 => "EXDEV",
            19 => "ENODEV",
            20 => "ENOTDIR",
            21 => "EISDIR",
            22 => "EINVAL",
            23 => "ENFILE",
            24 => "EMFILE",
            27 => "EFBIG",
            28 => "ENOSPC",
            29 => "ESPIPE",
            30 => "EROFS",
            36 => "ENAMETOOLONG",
            39 => "ENOTEMPTY",
            40 => "ELOOP",
            _ => return None,
        })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "error {}", self.0),
        }
    }
}

/// Why a request got no answer that can be used. `command` says which one, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The module refused the command.
    #[error("DIAG {command}: refused, {refusal}")]
    Refused {
        /// Which command.
        command: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// The module did not accept a code or a password.
    #[error("DIAG {command}: not accepted")]
    Denied {
        /// Which command.
        command: &'static str,
    },
    /// An NV item was not read or written.
    #[error("DIAG {command}: {status}")]
    Nv {
        /// Which command.
        command: &'static str,
        /// Why.
        status: NvStatus,
    },
    /// The module's file system said no.
    #[error("DIAG {command}: {errno}")]
    Efs {
        /// Which command.
        command: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The answer is no answer to this command: too short, too long, or with impossible values.
    #[error("DIAG {command}: the answer makes no sense, {problem}")]
    Malformed {
        /// Which command.
        command: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl ReplyError {
    /// The file system's error, if it is one.
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Efs { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether it says that the item, file or directory does not exist.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        match self {
            Self::Efs { errno, .. } => errno.0 == Errno::NOT_FOUND.0,
            Self::Nv { status, .. } => status.is_absent(),
            _ => false,
        }
    }
}
