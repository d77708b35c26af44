//! What a bus lists: devices with their position, and hubs.

use crate::domain::family::{DUMP_IDS, EDL_IDS, EDL_PRODUCT_PREFIXES, EDL_PROTOCOLS, QUECTEL_VENDOR_ID};
use crate::domain::{Family, PortChain, limits};

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
    /// What the device is ready for. Download mode is known by its one interface, not by its id alone: some modules
    /// keep their normal id in it, and are told by their product string then. A device with more interfaces than the
    /// kernel takes is no module, whatever id it shows.
    #[must_use]
    pub fn mode(&self) -> DeviceMode {
        let id = (self.vendor_id, self.product_id);
        if self.interfaces.is_empty() {
            return DeviceMode::Unconfigured;
        }
        if self.interfaces.len() > limits::USB_INTERFACES_MAX {
            return DeviceMode::Foreign;
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
        let (class, subclass, protocol) = interface.class;
        let vendor_class = class == 0xff && subclass == 0xff && EDL_PROTOCOLS.contains(&protocol);
        (vendor_class && bulk(true) && bulk(false) && (known || (self.vendor_id == QUECTEL_VENDOR_ID && named)))
            .then_some(interface.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device with that many interfaces, each with two bulk endpoints.
    fn device(id: (u16, u16), product: &str, class: (u8, u8, u8), interfaces: u8) -> DeviceRecord {
        let end = |address| Endpoint { address, kind: EndpointKind::Bulk, packet_bytes: 512 };
        let interface = |number| Interface { number, class, endpoints: vec![end(0x81), end(0x01)] };
        DeviceRecord {
            key: DeviceKey { chain: "c/usb2/1".parse().expect("valid"), session: 1 },
            vendor_id: id.0,
            product_id: id.1,
            bcd_device: 0,
            speed: Speed::High,
            product: product.to_owned(),
            manufacturer: String::new(),
            serial: String::new(),
            interfaces: (0..interfaces).map(interface).collect(),
        }
    }

    fn is_edl(id: (u16, u16), product: &str, class: (u8, u8, u8), interfaces: u8) -> bool {
        matches!(device(id, product, class, interfaces).mode(), DeviceMode::Edl { interface: 0 })
    }

    #[test]
    fn download_mode_is_known_by_its_interface() {
        let bulk = "QUSB_BULK_CID:0410_SN:49CBD7EF";
        // MDM9x07 and SDX55 in the chip's own loader; an EG25 and an RM500Q that keep their ids.
        assert!(is_edl((0x05c6, 0x9008), bulk, (0xff, 0xff, 0xff), 1));
        assert!(is_edl((0x05c6, 0x9008), "", (0xff, 0xff, 0x11), 1), "its texts may be unreadable");
        assert!(is_edl((0x2c7c, 0x0125), "QHSUSB__BULK", (0xff, 0xff, 0xff), 1));
        assert!(is_edl((0x2c7c, 0x0800), "QUSB_BULK_SN:49CBD7EF", (0xff, 0xff, 0x10), 1));
        assert!(EDL_IDS.iter().all(|id| is_edl(*id, "", (0xff, 0xff, 0x13), 1)));

        assert!(!is_edl((0x05c6, 0x9008), bulk, (0xff, 0xff, 0xff), 2), "two interfaces");
        assert!(!is_edl((0x05c6, 0x9008), bulk, (0x03, 0x00, 0x00), 1), "a keyboard");
        assert!(!is_edl((0x05c6, 0x9008), bulk, (0xff, 0xff, 0x30), 1), "a DIAG port");
        assert!(!is_edl((0x2c7c, 0x0800), "RM500Q-GL", (0xff, 0xff, 0xff), 1), "one port, in normal mode");
        assert!(!is_edl((0x1234, 0x5678), bulk, (0xff, 0xff, 0xff), 1), "a name alone");
        let mut one_way = device((0x05c6, 0x9008), bulk, (0xff, 0xff, 0xff), 1);
        one_way.interfaces[0].endpoints.pop();
        assert!(matches!(one_way.mode(), DeviceMode::Foreign));
    }

    #[test]
    fn other_modes_are_told_apart() {
        let mode = |id, interfaces| device(id, "", (0xff, 0, 0), interfaces).mode();
        assert!(matches!(mode((0x2c7c, 0x0800), 5), DeviceMode::Normal(family) if family.name == "sdx55"));
        assert!(matches!(mode((0x05c6, 0x900e), 1), DeviceMode::MemoryDump));
        assert!(matches!(mode((0x2c7c, 0x0800), 0), DeviceMode::Unconfigured));
        assert!(matches!(mode((0x1d6b, 0x0002), 1), DeviceMode::Foreign));
        assert!(matches!(mode((0x2c7c, 0x0800), 255), DeviceMode::Foreign), "more than the kernel takes");
    }
}
