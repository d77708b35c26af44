//! The conversation that the bench of the USB pipe's throughput has, held with the simulator.

#[path = "../benches/throughput/exchange.rs"]
mod exchange;
#[path = "../benches/throughput/place.rs"]
mod place;

#[path = "line/harness.rs"]
#[allow(dead_code, reason = "the harness serves the tests of lines too")]
mod harness;

use std::path::Path;
use std::time::Duration;

use exchange::{Exchange, InFlight, Mover, Nobody, content};
use harness::{Line, station, two_slots};
use place::{CONTROLLER, Candidate, only};
use stationmaster::domain::{Family, PageRange};
use stationmaster::hardware::{BulkPipe, Bus, DeviceKey, DeviceMode, PipeExt};
use stationmaster::protocol::diag;
use stationmaster::sim::models::Model;
use stationmaster::sim::programmer_for;

/// One transfer at a time over the same trait: what the bench's plain loop does over usbfs.
struct OneByOne(Box<dyn BulkPipe>);

impl Mover for OneByOne {
    async fn send(&mut self, bytes: &[u8], zlp: bool) -> Result<(), String> {
        while self.0.out_pending() > 0 {
            self.0.out_done().await.map_err(|error| error.to_string())?;
        }
        self.0.submit_out(bytes).map_err(|error| error.to_string())?;
        self.0.out_done().await.map_err(|error| error.to_string())?;
        if zlp && !bytes.is_empty() && bytes.len().is_multiple_of(self.0.packet_bytes()) {
            // A programmer that has all its bytes wants to speak before it takes the empty one.
            self.0.submit_out(&[]).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }

    async fn receive(&mut self, into: &mut Vec<u8>) -> Result<(), String> {
        self.0.submit_in(exchange::IN_BYTES).map_err(|error| error.to_string())?;
        self.0.in_done(into).await.map(drop).map_err(|error| error.to_string())
    }
}

/// An hour of virtual time is longer than anything here takes: what hangs fails.
async fn soon<T>(line: &Line, what: &str, work: impl Future<Output = Result<T, String>>) -> T {
    let limit = Duration::from_secs(3600);
    match line.clock.timeout(limit, work).await {
        Ok(Ok(done)) => done,
        Ok(Err(why)) => panic!("{what}: {why}"),
        Err(_) => panic!("{what}: no end"),
    }
}

/// The module of a line, once it is in download mode.
async fn edl(line: &Line, bus: &dyn Bus) -> (DeviceKey, u8) {
    for _ in 0..300 {
        for device in bus.list().await.expect("a listing").devices {
            match device.mode() {
                DeviceMode::Normal(family) => {
                    let Ok(mut port) = bus.open_port(&device.key, family.diag_interface).await else { continue };
                    // It may be on its way already; it leaves once its echo was read.
                    if port.write(&diag::encode(&diag::ENTER_EDL)).await.is_ok() {
                        let mut echo = [0; 64];
                        let heard = async { while port.read(&mut echo).await.is_ok() {} };
                        let _silent = line.clock.timeout(Duration::from_secs(10), heard).await;
                    }
                }
                DeviceMode::Edl { interface } => return (device.key, interface),
                _ => {}
            }
        }
        line.clock.sleep(Duration::from_secs(1)).await;
    }
    panic!("it does not come in download mode");
}

#[tokio::test(start_paused = true)]
async fn both_ways_move_the_same_bytes_in_one_conversation() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    let bus = line.factory.bus();
    let (key, interface) = edl(&line, bus.as_ref()).await;
    let model = Model::by_name("EG25-G").expect("a model");
    let family = Family::by_name(model.family).expect("a family");
    let range = PageRange { start: 65_536, pages: 256 };
    let bytes = 256 * usize::try_from(family.geometry.page_bytes).expect("small");

