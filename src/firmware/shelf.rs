//! The files of a package directory: found once by walking, opened once, hashed once.
//!
//! What is flashed is read from the handle that was hashed, so a file that is replaced afterwards is not flashed; one
//! that is written to is found by its stamp.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use md5::Md5;
use sha2::{Digest, Sha256};

use super::check_list::{CheckList, Listed, parse};
use super::error::{PackageError, PackageProblem as Problem};
use super::package::Image;
use crate::domain::Sha256Digest;
use crate::domain::limits::{
    PACKAGE_DEPTH_MAX, PACKAGE_FILES_MAX, PACKAGE_IMAGE_BYTES_MAX, PACKAGE_PATH_BYTES_MAX, PACKAGE_READ_BYTES,
    PACKAGE_TEXT_BYTES_MAX,
};
use crate::domain::text::printable;
use crate::host::{Disk, EntryKind, ReadAt, disk_words};

/// Name of the check list.
pub(super) const CHECK_LIST: &str = "md5.txt";
/// The directory to which names in documents are relative.
pub(super) const FIREHOSE: &[&str] = &["update", "firehose"];

pub(super) struct Shelf<'a> {
    disk: &'a dyn Disk,
    pub(super) root: PathBuf,
    /// Everything that was found, by key; `false` for what is no regular file.
    pub(super) found: BTreeMap<String, bool>,
    pub(super) list: CheckList,
    buffer: Vec<u8>,
}

pub(super) fn error(place: &str, problem: Problem) -> PackageError {
    PackageError { place: shown(place), line: None, problem }
}

pub(super) fn error_at(place: &str, line: u32, problem: Problem) -> PackageError {
    PackageError { line: Some(line), ..error(place, problem) }
}

pub(super) fn shown(name: &str) -> String {
    printable(name, PACKAGE_PATH_BYTES_MAX)
}

fn disk_error(place: &str, io: &std::io::Error) -> PackageError {
    error(place, Problem::Disk(disk_words(io)))
}

impl<'a> Shelf<'a> {
    /// Finds the package in `directory` (it, or its only subdirectory), walks it and reads its check list.
    pub(super) fn open(disk: &'a dyn Disk, directory: &Path) -> Result<Self, PackageError> {
        let root = root(disk, directory)?;
        let mut found = BTreeMap::new();
        walk(disk, &root, "", 1, &mut 0, &mut found)?;
        let list = read_list(disk, &root, &found)?;
        let shelf = Self { disk, root, found, list, buffer: vec![0; PACKAGE_READ_BYTES] };
        for (key, listed) in &shelf.list.files {
            shelf.find(key).map_err(|problem| error_at(CHECK_LIST, listed.line, problem))?;
        }
        Ok(shelf)
    }

    /// The same for a package of which something may be missing, also its check list; with what is wrong with that.
    pub(super) fn open_what_is_there(
        disk: &'a dyn Disk,
        directory: &Path,
    ) -> Result<(Self, Option<PackageError>), PackageError> {
        let root = root(disk, directory)?;
        let mut found = BTreeMap::new();
        walk(disk, &root, "", 1, &mut 0, &mut found)?;
        let (list, problem) = match read_list(disk, &root, &found) {
            Ok(list) => (list, None),
            Err(problem) => (CheckList::default(), Some(problem)),
        };
        Ok((Self { disk, root, found, list, buffer: vec![0; PACKAGE_READ_BYTES] }, problem))
    }

    /// Files that are there and that the check list does not name, printable.
    pub(super) fn unlisted(&self) -> Vec<String> {
        let is_unlisted = |key: &&String| {
            *key != CHECK_LIST && !self.list.files.contains_key(*key) && !self.list.never_shipped.contains(key)
        };
        self.found.keys().filter(is_unlisted).map(|key| shown(key)).collect()
    }

    /// Whether a file of that key is there, as a regular file.
    pub(super) fn find(&self, key: &str) -> Result<(), Problem> {
        match self.found.get(key) {
            Some(true) => Ok(()),
            Some(false) => Err(Problem::NotAFile(shown(key))),
            None => match self.found.keys().find(|found| found.eq_ignore_ascii_case(key)) {
                Some(found) => Err(Problem::OtherCase { wanted: shown(key), found: shown(found) }),
                None => Err(Problem::Missing(shown(key))),
            },
        }
    }

    /// What the check list says of a file that is used.
    pub(super) fn listed(&self, key: &str) -> Result<Listed, Problem> {
        self.find(key)?;
        self.list.files.get(key).copied().ok_or_else(|| Problem::NotListed(shown(key)))
    }

    /// Opens a listed file, hashes it and compares it with the list.
    pub(super) fn take(&mut self, key: &str) -> Result<Image, PackageError> {
        let listed = self.listed(key).map_err(|problem| error(key, problem))?;
        let (image, found) = self.hash(key)?;
        if found != listed.md5 {
            let (listed, found) = (hexadecimal(&listed.md5), hexadecimal(&found));
            return Err(error(key, Problem::Digest { listed, found }));
        }
        Ok(image)
    }

