//! DIAG framing: HDLC.
//!
//! A frame is the payload and its CRC-16/X-25 (little-endian), with `7E` and `7D` escaped as `7D, byte ^ 20`, and `7E`
//! at its end. A `7E` in front is allowed and gives an empty frame, which means nothing. The port also carries frames
//! nobody asked for, so a damaged frame is reported and the next one is read as if nothing had happened.

use std::collections::VecDeque;

use crc::{CRC_16_IBM_SDLC, Crc};

use crate::domain::{FailureCode, limits};

/// What ends a frame. In front of one it ends whatever was left unfinished.
pub const FRAME_END: u8 = 0x7e;
const FLAG: u8 = FRAME_END;
const ESCAPE: u8 = 0x7d;
const FLIP: u8 = 0x20;
const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_SDLC);

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiagError {
    /// The checksum is wrong.
    #[error("a DIAG frame has the checksum {found:04x}, it should be {expected:04x}")]
    Checksum {
        /// Computed over the payload.
        expected: u16,
        /// Sent by the module.
        found: u16,
    },
    /// It ends in the middle of an escape.
    #[error("a DIAG frame ends inside an escape")]
    Escape,
    /// It cannot even hold a checksum and a command.
    #[error("a DIAG frame has {0} bytes only")]
    TooShort(usize),
    /// It does not end.
    #[error("a DIAG frame is longer than {} bytes", limits::DIAG_FRAME_BYTES_MAX)]
    TooLong,
}

impl DiagError {
    /// What the operator sees when no good frame comes instead.
    #[must_use]
    pub const fn code(&self) -> FailureCode {
        FailureCode::EdlNotEntered
    }
}

/// The frame for `payload`, ready to be written: checksum, escapes and the closing `7E`.
#[must_use]
pub fn encode(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 4);
    for byte in payload.iter().copied().chain(CRC.checksum(payload).to_le_bytes()) {
        if byte == FLAG || byte == ESCAPE {
            frame.extend([ESCAPE, byte ^ FLIP]);
        } else {
            frame.push(byte);
        }
    }
    frame.push(FLAG);
    frame
}

/// Cuts a byte stream into frames. An iterator: `None` means that more bytes are needed, not that it is over.
#[derive(Debug, Default)]
pub struct Deframer {
    frame: Vec<u8>,
    escaped: bool,
    too_long: bool,
    ready: VecDeque<Result<Vec<u8>, DiagError>>,
}

impl Deframer {
    /// A deframer at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match *byte {
                FLAG => self.close(),
                _ if self.too_long => {}
                ESCAPE if !self.escaped => self.escaped = true,
                byte => {
                    let flip = if std::mem::take(&mut self.escaped) { FLIP } else { 0 };
                    self.frame.push(byte ^ flip);
                    self.too_long = self.frame.len() > limits::DIAG_FRAME_BYTES_MAX + 2;
                }
            }
        }
    }

    fn close(&mut self) {
        let frame = std::mem::take(&mut self.frame);
        let escaped = std::mem::take(&mut self.escaped);
        if std::mem::take(&mut self.too_long) {
            self.ready.push_back(Err(DiagError::TooLong));
        } else if escaped {
            self.ready.push_back(Err(DiagError::Escape));
        } else if !frame.is_empty() {
            self.ready.push_back(check(frame));
        }
    }
}

fn check(mut frame: Vec<u8>) -> Result<Vec<u8>, DiagError> {
    let Some((payload, checksum)) = frame.split_last_chunk::<2>().filter(|(payload, _)| !payload.is_empty()) else {
        return Err(DiagError::TooShort(frame.len()));
    };
    let (expected, found) = (CRC.checksum(payload), u16::from_le_bytes(*checksum));
    if expected != found {
        return Err(DiagError::Checksum { expected, found });
    }
    frame.truncate(frame.len() - 2);
    Ok(frame)
}

impl Iterator for Deframer {
    type Item = Result<Vec<u8>, DiagError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ENTER_EDL, is_edl_echo};
    use super::*;

    /// As it goes over the wire of a real module, both ways.
    const ENTER_EDL_FRAME: [u8; 7] = [0x4b, 0x65, 0x01, 0x00, 0x54, 0x0f, 0x7e];

    fn frames(pieces: &[&[u8]]) -> Vec<Result<Vec<u8>, DiagError>> {
        let mut deframer = Deframer::new();
        let mut found = Vec::new();
        for piece in pieces {
            deframer.feed(piece);
            found.extend(deframer.by_ref());
        }
        found
    }

    #[test]
    fn the_mode_switch_is_the_frame_that_real_modules_take() {
        assert_eq!(encode(&ENTER_EDL), ENTER_EDL_FRAME);
        let echo = frames(&[&[0x7e], &ENTER_EDL_FRAME]);
        assert_eq!(echo, [Ok(ENTER_EDL.to_vec())]);
        assert!(is_edl_echo(&ENTER_EDL));
        assert!(!is_edl_echo(&[0x13, 0x4b, 0x65, 0x01, 0x00]), "a refusal is no echo");
    }

    #[test]
    fn a_damaged_frame_does_not_hide_the_next_one() {
        let mut bad = ENTER_EDL_FRAME;
        bad[0] ^= 1;
        let found = frames(&[&bad, &[0x7d, 0x7e], &[1, 2, 0x7e], &ENTER_EDL_FRAME]);
        assert!(matches!(found[0], Err(DiagError::Checksum { found: 0x0f54, .. })), "{:?}", found[0]);
        assert_eq!(&found[1..], [Err(DiagError::Escape), Err(DiagError::TooShort(2)), Ok(ENTER_EDL.to_vec())]);
    }

    #[test]
    fn a_frame_without_end_takes_no_memory() {
        let mut deframer = Deframer::new();
        for _ in 0..1000 {
            deframer.feed(&[0x55; 1000]);
        }
        assert!(deframer.frame.len() <= limits::DIAG_FRAME_BYTES_MAX + 3);
        deframer.feed(&[FLAG]);
        deframer.feed(&ENTER_EDL_FRAME);
        assert_eq!(deframer.collect::<Vec<_>>(), [Err(DiagError::TooLong), Ok(ENTER_EDL.to_vec())]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(payload in prop::collection::vec(any::<u8>(), 1..300)) {
            prop_assert_eq!(frames(&[&encode(&payload)]), [Ok(payload)]);
        }

        #[test]
        fn any_split_gives_the_same_frames(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(FLAG), Just(ESCAPE)], 0..400),
            cut in 1..64_usize,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(frames(&pieces), frames(&[&bytes]));
        }
    }
}
