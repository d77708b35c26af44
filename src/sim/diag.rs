//! The DIAG port: it knows one command, the one into emergency download mode, and refuses the others.
//!
//! Frames are HDLC: payload, CRC-16/X-25 little-endian, `7E`; `7E` and `7D` inside are written as `7D` and the byte
//! with bit 5 flipped.

use std::iter;

/// "Reboot into download mode": subsystem 0x65, code 1.
const ENTER_EDL: [u8; 4] = [0x4b, 0x65, 0x01, 0x00];
const BAD_COMMAND: u8 = 0x13;
const FLAG: u8 = 0x7e;
const ESCAPE: u8 = 0x7d;
/// A frame that grows longer is forgotten.
const FRAME_BYTES_MAX: usize = 4096;

/// What a frame makes the module do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Answer with this frame.
    Reply(Vec<u8>),
    /// Answer with this frame, then reboot into download mode.
    EnterEdl(Vec<u8>),
}

/// The port's input.
#[derive(Debug, Default)]
pub(super) struct DiagPort {
    frame: Vec<u8>,
    escaped: bool,
}

impl DiagPort {
    /// The answer of a module that does not want to.
    pub(super) fn refusal() -> Vec<u8> {
        encode(&[&[BAD_COMMAND], ENTER_EDL.as_slice()].concat())
    }

    /// Takes bytes; the answers to the frames that they complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Answer> {
        let mut answers = Vec::new();
        for &byte in bytes {
            match byte {
                FLAG => {
                    let frame = std::mem::take(&mut self.frame);
                    self.escaped = false;
                    answers.extend(answer(&frame));
                }
                ESCAPE => self.escaped = true,
                _ if self.frame.len() < FRAME_BYTES_MAX => {
                    self.frame.push(if std::mem::take(&mut self.escaped) { byte ^ 0x20 } else { byte });
                }
                _ => self.frame.clear(),
            }
        }
        answers
    }
}

fn answer(frame: &[u8]) -> Option<Answer> {
    let (payload, sum) = frame.split_last_chunk::<2>()?;
    if crc(payload).to_le_bytes() != *sum || payload.is_empty() {
        // Real ports drop a broken frame; the host times out and sends it again.
        return None;
    }
    if payload == ENTER_EDL {
        return Some(Answer::EnterEdl(encode(payload)));
    }
    Some(Answer::Reply(encode(&[&[BAD_COMMAND], payload].concat())))
}

fn encode(payload: &[u8]) -> Vec<u8> {
    let sum = crc(payload).to_le_bytes();
    payload
        .iter()
        .chain(&sum)
        .flat_map(|&byte| match byte {
            FLAG | ESCAPE => vec![ESCAPE, byte ^ 0x20],
            _ => vec![byte],
        })
        .chain(iter::once(FLAG))
        .collect()
}

fn crc(bytes: &[u8]) -> u16 {
    let sum = bytes.iter().fold(0xffff_u16, |sum, &byte| {
        (0..8).fold(sum ^ u16::from(byte), |sum, _| if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0x8408 })
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_frame_enters_download_mode_in_any_split() {
        let frame = [0x4b, 0x65, 0x01, 0x00, 0x54, 0x0f, 0x7e];
        for split in 0..frame.len() {
            let mut port = DiagPort::default();
            let mut answers = port.take(&[0x7e]);
            answers.extend(port.take(&frame[..split]));
            answers.extend(port.take(&frame[split..]));
            assert_eq!(answers, vec![Answer::EnterEdl(frame.to_vec())]);
        }
    }

    #[test]
    fn other_frames_get_bad_command_and_broken_ones_nothing() {
        let mut port = DiagPort::default();
        let reply = port.take(&encode(&[0x7c]));
        assert_eq!(reply, vec![Answer::Reply(encode(&[0x13, 0x7c]))]);
        assert!(port.take(&[0x4b, 0x65, 0x01, 0x00, 0x54, 0x0e, 0x7e]).is_empty());
        assert!(encode(&[0x7e, 0x7d]).starts_with(&[0x7d, 0x5e, 0x7d, 0x5d]));
    }
}
