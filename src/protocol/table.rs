//! The partition table of a NAND module: where its calibration lies, and where everything else does.
//!
//! The table lies in the MIBIB partition, once per erase block: a header page with an age, then the system table, a
//! user table and a page of checksums. The boot loader writes a new copy with a greater age before it gives up an old
//! one, so the newest copy that is complete is the valid one. A copy that was torn by a power loss is passed over. A
//! copy that is complete but contradicts itself is *not*: the module would go by it, so an older one must not be
//! believed in its place.
//!
//! The checksums are not looked at: packages ship them unfilled, and flashers leave them so.

use crate::domain::limits::{DEVICE_TEXT_CHARS_MAX, PARTITIONS_MAX};
use crate::domain::text::printable_bytes;
use crate::domain::{Geometry, PageRange};

/// First words of a header page.
const HEADER_MAGIC: [u32; 2] = [0xfe56_9fac, 0xcd7f_127a];
/// First words of a system table's page.
const TABLE_MAGIC: [u32; 2] = [0x55ee_73aa, 0xe35e_bddb];
/// Bytes before the first entry: two magic words, version, count.
const TABLE_HEADER_BYTES: usize = 16;
/// Bytes of an entry: name, first block, length in blocks, attributes.
const ENTRY_BYTES: usize = 28;
const NAME_BYTES: usize = 16;
/// What an erased word reads as.
const BLANK: u32 = u32::MAX;
/// Lengths that stand for "to the end of the storage"; the vendor's tools fill in the real one late or never.
const GROWS: [u32; 3] = [u32::MAX, 0xffff, 0];

/// One partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// Its name without the `0:` in front, printable ASCII.
    pub name: String,
    /// Its first erase block.
    pub start_block: u64,
    /// Its length in erase blocks; 0 where it [`grows`](Self::grows).
    pub blocks: u64,
    /// It goes to the end of the storage, wherever that is.
    pub grows: bool,
}

/// A partition table whose partitions have unique names and do not overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionTable {
    partitions: Vec<Partition>,
    age: u32,
}

/// Why a partition table cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No copy is complete.
    #[error("there is no complete copy of the partition table")]
    NoCopy,
    /// Two copies of the same age differ.
    #[error("two copies of the partition table have the age {age} and differ")]
    Ambiguous {
        /// Their age.
        age: u32,
    },
    /// A count that no real table has, or that the page has no room for.
    #[error("the partition table claims {count} partitions")]
    Count {
        /// What it claims.
        count: u32,
    },
    /// A name that is empty or not printable ASCII.
    #[error("partition {index} has no usable name: \"{name}\"")]
    Name {
        /// Which entry, from 0.
        index: usize,
        /// The name, printable.
        name: String,
    },
    /// Two partitions with one name.
    #[error("the partition table has two partitions {name}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A partition without a length that is not the last one.
    #[error("the partition {name} has no length")]
    NoLength {
        /// The partition.
        name: String,
    },
    /// Two partitions share blocks.
    #[error("the partitions {first} and {second} overlap")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A partition ends beyond the storage.
    #[error("the partition {name} ends beyond the storage of {total_pages} pages")]
    BeyondStorage {
        /// The partition.
        name: String,
        /// Pages of the storage.
        total_pages: u64,
    },
}

impl PartitionTable {
    /// Reads the table from the pages of a MIBIB partition, or from a package's image of one. `bytes` are whole pages
    /// from the partition's first block on.
    ///
    /// # Errors
    /// When no copy is complete, or the newest complete one contradicts itself.
    pub fn parse_mibib(bytes: &[u8], geometry: Geometry) -> Result<Self, TableError> {
        let page_bytes = usize::try_from(geometry.page_bytes).unwrap_or(usize::MAX);
        let block_bytes = usize::try_from(geometry.block_bytes()).unwrap_or(usize::MAX);
        if page_bytes < TABLE_HEADER_BYTES || block_bytes < page_bytes {
            return Err(TableError::NoCopy);
        }
        let mut newest: Option<(u32, &[u8])> = None;
        let mut ambiguous = None;
        for block in bytes.chunks(block_bytes) {
            let Some((age, page)) = complete_copy(block, page_bytes) else { continue };
            match newest {
                Some((newest_age, _)) if newest_age > age => {}
                Some((newest_age, other)) if newest_age == age => {
                    if other != page {
                        ambiguous = Some(age);
                    }
                }
                _ => newest = Some((age, page)),
            }
        }
        let (age, page) = newest.ok_or(TableError::NoCopy)?;
        if ambiguous == Some(age) {
            return Err(TableError::Ambiguous { age });
        }
        Ok(Self { partitions: entries(page)?, age })
    }

