//! Pages shared by all modules of a factory.
//!
//! Sixty-four modules that are flashed with one package hold the same pages sixty-four times; here they hold them
//! once. A page is looked up by its content hash and compared in full, so that a collision costs memory and never
//! content. The hash stays with the page: a boot that checks images of 30 MB reads hashes, not bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Number of separately locked parts of a pool.
const SHARDS: usize = 16;
/// A shard is swept when it has at least this many entries, and twice as many as after its last sweep.
const SWEEP_ENTRIES_MIN: usize = 256;

/// The content of a page.
#[derive(Debug)]
pub(super) struct Page {
    bytes: Box<[u8]>,
    live: Arc<AtomicU64>,
}

impl Page {
    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.live.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Shard {
    pages: HashMap<u64, Weak<Page>>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Inner {
    shards: [Mutex<Shard>; SHARDS],
    live: Arc<AtomicU64>,
}

/// A pool of pages. Clones share it.
#[derive(Debug, Clone)]
pub struct PagePool {
    inner: Arc<Inner>,
}

impl Default for PagePool {
    fn default() -> Self {
        Self::new()
    }
}

impl PagePool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(Shard::default()));
        Self { inner: Arc::new(Inner { shards, live: Arc::default() }) }
    }

    /// Bytes of all pages that are held at present, each counted once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.live.load(Ordering::Relaxed)
    }

    /// The page with this content and its hash (of [`content_hash`]): an existing one, or a new one.
    pub(super) fn page(&self, hash: u64, bytes: &[u8]) -> Arc<Page> {
        let position = usize::try_from(hash >> 60).expect("four bits fit in a usize");
        let mut shard = self.inner.shards[position].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = shard.pages.get(&hash).and_then(Weak::upgrade) {
            if page.bytes() == bytes {
                return page;
            }
            // Two contents with one hash: the second is simply not shared.
            return self.make(bytes);
        }
        let page = self.make(bytes);
        shard.pages.insert(hash, Arc::downgrade(&page));
        if shard.pages.len() >= shard.sweep_at.max(SWEEP_ENTRIES_MIN) {
            shard.pages.retain(|_, page| page.strong_count() > 0);
            shard.sweep_at = shard.pages.len() * 2;
        }
        page
    }

    fn make(&self, bytes: &[u8]) -> Arc<Page> {
        self.inner.live.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Arc::new(Page { bytes: bytes.into(), live: Arc::clone(&self.inner.live) })
    }
}

const MULTIPLIER: u64 = 0x9e37_79b1_85eb_ca87;
const LANES: usize = 4;
/// The lower values are left to storage, as tags of pages without content.
pub(super) const HASH_MIN: u64 = 2;

/// A 64-bit hash of a page's content, never below [`HASH_MIN`]. Not cryptographic: it tells the pages of one factory
/// apart.
#[must_use]
pub(super) fn content_hash(bytes: &[u8]) -> u64 {
    let mut lanes = [1_u64, 2, 3, 4].map(|lane| lane.wrapping_mul(MULTIPLIER));
    let (chunks, remainder) = bytes.as_chunks::<{ 8 * LANES }>();
    for chunk in chunks {
        // By index: this is most of what a unit's birth costs where nothing is optimised.
        let words = chunk.as_chunks::<8>().0;
        let mut lane = 0;
        while lane < LANES {
            let word = u64::from_le_bytes(words[lane]);
            lanes[lane] = (lanes[lane] ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
            lane += 1;
        }
    }
    let mut hash = bytes.len() as u64;
    for lane in lanes {
        hash = mix(hash ^ lane);
    }
    for chunk in remainder.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word));
    }
    hash.max(HASH_MIN)
}

/// Spreads a word over all its bits; a bijection (the finaliser of SplitMix64).
#[must_use]
pub(super) const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pages_are_held_once_and_given_back() {
        let pool = PagePool::new();
        let page = |value: u8| {
            let bytes = [value; 2048];
            pool.page(content_hash(&bytes), &bytes)
        };
        let kept: Vec<_> = (0..64).map(|_| page(7)).collect();
        assert_eq!(pool.bytes(), 2048);
        let other = page(8);
        assert_eq!(pool.bytes(), 4096);
        drop((kept, other));
        assert_eq!(pool.bytes(), 0);
    }

    #[test]
    fn a_collision_never_gives_foreign_content() {
        let pool = PagePool::new();
        let first = pool.page(5, &[1; 64]);
        let second = pool.page(5, &[2; 64]);
        assert_eq!((first.bytes()[0], second.bytes()[0]), (1, 2));
    }

    #[test]
    fn dead_entries_do_not_pile_up() {
        let pool = PagePool::new();
        for value in 0..100_000_u64 {
            let bytes = value.to_le_bytes();
            drop(pool.page(content_hash(&bytes), &bytes));
        }
        let entries: usize = pool
            .inner
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).pages.len())
            .sum();
        assert!(entries <= SHARDS * SWEEP_ENTRIES_MIN, "{entries}");
    }

    #[test]
    fn every_byte_counts_in_the_hash() {
        let base = vec![0xff; 2051];
        let hash = content_hash(&base);
        for position in [0, 7, 8, 31, 32, 2047, 2048, 2050] {
            let mut changed = base.clone();
            changed[position] ^= 1;
            assert_ne!(content_hash(&changed), hash, "{position}");
        }
    }
}
