//! The automatic operator: puts units in, takes finished ones out, and repairs what faults do to the fixture.
//!
//! Units carry numbers from a counter that outlives the process, so no unit comes twice. Where flash lies in files,
//! a unit outlives the process too: it sits in the slot in which it was, and boots from what is in it. What the
//! operator knows is written down before the fixture changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::faults::Strike;
use super::line_state::{LineFile, Seated};
use super::module::Incident;
use super::shop::Shop;
use super::spec::{OperatorSpec, SimError, UnitKind};
use super::world::World;
use crate::domain::{PortChain, SlotName};
use crate::host::Clock;

/// Between two insertions at the start: one operator has two hands.
const STAGGER: Duration = Duration::from_millis(300);
/// How long a pulled unit stays out.
const REPLUG_AFTER: Duration = Duration::from_secs(10);
/// How long a lost hub is away.
const HUB_AWAY: Duration = Duration::from_secs(5);
/// When another unit is put in for one that reboots.
const GUEST_AFTER: Duration = Duration::from_secs(2);
/// How long a guest stays when nobody judges it.
const GUEST_STAYS_MAX: Duration = Duration::from_secs(180);
/// Between the guest's removal and the owner's return.
const OWNER_AFTER: Duration = Duration::from_secs(3);
/// Guests are numbered apart from the line's own units.
pub(super) const GUEST_NUMBERS: u32 = 500_000;

/// What the operator is told.
#[derive(Debug)]
pub(super) enum Order {
    /// The run of the unit in a slot is finished.
    Done(SlotName, oneshot::Sender<()>),
    /// The unit in a slot was finished by an earlier process.
    Discard(SlotName, oneshot::Sender<()>),
    /// Exchange the units of two slots.
    Swap(SlotName, SlotName, oneshot::Sender<Result<(), SimError>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Insert(SlotName),
    Remove(SlotName, u32),
    Replug(SlotName, u32),
    HubBack(PortChain),
    GuestIn(SlotName, u32),
    GuestOut(SlotName, u32),
}

#[derive(Debug, Default)]
struct Seat {
    unit: Option<u32>,
    guest: Option<u32>,
    leaving: bool,
}

/// The operator at work.
#[derive(Debug)]
pub(super) struct Line {
    spec: OperatorSpec,
    order_of_slots: Vec<SlotName>,
    seats: BTreeMap<SlotName, Seat>,
    kinds: BTreeMap<u32, UnitKind>,
    made: BTreeSet<u32>,
    next: u32,
    handed_out: u32,
    world: Arc<World>,
    shop: Arc<Shop>,
    clock: Clock,
    file: LineFile,
    agenda: BTreeMap<(Duration, u64), Action>,
    actions: u64,
}

impl Line {
    /// Puts the units of an earlier process back into their slots and plans the first insertions.
    pub(super) fn start(
        spec: OperatorSpec,
        slots: &[SlotName],
        world: Arc<World>,
        shop: Arc<Shop>,
        clock: Clock,
        file: LineFile,
    ) -> Result<Self, SimError> {
        let state = file.load()?;
        let mut line = Self {
            spec,
            order_of_slots: slots.to_vec(),
            seats: slots.iter().map(|slot| (slot.clone(), Seat::default())).collect(),
            kinds: BTreeMap::new(),
            made: BTreeSet::new(),
            next: state.next.max(1),
            handed_out: 0,
            world,
            shop,
            clock,
            file,
            agenda: BTreeMap::new(),
            actions: 0,
        };
        for seated in state.seated {
            line.carry_over(&seated)?;
        }
        line.save()?;
        let now = line.clock.now();
        let mut stagger = Duration::ZERO;
        for slot in slots {
            if line.seats[slot].unit.is_none() {
                line.plan(now + spec.insert_after + stagger, Action::Insert(slot.clone()));
                stagger += STAGGER;
            }
        }
        Ok(line)
    }

    fn carry_over(&mut self, seated: &Seated) -> Result<(), SimError> {
        let kind = UnitKind { model: seated.model.clone(), revision: seated.revision.clone(), slots: None };
        let Some(seat) = self.seats.get_mut(&seated.slot) else { return Ok(()) };
        if !self.shop.keeps_flash() {
            return Ok(());
        }
        if seated.done || seat.unit.is_some() {
            self.shop.delete_files(seated.unit);
            return Ok(());
        }
        seat.unit = Some(seated.unit);
        let progress = seated.made.then_some((seated.spent.as_slice(), seated.flashed));
        self.shop.build(seated.unit, &kind, progress)?;
        self.made.insert(seated.unit);
        self.kinds.insert(seated.unit, kind);
        self.handed_out += 1;
        self.world.plug(seated.unit, &seated.slot)
    }

