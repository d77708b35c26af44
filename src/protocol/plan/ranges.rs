//! Sets of page ranges.

use crate::domain::PageRange;

/// The pages that both have.
pub(super) fn intersection(one: PageRange, other: PageRange) -> Option<PageRange> {
    let start = one.start.max(other.start);
    let pages = one.end().min(other.end()).checked_sub(start)?;
    (pages > 0).then_some(PageRange { start, pages })
}

/// What is left of `range` without `holes`, ascending.
pub(super) fn without(range: PageRange, holes: &[PageRange]) -> Vec<PageRange> {
    let mut left = Vec::new();
    let mut start = range.start;
    for hole in union(holes) {
        let Some(hole) = intersection(range, hole) else { continue };
        if start < hole.start {
            left.push(PageRange { start, pages: hole.start - start });
        }
        start = start.max(hole.end());
    }
    if start < range.end() {
        left.push(PageRange { start, pages: range.end() - start });
    }
    left
}

/// The same pages as disjoint ranges that do not touch, ascending.
pub(super) fn union(ranges: &[PageRange]) -> Vec<PageRange> {
    let mut sorted: Vec<PageRange> = ranges.iter().copied().filter(|range| range.pages > 0).collect();
    sorted.sort_unstable();
    let mut out: Vec<PageRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match out.last_mut() {
            Some(last) if range.start <= last.end() => last.pages = last.end().max(range.end()) - last.start,
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = PageRange> {
        (0u64..60, 0u64..30).prop_map(|(start, pages)| PageRange { start, pages })
    }

    fn pages(ranges: &[PageRange]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|range| range.start..range.end()).collect()
    }

    proptest! {
        #[test]
        fn they_agree_with_sets_of_pages(one in range(), many in prop::collection::vec(range(), 0..6)) {
            let left: BTreeSet<u64> = pages(&[one]).difference(&pages(&many)).copied().collect();
            prop_assert_eq!(pages(&without(one, &many)), left);
            let all = union(&many);
            prop_assert_eq!(pages(&all), pages(&many));
            prop_assert!(all.windows(2).all(|pair| pair[0].end() < pair[1].start));
            for other in many {
                let both: BTreeSet<u64> = pages(&[one]).intersection(&pages(&[other])).copied().collect();
                prop_assert_eq!(intersection(one, other).map_or(BTreeSet::new(), |range| pages(&[range])), both);
            }
        }
    }
}
