//! Descriptors as bytes: USB 2.0 chapter 9.6, USB 3.2 chapter 9.6.
//!
//! The values of download mode equal a capture of a real EC25 (device and configuration descriptor, 50 bytes); those
//! of normal mode are built in the same way from the model's ids and interfaces.

use super::super::descriptors::Face;
use crate::hardware::{Endpoint, EndpointKind, Speed};

pub(super) const TYPE_DEVICE: u8 = 1;
pub(super) const TYPE_CONFIGURATION: u8 = 2;
pub(super) const TYPE_STRING: u8 = 3;
const TYPE_INTERFACE: u8 = 4;
const TYPE_ENDPOINT: u8 = 5;
pub(super) const TYPE_QUALIFIER: u8 = 6;
pub(super) const TYPE_OTHER_SPEED: u8 = 7;
pub(super) const TYPE_BOS: u8 = 15;
const TYPE_CAPABILITY: u8 = 16;
const TYPE_COMPANION: u8 = 48;

/// The one configuration's value.
pub(in crate::sim) const CONFIGURATION: u8 = 1;
const INDEX_MANUFACTURER: u8 = 1;
const INDEX_PRODUCT: u8 = 2;
const INDEX_SERIAL: u8 = 3;
/// English (United States).
const LANGUAGE: [u8; 4] = [4, TYPE_STRING, 0x09, 0x04];
/// Longest string, in UTF-16 units: the length is one byte.
const STRING_UNITS_MAX: usize = 126;
/// `wMaxPacketSize` of bulk endpoints at full speed.
const PACKET_FULL: u16 = 64;
/// 32 ms as a power of two of microframes.
const INTERVAL_HIGH: u8 = 9;
/// 32 ms in frames.
const INTERVAL_FULL: u8 = 32;
/// From this version on there is a BOS descriptor.
const BCD_WITH_BOS: u16 = 0x0201;

/// The device descriptor.
pub(super) fn device(face: &Face, speed: Speed) -> Vec<u8> {
    // A SuperSpeed device gives the exponent.
    let packet_zero = if speed == Speed::Super { 9 } else { 64 };
    let mut bytes = vec![18, TYPE_DEVICE];
    bytes.extend(face.bcd_usb.to_le_bytes());
    bytes.extend([0, 0, 0, packet_zero]);
    bytes.extend(face.vendor_id.to_le_bytes());
    bytes.extend(face.product_id.to_le_bytes());
    bytes.extend(face.bcd_device.to_le_bytes());
    let serial = if face.serial.is_empty() { 0 } else { INDEX_SERIAL };
    bytes.extend([INDEX_MANUFACTURER, INDEX_PRODUCT, serial, 1]);
    bytes
}

/// The configuration descriptor with all that belongs to it.
pub(super) fn configuration(face: &Face, speed: Speed) -> Vec<u8> {
    full_configuration(face, speed, TYPE_CONFIGURATION)
}

/// What the configuration would be at the other of the two USB 2 speeds; only a device at high speed has it.
pub(super) fn other_speed(face: &Face, speed: Speed) -> Option<Vec<u8>> {
    (speed == Speed::High).then(|| full_configuration(face, Speed::Full, TYPE_OTHER_SPEED))
}

fn full_configuration(face: &Face, speed: Speed, kind: u8) -> Vec<u8> {
    let mut body = Vec::new();
    for interface in &face.interfaces {
        let (class, subclass, protocol) = interface.class;
        let count = u8::try_from(interface.endpoints.len()).unwrap_or(u8::MAX);
        body.extend([9, TYPE_INTERFACE, interface.number, 0, count, class, subclass, protocol, 0]);
        interface.endpoints.iter().for_each(|end| body.extend(endpoint(end, speed)));
    }
    let total = u16::try_from(9 + body.len()).unwrap_or(u16::MAX);
    let interfaces = u8::try_from(face.interfaces.len()).unwrap_or(u8::MAX);
    let attributes = 0x80 | u8::from(face.remote_wakeup) << 5;
    let unit_ma = if speed == Speed::Super { 8 } else { 2 };
    let power = u8::try_from(face.max_power_ma / unit_ma).unwrap_or(u8::MAX);
    let mut bytes = vec![9, kind];
    bytes.extend(total.to_le_bytes());
    bytes.extend([interfaces, CONFIGURATION, 0, attributes, power]);
    bytes.extend(body);
    bytes
}

fn endpoint(end: &Endpoint, speed: Speed) -> Vec<u8> {
    let (attributes, interval) = match (end.kind, speed) {
        (EndpointKind::Bulk, _) => (2, 0),
        (EndpointKind::Interrupt, Speed::Full) => (3, INTERVAL_FULL),
        (EndpointKind::Interrupt, _) => (3, INTERVAL_HIGH),
        (EndpointKind::Other, _) => (0, 0),
    };
    let packet = if speed == Speed::Full { end.packet_bytes.min(PACKET_FULL) } else { end.packet_bytes };
    let mut bytes = vec![7, TYPE_ENDPOINT, end.address, attributes];
    bytes.extend(packet.to_le_bytes());
    bytes.push(interval);
    if speed == Speed::Super {
        let per_interval = if end.kind == EndpointKind::Interrupt { packet } else { 0 };
        bytes.extend([6, TYPE_COMPANION, 0, 0]);
        bytes.extend(per_interval.to_le_bytes());
    }
    bytes
}

