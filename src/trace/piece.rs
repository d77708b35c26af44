//! What a line says of bytes: themselves, or as much as may be told of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::host::Veil;
use crate::protocol::content::{Kind, Span};

/// Shortest stretch of equal bytes that is written as one.
const FILL_BYTES_MIN: usize = 16;

/// The first 128 bits of a SHA-256: enough to tell contents apart, and half the length of a line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; 16]);

impl Tag {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let mut tag = [0; 16];
        tag.copy_from_slice(&digest[..16]);
        Self(tag)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

impl FromStr for Tag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        from_hex(text).and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or("a tag has 32 hexadecimal digits")
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Bytes of a transfer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// These bytes, which are printable ASCII and line ends.
    Text(String),
    /// These bytes.
    Hex(Hex),
    /// One byte, so many times.
    Fill(u8, u32),
    /// So many bytes that are not in the trace: where in a page of the storage they begin, their length and digest.
    Content(u32, u32, Tag),
    /// Hexadecimal digits that are not in the trace, each with another one in its place: equal values of a run are
    /// still equal.
    Veiled(String),
}

/// Bytes as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hex(pub Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        from_hex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("bytes are pairs of hexadecimal digits"))
    }
}

/// Two lower-case digits for each byte.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

impl Piece {
    /// How many bytes it stands for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Veiled(text) => text.len(),
            Self::Hex(hex) => hex.0.len(),
            Self::Fill(_, bytes) | Self::Content(_, bytes, _) => *bytes as usize,
        }
    }

    /// Whether the trace has something else in the place of its bytes.
    #[must_use]
    pub const fn is_hidden(&self) -> bool {
        matches!(self, Self::Content(..) | Self::Veiled(_))
    }

    /// Roughly how long it is in a line, in bytes.
    pub(super) fn line_bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Veiled(text) => text.len() + 16,
            Self::Hex(hex) => hex.0.len() * 2 + 16,
            Self::Fill(..) => 24,
            Self::Content(..) => 64,
        }
    }

    /// These bytes as they are.
    #[must_use]
    pub fn plain(bytes: &[u8]) -> Self {
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t');
        match std::str::from_utf8(bytes) {
            Ok(text) if bytes.iter().all(is_text) => Self::Text(text.to_owned()),
            _ => Self::Hex(Hex(bytes.to_vec())),
        }
    }

    /// The byte that `bytes` consist of, where it is one and they are many.
    fn uniform(bytes: &[u8]) -> Option<u8> {
        let is_uniform = bytes.len() >= FILL_BYTES_MIN && bytes[1..] == bytes[..bytes.len() - 1];
        is_uniform.then(|| bytes[0])
    }
}

/// What a line says of a transfer, and the bytes that it leaves out.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pub(super) pieces: Vec<Piece>,
    pub(super) hidden: Vec<u8>,
}

impl Pieces {
    /// Of `bytes`, as they were cut; `label` names the value that veiled digits belong to.
    pub(super) fn cut(bytes: &[u8], spans: &[Span], veil: &Veil, label: &[u8]) -> Self {
        let mut this = Self::default();
        let mut rest = bytes;
        for span in spans {
            let (here, after) = rest.split_at(span.bytes.min(rest.len()));
            rest = after;
            this.add(here, span.kind, veil, label);
        }
        // Spans are as long as their transfer; should they not be, the rest is nobody's to show.
        if !rest.is_empty() {
            this.add(rest, Kind::Content { page_offset: 0 }, veil, label);
        }
        this
    }

    fn add(&mut self, bytes: &[u8], kind: Kind, veil: &Veil, label: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match (kind, Piece::uniform(bytes)) {
            (Kind::Talk, _) => self.pieces.push(Piece::plain(bytes)),
            (Kind::Layout | Kind::Content { .. }, Some(byte)) => match self.pieces.last_mut() {
                Some(Piece::Fill(last, bytes)) if *last == byte && bytes.checked_add(length).is_some() => {
                    *bytes += length;
                }
                _ => self.pieces.push(Piece::Fill(byte, length)),
            },
            (Kind::Layout, None) => self.pieces.push(Piece::plain(bytes)),
            (Kind::Content { page_offset }, None) => {
                self.pieces.push(Piece::Content(page_offset, length, Tag::of(bytes)));
                self.hidden.extend_from_slice(bytes);
            }
            (Kind::Digits { position }, _) => {
                let veiled = bytes.iter().zip(u64::from(position)..).map(|(digit, at)| veil.digit(label, at, *digit));
                self.pieces.push(Piece::Veiled(veiled.map(char::from).collect()));
                self.hidden.extend_from_slice(bytes);
            }
        }
    }
}

/// Bytes in the place of content that is not known: always the same ones for the same content, and none of it.
pub(super) fn stand_in(tag: Tag, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.next_multiple_of(32));
    let mut block = 0_u32;
    while out.len() < bytes {
        let digest: [u8; 32] = Sha256::new_with_prefix(tag.0).chain_update(block.to_le_bytes()).finalize().into();
        out.extend_from_slice(&digest);
        block += 1;
    }
    out.truncate(bytes);
    out
}
