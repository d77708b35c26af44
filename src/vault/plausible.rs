//! Whether what was read of an EFS is a file system in use.
//!
//! A raw image does not show its files without a decoder. What it shows is its superblock: the magic `EFSSuper` at
//! offset 8 of a page, followed by block size, page size and block count. That, and enough used pages, tells a module
//! with calibration from a blank one and from the skeleton that a boot with a lost EFS makes.

use sha2::{Digest, Sha256};

use crate::domain::{Geometry, Sha256Digest, limits};

use super::VaultError;

const MAGIC: &[u8; 8] = b"EFSSuper";
const MAGIC_OFFSET: usize = 8;
/// Three words, little endian: block size (in pages or in bytes), page size in bytes, number of blocks.
const WORDS_OFFSET: usize = 16;

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum PageKind {
    /// Something.
    #[serde(rename = "u")]
    Used,
    /// Nothing: erased NAND.
    #[serde(rename = "f")]
    BlankFf,
    /// Nothing: what some programmers give for a page that was never written.
    #[serde(rename = "e")]
    BlankEe,
}

impl PageKind {
    pub(super) fn of(page: &[u8]) -> Self {
        // All bytes are equal when each equals the one before it: one comparison of memory, for every page of a backup.
        let is_uniform = page.len() > 1 && page[1..] == page[..page.len() - 1];
        match page.first() {
            Some(0xff) if is_uniform => Self::BlankFf,
            Some(0xee) if is_uniform => Self::BlankEe,
            _ => Self::Used,
        }
    }

    /// The byte that fills a blank page.
    pub(super) const fn filler(self) -> Option<u8> {
        match self {
            Self::Used => None,
            Self::BlankFf => Some(0xff),
            Self::BlankEe => Some(0xee),
        }
    }
}

/// Looks at the pages of an EFS one by one.
#[derive(Debug)]
pub(super) struct EfsCheck {
    geometry: Geometry,
    /// Blocks of the partition.
    blocks: u64,
    /// The least of used pages.
    least: u64,
    used: u64,
    /// What a package would put there, where it has something, and what there is so far.
    blank: Option<(Sha256Digest, Sha256)>,
    superblock: bool,
    /// Why a superblock that was seen does not count.
    mismatch: Option<String>,
}

impl EfsCheck {
    pub(super) fn new(geometry: Geometry, pages: u64, least: u64, blank: Option<Sha256Digest>) -> Self {
        let blocks = pages / u64::from(geometry.pages_per_block.max(1));
        let blank = blank.map(|blank| (blank, Sha256::new()));
        Self { geometry, blocks, least, used: 0, blank, superblock: false, mismatch: None }
    }

