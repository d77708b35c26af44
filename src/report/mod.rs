//! What people and other programs read of the line's work: CSV files, summaries, and the check that both are true.
//!
//! Everything here is a projection of the ledger: pure functions from facts to text, and a writer that follows the
//! ledger by sequence number. Nothing is decided from a report, so a lost or spoilt one costs nothing: it is built
//! again, byte for byte the same. And because it is, a file that differs was altered by someone, and says so.

mod check;
mod compare;
mod csv;
mod error;
mod field;
mod qualify;
mod summary;
mod writer;

use crate::domain::{Fact, Sha256Digest};
use crate::ledger::Entry;

pub use check::{FileState, FileVerdict, rebuild, verify};
pub use csv::{COLUMNS, SCHEMA, header, line, row};
pub use error::ReportError;
pub use field::{safe, seconds, timestamp};
pub use qualify::{Qualifier, QualifyInput, Standings};
pub use summary::{Interrupted, RunLine, Summary};
pub use writer::CsvWriter;

/// A fact with the place where the ledger holds it: what every report is made from.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// The sequence number of the ledger's entry, from 1.
    pub seq: u64,
    /// The entry's own digest.
    pub hash: Sha256Digest,
    /// What it says.
    pub fact: &'a Fact,
}

impl<'a> From<&'a Entry> for Recorded<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self { seq: entry.seq, hash: entry.hash, fact: &entry.fact }
    }
}

#[cfg(test)]
pub(crate) mod samples;
