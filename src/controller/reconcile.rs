//! The reconciler: what is plugged in, slot by slot.
//!
//! Hot-plug events get lost in bursts, so they are only hints to look at once; the bus is listed at least every
//! second anyway. Everything else in the controller reads the views that are published here and never an event.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::floor::Floor;
use crate::config::SlotConfig;
use crate::domain::{Fact, PortChain, SlotName, limits};
use crate::hardware::{DeviceKey, DeviceMode, DeviceRecord, Listing};
use crate::host::Clock;
use crate::ledger::LedgerError;

/// What is plugged into one slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SlotView {
    /// Devices at the slot's chains.
    pub(crate) devices: Vec<DeviceRecord>,
    /// Whether a hub of the slot that was there before is gone.
    pub(crate) hub_lost: bool,
}

impl SlotView {
    /// The module in the slot and what it is ready for. Devices that are no module do not count.
    pub(crate) fn module(&self) -> Option<(&DeviceRecord, DeviceMode)> {
        self.devices
            .iter()
            .map(|device| (device, device.mode()))
            .find(|(_, mode)| !matches!(mode, DeviceMode::Foreign | DeviceMode::Unconfigured))
    }

    /// A device in the slot that the host did not get as far as configuring, where there is no module besides.
    pub(crate) fn half_enumerated(&self) -> Option<&DeviceRecord> {
        let half = self.devices.iter().find(|device| matches!(device.mode(), DeviceMode::Unconfigured));
        half.filter(|_| self.module().is_none())
    }

    /// Whether that very enumeration is still there.
    pub(crate) fn has(&self, key: &DeviceKey) -> bool {
        self.devices.iter().any(|device| device.key == *key)
    }
}

/// Lists the bus for ever and publishes views. Ends only when the ledger fails or the future is dropped.
pub(crate) async fn run(floor: Arc<Floor>, views: Vec<watch::Sender<SlotView>>) -> Result<(), LedgerError> {
    let mut hints = floor.bus.hints();
    let mut hubs = Hubs::default();
    loop {
        match floor.bus.list().await {
            Ok(listing) => {
                for fact in hubs.update(&listing, &floor.station.slots) {
                    floor.ledger.append(fact).await?;
                }
                for (slot, view) in floor.station.slots.iter().zip(&views) {
                    publish(view, look(&listing, slot, &hubs));
                }
            }
            // Nothing is known then; what was known stays.
            Err(error) => tracing::warn!(%error, "the bus could not be listed"),
        }
        hint_or_interval(&mut hints, &floor.clock).await;
    }
}

/// Waits until the bus is worth another look: after a hint, or a second, also where no hint can come any more.
pub(crate) async fn hint_or_interval(hints: &mut watch::Receiver<u64>, clock: &Clock) {
    tokio::select! {
        biased;
        hint = hints.changed() => if hint.is_err() {
            clock.sleep(limits::RECONCILE_INTERVAL).await;
        },
        () = clock.sleep(limits::RECONCILE_INTERVAL) => {}
    }
}

fn publish(sender: &watch::Sender<SlotView>, view: SlotView) {
    sender.send_if_modified(|old| {
        let changed = *old != view;
        if changed {
            *old = view;
        }
        changed
    });
}

fn look(listing: &Listing, slot: &SlotConfig, hubs: &Hubs) -> SlotView {
    let devices = listing.devices.iter().filter(|device| slot.is_at(&device.key.chain)).cloned().collect();
    let hub_lost = hubs.lost().any(|hub| slot.chains().any(|chain| chain.is_at_or_behind(hub)));
    SlotView { devices, hub_lost }
}

/// Hubs that were seen, whether they still are, and which losses were told.
#[derive(Debug, Default)]
struct Hubs {
    present: BTreeMap<PortChain, bool>,
    /// Hubs whose loss was told and whose return was not. A box counts once, though a USB 3 hub is two on the bus.
    told: Vec<PortChain>,
}

impl Hubs {
    fn lost(&self) -> impl Iterator<Item = &PortChain> {
        self.present.iter().filter_map(|(hub, present)| (!present).then_some(hub))
    }

    /// The facts that follow from a listing: one loss per box that went away, whichever of its halves is seen to
    /// vanish first, and none for boxes that went with the one above them. It is back when both halves and everything
    /// behind it are: they come back one after the other, and are one event all the same.
    fn update(&mut self, listing: &Listing, slots: &[SlotConfig]) -> Vec<Fact> {
        for hub in &listing.hubs {
            if slots.iter().any(|slot| slot.chains().any(|chain| chain.is_at_or_behind(&hub.chain))) {
                self.present.entry(hub.chain.clone()).or_insert(true);
            }
        }
        for (chain, present) in &mut self.present {
            *present = listing.hubs.iter().any(|hub| hub.chain == *chain);
        }
        let mut lost: Vec<PortChain> = self.lost().cloned().collect();
        // The one above first, and the USB 2 half of a box before the other one.
        lost.sort_by_key(|hub| (hub.ports().len(), hub.side()));
        let mut facts = Vec::new();
        for hub in &lost {
            if !self.told.iter().any(|told| is_box_at_or_behind(hub, told)) {
                facts.push(Fact::HubLost { hub: hub.clone(), slots: slots_behind(hub, slots) });
                self.told.push(hub.clone());
            }
        }
        self.told.retain(|told| {
            let is_away = lost.iter().any(|hub| is_box_at_or_behind(hub, told));
            if !is_away {
                facts.push(Fact::HubReturned { hub: told.clone() });
            }
            is_away
        });
        facts
    }
}

