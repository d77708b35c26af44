//! Facts: what is durable, chained in the ledger, and what every report is made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    BatchId, ChipId, Diagnosis, FailureCode, Geometry, Imei, KeyHash, Measurement, Phase, PortChain, Qualification,
    RunId, RunRecord, Sha256Digest, SlotName, StationName,
};

/// What a module says of itself over AT.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The model as ATI names it, printable.
    pub model: String,
    /// The full firmware revision, printable.
    pub revision: String,
    /// The IMEI, where it is a valid one.
    pub imei: Option<Imei>,
    /// The answer to the IMEI query as it was, printable: what a person sees when it is not valid.
    pub imei_text: String,
    /// The number in `+CFUN: n`, where it was readable.
    pub cfun: Option<u8>,
    /// Band sets by name ([`super::BandSet::as_str`]), each ascending.
    pub bands: BTreeMap<String, Vec<u16>>,
    /// SHA-256 over the family's RF calibration items; `None` when one of them is missing.
    pub calibration: Option<Sha256Digest>,
}

impl Identity {
    /// The digest of RF calibration items, in the order of the family's list; `None` where there is none at all.
    #[must_use]
    pub fn calibration_of<'a>(items: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Option<Sha256Digest> {
        let mut hasher = Sha256::new();
        let mut count = 0;
        for (path, content) in items {
            hasher.update(path.as_bytes());
            hasher.update((content.len() as u64).to_le_bytes());
            hasher.update(content);
            count += 1;
        }
        (count > 0).then(|| Sha256Digest::finish(hasher))
    }
}

/// A range of pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageRange {
    /// The first page.
    pub start: u64,
    /// How many; never 0.
    pub pages: u64,
}

impl PageRange {
    /// The page after the last one.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.start.saturating_add(self.pages)
    }

    /// Whether the two have a page in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// Whether `other` lies in this one completely.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

/// One partition of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupPart {
    /// The partition's name, printable, as in the module's table.
    pub partition: String,
    /// Where it lies.
    pub range: PageRange,
    /// SHA-256 of its bytes as they were read.
    pub sha256: Sha256Digest,
    /// Pages that are not blank.
    pub used_pages: u64,
}

/// What kind of content a backup has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupKind {
    /// The pages of partitions, read in download mode.
    #[default]
    Raw,
    /// An XQCN file: NV items and EFS files, read over DIAG from a running module.
    Xqcn,
}

impl std::fmt::Display for BackupKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Xqcn => "xqcn",
        })
    }
}

/// How much is in an XQCN file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XqcnCounts {
    /// NV items of all subscriptions.
    pub nv_items: u64,
    /// EFS files, item files included.
    pub files: u64,
    /// EFS directories.
    pub directories: u64,
}

/// The bad blocks of a storage, as its programmer tells of them: it counts those of the whole storage, and names one
/// whenever a command steps over it.
///
/// A programmer passes over bad blocks when it reads and when it writes, so what was read through one set of them comes
/// to lie elsewhere when it is written through another.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadBlocks {
    /// Numbers of those that were named while the backup's partitions were read, ascending, at most
    /// [`super::limits::BAD_BLOCKS_MAX`].
    pub named: Vec<u32>,
    /// How many the whole storage has, where the programmer says so.
    pub counted: Option<u32>,
}

impl BadBlocks {
    /// Whether pages that were read over these come to lie where they were when they are written over `now`.
    ///
    /// Blocks that are named decide. Where none is, the count is all there is, and another count is another layout.
    #[must_use]
    pub fn is_same_layout(&self, now: &Self) -> bool {
        self.named == now.named && (!self.named.is_empty() || self.counted == now.counted)
    }

    /// Whether the programmer has told anything of bad blocks. Where it never does, two layouts are equal for all that is
    /// known, which is nothing.
    #[must_use]
    pub fn is_told(&self) -> bool {
        !self.named.is_empty() || self.counted.is_some()
    }

    /// The same where `now` is what a part of the pages has named: nothing speaks against it.
    #[must_use]
    pub fn may_be_layout(&self, now: &Self) -> bool {
        let is_count_known = self.counted.is_some() && now.counted.is_some();
        now.named.iter().all(|block| self.named.binary_search(block).is_ok())
            && (!is_count_known || self.counted == now.counted)
    }
}

