//! The other kind of backup: an XQCN file, made by whoever read a running module over DIAG.
//!
//! The vault keeps its bytes and does not look into them: whether it is complete is judged where it is made, against the
//! profile's manifest, and again where it is written back.

use std::path::Path;

use super::content::{Head, PIECE_BYTES, Tail};
use super::making::Making;
use super::{Taking, Vault, VaultError};
use crate::domain::{BackupKind, BackupRef, XqcnCounts, limits};

/// An XQCN file that is to be stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XqcnDraft {
    /// Whose it is, and when it was read.
    pub taking: Taking,
    /// How much is in it, as the maker counted.
    pub counts: XqcnCounts,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Vault {
    /// Stores an XQCN file. Durable, and read again, when this returns. Blocks.
    ///
    /// # Errors
    /// [`VaultError::Draft`] for one that is empty, too long, or holds no item or no file; of the disk.
    pub fn store_xqcn(&self, draft: XqcnDraft) -> Result<BackupRef, VaultError> {
        let XqcnDraft { taking, counts, bytes } = draft;
        if bytes.is_empty() || bytes.len() > limits::XQCN_BYTES_MAX {
            return Err(VaultError::draft(format!("an XQCN file has 1 to {} bytes", limits::XQCN_BYTES_MAX)));
        }
        if counts.nv_items == 0 || counts.files == 0 {
            let XqcnCounts { nv_items, files, directories } = counts;
            return Err(VaultError::draft(format!(
                "it holds {nv_items} NV items, {files} files and {directories} directories"
            )));
        }
        let mut making = Making::begin(self, &Head::xqcn(taking.chip, taking.imei), taking.label)?;
        for piece in bytes.chunks(PIECE_BYTES) {
            making.write(|content| content.xqcn(piece))?;
        }
        let bytes = bytes.len() as u64;
        making.finish(&Tail { parts: Vec::new(), bytes, bad_blocks: None, xqcn: Some(counts) })
    }

    /// The XQCN file in a backup file that lies anywhere, of which all was verified. Blocks.
    ///
    /// # Errors
    /// As [`Vault::examine`].
    pub fn read_xqcn(&self, path: &Path) -> Result<Vec<u8>, VaultError> {
        let mut bytes = Vec::new();
        self.read_any(path, None, |_, piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// An XQCN file, after its name and its owner were verified. Blocks.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] where it is not what was stored for that chip; [`VaultError::Draft`] for a raw backup; of
    /// the disk.
    pub fn load_xqcn(&self, backup: &BackupRef) -> Result<Vec<u8>, VaultError> {
        if backup.kind != BackupKind::Xqcn {
            return Err(VaultError::draft("it is no XQCN file"));
        }
        self.read(backup, Vec::new, |bytes: &mut Vec<u8>, _, piece| bytes.extend_from_slice(piece))
            .map(|(_, bytes)| bytes)
    }
}
