//! The partition table as a module keeps it (MIBIB) and as packages carry it, from the device's side.
//!
//! Four pages at the beginning of a block of the table's partition: a header with an age, the system table, the user
//! table, and a checksum page. The boot loader takes the youngest complete copy. Layout and checksum are those of
//! public tools for Qualcomm NAND tables; magic numbers as listed by qfenix and edl.

use crate::domain::{Geometry, PageRange};

use super::models::Model;
use super::nand::{Nand, PageState};

const HEADER_MAGIC: [u32; 2] = [0xfe56_9fac, 0xcd7f_127a];
const TABLE_MAGIC: [u32; 2] = [0x55ee_73aa, 0xe35e_bddb];
const USER_MAGIC: [u32; 2] = [0xaa7d_1b9a, 0x1f7d_48bc];
const CHECKSUM_MAGIC: [u32; 2] = [0x9d41_bea1, 0xf1de_d2ea];
const VERSION: u32 = 4;
const CHECKSUM_VERSION: u32 = 1;
const ENTRY_BYTES: usize = 28;
const NAME_BYTES: usize = 16;
const HEADER_BYTES: usize = 16;
/// Most entries that one page of 2 KiB has room for.
const ENTRIES_MAX: usize = 64;
/// Pages of one copy.
pub(super) const COPY_PAGES: usize = 4;
/// The length of a partition that goes on to the end of the storage.
const GROWS: u32 = u32::MAX;

/// Polynomial 0x04C11DB7, most significant bit first, initial and final value 0.
static CHECKSUM: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::Algorithm {
    width: 32,
    poly: 0x04c1_1db7,
    init: 0,
    refin: false,
    refout: false,
    xorout: 0,
    check: 0x89a1_897f,
    residue: 0,
});

/// One entry of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TableEntry {
    /// The name without `0:`.
    pub(super) name: String,
    /// Its first block.
    pub(super) start_block: u32,
    /// Its blocks; `None` when it goes on to the end.
    pub(super) blocks: Option<u32>,
}

impl TableEntry {
    /// Where it lies.
    pub(super) fn range(&self, geometry: Geometry, total_pages: u64) -> PageRange {
        let per_block = u64::from(geometry.pages_per_block);
        let start = u64::from(self.start_block) * per_block;
        let pages = self.blocks.map_or(total_pages.saturating_sub(start), |blocks| u64::from(blocks) * per_block);
        PageRange { start, pages }
    }
}

