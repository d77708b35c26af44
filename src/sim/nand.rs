//! A NAND: pages that can be programmed once, blocks that can be erased, blocks that go bad.
//!
//! It is as unforgiving as a real one. Programming a page twice spoils it: it reads as an uncorrectable error until
//! its block is erased. So does a supply that fails while a page is programmed or a block erased. So a flasher that writes before it erases, or pads an erased area with `0xff`, fails here as
//! it fails on the line.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::domain::Geometry;
use crate::host::{Disk, Random};

use super::nand_store::{FileStore, MemoryStore, Store, index};
pub use super::page_pool::PagePool;
use super::page_pool::{HASH_MIN, content_hash};

/// Tag of an erased page.
const ERASED: u64 = 0;
/// Tag of a spoiled page. All others are content hashes.
const SPOILED: u64 = 1;

/// Blocks at the beginning that never are bad from the factory: makers guarantee the first, and a module whose boot
/// loader or table lies on a bad block was sorted out by its maker.
const FACTORY_GOOD_BLOCKS: u64 = 20;
/// Factory bad blocks are at least this far apart, so that no small partition has two.
const BAD_BLOCK_DISTANCE: u64 = 16;

/// What a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageState {
    /// Can be programmed; reads as `0xff`.
    Erased,
    /// Holds what was programmed, which may be `0xff` as well.
    Programmed,
    /// Was programmed more than once, or in work when the supply failed: cannot be read.
    Spoiled,
}

/// How a block is made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockFault {
    /// The next erase fails.
    Erase,
    /// The next program fails.
    Program,
}

/// Why a NAND did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum NandError {
    /// Beyond the end, or not whole pages within one block.
    #[error("page {page} lies outside of the storage or its block")]
    OutOfRange {
        /// The page.
        page: u64,
    },
    /// The block is marked bad.
    #[error("block {block} is bad")]
    BadBlock {
        /// The block.
        block: u64,
    },
    /// The erase failed; the block is bad now.
    #[error("erase of block {block} failed")]
    EraseFailed {
        /// The block.
        block: u64,
    },
    /// The program failed; the block is bad now.
    #[error("program in block {block} failed")]
    ProgramFailed {
        /// The block.
        block: u64,
    },
    /// The page is spoiled.
    #[error("page {page} cannot be corrected")]
    Uncorrectable {
        /// The page.
        page: u64,
    },
    /// The file behind it failed.
    #[error("the file of the simulated storage failed: {0}")]
    Store(#[from] io::Error),
}

/// The storage of one module. One owner at a time: the module's own task.
#[derive(Debug)]
pub struct Nand {
    geometry: Geometry,
    total_pages: u64,
    tags: Vec<Option<Box<[u64]>>>,
    bad: BTreeSet<u64>,
    faults: BTreeMap<u64, BlockFault>,
    /// What was programmed or erased last.
    last: Option<InWork>,
    store: Store,
}

/// What the cells of a storage are worked on by one operation: cut off in the middle of it, they hold nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InWork {
    /// A page that is programmed.
    Page(u64),
    /// A block that is erased.
    Block(u64),
}

impl Nand {
    /// An erased NAND whose pages are shared through `pool`.
    #[must_use]
    pub fn in_memory(geometry: Geometry, total_pages: u64, pool: &PagePool) -> Self {
        let blocks = index(total_pages) / geometry.pages_per_block as usize;
        let store = MemoryStore::new(pool, blocks, geometry.pages_per_block as usize);
        Self::with(geometry, total_pages, Store::Memory(store))
    }

    /// The NAND in the files `path` and `path.state`, which are made when they are not there.
    ///
    /// # Errors
    /// [`NandError::Store`] of the disk, or when the files hold a storage of another size.
    pub fn in_file(geometry: Geometry, total_pages: u64, disk: &dyn Disk, path: &Path) -> Result<Self, NandError> {
        let (store, state) = FileStore::open(disk, path, geometry, total_pages)?;
        let mut nand = Self::with(geometry, total_pages, Store::File(store));
        for (block, tags) in state.tags {
            nand.tags[block] = Some(tags);
        }
        nand.bad = state.bad.into_iter().collect();
        Ok(nand)
    }

