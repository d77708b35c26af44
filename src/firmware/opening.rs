//! How a package is opened: who is who among its files, which document is chosen, and whether everything is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::document::{Document, PackageKind, Role, check_patches, geometry_in_name, role};
use super::error::{PackageError, PackageProblem as Problem};
use super::names::normalise;
use super::package::{DocumentInfo, Image, Package, PackageFile};
use super::shelf::{CHECK_LIST, FIREHOSE, Shelf, error, error_at, shown};
use crate::domain::{Geometry, Sha256Digest};
use crate::host::Disk;
use crate::protocol::layout;
use crate::protocol::table::PartitionTable;

/// Most files that are named in one warning.
const NAMED_FILES_MAX: usize = 8;

/// A package while it is being opened.
pub(super) struct Opening<'a> {
    shelf: Shelf<'a>,
    images: BTreeMap<String, Image>,
    warnings: Vec<String>,
}

impl<'a> Opening<'a> {
    pub(super) fn new(disk: &'a dyn Disk, directory: &Path) -> Result<Self, PackageError> {
        Ok(Self { shelf: Shelf::open(disk, directory)?, images: BTreeMap::new(), warnings: Vec::new() })
    }

    pub(super) fn finish(mut self, wanted: Option<PackageKind>) -> Result<Package, PackageError> {
        let programmer = self.programmer()?;
        let mut documents = Vec::new();
        for key in self.with_role(Role::RawProgram) {
            let document = Document::read(&key, &self.text(&key)?)?;
            let table = self.table(&document)?;
            let kind = document.kind(table.as_ref().map(|(table, _)| table));
            documents.push((kind, document, table));
        }
        let kind = wanted.unwrap_or_else(|| {
            let has_update = documents.iter().any(|(kind, ..)| *kind == PackageKind::Update);
            if has_update || documents.is_empty() { PackageKind::Update } else { PackageKind::Factory }
        });
        let mut infos: Vec<DocumentInfo> = documents
            .iter()
            .map(|(found, document, _)| DocumentInfo {
                key: document.key.clone(),
                kind: *found,
                chosen: *found == kind,
            })
            .collect();
        infos.sort_by(|a, b| a.key.cmp(&b.key));
        let mut chosen: Vec<_> = documents.into_iter().filter(|(found, ..)| *found == kind).collect();
        if chosen.len() > 1 {
            let names = chosen.iter().map(|(_, document, _)| shown(&document.key)).collect::<Vec<_>>().join(", ");
            return Err(error(&FIREHOSE.join("/"), Problem::Several { what: "documents of one kind", names }));
        }
        let (_, document, table) = chosen.pop().ok_or_else(|| self.no_document(kind))?;
        self.patches(document.geometry)?;
        self.warn(&infos, kind);
        let mut used = BTreeSet::from([programmer.clone()]);
        for (file, line) in document.programmed() {
            used.insert(self.program(&document.key, file, line)?);
        }
        let layout = self.layout(document.geometry);
        let files = self.hash_all(&used)?;
        let unlisted = self.shelf.unlisted();
        Ok(Package {
            directory: self.shelf.root,
            digest: package_digest(&files),
            kind,
            geometry: document.geometry,
            programmer,
            operations: document.operations,
            table,
            layout,
            unlisted,
            images: self.images,
            files,
            documents: infos,
            absent: self.shelf.list.never_shipped,
            warnings: self.warnings,
        })
    }

    /// Listed files directly in the firehose directory whose name says `wanted`.
    fn with_role(&self, wanted: Role) -> Vec<String> {
        let directory = format!("{}/", FIREHOSE.join("/"));
        let name = |key: &String| key.strip_prefix(&directory).filter(|name| !name.contains('/')).map(role);
        self.shelf.list.files.keys().filter(|key| name(key) == Some(wanted)).cloned().collect()
    }

    /// An unlisted file directly in the firehose directory whose name says `wanted`.
    fn unlisted_with_role(&self, wanted: Role) -> Option<&String> {
        let directory = format!("{}/", FIREHOSE.join("/"));
        let name = |key: &String| key.strip_prefix(&directory).filter(|name| !name.contains('/')).map(role);
        let mut unlisted = self.shelf.found.keys().filter(|key| !self.shelf.list.files.contains_key(*key));
        unlisted.find(|key| name(key) == Some(wanted))
    }

    fn programmer(&mut self) -> Result<String, PackageError> {
        let place = FIREHOSE.join("/");
        let found = self.with_role(Role::Programmer);
        match &found[..] {
            [only] => {
                self.take(only)?;
                Ok(only.clone())
            }
            [] => match self.unlisted_with_role(Role::Programmer) {
                Some(key) => Err(error(CHECK_LIST, Problem::NotListed(shown(key)))),
                None if self.with_role(Role::OtherProgrammer).is_empty() => Err(error(&place, Problem::NoProgrammer)),
                None => Err(error(&place, Problem::NotNand)),
            },
            several => {
                let names = several.iter().map(|key| shown(key)).collect::<Vec<_>>().join(", ");
                Err(error(&place, Problem::Several { what: "programmers", names }))
            }
        }
    }

