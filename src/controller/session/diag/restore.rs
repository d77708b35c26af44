//! Giving a module back over DIAG what it had: the order is that of the vendor's tools.
//!
//! Modules write what they are told into a journal and lose it with their power until it was synchronised; a journal
//! that NV items have filled takes no changes of files. Tools that knew neither have made modules come up offline. A
//! tool has also written four bytes more into each file than it had: so everything is read back and compared.

use std::collections::BTreeSet;

use super::collect::{is_refusal, words};
use super::talk::{DiagFailure, DiagSession};
use crate::domain::limits::{EFS_CHANGES_PER_SYNC_MAX, XQCN_REFUSALS_MAX};
use crate::domain::{Family, Manifest};
use crate::protocol::diag::efs::{EfsPath, FileType};
use crate::protocol::diag::nv::ItemKey;
use crate::protocol::diag::{Errno, Mode, NvStatus, ReplyError};
use crate::protocol::xqcn::{FileKind, Xqcn, XqcnFile};

const FILE_PERMISSIONS: u16 = 0o644;
const DIRECTORY_PERMISSIONS: u16 = 0o755;

/// What was given back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// NV items that were written.
    pub items: usize,
    /// Files that were written.
    pub files: usize,
    /// What the module did not take: NV items and paths, and why.
    pub refused: Vec<(String, String)>,
}

/// What of a backup is compared with a module.
#[derive(Debug, Clone, Copy)]
pub enum Compared<'a> {
    /// Everything, but what the module did not take.
    Everything(&'a Restored),
    /// What the manifest requires, and the RF calibration: the rest may have been changed by a start.
    Required,
}

/// Whether the journal had no room.
fn is_full(failure: &DiagFailure) -> bool {
    match failure {
        DiagFailure::Reply(error) | DiagFailure::Path { error, .. } => matches!(
            error,
            ReplyError::Nv { status: NvStatus::Full, .. } | ReplyError::Efs { errno: Errno::NO_SPACE, .. }
        ),
        _ => false,
    }
}

