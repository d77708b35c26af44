//! The models that can be simulated, as data: chip, storage, USB, AT dialect, bands and timing.
//!
//! Everything that differs between modules is a value here; the code of the simulator asks for no model by name.
//! Ids, interface maps and partition maps are those of public captures and of real packages; where no public source
//! gives a value (RM520N-GL's partition map, key hashes, serials), it is invented and says so.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::domain::{ChipId, Geometry, KeyHash, PageRange};
use crate::hardware::{Endpoint, EndpointKind, Interface, Speed};

mod maps;

pub use maps::{PartitionSpec, Role};

/// How the programmer lists its functions when it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BannerStyle {
    /// One log per function, then `End of supported functions N` (SDX55 and later).
    Lines,
    /// All functions in one log `Supported Functions: program configure ...` (MDM9x07).
    OneLine,
}

/// How the model reports its bands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BandDialect {
    /// `AT+QCFG="band"` with masks.
    Qcfg,
    /// `AT+QNWPREFCFG` with lists.
    Qnwprefcfg,
}

/// One endpoint: address, transfer kind and packet size in High-Speed mode (SuperSpeed bulk is 1024 bytes).
pub type EndpointSpec = (u8, EndpointKind, u16);

/// One interface: number, class triple, endpoints.
#[derive(Clone, Copy, Debug)]
pub struct InterfaceSpec {
    /// `bInterfaceNumber`.
    pub number: u8,
    /// Class, subclass, protocol.
    pub class: (u8, u8, u8),
    /// Its endpoints.
    pub endpoints: &'static [EndpointSpec],
}

/// What a module shows on USB in one mode.
#[derive(Clone, Copy, Debug)]
pub struct UsbMode {
    /// `idVendor`.
    pub vendor_id: u16,
    /// `idProduct`.
    pub product_id: u16,
    /// `bcdUSB`.
    pub bcd_usb: u16,
    /// `bcdDevice`.
    pub bcd_device: u16,
    /// `bMaxPower` in mA.
    pub max_power_ma: u16,
    /// Whether `bmAttributes` says that it can wake the host.
    pub remote_wakeup: bool,
    /// Manufacturer string.
    pub manufacturer: &'static str,
    /// Product string; in download mode the beginning, to which `_SN:` and the chip serial are added.
    pub product: &'static str,
    /// Whether there is a serial string.
    pub has_serial: bool,
    /// Speed.
    pub speed: Speed,
    /// Interfaces.
    pub interfaces: &'static [InterfaceSpec],
}

impl UsbMode {
    /// The interfaces as the bus lists them.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Interface> {
        let endpoint = |(address, kind, packet_bytes): &EndpointSpec| {
            let wide = self.speed == Speed::Super && *kind == EndpointKind::Bulk;
            Endpoint { address: *address, kind: *kind, packet_bytes: if wide { 1024 } else { *packet_bytes } }
        };
        let interface = |spec: &InterfaceSpec| Interface {
            number: spec.number,
            class: spec.class,
            endpoints: spec.endpoints.iter().map(endpoint).collect(),
        };
        self.interfaces.iter().map(interface).collect()
    }
}

/// Delays and speeds, in station time.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the DIAG frame to the port's disappearance.
    pub diag_to_drop: Duration,
    /// From the disappearance to the enumeration in download mode.
    pub edl_enumeration: Duration,
    /// From enumeration to HELLO.
    pub hello: Duration,
    /// Per Sahara read of 4 KiB.
    pub sahara_read: Duration,
    /// From `DONE_RESP` to the programmer's first log.
    pub programmer_start: Duration,
    /// From reset to enumeration in normal mode: shortest.
    pub boot_min: Duration,
    /// From reset to enumeration in normal mode: longest.
    pub boot_max: Duration,
    /// From enumeration to `RDY`.
    pub ready: Duration,
    /// From `RDY` until AT commands give more than errors.
    pub at_ready: Duration,
    /// The first erase of a session, which scans for bad blocks.
    pub first_erase: Duration,
    /// Each erased block.
    pub erase_block: Duration,
    /// Writing, bytes per second.
    pub write_bytes_per_second: u64,
    /// Reading, bytes per second.
    pub read_bytes_per_second: u64,
    /// From the drained `power` command to the disconnect.
    pub reset: Duration,
}