/// Whether the box of `hub` is the box of `above`, or is plugged into it, on whichever side.
fn is_box_at_or_behind(hub: &PortChain, above: &PortChain) -> bool {
    hub.controller() == above.controller() && hub.ports().starts_with(above.ports())
}

fn slots_behind(hub: &PortChain, slots: &[SlotConfig]) -> Vec<SlotName> {
    slots
        .iter()
        .filter(|slot| slot.chains().any(|chain| is_box_at_or_behind(chain, hub)))
        .map(|slot| slot.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::HubRecord;

    fn slot(name: &str, port: u8) -> SlotConfig {
        SlotConfig {
            name: name.parse().expect("valid"),
            usb2: format!("c/usb2/1.{port}").parse().expect("valid"),
            usb3: Some(format!("c/usb3/1.{port}").parse().expect("valid")),
        }
    }

    fn hub(chain: &str) -> HubRecord {
        HubRecord { chain: chain.parse().expect("valid"), ports: 4, product: String::new() }
    }

    #[test]
    fn a_hub_with_two_halves_is_lost_once_and_returns_once() {
        let slots = [slot("A1", 1), slot("A2", 2)];
        let both = Listing { devices: vec![], hubs: vec![hub("c/usb2/1"), hub("c/usb3/1")] };
        let mut hubs = Hubs::default();
        assert!(hubs.update(&both, &slots).is_empty());
        let facts = hubs.update(&Listing::default(), &slots);
        let [Fact::HubLost { hub: lost, slots: behind }] = facts.as_slice() else { panic!("one event: {facts:?}") };
        assert_eq!(lost.to_string(), "c/usb2/1");
        assert_eq!(behind.len(), 2);
        assert!(look(&Listing::default(), &slots[0], &hubs).hub_lost);
        assert!(hubs.update(&Listing::default(), &slots).is_empty());
        assert!(matches!(hubs.update(&both, &slots).as_slice(), [Fact::HubReturned { .. }]));
    }

    #[test]
    fn halves_that_come_and_go_one_after_the_other_are_one_event() {
        let slots = [slot("A1", 1)];
        let listing =
            |chains: &[&str]| Listing { devices: vec![], hubs: chains.iter().map(|chain| hub(chain)).collect() };
        let (two, three) = ("c/usb2/1", "c/usb3/1");
        for first in [two, three] {
            let mut hubs = Hubs::default();
            let steps = [&[two, three][..], &[first], &[], &[first], &[two, three]];
            let facts: Vec<Fact> = steps.iter().flat_map(|step| hubs.update(&listing(step), &slots)).collect();
            assert!(matches!(&facts[..], [Fact::HubLost { .. }, Fact::HubReturned { .. }]), "{first}: {facts:?}");
        }
    }

    #[test]
    fn a_hub_that_returns_before_the_one_behind_it_was_lost_once() {
        let deep = SlotConfig { usb2: "c/usb2/1.2.1".parse().expect("valid"), usb3: None, ..slot("A1", 1) };
        let above = Listing { devices: vec![], hubs: vec![hub("c/usb2/1")] };
        let all = Listing { devices: vec![], hubs: vec![hub("c/usb2/1"), hub("c/usb2/1.2")] };
        let mut hubs = Hubs::default();
        let steps = [&all, &Listing::default(), &above, &all];
        let slots = [deep];
        let facts: Vec<Fact> = steps.iter().flat_map(|step| hubs.update(step, &slots)).collect();
        let [Fact::HubLost { hub: lost, .. }, Fact::HubReturned { hub: back }] = &facts[..] else {
            panic!("one event: {facts:?}");
        };
        assert_eq!(lost, back);
    }

    #[test]
    fn a_hub_behind_a_lost_hub_is_no_event_of_its_own() {
        let deep = SlotConfig { usb2: "c/usb2/1.2.1".parse().expect("valid"), usb3: None, ..slot("A1", 1) };
        let all = Listing { devices: vec![], hubs: vec![hub("c/usb2/1"), hub("c/usb2/1.2")] };
        let mut hubs = Hubs::default();
        hubs.update(&all, std::slice::from_ref(&deep));
        assert_eq!(hubs.update(&Listing::default(), &[deep]).len(), 1);
    }
}
