//! The ledger: the append-only, hash-chained record of all facts, and the source of truth.
//!
//! It is a text file that anyone can read and check, `docs/ledger.md` says how. A database would be faster to ask and
//! impossible to check by hand; so SQLite only answers questions, from an index that can be made anew at any time.
//!
//! There is one writer. It alone decides claims, so that of two equal IMEIs exactly one is first, and it makes
//! everything that is queued durable with one fsync, so that 64 slots cost as much as one. Whoever follows the ledger
//! does so by sequence number; [`Ledger::head`] only wakes them.

mod archive;
mod error;
mod index;
mod line;
mod questions;
mod recover;
mod reserve;
mod run;
mod segment;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::params;
use tokio::sync::{mpsc, oneshot, watch};

use crate::domain::{BatchId, ChipId, Fact, Identity, Imei, RunId, Sha256Digest, limits};
use crate::host::{Clock, Disk};

pub use archive::read_all;
pub use error::LedgerError;
pub use index::IndexPlace;
pub use line::Entry;
pub use questions::{BatchCounts, ClaimAnswer, ClaimRequest};
pub use run::{Findings, Interruption, OpenRun, UnfinishedRun};
pub use verify::{Difference, VerifyReport, verify};
pub use writer::{Health, lock};

use index::Index;
use store::Store;
use writer::{Request, Setup, Started, Writer};

/// Where the writer works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriterMode {
    /// In a task of the runtime, which then blocks on the disk: for a disk in memory and virtual time, where the order
    /// of everything must repeat.
    Inline,
    /// On a thread of its own.
    Thread,
}

/// The ledger. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Ledger {
    requests: mpsc::Sender<Request>,
    store: Arc<Store>,
    head: watch::Receiver<u64>,
    health: watch::Receiver<Health>,
    clock: Clock,
    mode: WriterMode,
}

impl Ledger {
    /// Opens the ledger of a state directory, making it where there is none: takes the lock, verifies how the files
    /// hang together and every line of the last one, cuts off half a line that a crash left, brings the index up to
    /// date, and starts the writer.
    ///
    /// # Errors
    /// [`LedgerError::Locked`], [`LedgerError::Corrupt`], [`LedgerError::Shortened`], and those of disk and index.
    pub async fn open(
        disk: Arc<dyn Disk>,
        clock: Clock,
        directory: PathBuf,
        mode: WriterMode,
        index: IndexPlace,
    ) -> Result<Self, LedgerError> {
        Self::start(Setup { disk, directory, index, segment_bytes: limits::LEDGER_SEGMENT_BYTES }, clock, mode).await
    }

    async fn start(setup: Setup, clock: Clock, mode: WriterMode) -> Result<Self, LedgerError> {
        let (requests, receiver) = mpsc::channel(limits::LEDGER_QUEUE_MAX);
        let Started { store, head, health } = match mode {
            WriterMode::Inline => {
                let (writer, started) = Writer::open(setup)?;
                tokio::spawn(writer.run_inline(receiver));
                started
            }
            WriterMode::Thread => start_thread(setup, receiver).await?,
        };
        Ok(Self { requests, store, head, health, clock, mode })
    }

    /// Writes a fact. It is durable when this returns `Ok`; after an error it may or may not be.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] for a fact that contradicts what is recorded (an intent without a backup, a second
    /// end of a run, ...) and [`LedgerError::TooLong`]: nothing was written. [`LedgerError::Disk`] when the write
    /// failed, and [`LedgerError::Poisoned`] ever after.
    pub async fn append(&self, fact: Fact) -> Result<Entry, LedgerError> {
        let wall = self.clock.wall();
        self.request(|reply| Request::Append { fact: Box::new(fact), wall, reply }).await
    }

