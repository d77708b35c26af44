//! What there is of a package that cannot be opened: its documents are read all the same, and everything that is wrong
//! is named at once and not only the first of it.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Duplicate, FIREHOSE, Inspection, Subject};
use crate::firmware::document::{Document, PackageKind, Role, role};
use crate::firmware::error::{PackageError, PackageProblem as Problem};
use crate::firmware::names::normalise;
use crate::firmware::opening::{is_layout, package_digest};
use crate::firmware::package::Image;
use crate::firmware::shelf::{CHECK_LIST, Shelf, error, error_at, shown};
use crate::firmware::{DocumentInfo, PackageFile};
use crate::host::Disk;
use crate::protocol::layout;
use crate::protocol::table::PartitionTable;

/// Analyses what is there of a package that cannot be opened because of `why`, which is told where nothing else turns
/// out to be wrong. The inspection is never usable. Blocks for as long as hashing takes.
///
/// # Errors
/// When there is no document to be analysed.
pub fn survey(disk: &dyn Disk, directory: &Path, why: &str) -> Result<Inspection, PackageError> {
    let (shelf, refused) = Shelf::open_what_is_there(disk, directory)?;
    let mut survey = Survey {
        shelf,
        images: BTreeMap::new(),
        missing: Vec::new(),
        damaged: Vec::new(),
        duplicate: Vec::new(),
        refused: refused.iter().map(ToString::to_string).collect(),
    };
    survey.take_all();
    let mut subject = survey.subject()?;
    if subject.missing.is_empty() && subject.damaged.is_empty() && subject.refused.is_empty() {
        subject.refused.push(why.to_owned());
    }
    Ok(subject.inspect())
}

struct Survey<'a> {
    shelf: Shelf<'a>,
    images: BTreeMap<String, Image>,
    missing: Vec<String>,
    damaged: Vec<String>,
    duplicate: Vec<Duplicate>,
    refused: Vec<String>,
}

