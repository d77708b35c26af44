//! What a package would do to a module, in words: for a person who has to release it, before any module is there.
//!
//! Without a module its partition table is not known, so names are those of the table that the package writes. The
//! plan is made anew for each module, against that module's own table.

use std::fmt;

use serde::Serialize;

use super::document::guarded;
use super::shelf::shown;
use super::{DocumentInfo, Package, PackageFile, PackageKind};
use crate::domain::family::FAMILIES;
use crate::domain::{Geometry, PageRange, Sha256Digest};
use crate::protocol::rawprogram::{RawKind, RawOperation};

/// What is known of a package.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Inspection {
    /// The package's digest: what a profile pins.
    pub digest: Sha256Digest,
    /// What the chosen document is for.
    pub kind: PackageKind,
    /// Page and block size.
    pub geometry: Geometry,
    /// Bytes of all listed files.
    pub bytes: u64,
    /// The programmer's path.
    pub programmer: String,
    /// The raw-program documents.
    pub documents: Vec<DocumentInfo>,
    /// Erases and programs in the document's order.
    pub operations: Vec<InspectedOperation>,
    /// Guarded partitions in the package's table.
    pub guarded: Vec<GuardedPartition>,
    /// Whether the package writes a partition table; without one, what is guarded shows on the module only.
    pub has_table: bool,
    /// What the document's own order would leave behind.
    pub order: DocumentOrder,
    /// Every listed file with its digest.
    pub files: Vec<PackageFile>,
    /// Listed files that the chosen document does not use.
    pub unreferenced: Vec<String>,
    /// Listed files that vendors never ship.
    pub never_shipped: Vec<String>,
    /// What a person should know besides.
    pub warnings: Vec<String>,
}

/// One operation of the document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InspectedOperation {
    /// The line of the document.
    pub line: u32,
    /// `erase` or `program`.
    pub does: &'static str,
    /// Where; `None` for an erase of the whole storage.
    pub range: Option<PageRange>,
    /// The partitions it touches, by the package's table.
    pub partitions: Vec<String>,
    /// Whether one of them is guarded.
    pub touches_guarded: bool,
    /// The image it writes.
    pub image: Option<String>,
    /// Pages that the image takes.
    pub image_pages: Option<u64>,
}

/// A guarded partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GuardedPartition {
    /// Its name.
    pub name: String,
    /// Where it lies by the package's table.
    pub range: PageRange,
    /// Whether the document erases or writes it.
    pub touched: bool,
}

/// What executing the document as it is written would leave behind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DocumentOrder {
    /// Whether a module would not start afterwards.
    pub fatal: bool,
    /// What would be written first and erased later.
    pub lost: Vec<LostProgram>,
}

/// A program that a later erase of the same document undoes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LostProgram {
    /// The line that writes.
    pub line: u32,
    /// The later line that erases.
    pub erased_in_line: u32,
    /// What is lost: the partition, or the file where there is no table.
    pub what: String,
    /// Whether the module cannot start without it.
    pub boot_chain: bool,
}

/// Says what a package would do.
#[must_use]
pub fn inspect(package: &Package) -> Inspection {
    let inspector =
        Inspector { package, guarded: package.table().map_or_else(Vec::new, |t| guarded(t, package.geometry())) };
    let operations: Vec<InspectedOperation> =
        package.operations().iter().map(|operation| inspector.operation(operation)).collect();
    let is_used = |key: &String| package.image(key).is_some() || package.documents().iter().any(|d| d.key == *key);
    Inspection {
        digest: package.digest(),
        kind: package.kind(),
        geometry: package.geometry(),
        bytes: package.bytes(),
        programmer: package.programmer().key.clone(),
        documents: package.documents().to_vec(),
        guarded: inspector.guarded(),
        has_table: package.table().is_some(),
        order: inspector.order(),
        files: package.files().to_vec(),
        unreferenced: package.files().iter().map(|file| &file.key).filter(|key| !is_used(key)).cloned().collect(),
        never_shipped: package.never_shipped().to_vec(),
        warnings: package.warnings().to_vec(),
        operations,
    }
}

struct Inspector<'a> {
    package: &'a Package,
    guarded: Vec<(String, PageRange)>,
}

