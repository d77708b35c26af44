//! Families of modules as data: USB ids, interface map, storage, AT dialect and quirks.
//!
//! A further family is a further entry of [`FAMILIES`]; no code asks for a family by its name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Pages and blocks of a NAND.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// Bytes of a page (Firehose calls it a sector).
    pub page_bytes: u32,
    /// Pages of an erase block.
    pub pages_per_block: u32,
}

impl Geometry {
    /// Bytes of an erase block.
    #[must_use]
    pub const fn block_bytes(self) -> u64 {
        self.page_bytes as u64 * self.pages_per_block as u64
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (page, block) = (self.page_bytes, self.block_bytes());
        write!(f, "{page} B pages, {} KiB blocks", block / 1024)
    }
}

/// A set of bands that a module reports.
///
/// *Configuration* is what is switched on in the module's NV; *policy* is what its carrier configuration permits. A
/// band works only where both have it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BandSet {
    /// LTE, configuration.
    LteConfig,
    /// NR stand-alone, configuration.
    NrSaConfig,
    /// NR non-stand-alone, configuration.
    NrNsaConfig,
    /// LTE, policy.
    LtePolicy,
    /// NR stand-alone, policy.
    NrSaPolicy,
    /// NR non-stand-alone, policy.
    NrNsaPolicy,
}

impl BandSet {
    /// The name used for measurements and in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LteConfig => "lte_config",
            Self::NrSaConfig => "nr_sa_config",
            Self::NrNsaConfig => "nr_nsa_config",
            Self::LtePolicy => "lte_policy",
            Self::NrSaPolicy => "nr_sa_policy",
            Self::NrNsaPolicy => "nr_nsa_policy",
        }
    }
}

/// How a reply lists bands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BandReply {
    /// `+QNWPREFCFG: "<key>",1:2:78`; `0` is the empty set.
    List {
        /// The quoted key whose line is meant.
        key: &'static str,
    },
    /// `+QCFG: "band",0x<gw>,0x<lte>,0x<td>`: bit n-1 of the LTE mask is band n.
    LteMask,
}

/// One query that yields one band set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BandQuery {
    /// The set that it yields.
    pub set: BandSet,
    /// The AT command.
    pub command: &'static str,
    /// How to read the reply.
    pub reply: BandReply,
}

/// What modules of a family keep in NV items and in the files of their EFS, as far as a backup over DIAG must know it.
#[derive(Debug)]
pub struct NvData {
    /// The last NV item that is asked for; the first one is 0.
    pub item_max: u16,
    /// Subscriptions that have NV items of their own besides those of the module, by their index.
    pub subscriptions: &'static [u16],
    /// The directory of the RF calibration, without a slash at its end. Its items are named by eight decimal digits.
    pub rf_directory: &'static str,
    /// Numbers by which RF items are asked for that are hidden from a listing: the first and the last.
    pub rf_numbers: (u32, u32),
    /// The directory of the files that say which configuration a module was provisioned with.
    pub provisioning_directory: &'static str,
    /// NV items without which no module is whole; the IMEI is among them.
    pub required_items: &'static [u16],
    /// Fewest NV items, those of all subscriptions together.
    pub items_min: u32,
    /// Fewest files, RF items included.
    pub files_min: u32,
    /// Fewest RF items.
    pub rf_items_min: u32,
    /// Paths of what changes at each start: neither kept, nor compared, nor given back.
    pub volatile_paths: &'static [&'static str],
    /// The same of NV items of the module.
    pub volatile_items: &'static [u16],
}

/// A kind of module.
#[derive(Debug)]
pub struct Family {
    /// The name used in profiles and records.
    pub name: &'static str,
    /// USB vendor and product ids in normal mode.
    pub usb_ids: &'static [(u16, u16)],
    /// Models as ATI names them. A profile's `models` are among these.
    pub models: &'static [&'static str],
    /// Interface number of the DIAG port.
    pub diag_interface: u8,
    /// Interface number of the AT port.
    pub at_interface: u8,
    /// Whether the module is a SuperSpeed device in normal mode (and hops to the USB 2 side in download mode).
    pub superspeed: bool,
    /// Pages and blocks of its NAND.
    pub geometry: Geometry,
    /// Payload that its programmer is asked for first, in bytes.
    pub payload_bytes: u32,
    /// Partitions that belong to the unit: the EFS first, then the module's own copies of it and of its identity.
    pub guarded: &'static [&'static str],
    /// Partitions without which the module cannot start its modem, in the order of the start; the boot loader first.
    pub boot_chain: &'static [&'static str],
    /// The command for the full revision, and the command for the IMEI.
    pub revision_command: &'static str,
    /// The command for the IMEI.
    pub imei_command: &'static str,
    /// The band sets it can report.
    pub bands: &'static [BandQuery],
    /// Paths of RF calibration items that every good unit of the family has; read with `AT+QNVFR`.
    pub calibration_items: &'static [&'static str],
    /// Where everything lies that a backup over DIAG reads, and how much of it there is at the least.
    pub nv: NvData,
    /// The CME error that `AT+CFUN=1` gives when the EFS is lost.
    pub lost_efs_cme: u16,
    /// Whether the host must have read a log line before the programmer takes its first command.
    pub wants_log_read_first: bool,
    /// How long the module may take from reset to an answering AT port, in seconds, at the most.
    pub boot_seconds_max: u32,
}

