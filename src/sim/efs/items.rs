//! What a module keeps in its EFS: IMEI, serial number, RF calibration, bands, and many items of no interest here.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::domain::Sha256Digest;
use crate::sim::images::fill;
use crate::sim::models::Model;
use crate::sim::page_pool::{content_hash, mix};
use crate::sim::unit::UnitIdentity;

/// The IMEI, in BCD (NV item 550).
pub const IMEI_PATH: &str = "/nvm/num/550";
/// The module's serial number, as text.
pub const SERIAL_PATH: &str = "/quectel/serial_number";
/// The functionality level that `AT+CFUN?` gives after a boot, one byte.
pub const CFUN_PATH: &str = "/nv/item_files/modem/mmode/operating_mode";
/// How often the module was started, four bytes.
pub const BOOTS_PATH: &str = "/quectel/boot_count";
/// The directory of RF calibration.
pub const RF_DIRECTORY: &str = "/nv/item_files/rfnv/";

/// Items that every module has and nobody asks for.
const COMMON_ITEMS: u32 = 144;
/// Number of the first RF item beside the named ones.
const FIRST_RF_ITEM: u32 = 24_001;

/// A set of bands in the EFS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BandKey {
    /// LTE, switched on.
    LteConfig,
    /// LTE, permitted.
    LtePolicy,
    /// NR stand-alone, switched on.
    NrSaConfig,
    /// NR stand-alone, permitted.
    NrSaPolicy,
    /// NR non-stand-alone, switched on.
    NrNsaConfig,
    /// NR non-stand-alone, permitted.
    NrNsaPolicy,
}

impl BandKey {
    /// Every key.
    pub const ALL: [Self; 6] =
        [Self::LteConfig, Self::LtePolicy, Self::NrSaConfig, Self::NrSaPolicy, Self::NrNsaConfig, Self::NrNsaPolicy];

    /// The path of its item; the bands are two bytes each, little-endian.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::LteConfig => "/nv/item_files/modem/mmode/lte_bandpref",
            Self::LtePolicy => "/policyman/lte_bands",
            Self::NrSaConfig => "/nv/item_files/modem/mmode/nr5g_bandpref",
            Self::NrSaPolicy => "/policyman/nr5g_sa_bands",
            Self::NrNsaConfig => "/nv/item_files/modem/mmode/nsa_nr5g_bandpref",
            Self::NrNsaPolicy => "/policyman/nr5g_nsa_bands",
        }
    }

    /// The bands that a good module of a model has there.
    #[must_use]
    pub const fn of_model(self, model: &Model) -> &'static [u16] {
        match self {
            Self::LteConfig | Self::LtePolicy => model.lte,
            Self::NrSaConfig | Self::NrSaPolicy => model.nr_sa,
            Self::NrNsaConfig | Self::NrNsaPolicy => model.nr_nsa,
        }
    }
}

/// Items by their paths.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Items(BTreeMap<String, Vec<u8>>);

impl Items {
    /// What every module of a model has before it is calibrated, and again after its EFS was lost: no IMEI, no
    /// calibration, no bands.
    #[must_use]
    pub fn defaults(model: &Model) -> Self {
        let mut items = Self::default();
        let seed = content_hash(model.family.as_bytes());
        for number in 0..COMMON_ITEMS {
            let word = mix(seed ^ u64::from(number));
            let mut data = vec![0; usize::from(4 + word.to_le_bytes()[0] % 60)];
            fill(word, &mut data);
            items.set(&format!("/nvm/num/{}", 1001 + 7 * number), data);
        }
        items
    }

    /// What a unit has when it leaves its maker.
    #[must_use]
    pub fn of_unit(unit: &UnitIdentity) -> Self {
        let model = unit.model;
        let mut items = Self::defaults(model);
        items.set(IMEI_PATH, encode_imei(unit.imei.as_str()));
        items.set(SERIAL_PATH, unit.serial_number.clone().into_bytes());
        items.set(CFUN_PATH, vec![1]);
        for key in BandKey::ALL {
            items.set(key.path(), encode_bands(key.of_model(model)));
        }
        let more = (FIRST_RF_ITEM..).step_by(37).map(|number| format!("{RF_DIRECTORY}{number:08}"));
        let named = model.rf_items.iter().map(|path| (*path).to_owned());
        let seed = mix(model.hw_id ^ u64::from(unit.chip.serial));
        for (number, path) in (0..model.rf_item_count).zip(named.chain(more)) {
            let word = mix(seed ^ (u64::from(number) << 32));
            let mut data = vec![0; usize::from(40 + word.to_le_bytes()[0] % 128)];
            fill(word, &mut data);
            items.set(&path, data);
        }
        items
    }

