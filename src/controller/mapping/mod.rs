//! Teaching the station file its slots: one module is put into each, followed into download mode and back, and the
//! port chains that it shows on the way are the slot's.
//!
//! What is learned here decides for years which module is taken for which, so nothing is guessed: whatever could be
//! another module's port is refused, and the person is asked again. Nothing is ever written to a module: it is asked
//! on its DIAG port for download mode, asked there for its chip, and reset, as for the identification of a run.

mod doubt;
mod refusal;
mod travel;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::{Profile, SlotConfig, Timeouts};
use crate::domain::{Family, PortChain, Side, SlotName};
use crate::hardware::{BoxFuture, Bus, DeviceMode, DeviceRecord, HardwareError};
use crate::host::Clock;

pub use refusal::Refusal;
use watch::{Arrived, Seen};

/// A slot to be taught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: SlotName,
    /// Its USB 2 port, as the station file has it; `None` where it has none yet.
    pub usb2: Option<PortChain>,
    /// Its SuperSpeed port likewise.
    pub usb3: Option<PortChain>,
}

impl Target {
    /// The ports that it has in the station file, none to two.
    pub fn chains(&self) -> impl Iterator<Item = &PortChain> {
        self.usb2.iter().chain(&self.usb3)
    }
}

/// What happens, for the person.
#[derive(Debug)]
pub enum News<'a> {
    /// A module is to be put into the slot.
    Asked(&'a SlotName),
    /// Something appeared that is no module.
    Stranger(&'a DeviceRecord),
    /// One module appeared, in normal mode.
    Appeared(&'a DeviceRecord),
    /// It is in download mode now.
    InDownloadMode(&'a PortChain),
    /// A remark on what was seen; nothing is wrong.
    Note(String),
    /// The slot is learned.
    Learned(&'a SlotConfig),
    /// Nothing is learned; the person is asked again.
    Refused(&'a Refusal),
    /// The slot is left out, as the person wished.
    Skipped(&'a SlotName),
    /// The bus cannot be listed at the moment.
    BusFailed(&'a HardwareError),
}

/// What the person wants instead of putting a module in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// That the module of which the person was told last is taken: it is in the slot, whatever speaks against it.
    Yes,
    /// To leave this slot out.
    Skip,
    /// To teach the slot before this one again.
    Back,
    /// To end here.
    End,
}

/// Who asks the person, and tells how it goes.
pub trait Asker: Send {
    /// Tells something.
    fn tell(&mut self, news: &News<'_>);

    /// Waits until the person wants something else than what was asked for; for ever, if that is never. Asked only
    /// while a module is waited for; may be dropped while it waits.
    fn wish(&mut self) -> BoxFuture<'_, Wish>;
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taught {
    /// What was learned, in the order of the targets. A SuperSpeed port that was not seen is `None`.
    pub learned: Vec<SlotConfig>,
    /// The slots of which nothing was learned.
    pub missing: Vec<SlotName>,
    /// Why it ended early: the bus could not be listed for long.
    pub failure: Option<HardwareError>,
}

/// The teaching of some slots of a station.
#[derive(Debug)]
pub struct Mapper {
    /// The buses.
    pub bus: Arc<dyn Bus>,
    /// The clock.
    pub clock: Clock,
    /// The slots to be taught, in this order.
    pub targets: Vec<Target>,
    /// The station's other slots, whose ports no target can have.
    pub others: Vec<SlotConfig>,
    /// The station's profiles: how long their modules may take.
    pub profiles: Vec<Arc<Profile>>,
    /// Once cancelled no further slot is begun. A module that is in download mode is brought back first.
    pub stop: CancellationToken,
}

/// How the teaching of one slot ended.
enum End {
    Learned(SlotConfig),
    Skipped,
    Back,
    Stopped,
}

/// Everything that holds for the whole session.
struct Session<'a> {
    mapper: &'a Mapper,
    asker: &'a mut dyn Asker,
    learned: Vec<SlotConfig>,
    /// What was plugged in when the person was asked.
    before: Seen,
    /// Every port that held a module at any time before the person was asked: what comes up there may have been there
    /// all the time and have started anew.
    held: BTreeSet<PortChain>,
    /// Every port that holds or held one since.
    recent: BTreeSet<PortChain>,
    /// Where modules were enumerated since the one that is followed was found, and whether in download mode.
    arrived: BTreeMap<PortChain, bool>,
    /// Ports of modules that were followed for this slot already: one that comes back there is no other.
    tried: BTreeSet<PortChain>,
    /// Modules (by their port) that only the person can tell to be in this slot, and the port that is in doubt.
    doubted: BTreeMap<PortChain, PortChain>,
    /// Ports that the person says are this slot's.
    vouched: BTreeSet<PortChain>,
}

impl Mapper {
    /// Teaches the targets one after the other.
    pub async fn teach(&self, asker: &mut dyn Asker) -> Taught {
        let mut session = Session {
            mapper: self,
            asker,
            learned: Vec::new(),
            before: Seen::default(),
            held: BTreeSet::new(),
            recent: BTreeSet::new(),
            arrived: BTreeMap::new(),
            tried: BTreeSet::new(),
            doubted: BTreeMap::new(),
            vouched: BTreeSet::new(),
        };
        let (mut index, mut failure) = (0, None);
        while let Some(target) = self.targets.get(index) {
            let end = match session.teach(target).await {
                Ok(end) => end,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            match end {
                End::Learned(slot) => {
                    session.asker.tell(&News::Learned(&slot));
                    session.learned.push(slot);
                    index += 1;
                }
                End::Skipped => {
                    session.asker.tell(&News::Skipped(&target.name));
                    index += 1;
                }
                End::Back => {
                    index = index.saturating_sub(1);
                    let name = &self.targets[index].name;
                    session.learned.retain(|slot| slot.name != *name);
                }
                End::Stopped => break,
            }
        }
        let is_learned = |name: &SlotName| session.learned.iter().any(|slot| slot.name == *name);
        let names = self.targets.iter().map(|target| &target.name);
        let missing = names.filter(|name| !is_learned(name)).cloned().collect();
        Taught { learned: session.learned, missing, failure }
    }

    /// The timeouts of the profile that serves this family; the defaults where none does.
    fn timeouts_for(&self, family: &Family) -> Timeouts {
        let profile = self.profiles.iter().find(|profile| profile.family.name == family.name);
        profile.map(|profile| profile.timeouts).unwrap_or_default()
    }
}

impl Session<'_> {
    /// Asks for a module in one slot until it has taught it.
    async fn teach(&mut self, target: &Target) -> Result<End, HardwareError> {
        self.tried.clear();
        self.doubted.clear();
        self.vouched.clear();
        loop {
            if self.mapper.stop.is_cancelled() {
                return Ok(End::Stopped);
            }
            self.before = self.look().await?;
            self.held.append(&mut self.recent);
            self.asker.tell(&News::Asked(&target.name));
            let found = match self.await_module(target).await? {
                Arrived::Wish(Wish::Skip) => return Ok(End::Skipped),
                Arrived::Wish(Wish::Back) => return Ok(End::Back),
                Arrived::Wish(Wish::End) => return Ok(End::Stopped),
                Arrived::Wish(Wish::Yes) => self.take_the_word().await?,
                Arrived::Module(device, family) => Ok((device, family)),
                Arrived::Refused(refusal) => Err(refusal),
            };
            let taught = match found {
                Ok((device, family)) => self.follow(target, &device, family).await?,
                Err(refusal) => Err(refusal),
            };
            match taught {
                Ok(slot) => return Ok(End::Learned(slot)),
                Err(refusal) => self.asker.tell(&News::Refused(&refusal)),
            }
        }
    }

    /// From a module that appeared to the chains of its slot.
    async fn follow(
        &mut self,
        target: &Target,
        device: &DeviceRecord,
        family: &'static Family,
    ) -> Result<Result<SlotConfig, Refusal>, HardwareError> {
        let normal = &device.key.chain;
        if let Some(refusal) = self.conflict(normal) {
            return Ok(Err(refusal));
        }
        self.asker.tell(&News::Appeared(device));
        let outcome = self.travel(device, family).await?;
        self.tried.insert(normal.clone());
        if matches!(outcome, Err(Refusal::Several(_))) {
            // Any of them may come back by itself, and which of them is in the slot is not known.
            self.tried.clear();
        }
        Ok(outcome.and_then(|download| self.conclude(target, family, normal, &download)))
    }

    /// What the two positions of a module make of its slot.
    fn conclude(
        &mut self,
        target: &Target,
        family: &Family,
        normal: &PortChain,
        download: &PortChain,
    ) -> Result<SlotConfig, Refusal> {
        if download.side() != Side::Usb2 || (normal.side() == Side::Usb2 && normal != download) {
            return Err(Refusal::OddPort(download.clone()));
        }
        if let Some(refusal) = self.conflict(download) {
            return Err(refusal);
        }
        if let Some(doubt) = self.doubt(target, download) {
            self.doubted.insert(normal.clone(), download.clone());
            return Err(doubt);
        }
        let usb3 = (normal.side() == Side::Usb3).then(|| normal.clone());
        if usb3.is_none() {
            if target.usb3.is_some() && target.usb2.as_ref() != Some(download) {
                return Err(Refusal::NeedsSuperSpeed(download.clone()));
            }
            if family.superspeed {
                let note = "a SuperSpeed module, and only its USB 2 side came up: the SuperSpeed side is not wired, or a \
                            cable or hub on the way carries USB 2 only";
                self.asker.tell(&News::Note(note.to_owned()));
            }
        }
        Ok(SlotConfig { name: target.name.clone(), usb2: download.clone(), usb3 })
    }

    /// The slot that has this very port.
    fn owner(&self, chain: &PortChain) -> Option<&SlotConfig> {
        self.learned.iter().chain(&self.mapper.others).find(|slot| slot.is_at(chain))
    }

    /// Why a module of the slot that is being taught cannot be at this port.
    fn conflict(&self, chain: &PortChain) -> Option<Refusal> {
        let all = || self.learned.iter().chain(&self.mapper.others);
        if let Some(slot) = self.learned.iter().find(|slot| slot.is_at(chain)) {
            return Some(Refusal::Taught(slot.name.clone(), chain.clone()));
        }
        if let Some(slot) = self.mapper.others.iter().find(|slot| slot.is_at(chain)) {
            return Some(Refusal::OfOther(slot.name.clone(), chain.clone()));
        }
        all().find(|slot| slot.is_along(chain)).map(|slot| Refusal::Behind(slot.name.clone(), chain.clone()))
    }
}

/// Whether a device is a module, in whichever mode.
fn is_module(device: &DeviceRecord) -> bool {
    !matches!(device.mode(), DeviceMode::Foreign | DeviceMode::Unconfigured)
}