/// A model.
#[derive(Debug)]
pub struct Model {
    /// As ATI names it.
    pub name: &'static str,
    /// The family's name in `domain::family`.
    pub family: &'static str,
    /// The chip's name: images and programmers are made for it.
    pub chip: &'static str,
    /// What `contents.xml` calls the product's meta build.
    pub product_name: &'static str,
    /// The Sahara hardware id: `msm_id << 32 | oem << 16 | model`.
    pub hw_id: u64,
    /// The Sahara version of its boot ROM.
    pub sahara_version: u32,
    /// Page and block size.
    pub geometry: Geometry,
    /// Pages of the whole storage.
    pub total_pages: u64,
    /// The partition map, ascending and without gaps; the last one grows to the end.
    pub partitions: &'static [PartitionSpec],
    /// The type allocation code of its IMEIs.
    pub tac: &'static str,
    /// Revisions, oldest first; the last one is what current packages carry.
    pub revisions: &'static [&'static str],
    /// Normal mode.
    pub normal: UsbMode,
    /// Emergency download mode.
    pub edl: UsbMode,
    /// Memory-dump mode.
    pub dump: UsbMode,
    /// Interface number of the DIAG port in normal mode.
    pub diag_interface: u8,
    /// Interface number of the AT port in normal mode.
    pub at_interface: u8,
    /// Largest payload its programmer takes, in bytes.
    pub payload_bytes: u32,
    /// How the programmer begins.
    pub banner: BannerStyle,
    /// Whether the programmer takes its first command only after a log was read.
    pub wants_log_read_first: bool,
    /// What its programmer returns for erased pages.
    pub blank_read: u8,
    /// LTE bands, configuration and policy alike.
    pub lte: &'static [u16],
    /// NR stand-alone bands.
    pub nr_sa: &'static [u16],
    /// NR non-stand-alone bands.
    pub nr_nsa: &'static [u16],
    /// How it reports them.
    pub bands: BandDialect,
    /// The GSM and WCDMA mask of `AT+QCFG="band"`.
    pub gw_mask: u32,
    /// The CME error of `AT+CFUN=1` when the EFS is lost.
    pub lost_efs_cme: u16,
    /// The first RF calibration items (those that a controller asks for); more follow by number.
    pub rf_items: &'static [&'static str],
    /// How many RF items a unit has in all.
    pub rf_item_count: u32,
    /// Delays and speeds.
    pub timing: Timing,
}

impl Model {
    /// The model that ATI names so.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        MODELS.iter().find(|model| model.name == name)
    }

    /// The revision that current packages carry.
    #[must_use]
    pub fn current_revision(&self) -> &'static str {
        self.revisions.last().copied().unwrap_or_default()
    }

    /// The digest of the key that the chip's fuses hold: the programmer must be signed with it. Invented, equal for
    /// all modules of a chip.
    #[must_use]
    pub fn key_hash(&self) -> KeyHash {
        key_hash_of(self.chip)
    }

    /// The chip identity of a serial number.
    #[must_use]
    pub fn chip_id(&self, serial: u32) -> ChipId {
        ChipId { hw_id: self.hw_id, serial }
    }

    /// The product string in download mode, with the chip's serial in it.
    #[must_use]
    pub fn edl_product(&self, serial: u32) -> String {
        format!("{}_SN:{serial:08X}", self.edl.product)
    }

    /// A partition by its name, without regard to case.
    #[must_use]
    pub fn partition(&self, name: &str) -> Option<&'static PartitionSpec> {
        self.partitions.iter().find(|partition| partition.name.eq_ignore_ascii_case(name))
    }

    /// Where a partition lies in the model's own map.
    #[must_use]
    pub fn range(&self, name: &str) -> Option<PageRange> {
        self.partition(name).map(|partition| partition.range())
    }

    /// Erase blocks of the whole storage.
    #[must_use]
    pub const fn total_blocks(&self) -> u64 {
        self.total_pages / self.geometry.pages_per_block as u64
    }
}

