//! What a backup is when it is not sealed: whose it is, and what was read.
//!
//! ```text
//! "SMBACK02"                                8 bytes
//! records, each with a letter, the length of what follows (4 bytes little endian), and that:
//!   H  whose backup it is                   JSON; once, first
//!   P  a partition begins                   JSON; raw backups
//!   U  used pages of it, at most 64 KiB     their bytes
//!   F  E  blank pages of it (0xFF, 0xEE)    how many, 8 bytes little endian
//!   X  a piece of an XQCN file              its bytes; the other kind of backup
//!   Z  digests and what was learned last    JSON; once, at the end
//! ```
//!
//! The name of a backup is the SHA-256 of all this, so it must come out the same for the same unit in the same state:
//! how the bytes were cut when they arrived does not show, and when they were read stands on the label outside.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plausible::EfsCheck;
use super::section::ReadError;
use crate::domain::{
    BackupKind, BackupPart, BackupRef, BadBlocks, ChipId, Geometry, Imei, PageRange, Sha256Digest, XqcnCounts, limits,
    text,
};

pub(super) use super::plausible::PageKind;

pub(super) const MAGIC: &[u8; 8] = b"SMBACK02";
/// The version of this form.
const SCHEMA: u32 = 2;
/// Most bytes of pages, or of an XQCN file, in one record.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// Whose backup it is, and of which kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    schema: u32,
    pub(super) kind: BackupKind,
    pub(super) chip: ChipId,
    pub(super) imei: Imei,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) geometry: Option<Geometry>,
}

impl Head {
    pub(super) fn raw(chip: ChipId, imei: Imei, geometry: Geometry) -> Self {
        Self { schema: SCHEMA, kind: BackupKind::Raw, chip, imei, geometry: Some(geometry) }
    }

    pub(super) fn xqcn(chip: ChipId, imei: Imei) -> Self {
        Self { schema: SCHEMA, kind: BackupKind::Xqcn, chip, imei, geometry: None }
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("its form has version {}, this controller knows {SCHEMA}", self.schema));
        }
        match (self.kind, self.geometry) {
            (BackupKind::Raw, Some(geometry)) if is_sane(geometry) => Ok(()),
            (BackupKind::Xqcn, None) => Ok(()),
            _ => Err("its head is out of bounds".to_owned()),
        }
    }
}

/// A partition, before its pages.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartHead {
    pub(super) partition: String,
    pub(super) range: PageRange,
    /// Whether it holds the EFS file system.
    pub(super) efs: bool,
}

/// What stands at the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tail {
    /// Of every partition: the digest of all its bytes.
    pub(super) parts: Vec<Sha256Digest>,
    /// Bytes that were read from the module.
    pub(super) bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bad_blocks: Option<BadBlocks>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) xqcn: Option<XqcnCounts>,
}

/// A partition that was read and verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) head: PartHead,
    pub(super) sha256: Sha256Digest,
    pub(super) used_pages: u64,
}

/// Everything that a content says of itself, verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Content {
    pub(super) id: Sha256Digest,
    pub(super) kind: BackupKind,
    pub(super) chip: ChipId,
    pub(super) imei: Imei,
    pub(super) geometry: Option<Geometry>,
    pub(super) parts: Vec<Part>,
    pub(super) bytes: u64,
    pub(super) bad_blocks: Option<BadBlocks>,
    pub(super) xqcn: Option<XqcnCounts>,
}

impl Content {
    /// As the ledger names it; `suspect` is what its label says.
    pub(super) fn reference(&self, suspect: Option<String>) -> BackupRef {
        let part = |part: &Part| BackupPart {
            partition: part.head.partition.clone(),
            range: part.head.range,
            sha256: part.sha256,
            used_pages: part.used_pages,
        };
        BackupRef {
            id: self.id,
            kind: self.kind,
            chip: self.chip,
            imei: self.imei,
            geometry: self.geometry,
            parts: self.parts.iter().map(part).collect(),
            bytes: self.bytes,
            bad_blocks: self.bad_blocks.clone(),
            xqcn: self.xqcn,
            suspect,
        }
    }
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

/// Writes a content, and takes its digest.
pub(super) struct ContentWriter<W> {
    out: W,
    hasher: Sha256,
}

impl<W: Write> ContentWriter<W> {
    pub(super) fn begin(out: W, head: &Head) -> io::Result<Self> {
        let mut this = Self { out, hasher: Sha256::new() };
        this.put(MAGIC)?;
        this.json(b'H', head)?;
        Ok(this)
    }

