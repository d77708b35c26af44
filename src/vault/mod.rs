//! The vault: backups of what belongs to a unit, the only cure when its calibration is lost.
//!
//! A backup is good for one chip only, so chips are directories, and the name of a file is the digest of its content:
//! a later backup can never take the place of an earlier one, and a file that was altered does not answer to its name.
//! Blank pages are not stored but noted with their kind, because a restore must leave them erased: a page of blanks
//! that is programmed is no longer free. Nothing outside of this module sees the bytes but through [`Vault::load`].

mod container;
mod error;
mod plausible;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::domain::{BackupRef, ChipId, Geometry, Imei, PageRange, Sha256Digest};
use crate::host::{Disk, EntryKind, ReadAt};

pub use error::VaultError;
pub use plausible::plausible;
pub use writer::Writer;

use container::{Index, ReadError};
use plausible::{EfsCheck, PageKind};

/// How the name of a file in the making begins.
const TEMPORARY_PREFIX: &str = "incoming-";
/// How the name of a backup ends.
const SUFFIX: &str = ".smb";

/// The store of backups. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Vault {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    temporaries: Arc<AtomicU64>,
}

/// A whole backup in memory, for [`Vault::store`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackupDraft {
    /// The chip it was read from.
    pub chip: ChipId,
    /// The IMEI that its module reported before.
    pub imei: Imei,
    /// Pages and blocks of its storage.
    pub geometry: Geometry,
    /// What was read.
    pub parts: Vec<PartDraft>,
}

/// One partition of a draft.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartDraft {
    /// Its name.
    pub partition: String,
    /// Where it lies.
    pub range: PageRange,
    /// All of its bytes.
    pub bytes: Vec<u8>,
    /// Whether it is the EFS.
    pub efs: bool,
}

/// A backup that was verified completely.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredBackup {
    /// Which one it is.
    pub reference: BackupRef,
    /// Its partitions, in the order in which they were read.
    pub parts: Vec<StoredPart>,
}

/// One partition of a stored backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredPart {
    /// Its name.
    pub partition: String,
    /// Where it lies.
    pub range: PageRange,
    /// All of its bytes, blank pages as they were read.
    pub bytes: Vec<u8>,
    /// Whether it is the EFS.
    pub efs: bool,
}

/// A file of the vault, not looked into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VaultEntry {
    /// The chip it belongs to.
    pub chip: ChipId,
    /// Its id.
    pub id: Sha256Digest,
    /// The file's length in bytes.
    pub bytes: u64,
}