/// The 48-byte key digest for a chip's (or a foreign maker's) name.
#[must_use]
pub(crate) fn key_hash_of(name: &str) -> KeyHash {
    let first: [u8; 32] = Sha256::digest(format!("simulated root key of {name}")).into();
    let second: [u8; 32] = Sha256::digest(first).into();
    let mut bytes = [0; 48];
    bytes[..32].copy_from_slice(&first);
    bytes[32..].copy_from_slice(&second[..16]);
    KeyHash::new(&bytes).expect("48 bytes are a key hash's length")
}

const BULK: EndpointKind = EndpointKind::Bulk;
const INTERRUPT: EndpointKind = EndpointKind::Interrupt;

/// MDM9x07: DIAG, NMEA, AT, MODEM, QMI.
const INTERFACES_9X07: &[InterfaceSpec] = &[
    InterfaceSpec { number: 0, class: (0xff, 0xff, 0xff), endpoints: &[(0x81, BULK, 512), (0x01, BULK, 512)] },
    InterfaceSpec {
        number: 1,
        class: (0xff, 0, 0),
        endpoints: &[(0x83, INTERRUPT, 10), (0x82, BULK, 512), (0x02, BULK, 512)],
    },
    InterfaceSpec {
        number: 2,
        class: (0xff, 0, 0),
        endpoints: &[(0x85, INTERRUPT, 10), (0x84, BULK, 512), (0x03, BULK, 512)],
    },
    InterfaceSpec {
        number: 3,
        class: (0xff, 0, 0),
        endpoints: &[(0x87, INTERRUPT, 10), (0x86, BULK, 512), (0x04, BULK, 512)],
    },
    InterfaceSpec {
        number: 4,
        class: (0xff, 0xff, 0xff),
        endpoints: &[(0x89, INTERRUPT, 8), (0x88, BULK, 512), (0x05, BULK, 512)],
    },
];

/// SDX55 and SDX62: DIAG, NMEA, AT, MODEM, QMI.
const INTERFACES_SDX: &[InterfaceSpec] = &[
    InterfaceSpec { number: 0, class: (0xff, 0xff, 0x30), endpoints: &[(0x01, BULK, 512), (0x81, BULK, 512)] },
    InterfaceSpec {
        number: 1,
        class: (0xff, 0, 0x40),
        endpoints: &[(0x83, INTERRUPT, 10), (0x82, BULK, 512), (0x02, BULK, 512)],
    },
    InterfaceSpec {
        number: 2,
        class: (0xff, 0, 0),
        endpoints: &[(0x85, INTERRUPT, 10), (0x84, BULK, 512), (0x03, BULK, 512)],
    },
    InterfaceSpec {
        number: 3,
        class: (0xff, 0, 0),
        endpoints: &[(0x87, INTERRUPT, 10), (0x86, BULK, 512), (0x04, BULK, 512)],
    },
    InterfaceSpec {
        number: 4,
        class: (0xff, 0xff, 0xff),
        endpoints: &[(0x88, INTERRUPT, 8), (0x8e, BULK, 512), (0x0f, BULK, 512)],
    },
];

const INTERFACES_EDL: &[InterfaceSpec] =
    &[InterfaceSpec { number: 0, class: (0xff, 0xff, 0xff), endpoints: &[(0x81, BULK, 512), (0x01, BULK, 512)] }];
const INTERFACES_EDL_SDX: &[InterfaceSpec] =
    &[InterfaceSpec { number: 0, class: (0xff, 0xff, 0x11), endpoints: &[(0x81, BULK, 512), (0x01, BULK, 512)] }];

