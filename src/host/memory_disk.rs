//! A disk in memory that crashes and fails when told to, so that crash safety is tested and not believed.
//!
//! It models what a journalling file system promises and no more: content survives a crash once its file was synced,
//! a name once its directory was; a failed fsync loses what it should have written, for good. Files that are
//! written by offset stand for simulated flash: it is not this host's memory, and survives every crash of the host.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{AppendFile, Disk, Entry, EntryKind, Hold, LockGuard, ReadAt, WriteAt};
use super::memory_file::{Content, key};

/// Free bytes that the disk claims to have until told otherwise.
const FREE_BYTES: u64 = 1 << 40;

/// How a chosen call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailKind {
    /// An I/O error; nothing was done.
    Error,
    /// The disk is full; nothing was done.
    NoSpace,
    /// Half of what was to be written is written, then an I/O error. Other calls: as [`FailKind::Error`].
    ShortWrite,
    /// The fsync in the call fails and what it should have made durable never will be. Other calls: as
    /// [`FailKind::Error`].
    FailedSync,
    /// The host dies in the call: half of a write is in its memory, and every later call fails too, until
    /// [`MemoryDisk::crash`].
    Crash,
}

type Inode = Arc<Mutex<Content>>;

#[derive(Debug, Default)]
struct State {
    /// Directories; made durable at once, as [`Disk::create_dir_all`] promises.
    directories: BTreeSet<PathBuf>,
    /// Names as they are seen.
    files: BTreeMap<PathBuf, Inode>,
    /// Names as a crash would leave them.
    durable: BTreeMap<PathBuf, Inode>,
    /// By the number of their guard.
    locks: BTreeMap<u64, (PathBuf, Hold)>,
    locks_taken: u64,
    /// Crashes so far; handles from before a crash are dead.
    crashes: u64,
    calls: u64,
    failures: BTreeMap<u64, FailKind>,
    dead: bool,
    free: Option<u64>,
    /// Bytes that all files together may have; `None`: no end.
    room: Option<u64>,
    /// What the call that failed last was.
    failed: Option<Call>,
    hook: Option<Hook>,
}

/// Somebody who is told of a failing call.
struct Hook(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// What a call does to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// It only looks.
    Look,
    /// It writes, makes, names or removes something.
    Write,
    /// It makes something durable.
    Sync,
}

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn error(kind: FailKind) -> io::Error {
    match kind {
        FailKind::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "injected: no space left"),
        FailKind::Crash => io::Error::other("injected: the host is down"),
        FailKind::Error | FailKind::ShortWrite | FailKind::FailedSync => io::Error::other("injected: I/O error"),
    }
}

/// Whether half of a write happens before the call fails.
fn is_partial(kind: FailKind) -> bool {
    matches!(kind, FailKind::ShortWrite | FailKind::Crash)
}

impl State {
    /// Counts a call and says how it fails, if it does.
    fn call(&mut self, what: Call) -> Option<FailKind> {
        if self.dead {
            return Some(FailKind::Crash);
        }
        self.calls += 1;
        let kind = self.failures.remove(&self.calls)?;
        self.dead = kind == FailKind::Crash;
        self.failed = Some(what);
        if let Some(Hook(tell)) = self.hook.take() {
            tell();
        }
        Some(kind)
    }

    /// Counts a call that is done completely or not at all.
    fn plain_call(&mut self, what: Call) -> io::Result<()> {
        self.call(what).map_or(Ok(()), |kind| Err(error(kind)))
    }