    fn no_document(&self, kind: PackageKind) -> PackageError {
        match self.unlisted_with_role(Role::RawProgram) {
            Some(key) => error(CHECK_LIST, Problem::NotListed(shown(key))),
            None => error(&FIREHOSE.join("/"), Problem::NoDocument(kind.as_str())),
        }
    }

    fn patches(&mut self, geometry: Geometry) -> Result<(), PackageError> {
        for key in self.with_role(Role::Patch) {
            let is_other = geometry_in_name(&key).is_some_and(|in_name| in_name != geometry);
            if is_other {
                self.warnings.push(format!("{}: is for another page or block size and is not used", shown(&key)));
            } else {
                check_patches(&key, &self.text(&key)?)?;
            }
        }
        Ok(())
    }

    /// The table among what a document programs, found by its content. Files that are missing are not looked for
    /// here: only the chosen document needs all of its files.
    fn table(&mut self, document: &Document) -> Result<Option<(PartitionTable, String)>, PackageError> {
        let mut table: Option<(String, PartitionTable)> = None;
        let mut keys: Vec<String> =
            document.programmed().filter_map(|(file, _)| normalise(FIREHOSE, file).ok()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            if self.shelf.listed(&key).is_err() {
                continue;
            }
            let image = self.take(&key)?;
            if !PartitionTable::is_mibib(&Shelf::start(image, 8)?) {
                continue;
            }
            let bytes = Shelf::start(image, document.geometry.block_bytes())?;
            let parsed = PartitionTable::parse_mibib(&bytes, document.geometry)
                .map_err(|problem| error(&key, Problem::Table(problem)))?;
            if let Some((other, _)) = table {
                let names = format!("{}, {}", shown(&other), shown(&key));
                return Err(error(&document.key, Problem::Several { what: "partition tables", names }));
            }
            table = Some((key, parsed));
        }
        Ok(table.map(|(key, table)| (table, key)))
    }

    /// The list that the table was made from, with its key. Nothing is flashed by it, so one that cannot be read is
    /// passed over.
    fn layout(&mut self, geometry: Geometry) -> Option<(PartitionTable, String)> {
        let key = self.shelf.list.files.keys().find(|key| is_layout(key)).cloned()?;
        let table = layout::parse(&self.text(&key).ok()?, geometry).ok()?;
        Some((table, key))
    }

    /// The key of a file that the chosen document programs.
    fn program(&mut self, document: &str, file: &str, line: u32) -> Result<String, PackageError> {
        let at = |problem| error_at(document, line, problem);
        let key = normalise(FIREHOSE, file).map_err(|problem| at(Problem::Name(problem)))?;
        self.shelf.listed(&key).map_err(at)?;
        self.take(&key)?;
        Ok(key)
    }

    fn text(&mut self, key: &str) -> Result<String, PackageError> {
        Shelf::text(self.take(key)?)
    }

    fn take(&mut self, key: &str) -> Result<&Image, PackageError> {
        if !self.images.contains_key(key) {
            let image = self.shelf.take(key)?;
            self.images.insert(key.to_owned(), image);
        }
        // The line above puts it there.
        Ok(self.images.get(key).expect("the image was just put there"))
    }

    /// Hashes what has not been hashed yet, and closes what is not used.
    fn hash_all(&mut self, used: &BTreeSet<String>) -> Result<Vec<PackageFile>, PackageError> {
        let keys: Vec<String> = self.shelf.list.files.keys().cloned().collect();
        let mut files = Vec::with_capacity(keys.len());
        for key in keys {
            let image = match self.images.remove(&key) {
                Some(image) => image,
                None => self.shelf.take(&key)?,
            };
            files.push(PackageFile { key: key.clone(), bytes: image.bytes, sha256: image.sha256 });
            if used.contains(&key) {
                self.images.insert(key, image);
            }
        }
        Ok(files)
    }

    fn warn(&mut self, documents: &[DocumentInfo], kind: PackageKind) {
        let has_both = documents.iter().any(|document| document.kind != kind);
        if has_both {
            let kind = kind.as_str();
            self.warnings.push(format!("there are update and factory documents; the {kind} one is used"));
        }
        for document in documents {
            let name = document.key.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
            if document.kind == PackageKind::Factory && name.contains("update") {
                let key = shown(&document.key);
                self.warnings.push(format!("{key}: is called an update, but writes over the unit's calibration"));
            }
        }
        let unlisted = self.shelf.unlisted();
        if !unlisted.is_empty() {
            let named = unlisted.iter().take(NAMED_FILES_MAX).cloned().collect::<Vec<_>>().join(", ");
            let more = unlisted.len().saturating_sub(NAMED_FILES_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.warnings.push(format!("not in the check list and not used: {named}{more}"));
        }
    }
}

/// SHA-256 over the files of a check list, which are in the order of their keys.
pub(super) fn package_digest(files: &[PackageFile]) -> Sha256Digest {
    let mut digest = Sha256::new();
    for PackageFile { key, bytes, sha256 } in files {
        digest.update(format!("{key}\0{sha256}\0{bytes}\n"));
    }
    Sha256Digest::finish(digest)
}

/// Whether a file is the list that the partition table was made from.
pub(super) fn is_layout(key: &str) -> bool {
    key.rsplit('/').next().is_some_and(|name| name.eq_ignore_ascii_case("partition_nand.xml"))
}