/// What is written in one go.
#[derive(Debug, Clone, Copy)]
enum Change<'a> {
    Item(ItemKey, &'a crate::protocol::diag::nv::ItemData),
    Directory(&'a EfsPath),
    File(&'a XqcnFile, FileKind),
}

impl Change<'_> {
    fn name(&self) -> String {
        match self {
            Self::Item(key, _) => words(*key),
            Self::Directory(path) => path.to_string(),
            Self::File(file, _) => file.path.to_string(),
        }
    }
}

/// How far it is.
#[derive(Debug, Default)]
struct Progress {
    restored: Restored,
    /// Changes that are in the journal only.
    changes: u32,
}

impl DiagSession {
    /// Writes a backup to a module, item by item: offline, NV items, synchronise, directories and files with a
    /// synchronisation every so often, synchronise. What changes at each start is left as it is. The module stays
    /// offline until it is reset.
    ///
    /// Whose backup it is, is for the caller to know.
    ///
    /// # Errors
    /// [`DiagFailure`]. What the module does not take is part of the result instead.
    pub async fn restore(&mut self, content: &Xqcn, family: &Family) -> Result<Restored, DiagFailure> {
        if !self.is_unlocked() {
            return Err(DiagFailure::Reply(ReplyError::Denied { command: "service programming code" }));
        }
        // Before anything is changed: without it nothing could be made to last.
        self.efs()?;
        self.control(Mode::Offline).await?;
        let mut progress = Progress::default();
        for (key, data) in &content.items {
            if is_volatile_item(family, *key) {
                continue;
            }
            if self.change(Change::Item(*key, data), &mut progress).await? {
                progress.restored.items += 1;
            }
        }
        self.sync_changes(&mut progress).await?;
        let files = || content.in_order().filter(|(file, _)| !is_volatile_path(family, &file.path));
        for directory in files().flat_map(|(file, _)| parents(&file.path)).collect::<BTreeSet<EfsPath>>() {
            self.change(Change::Directory(&directory), &mut progress).await?;
        }
        self.sync_changes(&mut progress).await?;
        for (file, kind) in files() {
            if self.change(Change::File(file, kind), &mut progress).await? {
                progress.restored.files += 1;
            }
        }
        self.sync_changes(&mut progress).await?;
        Ok(progress.restored)
    }

    /// Makes one change; `false` when the module did not take it.
    async fn change(&mut self, change: Change<'_>, progress: &mut Progress) -> Result<bool, DiagFailure> {
        let mut result = self.write_one(change).await;
        if result.as_ref().is_err_and(is_full) {
            self.sync_changes(progress).await?;
            result = self.write_one(change).await;
        }
        progress.changes += 1;
        if progress.changes >= EFS_CHANGES_PER_SYNC_MAX {
            self.sync_changes(progress).await?;
        }
        match result {
            Ok(()) => Ok(true),
            Err(failure) if is_refusal(&failure) => {
                if progress.restored.refused.len() >= XQCN_REFUSALS_MAX {
                    return Err(DiagFailure::TooMuch("items and files that the module does not take"));
                }
                progress.restored.refused.push((change.name(), failure.to_string()));
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn write_one(&mut self, change: Change<'_>) -> Result<(), DiagFailure> {
        match change {
            Change::Item(key, data) => self.nv_write(key, data).await,
            Change::Directory(path) => self.make_directory(path, DIRECTORY_PERMISSIONS).await,
            Change::File(file, FileKind::Item) => self.put_item(&file.path, &file.data).await,
            Change::File(file, FileKind::Ordinary) => self.write_file(&file.path, &file.data, FILE_PERMISSIONS).await,
        }
    }

    async fn sync_changes(&mut self, progress: &mut Progress) -> Result<(), DiagFailure> {
        if std::mem::take(&mut progress.changes) > 0 { self.sync().await } else { Ok(()) }
    }

    /// What of a backup the module does not have as it stands there, by name; the first ones, if there are many.
    ///
    /// # Errors
    /// [`DiagFailure`].
    pub async fn differences(
        &mut self,
        content: &Xqcn,
        family: &Family,
        manifest: &Manifest,
        compared: Compared<'_>,
    ) -> Result<Vec<String>, DiagFailure> {
        // Of every subscription that the backup holds.
        let is_required_item = |key: ItemKey| manifest.items.contains(&key.item);
        let is_required_path = |path: &EfsPath| {
            manifest.paths.iter().any(|required| required == path.as_str()) || is_calibration(family, path)
        };
        let is_refused = |name: &str| match compared {
            Compared::Everything(restored) => restored.refused.iter().any(|(refused, _)| refused == name),
            Compared::Required => true,
        };
        let mut different = Vec::new();
        for (key, data) in &content.items {
            let name = words(*key);
            let is_left_out = is_volatile_item(family, *key) || (!is_required_item(*key) && is_refused(&name));
            if is_left_out {
                continue;
            }
            match self.nv_read(*key).await {
                Ok(found) if found.as_ref() == Some(data) => {}
                Err(failure) if !is_refusal(&failure) => return Err(failure),
                Ok(_) | Err(_) => different.push(name),
            }
        }
        for (file, kind) in content.in_order() {
            let path = &file.path;
            let is_left_out = is_volatile_path(family, path) || (!is_required_path(path) && is_refused(path.as_str()));
            if !is_left_out && self.read_kind(path, kind).await?.as_ref() != Some(&file.data) {
                different.push(path.to_string());
            }
        }
        different.truncate(XQCN_REFUSALS_MAX);
        Ok(different)
    }

    async fn read_kind(&mut self, path: &EfsPath, kind: FileKind) -> Result<Option<Vec<u8>>, DiagFailure> {
        let read = match kind {
            FileKind::Item => self.get_item(path).await,
            FileKind::Ordinary => match self.stat(path).await {
                Ok(Some(stat)) if stat.file_type == FileType::File => self.read_file(path).await.map(Some),
                Ok(_) => Ok(None),
                Err(failure) => Err(failure),
            },
        };
        match read {
            Err(failure) if is_refusal(&failure) => Ok(None),
            other => other,
        }
    }
}

fn is_volatile_item(family: &Family, key: ItemKey) -> bool {
    key.subscription.is_none() && family.nv.volatile_items.contains(&key.item)
}

fn is_volatile_path(family: &Family, path: &EfsPath) -> bool {
    family.nv.volatile_paths.contains(&path.as_str())
}

fn is_calibration(family: &Family, path: &EfsPath) -> bool {
    path.parent().is_some_and(|directory| directory.as_str() == family.nv.rf_directory)
}

/// The directories that a file lies in, but the root.
fn parents(path: &EfsPath) -> impl Iterator<Item = EfsPath> {
    std::iter::successors(path.parent(), EfsPath::parent).filter(|directory| *directory != EfsPath::root())
}