impl Inspector<'_> {
    fn operation(&self, operation: &RawOperation) -> InspectedOperation {
        let range = touched(operation);
        let resolved = operation.file.as_deref().and_then(|file| self.package.resolve(file));
        let page_bytes = u64::from(operation.geometry.page_bytes);
        let vendor = operation.vendor_range();
        InspectedOperation {
            line: operation.line,
            does: if operation.kind == RawKind::Program { "program" } else { "erase" },
            range: (operation.range.pages > 0).then_some(operation.range),
            partitions: self.partitions(range),
            touches_guarded: self
                .guarded
                .iter()
                .any(|(_, guarded)| guarded.overlaps(range) || vendor.is_some_and(|vendor| guarded.overlaps(vendor))),
            image_pages: resolved.as_ref().map(|(_, bytes)| bytes.div_ceil(page_bytes)),
            image: resolved.map(|(key, _)| key),
        }
    }

    fn partitions(&self, range: PageRange) -> Vec<String> {
        let Some(table) = self.package.table() else { return Vec::new() };
        let geometry = self.package.geometry();
        let touched = table.partitions().iter().filter(|p| table.range(p, geometry, u64::MAX).overlaps(range));
        touched.map(|partition| partition.name.clone()).collect()
    }

    fn guarded(&self) -> Vec<GuardedPartition> {
        let is_touched = |range: PageRange| {
            let operations = self.package.operations().iter();
            operations.flat_map(|o| [Some(touched(o)), o.vendor_range()]).flatten().any(|t| t.overlaps(range))
        };
        let guarded = self.guarded.iter();
        guarded
            .map(|(name, range)| GuardedPartition { name: name.clone(), range: *range, touched: is_touched(*range) })
            .collect()
    }

    /// Follows the document: what is written and erased later, and not written again after that, is lost.
    fn order(&self) -> DocumentOrder {
        let operations = self.package.operations();
        let mut lost = Vec::new();
        for (index, program) in operations.iter().enumerate().filter(|(_, o)| o.kind == RawKind::Program) {
            let later = &operations[index + 1..];
            let overlaps = |other: &&RawOperation| touched(other).overlaps(program.range);
            let Some(erase) = later.iter().rfind(|o| o.kind == RawKind::Erase && overlaps(o)) else { continue };
            let is_written_again =
                later.iter().any(|o| o.kind == RawKind::Program && overlaps(&o) && o.line > erase.line);
            if is_written_again {
                continue;
            }
            let partitions = self.partitions(program.range);
            let file = program.file.as_deref().map(shown).unwrap_or_default();
            let is_link = |name: &String| {
                FAMILIES.iter().flat_map(|family| family.boot_chain).any(|link| link.eq_ignore_ascii_case(name))
            };
            lost.push(LostProgram {
                line: program.line,
                erased_in_line: erase.line,
                boot_chain: program.range.start == 0 || partitions.is_empty() || partitions.iter().any(is_link),
                what: if partitions.is_empty() { file } else { partitions.join(", ") },
            });
        }
        DocumentOrder { fatal: lost.iter().any(|program| program.boot_chain), lost }
    }
}

/// The pages that an operation touches; without a length that is the whole storage, however large.
fn touched(operation: &RawOperation) -> PageRange {
    if operation.range.pages == 0 { PageRange { start: 0, pages: u64::MAX } } else { operation.range }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "package     {} ({}, {} bytes)", self.digest, self.kind.as_str(), self.bytes)?;
        writeln!(f, "storage     NAND, {}", self.geometry)?;
        writeln!(f, "programmer  {}", self.programmer)?;
        for document in &self.documents {
            let used = if document.chosen { "used" } else { "not used" };
            writeln!(f, "document    {} ({}, {used})", document.key, document.kind.as_str())?;
        }
        writeln!(f, "\nWhat it does, in the document's order:")?;
        for operation in &self.operations {
            writeln!(f, "{operation}")?;
        }
        self.calibration(f)?;
        self.own_order(f)?;
        let lists = [("listed and not used", &self.unreferenced), ("listed and never shipped", &self.never_shipped)];
        for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            writeln!(f, "\n{what}: {}", names.join(", "))?;
        }
        for warning in &self.warnings {
            writeln!(f, "\nwarning: {warning}")?;
        }
        writeln!(f, "\nFiles (SHA-256, bytes, name):")?;
        self.files.iter().try_for_each(|file| writeln!(f, "  {}  {:>11}  {}", file.sha256, file.bytes, file.key))
    }
}

impl Inspection {
    fn calibration(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        if !self.has_table {
            writeln!(f, "The package writes no partition table: what belongs to the unit shows on the module only.")?;
        }
        for partition in &self.guarded {
            let does = if partition.touched { "TOUCHED" } else { "left alone" };
            writeln!(f, "guarded     {} at pages {}: {does}", partition.name, pages(partition.range))?;
        }
        if self.guarded.iter().any(|partition| partition.touched) {
            writeln!(f, "The package writes over what belongs to the unit. With `efs: keep` it is refused, with")?;
            writeln!(f, "`efs: carve` those operations are left out.")?;
        }
        Ok(())
    }

    fn own_order(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.order.lost.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nThe document's own order is not the order of the flash. Executed as written, it would lose:")?;
        for LostProgram { line, erased_in_line, what, .. } in &self.order.lost {
            writeln!(f, "  {what}: written in line {line}, erased in line {erased_in_line}")?;
        }
        if self.order.fatal {
            writeln!(f, "A module would not start after that.")?;
        }
        Ok(())
    }
}

impl fmt::Display for InspectedOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.range.map_or_else(|| "the whole storage".to_owned(), pages);
        let partitions = if self.partitions.is_empty() { "-".to_owned() } else { self.partitions.join(",") };
        write!(f, "  line {:>4}  {:<7}  {range:<17}  {partitions}", self.line, self.does)?;
        if let (Some(image), Some(image_pages)) = (&self.image, self.image_pages) {
            write!(f, "  {image} ({image_pages} pages)")?;
        }
        if self.touches_guarded { write!(f, "  GUARDED") } else { Ok(()) }
    }
}

fn pages(range: PageRange) -> String {
    format!("{}-{}", range.start, range.end().saturating_sub(1))
}
