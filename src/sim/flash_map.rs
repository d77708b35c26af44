//! Logical access to a NAND, as boot ROMs and programmers do it: by page number, bad blocks skipped inside each
//! partition.
//!
//! A programmer that is told to write at a partition's first page and meets a bad block goes on in the next good
//! one, so everything behind it lies one block later; reading back skips the same block. When the partition has no
//! good block left it reports that, and never runs into the next partition.

use crate::domain::PageRange;

use super::mibib;
use super::models::Model;
use super::nand::{Nand, NandError, PageState};

/// Why an access failed.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// More was to be stored than the partition has good blocks for.
    #[error("out of good blocks, total blocks {total}, bad blocks {bad}")]
    OutOfGoodBlocks {
        /// Blocks of the partition.
        total: u64,
        /// Bad ones among them.
        bad: u64,
    },
    /// An erase that does not begin and end at a block.
    #[error("start sector {start} or its {pages} sectors are not aligned to erase blocks")]
    Unaligned {
        /// First page.
        start: u64,
        /// Pages.
        pages: u64,
    },
    /// Beyond the end of the storage, or not whole pages.
    #[error("page {page} lies beyond the storage")]
    OutOfRange {
        /// The page.
        page: u64,
    },
    /// The NAND failed.
    #[error(transparent)]
    Nand(#[from] NandError),
}

/// What an erase did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Erased {
    /// Blocks that were erased.
    pub blocks: u64,
    /// Bad blocks that were skipped, those included that went bad just now.
    pub skipped: u64,
}

/// What a program did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Programmed {
    /// Blocks that went bad while it was written.
    pub failed_blocks: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Segment {
    name: Option<String>,
    range: PageRange,
}

/// The partitions of a module, gaps between them included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlashMap {
    segments: Vec<Segment>,
}

impl FlashMap {
    /// The map that the model is built with.
    #[must_use]
    pub fn of_model(model: &Model) -> Self {
        let partitions = model.partitions.iter().map(|partition| (partition.name.to_owned(), partition.range()));
        Self::new(partitions.collect(), model.total_pages)
    }

    /// The map in the module's own table; `None` when it has no sound one.
    #[must_use]
    pub fn from_table(nand: &Nand, model: &Model) -> Option<Self> {
        let entries = mibib::load(nand, model)?;
        let total = nand.total_pages();
        let ranges = entries.into_iter().map(|entry| {
            let range = entry.range(nand.geometry(), total);
            (entry.name, range)
        });
        let partitions: Vec<_> = ranges.filter(|(_, range)| range.pages > 0 && range.end() <= total).collect();
        Some(Self::new(partitions, total))
    }

    /// The map in the module's own table, or else the model's: what a programmer works with.
    #[must_use]
    pub fn of_module(nand: &Nand, model: &Model) -> Self {
        Self::from_table(nand, model).unwrap_or_else(|| Self::of_model(model))
    }

    fn new(mut partitions: Vec<(String, PageRange)>, total_pages: u64) -> Self {
        partitions.sort_by_key(|(_, range)| range.start);
        let mut segments = Vec::new();
        let mut next = 0;
        for (name, range) in partitions {
            if range.start < next {
                // Overlapping entries: the first one keeps its place, as for a loader that searches from the front.
                continue;
            }
            if range.start > next {
                segments.push(Segment { name: None, range: PageRange { start: next, pages: range.start - next } });
            }
            next = range.end();
            segments.push(Segment { name: Some(name), range });
        }
        if next < total_pages {
            segments.push(Segment { name: None, range: PageRange { start: next, pages: total_pages - next } });
        }
        Self { segments }
    }

    /// Where a partition lies, by its name without regard to case.
    #[must_use]
    pub fn range(&self, name: &str) -> Option<PageRange> {
        let named = |segment: &&Segment| segment.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        self.segments.iter().find(named).map(|segment| segment.range)
    }

