//! What a package would do to a module: for a person who has to release it, before any module is there.
//!
//! Without a module its partition table is not known, so names are those of the table that the package writes, or of
//! the list that this table was made from. The plan is made anew for each module, against that module's own table.
//!
//! An inspection also says what a package lacks. [`inspect`] takes one that is whole; [`survey()`] takes whatever is
//! there of one that is not, because documents alone already tell whether calibration would be lost.

mod findings;
mod order;
mod partitions;
mod survey;
mod words;

use serde::Serialize;

use super::document::guarded;
use super::names::normalise;
use super::shelf::{FIREHOSE, shown};
use super::{DocumentInfo, Package, PackageFile, PackageKind};
use crate::domain::family::FAMILIES;
use crate::domain::{Geometry, PageRange, Sha256Digest};
use crate::protocol::rawprogram::{RawKind, RawOperation};
use crate::protocol::table::PartitionTable;

pub use findings::Finding;
pub use order::{DocumentOrder, LostProgram};
pub use partitions::{InspectedPartition, WrittenImage};
pub use survey::survey;

/// The partition that holds the partition table.
const TABLE_PARTITION: &str = "mibib";

/// What is known of a package. `docs/packages.md` describes the document that it is as JSON; keys in it stay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Inspection {
    /// The package's digest: what a profile pins. `None` where a file is missing or damaged.
    pub digest: Option<Sha256Digest>,
    /// Whether a station can use the package.
    pub usable: bool,
    /// What the chosen document is for.
    pub kind: PackageKind,
    /// Page and block size.
    pub geometry: Geometry,
    /// Bytes of all listed files that are there.
    pub bytes: u64,
    /// The programmer's path; `None` where there is not exactly one.
    pub programmer: Option<String>,
    /// The raw-program documents.
    pub documents: Vec<DocumentInfo>,
    /// The file that the partitions' names are from; `None` where the package has neither table nor list.
    pub names_from: Option<String>,
    /// What happens to each partition that the document touches, in the order of their places.
    pub partitions: Vec<InspectedPartition>,
    /// Erases and programs in the document's order.
    pub operations: Vec<InspectedOperation>,
    /// Guarded partitions.
    pub guarded: Vec<GuardedPartition>,
    /// Whether any of them is erased or written.
    pub touches_guarded: bool,
    /// Whether the EFS itself is: with that, the unit's calibration and IMEI.
    pub rewrites_efs: bool,
    /// Whether the partition table is erased or written.
    pub writes_table: bool,
    /// Whether the boot loader is written.
    pub writes_boot_loader: bool,
    /// What the document's own order would leave behind.
    pub order: DocumentOrder,
    /// Every listed file that is there, with its digest.
    pub files: Vec<PackageFile>,
    /// Files that the check list or the document names and that are not there.
    pub missing: Vec<String>,
    /// Files that are not what the check list says, or cannot be read.
    pub damaged: Vec<String>,
    /// What is there more than once.
    pub duplicate: Vec<Duplicate>,
    /// Listed files that the chosen document does not use.
    pub unreferenced: Vec<String>,
    /// Files that the check list does not name.
    pub unlisted: Vec<String>,
    /// Listed files that vendors never ship.
    pub never_shipped: Vec<String>,
    /// Why else it cannot be used.
    pub refused: Vec<String>,
    /// What a person should know besides.
    pub warnings: Vec<String>,
    /// What follows from all of it, a sentence each.
    pub findings: Vec<Finding>,
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
    /// The partitions it touches.
    pub partitions: Vec<String>,
    /// Whether one of them is guarded.
    pub touches_guarded: bool,
    /// The image it writes.
    pub image: Option<String>,
    /// Pages that the image takes; `None` where it is not there.
    pub image_pages: Option<u64>,
}

/// What a guarded partition is to its unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardedRole {
    /// The EFS: calibration, IMEI, settings.
    Efs,
    /// The module's own copy of it, or of the unit's identity.
    Copy,
}

/// A guarded partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GuardedPartition {
    /// Its name.
    pub name: String,
    /// The EFS itself, or a copy.
    pub role: GuardedRole,
    /// Where it lies.
    pub range: PageRange,
    /// Whether the document erases or writes it.
    pub touched: bool,
    /// The lines that do.
    pub lines: Vec<u32>,
}