    fn with(geometry: Geometry, total_pages: u64, store: Store) -> Self {
        let blocks = index(total_pages) / geometry.pages_per_block as usize;
        Self {
            geometry,
            total_pages,
            tags: vec![None; blocks],
            bad: BTreeSet::new(),
            faults: BTreeMap::new(),
            last: None,
            store,
        }
    }

    /// Page and block size.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Pages in all.
    #[must_use]
    pub const fn total_pages(&self) -> u64 {
        self.total_pages
    }

    /// Erase blocks in all.
    #[must_use]
    pub const fn total_blocks(&self) -> u64 {
        self.tags.len() as u64
    }

    /// Bytes of a page, as an index type.
    #[must_use]
    pub const fn page_bytes(&self) -> usize {
        self.geometry.page_bytes as usize
    }

    const fn pages_per_block(&self) -> u64 {
        self.geometry.pages_per_block as u64
    }

    fn raw_tag(&self, page: u64) -> u64 {
        let block = self.tags.get(index(page / self.pages_per_block())).and_then(Option::as_ref);
        block.map_or(ERASED, |tags| tags[index(page % self.pages_per_block())])
    }

    fn tags_of(&mut self, block: u64) -> &mut [u64] {
        let pages = self.geometry.pages_per_block as usize;
        self.tags[index(block)].get_or_insert_with(|| vec![ERASED; pages].into())
    }

    /// What a page is; pages beyond the end count as erased.
    #[must_use]
    pub fn state(&self, page: u64) -> PageState {
        match self.raw_tag(page) {
            ERASED => PageState::Erased,
            SPOILED => PageState::Spoiled,
            _ => PageState::Programmed,
        }
    }

    /// The content hash of a programmed page.
    #[must_use]
    pub fn tag(&self, page: u64) -> Option<u64> {
        Some(self.raw_tag(page)).filter(|tag| *tag >= HASH_MIN)
    }

    /// Pages that are not erased.
    #[must_use]
    pub fn used_pages(&self) -> u64 {
        self.tags.iter().flatten().flat_map(|tags| tags.iter()).filter(|tag| **tag != ERASED).count() as u64
    }

    /// Reads one page into `buffer`, which is as long as a page; an erased one reads as `0xff`.
    ///
    /// # Errors
    /// [`NandError::Uncorrectable`] for a spoiled page, [`NandError::OutOfRange`], [`NandError::Store`].
    pub fn read(&self, page: u64, buffer: &mut [u8]) -> Result<PageState, NandError> {
        if page >= self.total_pages || buffer.len() != self.page_bytes() {
            return Err(NandError::OutOfRange { page });
        }
        let state = self.state(page);
        match state {
            PageState::Erased => buffer.fill(0xff),
            PageState::Programmed => self.store.read(page, buffer)?,
            PageState::Spoiled => return Err(NandError::Uncorrectable { page }),
        }
        Ok(state)
    }

    /// Programs consecutive pages of one block. A page that is not erased is spoiled by it, as on real NAND, which
    /// does not report that.
    ///
    /// # Errors
    /// [`NandError::BadBlock`], [`NandError::ProgramFailed`] (planted; the block is bad afterwards),
    /// [`NandError::OutOfRange`], [`NandError::Store`].
    pub fn program(&mut self, page: u64, bytes: &[u8]) -> Result<(), NandError> {
        let (page_bytes, pages_per_block) = (self.page_bytes(), self.pages_per_block());
        let count = (bytes.len() / page_bytes) as u64;
        let block = page / pages_per_block;
        let fits = page % pages_per_block + count <= pages_per_block && page + count <= self.total_pages;
        if count == 0 || !bytes.len().is_multiple_of(page_bytes) || !fits {
            return Err(NandError::OutOfRange { page });
        }
        if self.is_bad(block) {
            return Err(NandError::BadBlock { block });
        }
        if self.faults.get(&block) == Some(&BlockFault::Program) {
            self.mark_bad(block)?;
            return Err(NandError::ProgramFailed { block });
        }
        if (page..page + count).all(|page| self.raw_tag(page) == ERASED) {
            let tags: Vec<u64> = bytes.chunks_exact(page_bytes).map(content_hash).collect();
            self.store.program(page, bytes, &tags)?;
            self.last = Some(InWork::Page(page + count - 1));
            let first = index(page % pages_per_block);
            self.tags_of(block)[first..first + tags.len()].copy_from_slice(&tags);
            return Ok(());
        }
        for (page, content) in (page..).zip(bytes.chunks_exact(page_bytes)) {
            let tag = if self.raw_tag(page) == ERASED { content_hash(content) } else { SPOILED };
            match tag {
                SPOILED => self.store.spoil(page, SPOILED)?,
                tag => self.store.program(page, content, &[tag])?,
            }
            self.tags_of(block)[index(page % pages_per_block)] = tag;
            self.last = Some(InWork::Page(page));
        }
        Ok(())
    }

