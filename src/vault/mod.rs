//! The vault: backups of what belongs to a unit, the only cure when its calibration is lost.
//!
//! A backup is good for one chip only, so chips are directories, and the name of a file is the digest of its content:
//! a later backup can never take the place of an earlier one, and a file that was altered does not answer to its name.
//! A number before it says which is older.
//!
//! A file has two layers. Inside is the *content*: whose it is, and what was read. Blank pages are not stored but noted
//! with their kind, because a restore must leave them erased: a page of blanks that is programmed is no longer free.
//! Outside is the *seal*: compressed, then encrypted for the station's own key and for one that is kept elsewhere.
//! Nothing outside of this module sees the bytes but through [`Vault::load`] and [`Vault::load_xqcn`].

mod content;
mod copy;
mod error;
mod first_form;
mod held;
mod keys;
mod making;
mod plausible;
mod seal;
mod section;
mod transfer;
mod unjudged;
mod writer;
mod xqcn;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::{BackupRef, BadBlocks, ChipId, Geometry, Imei, PageRange, Sha256Digest, limits};
use crate::host::{Disk, EntryKind};

pub use copy::CopyState;
pub use error::{Damage, Fault, VaultError};
pub use held::{About, Held, Verdict};
pub use keys::{PublicKey, SecretKeys};
pub use plausible::{efs_digest, plausible};
pub use seal::Label;
pub use transfer::Examined;
pub use unjudged::Unjudged;
pub use writer::Writer;
pub use xqcn::XqcnDraft;

use content::Content;
use keys::KeyRing;
use section::ReadError;

/// How the name of a file in the making begins.
const TEMPORARY_PREFIX: &str = "incoming-";
/// How the name of a backup ends.
const SUFFIX: &str = ".smb.age";
/// How the name of one ends that was stored before backups were sealed.
const FIRST_SUFFIX: &str = ".smb";

/// The store of backups. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Vault {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    temporaries: Arc<AtomicU64>,
    keys: KeyRing,
    copy: Option<PathBuf>,
}

/// Whose backup is taken, and what it must show to be one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taking {
    /// The chip it is read from.
    pub chip: ChipId,
    /// The IMEI that its module reported before.
    pub imei: Imei,
    /// When, by which run, and whether the module was well.
    pub label: Label,
    /// The least number of used pages of its EFS; never below [`limits::EFS_USED_PAGES_MIN`].
    pub used_pages_min: u64,
    /// What its EFS must not be: the blank one of the package ([`efs_digest`]), where that has one.
    pub blank_efs: Option<Sha256Digest>,
}

/// A whole backup in memory, for [`Vault::store`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackupDraft {
    /// Whose it is.
    pub taking: Taking,
    /// Pages and blocks of its storage.
    pub geometry: Geometry,
    /// What was read.
    pub parts: Vec<PartDraft>,
    /// The bad blocks under it.
    pub bad_blocks: Option<BadBlocks>,
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
    /// Which of its chip's backups it is, from 1; 0 for one that was stored before backups were sealed.
    pub number: u32,
    /// The file's length in bytes.
    pub bytes: u64,
}

impl VaultEntry {
    /// Whether it is sealed.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.number > 0
    }

    fn of(chip: ChipId, file: &crate::host::Entry) -> Option<Self> {
        let (number, id) = match file.name.strip_suffix(SUFFIX) {
            Some(name) => {
                let (number, id) = name.split_once('-')?;
                (number.parse().ok().filter(|number| *number > 0)?, id)
            }
            None => (0, file.name.strip_suffix(FIRST_SUFFIX)?),
        };
        let id = id.parse().ok().filter(|_| file.kind == EntryKind::File)?;
        Some(Self { chip, id, number, bytes: file.bytes })
    }

    fn name(&self) -> String {
        match self.number {
            0 => format!("{}{FIRST_SUFFIX}", self.id),
            number => format!("{number:04}-{}{SUFFIX}", self.id),
        }
    }
}

fn is_sealed(path: &Path) -> bool {
    path.as_os_str().to_str().is_some_and(|name| name.ends_with(SUFFIX))
}

