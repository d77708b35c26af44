//! The supply of slots, switched by the ports of their hubs.
//!
//! Where the kernel offers it (6.0 and later) a port is switched through its `disable` attribute: the kernel knows then,
//! and does not switch it on again. Elsewhere the hub is asked directly, as USB 2.0, 11.24.2 and USB 3.2, 10.16.2 say.
//! A connector of a USB 3 hub has a port on each half, and its supply is off only when both are. Whether it was
//! switched is told by the port's status; a device may stay listed for a while.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nusb::transfer::{ControlIn, ControlOut, ControlType, Recipient};
use nusb::{Device, MaybeFuture};

use super::pipe::{node_error, usb_error};
use super::scan::{self, Enumeration, Root, enumeration};
use super::sysfs::Sysfs;
use crate::domain::{PortChain, Side};
use crate::hardware::{BoxFuture, HardwareError, SlotPower};

/// How long a hub may take to answer one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// `GET_STATUS`, `CLEAR_FEATURE`, `SET_FEATURE`, `GET_DESCRIPTOR` (USB 2.0, table 9-4).
const GET_STATUS: u8 = 0;
const CLEAR_FEATURE: u8 = 1;
const SET_FEATURE: u8 = 3;
const GET_DESCRIPTOR: u8 = 6;
/// `PORT_POWER` (USB 2.0, table 11-17).
const PORT_POWER: u16 = 8;
/// Bit of `PORT_POWER` in the status of a USB 2 port (table 11-21) and of a SuperSpeed port (USB 3.2, table 10-13).
const POWERED_USB2: u16 = 1 << 8;
const POWERED_USB3: u16 = 1 << 9;
/// Types of the hub descriptors of both sides.
const HUB_DESCRIPTOR_USB2: u16 = 0x2900;
const HUB_DESCRIPTOR_USB3: u16 = 0x2a00;
/// A controller without a supply: its modules come over a network or from a program.
const VIRTUAL: [&str; 2] = ["platform-vhci_hcd", "platform-dummy_hcd"];

/// Switches the ports of hubs.
#[derive(Debug, Clone)]
pub struct HubPower {
    sysfs: Arc<Sysfs>,
}

/// One port of one hub, root hubs included.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    /// The kernel's name of the hub.
    hub: String,
    enumeration: Enumeration,
    side: Side,
    number: u8,
    /// The port's directory in sysfs.
    directory: PathBuf,
}

impl HubPower {
    /// The hubs below `sysfs`.
    #[must_use]
    pub fn new(sysfs: Sysfs) -> Self {
        Self { sysfs: Arc::new(sysfs) }
    }
}

impl SlotPower for HubPower {
    fn can_switch(&self, chains: &[PortChain]) -> bool {
        ports(&self.sysfs, chains).is_some_and(|ports| !ports.is_empty())
    }

    fn set<'a>(&'a self, chains: &'a [PortChain], on: bool) -> BoxFuture<'a, Result<(), HardwareError>> {
        let (sysfs, chains) = (Arc::clone(&self.sysfs), chains.to_vec());
        Box::pin(async move {
            let set = move || set(&sysfs, &chains, on);
            tokio::task::spawn_blocking(set).await.map_err(|_| HardwareError::Failed("stopped".into()))?
        })
    }
}

/// Every port of the connectors that `chains` name; `None` where a hub is not there, or has no supply.
fn ports(sysfs: &Sysfs, chains: &[PortChain]) -> Option<Vec<Port>> {
    let names = scan::names(sysfs).ok()?;
    let roots = scan::roots(sysfs, &names);
    let mut found: Vec<Port> = Vec::new();
    for chain in chains {
        if VIRTUAL.iter().any(|controller| chain.controller().starts_with(controller)) {
            return None;
        }
        let own = |(bus, root): (&u32, &Root)| {
            (root.controller == chain.controller() && root.side == chain.side()).then(|| (*bus, root.name.clone()))
        };
        let (bus, root) = roots.iter().find_map(own)?;
        let (number, above) = chain.ports().split_last()?;
        let above: Vec<String> = above.iter().map(u8::to_string).collect();
        let hub = if above.is_empty() { root } else { format!("{bus}-{}", above.join(".")) };
        let port = port(sysfs, &hub, *number, chain.side())?;
        // The other half of the connector, also where the slot does not use it.
        let peer = peer(sysfs, &port);
        for port in std::iter::once(port).chain(peer) {
            if !found.contains(&port) {
                found.push(port);
            }
        }
    }
    Some(found)
}

