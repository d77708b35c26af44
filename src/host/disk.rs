//! The disk, as a trait: every file of the product is read and written through it.
//!
//! The calls are the ones that crash safety is argued with: append, fsync of a file, fsync of a directory, rename.
//! They block; who must not block runs them on a blocking thread. A failed fsync is never retried: what the kernel
//! did with the dirty pages is unknown afterwards.

use std::fmt::Debug;
use std::io;
use std::path::Path;

use crate::domain::limits;
use crate::domain::text::printable;

/// What a directory entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, a pipe, a device: nothing that is ever read.
    Other,
}

/// One entry of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name; entries whose name is not UTF-8 are reported as [`EntryKind::Other`] with replacement characters.
    pub name: String,
    /// What it is. Links are not followed.
    pub kind: EntryKind,
    /// Its length in bytes; 0 for what is no file.
    pub bytes: u64,
}

/// A file that grows at its end.
pub trait AppendFile: Send + Debug {
    /// Writes all of `bytes` at the end.
    ///
    /// # Errors
    /// Of the disk. What part was written is unknown then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// Of the disk. Nothing that was appended since the last success may be believed.
    fn sync(&mut self) -> io::Result<()>;

    /// The file's length in bytes.
    fn bytes(&self) -> u64;
}

/// A file that is read by offset; opened once and shared.
pub trait ReadAt: Send + Sync + Debug {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// Of the disk, and `UnexpectedEof` where the file ends earlier.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// The length in bytes, asked anew.
    ///
    /// # Errors
    /// Of the disk.
    fn bytes(&self) -> io::Result<u64>;

    /// Something that changes when the file's content is written to (modification time and length on a real disk):
    /// a cheap sign, not a proof.
    ///
    /// # Errors
    /// Of the disk.
    fn stamp(&self) -> io::Result<u128>;
}

/// A file that is read and written by offset (the flash of a simulated module).
pub trait WriteAt: ReadAt {
    /// Writes all of `bytes` at `offset`; the file grows as needed.
    ///
    /// # Errors
    /// Of the disk.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a range read as zeros, giving its space back where the disk can.
    ///
    /// # Errors
    /// Of the disk.
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()>;
}

/// A lock; given up when dropped.
pub trait LockGuard: Send + Sync + Debug {}

/// Whom a lock keeps out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Those who want to be alone.
    Shared,
    /// Everybody else.
    Alone,
}

/// What the disk said, as a clause for people: the common cases in words that do not depend on the system.
#[must_use]
pub fn disk_words(error: &io::Error) -> String {
    let words = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or directory",
        io::ErrorKind::PermissionDenied => "this user may not do that (permission denied)",
        io::ErrorKind::AlreadyExists => "there is something of that name already",
        io::ErrorKind::NotADirectory => "there is a file where a directory must be",
        io::ErrorKind::IsADirectory => "it is a directory, not a file",
        io::ErrorKind::DirectoryNotEmpty => "the directory is not empty",
        io::ErrorKind::StorageFull => "the disk is full",
        io::ErrorKind::QuotaExceeded => "this user may not fill the disk any further (quota)",
        io::ErrorKind::ReadOnlyFilesystem => "the disk is mounted read-only",
        _ => return printable(&error.to_string(), limits::DEVICE_TEXT_CHARS_MAX),
    };
    words.to_owned()
}

/// A disk.
pub trait Disk: Send + Sync + Debug {
    /// Makes a directory and those above it, each made durable in the one above.
    ///
    /// # Errors
    /// Of the disk.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// A whole file of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// Of the disk; `NotFound`; `FileTooLarge` where it is longer; `InvalidInput` where it is no regular file.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;

    /// What is in a directory, ascending by name.
    ///
    /// # Errors
    /// Of the disk; `NotFound`.
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>>;

    /// Opens a regular file for reading by offset, not following a link in its last component.
    ///
    /// # Errors
    /// Of the disk; `NotFound`; `InvalidInput` where it is no regular file.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadAt>>;

    /// Opens a file for reading and writing by offset; makes it when it is not there.
    ///
    /// # Errors
    /// Of the disk.
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn WriteAt>>;

    /// Opens a file for appending, mode 0600; makes it when it is not there.
    ///
    /// # Errors
    /// Of the disk.
    fn append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;

    /// Puts a whole file in place so that a reader, or a restart, sees the old content or the new, never a part:
    /// temporary file beside it (mode 0600, or 0644 when `public`), fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// Of the disk; the old content is still there then.
    fn replace(&self, path: &Path, bytes: &[u8], public: bool) -> io::Result<()>;

    /// Writes a person's file anew, as [`Disk::replace`] does, and leaves it theirs: owner, group and mode stay. No file
    /// beside it is touched. A link is not followed.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` where it is no regular file, or has other names too, which would keep the old content;
    /// `PermissionDenied` where the owner cannot be kept. Of the disk. The old content is still there then.
    fn rewrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Makes a whole new file, mode 0644, which is there completely or not at all.
    ///
    /// # Errors
    /// `AlreadyExists` where the name is taken: what is there stays untouched. Of the disk.
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Whether [`Disk::rewrite`] of a file that is there, or [`Disk::create`] of one that is not, can be expected to
    /// succeed. Leaves nothing behind.
    ///
    /// # Errors
    /// As those have them.
    fn try_write(&self, path: &Path) -> io::Result<()>;

    /// Gives a finished file its name, which must be a new one in the same directory, and makes that durable.
    ///
    /// # Errors
    /// `AlreadyExists` where the name is taken: what is there stays untouched. Of the disk.
    fn publish(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Cuts a file to `bytes` and makes that durable.
    ///
    /// # Errors
    /// Of the disk.
    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Of the disk; `NotFound`.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    /// Of the disk.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on a file, which is made when it is not there. Does not wait.
    ///
    /// # Errors
    /// `WouldBlock` when another process (or another holder here) has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>>;

    /// Takes a lock on a file or a directory that is there, for which it need only be readable: nothing is made, nothing
    /// is changed. Does not wait. Not on the same place as [`Disk::lock`].
    ///
    /// # Errors
    /// `WouldBlock` when others hold it; `NotFound`. Of the disk.
    fn hold(&self, path: &Path, how: Hold) -> io::Result<Box<dyn LockGuard>>;

    /// Bytes that are free for this process on the disk of `path`.
    ///
    /// # Errors
    /// Of the disk.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}
