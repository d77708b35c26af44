//! The log of a simulated EFS: blocks of one generation, replayed from the first record to the last.
//!
//! A generation begins with a snapshot of all items, closed by a record that says so, and goes on with one page per
//! change. When it has grown long it is compacted: a new generation is written into erased blocks, and only when it
//! is complete are the old blocks erased. So a power cut at any page leaves the items of before or of after.

use crate::domain::PageRange;
use crate::sim::nand::{Nand, NandError, PageState};

use super::page::{Record, Superblock, record_count, records_of};
use super::tree::{Items, Node, NodeKind};

/// A generation with this many blocks more than its snapshot needs is compacted.
const EXTRA_BLOCKS_MAX: usize = 4;

/// Why the EFS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EfsError {
    /// The module's table has no partition of that name.
    #[error("no partition {0}")]
    NoPartition(&'static str),
    /// No erased block is left, and none that the file system may erase: what a restore that programs blank pages
    /// leads to.
    #[error("ran out of good blocks in the log")]
    NoGoodBlocks,
    /// There is no file system to write to.
    #[error("no file system")]
    Lost,
    /// An item is longer than a page.
    #[error("an item of {bytes} bytes does not fit")]
    TooLong {
        /// Bytes of its path and content.
        bytes: usize,
    },
    /// The NAND failed.
    #[error(transparent)]
    Nand(#[from] NandError),
}

/// A file system found in a partition.
#[derive(Debug)]
pub(super) struct Log {
    range: PageRange,
    generation: u32,
    /// Its blocks, in order.
    blocks: Vec<u64>,
    /// The next page of the last block; `None` when that is full.
    next: Option<u64>,
    /// What is in it.
    pub(super) items: Items,
}

/// What the records so far have led to.
#[derive(Debug, Default)]
struct Replay {
    items: Items,
    /// The pieces of a file whose end was not met yet: its path, and how many of them.
    pieces: (String, u32),
    piece_bytes: Vec<u8>,
    is_complete: bool,
}

impl Replay {
    fn take(&mut self, record: Record) {
        match record {
            Record::Item { path, data } => self.items.set(&path, data),
            Record::Directory { path } => {
                self.items.put(&path, Node { kind: NodeKind::Directory, data: Vec::new() });
            }
            Record::Removed { path } => self.items.remove(&path),
            Record::Complete => self.is_complete = true,
            Record::Piece { path, index, data } => {
                if index == 0 {
                    self.pieces = (path, 1);
                    self.piece_bytes = data;
                } else if self.pieces == (path, index) {
                    self.pieces.1 += 1;
                    self.piece_bytes.extend(data);
                } else {
                    self.pieces = <(String, u32)>::default();
                }
            }
            Record::File { path, pieces, data } => {
                let (of, count) = std::mem::take(&mut self.pieces);
                let mut content = std::mem::take(&mut self.piece_bytes);
                if pieces == 0 {
                    self.items.put(&path, Node { kind: NodeKind::File, data });
                } else if of == path && count == pieces {
                    content.extend(data);
                    self.items.put(&path, Node { kind: NodeKind::File, data: content });
                }
            }
        }
    }
}

/// The good blocks of a range with their superblocks, if they have any.
fn survey(nand: &Nand, range: PageRange) -> Result<Vec<(u64, Option<Superblock>)>, NandError> {
    let per_block = u64::from(nand.geometry().pages_per_block);
    let mut found = Vec::new();
    let mut page = vec![0; nand.page_bytes()];
    for block in range.start / per_block..range.end() / per_block {
        if nand.is_bad(block) {
            continue;
        }
        let first = block * per_block;
        let superblock = if nand.state(first) == PageState::Programmed {
            nand.read(first, &mut page)?;
            Superblock::decode(&page, nand.geometry())
        } else {
            None
        };
        found.push((block, superblock));
    }
    Ok(found)
}

fn is_blank(nand: &Nand, block: u64) -> bool {
    let per_block = u64::from(nand.geometry().pages_per_block);
    (block * per_block..(block + 1) * per_block).all(|page| nand.state(page) == PageState::Erased)
}

impl Log {
    /// The file system in a range; `None` when there is none that is complete.
    pub(super) fn mount(nand: &Nand, range: PageRange) -> Result<Option<Self>, EfsError> {
        let survey = survey(nand, range)?;
        let mut generations: Vec<u32> =
            survey.iter().filter_map(|(_, found)| Some(found.as_ref()?.generation)).collect();
        generations.sort_unstable();
        generations.dedup();
        for generation in generations.into_iter().rev() {
            let mut blocks: Vec<(u32, u64)> = survey
                .iter()
                .filter_map(|(block, found)| {
                    found.filter(|found| found.generation == generation).map(|f| (f.index, *block))
                })
                .collect();
            blocks.sort_unstable();
            let in_order = (0..).zip(&blocks).all(|(place, (index, _))| place == *index);
            let blocks = blocks.into_iter().map(|(_, block)| block).collect();
            if in_order && let Some(log) = Self::replay(nand, range, generation, blocks)? {
                return Ok(Some(log));
            }
        }
        Ok(None)
    }

    fn replay(nand: &Nand, range: PageRange, generation: u32, blocks: Vec<u64>) -> Result<Option<Self>, EfsError> {
        let per_block = u64::from(nand.geometry().pages_per_block);
        let mut replay = Replay::default();
        let mut page = vec![0; nand.page_bytes()];
        for block in &blocks {
            for number in block * per_block + 1..(block + 1) * per_block {
                if nand.state(number) != PageState::Programmed {
                    continue;
                }
                nand.read(number, &mut page)?;
                // Others are torn by a power cut, or blank but programmed: a used page without meaning.
                if let Some(record) = Record::decode(&page) {
                    replay.take(record);
                }
            }
        }
        let last = blocks.last().map_or(range.start, |block| block * per_block);
        let used = (last..last + per_block).rev().find(|page| nand.state(*page) != PageState::Erased);
        let next = used.map_or(last, |page| page + 1);
        let next = (next < last + per_block).then_some(next);
        let Replay { items, is_complete, .. } = replay;
        Ok(is_complete.then_some(Self { range, generation, blocks, next, items }))
    }

    /// Puts a file system with these items into a range, whatever was there before.
    pub(super) fn format(nand: &mut Nand, range: PageRange, items: &Items) -> Result<Self, EfsError> {
        let per_block = u64::from(nand.geometry().pages_per_block);
        for block in range.start / per_block..range.end() / per_block {
            match nand.erase(block) {
                Ok(()) | Err(NandError::BadBlock { .. } | NandError::EraseFailed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut log = Self { range, generation: 0, blocks: Vec::new(), next: None, items: Items::default() };
        log.snapshot(nand, items)?;
        Ok(log)
    }

    /// Stores a node, or takes it away.
    pub(super) fn store(&mut self, nand: &mut Nand, path: &str, node: Option<&Node>) -> Result<(), EfsError> {
        let per_block = nand.geometry().pages_per_block as usize;
        let records = |(path, node): (&str, &Node)| record_count(path, node, nand.geometry());
        let left = self.next.map_or(0, |next| per_block - usize::try_from(next).unwrap_or_default() % per_block);
        // Whether a block happens to be full in between cannot be waited for: a node has more than one record.
        if left < node.map_or(1, |node| records((path, node))) {
            let snapshot_blocks = self.items.nodes().map(records).sum::<usize>() / (per_block - 1) + 1;
            if self.blocks.len() >= snapshot_blocks + EXTRA_BLOCKS_MAX {
                let items = self.items.clone();
                self.snapshot(nand, &items)?;
            }
        }
        match node {
            Some(node) => {
                for record in records_of(path, node, nand.geometry()) {
                    self.append(nand, &record)?;
                }
                self.items.put(path, node.clone());
            }
            None => {
                self.append(nand, &Record::Removed { path: path.to_owned() })?;
                self.items.remove(path);
            }
        }
        Ok(())
    }

    /// Writes a new generation with these items and erases all older ones.
    fn snapshot(&mut self, nand: &mut Nand, items: &Items) -> Result<(), EfsError> {
        // What a cut compaction left behind would be taken for part of the new generation.
        self.erase_others(nand)?;
        let mut next = Self {
            range: self.range,
            generation: self.generation + 1,
            blocks: Vec::new(),
            next: None,
            items: Items::default(),
        };
        for (path, node) in items.nodes() {
            for record in records_of(path, node, nand.geometry()) {
                next.append(nand, &record)?;
            }
        }
        next.append(nand, &Record::Complete)?;
        next.items = items.clone();
        next.erase_others(nand)?;
        *self = next;
        Ok(())
    }

    /// Erases the blocks of all other generations.
    fn erase_others(&self, nand: &mut Nand) -> Result<(), EfsError> {
        for (block, found) in survey(nand, self.range)? {
            if found.is_some_and(|found| found.generation != self.generation) {
                match nand.erase(block) {
                    Ok(()) | Err(NandError::EraseFailed { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Writes one record.
    fn append(&mut self, nand: &mut Nand, record: &Record) -> Result<(), EfsError> {
        let page = record.encode(nand.geometry()).ok_or_else(|| EfsError::TooLong {
            bytes: match record {
                Record::Item { path, data } | Record::Piece { path, data, .. } | Record::File { path, data, .. } => {
                    path.len() + data.len()
                }
                Record::Removed { path } | Record::Directory { path } => path.len(),
                Record::Complete => 0,
            },
        })?;
        loop {
            let target = match self.next {
                Some(next) => next,
                None => self.begin_block(nand)?,
            };
            let per_block = u64::from(nand.geometry().pages_per_block);
            match nand.program(target, &page) {
                Ok(()) => {
                    self.next = (!(target + 1).is_multiple_of(per_block)).then_some(target + 1);
                    return Ok(());
                }
                // The rest of the block is given up; what it holds is still read.
                Err(NandError::ProgramFailed { .. } | NandError::BadBlock { .. }) => self.rescue(nand, target)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Moves the last block, which went bad while it was written, to another one.
    fn rescue(&mut self, nand: &mut Nand, failed: u64) -> Result<(), EfsError> {
        let per_block = u64::from(nand.geometry().pages_per_block);
        let old = failed / per_block;
        self.blocks.retain(|block| *block != old);
        let mut target = self.begin_block(nand)?;
        let mut page = vec![0; nand.page_bytes()];
        for number in old * per_block + 1..failed {
            if nand.state(number) == PageState::Programmed {
                nand.read(number, &mut page)?;
                nand.program(target, &page)?;
                target += 1;
            }
        }
        self.next = (!target.is_multiple_of(per_block)).then_some(target);
        Ok(())
    }

    /// Takes an erased block into the generation; returns its first free page.
    fn begin_block(&mut self, nand: &mut Nand) -> Result<u64, EfsError> {
        let per_block = u64::from(nand.geometry().pages_per_block);
        let blocks = self.range.start / per_block..self.range.end() / per_block;
        let after = self.blocks.last().map_or(blocks.start, |last| last + 1);
        // Round and round, so that all blocks wear alike.
        let order = (after..blocks.end).chain(blocks.start..after);
        let count = u32::try_from(blocks.end - blocks.start).unwrap_or_default();
        for block in order {
            if nand.is_bad(block) || !is_blank(nand, block) {
                continue;
            }
            let index = u32::try_from(self.blocks.len()).unwrap_or_default();
            let superblock = Superblock { generation: self.generation, index }.encode(nand.geometry(), count);
            match nand.program(block * per_block, &superblock) {
                Ok(()) => {
                    self.blocks.push(block);
                    self.next = Some(block * per_block + 1);
                    return Ok(block * per_block + 1);
                }
                Err(NandError::ProgramFailed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(EfsError::NoGoodBlocks)
    }
}
