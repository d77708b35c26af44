//! Which backups of a chip there are, what each is worth, and which of them a repair may use.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::content::{self, Content};
use super::seal::{self, Label};
use super::section::ReadError;
use super::{Fault, Vault, VaultEntry, VaultError, first_form};
use crate::domain::{BackupKind, BackupRef, ChipId, Imei, Sha256Digest};
use crate::host::ReadAt;

/// A backup that lies in the vault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Its file.
    pub entry: VaultEntry,
    /// What its beginning says, which was unsealed and not verified; what is wrong with its file in every place where that
    /// cannot be read.
    pub about: Result<About, Vec<Fault>>,
}

/// What the beginning of a backup says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// What kind of content it has.
    pub kind: BackupKind,
    /// The IMEI that the module reported.
    pub imei: Imei,
    /// When and why it was taken; `None` for one that was stored before backups were sealed.
    pub label: Option<Label>,
}

/// What a backup turned out to be, read to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is what was read, and the module was well.
    Good(BackupRef),
    /// It is what was read, but the module was not well.
    Suspect(BackupRef),
    /// It is not what was stored, or cannot be opened: what is wrong with its file, in every place.
    Damaged(Vec<Fault>),
}

impl Vault {
    /// The backups of a chip as the vault has them, the oldest first. Only the beginning of each is read:
    /// [`Vault::judge`] reads all of one. Blocks.
    ///
    /// Those that were stored before backups were sealed come first, in no order: the ledger knows theirs.
    ///
    /// # Errors
    /// [`VaultError::Key`] where there is no key to open any with; of the disk.
    pub fn backups_of(&self, chip: ChipId) -> Result<Vec<Held>, VaultError> {
        let look = |entry: VaultEntry| self.look(&entry).map(|about| Held { entry, about });
        self.entries_of(chip)?.into_iter().map(look).collect()
    }

    /// Reads a backup to its end, and its copy where the first one is damaged. Blocks.
    ///
    /// # Errors
    /// [`VaultError::Key`] where there is no key to open it with; of the disk.
    pub fn judge(&self, entry: &VaultEntry) -> Result<Verdict, VaultError> {
        let mut faults = Vec::new();
        for path in self.places_of_entry(entry) {
            match self.read_file(&path, entry.chip, entry.id, |_, _| {}) {
                Ok((content, label)) => {
                    let backup = content.reference(label.and_then(|label| label.suspect));
                    return Ok(match backup.suspect {
                        Some(_) => Verdict::Suspect(backup),
                        None => Verdict::Good(backup),
                    });
                }
                Err(VaultError::Damaged { fault, .. }) => faults.push(fault),
                Err(error) => return Err(error),
            }
        }
        Ok(Verdict::Damaged(faults))
    }

    /// The file of a backup in every place, the vault's own first, each read to its end: what is wrong with it. Blocks.
    ///
    /// # Errors
    /// As [`Vault::judge`].
    pub fn every_place(&self, entry: &VaultEntry) -> Result<Vec<(PathBuf, Option<Fault>)>, VaultError> {
        self.examine_all(entry.chip, entry.id, self.places_of_entry(entry))
    }

    /// The same of a backup of which only the name is known: the files that there are of it, in whichever place. Blocks.
    ///
    /// # Errors
    /// As [`Vault::judge`].
    pub fn any_place(&self, chip: ChipId, id: Sha256Digest) -> Result<Vec<(PathBuf, Option<Fault>)>, VaultError> {
        self.examine_all(chip, id, self.places_of(chip, id)?)
    }

    fn examine_all(
        &self,
        chip: ChipId,
        id: Sha256Digest,
        paths: Vec<PathBuf>,
    ) -> Result<Vec<(PathBuf, Option<Fault>)>, VaultError> {
        let examine = |path: PathBuf| match self.read_file(&path, chip, id, |_, _| {}) {
            Ok(_) => Ok((path, None)),
            Err(VaultError::Damaged { fault, .. }) => Ok((path, Some(fault))),
            Err(error) => Err(error),
        };
        paths.into_iter().map(examine).collect()
    }

