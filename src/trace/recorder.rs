//! The recorder: a bus and a supply around the real ones.
//!
//! It hands every event to the writer through a bounded queue and never waits for it: a slow disk costs lines, which
//! the trace counts, and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::format::{Device, Event, Fault, Hub, Plugged};
use super::record_pipe::{RecordedPipe, RecordedPort};
use super::writer::{self, Message, Mode};
use crate::domain::{Fact, PortChain, Sha256Digest, SlotName, StationName, limits};
use crate::hardware::{AtPort, BoxFuture, BulkPipe, Bus, DeviceKey, HardwareError, Listing, SlotPower};
use crate::host::{Clock, Disk, Veil};

/// What the headers of all traces of a station say, and where they are written.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The station.
    pub station: StationName,
    /// SHA-256 of its file.
    pub config: Sha256Digest,
    /// Whether its hardware is simulated.
    pub simulated: bool,
    /// What chance in the simulation starts from.
    pub seed: Option<u64>,
    /// Profile names with the digests of profile and package.
    pub profiles: BTreeMap<String, (Sha256Digest, Sha256Digest)>,
    /// Its slots.
    pub slots: Vec<TracedSlot>,
    /// Where traces are written.
    pub directory: PathBuf,
    /// Whether what the traces leave out is kept beside them.
    pub payloads: bool,
}

/// One slot.
#[derive(Clone, Debug)]
pub struct TracedSlot {
    /// Its name.
    pub name: SlotName,
    /// Its chains, USB 2 first.
    pub chains: Vec<PortChain>,
}

/// What the wrappers share with the writer.
#[derive(Debug)]
pub(super) struct Shared {
    sender: mpsc::Sender<Message>,
    /// Bytes of payload in the queue.
    pub(super) queued: AtomicUsize,
    /// Events of each slot that were lost since the writer looked.
    pub(super) lost: Vec<AtomicU64>,
    pub(super) setup: Setup,
    /// Whether each slot's supply can be switched.
    pub(super) switchable: Vec<bool>,
    pub(super) veil: Veil,
    pub(super) clock: Clock,
    conversations: AtomicU32,
    seen: Mutex<Vec<Plugged>>,
}

impl Shared {
    /// Hands an event to the writer, or counts it as lost.
    pub(super) fn emit(&self, slot: usize, event: Event, hidden: Vec<u8>) {
        let time = self.clock.now();
        let bytes = if self.setup.payloads { hidden.len() } else { 0 };
        let hidden = if self.setup.payloads { hidden } else { Vec::new() };
        let queued = self.queued.fetch_add(bytes, Ordering::Relaxed);
        let fits = queued + bytes <= limits::TRACE_QUEUE_BYTES;
        if !fits || self.sender.try_send(Message::Event { slot, time, event, hidden }).is_err() {
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            self.lost[slot].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn slot_of(&self, chain: &PortChain) -> Option<usize> {
        self.setup.slots.iter().position(|slot| slot.chains.contains(chain))
    }

    /// Tells the writer which slots look different from the last time.
    fn look(&self, listing: &Listing) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, slot) in self.setup.slots.iter().enumerate() {
            let devices = listing.devices.iter().filter(|device| slot.chains.contains(&device.key.chain));
            let above = |hub: &PortChain| slot.chains.iter().any(|chain| chain.is_at_or_behind(hub));
            let hubs = listing.hubs.iter().filter(|hub| above(&hub.chain));
            let now = Plugged { devices: devices.map(Device::from).collect(), hubs: hubs.map(Hub::from).collect() };
            if seen[index] != now {
                seen[index] = now.clone();
                self.emit(index, Event::Plugged(now), Vec::new());
            }
        }
    }
}

/// Records the runs of a station.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    bus: Arc<dyn Bus>,
    power: Arc<dyn SlotPower>,
}

impl Recorder {
    /// Begins to record what goes through [`Recorder::bus`] and [`Recorder::power`], which lead to the given ones.
    ///
    /// # Errors
    /// When the directory cannot be made, or no thread can be had.
    pub fn start(
        setup: Setup,
        disk: Arc<dyn Disk>,
        clock: Clock,
        hardware: (Arc<dyn Bus>, Arc<dyn SlotPower>),
        mode: Mode,
    ) -> std::io::Result<Self> {
        disk.create_dir_all(&setup.directory)?;
        let (bus, power) = hardware;
        let (sender, receiver) = mpsc::channel(limits::TRACE_QUEUE_EVENTS);
        let shared = Arc::new(Shared {
            sender,
            queued: AtomicUsize::new(0),
            lost: setup.slots.iter().map(|_| AtomicU64::new(0)).collect(),
            switchable: setup.slots.iter().map(|slot| power.can_switch(&slot.chains)).collect(),
            veil: Veil::default(),
            clock,
            conversations: AtomicU32::new(0),
            seen: Mutex::new(vec![Plugged::default(); setup.slots.len()]),
            setup,
        });
        writer::start(Arc::clone(&shared), disk, receiver, mode)?;
        Ok(Self { shared, bus, power })
    }

