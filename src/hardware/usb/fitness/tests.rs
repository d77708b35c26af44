use super::super::fixture::{Fixture, HUB, NORMAL, Shown};
use super::*;

const CONTROLLER: &str = "pci0000:00/0000:00:14.0";

/// A healthy host with a module in its first slot.
struct Plant {
    fixture: Fixture,
    host: Host,
    slots: Vec<SlotPorts>,
}

fn slot(name: &str, port: u8) -> SlotPorts {
    let chain = format!("pci-0000:00:14.0/usb2/1.{port}");
    SlotPorts { name: name.to_owned(), chains: vec![chain.parse().expect("a chain")] }
}

impl Plant {
    fn healthy() -> Self {
        let fixture = Fixture::new();
        fixture.controller(CONTROLLER, "pci");
        fixture.root(CONTROLLER, 1, "480", 4);
        fixture.plug("1-1", &HUB);
        let host = Host {
            sysfs: fixture.sysfs(),
            proc: fixture.path("proc"),
            rules: vec![fixture.path("etc/udev/rules.d"), fixture.path("usr/lib/udev/rules.d")],
            modules: fixture.path("lib/modules"),
            may_use: |_| true,
        };
        let plant = Self { fixture, host, slots: vec![slot("A1", 1), slot("A2", 2)] };
        plant.plug(&Shown { speed: "480", ..NORMAL });
        plant.write("proc/sys/kernel/osrelease", "6.12.9-amd64\n");
        plant.write("proc/1/comm", "systemd\n");
        plant.write("etc/udev/rules.d/70-stationmaster.rules", "ENV{ID_MM_DEVICE_IGNORE}=\"1\"\n");
        plant.write(
            "lib/modules/6.12.9-amd64/modules.dep",
            "kernel/drivers/usb/serial/option.ko.xz:\nkernel/drivers/usb/serial/qcserial.ko.xz:\n",
        );
        plant.write("sys/module/usbcore/parameters/usbfs_memory_mb", "256\n");
        plant.write("sys/module/usbcore/parameters/autosuspend", "2\n");
        plant
    }

    fn write(&self, path: &str, text: &str) {
        self.fixture.write(&self.fixture.path(path), text);
    }

    fn plug(&self, shown: &Shown<'_>) {
        self.fixture.plug("1-1.1", shown);
        self.fixture.write(&self.fixture.link("1-1.1").join("power/control"), "on\n");
    }

    fn checks(&self) -> Vec<Check> {
        checks(&self.host, &self.slots, ENDPOINTS_USUAL)
    }

    fn findings(&self) -> Vec<&'static str> {
        let all = self.checks();
        let bad = all.iter().filter(|check| check.verdict == Verdict::Finding);
        assert!(bad.clone().all(|check| !check.seen.is_empty() && !check.remedy.is_empty()), "{all:?}");
        bad.map(|check| check.name).collect()
    }
}

#[test]
fn a_healthy_host_has_no_finding() {
    let plant = Plant::healthy();
    for check in plant.checks() {
        assert_eq!(check.verdict, Verdict::Good, "{check:?}");
    }
    assert!(checks(&plant.host, &[], ENDPOINTS_USUAL).iter().all(|check| check.verdict == Verdict::Good));
}

/// A fault, and the one check that must name it.
type Fault = (&'static str, &'static str, fn(&mut Plant));

