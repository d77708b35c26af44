//! Completes a real package of which only the text files are there.
//!
//! The stand-ins have plausible lengths and the simulated content, so that the real documents, check list and
//! partition layout can be flashed to a simulated module. Only the copy is written to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::domain::limits::{
    PACKAGE_FILES_MAX, PACKAGE_IMAGE_BYTES_MAX, PACKAGE_OPERATIONS_MAX, PACKAGE_TEXT_BYTES_MAX,
};
use crate::host::{Disk, EntryKind};
use crate::sim::efs::{self, Items};
use crate::sim::images::{Image, ImageSpec};
use crate::sim::mibib;
use crate::sim::models::{MODELS, Model, PartitionSpec, Role};
use crate::sim::programmer::{self, ProgrammerInfo};

use super::writer::{Writer, at};
use super::{PROGRAMMER_BYTES, PackageError, check_revision, programmer_of, stand_in};

/// A list of known lengths beside the check list: path, tab, bytes; it is no part of the package.
const LENGTHS_FILE: &str = "images.tsv";
/// Files that check lists name and nobody ships.
const NEVER_SHIPPED: &str = "targetfiles.zip";
/// Deepest directory of a package.
const DEPTH_MAX: usize = 8;
/// Of its partition, an image of unknown length fills one part in so many.
const GUESSED_PART: u64 = 3;
/// Length of other files of unknown length, in bytes.
const OTHER_BYTES: u64 = 100_000;
/// Longest stand-in that is made in memory, in bytes.
const OTHER_BYTES_MAX: u64 = 16 * 1024 * 1024;

fn refuse(path: &Path, reason: impl Into<String>) -> PackageError {
    PackageError::NotAPackage { path: path.to_owned(), reason: reason.into() }
}

/// Copies the package at `source` to `out`, makes stand-ins for the images that are missing, and rewrites the check
/// list there. The stand-ins carry `revision`, or the current one of the model that the documents fit.
///
/// # Errors
/// [`PackageError`]; [`PackageError::NotAPackage`] when the check list or the documents cannot be understood.
pub fn complete(disk: &dyn Disk, source: &Path, out: &Path, revision: Option<&str>) -> Result<(), PackageError> {
    if source == out {
        return Err(refuse(out, "the copy needs a directory of its own"));
    }
    let listed = check_list(disk, source)?;
    let present = files(disk, source)?;
    let lengths = lengths(disk, source)?;
    let targets = targets(disk, source, &present)?;
    let model = model_of(source, &targets)?;
    let revision = revision.unwrap_or_else(|| model.current_revision());
    check_revision(revision)?;
    let maker = Maker { model, revision, lengths, targets: &targets.files };
    let mut writer = Writer::begin(disk, out)?;
    for key in &present {
        if key != "md5.txt" && key != LENGTHS_FILE {
            writer.copy(key, &source.join(key))?;
        }
    }
    for (key, _) in &listed {
        if !present.contains(key) && !key.ends_with(NEVER_SHIPPED) {
            maker.make(&mut writer, key)?;
        }
    }
    let lines: Vec<(String, String)> = listed
        .into_iter()
        .map(|(key, old)| {
            let md5 = writer.md5(&key).map_or(old, str::to_owned);
            (key, md5)
        })
        .collect();
    writer.finish(lines)
}

/// `\update\tz.mbn` as a key; `None` for what leads out of the package.
fn key_of(path: &str) -> Option<String> {
    let key = path.trim().replace('\\', "/");
    let key = key.trim_start_matches('/');
    let plain = !key.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains(':'));
    plain.then(|| key.to_owned())
}

fn read_text(disk: &dyn Disk, path: &Path) -> Result<String, PackageError> {
    let bytes = disk.read(path, PACKAGE_TEXT_BYTES_MAX).map_err(at(path))?;
    String::from_utf8(bytes).map_err(|_| refuse(path, "not UTF-8"))
}

