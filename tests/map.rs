//! Slots are taught by modules that are put in: what is learned, what is refused, and that no module is changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stationmaster::config::SlotConfig;
use stationmaster::controller::mapping::{Asker, Mapper, News, Refusal, Target, Taught, Wish};
use stationmaster::domain::{PortChain, SlotName};
use stationmaster::hardware::{AtPort, BoxFuture, BulkPipe, Bus, DeviceKey, DeviceMode, HardwareError, Listing};
use stationmaster::host::{Clock, MemoryDisk, Random};
use stationmaster::sim::{Factory, FactorySpec, FaultSpec, Flash, OperatorSpec, Pacing, SimSlot, UnitKind};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const EG25: (&str, &str) = ("EG25-G", "EG25GGBR07A07M2G_01.001.01.001");
const RM520N: (&str, &str) = ("RM520N-GL", "RM520NGLAAR03A02M4G_01.200.01.200");

fn name(text: &str) -> SlotName {
    text.parse().expect("a slot name")
}

/// Slot A`n`'s ports: the halves of the hub have other numbers, as on real boards.
fn usb2(n: u8) -> PortChain {
    format!("pci-0000:00:14.0/usb2/1.{n}").parse().expect("a chain")
}

fn usb3(n: u8) -> PortChain {
    format!("pci-0000:00:14.0/usb3/3.{n}").parse().expect("a chain")
}

fn both(n: u8) -> SlotConfig {
    SlotConfig { name: name(&format!("A{n}")), usb2: usb2(n), usb3: Some(usb3(n)) }
}

