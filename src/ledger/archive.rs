//! Reading a ledger without being its writer: for reports and checks, also while a station works on it.

use std::path::Path;

use crate::host::Disk;

use super::segment::{self, Head, Lines, RawLine};
use super::{Entry, LedgerError};

/// Gives every entry of a ledger to `take`, in order, after its place in the chain was checked. Half a line at the
/// very end, as a crash or a writer at work leaves it, is passed over.
///
/// # Errors
/// [`LedgerError::Corrupt`] where the chain breaks; of the disk, also where there is no ledger.
pub fn read_all(disk: &dyn Disk, directory: &Path, mut take: impl FnMut(Entry)) -> Result<(), LedgerError> {
    let count = segment::count(disk, directory)?;
    let mut head = Head::GENESIS;
    for number in 1..=count {
        let mut lines = Lines::open(disk, directory, number, 0)?;
        let mut line = 0;
        while let Some(raw) = lines.next()? {
            line += 1;
            let bytes = match raw {
                RawLine::Whole(bytes) => bytes,
                _ if number == count => return Ok(()),
                _ => return Err(LedgerError::corrupt(&segment::name(number), line, "the line has no end")),
            };
            take(head.follow(&bytes).map_err(|reason| LedgerError::corrupt(&segment::name(number), line, reason))?);
        }
    }
    Ok(())
}
