//! A checked station.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{Phase, PortChain, Sha256Digest, SlotName, StationName};

use super::Profile;

/// One controller host, its slots and its profiles. Everything in it has been checked.
#[derive(Clone, Debug)]
pub struct Station {
    /// The file it was read from, as it was named.
    pub path: PathBuf,
    /// The digest of that file.
    pub digest: Sha256Digest,
    /// Its name.
    pub name: StationName,
    /// Real or simulated modules.
    pub hardware: HardwareKind,
    /// The positions of the fixture; never empty. No name and no port chain is there twice.
    pub slots: Vec<SlotConfig>,
    /// The profiles; never empty. No model is in two of them.
    pub profiles: Vec<Arc<Profile>>,
    /// Where ledger and vault are kept.
    pub state: PathBuf,
    /// How backups are kept.
    pub vault: VaultConfig,
    /// Where the CSV reports are written.
    pub reports: PathBuf,
    /// How many modules behind one root port are flashed at the same time.
    pub permits_per_root_port: u32,
    /// Who switches the supply of the slots.
    pub power: PowerKind,
    /// The virtual factory; there exactly when the hardware is simulated.
    pub simulation: Option<Simulation>,
}

impl Station {
    /// How much faster than real time station time goes by: 1 with real hardware.
    #[must_use]
    pub fn time_scale(&self) -> u32 {
        self.simulation.as_ref().map_or(1, |simulation| simulation.time_scale)
    }

    /// The one profile for a model, where there is one.
    #[must_use]
    pub fn profile_for(&self, model: &str) -> Option<&Arc<Profile>> {
        self.profiles.iter().find(|profile| profile.models.iter().any(|known| known == model))
    }
}

/// How backups are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VaultConfig {
    /// The public half of the key that opens them when the station's own is lost: `age1…`, in the form of one.
    pub recovery: Option<String>,
    /// The directory in which each backup is too.
    pub copy: Option<PathBuf>,
}

/// What is plugged into the slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HardwareKind {
    /// Real modules.
    Usb,
    /// The virtual factory's.
    Simulated,
}

/// Who switches the supply of the slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PowerKind {
    /// The ports of their hubs, where these can.
    #[default]
    Hub,
    /// Nobody: where a supply would be cut, the module is reset.
    None,
}

/// One position of the fixture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotConfig {
    /// What its sticker says.
    pub name: SlotName,
    /// The port chain of its USB 2 side.
    pub usb2: PortChain,
    /// The port chain of its SuperSpeed side, where it is wired.
    pub usb3: Option<PortChain>,
}

impl SlotConfig {
    /// The port chains that are this slot's, one or two.
    pub fn chains(&self) -> impl Iterator<Item = &PortChain> {
        std::iter::once(&self.usb2).chain(&self.usb3)
    }

    /// Whether a port chain is one of this slot's, or is in the way of one: what hangs at it is above or behind.
    #[must_use]
    pub fn is_along(&self, chain: &PortChain) -> bool {
        self.chains().any(|own| own.is_at_or_behind(chain) || chain.is_at_or_behind(own))
    }

    /// Whether a port chain is this slot's.
    #[must_use]
    pub fn is_at(&self, chain: &PortChain) -> bool {
        self.chains().any(|own| own == chain)
    }
}

/// The virtual factory.
#[derive(Clone, PartialEq, Debug)]
pub struct Simulation {
    /// How much faster than real time goes by, 1 to 1000.
    pub time_scale: u32,
    /// What chance starts from.
    pub seed: u64,
    /// Where the modules' flash is kept.
    pub flash: FlashStore,
    /// The kinds of modules that arrive; never empty, each with a profile.
    pub units: Vec<SimUnitMix>,
    /// The automatic operator.
    pub operator: SimOperator,
    /// What goes wrong, and with which unit.
    pub faults: Vec<SimFault>,
}

/// Where simulated flash is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlashStore {
    /// In memory: gone with the process.
    #[default]
    Memory,
    /// In files: survives a restart.
    Files,
}

/// One kind of simulated modules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SimUnitMix {
    /// The model.
    pub model: String,
    /// The revision with which it arrives.
    pub revision: String,
    /// The slots that get this kind, each a slot of the station; `None`: all. Kinds for the same slot take turns.
    pub slots: Option<Vec<SlotName>>,
}

impl SimUnitMix {
    /// Whether modules of this kind go into that slot.
    #[must_use]
    pub fn fits(&self, slot: &SlotName) -> bool {
        self.slots.as_ref().is_none_or(|slots| slots.contains(slot))
    }
}

/// Inserts and removes simulated modules; times in the simulation's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SimOperator {
    /// From an empty slot to the next module in it.
    pub insert_after: Duration,
    /// From a finished run to the removal of its module.
    pub remove_after: Duration,
}

impl Default for SimOperator {
    fn default() -> Self {
        Self { insert_after: Duration::from_secs(2), remove_after: Duration::from_secs(2) }
    }
}

/// One injected fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SimFault {
    /// Its name; one of those the simulator knows.
    pub fault: String,
    /// Which simulated unit has it: the n-th that the factory makes, from 1.
    pub unit: u32,
    /// The phase in which it happens; `None`: the one that the fault is about.
    pub step: Option<Phase>,
    /// How many operations of that phase go well before it; `None`: the fault's usual number.
    pub after: Option<u32>,
}
