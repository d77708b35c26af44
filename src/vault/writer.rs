//! Storing a backup while it is read from the module, page by page.

use std::io;

use sha2::{Digest, Sha256};

use super::content::{self, ContentWriter, Head, PIECE_BYTES, PageKind, PartHead, Tail};
use super::making::Making;
use super::plausible::EfsCheck;
use super::seal::Sealing;
use super::{Taking, Vault, VaultError};
use crate::domain::{BackupRef, BadBlocks, Geometry, PageRange, Sha256Digest, limits};

/// The part that is being written.
struct Current {
    head: PartHead,
    hasher: Sha256,
    check: Option<EfsCheck>,
    /// Bytes of the part so far.
    bytes: u64,
    /// Pages of it that are complete.
    pages: u64,
    /// Bytes of the page that is not complete yet.
    page: Vec<u8>,
    /// Used pages that are not written yet.
    used: Vec<u8>,
    /// Blank pages that are not written yet.
    blank: Option<(PageKind, u64)>,
}

/// A backup in the making. Dropped without [`Writer::finish`], nothing of it stays.
///
/// It needs about half a MiB of memory, whatever the size of the backup. Its methods block on the disk.
pub struct Writer {
    making: Making,
    geometry: Geometry,
    used_pages_min: u64,
    blank_efs: Option<Sha256Digest>,
    /// Names and digests of the parts that are complete.
    parts: Vec<(String, Sha256Digest)>,
    has_efs: bool,
    bytes: u64,
    bad_blocks: Option<BadBlocks>,
    current: Option<Current>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("making", &self.making).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn begin(vault: &Vault, taking: Taking, geometry: Geometry) -> Result<Self, VaultError> {
        if !content::is_sane(geometry) {
            return Err(VaultError::draft(format!("no storage has {geometry}")));
        }
        let used_pages_min = taking.used_pages_min.max(limits::EFS_USED_PAGES_MIN);
        let head = Head::raw(taking.chip, taking.imei, geometry);
        let making = Making::begin(vault, &head, taking.label)?;
        Ok(Self {
            making,
            geometry,
            used_pages_min,
            blank_efs: taking.blank_efs,
            parts: Vec::new(),
            has_efs: false,
            bytes: 0,
            bad_blocks: None,
            current: None,
        })
    }

    /// Takes also an EFS that a profile or a package rules out, of a module that was not well: what it still has is kept
    /// before it is overwritten. Of a module that was well it does nothing.
    pub fn keep_any_efs(&mut self) {
        if self.making.is_suspect() {
            self.used_pages_min = limits::EFS_USED_PAGES_MIN;
            self.blank_efs = None;
        }
    }

    /// Begins the next partition; the one before must be complete. `is_efs` marks the EFS file system, which is
    /// checked for plausibility.
    ///
    /// # Errors
    /// [`VaultError::Length`] for the partition before; [`VaultError::Draft`]; of the disk.
    pub fn part(&mut self, partition: &str, range: PageRange, is_efs: bool) -> Result<(), VaultError> {
        self.end_part()?;
        if self.parts.len() >= limits::PARTITIONS_MAX {
            return Err(VaultError::draft("it has too many partitions"));
        }
        if self.parts.iter().any(|(name, _)| name == partition) {
            return Err(VaultError::draft(format!("it has partition `{partition}` twice")));
        }
        self.bytes = content::admit(partition, range, self.geometry, self.bytes).map_err(VaultError::draft)?;
        let head = PartHead { partition: partition.to_owned(), range, efs: is_efs };
        self.making.write(|content| content.part(&head))?;
        let check = is_efs.then(|| EfsCheck::new(self.geometry, range.pages, self.used_pages_min, self.blank_efs));
        let (hasher, page, used) = (Sha256::new(), Vec::new(), Vec::new());
        self.current = Some(Current { head, hasher, check, bytes: 0, pages: 0, page, used, blank: None });
        Ok(())
    }