    /// The bus to give to the controller.
    #[must_use]
    pub fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(RecordedBus { shared: Arc::clone(&self.shared), inner: Arc::clone(&self.bus) })
    }

    /// The supply to give to the controller.
    #[must_use]
    pub fn power(&self) -> Arc<dyn SlotPower> {
        Arc::new(RecordedPower { shared: Arc::clone(&self.shared), inner: Arc::clone(&self.power) })
    }

    /// Takes a fact of the ledger; facts must come in their order. Waits while the queue is full, so it must not be
    /// called by whoever serves a slot.
    pub async fn fact(&self, fact: &Fact) {
        if fact.run().is_some() {
            let message = Message::Fact { time: self.shared.clock.now(), fact: Box::new(fact.clone()) };
            // A writer that is gone has said so.
            drop(self.shared.sender.send(message).await);
        }
    }

    /// Ends the traces of all runs that are not finished, and the writer.
    pub async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        if self.shared.sender.send(Message::Finish(done)).await.is_ok() {
            // An error says that it is gone already.
            drop(finished.await);
        }
    }
}

impl Drop for Recorder {
    /// Traces have an end also where nobody came to ask for it. Whoever can wait calls [`Recorder::finish`].
    fn drop(&mut self) {
        // Nothing can be done about a queue that is full; a writer that is gone has ended them.
        let _ = self.shared.sender.try_send(Message::Finish(oneshot::channel().0));
    }
}

#[derive(Debug)]
struct RecordedBus {
    shared: Arc<Shared>,
    inner: Arc<dyn Bus>,
}

impl RecordedBus {
    /// Notes that a conversation begins; `None` for a device in no slot.
    fn opening(&self, device: &DeviceKey, interface: u8, bulk: bool) -> Option<(usize, u32)> {
        let slot = self.shared.slot_of(&device.chain)?;
        let c = self.shared.conversations.fetch_add(1, Ordering::Relaxed);
        let (chain, session) = (device.chain.clone(), device.session);
        self.shared.emit(slot, Event::Open { c, chain, session, interface, bulk }, Vec::new());
        Some((slot, c))
    }

    fn opened(&self, place: Option<(usize, u32)>, result: Result<u32, &HardwareError>) {
        if let Some((slot, c)) = place {
            let (packet_bytes, error) = match result {
                Ok(packet_bytes) => (packet_bytes, None),
                Err(error) => (0, Some(Fault::from(error))),
            };
            self.shared.emit(slot, Event::Opened { c, packet_bytes, error }, Vec::new());
        }
    }
}

impl Bus for RecordedBus {
    fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
        Box::pin(async {
            let listing = self.inner.list().await?;
            self.shared.look(&listing);
            Ok(listing)
        })
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.inner.hints()
    }

    fn open_bulk<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
        Box::pin(async move {
            let place = self.opening(device, interface, true);
            let result = self.inner.open_bulk(device, interface).await;
            let packet_bytes = result.as_ref().map(|pipe| u32::try_from(pipe.packet_bytes()).unwrap_or_default());
            self.opened(place, packet_bytes);
            let pipe = result?;
            Ok(match place {
                Some((slot, c)) => Box::new(RecordedPipe::new(Arc::clone(&self.shared), slot, c, pipe)),
                None => pipe,
            })
        })
    }

    fn open_port<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
        Box::pin(async move {
            let place = self.opening(device, interface, false);
            let result = self.inner.open_port(device, interface).await;
            self.opened(place, result.as_ref().map(|_| 0));
            let port = result?;
            Ok(match place {
                Some((slot, c)) => Box::new(RecordedPort::new(Arc::clone(&self.shared), slot, c, port)),
                None => port,
            })
        })
    }
}

#[derive(Debug)]
struct RecordedPower {
    shared: Arc<Shared>,
    inner: Arc<dyn SlotPower>,
}

impl SlotPower for RecordedPower {
    fn can_switch(&self, chains: &[PortChain]) -> bool {
        self.inner.can_switch(chains)
    }

    fn set<'a>(&'a self, chains: &'a [PortChain], on: bool) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async move {
            let result = self.inner.set(chains, on).await;
            if let Some(slot) = chains.iter().find_map(|chain| self.shared.slot_of(chain)) {
                let error = result.as_ref().err().map(Fault::from);
                self.shared.emit(slot, Event::Power { on, error }, Vec::new());
            }
            result
        })
    }
}

/// Since when, in station time.
pub(super) type Time = Duration;