const FAULTS: &[Fault] = &[
    ("a kernel without serial drivers", "drivers", |plant| {
        plant.write("lib/modules/6.12.9-amd64/modules.dep", "kernel/drivers/usb/serial/option.ko.xz:\n");
    }),
    ("no rules", "udev-rules", |plant| {
        plant.fixture.remove(&plant.fixture.path("etc/udev/rules.d/70-stationmaster.rules"));
    }),
    ("ModemManager with a rule that is a comment", "modem-manager", |plant| {
        plant.write("etc/udev/rules.d/70-stationmaster.rules", "# ENV{ID_MM_DEVICE_IGNORE}=\"1\"\n");
        plant.write("proc/77/comm", "ModemManager\n");
    }),
    ("brltty", "brltty", |plant| plant.write("proc/78/comm", "brltty\n")),
    ("brltty with a rule that is a comment", "brltty", |plant| {
        plant.write("proc/78/comm", "brltty\n");
        plant.write("etc/udev/rules.d/99-stationmaster-brltty.rules", "# ENV{SYSTEMD_WANTS}=\"\"\n");
    }),
    ("little memory for transfers", "usbfs-memory", |plant| {
        plant.write("sys/module/usbcore/parameters/usbfs_memory_mb", "16\n");
        let port = |number: u8| slot(&format!("B{number}"), 1);
        plant.slots.extend((1..=60).map(port));
        for slot in &mut plant.slots[2..] {
            slot.chains = vec!["platform-vhci_hcd.0/usb2/1".parse().expect("a chain")];
        }
        plant.fixture.controller("platform/vhci_hcd.0", "platform");
        plant.fixture.root("platform/vhci_hcd.0", 2, "480", 4);
    }),
    ("a missing hub", "hubs", |plant| {
        plant.slots[1].chains = vec!["pci-0000:00:14.0/usb2/2.1".parse().expect("a chain")];
    }),
    ("a hub with too few ports", "hubs", |plant| plant.slots[1] = slot("A2", 5)),
    ("a missing controller", "hubs", |plant| {
        plant.slots[1].chains = vec!["pci-0000:09:00.0/usb2/1".parse().expect("a chain")];
    }),
    ("more slots than a controller can have", "endpoints", |plant| {
        for port in 2..=4 {
            plant.fixture.plug(&format!("1-{port}"), &HUB);
            let chain = |number| format!("pci-0000:00:14.0/usb2/{port}.{number}").parse().expect("a chain");
            let slot = |number| SlotPorts { name: format!("C{port}{number}"), chains: vec![chain(number)] };
            plant.slots.extend((1..=2).map(slot));
        }
    }),
    ("a module that the kernel did not configure", "configured", |plant| {
        plant.fixture.unplug("1-1.1");
        plant.plug(&Shown { is_configured: false, ..NORMAL });
    }),
    ("nodes that cannot be opened", "permissions", |plant| plant.host.may_use = |_| false),
    ("a module that may be suspended", "autosuspend", |plant| {
        plant.fixture.write(&plant.fixture.link("1-1.1").join("power/control"), "auto\n");
    }),
    ("a host without USB", "usb", |plant| {
        plant.host.sysfs = Sysfs::new(plant.fixture.path("nothing"), plant.fixture.path("dev"));
        plant.write("nothing/module/option/version", "1");
        plant.write("nothing/module/qcserial/version", "1");
    }),
];

#[test]
fn every_planted_fault_is_named_and_nothing_else() {
    for (fault, name, plant) in FAULTS {
        let mut planted = Plant::healthy();
        plant(&mut planted);
        assert_eq!(planted.findings(), [*name], "{fault}: {:?}", planted.checks());
    }
}

#[test]
fn what_is_not_told_is_unknown_and_no_finding() {
    let plant = Plant::healthy();
    plant.fixture.unplug("1-1.1");
    plant.fixture.remove(&plant.fixture.path("sys/module/usbcore/parameters/usbfs_memory_mb"));
    plant.write("sys/module/option/version", "1");
    plant.write("sys/module/qcserial/version", "1");
    plant.write("proc/sys/kernel/osrelease", "rolling\n");
    let unknown = plant.checks().into_iter().filter(|check| check.verdict == Verdict::Unknown);
    assert_eq!(unknown.map(|check| check.name).collect::<Vec<_>>(), ["kernel", "usbfs-memory", "permissions"]);
    assert!(plant.findings().is_empty());
}

/// What is as it should be in another way than on the healthy host.
type Other = (&'static str, &'static str, fn(&mut Plant));

