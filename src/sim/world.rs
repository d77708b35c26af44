//! The fixture: host controllers with root ports, hubs, ports with power, and what is plugged where.
//!
//! Hubs follow from the slots' port chains: every proper prefix of a chain is a hub, and the two halves of a USB 3
//! hub are one box. A module has power while it is plugged, its port is on and no hub above it is away; losing it
//! ends its task's current life at once. All behind one root port of the USB 2 side share its bandwidth.
//!
//! Hot-plug hints are lost now and then, as they are on a real host when a whole hub enumerates anew; nobody may
//! depend on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::descriptors::Face;
use super::link::Link;
use super::pace::transfer_time;
use super::spec::{SimError, SimSlot};
use crate::domain::{PortChain, Side, SlotName};
use crate::hardware::{DeviceKey, DeviceRecord, EndpointKind, HardwareError, HubRecord, Interface, Listing, Speed};
use crate::host::{Clock, Random};

/// What one high-speed root port carries, in bytes per second: real hosts reach 33 to 41 MB/s.
const HIGH_SPEED_BYTES_PER_SECOND: u64 = 33_000_000;
/// Ports that a hub has at least.
const HUB_PORTS_MIN: u8 = 4;
/// One hint of so many is lost.
const HINTS_PER_LOSS: u64 = 8;

/// Whether a module has power, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Supply {
    /// Changes with every interruption, however short.
    pub(super) generation: u64,
    /// Index of the slot that gives power.
    pub(super) slot: Option<usize>,
}

/// The fixture. Modules, adapters and the operator share it.
#[derive(Debug)]
pub(super) struct World {
    inner: Mutex<Inner>,
    hints: watch::Sender<u64>,
    changes: watch::Sender<u64>,
    random: Random,
    clock: Clock,
}

#[derive(Debug)]
struct Inner {
    slots: Vec<Place>,
    hubs: Vec<Hub>,
    supplies: BTreeMap<u32, watch::Sender<Supply>>,
    full_speed: bool,
    sessions: u64,
    generations: u64,
    root_busy_until: BTreeMap<PortChain, Duration>,
}

#[derive(Debug)]
struct Place {
    slot: SimSlot,
    power: bool,
    unit: Option<u32>,
    device: Option<Attached>,
}

#[derive(Debug)]
struct Hub {
    halves: Vec<PortChain>,
    ports: u8,
    present: bool,
}

#[derive(Debug)]
struct Attached {
    record: DeviceRecord,
    face: Face,
    links: BTreeMap<u8, Arc<Link>>,
    gone: CancellationToken,
}

/// What is plugged into a slot, for those who show it to other programs.
#[derive(Debug, Clone)]
pub(super) struct Export {
    /// Which slot, in the order of the fixture.
    pub(super) index: usize,
    pub(super) slot: SlotName,
    pub(super) record: DeviceRecord,
    pub(super) face: Face,
    pub(super) links: BTreeMap<u8, Arc<Link>>,
    /// Cancelled once it is off the bus.
    pub(super) gone: CancellationToken,
}

impl Place {
    fn chains(&self) -> impl Iterator<Item = &PortChain> {
        std::iter::once(&self.slot.usb2).chain(self.slot.usb3.as_ref())
    }

    fn detach(&mut self) -> bool {
        let Some(device) = self.device.take() else { return false };
        device.links.values().for_each(|link| link.disconnect());
        device.gone.cancel();
        true
    }
}

impl Hub {
    fn holds(&self, place: &Place) -> bool {
        self.halves.iter().any(|half| place.chains().any(|chain| chain.is_at_or_behind(half)))
    }
}