/// Something that is there more than once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Duplicate {
    /// `content`: files with equal bytes; `document`, `programmer`: where there must be one.
    pub what: &'static str,
    /// Their paths.
    pub names: Vec<String>,
}

/// What an inspection is made from: a whole package, or what is there of one.
struct Subject {
    digest: Option<Sha256Digest>,
    kind: PackageKind,
    geometry: Geometry,
    programmer: Option<String>,
    documents: Vec<DocumentInfo>,
    operations: Vec<RawOperation>,
    /// The table with the file that it is from.
    table: Option<(PartitionTable, String)>,
    /// Listed files that are there, by key.
    files: Vec<PackageFile>,
    missing: Vec<String>,
    damaged: Vec<String>,
    duplicate: Vec<Duplicate>,
    unlisted: Vec<String>,
    never_shipped: Vec<String>,
    refused: Vec<String>,
    warnings: Vec<String>,
}

/// Says what a package would do.
#[must_use]
pub fn inspect(package: &Package) -> Inspection {
    Subject {
        digest: Some(package.digest()),
        kind: package.kind(),
        geometry: package.geometry(),
        programmer: Some(package.programmer().key.clone()),
        documents: package.documents().to_vec(),
        operations: package.operations().to_vec(),
        table: package.names().map(|(table, from)| (table.clone(), from.to_owned())),
        files: package.files().to_vec(),
        missing: Vec::new(),
        damaged: Vec::new(),
        duplicate: Vec::new(),
        unlisted: package.unlisted().to_vec(),
        never_shipped: package.never_shipped().to_vec(),
        refused: Vec::new(),
        warnings: package.warnings().to_vec(),
    }
    .inspect()
}