    /// Takes the next bytes of the partition, any number of them.
    ///
    /// # Errors
    /// [`VaultError::Length`] when there are more than the range has; of the disk.
    pub fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), VaultError> {
        let page_bytes = self.geometry.page_bytes;
        let Some(current) = &mut self.current else {
            return Err(VaultError::draft("bytes without a partition"));
        };
        current.bytes = current.bytes.saturating_add(bytes.len() as u64);
        let expected = current.head.range.pages * u64::from(page_bytes);
        if current.bytes > expected {
            let partition = current.head.partition.clone();
            return Err(VaultError::Length { partition, expected, found: current.bytes });
        }
        current.hasher.update(bytes);
        let page_bytes = usize::try_from(page_bytes).unwrap_or(usize::MAX);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(page_bytes - current.page.len()));
            current.page.extend_from_slice(now);
            bytes = later;
            if current.page.len() == page_bytes {
                self.making.write(|content| current.end_page(content))?;
            }
        }
        Ok(())
    }

    /// Notes the bad blocks under the partitions, as they were named while these were read.
    pub fn bad_blocks(&mut self, bad_blocks: BadBlocks) {
        self.bad_blocks = Some(bad_blocks);
    }

    fn end_part(&mut self) -> Result<(), VaultError> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        let expected = current.head.range.pages * u64::from(self.geometry.page_bytes);
        if current.bytes != expected {
            let partition = current.head.partition;
            return Err(VaultError::Length { partition, expected, found: current.bytes });
        }
        self.making.write(|content| current.flush(content))?;
        let partition = current.head.partition;
        if let Some(check) = current.check {
            self.has_efs = true;
            let implausible = |reason| VaultError::Implausible { partition: partition.clone(), reason };
            check.finish().map_err(implausible)?;
        }
        self.parts.push((partition, Sha256Digest::finish(current.hasher)));
        Ok(())
    }

    /// Makes the backup durable and proves it: everything written, file fsynced, named by its content's digest,
    /// directory fsynced, then read again from the disk, unsealed and compared. Only then is it a backup.
    ///
    /// # Errors
    /// [`VaultError::Implausible`], [`VaultError::Length`], [`VaultError::Draft`] where it is none; of the disk;
    /// [`VaultError::Damaged`] when what is on the disk is not what was written.
    pub fn finish(mut self) -> Result<BackupRef, VaultError> {
        self.end_part()?;
        if !self.has_efs {
            return Err(VaultError::draft("it has no EFS"));
        }
        let parts = self.parts.iter().map(|(_, digest)| *digest).collect();
        let tail = Tail { parts, bytes: self.bytes, bad_blocks: self.bad_blocks.take(), xqcn: None };
        self.making.finish(&tail)
    }
}

impl Current {
    fn end_page(&mut self, content: &mut ContentWriter<Sealing>) -> io::Result<()> {
        let kind = PageKind::of(&self.page);
        if kind == PageKind::Used {
            self.flush_blank(content)?;
            if self.used.len() + self.page.len() > PIECE_BYTES {
                self.flush_used(content)?;
            }
            self.used.extend_from_slice(&self.page);
            if let Some(check) = &mut self.check {
                check.used_page(self.pages, &self.page);
            }
        } else {
            self.flush_used(content)?;
            match &mut self.blank {
                Some((of, pages)) if *of == kind => *pages += 1,
                _ => {
                    self.flush_blank(content)?;
                    self.blank = Some((kind, 1));
                }
            }
        }
        self.pages += 1;
        self.page.clear();
        Ok(())
    }

    fn flush_used(&mut self, content: &mut ContentWriter<Sealing>) -> io::Result<()> {
        if !self.used.is_empty() {
            content.used(&self.used)?;
            self.used.clear();
        }
        Ok(())
    }

    fn flush_blank(&mut self, content: &mut ContentWriter<Sealing>) -> io::Result<()> {
        match self.blank.take() {
            Some((kind, pages)) => content.blank(kind, pages),
            None => Ok(()),
        }
    }

    /// Writes what was held back; at most one of the two is there.
    fn flush(&mut self, content: &mut ContentWriter<Sealing>) -> io::Result<()> {
        self.flush_used(content)?;
        self.flush_blank(content)
    }
}
