//! A report file, compared row by row with what the ledger says: the writer and the verification share it, so that
//! they cannot disagree on what "equal" means.

use std::io;
use std::path::Path;

use crate::domain::text;
use crate::host::{Disk, ReadAt};

/// How many bytes of a differing line are shown, and how many of them lie before the difference.
const EXCERPT_BYTES: usize = 80;
const EXCERPT_BYTES_BEFORE: usize = 24;

/// A file and how much of it has been found right.
#[derive(Debug)]
pub(super) struct Compared {
    /// Open while a part has not been compared yet.
    file: Option<Box<dyn ReadAt>>,
    bytes: u64,
    position: u64,
    line: u64,
}

/// What the file says where a row was expected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The same.
    Equal,
    /// It ends before the row, or within it.
    Ends,
    /// Something else.
    Differs(Difference),
}

/// Where a file and the ledger part, with what both say there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) line: u64,
    pub(super) expected: String,
    pub(super) found: String,
}

impl Compared {
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = match disk.open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let bytes = file.as_ref().map_or(Ok(0), |file| file.bytes())?;
        Ok(Self { file, bytes, position: 0, line: 1 })
    }

    /// Bytes that were found right: where the next row begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The line on which the next row begins, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Whether there was a file when it was opened; asked before the first step.
    pub(super) fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// Whether nothing is behind the position.
    pub(super) fn is_at_end(&self) -> bool {
        self.position >= self.bytes
    }

    /// Compares the next rows with the file and goes behind them when they are equal.
    pub(super) fn step(&mut self, rows: &[u8]) -> io::Result<Step> {
        let left = usize::try_from(self.bytes - self.position).unwrap_or(usize::MAX);
        let found = self.read(left.min(rows.len()))?;
        if let Some(at) = found.iter().zip(rows).position(|(found, row)| found != row) {
            let start = rows[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let from = start.max(at.saturating_sub(EXCERPT_BYTES_BEFORE));
            return Ok(Step::Differs(Difference {
                line: self.line + newlines(&rows[..at]),
                expected: excerpt(&rows[from..]),
                found: excerpt(&found[from..]),
            }));
        }
        if found.len() < rows.len() {
            return Ok(Step::Ends);
        }
        self.advance(rows);
        Ok(Step::Equal)
    }

    /// Takes note that `rows` were put into the file at the position, where it now ends.
    pub(super) fn wrote(&mut self, rows: &[u8]) {
        self.file = None;
        self.bytes = self.position.saturating_add(rows.len() as u64);
        self.advance(rows);
    }

    /// What stands behind the position, where nothing should.
    pub(super) fn excess(&self) -> io::Result<Option<Difference>> {
        if self.is_at_end() {
            return Ok(None);
        }
        let left = usize::try_from(self.bytes - self.position).unwrap_or(usize::MAX);
        let found = excerpt(&self.read(left.min(EXCERPT_BYTES))?);
        Ok(Some(Difference { line: self.line, expected: "(nothing)".to_owned(), found }))
    }

    fn advance(&mut self, rows: &[u8]) {
        self.position = self.position.saturating_add(rows.len() as u64);
        self.line += newlines(rows);
        if self.is_at_end() {
            self.file = None;
        }
    }

    fn read(&self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut found = vec![0; bytes];
        if let Some(file) = &self.file {
            file.read_exact_at(&mut found, self.position)?;
        }
        Ok(found)
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn excerpt(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    text::printable_bytes(line, EXCERPT_BYTES)
}
