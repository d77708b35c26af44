//! The tap on a serial port: the values of EFS items are content on an AT port, nearly everything on a DIAG port.

use super::diag::DiagSide;
use super::{Kind, Span, push};
use crate::protocol::diag::FRAME_END;

/// How a line that holds the value of an item begins.
const ITEMS: [&[u8]; 2] = [b"+QNVFR:", b"+QNVR:"];
/// Bytes of a line that are kept to know it by.
const HEAD_BYTES: usize = 8;

/// Listens to what is said on a serial port. Which kind it is, the host's first frame tells: those of DIAG end with
/// `7E`, and no AT command does.
#[derive(Debug, Default)]
pub struct PortTap {
    diag: Option<[DiagSide; 2]>,
    head: Vec<u8>,
    /// Digits of the value so far, while a line holds one.
    digits: Option<u32>,
}

impl PortTap {
    /// A tap on a port that was just opened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts what is written. The spans together are as long as it.
    pub fn take_out(&mut self, bytes: &[u8]) -> Vec<Span> {
        if self.diag.is_none() && bytes.last() == Some(&FRAME_END) {
            self.diag = Some([DiagSide::default(), DiagSide::inward()]);
        }
        match &mut self.diag {
            Some([out, _]) => out.take(bytes),
            None => {
                let mut spans = Vec::new();
                push(&mut spans, bytes.len(), Kind::Talk);
                spans
            }
        }
    }

    /// Cuts what was read. The spans together are as long as it.
    pub fn take_in(&mut self, bytes: &[u8]) -> Vec<Span> {
        if let Some([_, side]) = &mut self.diag {
            return side.take(bytes);
        }
        let mut spans: Vec<Span> = Vec::new();
        for byte in bytes {
            let kind = self.kind(*byte);
            match (spans.last_mut(), kind) {
                (Some(Span { bytes, kind: Kind::Digits { .. } }), Kind::Digits { position }) if position > 0 => {
                    *bytes += 1;
                }
                _ => push(&mut spans, 1, kind),
            }
        }
        spans
    }

    fn kind(&mut self, byte: u8) -> Kind {
        if matches!(byte, b'\r' | b'\n') {
            self.head.clear();
            self.digits = None;
        } else if let Some(position) = self.digits {
            if byte.is_ascii_hexdigit() {
                self.digits = Some(position.saturating_add(1));
                return Kind::Digits { position };
            }
        } else if self.head.len() < HEAD_BYTES {
            self.head.push(byte.to_ascii_uppercase());
            if ITEMS.iter().any(|item| self.head == *item) {
                self.digits = Some(0);
            }
        }
        Kind::Talk
    }
}
