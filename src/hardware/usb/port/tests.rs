use std::os::unix::fs::symlink;

use tokio_util::sync::CancellationToken;

use super::super::fixture::{Fixture, NORMAL};
use super::super::holders::Holders;
use super::super::scan::enumeration;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::hardware::DeviceKey;

const AT: u8 = 2;

/// A module whose AT port is a pseudo terminal.
struct Rig {
    fixture: Fixture,
    sysfs: Arc<Sysfs>,
    holders: Holders,
    gone: CancellationToken,
}

impl Rig {
    fn new() -> Self {
        let fixture = Fixture::new();
        fixture.controller("pci0000:00/0000:00:14.0", "pci");
        fixture.root("pci0000:00/0000:00:14.0", 2, "5000", 4);
        fixture.plug("2-1", &NORMAL);
        let sysfs = Arc::new(fixture.sysfs());
        Self { fixture, sysfs, holders: Holders::default(), gone: CancellationToken::new() }
    }

    /// Gives the AT interface a tty: the module's side of it. The other side is kept open by nobody.
    fn connect(&self, name: &str, directory: &str) -> SerialStream {
        let (module, host) = SerialStream::pair().expect("a pseudo terminal");
        let node = tokio_serial::SerialPort::name(&host).expect("it has a name");
        let number = self.sysfs.device_number(node.as_ref()).expect("a character device");
        symlink(node, self.fixture.path("dev").join(name)).expect("links it");
        let at = self.fixture.link("2-1").join("2-1:1.2").join(directory).join("dev");
        self.fixture.write(&at, number);
        module
    }

    fn present(&self) -> Present {
        let enumeration = enumeration(&self.sysfs, &self.fixture.link("2-1")).expect("it is there");
        Present { place: Place { name: "2-1".into(), enumeration }, gone: self.gone.clone() }
    }

    async fn open(&self) -> Result<Box<dyn AtPort>, HardwareError> {
        let clock = Clock::real();
        let key = DeviceKey { chain: "c/usb3/1".parse().expect("valid"), session: 1 };
        let hold = self.holders.hold(&key, AT, &clock).await?;
        open(&self.sysfs, &clock, self.present(), AT, hold).await
    }
}

#[tokio::test]
async fn a_port_passes_every_byte_and_is_found_in_both_places() {
    for (name, directory) in [("ttyUSB7", "ttyUSB7/tty/ttyUSB7"), ("ttyACM3", "tty/ttyACM3")] {
        let rig = Rig::new();
        let mut module = rig.connect(name, directory);
        let mut port = rig.open().await.expect("opens");
        port.write(b"AT\r").await.expect("writes");
        let mut heard = [0; 3];
        module.read_exact(&mut heard).await.expect("reads");
        assert_eq!(&heard, b"AT\r");
        let noise: Vec<u8> = (0..=255).collect();
        module.write_all(&noise).await.expect("writes");
        let mut got = Vec::new();
        let mut buffer = [0; 100];
        while got.len() < noise.len() {
            let length = port.read(&mut buffer).await.expect("reads");
            got.extend_from_slice(&buffer[..length]);
        }
        assert_eq!(got, noise, "raw: nothing is echoed, translated or taken for a signal");
    }
}

#[tokio::test]
async fn a_hang_up_is_gone_and_stays_so() {
    let rig = Rig::new();
    let module = rig.connect("ttyUSB0", "ttyUSB0/tty/ttyUSB0");
    let mut port = rig.open().await.expect("opens");
    drop(module);
    for _ in 0..3 {
        assert_eq!(port.read(&mut [0; 9]).await, Err(HardwareError::Gone));
        assert_eq!(port.write(b"AT\r").await, Err(HardwareError::Gone));
    }
}

#[tokio::test]
async fn a_device_that_is_missed_ends_a_read_without_a_hang_up() {
    let rig = Rig::new();
    let _module = rig.connect("ttyUSB0", "ttyUSB0/tty/ttyUSB0");
    let mut port = rig.open().await.expect("opens");
    rig.gone.cancel();
    assert_eq!(port.read(&mut [0; 9]).await, Err(HardwareError::Gone));
}

#[tokio::test]
async fn a_port_is_exclusive_until_it_is_dropped() {
    let rig = Rig::new();
    let _module = rig.connect("ttyUSB0", "ttyUSB0/tty/ttyUSB0");
    let port = rig.open().await.expect("opens");
    assert_eq!(rig.open().await.err(), Some(HardwareError::Busy));
    assert!(matches!(try_open(&rig.sysfs, &rig.present().place, AT), Err(Refusal::Busy)), "also for another program");
    drop(port);
    rig.open().await.expect("opens again");
}

#[test]
fn a_tty_that_is_not_the_interfaces_own_is_not_opened() {
    let rig = Rig::new();
    let place = rig.present().place;
    assert!(matches!(try_open(&rig.sysfs, &place, AT), Err(Refusal::Missing)), "no tty yet");
    // The name was given out again: the node is another device.
    rig.fixture.write(&rig.fixture.link("2-1").join("2-1:1.2/ttyUSB0/tty/ttyUSB0/dev"), "188:0");
    symlink("/dev/null", rig.fixture.path("dev").join("ttyUSB0")).expect("links it");
    assert!(matches!(try_open(&rig.sysfs, &place, AT), Err(Refusal::Missing)));
    rig.fixture.unplug("2-1");
    assert!(matches!(try_open(&rig.sysfs, &place, AT), Err(Refusal::Final(HardwareError::Gone))));
}
