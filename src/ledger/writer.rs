//! The one writer: takes what is queued, decides claims, makes the whole group durable with one fsync, answers.
//!
//! The index follows inside a transaction that is committed after the fsync: claims of one group see each other, and
//! questions see durable entries only. After a failed write nothing is tried again, because what the kernel did with
//! the lost pages is unknown; only a restart that reads the file anew knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::domain::{Fact, limits};
use crate::host::{AppendFile, Disk, LockGuard};

use super::LedgerError;
use super::index::{Index, IndexPlace};
use super::line::{self, Entry};
use super::questions::{ClaimAnswer, ClaimRequest};
use super::recover::recover;
use super::reserve;
use super::segment::{self, Head};
use super::store::Store;

/// The lock file's name in the state directory.
const LOCK_FILE: &str = "ledger.lock";

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;
/// A question, with the way back for its answer inside.
pub(super) type Question = Box<dyn FnOnce(&Index) + Send>;

/// What can be asked of the writer.
pub(super) enum Request {
    Append {
        fact: Box<Fact>,
        wall: Timestamp,
        reply: Reply<Entry>,
    },
    Claim {
        claim: Box<ClaimRequest>,
        wall: Timestamp,
        reply: Reply<ClaimAnswer>,
    },
    Ask(Question),
    /// Answered once the lock is free again.
    Close(oneshot::Sender<()>),
}

/// How the ledger's disk is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// Facts become durable.
    Well,
    /// The disk is full, or refused what can be done without. The runs under way can still be recorded, and nothing new
    /// may be begun.
    Failing {
        /// What the disk said.
        reason: String,
    },
    /// A write failed. Nothing can be recorded before a restart has read the file again.
    Failed {
        /// What the disk said.
        reason: String,
    },
}

/// Who waits for an entry of a group.
enum Waiting {
    Append(Box<Entry>, Reply<Entry>),
    Claim(ClaimAnswer, Reply<ClaimAnswer>),
}

/// Everything of one fsync.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    entries: Vec<(Arc<Entry>, u64)>,
    waiting: Vec<Waiting>,
    /// Why nothing of the group can be written.
    failure: Option<LedgerError>,
}

/// What a writer is made from.
pub(super) struct Setup {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) directory: PathBuf,
    pub(super) index: IndexPlace,
    /// A file longer than this, in bytes, is followed by a new one.
    pub(super) segment_bytes: u64,
}

/// What is known of a writer from outside.
pub(super) struct Started {
    pub(super) store: Arc<Store>,
    pub(super) head: watch::Receiver<u64>,
    pub(super) health: watch::Receiver<Health>,
}

#[derive(Debug)]
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    store: Arc<Store>,
    index: Index,
    segment_bytes: u64,
    head: Head,
    published: watch::Sender<u64>,
    health: watch::Sender<Health>,
    /// The number of the last file; 0 before the first.
    segment: u32,
    /// Its length in bytes.
    bytes: u64,
    /// Open once something was appended to it.
    file: Option<Box<dyn AppendFile>>,
    /// Whether the room that is kept for a full disk is still there.
    has_reserve: bool,
    poisoned: Option<String>,
    lock: Box<dyn LockGuard>,
}

/// Takes the lock of the ledger in `directory`, which is made where there is none: nobody else works with the state
/// directory until it is dropped.
///
/// # Errors
/// [`LedgerError::Locked`] when somebody else has it, and those of the disk.
pub fn lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn LockGuard>, LedgerError> {
    disk.create_dir_all(directory).map_err(|error| LedgerError::disk(directory, error))?;
    let path = directory.join(LOCK_FILE);
    disk.lock(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => LedgerError::Locked { path: path.clone() },
        _ => LedgerError::disk(&path, error),
    })
}

impl Writer {
    /// Takes the lock, recovers the files, and brings the index up to date. Blocks.
    pub(super) fn open(setup: Setup) -> Result<(Self, Started), LedgerError> {
        let Setup { disk, directory, index, segment_bytes } = setup;
        let lock = lock(&*disk, &directory)?;
        let recovered = recover(&*disk, &directory)?;
        reserve::keep(&*disk, &directory)?;
        let store = Arc::new(Store::new(Arc::clone(&disk), directory.clone()));
        for first_seq in &recovered.first_seqs {
            store.begin_segment(*first_seq);
        }
        let index = Index::open(&*disk, &directory, index, &store, recovered.head)?;
        let (published, head) = watch::channel(recovered.head.seq);
        let (health, healthy) = watch::channel(Health::Well);
        let writer = Self {
            disk,
            directory,
            store: Arc::clone(&store),
            index,
            segment_bytes,
            head: recovered.head,
            published,
            health,
            segment: u32::try_from(recovered.first_seqs.len()).unwrap_or(u32::MAX),
            bytes: recovered.bytes,
            file: None,
            has_reserve: true,
            poisoned: None,
            lock,
        };
        Ok((writer, Started { store, head, health: healthy }))
    }

