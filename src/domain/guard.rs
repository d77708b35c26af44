//! What must be kept of a unit before it may be changed, and when that counts as complete.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Family;

/// Which backups must be durable before anything of a module is changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum Guard {
    /// The guarded partitions and the partition table, page by page, as the programmer reads them.
    #[default]
    #[serde(rename = "raw")]
    Raw,
    /// Both.
    #[serde(rename = "raw+xqcn")]
    RawXqcn,
    /// Only NV items and files, read over DIAG: enough where no guarded partition is touched, nor the partition table.
    #[serde(rename = "xqcn")]
    Xqcn,
}

impl Guard {
    /// All of them, the usual one first.
    pub const ALL: [Self; 3] = [Self::Raw, Self::RawXqcn, Self::Xqcn];

    /// The word used everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::RawXqcn => "raw+xqcn",
            Self::Xqcn => "xqcn",
        }
    }

    /// Whether partitions are read with the programmer.
    #[must_use]
    pub const fn has_raw(self) -> bool {
        matches!(self, Self::Raw | Self::RawXqcn)
    }

    /// Whether NV items and files are read over DIAG.
    #[must_use]
    pub const fn has_xqcn(self) -> bool {
        matches!(self, Self::Xqcn | Self::RawXqcn)
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a backup over DIAG must hold to be complete. Tools have made, and called good, backups of many directories and
/// no file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Numbers of NV items of the module that must be there.
    pub items: Vec<u16>,
    /// Paths of files that must be there, and not be empty; RF calibration first of all.
    pub paths: Vec<String>,
    /// Fewest NV items, those of all subscriptions together.
    pub items_min: u32,
    /// Fewest files, RF items included.
    pub files_min: u32,
    /// Fewest RF items.
    pub rf_items_min: u32,
    /// Most items, files and directories that a module may list or have and not give out. What it does not give out is
    /// not in the backup.
    pub unreadable_max: u32,
}

impl Manifest {
    /// What every good module of a family has.
    #[must_use]
    pub fn of_family(family: &Family) -> Self {
        let data = &family.nv;
        Self {
            items: data.required_items.to_vec(),
            paths: family.calibration_items.iter().map(|path| (*path).to_owned()).collect(),
            items_min: data.items_min,
            files_min: data.files_min,
            rf_items_min: data.rf_items_min,
            unreadable_max: 0,
        }
    }
}
