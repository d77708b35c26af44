//! What a station remembers of modules from one visit to the next, for as long as it works.
//!
//! None of it decides anything about a unit: it says which question is worth asking, and which is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{ChipId, Imei};
use crate::hardware::DeviceKey;

/// IMEIs whose chip is remembered; beyond that, all are forgotten and asked again.
const CHIPS_MAX: usize = 4096;

/// The memory.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Slots whose module was sent into download mode, was not seen there in time, and had nothing changed on it.
    sent: BTreeSet<usize>,
    chips: BTreeMap<Imei, ChipId>,
    /// By slot, the module that was asked for its chip there last and left alone, and why.
    left: BTreeMap<usize, (DeviceKey, &'static str)>,
}

impl Visits {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The module of a slot was sent into download mode and did not come in time.
    pub(crate) fn sent_to_edl(&self, slot: usize) {
        self.inner().sent.insert(slot);
    }

    /// Whether such a module may still come; it is forgotten with that.
    pub(crate) fn take_sent(&self, slot: usize) -> bool {
        self.inner().sent.remove(&slot)
    }

    /// Whether such a module may still come.
    pub(crate) fn was_sent(&self, slot: usize) -> bool {
        self.inner().sent.contains(&slot)
    }

    /// A module that says this IMEI was asked for its chip.
    pub(crate) fn learn(&self, imei: Imei, chip: ChipId) {
        let mut inner = self.inner();
        if inner.chips.len() >= CHIPS_MAX {
            inner.chips.clear();
        }
        inner.chips.insert(imei, chip);
    }

    /// The chip of the module that said this IMEI last.
    pub(crate) fn chip_of(&self, imei: Imei) -> Option<ChipId> {
        self.inner().chips.get(&imei).copied()
    }

    /// The module of a slot was asked for its chip, and nothing was begun. It is known as long as it stays enumerated as
    /// it is: taken out, it is asked again.
    pub(crate) fn leave(&self, slot: usize, key: DeviceKey, why: &'static str) {
        self.inner().left.insert(slot, (key, why));
    }

    /// Why the module of that slot was left alone after it had been asked; `None` for another one.
    pub(crate) fn left(&self, slot: usize, key: &DeviceKey) -> Option<&'static str> {
        self.inner().left.get(&slot).filter(|(known, _)| known == key).map(|(_, why)| *why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_was_sent_is_expected_once_and_in_its_slot() {
        let visits = Visits::default();
        visits.sent_to_edl(3);
        assert!(!visits.take_sent(2) && visits.was_sent(3));
        assert!(visits.take_sent(3) && !visits.take_sent(3));
    }

    #[test]
    fn a_module_that_was_left_is_known_until_it_is_enumerated_again() {
        let key = |session| DeviceKey { chain: "c/usb2/1".parse().expect("a chain"), session };
        let visits = Visits::default();
        visits.leave(3, key(7), "no place");
        assert_eq!(visits.left(3, &key(7)), Some("no place"));
        assert_eq!((visits.left(2, &key(7)), visits.left(3, &key(8))), (None, None));
    }
}