    /// Works as a task until it is closed or nobody can ask any more.
    pub(super) async fn run_inline(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut closing = None;
        while let Some(request) = requests.recv().await {
            self.turn(request, &mut requests, &mut closing);
        }
        self.end(closing);
    }

    /// The same on a thread of its own.
    pub(super) fn run_on_thread(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut closing = None;
        while let Some(request) = requests.blocking_recv() {
            self.turn(request, &mut requests, &mut closing);
        }
        self.end(closing);
    }

    fn end(self, closing: Option<oneshot::Sender<()>>) {
        let Self { index, poisoned, lock, .. } = self;
        if poisoned.is_none()
            && let Err(error) = index.close()
        {
            tracing::warn!(%error, "the ledger's index could not be closed; it will be made anew");
        }
        drop(lock);
        if let Some(closing) = closing {
            // Nobody waits any more: nothing is lost.
            let _ = closing.send(());
        }
    }

    /// Handles one request and what else is queued, up to a group's size.
    fn turn(
        &mut self,
        first: Request,
        requests: &mut mpsc::Receiver<Request>,
        closing: &mut Option<oneshot::Sender<()>>,
    ) {
        let mut questions = Vec::new();
        let mut next = Some(first);
        let mut group = Group::default();
        match &self.poisoned {
            Some(reason) => group.failure = Some(LedgerError::Poisoned { reason: reason.clone() }),
            None => {
                let begun = self.index.begin();
                group.failure = begun.or_else(|error| self.leave_index_file(&error, &[])).err();
            }
        }
        while let Some(request) = next.take() {
            match request {
                Request::Append { fact, wall, reply } => self.take_append(*fact, wall, reply, &mut group),
                Request::Claim { claim, wall, reply } => self.take_claim(&claim, wall, reply, &mut group),
                Request::Ask(question) => questions.push(question),
                Request::Close(reply) => {
                    requests.close();
                    closing.get_or_insert(reply);
                }
            }
            if group.bytes.len() < limits::LEDGER_GROUP_BYTES {
                next = requests.try_recv().ok();
            }
        }
        if self.poisoned.is_none() {
            self.commit(group);
        }
        for question in questions {
            question(&self.index);
        }
    }

    /// Adds a fact to the group, or says at once why it cannot be written.
    fn take_append(&mut self, fact: Fact, wall: Timestamp, reply: Reply<Entry>, group: &mut Group) {
        let added = group.writable().and_then(|()| self.index.check(&fact)).and_then(|()| {
            let amendment = match &fact {
                Fact::RunFinished(record) => self.index.amendment(record)?,
                _ => None,
            };
            let entry = self.add(fact, wall, group)?;
            if let Some(amendment) = amendment {
                self.add(amendment, wall, group)?;
            }
            Ok(entry)
        });
        match added {
            Ok(entry) => group.waiting.push(Waiting::Append(Box::new(entry), reply)),
            Err(error) => group.refuse(reply, error),
        }
    }

    fn take_claim(&mut self, claim: &ClaimRequest, wall: Timestamp, reply: Reply<ClaimAnswer>, group: &mut Group) {
        let decided = group.writable().and_then(|()| self.index.decide(claim)).and_then(|decision| {
            for fact in decision.facts {
                self.add(fact, wall, group)?;
            }
            Ok(decision.answer)
        });
        match decided {
            Ok(granted) => group.waiting.push(Waiting::Claim(granted, reply)),
            Err(error) => group.refuse(reply, error),
        }
    }

    fn add(&mut self, fact: Fact, wall: Timestamp, group: &mut Group) -> Result<Entry, LedgerError> {
        let (entry, bytes) = line::encode(self.head.seq + 1, self.head.hash, wall, fact)?;
        if let Err(error) = self.index.apply(&entry) {
            self.leave_index_file(&error, &group.entries)?;
            self.index.apply(&entry)?;
        }
        group.entries.push((Arc::new(entry.clone()), group.bytes.len() as u64));
        group.bytes.extend_from_slice(&bytes);
        self.head = Head { seq: entry.seq, hash: entry.hash };
        Ok(entry)
    }

