//! Names of things: stations, slots, batches, runs and chips.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::imei::serde_as_text;
use super::limits;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty or too long.
    #[error("a {what} has 1 to {max} characters")]
    Length {
        /// What was being read.
        what: &'static str,
        /// The longest allowed, in characters.
        max: usize,
    },
    /// A character that could not be used in a file name or on a label.
    #[error("a {what} consists of letters, digits, `.`, `_` and `-`, and starts with a letter or digit")]
    Characters {
        /// What was being read.
        what: &'static str,
    },
    /// Not a run id, chip id or key hash.
    #[error("not a valid {what}")]
    Format {
        /// What was being read.
        what: &'static str,
    },
    /// Not a chip id.
    #[error("a chip id has 16 hexadecimal digits, `-`, and 8 more")]
    Chip,
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $max:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(String);

        impl $name {
            /// The name as written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.is_empty() || text.len() > $max {
                    return Err(IdError::Length { what: $what, max: $max });
                }
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(plain) {
                    return Err(IdError::Characters { what: $what });
                }
                Ok(Self(text.to_owned()))
            }
        }

        serde_as_text!($name);
    )+};
}

names! {
    /// The name of a station; part of every record.
    StationName, "station name", limits::NAME_CHARS_MAX;
    /// The name of a slot: what its sticker on the fixture says.
    SlotName, "slot name", limits::SLOT_NAME_CHARS_MAX;
    /// The name of a batch (work order). It becomes a file name.
    BatchId, "batch name", limits::NAME_CHARS_MAX;
}

/// The id of a run: a UUID, version 7, so that runs sort by when they began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(uuid::Uuid);

impl RunId {
    /// A new id from the wall clock (milliseconds since 1970) and ten random bytes; both are handed in so that a
    /// seeded simulation repeats its ids.
    #[must_use]
    pub fn new(unix_ms: u64, random: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, random).into_uuid())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({})", self.0)
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self).map_err(|_| IdError::Format { what: "run id" })
    }
}

/// A chip, as Sahara names it: the serial alone has 32 bits and repeats across kinds of chips, so it is never a key
/// without the hardware id (`msm_id << 32 | oem << 16 | model`, Sahara client command 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChipId {
    /// The hardware id.
    pub hw_id: u64,
    /// The chip's serial number.
    pub serial: u32,
}

impl fmt::Display for ChipId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}", self.hw_id, self.serial)
    }
}

impl fmt::Debug for ChipId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChipId({self})")
    }
}

impl FromStr for ChipId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError::Chip;
        let (hw_id, serial) = text.split_once('-').ok_or(error.clone())?;
        if hw_id.len() != 16 || serial.len() != 8 || !text.is_ascii() || text.contains('+') {
            return Err(error);
        }
        Ok(Self {
            hw_id: u64::from_str_radix(hw_id, 16).map_err(|_| error.clone())?,
            serial: u32::from_str_radix(serial, 16).map_err(|_| error)?,
        })
    }
}

/// The digest of the key that a chip trusts for its programmer (Sahara client command 3): 32, 48 or 64 bytes, all
/// zeros on a chip whose fuses are not blown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(Vec<u8>);

impl KeyHash {
    /// A key hash from its bytes.
    ///
    /// # Errors
    /// When there are not 32, 48 or 64 of them.
    pub fn new(bytes: &[u8]) -> Result<Self, IdError> {
        if !matches!(bytes.len(), 32 | 48 | 64) {
            return Err(IdError::Format { what: "key hash" });
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Whether the chip has no key burnt in and takes any programmer.
    #[must_use]
    pub fn is_unfused(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

impl FromStr for KeyHash {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError::Format { what: "key hash" };
        if !text.is_ascii() || !text.len().is_multiple_of(2) {
            return Err(error);
        }
        let bytes: Option<Vec<u8>> = text
            .as_bytes()
            .chunks_exact(2)
            .map(|pair| {
                let digit = |b: u8| (b as char).to_digit(16);
                u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()
            })
            .collect();
        Self::new(&bytes.ok_or(error)?)
    }
}

serde_as_text!(RunId, ChipId, KeyHash);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_become_bad_file_names_are_refused() {
        for bad in ["", "../x", "a/b", ".hidden", "a b", "é", &"x".repeat(65)] {
            assert!(bad.parse::<BatchId>().is_err(), "{bad:?}");
        }
        assert!("DEMO-1".parse::<BatchId>().is_ok());
    }

    #[test]
    fn chips_and_keys_round_trip() {
        let chip = ChipId { hw_id: 0x000f_50e1_0000_0000, serial: 0x49cb_d7ef };
        assert_eq!(chip.to_string(), "000f50e100000000-49cbd7ef");
        assert_eq!(chip.to_string().parse(), Ok(chip));
        assert!("+00f50e100000000-49cbd7ef".parse::<ChipId>().is_err());
        let key = KeyHash::new(&[7; 48]).expect("48 bytes");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!(KeyHash::new(&[7; 20]).is_err());
    }
}
