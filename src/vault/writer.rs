//! Storing a backup while it is read from the module, page by page.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::domain::{BackupRef, ChipId, Geometry, Imei, PageRange, Sha256Digest, limits};
use crate::host::AppendFile;

use super::container::{self, INDEX_MAGIC, Index, IndexPart, MAGIC, PageRun, SCHEMA};
use super::plausible::{EfsCheck, PageKind};
use super::{Vault, VaultError};

/// Fast, and an eighth of the memory of the default level.
const LEVEL: i32 = 1;
/// The window of the compression, as a power of two in bytes: what one backup needs of memory, several times over.
pub(super) const WINDOW_LOG: u32 = 16;
/// Bytes written at once.
const WRITE_BYTES: usize = 32 * 1024;

/// The file, with the digest of everything written to it.
#[derive(Debug)]
struct Sink {
    file: Box<dyn AppendFile>,
    hasher: Sha256,
    buffer: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.append(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// The part that is being written.
struct Current {
    part: IndexPart,
    hasher: Sha256,
    check: Option<EfsCheck>,
    /// Bytes of the part so far.
    bytes: u64,
    /// Bytes of the page that is not complete yet.
    page: Vec<u8>,
}

/// A backup in the making. Dropped without [`Writer::finish`], nothing of it stays.
///
/// It needs about half a MiB of memory, whatever the size of the backup. Its methods block on the disk.
pub struct Writer {
    vault: Vault,
    index: Index,
    bytes: u64,
    directory: PathBuf,
    temporary: PathBuf,
    /// Gone once the file is complete.
    encoder: Option<zstd::stream::write::Encoder<'static, Sink>>,
    current: Option<Current>,
    published: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("temporary", &self.temporary).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn begin(vault: &Vault, chip: ChipId, imei: Imei, geometry: Geometry) -> Result<Self, VaultError> {
        if !container::is_sane(geometry) {
            return Err(VaultError::draft(format!("no storage has {geometry}")));
        }
        let directory = vault.chip_directory(chip);
        let disk = Arc::clone(&vault.disk);
        disk.create_dir_all(&directory).map_err(|error| VaultError::disk(&directory, error))?;
        vault.sweep(&directory)?;
        let temporary = directory.join(vault.temporary_name());
        let fail = |error| VaultError::disk(&temporary, error);
        let file = disk.append(&temporary).map_err(fail)?;
        let mut sink = Sink { file, hasher: Sha256::new(), buffer: Vec::with_capacity(WRITE_BYTES) };
        let encoder = sink.write_all(MAGIC).and_then(|()| {
            let mut encoder = zstd::stream::write::Encoder::new(sink, LEVEL)?;
            encoder.window_log(WINDOW_LOG)?;
            encoder.include_checksum(true)?;
            Ok(encoder)
        });
        let encoder = Some(encoder.map_err(fail)?);
        let index = Index { schema: SCHEMA, chip, imei, geometry, parts: Vec::new() };
        let vault = vault.clone();
        Ok(Self { vault, index, bytes: 0, directory, temporary, encoder, current: None, published: false })
    }

    /// Begins the next partition; the one before must be complete. `is_efs` marks the EFS file system, which is
    /// checked for plausibility.
    ///
    /// # Errors
    /// [`VaultError::Length`] for the partition before; [`VaultError::Draft`]; of the disk.
    pub fn part(&mut self, partition: &str, range: PageRange, is_efs: bool) -> Result<(), VaultError> {
        self.end_part()?;
        if self.index.parts.len() >= limits::PARTITIONS_MAX {
            return Err(VaultError::draft("it has too many partitions"));
        }
        if self.index.parts.iter().any(|part| part.partition == partition) {
            return Err(VaultError::draft(format!("it has partition `{partition}` twice")));
        }
        let geometry = self.index.geometry;
        self.bytes = container::admit(partition, range, geometry, self.bytes).map_err(VaultError::draft)?;
        self.current = Some(Current {
            part: IndexPart {
                partition: partition.to_owned(),
                range,
                sha256: Sha256Digest::from_bytes([0; 32]),
                efs: is_efs,
                pages: Vec::new(),
            },
            hasher: Sha256::new(),
            check: is_efs.then(|| EfsCheck::new(geometry, range.pages)),
            bytes: 0,
            page: Vec::new(),
        });
        Ok(())
    }

    /// Takes the next bytes of the partition, any number of them.
    ///
    /// # Errors
    /// [`VaultError::Length`] when there are more than the range has; of the disk.
    pub fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), VaultError> {
        let page_bytes = self.index.geometry.page_bytes;
        let (Some(current), Some(encoder)) = (&mut self.current, &mut self.encoder) else {
            return Err(VaultError::draft("bytes without a partition"));
        };
        current.bytes = current.bytes.saturating_add(bytes.len() as u64);
        let expected = current.part.range.pages * u64::from(page_bytes);
        if current.bytes > expected {
            let partition = current.part.partition.clone();
            return Err(VaultError::Length { partition, expected, found: current.bytes });
        }
        current.hasher.update(bytes);
        let page_bytes = usize::try_from(page_bytes).unwrap_or(usize::MAX);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(page_bytes - current.page.len()));
            current.page.extend_from_slice(now);
            bytes = later;
            if current.page.len() == page_bytes {
                current.end_page(encoder).map_err(|error| VaultError::disk(&self.temporary, error))?;
            }
        }
        Ok(())
    }

    fn end_part(&mut self) -> Result<(), VaultError> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        let expected = current.part.range.pages * u64::from(self.index.geometry.page_bytes);
        let partition = &current.part.partition;
        if current.bytes != expected {
            return Err(VaultError::Length { partition: partition.clone(), expected, found: current.bytes });
        }
        if let Some(check) = current.check {
            let implausible = |reason| VaultError::Implausible { partition: partition.clone(), reason };
            check.finish().map_err(implausible)?;
        }
        current.part.sha256 = Sha256Digest::finish(current.hasher);
        self.index.parts.push(current.part);
        Ok(())
    }

    /// Makes the backup durable and proves it: everything written, file fsynced, named by its digest, directory
    /// fsynced, then read again from the disk, unpacked and compared. Only then is it a backup.
    ///
    /// # Errors
    /// [`VaultError::Implausible`], [`VaultError::Length`], [`VaultError::Draft`] where it is none; of the disk;
    /// [`VaultError::Damaged`] when what is on the disk is not what was written.
    pub fn finish(mut self) -> Result<BackupRef, VaultError> {
        self.end_part()?;
        if !self.index.parts.iter().any(|part| part.efs) {
            return Err(VaultError::draft("it has no EFS"));
        }
        let id = self.complete().map_err(|error| VaultError::disk(&self.temporary, error))?;
        let stored = BackupRef {
            id,
            chip: self.index.chip,
            imei: self.index.imei,
            geometry: self.index.geometry,
            parts: self.index.parts.iter().map(IndexPart::summary).collect(),
            bytes: self.bytes,
        };
        let path = self.vault.path(stored.chip, id);
        match self.vault.disk.publish(&self.temporary, &path) {
            Ok(()) => self.published = true,
            // The very same backup is there already. It stays, and must prove itself as the new one would have to.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let disk = &self.vault.disk;
                disk.remove(&self.temporary).map_err(|error| VaultError::disk(&self.temporary, error))?;
                // Who made it may have died before its name was durable.
                disk.sync_dir(&self.directory).map_err(|error| VaultError::disk(&self.directory, error))?;
            }
            Err(error) => return Err(VaultError::disk(&path, error)),
        }
        let checked = self.vault.check(&stored);
        if checked.is_err() && self.published {
            // Nobody was told of it, and a repetition must be able to take its name.
            if let Err(error) = self.vault.disk.remove(&path) {
                tracing::warn!(%error, path = %path.display(), "a backup that failed its check could not be removed");
            }
        }
        checked.map(|()| stored)
    }

    /// Ends the file; gives its digest.
    fn complete(&mut self) -> io::Result<Sha256Digest> {
        let encoder = self.encoder.take().ok_or_else(|| io::Error::other("it was completed before"))?;
        let mut sink = encoder.finish()?;
        let index = serde_json::to_vec(&self.index)?;
        sink.write_all(&index)?;
        sink.write_all(&(index.len() as u64).to_le_bytes())?;
        sink.write_all(INDEX_MAGIC)?;
        sink.flush()?;
        sink.file.sync()?;
        Ok(Sha256Digest::finish(sink.hasher))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is swept away by the next backup of the chip.
            let _ = self.vault.disk.remove(&self.temporary);
        }
    }
}

impl Current {
    fn end_page(&mut self, encoder: &mut zstd::stream::write::Encoder<'static, Sink>) -> io::Result<()> {
        let kind = PageKind::of(&self.page);
        if kind == PageKind::Used {
            encoder.write_all(&self.page)?;
            if let Some(check) = &mut self.check {
                check.used_page(&self.page);
            }
        }
        match self.part.pages.last_mut() {
            Some(run) if run.0 == kind => run.1 += 1,
            _ => self.part.pages.push(PageRun(kind, 1)),
        }
        self.page.clear();
        Ok(())
    }
}
