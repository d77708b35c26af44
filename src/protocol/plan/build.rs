//! From a document's operations to a plan.

use super::ranges::{intersection, union, without};
use super::{EfsPolicy, EraseOp, Plan, PlanError, PlanInput, ProgramOp};
use crate::domain::family::FAMILIES;
use crate::domain::limits::DEVICE_TEXT_CHARS_MAX;
use crate::domain::text::printable;
use crate::domain::{Geometry, PageRange};
use crate::protocol::rawprogram::{RawKind, RawOperation};

const FIRST_PAGE: PageRange = PageRange { start: 0, pages: 1 };

/// A program with the document's line and range, which its image may not fill.
struct Placed {
    line: u32,
    provided: PageRange,
    program: ProgramOp,
}

pub(super) struct Builder<'a> {
    input: &'a PlanInput<'a>,
    guarded: Vec<(String, PageRange)>,
    carved: Vec<PageRange>,
    boot_partition: PageRange,
    boot_loader_erase: Option<EraseOp>,
    erases: Vec<EraseOp>,
    programs: Vec<Placed>,
}

impl<'a> Builder<'a> {
    /// Checks what does not depend on single operations: sizes, and the two tables.
    pub(super) fn new(input: &'a PlanInput<'a>) -> Result<Self, PlanError> {
        let &PlanInput { geometry, total_pages, module_table, package_table, .. } = input;
        let Geometry { page_bytes, pages_per_block } = geometry;
        let makes_sense = page_bytes > 0 && pages_per_block > 0 && total_pages > 0;
        if !makes_sense || !total_pages.is_multiple_of(pages_per_block.into()) {
            return Err(PlanError::Storage { total_pages, geometry });
        }
        for operation in input.operations.iter().filter(|operation| operation.kind != RawKind::Patch) {
            if operation.geometry != geometry {
                let (line, package, chip) = (operation.line, operation.geometry, geometry);
                return Err(PlanError::Geometry { line, package, chip });
            }
        }
        module_table.check_fits(geometry, total_pages).map_err(PlanError::ModuleTable)?;
        if let Some(table) = package_table {
            table.check_fits(geometry, total_pages).map_err(PlanError::PackageTable)?;
        }
        let guarded = guarded(input)?;
        let boot_partition = module_table
            .holder(FIRST_PAGE, geometry, total_pages)
            .map(|partition| module_table.range(partition, geometry, total_pages))
            .filter(|range| !guarded.iter().any(|(_, guarded)| guarded.overlaps(*range)))
            .ok_or(PlanError::NoBootPartition)?;
        Ok(Self {
            input,
            guarded,
            carved: Vec::new(),
            boot_partition,
            boot_loader_erase: None,
            erases: Vec::new(),
            programs: Vec::new(),
        })
    }

    pub(super) fn build(mut self) -> Result<Plan, PlanError> {
        for operation in self.input.operations {
            match operation.kind {
                RawKind::Erase => self.erase(operation)?,
                RawKind::Program => self.program(operation)?,
                RawKind::Patch if operation.is_disk_patch() => {
                    return Err(PlanError::DiskPatch { line: operation.line });
                }
                RawKind::Patch => {}
            }
        }
        self.check_programs()?;
        let boot_loader_erase = self.boot_loader_erase.take().ok_or(PlanError::BootLoaderNotErased)?;
        let mut erased: Vec<PageRange> = self.erases.iter().map(|erase| erase.range).collect();
        erased.push(boot_loader_erase.range);
        let erased = union(&erased);
        for Placed { line, program, .. } in &self.programs {
            if !erased.iter().any(|range| range.contains(program.range)) {
                return Err(PlanError::NotErased { line: *line });
            }
        }
        self.check_boot_chain(&erased)?;
        let (boot_loader, programs): (Vec<_>, Vec<_>) =
            self.programs.into_iter().map(|placed| placed.program).partition(|program| program.range.start == 0);
        let boot_loader = boot_loader.into_iter().next().ok_or(PlanError::NoBootLoader)?;
        let mut guarded: Vec<PageRange> = self.guarded.into_iter().map(|(_, range)| range).collect();
        guarded.sort_unstable();
        Ok(Plan {
            geometry: self.input.geometry,
            boot_loader_erase,
            erases: self.erases,
            programs,
            boot_loader,
            guarded,
            carved: union(&self.carved),
        })
    }

