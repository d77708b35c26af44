//! The keys of a vault: the station's own, which lies beside it, and the public half of one that is kept elsewhere.
//!
//! The station's key is made when the first backup is stored, in the form that `age-keygen` writes: an `age` program can
//! open the vault with it. It never leaves its file but into memory, and is never shown.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};

use super::VaultError;
use crate::host::Disk;

/// Most bytes of a file with a key.
const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;

/// The public half of a key: what a backup can be sealed to (`age1…`).
#[derive(Clone)]
pub struct PublicKey(Recipient);

impl PublicKey {
    pub(super) const fn recipient(&self) -> &Recipient {
        &self.0
    }
}

impl From<Recipient> for PublicKey {
    fn from(recipient: Recipient) -> Self {
        Self(recipient)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for PublicKey {}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.0)
    }
}

impl FromStr for PublicKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Secret keys that open backups.
#[derive(Clone, Default)]
pub struct SecretKeys(Vec<Identity>);

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKeys({})", self.0.len())
    }
}

impl SecretKeys {
    /// The keys of an identity file as `age-keygen` writes it: lines with `AGE-SECRET-KEY-1…`, and comments.
    ///
    /// # Errors
    /// [`VaultError::Key`] where it holds none, or something else; of the disk.
    pub fn read(disk: &dyn Disk, path: &Path) -> Result<Self, VaultError> {
        let key = |reason: &str| VaultError::Key { path: path.to_owned(), reason: reason.to_owned() };
        let bytes = disk.read(path, KEY_FILE_BYTES_MAX).map_err(|error| VaultError::disk(path, error))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| key("it is no text"))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        // What is wrong with a line is not said: the line is a secret.
        let keys: Result<Vec<Identity>, &str> = lines.map(Identity::from_str).collect();
        match keys {
            Ok(keys) if !keys.is_empty() => Ok(Self(keys)),
            Ok(_) => Err(key("it holds no key")),
            Err(_) => Err(key("it holds a line that is no secret key of age (AGE-SECRET-KEY-1...)")),
        }
    }
}

/// The keys of one vault. Clones share them.
#[derive(Clone)]
pub(super) struct KeyRing {
    path: PathBuf,
    station: Arc<Mutex<Option<Identity>>>,
    pub(super) recovery: Option<PublicKey>,
    pub(super) others: SecretKeys,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("path", &self.path).field("recovery", &self.recovery).finish_non_exhaustive()
    }
}

impl KeyRing {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, station: Arc::default(), recovery: None, others: SecretKeys::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The station's key, where there is one.
    pub(super) fn station(&self, disk: &dyn Disk) -> Result<Option<Identity>, VaultError> {
        let mut known = self.station.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_into(&mut known, disk)?;
        Ok(known.clone())
    }

    /// The station's key, which is made where there is none and `may_make` says that none was lost.
    pub(super) fn station_or_new(
        &self,
        disk: &dyn Disk,
        may_make: impl FnOnce() -> Result<bool, VaultError>,
    ) -> Result<Identity, VaultError> {
        let mut known = self.station.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_into(&mut known, disk)?;
        if let Some(identity) = &*known {
            return Ok(identity.clone());
        }
        if !may_make()? {
            let reason =
                "it is missing, and the vault holds backups that only it can open; put it back from a copy of \
                          the state directory, or move the vault away and take it in again with the recovery key: \
                          `stationmaster backups import STATION DIR --identity FILE --from WHO`"
                    .to_owned();
            return Err(VaultError::Key { path: self.path.clone(), reason });
        }
        let identity = Identity::generate();
        let public = identity.to_public();
        let text = format!("# stationmaster: the key of this vault\n# public key: {public}\n");
        let text = format!("{text}{}\n", identity.to_string().expose_secret());
        if let Some(directory) = self.path.parent() {
            disk.create_dir_all(directory).map_err(|error| VaultError::disk(directory, error))?;
        }
        disk.replace(&self.path, text.as_bytes(), false).map_err(|error| VaultError::disk(&self.path, error))?;
        *known = Some(identity.clone());
        Ok(identity)
    }

    fn read_into(&self, known: &mut Option<Identity>, disk: &dyn Disk) -> Result<(), VaultError> {
        if known.is_some() {
            return Ok(());
        }
        match SecretKeys::read(disk, &self.path) {
            Ok(keys) => *known = keys.0.into_iter().next(),
            Err(VaultError::Disk { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Everything that may open a backup.
    pub(super) fn opening(&self, disk: &dyn Disk) -> Result<Vec<Identity>, VaultError> {
        let mut all = self.others.0.clone();
        // A key file that cannot be read matters only where nothing else is given.
        match self.station(disk) {
            Ok(station) => all.extend(station),
            Err(error) if all.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(all)
    }
}
