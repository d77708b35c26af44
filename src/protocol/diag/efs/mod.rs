//! The module's file system over DIAG: what backup and restore need of subsystem EFS2.
//!
//! Modules answer under one of two subsystem numbers, or both; QPST tries the alternate one first, and so does
//! [`Subsystem::ALL`]. They are stingy: reads and writes of 1 KiB at the most, a handful of directories open at a time,
//! and a journal that takes no more writes to files until it was synchronised. An *item file* is read and written as a
//! whole ([`Efs::get`], [`Efs::put`]); some are hidden from a listing and still answer to their name.

mod path;

pub use path::{EfsPath, PathError};

use super::error::{Errno, ReplyError};
use super::request::{Body, Request};
use crate::domain::limits::{EFS_ITEM_BYTES_MAX, EFS_NAME_BYTES_MAX, EFS_PUT_BYTES_MAX, EFS_TRANSFER_BYTES_MAX};

/// The number under which a module's file system answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subsystem {
    /// `3E`.
    Alternate,
    /// `13`.
    Standard,
}

impl Subsystem {
    /// All, in the order in which they are tried.
    pub const ALL: [Self; 2] = [Self::Alternate, Self::Standard];

    const fn byte(self) -> u8 {
        match self {
            Self::Alternate => 0x3e,
            Self::Standard => 0x13,
        }
    }
}

/// An open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileHandle(pub i32);

/// An open directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DirectoryHandle(pub i32);

/// What a file is, out of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// An ordinary file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// An item file.
    Item,
    /// Something else.
    Other,
}

impl FileType {
    fn of_mode(mode: i32) -> Self {
        match mode & TYPE_MASK {
            0o040_000 => Self::Directory,
            0o100_000 => Self::File,
            0o120_000 => Self::Link,
            ITEM_MODE => Self::Item,
            _ => Self::Other,
        }
    }
}

const TYPE_MASK: i32 = 0o170_000;
/// The type of an item file, in a mode.
const ITEM_MODE: i32 = 0o160_000;

/// What [`Efs::stat`] tells of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub file_type: FileType,
    /// Its permissions.
    pub permissions: u16,
    /// Its length, in bytes.
    pub bytes: u32,
}

fn stat_of(mode: i32, bytes: u32) -> Stat {
    let permissions = u16::try_from(mode & 0o7777).unwrap_or_default();
    Stat { file_type: FileType::of_mode(mode), permissions, bytes }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name as the module gives it: without a slash in it, but it may be `.` or `..`. Whether it can be part of a
    /// path is for [`EfsPath::join`] to say.
    pub name: String,
    /// What it is.
    pub stat: Stat,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenMode {
    /// To be read.
    Read,
    /// To be written from its beginning; it is made where it is missing, with its directories.
    Replace {
        /// Its permissions.
        permissions: u16,
    },
}

const WRITE_ONLY: i32 = 0x1;
const CREATE: i32 = 0x40;
const TRUNCATE: i32 = 0x200;
const MAKE_DIRECTORIES: i32 = 0x8_0000;

/// A synchronisation that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SyncToken {
    sequence: u16,
    token: u32,
}

/// Something is longer than a request can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are more than the {bytes_max} that one request to the module's file system holds")]
pub struct TooLong {
    /// How long it is.
    pub bytes: usize,
    /// How long it may be.
    pub bytes_max: usize,
}

/// Makes the requests to one subsystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Efs(pub Subsystem);