const OTHERS: &[Other] = &[
    ("a kernel that leaves the ports to the hubs", "kernel", |plant| {
        plant.write("proc/sys/kernel/osrelease", "5.15.0\n");
        plant.write("lib/modules/5.15.0/modules.dep", "a/option.ko:\na/qcserial.ko:\n");
    }),
    ("brltty with the rules of a package", "brltty", |plant| {
        plant.write("proc/78/comm", "brltty\n");
        let rules = include_str!("../../../../packaging/99-stationmaster-brltty.rules");
        plant.write("usr/lib/udev/rules.d/99-stationmaster-brltty.rules", rules);
    }),
    ("no limit on memory for transfers", "usbfs-memory", |plant| {
        plant.write("sys/module/usbcore/parameters/usbfs_memory_mb", "0\n");
        plant.slots.extend((0..250).map(|_| slot("A2", 2)));
        for slot in &mut plant.slots[2..] {
            slot.chains = vec!["platform-vhci_hcd.0/usb2/1".parse().expect("a chain")];
        }
        plant.fixture.controller("platform/vhci_hcd.0", "platform");
        plant.fixture.root("platform/vhci_hcd.0", 2, "480", 4);
    }),
    ("autosuspend off for the whole host", "autosuspend", |plant| {
        plant.write("sys/module/usbcore/parameters/autosuspend", "-1\n");
        plant.fixture.write(&plant.fixture.link("1-1.1").join("power/control"), "auto\n");
    }),
    ("ModemManager with the rules of a package", "modem-manager", |plant| {
        plant.write("proc/77/comm", "ModemManager\n");
        plant.fixture.remove(&plant.fixture.path("etc/udev/rules.d/70-stationmaster.rules"));
        plant.write("usr/lib/udev/rules.d/70-stationmaster.rules", "ENV{ID_MM_DEVICE_IGNORE}=\"1\"\n");
    }),
    ("a program whose name begins like another's", "brltty", |plant| {
        plant.write("proc/78/comm", "brltty-like\n");
        plant.write("proc/self/comm", "brltty\n");
    }),
    ("drivers that are part of the kernel", "drivers", |plant| {
        plant.fixture.remove(&plant.fixture.path("lib/modules/6.12.9-amd64/modules.dep"));
        let text = "kernel/drivers/usb/serial/option.ko\nkernel/drivers/usb/serial/qcserial.ko\n";
        plant.write("lib/modules/6.12.9-amd64/modules.builtin", text);
    }),
];

#[test]
fn what_is_well_in_another_way_is_no_finding() {
    for (way, name, plant) in OTHERS {
        let mut planted = Plant::healthy();
        plant(&mut planted);
        assert_eq!(planted.findings(), [""; 0], "{way}: {:?}", planted.checks());
        let all = planted.checks();
        let check = all.iter().find(|check| check.name == *name).expect("a check");
        assert_eq!(check.verdict, Verdict::Good, "{way}: {check:?}");
    }
}

#[test]
fn endpoint_contexts_are_counted_for_each_controller() {
    let mut plant = Plant::healthy();
    let second = "pci0000:00/0000:09:00.0";
    plant.fixture.controller(second, "pci");
    plant.fixture.root(second, 3, "480", 8);
    // Five slots on each fit into 96 contexts; ten on one would not.
    plant.fixture.unplug("1-1.1");
    plant.slots = (1..=4).map(|port| slot(&format!("A{port}"), port)).collect();
    let far = |port: u8| SlotPorts {
        name: format!("B{port}"),
        chains: vec![format!("pci-0000:09:00.0/usb2/{port}").parse().expect("a chain")],
    };
    plant.slots.extend((1..=6).map(far));
    assert_eq!(plant.findings(), [""; 0], "{:?}", plant.checks());
    plant.slots.push(far(7));
    assert_eq!(plant.findings(), ["endpoints"]);
    let seen = |plant: &Plant, contexts| {
        let all = checks(&plant.host, &plant.slots, contexts);
        all.into_iter().find(|check| check.name == "endpoints").expect("a check")
    };
    let check = seen(&plant, ENDPOINTS_USUAL);
    assert!(check.seen.contains("pci-0000:09:00.0 has 96 endpoint contexts; 7 slots"), "{check:?}");
    assert!(!check.seen.contains("0000:00:14.0"), "{check:?}");
    // Who knows the controller's true number can say so.
    assert_eq!(seen(&plant, 112).verdict, Verdict::Good);
    assert_eq!(seen(&plant, 64).seen.matches("endpoint contexts").count(), 2);
}

#[test]
fn each_node_that_cannot_be_opened_is_named_with_its_slot() {
    let mut plant = Plant::healthy();
    plant.host.may_use = |path| !path.ends_with("bus/usb/001/003") && !path.ends_with("bus/usb/001/004");
    let all = plant.checks();
    let check = all.iter().find(|check| check.name == "permissions").expect("a check");
    assert_eq!(check.verdict, Verdict::Finding, "{check:?}");
    assert!(check.seen.starts_with("/dev/bus/usb/001/00") && check.seen.contains("slot A1"), "{check:?}");
    assert!(check.remedy.contains("group"), "{check:?}");
}
