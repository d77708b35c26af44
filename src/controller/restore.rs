//! The gate before a restore: what belongs to a unit is written to it only from its own backup.
//!
//! [`RestoreAuthority`] is the only key to the commands that erase and write guarded partitions ([`super::flash`]). It is
//! made here alone: from a backup that was read from the vault and verified just now, of the chip that the open session
//! belongs to, which lies where the module's own table has its partitions and over the same bad blocks, and after the
//! ledger holds durably what will be done. There is no way around it for a donor's backup.

use super::backup::vault_failure;
use super::edl::Bound;
use super::failure::{Failure, RunError};
use super::floor::Product;
use super::work::{Edl, Work};
use crate::domain::{BackupRef, BadBlocks, ChipId, Fact, FailureCode, Geometry, PageRange, Sha256Digest};
use crate::hardware::DeviceRecord;
use crate::protocol::restore;
use crate::vault::StoredBackup;

/// Bad blocks that a message names.
const BLOCKS_SHOWN: usize = 16;
/// What a row says of a restore over bad blocks of which nothing is known.
const UNTOLD: &str =
    "the programmer neither names nor counts bad blocks: whether they are those of its backup is not known";

/// The permission to restore what belongs to one module, from one backup.
#[derive(Debug)]
pub(crate) struct RestoreAuthority(Restorable);

/// What may be restored once it is announced.
#[derive(Debug)]
pub(crate) struct Restorable {
    chip: ChipId,
    backup: BackupRef,
    /// The bad blocks of its parts when the backup was taken.
    then: BadBlocks,
    parts: Vec<RestorePart>,
}

/// A guarded partition with what is written to it.
#[derive(Debug)]
pub(crate) struct RestorePart {
    pub(crate) partition: String,
    /// All of it is erased.
    pub(crate) range: PageRange,
    /// What it held, blank pages included.
    pub(crate) bytes: Vec<u8>,
    /// The pages that are written.
    pub(crate) writes: Vec<PageRange>,
}

impl RestoreAuthority {
    pub(crate) fn parts(&self) -> &[RestorePart] {
        &self.0.parts
    }

    pub(crate) fn backup(&self) -> &BackupRef {
        &self.0.backup
    }

    /// Whether these are still the bad blocks under what is restored.
    pub(crate) fn is_same_layout(&self, now: &BadBlocks) -> bool {
        self.0.then.is_same_layout(now)
    }

    /// Pages that are written.
    pub(crate) fn pages(&self) -> u64 {
        self.0.parts.iter().flat_map(|part| &part.writes).map(|write| write.pages).sum()
    }

    /// Whether what was announced erases this range.
    pub(crate) fn may_erase(&self, range: PageRange) -> bool {
        self.0.parts.iter().any(|part| part.range == range)
    }

    /// Whether what was announced writes this range.
    pub(crate) fn may_program(&self, range: PageRange) -> bool {
        self.0.parts.iter().any(|part| part.writes.contains(&range))
    }
}

/// What else brings back a module whose bad blocks are not, or are not known to be, those of its backup.
fn without_raw(detail: &str) -> Failure {
    Failure::new(FailureCode::RestoreBadBlocks, detail)
}

impl Work {
    /// Verifies that a backup may be restored to the module of the open session. Nothing is changed.
    pub(crate) async fn prepare_restore(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        bound: &Bound,
        backup: &BackupRef,
    ) -> Result<Restorable, RunError> {
        let Some(chip) = self.draft.record().chip else {
            return Err(Failure::new(FailureCode::Internal, "a restore of an unknown chip").into());
        };
        if backup.chip != chip {
            return Err(donor(backup.id, backup.chip, chip).into());
        }
        let (vault, wanted) = (std::sync::Arc::clone(&self.floor.vault), backup.clone());
        let stored = tokio::task::spawn_blocking(move || vault.load(&wanted))
            .await
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?
            .map_err(vault_failure)?;
        let parts = parts(stored, product, bound)?;
        let ranges: Vec<PageRange> = parts.iter().map(|part| part.range).collect();
        let then = backup.bad_blocks.as_ref().map(|then| within(then, &ranges, bound.geometry));
        // Reading makes the programmer name every bad block that it passes over. A module that lost its supply in the middle
        // of an erase or a write has pages that cannot be read until they are erased: they are what is restored.
        let Edl::Firehose(mut firehose) = std::mem::take(&mut self.edl) else {
            return Err(Failure::new(FailureCode::Internal, "no programmer to read with").into());
        };
        let read = firehose.survey(&ranges, bound.geometry).await;
        let now = firehose.bad_blocks_in(&ranges, bound.geometry);
        self.edl = Edl::Firehose(firehose);
        let survey = match read {
            Ok(survey) => survey,
            Err(error) => return Err(self.judge(error, &device.key, FailureCode::EdlSilent).await.into()),
        };
        if let Some(refusal) = &survey.refusal {
            let is_changed = self.draft.is_changed();
            if !is_changed && (!self.is_repair() || survey.blocks_read == 0) {
                return Err(Failure::new(FailureCode::BackupFailed, refusal).into());
            }
            tracing::warn!(refusal, "what cannot be read is restored without having been read");
        }
        let fits = |then: &BadBlocks| match survey.refusal {
            None => then.is_same_layout(&now),
            // What was read, and what is erased, written and compared after this, names the rest.
            Some(_) => then.may_be_layout(&now),
        };
        let is_untold = !now.is_told() && then.as_ref().is_some_and(|then| !then.is_told());
        if is_untold {
            self.refuse_untold(backup, product).await?;
        }
        match then {
            Some(then) if fits(&then) => Ok(Restorable { chip, backup: backup.clone(), then, parts }),
            Some(then) => {
                Err(without_raw(&format!("its bad blocks were {}, they are {}", words(&then), words(&now))).into())
            }
            None => {
                let detail = format!(
                    "backup {} is from before bad blocks were noted: nobody knows whether the storage has others now, \
                     and there is no other good one",
                    backup.id.short()
                );
                Err(without_raw(&detail).into())
            }
        }
    }