    /// Takes the next used page, the `number`-th of the partition from 0.
    pub(super) fn used_page(&mut self, number: u64, page: &[u8]) {
        self.used += 1;
        if let Some((_, hasher)) = &mut self.blank {
            take_used(hasher, number, page);
        }
        if page.get(MAGIC_OFFSET..WORDS_OFFSET) != Some(MAGIC) {
            return;
        }
        let word = |index: usize| {
            let start = WORDS_OFFSET + index * 4;
            page.get(start..start + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
        };
        let (Some(block), Some(page_bytes), Some(blocks)) = (word(0), word(1), word(2)) else { return };
        let block_fits = block == self.geometry.pages_per_block || u64::from(block) == self.geometry.block_bytes();
        if block_fits && page_bytes == self.geometry.page_bytes && blocks > 0 && u64::from(blocks) <= self.blocks {
            self.superblock = true;
        } else {
            self.mismatch = Some(format!(
                "its superblock speaks of {blocks} blocks of {block} with pages of {page_bytes} bytes; the partition has \
                 {} blocks, the storage {}",
                self.blocks, self.geometry
            ));
        }
    }

    /// The verdict after the last page.
    ///
    /// # Errors
    /// What is not plausible, as a clause.
    pub(super) fn finish(self) -> Result<(), String> {
        let least = self.least;
        if self.used == 0 {
            return Err("it is blank".to_owned());
        }
        if !self.superblock {
            return Err(self.mismatch.unwrap_or_else(|| "it has no EFS superblock".to_owned()));
        }
        if self.used < least {
            return Err(format!("it is a skeleton: {} pages are used, {least} are the least", self.used));
        }
        if self.blank.is_some_and(|(blank, hasher)| blank == Sha256Digest::finish(hasher)) {
            return Err("it is the blank EFS of a package, without the calibration of any module".to_owned());
        }
        Ok(())
    }
}

/// What tells an EFS that was just programmed from `image` from all others: the digest of its used pages and their
/// places. Blank pages do not count, because they read differently on different modules.
#[must_use]
pub fn efs_digest(image: &[u8], geometry: Geometry) -> Sha256Digest {
    let page_bytes = usize::try_from(geometry.page_bytes.max(1)).unwrap_or(usize::MAX);
    let mut hasher = Sha256::new();
    for (number, bytes) in (0..).zip(image.chunks(page_bytes)) {
        let mut page = vec![0xff; page_bytes];
        page[..bytes.len()].copy_from_slice(bytes);
        if PageKind::of(&page) == PageKind::Used {
            take_used(&mut hasher, number, &page);
        }
    }
    Sha256Digest::finish(hasher)
}

fn take_used(hasher: &mut Sha256, number: u64, page: &[u8]) {
    hasher.update(number.to_le_bytes());
    hasher.update(page);
}

/// Whether `bytes`, all of an EFS partition, are a file system in use on a storage of that geometry.
///
/// # Errors
/// [`VaultError::Implausible`] with what is wrong.
pub fn plausible(bytes: &[u8], geometry: Geometry) -> Result<(), VaultError> {
    let page_bytes = usize::try_from(geometry.page_bytes.max(1)).unwrap_or(usize::MAX);
    let mut check = EfsCheck::new(geometry, (bytes.len() / page_bytes) as u64, limits::EFS_USED_PAGES_MIN, None);
    for (number, page) in (0..).zip(bytes.chunks(page_bytes)) {
        if PageKind::of(page) == PageKind::Used {
            check.used_page(number, page);
        }
    }
    check.finish().map_err(|reason| VaultError::Implausible { partition: "efs2".to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry { page_bytes: 2048, pages_per_block: 64 };
    const PAGES: usize = 8 * 64;

    fn image(used: usize, words: [u32; 3]) -> Vec<u8> {
        let mut bytes = vec![0xff; PAGES * 2048];
        for (index, page) in bytes.chunks_mut(2048).take(used).enumerate() {
            page.fill(u8::try_from(index % 200).expect("small"));
        }
        bytes[2048 + 8..2048 + 16].copy_from_slice(MAGIC);
        for (index, word) in words.into_iter().enumerate() {
            bytes[2048 + 16 + index * 4..][..4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn reason(bytes: &[u8]) -> String {
        plausible(bytes, GEOMETRY).expect_err("implausible").to_string()
    }

    #[test]
    fn a_file_system_in_use_is_told_from_what_is_none() {
        for block in [64, 64 * 2048] {
            plausible(&image(9, [block, 2048, 8]), GEOMETRY).expect("plausible");
        }
        assert!(reason(&vec![0xff; PAGES * 2048]).contains("blank"));
        assert!(reason(&vec![0xee; PAGES * 2048]).contains("blank"));
        assert!(reason(&image(7, [64, 2048, 8])).contains("skeleton"));
        assert!(reason(&image(9, [64, 4096, 8])).contains("pages of 4096 bytes"));
        assert!(reason(&image(9, [128, 2048, 8])).contains("blocks of 128"));
        assert!(reason(&image(9, [64, 2048, 9])).contains("9 blocks"));
        assert!(reason(&image(9, [64, 2048, 0])).contains("0 blocks"));
        let mut without = image(9, [64, 2048, 8]);
        without[2048 + 8] = b'x';
        assert!(reason(&without).contains("no EFS superblock"));
        assert!(plausible(&[], GEOMETRY).is_err());
        assert!(plausible(&[1; 20], GEOMETRY).is_err());
    }
}
