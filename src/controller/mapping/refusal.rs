//! Why a module did not teach a slot, in words, and what the person does about it.

use crate::domain::{PortChain, SlotName};

/// Why nothing was learned from what was put in. The person is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// More than one module appeared: which of them is in the slot, only the person knows.
    Several(Vec<PortChain>),
    /// It is in a slot that was taught in this session.
    Taught(SlotName, PortChain),
    /// It is at a port that the station file gives to a slot that is not being taught.
    OfOther(SlotName, PortChain),
    /// It is behind the port of another slot, or that one is behind this.
    Behind(SlotName, PortChain),
    /// This port held a module before the person was asked: it may have started anew, or was put in again.
    WasThere(PortChain),
    /// The station file gives this port to another slot that is to be taught too.
    InFile(SlotName, PortChain),
    /// It came up in download mode: on which port it would be in normal mode is not known.
    InDownloadMode(PortChain),
    /// It came up in memory-dump mode.
    Crashed(PortChain),
    /// The kernel enumerated it and did not configure it.
    Unconfigured(PortChain),
    /// It is gone again.
    Gone,
    /// Another program holds its port.
    Held,
    /// Its DIAG port cannot be opened or does not answer.
    NoDiag(String),
    /// It answers on its DIAG port and stays out of download mode.
    StaysOut,
    /// It left for download mode and did not come up in it.
    NotInDownloadMode,
    /// Its download mode is at a port where that cannot be.
    OddPort(PortChain),
    /// In download mode it does not say a word.
    SilentDownloadMode,
    /// In download mode it says something else than it should.
    OddDownloadMode(String),
    /// It did not come back into normal mode.
    NotBack,
    /// It came back at another port.
    BackElsewhere(PortChain),
    /// Only its USB 2 side was seen, at another port than in the file, so that the file's SuperSpeed port is in doubt.
    NeedsSuperSpeed(PortChain),
}

impl Refusal {
    /// Whether the person can overrule it with a [`Wish::Yes`](super::Wish::Yes).
    #[must_use]
    pub fn is_doubt(&self) -> bool {
        matches!(self, Self::WasThere(_) | Self::InFile(..))
    }

    /// What happened.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Several(chains) => {
                let chains: Vec<String> = chains.iter().map(ToString::to_string).collect();
                format!("more than one module appeared, at {}", chains.join(" and "))
            }
            Self::Taught(slot, chain) => format!("the module is in slot {slot}, which was taught before ({chain})"),
            Self::OfOther(slot, chain) => {
                format!("the module is at {chain}, which the station file gives to slot {slot}")
            }
            Self::Behind(slot, chain) => {
                format!("the module is at {chain}, and slot {slot} has a port above or below that one")
            }
            Self::WasThere(chain) => {
                format!("a module was at {chain} before it was asked for, and may only have started anew")
            }
            Self::InFile(slot, chain) => format!("the module is at {chain}, and in the file that is slot {slot}"),
            Self::InDownloadMode(chain) => format!("the module at {chain} comes up in download mode"),
            Self::Crashed(chain) => format!("the module at {chain} has crashed, and offers its memory"),
            Self::Unconfigured(chain) => format!("the kernel does not configure the module at {chain}"),
            Self::Gone => "the module was taken out too early".to_owned(),
            Self::Held => "another program holds the module's ports".to_owned(),
            Self::NoDiag(why) => format!("the module's DIAG port does not answer: {why}"),
            Self::StaysOut => "the module does not go into download mode".to_owned(),
            Self::NotInDownloadMode => "the module left and did not come up in download mode".to_owned(),
            Self::OddPort(chain) => format!("a download mode appeared at {chain}, which cannot be this module's"),
            Self::SilentDownloadMode => "in download mode the module does not say a word".to_owned(),
            Self::OddDownloadMode(why) => format!("in download mode the module does not behave: {why}"),
            Self::NotBack => "the module did not come back from download mode".to_owned(),
            Self::BackElsewhere(chain) => format!("the module came back at another port, {chain}"),
            Self::NeedsSuperSpeed(chain) => {
                format!("the module showed its USB 2 port only, {chain}, and it is another one than in the file")
            }
        }
    }

    /// What the person does now.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Several(_) => "take all of them out, then put a single one in",
            Self::Taught(..) => {
                "take it out and look at the stickers; if that other slot was taught wrongly, go back to it"
            }
            Self::OfOther(..) => {
                "take it out; if the wiring was changed, teach that slot too: name it with --slots, or leave --slots out"
            }
            Self::Behind(..) => "take it out; a port cannot be a hub's and a slot's: teach that other slot anew",
            Self::WasThere(_) => "type yes if it was put into the slot that is asked for; if not, leave it where it is",
            Self::InFile(..) => "type yes if it is in the slot that is asked for; if not, take it out",
            Self::InDownloadMode(_) => {
                "take it out and put it in again; if it stays so, take another module: its firmware is not whole"
            }
            Self::Crashed(_) => "take another module",
            Self::Unconfigured(_) => {
                "`stationmaster doctor` tells whether the controller has room for it; take modules out that are not needed"
            }
            Self::Gone => "put it in again, and leave it in until the next slot is asked for",
            Self::Held => "stop other programs that use modules; `stationmaster doctor` names them",
            Self::NoDiag(_) => {
                "take it out and put it in again; `stationmaster doctor` tells whether its ports may be opened"
            }
            Self::StaysOut => "take another module: this one does not obey, or not yet",
            Self::NotInDownloadMode => {
                "if it was taken out, put it in again; if not, the USB 2 wires of this slot may be broken: download mode \
                 needs them"
            }
            Self::OddPort(_) => "take out other modules that are in download mode, then this one, and put it in again",
            Self::SilentDownloadMode | Self::OddDownloadMode(_) => {
                "take it out and put it in again: that ends download mode; if it stays so, take another module"
            }
            Self::NotBack => "take it out and put it in again: that ends download mode",
            Self::BackElsewhere(_) => {
                "take it out and put it in again; if it does so again, the slot's SuperSpeed wires are not good"
            }
            Self::NeedsSuperSpeed(_) => {
                "take a SuperSpeed module for this slot; if its SuperSpeed side is not wired any more, end this, remove \
                 `usb3` from the slot in the file, and begin again"
            }
        }
    }
}