impl Subject {
    fn inspect(self) -> Inspection {
        let guarded = self.guarded();
        let order = self.order();
        let operations: Vec<InspectedOperation> =
            self.operations.iter().map(|operation| self.operation(operation)).collect();
        let mut duplicate = self.duplicate.clone();
        duplicate.extend(equal_files(&self.files));
        let touches = |ranges: &[PageRange]| {
            self.operations.iter().flat_map(touched).any(|touched| ranges.iter().any(|range| range.overlaps(touched)))
        };
        let tables: Vec<PageRange> = self.named(|name| name.eq_ignore_ascii_case(TABLE_PARTITION));
        let is_table_file = |operation: &RawOperation| {
            let file = operation.file.as_deref().unwrap_or_default().to_ascii_lowercase();
            file.rsplit(['\\', '/']).next().is_some_and(|name| name.starts_with("partition_complete"))
        };
        let mut inspection = Inspection {
            digest: self.digest,
            usable: self.missing.is_empty() && self.damaged.is_empty() && self.refused.is_empty(),
            kind: self.kind,
            geometry: self.geometry,
            bytes: self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add),
            names_from: self.table.as_ref().map(|(_, from)| from.clone()),
            partitions: self.partitions(),
            touches_guarded: guarded.iter().any(|partition| partition.touched),
            rewrites_efs: guarded.iter().any(|partition| partition.touched && partition.role == GuardedRole::Efs)
                || self.operations.iter().any(writes_skeleton),
            writes_table: touches(&tables) || self.operations.iter().any(is_table_file),
            writes_boot_loader: self.operations.iter().any(writes_boot_loader),
            unreferenced: self.unreferenced(),
            programmer: self.programmer,
            documents: self.documents,
            operations,
            guarded,
            order,
            files: self.files,
            missing: self.missing,
            damaged: self.damaged,
            duplicate,
            unlisted: self.unlisted,
            never_shipped: self.never_shipped,
            refused: self.refused,
            warnings: self.warnings,
            findings: Vec::new(),
        };
        inspection.findings = findings::findings(&inspection);
        inspection
    }

    /// The key of a file that the document names, with its length where it is there.
    fn resolve(&self, file: &str) -> (String, Option<u64>) {
        match normalise(FIREHOSE, file) {
            Ok(key) => {
                let bytes = self.files.iter().find(|found| found.key == key).map(|found| found.bytes);
                (shown(&key), bytes)
            }
            Err(_) => (shown(file), None),
        }
    }

    fn operation(&self, operation: &RawOperation) -> InspectedOperation {
        let resolved = operation.file.as_deref().map(|file| self.resolve(file));
        let guarded = self.table.as_ref().map_or_else(Vec::new, |(table, _)| guarded(table, self.geometry));
        InspectedOperation {
            line: operation.line,
            does: if operation.kind == RawKind::Program { "program" } else { "erase" },
            range: (operation.range.pages > 0).then_some(operation.range),
            partitions: self.partitions_in(whole(operation)),
            touches_guarded: touched(operation).any(|range| guarded.iter().any(|(_, other)| other.overlaps(range)))
                || writes_skeleton(operation),
            image_pages: resolved.as_ref().and_then(|(_, bytes)| *bytes).map(|bytes| self.pages(bytes)),
            image: resolved.map(|(key, _)| key),
        }
    }

    fn pages(&self, bytes: u64) -> u64 {
        bytes.div_ceil(u64::from(self.geometry.page_bytes).max(1))
    }

    /// The ranges of the partitions whose names are meant.
    fn named(&self, is_meant: impl Fn(&str) -> bool) -> Vec<PageRange> {
        let Some((table, _)) = &self.table else { return Vec::new() };
        let meant = table.partitions().iter().filter(|partition| is_meant(&partition.name));
        meant.map(|partition| table.range(partition, self.geometry, u64::MAX)).collect()
    }

    fn partitions_in(&self, range: PageRange) -> Vec<String> {
        let Some((table, _)) = &self.table else { return Vec::new() };
        let touched = table.partitions().iter().filter(|p| table.range(p, self.geometry, u64::MAX).overlaps(range));
        touched.map(|partition| partition.name.clone()).collect()
    }

    fn guarded(&self) -> Vec<GuardedPartition> {
        let Some((table, _)) = &self.table else { return Vec::new() };
        let is_efs =
            |name: &str| FAMILIES.iter().filter_map(|f| f.guarded.first()).any(|efs| efs.eq_ignore_ascii_case(name));
        let lines = |range: PageRange| -> Vec<u32> {
            let touching = self.operations.iter().filter(|o| touched(o).any(|touched| touched.overlaps(range)));
            touching.map(|operation| operation.line).collect()
        };
        guarded(table, self.geometry)
            .into_iter()
            .map(|(name, range)| {
                let lines = lines(range);
                let role = if is_efs(&name) { GuardedRole::Efs } else { GuardedRole::Copy };
                GuardedPartition { name, role, range, touched: !lines.is_empty(), lines }
            })
            .collect()
    }

    fn unreferenced(&self) -> Vec<String> {
        let programmed = self.operations.iter().filter_map(|operation| operation.file.as_deref());
        let mut used: Vec<String> = programmed.filter_map(|file| normalise(FIREHOSE, file).ok()).collect();
        used.extend(self.documents.iter().map(|document| document.key.clone()));
        used.extend(self.programmer.clone());
        self.files.iter().map(|file| file.key.clone()).filter(|key| !used.contains(key)).collect()
    }
}

/// Files with equal content; empty ones are not worth a word.
fn equal_files(files: &[PackageFile]) -> Vec<Duplicate> {
    let mut sorted: Vec<&PackageFile> = files.iter().filter(|file| file.bytes > 0).collect();
    sorted.sort_by_key(|file| file.sha256);
    sorted
        .chunk_by(|a, b| a.sha256 == b.sha256)
        .filter(|equal| equal.len() > 1)
        .map(|equal| Duplicate { what: "content", names: equal.iter().map(|file| file.key.clone()).collect() })
        .collect()
}

/// The pages of an operation; without a length that is the whole storage, however large.
fn whole(operation: &RawOperation) -> PageRange {
    if operation.range.pages == 0 { PageRange { start: 0, pages: u64::MAX } } else { operation.range }
}

/// Everything an operation touches, a vendor's further range included.
fn touched(operation: &RawOperation) -> impl Iterator<Item = PageRange> {
    std::iter::once(whole(operation)).chain(operation.vendor_range())
}

/// Whether an operation writes the blank EFS of a factory package, wherever that is.
fn writes_skeleton(operation: &RawOperation) -> bool {
    let file = operation.file.as_deref().unwrap_or_default().to_ascii_lowercase();
    file.rsplit(['/', '\\']).next().is_some_and(|name| name.starts_with("cefs"))
}

fn writes_boot_loader(operation: &RawOperation) -> bool {
    operation.kind == RawKind::Program && operation.range.start == 0
}
