//! Reports built again from the ledger, and the check that the files still say what it does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::domain::{BatchId, Fact};
use crate::host::Disk;

use super::compare::{Compared, Step};
use super::{Recorded, ReportError, csv, writer};

/// How a batch's file stands against the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// It says exactly what the ledger says. A batch without a finished run may have no file.
    Equal,
    /// There is no file, although the batch has finished runs.
    Missing,
    /// It ends too early: rows are missing from this line on.
    Short {
        /// The first line that is missing or torn, from 1.
        line: u64,
    },
    /// It says something else.
    Differs {
        /// The first line that differs, from 1.
        line: u64,
        /// What the ledger says there, printable and cut.
        expected: String,
        /// What the file says there.
        found: String,
    },
}

/// The verdict on one batch's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileVerdict {
    /// The batch.
    pub batch: BatchId,
    /// Its file.
    pub path: PathBuf,
    /// How many finished runs the ledger has of it.
    pub rows: u64,
    /// How the file stands.
    pub state: FileState,
}

/// A batch's file as the ledger says it should be, byte for byte; the header alone where no run of it is finished.
///
/// `entries` are the ledger's, in their order; those of other batches are passed over.
///
/// # Errors
/// [`ReportError::Encode`], which no record causes.
pub fn rebuild<'a>(batch: &BatchId, entries: impl IntoIterator<Item = Recorded<'a>>) -> Result<Vec<u8>, ReportError> {
    let mut bytes = csv::line(&csv::header())?;
    for entry in entries {
        if let Some((of, row)) = writer::rows(&entry, false)?
            && of == *batch
        {
            bytes.extend(row);
        }
    }
    Ok(bytes)
}

/// Compares the files of all batches with the ledger, and changes nothing. `entries` is the whole ledger, in its order.
///
/// # Errors
/// Those of the disk. A file that differs is no error but a verdict.
pub fn verify<'a>(
    disk: &dyn Disk,
    directory: &Path,
    entries: impl IntoIterator<Item = Recorded<'a>>,
) -> Result<Vec<FileVerdict>, ReportError> {
    let mut files: BTreeMap<BatchId, Checked> = BTreeMap::new();
    for entry in entries {
        let batch = match entry.fact {
            Fact::BatchOpened { batch, .. } => batch,
            Fact::RunFinished(record) => &record.batch,
            _ => continue,
        };
        if !files.contains_key(batch) {
            files.insert(batch.clone(), Checked::open(disk, writer::path(directory, batch))?);
        }
        let file = files.get_mut(batch).expect("it was put there above");
        if let Some((_, rows)) = writer::rows(&entry, file.rows == 0)? {
            file.take(&rows)?;
        }
    }
    files.into_iter().map(|(batch, file)| file.verdict(batch)).collect()
}

struct Checked {
    path: PathBuf,
    exists: bool,
    compared: Compared,
    rows: u64,
    state: FileState,
}

impl Checked {
    fn open(disk: &dyn Disk, path: PathBuf) -> Result<Self, ReportError> {
        match Compared::open(disk, &path) {
            Ok(compared) => Ok(Self { path, exists: compared.exists(), compared, rows: 0, state: FileState::Equal }),
            Err(source) => Err(ReportError::Disk { path, source }),
        }
    }

    fn take(&mut self, rows: &[u8]) -> Result<(), ReportError> {
        self.rows += 1;
        if self.state != FileState::Equal {
            return Ok(());
        }
        let step = self.compared.step(rows).map_err(|source| ReportError::Disk { path: self.path.clone(), source })?;
        self.state = match step {
            Step::Equal => FileState::Equal,
            Step::Ends if !self.exists => FileState::Missing,
            Step::Ends => FileState::Short { line: self.compared.line() },
            Step::Differs(difference) => {
                FileState::Differs { line: difference.line, expected: difference.expected, found: difference.found }
            }
        };
        Ok(())
    }

    fn verdict(mut self, batch: BatchId) -> Result<FileVerdict, ReportError> {
        if self.state == FileState::Equal {
            let excess = writer::empty_or_excess(&mut self.compared)
                .map_err(|source| ReportError::Disk { path: self.path.clone(), source })?;
            if let Some(difference) = excess {
                self.state = FileState::Differs {
                    line: difference.line,
                    expected: difference.expected,
                    found: difference.found,
                };
            }
        }
        Ok(FileVerdict { batch, path: self.path, rows: self.rows, state: self.state })
    }
}