    /// The names of the partitions, ascending by position.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| segment.name.as_deref())
    }

    /// The partition, or the gap, that a page lies in.
    #[must_use]
    pub fn segment(&self, page: u64) -> Option<PageRange> {
        let position = self.segments.partition_point(|segment| segment.range.end() <= page);
        self.segments.get(position).map(|segment| segment.range).filter(|range| range.start <= page)
    }

    /// How many blocks of a range are bad.
    #[must_use]
    pub fn bad_blocks_in(&self, nand: &Nand, range: PageRange) -> u64 {
        nand.bad_in(blocks_of(nand, range)).count() as u64
    }

    /// Where a logical page is stored, counting only the good blocks of its partition.
    fn locate(&self, nand: &Nand, page: u64) -> Result<u64, FlashError> {
        let segment = self.segment(page).ok_or(FlashError::OutOfRange { page })?;
        let per_block = u64::from(nand.geometry().pages_per_block);
        let blocks = blocks_of(nand, segment);
        let mut block = page / per_block;
        for bad in nand.bad_in(blocks.clone()) {
            if bad <= block {
                block += 1;
            }
        }
        if block >= blocks.end {
            let total = blocks.end - blocks.start;
            return Err(FlashError::OutOfGoodBlocks { total, bad: nand.bad_in(blocks).count() as u64 });
        }
        Ok(block * per_block + page % per_block)
    }

    /// Erases the good blocks of a range. A block that fails is marked bad and skipped.
    ///
    /// # Errors
    /// [`FlashError::Unaligned`], [`FlashError::OutOfRange`], [`FlashError::Nand`] of the file behind it.
    pub fn erase(&self, nand: &mut Nand, range: PageRange) -> Result<Erased, FlashError> {
        let per_block = u64::from(nand.geometry().pages_per_block);
        if !range.start.is_multiple_of(per_block) || !range.pages.is_multiple_of(per_block) {
            return Err(FlashError::Unaligned { start: range.start, pages: range.pages });
        }
        if range.end() > nand.total_pages() {
            return Err(FlashError::OutOfRange { page: range.end() });
        }
        let mut done = Erased::default();
        for block in blocks_of(nand, range) {
            match nand.erase(block) {
                Ok(()) => done.blocks += 1,
                Err(NandError::BadBlock { .. } | NandError::EraseFailed { .. }) => done.skipped += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    /// Programs whole pages from a logical page on. A long write may be handed over in pieces with advancing pages.
    /// A block that fails is marked bad; what it held already is moved to the next good block.
    ///
    /// # Errors
    /// [`FlashError::OutOfGoodBlocks`] at the end of the partition, [`FlashError::OutOfRange`],
    /// [`FlashError::Nand`].
    pub fn program(&self, nand: &mut Nand, page: u64, bytes: &[u8]) -> Result<Programmed, FlashError> {
        let (page_bytes, per_block) = (nand.page_bytes(), u64::from(nand.geometry().pages_per_block));
        if !bytes.len().is_multiple_of(page_bytes) {
            return Err(FlashError::OutOfRange { page });
        }
        let mut done = Programmed::default();
        let (mut page, mut rest) = (page, bytes);
        while !rest.is_empty() {
            let room = per_block - page % per_block;
            let count = room.min((rest.len() / page_bytes) as u64);
            let (part, later) = rest.split_at(usize::try_from(count).unwrap_or_default() * page_bytes);
            self.program_in_block(nand, page, part, &mut done)?;
            (page, rest) = (page + count, later);
        }
        Ok(done)
    }

    fn program_in_block(
        &self,
        nand: &mut Nand,
        page: u64,
        bytes: &[u8],
        done: &mut Programmed,
    ) -> Result<(), FlashError> {
        let per_block = u64::from(nand.geometry().pages_per_block);
        let partition = self.segment(page).ok_or(FlashError::OutOfRange { page })?;
        let last = page + (bytes.len() / nand.page_bytes()) as u64 - 1;
        if last >= partition.end() {
            return Err(FlashError::OutOfRange { page: last });
        }
        loop {
            let target = self.locate(nand, page)?;
            match nand.program(target, bytes) {
                Ok(()) => return Ok(()),
                Err(NandError::ProgramFailed { block }) => {
                    done.failed_blocks += 1;
                    let earlier = saved_pages(nand, block * per_block, target)?;
                    for (offset, content) in (0..).zip(earlier) {
                        let moved = self.locate(nand, page - page % per_block + offset)?;
                        nand.program(moved, &content)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads one logical page.
    ///
    /// # Errors
    /// [`FlashError::OutOfGoodBlocks`] where skipped blocks leave nothing, [`FlashError::OutOfRange`],
    /// [`FlashError::Nand`] for a spoiled page.
    pub fn read(&self, nand: &Nand, page: u64, buffer: &mut [u8]) -> Result<PageState, FlashError> {
        Ok(nand.read(self.locate(nand, page)?, buffer)?)
    }

    /// What a logical page is; beyond the good blocks, erased.
    #[must_use]
    pub fn state(&self, nand: &Nand, page: u64) -> PageState {
        self.locate(nand, page).map_or(PageState::Erased, |page| nand.state(page))
    }

    /// The content hash of a logical page; `None` when it is erased or spoiled.
    #[must_use]
    pub fn tag(&self, nand: &Nand, page: u64) -> Option<u64> {
        nand.tag(self.locate(nand, page).ok()?)
    }
}

/// The readable pages of a block before `end`, up to the first erased one.
fn saved_pages(nand: &Nand, first: u64, end: u64) -> Result<Vec<Vec<u8>>, NandError> {
    (first..end)
        .take_while(|page| nand.state(*page) == PageState::Programmed)
        .map(|page| {
            let mut content = vec![0; nand.page_bytes()];
            nand.read(page, &mut content).map(|_| content)
        })
        .collect()
}

fn blocks_of(nand: &Nand, range: PageRange) -> std::ops::Range<u64> {
    let per_block = u64::from(nand.geometry().pages_per_block);
    range.start / per_block..range.end().div_ceil(per_block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::nand::{BlockFault, PagePool};

    fn module() -> (Nand, FlashMap, PageRange) {
        let model = Model::by_name("EG25-G").expect("a model");
        let map = FlashMap::of_model(model);
        let range = map.range("tz").expect("a partition");
        (Nand::in_memory(model.geometry, model.total_pages, &PagePool::new()), map, range)
    }

    fn image(pages: usize) -> Vec<u8> {
        (0..pages * 2048).map(|at| u8::try_from(at / 2048 % 251).expect("below 251")).collect()
    }

    fn read_back(nand: &Nand, map: &FlashMap, range: PageRange, pages: usize) -> Vec<u8> {
        let mut bytes = vec![0; pages * 2048];
        for (page, buffer) in (range.start..).zip(bytes.chunks_exact_mut(2048)) {
            map.read(nand, page, buffer).expect("a read");
        }
        bytes
    }

    #[test]
    fn bad_blocks_are_skipped_alike_by_writing_and_reading() {
        let (mut nand, map, range) = module();
        let first = range.start / 64;
        nand.mark_bad(first).expect("a block");
        nand.mark_bad(first + 3).expect("a block");
        let image = image(300);
        for (chunk, page) in image.chunks(8 * 2048).zip((range.start..).step_by(8)) {
            map.program(&mut nand, page, chunk).expect("a program");
        }
        assert_eq!(read_back(&nand, &map, range, 300), image);
        assert_eq!(nand.state(range.start), PageState::Erased);
        assert_eq!(map.erase(&mut nand, range).expect("an erase"), Erased { blocks: 10, skipped: 2 });
    }

    #[test]
    fn a_block_that_fails_in_the_middle_moves_on_with_its_pages() {
        let (mut nand, map, range) = module();
        let image = image(200);
        let split = 100 * 2048;
        map.program(&mut nand, range.start, &image[..split]).expect("a program");
        nand.fail_next(range.start / 64 + 1, BlockFault::Program);
        let done = map.program(&mut nand, range.start + 100, &image[split..]).expect("a program");
        assert_eq!(done, Programmed { failed_blocks: 1 });
        assert_eq!(read_back(&nand, &map, range, 200), image);
        assert_eq!(map.bad_blocks_in(&nand, range), 1);
    }

    #[test]
    fn a_partition_without_good_blocks_does_not_run_into_the_next() {
        let (mut nand, map, range) = module();
        nand.mark_bad(range.start / 64).expect("a block");
        let image = image(768);
        let error = map.program(&mut nand, range.start, &image).expect_err("too much");
        assert!(matches!(error, FlashError::OutOfGoodBlocks { total: 12, bad: 1 }), "{error}");
        let next = map.range("rpm").expect("a partition");
        assert!((next.start..next.end()).all(|page| nand.state(page) == PageState::Erased));
    }

    #[test]
    fn erases_that_are_not_aligned_are_refused() {
        let (mut nand, map, _) = module();
        let unaligned = map.erase(&mut nand, PageRange { start: 32, pages: 64 });
        assert!(matches!(unaligned, Err(FlashError::Unaligned { .. })));
        let beyond = map.erase(&mut nand, PageRange { start: 131_008, pages: 128 });
        assert!(matches!(beyond, Err(FlashError::OutOfRange { .. })));
    }
}
