//! Why a report could not be written.

use std::io;
use std::path::PathBuf;

use crate::host::disk_words;

/// A report cannot be written, or is not what the ledger says.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file holds something else than the ledger. It is never overwritten unasked: it may be the evidence.
    #[error(
        "{}:{line}: the report differs from the ledger\n  in the file:   {found}\n  in the ledger: {expected}",
        path.display()
    )]
    Differs {
        /// The file.
        path: PathBuf,
        /// Its batch.
        batch: String,
        /// The first line that differs, from 1.
        line: u64,
        /// What the ledger says there, printable and cut; `(nothing)` where it has no such line.
        expected: String,
        /// What the file says there.
        found: String,
    },
    /// The disk refused.
    #[error(
        "{}: the report cannot be read or written ({}); the ledger has every record", path.display(), disk_words(source)
    )]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// An entry of the ledger was left out on the way here.
    #[error("entry {found} of the ledger came where {expected} was due: a report may not skip entries")]
    Gap {
        /// The entry that was due.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// An earlier write to the file failed, so that what it holds is unknown until it is read again.
    #[error("{}: not written any more since a write failed; start the station again", path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
    },
    /// A row could not be encoded.
    #[error("a row could not be encoded")]
    Encode(#[source] io::Error),
}
