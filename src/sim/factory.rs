//! The virtual factory as one thing: fixture, modules, faults and operator.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::adapters::{SimBus, SimPower};
use super::at_commands::Memory as _;
use super::body::{BusEvent, SharedBody};
use super::faults;
use super::flash_map::FlashMap;
use super::line::{Line, Order};
use super::line_state::LineFile;
use super::nand::Nand;
use super::shop::{Shop, ShopParts};
use super::spec::{FactorySpec, SimError, UnitKind};
use super::unit::{Inspection, UnitIdentity};
use super::usbip::Exports;
use super::world::World;
use crate::domain::{ChipId, PageRange, PortChain, Sha256Digest, SlotName};
use crate::hardware::{Bus, SlotPower};
use crate::host::{Clock, Disk, Random};

/// Orders that may wait for the operator.
const ORDERS_MAX: usize = 1024;
/// Incidents that may wait for the operator.
const INCIDENTS_MAX: usize = 1024;

/// A running virtual factory. Dropped, it stops: modules lose power, the operator goes home.
#[derive(Debug)]
pub struct Factory {
    world: Arc<World>,
    shop: Arc<Shop>,
    operator: OperatorHandle,
    carried: Vec<Carried>,
    stop: CancellationToken,
}

/// A unit that an earlier process left in its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The slot.
    pub slot: SlotName,
    /// Its number on the line.
    pub unit: u32,
    /// Its chip.
    pub chip: ChipId,
    /// The IMEI in its flash; empty where there is none.
    pub imei: String,
}

/// How the operator is told things.
#[derive(Debug, Clone)]
pub struct OperatorHandle {
    orders: mpsc::Sender<Order>,
}

impl OperatorHandle {
    /// The run of the unit in a slot is finished: the operator takes it out after a while and puts the next one in.
    /// When this returns, that is written down and survives the process. Ignored while the unit is out of its slot or
    /// its hub is away: such a unit comes back.
    pub async fn slot_done(&self, slot: &SlotName) {
        self.tell(|answer| Order::Done(slot.clone(), answer)).await;
    }

    /// The unit in a slot, carried over from an earlier process, was finished there: the operator takes it out at
    /// once, and it does not count as handed out.
    pub async fn discard(&self, slot: &SlotName) {
        self.tell(|answer| Order::Discard(slot.clone(), answer)).await;
    }

