//! Partition maps. MDM9x07's is that of a real EG25-G package, RM500Q-GL's that of a captured flash (the gaps the
//! capture leaves are filled), RM520N-GL's is invented after it.

use crate::domain::PageRange;

/// What a partition is for, as the boot sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The first boot loader: without it the boot ROM stays in download mode.
    BootLoader,
    /// The partition table.
    Table,
    /// Loaded by the boot loader before the system: without it, memory-dump mode.
    Chain,
    /// Part of the system: without it, or with one of another revision, the module never answers.
    System,
    /// May hold an image, and boots without it.
    Optional,
    /// Belongs to the unit: EFS, its copy, serial numbers.
    Unit,
}

/// One partition of a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionSpec {
    /// Its name as in the table, without the `0:` in front.
    pub name: &'static str,
    /// Its first page.
    pub start: u64,
    /// Its pages.
    pub pages: u64,
    /// What it is for.
    pub role: Role,
    /// What kind of image belongs into it (two partitions may hold the same); empty where none does.
    pub kind: &'static str,
}

impl PartitionSpec {
    /// Where it lies.
    #[must_use]
    pub const fn range(&self) -> PageRange {
        PageRange { start: self.start, pages: self.pages }
    }
}

const fn partition(name: &'static str, start: u64, pages: u64, role: Role, kind: &'static str) -> PartitionSpec {
    PartitionSpec { name, start, pages, role, kind }
}

use Role::{BootLoader, Chain, Optional, System, Table, Unit};

pub(super) const MDM9X07: &[PartitionSpec] = &[
    partition("SBL", 0, 640, BootLoader, "sbl"),
    partition("MIBIB", 640, 640, Table, ""),
    partition("EFS2", 1280, 8704, Unit, ""),
    partition("sys_rev", 9984, 2560, Unit, ""),
    partition("RAWDATA", 12_544, 640, Unit, ""),
    partition("TZ", 13_184, 768, Chain, "tz"),
    partition("RPM", 13_952, 576, Chain, "rpm"),
    partition("cust_info", 14_528, 1024, Optional, "cust_info"),
    partition("aboot", 15_552, 768, Chain, "aboot"),
    partition("boot", 16_320, 3968, System, "boot"),
    partition("recovery", 20_288, 3968, System, "boot"),
    partition("modem", 24_256, 27_392, System, "modem"),
    partition("misc", 51_648, 320, Optional, "misc"),
    partition("recoveryfs", 51_968, 10_368, System, "recoveryfs"),
    partition("usr_data", 62_336, 30_720, System, "usr_data"),
    partition("sec", 93_056, 256, Optional, "sec"),
    partition("system", 93_312, 37_760, System, "system"),
];

pub(super) const RM500Q: &[PartitionSpec] = &[
    partition("SBL", 0, 640, BootLoader, "sbl"),
    partition("MIBIB", 640, 256, Table, ""),
    partition("EFS2", 896, 5632, Unit, ""),
    partition("sys_rev", 6528, 1536, Unit, ""),
    partition("RAWDATA", 8064, 640, Unit, ""),
    partition("TZ", 8704, 512, Chain, "tz"),
    partition("devcfg", 9216, 320, Chain, "devcfg"),
    partition("sec", 9536, 320, Optional, "sec"),
    partition("apdp", 9856, 320, Optional, "apdp"),
    partition("xbl_cfg", 10_176, 320, Chain, "xbl_cfg"),
    partition("multi_image", 10_496, 320, System, "multi_image"),
    partition("aop", 10_816, 320, Chain, "aop"),
    partition("hyp", 11_136, 320, Chain, "hyp"),
    partition("abl", 11_456, 320, Chain, "abl"),
    partition("uefi", 11_776, 640, Chain, "uefi"),
    partition("toolsfv", 12_416, 960, System, "toolsfv"),
    partition("misc", 13_376, 320, Optional, "misc"),
    partition("boot", 13_696, 3584, System, "boot"),
    partition("recovery", 17_280, 3584, System, "boot"),
    partition("fota", 20_864, 6592, Optional, "fota"),
    partition("modem", 27_456, 28_928, System, "modem"),
    partition("recoveryfs", 56_384, 5120, System, "recoveryfs"),
    partition("usrdata", 61_504, 32_000, System, "usrdata"),
    partition("oemdata", 93_504, 9216, System, "oemdata"),
    partition("system", 102_720, 28_352, System, "system"),
];

pub(super) const RM520N: &[PartitionSpec] = &[
    partition("SBL", 0, 640, BootLoader, "sbl"),
    partition("MIBIB", 640, 256, Table, ""),
    partition("EFS2", 896, 6400, Unit, ""),
    partition("sys_rev", 7296, 1536, Unit, ""),
    partition("RAWDATA", 8832, 640, Unit, ""),
    partition("TZ", 9472, 576, Chain, "tz"),
    partition("devcfg", 10_048, 320, Chain, "devcfg"),
    partition("sec", 10_368, 320, Optional, "sec"),
    partition("apdp", 10_688, 320, Optional, "apdp"),
    partition("xbl_cfg", 11_008, 384, Chain, "xbl_cfg"),
    partition("multi_image", 11_392, 320, System, "multi_image"),
    partition("aop", 11_712, 320, Chain, "aop"),
    partition("hyp", 12_032, 384, Chain, "hyp"),
    partition("abl", 12_416, 384, Chain, "abl"),
    partition("uefi", 12_800, 768, Chain, "uefi"),
    partition("toolsfv", 13_568, 960, System, "toolsfv"),
    partition("misc", 14_528, 320, Optional, "misc"),
    partition("boot", 14_848, 4096, System, "boot"),
    partition("recovery", 18_944, 4096, System, "boot"),
    partition("fota", 23_040, 4480, Optional, "fota"),
    partition("modem", 27_520, 30_720, System, "modem"),
    partition("recoveryfs", 58_240, 5120, System, "recoveryfs"),
    partition("usrdata", 63_360, 30_080, System, "usrdata"),
    partition("oemdata", 93_440, 9216, System, "oemdata"),
    partition("system", 102_656, 28_416, System, "system"),
];
