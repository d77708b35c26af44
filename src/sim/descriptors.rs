//! What a module shows to the bus in each of its modes: ids, strings, interfaces and endpoints.
//!
//! The values are the model's (see [`models`](super::models)); here they become the face of one unit in one slot: a
//! SuperSpeed module falls back to high speed where the slot has no SuperSpeed side, and download mode always does.

use super::models::{Model, UsbMode};
use crate::domain::{ChipId, Side};
use crate::hardware::{EndpointKind, Interface, Speed};

/// The interface of download and dump mode.
pub(super) const EDL_INTERFACE: u8 = 0;
/// `wMaxPacketSize` of bulk endpoints at high speed.
const PACKET_HIGH: u16 = 512;
/// Most `wMaxPacketSize` of any endpoint but an isochronous one at full speed (USB 2.0, 5.7.3 and 5.8.3).
const PACKET_FULL: u16 = 64;
/// `bcdUSB` of SuperSpeed devices, and what they say when they run at high speed.
const USB_3: u16 = 0x0300;
const USB_2_1: u16 = 0x0210;
/// Most a USB 2 port gives, in mA.
const POWER_HIGH_MA: u16 = 500;

/// A module's descriptors in one mode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Face {
    pub(super) side: Side,
    pub(super) vendor_id: u16,
    pub(super) product_id: u16,
    pub(super) bcd_usb: u16,
    pub(super) bcd_device: u16,
    pub(super) max_power_ma: u16,
    pub(super) remote_wakeup: bool,
    pub(super) product: String,
    pub(super) manufacturer: String,
    pub(super) serial: String,
    pub(super) interfaces: Vec<Interface>,
}

impl Face {
    fn new(mode: &UsbMode, product: String, chip: ChipId) -> Self {
        Self {
            side: if mode.speed == Speed::Super { Side::Usb3 } else { Side::Usb2 },
            vendor_id: mode.vendor_id,
            product_id: mode.product_id,
            bcd_usb: mode.bcd_usb,
            bcd_device: mode.bcd_device,
            max_power_ma: mode.max_power_ma,
            remote_wakeup: mode.remote_wakeup,
            product,
            manufacturer: mode.manufacturer.to_owned(),
            serial: if mode.has_serial { format!("{:08x}", chip.serial) } else { String::new() },
            interfaces: mode.interfaces(),
        }
    }

    /// Normal mode: DIAG, NMEA, AT, modem and QMI.
    pub(super) fn normal(model: &Model, chip: ChipId) -> Self {
        Self::new(&model.normal, model.normal.product.to_owned(), chip)
    }

    /// Emergency download mode. Some modules keep their normal id in it and name it otherwise (an EG25 was seen as
    /// `2c7c:0125 QHSUSB__BULK`), so a quarter of the USB 2 ones does here.
    pub(super) fn edl(model: &Model, chip: ChipId) -> Self {
        let face = Self::new(&model.edl, model.edl_product(chip.serial), chip);
        if model.normal.speed == Speed::Super || !chip.serial.is_multiple_of(4) {
            return face;
        }
        Self { product: "QHSUSB__BULK".to_owned(), ..Self::vendor_edl(model, chip) }
    }

    /// Download mode under the vendor's id: what an RM500Q shows (`2c7c:0800`, one interface, `QUSB_BULK_SN:…`).
    pub(super) fn vendor_edl(model: &Model, chip: ChipId) -> Self {
        Self {
            vendor_id: model.normal.vendor_id,
            product_id: model.normal.product_id,
            product: format!("QUSB_BULK_SN:{:08X}", chip.serial),
            ..Self::new(&model.edl, String::new(), chip)
        }
    }

    /// Normal mode before the host has configured it.
    pub(super) fn half(model: &Model, chip: ChipId) -> Self {
        Self { interfaces: Vec::new(), ..Self::normal(model, chip) }
    }

    /// Memory dump, after a crash.
    pub(super) fn dump(model: &Model, chip: ChipId) -> Self {
        Self::new(&model.dump, model.edl_product(chip.serial), chip)
    }

    /// The same at high speed.
    pub(super) fn at_high_speed(mut self) -> Self {
        self.side = Side::Usb2;
        if self.bcd_usb >= USB_3 {
            self.bcd_usb = USB_2_1;
        }
        self.max_power_ma = self.max_power_ma.min(POWER_HIGH_MA);
        for endpoint in self.interfaces.iter_mut().flat_map(|interface| &mut interface.endpoints) {
            if endpoint.kind == EndpointKind::Bulk {
                endpoint.packet_bytes = PACKET_HIGH;
            }
        }
        self
    }

    /// The same at full speed.
    pub(super) fn at_full_speed(self) -> Self {
        let mut face = self.at_high_speed();
        for endpoint in face.interfaces.iter_mut().flat_map(|interface| &mut interface.endpoints) {
            endpoint.packet_bytes = endpoint.packet_bytes.min(PACKET_FULL);
        }
        face
    }
}

#[cfg(test)]
mod tests {
    use super::super::models::MODELS;
    use super::*;
    use crate::domain::PortChain;
    use crate::hardware::{DeviceKey, DeviceMode, DeviceRecord};

    fn record(face: Face) -> DeviceRecord {
        let chain = PortChain::new("pci-0000:00:14.0", face.side, &[1, 2]).expect("a chain");
        DeviceRecord {
            key: DeviceKey { chain, session: 1 },
            vendor_id: face.vendor_id,
            product_id: face.product_id,
            bcd_device: face.bcd_device,
            speed: Speed::High,
            product: face.product,
            manufacturer: face.manufacturer,
            serial: face.serial,
            interfaces: face.interfaces,
        }
    }

    #[test]
    fn every_face_is_recognised_for_what_it_is() {
        for model in MODELS {
            for serial in 0..5 {
                let chip = model.chip_id(serial);
                let normal = record(Face::normal(model, chip));
                assert!(matches!(normal.mode(), DeviceMode::Normal(found) if found.name == model.family));
                let slow = Face::normal(model, chip).at_high_speed();
                assert!(slow.interfaces.iter().flat_map(|i| &i.endpoints).all(|end| end.packet_bytes <= 512));
                let slowest = Face::normal(model, chip).at_full_speed();
                assert!(slowest.interfaces.iter().flat_map(|i| &i.endpoints).all(|end| end.packet_bytes <= 64));
                assert!(matches!(record(Face::edl(model, chip)).mode(), DeviceMode::Edl { interface: EDL_INTERFACE }));
                assert!(matches!(record(Face::dump(model, chip)).mode(), DeviceMode::MemoryDump));
                assert!(matches!(record(Face::vendor_edl(model, chip)).mode(), DeviceMode::Edl { .. }));
                assert!(matches!(record(Face::half(model, chip)).mode(), DeviceMode::Unconfigured));
            }
        }
    }
}
