//! Simulated firmware packages in Quectel's form, made anew byte for byte from their description.
//!
//! A profile pins its package by digest. For simulated firmware that only works when the same description always
//! gives the same files, so nothing here depends on time, host or order of work. The directory becomes a package
//! when its check list is there, and counts as finished when the stamp beside it is: a generation that was killed
//! is done again.

mod complete;
mod documents;
mod layout;
mod writer;

use std::path::{Path, PathBuf};

pub use complete::complete;
use documents::Operation;
use writer::{Writer, at, remove};

use crate::domain::Geometry;
use crate::host::{Disk, disk_words};

use super::efs::{self, Items};
use super::images::{Image, ImageSpec, fill};
use super::mibib;
use super::models::{Model, key_hash_of};
use super::page_pool::content_hash;
use super::programmer::{self, ProgrammerInfo};

/// Part of each stamp: changed whenever the generator's output changes.
const GENERATOR: &str = "stationmaster simulated package, form 1";
/// Longest stamp that is read, in bytes.
const STAMP_BYTES_MAX: u64 = 4096;
/// Longest revision, in characters: image descriptions have room for no more.
const REVISION_CHARS_MAX: usize = 63;
/// How long a programmer is.
const PROGRAMMER_BYTES: u64 = 128_376;
/// Blocks by which the variant that moves the EFS moves it.
const MOVED_BLOCKS: u32 = 8;

/// What a package is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackageSpec {
    /// The model, as ATI names it.
    pub model: String,
    /// The revision that its images carry.
    pub revision: String,
    /// The sum of its images, in MiB.
    pub megabytes: u32,
    /// One of [`VARIANTS`].
    pub variant: String,
}

/// The variants: their name, and what is special about each.
pub const VARIANTS: &[(&str, &str)] = &[
    ("update", "an update package as it is shipped"),
    ("factory", "only the factory document, which erases the EFS and programs an empty one"),
    ("update+factory", "both documents beside each other"),
    ("moves-efs", "a partition table whose EFS begins elsewhere"),
    ("wrong-geometry", "made for another page size than the model's"),
    ("foreign-programmer", "a programmer signed with another maker's key"),
    ("blind-programmer", "a programmer that cannot read"),
    ("no-boot-loader", "no boot loader, neither the file nor its operations"),
    ("no-table", "leaves the partition table alone, neither the file nor its operations"),
    ("old", "images that carry the model's oldest revision instead of the one asked for"),
    ("bad-checksum", "a wrong digit in the check list"),
    ("overlap", "two programs that overlap"),
];

/// Why a package could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The disk failed.
    #[error("{}: {}", path.display(), disk_words(source))]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the disk said.
        source: std::io::Error,
    },
    /// No such model.
    #[error("there is no simulated model {0}")]
    Model(String),
    /// No such variant.
    #[error("there is no package variant {0}")]
    Variant(String),
    /// A revision that images cannot carry.
    #[error("a revision has 1 to {REVISION_CHARS_MAX} letters, digits, `.`, `_` and `-`")]
    Revision,
    /// A size that the model's partitions have no room for.
    #[error("a package of this model has 1 to {most} MiB, not {megabytes}")]
    Megabytes {
        /// What was asked for.
        megabytes: u32,
        /// The most.
        most: u32,
    },
    /// A directory that cannot be completed.
    #[error("{}: {reason}", path.display())]
    NotAPackage {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

fn check_revision(revision: &str) -> Result<(), PackageError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fits = !revision.is_empty() && revision.len() <= REVISION_CHARS_MAX && revision.chars().all(plain);
    if fits { Ok(()) } else { Err(PackageError::Revision) }
}