/// Vendor and product ids of emergency download mode (Sahara and Firehose).
pub const EDL_IDS: &[(u16, u16)] =
    &[(0x05c6, 0x9008), (0x05c6, 0x901f), (0x05c6, 0x9091), (0x05c6, 0x90db), (0x3c93, 0xffff), (0x3763, 0x3c93)];
/// `bInterfaceProtocol` of the one interface in download mode; its class and subclass are vendor-specific.
pub const EDL_PROTOCOLS: &[u8] = &[0xff, 0x10, 0x11, 0x13];
/// Vendor and product ids of memory-dump mode.
pub const DUMP_IDS: &[(u16, u16)] = &[(0x05c6, 0x900e), (0x05c6, 0x901d), (0x05c6, 0x9025), (0x05c6, 0x9006)];
/// The vendor id that Quectel modules keep even in some download modes.
pub const QUECTEL_VENDOR_ID: u16 = 0x2c7c;
/// How the product string of a download mode begins.
pub const EDL_PRODUCT_PREFIXES: &[&str] = &["QUSB_BULK", "QHSUSB__BULK", "QHSUSB_BULK"];

const QNWPREFCFG: &[BandQuery] = &[
    BandQuery {
        set: BandSet::LteConfig,
        command: "AT+QNWPREFCFG=\"lte_band\"",
        reply: BandReply::List { key: "lte_band" },
    },
    BandQuery {
        set: BandSet::NrSaConfig,
        command: "AT+QNWPREFCFG=\"nr5g_band\"",
        reply: BandReply::List { key: "nr5g_band" },
    },
    BandQuery {
        set: BandSet::NrNsaConfig,
        command: "AT+QNWPREFCFG=\"nsa_nr5g_band\"",
        reply: BandReply::List { key: "nsa_nr5g_band" },
    },
    BandQuery {
        set: BandSet::LtePolicy,
        command: "AT+QNWPREFCFG=\"policy_band\"",
        reply: BandReply::List { key: "lte_band" },
    },
    BandQuery {
        set: BandSet::NrSaPolicy,
        command: "AT+QNWPREFCFG=\"policy_band\"",
        reply: BandReply::List { key: "nr5g_band" },
    },
    BandQuery {
        set: BandSet::NrNsaPolicy,
        command: "AT+QNWPREFCFG=\"policy_band\"",
        reply: BandReply::List { key: "nsa_nr5g_band" },
    },
];

const RF_ITEMS_LTE: &[&str] =
    &["/nv/item_files/rfnv/00020175", "/nv/item_files/rfnv/00020993", "/nv/item_files/rfnv/00022191"];
const RF_ITEMS_NR: &[&str] = &[
    "/nv/item_files/rfnv/00020175",
    "/nv/item_files/rfnv/00022191",
    "/nv/item_files/rfnv/00029605",
    "/nv/item_files/rfnv/00031247",
];

/// Ranges and directories are those that public tools ask for; the counts are half of what is usual, so that a module
/// with fewer subscriptions or an older firmware passes and an empty one does not.
const NV_LTE: NvData = NvData {
    item_max: 8192,
    subscriptions: &[1],
    rf_directory: "/nv/item_files/rfnv",
    rf_numbers: (20_000, 32_000),
    provisioning_directory: "/nv/item_files/conf",
    required_items: &[IMEI_ITEM],
    items_min: 80,
    files_min: 40,
    rf_items_min: 24,
    volatile_paths: &["/quectel/boot_count"],
    volatile_items: &[],
};
const NV_NR: NvData = NvData { subscriptions: &[1, 2], items_min: 100, files_min: 60, rf_items_min: 40, ..NV_LTE };

