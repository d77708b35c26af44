//! The files of the ledger: their names, and their lines read by offset in bounded memory.

use std::path::Path;

use crate::domain::{Sha256Digest, limits};
use crate::host::{Disk, EntryKind, ReadAt};

use super::LedgerError;
use super::line::{self, Entry};

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// The name of the file with that number.
pub(super) fn name(number: u32) -> String {
    format!("ledger-{number:06}.jsonl")
}

/// How many segments there are.
///
/// # Errors
/// Of the disk; [`LedgerError::Corrupt`] when one is missing between others.
pub(super) fn count(disk: &dyn Disk, directory: &Path) -> Result<u32, LedgerError> {
    let entries = disk.list(directory).map_err(|error| LedgerError::disk(directory, error))?;
    let mut found = 0;
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::File) {
        let Some(number) = entry.name.strip_prefix("ledger-").and_then(|rest| rest.strip_suffix(".jsonl")) else {
            continue;
        };
        if number.parse::<u32>().ok().is_none_or(|number| entry.name != name(number) || number != found + 1) {
            return Err(LedgerError::corrupt(&name(found + 1), 1, format!("it is missing, {} is there", entry.name)));
        }
        found += 1;
    }
    Ok(found)
}

/// Reads the lines of one file, from any line's beginning on.
#[derive(Debug)]
pub(super) struct Lines {
    file: Box<dyn ReadAt>,
    name: String,
    bytes: u64,
    /// Where the next read begins.
    read_to: u64,
    /// Where the next line begins.
    offset: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were handed out.
    used: usize,
}

/// A line as it stands in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RawLine {
    /// With its line end, which is cut off here.
    Whole(Vec<u8>),
    /// The file ends within it.
    Torn(Vec<u8>),
}

impl Lines {
    pub(super) fn open(disk: &dyn Disk, directory: &Path, number: u32, offset: u64) -> Result<Self, LedgerError> {
        let name = name(number);
        let path = directory.join(&name);
        let fail = |error| LedgerError::disk(&path, error);
        let file = disk.open(&path).map_err(fail)?;
        let bytes = file.bytes().map_err(fail)?;
        Ok(Self { file, name, bytes, read_to: offset, offset, buffer: Vec::new(), used: 0 })
    }

    /// Where the next line begins.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<RawLine>, LedgerError> {
        let mut searched = self.used;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer[self.used..searched + at].to_vec();
                self.used = searched + at + 1;
                self.offset += line.len() as u64 + 1;
                return Ok(Some(RawLine::Whole(line)));
            }
            if self.buffer.len() - self.used > limits::LEDGER_LINE_BYTES_MAX {
                return Err(LedgerError::corrupt(&self.name, 0, "a line is longer than a line may be"));
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            searched = self.buffer.len();
            if !self.fill()? {
                let rest = std::mem::take(&mut self.buffer);
                self.offset += rest.len() as u64;
                return Ok((!rest.is_empty()).then_some(RawLine::Torn(rest)));
            }
        }
    }

    fn fill(&mut self) -> Result<bool, LedgerError> {
        let length = usize::try_from(self.bytes.saturating_sub(self.read_to)).unwrap_or(usize::MAX).min(READ_BYTES);
        let old = self.buffer.len();
        self.buffer.resize(old + length, 0);
        self.file
            .read_exact_at(&mut self.buffer[old..], self.read_to)
            .map_err(|error| LedgerError::disk(Path::new(&self.name), error))?;
        self.read_to += length as u64;
        Ok(length > 0)
    }
}

/// The place in the chain that a reader has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: Sha256Digest,
}

impl Head {
    pub(super) const GENESIS: Self = Self { seq: 0, hash: line::GENESIS };

    /// The entry of a line, if it is the one that comes next.
    ///
    /// # Errors
    /// What is wrong with it, as a clause.
    pub(super) fn follow(&mut self, line: &[u8]) -> Result<Entry, String> {
        let entry = line::decode(line)?;
        if entry.seq != self.seq + 1 {
            return Err(format!("it is entry {}, entry {} is expected here", entry.seq, self.seq + 1));
        }
        if entry.prev != self.hash {
            return Err("it does not continue the entry before it".to_owned());
        }
        *self = Self { seq: entry.seq, hash: entry.hash };
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::MemoryDisk;

    #[test]
    fn lines_longer_than_a_read_come_out_whole() {
        let disk = MemoryDisk::new();
        let directory = Path::new("d");
        disk.create_dir_all(directory).expect("made");
        let long = vec![b'x'; READ_BYTES * 2 + 5];
        let text = [b"a\n\n", long.as_slice(), b"\nrest"].concat();
        disk.replace(&directory.join(name(1)), &text, false).expect("written");
        let mut lines = Lines::open(&disk, directory, 1, 0).expect("there");
        let mut found = Vec::new();
        while let Some(line) = lines.next().expect("read") {
            found.push(line);
        }
        let whole = |bytes: &[u8]| RawLine::Whole(bytes.to_vec());
        assert_eq!(found, [whole(b"a"), whole(b""), whole(&long), RawLine::Torn(b"rest".to_vec())]);
        assert_eq!(lines.offset(), text.len() as u64);
        let mut lines = Lines::open(&disk, directory, 1, 2).expect("there");
        assert_eq!(lines.next().expect("read"), Some(whole(b"")));
    }

    #[test]
    fn a_gap_between_segments_is_named() {
        let disk = MemoryDisk::new();
        let directory = Path::new("d");
        disk.create_dir_all(directory).expect("made");
        assert_eq!(count(&disk, directory).expect("none"), 0);
        disk.replace(&directory.join(name(1)), b"", false).expect("written");
        disk.replace(&directory.join("ledger.lock"), b"", false).expect("written");
        assert_eq!(count(&disk, directory).expect("one"), 1);
        disk.replace(&directory.join(name(3)), b"", false).expect("written");
        let error = count(&disk, directory).expect_err("a gap").to_string();
        assert!(error.starts_with("ledger-000002.jsonl, line 1: it is missing"), "{error}");
    }
}
