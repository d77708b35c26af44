//! What a module keeps in its EFS: IMEI, serial number, RF calibration, bands, and many items of no interest here.

use super::tree::{Items, Node, NodeKind};
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

/// The directory of the module's own NV items, by number. Over DIAG they are NV items and nothing else.
pub const NV_DIRECTORY: &str = "/nvm/num/";
/// Where everything about NV items lies; DIAG shows nothing of it as files.
pub const NV_TREE: &str = "/nvm";

/// NV items of each further subscription.
const SUBSCRIPTION_ITEMS: u32 = 24;
/// Items that every module has and nobody asks for.
const COMMON_ITEMS: u32 = 144;
/// The first of their numbers.
const FIRST_NV_ITEM: u32 = 1001;
/// From one of their numbers to the next.
const NV_STEP: u32 = 7;
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

/// The directory of the NV items of a subscription beside the first, whose items are the module's.
#[must_use]
pub fn subscription_directory(index: u16) -> String {
    format!("/nvm/context{index}/")
}

fn family_seed(model: &Model) -> u64 {
    content_hash(model.family.as_bytes())
}

fn common_bytes(word: u64) -> usize {
    usize::from(4 + word.to_le_bytes()[0] % 60)
}

/// How long an NV item is, as the firmware of a model defines it: the same whether or not the item was ever written.
/// `None` where there is no such item.
#[must_use]
pub fn nv_item_bytes(model: &Model, item: u16) -> Option<usize> {
    if item == 550 {
        return Some(9);
    }
    let offset = u32::from(item).checked_sub(FIRST_NV_ITEM)?;
    let number = offset / NV_STEP;
    let is_defined = offset.is_multiple_of(NV_STEP) && number < COMMON_ITEMS;
    is_defined.then(|| common_bytes(mix(family_seed(model) ^ u64::from(number))))
}

/// How many subscriptions a model's modules have NV items for, the module's own included.
#[must_use]
pub fn subscriptions(model: &Model) -> u16 {
    if model.family == "mdm9x07" { 2 } else { 3 }
}

/// Whether a path belongs to NV items: these are reached by their numbers, as no other item has their length.
#[must_use]
pub fn is_of_nv(path: &str) -> bool {
    path.strip_prefix(NV_TREE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether an entry is left out of a listing, although it answers to its name: access lists do that on real modules.
/// Here it is each RF item whose number leaves 3 when divided by 4.
#[must_use]
pub fn is_hidden(path: &str) -> bool {
    let number = path.strip_prefix(RF_DIRECTORY).and_then(|name| name.parse::<u32>().ok());
    number.is_some_and(|number| number % 4 == 3)
}

impl Items {
    /// What every module of a model has before it is calibrated, and again after its EFS was lost: no IMEI, no
    /// calibration, no bands.
    #[must_use]
    pub fn defaults(model: &Model) -> Self {
        let mut items = Self::default();
        let seed = family_seed(model);
        for number in 0..COMMON_ITEMS {
            let word = mix(seed ^ u64::from(number));
            let mut data = vec![0; common_bytes(word)];
            fill(word, &mut data);
            items.set(&format!("{NV_DIRECTORY}{}", FIRST_NV_ITEM + NV_STEP * number), data);
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
        items.add_subscriptions(model, seed);
        items.add_files(model, seed);
        items
    }

    fn add_subscriptions(&mut self, model: &Model, seed: u64) {
        for index in 1..subscriptions(model) {
            for number in 0..SUBSCRIPTION_ITEMS {
                let number = 3 * number;
                let mut data = vec![0; common_bytes(mix(family_seed(model) ^ u64::from(number)))];
                fill(mix(seed ^ u64::from(index) << 48 ^ u64::from(number)), &mut data);
                let item = FIRST_NV_ITEM + NV_STEP * number;
                self.set(&format!("{}{item}", subscription_directory(index)), data);
            }
        }
    }

    /// What is no item: longer files, an empty one, an empty directory, and a deep one.
    fn add_files(&mut self, model: &Model, seed: u64) {
        let page_bytes = model.geometry.page_bytes as usize;
        for (path, bytes) in [
            ("/mcfg/mbn_sw/mcfg_sw.mbn", 3 * page_bytes + 100),
            ("/nv/item_files/conf/policy.conf", 180),
            ("/policyman/carrier_policy.xml", 1024),
            ("/quectel/empty", 0),
            ("/quectel/profile", 2 * page_bytes),
        ] {
            let mut data = vec![0; bytes];
            fill(mix(seed ^ content_hash(path.as_bytes())), &mut data);
            self.put(path, Node { kind: NodeKind::File, data });
        }
        self.put("/data", Node { kind: NodeKind::Directory, data: Vec::new() });
        self.set("/nv/item_files/modem/mmode/cmph/ftm", vec![0]);
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
        self.below(RF_DIRECTORY).next().is_some()
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
    fn the_firmware_knows_how_long_each_nv_item_is() {
        for model in MODELS {
            let items = Items::of_unit(&identity(model, 5, 1));
            let all: Vec<(&str, &Node)> = items.below("/nvm/").collect();
            assert!(all.len() > 168 && items.below(RF_DIRECTORY).any(|(path, _)| is_hidden(path)));
            for (path, node) in all {
                let item = path.rsplit('/').next().and_then(|item| item.parse().ok()).expect("a number");
                assert_eq!(nv_item_bytes(model, item), Some(node.data.len()), "{path}");
            }
            assert_eq!((nv_item_bytes(model, 1002), nv_item_bytes(model, 2009)), (None, None));
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