impl World {
    pub(super) fn new(slots: &[SimSlot], clock: Clock, random: Random) -> Result<Arc<Self>, SimError> {
        let mut seen: Vec<&PortChain> = Vec::new();
        for chain in slots.iter().flat_map(|slot| std::iter::once(&slot.usb2).chain(slot.usb3.as_ref())) {
            if seen.contains(&chain) {
                return Err(SimError::ChainTwice(chain.clone()));
            }
            seen.push(chain);
        }
        let places = slots.iter().map(|slot| Place { slot: slot.clone(), power: true, unit: None, device: None });
        let inner = Inner {
            slots: places.collect(),
            hubs: hubs_of(slots),
            supplies: BTreeMap::new(),
            full_speed: false,
            sessions: 0,
            generations: 0,
            root_busy_until: BTreeMap::new(),
        };
        Ok(Arc::new(Self {
            inner: Mutex::new(inner),
            hints: watch::Sender::new(0),
            changes: watch::Sender::new(0),
            random,
            clock,
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on modules run at full speed.
    pub(super) fn limit_to_full_speed(&self) {
        self.inner().full_speed = true;
    }

    pub(super) fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }

    /// A number that changes with everything that comes to the bus or leaves it. Nothing is lost here: it is for those
    /// who are the bus to other programs.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn hint(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        if !self.random.next_u64().is_multiple_of(HINTS_PER_LOSS) {
            self.hints.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Adds a module that is plugged nowhere yet.
    pub(super) fn register(&self, unit: u32) -> watch::Receiver<Supply> {
        let (sender, receiver) = watch::channel(Supply::default());
        self.inner().supplies.insert(unit, sender);
        receiver
    }

    /// Takes a module out of the factory; its task ends.
    pub(super) fn forget(&self, unit: u32) {
        let mut inner = self.inner();
        if let Some(index) = inner.slots.iter().position(|place| place.unit == Some(unit)) {
            inner.slots[index].unit = None;
            inner.slots[index].detach();
        }
        inner.supplies.remove(&unit);
        drop(inner);
        self.hint();
    }

    /// Takes all power away, for good.
    pub(super) fn shut_down(&self) {
        let mut inner = self.inner();
        inner.slots.iter_mut().for_each(|place| {
            place.unit = None;
            place.detach();
        });
        inner.supplies.clear();
        drop(inner);
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Plugs a module into a free slot.
    pub(super) fn plug(&self, unit: u32, slot: &SlotName) -> Result<(), SimError> {
        let mut inner = self.inner();
        let index = inner.index(slot)?;
        if !inner.supplies.contains_key(&unit) {
            return Err(SimError::NoUnit(unit));
        }
        if inner.slots.iter().any(|place| place.unit == Some(unit)) {
            return Err(SimError::PluggedAlready(unit));
        }
        if let Some(other) = inner.slots[index].unit {
            return Err(SimError::SlotTaken { slot: slot.clone(), unit: other });
        }
        inner.slots[index].unit = Some(unit);
        inner.resupply(index);
        Ok(())
    }

    /// Pulls a module out of its slot; which one it was.
    pub(super) fn unplug(&self, slot: &SlotName) -> Result<Option<u32>, SimError> {
        let mut inner = self.inner();
        let index = inner.index(slot)?;
        let unit = inner.slots[index].unit.take();
        inner.slots[index].detach();
        if let Some(sender) = unit.and_then(|unit| inner.supplies.get(&unit)) {
            sender.send_modify(|supply| supply.slot = None);
        }
        drop(inner);
        self.hint();
        Ok(unit)
    }

    /// The module in a slot, and whether it has power.
    pub(super) fn occupant(&self, slot: &SlotName) -> Option<(u32, bool)> {
        let inner = self.inner();
        let place = inner.slots.iter().find(|place| place.slot.name == *slot)?;
        let hubs = inner.hubs.iter().all(|hub| hub.present || !hub.holds(place));
        Some((place.unit?, hubs))
    }

    /// The slot in which a module is plugged.
    pub(super) fn slot_of(&self, unit: u32) -> Option<SlotName> {
        self.inner().slots.iter().find(|place| place.unit == Some(unit)).map(|place| place.slot.name.clone())
    }

    /// Whether these chains belong to one slot.
    pub(super) fn has_port(&self, chains: &[PortChain]) -> bool {
        self.inner().port(chains).is_some()
    }

    /// Switches the power of a slot's port, both halves.
    pub(super) fn set_port(&self, chains: &[PortChain], on: bool) -> Result<(), HardwareError> {
        let mut inner = self.inner();
        let index = inner.port(chains).ok_or(HardwareError::Unsupported("no switchable port at this position"))?;
        inner.slots[index].power = on;
        inner.resupply(index);
        drop(inner);
        self.hint();
        Ok(())
    }

    /// Takes a slot's power away for a moment, as when its cable is pulled and plugged in again. A port that is switched off
    /// stays so.
    pub(super) fn interrupt_power(&self, slot: &SlotName) {
        let mut inner = self.inner();
        let Some(index) = inner.slots.iter().position(|place| place.slot.name == *slot && place.power) else { return };
        for on in [false, true] {
            inner.slots[index].power = on;
            inner.resupply(index);
        }
        drop(inner);
        self.hint();
    }

    /// Takes a hub away, with all behind it, or brings it back.
    pub(super) fn set_hub(&self, chain: &PortChain, present: bool) -> Result<(), SimError> {
        let mut inner = self.inner();
        let Some(hub) = inner.hubs.iter_mut().find(|hub| hub.halves.contains(chain)) else {
            return Err(SimError::NoHub(chain.clone()));
        };
        hub.present = present;
        for index in 0..inner.slots.len() {
            inner.resupply(index);
        }
        drop(inner);
        self.hint();
        Ok(())
    }

    /// The hub right above a slot's port.
    pub(super) fn hub_of(&self, slot: &SlotName) -> Option<PortChain> {
        let inner = self.inner();
        inner.slots.iter().find(|place| place.slot.name == *slot)?.slot.usb2.hub()
    }

    /// Puts a module's face on the bus. It disappears when the returned value is dropped.
    pub(super) fn attach(self: &Arc<Self>, unit: u32, face: Face) -> Attachment {
        let mut inner = self.inner();
        inner.sessions += 1;
        let (session, full_speed) = (inner.sessions, inner.full_speed);
        let Some(place) = inner.slots.iter_mut().find(|place| place.unit == Some(unit)) else {
            return Attachment { world: self.clone(), session, root: None, links: face_links(&face, true) };
        };
        place.detach();
        let (chain, face) = match (&place.slot.usb3, face.side) {
            (Some(usb3), Side::Usb3) if !full_speed => (usb3.clone(), face),
            _ if full_speed => (place.slot.usb2.clone(), face.at_full_speed()),
            _ => (place.slot.usb2.clone(), face.at_high_speed()),
        };
        let links = face_links(&face, false);
        let root = (chain.side() == Side::Usb2).then(|| chain.root_port());
        let record = DeviceRecord {
            speed: match chain.side() {
                Side::Usb3 => Speed::Super,
                Side::Usb2 if full_speed => Speed::Full,
                Side::Usb2 => Speed::High,
            },
            key: DeviceKey { chain, session },
            vendor_id: face.vendor_id,
            product_id: face.product_id,
            bcd_device: face.bcd_device,
            product: face.product.clone(),
            manufacturer: face.manufacturer.clone(),
            serial: face.serial.clone(),
            interfaces: face.interfaces.clone(),
        };
        place.device = Some(Attached { record, face, links: links.clone(), gone: CancellationToken::new() });
        drop(inner);
        self.hint();
        Attachment { world: self.clone(), session, root, links }
    }

    fn detach(&self, session: u64) {
        let mut inner = self.inner();
        let of_session =
            |place: &&mut Place| place.device.as_ref().is_some_and(|device| device.record.key.session == session);
        let left = inner.slots.iter_mut().find(of_session).is_some_and(Place::detach);
        drop(inner);
        if left {
            self.hint();
        }
    }

    /// Everything that is plugged in, ascending by position.
    pub(super) fn listing(&self) -> Listing {
        let inner = self.inner();
        let mut devices: Vec<DeviceRecord> =
            inner.slots.iter().filter_map(|place| place.device.as_ref()).map(|device| device.record.clone()).collect();
        devices.sort_by(|a, b| a.key.cmp(&b.key));
        let present = inner.hubs.iter().filter(|hub| inner.is_reachable(hub));
        let mut hubs: Vec<HubRecord> = present
            .flat_map(|hub| {
                hub.halves.iter().map(|half| HubRecord {
                    chain: half.clone(),
                    ports: hub.ports,
                    product: "Simulated hub".to_owned(),
                })
            })
            .collect();
        hubs.sort_by(|a, b| a.chain.cmp(&b.chain));
        Listing { devices, hubs }
    }

    /// Everything that is plugged in, in the order of the slots.
    pub(super) fn exports(&self) -> Vec<Export> {
        let inner = self.inner();
        let places = inner.slots.iter().enumerate();
        places
            .filter_map(|(index, place)| {
                let device = place.device.as_ref()?;
                Some(Export {
                    index,
                    slot: place.slot.name.clone(),
                    record: device.record.clone(),
                    face: device.face.clone(),
                    links: device.links.clone(),
                    gone: device.gone.clone(),
                })
            })
            .collect()
    }

    /// The link of an interface, and whether its port is a serial one for the host's drivers.
    pub(super) fn link(&self, key: &DeviceKey, interface: u8) -> Result<(Arc<Link>, DeviceRecord), HardwareError> {
        let inner = self.inner();
        let device = inner
            .slots
            .iter()
            .filter_map(|place| place.device.as_ref())
            .find(|device| device.record.key == *key)
            .ok_or(HardwareError::Gone)?;
        let link = device.links.get(&interface).ok_or(HardwareError::Unsupported("no such interface"))?;
        Ok((link.clone(), device.record.clone()))
    }
}

impl Inner {
    fn index(&self, slot: &SlotName) -> Result<usize, SimError> {
        self.slots.iter().position(|place| place.slot.name == *slot).ok_or_else(|| SimError::NoSlot(slot.clone()))
    }

    fn port(&self, chains: &[PortChain]) -> Option<usize> {
        let (first, others) = chains.split_first()?;
        let index = self.slots.iter().position(|place| place.chains().any(|chain| chain == first))?;
        others.iter().all(|other| self.slots[index].chains().any(|chain| chain == other)).then_some(index)
    }

    fn is_reachable(&self, hub: &Hub) -> bool {
        self.hubs.iter().all(|other| {
            other.present || !hub.halves.iter().any(|half| other.halves.iter().any(|o| half.is_at_or_behind(o)))
        })
    }

    /// Gives the module in a slot its power, or takes it, after something changed.
    fn resupply(&mut self, index: usize) {
        let place = &self.slots[index];
        let powered = place.power && self.hubs.iter().all(|hub| hub.present || !hub.holds(place));
        let Some(sender) = place.unit.and_then(|unit| self.supplies.get(&unit)) else { return };
        let wanted = powered.then_some(index);
        if sender.borrow().slot == wanted {
            return;
        }
        self.generations += 1;
        sender.send_replace(Supply { generation: self.generations, slot: wanted });
        if !powered {
            self.slots[index].detach();
        }
    }
}

/// A module's face on the bus, for as long as this lives.
#[derive(Debug)]
pub(super) struct Attachment {
    world: Arc<World>,
    session: u64,
    root: Option<PortChain>,
    links: BTreeMap<u8, Arc<Link>>,
}

impl Attachment {
    /// The link of an interface that the face has.
    pub(super) fn link(&self, interface: u8) -> Option<&Arc<Link>> {
        self.links.get(&interface)
    }

    /// Takes the face off the bus before this is dropped.
    pub(super) fn leave(&self) {
        self.world.detach(self.session);
    }

    /// All links, by interface number.
    pub(super) fn links(&self) -> &BTreeMap<u8, Arc<Link>> {
        &self.links
    }

    /// Takes a share of the root port for `bytes`; when they will have crossed the cable.
    pub(super) fn carry(&self, bytes: usize) -> Duration {
        let now = self.world.clock.now();
        let Some(root) = &self.root else { return now };
        let time = transfer_time(bytes as u64, HIGH_SPEED_BYTES_PER_SECOND);
        let mut inner = self.world.inner();
        let busy = inner.root_busy_until.entry(root.clone()).or_default();
        *busy = (*busy).max(now) + time;
        *busy
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.world.detach(self.session);
    }
}

fn face_links(face: &Face, gone: bool) -> BTreeMap<u8, Arc<Link>> {
    let link = |interface: &Interface| {
        let bulk = interface.endpoints.iter().find(|endpoint| endpoint.kind == EndpointKind::Bulk);
        let link = Link::new(bulk.map_or(512, |endpoint| usize::from(endpoint.packet_bytes)));
        if gone {
            link.disconnect();
        }
        (interface.number, link)
    };
    face.interfaces.iter().map(link).collect()
}

/// The boxes that the slots' chains imply. The halves of a chain pair are paired from the port upwards.
fn hubs_of(slots: &[SimSlot]) -> Vec<Hub> {
    let mut hubs: BTreeMap<PortChain, Hub> = BTreeMap::new();
    for slot in slots {
        let mut lower = Some(slot.usb2.clone());
        let mut upper = slot.usb3.clone();
        while let Some((chain, port)) = lower.as_ref().and_then(|low| Some((low.hub()?, *low.ports().last()?))) {
            upper = upper.and_then(|half| half.hub());
            let hub = hubs.entry(chain.clone()).or_insert_with(|| Hub {
                halves: vec![chain.clone()],
                ports: HUB_PORTS_MIN,
                present: true,
            });
            hub.ports = hub.ports.max(port);
            if let Some(half) = upper.as_ref().filter(|half| !hub.halves.contains(half)) {
                hub.halves.push(half.clone());
            }
            lower = Some(chain);
        }
    }
    hubs.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::super::models::MODELS;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_behind_one_root_port_share_its_bandwidth() {
        let slot = |name: &str, port: &str| SimSlot {
            name: name.parse().expect("a name"),
            usb2: format!("pci-0/usb2/{port}").parse().expect("a chain"),
            usb3: None,
        };
        let slots = [slot("A1", "1.1"), slot("A2", "1.2.1"), slot("B1", "2.1")];
        let world = World::new(&slots, Clock::real(), Random::seeded(1)).expect("a fixture");
        let attached: Vec<Attachment> = (1..)
            .zip(&slots)
            .map(|(unit, slot)| {
                let _supply = world.register(unit);
                world.plug(unit, &slot.name).expect("a free slot");
                world.attach(unit, Face::edl(&MODELS[0], MODELS[0].chip_id(unit)))
            })
            .collect();
        let second = Duration::from_secs(1);
        assert_eq!(attached[0].carry(33_000_000), second);
        assert_eq!(attached[1].carry(33_000_000), 2 * second, "behind a second hub, but the same root port");
        assert_eq!(attached[2].carry(33_000_000), second);
        assert_eq!(world.listing().hubs.len(), 3);
        assert_eq!(world.listing().devices.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn hints_are_lost_now_and_then_and_the_same_ones_for_a_seed() {
        let slots = [SimSlot {
            name: "A1".parse().expect("a name"),
            usb2: "pci-0/usb2/1.1".parse().expect("a chain"),
            usb3: None,
        }];
        let count = || {
            let world = World::new(&slots, Clock::real(), Random::seeded(5)).expect("a fixture");
            let _supply = world.register(1);
            for _ in 0..100 {
                world.plug(1, &slots[0].name).expect("a free slot");
                let attachment = world.attach(1, Face::edl(&MODELS[0], MODELS[0].chip_id(1)));
                drop(attachment);
                world.unplug(&slots[0].name).expect("a slot");
            }
            *world.hints().borrow()
        };
        let hints = count();
        assert!((200..300).contains(&hints), "{hints} of 300");
        assert_eq!(hints, count());
    }
}
