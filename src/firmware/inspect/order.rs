//! What executing a document as it is written would leave behind.
//!
//! Real documents program boot loader, partition table and TrustZone first and erase those very ranges last; and what
//! they do in between is done while a boot loader is in place that would start it half written.

use serde::Serialize;

use super::{Subject, whole, writes_boot_loader};
use crate::domain::PageRange;
use crate::domain::family::FAMILIES;
use crate::firmware::shelf::shown;
use crate::protocol::rawprogram::{RawKind, RawOperation};

const FIRST_PAGE: PageRange = PageRange { start: 0, pages: 1 };

/// What executing the document as it is written would leave behind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DocumentOrder {
    /// Whether a module would not start afterwards.
    pub fatal: bool,
    /// What would be written first and erased later.
    pub lost: Vec<LostProgram>,
    /// The first line that changes something else while a boot loader is in place: cut off from there on, a module
    /// would start what is half written instead of falling back to download mode. `None` where there is none.
    pub unsafe_from_line: Option<u32>,
}

/// A program that a later erase of the same document undoes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LostProgram {
    /// The line that writes.
    pub line: u32,
    /// The later line that erases.
    pub erased_in_line: u32,
    /// What is lost: the partition, or the file where there is no name.
    pub what: String,
    /// Whether the module cannot start without it.
    pub boot_chain: bool,
}

impl Subject {
    /// Follows the document: what is written and erased later, and not written again after that, is lost.
    pub(super) fn order(&self) -> DocumentOrder {
        let mut lost = Vec::new();
        for (index, program) in self.operations.iter().enumerate().filter(|(_, o)| o.kind == RawKind::Program) {
            let later = &self.operations[index + 1..];
            let overlaps = |other: &RawOperation| whole(other).overlaps(program.range);
            let Some(last) = later.iter().rposition(|o| o.kind == RawKind::Erase && overlaps(o)) else { continue };
            if later[last + 1..].iter().any(|o| o.kind == RawKind::Program && overlaps(o)) {
                continue;
            }
            let partitions = self.partitions_in(program.range);
            let file = program.file.as_deref().map(shown).unwrap_or_default();
            lost.push(LostProgram {
                line: program.line,
                erased_in_line: later[last].line,
                boot_chain: program.range.start == 0
                    || partitions.is_empty()
                    || partitions.iter().any(|name| is_boot_chain(name)),
                what: if partitions.is_empty() { file } else { partitions.join(", ") },
            });
        }
        DocumentOrder {
            fatal: lost.iter().any(|program| program.boot_chain),
            lost,
            unsafe_from_line: self.unsafe_from_line(),
        }
    }

    fn unsafe_from_line(&self) -> Option<u32> {
        let mut has_boot_loader = true;
        for operation in &self.operations {
            let range = whole(operation);
            if operation.kind == RawKind::Erase && range.contains(FIRST_PAGE) {
                has_boot_loader = false;
            } else if writes_boot_loader(operation) {
                has_boot_loader = true;
            } else if has_boot_loader {
                return Some(operation.line);
            }
        }
        None
    }
}

/// Whether a module cannot start without the partition of that name.
pub(super) fn is_boot_chain(name: &str) -> bool {
    FAMILIES.iter().flat_map(|family| family.boot_chain).any(|link| link.eq_ignore_ascii_case(name))
}
