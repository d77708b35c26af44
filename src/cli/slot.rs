//! Slots as people name them, and what is said where a slot has no module that can be worked with.

use crate::config::{SlotConfig, Station};
use crate::domain::SlotName;
use crate::domain::text::printable;
use crate::hardware::{DeviceMode, DeviceRecord};

/// Longest name of a slot that is shown, in characters.
const SHOWN_CHARS: usize = 40;

/// The slot of that name.
///
/// # Errors
/// A sentence for people: there is none.
pub(super) fn find<'a>(station: &'a Station, name: &str) -> Result<&'a SlotConfig, String> {
    station.slots.iter().find(|slot| slot.name.as_str() == name).ok_or_else(|| {
        let names: Vec<&str> = station.slots.iter().map(|slot| slot.name.as_str()).collect();
        let name = printable(name, SHOWN_CHARS);
        format!("error: the station has no slot {name}\nhelp: its slots are {}", names.join(", "))
    })
}

/// The devices at a slot's port chains.
pub(super) fn devices<'a>(slot: &SlotConfig, all: &'a [DeviceRecord]) -> Vec<&'a DeviceRecord> {
    all.iter().filter(|device| slot.is_at(&device.key.chain)).collect()
}

/// Why a slot has no module that can be worked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// Nothing is plugged in.
    Empty,
    /// It is in download mode.
    Download,
    /// It is in memory-dump mode.
    Crashed,
    /// The kernel gave it no configuration.
    Unconfigured,
    /// It is some other device.
    Foreign,
    /// There are two devices.
    Two,
}

impl Absent {
    /// What keeps a device from being asked; `None` for a module in normal mode.
    pub(super) const fn of(mode: DeviceMode) -> Option<Self> {
        match mode {
            DeviceMode::Normal(_) => None,
            DeviceMode::Edl { .. } => Some(Self::Download),
            DeviceMode::MemoryDump => Some(Self::Crashed),
            DeviceMode::Unconfigured => Some(Self::Unconfigured),
            DeviceMode::Foreign => Some(Self::Foreign),
        }
    }

    /// What is so, and what to do about it. `station` is how the station is named on the command line.
    pub(super) fn told(self, slot: &SlotName, station: &str) -> String {
        let look = format!("`stationmaster devices {station}`");
        let (what, help) = match self {
            Self::Empty => {
                (format!("slot {slot} is empty"), format!("put the module in; {look} shows which slots are occupied"))
            }
            Self::Download => (
                format!("the module in slot {slot} is in download mode and has no AT port"),
                "take it out and put it in again; one whose run was interrupted is finished by `run`".to_owned(),
            ),
            Self::Crashed => (
                format!("the module in slot {slot} has crashed and has no AT port"),
                "take it out and put it in again".to_owned(),
            ),
            Self::Unconfigured => (
                format!("the kernel did not configure the module in slot {slot}"),
                format!("`stationmaster doctor {station}` says why"),
            ),
            Self::Foreign => {
                (format!("what is in slot {slot} is no known module"), format!("{look} shows what is in which slot"))
            }
            Self::Two => (
                format!("slot {slot} shows two devices"),
                format!(
                    "{look} shows both; where one of them is a hub, the slot's ports in the station file are wrong"
                ),
            ),
        };
        format!("{what}\nhelp: {help}")
    }
}