    /// Opens a file and hashes it; gives its MD5 besides.
    pub(super) fn hash(&mut self, key: &str) -> Result<(Image, [u8; 16]), PackageError> {
        self.find(key).map_err(|problem| error(key, problem))?;
        let path = key.split('/').fold(self.root.clone(), |path, component| path.join(component));
        let io = |io: std::io::Error| disk_error(key, &io);
        let file = self.disk.open(&path).map_err(io)?;
        let (stamp, bytes) = (file.stamp().map_err(io)?, file.bytes().map_err(io)?);
        if bytes > PACKAGE_IMAGE_BYTES_MAX {
            return Err(error(key, Problem::TooLarge { bytes, bytes_max: PACKAGE_IMAGE_BYTES_MAX }));
        }
        let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
        let mut offset = 0;
        while offset < bytes {
            let length = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(self.buffer.len());
            let piece = &mut self.buffer[..length];
            file.read_exact_at(piece, offset).map_err(io)?;
            md5.update(&*piece);
            sha256.update(&*piece);
            offset += length as u64;
        }
        if (file.stamp().map_err(io)?, file.bytes().map_err(io)?) != (stamp, bytes) {
            return Err(error(key, Problem::Changed));
        }
        let image = Image::new(key.to_owned(), bytes, Sha256Digest::finish(sha256), file, stamp);
        Ok((image, md5.finalize().into()))
    }

    /// The text of a file that was taken.
    pub(super) fn text(image: &Image) -> Result<String, PackageError> {
        let key = &image.key;
        let (bytes, bytes_max) = (image.bytes, PACKAGE_TEXT_BYTES_MAX);
        if bytes > bytes_max {
            return Err(error(key, Problem::TooLarge { bytes, bytes_max }));
        }
        let bytes = image.start(bytes_max).map_err(|io| disk_error(key, &io))?;
        // The digest is of what the handle gave; the text must be those same bytes.
        if Sha256Digest::of(&bytes) != image.sha256 {
            return Err(error(key, Problem::Changed));
        }
        String::from_utf8(bytes).map_err(|_| error(key, Problem::NotUtf8))
    }

    /// The first bytes of a file that was taken, at most `bytes_max`.
    pub(super) fn start(image: &Image, bytes_max: u64) -> Result<Vec<u8>, PackageError> {
        image.start(bytes_max).map_err(|io| disk_error(&image.key, &io))
    }
}

/// A handle that is kept for as long as the package is.
pub(super) type Handle = Box<dyn ReadAt>;

fn read_list(disk: &dyn Disk, root: &Path, found: &BTreeMap<String, bool>) -> Result<CheckList, PackageError> {
    if !found.contains_key(CHECK_LIST) {
        return Err(error(CHECK_LIST, Problem::NoCheckList));
    }
    let bytes = disk.read(&root.join(CHECK_LIST), PACKAGE_TEXT_BYTES_MAX).map_err(|io| disk_error(CHECK_LIST, &io))?;
    let text = String::from_utf8(bytes).map_err(|_| error(CHECK_LIST, Problem::NotUtf8))?;
    parse(&text).map_err(|(line, problem)| error_at(CHECK_LIST, line, problem))
}

fn root(disk: &dyn Disk, directory: &Path) -> Result<PathBuf, PackageError> {
    let place = directory.display().to_string();
    let subdirectories = |path: &Path| -> Result<Vec<String>, PackageError> {
        let entries = disk.list(path).map_err(|io| disk_error(&place, &io))?;
        Ok(entries.into_iter().filter(|entry| entry.kind == EntryKind::Directory).map(|entry| entry.name).collect())
    };
    let is_root = |path: &Path| -> Result<bool, PackageError> {
        let has_update = subdirectories(path)?.iter().any(|name| name == FIREHOSE[0]);
        Ok(has_update && subdirectories(&path.join(FIREHOSE[0]))?.iter().any(|name| name == FIREHOSE[1]))
    };
    if is_root(directory)? {
        return Ok(directory.to_owned());
    }
    if let [only] = &subdirectories(directory)?[..] {
        let inner = directory.join(only);
        if is_root(&inner)? {
            return Ok(inner);
        }
    }
    Err(error(&place, Problem::Layout))
}

fn walk(
    disk: &dyn Disk,
    path: &Path,
    prefix: &str,
    depth: usize,
    entries: &mut usize,
    found: &mut BTreeMap<String, bool>,
) -> Result<(), PackageError> {
    let place = if prefix.is_empty() { "." } else { prefix };
    if depth > PACKAGE_DEPTH_MAX {
        return Err(error(place, Problem::TooDeep));
    }
    for entry in disk.list(path).map_err(|io| disk_error(place, &io))? {
        let key = if prefix.is_empty() { entry.name.clone() } else { format!("{prefix}/{}", entry.name) };
        if entry.kind == EntryKind::Directory {
            walk(disk, &path.join(&entry.name), &key, depth + 1, entries, found)?;
        } else {
            found.insert(key, entry.kind == EntryKind::File);
        }
        *entries += 1;
        if *entries > PACKAGE_FILES_MAX {
            return Err(error(place, Problem::TooManyFiles));
        }
    }
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