    /// For a content that is there already and is written again, byte by byte.
    pub(super) fn again(out: W) -> Self {
        Self { out, hasher: Sha256::new() }
    }

    /// The next bytes of it.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes)
    }

    /// The end of it; gives its digest.
    pub(super) fn copied(self) -> (W, Sha256Digest) {
        (self.out, Sha256Digest::finish(self.hasher))
    }

    pub(super) fn part(&mut self, part: &PartHead) -> io::Result<()> {
        self.json(b'P', part)
    }

    /// Whole pages, at most [`PIECE_BYTES`] (or one page).
    pub(super) fn used(&mut self, pages: &[u8]) -> io::Result<()> {
        self.record(b'U', pages)
    }

    pub(super) fn blank(&mut self, kind: PageKind, pages: u64) -> io::Result<()> {
        self.record(if kind == PageKind::BlankEe { b'E' } else { b'F' }, &pages.to_le_bytes())
    }

    /// A piece of an XQCN file, at most [`PIECE_BYTES`].
    pub(super) fn xqcn(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.record(b'X', bytes)
    }

    /// Ends it; gives its digest.
    pub(super) fn finish(mut self, tail: &Tail) -> io::Result<(W, Sha256Digest)> {
        self.json(b'Z', tail)?;
        Ok((self.out, Sha256Digest::finish(self.hasher)))
    }

    fn json(&mut self, letter: u8, value: &impl Serialize) -> io::Result<()> {
        self.record(letter, &serde_json::to_vec(value)?)
    }

    fn record(&mut self, letter: u8, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a record is too long"))?;
        self.put(&[letter])?;
        self.put(&length.to_le_bytes())?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }
}

/// Takes the pages of a backup, part after part, and learns what must be true of them.
pub(super) struct Pages {
    geometry: Geometry,
    parts: Vec<Part>,
    current: Option<Current>,
    bytes: u64,
}

struct Current {
    head: PartHead,
    hasher: Sha256,
    check: Option<EfsCheck>,
    pages: u64,
    used_pages: u64,
}

impl Pages {
    pub(super) const fn new(geometry: Geometry) -> Self {
        Self { geometry, parts: Vec::new(), current: None, bytes: 0 }
    }

    pub(super) fn begin(&mut self, head: PartHead) -> Result<(), String> {
        self.end()?;
        if self.parts.len() >= limits::PARTITIONS_MAX {
            return Err("it has too many partitions".to_owned());
        }
        if self.parts.iter().any(|part| part.head.partition == head.partition) {
            return Err(format!("it has partition `{}` twice", head.partition));
        }
        self.bytes = admit(&head.partition, head.range, self.geometry, self.bytes)?;
        let check = head.efs.then(|| EfsCheck::new(self.geometry, head.range.pages, limits::EFS_USED_PAGES_MIN, None));
        self.current = Some(Current { head, hasher: Sha256::new(), check, pages: 0, used_pages: 0 });
        Ok(())
    }

    /// Takes the next page; gives the number of its part.
    pub(super) fn page(&mut self, kind: PageKind, page: &[u8]) -> Result<usize, String> {
        let Some(current) = self.current.as_mut().filter(|current| current.pages < current.head.range.pages) else {
            return Err("it has pages that belong to no partition".to_owned());
        };
        current.hasher.update(page);
        if kind == PageKind::Used {
            current.used_pages += 1;
            if let Some(check) = &mut current.check {
                check.used_page(current.pages, page);
            }
        }
        current.pages += 1;
        Ok(self.parts.len())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(current) = self.current.take() else { return Ok(()) };
        if current.pages != current.head.range.pages {
            return Err(format!("partition `{}` is not complete", current.head.partition));
        }
        if let Some(check) = current.check {
            check.finish().map_err(|reason| format!("partition `{}`: {reason}", current.head.partition))?;
        }
        let sha256 = Sha256Digest::finish(current.hasher);
        self.parts.push(Part { head: current.head, sha256, used_pages: current.used_pages });
        Ok(())
    }

    /// All parts, with the bytes of them.
    pub(super) fn finish(mut self) -> Result<(Vec<Part>, u64), String> {
        self.end()?;
        if !self.parts.iter().any(|part| part.head.efs) {
            return Err("it has no EFS".to_owned());
        }
        Ok((self.parts, self.bytes))
    }
}