/// A slot of which the file knows nothing yet.
fn blank(text: &str) -> Target {
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
struct Desk {
    factory: Arc<Factory>,
    clock: Clock,
    told: watch::Receiver<Vec<String>>,
    /// Lines that the test has looked at.
    read: usize,
    wishes: mpsc::UnboundedSender<Wish>,
    stop: CancellationToken,
    session: JoinHandle<Result<Taught, HardwareError>>,
}

struct Setup {
    targets: Vec<Target>,
    others: Vec<SlotConfig>,
    faults: Vec<FaultSpec>,
}

async fn factory(faults: Vec<FaultSpec>, clock: &Clock) -> Arc<Factory> {
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

fn kind((model, revision): (&str, &str)) -> UnitKind {
    UnitKind { model: model.to_owned(), revision: revision.to_owned(), slots: None }
}

fn clock() -> Clock {
    Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a timestamp"))
}

impl Desk {
    /// Four slots with the modules 1 to 4 (SuperSpeed) and 5 (USB 2) beside them.
    async fn new(targets: Vec<Target>) -> Self {
        Self::with(Setup { targets, others: Vec::new(), faults: Vec::new() }).await
    }

    async fn with(setup: Setup) -> Self {
        let clock = clock();
        let factory = factory(setup.faults, &clock).await;
        for unit in 1..=4 {
            factory.make(unit, &kind(RM520N)).expect("a module");
        }
        factory.make(5, &kind(EG25)).expect("a module");
        let bus = factory.bus();
        Self::over(bus, factory, clock, setup.targets, setup.others)
    }

    fn over(
        bus: Arc<dyn Bus>,
        factory: Arc<Factory>,
        clock: Clock,
        targets: Vec<Target>,
        others: Vec<SlotConfig>,
    ) -> Self {
        let (told, lines) = watch::channel(Vec::new());
        let (wishes, wished) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let mapper = Mapper { bus, clock: clock.clone(), targets, others, profiles: Vec::new(), stop: stop.clone() };
        let session = tokio::spawn(async move {
            let mut person = Person { told, wishes: wished };
            mapper.teach(&mut person).await
        });
        Self { factory, clock, told: lines, read: 0, wishes, stop, session }
    }

    fn plug(&self, unit: u32, slot: &str) {
        self.factory.plug(unit, &name(slot)).expect("a free slot");
    }

    fn unplug(&self, slot: &str) {
        self.factory.unplug(&name(slot)).expect("a slot").expect("a module");
    }

    /// Waits until a line is told that begins so; gives it. Lines before it are passed over.
    async fn until(&mut self, wanted: &str) -> String {
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

    async fn refused(&mut self, expected: &Refusal) {
        assert_eq!(self.until("refused").await, format!("refused {expected:?}"));
    }

    /// The session's end; no module was changed, and none that is plugged in was left in download mode.
    async fn end(self) -> Taught {
        let taught = self.end_anyhow().await;
        assert!(taught.1, "a module was left in download mode");
        taught.0
    }

    /// The same, and whether all modules are in normal mode.
    async fn end_anyhow(self) -> (Taught, bool) {
        let ended = self.clock.timeout(Duration::from_secs(1000), self.session).await;
        let taught = ended.expect("it ends").expect("it does not panic").expect("the bus works");
        for unit in 1..=5 {
            if let Some(unit) = self.factory.unit(unit) {
                assert!(!unit.events().iter().any(|event| event.is_destructive()), "a module was changed");
            }
        }
        let listing = self.factory.bus().list().await.expect("a listing");
        (taught, listing.devices.iter().all(|device| matches!(device.mode(), DeviceMode::Normal(_))))
    }
}

#[tokio::test(start_paused = true)]
async fn one_module_that_goes_from_slot_to_slot_teaches_both_ports_of_each() {
    let mut desk = Desk::new(vec![blank("A1"), blank("A3"), blank("A2")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    assert_eq!(desk.until("appeared").await, format!("appeared {}", usb3(1)));
    assert_eq!(desk.until("download").await, format!("download {}", usb2(1)));
    desk.until("ask A3").await;
    desk.unplug("A1");
    desk.clock.sleep(Duration::from_secs(20)).await;
    desk.plug(1, "A3");
    desk.until("ask A2").await;
    // Modules may also stay where they are.
    desk.plug(2, "A2");
    desk.until("learned A2").await;
    assert_eq!(desk.end().await, Taught { learned: vec![both(1), both(3), both(2)], missing: vec![] });
}

#[tokio::test(start_paused = true)]
async fn modules_that_were_there_before_teach_nothing_until_they_are_put_in_again() {
    let clock = clock();
    let factory = factory(Vec::new(), &clock).await;
    factory.make(1, &kind(RM520N)).expect("a module");
    factory.plug(1, &name("A1")).expect("a free slot");
    factory.make(2, &kind(RM520N)).expect("a module");
    clock.sleep(Duration::from_secs(60)).await;
    let bus = factory.bus();
    let mut desk = Desk::over(bus, factory, clock, vec![blank("A2"), blank("A1")], Vec::new());
    desk.until("ask A2").await;
    desk.clock.sleep(Duration::from_secs(60)).await;
    desk.plug(2, "A2");
    desk.until("learned A2").await;
    desk.until("ask A1").await;
    desk.unplug("A1");
    desk.plug(1, "A1");
    desk.refused(&Refusal::WasThere(usb3(1))).await;
    desk.until("ask A1").await;
    desk.unplug("A1");
    desk.plug(1, "A1");
    desk.until("learned A1").await;
    assert_eq!(desk.end().await.learned, [both(2), both(1)]);
}

#[tokio::test(start_paused = true)]
async fn two_modules_at_once_teach_nothing() {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.plug(2, "A2");
    desk.refused(&Refusal::Several(vec![usb3(1), usb3(2)])).await;
    desk.until("ask A1").await;
    desk.unplug("A1");
    desk.unplug("A2");
    desk.clock.sleep(Duration::from_secs(5)).await;
    desk.plug(1, "A1");
    desk.until("learned A1").await;
    assert_eq!(desk.end().await.learned, [both(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_second_module_that_needs_longer_to_start_is_noticed_too() {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("appeared").await;
    desk.plug(2, "A2");
    let refused = desk.until("refused").await;
    assert_eq!(refused, format!("refused {:?}", Refusal::Several(vec![usb3(1), usb3(2)])));
    desk.wishes.send(Wish::Skip).expect("the session listens");
    desk.until("skipped A1").await;
    assert_eq!(desk.end().await, Taught { learned: vec![], missing: vec![name("A1")] });
}

#[tokio::test(start_paused = true)]
async fn a_module_in_the_slot_of_another_one_is_refused() {
    let setup = Setup { targets: vec![blank("A1"), blank("A2")], others: vec![both(4)], faults: Vec::new() };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A4");
    desk.refused(&Refusal::OfOther(name("A4"), usb3(4))).await;
    desk.unplug("A4");
    desk.plug(1, "A1");
    desk.until("learned A1").await;
    // Taken out and put into the same slot again.
    desk.until("ask A2").await;
    desk.unplug("A1");
    desk.clock.sleep(Duration::from_secs(5)).await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::Taught(name("A1"), usb3(1))).await;
    desk.unplug("A1");
    desk.plug(1, "A2");
    desk.until("learned A2").await;
    assert_eq!(desk.end().await.learned, [both(1), both(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_port_below_that_of_another_slot_is_refused() {
    let hub: PortChain = "pci-0000:00:14.0/usb3/3".parse().expect("a chain");
    let wrong = SlotConfig { name: name("B1"), usb2: "pci-0/usb2/9".parse().expect("a chain"), usb3: Some(hub) };
    let setup = Setup { targets: vec![blank("A1")], others: vec![wrong], faults: Vec::new() };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::Behind(name("B1"), usb3(1))).await;
    desk.wishes.send(Wish::End).expect("the session listens");
    assert_eq!(desk.end().await.missing, [name("A1")]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_the_file_has_elsewhere_may_be_taught_anew() {
    // The stickers of A1 and A2 were exchanged.
    let target =
        |n: u8, there: u8| Target { name: name(&format!("A{n}")), usb2: Some(usb2(there)), usb3: Some(usb3(there)) };
    let mut desk = Desk::new(vec![target(1, 2), target(2, 1)]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    assert!(desk.until("note").await.contains("in the file this is slot A2"));
    desk.until("ask A2").await;
    desk.plug(2, "A2");
    desk.until("learned A2").await;
    assert_eq!(desk.end().await.learned, [both(1), both(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_pulled_in_download_mode_teaches_nothing_until_it_is_back() {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("download").await;
    desk.unplug("A1");
    desk.refused(&Refusal::Gone).await;
    desk.plug(1, "A1");
    desk.until("learned A1").await;
    assert_eq!(desk.end().await.learned, [both(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_pulled_before_download_mode_teaches_nothing() {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("appeared").await;
    desk.unplug("A1");
    let refused = desk.until("refused").await;
    let possible = [Refusal::Gone, Refusal::NotInDownloadMode].map(|refusal| format!("refused {refusal:?}"));
    assert!(possible.contains(&refused), "{refused}");
    desk.wishes.send(Wish::Skip).expect("the session listens");
    assert_eq!(desk.end().await.missing, [name("A1")]);
}

fn fault(name: &str) -> Vec<FaultSpec> {
    vec![FaultSpec { fault: name.to_owned(), unit: 1, step: None, after: None }]
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_silent_in_download_mode_teaches_nothing_and_another_one_does() {
    let setup = Setup { targets: vec![blank("A1"), blank("A2")], others: Vec::new(), faults: fault("silent-edl") };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::SilentDownloadMode).await;
    desk.until("ask A1").await;
    desk.unplug("A1");
    desk.clock.sleep(Duration::from_secs(3)).await;
    desk.plug(2, "A1");
    desk.until("learned A1").await;
    desk.until("ask A2").await;
    desk.wishes.send(Wish::Skip).expect("the session listens");
    assert_eq!(desk.end().await, Taught { learned: vec![both(1)], missing: vec![name("A2")] });
}

#[tokio::test(start_paused = true)]
async fn a_module_whose_hello_was_eaten_teaches_like_any_other() {
    let setup = Setup { targets: vec![blank("A1")], others: Vec::new(), faults: fault("hello-eaten") };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("learned A1").await;
    assert_eq!(desk.end().await.learned, [both(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_refuses_download_mode_is_named_as_such() {
    let setup = Setup { targets: vec![blank("A1")], others: Vec::new(), faults: fault("edl-refused") };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    let refused = desk.until("refused").await;
    assert!(refused.starts_with("refused NoDiag"), "{refused}");
    desk.wishes.send(Wish::End).expect("the session listens");
    assert_eq!(desk.end().await.missing, [name("A1")]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_arrives_in_download_mode_does_not_say_where_its_other_port_is() {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    let unit = desk.factory.unit(1).expect("a module");
    unit.spoil_block(0).expect("block 0");
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::InDownloadMode(usb2(1))).await;
    desk.wishes.send(Wish::Skip).expect("the session listens");
    let (taught, all_normal) = desk.end_anyhow().await;
    assert!(!all_normal, "it cannot start otherwise");
    assert_eq!(taught.missing, [name("A1")]);
}

#[tokio::test(start_paused = true)]
async fn a_usb_2_module_teaches_one_port_and_leaves_no_doubt_about_the_other() {
    let known = Target { name: name("A1"), usb2: Some(usb2(1)), usb3: Some(usb3(1)) };
    let moved = Target { name: name("A2"), usb2: Some(usb2(9)), usb3: Some(usb3(9)) };
    let mut desk = Desk::new(vec![known, moved, blank("A3")]).await;
    desk.until("ask A1").await;
    desk.plug(5, "A1");
    desk.until("learned A1").await;
    desk.until("ask A2").await;
    desk.unplug("A1");
    desk.plug(5, "A2");
    desk.refused(&Refusal::NeedsSuperSpeed(usb2(2))).await;
    desk.unplug("A2");
    desk.plug(1, "A2");
    desk.until("learned A2").await;
    desk.until("ask A3").await;
    desk.plug(5, "A3");
    desk.until("learned A3").await;
    let low = |n: u8| SlotConfig { usb3: None, ..both(n) };
    assert_eq!(desk.end().await.learned, [low(1), both(2), low(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_brings_the_module_back_first() {
    let mut desk = Desk::new(vec![blank("A1"), blank("A2")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("download").await;
    desk.stop.cancel();
    assert_eq!(desk.end().await, Taught { learned: vec![both(1)], missing: vec![name("A2")] });
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_was_taught_wrongly_is_taught_again() {
    let mut desk = Desk::new(vec![blank("A1"), blank("A2"), blank("A3")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A2");
    desk.until("learned A1").await;
    desk.until("ask A2").await;
    desk.wishes.send(Wish::Back).expect("the session listens");
    desk.until("ask A1").await;
    // Still in the wrong slot, and put in there again.
    desk.unplug("A2");
    desk.plug(1, "A2");
    desk.until("learned A1").await;
    desk.until("ask A2").await;
    desk.wishes.send(Wish::Back).expect("the session listens");
    desk.until("ask A1").await;
    desk.wishes.send(Wish::Back).expect("the session listens");
    desk.until("ask A1").await;
    desk.plug(2, "A1");
    desk.until("ask A2").await;
    desk.unplug("A2");
    desk.clock.sleep(Duration::from_secs(5)).await;
    desk.wishes.send(Wish::Skip).expect("the session listens");
    desk.until("ask A3").await;
    desk.wishes.send(Wish::Back).expect("the session listens");
    desk.until("ask A2").await;
    desk.plug(1, "A2");
    desk.until("ask A3").await;
    desk.wishes.send(Wish::End).expect("the session listens");
    assert_eq!(desk.end().await, Taught { learned: vec![both(1), both(2)], missing: vec![name("A3")] });
}

/// A bus that can be told to fail.
#[derive(Debug)]
struct Failing {
    bus: Arc<dyn Bus>,
    fails: watch::Receiver<bool>,
}

impl Bus for Failing {
    fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
        match *self.fails.borrow() {
            true => Box::pin(async { Err(HardwareError::Failed("no USB".to_owned())) }),
            false => self.bus.list(),
        }
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.bus.hints()
    }

    fn open_bulk<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
        self.bus.open_bulk(device, interface)
    }

    fn open_port<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
        self.bus.open_port(device, interface)
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_fails_for_a_moment_is_waited_for_and_not_for_ever() {
    let clock = clock();
    let factory = factory(Vec::new(), &clock).await;
    factory.make(1, &kind(RM520N)).expect("a module");
    let (fail, fails) = watch::channel(false);
    let bus = Arc::new(Failing { bus: factory.bus(), fails });
    let mut desk = Desk::over(bus, factory, clock, vec![blank("A1"), blank("A2")], Vec::new());
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("download").await;
    fail.send_replace(true);
    desk.until("bus no USB").await;
    desk.clock.sleep(Duration::from_secs(3)).await;
    fail.send_replace(false);
    desk.until("learned A1").await;
    desk.until("ask A2").await;
    fail.send_replace(true);
    let ended = desk.clock.timeout(Duration::from_secs(300), desk.session).await.expect("it ends");
    assert_eq!(ended.expect("it does not panic"), Err(HardwareError::Failed("no USB".to_owned())));
}
