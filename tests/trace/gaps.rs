//! What a trace does not hold: lines that a slow writer lost, and those beyond its bound. It says so, and ends in order.

use std::path::PathBuf;
use std::sync::Arc;

use stationmaster::domain::{Fact, FailureCode, RunId, Sha256Digest, limits};
use stationmaster::hardware::{
    AtPort, BoxFuture, BulkPipe, Bus, DeviceKey, DeviceRecord, HardwareError, Listing, SlotPower, Speed,
};
use stationmaster::host::{Clock, Disk, MemoryDisk};
use stationmaster::trace::{Event, Mode, Recorder, Setup, Trace, TraceError, TracedSlot, decode};
use tokio::sync::watch;

/// A bus with one device; another program holds all of its ports but the first, which talks without end.
#[derive(Debug)]
struct Held(DeviceRecord);

/// Bytes of talk in one read.
const TALK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Talk;

impl AtPort for Talk {
    fn write<'a>(&'a mut self, _: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async { Ok(()) })
    }

    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        buffer.fill(b'x');
        Box::pin(std::future::ready(Ok(buffer.len())))
    }
}

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

    fn open_port<'a>(
        &'a self,
        _: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
        Box::pin(async move {
            let port: Box<dyn AtPort> = Box::new(Talk);
            if interface == 0 { Ok(port) } else { Err(HardwareError::Busy) }
        })
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

/// A recorder of a slot with a device in it, on a disk in memory.
struct Rig {
    disk: Arc<dyn Disk>,
    recorder: Recorder,
    bus: Arc<dyn Bus>,
    key: DeviceKey,
    run: RunId,
    started: Fact,
}

impl Rig {
    async fn new() -> Self {
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
        let recorder =
            Recorder::start(setup, Arc::clone(&disk), Clock::real(), hardware, Mode::Inline).expect("a place");
        let bus = recorder.bus();
        bus.list().await.expect("a listing");
        let run = RunId::new(1, &[7; 10]);
        let started = Fact::RunStarted { run, batch: "B".parse().expect("a name"), slot, chain, identity: None };
        Self { disk, recorder, bus, key, run, started }
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("traces").join(format!("{}.jsonl", self.run))
    }
}

/// The trace of a run in which something was tried so many times while the writer had no turn.
async fn tried(times: usize) -> Result<Trace, TraceError> {
    let rig = Rig::new().await;
    for _ in 0..times {
        assert_eq!(rig.bus.open_port(&rig.key, 2).await.err(), Some(HardwareError::Busy));
    }
    rig.recorder.fact(&rig.started).await;
    rig.recorder.finish().await;
    Trace::read(rig.disk.as_ref(), &rig.path())
}

#[tokio::test(start_paused = true)]
async fn lines_that_are_lost_are_counted_and_the_trace_is_not_replayed() {
    assert_eq!(tried(10).await.expect("whole").lines.len(), 1 + 1 + 20 + 1 + 1);
    let error = tried(10_000).await.expect_err("lines are missing");
    assert!(matches!(error, TraceError::Gap { .. }), "{error}");
    assert!(error.to_string().contains("lines are missing"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_has_grown_to_its_bound_says_where_and_keeps_its_facts() {
    let rig = Rig::new().await;
    rig.recorder.fact(&rig.started).await;
    let mut port = rig.bus.open_port(&rig.key, 0).await.expect("it opens");
    let mut buffer = vec![0; TALK_BYTES];
    let reads = usize::try_from(limits::TRACE_RUN_BYTES_MAX).expect("it is small") / TALK_BYTES + 100;
    for _ in 0..reads {
        port.read(&mut buffer).await.expect("it talks");
        // The writer has its turn.
        tokio::task::yield_now().await;
    }
    let chip = "0004a0e100000000-00000001".parse().expect("a chip");
    let imei = "490154203237518".parse().expect("an IMEI");
    let (run, holder, code) = (rig.run, RunId::new(2, &[8; 10]), FailureCode::ImeiDuplicate);
    rig.recorder.fact(&Fact::ClaimRefused { run, chip, imei, holder, code }).await;
    rig.recorder.finish().await;

    let bytes = rig.disk.read(&rig.path(), 1 << 30).expect("the trace");
    assert!(bytes.len() as u64 <= limits::TRACE_RUN_BYTES_MAX, "{} bytes", bytes.len());
    assert!(bytes.len() as u64 > limits::TRACE_RUN_BYTES_MAX / 10 * 9, "{} bytes", bytes.len());
    let lines: Vec<&[u8]> = bytes.strip_suffix(b"\n").expect("whole lines").split(|byte| *byte == b'\n').collect();
    let last: Vec<Event> = lines[lines.len() - 4..].iter().map(|line| decode(line, 1).expect("a line").event).collect();
    let [
        Event::In { .. },
        Event::Bound { bytes: bound },
        Event::Fact(fact),
        Event::End { outcome: None, facts: 2, .. },
    ] = last.as_slice()
    else {
        panic!("{last:?}");
    };
    assert_eq!(*bound, limits::TRACE_RUN_BYTES_MAX);
    assert_eq!(fact.run(), Some(rig.run));

    let error = Trace::read(rig.disk.as_ref(), &rig.path()).expect_err("it cannot be replayed");
    assert!(matches!(error, TraceError::Bound { line, .. } if line == lines.len() - 2), "{error}");
    assert!(error.to_string().contains(&format!("ends at line {}", lines.len() - 2)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_is_only_dropped_ends_its_traces_too() {
    let rig = Rig::new().await;
    rig.recorder.fact(&rig.started).await;
    let (path, Rig { disk, recorder, bus, .. }) = (rig.path(), rig);
    drop(recorder);
    while Trace::read(disk.as_ref(), &path).is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(Trace::read(disk.as_ref(), &path).expect("it has its end").outcome, None);
    bus.list().await.expect("the bus works on without a recorder");
}
