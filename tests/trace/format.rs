//! The lines of a trace.

use proptest::prelude::*;
use stationmaster::trace::{Event, Line, Piece, Trace, decode, encode};

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        number in any::<u64>(),
        micros in any::<u64>(),
        c in any::<u32>(),
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
        text in "[ -~\\r\\n\\t]{0,60}",
        fill in any::<(u8, u32)>(),
    ) {
        let mut pieces: Vec<Piece> = parts.iter().map(|part| Piece::plain(part)).collect();
        pieces.push(Piece::plain(text.as_bytes()));
        pieces.push(Piece::Fill(fill.0, fill.1));
        let line = Line { number, micros, event: Event::In { c, pieces, payload: Some(number), error: None } };
        let text = encode(&line).expect("it is short");
        prop_assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        prop_assert_eq!(decode(&text[..text.len() - 1], 1).expect("it can be read"), line);
    }

    #[test]
    fn nothing_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), flip in any::<(usize, u8)>()) {
        let _ = decode(&bytes, 1);
        let _ = Trace::parse(&bytes);
        let mut line = br#"{"i":0,"t":0,"e":{"in":{"c":1,"pieces":[{"content":[0,2048,"00112233445566778899aabbccddeeff"]}],"payload":null,"error":"gone"}}}"#.to_vec();
        prop_assert!(decode(&line, 1).is_ok());
        let at = flip.0 % line.len();
        line[at] = flip.1;
        let _ = decode(&line, 1);
    }
}