    /// Exchanges the units of two slots, as an operator who confuses them does.
    ///
    /// # Errors
    /// When there is no such slot, or a guest is in one of them.
    pub async fn swap(&self, one: &SlotName, other: &SlotName) -> Result<(), SimError> {
        let (sender, answer) = oneshot::channel();
        // A factory that has stopped needs no orders.
        if self.orders.send(Order::Swap(one.clone(), other.clone(), sender)).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    async fn tell(&self, order: impl FnOnce(oneshot::Sender<()>) -> Order) {
        let (sender, answer) = oneshot::channel();
        // A factory that has stopped needs no orders.
        if self.orders.send(order(sender)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

impl Factory {
    /// Builds the fixture, puts back what an earlier process left in the slots, and starts the operator.
    ///
    /// # Errors
    /// When the specification contradicts itself or names what does not exist, and of the disk.
    pub async fn start(spec: FactorySpec, clock: Clock, disk: Arc<dyn Disk>, random: Random) -> Result<Self, SimError> {
        faults::check(&spec.faults)?;
        let world = World::new(&spec.slots, clock.clone(), random)?;
        if spec.full_speed {
            world.limit_to_full_speed();
        }
        let (incident_sender, incidents) = mpsc::channel(INCIDENTS_MAX);
        let shop = Arc::new(Shop::new(ShopParts {
            seed: spec.seed,
            kinds: spec.units,
            faults: spec.faults,
            pacing: spec.pacing,
            flash: spec.flash,
            disk: disk.clone(),
            world: world.clone(),
            clock: clock.clone(),
            incidents: incident_sender,
        })?);
        let slots: Vec<SlotName> = spec.slots.iter().map(|slot| slot.name.clone()).collect();
        let file = LineFile::new(disk, &spec.state)?;
        let line = Line::start(spec.operator, &slots, world.clone(), shop.clone(), clock, file)?;
        let carried = line
            .carried()
            .into_iter()
            .filter_map(|(slot, unit)| {
                let body = shop.body(unit)?;
                let body = body.lock();
                let imei = body.inspect().and_then(|found| found.imei);
                Some(Carried { slot, unit, chip: body.chip(), imei: imei.unwrap_or_default() })
            })
            .collect();
        let (orders, order_queue) = mpsc::channel(ORDERS_MAX);
        let stop = CancellationToken::new();
        tokio::spawn(line.run(order_queue, incidents, stop.clone()));
        Ok(Self { world, shop, operator: OperatorHandle { orders }, carried, stop })
    }

    /// The buses, as a controller sees them.
    #[must_use]
    pub fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(SimBus { world: self.world.clone() })
    }

    /// The switchable ports.
    #[must_use]
    pub fn power(&self) -> Arc<dyn SlotPower> {
        Arc::new(SimPower { world: self.world.clone() })
    }

    /// The modules, for other programs.
    #[must_use]
    pub fn exports(&self) -> Exports {
        Exports { world: self.world.clone() }
    }

    /// The operator.
    #[must_use]
    pub fn operator(&self) -> OperatorHandle {
        self.operator.clone()
    }

    /// The units that an earlier process left in their slots. Those whose runs the ledger knows as finished are to
    /// be given to [`OperatorHandle::discard`] before a controller starts.
    #[must_use]
    pub fn carried(&self) -> &[Carried] {
        &self.carried
    }

    // Ground truth and hands for tests: what no controller may ask.

    /// A unit's ground truth.
    #[must_use]
    pub fn unit(&self, number: u32) -> Option<UnitTruth> {
        self.shop.body(number).map(|body| UnitTruth { number, body })
    }

    /// The number of the unit in a slot.
    #[must_use]
    pub fn occupant(&self, slot: &SlotName) -> Option<u32> {
        self.world.occupant(slot).map(|(unit, _)| unit)
    }

    /// The slot of a unit.
    #[must_use]
    pub fn slot_of(&self, unit: u32) -> Option<SlotName> {
        self.world.slot_of(unit)
    }

    /// Makes a unit that lies on the bench: plugged nowhere, unknown to the operator.
    ///
    /// # Errors
    /// When the model does not exist, and of the disk.
    pub fn make(&self, number: u32, kind: &UnitKind) -> Result<(), SimError> {
        self.shop.build(number, kind, None)
    }

    /// Pulls the unit out of a slot; it loses its power. Which one it was.
    ///
    /// # Errors
    /// When there is no such slot.
    pub fn unplug(&self, slot: &SlotName) -> Result<Option<u32>, SimError> {
        self.world.unplug(slot)
    }

    /// Plugs a unit into a free slot.
    ///
    /// # Errors
    /// When there is no such unit or slot, or one of them is taken.
    pub fn plug(&self, unit: u32, slot: &SlotName) -> Result<(), SimError> {
        self.world.plug(unit, slot)
    }

    /// Puts `unit` in the place of the one in a slot, which is given back.
    ///
    /// # Errors
    /// As for [`plug`](Self::plug).
    pub fn swap(&self, unit: u32, slot: &SlotName) -> Result<Option<u32>, SimError> {
        let out = self.world.unplug(slot)?;
        self.world.plug(unit, slot)?;
        Ok(out)
    }

    /// Takes a hub away with everything behind it, or brings it back.
    ///
    /// # Errors
    /// When there is no hub at that position.
    pub fn set_hub(&self, chain: &PortChain, present: bool) -> Result<(), SimError> {
        self.world.set_hub(chain, present)
    }

    /// Stops the factory: every module loses its power.
    pub fn stop(&self) {
        self.stop.cancel();
        self.world.shut_down();
    }
}

impl Drop for Factory {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a unit really is.
#[derive(Debug, Clone)]
pub struct UnitTruth {
    number: u32,
    pub(super) body: SharedBody,
}

impl UnitTruth {
    /// Its number on the line.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Who it is: model, chip, IMEI, as it was made.
    #[must_use]
    pub fn identity(&self) -> UnitIdentity {
        self.body.lock().identity().clone()
    }

    /// How often it was started in this factory's time.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.body.lock().starts()
    }

    /// Whether its boot loader was programmed since it was made.
    #[must_use]
    pub fn is_flashed(&self) -> bool {
        self.body.lock().faults.is_flashed()
    }

    /// The functionality level that it runs with.
    #[must_use]
    pub fn cfun(&self) -> u8 {
        self.body.lock().cfun()
    }

    /// What was done to it over the bus, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<BusEvent> {
        self.body.lock().events().to_vec()
    }

    /// Looks at its flash.
    pub fn flash<T>(&self, look: impl FnOnce(&Nand, &FlashMap) -> T) -> T {
        let body = self.body.lock();
        look(body.nand(), &body.flash_map())
    }

    /// What is really in it; `None` when its storage cannot be read.
    #[must_use]
    pub fn inspect(&self) -> Option<Inspection> {
        self.body.lock().inspect()
    }

    /// The digest of the first `bytes` bytes of a partition; `None` when they cannot all be read.
    #[must_use]
    pub fn digest(&self, partition: &str, bytes: u64) -> Option<Sha256Digest> {
        self.body.lock().digest(partition, bytes)
    }

    /// Marks a block of its storage bad.
    ///
    /// # Errors
    /// When there is no such block.
    pub fn spoil_block(&self, block: u64) -> Result<(), SimError> {
        Ok(self.body.lock().nand_mut().mark_bad(block)?)
    }

    /// Erases a block of its storage, whatever is in it; bad blocks stay as they are.
    ///
    /// # Errors
    /// When there is no such block.
    pub fn erase_block(&self, block: u64) -> Result<(), SimError> {
        let mut body = self.body.lock();
        match body.nand().is_bad(block) {
            true => Ok(()),
            false => Ok(body.nand_mut().erase(block)?),
        }
    }

    /// Takes its EFS and the second copy of it away, as a power cut at the wrong moment does.
    pub fn lose_efs(&self) {
        self.body.lock().lose_efs();
    }

    /// Takes its RF calibration away, but for an item that nobody asks for; the second copy keeps it.
    ///
    /// # Errors
    /// When its storage fails.
    pub fn lose_calibration(&self) -> Result<(), SimError> {
        self.body.lock().lose_calibration()
    }

    /// The ranges that belong to the unit, in its own table.
    #[must_use]
    pub fn guarded(&self) -> Vec<PageRange> {
        self.body.lock().guarded()
    }
}
