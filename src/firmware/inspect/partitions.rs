//! What a document does, by partition.

use serde::Serialize;

use super::order::is_boot_chain;
use super::{Subject, touched, whole};
use crate::domain::PageRange;
use crate::firmware::document::guarded;
use crate::protocol::rawprogram::RawKind;

/// A partition that the document touches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InspectedPartition {
    /// Its name; empty for a range that no partition of the package's table has.
    pub name: String,
    /// Its pages; to the end of the storage where `grows`.
    pub range: PageRange,
    /// It goes to the end of the storage, wherever that is; `range` ends with what the document touches.
    pub grows: bool,
    /// Whether it belongs to the unit.
    pub guarded: bool,
    /// Whether a module cannot start without it.
    pub boot_chain: bool,
    /// The lines that erase any of it.
    pub erased_in_lines: Vec<u32>,
    /// What is written to it.
    pub written: Vec<WrittenImage>,
}

/// An image that is written to a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WrittenImage {
    /// The line that writes it.
    pub line: u32,
    /// The image's path in the package.
    pub image: String,
    /// Its pages; `None` where it is not there.
    pub pages: Option<u64>,
}

impl Subject {
    pub(super) fn partitions(&self) -> Vec<InspectedPartition> {
        let end = self.operations.iter().map(|o| o.range.end()).max().unwrap_or(0);
        let mut all: Vec<InspectedPartition> = Vec::new();
        if let Some((table, _)) = &self.table {
            let guarded = guarded(table, self.geometry);
            all.extend(table.partitions().iter().map(|partition| InspectedPartition {
                name: partition.name.clone(),
                range: table.range(partition, self.geometry, end),
                grows: partition.grows,
                guarded: guarded.iter().any(|(name, _)| *name == partition.name),
                boot_chain: is_boot_chain(&partition.name),
                erased_in_lines: Vec::new(),
                written: Vec::new(),
            }));
        }
        for operation in &self.operations {
            let mut is_named = false;
            for range in touched(operation) {
                for partition in all.iter_mut().filter(|partition| partition.range.overlaps(range)) {
                    is_named = true;
                    self.note(partition, operation);
                }
            }
            if !is_named {
                let start = operation.range.start;
                let mut nameless = InspectedPartition {
                    name: String::new(),
                    range: operation.range,
                    grows: operation.range.pages == 0,
                    guarded: false,
                    boot_chain: start == 0,
                    erased_in_lines: Vec::new(),
                    written: Vec::new(),
                };
                self.note(&mut nameless, operation);
                all.push(nameless);
            }
        }
        all.retain(|partition| !partition.erased_in_lines.is_empty() || !partition.written.is_empty());
        all.sort_by_key(|partition| partition.range.start);
        all
    }

    fn note(&self, partition: &mut InspectedPartition, operation: &crate::protocol::rawprogram::RawOperation) {
        let line = operation.line;
        if operation.kind == RawKind::Erase {
            if !partition.erased_in_lines.contains(&line) {
                partition.erased_in_lines.push(line);
            }
        } else if whole(operation).overlaps(partition.range) {
            let (image, bytes) = self.resolve(operation.file.as_deref().unwrap_or_default());
            partition.written.push(WrittenImage { line, image, pages: bytes.map(|bytes| self.pages(bytes)) });
        }
    }
}
