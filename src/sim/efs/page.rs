//! The pages of the simulated EFS: superblocks and records.
//!
//! Superblocks begin as those of Qualcomm's EFS2 are seen in raw images: the magic `EFSSuper` at byte 8, then pages
//! of a block, bytes of a page, and blocks. Everything else is the simulator's own.

use crate::domain::Geometry;
use crate::sim::page_pool::content_hash;

const SUPER_MAGIC: [u8; 8] = *b"EFSSuper";
const RECORD_MAGIC: [u8; 4] = *b"EFSr";
const RECORD_HEADER_BYTES: usize = 20;

/// What stands at the front of each block in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Superblock {
    /// Counts the compactions; the highest complete one counts.
    pub(super) generation: u32,
    /// Place of the block in its generation, from 0.
    pub(super) index: u32,
}

impl Superblock {
    /// As a page.
    pub(super) fn encode(self, geometry: Geometry, blocks: u32) -> Vec<u8> {
        let mut page = Vec::with_capacity(geometry.page_bytes as usize);
        page.extend(self.generation.to_le_bytes());
        page.extend(self.index.to_le_bytes());
        page.extend(SUPER_MAGIC);
        for word in [geometry.pages_per_block, geometry.page_bytes, blocks] {
            page.extend(word.to_le_bytes());
        }
        page.extend(content_hash(&page).to_le_bytes());
        page.resize(geometry.page_bytes as usize, 0xff);
        page
    }

    /// From a page of a storage with this geometry.
    pub(super) fn decode(page: &[u8], geometry: Geometry) -> Option<Self> {
        let word = |at: usize| page.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let sum = page.get(28..36)?.try_into().ok().map(u64::from_le_bytes);
        let sound = page[8..16] == SUPER_MAGIC
            && word(16) == Some(geometry.pages_per_block)
            && word(20) == Some(geometry.page_bytes)
            && sum == Some(content_hash(&page[..28]));
        sound.then_some(Self { generation: word(0)?, index: word(4)? })
    }
}

/// One page of the log behind a superblock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Record {
    /// An item's new content.
    Item {
        /// Its path.
        path: String,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// An item is gone.
    Removed {
        /// Its path.
        path: String,
    },
    /// Everything that a generation took over from the one before is in place.
    Complete,
}

/// Longest path and content that one record has room for together, in bytes.
pub(super) const fn room(geometry: Geometry) -> usize {
    geometry.page_bytes as usize - RECORD_HEADER_BYTES
}

impl Record {
    /// As a page; `None` when it does not fit into one.
    pub(super) fn encode(&self, geometry: Geometry) -> Option<Vec<u8>> {
        let (kind, path, data): (u32, &str, &[u8]) = match self {
            Self::Item { path, data } => (1, path, data),
            Self::Removed { path } => (2, path, &[]),
            Self::Complete => (3, "", &[]),
        };
        if path.len() + data.len() > room(geometry) {
            return None;
        }
        let mut body = Vec::with_capacity(geometry.page_bytes as usize);
        body.extend(RECORD_MAGIC);
        body.extend((kind << 24 | u32::try_from(path.len()).ok()?).to_le_bytes());
        body.extend(u32::try_from(data.len()).ok()?.to_le_bytes());
        let mut sum = content_hash(&body);
        for part in [path.as_bytes(), data] {
            sum ^= content_hash(part).rotate_left(u32::try_from(part.len() % 64).unwrap_or_default());
        }
        body.extend(sum.to_le_bytes());
        body.extend(path.as_bytes());
        body.extend(data);
        body.resize(geometry.page_bytes as usize, 0xff);
        Some(body)
    }

    /// From a page; `None` when it is no sound record.
    pub(super) fn decode(page: &[u8]) -> Option<Self> {
        if !page.starts_with(&RECORD_MAGIC) {
            return None;
        }
        let word = |at: usize| page.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let (kind, path_bytes) = (word(4)? >> 24, (word(4)? & 0x00ff_ffff) as usize);
        let path = page.get(RECORD_HEADER_BYTES..)?.get(..path_bytes)?;
        let data = page.get(RECORD_HEADER_BYTES + path_bytes..)?.get(..word(8)? as usize)?;
        let mut sum = content_hash(&page[..12]);
        for part in [path, data] {
            sum ^= content_hash(part).rotate_left(u32::try_from(part.len() % 64).unwrap_or_default());
        }
        if page.get(12..20)? != sum.to_le_bytes() {
            return None;
        }
        let path = std::str::from_utf8(path).ok()?.to_owned();
        match kind {
            1 => Some(Self::Item { path, data: data.to_vec() }),
            2 => Some(Self::Removed { path }),
            3 => Some(Self::Complete),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GEOMETRY: Geometry = Geometry { page_bytes: 2048, pages_per_block: 64 };

    fn records() -> impl Strategy<Value = Record> {
        prop_oneof![
            ("[/a-z0-9]{1,60}", proptest::collection::vec(any::<u8>(), 0..1900))
                .prop_map(|(path, data)| Record::Item { path, data }),
            "[/a-z0-9]{1,60}".prop_map(|path| Record::Removed { path }),
            Just(Record::Complete),
        ]
    }

    proptest! {
        #[test]
        fn records_round_trip_and_no_changed_bit_passes(record in records(), at in 0_usize..2048, bit in 0_u8..8) {
            let page = record.encode(GEOMETRY).expect("it fits");
            prop_assert_eq!(Record::decode(&page), Some(record.clone()));
            let mut changed = page.clone();
            changed[at] ^= 1 << bit;
            let used = page.iter().rposition(|byte| *byte != 0xff).unwrap_or_default();
            if at <= used {
                prop_assert_ne!(Record::decode(&changed), Some(record));
            }
        }

        #[test]
        fn no_page_makes_it_panic(page in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::decode(&page);
            let _ = Superblock::decode(&page, GEOMETRY);
            let mut record = RECORD_MAGIC.to_vec();
            record.extend(&page);
            let _ = Record::decode(&record);
        }
    }

    #[test]
    fn a_superblock_looks_like_a_real_one() {
        let page = Superblock { generation: 3, index: 1 }.encode(GEOMETRY, 136);
        assert_eq!(&page[8..16], &[0x45, 0x46, 0x53, 0x53, 0x75, 0x70, 0x65, 0x72]);
        assert_eq!(&page[16..28], &[64, 0, 0, 0, 0, 8, 0, 0, 136, 0, 0, 0]);
        assert_eq!(Superblock::decode(&page, GEOMETRY), Some(Superblock { generation: 3, index: 1 }));
        assert_eq!(Superblock::decode(&page, Geometry { page_bytes: 4096, ..GEOMETRY }), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let item = |bytes| Record::Item { path: "/a".to_owned(), data: vec![0; bytes] };
        assert!(item(room(GEOMETRY) - 2).encode(GEOMETRY).is_some());
        assert!(item(room(GEOMETRY) - 1).encode(GEOMETRY).is_none());
    }
}
