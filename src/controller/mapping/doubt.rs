//! What only the person can know: whether a module that could have been elsewhere is in the slot.
//!
//! A module that starts anew cannot be told from one that was put in. So a port that held a module before, and one that
//! the station file gives to another slot, teach nothing until the person says that they are this slot's.

use super::{Refusal, Session, Target};
use crate::domain::{Family, PortChain, Side};
use crate::hardware::{DeviceMode, DeviceRecord, HardwareError};

use super::watch::Seen;

impl Session<'_> {
    /// What speaks against this port being the slot's, unless the person has said that it is.
    pub(super) fn doubt(&self, target: &Target, chain: &PortChain) -> Option<Refusal> {
        if self.vouched.contains(chain) {
            return None;
        }
        if let Some(other) = self.in_file(chain)
            && other.name != target.name
        {
            return Some(Refusal::InFile(other.name.clone(), chain.clone()));
        }
        let was_there = self.held.contains(chain) && !self.tried.contains(chain);
        was_there.then(|| Refusal::WasThere(chain.clone()))
    }

    /// Whether a SuperSpeed module on its USB 2 side may be one that was elsewhere on its SuperSpeed side, and whose
    /// link did not come up again.
    pub(super) fn doubt_side(&self, chain: &PortChain, family: &Family, now: &Seen) -> Option<Refusal> {
        if !family.superspeed || chain.side() != Side::Usb2 || self.vouched.contains(chain) {
            return None;
        }
        let mut fast = self.held.iter().filter(|held| held.side() == Side::Usb3);
        let is_missing = fast.any(|held| self.owner(held).is_none() && now.at(held).is_none());
        is_missing.then(|| Refusal::WasThere(chain.clone()))
    }

    /// The target that has this port in the station file; one that was learned meanwhile has its new ports only.
    fn in_file(&self, chain: &PortChain) -> Option<&Target> {
        let is_learned = |target: &&Target| self.learned.iter().any(|slot| slot.name == target.name);
        let mut open = self.mapper.targets.iter().filter(|target| !is_learned(target));
        open.find(|target| target.chains().any(|there| there == chain))
    }

    /// The module that is in doubt and that the person says is in the slot.
    pub(super) async fn take_the_word(
        &mut self,
    ) -> Result<Result<(DeviceRecord, &'static Family), Refusal>, HardwareError> {
        let now = self.look().await?;
        let normal = |chain: &PortChain| {
            let device = now.at(chain)?;
            match device.mode() {
                DeviceMode::Normal(family) => Some((device.clone(), family)),
                _ => None,
            }
        };
        let mut found: Vec<(DeviceRecord, &'static Family)> = self.doubted.keys().filter_map(normal).collect();
        let (Some((device, family)), is_single) = (found.pop(), found.is_empty()) else {
            return Ok(Err(Refusal::Gone));
        };
        // One that was put in at this very moment may be the one that is meant.
        let mut all: Vec<PortChain> = found.into_iter().map(|(device, _)| device.key.chain).collect();
        let new = now.new_since(&self.before).map(|device| &device.key.chain);
        all.extend(new.filter(|chain| **chain != device.key.chain && self.owner(chain).is_none()).cloned());
        if !is_single || !all.is_empty() {
            all.push(device.key.chain);
            all.sort();
            all.dedup();
            return Ok(Err(Refusal::Several(all)));
        }
        let chain = &device.key.chain;
        let subject = self.doubted.remove(chain).unwrap_or_else(|| chain.clone());
        // Who knows that the file is wrong about one side of a port knows it about the other.
        let both = |target: &Target| target.chains().cloned().collect::<Vec<PortChain>>();
        let both = self.in_file(&subject).map(both).unwrap_or_default();
        self.vouched.extend(both);
        self.vouched.extend([chain.clone(), subject]);
        self.before.forget(chain);
        Ok(Ok((device, family)))
    }
}
