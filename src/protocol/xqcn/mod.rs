//! XQCN: the file in which the vendor's tools keep what belongs to one unit, NV items and files of its EFS.
//!
//! It is XML in Windows-1252: storages in storages, and streams whose bytes are hexadecimal pairs with single spaces
//! between them. Two kinds are in circulation, with single and with double quotes, with upper-case and with lower-case
//! digits; both are read. What is not understood is named in [`Xqcn::unknown`], what contradicts itself is refused:
//! a backup that can be read two ways is none. Whether one is *complete*, [`check`] says by a manifest.
//!
//! A file's kind and an empty directory have no place in it: what lies in which section must tell what is an item, and
//! [`Xqcn::add`] and [`Xqcn::in_order`] agree on it. An empty directory is lost.

mod complete;
mod encoding;
mod error;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::fmt;

pub use self::complete::{Incomplete, Owner, check};
pub use self::error::{XqcnError, XqcnErrorKind, XqcnWriteError};
pub use self::read::read;
pub use self::write::write;
use crate::domain::Family;
use crate::protocol::diag::efs::EfsPath;
use crate::protocol::diag::nv::{ItemData, ItemKey};

/// The section for NV items.
const ITEMS: &str = "NV_NUMBERED_ITEMS";
/// Its streams, and whose items they hold.
const ARRAYS: [(&str, Option<u16>); 3] =
    [("NV_ITEM_ARRAY", None), ("NV_ITEM_ARRAY_SIM_1", Some(1)), ("NV_ITEM_ARRAY_SIM_2", Some(2))];
/// Bytes of a record in them: length, a word that is always 1, number, content. Whose item it is, the stream says.
const RECORD_BYTES: u16 = 136;
/// That word: the vendor's tools write it in the streams of all subscriptions alike.
const RECORD_WORD: u16 = 1;
const MODEL: &str = "00000000";
const CONFIGURATION: &str = "default";
const DIRECTORY: &str = "EFS_Dir";
const DATA: &str = "EFS_Data";
const PROPERTIES: &str = "Mobile_Property_Info";
const FEATURES: &str = "Feature_Mask";
const VERSION: &str = "File_Version";
/// What a path of `EFS_Backup` begins with, in front of four bytes of time.
const BACKUP_HEADER: [u8; 4] = [1, 0, 1, 1];
const PROPERTIES_MAGIC: u32 = 0xdead_d00d;
const FILE_VERSION: [u8; 6] = [2, 0, 0, 0, 0, 0];
/// The time that public tools write beside RF items, which are item files, in [`Section::Backup`]: the zero of the
/// module's clock. Beside ordinary files there is 0.
const ITEM_STAMP: u32 = 0x12d5_3d80;
/// Longest name of a storage or stream, in characters.
const NAME_CHARS_MAX: usize = 250;

/// The sections that hold files. What each is for is the vendor's convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Files by the file interface: RF calibration and others.
    Backup,
    /// Configuration.
    Provisioning,
    /// Item files.
    Items,
}

impl Section {
    /// All, in the order in which a file holds them.
    pub const ALL: [Self; 3] = [Self::Backup, Self::Provisioning, Self::Items];

    const fn name(self) -> &'static str {
        match self {
            Self::Backup => "EFS_Backup",
            Self::Provisioning => "Provisioning_Item_Files",
            Self::Items => "NV_Items",
        }
    }
}

/// Whether a file is read and written as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// An item file.
    Item,
    /// An ordinary file.
    Ordinary,
}

/// One file of the module's file system.
#[derive(Clone, PartialEq, Eq)]
pub struct XqcnFile {
    /// Its path.
    pub path: EfsPath,
    /// Four bytes that [`Section::Backup`] holds beside the path: a time in the files of real tools, seconds since
    /// 1970. Lost in the other sections.
    pub stamp: u32,
    /// Its content.
    pub data: Vec<u8>,
}

impl fmt::Debug for XqcnFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} bytes)", self.path, self.data.len())
    }
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Xqcn {
    /// The name that the outermost storage has: usually that of the file.
    pub name: String,
    /// NV items of the module and of its subscriptions 1 and 2.
    pub items: BTreeMap<ItemKey, ItemData>,
    /// Files by section, in their order; no path twice in a section.
    pub files: BTreeMap<Section, Vec<XqcnFile>>,
    /// The firmware it was read from.
    pub model: String,
    /// The tool that made it.
    pub tool: String,
    /// The module's features, as they were asked for; empty where they were not.
    pub features: Vec<u8>,
    /// Streams that are not understood, by their paths. Never written.
    pub unknown: Vec<String>,
}

impl Xqcn {
    /// The files of a section.
    #[must_use]
    pub fn section(&self, section: Section) -> &[XqcnFile] {
        self.files.get(&section).map_or(&[], Vec::as_slice)
    }

    /// Adds a file to the section where its kind can be told again.
    pub fn add(&mut self, family: &Family, path: EfsPath, kind: FileKind, data: Vec<u8>) {
        let is_below = |directory| complete::is_below(path.as_str(), directory);
        let (section, stamp) = match kind {
            FileKind::Item if is_below(family.nv.rf_directory) => (Section::Backup, ITEM_STAMP),
            FileKind::Item => (Section::Items, 0),
            FileKind::Ordinary if is_below(family.nv.provisioning_directory) => (Section::Provisioning, 0),
            FileKind::Ordinary => (Section::Backup, 0),
        };
        self.files.entry(section).or_default().push(XqcnFile { path, stamp, data });
    }

    /// All files in the order in which the vendor's tools give them back to a module, and what each is.
    pub fn in_order(&self) -> impl Iterator<Item = (&XqcnFile, FileKind)> {
        [Section::Provisioning, Section::Backup, Section::Items].into_iter().flat_map(|section| {
            self.section(section).iter().map(move |file| {
                let is_item = section == Section::Items || (section == Section::Backup && file.stamp == ITEM_STAMP);
                (file, if is_item { FileKind::Item } else { FileKind::Ordinary })
            })
        })
    }

    /// A file's content.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&[u8]> {
        self.in_order().find(|(file, _)| file.path.as_str() == path).map(|(file, _)| file.data.as_slice())
    }
}

impl fmt::Debug for Xqcn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents are the unit's secrets.
        formatter
            .debug_struct("Xqcn")
            .field("name", &self.name)
            .field("items", &self.items.len())
            .field("files", &self.files)
            .field("unknown", &self.unknown)
            .finish_non_exhaustive()
    }
}
