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
        tokio::select! {
            biased;
            hint = hints.changed() => if hint.is_err() {
                floor.clock.sleep(limits::RECONCILE_INTERVAL).await;
            },
            () = floor.clock.sleep(limits::RECONCILE_INTERVAL) => {}
        }
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

fn chains(slot: &SlotConfig) -> impl Iterator<Item = &PortChain> {
    std::iter::once(&slot.usb2).chain(&slot.usb3)
}

fn look(listing: &Listing, slot: &SlotConfig, hubs: &Hubs) -> SlotView {
    let devices =
        listing.devices.iter().filter(|device| chains(slot).any(|chain| *chain == device.key.chain)).cloned().collect();
    let hub_lost = hubs.lost().any(|hub| chains(slot).any(|chain| chain.is_at_or_behind(hub)));
    SlotView { devices, hub_lost }
}

/// Hubs that were seen, and whether they still are.
#[derive(Debug, Default)]
struct Hubs {
    present: BTreeMap<PortChain, bool>,
}

impl Hubs {
    fn lost(&self) -> impl Iterator<Item = &PortChain> {
        self.present.iter().filter_map(|(hub, present)| (!present).then_some(hub))
    }

    /// The facts that follow from a listing: one per physical hub, although a USB 3 hub is two, and none for hubs
    /// that vanished with the one above them.
    fn update(&mut self, listing: &Listing, slots: &[SlotConfig]) -> Vec<Fact> {
        let before: Vec<PortChain> = self.lost_tops();
        for hub in &listing.hubs {
            if slots.iter().any(|slot| chains(slot).any(|chain| chain.is_at_or_behind(&hub.chain))) {
                self.present.entry(hub.chain.clone()).or_insert(true);
            }
        }
        for (chain, present) in &mut self.present {
            *present = listing.hubs.iter().any(|hub| hub.chain == *chain);
        }
        let after = self.lost_tops();
        let gone = after
            .iter()
            .filter(|hub| !before.contains(hub))
            .map(|hub| Fact::HubLost { hub: hub.clone(), slots: slots_behind(hub, slots) });
        let back = before.iter().filter(|hub| !after.contains(hub)).map(|hub| Fact::HubReturned { hub: hub.clone() });
        gone.chain(back).collect()
    }

    fn lost_tops(&self) -> Vec<PortChain> {
        let lost: Vec<&PortChain> = self.lost().collect();
        lost.iter()
            .filter(|hub| !lost.iter().any(|other| other != *hub && hub.is_at_or_behind(other)))
            .filter(|hub| {
                // The SuperSpeed half of a hub whose USB 2 half is lost too is the same event.
                !lost.iter().any(|other| {
                    other.side() < hub.side() && other.controller() == hub.controller() && other.ports() == hub.ports()
                })
            })
            .map(|hub| (*hub).clone())
            .collect()
    }
}

fn slots_behind(hub: &PortChain, slots: &[SlotConfig]) -> Vec<SlotName> {
    slots
        .iter()
        .filter(|slot| {
            chains(slot).any(|chain| chain.controller() == hub.controller() && chain.ports().starts_with(hub.ports()))
        })
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
    fn a_hub_behind_a_lost_hub_is_no_event_of_its_own() {
        let deep = SlotConfig { usb2: "c/usb2/1.2.1".parse().expect("valid"), usb3: None, ..slot("A1", 1) };
        let all = Listing { devices: vec![], hubs: vec![hub("c/usb2/1"), hub("c/usb2/1.2")] };
        let mut hubs = Hubs::default();
        hubs.update(&all, std::slice::from_ref(&deep));
        assert_eq!(hubs.update(&Listing::default(), &[deep]).len(), 1);
    }
}
