//! Room that is kept on the disk for the day on which there is none: with it the runs under way can still be recorded.
//!
//! It is a file beside the segments. When a line finds no room, the file is given up, once, and the line is written
//! again from where the segment ended before. That is a write that was refused, not an fsync that failed: of the latter
//! nothing is ever repeated.

use std::io;
use std::path::Path;

use crate::domain::limits;
use crate::host::Disk;

use super::LedgerError;

/// The file's name.
const FILE: &str = "reserve";

/// Makes the reserve where it is not there in full.
///
/// # Errors
/// Of the disk: a station whose disk is full already does not begin to work.
pub(super) fn keep(disk: &dyn Disk, directory: &Path) -> Result<(), LedgerError> {
    let path = directory.join(FILE);
    let entries = disk.list(directory).map_err(|error| LedgerError::disk(directory, error))?;
    if entries.iter().any(|entry| entry.name == FILE && entry.bytes == limits::LEDGER_RESERVE_BYTES) {
        return Ok(());
    }
    disk.replace(&path, &filling(), false).map_err(|error| LedgerError::disk(&path, error))
}

/// Gives the reserve up.
///
/// # Errors
/// Of the disk, also where there is none.
pub(super) fn give_up(disk: &dyn Disk, directory: &Path) -> Result<(), LedgerError> {
    let path = directory.join(FILE);
    disk.remove(&path).map_err(|error| LedgerError::disk(&path, error))?;
    disk.sync_dir(directory).map_err(|error| LedgerError::disk(directory, error))
}

/// Whether a write was refused because there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Bytes that no file system can store in less room than they are long.
fn filling() -> Vec<u8> {
    /// What file systems compress at once.
    const EXTENT_BYTES: usize = 128 * 1024;
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = vec![0; EXTENT_BYTES];
    for bytes in noise.chunks_exact_mut(8) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    noise.repeat(usize::try_from(limits::LEDGER_RESERVE_BYTES).unwrap_or_default() / EXTENT_BYTES)
}
