//! The form of a stored backup (`.smb`).
//!
//! ```text
//! "SMBACK01"                          8 bytes
//! one zstd frame                      the pages that are not blank, part after part, in their order
//! index                               JSON: whose backup it is, parts, digests, which pages are blank and how
//! length of the index, "SMBINDEX"     8 bytes little endian, 8 bytes
//! ```
//!
//! The index comes last because digests and blank pages are known only then: a backup is written while it is read
//! from the module, and 64 of them at once must not be held in memory.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::domain::{BackupPart, ChipId, Geometry, Imei, PageRange, Sha256Digest, limits, text};
use crate::host::ReadAt;

use super::plausible::PageKind;

pub(super) const MAGIC: &[u8; 8] = b"SMBACK01";
pub(super) const INDEX_MAGIC: &[u8; 8] = b"SMBINDEX";
/// Bytes after the index.
const FOOTER_BYTES: u64 = 16;
/// The version of this form.
pub(super) const SCHEMA: u32 = 1;
/// Most bytes of a stored backup: incompressible content and its index.
pub(super) const FILE_BYTES_MAX: u64 =
    limits::BACKUP_BYTES_MAX + limits::BACKUP_BYTES_MAX / 64 + limits::BACKUP_INDEX_BYTES_MAX;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// A number of pages of one kind, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PageRun(pub(super) PageKind, pub(super) u64);

/// One part in the index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IndexPart {
    pub(super) partition: String,
    pub(super) range: PageRange,
    pub(super) sha256: Sha256Digest,
    /// Whether it holds the EFS file system.
    pub(super) efs: bool,
    pub(super) pages: Vec<PageRun>,
}

impl IndexPart {
    pub(super) fn used_pages(&self) -> u64 {
        self.pages.iter().filter(|run| run.0 == PageKind::Used).map(|run| run.1).sum()
    }

    pub(super) fn summary(&self) -> BackupPart {
        let used_pages = self.used_pages();
        BackupPart { partition: self.partition.clone(), range: self.range, sha256: self.sha256, used_pages }
    }
}

/// The index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) schema: u32,
    pub(super) chip: ChipId,
    pub(super) imei: Imei,
    pub(super) geometry: Geometry,
    pub(super) parts: Vec<IndexPart>,
}

/// Whether a part may be in a backup that has `bytes` bytes so far; gives the bytes with it.
///
/// # Errors
/// Why not, as a clause.
pub(super) fn admit(partition: &str, range: PageRange, geometry: Geometry, bytes: u64) -> Result<u64, String> {
    if partition.is_empty() || text::printable(partition, limits::DEVICE_TEXT_CHARS_MAX) != partition {
        return Err("the name of a partition is empty, too long or not printable".to_owned());
    }
    let sum = range.pages.checked_mul(u64::from(geometry.page_bytes)).and_then(|part| part.checked_add(bytes));
    match sum {
        Some(sum) if range.pages > 0 && sum <= limits::BACKUP_BYTES_MAX => Ok(sum),
        _ => Err(format!("a backup has 1 to {} bytes", limits::BACKUP_BYTES_MAX)),
    }
}

/// Whether pages and blocks have sizes that occur.
pub(super) fn is_sane(geometry: Geometry) -> bool {
    geometry.page_bytes.is_power_of_two()
        && limits::PAGE_BYTES.contains(&geometry.page_bytes)
        && limits::PAGES_PER_BLOCK.contains(&geometry.pages_per_block)
}

impl Index {
    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("its form has version {}, this controller knows {SCHEMA}", self.schema));
        }
        if !is_sane(self.geometry) || self.parts.len() > limits::PARTITIONS_MAX {
            return Err("its index is out of bounds".to_owned());
        }
        let mut bytes = 0;
        for part in &self.parts {
            bytes = admit(&part.partition, part.range, self.geometry, bytes)?;
            let pages = part.pages.iter().try_fold(0_u64, |sum, run| sum.checked_add(run.1));
            if pages != Some(part.range.pages) {
                return Err("its index does not list all pages".to_owned());
            }
        }
        Ok(())
    }
}

/// A stretch of a file, as a reader.
#[derive(Debug)]
pub(super) struct Section<'a> {
    file: &'a dyn ReadAt,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        self.file.read_exact_at(&mut buffer[..length], self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// Why a stored file cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Disk(io::Error),
    Damaged(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<String> for ReadError {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

/// The digest of a whole file.
pub(super) fn digest(file: &dyn ReadAt) -> Result<Sha256Digest, ReadError> {
    use sha2::Digest;
    let bytes = file.bytes()?;
    if bytes > FILE_BYTES_MAX {
        return Err(ReadError::Damaged(format!("it has {bytes} bytes, more than a backup can have")));
    }
    let mut hasher = sha2::Sha256::new();
    let mut section = Section { file, at: 0, end: bytes };
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match section.read(&mut buffer)? {
            0 => return Ok(Sha256Digest::finish(hasher)),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// The index of a file, checked, and where it begins.
pub(super) fn index(file: &dyn ReadAt) -> Result<(Index, u64), ReadError> {
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

/// Hands every page of every part to `take`, with the number of its part and its kind. `index_at` is where the index
/// begins.
pub(super) fn pages(
    file: &dyn ReadAt,
    index: &Index,
    index_at: u64,
    mut take: impl FnMut(usize, PageKind, &[u8]),
) -> Result<(), ReadError> {
    let section = Section { file, at: MAGIC.len() as u64, end: index_at };
    let buffered = io::BufReader::with_capacity(READ_BYTES, section);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?.single_frame();
    decoder.window_log_max(super::writer::WINDOW_LOG)?;
    let broken = |error: io::Error| ReadError::Damaged(format!("its pages cannot be unpacked: {error}"));
    let mut page = vec![0; usize::try_from(index.geometry.page_bytes).unwrap_or_default()];
    for (number, part) in index.parts.iter().enumerate() {
        for PageRun(kind, count) in &part.pages {
            if let Some(filler) = kind.filler() {
                page.fill(filler);
            }
            for _ in 0..*count {
                if kind.filler().is_none() {
                    decoder.read_exact(&mut page).map_err(broken)?;
                }
                take(number, *kind, &page);
            }
        }
    }
    if decoder.read(&mut [0]).map_err(broken)? != 0 {
        return Err(ReadError::Damaged("it holds more pages than its index lists".to_owned()));
    }
    let buffered = decoder.finish();
    if !buffered.buffer().is_empty() || buffered.get_ref().at != index_at {
        return Err(ReadError::Damaged("something stands between its pages and its index".to_owned()));
    }
    Ok(())
}
