//! Reading a stored file front to back, and telling a disk that refuses from a file that is not what it was.

use std::io::{self, Read};

use crate::host::ReadAt;

/// Why a stored file cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The disk refused.
    Disk(io::Error),
    /// What is wrong with the file, as a clause.
    Damaged(String),
}

impl ReadError {
    pub(super) fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged(reason.into())
    }

    /// What a failure means that came up through the layers over a [`Section`]: those of the disk are marked.
    pub(super) fn through(error: io::Error, doing: &str) -> Self {
        match error.downcast::<DiskRefused>() {
            Ok(DiskRefused(error)) => Self::Disk(error),
            Err(error) => Self::Damaged(format!("{doing}: {error}")),
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<String> for ReadError {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

/// A failure of the disk on its way up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DiskRefused(io::Error);

/// A stretch of a file, as a reader.
#[derive(Debug)]
pub(super) struct Section<'a> {
    file: &'a dyn ReadAt,
    at: u64,
    end: u64,
}

impl<'a> Section<'a> {
    pub(super) const fn new(file: &'a dyn ReadAt, at: u64, end: u64) -> Self {
        Self { file, at, end }
    }

    /// Where the next byte is read.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_exact_at(&mut buffer[..length], self.at);
        read.map_err(|error| io::Error::other(DiskRefused(error)))?;
        self.at += length as u64;
        Ok(length)
    }
}
