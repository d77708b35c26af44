//! The host's own disk.
//!
//! Links are not followed where the product writes: a state directory in which somebody planted a link must not make
//! the controller overwrite another file. Everything it makes is readable by its own user only, unless asked otherwise.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;

use super::disk::{AppendFile, Disk, Entry, EntryKind, Hold, LockGuard, ReadAt, WriteAt};
use super::draft::Draft;

/// Zeros written at once where the disk cannot give space back, in bytes.
const ZERO_FILL_BYTES: usize = 64 * 1024;

/// The host's file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsDisk;

impl OsDisk {
    /// The host's file system.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[derive(Debug)]
struct OsAppend {
    file: File,
    bytes: u64,
}

impl AppendFile for OsAppend {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[derive(Debug)]
struct OsFile(File);

impl ReadAt for OsFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn stamp(&self) -> io::Result<u128> {
        let data = self.0.metadata()?;
        let nanoseconds = i128::from(data.mtime()) * 1_000_000_000 + i128::from(data.mtime_nsec());
        Ok((nanoseconds.unsigned_abs() << 48) ^ u128::from(data.len()))
    }
}

impl WriteAt for OsFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.0, flags, offset, bytes) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.fill_with_zeros(offset, bytes),
            Err(error) => Err(error.into()),
        }
    }
}

impl OsFile {
    /// What a disk without holes does instead; no byte beyond the file's end is written, as with a hole.
    fn fill_with_zeros(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let end = offset.saturating_add(bytes).min(self.0.metadata()?.len());
        let zeros = [0; ZERO_FILL_BYTES];
        let mut at = offset;
        while at < end {
            let chunk = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeros.len());
            self.0.write_all_at(&zeros[..chunk], at)?;
            at += chunk as u64;
        }
        Ok(())
    }
}

/// Holds the file whose lock the kernel gives up when it is closed, also when the process is killed.
#[derive(Debug)]
struct OsLock {
    _file: File,
}

impl LockGuard for OsLock {}

/// Flags as the standard library wants them. Non-blocking, so that a pipe in a file's place cannot hang the controller.
pub(super) fn flags(follow: bool) -> i32 {
    let mut flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    flags.bits().cast_signed()
}

pub(super) fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

pub(super) fn no_link(error: io::Error) -> io::Error {
    if Errno::from_io_error(&error) == Some(Errno::LOOP) {
        return io::Error::new(io::ErrorKind::InvalidInput, "not a regular file but a link");
    }
    error
}

/// The directory that holds `path`; the working directory for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What is to become `path`.
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    Ok(path.with_file_name(hidden))
}

