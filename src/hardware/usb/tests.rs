#![expect(clippy::disallowed_methods, reason = "a test's own files, on the real disk")]

use std::fs;
use std::os::unix::fs::symlink;

use super::fixture::{EDL, Fixture, HUB, NORMAL, Shown, descriptors};
use super::*;
use crate::hardware::{DeviceMode, Speed};

/// A PC's controller with both root hubs.
const XHCI: &str = "pci0000:00/0000:00:14.0";

fn pc() -> Fixture {
    let fixture = Fixture::new();
    fixture.controller(XHCI, "pci");
    fixture.root(XHCI, 1, "480", 16);
    fixture.root(XHCI, 2, "10000", 8);
    fixture
}

fn list(fixture: &Fixture) -> Listing {
    State::default().list(&fixture.sysfs()).expect("a listing")
}

fn chains(listing: &Listing) -> (Vec<String>, Vec<String>) {
    let devices = listing.devices.iter().map(|device| device.key.chain.to_string()).collect();
    (devices, listing.hubs.iter().map(|hub| hub.chain.to_string()).collect())
}

#[test]
fn positions_are_told_by_controller_side_and_ports() {
    let fixture = pc();
    fixture.plug("1-1", &HUB);
    fixture.plug("2-1", &Shown { speed: "5000", product: b"USB3.0 Hub", ..HUB });
    fixture.plug("1-1.4", &HUB);
    fixture.plug("1-1.4.2", &EDL);
    fixture.plug("2-1.3", &NORMAL);
    let listing = list(&fixture);
    let (devices, hubs) = chains(&listing);
    assert_eq!(devices, ["pci-0000:00:14.0/usb2/1.4.2", "pci-0000:00:14.0/usb3/1.3"]);
    assert_eq!(hubs, ["pci-0000:00:14.0/usb2/1", "pci-0000:00:14.0/usb2/1.4", "pci-0000:00:14.0/usb3/1"]);
    let [edl, normal] = &listing.devices[..] else { panic!("two devices") };
    assert!(matches!(edl.mode(), DeviceMode::Edl { interface: 0 }));
    assert!(matches!(normal.mode(), DeviceMode::Normal(family) if family.name == "sdx62"));
    assert_eq!((edl.speed, normal.speed), (Speed::High, Speed::Super));
    assert_eq!(edl.product, "QUSB_BULK_CID:0410_SN:49CBD7EF");
    assert_eq!((listing.hubs[0].ports, listing.hubs[2].product.as_str()), (4, "USB3.0 Hub"));
}

#[test]
fn the_side_is_that_of_the_root_hub_whatever_the_number_of_its_bus() {
    let fixture = Fixture::new();
    // One device with a root hub for each side, and the buses in the other order.
    fixture.controller("platform/vhci_hcd.0", "platform");
    fixture.root("platform/vhci_hcd.0", 7, "5000", 15);
    fixture.root("platform/vhci_hcd.0", 8, "480", 15);
    fixture.plug("7-1", &NORMAL);
    fixture.plug("8-2", &EDL);
    // A full-speed device stays on the side of its root hub.
    fixture.plug("8-3", &Shown { speed: "12", ..EDL });
    let (devices, _) = chains(&list(&fixture));
    let expected = ["platform-vhci_hcd.0/usb2/2", "platform-vhci_hcd.0/usb2/3", "platform-vhci_hcd.0/usb3/1"];
    assert_eq!(devices, expected);
}

#[test]
fn a_controller_that_is_numbered_at_boot_is_named_by_its_parent() {
    let fixture = Fixture::new();
    fixture.controller("platform/1f00200000.usb", "platform");
    fixture.controller("platform/1f00200000.usb/xhci-hcd.0", "platform");
    fixture.root("platform/1f00200000.usb/xhci-hcd.0", 1, "480", 2);
    fixture.plug("1-1", &EDL);
    assert_eq!(chains(&list(&fixture)).0, ["platform-1f00200000.usb/usb2/1"]);
}

#[test]
fn a_device_without_a_configuration_is_listed_as_such() {
    let fixture = pc();
    fixture.plug("1-1", &Shown { is_configured: false, ..EDL });
    let listing = list(&fixture);
    assert!(matches!(listing.devices[0].mode(), DeviceMode::Unconfigured));
    assert_eq!(listing.devices[0].product, "QUSB_BULK_CID:0410_SN:49CBD7EF");
}

#[test]
fn every_enumeration_has_a_key_of_its_own() {
    let (fixture, mut state) = (pc(), State::default());
    fixture.plug("1-1", &EDL);
    fixture.plug("1-2", &EDL);
    let mut listed = || state.list(&fixture.sysfs()).expect("a listing").devices;
    let before = listed();
    assert_eq!(listed(), before, "as long as it stays");
    fixture.unplug("1-1");
    fixture.plug("1-1", &EDL);
    let after = listed();
    assert_eq!(before[0].key.chain, after[0].key.chain);
    assert_ne!(before[0].key, after[0].key, "between two listings");
    assert_eq!(before[1].key, after[1].key);

    fixture.unplug("1-1");
    assert_eq!(listed(), [before[1].clone()]);
    // Even a directory that looks the same as the last one.
    fixture.plug("1-1", &EDL);
    let again = listed();
    assert!(![&before[0].key, &after[0].key].contains(&&again[0].key));
}