const fn edl(product: &'static str, interfaces: &'static [InterfaceSpec]) -> UsbMode {
    UsbMode {
        vendor_id: 0x05c6,
        product_id: 0x9008,
        bcd_usb: 0x0200,
        bcd_device: 0x0000,
        max_power_ma: 2,
        remote_wakeup: false,
        manufacturer: "Qualcomm CDMA Technologies MSM",
        product,
        has_serial: false,
        speed: Speed::High,
        interfaces,
    }
}

const fn dump(product: &'static str, interfaces: &'static [InterfaceSpec]) -> UsbMode {
    UsbMode { product_id: 0x900e, ..edl(product, interfaces) }
}

const fn normal(product_id: u16, product: &'static str, bcd: (u16, u16), super_speed: bool) -> UsbMode {
    UsbMode {
        vendor_id: 0x2c7c,
        product_id,
        bcd_usb: bcd.0,
        bcd_device: bcd.1,
        max_power_ma: if super_speed { 896 } else { 500 },
        remote_wakeup: true,
        manufacturer: "Quectel",
        product,
        has_serial: super_speed,
        speed: if super_speed { Speed::Super } else { Speed::High },
        interfaces: if super_speed { INTERFACES_SDX } else { INTERFACES_9X07 },
    }
}

const TIMING_9X07: Timing = Timing {
    diag_to_drop: Duration::from_millis(400),
    edl_enumeration: Duration::from_millis(2500),
    hello: Duration::from_millis(40),
    sahara_read: Duration::from_millis(1),
    programmer_start: Duration::from_millis(500),
    boot_min: Duration::from_secs(18),
    boot_max: Duration::from_secs(22),
    ready: Duration::from_millis(1500),
    at_ready: Duration::from_secs(3),
    first_erase: Duration::from_millis(470),
    erase_block: Duration::from_micros(4500),
    write_bytes_per_second: 3_800_000,
    read_bytes_per_second: 4_500_000,
    reset: Duration::from_millis(200),
};

const TIMING_SDX: Timing = Timing {
    programmer_start: Duration::from_millis(1000),
    boot_min: Duration::from_secs(20),
    boot_max: Duration::from_secs(25),
    ..TIMING_9X07
};

const LTE_EG25: &[u16] = &[1, 2, 3, 4, 5, 7, 8, 12, 13, 18, 19, 20, 25, 26, 28, 38, 39, 40, 41];
const LTE_EC25: &[u16] = &[1, 3, 5, 7, 8, 20, 38, 40, 41];
const LTE_RM5XX: &[u16] = &[
    1, 2, 3, 4, 5, 7, 8, 12, 13, 14, 17, 18, 19, 20, 25, 26, 28, 29, 30, 32, 34, 38, 39, 40, 41, 42, 43, 46, 48, 66, 71,
];
const NR_RM500Q: &[u16] = &[1, 2, 3, 5, 7, 8, 12, 20, 25, 28, 38, 40, 41, 48, 66, 71, 77, 78, 79];
const NR_RM520N: &[u16] =
    &[1, 2, 3, 5, 7, 8, 12, 13, 14, 18, 20, 25, 26, 28, 29, 30, 38, 40, 41, 48, 66, 70, 71, 75, 76, 77, 78, 79];

const RF_LTE: &[&str] =
    &["/nv/item_files/rfnv/00020175", "/nv/item_files/rfnv/00020993", "/nv/item_files/rfnv/00022191"];
const RF_NR: &[&str] = &[
    "/nv/item_files/rfnv/00020175",
    "/nv/item_files/rfnv/00022191",
    "/nv/item_files/rfnv/00029605",
    "/nv/item_files/rfnv/00031247",
];

const NAND_2K: Geometry = Geometry { page_bytes: 2048, pages_per_block: 64 };
const NAND_4K: Geometry = Geometry { page_bytes: 4096, pages_per_block: 64 };

