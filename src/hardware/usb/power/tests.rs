use super::super::fixture::{EDL, Fixture, HUB, Shown};
use super::*;

fn link(target: &std::path::Path, at: &std::path::Path) {
    let target = std::fs::canonicalize(target).expect("it is there");
    std::os::unix::fs::symlink(target, at).expect("links it");
}

/// A USB 3 hub with a module at port 3, in download mode on the USB 2 half.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.controller("pci0000:00/0000:00:14.0", "pci");
    fixture.root("pci0000:00/0000:00:14.0", 1, "480", 4);
    fixture.root("pci0000:00/0000:00:14.0", 2, "5000", 4);
    fixture.plug("1-1", &HUB);
    fixture.plug("2-1", &Shown { speed: "5000", ..HUB });
    fixture.plug("1-1.3", &EDL);
    link(&fixture.link("1-1.3"), &fixture.port("1-1", 3).join("device"));
    for (two, three) in [("1-1", "2-1"), ("usb1", "usb2")] {
        link(&fixture.port(three, 3), &fixture.port(two, 3).join("peer"));
        link(&fixture.port(two, 3), &fixture.port(three, 3).join("peer"));
    }
    fixture
}

fn chain(text: &str) -> PortChain {
    format!("pci-0000:00:14.0/{text}").parse().expect("valid")
}

fn states(fixture: &Fixture, ports: &[(&str, u8)]) -> Vec<String> {
    ports.iter().map(|(hub, port)| fixture.read(&fixture.port(hub, *port).join("disable")).trim().to_owned()).collect()
}

#[tokio::test]
async fn both_halves_of_a_connector_are_switched_and_no_other() {
    let fixture = fixture();
    let power = HubPower::new(fixture.sysfs());
    let all = [("1-1", 3), ("2-1", 3), ("1-1", 2), ("usb1", 3)];
    for chains in [vec![chain("usb2/1.3")], vec![chain("usb2/1.3"), chain("usb3/1.3")]] {
        assert!(power.can_switch(&chains));
        power.set(&chains, false).await.expect("cuts it");
        assert_eq!(states(&fixture, &all), ["1", "1", "0", "0"]);
        power.set(&chains, false).await.expect("it is cut");
        power.set(&chains, true).await.expect("gives it back");
        assert_eq!(states(&fixture, &all), ["0"; 4]);
    }
}

#[tokio::test]
async fn a_port_of_the_root_hub_is_a_port() {
    let fixture = fixture();
    let power = HubPower::new(fixture.sysfs());
    power.set(&[chain("usb2/3")], false).await.expect("cuts it");
    assert_eq!(states(&fixture, &[("usb1", 3), ("usb2", 3), ("1-1", 3)]), ["1", "1", "0"]);
}

#[tokio::test]
async fn a_port_with_a_hub_or_without_one_is_not_cut() {
    let fixture = fixture();
    let power = HubPower::new(fixture.sysfs());
    link(&fixture.link("1-1"), &fixture.port("usb1", 1).join("device"));
    let above = [chain("usb2/1")];
    assert!(matches!(power.set(&above, false).await, Err(HardwareError::Unsupported(_))));
    power.set(&above, true).await.expect("it is on");
    for nowhere in ["usb2/2.1", "usb2/1.9", "usb2/1.3.1"] {
        assert!(!power.can_switch(&[chain(nowhere)]), "{nowhere}");
        assert!(power.set(&[chain(nowhere)], false).await.is_err(), "{nowhere}");
    }
    assert!(!power.can_switch(&[]));
}

#[tokio::test]
async fn a_connector_is_never_left_half_cut() {
    let fixture = fixture();
    let power = HubPower::new(fixture.sysfs());
    // The other half cannot be asked.
    let broken = fixture.port("2-1", 3).join("disable");
    fixture.remove(&broken);
    assert!(power.set(&[chain("usb2/1.3")], false).await.is_err());
    assert_eq!(states(&fixture, &[("1-1", 3)]), ["0"]);
}

#[test]
fn a_virtual_controller_has_no_supply() {
    let fixture = Fixture::new();
    fixture.controller("platform/vhci_hcd.0", "platform");
    fixture.root("platform/vhci_hcd.0", 1, "480", 15);
    let chain: PortChain = "platform-vhci_hcd.0/usb2/1".parse().expect("valid");
    assert!(!HubPower::new(fixture.sysfs()).can_switch(&[chain]));
}

#[test]
fn hubs_say_whether_they_switch_single_ports() {
    // QEMU's hub with and without `port-power`; a ganged one; a ganged one with one port; an empty answer.
    assert!(switches_single_ports(&[10, 0x29, 8, 0x09, 0, 1, 0]));
    assert!(!switches_single_ports(&[10, 0x29, 8, 0x0a, 0, 1, 0]));
    assert!(!switches_single_ports(&[9, 0x29, 4, 0x00, 0, 50, 100]));
    assert!(switches_single_ports(&[9, 0x29, 1, 0x00, 0, 50, 100]));
    assert!(!switches_single_ports(&[]));
    assert!(is_powered(0x0103, Side::Usb2) && !is_powered(0x0003, Side::Usb2));
    assert!(is_powered(0x0203, Side::Usb3) && !is_powered(0x0103, Side::Usb3));
}