/// A stored backup, as the ledger names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRef {
    /// SHA-256 of its content, unsealed: its name in the vault.
    pub id: Sha256Digest,
    /// What kind of content it has.
    #[serde(default, skip_serializing_if = "is_raw")]
    pub kind: BackupKind,
    /// The chip it was read from; the only one it may ever be written to.
    pub chip: ChipId,
    /// The IMEI that the module reported before.
    pub imei: Imei,
    /// Page and block size of what was read page by page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geometry: Option<Geometry>,
    /// What is in it: the guarded partitions and the partition table. Empty for an XQCN file.
    pub parts: Vec<BackupPart>,
    /// Bytes that were read from the module.
    pub bytes: u64,
    /// The bad blocks under it; `None` where they were not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_blocks: Option<BadBlocks>,
    /// What is in an XQCN file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xqcn: Option<XqcnCounts>,
    /// Why a repair must not use it, although it is what was read: the module was not well. `None` for a good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_raw(kind: &BackupKind) -> bool {
    *kind == BackupKind::Raw
}

/// What a run is about to do to a module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSummary {
    /// SHA-256 over the plan's operations in their order.
    pub digest: Sha256Digest,
    /// Every range that will be erased.
    pub erases: Vec<PageRange>,
    /// Every range that will be programmed.
    pub programs: Vec<PageRange>,
    /// The guarded ranges, none of which is among the others.
    pub guarded: Vec<PageRange>,
}

impl PlanSummary {
    /// The first range that an earlier plan erased or programmed and this one does not erase: what would stay half
    /// written if this plan were done in its place. `None` where this one covers the earlier one.
    #[must_use]
    pub fn first_uncovered(&self, earlier: &Self) -> Option<PageRange> {
        let mut erases = self.erases.clone();
        erases.sort_unstable();
        let uncovered = |range: &PageRange| {
            let mut start = range.start;
            for erase in &erases {
                if erase.start <= start && start < erase.end() {
                    start = erase.end();
                }
            }
            (start < range.end()).then(|| PageRange { start, pages: range.end() - start })
        };
        earlier
            .erases
            .iter()
            .chain(&earlier.programs)
            .filter_map(uncovered)
            .min_by_key(|range| (range.start, std::cmp::Reverse(range.pages)))
    }
}

/// What a module that is not well is told over AT.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cure {
    /// To leave its mode (`AT+CFUN=1`).
    LeaveMode,
    /// To put back its own second copy of the EFS (`AT+QPRTPARA=3`).
    OwnCopy,
}