/// A model's own map as a table; its last partition grows.
pub(super) fn entries(model: &Model) -> Vec<TableEntry> {
    let per_block = u64::from(model.geometry.pages_per_block);
    let blocks = |pages: u64| u32::try_from(pages / per_block).unwrap_or(GROWS);
    let mut entries: Vec<TableEntry> = model
        .partitions
        .iter()
        .map(|partition| TableEntry {
            name: partition.name.to_owned(),
            start_block: blocks(partition.start),
            blocks: Some(blocks(partition.pages)),
        })
        .collect();
    if let Some(last) = entries.last_mut() {
        last.blocks = None;
    }
    entries
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn name_field(name: &str) -> [u8; NAME_BYTES] {
    let mut field = [0; NAME_BYTES];
    for (byte, source) in field.iter_mut().zip(b"0:".iter().chain(name.as_bytes())) {
        *byte = *source;
    }
    field
}

/// One copy of a table: [`COPY_PAGES`] pages.
pub(super) fn encode(entries: &[TableEntry], geometry: Geometry, age: u32) -> Vec<u8> {
    let page_bytes = geometry.page_bytes as usize;
    let count = u32::try_from(entries.len()).unwrap_or_default();
    let page = |mut bytes: Vec<u8>| {
        bytes.resize(page_bytes, 0xff);
        bytes
    };
    let mut table = words(&[TABLE_MAGIC[0], TABLE_MAGIC[1], VERSION, count]);
    for entry in entries {
        table.extend(name_field(&entry.name));
        table.extend(words(&[entry.start_block, entry.blocks.unwrap_or(GROWS)]));
        table.extend([0xff, 0x01, 0x00, 0xff]);
    }
    let mut copy = page(words(&[HEADER_MAGIC[0], HEADER_MAGIC[1], VERSION, age]));
    copy.extend(page(table));
    let checksum = CHECKSUM.checksum(&copy);
    copy.extend(page(encode_user(entries)));
    copy.extend(page(words(&[CHECKSUM_MAGIC[0], CHECKSUM_MAGIC[1], CHECKSUM_VERSION, checksum])));
    copy
}

/// The user table: what a package's `partition.mbn` holds. Lengths in blocks.
pub(super) fn encode_user(entries: &[TableEntry]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).unwrap_or_default();
    let mut table = words(&[USER_MAGIC[0], USER_MAGIC[1], VERSION, count]);
    for entry in entries {
        table.extend(name_field(&entry.name));
        table.extend(words(&[entry.blocks.unwrap_or(GROWS), 0]));
        table.extend([0xff, 0x01, 0x00, 0xfe]);
    }
    table
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// Age and entries of one copy; `None` when it is not a complete, sound table.
pub(super) fn decode(copy: &[u8], geometry: Geometry) -> Option<(u32, Vec<TableEntry>)> {
    let page_bytes = geometry.page_bytes as usize;
    let magic = |page: usize, magic: [u32; 2]| {
        let at = page * page_bytes;
        (word(copy, at) == Some(magic[0]) && word(copy, at + 4) == Some(magic[1])).then_some(at)
    };
    let header = magic(0, HEADER_MAGIC)?;
    let table = magic(1, TABLE_MAGIC)?;
    let trailer = magic(3, CHECKSUM_MAGIC)?;
    if word(copy, trailer + 12)? != CHECKSUM.checksum(copy.get(..2 * page_bytes)?) {
        return None;
    }
    let count = word(copy, table + 12)? as usize;
    if count == 0 || count > ENTRIES_MAX.min((page_bytes - HEADER_BYTES) / ENTRY_BYTES) {
        return None;
    }
    let entry = |index: usize| {
        let at = table + HEADER_BYTES + index * ENTRY_BYTES;
        let name = copy.get(at..at + NAME_BYTES)?;
        let name = std::str::from_utf8(name).ok()?.trim_end_matches('\0');
        let blocks = word(copy, at + 20)?;
        Some(TableEntry {
            name: name.strip_prefix("0:").unwrap_or(name).to_owned(),
            start_block: word(copy, at + 16)?,
            blocks: (blocks != GROWS).then_some(blocks),
        })
    };
    Some((word(copy, header + 12)?, (0..count).map(entry).collect::<Option<_>>()?))
}

/// The youngest sound table in a module's flash. Where the table's partition lies is known to the boot loader.
pub(super) fn load(nand: &Nand, model: &Model) -> Option<Vec<TableEntry>> {
    let range = model.range("MIBIB")?;
    let per_block = u64::from(nand.geometry().pages_per_block);
    let mut best: Option<(u32, Vec<TableEntry>)> = None;
    for block in range.start / per_block..range.end() / per_block {
        let first = block * per_block;
        if nand.is_bad(block) || nand.state(first) != PageState::Programmed {
            continue;
        }
        let mut copy = vec![0; COPY_PAGES * nand.page_bytes()];
        let read = (first..).zip(copy.chunks_exact_mut(nand.page_bytes())).all(|(page, b)| nand.read(page, b).is_ok());
        let found = read.then(|| decode(&copy, nand.geometry())).flatten();
        if let Some((age, entries)) = found
            && best.as_ref().is_none_or(|(best, _)| *best < age)
        {
            best = Some((age, entries));
        }
    }
    best.map(|(_, entries)| entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sim::models::MODELS;
    use crate::sim::nand::PagePool;

    #[test]
    fn the_table_of_each_model_round_trips() {
        for model in MODELS {
            let copy = encode(&entries(model), model.geometry, 7);
            assert_eq!(copy.len(), COPY_PAGES * model.geometry.page_bytes as usize);
            assert_eq!(decode(&copy, model.geometry), Some((7, entries(model))), "{}", model.name);
            let last = entries(model).pop().expect("a last partition");
            assert_eq!(Some(last.range(model.geometry, model.total_pages)), model.range("system"));
        }
    }

    #[test]
    fn known_places_of_a_real_table() {
        // The patch file of a real package addresses the last partition's length at byte 484 of page 1 and the
        // checksum at byte 12 of page 3; its partition.mbn has 492 bytes.
        let model = Model::by_name("EG25-G").expect("a model");
        let copy = encode(&entries(model), model.geometry, 1);
        assert_eq!(&copy[..8], &[0xac, 0x9f, 0x56, 0xfe, 0x7a, 0x12, 0x7f, 0xcd]);
        assert_eq!(word(&copy, 2048 + 484 - 4), Some(1458));
        assert_eq!(word(&copy, 2048 + 484), Some(GROWS));
        assert_eq!(word(&copy, 3 * 2048 + 12), Some(CHECKSUM.checksum(&copy[..4096])));
        assert_eq!(encode_user(&entries(model)).len(), 492);
    }

    #[test]
    fn checksum_of_the_standard_text() {
        assert_eq!(CHECKSUM.checksum(b"123456789"), 0x89a1_897f);
    }

    #[test]
    fn the_youngest_copy_wins_and_a_broken_one_is_passed_over() {
        let model = Model::by_name("RM500Q-GL").expect("a model");
        let mut nand = Nand::in_memory(model.geometry, model.total_pages, &PagePool::new());
        let put = |nand: &mut Nand, block: u64, age: u32, change: fn(&mut Vec<TableEntry>), spoil: bool| {
            let mut entries = entries(model);
            change(&mut entries);
            let mut copy = encode(&entries, model.geometry, age);
            if spoil {
                copy[5000] ^= 1;
            }
            nand.program(block * 64, &copy).expect("a program");
        };
        assert_eq!(load(&nand, model), None);
        put(&mut nand, 10, 3, |_| (), false);
        put(&mut nand, 11, 4, |entries| entries[1].name = "young".to_owned(), false);
        put(&mut nand, 12, 5, |entries| entries[1].name = "broken".to_owned(), true);
        assert_eq!(load(&nand, model).expect("a table")[1].name, "young");
        nand.erase(11).expect("an erase");
        assert_eq!(load(&nand, model).expect("a table")[1].name, "MIBIB");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..9000), cut in 0_usize..8192) {
            let model = Model::by_name("EG25-G").expect("a model");
            let _ = decode(&bytes, model.geometry);
            let mut copy = encode(&entries(model), model.geometry, 1);
            for (at, byte) in bytes.iter().enumerate() {
                if let Some(target) = copy.get_mut(at * 7 % 8192) {
                    *target ^= *byte;
                }
            }
            copy.truncate(cut);
            let _ = decode(&copy, model.geometry);
        }
    }
}
