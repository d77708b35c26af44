//! The hubs, ports and modules of a station.

use std::collections::{BTreeMap, BTreeSet};

use super::super::port::tty;
use super::{Check, View};
use crate::domain::PortChain;

/// Controllers that exist in software only: they run out of nothing.
const VIRTUAL: [&str; 2] = ["platform-vhci_hcd", "platform-dummy_hcd"];
/// Endpoint contexts that a controller keeps for itself.
const RESERVE: u32 = 5;
/// Endpoint contexts of one half of a hub: its control endpoint and its status.
const HUB: u32 = 2;
/// Endpoint contexts of a module of which nothing is known yet, in normal mode.
const MODULE: u32 = 15;

pub(super) fn hubs(view: &View<'_>) -> Check {
    let mut complaints = BTreeSet::new();
    for slot in view.slots {
        for chain in &slot.chains {
            let Some(port) = chain.ports().last() else { continue };
            let ports = match chain.hub() {
                Some(hub) => {
                    let found = view.found.iter().find(|found| found.chain == hub);
                    match found.map(|found| found.hub_ports) {
                        Some(Some(ports)) => ports,
                        Some(None) => {
                            complaints.insert(format!("at {hub} is no hub, slot {} needs one", slot.name));
                            continue;
                        }
                        None => {
                            complaints.insert(format!("the hub at {hub} is missing"));
                            continue;
                        }
                    }
                }
                None => {
                    let own = |root: &&super::Root| root.controller == chain.controller() && root.side == chain.side();
                    let Some(root) = view.roots.iter().find(own) else {
                        complaints.insert(format!("the controller of {chain} is missing"));
                        continue;
                    };
                    let directory = view.host.sysfs.usb_device(&root.name);
                    let ports = view.host.sysfs.number(&directory.join("maxchild")).unwrap_or(0);
                    u8::try_from(ports).unwrap_or(u8::MAX)
                }
            };
            if ports < *port {
                complaints.insert(format!("slot {} is at {chain}, its hub has {ports} ports", slot.name));
            }
        }
    }
    Check::of(
        "hubs",
        &complaints.into_iter().collect::<Vec<String>>(),
        "all there, with enough ports",
        "plug the hubs in as the station file says, or correct the file; `stationmaster devices` shows what is there",
    )
}

/// A controller keeps a context for every endpoint of every device, and refuses to configure the device that is one
/// too many: it is listed then, and has no interface. All units in normal mode at once is what must fit.
pub(super) fn endpoints(view: &View<'_>) -> Check {
    let mut slots: BTreeMap<&str, u32> = BTreeMap::new();
    for slot in view.slots {
        // A module is on one side at a time: on SuperSpeed in normal mode, where that is wired.
        if let Some(chain) = slot.chains.last() {
            *slots.entry(chain.controller()).or_default() += 1;
        }
    }
    slots.retain(|controller, _| !VIRTUAL.iter().any(|prefix| controller.starts_with(prefix)));
    let mut complaints = Vec::new();
    for (controller, units) in &slots {
        let at = |chain: &PortChain| chain.controller() == *controller;
        let halves = view.found.iter().filter(|found| found.hub_ports.is_some() && at(&found.chain)).count();
        let halves = u32::try_from(halves).unwrap_or(u32::MAX);
        let seen = view.in_slots().filter(|(_, found)| at(&found.chain)).map(|(_, found)| {
            let ends: usize = found.interfaces.iter().map(|interface| interface.endpoints.len()).sum();
            u32::try_from(ends + 1).unwrap_or(u32::MAX)
        });
        // One in download mode has three, and says nothing about normal mode.
        let each = seen.max().unwrap_or(MODULE).max(MODULE);
        let needed = HUB.saturating_mul(halves).saturating_add(each.saturating_mul(*units)).saturating_add(RESERVE);
        if needed > view.endpoints {
            complaints.push(format!(
                "{controller} has {} endpoint contexts; {units} slots with {each} each and {halves} halves of hubs need \
                 {needed}",
                view.endpoints
            ));
        }
    }
    Check::of(
        "endpoints",
        &complaints,
        "every controller can have all its slots in normal mode",
        "spread the slots over more USB controllers (PCIe cards with one controller for each socket), or give a \
         controller's true number with --endpoints",
    )
}

pub(super) fn configured(view: &View<'_>) -> Check {
    let bare = view.in_slots().filter(|(_, found)| found.interfaces.is_empty());
    let complaints: Vec<String> =
        bare.map(|(slot, found)| format!("the module in {slot} ({}) is not configured", found.chain)).collect();
    Check::of(
        "configured",
        &complaints,
        "every module in a slot has its interfaces",
        "the controller has no resources left for it, or USB authorization keeps it back: look at the kernel's log, and \
         spread the slots over more controllers",
    )
}

pub(super) fn permissions(view: &View<'_>) -> Check {
    let sysfs = &view.host.sysfs;
    let mut complaints = Vec::new();
    let mut count = 0_usize;
    for (slot, found) in view.in_slots() {
        let place = &found.place.enumeration;
        let mut nodes = vec![format!("bus/usb/{:03}/{:03}", place.bus, place.device)];
        let ttys = found.interfaces.iter().filter_map(|interface| tty(sysfs, &found.place, interface.number));
        nodes.extend(ttys.map(|tty| tty.name));
        count += nodes.len();
        for node in nodes {
            if !(view.host.may_use)(&sysfs.node(&node)) {
                complaints.push(format!("/dev/{node} of slot {slot} cannot be read and written"));
            }
        }
    }
    if count == 0 {
        return Check::unknown("permissions", "no module is in a slot");
    }
    Check::of(
        "permissions",
        &complaints,
        format!("{count} nodes of modules in slots can be used"),
        "install 70-stationmaster.rules, add this user to the group that the rules name, and log in again",
    )
}

pub(super) fn autosuspend(view: &View<'_>) -> Check {
    let sysfs = &view.host.sysfs;
    let is_off = sysfs
        .module_parameter("usbcore", "autosuspend")
        .and_then(|text| text.parse::<i64>().ok())
        .is_some_and(|seconds| seconds < 0);
    let sleepy = |found: &super::Found| {
        let control = sysfs.usb_device(&found.place.name).join("power/control");
        sysfs.text(&control).is_some_and(|text| text == "auto")
    };
    if is_off {
        return Check::good("autosuspend", "off for the whole host");
    }
    let complaints: Vec<String> = view
        .in_slots()
        .filter(|(_, found)| sleepy(found))
        .map(|(slot, found)| format!("the module in {slot} ({}) may be suspended", found.chain))
        .collect();
    Check::of(
        "autosuspend",
        &complaints,
        "no module in a slot may be suspended",
        "install 70-stationmaster.rules, or start the kernel with usbcore.autosuspend=-1",
    )
}
