//! Bulk throughput of the product's USB pipe against a plain loop of the same transfer size, interleaved.
//!
//! *The pipe* is what the controller works with: several transfers in flight both ways, from buffers that usbfs maps.
//! *The plain loop* is what a first program does: one transfer, from a buffer of its own, wait for it, the next one. Only
//! the empty transfer that ends a piece is waited for before the next piece and not at once.
//! Both move the same bytes in the same conversation with the same programmer; what was programmed is read and compared.
//!
//! It needs a module in download mode at a virtual host controller (`scripts/vm run throughput`). A real module is never
//! touched: no other controller is looked at, and the programmer that is loaded is the simulator's, which is no program
//! for any chip.

#![expect(clippy::print_stdout, reason = "its result is what it prints")]

mod exchange;
#[path = "../common/figures.rs"]
mod figures;
mod place;

use std::process::ExitCode;
use std::time::Duration;

use exchange::{Exchange, IN_BYTES, InFlight, Mover, Nobody, content};
use figures::{median, print_machine};
use nusb::transfer::{Buffer, Bulk, In, Out};
use nusb::{DeviceInfo, Endpoint, Interface, MaybeFuture};
use place::{CONTROLLER, Candidate, only};
use stationmaster::domain::{Family, PageRange};
use stationmaster::hardware::usb::{Sysfs, UsbBus};
use stationmaster::hardware::{Bus, DeviceMode, DeviceRecord};
use stationmaster::host::Clock;
use stationmaster::sim::models::Model;
use stationmaster::sim::programmer_for;

/// The model that is served.
const MODEL: &str = "EG25-G";
/// A page in the middle of its largest partition, at the beginning of a block.
const START_PAGE: u64 = 65_536;
/// How long one transfer of the plain loop may take.
const TRANSFER_LIMIT: Duration = Duration::from_secs(30);
/// How often an interface is asked for that is still being given back.
const OPEN_TRIES: u32 = 100;