    /// Claims a unit for a run. The answer is durable when this returns `Ok`.
    ///
    /// The binding of an IMEI to a chip is permanent: it holds whatever became of the run that made it. A claim that
    /// the run has already is granted again.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub async fn claim(&self, claim: ClaimRequest) -> Result<ClaimAnswer, LedgerError> {
        let wall = self.clock.wall();
        self.request(|reply| Request::Claim { claim: Box::new(claim), wall, reply }).await
    }

    /// Whether its writer still takes facts.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// The number of the last durable entry; 0 when there is none. Changes wake those who follow.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    /// How its disk is. Nothing that changes a module may be begun while that is not well, and it is told here before
    /// whoever waits for a fact gets an error.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Durable entries from `from_seq` on, at most `max` of them (and at most
    /// [`limits::LEDGER_READ_ENTRIES_MAX`]); fewer only at the end.
    ///
    /// # Errors
    /// Of the disk; [`LedgerError::Corrupt`] where a line was altered.
    pub async fn read(&self, from_seq: u64, max: usize) -> Result<Vec<Entry>, LedgerError> {
        let head = *self.head.borrow();
        if let Some(entries) = self.store.read_memory(from_seq, max, head) {
            return Ok(entries);
        }
        match self.mode {
            WriterMode::Inline => self.store.read(from_seq, max, head),
            WriterMode::Thread => {
                let store = Arc::clone(&self.store);
                let read = tokio::task::spawn_blocking(move || store.read(from_seq, max, head)).await;
                read.unwrap_or(Err(LedgerError::Closed))
            }
        }
    }

    /// Runs with an intent and without an end, by when they began: those of this process that are running, and those
    /// that are interrupted, be it by the end of an earlier process. [`OpenRun::state`] tells which.
    ///
    /// # Errors
    /// [`LedgerError::Closed`] and [`LedgerError::Index`], as for every question.
    pub async fn open_runs(&self) -> Result<Vec<OpenRun>, LedgerError> {
        self.ask(|index| index.open_runs("1", &[])).await
    }

    /// Runs without an intent and without an end. Those left over from an earlier process changed nothing, unless their
    /// unit was told something ([`UnfinishedRun::is_cured`]): then they are interrupted.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn unfinished_runs(&self) -> Result<Vec<UnfinishedRun>, LedgerError> {
        self.ask(Index::unfinished_runs).await
    }

    /// The open run of a chip.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn open_run_by_chip(&self, chip: ChipId) -> Result<Option<OpenRun>, LedgerError> {
        self.ask(move |index| Ok(index.open_runs("chip = ?1", params![chip.to_string()])?.pop())).await
    }

    /// The open run of an IMEI.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn open_run_by_imei(&self, imei: Imei) -> Result<Option<OpenRun>, LedgerError> {
        self.ask(move |index| Ok(index.open_runs("imei = ?1", params![imei.to_string()])?.pop())).await
    }

    /// The first run that was refused because its IMEI is the one of this run's unit.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn is_contested(&self, run: RunId) -> Result<Option<RunId>, LedgerError> {
        self.ask(move |index| index.contested(run)).await
    }

    /// Whether the hardware recorded here is simulated; `None` before anything was.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn simulated(&self) -> Result<Option<bool>, LedgerError> {
        self.ask(Index::simulated).await
    }

    /// Units of a batch with a finished run, each once, not counting those that were only aborted or only guests in
    /// another unit's place.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn finished_in_batch(&self, batch: BatchId) -> Result<u32, LedgerError> {
        self.ask(move |index| Ok(index.batch_counts(&batch)?.units)).await
    }

    /// Finished runs of a batch by outcome, and its units.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn batch_counts(&self, batch: BatchId) -> Result<BatchCounts, LedgerError> {
        self.ask(move |index| index.batch_counts(&batch)).await
    }

    /// The chip to which an IMEI is bound, and the run that claimed it last.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn imei_holder(&self, imei: Imei) -> Result<Option<(ChipId, RunId)>, LedgerError> {
        self.ask(move |index| index.imei_holder(imei)).await
    }

    /// The last finished run of a chip that took a backup, with that; the last one where none did.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn last_run_of(&self, chip: ChipId) -> Result<Option<(RunId, Option<Sha256Digest>)>, LedgerError> {
        self.ask(move |index| index.last_run_of(chip)).await
    }

    /// The IMEI with which a chip was claimed last.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn imei_of(&self, chip: ChipId) -> Result<Option<Imei>, LedgerError> {
        self.ask(move |index| index.imei_of(chip)).await
    }

    /// What the module of a backup said of itself before that was taken; `None` for a backup of another station.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn origin_of(&self, backup: Sha256Digest) -> Result<Option<Identity>, LedgerError> {
        self.ask(move |index| index.origin_of(backup)).await
    }

    /// The backups of a chip that are recorded.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn backups_of(&self, chip: ChipId) -> Result<BTreeSet<Sha256Digest>, LedgerError> {
        self.ask(move |index| index.backups_of(chip)).await
    }

    /// How many runs but `run` repaired a chip that was not well on arrival, or began to; but those by hand, and those
    /// that were aborted or met a fault of the station.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn repairs(&self, chip: ChipId, run: RunId) -> Result<u32, LedgerError> {
        self.ask(move |index| index.repairs(chip, run)).await
    }

    /// Whether a chip was told something because it was not well, and has not passed since.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn was_cured(&self, chip: ChipId) -> Result<bool, LedgerError> {
        self.ask(move |index| index.was_cured(chip)).await
    }

    /// How often a chip was claimed.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn attempts(&self, chip: ChipId) -> Result<u32, LedgerError> {
        self.ask(move |index| index.attempts(chip)).await
    }

    /// The number of the entry with which a run finished.
    ///
    /// # Errors
    /// As [`Ledger::open_runs`].
    pub async fn finished_at(&self, run: RunId) -> Result<Option<u64>, LedgerError> {
        self.ask(move |index| index.finished_at(run)).await
    }

    /// Ends the writer, once everything queued is written, and gives the lock back. Other handles get
    /// [`LedgerError::Closed`] from then on.
    pub async fn close(self) {
        let (reply, done) = oneshot::channel();
        if self.requests.send(Request::Close(reply)).await.is_ok() {
            // An error says that the writer has ended already.
            let _ = done.await;
        }
    }

    async fn request<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Request,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(make(reply)).await.map_err(|_| LedgerError::Closed)?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Index) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.request(|reply| {
            Request::Ask(Box::new(move |index| {
                // Whoever asked may have been cancelled.
                let _ = reply.send(question(index));
            }))
        })
        .await
    }
}

/// Opens the files on the writer's own thread, so that a long recovery does not block the runtime.
async fn start_thread(setup: Setup, receiver: mpsc::Receiver<Request>) -> Result<Started, LedgerError> {
    let path = setup.directory.clone();
    let (started, opened) = oneshot::channel();
    let work = move || match Writer::open(setup) {
        Ok((writer, about)) => {
            if started.send(Ok(about)).is_ok() {
                writer.run_on_thread(receiver);
            }
        }
        // Whoever opened it was cancelled; there is nothing to undo.
        Err(error) => drop(started.send(Err(error))),
    };
    std::thread::Builder::new()
        .name("ledger".to_owned())
        .spawn(work)
        .map_err(|error| LedgerError::disk(&path, error))?;
    opened.await.unwrap_or(Err(LedgerError::Closed))
}
