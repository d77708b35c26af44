//! One entry as one line of text.
//!
//! The hash is over the bytes of the line as they stand in the file, up to `,"hash":"`: a verifier needs no JSON
//! canonicalisation, only a search for those nine characters at a fixed distance from the line's end.

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::{Fact, Sha256Digest, limits};

use super::LedgerError;

/// What stands between the hashed bytes and the hash.
const HASH_KEY: &[u8] = b",\"hash\":\"";
/// Length of a line from [`HASH_KEY`] to its end, without the line end.
const SUFFIX_BYTES: usize = HASH_KEY.len() + 64 + 2;
/// What the first line names as the line before it.
pub(super) const GENESIS: Sha256Digest = Sha256Digest::from_bytes([0; 32]);

/// A fact with its place in the chain.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When it was handed to the ledger: wall clock, whole milliseconds.
    pub wall: Timestamp,
    /// The fact.
    pub fact: Fact,
    /// SHA-256 of the line up to its hash.
    pub hash: Sha256Digest,
    /// The hash of the line before; zeros for the first.
    pub prev: Sha256Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: u64,
    prev: Sha256Digest,
    wall: Timestamp,
    fact: Fact,
    hash: Sha256Digest,
}

/// An entry and its line, line end included.
///
/// # Errors
/// [`LedgerError::TooLong`].
pub(super) fn encode(
    seq: u64,
    prev: Sha256Digest,
    wall: Timestamp,
    fact: Fact,
) -> Result<(Entry, Vec<u8>), LedgerError> {
    let wall = Timestamp::from_millisecond(wall.as_millisecond()).unwrap_or(wall);
    let text = serde_json::to_string(&fact)?;
    let mut line = format!("{{\"seq\":{seq},\"prev\":\"{prev}\",\"wall\":\"{wall:.3}\",\"fact\":{text}").into_bytes();
    let hash = Sha256Digest::of(&line);
    line.extend_from_slice(HASH_KEY);
    line.extend_from_slice(hash.to_string().as_bytes());
    line.extend_from_slice(b"\"}\n");
    if line.len() > limits::LEDGER_LINE_BYTES_MAX {
        return Err(LedgerError::TooLong { bytes: line.len() });
    }
    Ok((Entry { seq, wall, fact, hash, prev }, line))
}

/// The entry of a line (without its line end).
///
/// # Errors
/// What is wrong with the line, as a clause.
pub(super) fn decode(line: &[u8]) -> Result<Entry, String> {
    let cut = line.len().checked_sub(SUFFIX_BYTES).ok_or("it is too short for an entry")?;
    let (hashed, suffix) = line.split_at(cut);
    let hash = Sha256Digest::of(hashed);
    let expected = [HASH_KEY, hash.to_string().as_bytes(), b"\"}"].concat();
    if suffix != expected {
        return Err("its hash does not match its content".to_owned());
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| format!("it is no entry: {error}"))?;
    debug_assert_eq!(line.hash, hash);
    Ok(Entry { seq: line.seq, wall: line.wall, fact: line.fact, hash, prev: line.prev })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fact(name: &str) -> Fact {
        Fact::StationStopped { station: name.parse().expect("a name") }
    }

    #[test]
    fn the_form_of_a_line_is_fixed() {
        let wall = "2026-03-04T05:06:07.0895Z".parse().expect("a timestamp");
        let (entry, line) = encode(7, GENESIS, wall, fact("S")).expect("short");
        let zeros = "0".repeat(64);
        let hashed = format!(
            "{{\"seq\":7,\"prev\":\"{zeros}\",\"wall\":\"2026-03-04T05:06:07.089Z\",\
             \"fact\":{{\"station_stopped\":{{\"station\":\"S\"}}}}"
        );
        let hash = Sha256Digest::of(hashed.as_bytes());
        assert_eq!(String::from_utf8(line.clone()).expect("text"), format!("{hashed},\"hash\":\"{hash}\"}}\n"));
        assert_eq!(decode(&line[..line.len() - 1]), Ok(entry));
    }

    proptest! {
        #[test]
        fn every_changed_byte_is_noticed(at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let (_, mut line) = encode(1, GENESIS, Timestamp::UNIX_EPOCH, fact("Station-1")).expect("short");
            line.pop();
            let at = at.index(line.len());
            prop_assume!(line[at] != value);
            line[at] = value;
            prop_assert!(decode(&line).is_err());
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
