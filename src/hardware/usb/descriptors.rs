//! Device and configuration descriptors, as sysfs hands them out: the device's bytes, unchecked.
//!
//! What follows the device descriptor is every configuration with everything in it (USB 2.0, 9.5 and 9.6). The walk
//! goes by each descriptor's own length: `wTotalLength` and the counts may lie, and the kernel itself skips what is
//! behind a descriptor that is too short, as this does.

use crate::domain::limits;
use crate::hardware::{Endpoint, EndpointKind, Interface};

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const DEVICE_BYTES: usize = 18;

/// The fields of a device descriptor that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) vendor_id: u16,
    pub(super) product_id: u16,
    pub(super) bcd_device: u16,
    /// `bDeviceClass`.
    pub(super) class: u8,
}

/// The device descriptor at the front; `None` when it is none.
pub(super) fn device(bytes: &[u8]) -> Option<Device> {
    let head = bytes.get(..DEVICE_BYTES)?;
    let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let is_device = usize::from(head[0]) == DEVICE_BYTES && head[1] == DEVICE;
    is_device.then(|| Device { vendor_id: word(8), product_id: word(10), bcd_device: word(12), class: head[4] })
}

/// The interfaces of the configuration with that value, each in its first alternate setting. One more than
/// [`limits::USB_INTERFACES_MAX`] at the most: enough to see that there are too many.
pub(super) fn interfaces(bytes: &[u8], configuration: u8) -> Vec<Interface> {
    let mut found: Vec<Interface> = Vec::new();
    let (mut is_ours, mut is_first_setting) = (false, false);
    for descriptor in descriptors(bytes.get(DEVICE_BYTES..).unwrap_or_default()) {
        match *descriptor {
            [_, CONFIGURATION, _, _, _, value, ..] => {
                (is_ours, is_first_setting) = (value == configuration && found.is_empty(), false);
            }
            [_, INTERFACE, number, _, _, class, subclass, protocol, ..] if is_ours => {
                is_first_setting = found.iter().all(|interface| interface.number != number);
                if is_first_setting && found.len() <= limits::USB_INTERFACES_MAX {
                    found.push(Interface { number, class: (class, subclass, protocol), endpoints: Vec::new() });
                } else {
                    is_first_setting = false;
                }
            }
            [_, ENDPOINT, address, attributes, low, high, ..] if is_first_setting => {
                let Some(interface) = found.last_mut() else { continue };
                if interface.endpoints.len() < limits::USB_ENDPOINTS_MAX {
                    let kind = match attributes & 3 {
                        2 => EndpointKind::Bulk,
                        3 => EndpointKind::Interrupt,
                        _ => EndpointKind::Other,
                    };
                    // Bits 12 and 11 count further transactions of high-speed endpoints (USB 2.0, 9.6.6).
                    let packet_bytes = u16::from_le_bytes([low, high]) & 0x07ff;
                    interface.endpoints.push(Endpoint { address, kind, packet_bytes });
                }
            }
            _ => {}
        }
    }
    found
}

/// One descriptor after the other, up to the first whose length cannot be.
fn descriptors(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = usize::from(*rest.first()?);
        if length < 2 {
            return None;
        }
        let (descriptor, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(descriptor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An EC25-AU in download mode: the capture of a real one.
    const EDL: &[u8] = &[
        0x12, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00, 0x40, 0xc6, 0x05, 0x08, 0x90, 0x00, 0x00, 0x01, 0x02, 0x00,
        0x01, //
        0x09, 0x02, 0x20, 0x00, 0x01, 0x01, 0x00, 0x80, 0x01, //
        0x09, 0x04, 0x00, 0x00, 0x02, 0xff, 0xff, 0xff, 0x00, //
        0x07, 0x05, 0x81, 0x02, 0x00, 0x02, 0x00, //
        0x07, 0x05, 0x01, 0x02, 0x00, 0x02, 0x00,
    ];

    #[test]
    fn a_real_device_in_download_mode_is_read() {
        let head = device(EDL).expect("a device descriptor");
        assert_eq!((head.vendor_id, head.product_id, head.bcd_device, head.class), (0x05c6, 0x9008, 0, 0));
        let bulk = |address| Endpoint { address, kind: EndpointKind::Bulk, packet_bytes: 512 };
        let expected = Interface { number: 0, class: (0xff, 0xff, 0xff), endpoints: vec![bulk(0x81), bulk(0x01)] };
        assert_eq!(interfaces(EDL, 1), [expected]);
        assert!(interfaces(EDL, 2).is_empty(), "there is no such configuration");
    }

    #[test]
    fn lengths_that_lie_end_the_walk_and_nothing_else() {
        let mut lying = EDL.to_vec();
        lying[20] = 0xff;
        lying[21] = 0xff;
        assert_eq!(interfaces(&lying, 1), interfaces(EDL, 1), "wTotalLength is not believed");
        let mut empty = EDL.to_vec();
        empty[36] = 0;
        assert_eq!(interfaces(&empty, 1)[0].endpoints, [], "bLength 0 ends it");
        let mut long = EDL.to_vec();
        long[43] = 0xff;
        assert_eq!(interfaces(&long, 1)[0].endpoints.len(), 1, "what reaches beyond the end is not there");
        assert_eq!(device(&EDL[..17]), None);
    }

    #[test]
    fn the_count_of_interfaces_and_endpoints_is_bounded() {
        let mut bytes = EDL[..27].to_vec();
        for number in 0..=255 {
            bytes.extend([9, INTERFACE, number, 0, 255, 0xff, 0, 0, 0]);
            (0..200).for_each(|_| bytes.extend([7, ENDPOINT, 0x81, 2, 0, 2, 0]));
        }
        let found = interfaces(&bytes, 1);
        assert_eq!(found.len(), limits::USB_INTERFACES_MAX + 1);
        assert!(found.iter().all(|interface| interface.endpoints.len() == limits::USB_ENDPOINTS_MAX));
    }

    #[test]
    fn the_first_setting_of_the_active_configuration_counts() {
        let mut bytes = EDL[..27].to_vec();
        bytes.extend([9, INTERFACE, 0, 0, 1, 2, 0, 0, 0, 7, ENDPOINT, 0x83, 3, 8, 0, 9]);
        bytes.extend([9, INTERFACE, 0, 1, 1, 2, 0, 0, 0, 7, ENDPOINT, 0x84, 2, 0, 2, 0]);
        bytes.extend([9, CONFIGURATION, 0, 0, 1, 2, 0, 0x80, 1, 9, INTERFACE, 7, 0, 0, 3, 0, 0, 0]);
        let [interface] = &interfaces(&bytes, 1)[..] else { panic!("one interface") };
        let endpoint = Endpoint { address: 0x83, kind: EndpointKind::Interrupt, packet_bytes: 8 };
        assert_eq!((interface.number, &interface.endpoints[..]), (0, &[endpoint][..]));
        assert_eq!(interfaces(&bytes, 2)[0].number, 7);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(0_u8.., 0..400), configuration in 0_u8..) {
            let _any = device(&bytes);
            let found = interfaces(&bytes, configuration);
            proptest::prop_assert!(found.len() <= limits::USB_INTERFACES_MAX + 1);
        }
    }
}