    fn commit(&mut self, group: Group) {
        if let Err(error) = group.writable().and_then(|()| self.write(&group)) {
            self.poison(&error);
            self.index.roll_back();
            for waiting in group.waiting {
                match waiting {
                    Waiting::Append(_, reply) => answer(reply, Err(error.clone())),
                    Waiting::Claim(_, reply) => answer(reply, Err(error.clone())),
                }
            }
            return;
        }
        // From here on the group is durable, whatever becomes of the index.
        let committed = self.index.commit();
        let committed = committed.or_else(|error| {
            self.leave_index_file(&error, &[])?;
            self.index.commit()
        });
        if let Err(error) = committed {
            self.poison(&error);
        }
        if !group.entries.is_empty() {
            self.published.send_replace(self.head.seq);
        }
        for waiting in group.waiting {
            match waiting {
                Waiting::Append(entry, reply) => answer(reply, Ok(*entry)),
                Waiting::Claim(granted, reply) => answer(reply, Ok(granted)),
            }
        }
    }

    fn poison(&mut self, error: &LedgerError) {
        tracing::error!(%error, "the ledger stops: a write failed");
        let reason = self.poisoned.get_or_insert_with(|| error.to_string()).clone();
        // Before anybody is answered: whoever looks at it does not begin anything any more.
        self.health.send_replace(Health::Failed { reason });
    }

    /// Makes a group durable.
    fn write(&mut self, group: &Group) -> Result<(), LedgerError> {
        let Some((first, _)) = group.entries.first() else { return Ok(()) };
        let is_new = self.segment == 0 || self.bytes > self.segment_bytes;
        if is_new {
            self.segment = self.segment.saturating_add(1);
            self.file = None;
            self.bytes = 0;
        }
        let path = self.directory.join(segment::name(self.segment));
        let fail = |error| LedgerError::disk(&path, error);
        let mut file = match self.put(&path, &group.bytes) {
            Err(error) if reserve::is_full(&error) && self.has_reserve => {
                self.make_room(&path, &error)?;
                self.put(&path, &group.bytes).map_err(fail)?
            }
            other => other.map_err(fail)?,
        };
        file.sync().map_err(fail)?;
        self.file = Some(file);
        if is_new {
            self.disk.sync_dir(&self.directory).map_err(fail)?;
            self.store.begin_segment(first.seq);
        }
        for (entry, offset) in &group.entries {
            self.store.push(Arc::clone(entry), self.bytes + offset);
        }
        self.bytes += group.bytes.len() as u64;
        Ok(())
    }
}

impl Writer {
    /// Writes at the end of a segment; gives its file, which is not synced.
    fn put(&mut self, path: &Path, bytes: &[u8]) -> std::io::Result<Box<dyn AppendFile>> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.disk.append(path)?,
        };
        file.append(bytes)?;
        Ok(file)
    }

    /// After a write that found no room: gives the reserve up, and cuts off what may have been written.
    fn make_room(&mut self, path: &Path, full: &std::io::Error) -> Result<(), LedgerError> {
        tracing::error!(error = %full, "the disk is full: the runs under way are recorded in the room of the reserve");
        self.has_reserve = false;
        reserve::give_up(&*self.disk, &self.directory)?;
        match self.disk.truncate(path, self.bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.bytes == 0 => {}
            other => other.map_err(|error| LedgerError::disk(path, error))?,
        }
        self.health.send_replace(Health::Failing { reason: format!("{}: {full}", path.display()) });
        Ok(())
    }

    /// Goes on with an index in memory where its file cannot be written: made from what is durable, and then from the
    /// entries of a group that is not yet. It is inside a transaction afterwards.
    fn leave_index_file(&mut self, error: &LedgerError, group: &[(Arc<Entry>, u64)]) -> Result<(), LedgerError> {
        let durable = group.first().map_or(self.head.seq, |(first, _)| first.seq.saturating_sub(1));
        let Some(index) = self.index.without_file(&self.store, durable)? else { return Err(error.clone()) };
        tracing::error!(%error, "the disk fails: the ledger goes on without the file of its index");
        self.index = index;
        self.health.send_replace(Health::Failing { reason: error.to_string() });
        self.index.begin()?;
        group.iter().try_for_each(|(entry, _)| self.index.apply(entry))
    }
}

impl Group {
    fn writable(&self) -> Result<(), LedgerError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Answers a request that cannot be fulfilled. What is no fault of the fact alone ends the whole group.
    fn refuse<T>(&mut self, reply: Reply<T>, error: LedgerError) {
        if !matches!(error, LedgerError::Refused { .. } | LedgerError::TooLong { .. }) {
            self.failure.get_or_insert_with(|| error.clone());
        }
        answer(reply, Err(error));
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, LedgerError>) {
    // Whoever asked may have been cancelled; what was written stays written.
    let _ = reply.send(result);
}