    /// An item's content.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.0.get(path).map(Vec::as_slice)
    }

    /// Puts an item in place.
    pub fn set(&mut self, path: &str, data: Vec<u8>) {
        self.0.insert(path.to_owned(), data);
    }

    /// Takes an item away.
    pub fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// All items, ascending by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(path, data)| (path.as_str(), data.as_slice()))
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The 15 digits of the IMEI item, whether or not they make a valid IMEI.
    #[must_use]
    pub fn imei(&self) -> Option<String> {
        decode_imei(self.get(IMEI_PATH)?)
    }

    /// The serial number.
    #[must_use]
    pub fn serial(&self) -> Option<String> {
        String::from_utf8(self.get(SERIAL_PATH)?.to_vec()).ok()
    }

    /// A set of bands; empty where its item is missing.
    #[must_use]
    pub fn bands(&self, key: BandKey) -> Vec<u16> {
        let bytes = self.get(key.path()).unwrap_or_default();
        bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
    }

    /// The functionality level; 1 where its item is missing.
    #[must_use]
    pub fn cfun(&self) -> u8 {
        self.get(CFUN_PATH).and_then(|data| data.first()).copied().unwrap_or(1)
    }

    /// How often the module was started.
    #[must_use]
    pub fn boots(&self) -> u32 {
        self.get(BOOTS_PATH).and_then(|data| data.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    /// Whether there is any RF calibration.
    #[must_use]
    pub fn is_calibrated(&self) -> bool {
        self.0.range(RF_DIRECTORY.to_owned()..).next().is_some_and(|(path, _)| path.starts_with(RF_DIRECTORY))
    }

    /// A digest of everything but the count of boots: equal as long as nothing was lost or changed.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        let mut hasher = Sha256::new();
        for (path, data) in self.iter().filter(|(path, _)| *path != BOOTS_PATH) {
            hasher.update((path.len() as u64).to_le_bytes());
            hasher.update(path);
            hasher.update((data.len() as u64).to_le_bytes());
            hasher.update(data);
        }
        Sha256Digest::finish(hasher)
    }
}

/// Fifteen digits as NV item 550 holds them: length 8, then swapped BCD that begins with the nibble `A`.
#[must_use]
pub fn encode_imei(digits: &str) -> Vec<u8> {
    let nibbles: Vec<u8> = std::iter::once(0xa).chain(digits.bytes().map(|digit| digit & 0xf)).collect();
    std::iter::once(8).chain(nibbles.chunks(2).map(|pair| pair[0] | pair.get(1).map_or(0xf0, |d| d << 4))).collect()
}

fn decode_imei(bytes: &[u8]) -> Option<String> {
    let (length, digits) = bytes.split_first()?;
    if *length != 8 || digits.len() != 8 || digits[0] & 0xf != 0xa {
        return None;
    }
    let nibbles = digits.iter().flat_map(|byte| [byte & 0xf, byte >> 4]).skip(1);
    nibbles.map(|nibble| char::from_digit(u32::from(nibble), 10)).collect()
}

/// Bands as their items hold them.
#[must_use]
pub fn encode_bands(bands: &[u16]) -> Vec<u8> {
    bands.iter().flat_map(|band| band.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::models::MODELS;
    use crate::sim::unit::identity;

    #[test]
    fn the_imei_is_stored_as_in_item_550() {
        let bytes = encode_imei("356938035643809");
        assert_eq!(bytes, [0x08, 0x3a, 0x65, 0x39, 0x08, 0x53, 0x46, 0x83, 0x90]);
        assert_eq!(decode_imei(&bytes).as_deref(), Some("356938035643809"));
        assert_eq!(decode_imei(&encode_imei("000000000000000")).as_deref(), Some("000000000000000"));
        assert_eq!(decode_imei(&bytes[..8]), None);
        assert_eq!(decode_imei(&[8, 0xfa, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn a_unit_has_everything_and_the_defaults_have_nothing_of_it() {
        for model in MODELS {
            let unit = identity(model, 5, 1);
            let items = Items::of_unit(&unit);
            assert!(items.len() >= 205, "{} has {}", model.name, items.len());
            assert_eq!(items.imei().as_deref(), Some(unit.imei.as_str()));
            assert_eq!(items.bands(BandKey::LtePolicy), model.lte);
            assert_eq!(items.bands(BandKey::NrSaConfig), model.nr_sa);
            assert!(model.rf_items.iter().all(|path| items.get(path).is_some()) && items.is_calibrated());
            let defaults = Items::defaults(model);
            assert!(defaults.imei().is_none() && !defaults.is_calibrated());
            assert!(defaults.bands(BandKey::LteConfig).is_empty());
        }
    }

    #[test]
    fn calibration_is_the_units_own() {
        let model = Model::by_name("RM500Q-GL").expect("a model");
        let (one, two) = (Items::of_unit(&identity(model, 1, 9)), Items::of_unit(&identity(model, 2, 9)));
        for path in model.rf_items {
            assert_ne!(one.get(path), two.get(path));
        }
        assert_eq!(one.digest(), Items::of_unit(&identity(model, 1, 9)).digest());
    }

    #[test]
    fn the_digest_passes_over_the_boots_only() {
        let mut items = Items::defaults(&MODELS[0]);
        let before = items.digest();
        items.set(BOOTS_PATH, vec![1, 0, 0, 0]);
        assert_eq!(items.digest(), before);
        items.set(CFUN_PATH, vec![1]);
        assert_ne!(items.digest(), before);
    }
}