    /// A table of partitions in their order, as a list names them that is no image of a table.
    ///
    /// # Errors
    /// When their number, names or places contradict each other.
    pub fn from_partitions(partitions: Vec<Partition>) -> Result<Self, TableError> {
        if partitions.is_empty() || partitions.len() > PARTITIONS_MAX {
            return Err(TableError::Count { count: u32::try_from(partitions.len()).unwrap_or(u32::MAX) });
        }
        for (index, partition) in partitions.iter().enumerate() {
            entry_name(index, partition.name.as_bytes())?;
            let name = partition.name.clone();
            if partitions[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
                return Err(TableError::Duplicate { name });
            }
            if partition.grows && index + 1 != partitions.len() {
                return Err(TableError::NoLength { name });
            }
        }
        check_overlaps(&partitions)?;
        Ok(Self { partitions, age: 0 })
    }

    /// Whether these are the first bytes of a table's image.
    #[must_use]
    pub fn is_mibib(bytes: &[u8]) -> bool {
        word(bytes, 0) == Some(HEADER_MAGIC[0]) && word(bytes, 4) == Some(HEADER_MAGIC[1])
    }

    /// All partitions, in the table's order.
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The age of the copy that was read; a greater one is newer. 0 for a table that is no copy.
    #[must_use]
    pub const fn age(&self) -> u32 {
        self.age
    }

    /// The partition of that name, upper and lower case alike, with or without `0:`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Partition> {
        let name = name.strip_prefix("0:").unwrap_or(name);
        self.partitions.iter().find(|partition| partition.name.eq_ignore_ascii_case(name))
    }

    /// The partition in which `range` lies completely.
    #[must_use]
    pub fn holder(&self, range: PageRange, geometry: Geometry, total_pages: u64) -> Option<&Partition> {
        self.partitions.iter().find(|partition| self.range(partition, geometry, total_pages).contains(range))
    }

    /// The pages of a partition. One that grows ends with the storage of `total_pages`.
    #[must_use]
    pub fn range(&self, partition: &Partition, geometry: Geometry, total_pages: u64) -> PageRange {
        let pages_per_block = u64::from(geometry.pages_per_block);
        let start = partition.start_block.saturating_mul(pages_per_block);
        let pages = if partition.grows {
            total_pages.saturating_sub(start)
        } else {
            partition.blocks.saturating_mul(pages_per_block)
        };
        PageRange { start, pages }
    }

    /// Checks that every partition lies in the storage.
    ///
    /// # Errors
    /// [`TableError::BeyondStorage`].
    pub fn check_fits(&self, geometry: Geometry, total_pages: u64) -> Result<(), TableError> {
        for partition in &self.partitions {
            let range = self.range(partition, geometry, total_pages);
            if range.pages == 0 || range.end() > total_pages {
                return Err(TableError::BeyondStorage { name: partition.name.clone(), total_pages });
            }
        }
        Ok(())
    }
}

/// Age and system-table page of the copy in a block; `None` when the block has none, or a torn one.
fn complete_copy(block: &[u8], page_bytes: usize) -> Option<(u32, &[u8])> {
    let header = block.get(..page_bytes)?;
    let table = block.get(page_bytes..page_bytes.checked_mul(2)?)?;
    let age = word(header, 12)?;
    let is_complete = PartitionTable::is_mibib(header)
        && [word(table, 0)?, word(table, 4)?] == TABLE_MAGIC
        && ![age, word(table, 8)?, word(table, 12)?].contains(&BLANK);
    is_complete.then_some((age, table))
}

fn entries(page: &[u8]) -> Result<Vec<Partition>, TableError> {
    let count = word(page, 12).unwrap_or(0);
    let room = (page.len() - TABLE_HEADER_BYTES) / ENTRY_BYTES;
    let entries = match usize::try_from(count) {
        Ok(entries) if entries > 0 && entries <= PARTITIONS_MAX.min(room) => entries,
        _ => return Err(TableError::Count { count }),
    };
    let mut partitions: Vec<Partition> = Vec::with_capacity(entries);
    for (index, entry) in page[TABLE_HEADER_BYTES..].chunks_exact(ENTRY_BYTES).take(entries).enumerate() {
        let name = entry_name(index, &entry[..NAME_BYTES])?;
        if partitions.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
            return Err(TableError::Duplicate { name });
        }
        let blocks = word(entry, NAME_BYTES + 4).unwrap_or(0);
        let grows = GROWS.contains(&blocks);
        if grows && index + 1 != entries {
            return Err(TableError::NoLength { name });
        }
        let start_block = u64::from(word(entry, NAME_BYTES).unwrap_or(0));
        partitions.push(Partition { name, start_block, blocks: if grows { 0 } else { blocks.into() }, grows });
    }
    check_overlaps(&partitions)?;
    Ok(partitions)
}

