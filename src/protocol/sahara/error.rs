//! Why a Sahara session failed.

use crate::domain::{FailureCode, limits};

/// Why a Sahara session failed. Nothing on the module was changed: a programmer only runs from memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaharaError {
    /// The device stays silent through every recovery.
    #[error("no HELLO, also after {} attempts to get one", limits::SAHARA_RECOVERIES_MAX)]
    NoHello,
    /// It speaks a version without command mode, or one that is not compatible with this host's.
    #[error("the device speaks Sahara version {0}, which this host cannot use")]
    Version(u32),
    /// A packet that no device sends.
    #[error("an unknown packet {command:#x} of {length} bytes")]
    UnknownPacket {
        /// Its command word.
        command: u32,
        /// Its length word.
        length: u32,
    },
    /// A packet with a length that its command does not have.
    #[error("{name} says it has {length} bytes, it should have {expected}")]
    PacketLength {
        /// Name of the command.
        name: &'static str,
        /// What it says, in bytes.
        length: u32,
        /// What the command has, in bytes.
        expected: u32,
    },
    /// A packet that does not belong here.
    #[error("{packet} where {wanted} was expected")]
    OutOfOrder {
        /// What came.
        packet: &'static str,
        /// What the session was waiting for.
        wanted: &'static str,
    },
    /// The answer to a client command cannot be what it should be.
    #[error("the answer to client command {command} cannot be used: {reason}")]
    Answer {
        /// The client command.
        command: u32,
        /// Why.
        reason: &'static str,
    },
    /// The device refused a client command or the change of mode.
    #[error("the device refused a command with status {status:#x} ({})", status_words(*status))]
    CommandFailed {
        /// As sent.
        status: u32,
    },
    /// The device did not accept the programmer.
    #[error("the chip rejected the programmer with status {status:#x} ({})", status_words(*status))]
    Rejected {
        /// As sent.
        status: u32,
    },
    /// It asks for bytes that the image does not have, or for too many at once.
    #[error("the device asks for {length} bytes at {offset} of an image of {image_bytes} bytes")]
    Range {
        /// Where, in bytes.
        offset: u64,
        /// How many.
        length: u64,
        /// What there is.
        image_bytes: u64,
    },
    /// It asks for an image that is not a programmer.
    #[error("the device asks for image {0}, which is not a programmer")]
    UnexpectedImage(u64),
    /// It reads without ever coming to an end.
    #[error("the device reads the programmer without coming to an end: {reads} reads, {bytes} bytes")]
    Livelock {
        /// Reads so far.
        reads: u32,
        /// Bytes so far.
        bytes: u64,
    },
    /// It sends although nothing was asked.
    #[error("the device sent {0} bytes that nothing asked for")]
    Flood(usize),
    /// It was told to load before its chip was read.
    #[error("a programmer can be loaded only after the chip was read")]
    NotReady,
}

impl SaharaError {
    /// What the operator sees.
    #[must_use]
    pub const fn code(&self) -> FailureCode {
        match self {
            Self::NoHello => FailureCode::SaharaNoHello,
            Self::Rejected { .. } => FailureCode::LoaderRejected,
            Self::NotReady => FailureCode::Internal,
            _ => FailureCode::SaharaProtocol,
        }
    }
}

/// What a status in END_OF_IMAGE means.
#[must_use]
pub const fn status_words(status: u32) -> &'static str {
    match status {
        0x00 => "success",
        0x01 => "invalid command",
        0x02 => "protocol mismatch",
        0x03 => "bad target version",
        0x04 => "bad host version",
        0x05 => "bad packet size",
        0x06 => "unexpected image",
        0x07 => "bad header size",
        0x08 => "bad data size",
        0x09 => "bad image type",
        0x0a => "bad transmit length",
        0x0b => "bad receive length",
        0x0c => "general error",
        0x0d => "error while reading data",
        0x12 => "bad destination address",
        0x14 => "bad ELF header",
        0x15 => "unknown host error",
        0x16 => "receive timeout",
        0x17 => "transmit timeout",
        0x18 => "bad host mode",
        0x1c => "bad mode switch",
        0x1d => "command failed",
        0x1f => "command not supported",
        0x21 => "hash table not authentic",
        0x22 => "hash does not match",
        0x25 => "image not authentic",
        _ => "unknown status",
    }
}
