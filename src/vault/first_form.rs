//! The first form of a backup (`.smb`), which is still read: one file, not sealed, compressed in itself.
//!
//! ```text
//! "SMBACK01"                          8 bytes
//! one zstd frame                      the pages that are not blank, part after part, in their order
//! index                               JSON: whose backup it is, parts, digests, which pages are blank and how
//! length of the index, "SMBINDEX"     8 bytes little endian, 8 bytes
//! ```
//!
//! Its name was the digest of the file. What was stored in it before backups were sealed stays as it is.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::domain::{BackupKind, ChipId, Geometry, Imei, PageRange, Sha256Digest, limits};
use crate::host::ReadAt;

use super::content::{self, Content, PageKind, Pages, PartHead};
use super::section::{ReadError, Section, digest};

pub(super) const MAGIC: &[u8; 8] = b"SMBACK01";
const INDEX_MAGIC: &[u8; 8] = b"SMBINDEX";
/// Bytes after the index.
const FOOTER_BYTES: u64 = 16;
/// The version of this form.
const SCHEMA: u32 = 1;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// A number of pages of one kind, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct PageRun(PageKind, u64);

/// One part in the index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexPart {
    pub(super) partition: String,
    pub(super) range: PageRange,
    pub(super) sha256: Sha256Digest,
    /// Whether it holds the EFS file system.
    pub(super) efs: bool,
    pub(super) pages: Vec<PageRun>,
}

/// The index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    pub(super) schema: u32,
    pub(super) chip: ChipId,
    pub(super) imei: Imei,
    pub(super) geometry: Geometry,
    pub(super) parts: Vec<IndexPart>,
}

impl Index {
    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("its form has version {}, this controller knows {SCHEMA}", self.schema));
        }
        if !content::is_sane(self.geometry) || self.parts.len() > limits::PARTITIONS_MAX {
            return Err("its index is out of bounds".to_owned());
        }
        let mut bytes = 0;
        for part in &self.parts {
            bytes = content::admit(&part.partition, part.range, self.geometry, bytes)?;
            let pages = part.pages.iter().try_fold(0_u64, |sum, run| sum.checked_add(run.1));
            if pages != Some(part.range.pages) {
                return Err("its index does not list all pages".to_owned());
            }
        }
        Ok(())
    }
}

/// The index of a file, checked, and where it begins.
fn index(file: &dyn ReadAt) -> Result<(Index, u64), ReadError> {
    let damaged = |reason: &str| ReadError::Damaged(reason.to_owned());
    let bytes = file.bytes()?;
    let (mut magic, mut footer) = ([0; 8], [0; 16]);
    let least = MAGIC.len() as u64 + FOOTER_BYTES;
    let footer_at = bytes.checked_sub(FOOTER_BYTES).filter(|_| bytes >= least).ok_or(damaged("it is cut off"))?;
    file.read_exact_at(&mut magic, 0)?;
    file.read_exact_at(&mut footer, footer_at)?;
    let (length, index_magic) = footer.split_at(8);
    if magic != *MAGIC || index_magic != INDEX_MAGIC {
        return Err(damaged("it is no backup, or cut off"));
    }
    let length = u64::from_le_bytes(length.try_into().map_err(|_| damaged("it is cut off"))?);
    let start = footer_at.checked_sub(length).filter(|start| *start >= MAGIC.len() as u64);
    let start =
        start.filter(|_| length <= limits::BACKUP_INDEX_BYTES_MAX).ok_or(damaged("its index is out of bounds"))?;
    let mut text = vec![0; usize::try_from(length).map_err(|_| damaged("its index is out of bounds"))?];
    file.read_exact_at(&mut text, start)?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| format!("its index cannot be read: {error}"))?;
    index.check()?;
    Ok((index, start))
}

/// Whose backup it is.
pub(super) fn read_owner(file: &dyn ReadAt) -> Result<(ChipId, Imei), ReadError> {
    index(file).map(|(index, _)| (index.chip, index.imei))
}

/// Reads a file to its end and verifies all of it, and its name where that is known. `take` gets every page with the number of its part.
pub(super) fn read(
    file: &dyn ReadAt,
    name: Option<Sha256Digest>,
    mut take: impl FnMut(usize, &[u8]),
) -> Result<Content, ReadError> {
    let id = digest(file, super::seal::FILE_BYTES_MAX, |_| Ok(()))?;
    if name.is_some_and(|name| name != id) {
        return Err(ReadError::damaged("its content was altered: the digest is not its name"));
    }
    let (index, index_at) = index(file)?;
    let section = Section::new(file, MAGIC.len() as u64, index_at);
    let buffered = io::BufReader::with_capacity(READ_BYTES, section);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?.single_frame();
    decoder.window_log_max(super::seal::WINDOW_LOG)?;
    let broken = |error: io::Error| ReadError::through(error, "unpacking its pages");
    let mut page = vec![0; usize::try_from(index.geometry.page_bytes).unwrap_or_default()];
    let mut pages = Pages::new(index.geometry);
    for part in &index.parts {
        pages.begin(PartHead { partition: part.partition.clone(), range: part.range, efs: part.efs })?;
        for PageRun(kind, count) in &part.pages {
            if let Some(filler) = kind.filler() {
                page.fill(filler);
            }
            for _ in 0..*count {
                if kind.filler().is_none() {
                    decoder.read_exact(&mut page).map_err(broken)?;
                }
                let number = pages.page(*kind, &page)?;
                take(number, &page);
            }
        }
    }
    if decoder.read(&mut [0]).map_err(broken)? != 0 {
        return Err(ReadError::damaged("it holds more pages than its index lists"));
    }
    let buffered = decoder.finish();
    if !buffered.buffer().is_empty() || buffered.get_ref().at() != index_at {
        return Err(ReadError::damaged("something stands between its pages and its index"));
    }
    let (parts, bytes) = pages.finish()?;
    for (part, listed) in parts.iter().zip(&index.parts) {
        if part.sha256 != listed.sha256 {
            return Err(ReadError::Damaged(format!("partition `{}` is not what was read", listed.partition)));
        }
    }
    let Index { chip, imei, geometry, .. } = index;
    let geometry = Some(geometry);
    Ok(Content { id, kind: BackupKind::Raw, chip, imei, geometry, parts, bytes, bad_blocks: None, xqcn: None })
}