    /// Whether so many bytes more have room.
    fn make_room(&self, more: u64) -> io::Result<()> {
        let used = || self.files.values().map(|inode| lock(inode).bytes()).sum::<u64>();
        match self.room {
            Some(room) if more > 0 && used().saturating_add(more) > room => Err(error(FailKind::NoSpace)),
            _ => Ok(()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<Inode> {
        if self.directories.contains(path) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn directory_of(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.directory(parent)
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || self.directories.contains(path) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn file_or_new(&mut self, path: &Path) -> io::Result<Inode> {
        match self.file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.directory_of(path)?;
                Ok(Arc::clone(self.files.entry(path.to_owned()).or_default()))
            }
            other => other,
        }
    }

    /// What the fsync of a directory does.
    fn sync_names(&mut self, directory: &Path) {
        let inside = |path: &PathBuf| path.parent() == Some(directory);
        self.durable.retain(|path, _| !inside(path));
        let names = self.files.iter().filter(|(path, _)| inside(path));
        self.durable.extend(names.map(|(path, inode)| (path.clone(), Arc::clone(inode))));
    }
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `n`-th call from now on fail (1 is the next one). Every method of [`Disk`] and of the files that it
    /// gives out counts as one call, except for asking an [`AppendFile`] its length.
    pub fn fail_call(&self, n: u64, kind: FailKind) {
        let mut state = lock(&self.state);
        let at = state.calls.saturating_add(n);
        state.failures.insert(at, kind);
    }

    /// The next call that fails as planned tells it first, while it is failing: what is seen then is what was done
    /// before anybody could know.
    pub fn when_failing(&self, tell: impl FnOnce() + Send + 'static) {
        lock(&self.state).hook = Some(Hook(Box::new(tell)));
    }

    /// Forgets what was planned to fail.
    pub fn clear_failures(&self) {
        let mut state = lock(&self.state);
        state.failures.clear();
        state.hook = None;
    }

    /// What the last call was that failed as planned.
    #[must_use]
    pub fn failed_call(&self) -> Option<Call> {
        lock(&self.state).failed
    }

    /// Bytes that all files together may have from now on; beyond them the disk is full.
    pub fn set_room(&self, bytes: Option<u64>) {
        lock(&self.state).room = bytes;
    }

    /// Bytes that all files together have.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        lock(&self.state).files.values().map(|inode| lock(inode).bytes()).sum()
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        lock(&self.state).calls
    }

    /// The host crashes and starts again: what was not synced is gone, so are locks and planned failures, and
    /// handles from before give errors.
    pub fn crash(&self) {
        self.crash_torn(0);
    }

    /// The same, but `torn` bytes of what each file had beyond its last fsync happen to be on the disk.
    pub fn crash_torn(&self, torn: u64) {
        let mut state = lock(&self.state);
        state.files = state.durable.clone();
        for inode in state.files.values() {
            lock(inode).crash(torn);
        }
        state.locks.clear();
        state.failures.clear();
        state.crashes += 1;
        state.dead = false;
    }

    /// What [`Disk::free_bytes`] says from now on.
    pub fn set_free_bytes(&self, bytes: u64) {
        lock(&self.state).free = Some(bytes);
    }

    /// Changes a file behind everybody's back, as an editor or a rotting disk would; counts as no call.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let inode = lock(&self.state).file(&key(path))?;
        let mut content = lock(&inode);
        let mut bytes = vec![0; usize::try_from(content.bytes()).map_err(|_| io::ErrorKind::FileTooLarge)?];
        content.read(&mut bytes, 0)?;
        change(&mut bytes);
        let version = content.version;
        *content = Content::of(&bytes)?;
        content.version += version;
        content.sync();
        Ok(())
    }

    fn take(&self, state: &mut State, path: PathBuf, how: Hold) -> io::Result<Box<dyn LockGuard>> {
        let mut others = state.locks.values().filter(|(held, _)| *held == path);
        if others.any(|(_, other)| how == Hold::Alone || *other == Hold::Alone) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locks_taken += 1;
        state.locks.insert(state.locks_taken, (path, how));
        Ok(Box::new(MemoryLock { disk: self.clone(), number: state.locks_taken }))
    }

    fn handle(&self, state: &State, inode: Inode) -> Handle {
        Handle { disk: self.clone(), inode, crashes: state.crashes }
    }
}

/// An open file.
#[derive(Debug)]
struct Handle {
    disk: MemoryDisk,
    inode: Inode,
    crashes: u64,
}

impl Handle {
    /// Counts a call; the inner error is for calls that do a part before they fail.
    fn call(&self, what: Call) -> io::Result<Option<FailKind>> {
        let mut state = lock(&self.disk.state);
        if state.crashes != self.crashes {
            return Err(io::Error::other("the file was opened before the crash"));
        }
        Ok(state.call(what))
    }

    fn plain_call(&self, what: Call) -> io::Result<()> {
        self.call(what)?.map_or(Ok(()), |kind| Err(error(kind)))
    }

    fn write(&self, bytes: &[u8], offset: Option<u64>, durable: bool) -> io::Result<()> {
        let failure = self.call(Call::Write)?;
        let length = lock(&self.inode).bytes();
        let end = offset.unwrap_or(length).saturating_add(bytes.len() as u64);
        if failure.is_none() {
            lock(&self.disk.state).make_room(end.saturating_sub(length))?;
        }
        let part = match failure {
            None => bytes,
            Some(kind) if is_partial(kind) => &bytes[..bytes.len() / 2],
            Some(_) => &[],
        };
        let mut content = lock(&self.inode);
        if !part.is_empty() {
            let offset = offset.unwrap_or(content.bytes());
            content.write(part, offset)?;
            if durable {
                content.sync();
            }
        }
        failure.map_or(Ok(()), |kind| Err(error(kind)))
    }
}

impl AppendFile for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes, None, false)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.call(Call::Sync)? {
            None => lock(&self.inode).sync(),
            Some(kind) => {
                if kind == FailKind::FailedSync {
                    lock(&self.inode).fail_sync();
                }
                return Err(error(kind));
            }
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        lock(&self.inode).bytes()
    }
}