    fn erase(&mut self, operation: &RawOperation) -> Result<(), PlanError> {
        let line = operation.line;
        let whole_storage = PageRange { start: 0, pages: self.input.total_pages };
        let range = if operation.range.pages == 0 { whole_storage } else { operation.range };
        self.check_place(line, range)?;
        if !range.pages.is_multiple_of(self.pages_per_block()) {
            return Err(self.unaligned(line));
        }
        let vendor_range = operation.vendor_range();
        if let Some(vendor_range) = vendor_range {
            self.check_inside(line, vendor_range)?;
        }
        let touched: Vec<PageRange> = [Some(range), vendor_range].into_iter().flatten().collect();
        let is_guarded = self.carve(line, "erases", &touched)?;
        if is_guarded && operation.has_vendor_tag() {
            return Ok(());
        }
        let guarded: Vec<PageRange> = self.guarded.iter().map(|(_, range)| *range).collect();
        let mut pieces = without(range, &guarded);
        if operation.has_vendor_tag() {
            let taken = self.taken();
            if touched.iter().any(|range| taken.iter().any(|other| other.overlaps(*range))) {
                return Err(PlanError::VendorErase { line });
            }
        }
        if self.boot_loader_erase.is_none() && pieces.iter().any(|piece| piece.contains(FIRST_PAGE)) {
            self.boot_loader_erase = Some(self.erase_op(operation, self.boot_partition));
        }
        let taken = self.taken();
        pieces = pieces.into_iter().flat_map(|piece| without(piece, &taken)).collect();
        for piece in pieces {
            let erase = self.erase_op(operation, piece);
            self.erases.push(erase);
        }
        Ok(())
    }

    /// What must not be erased (again) by the erases that follow: the boot loader's partition has an erase of its own.
    fn taken(&self) -> Vec<PageRange> {
        self.erases.iter().map(|erase| erase.range).chain([self.boot_partition]).collect()
    }

    fn erase_op(&self, operation: &RawOperation, range: PageRange) -> EraseOp {
        let mut attributes = operation.attributes.clone();
        if range != operation.range {
            // A label would send the programmer to the whole partition, a wrong last sector beyond the piece.
            attributes.retain(|(name, _)| name != "label" || range == self.boot_partition);
            for (_, value) in attributes.iter_mut().filter(|(name, _)| name == "last_sector") {
                *value = (range.end() - 1).to_string();
            }
        }
        EraseOp { range, partition: self.partition(range, false), attributes }
    }

    fn program(&mut self, operation: &RawOperation) -> Result<(), PlanError> {
        let (line, provided) = (operation.line, operation.range);
        self.check_place(line, provided)?;
        if self.carve(line, "writes", &[provided])? {
            // Left out only if nothing outside of the guarded partitions is lost with it.
            let guarded: Vec<PageRange> = self.guarded.iter().map(|(_, range)| *range).collect();
            if without(provided, &guarded).is_empty() {
                return Ok(());
            }
            let name = self.guarded_name(provided);
            return Err(PlanError::TouchesGuarded { line, does: "writes", name });
        }
        if operation.file_page_offset != 0 {
            return Err(PlanError::FileOffset { line });
        }
        let file = operation.file.as_deref().unwrap_or_default();
        let (image, image_bytes) = (self.input.resolve)(file)
            .ok_or_else(|| PlanError::UnknownFile { line, file: printable(file, DEVICE_TEXT_CHARS_MAX) })?;
        let pages = image_bytes.div_ceil(self.input.geometry.page_bytes.into());
        if pages == 0 {
            return Err(PlanError::EmptyImage { line, image });
        }
        if pages > provided.pages {
            return Err(PlanError::ImageTooLarge { line, image, pages, room: provided.pages });
        }
        let range = PageRange { start: provided.start, pages };
        let attributes = operation.attributes.clone();
        let partition = self.partition(range, true);
        let program = ProgramOp { range, partition, image, image_bytes, attributes };
        self.programs.push(Placed { line, provided, program });
        Ok(())
    }