/// Makes the package at `directory`, unless it is there already.
///
/// # Errors
/// [`PackageError`].
pub fn generate(disk: &dyn Disk, directory: &Path, spec: &PackageSpec) -> Result<(), PackageError> {
    let model = Model::by_name(&spec.model).ok_or_else(|| PackageError::Model(spec.model.clone()))?;
    if !VARIANTS.iter().any(|(name, _)| *name == spec.variant) {
        return Err(PackageError::Variant(spec.variant.clone()));
    }
    check_revision(&spec.revision)?;
    let stamp_path = stamp_path(directory);
    let PackageSpec { revision, megabytes, variant, .. } = spec;
    let stamp = format!("{GENERATOR}\nmodel {}\nrevision {revision}\nMiB {megabytes}\nvariant {variant}\n", model.name);
    let is_there = disk.read(&stamp_path, STAMP_BYTES_MAX).is_ok_and(|found| found == stamp.as_bytes());
    if is_there && disk.open(&directory.join("md5.txt")).is_ok() {
        return Ok(());
    }
    let generator = Generator::new(model, spec);
    // What cannot be made is refused before anything is.
    layout::images(model, generator.geometry.page_bytes, spec.megabytes)?;
    remove(disk, &stamp_path)?;
    generator.write(Writer::begin(disk, directory)?)?;
    disk.replace(&stamp_path, stamp.as_bytes(), true).map_err(at(&stamp_path))
}

/// Beside the directory, so that the package itself has only a package's files.
fn stamp_path(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".stamp");
    directory.with_file_name(name)
}

/// The programmer's file name and build date for a model.
fn programmer_of(model: &Model) -> (&'static str, &'static str) {
    match model.chip {
        "MDM9607" => ("prog_nand_firehose_9x07.mbn", "Aug 23 2018 @ 14:02:57"),
        "SDX55" => ("prog_firehose_sdx55.mbn", "Apr 19 2020 @ 17:49:11"),
        _ => ("prog_firehose_sdx6x.elf", "Mar 03 2022 @ 09:31:40"),
    }
}

/// Images that packages carry for other tools, and that are not programmed.
fn companions(model: &Model) -> &'static [(&'static str, u64)] {
    match model.chip {
        "MDM9607" => &[
            ("update/NPRG9x07.mbn", 101_424),
            ("update/ENPRG9x07.mbn", 100_988),
            ("update/mba.mbn", 213_888),
            ("update/cmnlib.mbn", 189_404),
            ("update/keymaster.mbn", 222_160),
            ("update/acdb.mbn", 70_132),
        ],
        _ => &[("update/acdb.mbn", 70_132)],
    }
}

struct Generator<'a> {
    model: &'static Model,
    spec: &'a PackageSpec,
    geometry: Geometry,
    table_name: String,
}

impl<'a> Generator<'a> {
    fn new(model: &'static Model, spec: &'a PackageSpec) -> Self {
        let mut geometry = model.geometry;
        if spec.variant == "wrong-geometry" {
            geometry.page_bytes = if geometry.page_bytes == 2048 { 4096 } else { 2048 };
        }
        let table_name = format!("partition_complete_{}.mbn", documents::geometry_word(geometry));
        Self { model, spec, geometry, table_name }
    }

    fn is(&self, variant: &str) -> bool {
        self.spec.variant == variant
    }

    fn write(&self, mut writer: Writer<'_>) -> Result<(), PackageError> {
        let model = self.model;
        writer.bytes("contents.xml", documents::contents(model, &self.spec.revision).as_bytes())?;
        self.write_images(&mut writer)?;
        writer.bytes("update/partition.mbn", &mibib::encode_user(&mibib::entries(model)))?;
        writer.bytes("update/partition_nand.xml", documents::partition_list(model).as_bytes())?;
        self.write_firehose(&mut writer)?;
        let mut lines = writer.entries().to_vec();
        lines.sort_by_key(|(key, _)| key.to_ascii_lowercase());
        if self.is("bad-checksum")
            && let Some((_, md5)) = lines.iter_mut().find(|(key, _)| key == "update/tz.mbn")
            && let Some(last) = md5.pop()
        {
            md5.push(if last == '0' { '1' } else { '0' });
        }
        // Real lists name one file that is never shipped.
        lines.push(("upgrade/targetfiles.zip".to_owned(), "222EAA53A6C111E7F2E248587D6EA079".to_owned()));
        writer.finish(lines)
    }

