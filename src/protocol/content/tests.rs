use proptest::prelude::*;

use super::*;
use crate::domain::{Geometry, PageRange};
use crate::protocol::firehose::command;

const GEOMETRY: Geometry = Geometry { page_bytes: 2048, pages_per_block: 64 };
const ACK: &[u8] = b"<?xml version=\"1.0\" ?><data><response value=\"ACK\" rawmode=\"true\" /></data>";
const DONE: &[u8] = b"<?xml version=\"1.0\" ?><data><response value=\"ACK\" rawmode=\"false\" /></data>";

/// The bytes that count as talk, of what a module says in pieces of that length.
fn heard(tap: &mut BulkTap, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut talk = Vec::new();
    for piece in bytes.chunks(piece) {
        let spans = tap.take_in(piece);
        let mut at = 0;
        for span in spans {
            if span.kind == Kind::Talk {
                talk.extend_from_slice(&piece[at..at + span.bytes]);
            }
            at += span.bytes;
        }
        assert_eq!(at, piece.len());
    }
    talk
}

fn reading(pages: u64) -> BulkTap {
    let mut tap = BulkTap::new();
    let read = command::read(PageRange { start: 64, pages }, GEOMETRY).expect("a range");
    assert_eq!(tap.take_out(&read), [Span { bytes: read.len(), kind: Kind::Talk }]);
    tap
}

proptest! {
    #[test]
    fn what_is_read_is_content_however_it_is_cut(
        page in prop::collection::vec(any::<u8>(), 2048),
        text in any::<bool>(),
        piece in 1_usize..6000,
    ) {
        // An EFS holds text too, even documents.
        let mut secret = [page.clone(), page].concat();
        if text {
            secret[..ACK.len()].copy_from_slice(ACK);
        }
        let mut tap = reading(2);
        let talk = heard(&mut tap, &[ACK, &secret, DONE].concat(), piece);
        prop_assert_eq!(talk, [ACK, DONE].concat());
    }

    #[test]
    fn nothing_makes_it_panic_and_every_byte_is_in_a_span(
        steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..600)), 0..20)
    ) {
        let (mut tap, mut port) = (BulkTap::new(), PortTap::new());
        for (out, bytes) in steps {
            let spans = if out { tap.take_out(&bytes) } else { tap.take_in(&bytes) };
            prop_assert_eq!(spans.iter().map(|span| span.bytes).sum::<usize>(), bytes.len());
            let spans = if out { port.take_out(&bytes) } else { port.take_in(&bytes) };
            prop_assert_eq!(spans.iter().map(|span| span.bytes).sum::<usize>(), bytes.len());
        }
    }

    #[test]
    fn items_are_known_however_the_line_is_cut(piece in 1_usize..40) {
        let reply = b"\r\n+QNVFR: 0A1B2C3D\r\n\r\nOK\r\n";
        let mut tap = PortTap::new();
        let mut shown = Vec::new();
        let mut next = 0;
        for piece in reply.chunks(piece) {
            let mut at = 0;
            for span in tap.take_in(piece) {
                match span.kind {
                    Kind::Digits { position } => {
                        prop_assert_eq!(position, next);
                        next += u32::try_from(span.bytes).expect("short");
                    }
                    _ => shown.extend_from_slice(&piece[at..at + span.bytes]),
                }
                at += span.bytes;
            }
        }
        prop_assert_eq!(shown, b"\r\n+QNVFR: \r\n\r\nOK\r\n".to_vec());
        prop_assert_eq!(next, 8);
    }
}

#[test]
fn a_refused_read_announces_nothing_and_images_are_content() {
    let mut tap = reading(2);
    let nak = b"<?xml version=\"1.0\" ?><data><response value=\"NAK\" rawmode=\"false\" /></data>";
    assert_eq!(heard(&mut tap, nak, 4096), nak);
    assert_eq!(heard(&mut tap, DONE, 4096), DONE);
    let program = command::program(PageRange { start: 0, pages: 1 }, GEOMETRY, &[]).expect("a range");
    tap.take_out(&program);
    assert_eq!(heard(&mut tap, ACK, 4096), ACK);
    // An image may look like anything, also like a command.
    let content = |spans: Vec<Span>| spans.iter().all(|span| matches!(span.kind, Kind::Content { .. }));
    let mut image = vec![b' '; 2048];
    image[..program.len()].copy_from_slice(&program);
    assert!(content(tap.take_out(&image)));
    assert!(!content(tap.take_out(&program)));
    assert!(content(BulkTap::new().take_out(b"\x7fELF and so on")));
}

#[test]
fn left_over_content_of_an_earlier_session_is_no_talk() {
    let secret = [0x5a; 512];
    assert_eq!(heard(&mut BulkTap::new(), &secret, 512), b"");
    let mut tap = BulkTap::new();
    assert_eq!(heard(&mut tap, DONE, 4096), DONE);
    assert_eq!(heard(&mut tap, &secret, 100), b"");
    assert_eq!(heard(&mut tap, DONE, 4096), DONE);
}

#[test]
fn layout_is_told_from_content() {
    let mut tap = reading(3);
    let mut pages = vec![7; 3 * 2048];
    pages[2048 + 8..2048 + 16].copy_from_slice(b"EFSSuper");
    tap.take_in(ACK);
    let spans = tap.take_in(&pages);
    let layout: Vec<usize> = spans.iter().filter(|span| span.kind == Kind::Layout).map(|span| span.bytes).collect();
    assert_eq!(layout, [28]);
    assert_eq!(spans.iter().map(|span| span.bytes).sum::<usize>(), pages.len());
}