const NAND_2K: Geometry = Geometry { page_bytes: 2048, pages_per_block: 64 };
const NAND_4K: Geometry = Geometry { page_bytes: 4096, pages_per_block: 64 };

/// The NV item that holds the IMEI, in swapped BCD. General knowledge, not checked against a real module.
pub const IMEI_ITEM: u16 = 550;

/// Every family the controller knows. Ids, interface maps and replies are those of public captures and of Linux'
/// `option` driver.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "mdm9x07",
        usb_ids: &[(0x2c7c, 0x0125)],
        models: &["EG25-G", "EC25"],
        diag_interface: 0,
        at_interface: 2,
        superspeed: false,
        geometry: NAND_2K,
        payload_bytes: 16_384,
        guarded: &["efs2", "sys_rev", "rawdata"],
        boot_chain: &["sbl", "mibib", "tz", "rpm", "aboot"],
        revision_command: "AT+QGMR",
        imei_command: "AT+CGSN",
        bands: &[BandQuery { set: BandSet::LteConfig, command: "AT+QCFG=\"band\"", reply: BandReply::LteMask }],
        calibration_items: RF_ITEMS_LTE,
        nv: NV_LTE,
        lost_efs_cme: 3,
        wants_log_read_first: true,
        boot_seconds_max: 60,
    },
    Family {
        name: "sdx55",
        usb_ids: &[(0x2c7c, 0x0800)],
        models: &["RM500Q-GL"],
        diag_interface: 0,
        at_interface: 2,
        superspeed: true,
        geometry: NAND_4K,
        payload_bytes: 8_192,
        guarded: &["efs2", "sys_rev", "rawdata"],
        boot_chain: &["sbl", "mibib", "tz", "devcfg", "xbl_cfg", "aop", "hyp", "abl", "uefi"],
        revision_command: "AT+QGMR",
        imei_command: "AT+CGSN",
        bands: QNWPREFCFG,
        calibration_items: RF_ITEMS_NR,
        nv: NV_NR,
        lost_efs_cme: 0,
        wants_log_read_first: false,
        boot_seconds_max: 90,
    },
    Family {
        name: "sdx62",
        usb_ids: &[(0x2c7c, 0x0801)],
        models: &["RM520N-GL"],
        diag_interface: 0,
        at_interface: 2,
        superspeed: true,
        geometry: NAND_4K,
        payload_bytes: 16_384,
        guarded: &["efs2", "sys_rev", "rawdata"],
        boot_chain: &["sbl", "mibib", "tz", "devcfg", "xbl_cfg", "aop", "hyp", "abl", "uefi"],
        revision_command: "AT+QGMR",
        imei_command: "AT+CGSN",
        bands: QNWPREFCFG,
        calibration_items: RF_ITEMS_NR,
        nv: NV_NR,
        lost_efs_cme: 0,
        wants_log_read_first: false,
        boot_seconds_max: 90,
    },
];

impl Family {
    /// The family of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    /// The family with that USB id in normal mode.
    #[must_use]
    pub fn by_usb_id(vendor_id: u16, product_id: u16) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.usb_ids.contains(&(vendor_id, product_id)))
    }

    /// The query for a band set; `None` where the family cannot report it.
    #[must_use]
    pub fn band_query(&self, set: BandSet) -> Option<&'static BandQuery> {
        self.bands.iter().find(|query| query.set == set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ids_and_models_are_unique() {
        for (index, family) in FAMILIES.iter().enumerate() {
            for other in &FAMILIES[index + 1..] {
                assert_ne!(family.name, other.name);
                assert!(family.usb_ids.iter().all(|id| !other.usb_ids.contains(id)));
                assert!(family.models.iter().all(|model| !other.models.contains(model)));
            }
        }
    }

    #[test]
    fn calibration_lies_where_rf_items_are_looked_for() {
        for family in FAMILIES {
            let (first, last) = family.nv.rf_numbers;
            for path in family.calibration_items {
                let number = path.strip_prefix(family.nv.rf_directory).and_then(|name| name.strip_prefix('/'));
                let number = number.filter(|name| name.len() == 8).and_then(|name| name.parse::<u32>().ok());
                assert!(number.is_some_and(|number| (first..=last).contains(&number)), "{path}");
            }
            assert!(family.nv.required_items.contains(&IMEI_ITEM));
        }
    }
}
