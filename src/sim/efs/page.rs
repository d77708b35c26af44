//! The pages of the simulated EFS: superblocks and records.
//!
//! Superblocks begin as those of Qualcomm's EFS2 are seen in raw images: the magic `EFSSuper` at byte 8, then pages
//! of a block, bytes of a page, and blocks. Everything else is the simulator's own.

use std::borrow::Cow;

use super::tree::{Node, NodeKind};
use crate::domain::Geometry;
use crate::sim::page_pool::content_hash;

const SUPER_MAGIC: [u8; 8] = *b"EFSSuper";
const RECORD_MAGIC: [u8; 4] = *b"EFSr";
const RECORD_HEADER_BYTES: usize = 20;
/// Bytes of the number in front of the content of a file's record.
const NUMBER_BYTES: usize = 4;

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
    /// A part of an ordinary file that is longer than a page, before its last one.
    Piece {
        /// The file's path.
        path: String,
        /// Which part, from 0.
        index: u32,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// An ordinary file's new content: what its pieces hold, and this. Without all of its pieces it does not count.
    File {
        /// Its path.
        path: String,
        /// How many pieces stand before it.
        pieces: u32,
        /// Its last bytes.
        data: Vec<u8>,
    },
    /// A directory.
    Directory {
        /// Its path.
        path: String,
    },
    /// A node is gone.
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

/// Bytes of an ordinary file that one record holds.
const fn piece_bytes(path: &str, geometry: Geometry) -> usize {
    let bytes = room(geometry).saturating_sub(path.len() + NUMBER_BYTES);
    if bytes == 0 { 1 } else { bytes }
}

/// How many records put a node in place.
pub(super) const fn record_count(path: &str, node: &Node, geometry: Geometry) -> usize {
    match node.kind {
        NodeKind::File if !node.data.is_empty() => node.data.len().div_ceil(piece_bytes(path, geometry)),
        _ => 1,
    }
}

/// The records that put a node in place, to be written one after the other. An item that is longer than a page gives
/// one that cannot be encoded.
pub(super) fn records_of(path: &str, node: &Node, geometry: Geometry) -> Vec<Record> {
    let path = path.to_owned();
    match node.kind {
        NodeKind::Item => vec![Record::Item { path, data: node.data.clone() }],
        NodeKind::Directory => vec![Record::Directory { path }],
        NodeKind::File => {
            let mut pieces: Vec<Vec<u8>> = node.data.chunks(piece_bytes(&path, geometry)).map(<[u8]>::to_vec).collect();
            let data = pieces.pop().unwrap_or_default();
            let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
            let piece = |(index, data)| Record::Piece { path: path.clone(), index, data };
            let mut records: Vec<Record> = (0..).zip(pieces).map(piece).collect();
            records.push(Record::File { path, pieces: count, data });
            records
        }
    }
}

impl Record {
    /// As a page; `None` when it does not fit into one.
    pub(super) fn encode(&self, geometry: Geometry) -> Option<Vec<u8>> {
        let numbered = |number: &u32, data: &[u8]| [&number.to_le_bytes(), data].concat();
        let (kind, path, data): (u32, &str, Cow<'_, [u8]>) = match self {
            Self::Item { path, data } => (1, path, Cow::Borrowed(data)),
            Self::Removed { path } => (2, path, Cow::default()),
            Self::Complete => (3, "", Cow::default()),
            Self::Piece { path, index, data } => (4, path, numbered(index, data).into()),
            Self::File { path, pieces, data } => (5, path, numbered(pieces, data).into()),
            Self::Directory { path } => (6, path, Cow::default()),
        };
        let data = data.as_ref();
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
        let numbered = || data.split_first_chunk().map(|(number, data)| (u32::from_le_bytes(*number), data.to_vec()));
        match kind {
            1 => Some(Self::Item { path, data: data.to_vec() }),
            2 => Some(Self::Removed { path }),
            3 => Some(Self::Complete),
            4 => numbered().map(|(index, data)| Self::Piece { path, index, data }),
            5 => numbered().map(|(pieces, data)| Self::File { path, pieces, data }),
            6 => Some(Self::Directory { path }),
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
            ("[/a-z0-9]{1,60}", any::<u32>(), proptest::collection::vec(any::<u8>(), 0..1900))
                .prop_map(|(path, index, data)| Record::Piece { path, index, data }),
            ("[/a-z0-9]{1,60}", any::<u32>(), proptest::collection::vec(any::<u8>(), 0..1900))
                .prop_map(|(path, pieces, data)| Record::File { path, pieces, data }),
            "[/a-z0-9]{1,60}".prop_map(|path| Record::Directory { path }),
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
    fn records_are_counted_without_being_made() {
        for bytes in [0, 1, 2021, 2022, 2023, 2 * 2022, 2 * 2022 + 1] {
            for kind in [NodeKind::Item, NodeKind::File, NodeKind::Directory] {
                let node = Node { kind, data: vec![0; bytes] };
                assert_eq!(record_count("/f", &node, GEOMETRY), records_of("/f", &node, GEOMETRY).len(), "{bytes}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let item = |bytes| Record::Item { path: "/a".to_owned(), data: vec![0; bytes] };
        assert!(item(room(GEOMETRY) - 2).encode(GEOMETRY).is_some());
        assert!(item(room(GEOMETRY) - 1).encode(GEOMETRY).is_none());
    }
}
