//! Reading a stored file front to back, and telling a disk that refuses from a file that is not what it was.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::domain::Sha256Digest;
use crate::host::ReadAt;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Why a stored file cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The disk refused.
    Disk(io::Error),
    /// There is no such file.
    Missing,
    /// None of the keys at hand opens it.
    OtherKey,
    /// What is wrong with the file, as a clause.
    Damaged(String),
}

impl ReadError {
    pub(super) fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged(reason.into())
    }

    /// What a failure means that came up through the layers over a [`Section`]: those of the disk are marked. What the
    /// layers say themselves is for the log. A seal over the last part of a file cannot tell a missing end from another one.
    pub(super) fn through(error: io::Error, doing: &str) -> Self {
        match error.downcast::<DiskRefused>() {
            Ok(DiskRefused(error)) => Self::Disk(error),
            Err(error) => {
                tracing::debug!(%error, doing, "a stored file is damaged");
                Self::damaged(match error.kind() {
                    io::ErrorKind::UnexpectedEof => "it is cut off",
                    _ => "it was altered or cut off",
                })
            }
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

/// Hands all bytes of a file of at most `bytes_max` to `take`; gives their digest.
pub(super) fn digest(
    file: &dyn ReadAt,
    bytes_max: u64,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Sha256Digest, ReadError> {
    let bytes = file.bytes()?;
    if bytes > bytes_max {
        return Err(ReadError::Damaged(format!("it has {bytes} bytes, more than a backup can have")));
    }
    let mut hasher = Sha256::new();
    let mut section = Section::new(file, 0, bytes);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match section.read(&mut buffer).map_err(|error| ReadError::through(error, "reading"))? {
            0 => return Ok(Sha256Digest::finish(hasher)),
            length => {
                hasher.update(&buffer[..length]);
                take(&buffer[..length])?;
            }
        }
    }
}
