//! Where the pages of a simulated NAND live: in memory, shared between modules, or in a sparse file.
//!
//! The file form is for stations with many modules and for restarts. A module has two files: its pages, and one tag
//! per page that says what the page is. A page's bytes are written before its tag, and an erase clears the tags
//! before it gives the space back; so a process that is killed between two calls leaves a NAND in which the last
//! operation either happened or did not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::Geometry;
use crate::host::{Disk, WriteAt};

use super::page_pool::{Page, PagePool};

/// First bytes of the description at the end of a state file.
const STATE_MAGIC: [u8; 8] = *b"SIMNAND1";
const DESCRIPTION_BYTES: u64 = 24;
const TAG_BYTES: u64 = 8;
/// Tags read at once when a file is opened.
const TAGS_PER_READ: u64 = 8192;

/// The pages of one module.
#[derive(Debug)]
pub(super) enum Store {
    /// In memory.
    Memory(MemoryStore),
    /// In files.
    File(FileStore),
}

/// The pages of a block that was written to.
type BlockPages = Box<[Option<Arc<Page>>]>;

/// Pages in memory.
#[derive(Debug)]
pub(super) struct MemoryStore {
    pool: PagePool,
    blocks: Vec<Option<BlockPages>>,
    pages_per_block: usize,
}

impl MemoryStore {
    /// An empty store.
    pub(super) fn new(pool: &PagePool, blocks: usize, pages_per_block: usize) -> Self {
        Self { pool: pool.clone(), blocks: vec![None; blocks], pages_per_block }
    }

    fn slot(&mut self, page: usize) -> &mut Option<Arc<Page>> {
        let pages = self.pages_per_block;
        let block = self.blocks[page / pages].get_or_insert_with(|| vec![None; pages].into());
        &mut block[page % pages]
    }
}

/// Pages in a sparse file, tags and bad blocks in a second one.
#[derive(Debug)]
pub(super) struct FileStore {
    data: Box<dyn WriteAt>,
    state: Box<dyn WriteAt>,
    page_bytes: u64,
    total_pages: u64,
}

/// What a state file says about a page or block that is not blank: tags of whole blocks, and bad blocks.
pub(super) struct FileState {
    /// Block number and the tags of its pages, for blocks with any tag that is not 0.
    pub(super) tags: Vec<(usize, Box<[u64]>)>,
    /// Bad blocks.
    pub(super) bad: Vec<u64>,
}

impl FileStore {
    /// Opens the files of a module, or makes them.
    ///
    /// # Errors
    /// Of the disk; `InvalidData` when the files are those of another storage.
    pub(super) fn open(
        disk: &dyn Disk,
        path: &Path,
        geometry: Geometry,
        total_pages: u64,
    ) -> io::Result<(Self, FileState)> {
        let data = disk.open_write(path)?;
        let state = disk.open_write(&state_path(path))?;
        let store = Self { data, state, page_bytes: u64::from(geometry.page_bytes), total_pages };
        let blocks = total_pages / u64::from(geometry.pages_per_block);
        let mut description = [0; 24];
        description[..8].copy_from_slice(&STATE_MAGIC);
        description[8..12].copy_from_slice(&geometry.page_bytes.to_le_bytes());
        description[12..16].copy_from_slice(&geometry.pages_per_block.to_le_bytes());
        description[16..].copy_from_slice(&total_pages.to_le_bytes());
        let at = store.bad_offset(blocks);
        // The description is written before anything else: a shorter file has no content yet.
        if store.state.bytes()? < at + DESCRIPTION_BYTES {
            store.state.write_all_at(&description, at)?;
            return Ok((store, FileState { tags: Vec::new(), bad: Vec::new() }));
        }
        let mut found = [0; 24];
        store.state.read_exact_at(&mut found, at)?;
        if found != description {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the files hold another kind of storage"));
        }
        let tags = store.read_tags(geometry.pages_per_block as usize)?;
        let mut flags = vec![0; usize::try_from(blocks).unwrap_or_default()];
        store.state.read_exact_at(&mut flags, store.bad_offset(0))?;
        let bad = (0..).zip(&flags).filter(|(_, flag)| **flag != 0).map(|(block, _)| block).collect();
        Ok((store, FileState { tags, bad }))
    }