impl Vault {
    /// The vault in that directory, which is made when something is stored. The station's key lies beside it (`vault.key`
    /// for `vault`), and is made then too.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, directory: PathBuf) -> Self {
        let keys = KeyRing::new(directory.with_extension("key"));
        Self { disk, directory, temporaries: Arc::default(), keys, copy: None }
    }

    /// The same vault, whose backups from now on can also be opened with a key that is kept elsewhere.
    #[must_use]
    pub fn with_recovery(mut self, recovery: PublicKey) -> Self {
        self.keys.recovery = Some(recovery);
        self
    }

    /// The same vault, opened with these keys as well.
    #[must_use]
    pub fn with_keys(mut self, keys: SecretKeys) -> Self {
        self.keys.others = keys;
        self
    }

    /// The same vault, each of whose backups is also in that directory, on another disk, before it counts.
    #[must_use]
    pub fn with_copy(mut self, directory: PathBuf) -> Self {
        self.copy = Some(directory);
        self
    }

    /// Whether backups can be stored and opened: the station's key is there, or none was ever used and one is made now,
    /// and the second place can be had. Blocks.
    ///
    /// # Errors
    /// [`VaultError::Key`]; of the disk.
    pub fn prepare(&self) -> Result<PublicKey, VaultError> {
        if let Some(copy) = &self.copy {
            self.disk.create_dir_all(copy).map_err(|error| VaultError::disk(copy, error))?;
        }
        Ok(PublicKey::from(self.station_key()?.to_public()))
    }

    /// The public half of the station's key, where there is one. Blocks.
    ///
    /// # Errors
    /// [`VaultError::Key`]; of the disk.
    pub fn public_key(&self) -> Result<Option<PublicKey>, VaultError> {
        Ok(self.keys.station(&*self.disk)?.map(|key| PublicKey::from(key.to_public())))
    }

    /// Begins a backup that is written as it is read from the module. One at a time per chip. Blocks.
    ///
    /// # Errors
    /// [`VaultError::Draft`] for a geometry that no storage has; [`VaultError::Key`]; of the disk.
    pub fn begin(&self, taking: Taking, geometry: Geometry) -> Result<Writer, VaultError> {
        Writer::begin(self, taking, geometry)
    }

    /// Stores a backup that is in memory. Blocks.
    ///
    /// # Errors
    /// As [`Writer::part`], [`Writer::bytes`] and [`Writer::finish`].
    pub fn store(&self, draft: BackupDraft) -> Result<BackupRef, VaultError> {
        let mut writer = self.begin(draft.taking, draft.geometry)?;
        for part in draft.parts {
            writer.part(&part.partition, part.range, part.efs)?;
            writer.bytes(&part.bytes)?;
        }
        if let Some(bad_blocks) = draft.bad_blocks {
            writer.bad_blocks(bad_blocks);
        }
        writer.finish()
    }

    /// Reads a backup from the disk and verifies all of it, as [`Vault::load`] does, without keeping its bytes: what
    /// must be done before a resumed run relies on it. Blocks.
    ///
    /// # Errors
    /// As [`Vault::load`].
    pub fn check(&self, backup: &BackupRef) -> Result<(), VaultError> {
        self.read(backup, || (), |(), _, _| {}).map(drop)
    }

    /// A raw backup, after its name, its owner, the digest of every partition and the plausibility of its EFS were
    /// verified. Blocks, and holds the whole backup in memory.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] where the file is not what was stored for that chip; of the disk.
    pub fn load(&self, backup: &BackupRef) -> Result<StoredBackup, VaultError> {
        let fresh = || vec![Vec::new(); backup.parts.len()];
        let (content, contents) = self.read(backup, fresh, |contents, number, page| {
            if let Some(content) = contents.get_mut(number) {
                content.extend_from_slice(page);
            }
        })?;
        let parts = content.parts.into_iter().zip(contents).map(|(part, bytes)| StoredPart {
            partition: part.head.partition,
            range: part.head.range,
            bytes,
            efs: part.head.efs,
        });
        Ok(StoredBackup { reference: backup.clone(), parts: parts.collect() })
    }

    /// What is in the vault, in either place, by chip and age; files of other names are left out. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub fn list(&self) -> Result<Vec<VaultEntry>, VaultError> {
        let mut directories = entries(&*self.disk, &self.directory)?;
        if let Some(copy) = &self.copy {
            directories.extend(entries(&*self.disk, copy).unwrap_or_default());
        }
        let chips: BTreeSet<ChipId> = directories.iter().filter_map(|entry| entry.name.parse().ok()).collect();
        let mut found = Vec::new();
        for chip in chips {
            found.extend(self.entries_of(chip)?);
        }
        Ok(found)
    }

    /// The files of a chip, the oldest first. One that lies in the second place alone is one too.
    fn entries_of(&self, chip: ChipId) -> Result<Vec<VaultEntry>, VaultError> {
        let mut found = self.entries_in(&self.directory, chip)?;
        if let Some(copy) = &self.copy {
            // A disk that is not there today is no reason not to use what is here.
            found.extend(self.entries_in(copy, chip).unwrap_or_default());
            // The first of two, and the sort is stable, is the vault's own.
            found.sort_by_key(|entry| (entry.number, entry.id));
            found.dedup_by_key(|entry| (entry.number, entry.id));
        }
        Ok(found)
    }

    fn entries_in(&self, directory: &Path, chip: ChipId) -> Result<Vec<VaultEntry>, VaultError> {
        let files = entries(&*self.disk, &directory.join(chip.to_string()))?;
        let mut found: Vec<VaultEntry> = files.iter().filter_map(|file| VaultEntry::of(chip, file)).collect();
        found.sort_by_key(|entry| (entry.number, entry.id));
        Ok(found)
    }

    /// Reads a backup that the ledger names, from the first of its files that is what was stored, and verifies all of it.
    /// What the pieces make of `fresh` must not be used but after this returned.
    fn read<T>(
        &self,
        backup: &BackupRef,
        fresh: impl Fn() -> T,
        take: impl Fn(&mut T, usize, &[u8]),
    ) -> Result<(Content, T), VaultError> {
        let mut first_error = None;
        for path in self.places_of(backup.chip, backup.id)? {
            let mut made = fresh();
            let read = self.read_file(&path, backup.chip, backup.id, |number, piece| take(&mut made, number, piece));
            match read.and_then(|(content, _)| as_recorded(content, backup, &path)) {
                Ok(content) => return Ok((content, made)),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error
            .unwrap_or_else(|| VaultError::of_file(backup.id, &self.directory_of(backup.chip), ReadError::Missing)))
    }

    /// Where the files of a chip's backups are.
    #[must_use]
    pub fn directory_of(&self, chip: ChipId) -> PathBuf {
        self.directory.join(chip.to_string())
    }

    fn entry_path(&self, entry: &VaultEntry) -> PathBuf {
        self.directory_of(entry.chip).join(entry.name())
    }

    /// A name for a new backup.
    fn new_entry(&self, chip: ChipId, id: Sha256Digest) -> Result<VaultEntry, VaultError> {
        let known = self.entries_of(chip)?;
        let number = known.last().map_or(1, |last| last.number.saturating_add(1));
        if known.len() >= limits::BACKUPS_OF_CHIP_MAX {
            return Err(VaultError::draft(format!("chip {chip} has {} backups already", known.len())));
        }
        Ok(VaultEntry { chip, id, number, bytes: 0 })
    }

    /// The same backup, where it is held already and proves itself: a good one stands for any, a suspect one for a suspect
    /// one. A damaged one stands for nothing, and stays where it is.
    fn standing_in(
        &self,
        chip: ChipId,
        id: Sha256Digest,
        label: &Label,
    ) -> Result<Option<(VaultEntry, BackupRef)>, VaultError> {
        for entry in self.entries_of(chip)?.into_iter().filter(|entry| entry.id == id) {
            let path = self.entry_path(&entry);
            match self.read_file(&path, chip, id, |_, _| {}) {
                Ok((content, found)) => {
                    let suspect = found.and_then(|found| found.suspect);
                    if suspect.is_none() || label.suspect.is_some() {
                        return Ok(Some((entry, content.reference(suspect))));
                    }
                }
                Err(VaultError::Damaged { fault, .. }) => {
                    tracing::warn!(%fault, "a backup is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn temporary_name(&self) -> String {
        format!("{TEMPORARY_PREFIX}{}", self.temporaries.fetch_add(1, Ordering::Relaxed))
    }

    /// Removes what backups that were never finished left in a chip's directory.
    fn sweep(&self, directory: &Path) -> Result<(), VaultError> {
        let is_left_over = |entry: &&crate::host::Entry| entry.name.starts_with(TEMPORARY_PREFIX);
        for entry in entries(&*self.disk, directory)?.iter().filter(is_left_over) {
            let path = directory.join(&entry.name);
            self.disk.remove(&path).map_err(|error| VaultError::disk(&path, error))?;
        }
        Ok(())
    }

    fn station_key(&self) -> Result<age::x25519::Identity, VaultError> {
        let may_make = || Ok(!self.list()?.iter().any(VaultEntry::is_sealed));
        self.keys.station_or_new(&*self.disk, may_make)
    }

    /// Whom a new backup is sealed to.
    fn recipients(&self) -> Result<Vec<age::x25519::Recipient>, VaultError> {
        let station = self.station_key()?;
        let recovery = self.keys.recovery.as_ref().map(|key| key.recipient().clone());
        Ok(std::iter::once(station.to_public()).chain(recovery).collect())
    }

    /// What may open that file; `None` for one that is not sealed.
    fn opening(&self, path: &Path) -> Result<Option<Vec<age::x25519::Identity>>, VaultError> {
        if !is_sealed(path) {
            return Ok(None);
        }
        let identities = self.keys.opening(&*self.disk)?;
        if identities.is_empty() {
            let reason = "it is missing; put it back from a copy of the state directory, or give the recovery key: \
                          `--identity FILE`"
                .to_owned();
            return Err(VaultError::Key { path: self.keys.path().to_owned(), reason });
        }
        Ok(Some(identities))
    }
}

fn entries(disk: &dyn Disk, directory: &Path) -> Result<Vec<crate::host::Entry>, VaultError> {
    match disk.list(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| VaultError::disk(directory, error)),
    }
}

/// Whether what was read is what the ledger says was stored.
fn as_recorded(content: Content, backup: &BackupRef, path: &Path) -> Result<Content, VaultError> {
    let found = content.reference(backup.suspect.clone());
    if found == *backup {
        return Ok(content);
    }
    let reason = if found.imei == backup.imei && found.geometry == backup.geometry {
        "its partitions are not those that were recorded".to_owned()
    } else {
        format!("it belongs to chip {} with IMEI {}", found.chip, found.imei)
    };
    Err(VaultError::of_file(backup.id, path, ReadError::Damaged(reason)))
}