/// Everything the ledger can hold. The tag of each is its stable name in the file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A controller began to work on this state directory.
    StationStarted {
        /// The station.
        station: StationName,
        /// The controller's version.
        version: String,
        /// Whether its hardware is simulated.
        simulated: bool,
        /// How much faster than real its clock runs; 1 on real hardware.
        time_scale: u32,
        /// SHA-256 of the station file.
        config: Sha256Digest,
    },
    /// It ended in an orderly way.
    StationStopped {
        /// The station.
        station: StationName,
    },
    /// A batch began, or goes on.
    BatchOpened {
        /// The batch.
        batch: BatchId,
        /// Finished units after which it ends; `None` where it goes on until stopped.
        units: Option<u32>,
        /// Profile names with the digests of profile and package.
        profiles: BTreeMap<String, (Sha256Digest, Sha256Digest)>,
    },
    /// A run began.
    RunStarted {
        /// The run.
        run: RunId,
        /// Its batch.
        batch: BatchId,
        /// Where.
        slot: SlotName,
        /// The port chain at which the module was found.
        chain: PortChain,
        /// What the module says of itself; `None` when it is in download mode or does not answer.
        identity: Option<Identity>,
    },
    /// A profile fits and the module may be worked on.
    Admitted {
        /// The run.
        run: RunId,
        /// The profile's name.
        profile: String,
        /// SHA-256 of the profile file.
        profile_digest: Sha256Digest,
        /// SHA-256 over the package.
        package_digest: Sha256Digest,
        /// Whether it is flashed, or only verified.
        flash: bool,
    },
    /// The chip was read over Sahara and the unit is claimed for this run.
    Claimed {
        /// The run.
        run: RunId,
        /// The chip.
        chip: ChipId,
        /// The digest of the key it trusts.
        key_hash: KeyHash,
        /// The IMEI it reported before.
        imei: Imei,
        /// Which attempt at this unit this is, from 1.
        attempt: u32,
    },
    /// A claim was refused, because the IMEI or the chip belongs to another unit.
    ClaimRefused {
        /// The run whose claim was refused.
        run: RunId,
        /// Its chip.
        chip: ChipId,
        /// Its IMEI.
        imei: Imei,
        /// The run that has the older claim.
        holder: RunId,
        /// Why.
        code: FailureCode,
    },
    /// A backup is durable and valid.
    BackupStored {
        /// The run.
        run: RunId,
        /// The backup.
        backup: BackupRef,
    },
    /// Somebody gave a backup that was taken elsewhere. It was verified and is durable.
    BackupImported {
        /// The backup.
        backup: BackupRef,
        /// Who gave it, printable: another station, a person.
        given_by: String,
    },
    /// The module is not well: what it says, and what that means.
    Diagnosed {
        /// The run.
        run: RunId,
        /// What is wrong.
        diagnosis: Diagnosis,
    },
    /// The run relies on a backup that was taken earlier, of the chip that it has claimed, and that was verified now.
    BackupChosen {
        /// The run.
        run: RunId,
        /// The backup.
        backup: BackupRef,
        /// Whether because a person wants it so.
        #[serde(default, skip_serializing_if = "super::outcome::is_false")]
        by_hand: bool,
    },
    /// The module is told something that may change what it has stored of itself. Durable before it is sent.
    Cure {
        /// The run.
        run: RunId,
        /// What.
        cure: Cure,
    },
    /// The guarded partitions were read a second time and are equal to the backup.
    BackupConfirmed {
        /// The run.
        run: RunId,
        /// The backup.
        backup: Sha256Digest,
        /// Bytes that were read again.
        bytes: u64,
    },
    /// The next command changes the module. Durable before it is sent.
    Intent {
        /// The run.
        run: RunId,
        /// The chip that the open session belongs to.
        chip: ChipId,
        /// The package.
        package_digest: Sha256Digest,
        /// What will be done.
        plan: PlanSummary,
        /// The backup that makes it permissible.
        backup: Sha256Digest,
    },
    /// What belongs to the unit will be erased and written from a backup, while the plan of the last intent is done.
    /// Durable before the first of these erases is sent.
    RestoreIntent {
        /// The run.
        run: RunId,
        /// The chip that the open session belongs to, and that the backup was read from.
        chip: ChipId,
        /// The backup.
        backup: Sha256Digest,
        /// The ranges that are erased: the guarded partitions. Empty where NV items and files are written over DIAG.
        ranges: Vec<PageRange>,
        /// Whether the unit is well, and a qualification tries whether its backup can be written back.
        #[serde(default, skip_serializing_if = "is_false")]
        round_trip: bool,
    },
    /// It was, and what was read back is what the backup holds.
    Restored {
        /// The run.
        run: RunId,
        /// The backup.
        backup: Sha256Digest,
        /// Bytes that were written: pages that are not blank, or the length of what was read over DIAG.
        bytes: u64,
    },
    /// Everything but the boot loader is written, and what was sent equals the package.
    Staged {
        /// The run.
        run: RunId,
        /// Bytes written so far.
        bytes: u64,
        /// Bytes read back and found equal.
        bytes_read_back: u64,
        /// Blocks that erasing or programming found bad.
        bad_blocks: u32,
    },
    /// The boot loader is written too: the plan is done.
    Flashed {
        /// The run.
        run: RunId,
        /// Bytes written in all.
        bytes: u64,
    },
    /// The checks after one boot.
    Verified {
        /// The run.
        run: RunId,
        /// Which boot after the flash, from 1.
        boot: u32,
        /// What the module says of itself now.
        identity: Identity,
        /// Every value with its limits and verdict.
        measurements: Vec<Measurement>,
    },
    /// The run stopped after the module was changed; it must be resumed.
    RunInterrupted {
        /// The run.
        run: RunId,
        /// Where it was.
        phase: Phase,
        /// Why.
        code: FailureCode,
        /// More, for people.
        detail: String,
    },
    /// An interrupted run goes on.
    RunResumed {
        /// The run.
        run: RunId,
        /// The batch under which the station works now; the run keeps its own.
        batch: BatchId,
        /// Where its unit was found.
        slot: SlotName,
        /// At which port chain.
        chain: PortChain,
    },
    /// The run is over. The record holds everything that a report says of it.
    RunFinished(Box<RunRecord>),
    /// A unit of a finished run must be set aside after all: an amendment, the run's row stays as it is.
    Quarantined {
        /// The finished run.
        run: RunId,
        /// Why.
        code: FailureCode,
        /// The other run concerned, where there is one.
        other: Option<RunId>,
    },
    /// A profile was tried on a number of units, and is qualified by that or is not.
    Qualified(Box<Qualification>),
    /// A hub vanished with everything behind it: one event, however many slots it has.
    HubLost {
        /// The hub.
        hub: PortChain,
        /// Its slots.
        slots: Vec<SlotName>,
    },
    /// It is back.
    HubReturned {
        /// The hub.
        hub: PortChain,
    },
}

