//! The content of simulated firmware images.
//!
//! Each image begins with the bytes a real one begins with, and carries a description that the simulated boot loader
//! believes instead of a signature: what it is, for which chip, of which revision, how long, and a checksum over its
//! pages. So a module starts exactly when all its images are complete and belong together; one page that is missing,
//! old or spoiled, and it does not. The rest is pseudo-random, a function of revision and place, so that a package
//! can be made again byte for byte.

use crate::domain::PageRange;

use super::flash_map::FlashMap;
use super::nand::Nand;
use super::page_pool::{content_hash, mix};

/// Where in the first page the description lies: behind every header that real images have.
const DESCRIPTION_AT: usize = 0x200;
const DESCRIPTION_MAGIC: [u8; 8] = *b"SIMIMG01";
const KIND_BYTES: usize = 16;
const CHIP_BYTES: usize = 16;
const REVISION_BYTES: usize = 64;
const KIND_AT: usize = DESCRIPTION_AT + 8;
const CHIP_AT: usize = KIND_AT + KIND_BYTES;
const REVISION_AT: usize = CHIP_AT + CHIP_BYTES;
const LENGTH_AT: usize = REVISION_AT + REVISION_BYTES;
const BODY_AT: usize = LENGTH_AT + 8;
const FIRST_AT: usize = BODY_AT + 8;

/// What an image is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ImageSpec {
    /// What kind: see `models::PartitionSpec::kind`; other words make files that are never booted from.
    pub(super) kind: String,
    /// The chip it is for.
    pub(super) chip: String,
    /// The firmware revision it belongs to.
    pub(super) revision: String,
    /// Its length; at least one page is made of it.
    pub(super) bytes: u64,
    /// The page size of the storage it is for.
    pub(super) page_bytes: u32,
}

/// An image, made page by page on demand: a package of 200 MB never is in memory.
#[derive(Debug)]
pub(super) struct Image {
    bytes: u64,
    page_bytes: usize,
    salt: u64,
    first: Vec<u8>,
}

impl Image {
    /// Computes the description, which takes one pass over the content.
    pub(super) fn new(spec: &ImageSpec) -> Self {
        let page_bytes = spec.page_bytes as usize;
        let bytes = spec.bytes.max(page_bytes as u64);
        let salt = content_hash(format!("{}\0{}\0{}", spec.chip, spec.revision, spec.kind).as_bytes());
        let mut image = Self { bytes, page_bytes, salt, first: vec![0; page_bytes] };
        let mut body = 0;
        let mut page = vec![0; page_bytes];
        for index in 1..image.pages() {
            image.fill_page(index, &mut page);
            body = mix(body ^ content_hash(&page[..image.bytes_in_page(index)]));
        }
        let mut first = std::mem::take(&mut image.first);
        fill(salt, &mut first);
        let start = beginning(&spec.kind);
        first[..start.len()].copy_from_slice(start);
        first[DESCRIPTION_AT..KIND_AT].copy_from_slice(&DESCRIPTION_MAGIC);
        put_text(&mut first[KIND_AT..CHIP_AT], &spec.kind);
        put_text(&mut first[CHIP_AT..REVISION_AT], &spec.chip);
        put_text(&mut first[REVISION_AT..LENGTH_AT], &spec.revision);
        first[LENGTH_AT..BODY_AT].copy_from_slice(&bytes.to_le_bytes());
        first[BODY_AT..FIRST_AT].copy_from_slice(&body.to_le_bytes());
        first[FIRST_AT..FIRST_AT + 8].fill(0);
        let own = content_hash(&first);
        first[FIRST_AT..FIRST_AT + 8].copy_from_slice(&own.to_le_bytes());
        Self { first, ..image }
    }

    /// The page size it was made for.
    pub(super) const fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Its length in pages.
    pub(super) const fn pages(&self) -> u64 {
        self.bytes.div_ceil(self.page_bytes as u64)
    }

    /// How many bytes of a page belong to the image.
    pub(super) fn bytes_in_page(&self, index: u64) -> usize {
        let before = index * self.page_bytes as u64;
        usize::try_from(self.bytes - before).map_or(self.page_bytes, |rest| rest.min(self.page_bytes))
    }

    /// The content of a page; behind the image's end, zeros.
    pub(super) fn fill_page(&self, index: u64, page: &mut [u8]) {
        if index == 0 {
            page.copy_from_slice(&self.first);
            return;
        }
        let used = self.bytes_in_page(index);
        fill(self.salt ^ mix(index), &mut page[..used]);
        page[used..].fill(0);
    }
}

/// Pseudo-random bytes that cost one multiplication for eight.
pub(super) fn fill(seed: u64, bytes: &mut [u8]) {
    let base = mix(seed);
    let step = mix(base) | 1;
    for (count, chunk) in (0_u64..).zip(bytes.chunks_mut(8)) {
        let word = base.wrapping_add(count.wrapping_mul(step));
        chunk.copy_from_slice(&(word ^ (word >> 29)).to_le_bytes()[..chunk.len()]);
    }
}

fn put_text(field: &mut [u8], text: &str) {
    field.fill(0);
    // The last byte stays 0.
    let room = field.len() - 1;
    for (byte, source) in field.iter_mut().zip(text.bytes().take(room)) {
        *byte = source;
    }
}

fn text(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&field[..end]).ok().map(str::to_owned)
}

fn long_word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// How real images of a kind begin.
fn beginning(kind: &str) -> &'static [u8] {
    match kind {
        "sbl" => &[0xd1, 0xdc, 0x4b, 0x84, 0x34, 0x10, 0xd7, 0x73],
        "boot" => b"ANDROID!",
        "modem" | "system" | "recoveryfs" | "usr_data" | "usrdata" | "oemdata" | "cust_info" => b"UBI#\x01\0\0\0",
        "toolsfv" => b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        _ => b"\x7fELF\x01\x01\x01\0",
    }
}