    fn read_tags(&self, pages_per_block: usize) -> io::Result<Vec<(usize, Box<[u64]>)>> {
        let mut tags = Vec::new();
        let mut block = 0;
        let mut page = 0;
        while page < self.total_pages {
            let count = TAGS_PER_READ.min(self.total_pages - page);
            let mut bytes = vec![0; usize::try_from(count * TAG_BYTES).unwrap_or_default()];
            self.state.read_exact_at(&mut bytes, page * TAG_BYTES)?;
            for chunk in bytes.chunks(pages_per_block * 8) {
                if chunk.iter().any(|byte| *byte != 0) {
                    let word = |word: &[u8]| u64::from_le_bytes(word.try_into().expect("chunks of eight bytes"));
                    tags.push((block, chunk.chunks_exact(8).map(word).collect()));
                }
                block += 1;
            }
            page += count;
        }
        Ok(tags)
    }

    const fn bad_offset(&self, block: u64) -> u64 {
        self.total_pages * TAG_BYTES + block
    }
}

fn state_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".state");
    PathBuf::from(name)
}

impl Store {
    /// Reads a programmed page.
    pub(super) fn read(&self, page: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Memory(memory) => {
                let page = index(page);
                let block = memory.blocks[page / memory.pages_per_block].as_ref();
                let content = block.and_then(|block| block[page % memory.pages_per_block].as_ref());
                match content {
                    Some(content) => buffer.copy_from_slice(content.bytes()),
                    None => buffer.fill(0xff),
                }
                Ok(())
            }
            Self::File(file) => file.data.read_exact_at(buffer, page * file.page_bytes),
        }
    }

    /// Stores consecutive erased pages and then their tags.
    pub(super) fn program(&mut self, page: u64, bytes: &[u8], tags: &[u64]) -> io::Result<()> {
        match self {
            Self::Memory(memory) => {
                let page_bytes = bytes.len() / tags.len();
                for ((offset, content), tag) in bytes.chunks_exact(page_bytes).enumerate().zip(tags) {
                    let shared = memory.pool.page(*tag, content);
                    *memory.slot(index(page) + offset) = Some(shared);
                }
                Ok(())
            }
            Self::File(file) => {
                file.data.write_all_at(bytes, page * file.page_bytes)?;
                file.write_tags(page, tags)
            }
        }
    }

    /// Marks a page as spoiled, giving up its content.
    pub(super) fn spoil(&mut self, page: u64, tag: u64) -> io::Result<()> {
        match self {
            Self::Memory(memory) => {
                *memory.slot(index(page)) = None;
                Ok(())
            }
            Self::File(file) => file.write_tags(page, &[tag]),
        }
    }

    /// Forgets a block's pages.
    pub(super) fn erase(&mut self, first_page: u64, pages: u64) -> io::Result<()> {
        match self {
            Self::Memory(memory) => {
                memory.blocks[index(first_page) / memory.pages_per_block] = None;
                Ok(())
            }
            Self::File(file) => {
                file.write_tags(first_page, &vec![0; index(pages)])?;
                file.data.punch(first_page * file.page_bytes, pages * file.page_bytes)
            }
        }
    }

    /// Remembers a bad block.
    pub(super) fn mark_bad(&mut self, block: u64) -> io::Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File(file) => file.state.write_all_at(&[1], file.bad_offset(block)),
        }
    }
}

impl FileStore {
    fn write_tags(&self, page: u64, tags: &[u64]) -> io::Result<()> {
        let bytes: Vec<u8> = tags.iter().flat_map(|tag| tag.to_le_bytes()).collect();
        self.state.write_all_at(&bytes, page * TAG_BYTES)
    }
}

/// A page or block number as an index.
pub(super) fn index(number: u64) -> usize {
    usize::try_from(number).expect("pages were checked against the storage's size, which fits in memory")
}
