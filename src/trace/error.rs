//! Why a trace cannot be used.

use std::path::{Path, PathBuf};

use crate::domain::limits;
use crate::host::disk_words;

/// Why a trace cannot be read or replayed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Of the disk.
    #[error("{}: {}", path.display(), disk_words(error))]
    Disk {
        /// The file.
        path: PathBuf,
        /// What it says.
        error: std::io::Error,
    },
    /// The first line is no header.
    #[error("line 1 is not the header of a trace: {0}")]
    NoHeader(String),
    /// It was written in another format.
    #[error("the trace has format {found}, this version reads format {}", super::FORMAT)]
    Format {
        /// Its format.
        found: u32,
    },
    /// A line that is none.
    #[error("line {line} is not a line of a trace: {reason}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// A line longer than any.
    #[error("line {line} is longer than {} bytes", limits::TRACE_LINE_BYTES_MAX)]
    TooLong {
        /// Which, from 1.
        line: usize,
    },
    /// The numbers of the lines have a hole, or one comes twice.
    #[error("line {line} has number {found} where {expected} is due: lines were removed, added or moved")]
    Number {
        /// Which, from 1.
        line: usize,
        /// The number that is due.
        expected: u64,
        /// The number it has.
        found: u64,
    },
    /// The time goes backwards.
    #[error("line {line} is earlier than the line before it")]
    Time {
        /// Which, from 1.
        line: usize,
    },
    /// The file ends in the middle.
    #[error("the trace ends after line {line} without an end line: it was cut off, or its run is still going on")]
    CutOff {
        /// The last line.
        line: usize,
    },
    /// Something follows the end.
    #[error("line {line} follows the end line")]
    AfterEnd {
        /// Which, from 1.
        line: usize,
    },
    /// The recorder could not keep up.
    #[error(
        "{lines} lines are missing at line {line}, because the disk was too slow when it was recorded: such a trace \
         can be read, not replayed"
    )]
    Gap {
        /// Where, from 1.
        line: usize,
        /// How many lines.
        lines: u64,
    },
    /// It grew to its bound.
    #[error(
        "the trace ends at line {line}, because it had grown to its bound of {bytes} bytes: such a trace can be read, \
         not replayed"
    )]
    Bound {
        /// Where, from 1.
        line: usize,
        /// The bound.
        bytes: u64,
    },
    /// The facts are not those that were recorded.
    #[error("the facts in the trace are not those of its end line: they were altered")]
    Facts,
    /// The run had begun before the recorder.
    #[error(
        "the run was begun by an earlier process, and its backup is not in the trace: such a trace can be read, not \
         replayed"
    )]
    Resumes,
    /// A line that cannot be where it is.
    #[error("line {line} is out of place: {reason}")]
    Place {
        /// Which, from 1.
        line: usize,
        /// Why.
        reason: &'static str,
    },
    /// The file of payloads does not belong to the trace.
    #[error("payload {number} of {path} is not what line {line} of the trace speaks of")]
    Payload {
        /// The file.
        path: PathBuf,
        /// Which record, from 0.
        number: u64,
        /// Where, from 1.
        line: usize,
    },
}

impl TraceError {
    pub(super) fn disk(path: &Path, error: std::io::Error) -> Self {
        Self::Disk { path: path.to_path_buf(), error }
    }
}
