//! Which file of a package is what: programmer, raw-program documents and patches, by name and by content.
//!
//! An *update* leaves the unit's calibration alone, a *factory* document writes a blank skeleton over it. Both lie
//! side by side in some packages, and a flasher that takes the first one it finds gambles with the calibration. Names
//! can be wrong, so the content decides as well: what erases or writes a guarded partition, or uses `cefs.mbn`, is a
//! factory document whatever it is called.

use serde::Serialize;

use super::error::{PackageError, PackageProblem as Problem};
use super::shelf::{error, error_at};
use crate::domain::family::FAMILIES;
use crate::domain::{Geometry, PageRange};
use crate::protocol::rawprogram::{RawKind, RawOperation, RawProgramErrorKind, parse};
use crate::protocol::table::PartitionTable;

/// What a raw-program document is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageKind {
    /// New firmware; the unit's calibration stays.
    Update,
    /// A blank unit: the calibration is written over.
    Factory,
}

impl PackageKind {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Factory => "factory",
        }
    }
}

/// What the name of a file directly in `update/firehose` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Programmer,
    /// A programmer for eMMC or UFS.
    OtherProgrammer,
    RawProgram,
    Patch,
    Other,
}

pub(super) fn role(name: &str) -> Role {
    let name = name.to_ascii_lowercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    if ends(&[".xml"]) {
        return match () {
            () if starts(&["rawprogram", "firehose-rawprogram"]) => Role::RawProgram,
            () if starts(&["patch"]) => Role::Patch,
            () => Role::Other,
        };
    }
    match () {
        () if !ends(&[".mbn", ".elf", ".melf"]) => Role::Other,
        () if starts(&["prog_emmc", "prog_ufs"]) => Role::OtherProgrammer,
        () if starts(&["prog_", "firehose-prog", "xbl_s_devprg_ns"]) => Role::Programmer,
        () => Role::Other,
    }
}

/// The geometry in a name like `rawprogram_nand_p2K_b128K_update.xml`.
pub(super) fn geometry_in_name(name: &str) -> Option<Geometry> {
    let parts: Vec<&str> = name.split(['_', '.']).collect();
    let kib = |part: &str, letter: char| -> Option<u32> {
        part.strip_prefix(letter)?.strip_suffix('K')?.parse::<u32>().ok()?.checked_mul(1024).filter(|bytes| *bytes > 0)
    };
    parts.windows(2).find_map(|pair| {
        let (page_bytes, block_bytes) = (kib(pair[0], 'p')?, kib(pair[1], 'b')?);
        Some(Geometry { page_bytes, pages_per_block: block_bytes / page_bytes })
    })
}

/// A raw-program document that was read.
pub(super) struct Document {
    pub(super) key: String,
    pub(super) operations: Vec<RawOperation>,
    pub(super) geometry: Geometry,
}

impl Document {
    /// Reads a raw-program document; its operations have one geometry, and it is that of the name.
    pub(super) fn read(key: &str, text: &str) -> Result<Self, PackageError> {
        let operations = read(key, text)?;
        if let Some(patch) = operations.iter().find(|operation| operation.is_disk_patch()) {
            return Err(error_at(key, patch.line, Problem::DiskPatch));
        }
        let operations: Vec<RawOperation> =
            operations.into_iter().filter(|operation| operation.kind != RawKind::Patch).collect();
        let first = operations.first().ok_or_else(|| error(key, Problem::NothingToDo))?;
        let geometry = geometry_in_name(key).unwrap_or(first.geometry);
        for operation in &operations {
            if operation.geometry != geometry {
                let (found, expected) = (operation.geometry, geometry);
                return Err(error_at(key, operation.line, Problem::Geometry { found, expected }));
            }
        }
        Ok(Self { key: key.to_owned(), operations, geometry })
    }

    /// The files that it programs, as written, with their lines.
    pub(super) fn programmed(&self) -> impl Iterator<Item = (&str, u32)> {
        let programs = self.operations.iter().filter(|operation| operation.kind == RawKind::Program);
        programs.filter_map(|operation| Some((operation.file.as_deref()?, operation.line)))
    }