impl Survey<'_> {
    /// Opens and hashes everything that the check list names; without one, everything that is there.
    fn take_all(&mut self) {
        let listed: Vec<String> = self.shelf.list.files.keys().cloned().collect();
        let has_list = !listed.is_empty();
        let keys = if has_list { listed } else { self.shelf.found.keys().cloned().collect() };
        for key in keys.into_iter().filter(|key| key != CHECK_LIST) {
            let taken = if has_list { self.shelf.take(&key) } else { self.shelf.hash(&key).map(|(image, _)| image) };
            match taken {
                Ok(image) => {
                    self.images.insert(key, image);
                }
                Err(PackageError { problem: Problem::Missing(_), .. }) => self.missing.push(shown(&key)),
                Err(error) => {
                    self.damaged.push(error.to_string());
                    // What it would do is worth knowing also where it is not what the list says.
                    if matches!(error.problem, Problem::Digest { .. })
                        && let Ok((image, _)) = self.shelf.hash(&key)
                    {
                        self.images.insert(key, image);
                    }
                }
            }
        }
    }

    fn subject(mut self) -> Result<Subject, PackageError> {
        let mut documents = Vec::new();
        let mut first_error = None;
        for key in self.with_role(Role::RawProgram) {
            let read = self.images.get(&key).map(Shelf::text).map(|text| text.and_then(|t| Document::read(&key, &t)));
            match read {
                Some(Ok(document)) => {
                    let table = self.table(&document);
                    documents.push((document.kind(table.as_ref().map(|(table, _)| table)), document, table));
                }
                Some(Err(error)) => {
                    self.refused.push(error.to_string());
                    first_error = first_error.or(Some(error));
                }
                None => {}
            }
        }
        // As a run chooses: a factory document beside an update document is what counts.
        let is_factory = documents.iter().any(|(kind, ..)| *kind == PackageKind::Factory);
        let kind = if is_factory { PackageKind::Factory } else { PackageKind::Update };
        let infos: Vec<DocumentInfo> = documents
            .iter()
            .map(|(found, document, _)| DocumentInfo {
                key: document.key.clone(),
                kind: *found,
                chosen: *found == kind,
            })
            .collect();
        let chosen: Vec<String> = infos.iter().filter(|info| info.chosen).map(|info| shown(&info.key)).collect();
        if chosen.len() > 1 {
            self.duplicate.push(Duplicate { what: "document", names: chosen });
            self.refused.push("which of several documents is meant is not guessed; the first one is shown".to_owned());
        }
        let Some((_, document, table)) = documents.into_iter().find(|(found, ..)| *found == kind) else {
            let none = || error(&FIREHOSE.join("/"), Problem::NoDocument(kind.as_str()));
            return Err(first_error.unwrap_or_else(none));
        };
        let programmer = self.programmer();
        self.look_for_programmed(&document);
        let files: Vec<PackageFile> = self
            .images
            .iter()
            .map(|(key, image)| PackageFile { key: key.clone(), bytes: image.bytes, sha256: image.sha256 })
            .collect();
        let has_list = !self.shelf.list.files.is_empty();
        let is_whole = has_list && self.missing.is_empty() && self.damaged.is_empty();
        let unlisted = if has_list { self.shelf.unlisted() } else { Vec::new() };
        Ok(Subject {
            digest: is_whole.then(|| package_digest(&files)),
            kind,
            geometry: document.geometry,
            programmer,
            documents: infos,
            operations: document.operations,
            table,
            files,
            missing: self.missing,
            damaged: self.damaged,
            duplicate: self.duplicate,
            unlisted,
            never_shipped: self.shelf.list.never_shipped,
            refused: self.refused,
            warnings: Vec::new(),
        })
    }

    /// Files directly in the firehose directory whose name says `wanted`, of those that are there.
    fn with_role(&self, wanted: Role) -> Vec<String> {
        let directory = format!("{}/", FIREHOSE.join("/"));
        let name = |key: &String| key.strip_prefix(&directory).filter(|name| !name.contains('/')).map(role);
        self.images.keys().filter(|key| name(key) == Some(wanted)).cloned().collect()
    }

    fn programmer(&mut self) -> Option<String> {
        let mut found = self.with_role(Role::Programmer);
        match found.len() {
            1 => found.pop(),
            0 => {
                let is_missing =
                    self.missing.iter().any(|key| role(key.rsplit('/').next().unwrap_or_default()) == Role::Programmer);
                if !is_missing {
                    self.refused.push(error(&FIREHOSE.join("/"), Problem::NoProgrammer).to_string());
                }
                None
            }
            _ => {
                self.duplicate.push(Duplicate { what: "programmer", names: found });
                self.refused.push("which of several programmers is meant is not guessed".to_owned());
                None
            }
        }
    }

    /// The table that the document writes, or else the list that it was made from, with the file's key.
    fn table(&mut self, document: &Document) -> Option<(PartitionTable, String)> {
        for (file, _) in document.programmed() {
            let Some(image) = normalise(FIREHOSE, file).ok().and_then(|key| self.images.get(&key)) else { continue };
            let bytes = Shelf::start(image, document.geometry.block_bytes()).unwrap_or_default();
            if !PartitionTable::is_mibib(&bytes) {
                continue;
            }
            match PartitionTable::parse_mibib(&bytes, document.geometry) {
                Ok(table) => return Some((table, image.key.clone())),
                Err(problem) => self.refused.push(error(&image.key, Problem::Table(problem)).to_string()),
            }
        }
        let image = self.images.values().find(|image| is_layout(&image.key))?;
        match layout::parse(&Shelf::text(image).ok()?, document.geometry) {
            Ok(table) => Some((table, image.key.clone())),
            Err(problem) => {
                let what = format!("{}: {problem}", shown(&image.key));
                if !self.damaged.contains(&what) {
                    self.damaged.push(what);
                }
                None
            }
        }
    }

    /// What the document programs and is not there, or not listed.
    fn look_for_programmed(&mut self, document: &Document) {
        for (file, line) in document.programmed() {
            let at = |problem| error_at(&document.key, line, problem).to_string();
            let key = match normalise(FIREHOSE, file) {
                Ok(key) => key,
                Err(problem) => {
                    self.refused.push(at(Problem::Name(problem)));
                    continue;
                }
            };
            if self.images.contains_key(&key) || self.missing.contains(&shown(&key)) {
                continue;
            }
            match self.shelf.listed(&key) {
                Err(Problem::Missing(_)) => self.missing.push(shown(&key)),
                Err(problem) => self.refused.push(at(problem)),
                Ok(_) => {}
            }
        }
        self.missing.sort();
        self.refused.dedup();
    }
}
