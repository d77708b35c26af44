//! What a virtual factory is made of, and why one cannot be made.

use std::path::PathBuf;
use std::time::Duration;

use super::efs::EfsError;
use super::nand::NandError;
use super::unit::UnitError;
use crate::domain::{Phase, PortChain, SlotName};

/// A slot of the simulated fixture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SimSlot {
    /// Its name.
    pub name: SlotName,
    /// The position of its USB 2 side.
    pub usb2: PortChain,
    /// The position of its SuperSpeed side, where it has one.
    pub usb3: Option<PortChain>,
}

/// A kind of module that comes down the line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitKind {
    /// The model, as ATI names it.
    pub model: String,
    /// The firmware revision that the units arrive with.
    pub revision: String,
    /// The slots that get this kind; `None`: any.
    pub slots: Option<Vec<SlotName>>,
}

/// How the automatic operator works. All times are station time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OperatorSpec {
    /// How long a slot stays empty before the next unit is put in.
    pub insert_after: Duration,
    /// How long a finished unit stays in.
    pub remove_after: Duration,
    /// How many units are handed out at the most, those that are already in the slots included; `None`: no end.
    pub units: Option<u32>,
}

/// One fault of one unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultSpec {
    /// Its name, one of [`FAULTS`](super::FAULTS).
    pub fault: String,
    /// The unit, by its number on the line, from 1.
    pub unit: u32,
    /// The phase in which it strikes; `None`: the one that the fault is about.
    pub step: Option<Phase>,
    /// How many operations of that phase go well before it strikes: AT commands, Sahara packets, reads of guarded
    /// partitions, erases and programs. `None`: the fault's usual number.
    pub after: Option<u32>,
}

/// Where simulated flash lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flash {
    /// In memory: gone with the process.
    Memory,
    /// In sparse files below this directory: a module survives the process, as a real one does.
    Files(PathBuf),
}

/// How long simulated modules take for what they do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pacing {
    /// As long as real ones.
    #[default]
    Real,
    /// No time at all, boots included: what then still takes time is the host. For measuring controllers.
    Instant,
}

impl Pacing {
    /// What is left of a real module's time.
    pub(super) const fn of(self, time: Duration) -> Duration {
        match self {
            Self::Real => time,
            Self::Instant => Duration::ZERO,
        }
    }
}

/// A virtual factory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FactorySpec {
    /// Everything random is derived from it.
    pub seed: u64,
    /// The fixture.
    pub slots: Vec<SimSlot>,
    /// What comes down the line; the kinds that fit a slot take turns by the number of the unit.
    pub units: Vec<UnitKind>,
    /// The automatic operator.
    pub operator: OperatorSpec,
    /// What goes wrong.
    pub faults: Vec<FaultSpec>,
    /// How long the modules take.
    pub pacing: Pacing,
    /// Where flash lies.
    pub flash: Flash,
    /// The modules run at full speed, as behind hubs that can do no more.
    pub full_speed: bool,
    /// Where the line's counter and what is in which slot are kept (`sim/line.json` below it).
    pub state: PathBuf,
}

/// Why the virtual factory cannot do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// Two slots share a port.
    #[error("{0} is used twice")]
    ChainTwice(PortChain),
    /// No slot of that name.
    #[error("there is no slot {0}")]
    NoSlot(SlotName),
    /// No such hub.
    #[error("there is no hub at {0}")]
    NoHub(PortChain),
    /// No such unit.
    #[error("there is no simulated unit {0}")]
    NoUnit(u32),
    /// The slot is not free.
    #[error("unit {unit} is in slot {slot}")]
    SlotTaken {
        /// The slot.
        slot: SlotName,
        /// What is in it.
        unit: u32,
    },
    /// The unit is in a slot.
    #[error("unit {0} is plugged in already")]
    PluggedAlready(u32),
    /// A kind of module that the simulator does not have.
    #[error("there is no simulated module {0}")]
    Model(String),
    /// No kind of unit fits a slot.
    #[error("no kind of unit is meant for slot {0}")]
    NoKind(SlotName),
    /// A fault that does not exist.
    #[error("there is no fault {0}")]
    Fault(String),
    /// The line's state cannot be used.
    #[error("{path}: {reason}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A unit's flash could not be made.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// A unit's file system could not be written.
    #[error(transparent)]
    Efs(#[from] EfsError),
    /// A unit's storage failed.
    #[error(transparent)]
    Nand(#[from] NandError),
    /// The disk refused.
    #[error("the disk: {0}")]
    Disk(#[from] std::io::Error),
}
