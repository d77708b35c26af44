//! What a bus lists: devices with their position, and hubs.

use crate::domain::family::{DUMP_IDS, EDL_IDS, EDL_PRODUCT_PREFIXES, QUECTEL_VENDOR_ID};
use crate::domain::{Family, PortChain};

/// USB speeds that matter here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Speed {
    /// 12 Mbit/s and below.
    Full,
    /// 480 Mbit/s.
    High,
    /// 5 Gbit/s and above.
    Super,
}

/// How an endpoint transfers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndpointKind {
    /// Bulk.
    Bulk,
    /// Interrupt.
    Interrupt,
    /// Isochronous or control: never used here.
    Other,
}

/// An endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// `bEndpointAddress`; bit 7 set means IN.
    pub address: u8,
    /// How it transfers.
    pub kind: EndpointKind,
    /// `wMaxPacketSize`, in bytes.
    pub packet_bytes: u16,
}

/// An interface in its first alternate setting.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Interface {
    /// `bInterfaceNumber`.
    pub number: u8,
    /// Class, subclass and protocol.
    pub class: (u8, u8, u8),
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A device at a position, for as long as it stays enumerated. Plugged in again, or come back after a reset, it has
/// another `session`: a key can never reach another device.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceKey {
    /// Where.
    pub chain: PortChain,
    /// Which enumeration.
    pub session: u64,
}

/// What a module is ready for.
#[derive(Clone, Copy, Debug)]
pub enum DeviceMode {
    /// AT and DIAG ports.
    Normal(&'static Family),
    /// Sahara, or Firehose once a programmer runs; on this interface.
    Edl {
        /// The interface with the two bulk endpoints.
        interface: u8,
    },
    /// Crashed: memory dump.
    MemoryDump,
    /// A device, but no module.
    Foreign,
    /// Enumerated, but not configured: the controller ran out of resources, or it is not finished.
    Unconfigured,
}

/// One device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceRecord {
    /// Where and which.
    pub key: DeviceKey,
    /// `idVendor`.
    pub vendor_id: u16,
    /// `idProduct`.
    pub product_id: u16,
    /// `bcdDevice`.
    pub bcd_device: u16,
    /// Its speed.
    pub speed: Speed,
    /// Product string, printable.
    pub product: String,
    /// Manufacturer string, printable.
    pub manufacturer: String,
    /// Serial string, printable. Never an identity.
    pub serial: String,
    /// Its interfaces; empty while it is not configured.
    pub interfaces: Vec<Interface>,
}

/// One hub.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HubRecord {
    /// Where.
    pub chain: PortChain,
    /// How many ports it has.
    pub ports: u8,
    /// Product string, printable.
    pub product: String,
}

/// Everything plugged in at one moment, ascending by position.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// Devices that are no hubs.
    pub devices: Vec<DeviceRecord>,
    /// External hubs.
    pub hubs: Vec<HubRecord>,
}

impl DeviceRecord {
    /// What the device is ready for. Download mode is known by its interface and product string, not by its id
    /// alone: some modules keep their normal id in it.
    #[must_use]
    pub fn mode(&self) -> DeviceMode {
        let id = (self.vendor_id, self.product_id);
        if self.interfaces.is_empty() {
            return DeviceMode::Unconfigured;
        }
        if DUMP_IDS.contains(&id) {
            return DeviceMode::MemoryDump;
        }
        if let Some(interface) = self.edl_interface() {
            return DeviceMode::Edl { interface };
        }
        Family::by_usb_id(self.vendor_id, self.product_id).map_or(DeviceMode::Foreign, DeviceMode::Normal)
    }

    fn edl_interface(&self) -> Option<u8> {
        let [interface] = self.interfaces.as_slice() else { return None };
        let named = EDL_PRODUCT_PREFIXES.iter().any(|prefix| self.product.starts_with(prefix));
        let known = EDL_IDS.contains(&(self.vendor_id, self.product_id));
        let bulk = |inward: bool| {
            interface
                .endpoints
                .iter()
                .any(|endpoint| endpoint.kind == EndpointKind::Bulk && (endpoint.address & 0x80 != 0) == inward)
        };
        let vendor_class = interface.class.0 == 0xff && interface.class.1 == 0xff;
        (vendor_class && bulk(true) && bulk(false) && (known || (self.vendor_id == QUECTEL_VENDOR_ID && named)))
            .then_some(interface.number)
    }
}
