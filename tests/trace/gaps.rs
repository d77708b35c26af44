//! A writer that cannot keep up costs lines, which the trace counts, and nothing else.

use std::path::PathBuf;
use std::sync::Arc;

use stationmaster::domain::{Fact, RunId, Sha256Digest};
use stationmaster::hardware::{
    AtPort, BoxFuture, BulkPipe, Bus, DeviceKey, DeviceRecord, HardwareError, Listing, SlotPower, Speed,
};
use stationmaster::host::{Clock, Disk, MemoryDisk};
use stationmaster::trace::{Mode, Recorder, Setup, Trace, TraceError, TracedSlot};
use tokio::sync::watch;

/// A bus with one device that is held by another program.
#[derive(Debug)]
struct Held(DeviceRecord);

impl Bus for Held {
    fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
        Box::pin(async { Ok(Listing { devices: vec![self.0.clone()], hubs: Vec::new() }) })
    }

    fn hints(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn open_bulk<'a>(&'a self, _: &'a DeviceKey, _: u8) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
        Box::pin(async { Err(HardwareError::Busy) })
    }

    fn open_port<'a>(&'a self, _: &'a DeviceKey, _: u8) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
        Box::pin(async { Err(HardwareError::Busy) })
    }
}

impl SlotPower for Held {
    fn can_switch(&self, _: &[stationmaster::domain::PortChain]) -> bool {
        false
    }

    fn set<'a>(
        &'a self,
        _: &'a [stationmaster::domain::PortChain],
        _: bool,
    ) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async { Ok(()) })
    }
}

/// The trace of a run in which something was tried so many times while the writer had no turn.
async fn tried(times: usize) -> Result<Trace, TraceError> {
    let chain: stationmaster::domain::PortChain = "c/usb2/1".parse().expect("a chain");
    let key = DeviceKey { chain: chain.clone(), session: 1 };
    let text = String::new;
    let record = DeviceRecord {
        key: key.clone(),
        vendor_id: 1,
        product_id: 2,
        bcd_device: 3,
        speed: Speed::High,
        product: text(),
        manufacturer: text(),
        serial: text(),
        interfaces: Vec::new(),
    };
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let slot: stationmaster::domain::SlotName = "A1".parse().expect("a slot");
    let setup = Setup {
        station: "s".parse().expect("a name"),
        config: Sha256Digest::of(b""),
        simulated: true,
        seed: None,
        profiles: Default::default(),
        slots: vec![TracedSlot { name: slot.clone(), chains: vec![chain.clone()] }],
        directory: PathBuf::from("traces"),
        payloads: false,
    };
    let hardware = (Arc::new(Held(record.clone())) as Arc<dyn Bus>, Arc::new(Held(record)) as Arc<dyn SlotPower>);
    let recorder = Recorder::start(setup, Arc::clone(&disk), Clock::real(), hardware, Mode::Inline).expect("a place");
    let bus = recorder.bus();
    bus.list().await.expect("a listing");
    for _ in 0..times {
        assert_eq!(bus.open_port(&key, 2).await.err(), Some(HardwareError::Busy));
    }
    let run = RunId::new(1, &[7; 10]);
    recorder.fact(&Fact::RunStarted { run, batch: "B".parse().expect("a name"), slot, chain, identity: None }).await;
    recorder.finish().await;
    Trace::read(disk.as_ref(), &PathBuf::from("traces").join(format!("{run}.jsonl")))
}

#[tokio::test(start_paused = true)]
async fn lines_that_are_lost_are_counted_and_the_trace_is_not_replayed() {
    assert_eq!(tried(10).await.expect("whole").lines.len(), 1 + 1 + 20 + 1 + 1);
    let error = tried(10_000).await.expect_err("lines are missing");
    assert!(matches!(error, TraceError::Gap { .. }), "{error}");
    assert!(error.to_string().contains("lines are missing"), "{error}");
}
