//! A file of the vault until it has its name: made beside the others, sealed, synced, named, and read again.

use std::io;
use std::path::PathBuf;

use super::content::{ContentWriter, Head, Tail};
use super::seal::{Label, Sealing};
use super::{Vault, VaultError};
use crate::domain::{BackupRef, ChipId, Sha256Digest};

/// Dropped without [`Making::finish`], nothing of it stays.
pub(super) struct Making {
    vault: Vault,
    chip: ChipId,
    label: Label,
    directory: PathBuf,
    temporary: PathBuf,
    /// Gone once the file is complete.
    content: Option<ContentWriter<Sealing>>,
    published: bool,
}

impl std::fmt::Debug for Making {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Making").field("temporary", &self.temporary).finish_non_exhaustive()
    }
}

impl Making {
    pub(super) fn begin(vault: &Vault, head: &Head, label: Label) -> Result<Self, VaultError> {
        let recipients = vault.recipients()?;
        let directory = vault.chip_directory(head.chip);
        let disk = &vault.disk;
        disk.create_dir_all(&directory).map_err(|error| VaultError::disk(&directory, error))?;
        vault.sweep(&directory)?;
        let temporary = directory.join(vault.temporary_name());
        let fail = |error| VaultError::disk(&temporary, error);
        let file = disk.append(&temporary).map_err(fail)?;
        let (vault, chip) = (vault.clone(), head.chip);
        // From here on, dropping it removes the file.
        let mut this = Self { vault, chip, label, directory, temporary, content: None, published: false };
        let sealing = Sealing::begin(file, &recipients, &this.label).and_then(|seal| ContentWriter::begin(seal, head));
        this.content = Some(sealing.map_err(|error| VaultError::disk(&this.temporary, error))?);
        Ok(this)
    }

    /// Writes to its content.
    pub(super) fn write(
        &mut self,
        write: impl FnOnce(&mut ContentWriter<Sealing>) -> io::Result<()>,
    ) -> Result<(), VaultError> {
        let Some(content) = &mut self.content else { return Err(VaultError::draft("it is complete")) };
        write(content).map_err(|error| VaultError::disk(&self.temporary, error))
    }

    /// Makes it durable and proves it.
    pub(super) fn finish(mut self, tail: &Tail) -> Result<BackupRef, VaultError> {
        let id = self.complete(tail).map_err(|error| VaultError::disk(&self.temporary, error))?;
        if let Some(standing) = self.vault.standing_in(self.chip, id, &self.label)? {
            // The very same backup is there already.
            let disk = &self.vault.disk;
            disk.remove(&self.temporary).map_err(|error| VaultError::disk(&self.temporary, error))?;
            // Who made it may have died before its name was durable.
            disk.sync_dir(&self.directory).map_err(|error| VaultError::disk(&self.directory, error))?;
            return Ok(BackupRef { suspect: self.label.suspect.clone(), ..standing });
        }
        let path = self.vault.new_path(self.chip, id)?;
        self.vault.disk.publish(&self.temporary, &path).map_err(|error| VaultError::disk(&path, error))?;
        self.published = true;
        let checked = self.vault.read_file(&path, self.chip, id, |_, _| {});
        if checked.is_err() {
            // Nobody was told of it, and a repetition must be able to take its name.
            if let Err(error) = self.vault.disk.remove(&path) {
                tracing::warn!(%error, path = %path.display(), "a backup that failed its check could not be removed");
            }
        }
        checked.map(|(content, _)| content.reference(self.label.suspect.clone()))
    }

    /// Ends the file; gives the digest of its content.
    fn complete(&mut self, tail: &Tail) -> io::Result<Sha256Digest> {
        let content = self.content.take().ok_or_else(|| io::Error::other("it was completed before"))?;
        let (seal, id) = content.finish(tail)?;
        seal.finish()?;
        Ok(id)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is swept away by the next backup of the chip.
            let _ = self.vault.disk.remove(&self.temporary);
        }
    }
}
