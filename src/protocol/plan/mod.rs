//! What a package does to a module, in an order that is safe to execute.
//!
//! Documents list operations in an order that kills a module if executed as written: real ones program the boot
//! loader, the partition table and TrustZone first and erase those very ranges last. A plan has one order: the boot
//! loader's whole partition is erased first, then everything else is erased, then everything else is programmed, and
//! the boot loader comes last. Whatever interrupts it, the chip finds no boot loader and falls back to download mode,
//! where the plan can be done again from its first operation.
//!
//! The ranges that hold the unit's calibration are taken from the *module's* table and are in no plan. A package that
//! touches them is refused, or its operations on them are left out; a package whose table moves them is refused
//! always.
//!
//! A plan is a pure function of its input: the same package and the same table give the same operations, and the
//! same digest, which the ledger records before the first of them is sent.

mod build;
mod error;
mod ranges;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

pub use self::error::PlanError;
use super::rawprogram::RawOperation;
use super::table::PartitionTable;
use crate::domain::{Geometry, PageRange, PlanSummary, Sha256Digest};

/// What to do with a package's operations on guarded partitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EfsPolicy {
    /// Refuse the package.
    Keep,
    /// Leave them out, and split wider erases around the guarded partitions.
    Carve,
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    /// The package's operations, in the document's order.
    pub operations: &'a [RawOperation],
    /// From a file name as the document writes it to the image's key and size in bytes.
    pub resolve: &'a dyn Fn(&str) -> Option<(String, u64)>,
    /// The chip's geometry, as its programmer says.
    pub geometry: Geometry,
    /// Pages of the storage, as the programmer says.
    pub total_pages: u64,
    /// The table read from the module.
    pub module_table: &'a PartitionTable,
    /// The table that the package writes, where it writes one.
    pub package_table: Option<&'a PartitionTable>,
    /// Names of the guarded partitions; the first one, the EFS, must be in the module's table.
    pub guarded: &'a [&'a str],
    /// What to do with operations on them.
    pub efs: EfsPolicy,
}

/// One erase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EraseOp {
    /// Whole blocks.
    pub range: PageRange,
    /// The partition of the module in which it lies completely.
    pub partition: Option<String>,
    /// What is passed on to the programmer besides the range.
    pub attributes: Vec<(String, String)>,
}

/// One program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramOp {
    /// The pages that the image takes: its real size, not the partition's.
    pub range: PageRange,
    /// The partition in which it lies completely, by the package's table where it has one.
    pub partition: Option<String>,
    /// The image's key in the package.
    pub image: String,
    /// The image's size in bytes; the last page is filled up with zeros.
    pub image_bytes: u64,
    /// What is passed on to the programmer besides the range.
    pub attributes: Vec<(String, String)>,
}

/// One operation of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation<'a> {
    /// An erase.
    Erase(&'a EraseOp),
    /// A program.
    Program(&'a ProgramOp),
}

/// What a package does to one module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The chip's geometry.
    pub geometry: Geometry,
    /// First of all: the boot loader's whole partition.
    pub boot_loader_erase: EraseOp,
    /// All other erases. They are disjoint.
    pub erases: Vec<EraseOp>,
    /// All programs but the boot loader's.
    pub programs: Vec<ProgramOp>,
    /// Last of all: the boot loader.
    pub boot_loader: ProgramOp,
    /// The guarded partitions, ascending; no operation has a page of them.
    pub guarded: Vec<PageRange>,
    /// What the document wanted to do to guarded partitions and was left out, ascending.
    pub carved: Vec<PageRange>,
}

impl Plan {
    /// All operations in the order in which they are executed.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        let erases = std::iter::once(&self.boot_loader_erase).chain(&self.erases).map(Operation::Erase);
        let programs = self.programs.iter().chain(std::iter::once(&self.boot_loader)).map(Operation::Program);
        erases.chain(programs)
    }

    /// Bytes that all programs send, the filling of last pages included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let programs = self.programs.iter().chain(std::iter::once(&self.boot_loader));
        programs.map(|program| self.program_bytes(program)).fold(0, u64::saturating_add)
    }

    /// Bytes that one program sends, the filling of its last page included.
    #[must_use]
    pub fn program_bytes(&self, program: &ProgramOp) -> u64 {
        program.range.pages.saturating_mul(self.geometry.page_bytes.into())
    }

    /// Whether a program writes to one of a family's boot-chain partitions ([`crate::domain::Family::boot_chain`]).
    /// The boot loader itself always does.
    #[must_use]
    pub fn is_boot_chain(&self, program: &ProgramOp, boot_chain: &[&str]) -> bool {
        let name = program.partition.as_deref().unwrap_or_default();
        program.range.start == 0 || boot_chain.iter().any(|link| link.eq_ignore_ascii_case(name))
    }

    /// What the ledger records before the first operation is sent.
    #[must_use]
    pub fn summary(&self) -> PlanSummary {
        let mut summary = PlanSummary {
            digest: self.digest(),
            erases: Vec::new(),
            programs: Vec::new(),
            guarded: self.guarded.clone(),
        };
        for operation in self.operations() {
            match operation {
                Operation::Erase(erase) => summary.erases.push(erase.range),
                Operation::Program(program) => summary.programs.push(program.range),
            }
        }
        summary
    }

    /// SHA-256 over the geometry, the guarded ranges and every operation with its attributes, in the order of
    /// execution. Each text and list is preceded by its length, so that no two plans have one encoding.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        let mut encoder = Encoder(Sha256::new());
        encoder.text("plan 1");
        encoder.number(self.geometry.page_bytes.into());
        encoder.number(self.geometry.pages_per_block.into());
        for ranges in [&self.guarded, &self.carved] {
            encoder.number(ranges.len() as u64);
            ranges.iter().for_each(|range| encoder.range(*range));
        }
        for operation in self.operations() {
            match operation {
                Operation::Erase(EraseOp { range, attributes, partition: _ }) => {
                    encoder.text("erase");
                    encoder.range(*range);
                    encoder.attributes(attributes);
                }
                Operation::Program(ProgramOp { range, attributes, image, image_bytes, partition: _ }) => {
                    encoder.text("program");
                    encoder.range(*range);
                    encoder.text(image);
                    encoder.number(*image_bytes);
                    encoder.attributes(attributes);
                }
            }
        }
        Sha256Digest::finish(encoder.0)
    }
}

struct Encoder(Sha256);

impl Encoder {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn range(&mut self, range: PageRange) {
        self.number(range.start);
        self.number(range.pages);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text);
    }

    fn attributes(&mut self, attributes: &[(String, String)]) {
        self.number(attributes.len() as u64);
        for (name, value) in attributes {
            self.text(name);
            self.text(value);
        }
    }
}

/// Makes the plan of a package for a module.
///
/// # Errors
/// When the package does not fit the module, touches or moves what belongs to the unit, or cannot be executed so
/// that an interruption at any moment is harmless.
pub fn build(input: &PlanInput<'_>) -> Result<Plan, PlanError> {
    build::Builder::new(input)?.build()
}
