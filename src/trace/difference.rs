//! The first difference between what the controller does and what it did when the trace was recorded.

use std::fmt;

use super::piece::{Piece, Tag, to_hex};
use crate::domain::Phase;

/// Bytes that are shown before and after the place.
const AROUND: usize = 16;

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the controller to the module.
    ToModule,
    /// What the controller does with the bus or the supply.
    Act,
}

/// Where the two part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The line of the trace, from 1.
    pub line: usize,
    /// The phase the run is in.
    pub phase: Option<Phase>,
    /// Which way.
    pub direction: Direction,
    /// Which byte of the transfer, from 0, where it is one.
    pub offset: Option<usize>,
    /// What the trace has.
    pub expected: String,
    /// What the controller does.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::ToModule => "controller to module",
            Direction::Act => "what the controller does",
        };
        write!(f, "line {}", self.line)?;
        if let Some(phase) = self.phase {
            write!(f, ", phase {phase}")?;
        }
        write!(f, ", {direction}")?;
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        write!(f, "\n  the trace:      {}\n  the controller: {}", self.expected, self.got)
    }
}

/// Hexadecimal digits and characters.
fn show(bytes: &[Option<u8>]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| byte.map_or("??".to_owned(), |byte| to_hex(&[byte]))).collect();
    let plain = |byte: &Option<u8>| match byte {
        Some(byte @ b' '..=b'~') => char::from(*byte),
        _ => '.',
    };
    format!("{} |{}|", hex.join(" "), bytes.iter().map(plain).collect::<String>())
}

fn around(bytes: &[Option<u8>], offset: usize) -> String {
    let (from, to) = (offset.saturating_sub(AROUND), (offset + AROUND).min(bytes.len()));
    if from >= to { "nothing".to_owned() } else { show(&bytes[from..to]) }
}

/// The place, what was expected there and what came; `None` where they are the same.
pub(super) type Place = (usize, String, String);

/// Compares a transfer with a line's pieces; `stands_for` says whether bytes stand in for content with that digest.
pub(super) fn compare_bytes(pieces: &[Piece], got: &[u8], stands_for: impl Fn(&[u8], Tag) -> bool) -> Option<Place> {
    let mut expected: Vec<Option<u8>> = Vec::new();
    for piece in pieces {
        let at = expected.len();
        let here = got.get(at..).unwrap_or_default();
        let here = &here[..here.len().min(piece.bytes())];
        match piece {
            Piece::Text(text) | Piece::Veiled(text) => expected.extend(text.bytes().map(Some)),
            Piece::Hex(hex) => expected.extend(hex.0.iter().copied().map(Some)),
            // A line may claim any length; no more is compared than there is to compare.
            Piece::Fill(byte, bytes) => {
                expected.resize(at + (*bytes as usize).min(here.len() + AROUND), Some(*byte));
            }
            Piece::Content(_, bytes, tag) => {
                let bytes = *bytes as usize;
                let found = Tag::of(here);
                if here.len() == bytes && found != *tag && !stands_for(here, *tag) {
                    let said = |tag| format!("{bytes} bytes with the digest {tag}");
                    let got: Vec<Option<u8>> = here.iter().copied().map(Some).collect();
                    return Some((at, said(*tag), format!("{}: {}", said(found), around(&got, 0))));
                }
                let known = here.iter().copied().map(Some);
                expected.extend(known);
                if here.len() < bytes {
                    expected.push(None);
                }
            }
        }
        if expected.len() > got.len() {
            break;
        }
    }
    let got: Vec<Option<u8>> = got.iter().copied().map(Some).collect();
    let differs = |offset: &usize| expected.get(*offset) != got.get(*offset);
    let offset = (0..expected.len().max(got.len())).find(differs)?;
    Some((offset, around(&expected, offset), around(&got, offset)))
}

/// A transfer in a few words.
pub(super) fn describe(bytes: &[u8]) -> String {
    let bytes: Vec<Option<u8>> = bytes.iter().copied().map(Some).collect();
    format!("{} bytes: {}", bytes.len(), around(&bytes, 0))
}

/// A transfer of the trace in a few words.
pub(super) fn describe_pieces(pieces: &[Piece]) -> String {
    let total: usize = pieces.iter().map(Piece::bytes).sum();
    match pieces.first() {
        Some(Piece::Text(text)) => describe_known(total, text.as_bytes()),
        Some(Piece::Hex(hex)) => describe_known(total, &hex.0),
        Some(Piece::Content(_, _, tag)) => format!("{total} bytes of content, the first with the digest {tag}"),
        _ => format!("{total} bytes"),
    }
}

fn describe_known(total: usize, first: &[u8]) -> String {
    let first: Vec<Option<u8>> = first.iter().copied().map(Some).collect();
    format!("{total} bytes: {}", around(&first, 0))
}

#[cfg(test)]
mod tests {
    use super::super::piece::Hex;
    use super::*;

    fn compared(pieces: &[Piece], got: &[u8]) -> Option<Place> {
        compare_bytes(pieces, got, |_, _| false)
    }

    #[test]
    fn the_first_byte_that_differs_is_named() {
        let pieces = [Piece::Text("<?xml".to_owned()), Piece::Fill(0, 20), Piece::Content(0, 4, Tag::of(b"page"))];
        let same = [b"<?xml".as_slice(), &[0; 20], b"page"].concat();
        assert_eq!(compared(&pieces, &same), None);
        let mut other = same.clone();
        other[3] = b'M';
        let (offset, expected, got) = compared(&pieces, &other).expect("they differ");
        assert_eq!(offset, 3);
        assert!(expected.contains("|<?xml") && got.contains("|<?xMl"), "{expected} {got}");
        assert_eq!(compared(&pieces, &same[..24]).expect("shorter").0, 24);
        assert_eq!(compared(&pieces, &[&same[..], b"!"].concat()).expect("longer").0, 29);
        let (offset, expected, got) = compared(&pieces, &[&same[..25], b"Page"].concat()).expect("another page");
        assert!(offset == 25 && expected.contains("digest") && got.contains("|Page|"), "{expected} {got}");
        assert_eq!(compared(&[Piece::Hex(Hex(vec![1, 2]))], &[1, 2]), None);
        assert!(compared(&[Piece::Fill(1, u32::MAX)], &[1; 100]).is_some());
    }
}