    let open = async || bus.open_bulk(&key, interface).await.expect("it opens");
    let programmer = programmer_for(model);
    let first = Exchange::start(InFlight::new(open().await), &programmer, family);
    let first = soon(&line, "start", first).await;
    assert_eq!(first.payload_bytes(), 16_384);
    // A conversation that nobody holds, as the bench keeps one between two ways.
    let talk = first.by(Nobody);
    drop(first);
    for round in 0..2 {
        let sent = content(round, bytes);
        let mut ours = talk.by(InFlight::new(open().await));
        soon(&line, "erase in flight", ours.erase(range)).await;
        soon(&line, "program in flight", ours.program(range, &sent)).await;
        let (read, _) = soon(&line, "read in flight", ours.read(range)).await;
        assert!(read == sent, "round {round}, in flight");
        drop(ours);
        let mut plain = talk.by(OneByOne(open().await));
        let (read, _) = soon(&line, "read one by one", plain.read(range)).await;
        assert!(read == sent, "what one way wrote, the other reads");
        let other = content(round + 100, bytes);
        assert!(other != sent);
        soon(&line, "erase one by one", plain.erase(range)).await;
        soon(&line, "program one by one", plain.program(range, &other)).await;
        let (read, _) = soon(&line, "read one by one", plain.read(range)).await;
        assert!(read == other, "round {round}, one by one");
    }
}

#[tokio::test(start_paused = true)]
async fn a_programmer_that_is_there_already_is_left_alone() {
    let line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    let bus = line.factory.bus();
    let (key, interface) = edl(&line, bus.as_ref()).await;
    let model = Model::by_name("EG25-G").expect("a model");
    let family = Family::by_name(model.family).expect("a family");
    let start = async || {
        let pipe = bus.open_bulk(&key, interface).await.expect("it opens");
        line.clock
            .timeout(Duration::from_secs(60), Exchange::start(InFlight::new(pipe), &programmer_for(model), family))
            .await
    };
    let talk = start().await.expect("in time").expect("a programmer").by(Nobody);
    // It waits for a hello that does not come, or hears that a programmer runs.
    assert!(!matches!(start().await, Ok(Ok(_))), "a second programmer cannot be started");
    // The first one is none the worse for it: it still does what it is told.
    let pipe = bus.open_bulk(&key, interface).await.expect("it opens");
    let mut again = talk.by(InFlight::new(pipe));
    let range = PageRange { start: 65_536, pages: 64 };
    let sent = content(1, 64 * usize::try_from(family.geometry.page_bytes).expect("small"));
    soon(&line, "erase", again.erase(range)).await;
    soon(&line, "program", again.program(range, &sent)).await;
    let (read, _) = soon(&line, "read", again.read(range)).await;
    assert!(read == sent, "the programmer answers as before");
}

#[test]
fn a_module_at_the_same_ports_of_another_controller_is_not_the_one() {
    let chain = format!("{CONTROLLER}.0/usb2/1.4").parse().expect("a chain");
    let at = |directory: &str, ports: &[u8], is_super| {
        Candidate { directory: Path::new(directory), ports, is_super }.is_at(&chain)
    };
    assert!(at("/sys/devices/platform/vhci_hcd.0/usb1/1-1/1-1.4", &[1, 4], false));
    for (directory, ports, is_super) in [
        ("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.4", &[1, 4][..], false),
        ("/sys/devices/platform/vhci_hcd.1/usb3/3-1/3-1.4", &[1, 4], false),
        ("/sys/devices/platform/vhci_hcd.0/usb2/2-1/2-1.4", &[1, 4], true),
        ("/sys/devices/platform/vhci_hcd.0/usb1/1-4/1-4.1", &[4, 1], false),
        ("/sys/devices/platform/vhci_hcd.0/usb1/1-1", &[1], false),
        ("/sys/devices/pci0000:00/vhci_hcd.0/usb1/1-1/1-1.4", &[1, 4], false),
        ("/", &[1, 4], false),
    ] {
        assert!(!at(directory, ports, is_super), "{directory}");
    }
    // Nor does a record of a real module lead to one.
    let real = "pci-0000:00:14.0/usb2/1.4".parse().expect("a chain");
    let directory = Path::new("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.4");
    assert!(!Candidate { directory, ports: &[1, 4], is_super: false }.is_at(&real));
}

#[test]
fn of_several_devices_none_is_guessed() {
    assert_eq!(only([7].into_iter()), Ok(7));
    assert!(only(std::iter::empty::<u8>()).is_err());
    assert!(only([7, 7].into_iter()).is_err());
}
