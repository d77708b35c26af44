//! Buses that do not show what is there.

use std::sync::Arc;
use std::time::Duration;

use stationmaster::cli::prepare;
use stationmaster::controller::mapping::{Refusal, Target, Taught, Wish};
use stationmaster::domain::PortChain;
use stationmaster::hardware::{
    AtPort, BoxFuture, BulkPipe, Bus, DeviceKey, DeviceRecord, HardwareError, Interface, Listing, Speed,
};
use stationmaster::host::OsDisk;
use tokio::sync::watch;

use crate::desk::{Desk, Mapped, RM520N, blank, both, clock, factory, kind, name, usb2, usb3};

/// What a bus shows instead of what is there.
#[derive(Debug, Clone)]
enum Change {
    Nothing,
    /// It cannot be listed.
    Fails,
    /// A further device.
    Adds(Box<DeviceRecord>),
    /// What is at one port is shown at another.
    Moves(PortChain, PortChain),
}

#[derive(Debug)]
struct Altered {
    bus: Arc<dyn Bus>,
    change: watch::Receiver<Change>,
}

impl Altered {
    /// The device that is really meant.
    fn real(&self, key: &DeviceKey) -> DeviceKey {
        match &*self.change.borrow() {
            Change::Moves(from, to) if key.chain == *to => DeviceKey { chain: from.clone(), session: key.session },
            _ => key.clone(),
        }
    }
}

impl Bus for Altered {
    fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
        let change = self.change.borrow().clone();
        Box::pin(async move {
            let mut listing = self.bus.list().await?;
            match change {
                Change::Nothing => {}
                Change::Fails => return Err(HardwareError::Failed("no USB".to_owned())),
                Change::Adds(device) if listing.devices.iter().any(|there| there.key == device.key) => {}
                Change::Adds(device) => listing.devices.push(*device),
                Change::Moves(from, to) => {
                    let moved = listing.devices.iter_mut().filter(|device| device.key.chain == from);
                    moved.for_each(|device| device.key.chain = to.clone());
                }
            }
            Ok(listing)
        })
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.bus.hints()
    }

    fn open_bulk<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
        let device = self.real(device);
        Box::pin(async move { self.bus.open_bulk(&device, interface).await })
    }

    fn open_port<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
        let device = self.real(device);
        Box::pin(async move { self.bus.open_port(&device, interface).await })
    }
}

/// A bus that shows what is at one port at another, once it is told to.
pub(crate) fn moving(bus: Arc<dyn Bus>) -> (Arc<dyn Bus>, impl Fn(PortChain, PortChain)) {
    let (sender, change) = watch::channel(Change::Nothing);
    let moves = move |from, to| {
        sender.send_replace(Change::Moves(from, to));
    };
    (Arc::new(Altered { bus, change }), moves)
}

