//! What a start does with the files that it finds.
//!
//! A process that died may have left half a line at the end: that fact was never acknowledged, and is cut off. Any
//! other fault is damage to what was acknowledged, and nothing repairs that: the controller refuses to run.
//!
//! The last file is written anew at every start. Its newest lines may be in the kernel's memory alone: after a failed
//! fsync the kernel counts them as written, and no later fsync would bring them to the disk. Nor may its name be
//! durable. Nothing in the file can tell, and it is never long.

use std::path::Path;

use crate::domain::limits;
use crate::host::Disk;

use super::LedgerError;
use super::segment::{self, Head, Lines, RawLine};

/// What is there after a recovery.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The last entry.
    pub(super) head: Head,
    /// The first entry of each file, the last file's even if it is empty.
    pub(super) first_seqs: Vec<u64>,
    /// Length of the last file in bytes.
    pub(super) bytes: u64,
    /// Bytes of half a line that were cut off.
    pub(super) cut_bytes: u64,
}

/// Verifies how the files hang together and every line of the last one; cuts half a line off its end.
///
/// # Errors
/// Of the disk; [`LedgerError::Corrupt`].
pub(super) fn recover(disk: &dyn Disk, directory: &Path) -> Result<Recovered, LedgerError> {
    let count = segment::count(disk, directory)?;
    let mut recovered = Recovered { head: Head::GENESIS, first_seqs: Vec::new(), bytes: 0, cut_bytes: 0 };
    for number in 1..count {
        recovered.first_seqs.push(recovered.head.seq + 1);
        recovered.head = across(disk, directory, number, recovered.head)?;
    }
    if count > 0 {
        recovered.first_seqs.push(recovered.head.seq + 1);
        last(disk, directory, count, &mut recovered)?;
    }
    Ok(recovered)
}

/// The head after a closed file, of which only the first and the last line are looked at.
fn across(disk: &dyn Disk, directory: &Path, number: u32, mut head: Head) -> Result<Head, LedgerError> {
    let name = segment::name(number);
    let corrupt = |reason: String| LedgerError::corrupt(&name, 1, reason);
    match Lines::open(disk, directory, number, 0)?.next()? {
        Some(RawLine::Whole(line)) => head.follow(&line).map_err(corrupt)?,
        _ => return Err(corrupt("it has no whole line".to_owned())),
    };
    let last = last_line(disk, &directory.join(&name))?;
    let text = last.ok_or_else(|| LedgerError::corrupt(&name, 0, "its last line is not whole"))?;
    let entry = super::line::decode(&text)
        .map_err(|reason| LedgerError::corrupt(&name, 0, format!("in its last line: {reason}")))?;
    Ok(Head { seq: entry.seq, hash: entry.hash })
}

/// The last line of a file, without its line end; `None` where there is no whole one.
fn last_line(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    let fail = |error| LedgerError::disk(path, error);
    let file = disk.open(path).map_err(fail)?;
    let bytes = file.bytes().map_err(fail)?;
    let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(limits::LEDGER_LINE_BYTES_MAX + 1);
    let mut tail = vec![0; length];
    file.read_exact_at(&mut tail, bytes - length as u64).map_err(fail)?;
    if tail.pop() != Some(b'\n') {
        return Ok(None);
    }
    let start = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(Some(tail.split_off(start)))
}

fn last(disk: &dyn Disk, directory: &Path, number: u32, recovered: &mut Recovered) -> Result<(), LedgerError> {
    let name = segment::name(number);
    let path = directory.join(&name);
    let found = disk.read(&path, limits::LEDGER_SEGMENT_BYTES_MAX).map_err(|error| LedgerError::disk(&path, error))?;
    let mut kept = 0;
    let mut content = found.clone();
    for (index, text) in found.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_last = kept + text.len() == found.len();
        let (line, whole) = text.strip_suffix(b"\n").map_or((text, false), |line| (line, true));
        match recovered.head.follow(line) {
            Ok(_) => {
                kept += text.len();
                if !whole {
                    // The hash proves that nothing but the line end is missing.
                    content.push(b'\n');
                    kept += 1;
                }
            }
            Err(_) if is_last && is_torn(line, whole, recovered.head) => {
                tracing::warn!(segment = name, bytes = text.len(), "half a line at the end of the ledger is cut off");
                recovered.cut_bytes = text.len() as u64;
            }
            Err(reason) => return Err(LedgerError::corrupt(&name, index as u64 + 1, reason)),
        }
    }
    content.truncate(kept);
    recovered.bytes = content.len() as u64;
    disk.replace(&path, &content, false).map_err(|error| LedgerError::disk(&path, error))
}

/// Whether a bad last line is what a crash leaves: the beginning of a line, or blocks that were never written and
/// read as zeros. A whole line, or one whose line end was changed, is damage.
fn is_torn(line: &[u8], whole: bool, mut head: Head) -> bool {
    let but_one = &line[..line.len().saturating_sub(1)];
    line.contains(&0) || (!whole && head.follow(but_one).is_err())
}