fn main() -> ExitCode {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let megabytes = numbers.first().copied().unwrap_or(2).clamp(1, 32);
    let rounds = numbers.get(1).copied().unwrap_or(11).clamp(1, 101);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    match runtime.block_on(measure(megabytes, rounds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What one way took, round by round, in MB/s.
#[derive(Debug, Default)]
struct Rates {
    out: Vec<f64>,
    inward: Vec<f64>,
}

async fn measure(megabytes: u32, rounds: u32) -> Result<(), String> {
    let bus = UsbBus::start(Sysfs::default(), Clock::real());
    let (device, interface) = module(&bus).await?;
    let known = Plain::find(&device)?;
    let model = Model::by_name(MODEL).ok_or("the simulator has no such model")?;
    let family = Family::by_name(model.family).ok_or("there is no such family")?;
    let bytes = usize::try_from(megabytes).map_err(|error| error.to_string())? * 1024 * 1024;
    let page_bytes = usize::try_from(family.geometry.page_bytes).map_err(|error| error.to_string())?;
    let range = PageRange { start: START_PAGE, pages: (bytes / page_bytes) as u64 };

    let pipe = bus.open_bulk(&device.key, interface).await.map_err(|error| error.to_string())?;
    let first = Exchange::start(InFlight::new(pipe), &programmer_for(model), family).await?;
    let payload = first.payload_bytes();
    // What the others go on with; the pipe itself is opened anew each time, as the plain loop is.
    let talk = first.by(Nobody);
    drop(first);
    let (mut ours, mut plain) = (Rates::default(), Rates::default());
    // The first round pays for what is made once; it is not counted.
    for round in 0..=rounds {
        let mut rates = [(0.0, 0.0); 2];
        for turn in 0..2 {
            let sent = content(2 * round + turn, bytes);
            // Which one is first changes from round to round.
            let which = usize::try_from((round + turn) % 2).unwrap_or_default();
            rates[which] = if which == 0 {
                let pipe =
                    patient(async || bus.open_bulk(&device.key, interface).await.map_err(|e| e.to_string())).await?;
                both_ways(talk.by(InFlight::new(pipe)), range, &sent).await?
            } else {
                let loop_ = patient(async || Plain::open(&device, &known, interface)).await?;
                both_ways(talk.by(loop_), range, &sent).await?
            };
        }
        if round > 0 {
            for (rates, (out, inward)) in [&mut ours, &mut plain].into_iter().zip(rates) {
                rates.out.push(out);
                rates.inward.push(inward);
            }
        }
    }
    print_machine();
    println!(
        "{megabytes} MiB each way and round, {rounds} rounds, transfers of {} KiB out and {} KiB in",
        payload / 1024,
        IN_BYTES / 1024
    );
    report("out", &ours.out, &plain.out);
    report("in", &ours.inward, &plain.inward);
    Ok(())
}

/// The module in download mode at a virtual controller.
async fn module(bus: &UsbBus) -> Result<(DeviceRecord, u8), String> {
    let listing = bus.list().await.map_err(|error| error.to_string())?;
    let edl = listing.devices.iter().filter_map(|device| match device.mode() {
        DeviceMode::Edl { interface } if device.key.chain.controller().starts_with(CONTROLLER) => {
            Some((device.clone(), interface))
        }
        _ => None,
    });
    let found: Vec<(DeviceRecord, u8)> = edl.collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(format!("no module is in download mode at {CONTROLLER}: use `scripts/vm run throughput`")),
        _ => Err("several modules are in download mode".to_owned()),
    }
}

/// An interface is given back on a thread of its own, so the next one to want it may come too early.
async fn patient<T>(open: impl AsyncFn() -> Result<T, String>) -> Result<T, String> {
    let clock = Clock::real();
    let mut last = String::new();
    for _ in 0..OPEN_TRIES {
        match open().await {
            Ok(opened) => return Ok(opened),
            Err(why) => last = why,
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
    Err(last)
}

/// Erases, programs and reads a range; MB/s out and in.
async fn both_ways<M: Mover>(mut talk: Exchange<M>, range: PageRange, sent: &[u8]) -> Result<(f64, f64), String> {
    talk.erase(range).await?;
    let out = talk.program(range, sent).await?;
    let (read, inward) = talk.read(range).await?;
    if read != sent {
        return Err("what was read is not what was sent".to_owned());
    }
    Ok((rate(sent.len(), out), rate(read.len(), inward)))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

fn report(way: &str, ours: &[f64], plain: &[f64]) {
    let spread = |values: &[f64]| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        format!("median {:6.2} MB/s (least {least:6.2}, most {most:6.2})", median(values))
    };
    let ratios: Vec<f64> = ours.iter().zip(plain).map(|(ours, plain)| ours / plain).collect();
    println!("{way:<3} pipe       {}", spread(ours));
    println!("{way:<3} plain loop {}", spread(plain));
    println!("{way:<3} pipe / plain loop, median of the rounds: {:.2}", median(&ratios));
}

/// One transfer at a time, each from a buffer of its own.
struct Plain {
    reader: Endpoint<Bulk, In>,
    writer: Endpoint<Bulk, Out>,
    /// Kept until the endpoints are gone.
    _interface: Interface,
}

impl Plain {
    /// The module of a record, and no other: it is looked for anew each time, and must be the one that it was.
    fn find(record: &DeviceRecord) -> Result<DeviceInfo, String> {
        let all = nusb::list_devices().wait().map_err(|error| error.to_string())?;
        only(all.filter(|device| {
            let Ok(directory) = std::fs::canonicalize(device.sysfs_path()) else { return false };
            let is_super = device.speed().is_some_and(|speed| speed >= nusb::Speed::Super);
            let candidate = Candidate { directory: &directory, ports: device.port_chain(), is_super };
            (device.vendor_id(), device.product_id()) == (record.vendor_id, record.product_id)
                && candidate.is_at(&record.key.chain)
        }))
    }

    fn open(record: &DeviceRecord, known: &DeviceInfo, interface: u8) -> Result<Self, String> {
        let words = |error: nusb::Error| error.to_string();
        let here = Self::find(record)?;
        if (here.busnum(), here.device_address()) != (known.busnum(), known.device_address()) {
            return Err("the device is another one than at the beginning".to_owned());
        }
        let device = here.open().wait().map_err(words)?;
        let claimed = device.detach_and_claim_interface(interface).wait().map_err(words)?;
        let addresses: Vec<u8> =
            claimed.descriptor().map(|ends| ends.endpoints().map(|end| end.address()).collect()).unwrap_or_default();
        let of = |inward: bool| addresses.iter().copied().find(|address| (address & 0x80 != 0) == inward);
        let (inward, outward) = of(true).zip(of(false)).ok_or("it has no pair of endpoints")?;
        let reader = claimed.endpoint::<Bulk, In>(inward).map_err(words)?;
        let writer = claimed.endpoint::<Bulk, Out>(outward).map_err(words)?;
        Ok(Self { reader, writer, _interface: claimed })
    }
}

impl Mover for Plain {
    async fn send(&mut self, bytes: &[u8], zlp: bool) -> Result<(), String> {
        let words = |error: nusb::transfer::TransferError| error.to_string();
        while self.writer.pending() > 0 {
            let empty = self.writer.wait_next_complete(TRANSFER_LIMIT).ok_or("an empty transfer is not taken")?;
            empty.status.map_err(words)?;
        }
        self.writer.transfer_blocking(Buffer::from(bytes.to_vec()), TRANSFER_LIMIT).status.map_err(words)?;
        if zlp && !bytes.is_empty() && bytes.len().is_multiple_of(self.writer.max_packet_size()) {
            // A programmer that has all its bytes wants to speak before it takes the empty one: it is waited for later.
            self.writer.submit(Buffer::new(0));
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }

    async fn receive(&mut self, into: &mut Vec<u8>) -> Result<(), String> {
        let arrived = self.reader.transfer_blocking(Buffer::new(IN_BYTES), TRANSFER_LIMIT);
        arrived.status.map_err(|error| error.to_string())?;
        into.extend_from_slice(&arrived.buffer[..arrived.actual_len.min(arrived.buffer.len())]);
        Ok(())
    }
}