    /// Erases a block.
    ///
    /// # Errors
    /// [`NandError::BadBlock`], [`NandError::EraseFailed`] (planted; the block is bad afterwards),
    /// [`NandError::OutOfRange`], [`NandError::Store`].
    pub fn erase(&mut self, block: u64) -> Result<(), NandError> {
        let pages = self.pages_per_block();
        if block >= self.total_blocks() {
            return Err(NandError::OutOfRange { page: block.saturating_mul(pages) });
        }
        if self.is_bad(block) {
            return Err(NandError::BadBlock { block });
        }
        if self.faults.get(&block) == Some(&BlockFault::Erase) {
            self.mark_bad(block)?;
            return Err(NandError::EraseFailed { block });
        }
        self.last = Some(InWork::Block(block));
        if self.tags[index(block)].is_some() {
            self.store.erase(block * pages, pages)?;
            self.tags[index(block)] = None;
        }
        Ok(())
    }

    /// What was programmed or erased last: what is in work as long as that goes on.
    #[must_use]
    pub const fn last_in_work(&self) -> Option<InWork> {
        self.last
    }

    /// The supply fails in the middle of an operation: what it was at cannot be read until its block is erased.
    ///
    /// # Errors
    /// [`NandError::Store`].
    pub fn tear(&mut self, work: InWork) -> Result<(), NandError> {
        let per_block = self.pages_per_block();
        let pages = match work {
            InWork::Page(page) => page..page + 1,
            InWork::Block(block) => block * per_block..(block + 1) * per_block,
        };
        for page in pages {
            self.store.spoil(page, SPOILED)?;
            self.tags_of(page / per_block)[index(page % per_block)] = SPOILED;
        }
        Ok(())
    }

    /// Whether a block is bad.
    #[must_use]
    pub fn is_bad(&self, block: u64) -> bool {
        self.bad.contains(&block)
    }

    /// The bad blocks of a range of blocks, ascending.
    pub fn bad_in(&self, blocks: std::ops::Range<u64>) -> impl Iterator<Item = u64> + '_ {
        self.bad.range(blocks).copied()
    }

    /// How many blocks are bad.
    #[must_use]
    pub fn bad_blocks(&self) -> u32 {
        u32::try_from(self.bad.len()).unwrap_or(u32::MAX)
    }

    /// Marks a block bad.
    ///
    /// # Errors
    /// [`NandError::OutOfRange`], [`NandError::Store`].
    pub fn mark_bad(&mut self, block: u64) -> Result<(), NandError> {
        if block >= self.total_blocks() {
            return Err(NandError::OutOfRange { page: block.saturating_mul(self.pages_per_block()) });
        }
        self.store.mark_bad(block)?;
        self.faults.remove(&block);
        self.bad.insert(block);
        Ok(())
    }

    /// Makes the next operation of a kind fail on a block, which goes bad by it. Forgotten on a restart.
    pub fn fail_next(&mut self, block: u64, fault: BlockFault) {
        self.faults.insert(block, fault);
    }

    /// Marks up to `count` factory bad blocks at places that `seed` decides.
    ///
    /// # Errors
    /// [`NandError::Store`].
    pub fn scatter_bad_blocks(&mut self, seed: u64, count: u32) -> Result<(), NandError> {
        let random = Random::seeded(seed);
        let span = self.total_blocks().saturating_sub(FACTORY_GOOD_BLOCKS);
        if span == 0 {
            return Ok(());
        }
        for _ in 0..count {
            let block = FACTORY_GOOD_BLOCKS + random.next_u64() % span;
            let near = block.saturating_sub(BAD_BLOCK_DISTANCE)..block + BAD_BLOCK_DISTANCE;
            if self.bad_in(near).next().is_none() {
                self.mark_bad(block)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
