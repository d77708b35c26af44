//! One direction of a DIAG port: commands and their numbers are talk, what they carry is content.

use super::{Kind, Span, push};
use crate::protocol::diag::{FRAME_END, Refusal};

const ESCAPE: u8 = 0x7d;
/// The echo with which a module leaves for download mode, on the wire and without its end.
const EDL_ECHO: [u8; 6] = [0x4b, 0x65, 0x01, 0x00, 0x54, 0x0f];
/// The bytes of a frame that it is known by.
const HEAD_BYTES: usize = 4;

/// Follows the frames of one direction, however they are cut.
#[derive(Debug, Default)]
pub(super) struct DiagSide {
    head: Vec<u8>,
    position: usize,
    is_escaped: bool,
    /// Until the first end of a frame: what an echo of the way into download mode would go on with.
    first: Option<&'static [u8]>,
}

impl DiagSide {
    /// What comes from a module that others may have talked to before. It can begin in the midst of a frame, where a
    /// byte of content looks like a command: until the first end of a frame nothing is talk but [`EDL_ECHO`], which
    /// holds nothing, and which a trace that is played must have.
    pub(super) fn inward() -> Self {
        Self { first: Some(&EDL_ECHO), ..Self::default() }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for byte in bytes {
            let is_talk = self.is_talk(*byte);
            match spans.last_mut() {
                Some(Span { bytes, kind: Kind::Content { .. } }) if !is_talk => *bytes += 1,
                _ => push(&mut spans, 1, if is_talk { Kind::Talk } else { Kind::Content { page_offset: 0 } }),
            }
        }
        spans
    }

    fn is_talk(&mut self, byte: u8) -> bool {
        if byte == FRAME_END {
            *self = Self::default();
            return true;
        }
        if let Some(echo) = self.first {
            let rest = echo.strip_prefix(&[byte]);
            self.first = Some(rest.unwrap_or_default());
            return rest.is_some();
        }
        if byte == ESCAPE && !self.is_escaped {
            self.is_escaped = true;
            // It goes with the byte that it escapes, of which nothing but the position is known yet.
            return may_be_shown(&self.head, self.position);
        }
        let plain = if std::mem::take(&mut self.is_escaped) { byte ^ 0x20 } else { byte };
        if self.head.len() < HEAD_BYTES {
            self.head.push(plain);
        }
        let position = self.position;
        self.position += 1;
        may_be_shown(&self.head, position)
    }
}

/// Whether the byte at a position of a frame that begins so is talk: the command, the number of an NV item, what is
/// said of the software. What is not known is content.
fn may_be_shown(head: &[u8], position: usize) -> bool {
    match head {
        _ if position == 0 => true,
        [refusal, request @ ..] if Refusal::of(*refusal).is_some() => may_be_shown(request, position - 1),
        // NV items: the rest is the item.
        [0x26 | 0x27, ..] => position < 3,
        // The way into download mode.
        [0x4b, 0x65, ..] => true,
        [0x4b, ..] => position < HEAD_BYTES,
        // Version, build, mode.
        [0x00 | 0x29 | 0x7c, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::diag::efs::{Efs, EfsPath, Subsystem};
    use crate::protocol::diag::nv::{self, ItemKey};
    use crate::protocol::diag::{DEFAULT_PASSWORD, ENTER_EDL, build_id, encode, password};

    /// What is shown of bytes that arrive in pieces.
    fn shown(bytes: &[u8], piece: usize) -> Vec<u8> {
        shown_by(DiagSide::default(), bytes, piece)
    }

    fn shown_by(mut side: DiagSide, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            for span in side.take(piece) {
                let (here, after) = rest.split_at(span.bytes);
                rest = after;
                if span.kind == Kind::Talk {
                    out.extend_from_slice(here);
                }
            }
            assert!(rest.is_empty());
        }
        out
    }

    #[test]
    fn commands_are_shown_and_what_they_carry_is_not() {
        for piece in [1, 3, 1000] {
            assert_eq!(shown(&encode(&ENTER_EDL), piece), encode(&ENTER_EDL));
            let refused = encode(&[&[0x13], ENTER_EDL.as_slice()].concat());
            assert_eq!(shown(&refused, piece), refused);
            assert_eq!(shown(&build_id().frame(), piece), build_id().frame());
            assert_eq!(shown(&password(DEFAULT_PASSWORD).frame(), piece), [0x46, 0x7e]);
            let write = nv::write(ItemKey::of_module(550), &[0x7e; 128]).frame();
            assert_eq!(shown(&write, piece), [0x27, 0x26, 0x02, 0x7e]);
            assert_eq!(
                shown(&encode(&[&[0x18, 0x27, 0x26, 0x02], [8; 130].as_slice()].concat()), piece),
                [0x18, 0x27, 0x26, 0x02, 0x7e]
            );
            let path = EfsPath::new("/secret").expect("a path");
            assert_eq!(shown(&Efs(Subsystem::Standard).get(&path).frame(), piece), [0x4b, 0x13, 39, 0, 0x7e]);
            assert_eq!(shown(&encode(&[0x10, 1, 2, 3]), piece), [0x10, 0x7e], "a log frame may hold anything");
        }
    }

    #[test]
    fn what_begins_in_the_midst_of_a_frame_is_content_up_to_its_end() {
        let build = encode(&[[0x7c; 13].as_slice(), b"RM520N"].concat());
        let echo = encode(&ENTER_EDL);
        assert_eq!(echo[..6], EDL_ECHO);
        for piece in [1, 3, 1000] {
            // Each looks like a command of which everything may be shown.
            for secret in [[0x00; 20], [0x29; 20], [0x7c; 20]] {
                let bytes = [&secret, [FRAME_END].as_slice(), &build].concat();
                assert_eq!(shown_by(DiagSide::inward(), &bytes, piece), [&[FRAME_END], build.as_slice()].concat());
            }
            assert_eq!(shown_by(DiagSide::inward(), &echo, piece), echo);
            let almost = [&echo[..5], [0x10, 0x0f, FRAME_END].as_slice()].concat();
            assert_eq!(shown_by(DiagSide::inward(), &almost, piece), [&echo[..5], &[FRAME_END]].concat());
        }
    }

    proptest! {
        #[test]
        fn content_is_hidden_whatever_it_is(data: [u8; 32], piece in 1_usize..50, before in 0_usize..4) {
            let mut content = [0xa5; 128];
            content[..32].copy_from_slice(&data);
            let frame = nv::write(ItemKey::of_subscription(550, 1), &content).frame();
            let bytes: Vec<u8> = (0..=before).flat_map(|_| frame.clone()).collect();
            let expected: Vec<u8> = (0..=before).flat_map(|_| [0x4b, 0x30, 0x02, 0x00, 0x7e]).collect();
            prop_assert_eq!(shown(&bytes, piece), expected);
        }
    }
}
