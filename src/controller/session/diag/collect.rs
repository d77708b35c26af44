//! Everything that a module gives away over DIAG, as an XQCN file holds it.

use super::talk::{DiagFailure, DiagSession};
use crate::domain::Family;
use crate::domain::limits::{EFS_PUT_BYTES_MAX, XQCN_CONTENT_BYTES_MAX, XQCN_REFUSALS_MAX};
use crate::protocol::diag::efs::{EfsPath, FileType};
use crate::protocol::diag::nv::ItemKey;
use crate::protocol::diag::{ReplyError, build_id};
use crate::protocol::xqcn::{FileKind, Xqcn};

/// What the outermost storage of a file that the station makes is called.
const NAME: &str = "backup.xqcn";

/// What was read of a module.
#[derive(Debug)]
pub struct Collected {
    /// NV items and files. What changes at each start is left out.
    pub content: Xqcn,
    /// Directories that were listed.
    pub directories: usize,
    /// Items, files and directories that are there and were not given out, and why.
    pub unreadable: Vec<String>,
}

impl Collected {
    fn refuse(&mut self, what: &str, why: &dyn std::fmt::Display) -> Result<(), DiagFailure> {
        if self.unreadable.len() >= XQCN_REFUSALS_MAX {
            return Err(DiagFailure::TooMuch("items and files that the module does not give out"));
        }
        self.unreadable.push(format!("{what}: {why}"));
        Ok(())
    }
}

/// Whether a module said no to one thing, and can be asked for the next.
pub(super) fn is_refusal(failure: &DiagFailure) -> bool {
    match failure {
        DiagFailure::Reply(error) | DiagFailure::Path { error, .. } => {
            matches!(error, ReplyError::Nv { .. } | ReplyError::Efs { .. } | ReplyError::Refused { .. })
        }
        DiagFailure::Tree { .. } => true,
        DiagFailure::Port(_) | DiagFailure::Silent(_) | DiagFailure::NoFileSystem | DiagFailure::TooMuch(_) => false,
    }
}

/// An item's name for people.
pub(super) fn words(key: ItemKey) -> String {
    match key.subscription {
        None => format!("NV item {}", key.item),
        Some(index) => format!("NV item {} of subscription {index}", key.item),
    }
}

impl DiagSession {
    /// Reads all NV items, the tree of files, and RF items that no listing shows, by their numbers. Nothing of the module
    /// is changed.
    ///
    /// # Errors
    /// [`DiagFailure`]. What the module refuses to give out is part of the result instead; nothing says that what there
    /// is makes a whole backup ([`crate::protocol::xqcn::check`]).
    pub async fn collect(&mut self, family: &Family) -> Result<Collected, DiagFailure> {
        let tool = concat!("stationmaster ", env!("CARGO_PKG_VERSION")).to_owned();
        let model = match self.ask(&build_id()).await {
            Ok(model) => model,
            Err(DiagFailure::Reply(_)) => String::new(),
            Err(failure) => return Err(failure),
        };
        let content = Xqcn { name: NAME.to_owned(), model, tool, ..Xqcn::default() };
        let mut found = Collected { content, directories: 0, unreadable: Vec::new() };
        self.collect_items(family, &mut found).await?;
        self.collect_files(family, &mut found).await?;
        Ok(found)
    }

    async fn collect_items(&mut self, family: &Family, found: &mut Collected) -> Result<(), DiagFailure> {
        let subscriptions = std::iter::once(None).chain(family.nv.subscriptions.iter().copied().map(Some));
        for subscription in subscriptions {
            for item in 0..=family.nv.item_max {
                let key = ItemKey { item, subscription };
                if subscription.is_none() && family.nv.volatile_items.contains(&item) {
                    continue;
                }
                match self.nv_read(key).await {
                    Ok(Some(data)) => {
                        found.content.items.insert(key, data);
                    }
                    Ok(None) => {}
                    Err(failure) if is_refusal(&failure) => found.refuse(&words(key), &failure)?,
                    Err(failure) => return Err(failure),
                }
            }
        }
        Ok(())
    }

    async fn collect_files(&mut self, family: &Family, found: &mut Collected) -> Result<(), DiagFailure> {
        let tree = self.tree(&EfsPath::root()).await?;
        for (path, errno) in &tree.unreadable {
            found.refuse(path.as_str(), errno)?;
        }
        let mut bytes = 0;
        let mut rf_items = std::collections::BTreeSet::new();
        for (path, stat) in tree.entries {
            if family.nv.volatile_paths.contains(&path.as_str()) {
                continue;
            }
            let (kind, data) = match stat.file_type {
                FileType::Directory => {
                    found.directories += 1;
                    continue;
                }
                FileType::Item => (FileKind::Item, self.get_item(&path).await),
                FileType::File => (FileKind::Ordinary, self.read_file(&path).await.map(Some)),
                FileType::Link | FileType::Other => {
                    found.refuse(path.as_str(), &"it is neither a file nor an item")?;
                    continue;
                }
            };
            rf_items.insert(path.clone());
            take(family, found, path, kind, data, &mut bytes)?;
        }
        let (first, last) = family.nv.rf_numbers;
        for number in first..=last {
            let path = format!("{}/{number:08}", family.nv.rf_directory);
            let Ok(path) = EfsPath::new(&path) else { continue };
            if rf_items.contains(&path) {
                continue;
            }
            match self.get_item(&path).await {
                Ok(None) => {}
                data => take(family, found, path, FileKind::Item, data, &mut bytes)?,
            }
        }
        Ok(())
    }
}

/// Takes one file in, or notes why it cannot be had.
fn take(
    family: &Family,
    found: &mut Collected,
    path: EfsPath,
    kind: FileKind,
    data: Result<Option<Vec<u8>>, DiagFailure>,
    bytes: &mut usize,
) -> Result<(), DiagFailure> {
    match data {
        Ok(Some(data)) if kind == FileKind::Item && data.len() > EFS_PUT_BYTES_MAX => {
            found.refuse(path.as_str(), &"the item is longer than one that could be given back")
        }
        Ok(Some(data)) => {
            *bytes += data.len();
            if *bytes > XQCN_CONTENT_BYTES_MAX {
                return Err(DiagFailure::TooMuch("bytes in the module's files"));
            }
            found.content.add(family, path, kind, data);
            Ok(())
        }
        Ok(None) => found.refuse(path.as_str(), &"it is listed, and not there"),
        Err(failure) if is_refusal(&failure) => found.refuse(path.as_str(), &failure),
        Err(failure) => Err(failure),
    }
}
