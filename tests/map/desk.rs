//! A fixture on a desk, a session that teaches its slots, and a person who does what the test says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stationmaster::config::{Profile, SlotConfig};
use stationmaster::controller::mapping::{Asker, Mapper, News, Refusal, Target, Taught, Wish};
use stationmaster::domain::{PortChain, SlotName};
use stationmaster::hardware::{BoxFuture, Bus, DeviceMode, DeviceRecord};
use stationmaster::host::{Clock, MemoryDisk, Random};
use stationmaster::sim::{Factory, FactorySpec, FaultSpec, Flash, OperatorSpec, Pacing, SimSlot, UnitKind};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const EG25: (&str, &str) = ("EG25-G", "EG25GGBR07A07M2G_01.001.01.001");
pub(crate) const RM520N: (&str, &str) = ("RM520N-GL", "RM520NGLAAR03A02M4G_01.200.01.200");

pub(crate) fn name(text: &str) -> SlotName {
    text.parse().expect("a slot name")
}

/// Slot A`n`'s ports: the halves of the hub have other numbers, as on real boards.
pub(crate) fn usb2(n: u8) -> PortChain {
    format!("pci-0000:00:14.0/usb2/1.{n}").parse().expect("a chain")
}

pub(crate) fn usb3(n: u8) -> PortChain {
    format!("pci-0000:00:14.0/usb3/3.{n}").parse().expect("a chain")
}

pub(crate) fn both(n: u8) -> SlotConfig {
    SlotConfig { name: name(&format!("A{n}")), usb2: usb2(n), usb3: Some(usb3(n)) }
}

/// A slot of which the file knows nothing yet.
pub(crate) fn blank(text: &str) -> Target {
    Target { name: name(text), usb2: None, usb3: None }
}

/// Who writes down what is told, and wishes what the test says.
struct Person {
    told: watch::Sender<Vec<String>>,
    wishes: mpsc::UnboundedReceiver<Wish>,
}

impl Asker for Person {
    fn tell(&mut self, news: &News<'_>) {
        let line = match news {
            News::Asked(slot) => format!("ask {slot}"),
            News::Stranger(device) => format!("stranger {}", device.key.chain),
            News::Appeared(device) => format!("appeared {}", device.key.chain),
            News::InDownloadMode(chain) => format!("download {chain}"),
            News::Note(note) => format!("note {note}"),
            News::Learned(slot) => format!("learned {}", slot.name),
            News::Refused(refusal) => format!("refused {refusal:?}"),
            News::Skipped(slot) => format!("skipped {slot}"),
            News::BusFailed(error) => format!("bus {error}"),
        };
        self.told.send_modify(|all| all.push(line));
    }

    fn wish(&mut self) -> BoxFuture<'_, Wish> {
        Box::pin(async {
            match self.wishes.recv().await {
                Some(wish) => wish,
                None => std::future::pending().await,
            }
        })
    }
}

/// A fixture of four slots without modules, and a session that teaches some of them.
pub(crate) struct Desk {
    pub(crate) factory: Arc<Factory>,
    pub(crate) clock: Clock,
    pub(crate) told: watch::Receiver<Vec<String>>,
    /// Lines that the test has looked at.
    read: usize,
    pub(crate) wishes: mpsc::UnboundedSender<Wish>,
    pub(crate) stop: CancellationToken,
    pub(crate) session: JoinHandle<Taught>,
}

pub(crate) struct Setup {
    pub(crate) targets: Vec<Target>,
    pub(crate) others: Vec<SlotConfig>,
    pub(crate) faults: Vec<FaultSpec>,
}

/// What a session knows of the station.
pub(crate) struct Mapped {
    pub(crate) targets: Vec<Target>,
    pub(crate) others: Vec<SlotConfig>,
    pub(crate) profiles: Vec<Arc<Profile>>,
}

pub(crate) async fn factory(faults: Vec<FaultSpec>, clock: &Clock) -> Arc<Factory> {
    let slot = |n: u8| SimSlot { name: name(&format!("A{n}")), usb2: usb2(n), usb3: Some(usb3(n)) };
    let spec = FactorySpec {
        seed: 7,
        slots: (1..=4).map(slot).collect(),
        units: vec![kind(RM520N)],
        operator: OperatorSpec { insert_after: Duration::ZERO, remove_after: Duration::ZERO, units: Some(0) },
        faults,
        pacing: Pacing::Real,
        flash: Flash::Memory,
        full_speed: false,
        state: PathBuf::from("/state"),
    };
    let factory = Factory::start(spec, clock.clone(), Arc::new(MemoryDisk::new()), Random::seeded(1)).await;
    Arc::new(factory.expect("a factory"))
}

pub(crate) fn kind((model, revision): (&str, &str)) -> UnitKind {
    UnitKind { model: model.to_owned(), revision: revision.to_owned(), slots: None }
}

pub(crate) fn clock() -> Clock {
    Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a timestamp"))
}