    fn write_images(&self, writer: &mut Writer<'_>) -> Result<(), PackageError> {
        let model = self.model;
        let oldest = model.revisions.first().copied().unwrap_or_default();
        let revision = if self.is("old") { oldest } else { &self.spec.revision };
        for planned in layout::images(model, self.geometry.page_bytes, self.spec.megabytes)? {
            if planned.kind == "sbl" && self.is("no-boot-loader") {
                continue;
            }
            let image = Image::new(&ImageSpec {
                kind: planned.kind.to_owned(),
                chip: model.chip.to_owned(),
                revision: revision.to_owned(),
                bytes: planned.bytes,
                page_bytes: self.geometry.page_bytes,
            });
            writer.image(&planned.key, &image)?;
        }
        for (key, bytes) in companions(model) {
            writer.bytes(key, &stand_in(&format!("{revision} {key}"), *bytes))?;
        }
        Ok(())
    }

    fn write_firehose(&self, writer: &mut Writer<'_>) -> Result<(), PackageError> {
        let (model, geometry) = (self.model, self.geometry);
        let word = documents::geometry_word(geometry);
        let (name, build) = programmer_of(model);
        let info = ProgrammerInfo {
            chip: model.chip.to_owned(),
            key_hash: if self.is("foreign-programmer") { key_hash_of("another maker") } else { model.key_hash() },
            can_read: !self.is("blind-programmer"),
            build: build.to_owned(),
        };
        writer.bytes(&format!("update/firehose/{name}"), &programmer::build(&info, PROGRAMMER_BYTES))?;
        let mut entries = mibib::entries(model);
        if self.is("moves-efs")
            && let Some(efs) = entries.iter_mut().find(|entry| entry.name == "EFS2")
        {
            efs.start_block += MOVED_BLOCKS;
            efs.blocks = efs.blocks.map(|blocks| blocks - MOVED_BLOCKS);
        }
        if !self.is("no-table") {
            writer.bytes(&format!("update/firehose/{}", self.table_name), &mibib::encode(&entries, geometry, 1))?;
            let patch = documents::patch(model, geometry, &self.table_name);
            writer.bytes(&format!("update/firehose/patch_{word}.xml"), patch.as_bytes())?;
        }
        let (update, factory) = match self.spec.variant.as_str() {
            "factory" => (false, true),
            "update+factory" => (true, true),
            _ => (true, false),
        };
        let total = model.total_pages;
        let mut operations = self.operations();
        if update {
            let text = documents::raw_program(&operations, geometry, total);
            writer.bytes(&format!("update/firehose/rawprogram_nand_{word}_update.xml"), text.as_bytes())?;
        }
        if factory && let Some(efs) = model.range("EFS2") {
            let blocks = u32::try_from(efs.pages / u64::from(geometry.pages_per_block)).unwrap_or_default();
            writer.bytes("update/cefs.mbn", &efs::image(&Items::defaults(model), geometry, blocks))?;
            operations.push(Operation::Erase { start: efs.start, pages: efs.pages });
            let file = "..\\cefs.mbn".to_owned();
            operations.push(Operation::Program { file, start: efs.start, pages: efs.pages });
            let text = documents::raw_program(&operations, geometry, total);
            writer.bytes(&format!("update/firehose/rawprogram_nand_{word}_factory.xml"), text.as_bytes())?;
        }
        Ok(())
    }

    fn operations(&self) -> Vec<Operation> {
        let files: Vec<(&str, String)> =
            layout::programmed(self.model).map(|(partition, key)| (partition.name, key)).collect();
        let mut operations = documents::operations(self.model, &files, &self.table_name, !self.is("no-boot-loader"));
        if self.is("no-table")
            && let Some(table) = self.model.range("MIBIB")
        {
            operations.retain(|operation| operation.start() != table.start);
        }
        if self.is("overlap")
            && let Some(Operation::Program { file, start, pages }) = operations.get(2).cloned()
        {
            let block = u64::from(self.geometry.pages_per_block);
            operations.push(Operation::Program { file, start: start + block, pages: pages - block });
        }
        operations
    }
}

/// Bytes that look like an image and are none.
fn stand_in(name: &str, bytes: u64) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(bytes).unwrap_or_default()];
    fill(content_hash(name.as_bytes()), &mut content);
    content
}

#[cfg(test)]
mod tests;