impl Fact {
    /// The run that the fact belongs to.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::RunStarted { run, .. }
            | Self::Admitted { run, .. }
            | Self::Claimed { run, .. }
            | Self::ClaimRefused { run, .. }
            | Self::BackupStored { run, .. }
            | Self::Diagnosed { run, .. }
            | Self::BackupChosen { run, .. }
            | Self::Cure { run, .. }
            | Self::BackupConfirmed { run, .. }
            | Self::Intent { run, .. }
            | Self::RestoreIntent { run, .. }
            | Self::Restored { run, .. }
            | Self::Staged { run, .. }
            | Self::Flashed { run, .. }
            | Self::Verified { run, .. }
            | Self::RunInterrupted { run, .. }
            | Self::RunResumed { run, .. }
            | Self::Quarantined { run, .. } => Some(*run),
            Self::RunFinished(record) => Some(record.run),
            Self::StationStarted { .. }
            | Self::StationStopped { .. }
            | Self::BatchOpened { .. }
            | Self::BackupImported { .. }
            | Self::Qualified(_)
            | Self::HubLost { .. }
            | Self::HubReturned { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pairs: &[(u64, u64)]) -> Vec<PageRange> {
        pairs.iter().map(|(start, end)| PageRange { start: *start, pages: end - start }).collect()
    }

    fn plan(erases: &[(u64, u64)], programs: &[(u64, u64)]) -> PlanSummary {
        let digest = Sha256Digest::of(b"");
        PlanSummary { digest, erases: ranges(erases), programs: ranges(programs), guarded: Vec::new() }
    }

    #[test]
    fn bad_blocks_that_are_not_told_are_not_known() {
        let blocks = |named: &[u32], counted| BadBlocks { named: named.to_vec(), counted };
        let untold = BadBlocks::default();
        assert!(!untold.is_told() && blocks(&[], Some(0)).is_told() && blocks(&[7], None).is_told());
        // A part of the pages has named a part of them.
        let then = blocks(&[3, 7], Some(9));
        assert!(then.may_be_layout(&blocks(&[7], Some(9))) && then.may_be_layout(&blocks(&[], None)));
        assert!(!then.may_be_layout(&blocks(&[4], Some(9))) && !then.may_be_layout(&blocks(&[7], Some(10))));
        assert!(!then.is_same_layout(&blocks(&[7], Some(9))));
    }

    #[test]
    fn a_plan_covers_an_earlier_one_when_it_erases_all_that_the_other_changed() {
        let earlier = plan(&[(0, 64), (128, 256)], &[(0, 10), (128, 200)]);
        assert_eq!(plan(&[(128, 192), (192, 256), (0, 64)], &[]).first_uncovered(&earlier), None);
        assert_eq!(plan(&[(0, 256)], &[]).first_uncovered(&earlier), None);
        let short = plan(&[(0, 64), (128, 192)], &[(192, 256)]);
        assert_eq!(short.first_uncovered(&earlier), Some(PageRange { start: 192, pages: 64 }));
        assert_eq!(plan(&[(128, 256)], &[]).first_uncovered(&earlier), Some(PageRange { start: 0, pages: 64 }));
        let unerased = plan(&[], &[(300, 310)]);
        assert_eq!(plan(&[(0, 300)], &[]).first_uncovered(&unerased), Some(PageRange { start: 300, pages: 10 }));
    }
}