    /// What it is for; `table` is the one that it writes.
    pub(super) fn kind(&self, table: Option<&PartitionTable>) -> PackageKind {
        let name = self.key.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let guarded = table.map_or_else(Vec::new, |table| guarded(table, self.geometry));
        let is_factory = |operation: &RawOperation| {
            let erases_all = operation.kind == RawKind::Erase && operation.range.pages == 0;
            let file = operation.file.as_deref().unwrap_or_default().to_ascii_lowercase();
            let is_skeleton = file.rsplit(['/', '\\']).next().is_some_and(|name| name.starts_with("cefs"));
            let ranges = [Some(operation.range), operation.vendor_range()];
            let touches = |range: PageRange| guarded.iter().any(|(_, guarded)| guarded.overlaps(range));
            erases_all || is_skeleton || ranges.into_iter().flatten().any(touches)
        };
        if name.contains("factory") || self.operations.iter().any(is_factory) {
            PackageKind::Factory
        } else {
            PackageKind::Update
        }
    }
}

/// Reads a document of patches: they are for the host's copy of a file and change nothing, unless they are for the
/// storage, which a NAND cannot do.
pub(super) fn check_patches(key: &str, text: &str) -> Result<(), PackageError> {
    for operation in read(key, text)? {
        match operation.kind {
            RawKind::Patch if operation.is_disk_patch() => {
                return Err(error_at(key, operation.line, Problem::DiskPatch));
            }
            RawKind::Patch => {}
            RawKind::Erase | RawKind::Program => return Err(error_at(key, operation.line, Problem::NotAPatch)),
        }
    }
    Ok(())
}

fn read(key: &str, text: &str) -> Result<Vec<RawOperation>, PackageError> {
    parse(text).map_err(|error| match error.kind {
        RawProgramErrorKind::NotNand(_) => error_at(key, error.line, Problem::NotNand),
        kind => error_at(key, error.line, Problem::RawProgram(kind)),
    })
}

/// The partitions of a table that some family guards, with their names, ascending. (Which family the module is of is
/// not known here; a name that one of them guards is never anything else in another.)
pub(super) fn guarded(table: &PartitionTable, geometry: Geometry) -> Vec<(String, PageRange)> {
    let names: Vec<&str> = FAMILIES.iter().flat_map(|family| family.guarded).copied().collect();
    let mut out: Vec<(String, PageRange)> = table
        .partitions()
        .iter()
        .filter(|partition| names.iter().any(|name| name.eq_ignore_ascii_case(&partition.name)))
        .map(|partition| (partition.name.clone(), table.range(partition, geometry, u64::MAX)))
        .collect();
    out.sort_by_key(|(_, range)| *range);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_roles_and_sizes() {
        let cases = [
            ("prog_nand_firehose_9x07.mbn", Role::Programmer),
            ("prog_firehose_sdx55.mbn", Role::Programmer),
            ("prog_firehose_sdx6x.elf", Role::Programmer),
            ("prog_emmc_firehose_8916.mbn", Role::OtherProgrammer),
            ("partition_complete_p2K_b128K.mbn", Role::Other),
            ("rawprogram_nand_p2K_b128K_update.xml", Role::RawProgram),
            ("rawprogram0.xml", Role::RawProgram),
            ("patch_p2K_b128K.xml", Role::Patch),
            ("patch0.xml", Role::Patch),
            ("partition_nand.xml", Role::Other),
        ];
        for (name, expected) in cases {
            assert_eq!(role(name), expected, "{name}");
        }
        let two = Geometry { page_bytes: 2048, pages_per_block: 64 };
        assert_eq!(geometry_in_name("update/firehose/rawprogram_nand_p2K_b128K_update.xml"), Some(two));
        assert_eq!(geometry_in_name("patch_p2K_b128K.xml"), Some(two));
        assert_eq!(geometry_in_name("rawprogram_p0K_b128K.xml"), None);
        assert_eq!(geometry_in_name("rawprogram_p99999999999K_b1K.xml"), None);
    }
}