#[expect(clippy::disallowed_methods, reason = "this is the place through which the disk enters")]
impl Disk for OsDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        self.create_dir_all(parent(path))?;
        match DirBuilder::new().create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other?,
        }
        self.sync_dir(parent(path))
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = regular(OpenOptions::new().read(true).custom_flags(flags(true)).open(path)?)?;
        let mut bytes = Vec::new();
        file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length <= bytes_max) {
            Ok(bytes)
        } else {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {bytes_max} bytes")))
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let (kind, bytes) = match entry.file_name().to_str() {
                Some(_) if kind.is_file() => (EntryKind::File, entry.metadata()?.len()),
                Some(_) if kind.is_dir() => (EntryKind::Directory, 0),
                _ => (EntryKind::Other, 0),
            };
            entries.push(Entry { name: entry.file_name().to_string_lossy().into_owned(), kind, bytes });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadAt>> {
        let file = OpenOptions::new().read(true).custom_flags(flags(false)).open(path).map_err(no_link)?;
        Ok(Box::new(OsFile(regular(file)?)))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn WriteAt>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags(false));
        Ok(Box::new(OsFile(regular(options.open(path).map_err(no_link)?)?)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(flags(false));
        let file = regular(options.open(path).map_err(no_link)?)?;
        let bytes = file.metadata()?.len();
        Ok(Box::new(OsAppend { file, bytes }))
    }

    fn replace(&self, path: &Path, bytes: &[u8], public: bool) -> io::Result<()> {
        let temporary = temporary(path)?;
        let write = || {
            let mode = if public { 0o644 } else { 0o600 };
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(mode).custom_flags(flags(false));
            let mut file = regular(options.open(&temporary).map_err(no_link)?)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        if let Err(error) = write() {
            // What is left of the attempt is of no use; that it cannot be removed changes nothing.
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
        self.sync_dir(parent(path))
    }

    fn rewrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let draft = Draft::of(path)?;
        draft.write(bytes)?;
        std::fs::rename(&draft.path, path)?;
        self.sync_dir(parent(path))
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let draft = Draft::new(path, Permissions::from_mode(0o644))?;
        draft.write(bytes)?;
        self.publish(&draft.path, path)
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        match Draft::of(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Draft::new(path, Permissions::from_mode(0o644)).map(drop)
            }
            other => other.map(drop),
        }
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::CWD;
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // File systems without that flag: a link never replaces either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                std::fs::hard_link(from, to)?;
                std::fs::remove_file(from)?;
            }
            Err(error) => return Err(error.into()),
        }
        self.sync_dir(parent(to))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).custom_flags(flags(false)).open(path).map_err(no_link)?;
        let file = regular(file)?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags(false));
        let file = regular(options.open(path).map_err(no_link)?)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(OsLock { _file: file }))
    }

    fn hold(&self, path: &Path, how: Hold) -> io::Result<Box<dyn LockGuard>> {
        let file = OpenOptions::new().read(true).custom_flags(flags(true)).open(path)?;
        let operation = match how {
            Hold::Shared => FlockOperation::NonBlockingLockShared,
            Hold::Alone => FlockOperation::NonBlockingLockExclusive,
        };
        rustix::fs::flock(&file, operation)?;
        Ok(Box::new(OsLock { _file: file }))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let data = rustix::fs::statvfs(path)?;
        Ok(data.f_bavail.saturating_mul(data.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn files_are_private_and_replaced_whole() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a/b/state");
        let disk = OsDisk::new();
        disk.create_dir_all(&directory.path().join("a/b")).expect("made");
        disk.replace(&path, b"one", false).expect("written");
        assert_eq!(mode(&path), 0o600);
        disk.replace(&path, b"two", true).expect("written");
        assert_eq!(mode(&path), 0o644);
        assert_eq!(disk.read(&path, 3).expect("read"), b"two");
        assert_eq!(disk.read(&path, 2).expect_err("too long").kind(), io::ErrorKind::FileTooLarge);
        let mut file = disk.append(&path).expect("opened");
        file.append(b"!").expect("appended");
        file.sync().expect("durable");
        assert_eq!(file.bytes(), 4);
        disk.truncate(&path, 1).expect("cut");
        assert_eq!(disk.read(&path, 9).expect("read"), b"t");
        let names: Vec<_> = disk.list(&directory.path().join("a/b")).expect("listed");
        assert_eq!(names, [Entry { name: "state".into(), kind: EntryKind::File, bytes: 1 }]);
        assert!(disk.free_bytes(directory.path()).expect("known") > 0);
    }

    #[test]
    fn links_and_pipes_are_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        let disk = OsDisk::new();
        disk.replace(&target, b"precious", false).expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        assert_eq!(disk.append(&link).expect_err("a link").kind(), io::ErrorKind::InvalidInput);
        assert_eq!(disk.open(&link).expect_err("a link").kind(), io::ErrorKind::InvalidInput);
        assert_eq!(disk.open_write(&link).expect_err("a link").kind(), io::ErrorKind::InvalidInput);
        assert!(disk.truncate(&link, 0).is_err());
        disk.replace(&link, b"own", false).expect("the link itself is replaced");
        assert_eq!(disk.read(&target, 99).expect("read"), b"precious");
        assert_eq!(disk.open(directory.path()).expect_err("no file").kind(), io::ErrorKind::InvalidInput);
        assert_eq!(disk.read(directory.path(), 9).expect_err("no file").kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_published_file_never_replaces_another() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        let disk = OsDisk::new();
        disk.replace(&from, b"new", false).expect("written");
        disk.publish(&from, &to).expect("free name");
        disk.replace(&from, b"newer", false).expect("written");
        assert_eq!(disk.publish(&from, &to).expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.read(&to, 9).expect("read"), b"new");
    }

    #[test]
    fn a_lock_has_one_holder() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("lock");
        let disk = OsDisk::new();
        let held = disk.lock(&path).expect("free");
        assert_eq!(disk.lock(&path).expect_err("held").kind(), io::ErrorKind::WouldBlock);
        drop(held);
        disk.lock(&path).expect("free again");
    }

    #[test]
    fn holes_read_as_zeros() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = OsDisk::new();
        let file = disk.open_write(&directory.path().join("flash")).expect("made");
        file.write_all_at(&[7; 20_000], 0).expect("written");
        file.punch(5_000, 10_000).expect("punched");
        let mut bytes = vec![1; 20_000];
        file.read_exact_at(&mut bytes, 0).expect("read");
        let zeros = 5_000..15_000;
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == if zeros.contains(&at) { 0 } else { 7 }));
        assert!(file.read_exact_at(&mut [0; 2], 19_999).is_err());
    }
}
