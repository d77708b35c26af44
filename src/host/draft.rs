//! What a file is to become, beside it until it is complete: for files that are not the product's own but a person's.
//!
//! The name is a new one, so that nothing of theirs is ever overwritten, and what is left of it goes when it is dropped.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::os_disk::{flags, no_link, regular};

/// How many names are tried.
const NAMES: u32 = 64;

#[derive(Debug)]
pub(super) struct Draft {
    pub(super) path: PathBuf,
    file: File,
    /// Given once the content is complete.
    permissions: Permissions,
}

impl Draft {
    /// Of a file that is there, with its owner, its group and its mode.
    ///
    /// # Errors
    /// As [`Disk::rewrite`](super::Disk::rewrite).
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let there = OpenOptions::new().read(true).custom_flags(flags(false)).open(path).map_err(no_link)?;
        let there = regular(there)?.metadata()?;
        if there.nlink() > 1 {
            let why = "it has other names too (hard links), which would keep the old content; copy it first, and work on \
                       the copy";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let draft = Self::new(path, there.permissions())?;
        let own = draft.file.metadata()?;
        if (own.uid(), own.gid()) != (there.uid(), there.gid()) {
            std::os::unix::fs::fchown(&draft.file, Some(there.uid()), Some(there.gid())).map_err(|error| {
                let why = format!(
                    "its owner {} and group {} could not be kept ({error}); do it as its owner, or as root",
                    there.uid(),
                    there.gid()
                );
                io::Error::new(io::ErrorKind::PermissionDenied, why)
            })?;
        }
        Ok(draft)
    }

    /// An empty one, private until it is written.
    ///
    /// # Errors
    /// Of the disk.
    pub(super) fn new(path: &Path, permissions: Permissions) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(flags(false));
        for number in 0..NAMES {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}-{number}.tmp", std::process::id()));
            let path = path.with_file_name(hidden);
            match options.open(&path) {
                Ok(file) => return Ok(Self { path, file, permissions }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "every name for a temporary file beside it is taken"))
    }

    /// Makes the content durable.
    ///
    /// # Errors
    /// Of the disk.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)?;
        // The bits beyond these are for programs.
        self.file.set_permissions(Permissions::from_mode(self.permissions.mode() & 0o777))?;
        self.file.sync_all()
    }
}

impl Drop for Draft {
    #[expect(clippy::disallowed_methods, reason = "a part of the place through which the disk enters")]
    fn drop(&mut self) {
        // Once it has its name this one is free again, for the next: only the very file that was made here is removed.
        let is_same = |there: std::fs::Metadata| {
            self.file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
        };
        if self.path.symlink_metadata().is_ok_and(is_same) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Disk, Hold, OsDisk};
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        OsDisk::new().list(directory).expect("listed").into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn a_persons_file_stays_theirs_and_so_does_what_lies_beside_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, disk) = (directory.path().join("line.yaml"), OsDisk::new());
        disk.create(&path, b"one").expect("made");
        for mode in [0o600, 0o640, 0o664] {
            let file = OpenOptions::new().write(true).open(&path).expect("opened");
            file.set_permissions(Permissions::from_mode(mode)).expect("set");
            // Only root may give a file away; the mode is kept for everybody.
            let is_given = std::os::unix::fs::fchown(&file, Some(1000), Some(1001)).is_ok();
            let before = path.metadata().expect("there");
            assert!(!is_given || before.uid() == 1000);
            let theirs = directory.path().join(".line.yaml.tmp");
            let taken = directory.path().join(format!(".line.yaml.{}-0.tmp", std::process::id()));
            for beside in [&theirs, &taken] {
                disk.replace(beside, b"precious", false).expect("written");
            }
            disk.try_write(&path).expect("it can be written");
            assert_eq!(disk.read(&path, 9).expect("read"), if mode == 0o600 { "one" } else { "two" }.as_bytes());
            disk.rewrite(&path, b"two").expect("written");
            let after = path.metadata().expect("there");
            assert_eq!(disk.read(&path, 9).expect("read"), b"two");
            assert_eq!(after.mode() & 0o7777, mode);
            assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
            for beside in [&theirs, &taken] {
                assert_eq!(disk.read(beside, 99).expect("still there"), b"precious");
                disk.remove(beside).expect("removed");
            }
            assert_eq!(names(directory.path()), ["line.yaml"]);
        }
    }

    #[test]
    fn links_are_refused_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        let disk = OsDisk::new();
        disk.create(&at("a"), b"one").expect("made");
        assert_eq!(disk.create(&at("a"), b"two").expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        std::os::unix::fs::symlink(at("a"), at("link")).expect("linked");
        assert_eq!(disk.rewrite(&at("link"), b"two").expect_err("a link").kind(), io::ErrorKind::InvalidInput);
        assert_eq!(disk.create(&at("link"), b"two").expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        std::fs::hard_link(at("a"), at("b")).expect("linked");
        for refused in [disk.rewrite(&at("a"), b"two"), disk.try_write(&at("b"))] {
            let why = refused.expect_err("two names").to_string();
            assert!(why.contains("hard links") && why.contains("copy it first"), "{why}");
        }
        assert_eq!(disk.rewrite(&at("none"), b"x").expect_err("not there").kind(), io::ErrorKind::NotFound);
        disk.try_write(&at("none")).expect("it can be made");
        disk.try_write(&at("nowhere/none")).expect_err("no such directory");
        assert_eq!(disk.read(&at("a"), 9).expect("read"), b"one");
        assert_eq!(names(directory.path()), ["a", "b", "link"]);
    }

    #[test]
    fn a_place_is_held_by_many_or_by_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let memory = super::super::MemoryDisk::new();
        memory.create_dir_all(directory.path()).expect("made");
        for disk in [&OsDisk::new() as &dyn Disk, &memory] {
            let hold = |how| disk.hold(directory.path(), how);
            let would_block = |how| hold(how).expect_err("held").kind() == io::ErrorKind::WouldBlock;
            let (first, second) = (hold(Hold::Shared).expect("free"), hold(Hold::Shared).expect("shared"));
            assert!(would_block(Hold::Alone));
            drop(first);
            assert!(would_block(Hold::Alone), "the other one still holds it");
            drop(second);
            let alone = hold(Hold::Alone).expect("free");
            assert!(would_block(Hold::Alone) && would_block(Hold::Shared));
            drop(alone);
            drop(hold(Hold::Shared).expect("free again"));
            let none = disk.hold(&directory.path().join("none"), Hold::Shared).expect_err("not there");
            assert_eq!(none.kind(), io::ErrorKind::NotFound);
        }
        assert!(names(directory.path()).is_empty(), "nothing is made");
    }
}
