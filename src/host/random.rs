//! Randomness: ids, never keys. Seeded in a simulation, so that it repeats.
//!
//! [`Veil`] is something else: it replaces what must not be shown, and nobody can repeat it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

/// A source of random bytes. Clones share one stream.
#[derive(Debug, Clone)]
pub struct Random {
    state: Arc<Mutex<u64>>,
}

impl Random {
    /// A stream seeded by the host.
    #[must_use]
    pub fn from_host() -> Self {
        use std::hash::Hasher;
        // RandomState is keyed from the operating system's randomness.
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// A stream that repeats.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(seed)) }
    }

    /// The next 64 bits (SplitMix64).
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next `N` bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
        out
    }
}

/// A function from labels to numbers that is another one in every process and for every veil, keyed (SipHash) from the
/// operating system's randomness. The key is nowhere written down, so what was veiled can be compared under one veil and
/// not be turned back.
#[derive(Debug, Clone, Default)]
pub struct Veil {
    keyed: RandomState,
}

impl Veil {
    /// The number of a label.
    #[must_use]
    pub fn number(&self, label: &[u8], position: u64) -> u64 {
        self.keyed.hash_one((label, position))
    }

    /// A hexadecimal digit in the place of `digit`, under this label and at this position: each digit has another one.
    #[must_use]
    pub fn digit(&self, label: &[u8], position: u64, digit: u8) -> u8 {
        let mut digits = *b"0123456789ABCDEF";
        let mut number = self.number(label, position);
        // Fisher and Yates; the product of the choices, 16!, is below 2^45.
        for last in (1..digits.len()).rev() {
            let choices = last as u64 + 1;
            digits.swap(last, usize::try_from(number % choices).unwrap_or_default());
            number /= choices;
        }
        char::from(digit).to_digit(16).map_or(digit, |value| digits[value as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veil_keeps_what_is_equal_equal_and_nothing_else() {
        let (veil, other) = (Veil::default(), Veil::default());
        let through = |veil: &Veil, label: &[u8]| -> Vec<u8> {
            (0..64).flat_map(|at| b"0123456789abcdef".map(|digit| veil.digit(label, at, digit))).collect()
        };
        assert_eq!(through(&veil, b"a"), through(&veil, b"a"));
        assert_ne!(through(&veil, b"a"), through(&veil, b"b"));
        assert_ne!(through(&veil, b"a"), through(&other, b"a"));
        for one in through(&veil, b"a").chunks(16) {
            let mut sorted = one.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, b"0123456789ABCDEF");
        }
        assert_eq!(veil.digit(b"a", 0, b'"'), b'"');
    }
}