impl Desk {
    /// Four slots with the modules 1 to 4 (SuperSpeed) and 5 (USB 2) beside them.
    pub(crate) async fn new(targets: Vec<Target>) -> Self {
        Self::with(Setup { targets, others: Vec::new(), faults: Vec::new() }).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let clock = clock();
        let factory = factory(setup.faults, &clock).await;
        for unit in 1..=4 {
            factory.make(unit, &kind(RM520N)).expect("a module");
        }
        factory.make(5, &kind(EG25)).expect("a module");
        let bus = factory.bus();
        Self::over(bus, factory, clock, setup.targets, setup.others)
    }

    /// The same, with these modules in slots, started, before the session begins.
    pub(crate) async fn settled(modules: &[(u32, &str)], targets: Vec<Target>) -> Self {
        let clock = clock();
        let factory = factory(Vec::new(), &clock).await;
        for unit in 1..=4 {
            factory.make(unit, &kind(RM520N)).expect("a module");
        }
        factory.make(5, &kind(EG25)).expect("a module");
        for (unit, slot) in modules {
            factory.plug(*unit, &name(slot)).expect("a free slot");
        }
        clock.sleep(Duration::from_secs(60)).await;
        Self::over(factory.bus(), factory, clock, targets, Vec::new())
    }

    pub(crate) fn over(
        bus: Arc<dyn Bus>,
        factory: Arc<Factory>,
        clock: Clock,
        targets: Vec<Target>,
        others: Vec<SlotConfig>,
    ) -> Self {
        Self::with_profiles(bus, factory, clock, Mapped { targets, others, profiles: Vec::new() })
    }

    pub(crate) fn with_profiles(bus: Arc<dyn Bus>, factory: Arc<Factory>, clock: Clock, mapped: Mapped) -> Self {
        let Mapped { targets, others, profiles } = mapped;
        let (told, lines) = watch::channel(Vec::new());
        let (wishes, wished) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let mapper = Mapper { bus, clock: clock.clone(), targets, others, profiles, stop: stop.clone() };
        let session = tokio::spawn(async move {
            let mut person = Person { told, wishes: wished };
            mapper.teach(&mut person).await
        });
        Self { factory, clock, told: lines, read: 0, wishes, stop, session }
    }

    pub(crate) fn plug(&self, unit: u32, slot: &str) {
        self.factory.plug(unit, &name(slot)).expect("a free slot");
    }

    pub(crate) fn unplug(&self, slot: &str) {
        self.factory.unplug(&name(slot)).expect("a slot").expect("a module");
    }

    /// Waits until a download mode is seen at a port.
    pub(crate) async fn until_edl(&self, chain: &PortChain) -> DeviceRecord {
        loop {
            let devices = self.factory.bus().list().await.expect("a list").devices;
            let found = devices.into_iter().find(|device| device.key.chain == *chain);
            if let Some(device) = found.filter(|device| matches!(device.mode(), DeviceMode::Edl { .. })) {
                return device;
            }
            self.clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// What is in a slot starts anew.
    pub(crate) fn restart(&self, slot: &str) {
        let unit = self.factory.unplug(&name(slot)).expect("a slot").expect("a module");
        self.plug(unit, slot);
    }

    /// Says what the person wishes.
    pub(crate) fn wish(&self, wish: Wish) {
        self.wishes.send(wish).expect("the session listens");
    }

    /// How many lines were told that begin so.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.told.borrow().iter().filter(|line| line.starts_with(start)).count()
    }

    /// Waits until a line is told that begins so; gives it. Lines before it are passed over.
    pub(crate) async fn until(&mut self, wanted: &str) -> String {
        let clock = self.clock.clone();
        let found = clock
            .timeout(Duration::from_secs(1000), async {
                loop {
                    let next = self.told.borrow_and_update().get(self.read).cloned();
                    match next {
                        Some(line) => {
                            self.read += 1;
                            if line.starts_with(wanted) {
                                return line;
                            }
                        }
                        None => self.told.changed().await.expect("the session goes on"),
                    }
                }
            })
            .await;
        found.unwrap_or_else(|_| panic!("not told: {wanted}: {:#?}", *self.told.borrow()))
    }

    pub(crate) async fn refused(&mut self, expected: &Refusal) {
        assert_eq!(self.until("refused").await, format!("refused {expected:?}"));
    }

    /// The session's end; no module was changed, and none that is plugged in was left in download mode.
    pub(crate) async fn end(self) -> Taught {
        let taught = self.end_anyhow().await;
        assert!(taught.1, "a module was left in download mode");
        taught.0
    }

    /// The same, and whether all modules are in normal mode.
    pub(crate) async fn end_anyhow(self) -> (Taught, bool) {
        let ended = self.clock.timeout(Duration::from_secs(1000), self.session).await;
        let taught = ended.expect("it ends").expect("it does not panic");
        for unit in 1..=5 {
            if let Some(unit) = self.factory.unit(unit) {
                assert!(!unit.events().iter().any(|event| event.is_destructive()), "a module was changed");
            }
        }
        let listing = self.factory.bus().list().await.expect("a listing");
        (taught, listing.devices.iter().all(|device| matches!(device.mode(), DeviceMode::Normal(_))))
    }
}
