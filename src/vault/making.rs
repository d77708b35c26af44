//! A file of the vault until it has its name: made beside the others, sealed, synced, named, and read again.

use std::io;
use std::path::PathBuf;

use super::content::{Content, ContentWriter, Head, Tail};
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
    /// Whether its label says that the module was not well.
    pub(super) const fn is_suspect(&self) -> bool {
        self.label.suspect.is_some()
    }

    pub(super) fn begin(vault: &Vault, head: &Head, label: Label) -> Result<Self, VaultError> {
        Self::begin_with(vault, head.chip, label, |seal| ContentWriter::begin(seal, head))
    }

    /// For a content that is there already, of another file.
    pub(super) fn again(vault: &Vault, chip: ChipId, label: Label) -> Result<Self, VaultError> {
        Self::begin_with(vault, chip, label, |seal| Ok(ContentWriter::again(seal)))
    }

    fn begin_with(
        vault: &Vault,
        chip: ChipId,
        label: Label,
        content: impl FnOnce(Sealing) -> io::Result<ContentWriter<Sealing>>,
    ) -> Result<Self, VaultError> {
        let recipients = vault.recipients()?;
        let directory = vault.directory_of(chip);
        let disk = &vault.disk;
        disk.create_dir_all(&directory).map_err(|error| VaultError::disk(&directory, error))?;
        vault.sweep(&directory)?;
        let temporary = directory.join(vault.temporary_name());
        let fail = |error| VaultError::disk(&temporary, error);
        let file = disk.append(&temporary).map_err(fail)?;
        let vault = vault.clone();
        // From here on, dropping it removes the file.
        let mut this = Self { vault, chip, label, directory, temporary, content: None, published: false };
        let sealing = Sealing::begin(file, &recipients, &this.label).and_then(content);
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
        let ended = self.take().and_then(|content| content.finish(tail));
        let (seal, id) = ended.map_err(|error| VaultError::disk(&self.temporary, error))?;
        self.publish(seal, id)
    }

    /// The same for a content that was there already, as `expected`.
    pub(super) fn finish_again(mut self, expected: &Content) -> Result<BackupRef, VaultError> {
        let ended = self.take().map(ContentWriter::copied);
        let (seal, id) = ended.map_err(|error| VaultError::disk(&self.temporary, error))?;
        if id != expected.id {
            return Err(VaultError::draft("it was altered while it was read"));
        }
        self.publish(seal, id)
    }

    fn take(&mut self) -> io::Result<ContentWriter<Sealing>> {
        self.content.take().ok_or_else(|| io::Error::other("it was completed before"))
    }

    fn publish(&mut self, seal: Sealing, id: Sha256Digest) -> Result<BackupRef, VaultError> {
        seal.finish().map_err(|error| VaultError::disk(&self.temporary, error))?;
        if let Some((entry, standing)) = self.vault.standing_in(self.chip, id, &self.label)? {
            // The very same backup is there already.
            let disk = &self.vault.disk;
            disk.remove(&self.temporary).map_err(|error| VaultError::disk(&self.temporary, error))?;
            // Who made it may have died before its name was durable, and before there was a copy.
            disk.sync_dir(&self.directory).map_err(|error| VaultError::disk(&self.directory, error))?;
            self.vault.copy_out(&entry)?;
            return Ok(BackupRef { suspect: self.label.suspect.clone(), ..standing });
        }
        let entry = self.vault.new_entry(self.chip, id)?;
        let path = self.vault.entry_path(&entry);
        self.vault.disk.publish(&self.temporary, &path).map_err(|error| VaultError::disk(&path, error))?;
        self.published = true;
        let checked = self.vault.read_file(&path, self.chip, id, |_, _| {});
        let checked = checked.and_then(|checked| self.vault.copy_out(&entry).map(|()| checked));
        if checked.is_err() {
            // Nobody was told of it, and a repetition must be able to take its name.
            if let Err(error) = self.vault.disk.remove(&path) {
                tracing::warn!(%error, path = %path.display(), "a backup that failed its check could not be removed");
            }
        }
        checked.map(|(content, _)| content.reference(self.label.suspect.clone()))
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