impl ReadAt for Handle {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.plain_call(Call::Look)?;
        lock(&self.inode).read(buffer, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.plain_call(Call::Look)?;
        Ok(lock(&self.inode).bytes())
    }

    fn stamp(&self) -> io::Result<u128> {
        self.plain_call(Call::Look)?;
        let content = lock(&self.inode);
        Ok(u128::from(content.version) << 64 | u128::from(content.bytes()))
    }
}

impl WriteAt for Handle {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(bytes, Some(offset), true)
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.plain_call(Call::Write)?;
        lock(&self.inode).punch(offset, bytes);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryLock {
    disk: MemoryDisk,
    number: u64,
}

impl LockGuard for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        lock(&self.disk.state).locks.remove(&self.number);
    }
}

impl Disk for MemoryDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Write)?;
        for directory in key(path).ancestors().filter(|path| !path.as_os_str().is_empty()) {
            if state.files.contains_key(directory) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.directories.insert(directory.to_owned());
        }
        Ok(())
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Look)?;
        let inode = state.file(&key(path))?;
        let content = lock(&inode);
        if content.bytes() > bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {bytes_max} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(content.bytes()).map_err(|_| io::ErrorKind::FileTooLarge)?];
        content.read(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Look)?;
        let directory = key(directory);
        state.directory(&directory)?;
        let named = |path: &PathBuf, kind, bytes| {
            let name = path.strip_prefix(&directory).ok()?.to_str()?.to_owned();
            (!name.is_empty() && !name.contains('/')).then_some(Entry { name, kind, bytes })
        };
        let files = state.files.iter().filter_map(|(path, inode)| {
            let bytes = lock(inode).bytes();
            named(path, EntryKind::File, bytes)
        });
        let directories = state.directories.iter().filter_map(|path| named(path, EntryKind::Directory, 0));
        let mut entries: Vec<Entry> = files.chain(directories).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadAt>> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Look)?;
        let inode = state.file(&key(path))?;
        Ok(Box::new(self.handle(&state, inode)))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn WriteAt>> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Write)?;
        let path = key(path);
        let inode = state.file_or_new(&path)?;
        state.durable.insert(path, Arc::clone(&inode));
        Ok(Box::new(self.handle(&state, inode)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Write)?;
        let inode = state.file_or_new(&key(path))?;
        Ok(Box::new(self.handle(&state, inode)))
    }

    fn replace(&self, path: &Path, bytes: &[u8], _public: bool) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Write)?;
        let path = key(path);
        state.directory_of(&path)?;
        if state.directories.contains(&path) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let old = state.files.get(&path).map_or(0, |inode| lock(inode).bytes());
        state.make_room((bytes.len() as u64).saturating_sub(old))?;
        let mut content = Content::of(bytes)?;
        content.sync();
        let inode = Arc::new(Mutex::new(content));
        state.durable.insert(path.clone(), Arc::clone(&inode));
        state.files.insert(path, inode);
        Ok(())
    }

    fn rewrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        lock(&self.state).file(&key(path))?;
        self.replace(path, bytes, true)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if lock(&self.state).file(&key(path)).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.replace(path, bytes, true)
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Look)?;
        state.directory_of(&key(path))
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        let failure = state.call(Call::Sync);
        if let Some(kind) = failure.filter(|kind| !matches!(kind, FailKind::FailedSync | FailKind::Crash)) {
            return Err(error(kind));
        }
        let (from, to) = (key(from), key(to));
        let inode = state.file(&from)?;
        state.directory_of(&to)?;
        if state.files.contains_key(&to) || state.directories.contains(&to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.remove(&from);
        state.files.insert(to.clone(), inode);
        if let Some(kind) = failure {
            return Err(error(kind));
        }
        let directory = to.parent().map(Path::to_owned).unwrap_or_default();
        state.sync_names(&directory);
        Ok(())
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Write)?;
        let inode = state.file(&key(path))?;
        let mut content = lock(&inode);
        content.truncate(bytes);
        content.sync();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Write)?;
        let path = key(path);
        state.file(&path)?;
        state.files.remove(&path);
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Sync)?;
        let directory = key(directory);
        state.directory(&directory)?;
        state.sync_names(&directory);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Write)?;
        let path = key(path);
        state.file_or_new(&path)?;
        self.take(&mut state, path, Hold::Alone)
    }

    fn hold(&self, path: &Path, how: Hold) -> io::Result<Box<dyn LockGuard>> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Look)?;
        let path = key(path);
        state.directory(&path).or_else(|_| state.file(&path).map(drop))?;
        self.take(&mut state, path, how)
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let mut state = lock(&self.state);
        state.plain_call(Call::Look)?;
        Ok(state.free.unwrap_or(FREE_BYTES))
    }
}
