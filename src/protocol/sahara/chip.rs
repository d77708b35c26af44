//! What a chip says of itself in command mode: how its answers are read.

use super::SaharaError;
use crate::domain::{ChipId, KeyHash, limits};

/// A chip as Sahara names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChipInfo {
    /// Hardware id and serial.
    pub chip: ChipId,
    /// The digest of the key that it trusts.
    pub key_hash: KeyHash,
    /// The version of the protocol that the device speaks; 2 where its HELLO was lost.
    pub sahara_version: u32,
}

/// The questions, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    Serial,
    HardwareId,
    KeyHash,
}

impl Query {
    /// The client command. A device of version 3 does not answer the old one for the hardware id.
    pub(super) const fn command(self, version: u32) -> u32 {
        match self {
            Self::Serial => 1,
            Self::HardwareId if version >= 3 => 0x0a,
            Self::HardwareId => 2,
            Self::KeyHash => 3,
        }
    }

    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Serial => Some(Self::HardwareId),
            Self::HardwareId => Some(Self::KeyHash),
            Self::KeyHash => None,
        }
    }
}

/// The answers as far as they have come.
#[derive(Debug, Default)]
pub(super) struct Answers {
    serial: u32,
    hw_id: u64,
    key_hash: Option<KeyHash>,
}

impl Answers {
    /// The length of an answer, if it is one that can be waited for.
    pub(super) fn length(command: u32, bytes: u32) -> Result<usize, SaharaError> {
        if bytes == 0 || bytes > limits::SAHARA_EXEC_BYTES_MAX {
            return Err(SaharaError::Answer { command, reason: "it is empty or too long" });
        }
        usize::try_from(bytes).map_err(|_| SaharaError::Answer { command, reason: "it is too long" })
    }

    /// Takes one answer.
    pub(super) fn take(&mut self, query: Query, command: u32, bytes: &[u8]) -> Result<(), SaharaError> {
        let error = |reason| SaharaError::Answer { command, reason };
        match query {
            Query::Serial => {
                let serial = bytes.first_chunk().ok_or(error("a serial has 4 bytes"))?;
                self.serial = u32::from_le_bytes(*serial);
            }
            // May be repeated; the first copy counts.
            Query::HardwareId if command == 2 => {
                let id = bytes.first_chunk().ok_or(error("a hardware id has 8 bytes"))?;
                self.hw_id = u64::from_le_bytes(*id);
            }
            Query::HardwareId => self.hw_id = hw_id_of_v3(bytes).ok_or(error("a chip id has at least 44 bytes"))?,
            Query::KeyHash => {
                self.key_hash = Some(key_hash(bytes).ok_or(error("a key hash has 32, 48 or 64 bytes"))?);
            }
        }
        Ok(())
    }

    /// The chip, once all three have come.
    pub(super) fn chip(&self, sahara_version: u32) -> Option<ChipInfo> {
        let key_hash = self.key_hash.clone()?;
        Some(ChipInfo { chip: ChipId { hw_id: self.hw_id, serial: self.serial }, key_hash, sahara_version })
    }
}

/// Client command 0A: MSM id at 36, OEM at 40, model at 42; put together as client command 2 has it.
fn hw_id_of_v3(bytes: &[u8]) -> Option<u64> {
    let msm = u32::from_le_bytes(*bytes.get(36..)?.first_chunk()?);
    let oem = u16::from_le_bytes(*bytes.get(40..)?.first_chunk()?);
    let model = u16::from_le_bytes(*bytes.get(42..)?.first_chunk()?);
    Some(u64::from(msm) << 32 | u64::from(oem) << 16 | u64::from(model))
}

/// Most chips repeat the digest three times; then one copy is it.
fn key_hash(bytes: &[u8]) -> Option<KeyHash> {
    let third = bytes.len() / 3;
    let (first, rest) = bytes.split_at(third);
    let (second, last) = rest.split_at(third);
    if first == second
        && second == last
        && let Ok(hash) = KeyHash::new(first)
    {
        return Some(hash);
    }
    KeyHash::new(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_hash_is_one() {
        for bytes in [32, 48, 64] {
            let hash: Vec<u8> = (0..bytes).collect();
            assert_eq!(key_hash(&hash), KeyHash::new(&hash).ok(), "{bytes} bytes once");
            assert_eq!(key_hash(&hash.repeat(3)), KeyHash::new(&hash).ok(), "{bytes} bytes three times");
            let mut differs = hash.repeat(3);
            differs[usize::from(bytes)] ^= 1;
            assert_eq!(key_hash(&differs), None, "{bytes} bytes, copies differ");
        }
        assert_eq!(key_hash(&[]), None);
    }

    #[test]
    fn both_forms_of_the_hardware_id_are_the_same_number() {
        let mut answers = Answers::default();
        answers.take(Query::HardwareId, 2, &0x000f_50e1_0042_0001_u64.to_le_bytes().repeat(2)).expect("two copies");
        let old = answers.hw_id;
        let mut new = vec![0; 44];
        new[36..40].copy_from_slice(&0x000f_50e1_u32.to_le_bytes());
        new[40..42].copy_from_slice(&0x0042_u16.to_le_bytes());
        new[42..44].copy_from_slice(&1_u16.to_le_bytes());
        answers.take(Query::HardwareId, 0x0a, &new).expect("long enough");
        assert_eq!(answers.hw_id, old);
        assert_eq!(old, 0x000f_50e1_0042_0001);
        assert!(answers.take(Query::HardwareId, 0x0a, &new[..43]).is_err());
    }
}
