//! Sahara packets: `u32 command, u32 length` (the length counts these eight bytes), then the body; all little-endian.
//!
//! Only what the host sends is encoded and only what a device sends is decoded. A packet whose length is not the one
//! its command has is refused as a whole: the stream has no checksum, so a wrong length is the only sign of lost framing.

use super::SaharaError;
use crate::domain::limits;

/// Bytes of a packet's command and length.
const HEADER_BYTES: usize = 8;
/// Version of the protocol that this host speaks, and the oldest one it understands.
pub(super) const HOST_VERSION: u32 = 2;
const HOST_COMPATIBLE: u32 = 1;

/// What a HELLO_RESP or a SWITCH_MODE asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// The device reads an image.
    ImageTransfer,
    /// The device answers questions about itself.
    Command,
}

impl Mode {
    const fn number(self) -> u32 {
        match self {
            Self::ImageTransfer => 0,
            Self::Command => 3,
        }
    }
}

/// The mode in a HELLO that means a memory dump.
pub(super) const MODE_MEMORY_DEBUG: u32 = 2;

/// A packet from the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packet {
    Hello {
        version: u32,
        compatible: u32,
        mode: u32,
    },
    /// READ_DATA and READ_DATA64.
    ReadData {
        image: u64,
        offset: u64,
        length: u64,
    },
    EndOfImage {
        image: u32,
        status: u32,
    },
    DoneResponse {
        status: u32,
    },
    ResetResponse,
    /// MEM_DEBUG and MEM_DEBUG64.
    MemoryDebug,
    CommandReady,
    ExecuteResponse {
        command: u32,
        bytes: u32,
    },
}

impl Packet {
    /// Name for error messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hello { .. } => "HELLO",
            Self::ReadData { .. } => "READ_DATA",
            Self::EndOfImage { .. } => "END_OF_IMAGE",
            Self::DoneResponse { .. } => "DONE_RESP",
            Self::ResetResponse => "RESET_RESP",
            Self::MemoryDebug => "MEM_DEBUG",
            Self::CommandReady => "CMD_READY",
            Self::ExecuteResponse { .. } => "EXECUTE_RESP",
        }
    }

    /// The first packet of `bytes` and its length in bytes; `None` while it is not complete.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, SaharaError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let (command, length) = (word(header, 0), word(header, 1));
        let (name, expected) = match command {
            0x01 => ("HELLO", 0x30),
            0x03 => ("READ_DATA", 0x14),
            0x04 => ("END_OF_IMAGE", 0x10),
            0x06 => ("DONE_RESP", 0x0c),
            0x08 => ("RESET_RESP", 0x08),
            0x09 => ("MEM_DEBUG", 0x10),
            0x0b => ("CMD_READY", 0x08),
            0x0e => ("EXECUTE_RESP", 0x10),
            0x10 => ("MEM_DEBUG64", 0x18),
            0x12 => ("READ_DATA64", 0x20),
            _ => return Err(SaharaError::UnknownPacket { command, length }),
        };
        if length != expected {
            return Err(SaharaError::PacketLength { name, length, expected });
        }
        let length = usize::try_from(length).unwrap_or(limits::SAHARA_PACKET_BYTES_MAX);
        let Some(packet) = bytes.get(..length) else { return Ok(None) };
        let body = &packet[HEADER_BYTES..];
        let decoded = match command {
            0x01 => Self::Hello { version: word(body, 0), compatible: word(body, 1), mode: word(body, 3) },
            0x03 => Self::ReadData {
                image: u64::from(word(body, 0)),
                offset: u64::from(word(body, 1)),
                length: u64::from(word(body, 2)),
            },
            0x04 => Self::EndOfImage { image: word(body, 0), status: word(body, 1) },
            0x06 => Self::DoneResponse { status: word(body, 0) },
            0x08 => Self::ResetResponse,
            0x0b => Self::CommandReady,
            0x0e => Self::ExecuteResponse { command: word(body, 0), bytes: word(body, 1) },
            0x12 => Self::ReadData { image: long(body, 0), offset: long(body, 1), length: long(body, 2) },
            _ => Self::MemoryDebug,
        };
        Ok(Some((decoded, length)))
    }
}

/// The `index`th 32-bit word; 0 where the bytes end, which the length check before has ruled out.
fn word(bytes: &[u8], index: usize) -> u32 {
    bytes.get(index * 4..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word))
}

/// The `index`th 64-bit word.
fn long(bytes: &[u8], index: usize) -> u64 {
    u64::from(word(bytes, index * 2)) | u64::from(word(bytes, index * 2 + 1)) << 32
}

fn packet(command: u32, body: &[u32]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len() * 4).expect("a control packet is a few words long");
    [command, length].iter().chain(body).flat_map(|word| word.to_le_bytes()).collect()
}

