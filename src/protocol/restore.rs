//! How a partition that was read is written back: which pages, and whether what is there afterwards is the same.
//!
//! A log file system needs erased blocks. A page of blanks that is programmed is no longer free, and a modem that finds
//! none of its blocks free does not start any more. Programmers read erased pages as all `0xff` or, several loaders of
//! SDX5x and SDX6x, as all `0xee`; pages of either kind are left erased. So is all that follows the last used page of a
//! block.

use crate::domain::{Geometry, PageRange};

/// Why a backup cannot be written back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestoreError {
    /// The partition does not begin and end at an erase block.
    #[error("{} pages from page {} on are not whole erase blocks", .0.pages, .0.start)]
    Unaligned(PageRange),
    /// There are fewer or more bytes than the partition has.
    #[error("{bytes} bytes are not {pages} pages")]
    Length {
        /// Bytes.
        bytes: usize,
        /// Pages of the partition.
        pages: u64,
    },
}

/// Whether a page is blank: erased, as far as a programmer tells.
#[must_use]
pub fn is_blank(page: &[u8]) -> bool {
    // All bytes are equal when each equals the one before it.
    matches!(page.first(), Some(0xff | 0xee)) && page[1..] == page[..page.len() - 1]
}

/// The ranges to program, ascending, once all of `range` was erased: every used page and no blank one, none across the
/// border of a block.
///
/// # Errors
/// [`RestoreError`].
pub fn writes(range: PageRange, geometry: Geometry, bytes: &[u8]) -> Result<Vec<PageRange>, RestoreError> {
    let per_block = u64::from(geometry.pages_per_block.max(1));
    if !range.start.is_multiple_of(per_block) || !range.pages.is_multiple_of(per_block) {
        return Err(RestoreError::Unaligned(range));
    }
    let page_bytes = usize::try_from(geometry.page_bytes.max(1)).unwrap_or(usize::MAX);
    let wrong = RestoreError::Length { bytes: bytes.len(), pages: range.pages };
    let pages = u64::try_from(bytes.len() / page_bytes).map_err(|_| wrong)?;
    if pages != range.pages || !bytes.len().is_multiple_of(page_bytes) {
        return Err(wrong);
    }
    let mut writes: Vec<PageRange> = Vec::new();
    for (page, content) in (range.start..).zip(bytes.chunks_exact(page_bytes)) {
        if is_blank(content) {
            continue;
        }
        match writes.last_mut().filter(|last| last.end() == page && !page.is_multiple_of(per_block)) {
            Some(last) => last.pages += 1,
            None => writes.push(PageRange { start: page, pages: 1 }),
        }
    }
    Ok(writes)
}

/// Compares a partition, as it is read, with what was read of it before: blank pages of either kind are equal.
#[derive(Debug)]
pub struct Comparison<'a> {
    expected: std::slice::ChunksExact<'a, u8>,
    page_bytes: usize,
    /// The beginning of the page that is being read.
    begun: Vec<u8>,
    page: u64,
    difference: Option<u64>,
}

impl<'a> Comparison<'a> {
    /// Compares with `expected`, whole pages.
    #[must_use]
    pub fn new(expected: &'a [u8], geometry: Geometry) -> Self {
        let page_bytes = usize::try_from(geometry.page_bytes.max(1)).unwrap_or(usize::MAX);
        let expected = expected.chunks_exact(page_bytes);
        Self { expected, page_bytes, begun: Vec::new(), page: 0, difference: None }
    }