/// Why a partition cannot be started from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ImageFault {
    /// Its first page is erased, cannot be read, or is no image.
    #[error("no image")]
    Missing,
    /// An image of another kind, or for another chip.
    #[error("an image of kind {kind} for {chip}")]
    Foreign {
        /// What it is.
        kind: String,
        /// The chip it is for.
        chip: String,
    },
    /// Incomplete or altered.
    #[error("the image is damaged")]
    Damaged,
}

/// The revision of the image in a partition, when it is complete and of that kind.
pub(super) fn check(
    nand: &Nand,
    map: &FlashMap,
    range: PageRange,
    kind: &str,
    chip: &str,
) -> Result<String, ImageFault> {
    let mut page = vec![0; nand.page_bytes()];
    map.read(nand, range.start, &mut page).map_err(|_| ImageFault::Missing)?;
    if page[DESCRIPTION_AT..KIND_AT] != DESCRIPTION_MAGIC || !page.starts_with(beginning(kind)) {
        return Err(ImageFault::Missing);
    }
    let found = text(&page[KIND_AT..CHIP_AT]).ok_or(ImageFault::Damaged)?;
    let found_chip = text(&page[CHIP_AT..REVISION_AT]).ok_or(ImageFault::Damaged)?;
    if found != kind || found_chip != chip {
        return Err(ImageFault::Foreign { kind: found, chip: found_chip });
    }
    let revision = text(&page[REVISION_AT..LENGTH_AT]).ok_or(ImageFault::Damaged)?;
    let (bytes, body, own) = (long_word(&page, LENGTH_AT), long_word(&page, BODY_AT), long_word(&page, FIRST_AT));
    page[FIRST_AT..FIRST_AT + 8].fill(0);
    let (Some(bytes), Some(body)) = (bytes, body) else { return Err(ImageFault::Damaged) };
    let page_bytes = page.len() as u64;
    if own != Some(content_hash(&page)) || bytes.div_ceil(page_bytes) > range.pages {
        return Err(ImageFault::Damaged);
    }
    let whole = bytes / page_bytes;
    let mut sum = 0;
    for index in 1..whole {
        sum = mix(sum ^ map.tag(nand, range.start + index).ok_or(ImageFault::Damaged)?);
    }
    let tail = usize::try_from(bytes % page_bytes).unwrap_or_default();
    if tail > 0 {
        map.read(nand, range.start + whole, &mut page).map_err(|_| ImageFault::Damaged)?;
        sum = mix(sum ^ content_hash(&page[..tail]));
    }
    if sum == body { Ok(revision) } else { Err(ImageFault::Damaged) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::models::Model;
    use crate::sim::nand::PagePool;

    fn flashed(bytes: u64, pad: u8) -> (Nand, FlashMap, PageRange) {
        let model = Model::by_name("EG25-G").expect("a model");
        let mut nand = Nand::in_memory(model.geometry, model.total_pages, &PagePool::new());
        let map = FlashMap::of_model(model);
        let range = map.range("tz").expect("a partition");
        let image = Image::new(&spec(bytes));
        for index in 0..image.pages() {
            let mut page = vec![pad; 2048];
            image.fill_page(index, &mut page);
            page[image.bytes_in_page(index)..].fill(pad);
            map.program(&mut nand, range.start + index, &page).expect("a program");
        }
        (nand, map, range)
    }

    fn spec(bytes: u64) -> ImageSpec {
        ImageSpec {
            kind: "tz".to_owned(),
            chip: "MDM9607".to_owned(),
            revision: "R1".to_owned(),
            bytes,
            page_bytes: 2048,
        }
    }

    #[test]
    fn a_complete_image_is_accepted_whatever_its_tail_is_padded_with() {
        for (bytes, pad) in [(526_844, 0), (526_844, 0xff), (2048 * 5, 0), (1, 0), (2049, 0xff)] {
            let (nand, map, range) = flashed(bytes, pad);
            assert_eq!(check(&nand, &map, range, "tz", "MDM9607"), Ok("R1".to_owned()), "{bytes} {pad}");
        }
    }

    #[test]
    fn any_wrong_page_is_noticed() {
        for victim in [0, 1, 9, 19] {
            let (mut nand, map, range) = flashed(20 * 2048, 0);
            nand.program(range.start + victim, &[0; 2048]).expect("a program");
            assert!(check(&nand, &map, range, "tz", "MDM9607").is_err(), "{victim}");
        }
        let (nand, map, range) = flashed(20 * 2048, 0);
        assert!(matches!(check(&nand, &map, range, "rpm", "MDM9607"), Err(ImageFault::Foreign { .. })));
        assert!(matches!(check(&nand, &map, range, "tz", "SDX55"), Err(ImageFault::Foreign { .. })));
        let short = PageRange { start: range.start, pages: 19 };
        assert_eq!(check(&nand, &map, short, "tz", "MDM9607"), Err(ImageFault::Damaged));
    }

    #[test]
    fn pages_differ_from_each_other_and_between_revisions() {
        let page = |revision: &str, index| {
            let mut page = vec![0; 2048];
            Image::new(&ImageSpec { revision: revision.to_owned(), ..spec(10 * 2048) }).fill_page(index, &mut page);
            page
        };
        assert_ne!(page("R1", 1), page("R1", 2));
        assert_ne!(page("R1", 1), page("R2", 1));
        assert_eq!(page("R1", 1), page("R1", 1));
        assert!(page("R1", 1).iter().any(|byte| *byte != 0));
    }
}
