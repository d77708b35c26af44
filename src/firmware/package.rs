//! A package that was opened: everything in it that a flash needs, checked once and shared by all slots.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::PackageKind;
use super::error::PackageError;
use super::names::normalise;
use super::opening::Opening;
use super::shelf::{FIREHOSE, Handle};
use crate::domain::{Geometry, Sha256Digest};
use crate::host::Disk;
use crate::protocol::rawprogram::RawOperation;
use crate::protocol::table::PartitionTable;

/// A file of a package, open since it was hashed.
#[derive(Debug)]
pub struct Image {
    /// Its path in the package, with `/`.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: Sha256Digest,
    file: Handle,
    stamp: u128,
}

impl Image {
    pub(super) fn new(key: String, bytes: u64, sha256: Sha256Digest, file: Handle, stamp: u128) -> Self {
        Self { key, bytes, sha256, file, stamp }
    }

    /// Fills `buffer` from `offset` on, from the handle that was hashed.
    ///
    /// # Errors
    /// Of the disk; `UnexpectedEof` beyond the end.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Whether length and stamp are what they were when the file was hashed. A cheap sign, asked before each use; the
    /// proof is the digest over what was sent.
    ///
    /// # Errors
    /// Of the disk.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        Ok(self.file.bytes()? == self.bytes && self.file.stamp()? == self.stamp)
    }

    pub(super) fn start(&self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.bytes.min(bytes_max)).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// A file of the check list, hashed.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct PackageFile {
    /// Its path in the package, with `/`.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: Sha256Digest,
}

/// A raw-program document of a package.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct DocumentInfo {
    /// Its path in the package.
    pub key: String,
    /// What it is for.
    pub kind: PackageKind,
    /// Whether it is the one whose operations the package has.
    pub chosen: bool,
}

/// A firmware package: complete, equal to its check list, and understood.
#[derive(Debug)]
pub struct Package {
    pub(super) directory: PathBuf,
    pub(super) digest: Sha256Digest,
    pub(super) kind: PackageKind,
    pub(super) geometry: Geometry,
    pub(super) programmer: String,
    pub(super) operations: Vec<RawOperation>,
    /// The table that is written, with its image's key.
    pub(super) table: Option<(PartitionTable, String)>,
    /// The list that it was made from, with its key.
    pub(super) layout: Option<(PartitionTable, String)>,
    pub(super) unlisted: Vec<String>,
    pub(super) images: BTreeMap<String, Image>,
    pub(super) files: Vec<PackageFile>,
    pub(super) documents: Vec<DocumentInfo>,
    pub(super) absent: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Package {
    /// Opens the package in `directory` (or in its only subdirectory), with its update document; with its factory
    /// document only where it has no other. Blocks for as long as hashing takes.
    ///
    /// # Errors
    /// When anything is missing, different from the check list, not understood, or not for NAND.
    pub fn open(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Self, PackageError> {
        Opening::new(disk.as_ref(), directory)?.finish(None)
    }

    /// The same with the document of that kind.
    ///
    /// # Errors
    /// As [`Package::open`], and when there is no such document.
    pub fn open_with(disk: &Arc<dyn Disk>, directory: &Path, kind: PackageKind) -> Result<Self, PackageError> {
        Opening::new(disk.as_ref(), directory)?.finish(Some(kind))
    }

    /// SHA-256 over all files of the check list: sorted lines of path, NUL, digest, NUL, length. Does not depend on
    /// where the package lies or which of its documents is chosen.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The directory that has `update` in it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the chosen document is for.
    #[must_use]
    pub fn kind(&self) -> PackageKind {
        self.kind
    }

    /// The page and block size that all operations assume.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The programmer.
    #[must_use]
    pub fn programmer(&self) -> &Image {
        // `finish` puts it there.
        self.images.get(&self.programmer).expect("the programmer is among the images")
    }

    /// The chosen document's erases and programs, in its order. Patches are not among them: on NAND they are for the
    /// host's copy of a file and change nothing.
    #[must_use]
    pub fn operations(&self) -> &[RawOperation] {
        &self.operations
    }

    /// The key and the length of the file that a document names so.
    #[must_use]
    pub fn resolve(&self, filename: &str) -> Option<(String, u64)> {
        let image = self.images.get(&normalise(FIREHOSE, filename).ok()?)?;
        Some((image.key.clone(), image.bytes))
    }

    /// The image of that key.
    #[must_use]
    pub fn image(&self, key: &str) -> Option<&Image> {
        self.images.get(key)
    }

    /// The partition table that the chosen document writes.
    #[must_use]
    pub fn table(&self) -> Option<&PartitionTable> {
        self.table.as_ref().map(|(table, _)| table)
    }

    /// The partitions' names and places as far as the package says, and the file that says so: the table that the
    /// document writes, or else the list that it was made from. Only for people; a plan goes by [`Self::table`].
    #[must_use]
    pub fn names(&self) -> Option<(&PartitionTable, &str)> {
        self.table.as_ref().or(self.layout.as_ref()).map(|(table, key)| (table, key.as_str()))
    }

    /// Files that are there and that the check list does not name, printable.
    #[must_use]
    pub fn unlisted(&self) -> &[String] {
        &self.unlisted
    }

    /// The programmer and everything that the chosen document programs, by key.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.images.values()
    }

    /// Every file of the check list, by key.
    #[must_use]
    pub fn files(&self) -> &[PackageFile] {
        &self.files
    }

    /// The raw-program documents, by key.
    #[must_use]
    pub fn documents(&self) -> &[DocumentInfo] {
        &self.documents
    }

    /// Listed files that need not be there and are not opened (`targetfiles.zip`).
    #[must_use]
    pub fn never_shipped(&self) -> &[String] {
        &self.absent
    }

    /// Bytes of all files of the check list.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// What a person should know although the package can be used; printable.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
