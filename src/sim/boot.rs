//! How a module starts: from what is in its flash, and from nothing else.
//!
//! The boot ROM needs a sound boot loader and stays in download mode without one. The boot loader needs the table
//! and the firmware it loads first, and dumps memory without that. The system needs all of its images, of one
//! revision; a module that was written half enumerates and never answers. Only then does the file system decide
//! what the module can do.

use super::efs::{self, EfsState, Items};
use super::flash_map::FlashMap;
use super::images;
use super::models::{Model, PartitionSpec, Role};
use super::nand::Nand;

/// Functionality level of factory test mode.
const CFUN_FTM: u8 = 5;

/// What a module came up as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Boot {
    /// Emergency download mode: no boot loader that can be started.
    Edl {
        /// What was wrong.
        reason: String,
    },
    /// Memory-dump mode: the boot loader or the modem crashed.
    MemoryDump {
        /// What was wrong.
        reason: String,
    },
    /// Enumerates in normal mode and never answers.
    NoSystem {
        /// What was wrong.
        reason: String,
    },
    /// Runs.
    Normal(System),
}

/// A running module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct System {
    /// The full revision, as `AT+QGMR` gives it.
    pub revision: String,
    /// What became of its file system.
    pub efs: EfsState,
    /// Its items: the defaults when the file system was lost.
    pub items: Items,
}

impl System {
    /// The functionality level it comes up with: factory test mode where calibration is lost.
    #[must_use]
    pub fn cfun(&self) -> u8 {
        if self.efs == EfsState::Present { self.items.cfun() } else { CFUN_FTM }
    }

    /// The short revision, as `ATI` gives it.
    #[must_use]
    pub fn short_revision(&self) -> &str {
        self.revision.split('_').next().unwrap_or_default()
    }
}

impl Boot {
    /// In a word, for tests and people.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Edl { .. } => "edl",
            Self::MemoryDump { .. } => "memory-dump",
            Self::NoSystem { .. } => "no-system",
            Self::Normal(_) => "normal",
        }
    }
}

/// Starts a module. The start is counted in its file system, as each real one writes to it.
pub fn boot(nand: &mut Nand, model: &Model) -> Boot {
    let (revision, map) = match load(nand, model) {
        Ok(loaded) => loaded,
        Err(dead) => return dead,
    };
    match efs::start(nand, &map, model) {
        Ok(mounted) => Boot::Normal(System { revision, efs: mounted.state, items: mounted.items }),
        Err(error) => Boot::MemoryDump { reason: format!("file system: {error}") },
    }
}

/// What a start would give, without starting it.
#[must_use]
pub fn look(nand: &Nand, model: &Model) -> Boot {
    let (revision, map) = match load(nand, model) {
        Ok(loaded) => loaded,
        Err(dead) => return dead,
    };
    match efs::mount(nand, &map) {
        Ok(mounted) => Boot::Normal(System { revision, efs: mounted.state, items: mounted.items }),
        Err(error) => Boot::MemoryDump { reason: format!("file system: {error}") },
    }
}

/// The revision of the images and the module's own map.
fn load(nand: &Nand, model: &Model) -> Result<(String, FlashMap), Boot> {
    let edl = |reason: String| Boot::Edl { reason };
    let built_in = FlashMap::of_model(model);
    let loaders = model.partitions.iter().filter(|partition| partition.role == Role::BootLoader);
    let mut revision = None;
    for partition in loaders {
        revision = Some(check(nand, &built_in, partition, model).map_err(edl)?);
    }
    let revision = revision.ok_or_else(|| edl("the model has no boot loader".to_owned()))?;
    let map = FlashMap::from_table(nand, model).ok_or_else(|| edl("MIBIB: no sound partition table".to_owned()))?;
    for (role, dead) in [
        (Role::Chain, (|reason| Boot::MemoryDump { reason }) as fn(String) -> Boot),
        (Role::System, |reason| Boot::NoSystem { reason }),
    ] {
        for partition in model.partitions.iter().filter(|partition| partition.role == role) {
            let found = check(nand, &map, partition, model).map_err(dead)?;
            if found != revision {
                return Err(dead(format!("{}: revision {found}, the boot loader's is {revision}", partition.name)));
            }
        }
    }
    Ok((revision, map))
}

fn check(nand: &Nand, map: &FlashMap, partition: &PartitionSpec, model: &Model) -> Result<String, String> {
    let name = partition.name;
    let range = map.range(name).ok_or_else(|| format!("{name}: not in the table"))?;
    images::check(nand, map, range, partition.kind, model.chip).map_err(|fault| format!("{name}: {fault}"))
}
