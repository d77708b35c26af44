//! The file beside a trace that holds what the trace leaves out: what was read of a module. Mode 0600, and never meant
//! to be passed on.
//!
//! A record is two lengths, little endian, then a zstd frame: the length of its content and of the frame, in bytes.

use std::io;
use std::path::Path;

use super::error::TraceError;
use crate::domain::limits;
use crate::host::{AppendFile, Disk, ReadAt};

/// The level at which records are compressed: the fastest one.
const LEVEL: i32 = 1;
const HEAD_BYTES: u64 = 8;

/// Writes records.
#[derive(Debug)]
pub(super) struct PayloadWriter {
    file: Box<dyn AppendFile>,
    records: u64,
}

impl PayloadWriter {
    pub(super) fn new(file: Box<dyn AppendFile>) -> Self {
        Self { file, records: 0 }
    }

    /// Writes a record and gives its number; `None` where the file is as long as it may be.
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<Option<u64>> {
        if bytes.len() > limits::TRACE_PAYLOAD_TRANSFER_BYTES_MAX {
            return Ok(None);
        }
        let frame = zstd::bulk::compress(bytes, LEVEL)?;
        let (Ok(length), Ok(frame_length)) = (u32::try_from(bytes.len()), u32::try_from(frame.len())) else {
            return Ok(None);
        };
        if self.file.bytes() + HEAD_BYTES + frame.len() as u64 > limits::TRACE_PAYLOAD_BYTES_MAX {
            return Ok(None);
        }
        let record = [&length.to_le_bytes(), &frame_length.to_le_bytes(), frame.as_slice()].concat();
        self.file.append(&record)?;
        self.records += 1;
        Ok(Some(self.records - 1))
    }
}

/// Reads records.
#[derive(Debug)]
pub(super) struct PayloadReader {
    file: Box<dyn ReadAt>,
    /// Where each record begins, its length and that of its frame.
    records: Vec<(u64, usize, usize)>,
}

impl PayloadReader {
    /// Opens a file and finds its records; what a crash left of the last one is passed over.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, TraceError> {
        let file = disk.open(path).map_err(|error| TraceError::disk(path, error))?;
        let total = file.bytes().map_err(|error| TraceError::disk(path, error))?;
        let total = total.min(limits::TRACE_PAYLOAD_BYTES_MAX);
        let (mut records, mut at) = (Vec::new(), 0);
        while total.saturating_sub(at) >= HEAD_BYTES {
            let mut head = [0; 8];
            file.read_exact_at(&mut head, at).map_err(|error| TraceError::disk(path, error))?;
            let [a, b, c, d, e, f, g, h] = head;
            let (length, frame) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
            at += HEAD_BYTES;
            if u64::from(frame) > total - at || length as usize > limits::TRACE_PAYLOAD_TRANSFER_BYTES_MAX {
                break;
            }
            records.push((at, length as usize, frame as usize));
            at += u64::from(frame);
        }
        Ok(Self { file, records })
    }

    /// The content of a record; `None` where it cannot be read.
    pub(super) fn get(&self, number: u64) -> Option<Vec<u8>> {
        let (at, length, frame_length) = *self.records.get(usize::try_from(number).ok()?)?;
        let mut frame = vec![0; frame_length];
        self.file.read_exact_at(&mut frame, at).ok()?;
        let bytes = zstd::bulk::decompress(&frame, length).ok()?;
        (bytes.len() == length).then_some(bytes)
    }
}
