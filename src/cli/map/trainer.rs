//! Hands for the fixture of a simulated station, so that teaching can be practised.
//!
//! Nothing of the station's own is touched: the modules are made for the purpose, in memory, whatever lies in the
//! state directory.

use std::path::Path;
use std::sync::Arc;

use crate::cli::line::SCALE_MIN;
use crate::cli::prepare;
use crate::config::{SimUnitMix, Station};
use crate::domain::text::printable;
use crate::domain::{Family, SlotName};
use crate::hardware::Bus;
use crate::host::{Clock, MemoryDisk, Random};
use crate::sim::{Factory, FactorySpec, Flash};

/// The hands.
#[derive(Debug)]
pub(super) struct Trainer {
    factory: Factory,
    clock: Clock,
    slots: Vec<SlotName>,
    kinds: Vec<SimUnitMix>,
    next: u32,
}

impl Trainer {
    /// A fixture like the station's, without modules.
    ///
    /// # Errors
    /// A sentence for people.
    pub(super) async fn start(station: &Station) -> Result<Self, String> {
        let spec = prepare::factory(station, Path::new("state"), Some(0)).ok_or("the station is not simulated")?;
        let spec = FactorySpec { flash: Flash::Memory, ..spec };
        let clock = Clock::scaled(station.time_scale().max(SCALE_MIN));
        let kinds = station.simulation.iter().flat_map(|simulation| &simulation.units).cloned().collect();
        let random = Random::seeded(spec.seed);
        let factory = Factory::start(spec, clock.clone(), Arc::new(MemoryDisk::new()), random).await;
        let factory = factory.map_err(|error| format!("the simulated line: {error}"))?;
        let slots = station.slots.iter().map(|slot| slot.name.clone()).collect();
        Ok(Self { factory, clock, slots, kinds, next: 1 })
    }

    pub(super) fn bus(&self) -> Arc<dyn Bus> {
        self.factory.bus()
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Does what a line says, while a module is wanted in `asked`; what was done, and whether a module starts now.
    ///
    /// # Errors
    /// A sentence for people: nothing was done then.
    pub(super) fn obey(&mut self, line: &str, asked: &SlotName) -> Result<(String, bool), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => Ok((self.put(std::slice::from_ref(asked))?, true)),
            ["out", slots @ ..] if !slots.is_empty() => {
                let slots = self.slots(slots)?;
                for slot in &slots {
                    self.factory.unplug(slot).map_err(|error| error.to_string())?;
                }
                Ok((format!("taken out of {}", names(&slots)), false))
            }
            slots => {
                let slots = self.slots(slots)?;
                Ok((self.put(&slots)?, true))
            }
        }
    }

    fn slots(&self, words: &[&str]) -> Result<Vec<SlotName>, String> {
        let find = |word: &&str| {
            let found = self.slots.iter().find(|slot| slot.as_str() == *word).cloned();
            found.ok_or_else(|| format!("there is no slot `{}`", printable(word, 40)))
        };
        words.iter().map(find).collect()
    }

    /// Puts a module into each of these slots; what is in one is taken out and put in again.
    fn put(&mut self, slots: &[SlotName]) -> Result<String, String> {
        let mut again = false;
        for slot in slots {
            let unit = match self.factory.unplug(slot).map_err(|error| error.to_string())? {
                Some(unit) => {
                    again = true;
                    unit
                }
                None => self.make(slot)?,
            };
            self.factory.plug(unit, slot).map_err(|error| error.to_string())?;
        }
        Ok(format!("put into {}{}", names(slots), if again { ", again" } else { "" }))
    }

    /// A module for a slot: one that shows both of its ports, if the line has such ones.
    fn make(&mut self, slot: &SlotName) -> Result<u32, String> {
        let is_fast = |kind: &&SimUnitMix| {
            let family = crate::domain::family::FAMILIES.iter().find(|family| family.models.contains(&&*kind.model));
            family.is_some_and(|family: &Family| family.superspeed)
        };
        let mut fitting = self.kinds.iter().filter(|kind| kind.fits(slot));
        let kind = fitting.clone().find(is_fast).or_else(|| fitting.next());
        let kind = kind.ok_or_else(|| format!("no simulated module is meant for slot {slot}"))?;
        let unit = self.next;
        self.factory.make(unit, &prepare::kind(kind)).map_err(|error| error.to_string())?;
        self.next += 1;
        Ok(unit)
    }
}

fn names(slots: &[SlotName]) -> String {
    slots.iter().map(SlotName::as_str).collect::<Vec<&str>>().join(" and ")
}