const EG25: Model = Model {
    name: "EG25-G",
    family: "mdm9x07",
    chip: "MDM9607",
    product_name: "MDM9607.LE.1.0",
    hw_id: 0x0004_a0e1_0000_0000,
    sahara_version: 2,
    geometry: NAND_2K,
    total_pages: 131_072,
    partitions: maps::MDM9X07,
    tac: "86481703",
    revisions: &["EG25GGBR07A06M2G_01.002.01.002", "EG25GGBR07A07M2G_01.001.01.001", "EG25GGBR07A08M2G_30.006.30.006"],
    normal: normal(0x0125, "EG25-G", (0x0200, 0x0318), false),
    edl: edl("QUSB_BULK_CID:040E", INTERFACES_EDL),
    dump: dump("QUSB_BULK_CID:040E", INTERFACES_EDL),
    diag_interface: 0,
    at_interface: 2,
    payload_bytes: 16_384,
    banner: BannerStyle::OneLine,
    wants_log_read_first: true,
    blank_read: 0xff,
    lte: LTE_EG25,
    nr_sa: &[],
    nr_nsa: &[],
    bands: BandDialect::Qcfg,
    gw_mask: 0x2ff,
    lost_efs_cme: 3,
    rf_items: RF_LTE,
    rf_item_count: 64,
    timing: TIMING_9X07,
};

const RM500Q: Model = Model {
    name: "RM500Q-GL",
    family: "sdx55",
    chip: "SDX55",
    product_name: "SDX55.LE.1.0",
    hw_id: 0x000e_50e1_0000_0000,
    sahara_version: 2,
    geometry: NAND_4K,
    total_pages: 131_072,
    partitions: maps::RM500Q,
    tac: "86739507",
    revisions: &[
        "RM500QGLAAR13A01M4G_01.001.01.001",
        "RM500QGLABR11A06M4G_01.201.01.201",
        "RM500QGLABR13A03M4G_01.001.01.001",
    ],
    normal: normal(0x0800, "RM500Q-GL", (0x0320, 0x0414), true),
    edl: edl("QUSB_BULK_CID:0410", INTERFACES_EDL_SDX),
    dump: dump("QUSB_BULK_CID:0410", INTERFACES_EDL_SDX),
    diag_interface: 0,
    at_interface: 2,
    payload_bytes: 8_192,
    banner: BannerStyle::Lines,
    wants_log_read_first: false,
    blank_read: 0xee,
    lte: LTE_RM5XX,
    nr_sa: NR_RM500Q,
    nr_nsa: NR_RM500Q,
    bands: BandDialect::Qnwprefcfg,
    gw_mask: 0,
    lost_efs_cme: 0,
    rf_items: RF_NR,
    rf_item_count: 96,
    timing: TIMING_SDX,
};

/// Every model.
pub static MODELS: &[Model] = &[
    EG25,
    Model {
        name: "EC25",
        tac: "86185104",
        revisions: &[
            "EC25EFAR06A06M4G_01.001.01.001",
            "EC25EFAR06A08M4G_20.100.20.100",
            "EC25EFAR06A10M4G_20.200.20.200",
        ],
        normal: normal(0x0125, "EC25", (0x0200, 0x0318), false),
        lte: LTE_EC25,
        gw_mask: 0x93,
        ..EG25
    },
    RM500Q,
    Model {
        name: "RM520N-GL",
        family: "sdx62",
        chip: "SDX62",
        product_name: "SDX62.LE.1.0",
        hw_id: 0x0019_90e1_0000_0000,
        partitions: maps::RM520N,
        tac: "86821605",
        revisions: &[
            "RM520NGLAAR01A08M4G_01.007.01.007",
            "RM520NGLAAR03A02M4G_01.200.01.200",
            "RM520NGLAAR03A03M4G_04.211.04.211",
        ],
        normal: normal(0x0801, "RM520N-GL", (0x0320, 0x0504), true),
        edl: edl("QUSB_BULK_CID:0413", INTERFACES_EDL_SDX),
        dump: dump("QUSB_BULK_CID:0413", INTERFACES_EDL_SDX),
        payload_bytes: 16_384,
        nr_sa: NR_RM520N,
        nr_nsa: NR_RM520N,
        rf_item_count: 128,
        ..RM500Q
    },
];

#[cfg(test)]
mod tests;
