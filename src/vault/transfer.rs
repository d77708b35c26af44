//! Backups that leave a vault and come into one: the same content under another seal.
//!
//! Nothing is given out that was not verified, and nothing is taken in; what is taken in gets a number of its own and
//! replaces nothing.

use std::io::Read;
use std::path::Path;

use jiff::Timestamp;

use super::content::{ContentWriter, PIECE_BYTES};
use super::making::Making;
use super::seal::{self, Label, Sealing};
use super::section::ReadError;
use super::{BackupDraft, PartDraft, PublicKey, Taking, Vault, VaultEntry, VaultError};
use crate::domain::{BackupRef, limits};

/// A backup outside of the vault, read to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Examined {
    /// What it is.
    pub backup: BackupRef,
    /// What stands on it; `None` for one that was stored before backups were sealed.
    pub label: Option<Label>,
}

impl Vault {
    /// Reads a backup file that lies anywhere (`.smb.age`, or `.smb`), and verifies all of it. Blocks.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] where it is none, or sealed to another key; [`VaultError::Key`]; of the disk.
    pub fn examine(&self, path: &Path) -> Result<Examined, VaultError> {
        let (content, label) = self.read_any(path, None, |_, _| {})?;
        let suspect = label.as_ref().and_then(|label| label.suspect.clone());
        Ok(Examined { backup: content.reference(suspect), label })
    }

    /// Takes a backup file in, sealed for this vault, and proves it. `now` is the time of one that has none. Gives it,
    /// and whether it was not there before. Blocks.
    ///
    /// # Errors
    /// As [`Vault::examine`] and [`super::Writer::finish`].
    pub fn import(&self, path: &Path, now: Timestamp) -> Result<(BackupRef, bool), VaultError> {
        let mut contents: Vec<Vec<u8>> = Vec::new();
        let keeps = !super::is_sealed(path);
        let (content, label) = self.read_any(path, None, |number, piece| {
            if keeps {
                contents.resize(contents.len().max(number + 1), Vec::new());
                contents[number].extend_from_slice(piece);
            }
        })?;
        let Some(label) = label else {
            // The first form is written anew, as it would be read from the module today.
            let Some(geometry) = content.geometry else { return Err(VaultError::draft("it has no geometry")) };
            let label = Label { taken: now, run: None, suspect: None };
            let taking = Taking {
                chip: content.chip,
                imei: content.imei,
                label,
                used_pages_min: limits::EFS_USED_PAGES_MIN,
                blank_efs: None,
            };
            let part = |(part, bytes): (super::content::Part, Vec<u8>)| PartDraft {
                partition: part.head.partition,
                range: part.head.range,
                bytes,
                efs: part.head.efs,
            };
            let parts = content.parts.into_iter().zip(contents).map(part).collect();
            let before = self.entries_of(content.chip)?.len();
            let stored = self.store(BackupDraft { taking, geometry, parts, bad_blocks: None })?;
            let is_new = self.entries_of(content.chip)?.len() > before;
            return Ok((stored, is_new));
        };
        if let Some((entry, standing)) = self.standing_in(content.chip, content.id, &label)? {
            self.copy_out(&entry)?;
            return Ok((standing, false));
        }
        let mut making = Making::again(self, content.chip, label)?;
        let file = self.disk.open(path).map_err(|error| VaultError::disk(path, error))?;
        let identities = self.opening(path)?.unwrap_or_default();
        let copied = copy_content(&*file, &identities, |bytes| making.write(|content| content.copy(bytes)));
        copied.map_err(|error| error.at(content.id, path))?;
        making.finish_again(&content).map(|stored| (stored, true))
    }

