//! The IMEI: 15 digits, of which the first eight are the type allocation code and the last is a Luhn check digit
//! (GSMA TS.06).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A well-formed IMEI: 15 digits, right check digit, not all zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Imei([u8; 15]);

/// Why a text is not an IMEI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImeiError {
    /// Not 15 characters.
    #[error("an IMEI has 15 digits, this has {0} characters")]
    Length(usize),
    /// A character is not a digit.
    #[error("an IMEI consists of digits only")]
    NotDigits,
    /// All zeros: a module without an identity.
    #[error("the IMEI is all zeros")]
    Zero,
    /// The last digit is not the Luhn check digit of the others.
    #[error("the check digit is {found}, it should be {expected}")]
    CheckDigit {
        /// What the Luhn formula gives.
        expected: u8,
        /// What the text has.
        found: u8,
    },
}

impl Imei {
    /// The IMEI made of 14 digits and the check digit computed for them.
    ///
    /// # Errors
    /// When `body` is not 14 digits, or all zeros.
    pub fn from_body(body: &str) -> Result<Self, ImeiError> {
        let mut digits = [0; 15];
        if body.len() != 14 {
            return Err(ImeiError::Length(body.len() + 1));
        }
        digits[..14].copy_from_slice(body.as_bytes());
        if !body.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ImeiError::NotDigits);
        }
        digits[14] = b'0' + luhn(&digits[..14]);
        Self::from_digits(digits)
    }

    fn from_digits(digits: [u8; 15]) -> Result<Self, ImeiError> {
        if digits == [b'0'; 15] {
            return Err(ImeiError::Zero);
        }
        let expected = luhn(&digits[..14]);
        let found = digits[14] - b'0';
        if expected != found {
            return Err(ImeiError::CheckDigit { expected, found });
        }
        Ok(Self(digits))
    }

    /// The 15 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an IMEI holds ASCII digits only")
    }

    /// The type allocation code.
    #[must_use]
    pub fn tac(&self) -> Tac {
        let mut tac = [0; 8];
        tac.copy_from_slice(&self.0[..8]);
        Tac(tac)
    }
}

/// The Luhn check digit for ASCII digits.
fn luhn(digits: &[u8]) -> u8 {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(position, digit)| {
            let value = u32::from(digit - b'0') * if position % 2 == 0 { 2 } else { 1 };
            value / 10 + value % 10
        })
        .sum();
    u8::try_from((10 - sum % 10) % 10).unwrap_or_default()
}

impl FromStr for Imei {
    type Err = ImeiError;

    fn from_str(text: &str) -> Result<Self, ImeiError> {
        let digits: [u8; 15] = text.as_bytes().try_into().map_err(|_| ImeiError::Length(text.chars().count()))?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(ImeiError::NotDigits);
        }
        Self::from_digits(digits)
    }
}

impl fmt::Display for Imei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Imei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Imei({self})")
    }
}

/// A type allocation code: the first eight digits of an IMEI, which name the device type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tac([u8; 8]);

impl fmt::Display for Tac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.0).expect("a TAC holds ASCII digits only"))
    }
}

impl fmt::Debug for Tac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tac({self})")
    }
}

impl FromStr for Tac {
    type Err = ImeiError;

    fn from_str(text: &str) -> Result<Self, ImeiError> {
        let digits: [u8; 8] = text.as_bytes().try_into().map_err(|_| ImeiError::Length(text.chars().count()))?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(ImeiError::NotDigits);
        }
        Ok(Self(digits))
    }
}

macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use serde_as_text;

serde_as_text!(Imei, Tac);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digit_of_public_examples() {
        assert!("490154203237518".parse::<Imei>().is_ok());
        assert_eq!("490154203237517".parse::<Imei>(), Err(ImeiError::CheckDigit { expected: 8, found: 7 }));
        assert_eq!(Imei::from_body("49015420323751").map(|i| i.to_string()), Ok("490154203237518".into()));
        assert_eq!("000000000000000".parse::<Imei>(), Err(ImeiError::Zero));
        assert_eq!("4901542032375180".parse::<Imei>(), Err(ImeiError::Length(16)));
        assert_eq!("49015420323751x".parse::<Imei>(), Err(ImeiError::NotDigits));
        assert_eq!("490154203237518".parse::<Imei>().map(|i| i.tac().to_string()), Ok("49015420".into()));
    }
}