    /// The backup of that kind which a repair of the chip may use: the first good one. It was taken before any later
    /// one, so before anything that a later run changed; a suspect or a damaged one never takes its place. `is_recorded`
    /// is asked whether the ledger knows it: what somebody laid into the directory is nobody's backup. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub fn best_for(
        &self,
        chip: ChipId,
        kind: BackupKind,
        mut is_recorded: impl FnMut(&BackupRef) -> bool,
    ) -> Result<Option<BackupRef>, VaultError> {
        for held in self.backups_of(chip)? {
            let is_candidate = held.about.as_ref().is_ok_and(|about| {
                about.kind == kind && about.label.as_ref().is_none_or(|label| label.suspect.is_none())
            });
            if !is_candidate {
                continue;
            }
            match self.judge(&held.entry) {
                Ok(Verdict::Good(backup)) if is_recorded(&backup) => return Ok(Some(backup)),
                // What is left unused and why is told by [`Vault::unjudged`].
                Ok(_) | Err(VaultError::Key { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The beginning of a backup, of its copy where the first file is damaged.
    fn look(&self, entry: &VaultEntry) -> Result<Result<About, Vec<Fault>>, VaultError> {
        let mut faults = Vec::new();
        for path in self.places_of_entry(entry) {
            match self.look_at(entry, &path) {
                Ok(about) => return Ok(Ok(about)),
                Err(VaultError::Damaged { fault, .. }) => faults.push(fault),
                Err(error) if faults.is_empty() => return Err(error),
                // The disk of the second place may not be there today.
                Err(error) => tracing::debug!(%error, "a copy cannot be read"),
            }
        }
        Ok(Err(faults))
    }

    fn look_at(&self, entry: &VaultEntry, path: &Path) -> Result<About, VaultError> {
        let file = self.open_file(path, entry.id)?;
        let identities = self.opening(path)?;
        let read = || -> Result<About, ReadError> {
            let (kind, chip, imei, label) = if let Some(identities) = &identities {
                let (label, reader) = seal::open(&*file, identities)?;
                let head = content::read_head(reader)?;
                (head.kind, head.chip, head.imei, Some(label))
            } else {
                let (chip, imei) = first_form::read_owner(&*file)?;
                (BackupKind::Raw, chip, imei, None)
            };
            if chip != entry.chip {
                return Err(ReadError::Damaged(format!("it belongs to chip {chip} with IMEI {imei}")));
            }
            Ok(About { kind, imei, label })
        };
        read().map_err(|error| VaultError::of_file(entry.id, path, error))
    }

    fn open_file(&self, path: &Path, id: Sha256Digest) -> Result<Box<dyn ReadAt>, VaultError> {
        self.disk.open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => VaultError::of_file(id, path, ReadError::Missing),
            _ => VaultError::disk(path, error),
        })
    }

    /// Reads one file to its end and verifies all of it, its owner and its name.
    pub(super) fn read_file(
        &self,
        path: &Path,
        chip: ChipId,
        id: Sha256Digest,
        take: impl FnMut(usize, &[u8]),
    ) -> Result<(Content, Option<Label>), VaultError> {
        let (content, label) = self.read_any(path, Some(id), take)?;
        if content.chip != chip {
            let reason = format!("it belongs to chip {} with IMEI {}", content.chip, content.imei);
            return Err(VaultError::of_file(id, path, ReadError::Damaged(reason)));
        }
        Ok((content, label))
    }

    /// Reads one file to its end and verifies all of it, and its name where that is known.
    pub(super) fn read_any(
        &self,
        path: &Path,
        name: Option<Sha256Digest>,
        take: impl FnMut(usize, &[u8]),
    ) -> Result<(Content, Option<Label>), VaultError> {
        let id = name.unwrap_or_else(|| Sha256Digest::from_bytes([0; 32]));
        let file = self.open_file(path, id)?;
        let identities = self.opening(path)?;
        let read = || -> Result<(Content, Option<Label>), ReadError> {
            let (content, label) = if let Some(identities) = &identities {
                let (label, mut reader) = seal::open(&*file, identities)?;
                let content = content::read(&mut reader, take)?;
                reader.finish()?;
                (content, Some(label))
            } else {
                (first_form::read(&*file, name, take)?, None)
            };
            if name.is_some_and(|name| name != content.id) {
                return Err(ReadError::damaged("its content was altered: the digest is not its name"));
            }
            Ok((content, label))
        };
        read().map_err(|error| VaultError::of_file(id, path, error))
    }
}