/// The device qualifier; only a device at high speed has it.
pub(super) fn qualifier(face: &Face, speed: Speed) -> Option<Vec<u8>> {
    if speed != Speed::High {
        return None;
    }
    let mut bytes = vec![10, TYPE_QUALIFIER];
    bytes.extend(face.bcd_usb.to_le_bytes());
    bytes.extend([0, 0, 0, 64, 1, 0]);
    Some(bytes)
}

/// The binary object store: link power management, and that the device can do SuperSpeed.
pub(super) fn bos(face: &Face) -> Option<Vec<u8>> {
    const EXTENSION: [u8; 7] = [7, TYPE_CAPABILITY, 2, 0x02, 0, 0, 0];
    const SUPER_SPEED: [u8; 10] = [10, TYPE_CAPABILITY, 3, 0, 0x0e, 0, 1, 10, 0xff, 0x07];
    (face.bcd_usb >= BCD_WITH_BOS).then(|| [&[5, TYPE_BOS, 22, 0, 2], &EXTENSION[..], &SUPER_SPEED].concat())
}

/// A string descriptor.
pub(super) fn string(face: &Face, index: u8) -> Option<Vec<u8>> {
    let text = match index {
        0 => return Some(LANGUAGE.to_vec()),
        INDEX_MANUFACTURER => &face.manufacturer,
        INDEX_PRODUCT => &face.product,
        INDEX_SERIAL if !face.serial.is_empty() => &face.serial,
        _ => return None,
    };
    let units: Vec<u16> = text.encode_utf16().take(STRING_UNITS_MAX).collect();
    let length = u8::try_from(2 + 2 * units.len()).ok()?;
    let mut bytes = vec![length, TYPE_STRING];
    units.iter().for_each(|unit| bytes.extend(unit.to_le_bytes()));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::super::models::{MODELS, Model};
    use super::*;

    fn model(name: &str) -> &'static Model {
        Model::by_name(name).expect("a model")
    }

    #[test]
    fn download_mode_of_an_ec25_equals_the_capture_of_a_real_one() {
        let face = Face::edl(model("EC25"), model("EC25").chip_id(0x49cb_d7ef));
        let device = [0x12, 1, 0, 2, 0, 0, 0, 0x40, 0xc6, 5, 8, 0x90, 0, 0, 1, 2, 0, 1];
        assert_eq!(super::device(&face, Speed::High), device);
        let configuration = [
            9, 2, 0x20, 0, 1, 1, 0, 0x80, 1, 9, 4, 0, 0, 2, 0xff, 0xff, 0xff, 0, 7, 5, 0x81, 2, 0, 2, 0, 7, 5, 1, 2, 0,
            2, 0,
        ];
        assert_eq!(super::configuration(&face, Speed::High), configuration);
        let product = string(&face, 2).expect("a product");
        let units: Vec<u16> = product[2..].chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        assert_eq!(String::from_utf16(&units).expect("text"), "QUSB_BULK_CID:040E_SN:49CBD7EF");
        assert_eq!((string(&face, 3), bos(&face)), (None, None), "no serial, no BOS");
    }

    #[test]
    fn lengths_and_units_are_right_at_every_speed() {
        for model in MODELS {
            let chip = model.chip_id(3);
            let normal = Face::normal(model, chip);
            let faces = [Face::edl(model, chip), Face::dump(model, chip), normal.clone(), normal.at_high_speed()];
            for face in faces {
                let top = if face.interfaces[0].endpoints[0].packet_bytes == 1024 { Speed::Super } else { Speed::High };
                let slow = if top == Speed::Super { None } else { Some(Speed::Full) };
                for speed in std::iter::once(top).chain(slow) {
                    let bytes = configuration(&face, speed);
                    assert_eq!(usize::from(u16::from_le_bytes([bytes[2], bytes[3]])), bytes.len());
                    let unit = if speed == Speed::Super { 8 } else { 2 };
                    assert_eq!(u16::from(bytes[8]) * unit, face.max_power_ma);
                    let mut at = 0;
                    let (mut endpoints, mut companions) = (0, 0);
                    while at < bytes.len() {
                        endpoints += usize::from(bytes[at + 1] == TYPE_ENDPOINT);
                        companions += usize::from(bytes[at + 1] == TYPE_COMPANION);
                        at += usize::from(bytes[at]);
                    }
                    assert_eq!(at, bytes.len());
                    assert_eq!(
                        endpoints,
                        face.interfaces.iter().map(|interface| interface.endpoints.len()).sum::<usize>()
                    );
                    assert_eq!(companions, if speed == Speed::Super { endpoints } else { 0 });
                }
                if let Some(bos) = bos(&face) {
                    assert_eq!(usize::from(bos[2]), bos.len());
                }
            }
        }
        let super_speed = Face::normal(model("RM520N-GL"), model("RM520N-GL").chip_id(1));
        let device = super::device(&super_speed, Speed::Super);
        assert_eq!((device[3], device[7], configuration(&super_speed, Speed::Super)[8]), (3, 9, 112));
        let slow = super_speed.at_high_speed();
        assert_eq!((super::device(&slow, Speed::High)[2..4].to_vec(), bos(&slow).is_some()), (vec![0x10, 2], true));
        assert_eq!(configuration(&slow, Speed::High)[8], 250);
    }
}