impl Efs {
    fn request<T>(
        self,
        name: &'static str,
        operation: u8,
        parts: &[&[u8]],
        read: impl Fn(&mut Body<'_>) -> Result<Option<T>, ReplyError> + Send + Sync + 'static,
    ) -> Request<T> {
        let mut payload = vec![0x4b, self.0.byte(), operation, 0x00];
        parts.iter().for_each(|part| payload.extend_from_slice(part));
        Request::new(name, payload, 4, read)
    }

    /// A request whose answer is an error number alone.
    fn act(self, name: &'static str, operation: u8, parts: &[&[u8]]) -> Request<()> {
        self.request(name, operation, parts, |body| {
            body.errno()?;
            body.end().map(Some)
        })
    }

    /// Begins the conversation: windows, versions and features, of which nothing has to be kept, however many of them
    /// a module gives.
    #[must_use]
    pub fn hello(self) -> Request<()> {
        let words: [u32; 10] = [0x10_0000, 0x10_0000, 0x10_0000, 0x10_0000, 0x10_0000, 0x10_0000, 1, 1, 1, 0xffff_ffff];
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.request("EFS hello", 0, &[&body], |_| Ok(Some(())))
    }

    /// Opens a file. An answer that is lost leaves the module with a file open that nobody knows.
    #[must_use]
    pub fn open(self, path: &EfsPath, mode: OpenMode) -> Request<FileHandle> {
        let (flags, mode) = match mode {
            OpenMode::Read => (0, 0),
            OpenMode::Replace { permissions } => {
                (WRITE_ONLY | CREATE | TRUNCATE | MAKE_DIRECTORIES, i32::from(permissions & 0o777))
            }
        };
        self.request("EFS open", 2, &[&flags.to_le_bytes(), &mode.to_le_bytes(), &path.terminated()], |body| {
            let handle = body.i32()?;
            body.errno()?;
            body.end()?;
            if handle < 0 { Err(body.malformed("the handle is negative")) } else { Ok(Some(FileHandle(handle))) }
        })
    }

    /// Closes a file.
    #[must_use]
    pub fn close(self, handle: FileHandle) -> Request<()> {
        self.act("EFS close", 3, &[&handle.0.to_le_bytes()])
    }

    /// Reads up to [`EFS_TRANSFER_BYTES_MAX`] bytes. Fewer than asked for, none at all included, are the end of the
    /// file.
    #[must_use]
    pub fn read(self, handle: FileHandle, offset: u32, bytes_max: u32) -> Request<Vec<u8>> {
        let wanted = bytes_max.min(EFS_TRANSFER_BYTES_MAX);
        let parts: [&[u8]; 3] = [&handle.0.to_le_bytes(), &wanted.to_le_bytes(), &offset.to_le_bytes()];
        self.request("EFS read", 4, &parts, move |body| {
            if (body.i32()?, body.u32()?) != (handle.0, offset) {
                return Ok(None);
            }
            let bytes = body.i32()?;
            body.errno()?;
            let data = body.rest();
            if usize::try_from(bytes) != Ok(data.len()) || data.len() > wanted as usize {
                return Err(body.malformed("its length is not what it says or more than was asked for"));
            }
            Ok(Some(data.to_vec()))
        })
    }

    /// Writes up to [`EFS_TRANSFER_BYTES_MAX`] bytes; how many were written.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn write(self, handle: FileHandle, offset: u32, data: &[u8]) -> Result<Request<u32>, TooLong> {
        let bytes = data.len();
        let bytes_max = EFS_TRANSFER_BYTES_MAX as usize;
        if bytes > bytes_max {
            return Err(TooLong { bytes, bytes_max });
        }
        let parts: [&[u8]; 3] = [&handle.0.to_le_bytes(), &offset.to_le_bytes(), data];
        Ok(self.request("EFS write", 5, &parts, move |body| {
            if (body.i32()?, body.u32()?) != (handle.0, offset) {
                return Ok(None);
            }
            let written = body.i32()?;
            body.errno()?;
            body.end()?;
            match u32::try_from(written) {
                Ok(written) if written as usize <= bytes => Ok(Some(written)),
                _ => Err(body.malformed("it wrote more than was sent")),
            }
        }))
    }

    /// Removes a file.
    #[must_use]
    pub fn unlink(self, path: &EfsPath) -> Request<()> {
        self.act("EFS unlink", 8, &[&path.terminated()])
    }

    /// Makes a directory.
    #[must_use]
    pub fn make_directory(self, path: &EfsPath, permissions: u16) -> Request<()> {
        self.act("EFS mkdir", 9, &[&(permissions & 0o777).to_le_bytes(), &path.terminated()])
    }

    /// Opens a directory. An answer that is lost leaves the module with a directory open that nobody knows.
    #[must_use]
    pub fn open_directory(self, path: &EfsPath) -> Request<DirectoryHandle> {
        self.request("EFS opendir", 11, &[&path.terminated()], |body| {
            let handle = body.i32()?;
            body.errno()?;
            body.end()?;
            if handle <= 0 { Err(body.malformed("the handle is 0")) } else { Ok(Some(DirectoryHandle(handle))) }
        })
    }