/// A port of a hub by the kernel's names: `1-1/1-1:1.0/1-1-port4`, and `usb1/1-0:1.0/usb1-port4` of a root hub.
fn port(sysfs: &Sysfs, hub: &str, number: u8, side: Side) -> Option<Port> {
    let device = sysfs.real(&sysfs.usb_device(hub))?;
    let enumeration = enumeration(sysfs, &device)?;
    let interfaces = sysfs.names(&device).ok()?;
    let directory = interfaces
        .iter()
        .filter(|name| name.contains(':'))
        .map(|interface| device.join(interface).join(format!("{hub}-port{number}")))
        .find(|directory| sysfs.exists(directory))?;
    Some(Port { hub: hub.to_owned(), enumeration, side, number, directory })
}

/// The other half of a connector, where the kernel knows it.
fn peer(sysfs: &Sysfs, of: &Port) -> Option<Port> {
    let directory = sysfs.real(&of.directory.join("peer"))?;
    let (hub, number) = directory.file_name()?.to_str()?.rsplit_once("-port")?;
    let side = if of.side == Side::Usb2 { Side::Usb3 } else { Side::Usb2 };
    port(sysfs, hub, number.parse().ok()?, side)
}

fn set(sysfs: &Sysfs, chains: &[PortChain], on: bool) -> Result<(), HardwareError> {
    let ports = ports(sysfs, chains).filter(|ports| !ports.is_empty());
    let ports = ports.ok_or(HardwareError::Unsupported("the slot's port cannot be switched"))?;
    let mut switched = Vec::new();
    for port in &ports {
        match switch(sysfs, port, on) {
            Ok(true) => switched.push(port),
            Ok(false) => {}
            Err(error) => {
                // A connector is not left with one half cut.
                for port in switched.into_iter().filter(|_| !on) {
                    if let Err(error) = switch(sysfs, port, true) {
                        tracing::warn!(%error, hub = port.hub, port = port.number, "the supply could not be given back");
                    }
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Switches one port; `false` when it was so already.
fn switch(sysfs: &Sysfs, port: &Port, on: bool) -> Result<bool, HardwareError> {
    let attribute = port.directory.join("disable");
    let hub = Hub::open(sysfs, port);
    let by_kernel = || sysfs.text(&attribute).map(|text| text == "0");
    let is_on = match (by_kernel(), &hub) {
        (Some(is_on), _) => is_on,
        (None, Ok(hub)) => hub.is_powered(port)?,
        (None, Err(error)) => return Err(error.clone()),
    };
    if is_on == on {
        return Ok(false);
    }
    if !on {
        check_cut(sysfs, port, hub.as_ref().ok())?;
    }
    let written = sysfs.write(&attribute, if on { "0" } else { "1" });
    match (written, &hub) {
        (Ok(()), _) => {}
        (Err(_), Ok(hub)) => hub.set_power(port, on)?,
        (Err(error), Err(_)) => {
            return Err(HardwareError::Failed(format!(
                "{}: {error}: let the station's user write it, or open the hub",
                attribute.display()
            )));
        }
    }
    let is_on = match &hub {
        Ok(hub) => hub.is_powered(port)?,
        Err(_) => by_kernel().ok_or(HardwareError::Gone)?,
    };
    if is_on == on {
        return Ok(true);
    }
    Err(HardwareError::Failed(format!("port {} of hub {} does not obey", port.number, port.hub)))
}

/// Whether a port may be cut: nothing but the slot's module hangs there, and the hub can really do it.
fn check_cut(sysfs: &Sysfs, port: &Port, hub: Option<&Hub>) -> Result<(), HardwareError> {
    let child = sysfs.real(&port.directory.join("device"));
    if child.is_some_and(|child| sysfs.number(&child.join("maxchild")).is_some_and(|ports| ports > 0)) {
        return Err(HardwareError::Unsupported("a hub hangs at the slot's port"));
    }
    match hub {
        Some(hub) if !hub.switches_single_ports(port)? => {
            Err(HardwareError::Unsupported("the slot's hub does not switch its ports one by one"))
        }
        _ => Ok(()),
    }
}

/// A hub whose control pipe is open.
struct Hub {
    device: Device,
}

impl Hub {
    fn open(sysfs: &Sysfs, port: &Port) -> Result<Self, HardwareError> {
        let node = sysfs.open_usb(port.enumeration.bus, port.enumeration.device).map_err(node_error)?;
        if enumeration(sysfs, &sysfs.usb_device(&port.hub)) != Some(port.enumeration) {
            return Err(HardwareError::Gone);
        }
        let device = Device::from_fd(node).wait().map_err(|error| usb_error(&error))?;
        Ok(Self { device })
    }

    fn read(&self, recipient: Recipient, request: u8, value: u16, index: u16) -> Result<Vec<u8>, HardwareError> {
        /// Longest hub descriptor of a hub with 255 ports (USB 2.0, 11.23.2.1).
        const LENGTH: u16 = 71;
        let length = if request == GET_STATUS { 4 } else { LENGTH };
        let request = ControlIn { control_type: ControlType::Class, recipient, request, value, index, length };
        self.device.control_in(request, REQUEST_LIMIT).wait().map_err(hub_error)
    }

    fn is_powered(&self, port: &Port) -> Result<bool, HardwareError> {
        let status = self.read(Recipient::Other, GET_STATUS, 0, u16::from(port.number))?;
        let [low, high, ..] = status[..] else { return Err(HardwareError::Failed("a short port status".into())) };
        Ok(is_powered(u16::from_le_bytes([low, high]), port.side))
    }

    fn set_power(&self, port: &Port, on: bool) -> Result<(), HardwareError> {
        let request = ControlOut {
            control_type: ControlType::Class,
            recipient: Recipient::Other,
            request: if on { SET_FEATURE } else { CLEAR_FEATURE },
            value: PORT_POWER,
            index: u16::from(port.number),
            data: &[],
        };
        self.device.control_out(request, REQUEST_LIMIT).wait().map_err(hub_error)
    }

    fn switches_single_ports(&self, port: &Port) -> Result<bool, HardwareError> {
        let value = if port.side == Side::Usb2 { HUB_DESCRIPTOR_USB2 } else { HUB_DESCRIPTOR_USB3 };
        let descriptor = self.read(Recipient::Device, GET_DESCRIPTOR, value, 0)?;
        Ok(switches_single_ports(&descriptor))
    }
}

fn hub_error(error: nusb::transfer::TransferError) -> HardwareError {
    match error {
        nusb::transfer::TransferError::Disconnected => HardwareError::Gone,
        error => HardwareError::Failed(format!("the hub: {error}")),
    }
}

/// `wPortStatus`, read by the side of the hub.
fn is_powered(status: u16, side: Side) -> bool {
    status & (if side == Side::Usb2 { POWERED_USB2 } else { POWERED_USB3 }) != 0
}

/// The mode of power switching in `wHubCharacteristics` (USB 2.0, table 11-13): 1 is each port for itself, 0 all
/// together, 2 and 3 not at all. One port is the same as all.
fn switches_single_ports(descriptor: &[u8]) -> bool {
    match *descriptor {
        [_, _, ports, low, ..] => matches!((low & 3, ports), (1, _) | (0, 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
