//! Randomness: ids only, never keys. Seeded in a simulation, so that it repeats.

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
        use std::hash::{BuildHasher, Hasher, RandomState};
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