#[test]
fn a_key_finds_its_own_enumeration_and_tells_when_it_is_gone() {
    let (fixture, mut state) = (pc(), State::default());
    fixture.plug("1-1", &EDL);
    let sysfs = fixture.sysfs();
    let key = state.list(&sysfs).expect("a listing").devices[0].key.clone();
    let present = state.sessions.find(&key).expect("it is there");
    assert!(present.place.is_there(&sysfs));
    fixture.unplug("1-1");
    fixture.plug("1-1", &EDL);
    assert!(!present.place.is_there(&sysfs), "another one, before any listing");
    assert!(!present.gone.is_cancelled());
    state.list(&sysfs).expect("a listing");
    assert!(present.gone.is_cancelled());
    assert!(state.sessions.find(&key).is_none());
}

#[test]
fn texts_are_made_printable_and_bounded() {
    let fixture = pc();
    let long = b"\x1b[2J\xff\r\nEvil\xe2\x80\xae".repeat(3000);
    fixture.plug("1-1", &Shown { product: &long, ..EDL });
    let listing = list(&fixture);
    let product = &listing.devices[0].product;
    assert!(product.starts_with("\\u{1b}[2J"), "{product}");
    assert!(!product.contains(|c: char| c.is_control() || c == '\u{202e}'));
    assert!(product.chars().count() < 2000);
}

#[test]
fn hostile_descriptors_are_bounded_and_make_no_module() {
    let fixture = pc();
    let all = [(255, 255, 48); 255];
    fixture.plug("1-1", &Shown { id: (0x2c7c, 0x0800), interfaces: &all, ..EDL });
    let spoil = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        fixture.plug(name, &EDL);
        let mut bytes = descriptors(&EDL);
        change(&mut bytes);
        fixture.write(&fixture.link(name).join("descriptors"), bytes);
    };
    spoil("1-2", &|bytes| bytes[36] = 0);
    spoil("1-3", &|bytes| bytes[20..22].fill(0xff));
    spoil("1-4", &|bytes| bytes.truncate(17));
    spoil("1-5", &|bytes| bytes.extend([0xff; 200_000]));
    let listing = list(&fixture);
    let (devices, _) = chains(&listing);
    assert_eq!(devices.len(), 4, "the one without a whole device descriptor is left out: {devices:?}");
    let mode = |index: usize| listing.devices[index].mode();
    assert!(matches!(mode(0), DeviceMode::Foreign), "255 interfaces");
    assert!(matches!(mode(1), DeviceMode::Foreign), "no endpoints");
    assert!(matches!(mode(2), DeviceMode::Edl { .. }), "wTotalLength is not believed");
    assert!(matches!(mode(3), DeviceMode::Edl { .. }));
}

#[test]
fn links_that_lead_nowhere_or_elsewhere_are_passed_over() {
    let fixture = pc();
    fixture.plug("1-1", &EDL);
    symlink(fixture.link("1-3"), fixture.link("1-2")).expect("links");
    symlink(fixture.link("1-2"), fixture.link("1-3")).expect("links");
    symlink("/nowhere", fixture.link("1-4")).expect("links");
    let outside = fixture.path("outside");
    fs::create_dir(&outside).expect("makes it");
    fs::write(outside.join("busnum"), "1").expect("writes");
    fs::write(outside.join("devnum"), "99").expect("writes");
    fs::write(outside.join("descriptors"), descriptors(&EDL)).expect("writes");
    symlink(&outside, fixture.link("1-5")).expect("links");
    symlink(fixture.link("usb9"), fixture.link("usb9")).expect("links");
    fixture.plug("1-6", &EDL);
    fs::remove_file(fixture.link("1-6").join("devnum")).expect("removes");
    assert_eq!(chains(&list(&fixture)).0, ["pci-0000:00:14.0/usb2/1"]);
}

#[test]
fn positions_that_mean_two_devices_are_not_used() {
    let fixture = pc();
    fixture.root(XHCI, 3, "480", 16);
    for name in ["1-1", "3-1", "3-2"] {
        fixture.plug(name, &EDL);
    }
    assert_eq!(chains(&list(&fixture)).0, ["pci-0000:00:14.0/usb2/2"]);
}

#[test]
fn a_kernel_without_usb_is_an_error_and_a_host_without_devices_is_none() {
    assert_eq!(list(&pc()), Listing::default());
    let fixture = Fixture::new();
    fs::remove_dir(fixture.path("sys/bus/usb/devices")).expect("removes");
    let error = State::default().list(&fixture.sysfs()).expect_err("no USB");
    assert!(error.to_string().contains("no USB"), "{error}");
}

#[tokio::test]
async fn without_a_device_nothing_is_opened() {
    let fixture = pc();
    fixture.plug("1-1", &EDL);
    let bus = UsbBus::start(fixture.sysfs(), Clock::real());
    let listing = bus.list().await.expect("a listing");
    let key = &listing.devices[0].key;
    let other = DeviceKey { session: key.session + 1, ..key.clone() };
    assert_eq!(bus.open_bulk(&other, 0).await.err(), Some(HardwareError::Gone));
    assert!(matches!(bus.open_bulk(key, 1).await, Err(HardwareError::Unsupported(_))), "no such interface");
    assert!(matches!(bus.open_port(key, 1).await, Err(HardwareError::Unsupported(_))));
    assert_eq!(bus.open_bulk(key, 0).await.err(), Some(HardwareError::Gone), "there is no node");
    // What could not be opened is not held.
    assert_eq!(bus.open_bulk(key, 0).await.err(), Some(HardwareError::Gone));
    assert_eq!(fixture.read(&fixture.link("1-1").join("power/control")), "on", "it is kept awake");
}
