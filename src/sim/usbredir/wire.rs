//! The packets of the USB redirection protocol, version 0.7, as `usb-redir` of QEMU speaks it
//! (docs/usb-redirection-protocol.md of spice/usbredir). Numbers are little-endian.

/// What both sides must be able to do here: QEMU's xHCI insists on the first two.
pub(super) const CAPABILITIES: u32 =
    CAP_CONNECT_VERSION | CAP_DISCONNECT_ACK | CAP_EP_PACKET | CAP_IDS_64 | CAP_LENGTH_32;
const CAP_CONNECT_VERSION: u32 = 1 << 1;
const CAP_DISCONNECT_ACK: u32 = 1 << 3;
const CAP_EP_PACKET: u32 = 1 << 4;
const CAP_IDS_64: u32 = 1 << 5;
const CAP_LENGTH_32: u32 = 1 << 6;

pub(super) const HELLO: u32 = 0;
pub(super) const DEVICE_CONNECT: u32 = 1;
pub(super) const DEVICE_DISCONNECT: u32 = 2;
pub(super) const RESET: u32 = 3;
pub(super) const INTERFACE_INFO: u32 = 4;
pub(super) const EP_INFO: u32 = 5;
pub(super) const SET_CONFIGURATION: u32 = 6;
pub(super) const GET_CONFIGURATION: u32 = 7;
pub(super) const CONFIGURATION_STATUS: u32 = 8;
pub(super) const SET_ALT_SETTING: u32 = 9;
pub(super) const GET_ALT_SETTING: u32 = 10;
pub(super) const ALT_SETTING_STATUS: u32 = 11;
pub(super) const START_INTERRUPT: u32 = 15;
pub(super) const STOP_INTERRUPT: u32 = 16;
pub(super) const INTERRUPT_STATUS: u32 = 17;
pub(super) const CANCEL: u32 = 21;
pub(super) const FILTER_REJECT: u32 = 22;
pub(super) const FILTER_FILTER: u32 = 23;
pub(super) const DISCONNECT_ACK: u32 = 24;
pub(super) const CONTROL: u32 = 100;
pub(super) const BULK: u32 = 101;
pub(super) const INTERRUPT: u32 = 103;

pub(super) const SUCCESS: u8 = 0;
pub(super) const CANCELLED: u8 = 1;
pub(super) const INVALID: u8 = 2;
pub(super) const IO_ERROR: u8 = 3;
pub(super) const STALL: u8 = 4;
pub(super) const BABBLE: u8 = 6;

/// Bytes of a header before the ids are 64 bits wide, and after.
pub(super) const HEADER_FIRST_BYTES: usize = 12;
pub(super) const HEADER_BYTES: usize = 16;
/// A version text and one word of capabilities.
const VERSION_BYTES: usize = 64;
/// Longest packet that is taken: a bulk packet with the longest transfer.
pub(super) const BULK_HEADER_BYTES: usize = 10;
pub(super) const CONTROL_HEADER_BYTES: usize = 10;

/// What a peer sent that no peer may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the peer broke the protocol: {0}")]
pub(super) struct Broken(pub(super) &'static str);

/// Reads numbers from the front of a packet.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Broken("a packet is too short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Broken> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Broken> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Broken> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Broken> {
        self.take().map(u64::from_le_bytes)
    }
}

/// The greeting, header included: ids have 32 bits until both sides have said what they can.
pub(super) fn hello(version: &str) -> Vec<u8> {
    let mut text = version.as_bytes().to_vec();
    text.resize(VERSION_BYTES, 0);
    let mut bytes = Vec::new();
    bytes.extend(HELLO.to_le_bytes());
    bytes.extend(u32::try_from(VERSION_BYTES + 4).unwrap_or(0).to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(text);
    bytes.extend(CAPABILITIES.to_le_bytes());
    bytes
}

/// Checks a greeting: the peer must be able to do all that is used here.
pub(super) fn check_hello(body: &[u8]) -> Result<(), Broken> {
    let mut reader = Reader(body.get(VERSION_BYTES..).unwrap_or_default());
    let peer = reader.u32().map_err(|_| Broken("a greeting without capabilities"))?;
    if peer & CAPABILITIES == CAPABILITIES { Ok(()) } else { Err(Broken("it lacks capabilities needed here")) }
}

/// A packet with its header.
pub(super) fn packet(kind: u32, id: u64, body: &[&[u8]]) -> Vec<u8> {
    let length: usize = body.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + length);
    bytes.extend(kind.to_le_bytes());
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(id.to_le_bytes());
    body.iter().for_each(|part| bytes.extend(*part));
    bytes
}

/// Where an endpoint stands in tables: IN endpoints come after OUT endpoints.
pub(super) fn endpoint_index(address: u8) -> usize {
    usize::from((address & 0x80) >> 3 | address & 0x0f)
}

/// A transfer's length in the two halves in which bulk packets carry it.
pub(super) fn halves(length: usize) -> ([u8; 2], [u8; 2]) {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    ([a, b], [c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_has_the_form_that_others_read() {
        let bytes = hello("stationmaster");
        assert_eq!(bytes.len(), 12 + 68);
        assert_eq!(bytes[..12], [0, 0, 0, 0, 68, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(check_hello(&bytes[12..]), Ok(()));
        let mut poor = bytes[12..].to_vec();
        poor[64] &= !0x20;
        assert!(check_hello(&poor).is_err());
        assert!(check_hello(&poor[..60]).is_err());
    }

    #[test]
    fn endpoints_and_lengths_are_split_as_the_protocol_says() {
        assert_eq!([0x00, 0x01, 0x0f, 0x80, 0x81, 0x8f].map(endpoint_index), [0, 1, 15, 16, 17, 31]);
        assert_eq!(halves(0x12345), ([0x45, 0x23], [0x01, 0x00]));
        let bytes = packet(BULK, 7, &[&[1, 2], &[3]]);
        assert_eq!(bytes, [101, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
    }
}
