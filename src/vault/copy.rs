//! The second place of a vault: every file once more, on another disk.
//!
//! A backup counts only when it is durable in both. Reading falls back on the copy where a file of the vault is missing
//! or not what was stored; it is the same file, so it needs the same key.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::seal::FILE_BYTES_MAX;
use super::section::{self, ReadError};
use super::{Vault, VaultEntry, VaultError};
use crate::domain::{ChipId, Sha256Digest};

/// Whether the second place holds a file too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyState {
    /// The same bytes.
    Equal,
    /// No such file.
    Missing,
    /// Other bytes.
    Differs,
}

impl Vault {
    /// Puts a file of the vault into the second place, where there is one, and proves it there.
    pub(super) fn copy_out(&self, entry: &VaultEntry) -> Result<(), VaultError> {
        let (Some(copy), path) = (self.copy_path(entry), self.entry_path(entry)) else { return Ok(()) };
        let directory = copy.parent().unwrap_or(Path::new("."));
        let disk = &self.disk;
        disk.create_dir_all(directory).map_err(|error| VaultError::disk(directory, error))?;
        match self.copy_state(entry)? {
            Some(CopyState::Equal) => {
                return disk.sync_dir(directory).map_err(|error| VaultError::disk(directory, error));
            }
            Some(CopyState::Differs) => {
                let reason = "another file has its name in the second place; move that one away";
                return Err(VaultError::of_file(entry.id, &copy, ReadError::damaged(reason)));
            }
            _ => {}
        }
        self.sweep(directory)?;
        let temporary = directory.join(self.temporary_name());
        let written = self.write_copy(entry, &path, &temporary).and_then(|digest| {
            disk.publish(&temporary, &copy).map_err(|error| VaultError::disk(&copy, error))?;
            Ok(digest)
        });
        let Ok(written) = written else {
            let _swept_later = disk.remove(&temporary);
            return written.map(drop);
        };
        if self.digest_of(entry, &copy)? == Some(written) {
            return Ok(());
        }
        let _swept_later = disk.remove(&copy);
        Err(VaultError::of_file(entry.id, &copy, ReadError::damaged("its copy is not what was written")))
    }

    fn write_copy(&self, entry: &VaultEntry, from: &Path, to: &Path) -> Result<Sha256Digest, VaultError> {
        let source = self.disk.open(from).map_err(|error| VaultError::disk(from, error))?;
        let mut file = self.disk.append(to).map_err(|error| VaultError::disk(to, error))?;
        let mut failed = None;
        let digest = section::digest(&*source, FILE_BYTES_MAX, |bytes| {
            if let Err(error) = file.append(bytes) {
                failed = Some(error);
            }
            if failed.is_some() { Err(ErrorKind::Other.into()) } else { Ok(()) }
        });
        if let Some(error) = failed {
            return Err(VaultError::disk(to, error));
        }
        let digest = digest.map_err(|error| VaultError::of_file(entry.id, from, error))?;
        file.sync().map_err(|error| VaultError::disk(to, error))?;
        Ok(digest)
    }

    /// Whether the second place has the same file; `None` where there is no second place. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub fn copy_state(&self, entry: &VaultEntry) -> Result<Option<CopyState>, VaultError> {
        let Some(copy) = self.copy_path(entry) else { return Ok(None) };
        let Some(there) = self.digest_of(entry, &copy)? else { return Ok(Some(CopyState::Missing)) };
        let here = self.digest_of(entry, &self.entry_path(entry))?;
        Ok(Some(if here == Some(there) { CopyState::Equal } else { CopyState::Differs }))
    }

    /// The digest of a file as it lies there; `None` where it is missing.
    fn digest_of(&self, entry: &VaultEntry, path: &Path) -> Result<Option<Sha256Digest>, VaultError> {
        let file = match self.disk.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| VaultError::disk(path, error))?,
        };
        let digest = section::digest(&*file, FILE_BYTES_MAX, |_| Ok(()));
        digest.map(Some).map_err(|error| VaultError::of_file(entry.id, path, error))
    }

    /// Where a file lies, the vault's own first.
    pub(super) fn places_of_entry(&self, entry: &VaultEntry) -> Vec<PathBuf> {
        std::iter::once(self.entry_path(entry)).chain(self.copy_path(entry)).collect()
    }

    /// Where a backup lies, in whichever place.
    pub(super) fn places_of(&self, chip: ChipId, id: Sha256Digest) -> Result<Vec<PathBuf>, VaultError> {
        let own = self.entries_in(&self.directory, chip)?;
        let mut paths: Vec<PathBuf> =
            own.iter().filter(|entry| entry.id == id).map(|entry| self.entry_path(entry)).collect();
        if let Some(copy) = &self.copy {
            // A disk that is not there today is no reason not to use what is here.
            let copies = self.entries_in(copy, chip).unwrap_or_default();
            paths.extend(copies.iter().filter(|entry| entry.id == id).filter_map(|entry| self.copy_path(entry)));
        }
        Ok(paths)
    }

    pub(super) fn copy_path(&self, entry: &VaultEntry) -> Option<PathBuf> {
        self.copy.as_ref().map(|copy| copy.join(entry.chip.to_string()).join(entry.name()))
    }
}