    /// Writes a sealed backup of the vault into a new file, for others to open: verified before, and the file compared
    /// with what was written after. Blocks.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] where it is not what was stored; [`VaultError::Draft`] for one that is not sealed, and for
    /// no key or too many; of the disk, `AlreadyExists` where the name is taken.
    pub fn export(&self, entry: &VaultEntry, to: &[PublicKey], path: &Path) -> Result<BackupRef, VaultError> {
        if !entry.is_sealed() {
            return Err(VaultError::draft("it was stored before backups were sealed; import its file first"));
        }
        if to.is_empty() || to.len() > limits::SEAL_RECIPIENTS_MAX {
            return Err(VaultError::draft(format!("it is sealed to 1 to {} keys", limits::SEAL_RECIPIENTS_MAX)));
        }
        let mut first_error = None;
        for source in self.places_of_entry(entry) {
            match self.export_from(&source, entry, to, path) {
                Err(error @ VaultError::Damaged { .. }) => first_error = first_error.or(Some(error)),
                other => return other,
            }
        }
        Err(first_error.unwrap_or_else(|| VaultError::draft("it is nowhere")))
    }

    fn export_from(
        &self,
        source: &Path,
        entry: &VaultEntry,
        to: &[PublicKey],
        path: &Path,
    ) -> Result<BackupRef, VaultError> {
        let (content, label) = self.read_file(source, entry.chip, entry.id, |_, _| {})?;
        let Some(label) = label else { return Err(VaultError::draft("it has no label")) };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = directory.join(format!(".{}.part", entry.id));
        let fail = |error| VaultError::disk(path, error);
        // What an export that was cut off left is begun anew.
        let _not_there = self.disk.remove(&temporary);
        let recipients: Vec<age::x25519::Recipient> = to.iter().map(|key| key.recipient().clone()).collect();
        let write = || -> Result<(), VaultError> {
            let file = self.disk.append(&temporary).map_err(fail)?;
            let mut out = ContentWriter::again(Sealing::begin(file, &recipients, &label).map_err(fail)?);
            let file = self.disk.open(source).map_err(|error| VaultError::disk(source, error))?;
            let identities = self.opening(source)?.unwrap_or_default();
            copy_content(&*file, &identities, |bytes| out.copy(bytes).map_err(fail))
                .map_err(|error| error.at(entry.id, source))?;
            let (seal, id) = out.copied();
            let written = seal.finish().map_err(fail)?;
            if id != entry.id {
                return Err(VaultError::draft("it was altered while it was read"));
            }
            let file = self.disk.open(&temporary).map_err(fail)?;
            let read = super::section::digest(&*file, seal::FILE_BYTES_MAX, |_| Ok(()));
            if read.map_err(|error| VaultError::of_file(id, path, error))? != written {
                return Err(VaultError::of_file(id, path, ReadError::damaged("it is not what was written")));
            }
            self.disk.publish(&temporary, path).map_err(fail)
        };
        let written = write();
        if written.is_err() {
            let _begun_anew_later = self.disk.remove(&temporary);
        }
        written.map(|()| content.reference(label.suspect))
    }
}

/// Why a content could not be carried over.
enum CopyError {
    Source(ReadError),
    Target(VaultError),
}

impl CopyError {
    fn at(self, id: crate::domain::Sha256Digest, source: &Path) -> VaultError {
        match self {
            Self::Source(error) => VaultError::of_file(id, source, error),
            Self::Target(error) => error,
        }
    }
}

/// Hands the content of a sealed file to `take`, piece by piece.
fn copy_content(
    file: &dyn crate::host::ReadAt,
    identities: &[age::x25519::Identity],
    mut take: impl FnMut(&[u8]) -> Result<(), VaultError>,
) -> Result<(), CopyError> {
    let (_, mut reader) = seal::open(file, identities).map_err(CopyError::Source)?;
    let mut buffer = vec![0; PIECE_BYTES];
    // It was read to its end before and ended within bounds; now it may be another file.
    let mut left = seal::FILE_BYTES_MAX;
    loop {
        let read = reader.read(&mut buffer);
        let length = read.map_err(|error| CopyError::Source(ReadError::through(error, "unpacking")))?;
        left = left.checked_sub(length as u64).ok_or_else(|| CopyError::Source(ReadError::damaged("it never ends")))?;
        match length {
            0 => return reader.finish().map_err(CopyError::Source),
            length => take(&buffer[..length]).map_err(CopyError::Target)?,
        }
    }
}