fn check_list(disk: &dyn Disk, source: &Path) -> Result<Vec<(String, String)>, PackageError> {
    let path = source.join("md5.txt");
    let text = read_text(disk, &path)?;
    let mut entries = Vec::new();
    for line in text.lines() {
        let Some((file, md5)) = line.trim().strip_prefix("FILE:").and_then(|rest| rest.rsplit_once(':')) else {
            continue;
        };
        let key = key_of(file).ok_or_else(|| refuse(&path, format!("the path {file:?} is not one of the package")))?;
        entries.push((key, md5.to_owned()));
        if entries.len() > PACKAGE_FILES_MAX {
            return Err(refuse(&path, "too many files"));
        }
    }
    if entries.is_empty() { Err(refuse(&path, "it lists no file")) } else { Ok(entries) }
}

fn files(disk: &dyn Disk, source: &Path) -> Result<BTreeSet<String>, PackageError> {
    let mut found = BTreeSet::new();
    let mut open = vec![(String::new(), 0)];
    while let Some((prefix, depth)) = open.pop() {
        let directory = source.join(&prefix);
        for entry in disk.list(&directory).map_err(at(&directory))? {
            let key = if prefix.is_empty() { entry.name } else { format!("{prefix}/{}", entry.name) };
            match entry.kind {
                EntryKind::File => {
                    found.insert(key);
                }
                EntryKind::Directory if depth < DEPTH_MAX => open.push((key, depth + 1)),
                _ => {}
            }
        }
        if found.len() > PACKAGE_FILES_MAX {
            return Err(refuse(source, "too many files"));
        }
    }
    Ok(found)
}

fn lengths(disk: &dyn Disk, source: &Path) -> Result<BTreeMap<String, u64>, PackageError> {
    let path = source.join(LENGTHS_FILE);
    if disk.open(&path).is_err() {
        return Ok(BTreeMap::new());
    }
    let text = read_text(disk, &path)?;
    let known = text.lines().filter_map(|line| {
        let (key, bytes) = line.split_once('\t')?;
        Some((key_of(key)?, bytes.trim().parse().ok().filter(|bytes| *bytes <= PACKAGE_IMAGE_BYTES_MAX)?))
    });
    Ok(known.collect())
}

/// Where the documents program which file.
struct Targets {
    page_bytes: u32,
    files: BTreeMap<String, u64>,
}

fn targets(disk: &dyn Disk, source: &Path, present: &BTreeSet<String>) -> Result<Targets, PackageError> {
    let mut targets = Targets { page_bytes: 0, files: BTreeMap::new() };
    let is_document = |key: &&String| key.starts_with("update/firehose/rawprogram") && key.ends_with(".xml");
    for key in present.iter().filter(is_document) {
        let path = source.join(key);
        let text = read_text(disk, &path)?;
        read_programs(&text, &mut targets).map_err(|reason| refuse(&path, reason))?;
    }
    if targets.files.is_empty() {
        return Err(refuse(&source.join("update/firehose"), "no raw-program document that programs a file"));
    }
    Ok(targets)
}

fn read_programs(text: &str, targets: &mut Targets) -> Result<(), String> {
    let mut reader = Reader::from_str(text);
    for _ in 0..PACKAGE_OPERATIONS_MAX * 8 {
        let element = match reader.read_event().map_err(|error| error.to_string())? {
            Event::Eof => return Ok(()),
            Event::Start(element) | Event::Empty(element) if element.name().as_ref() == "program" => element,
            _ => continue,
        };
        let mut values = BTreeMap::new();
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            values.insert(attribute.key.as_ref().to_owned(), attribute.value.into_owned());
        }
        let value = |name: &str| values.get(name).map(String::as_str).unwrap_or_default();
        let number = |name: &str| value(name).parse::<u64>().map_err(|_| format!("{name} is no number"));
        if value("filename").is_empty() {
            continue;
        }
        let key = resolve(value("filename")).ok_or_else(|| format!("the file {:?} lies outside", value("filename")))?;
        targets.page_bytes = u32::try_from(number("SECTOR_SIZE_IN_BYTES")?).map_err(|_| "an impossible page size")?;
        targets.files.insert(key, number("start_sector")?);
    }
    Err("too many elements".to_owned())
}