    /// The units that an earlier process left in their slots.
    pub(super) fn carried(&self) -> Vec<(SlotName, u32)> {
        self.seats.iter().filter_map(|(slot, seat)| Some((slot.clone(), seat.unit?))).collect()
    }

    /// Works until told to stop.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut incidents: mpsc::Receiver<Incident>,
        stop: CancellationToken,
    ) {
        loop {
            let due = self.agenda.first_key_value().map(|((due, _), _)| *due);
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(incident) = incidents.recv() => self.struck(incident),
                Some(order) = orders.recv() => self.told(order),
                () = self.clock.sleep_until(due.unwrap_or_default()), if due.is_some() => {
                    self.agenda.pop_first().map_or(Ok(()), |(_, action)| self.act(action))
                }
                else => return,
            };
            if let Err(error) = result {
                tracing::error!(%error, "the simulated operator cannot go on with a slot");
            }
        }
    }

    fn plan(&mut self, at: Duration, action: Action) {
        self.actions += 1;
        self.agenda.insert((at, self.actions), action);
    }

    fn plan_in(&mut self, after: Duration, action: Action) {
        let now = self.clock.now();
        self.plan(now + after, action);
    }

    fn told(&mut self, order: Order) -> Result<(), SimError> {
        let (slot, answer, discard) = match order {
            Order::Done(slot, answer) => (slot, answer, false),
            Order::Discard(slot, answer) => (slot, answer, true),
            Order::Swap(one, other, answer) => {
                // Whoever asked may be gone.
                let _ = answer.send(self.swap(&one, &other));
                return Ok(());
            }
        };
        let result = if discard { self.discard(&slot) } else { self.done(&slot) };
        // Whoever asked may be gone.
        let _ = answer.send(());
        result
    }

    /// A unit that is out, or without its hub, is not taken away: the run that ended was cut short, and it comes
    /// back.
    fn done(&mut self, slot: &SlotName) -> Result<(), SimError> {
        let occupant = self.world.occupant(slot);
        let Some(seat) = self.seats.get_mut(slot) else { return Err(SimError::NoSlot(slot.clone())) };
        if let Some(guest) = seat.guest {
            self.plan_in(self.spec.remove_after, Action::GuestOut(slot.clone(), guest));
            return Ok(());
        }
        match (seat.unit, occupant) {
            (Some(unit), Some((found, true))) if unit == found && !seat.leaving => {
                seat.leaving = true;
                self.plan_in(self.spec.remove_after, Action::Remove(slot.clone(), unit));
                self.save()
            }
            _ => Ok(()),
        }
    }

    /// Units change places; each belongs to its new slot from then on. A unit that is pulled stays out, and belongs to
    /// the other slot too.
    fn swap(&mut self, one: &SlotName, other: &SlotName) -> Result<(), SimError> {
        for slot in [one, other] {
            let seat = self.seats.get(slot).ok_or_else(|| SimError::NoSlot(slot.clone()))?;
            if let Some(guest) = seat.guest {
                return Err(SimError::SlotTaken { slot: slot.clone(), unit: guest });
            }
        }
        if one == other {
            return Ok(());
        }
        let (first, second) = (self.world.unplug(one)?, self.world.unplug(other)?);
        let seat = self.seats.remove(one).unwrap_or_default();
        let seat = self.seats.insert(other.clone(), seat).unwrap_or_default();
        self.seats.insert(one.clone(), seat);
        // What was planned for a unit follows it.
        for action in self.agenda.values_mut() {
            if let Action::Insert(slot) | Action::Remove(slot, _) | Action::Replug(slot, _) | Action::GuestIn(slot, _) =
                action
            {
                if slot == one {
                    *slot = other.clone();
                } else if slot == other {
                    *slot = one.clone();
                }
            }
        }
        self.save()?;
        first.map_or(Ok(()), |unit| self.world.plug(unit, other))?;
        second.map_or(Ok(()), |unit| self.world.plug(unit, one))
    }

    fn discard(&mut self, slot: &SlotName) -> Result<(), SimError> {
        let unit = self.seats.get(slot).ok_or_else(|| SimError::NoSlot(slot.clone()))?.unit;
        let Some(unit) = unit else { return Ok(()) };
        self.handed_out = self.handed_out.saturating_sub(1);
        self.act(Action::Remove(slot.clone(), unit))
    }

    /// What follows from what struck a module, which may belong to another slot already.
    fn struck(&mut self, incident: Incident) -> Result<(), SimError> {
        let Incident { unit, slot, strike } = incident;
        let seat = self.seats.iter().find(|(_, seat)| seat.unit == Some(unit)).map(|(slot, _)| slot.clone());
        match strike {
            Strike::Unplug => self.plan_in(REPLUG_AFTER, Action::Replug(seat.unwrap_or(slot), unit)),
            Strike::Swap => self.plan_in(GUEST_AFTER, Action::GuestIn(seat.unwrap_or(slot), unit)),
            Strike::HubLost => {
                if let Some(hub) = self.world.hub_of(&slot) {
                    self.plan_in(HUB_AWAY, Action::HubBack(hub));
                }
            }
            Strike::Panic => {}
        }
        self.save()
    }

    fn act(&mut self, action: Action) -> Result<(), SimError> {
        match action {
            Action::Insert(slot) => self.insert(&slot),
            Action::Remove(slot, unit) => {
                let Some(seat) = self.seats.get_mut(&slot).filter(|seat| seat.unit == Some(unit)) else {
                    return Ok(());
                };
                if self.shop.comes_back(unit) {
                    seat.leaving = false;
                    self.world.unplug(&slot)?;
                    self.plan_in(self.spec.insert_after, Action::Replug(slot, unit));
                    return self.save();
                }
                *seat = Seat::default();
                self.kinds.remove(&unit);
                self.made.remove(&unit);
                self.save()?;
                self.shop.scrap(unit);
                self.plan_in(self.spec.insert_after, Action::Insert(slot));
                Ok(())
            }
            Action::Replug(slot, unit) => self.world.plug(unit, &slot),
            Action::HubBack(hub) => self.world.set_hub(&hub, true),
            Action::GuestIn(slot, owner) => {
                let Some(kind) = self.kinds.get(&owner).cloned() else { return Ok(()) };
                let guest = GUEST_NUMBERS + owner;
                self.shop.build(guest, &kind, None)?;
                if let Some(seat) = self.seats.get_mut(&slot) {
                    seat.guest = Some(guest);
                }
                self.world.plug(guest, &slot)?;
                self.plan_in(GUEST_STAYS_MAX, Action::GuestOut(slot, guest));
                Ok(())
            }
            Action::GuestOut(slot, guest) => {
                let Some(seat) = self.seats.get_mut(&slot).filter(|seat| seat.guest == Some(guest)) else {
                    return Ok(());
                };
                seat.guest = None;
                let owner = seat.unit;
                self.shop.scrap(guest);
                if let Some(owner) = owner {
                    self.plan_in(OWNER_AFTER, Action::Replug(slot, owner));
                }
                Ok(())
            }
        }
    }

    fn insert(&mut self, slot: &SlotName) -> Result<(), SimError> {
        let taken = self.seats.get(slot).is_none_or(|seat| seat.unit.is_some());
        if taken || self.spec.units.is_some_and(|units| self.handed_out >= units) {
            return Ok(());
        }
        let unit = self.next;
        let kind = self.shop.kind_for(unit, slot)?;
        self.next += 1;
        self.handed_out += 1;
        self.kinds.insert(unit, kind.clone());
        if let Some(seat) = self.seats.get_mut(slot) {
            seat.unit = Some(unit);
        }
        self.save()?;
        self.shop.build(unit, &kind, None)?;
        self.made.insert(unit);
        if self.shop.keeps_flash() {
            self.save()?;
        }
        self.world.plug(unit, slot)
    }

    fn save(&self) -> Result<(), SimError> {
        let seated = self.order_of_slots.iter().filter_map(|slot| {
            let seat = self.seats.get(slot)?;
            let unit = seat.unit?;
            let kind = self.kinds.get(&unit)?;
            let (spent, flashed) = self.shop.progress(unit);
            Some(Seated {
                slot: slot.clone(),
                unit,
                model: kind.model.clone(),
                revision: kind.revision.clone(),
                made: self.made.contains(&unit),
                done: seat.leaving,
                spent,
                flashed,
            })
        });
        self.file.save(self.next, seated.collect())
    }
}