/// HELLO_RESP. Reserved words are zero.
pub(super) fn hello_response(version: u32, mode: Mode) -> Vec<u8> {
    packet(0x02, &[version, HOST_COMPATIBLE, 0, mode.number(), 0, 0, 0, 0, 0, 0])
}

/// DONE.
pub(super) fn done() -> Vec<u8> {
    packet(0x05, &[])
}

/// RESET.
pub(super) fn reset() -> Vec<u8> {
    packet(0x07, &[])
}

/// SWITCH_MODE.
pub(super) fn switch_mode(mode: Mode) -> Vec<u8> {
    packet(0x0c, &[mode.number()])
}

/// EXECUTE: asks how long the answer to a client command is.
pub(super) fn execute(command: u32) -> Vec<u8> {
    packet(0x0d, &[command])
}

/// EXECUTE_DATA: asks for the answer itself.
pub(super) fn execute_data(command: u32) -> Vec<u8> {
    packet(0x0f, &[command])
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Packets as a device sends them, written down here a second time so that the decoder cannot agree with itself.
    pub(in crate::protocol::sahara) mod device {
        fn words(words: &[u32]) -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        }
        pub(in crate::protocol::sahara) fn hello(version: u32, compatible: u32, mode: u32) -> Vec<u8> {
            words(&[1, 0x30, version, compatible, 0x400, mode, 0, 0, 0, 0, 0, 0])
        }
        pub(in crate::protocol::sahara) fn read(image: u32, offset: u32, length: u32) -> Vec<u8> {
            words(&[3, 0x14, image, offset, length])
        }
        pub(in crate::protocol::sahara) fn read64(image: u64, offset: u64, length: u64) -> Vec<u8> {
            let longs = [image, offset, length];
            [words(&[0x12, 0x20]), longs.iter().flat_map(|long| long.to_le_bytes()).collect()].concat()
        }
        pub(in crate::protocol::sahara) fn end(image: u32, status: u32) -> Vec<u8> {
            words(&[4, 0x10, image, status])
        }
        pub(in crate::protocol::sahara) fn done(status: u32) -> Vec<u8> {
            words(&[6, 0x0c, status])
        }
        pub(in crate::protocol::sahara) fn reset() -> Vec<u8> {
            words(&[8, 8])
        }
        pub(in crate::protocol::sahara) fn ready() -> Vec<u8> {
            words(&[0x0b, 8])
        }
        pub(in crate::protocol::sahara) fn answer(command: u32, bytes: u32) -> Vec<u8> {
            words(&[0x0e, 0x10, command, bytes])
        }
    }

    #[test]
    fn golden_bytes_of_both_directions() {
        // HELLO of a real module: version 2, compatible 1, command length 0x400, mode 0.
        let hello = [
            1, 0, 0, 0, 0x30, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, //
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let decoded = Packet::Hello { version: 2, compatible: 1, mode: 0 };
        assert_eq!(Packet::decode(&hello), Ok(Some((decoded, 48))));
        assert_eq!(hello.to_vec(), device::hello(2, 1, 0));
        let response = hello_response(2, Mode::Command);
        assert_eq!(
            response[..28],
            [2, 0, 0, 0, 0x30, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(response.len(), 48);
        assert_eq!(execute(3), [0x0d, 0, 0, 0, 0x0c, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(execute_data(3), [0x0f, 0, 0, 0, 0x0c, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(switch_mode(Mode::ImageTransfer), [0x0c, 0, 0, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(done(), [5, 0, 0, 0, 8, 0, 0, 0]);
        assert_eq!(reset(), [7, 0, 0, 0, 8, 0, 0, 0]);
    }

    #[test]
    fn a_length_that_a_command_does_not_have_is_refused() {
        let mut short = device::read(13, 0, 52);
        short[4] = 0x10;
        let error = Packet::decode(&short).expect_err("0x10 is not the length of a READ_DATA");
        assert_eq!(error.to_string(), "READ_DATA says it has 16 bytes, it should have 20");
        assert!(Packet::decode(&[0x55, 0, 0, 0, 8, 0, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn reads_round_trip_in_both_widths(image: u32, offset: u32, length: u32, long: (u64, u64, u64)) {
            let narrow = Packet::ReadData { image: image.into(), offset: offset.into(), length: length.into() };
            prop_assert_eq!(Packet::decode(&device::read(image, offset, length)), Ok(Some((narrow, 20))));
            let wide = Packet::ReadData { image: long.0, offset: long.1, length: long.2 };
            prop_assert_eq!(Packet::decode(&device::read64(long.0, long.1, long.2)), Ok(Some((wide, 32))));
        }

        #[test]
        fn an_incomplete_packet_is_waited_for(cut in 0..16_usize) {
            prop_assert_eq!(Packet::decode(&device::answer(3, 96)[..cut]), Ok(None));
        }
    }
}