    /// Takes the next bytes, split in whatever way.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.begun.is_empty() && bytes.len() >= self.page_bytes {
                let (page, rest) = bytes.split_at(self.page_bytes);
                self.compare(page);
                bytes = rest;
                continue;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(self.page_bytes - self.begun.len()));
            self.begun.extend_from_slice(part);
            bytes = rest;
            if self.begun.len() == self.page_bytes {
                let page = std::mem::take(&mut self.begun);
                self.compare(&page);
            }
        }
    }

    fn compare(&mut self, page: &[u8]) {
        let is_equal = self
            .expected
            .next()
            .is_some_and(|expected| if is_blank(expected) { is_blank(page) } else { expected == page });
        if !is_equal {
            self.difference.get_or_insert(self.page);
        }
        self.page += 1;
    }

    /// The number of the first page that differs, from 0 at the beginning of the partition; also one that is missing.
    #[must_use]
    pub fn difference(mut self) -> Option<u64> {
        let is_short = !self.begun.is_empty() || self.expected.next().is_some();
        self.difference.or(is_short.then_some(self.page))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GEOMETRY: Geometry = Geometry { page_bytes: 4, pages_per_block: 4 };

    fn pages(kinds: &[u8]) -> Vec<u8> {
        kinds
            .iter()
            .flat_map(|kind| match kind {
                0 => [0xff; 4],
                1 => [0xee; 4],
                // Beginning and end like blanks.
                2 => [0xff, 0xff, 0xee, 0xff],
                3 => [0xee, 0xff, 0xff, 0xee],
                kind => [*kind; 4],
            })
            .collect()
    }

    #[test]
    fn pages_behind_the_last_used_one_and_blank_blocks_stay_erased() {
        let range = PageRange { start: 8, pages: 16 };
        let content = pages(&[7, 7, 0, 0, 1, 1, 0, 0, 7, 0, 7, 7, 7, 7, 7, 7]);
        let found = writes(range, GEOMETRY, &content).expect("it fits");
        let expected = [(8, 2), (16, 1), (18, 2), (20, 4)].map(|(start, pages)| PageRange { start, pages });
        assert_eq!(found, expected);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let content = pages(&[7; 16]);
        for range in [PageRange { start: 2, pages: 16 }, PageRange { start: 0, pages: 15 }] {
            assert_eq!(writes(range, GEOMETRY, &content), Err(RestoreError::Unaligned(range)));
        }
        let range = PageRange { start: 0, pages: 16 };
        assert!(writes(range, GEOMETRY, &content[..63]).is_err());
        assert!(writes(range, GEOMETRY, &content[..60]).is_err());
        assert!(writes(PageRange { start: 0, pages: 12 }, GEOMETRY, &content).is_err());
    }

    proptest! {
        #[test]
        fn every_used_page_is_written_once_and_no_blank_one(
            kinds in proptest::collection::vec(0_u8..6, 1..20).prop_map(|kinds| {
                let mut kinds = kinds;
                kinds.resize(kinds.len().next_multiple_of(4), 0);
                kinds
            }),
            block in 0_u64..1000,
        ) {
            let content = pages(&kinds);
            let range = PageRange { start: block * 4, pages: kinds.len() as u64 };
            let mut nand: Vec<Option<&[u8]>> = vec![None; kinds.len()];
            let mut last = range.start;
            for write in writes(range, GEOMETRY, &content).expect("it fits") {
                prop_assert!(write.pages > 0 && last <= write.start && range.contains(write));
                prop_assert_eq!(write.start / 4, (write.end() - 1) / 4, "across blocks");
                last = write.end();
                for page in write.start..write.end() {
                    let at = usize::try_from(page - range.start).expect("small");
                    nand[at] = Some(&content[at * 4..at * 4 + 4]);
                }
            }
            for (at, page) in nand.into_iter().enumerate() {
                prop_assert_eq!(page.is_none(), kinds[at] < 2, "page {}", at);
            }
        }

        #[test]
        fn a_comparison_finds_the_first_page_that_differs_in_any_split(
            kinds in proptest::collection::vec(0_u8..6, 1..20),
            changed in proptest::option::of((0_usize..20, 6_u8..9)),
            filler in prop_oneof![Just(0_u8), Just(1)],
            cuts in proptest::collection::vec(1_usize..11, 1..40),
        ) {
            let expected = pages(&kinds);
            let mut read: Vec<u8> = kinds.iter().map(|kind| if *kind < 2 { filler } else { *kind }).collect();
            let at = changed.map(|(at, kind)| { let at = at % kinds.len(); read[at] = kind; at as u64 });
            let read = pages(&read);
            let mut comparison = Comparison::new(&expected, GEOMETRY);
            let mut rest = read.as_slice();
            for cut in cuts.into_iter().cycle() {
                let (part, more) = rest.split_at(cut.min(rest.len()));
                comparison.take(part);
                rest = more;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(comparison.difference(), at);
        }

        #[test]
        fn a_partition_that_is_too_short_or_too_long_differs(kinds in proptest::collection::vec(0_u8..6, 1..20)) {
            let expected = pages(&kinds);
            let mut short = Comparison::new(&expected, GEOMETRY);
            short.take(&expected[..expected.len() - 1]);
            prop_assert_eq!(short.difference(), Some(kinds.len() as u64 - 1));
            let mut long = Comparison::new(&expected, GEOMETRY);
            long.take(&[expected.as_slice(), &[0xff; 4]].concat());
            prop_assert_eq!(long.difference(), Some(kinds.len() as u64));
        }
    }
}
