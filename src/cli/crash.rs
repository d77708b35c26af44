//! A disk after whose n-th line of ledger the process ends, as if it had been killed.
//!
//! For proving from outside, with the real binary, that a crash between any two facts loses nothing. The line is
//! durable when the process ends.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::host::{AppendFile, Disk, Entry, Hold, LockGuard, ReadAt, WriteAt};

/// The disk below, with a counter.
#[derive(Debug)]
pub(crate) struct CrashDisk {
    below: Arc<dyn Disk>,
    left: Arc<AtomicU64>,
}

impl CrashDisk {
    pub(crate) fn new(below: Arc<dyn Disk>, lines: u64) -> Self {
        Self { below, left: Arc::new(AtomicU64::new(lines.max(1))) }
    }
}

#[derive(Debug)]
struct CountedFile {
    below: Box<dyn AppendFile>,
    left: Arc<AtomicU64>,
}

impl AppendFile for CountedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Line by line, so that a group of facts can be cut in the middle, too.
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
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
        if is_ledger { Ok(Box::new(CountedFile { below, left: Arc::clone(&self.left) })) } else { Ok(below) }
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
