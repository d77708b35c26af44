//! AT: asking a running module who it is and how it is.
//!
//! The port is shared with everything the module wants to say by itself, and after a flash it is asked again and again
//! until it is ready. Three things therefore stand apart: one exchange ([`Exchange`]), what is read out of its reply
//! ([`model`], [`cfun`], [`bands`], …), and what profiles and people may ask in addition ([`is_reading_command`]). An
//! error reply is never an answer: it says that the module is not ready, not that a band is missing.

mod allow;
mod exchange;
mod read;
#[cfg(test)]
mod tests;

pub use allow::{is_reading_command, reading_commands};
pub use exchange::{Exchange, Final, Reply};
pub use read::{bands, cfun, imei_text, item, model, revision};

use crate::domain::{FailureCode, limits};

/// Why an exchange was given up: the module sends more than any reply has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AtError {
    /// A line without end.
    #[error("a line of more than {} bytes", limits::AT_LINE_BYTES_MAX)]
    LineTooLong,
    /// A reply without end.
    #[error("a reply of more than {} bytes", limits::AT_REPLY_BYTES_MAX)]
    ReplyTooLong,
    /// Lines without end.
    #[error("a reply of more than {} lines", limits::AT_REPLY_LINES_MAX)]
    TooManyLines,
}

impl AtError {
    /// What the operator sees when it happens again and again.
    #[must_use]
    pub const fn code(&self) -> FailureCode {
        FailureCode::NotReady
    }
}
