//! A disk after whose n-th line of ledger the process ends, as if it had been killed, or on which there is no room then.
//!
//! For proving from outside, with the real binary, that a crash between any two facts loses nothing, and what a full disk
//! does. The last line is durable when the process ends; a full disk has room again once the reserve is given up.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::host::{AppendFile, Disk, Entry, Hold, LockGuard, ReadAt, WriteAt};

/// What happens after the last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The process ends.
    Death,
    /// No further line has room.
    Full,
}

/// The disk below, with a counter.
#[derive(Debug)]
pub(crate) struct CrashDisk {
    below: Arc<dyn Disk>,
    left: Arc<AtomicU64>,
    after: After,
}

impl CrashDisk {
    pub(crate) fn new(below: Arc<dyn Disk>, lines: u64, after: After) -> Self {
        Self { below, left: Arc::new(AtomicU64::new(lines.max(1))), after }
    }
}

#[derive(Debug)]
struct CountedFile {
    below: Box<dyn AppendFile>,
    left: Arc<AtomicU64>,
    after: After,
}

impl AppendFile for CountedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Line by line, so that a group of facts can be cut in the middle, too.
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.after == After::Full {
                let less = |left: u64| left.checked_sub(1);
                if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
                    return Err(io::Error::new(io::ErrorKind::StorageFull, "planned: no space left"));
                }
                self.below.append(line)?;
                continue;
            }
            self.below.append(line)?;
            if line.ends_with(b"\n") && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.below.sync()?;
                std::process::abort();
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.below.sync()
    }

    fn bytes(&self) -> u64 {
        self.below.bytes()
    }
}

impl Disk for CrashDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.below.create_dir_all(path)
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.below.read(path, bytes_max)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.below.list(directory)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadAt>> {
        self.below.open(path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn WriteAt>> {
        self.below.open_write(path)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let below = self.below.append(path)?;
        let is_ledger = path.extension().is_some_and(|extension| extension == "jsonl");
        if !is_ledger {
            return Ok(below);
        }
        Ok(Box::new(CountedFile { below, left: Arc::clone(&self.left), after: self.after }))
    }

    fn replace(&self, path: &Path, bytes: &[u8], public: bool) -> io::Result<()> {
        self.below.replace(path, bytes, public)
    }

    fn rewrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.below.rewrite(path, bytes)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.below.create(path, bytes)
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        self.below.try_write(path)
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below.publish(from, to)
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.below.truncate(path, bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.after == After::Full && path.ends_with("reserve") {
            self.left.store(u64::MAX, Ordering::SeqCst);
        }
        self.below.remove(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.below.sync_dir(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.below.lock(path)
    }

    fn hold(&self, path: &Path, how: Hold) -> io::Result<Box<dyn LockGuard>> {
        self.below.hold(path, how)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.below.free_bytes(path)
    }
}