fn entry_name(index: usize, bytes: &[u8]) -> Result<String, TableError> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let name = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    let name = name.strip_prefix("0:").unwrap_or(name);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TableError::Name { index, name: printable_bytes(&bytes[..end], DEVICE_TEXT_CHARS_MAX) });
    }
    Ok(name.to_owned())
}

fn check_overlaps(partitions: &[Partition]) -> Result<(), TableError> {
    let mut sorted: Vec<&Partition> = partitions.iter().collect();
    sorted.sort_by_key(|partition| partition.start_block);
    for pair in sorted.windows(2) {
        let [first, second] = pair else { continue };
        if first.grows || first.start_block + first.blocks > second.start_block {
            let (first, second) = (first.name.clone(), second.name.clone());
            return Err(TableError::Overlap { first, second });
        }
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const GEOMETRY: Geometry = Geometry { page_bytes: 2048, pages_per_block: 64 };
    const BLOCK: usize = 2048 * 64;

    /// Name, first block and length of each partition.
    type Entries<'a> = &'a [(&'a str, u32, u32)];

    /// The first four pages of a MIBIB partition: an encoder for tests only.
    pub(crate) fn encode(geometry: Geometry, age: u32, entries: &[(&str, u32, u32)]) -> Vec<u8> {
        let page_bytes = geometry.page_bytes as usize;
        let mut bytes = vec![0xff; page_bytes * 4];
        let mut put = |page: usize, at: usize, words: &[u32]| {
            for (index, word) in words.iter().enumerate() {
                let at = page * page_bytes + at + index * 4;
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
        };
        put(0, 0, &[HEADER_MAGIC[0], HEADER_MAGIC[1], 4, age]);
        put(1, 0, &[TABLE_MAGIC[0], TABLE_MAGIC[1], 4, u32::try_from(entries.len()).expect("few entries")]);
        put(2, 0, &[0xaa7d_1b9a, 0x1f7d_48bc, 4, 0]);
        for (index, (_, start, blocks)) in entries.iter().enumerate() {
            put(1, 16 + 28 * index + 16, &[*start, *blocks, 0xff01_00ff]);
        }
        for (index, (name, ..)) in entries.iter().enumerate() {
            let at = page_bytes + 16 + 28 * index;
            bytes[at..at + 16].fill(0);
            bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
        }
        bytes
    }

    fn padded(copy: Vec<u8>) -> Vec<u8> {
        let mut block = copy;
        block.resize(BLOCK, 0xff);
        block
    }

    #[test]
    fn a_table_is_read_and_its_last_partition_grows() {
        let bytes = encode(GEOMETRY, 1, &[("0:SBL", 0, 10), ("0:EFS2", 10, 20), ("0:system", 30, u32::MAX)]);
        let table = PartitionTable::parse_mibib(&bytes, GEOMETRY).expect("a table");
        let efs = table.find("0:efs2").expect("the EFS");
        assert_eq!(table.range(efs, GEOMETRY, 4096), PageRange { start: 640, pages: 1280 });
        let system = table.find("SYSTEM").expect("the system");
        assert!(system.grows);
        assert_eq!(table.range(system, GEOMETRY, 4096), PageRange { start: 1920, pages: 4096 - 1920 });
        assert_eq!(
            table.holder(PageRange { start: 700, pages: 64 }, GEOMETRY, 4096).map(|p| p.name.as_str()),
            Some("EFS2")
        );
        assert_eq!(table.holder(PageRange { start: 600, pages: 64 }, GEOMETRY, 4096), None);
        assert!(table.check_fits(GEOMETRY, 4096).is_ok());
        assert!(matches!(table.check_fits(GEOMETRY, 1920), Err(TableError::BeyondStorage { .. })));
        assert!(matches!(table.check_fits(GEOMETRY, 1900), Err(TableError::BeyondStorage { .. })));
    }

    /// The vendor's patch for the length of its 17th partition is at byte 484 of the table's page.
    #[test]
    fn entries_lie_where_the_vendors_patches_say() {
        let names: Vec<String> = (0..17).map(|n| format!("0:p{n}")).collect();
        let entries: Vec<(&str, u32, u32)> =
            names.iter().zip(0u32..).map(|(name, start)| (name.as_str(), start, 1)).collect();
        let mut bytes = encode(GEOMETRY, 1, &entries);
        bytes[2048 + 484..2048 + 488].copy_from_slice(&77u32.to_le_bytes());
        let table = PartitionTable::parse_mibib(&bytes, GEOMETRY).expect("a table");
        assert_eq!(table.partitions()[16].blocks, 77);
    }

    #[test]
    fn the_newest_complete_copy_wins() {
        let old = padded(encode(GEOMETRY, 3, &[("0:SBL", 0, 10)]));
        let new = padded(encode(GEOMETRY, 4, &[("0:SBL", 0, 11)]));
        let mut torn = padded(encode(GEOMETRY, 5, &[("0:SBL", 0, 12)]));
        torn[2048..4096].fill(0xff);
        let blank = vec![0xff; BLOCK];
        let bytes = [blank.clone(), old.clone(), torn, new.clone(), blank].concat();
        let table = PartitionTable::parse_mibib(&bytes, GEOMETRY).expect("a table");
        assert_eq!((table.age(), table.partitions()[0].blocks), (4, 11));

        let other = padded(encode(GEOMETRY, 4, &[("0:SBL", 0, 12)]));
        let ambiguous = [new.clone(), old, other].concat();
        assert_eq!(PartitionTable::parse_mibib(&ambiguous, GEOMETRY), Err(TableError::Ambiguous { age: 4 }));
        assert!(PartitionTable::parse_mibib(&[new.clone(), new].concat(), GEOMETRY).is_ok());
    }

    #[test]
    fn contradictions_are_refused_also_where_an_older_copy_is_sound() {
        let old = padded(encode(GEOMETRY, 1, &[("0:SBL", 0, 10)]));
        let cases: &[(Entries<'_>, TableError)] = &[
            (&[("0:A", 0, 10), ("0:B", 9, 5)], TableError::Overlap { first: "A".to_owned(), second: "B".to_owned() }),
            (&[("0:A", 0, 10), ("0:a", 10, 5)], TableError::Duplicate { name: "a".to_owned() }),
            (&[("0:A", 0, u32::MAX), ("0:B", 9, 5)], TableError::NoLength { name: "A".to_owned() }),
            (
                &[("0:A", 5, 5), ("0:B", 0, 0xffff)],
                TableError::Overlap { first: "B".to_owned(), second: "A".to_owned() },
            ),
            (&[("0:", 0, 5)], TableError::Name { index: 0, name: "0:".to_owned() }),
            (&[("a\u{1b}b", 0, 5)], TableError::Name { index: 0, name: "a\\u{1b}b".to_owned() }),
        ];
        for (entries, expected) in cases {
            let bytes = [old.clone(), padded(encode(GEOMETRY, 2, entries))].concat();
            assert_eq!(PartitionTable::parse_mibib(&bytes, GEOMETRY).as_ref(), Err(expected));
        }
        for count in [0u32, 65, 0x00ff_ffff] {
            let mut bytes = encode(GEOMETRY, 2, &[("0:A", 0, 1)]);
            bytes[2048 + 12..2048 + 16].copy_from_slice(&count.to_le_bytes());
            assert_eq!(PartitionTable::parse_mibib(&bytes, GEOMETRY), Err(TableError::Count { count }));
        }
        assert_eq!(PartitionTable::parse_mibib(&[], GEOMETRY), Err(TableError::NoCopy));
        assert_eq!(PartitionTable::parse_mibib(&[0xff; BLOCK], GEOMETRY), Err(TableError::NoCopy));
    }

    proptest! {
        #[test]
        fn tables_round_trip(lengths in prop::collection::vec((1u32..1000, 0u32..10), 1..=60), age in 0u32..1000) {
            let mut start = 0;
            let mut entries = Vec::new();
            let names: Vec<String> = (0..lengths.len()).map(|n| format!("0:part{n}")).collect();
            for (name, (blocks, gap)) in names.iter().zip(&lengths) {
                entries.push((name.as_str(), start, *blocks));
                start += blocks + gap;
            }
            let table = PartitionTable::parse_mibib(&encode(GEOMETRY, age, &entries), GEOMETRY).expect("a table");
            prop_assert_eq!(table.age(), age);
            prop_assert_eq!(table.partitions().len(), entries.len());
            for (partition, (name, start, blocks)) in table.partitions().iter().zip(&entries) {
                prop_assert_eq!(format!("0:{}", partition.name), *name);
                prop_assert_eq!((partition.start_block, partition.blocks), (u64::from(*start), u64::from(*blocks)));
            }
        }

        #[test]
        fn no_mutation_panics(at in 0usize..4096, with in prop::collection::vec(any::<u8>(), 1..40), total in 0u64..1 << 20) {
            let mut bytes = encode(GEOMETRY, 1, &[("0:SBL", 0, 10), ("0:EFS2", 10, 20), ("0:sys", 30, u32::MAX)]);
            for (index, byte) in with.iter().enumerate() {
                bytes[(at + index) % 8192] = *byte;
            }
            if let Ok(table) = PartitionTable::parse_mibib(&bytes, GEOMETRY) {
                let fits = table.check_fits(GEOMETRY, total).is_ok();
                let ends = table.partitions().iter().all(|p| table.range(p, GEOMETRY, total).end() <= total);
                prop_assert!(!fits || ends);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000), page_bytes in 0u32..5000, ppb in 0u32..70) {
            let _ = PartitionTable::parse_mibib(&bytes, Geometry { page_bytes, pages_per_block: ppb });
        }
    }
}