/// A desk over a bus that can be altered, with the modules 1 and 2 beside it.
async fn altered(targets: Vec<Target>) -> (Desk, watch::Sender<Change>) {
    let clock = clock();
    let factory = factory(Vec::new(), &clock).await;
    for unit in 1..=2 {
        factory.make(unit, &kind(RM520N)).expect("a module");
    }
    let (sender, change) = watch::channel(Change::Nothing);
    let bus = Arc::new(Altered { bus: factory.bus(), change });
    (Desk::over(bus, factory, clock, targets, Vec::new()), sender)
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_fails_for_a_moment_is_waited_for_and_not_for_ever() {
    let (mut desk, change) = altered(vec![blank("A1"), blank("A2")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("download").await;
    change.send_replace(Change::Fails);
    desk.until("bus no USB").await;
    desk.clock.sleep(Duration::from_secs(3)).await;
    change.send_replace(Change::Nothing);
    desk.until("learned A1").await;
    desk.until("ask A2").await;
    change.send_replace(Change::Fails);
    let ended = desk.clock.timeout(Duration::from_secs(300), desk.session).await.expect("it ends");
    let failure = Some(HardwareError::Failed("no USB".to_owned()));
    // What was learned before is not lost.
    let expected = Taught { learned: vec![both(1)], missing: vec![name("A2")], failure };
    assert_eq!(ended.expect("it does not panic"), expected);
}

fn device(id: (u16, u16), chain: &str, interfaces: Vec<Interface>) -> Change {
    Change::Adds(Box::new(DeviceRecord {
        key: DeviceKey { chain: chain.parse().expect("a chain"), session: 9999 },
        vendor_id: id.0,
        product_id: id.1,
        bcd_device: 0,
        speed: Speed::High,
        product: String::new(),
        manufacturer: String::new(),
        serial: String::new(),
        interfaces,
    }))
}

#[tokio::test(start_paused = true)]
async fn what_is_no_module_is_told_once_and_does_not_count() {
    let (mut desk, change) = altered(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    let keyboard = Interface { number: 0, class: (3, 1, 1), endpoints: vec![] };
    change.send_replace(device((0x046d, 0xc31c), "pci-0000:00:14.0/usb2/7", vec![keyboard]));
    desk.until("stranger pci-0000:00:14.0/usb2/7").await;
    desk.clock.sleep(Duration::from_secs(30)).await;
    desk.plug(1, "A1");
    desk.until("learned A1").await;
    assert_eq!(desk.told.borrow().iter().filter(|line| line.starts_with("stranger")).count(), 1);
    assert_eq!(desk.end().await.learned, [both(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_the_kernel_does_not_configure_is_named_as_such() {
    let (mut desk, change) = altered(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    change.send_replace(device((0x2c7c, 0x0801), "pci-0000:00:14.0/usb2/7", vec![]));
    desk.refused(&Refusal::Unconfigured("pci-0000:00:14.0/usb2/7".parse().expect("a chain"))).await;
    desk.wishes.send(Wish::End).expect("the session listens");
    assert_eq!(desk.end().await.missing, [name("A1")]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_comes_back_elsewhere_teaches_nothing() {
    let (mut desk, change) = altered(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("download").await;
    // Its SuperSpeed link does not come up again.
    change.send_replace(Change::Moves(usb3(1), usb2(1)));
    desk.refused(&Refusal::BackElsewhere(usb2(1))).await;
    desk.wishes.send(Wish::Skip).expect("the session listens");
    assert_eq!(desk.end().await.missing, [name("A1")]);
}

#[tokio::test(start_paused = true)]
async fn download_mode_on_the_superspeed_side_is_not_believed() {
    let (mut desk, change) = altered(vec![blank("A1")]).await;
    let odd: PortChain = "pci-0000:00:14.0/usb3/9".parse().expect("a chain");
    desk.until("ask A1").await;
    change.send_replace(Change::Moves(usb2(1), odd.clone()));
    desk.plug(1, "A1");
    desk.refused(&Refusal::OddPort(odd)).await;
    desk.wishes.send(Wish::Skip).expect("the session listens");
    assert_eq!(desk.end().await.missing, [name("A1")]);
}

#[tokio::test(start_paused = true)]
async fn a_module_may_leave_as_slowly_as_its_profile_allows() {
    for (reset, is_learned) in [(10, false), (30, true)] {
        let clock = clock();
        let factory = factory(Vec::new(), &clock).await;
        factory.make(1, &kind(RM520N)).expect("a module");
        let (sender, change) = watch::channel(Change::Nothing);
        let bus = Arc::new(Altered { bus: factory.bus(), change });
        let path = std::path::Path::new("profiles/rm520n-gl.yaml");
        let mut profile = prepare::profile(&OsDisk::new(), path).expect("a good profile");
        profile.timeouts.reset = Duration::from_secs(reset);
        let mapped = Mapped { targets: vec![blank("A1")], others: Vec::new(), profiles: vec![Arc::new(profile)] };
        let mut desk = Desk::with_profiles(bus, factory, clock, mapped);
        desk.until("ask A1").await;
        desk.plug(1, "A1");
        // It stays on the bus for 20 seconds after it was told to reset, or for longer than anybody waits.
        let download = desk.until_edl(&usb2(1)).await;
        sender.send_replace(Change::Adds(Box::new(download)));
        desk.until("download").await;
        if is_learned {
            desk.clock.sleep(Duration::from_secs(20)).await;
            sender.send_replace(Change::Nothing);
        }
        let told = if is_learned { "learned A1".to_owned() } else { format!("refused {:?}", Refusal::NotBack) };
        desk.until(&told).await;
        let _it_may_have_ended = desk.wishes.send(Wish::End);
        assert_eq!(desk.end().await.learned.len(), usize::from(is_learned));
    }
}