/// A file name of a document, relative to its directory, as a key.
fn resolve(filename: &str) -> Option<String> {
    let mut parts = vec!["update", "firehose"];
    let name = filename.replace('\\', "/");
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part if part.contains(':') => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The first model whose pages and partitions the documents fit.
fn model_of(source: &Path, targets: &Targets) -> Result<&'static Model, PackageError> {
    let fits = |model: &&Model| {
        model.geometry.page_bytes == targets.page_bytes
            && targets.files.values().all(|start| model.partitions.iter().any(|partition| partition.start == *start))
    };
    MODELS.iter().find(fits).ok_or_else(|| refuse(source, "its documents fit no simulated model's partitions"))
}

struct Maker<'a> {
    model: &'static Model,
    revision: &'a str,
    lengths: BTreeMap<String, u64>,
    targets: &'a BTreeMap<String, u64>,
}

impl Maker<'_> {
    fn make(&self, writer: &mut Writer<'_>, key: &str) -> Result<(), PackageError> {
        let (model, geometry) = (self.model, self.model.geometry);
        let name = key.rsplit('/').next().unwrap_or_default();
        let known = self.lengths.get(key).copied();
        let home = self.targets.get(key).and_then(|start| model.partitions.iter().find(|p| p.start == *start));
        match home {
            Some(home) if home.role == Role::Table => {
                writer.bytes(key, &mibib::encode(&mibib::entries(model), geometry, 1))
            }
            Some(home) if home.role == Role::Unit => {
                let blocks = u32::try_from(home.pages / u64::from(geometry.pages_per_block)).unwrap_or_default();
                writer.bytes(key, &efs::image(&Items::defaults(model), geometry, blocks))
            }
            Some(home) if !home.kind.is_empty() => writer.image(key, &self.image(home, known)),
            _ if name == "partition.mbn" => writer.bytes(key, &mibib::encode_user(&mibib::entries(model))),
            _ if key.starts_with("update/firehose/") && name.contains("firehose") => {
                let info = ProgrammerInfo {
                    chip: model.chip.to_owned(),
                    key_hash: model.key_hash(),
                    can_read: true,
                    build: programmer_of(model).1.to_owned(),
                };
                writer.bytes(key, &programmer::build(&info, known.unwrap_or(PROGRAMMER_BYTES).min(OTHER_BYTES_MAX)))
            }
            _ => {
                let bytes = known.unwrap_or(OTHER_BYTES).min(OTHER_BYTES_MAX);
                writer.bytes(key, &stand_in(&format!("{} {key}", self.revision), bytes))
            }
        }
    }

    fn image(&self, home: &PartitionSpec, known: Option<u64>) -> Image {
        let page = u64::from(self.model.geometry.page_bytes);
        Image::new(&ImageSpec {
            kind: home.kind.to_owned(),
            chip: self.model.chip.to_owned(),
            revision: self.revision.to_owned(),
            bytes: known.unwrap_or(home.pages / GUESSED_PART * page).min(home.pages * page),
            page_bytes: self.model.geometry.page_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_inside_the_package_only() {
        assert_eq!(resolve("..\\tz.mbn").as_deref(), Some("update/tz.mbn"));
        assert_eq!(resolve("cefs.mbn").as_deref(), Some("update/firehose/cefs.mbn"));
        assert_eq!(resolve("../../../x"), None);
        assert_eq!(resolve("C:\\x"), None);
        assert_eq!(key_of("\\update\\tz.mbn").as_deref(), Some("update/tz.mbn"));
        for bad in ["\\..\\x", "a//b", "", "\\", "c:\\x"] {
            assert_eq!(key_of(bad), None, "{bad}");
        }
    }
}