impl Vault {
    /// The vault in that directory, which is made when something is stored.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, directory: PathBuf) -> Self {
        Self { disk, directory, temporaries: Arc::default() }
    }

    /// Begins a backup that is written as it is read from the module. One at a time per chip. Blocks.
    ///
    /// # Errors
    /// [`VaultError::Draft`] for a geometry that no storage has; of the disk.
    pub fn begin(&self, chip: ChipId, imei: Imei, geometry: Geometry) -> Result<Writer, VaultError> {
        Writer::begin(self, chip, imei, geometry)
    }

    /// Stores a backup that is in memory. Blocks.
    ///
    /// # Errors
    /// As [`Writer::part`], [`Writer::bytes`] and [`Writer::finish`].
    pub fn store(&self, draft: BackupDraft) -> Result<BackupRef, VaultError> {
        let mut writer = self.begin(draft.chip, draft.imei, draft.geometry)?;
        for part in draft.parts {
            writer.part(&part.partition, part.range, part.efs)?;
            writer.bytes(&part.bytes)?;
        }
        writer.finish()
    }

    /// Reads a backup from the disk and verifies all of it, as [`Vault::load`] does, without keeping its bytes: what
    /// must be done before a resumed run relies on it. Blocks.
    ///
    /// # Errors
    /// As [`Vault::load`].
    pub fn check(&self, backup: &BackupRef) -> Result<(), VaultError> {
        self.walk(backup, |_, _| {}).map(drop)
    }

    /// A backup, after its digest, its owner, the digest of every partition and the plausibility of its EFS were
    /// verified. Blocks, and holds the whole backup in memory.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] where the file is not what was stored for that chip; of the disk.
    pub fn load(&self, backup: &BackupRef) -> Result<StoredBackup, VaultError> {
        let mut contents: Vec<Vec<u8>> = vec![Vec::new(); backup.parts.len()];
        let index = self.walk(backup, |number, page| {
            if let Some(content) = contents.get_mut(number) {
                content.extend_from_slice(page);
            }
        })?;
        let parts = index.parts.into_iter().zip(contents).map(|(part, bytes)| StoredPart {
            partition: part.partition,
            range: part.range,
            bytes,
            efs: part.efs,
        });
        Ok(StoredBackup { reference: backup.clone(), parts: parts.collect() })
    }

    /// What is in the vault, by chip and id; files of other names are left out. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub fn list(&self) -> Result<Vec<VaultEntry>, VaultError> {
        let mut found = Vec::new();
        for directory in self.entries(&self.directory)? {
            let Ok(chip) = directory.name.parse::<ChipId>() else { continue };
            for file in self.entries(&self.directory.join(&directory.name))? {
                let id = file.name.strip_suffix(SUFFIX).and_then(|name| name.parse().ok());
                if let Some(id) = id.filter(|_| file.kind == EntryKind::File) {
                    found.push(VaultEntry { chip, id, bytes: file.bytes });
                }
            }
        }
        Ok(found)
    }

    fn entries(&self, directory: &Path) -> Result<Vec<crate::host::Entry>, VaultError> {
        match self.disk.list(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(|error| VaultError::disk(directory, error)),
        }
    }

    fn chip_directory(&self, chip: ChipId) -> PathBuf {
        self.directory.join(chip.to_string())
    }

    fn path(&self, chip: ChipId, id: Sha256Digest) -> PathBuf {
        self.chip_directory(chip).join(format!("{id}{SUFFIX}"))
    }

    fn temporary_name(&self) -> String {
        format!("{TEMPORARY_PREFIX}{}", self.temporaries.fetch_add(1, Ordering::Relaxed))
    }

    /// Removes what backups that were never finished left in a chip's directory.
    fn sweep(&self, directory: &Path) -> Result<(), VaultError> {
        for entry in self.entries(directory)?.iter().filter(|entry| entry.name.starts_with(TEMPORARY_PREFIX)) {
            let path = directory.join(&entry.name);
            self.disk.remove(&path).map_err(|error| VaultError::disk(&path, error))?;
        }
        Ok(())
    }

    /// Verifies a backup and hands over its pages, with the number of their part. Until this returns, the pages are
    /// not verified.
    fn walk(&self, backup: &BackupRef, take: impl FnMut(usize, &[u8])) -> Result<Index, VaultError> {
        let path = self.path(backup.chip, backup.id);
        let damaged = |reason: String| VaultError::Damaged { id: backup.id, path: path.clone(), reason };
        let file = match self.disk.open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(damaged("its file is missing".to_owned()));
            }
            other => other.map_err(|error| VaultError::disk(&path, error))?,
        };
        walk_file(&*file, backup, take).map_err(|error| match error {
            ReadError::Disk(error) => VaultError::disk(&path, error),
            ReadError::Damaged(reason) => damaged(reason),
        })
    }
}

fn walk_file(file: &dyn ReadAt, backup: &BackupRef, mut take: impl FnMut(usize, &[u8])) -> Result<Index, ReadError> {
    if container::digest(file)? != backup.id {
        return Err(ReadError::Damaged("its content was altered: the digest is not its name".to_owned()));
    }
    let (index, index_at) = container::index(file)?;
    if index.chip != backup.chip || index.imei != backup.imei || index.geometry != backup.geometry {
        let reason = format!("it belongs to chip {} with IMEI {}", index.chip, index.imei);
        return Err(ReadError::Damaged(reason));
    }
    if !index.parts.iter().map(container::IndexPart::summary).eq(backup.parts.iter().cloned()) {
        return Err(ReadError::Damaged("its partitions are not those that were recorded".to_owned()));
    }
    let mut hashers = vec![Sha256::new(); index.parts.len()];
    let check = |part: &container::IndexPart| part.efs.then(|| EfsCheck::new(index.geometry, part.range.pages));
    let mut checks: Vec<Option<EfsCheck>> = index.parts.iter().map(check).collect();
    container::pages(file, &index, index_at, |number, kind, page| {
        hashers[number].update(page);
        if let (PageKind::Used, Some(check)) = (kind, &mut checks[number]) {
            check.used_page(page);
        }
        take(number, page);
    })?;
    if checks.iter().all(Option::is_none) {
        return Err(ReadError::Damaged("it has no EFS".to_owned()));
    }
    for ((part, hasher), check) in index.parts.iter().zip(hashers).zip(checks) {
        if Sha256Digest::finish(hasher) != part.sha256 {
            return Err(ReadError::Damaged(format!("partition `{}` is not what was read", part.partition)));
        }
        if let Some(check) = check {
            check.finish().map_err(|reason| format!("partition `{}`: {reason}", part.partition))?;
        }
    }
    Ok(index)
}