    /// Whether pages may be restored although the programmer tells nothing of bad blocks: only where there is nothing
    /// better, and never to try it on a module that is well. The row says so.
    async fn refuse_untold(&mut self, backup: &BackupRef, product: &Product) -> Result<(), RunError> {
        // Half of it may be written by now, and no module starts from that.
        let is_begun = self.resumed.as_ref().is_some_and(|open| open.restoring);
        let has_better = !self.repair.is_due
            || (!is_begun && self.own_over_diag(backup.chip, backup.imei, product).await?.is_some());
        if has_better {
            return Err(without_raw(UNTOLD).into());
        }
        tracing::warn!("{UNTOLD}");
        self.draft.update(|record| {
            let said = std::mem::take(&mut record.detail);
            record.detail = if said.is_empty() { UNTOLD.to_owned() } else { format!("{said}; {UNTOLD}") };
        });
        Ok(())
    }

    /// Announces a restore, durably, and gives the permission for it. The intent of the plan that it is part of is
    /// durable already.
    pub(crate) async fn open_restore(&mut self, restorable: Restorable) -> Result<RestoreAuthority, RunError> {
        let ranges = restorable.parts.iter().map(|part| part.range).collect();
        let (chip, backup) = (restorable.chip, restorable.backup.id);
        // What is only tried on a well unit is no repair of it.
        let round_trip = !self.repair.is_due || self.repair.is_trial;
        self.append(Fact::RestoreIntent { run: self.run(), chip, backup, ranges, round_trip }).await?;
        self.draft.update(|record| {
            record.flags.repaired |= !round_trip;
            record.backup = Some(backup);
        });
        Ok(RestoreAuthority(restorable))
    }
}

/// Why a backup of another chip is not written to this one.
pub(crate) fn donor(backup: Sha256Digest, of: ChipId, here: ChipId) -> Failure {
    let detail = format!(
        "backup {} was read from chip {of}, this is chip {here}: it would clone an IMEI and give the radio another \
         module's calibration",
        backup.short()
    );
    Failure::new(FailureCode::BackupOfAnother, detail)
}

/// Those of the bad blocks under a whole backup that lie in some of its ranges.
fn within(blocks: &BadBlocks, ranges: &[PageRange], geometry: Geometry) -> BadBlocks {
    let per_block = u64::from(geometry.pages_per_block);
    let is_inside = |block: &&u32| {
        let pages = PageRange { start: u64::from(**block).saturating_mul(per_block), pages: per_block };
        ranges.iter().any(|range| range.overlaps(pages))
    };
    BadBlocks { named: blocks.named.iter().filter(is_inside).copied().collect(), counted: blocks.counted }
}

/// Bad blocks, for people.
fn words(blocks: &BadBlocks) -> String {
    let named: Vec<String> = blocks.named.iter().take(BLOCKS_SHOWN).map(ToString::to_string).collect();
    match (named.is_empty(), blocks.counted) {
        (false, _) => named.join(" "),
        (true, Some(counted)) => format!("none of these partitions, {counted} of the whole storage"),
        (true, None) => "none of these partitions".to_owned(),
    }
}

/// The guarded partitions of the module, each with its content in the backup.
fn parts(stored: StoredBackup, product: &Product, bound: &Bound) -> Result<Vec<RestorePart>, Failure> {
    let invalid = |reason: String| Failure::new(FailureCode::BackupInvalid, reason);
    if stored.reference.geometry != Some(bound.geometry) {
        return Err(invalid(format!("the storage has {}, the backup is of another one", bound.geometry)));
    }
    let mut contents = stored.parts;
    let mut parts = Vec::new();
    for name in product.profile.family.guarded {
        let own = bound.table.find(name).ok_or_else(|| {
            Failure::new(FailureCode::TableInvalid, format!("the module's table has no partition {name}"))
        })?;
        let range = bound.table.range(own, bound.geometry, bound.total_pages);
        let place = contents.iter().position(|part| part.partition.eq_ignore_ascii_case(name) && part.range == range);
        let part = place.map(|place| contents.swap_remove(place)).ok_or_else(|| {
            invalid(format!("the backup has no partition {name} of {} pages from page {} on", range.pages, range.start))
        })?;
        let writes = restore::writes(range, bound.geometry, &part.bytes).map_err(|error| invalid(error.to_string()))?;
        parts.push(RestorePart { partition: part.partition, range, bytes: part.bytes, writes });
    }
    Ok(parts)
}