    /// Notes what of `touched` is guarded and so left out; `true` when anything is.
    fn carve(&mut self, line: u32, does: &'static str, touched: &[PageRange]) -> Result<bool, PlanError> {
        let mut is_guarded = false;
        for (name, guarded) in &self.guarded {
            for both in touched.iter().filter_map(|range| intersection(*range, *guarded)) {
                if self.input.efs == EfsPolicy::Keep {
                    return Err(PlanError::TouchesGuarded { line, does, name: name.clone() });
                }
                self.carved.push(both);
                is_guarded = true;
            }
        }
        Ok(is_guarded)
    }

    fn check_programs(&self) -> Result<(), PlanError> {
        for (index, placed) in self.programs.iter().enumerate() {
            for other in &self.programs[index + 1..] {
                if placed.provided.overlaps(other.provided) {
                    return Err(PlanError::Overlap { first: placed.line, second: other.line });
                }
            }
            let range = placed.program.range;
            let is_boot_loader = range.start == 0;
            if range.overlaps(self.boot_partition) && !(is_boot_loader && self.boot_partition.contains(range)) {
                return Err(PlanError::BootLoaderShape { line: placed.line });
            }
        }
        Ok(())
    }

    /// A partition that is needed for the start and erased must be written again. Which ones are needed is known for
    /// the families together; a name that two of them use means the same in both.
    fn check_boot_chain(&self, erased: &[PageRange]) -> Result<(), PlanError> {
        let &PlanInput { geometry, total_pages, module_table, package_table, .. } = self.input;
        let table = package_table.unwrap_or(module_table);
        for name in FAMILIES.iter().flat_map(|family| family.boot_chain) {
            let Some(partition) = table.find(name) else { continue };
            let range = table.range(partition, geometry, total_pages);
            let is_erased = erased.iter().any(|erased| erased.overlaps(range));
            let is_written = self.programs.iter().any(|placed| range.contains(placed.program.range));
            if is_erased && !is_written && range.start != 0 {
                return Err(PlanError::BootChainLost { name: partition.name.clone() });
            }
        }
        Ok(())
    }

    fn check_place(&self, line: u32, range: PageRange) -> Result<(), PlanError> {
        self.check_inside(line, range)?;
        if range.start.is_multiple_of(self.pages_per_block()) { Ok(()) } else { Err(self.unaligned(line)) }
    }

    fn check_inside(&self, line: u32, range: PageRange) -> Result<(), PlanError> {
        let total_pages = self.input.total_pages;
        let is_inside = range.start.checked_add(range.pages).is_some_and(|end| end <= total_pages);
        if is_inside { Ok(()) } else { Err(PlanError::BeyondStorage { line, total_pages }) }
    }

    fn unaligned(&self, line: u32) -> PlanError {
        PlanError::Unaligned { line, pages_per_block: self.input.geometry.pages_per_block }
    }

    fn pages_per_block(&self) -> u64 {
        self.input.geometry.pages_per_block.into()
    }

    fn guarded_name(&self, range: PageRange) -> String {
        let touched = self.guarded.iter().find(|(_, guarded)| guarded.overlaps(range));
        touched.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// The name of the partition that holds `range`: after the flash it is the package's table that counts.
    fn partition(&self, range: PageRange, after: bool) -> Option<String> {
        let &PlanInput { geometry, total_pages, module_table, package_table, .. } = self.input;
        let table = if after { package_table.unwrap_or(module_table) } else { module_table };
        table.holder(range, geometry, total_pages).map(|partition| partition.name.clone())
    }
}

/// Where the guarded partitions lie, by the module's table; the package's table must leave them there.
fn guarded(input: &PlanInput<'_>) -> Result<Vec<(String, PageRange)>, PlanError> {
    let &PlanInput { geometry, total_pages, module_table, package_table, .. } = input;
    let mut out: Vec<(String, PageRange)> = Vec::new();
    if input.guarded.is_empty() {
        return Err(PlanError::NoEfs { name: "(none is named)".to_owned() });
    }
    for (index, &name) in input.guarded.iter().enumerate() {
        let module = module_table.find(name).map(|found| module_table.range(found, geometry, total_pages));
        if let Some(table) = package_table {
            let package = table.find(name).map(|found| table.range(found, geometry, total_pages));
            if module != package && (index > 0 || module.is_some()) {
                return Err(PlanError::MovesGuarded { name: name.to_owned(), module, package });
            }
        }
        match module {
            Some(range) => out.push((name.to_owned(), range)),
            None if index == 0 => return Err(PlanError::NoEfs { name: name.to_owned() }),
            None => {}
        }
    }
    Ok(out)
}