/// A reader that takes the digest of what it gives.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Hashing<R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.inner.read_exact(buffer).map_err(|error| ReadError::through(error, "unpacking"))?;
        self.hasher.update(buffer);
        Ok(())
    }

    /// The next record; its bytes are in `buffer`.
    fn record(&mut self, buffer: &mut Vec<u8>) -> Result<u8, ReadError> {
        let mut start = [0; 5];
        self.fill(&mut start)?;
        let [letter, length @ ..] = start;
        let length = u32::from_le_bytes(length);
        let most = match letter {
            b'U' | b'X' => u32::try_from(PIECE_BYTES).unwrap_or(u32::MAX),
            b'F' | b'E' => 8,
            _ => limits::BACKUP_RECORD_BYTES_MAX,
        };
        if length > most {
            return Err(ReadError::damaged("it has a record that is too long"));
        }
        buffer.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        self.fill(buffer)?;
        Ok(letter)
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ReadError> {
    serde_json::from_slice(bytes).map_err(|error| ReadError::Damaged(format!("it has a record of no sense: {error}")))
}

/// Reads only whose backup it is.
pub(super) fn read_head(reader: impl Read) -> Result<Head, ReadError> {
    begin(&mut Hashing { inner: reader, hasher: Sha256::new() })
}

fn begin(reader: &mut Hashing<impl Read>) -> Result<Head, ReadError> {
    let mut magic = [0; 8];
    reader.fill(&mut magic)?;
    let mut record = Vec::new();
    if magic != *MAGIC || reader.record(&mut record)? != b'H' {
        return Err(ReadError::damaged("it is no backup"));
    }
    let head: Head = parse(&record)?;
    head.check()?;
    Ok(head)
}

/// Reads a content to its end and verifies all of it but its name, which the caller knows. `take` gets every piece with
/// the number of its part, 0 for an XQCN file.
pub(super) fn read(reader: impl Read, mut take: impl FnMut(usize, &[u8])) -> Result<Content, ReadError> {
    let mut reader = Hashing { inner: reader, hasher: Sha256::new() };
    let head = begin(&mut reader)?;
    let mut pages = head.geometry.map(Pages::new);
    let page_bytes = head.geometry.map_or(1, |geometry| geometry.page_bytes);
    let page_bytes = usize::try_from(page_bytes).unwrap_or(usize::MAX);
    let (mut record, mut blank, mut xqcn_bytes) = (Vec::new(), vec![0; page_bytes], 0_u64);
    let tail: Tail = loop {
        match (reader.record(&mut record)?, &mut pages) {
            (b'P', Some(pages)) => pages.begin(parse(&record)?)?,
            (b'U', Some(pages)) if !record.is_empty() && record.len().is_multiple_of(page_bytes) => {
                for page in record.chunks_exact(page_bytes) {
                    let number = pages.page(PageKind::Used, page)?;
                    take(number, page);
                }
            }
            (letter @ (b'F' | b'E'), Some(pages)) => {
                let (kind, filler) = if letter == b'E' { (PageKind::BlankEe, 0xee) } else { (PageKind::BlankFf, 0xff) };
                let count: [u8; 8] =
                    record.as_slice().try_into().map_err(|_| "it has a record of no sense".to_owned())?;
                let count = u64::from_le_bytes(count);
                if count == 0 {
                    return Err(ReadError::damaged("it has a record of nothing"));
                }
                blank.fill(filler);
                for _ in 0..count {
                    let number = pages.page(kind, &blank)?;
                    take(number, &blank);
                }
            }
            (b'X', None) if !record.is_empty() && xqcn_bytes + record.len() as u64 <= limits::XQCN_BYTES_MAX as u64 => {
                xqcn_bytes += record.len() as u64;
                take(0, &record);
            }
            (b'Z', _) => break parse(&record)?,
            _ => return Err(ReadError::damaged("it has a record that does not belong there")),
        }
    };
    let (parts, bytes) = match pages {
        Some(pages) => pages.finish()?,
        None => (Vec::new(), xqcn_bytes),
    };
    let is_told = tail.xqcn.is_some() == (head.kind == BackupKind::Xqcn) && bytes > 0 && tail.bytes == bytes;
    let named = tail.bad_blocks.as_ref().map_or(&[][..], |bad| &bad.named);
    let is_sorted = named.len() <= limits::BAD_BLOCKS_MAX && named.is_sorted_by(|a, b| a < b);
    if !is_told || !is_sorted || !tail.parts.iter().eq(parts.iter().map(|part| &part.sha256)) {
        return Err(ReadError::damaged("its end does not match what it holds"));
    }
    Ok(Content {
        id: Sha256Digest::finish(reader.hasher),
        kind: head.kind,
        chip: head.chip,
        imei: head.imei,
        geometry: head.geometry,
        parts,
        bytes,
        bad_blocks: tail.bad_blocks,
        xqcn: tail.xqcn,
    })
}
