//! Frames of the DIAG port: HDLC. Payload, CRC-16/X-25 little-endian, `7E`; `7E` and `7D` inside are written as `7D`
//! and the byte with bit 5 flipped.

const FLAG: u8 = 0x7e;
const ESCAPE: u8 = 0x7d;
/// A frame that grows longer is forgotten.
const FRAME_BYTES_MAX: usize = 4096;

/// Finds the frames in what the host sends.
#[derive(Debug, Default)]
pub(super) struct Frames {
    frame: Vec<u8>,
    escaped: bool,
}

impl Frames {
    /// Takes bytes; the payloads of the frames that they complete. Real ports drop a broken frame; the host times out
    /// and sends it again.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        for &byte in bytes {
            match byte {
                FLAG => {
                    let frame = std::mem::take(&mut self.frame);
                    self.escaped = false;
                    payloads.extend(payload(&frame).map(<[u8]>::to_vec));
                }
                ESCAPE => self.escaped = true,
                _ if self.frame.len() < FRAME_BYTES_MAX => {
                    self.frame.push(if std::mem::take(&mut self.escaped) { byte ^ 0x20 } else { byte });
                }
                _ => self.frame.clear(),
            }
        }
        payloads
    }
}

fn payload(frame: &[u8]) -> Option<&[u8]> {
    let (payload, sum) = frame.split_last_chunk::<2>()?;
    (crc(payload).to_le_bytes() == *sum && !payload.is_empty()).then_some(payload)
}

pub(super) fn encode(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    for byte in payload.iter().copied().chain(crc(payload).to_le_bytes()) {
        if matches!(byte, FLAG | ESCAPE) {
            frame.extend([ESCAPE, byte ^ 0x20]);
        } else {
            frame.push(byte);
        }
    }
    frame.push(FLAG);
    frame
}

/// What each value of a byte does to the sum: the polynomial x^16 + x^12 + x^5 + 1, reflected.
const STEPS: [u16; 256] = {
    let mut steps = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut sum = byte;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0x8408 };
            bit += 1;
        }
        steps[byte as usize] = sum;
        byte += 1;
    }
    steps
};

fn crc(bytes: &[u8]) -> u16 {
    !bytes.iter().fold(0xffff_u16, |sum, byte| sum >> 8 ^ STEPS[usize::from(sum.to_le_bytes()[0] ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_frame_is_found_in_any_split() {
        let frame = [0x4b, 0x65, 0x01, 0x00, 0x54, 0x0f, 0x7e];
        for split in 0..frame.len() {
            let mut frames = Frames::default();
            let mut payloads = frames.take(&[0x7e]);
            payloads.extend(frames.take(&frame[..split]));
            payloads.extend(frames.take(&frame[split..]));
            assert_eq!(payloads, vec![frame[..4].to_vec()]);
        }
        assert_eq!(encode(&frame[..4]), frame);
        assert!(Frames::default().take(&[0x4b, 0x65, 0x01, 0x00, 0x54, 0x0e, 0x7e]).is_empty());
        assert!(encode(&[0x7e, 0x7d]).starts_with(&[0x7d, 0x5e, 0x7d, 0x5d]));
    }

    proptest::proptest! {
        #[test]
        fn frames_survive_any_split_and_noise_never_panics(
            payload in proptest::collection::vec(0_u8.., 1..40),
            noise in proptest::collection::vec(0_u8.., 0..200),
            split in 0_usize..80,
        ) {
            let frame = encode(&payload);
            let split = split.min(frame.len());
            let mut frames = Frames::default();
            frames.take(&noise);
            frames.take(&[FLAG]);
            let mut payloads = frames.take(&frame[..split]);
            payloads.extend(frames.take(&frame[split..]));
            proptest::prop_assert_eq!(payloads, vec![payload]);
        }
    }
}