    /// Reads one entry of a directory, counted from 1; `None` behind the last one.
    #[must_use]
    pub fn read_directory(self, handle: DirectoryHandle, sequence: u32) -> Request<Option<Entry>> {
        self.request("EFS readdir", 12, &[&handle.0.to_le_bytes(), &sequence.to_le_bytes()], move |body| {
            if (body.i32()?, body.u32()?) != (handle.0, sequence) {
                return Ok(None);
            }
            body.errno()?;
            let (entry_type, mode, bytes) = (body.i32()?, body.i32()?, body.count()?);
            // Times of access, change and creation.
            body.array::<12>()?;
            let name = body.text();
            if name.is_empty() {
                return if entry_type == 0 { Ok(Some(None)) } else { Err(body.malformed("an entry has no name")) };
            }
            let name = std::str::from_utf8(name).ok().filter(|name| !name.contains('/'));
            let name = name.filter(|name| name.len() <= EFS_NAME_BYTES_MAX);
            let name = name.ok_or_else(|| body.malformed("an entry has an impossible name"))?;
            let mut stat = stat_of(mode, bytes);
            match entry_type {
                1 => stat.file_type = FileType::Directory,
                0xf => stat.file_type = FileType::Item,
                _ => {}
            }
            Ok(Some(Some(Entry { name: name.to_owned(), stat })))
        })
    }

    /// Closes a directory.
    #[must_use]
    pub fn close_directory(self, handle: DirectoryHandle) -> Request<()> {
        self.act("EFS closedir", 13, &[&handle.0.to_le_bytes()])
    }

    /// Asks what lies at a path.
    #[must_use]
    pub fn stat(self, path: &EfsPath) -> Request<Stat> {
        self.request("EFS stat", 15, &[&path.terminated()], |body| {
            body.errno()?;
            let (mode, bytes) = (body.i32()?, body.count()?);
            // Number of links, times of access, change and creation.
            body.array::<16>()?;
            body.end()?;
            Ok(Some(stat_of(mode, bytes)))
        })
    }

    /// Writes a whole item file; it is made where it is missing, with its directories. How much of the answer can be
    /// trusted is not known from real modules: whoever depends on it reads the item back.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn put(self, path: &EfsPath, data: &[u8]) -> Result<Request<()>, TooLong> {
        const NAME: &str = "EFS put";
        let bytes_max = EFS_PUT_BYTES_MAX;
        let length = u16::try_from(data.len()).ok().filter(|length| usize::from(*length) <= bytes_max);
        let length = length.ok_or(TooLong { bytes: data.len(), bytes_max })?;
        let flags = WRITE_ONLY | CREATE | TRUNCATE | MAKE_DIRECTORIES;
        let mode = u16::try_from(ITEM_MODE | 0o777).expect("sixteen bits of type and permissions");
        let parts: [&[u8]; 6] =
            [&length.to_le_bytes(), &[0, 0], &flags.to_le_bytes(), &mode.to_le_bytes(), data, &path.terminated()];
        Ok(self.request(NAME, 38, &parts, |body| {
            body.u16()?;
            match body.u16()?.cast_signed() {
                0 => Ok(Some(())),
                errno => Err(ReplyError::Efs { command: NAME, errno: Errno(errno.into()) }),
            }
        }))
    }

    /// Reads a whole item file.
    #[must_use]
    pub fn get(self, path: &EfsPath) -> Request<Vec<u8>> {
        self.request("EFS get", 39, &[&path.terminated()], |body| {
            let bytes = body.i32()?;
            body.errno()?;
            let data = body.rest();
            if usize::try_from(bytes) != Ok(data.len()) || data.len() > EFS_ITEM_BYTES_MAX {
                return Err(body.malformed("its length is not what it says or more than an item may have"));
            }
            Ok(Some(data.to_vec()))
        })
    }

    /// Begins to write the journal down. `sequence` is any number that tells this synchronisation from others.
    #[must_use]
    pub fn sync(self, path: &EfsPath, sequence: u16) -> Request<SyncToken> {
        self.request("EFS sync", 48, &[&sequence.to_le_bytes(), &path.terminated()], move |body| {
            if body.u16()? != sequence {
                return Ok(None);
            }
            let token = body.u32()?;
            body.errno()?;
            body.end()?;
            Ok(Some(SyncToken { sequence, token }))
        })
    }

    /// Asks whether a synchronisation is finished.
    #[must_use]
    pub fn sync_is_done(self, path: &EfsPath, sync: SyncToken) -> Request<bool> {
        let parts: [&[u8]; 3] = [&sync.sequence.to_le_bytes(), &sync.token.to_le_bytes(), &path.terminated()];
        self.request("EFS sync status", 49, &parts, move |body| {
            if body.u16()? != sync.sequence {
                return Ok(None);
            }
            let status = body.u8()?;
            body.errno()?;
            body.end()?;
            Ok(Some(status == 0))
        })
    }
}
