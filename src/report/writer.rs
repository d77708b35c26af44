//! The writer of the CSV files: follows the ledger, entry by entry, and never writes over anything.
//!
//! At the start it is given the ledger from its first entry, and reads along in the files: what is there must be what
//! the ledger says. So it needs no memory of its own of how far it got, a crash between ledger and report mends
//! itself, and a row that was changed by hand is noticed before the next one is written below it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::{BatchId, Fact};
use crate::host::{AppendFile, Disk};

use super::compare::{Compared, Difference, Step};
use super::{Recorded, ReportError, csv};

/// Writes `<batch>.csv` for every batch of a ledger.
///
/// Its calls block on the disk: it belongs on a thread that may.
#[derive(Debug)]
pub struct CsvWriter {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    next_seq: u64,
    settled: bool,
    files: BTreeMap<BatchId, BatchFile>,
    /// The file written last; only one is kept open.
    open: Option<(BatchId, Box<dyn AppendFile>)>,
}

#[derive(Debug)]
struct BatchFile {
    compared: Compared,
    stopped: bool,
}

/// The file of a batch.
#[must_use]
pub(super) fn path(directory: &Path, batch: &BatchId) -> PathBuf {
    directory.join(format!("{batch}.csv"))
}

/// The bytes that a finished run adds to its file: its row, and the header before the first one.
pub(super) fn rows(entry: &Recorded<'_>, is_first: bool) -> Result<Option<(BatchId, Vec<u8>)>, ReportError> {
    let Fact::RunFinished(record) = entry.fact else { return Ok(None) };
    let mut bytes = if is_first { csv::line(&csv::header())? } else { Vec::new() };
    bytes.extend(csv::line(&csv::row(entry.seq, &entry.hash, record))?);
    Ok(Some((record.batch.clone(), bytes)))
}

impl CsvWriter {
    /// A writer into `directory`. It must be given every entry of the ledger, from the first one on.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, directory: PathBuf) -> Self {
        Self { disk, directory, next_seq: 1, settled: false, files: BTreeMap::new(), open: None }
    }

    /// The entry that is due next.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Takes the next entry: finds its row in the file, or appends it and makes it durable. An entry that was taken
    /// before is passed over.
    ///
    /// # Errors
    /// [`ReportError::Differs`] where the file says something else, [`ReportError::Gap`] where an entry is missing,
    /// and those of the disk. After an error the files are as they were, except for the one that was being written.
    pub fn follow(&mut self, entry: &Recorded<'_>) -> Result<(), ReportError> {
        if entry.seq < self.next_seq {
            return Ok(());
        }
        if entry.seq > self.next_seq {
            return Err(ReportError::Gap { expected: self.next_seq, found: entry.seq });
        }
        match entry.fact {
            Fact::BatchOpened { batch, .. } => {
                self.file(batch)?;
                if self.settled {
                    self.refuse_excess(batch)?;
                }
            }
            Fact::RunFinished(record) => {
                let is_first = self.file(&record.batch)?.compared.position() == 0;
                if let Some((batch, bytes)) = rows(entry, is_first)? {
                    self.put(&batch, &bytes)?;
                }
            }
            _ => {}
        }
        self.next_seq += 1;
        Ok(())
    }

    /// Says that everything the ledger held at the start has been taken: what a file has beyond that is not from it.
    ///
    /// # Errors
    /// [`ReportError::Differs`] for the first such file, and those of the disk.
    pub fn settle(&mut self) -> Result<(), ReportError> {
        self.settled = true;
        let batches: Vec<BatchId> = self.files.keys().cloned().collect();
        batches.iter().try_for_each(|batch| self.refuse_excess(batch))
    }

    fn file(&mut self, batch: &BatchId) -> Result<&mut BatchFile, ReportError> {
        if !self.files.contains_key(batch) {
            let path = path(&self.directory, batch);
            let compared = Compared::open(&*self.disk, &path).map_err(|source| ReportError::Disk { path, source })?;
            self.files.insert(batch.clone(), BatchFile { compared, stopped: false });
        }
        Ok(self.files.get_mut(batch).expect("it was put there above"))
    }

    /// Refuses a file that goes on behind what the ledger says. A header alone, or a part of it, is an empty report.
    fn refuse_excess(&mut self, batch: &BatchId) -> Result<(), ReportError> {
        let path = path(&self.directory, batch);
        let difference = empty_or_excess(&mut self.file(batch)?.compared)
            .map_err(|source| ReportError::Disk { path: path.clone(), source })?;
        difference.map_or(Ok(()), |difference| Err(differs(path, batch, difference)))
    }

    fn put(&mut self, batch: &BatchId, bytes: &[u8]) -> Result<(), ReportError> {
        let path = path(&self.directory, batch);
        let file = self.file(batch)?;
        if file.stopped {
            return Err(ReportError::Stopped { path });
        }
        match file.compared.step(bytes) {
            Err(source) => return Err(ReportError::Disk { path, source }),
            Ok(Step::Equal) => return Ok(()),
            Ok(Step::Differs(difference)) => return Err(differs(path, batch, difference)),
            Ok(Step::Ends) => {}
        }
        let (position, is_torn) = (file.compared.position(), !file.compared.is_at_end());
        file.stopped = true;
        self.append(batch, &path, position, is_torn, bytes).map_err(|source| ReportError::Disk { path, source })?;
        let file = self.file(batch)?;
        file.compared.wrote(bytes);
        file.stopped = false;
        Ok(())
    }

    /// One write and one fsync at `position`, which is where the file ends once a torn row is cut off.
    fn append(&mut self, batch: &BatchId, path: &Path, position: u64, is_torn: bool, bytes: &[u8]) -> io::Result<()> {
        if is_torn {
            self.open = None;
            self.disk.truncate(path, position)?;
        }
        let mut file = match self.open.take() {
            Some((open, file)) if open == *batch => file,
            _ => {
                self.disk.create_dir_all(&self.directory)?;
                self.disk.append(path)?
            }
        };
        if file.bytes() != position {
            return Err(io::Error::other("the file was changed by someone else while the station ran"));
        }
        file.append(bytes)?;
        file.sync()?;
        if position == 0 {
            self.disk.sync_dir(&self.directory)?;
        }
        self.open = Some((batch.clone(), file));
        Ok(())
    }
}

/// What a file has beyond the rows it was compared with; a header alone, or a part of it, is nothing.
pub(super) fn empty_or_excess(compared: &mut Compared) -> io::Result<Option<Difference>> {
    if compared.position() == 0 && !compared.is_at_end() {
        let header = csv::line(&csv::header()).map_err(io::Error::other)?;
        match compared.step(&header)? {
            Step::Ends => return Ok(None),
            Step::Differs(difference) => return Ok(Some(difference)),
            Step::Equal => {}
        }
    }
    compared.excess()
}

pub(super) fn differs(path: PathBuf, batch: &BatchId, difference: Difference) -> ReportError {
    let Difference { line, expected, found } = difference;
    ReportError::Differs { path, batch: batch.to_string(), line, expected, found }
}
