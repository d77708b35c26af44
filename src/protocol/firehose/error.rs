//! Why a Firehose exchange failed.

use crate::domain::{FailureCode, limits};

/// Why a Firehose exchange failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirehoseError {
    /// Bytes that belong to no document. They are passed over up to the next one.
    #[error("the programmer sent bytes that are no document, beginning with {0:#04x}")]
    Garbage(u8),
    /// A document that does not end.
    #[error("the programmer sent a document of more than {} bytes", limits::FIREHOSE_DOCUMENT_BYTES_MAX)]
    DocumentTooLong,
    /// A document that is not what a programmer sends: not well-formed, with a DTD, too deep, too many attributes.
    #[error("the programmer sent a document that cannot be read: {0}")]
    Document(String),
    /// Logs without end.
    #[error("the programmer sent {lines} log lines with {bytes} bytes for one command")]
    LogFlood {
        /// Lines so far.
        lines: u32,
        /// Bytes so far.
        bytes: usize,
    },
    /// The programmer refused to be configured: it cannot open the storage.
    #[error("the programmer refused its configuration")]
    ConfigureRefused,
    /// A payload size that cannot be used.
    #[error("the programmer offers a payload of `{0}` bytes")]
    Payload(String),
    /// It describes a storage that cannot be.
    #[error("the programmer describes a storage that cannot be used: {0}")]
    Storage(&'static str),
    /// A command that would mean something else than was meant: programmers take a missing or empty range for the
    /// whole storage.
    #[error("a command for a range without pages was not sent")]
    EmptyRange,
    /// An attribute of the package that no command can carry.
    #[error("the package's attribute `{0}` cannot be sent to a programmer")]
    Attribute(String),
    /// A command that no programmer takes.
    #[error("a command has {bytes} bytes, programmers take at most {}", limits::FIREHOSE_COMMAND_BYTES_MAX)]
    CommandTooLong {
        /// What it would have.
        bytes: usize,
    },
}

impl FirehoseError {
    /// What the operator sees.
    #[must_use]
    pub const fn code(&self) -> FailureCode {
        match self {
            Self::Garbage(_) | Self::DocumentTooLong | Self::Document(_) | Self::ConfigureRefused => {
                FailureCode::FirehoseProtocol
            }
            Self::LogFlood { .. } => FailureCode::LogFlood,
            Self::Payload(_) => FailureCode::PayloadInvalid,
            Self::Storage(_) => FailureCode::GeometryMismatch,
            Self::EmptyRange | Self::Attribute(_) | Self::CommandTooLong { .. } => FailureCode::PlanInvalid,
        }
    }
}
