//! The phase `backup` and the gate behind it.
//!
//! [`Authority`] is the only key to the commands that change a module ([`super::flash`]). It can be made here alone,
//! and only from a backup that is durable and valid for the chip of the open session, with the intent durable in the
//! ledger.

use super::edl::{Bound, unreadable};
use super::failure::{Failure, RunError};
use super::floor::Product;
use super::session::firehose::Firehose;
use super::work::{Edl, Work};
use super::xqcn::guard_of;
use crate::domain::{
    BackupKind, BackupRef, ChipId, Fact, FailureCode, Imei, PageRange, Phase, PlanSummary, Sha256Digest,
};
use crate::hardware::DeviceRecord;
use crate::protocol::rawprogram::RawKind;
use crate::vault::{Label, Taking, Vault, VaultError, Writer, efs_digest};

/// The permission to change one module in one way: bound to a chip, a plan and a durable backup.
#[derive(Debug)]
pub(crate) struct Authority {
    chip: ChipId,
    summary: PlanSummary,
}

impl Authority {
    /// Whether the plan that was announced erases this range.
    pub(crate) fn may_erase(&self, range: PageRange) -> bool {
        self.spares_guarded(range) && self.summary.erases.iter().any(|erase| erase.contains(range))
    }

    /// Whether the plan that was announced programs this range.
    pub(crate) fn may_program(&self, range: PageRange) -> bool {
        self.spares_guarded(range) && self.summary.programs.iter().any(|program| program.contains(range))
    }

    fn spares_guarded(&self, range: PageRange) -> bool {
        !self.summary.guarded.iter().any(|guarded| guarded.overlaps(range))
    }

    /// Whether this is permission for that chip and plan; after a new start of the programmer it must be asked again.
    pub(crate) fn covers(&self, chip: ChipId, plan: &PlanSummary) -> bool {
        self.chip == chip && self.summary == *plan
    }
}

impl Work {
    /// Makes the backups that the profile asks for durable: what was read over DIAG, and every guarded partition and the
    /// partition table. Gives the one that a restore begins with. Nothing is erased before this returned.
    pub(crate) async fn backup(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        bound: &Bound,
    ) -> Result<BackupRef, RunError> {
        self.enter(Phase::Backup);
        self.check_stop()?;
        let record = self.draft.record();
        let (Some(chip), Some(imei)) = (record.chip, self.expected().imei) else {
            return Err(Failure::new(FailureCode::Internal, "a backup of a unit without identity").into());
        };
        let guard = product.profile.guard;
        // What is given back over DIAG after the flash is enough, as where the profile asks for no more.
        if let Some(own) = self.repair.over_diag.clone()
            && refuse_weak(product, bound).is_ok()
        {
            self.draft.update(|record| record.backup = Some(own.id));
            return Ok(own);
        }
        // Of a module that came broken nothing was read over DIAG, and its pages are all that can be kept.
        if guard.has_xqcn() && (self.over_diag.is_there() || !self.is_repair()) {
            let backup = self.store_over_diag(chip, imei).await?;
            if !guard.has_raw() {
                refuse_weak(product, bound)?;
                self.draft.update(|record| record.backup = Some(backup.id));
                return Ok(backup);
            }
        }
        let Edl::Firehose(mut firehose) = std::mem::take(&mut self.edl) else {
            return Err(Failure::new(FailureCode::Internal, "no programmer to read with").into());
        };
        let read = self.read_guarded(&mut firehose, product, bound, chip, imei).await;
        self.edl = Edl::Firehose(firehose);
        let writer = match read {
            Ok(writer) => writer,
            Err(error) => return Err(self.judge(error, &device.key, FailureCode::BackupFailed).await.into()),
        };
        let stored = tokio::task::spawn_blocking(move || writer.finish()).await;
        let backup = match stored {
            Ok(result) => result.map_err(vault_failure)?,
            Err(error) => return Err(Failure::new(FailureCode::Internal, error.to_string()).into()),
        };
        self.draft.update(|record| record.backup = Some(backup.id));
        self.append(Fact::BackupStored { run: self.run(), backup: backup.clone() }).await?;
        Ok(backup)
    }

    async fn read_guarded(
        &self,
        firehose: &mut Firehose,
        product: &Product,
        bound: &Bound,
        chip: ChipId,
        imei: Imei,
    ) -> Result<Writer, super::failure::SessionError> {
        let mut parts = vec![(super::TABLE_PART.to_owned(), bound.table_range, false)];
        for (index, name) in product.profile.family.guarded.iter().enumerate() {
            let partition = bound.table.find(name).ok_or_else(|| {
                Failure::new(FailureCode::TableInvalid, format!("the module's table has no partition {name}"))
            })?;
            let range = bound.table.range(partition, bound.geometry, bound.total_pages);
            parts.push((partition.name.clone(), range, index == 0));
        }
        let page_bytes = u64::from(bound.geometry.page_bytes);
        let total = parts.iter().map(|(_, range, _)| range.pages.saturating_mul(page_bytes)).sum();
        let mut progress = self.progress(total);
        let label = Label { taken: self.floor.clock.wall(), run: Some(self.run()), suspect: self.suspicion() };
        let efs = parts.iter().find(|(_, _, is_efs)| *is_efs).map(|(_, range, _)| *range);
        let blank_efs = efs.and_then(|range| blank_efs(product, range)).transpose()?;
        let used_pages_min = product.profile.efs_used_pages_min;
        let taking = Taking { chip, imei, label, used_pages_min, blank_efs };
        let mut writer = self.floor.vault.begin(taking, bound.geometry).map_err(vault_failure)?;
        if self.repair.keeps_any {
            writer.keep_any_efs();
        }
        for (name, range, is_efs) in &parts {
            writer.part(name, *range, *is_efs).map_err(vault_failure)?;
            firehose
                .read(*range, bound.geometry, |piece| {
                    progress.add(piece.len() as u64);
                    writer.bytes(piece).map_err(vault_failure)
                })
                .await?;
        }
        let ranges: Vec<PageRange> = parts.iter().map(|(_, range, _)| *range).collect();
        writer.bad_blocks(firehose.bad_blocks_in(&ranges, bound.geometry));
        Ok(writer)
    }

    /// The gate: announces what will be done, durably, and gives the permission to do it.
    pub(crate) async fn open_gate(
        &mut self,
        product: &Product,
        bound: &Bound,
        backup: &BackupRef,
    ) -> Result<Authority, RunError> {
        let chip = self.draft.record().chip;
        let Some(chip) = chip.filter(|chip| *chip == backup.chip) else {
            return Err(Failure::new(FailureCode::Internal, "the backup is another chip's").into());
        };
        let has_raw = backup.kind == BackupKind::Raw;
        let has_xqcn = self.over_diag.stored_of(chip, backup.imei).is_some();
        // What was taken before the first change counts; a profile that asks for more now comes too late. A repair goes by
        // the backup that it has chosen.
        let is_begun = self.resumed.is_some() || self.is_repair();
        let guard = product.profile.guard;
        if !is_begun && ((guard.has_raw() && !has_raw) || (guard.has_xqcn() && !has_xqcn)) {
            let detail = format!("the profile asks for {guard}, and not all of it is durable");
            return Err(Failure::new(FailureCode::Internal, detail).into());
        }
        if let Some(other) = self.floor.ledger.is_contested(self.run()).await? {
            let detail = format!("run {other} found the same IMEI on another chip");
            return Err(Failure::new(FailureCode::ImeiDuplicate, detail).into());
        }
        self.check_stop()?;
        self.floor.halt.check()?;
        let summary = bound.plan.summary();
        let guarded = guarded_ranges(product, bound)?;
        let safe = |range: &PageRange| !guarded.iter().any(|guarded| guarded.overlaps(*range));
        let covered = |range: &PageRange| backup.parts.iter().any(|part| part.range.contains(*range));
        let is_covered = guarded.iter().all(covered) || !has_raw;
        if !summary.erases.iter().all(safe) || !summary.programs.iter().all(safe) || !is_covered {
            return Err(Failure::new(FailureCode::PackageTouchesGuarded, "the plan and the backup disagree").into());
        }
        if !has_raw {
            refuse_weak(product, bound)?;
        }
        self.draft.update(|record| record.guard = Some(guard_of(has_raw, has_xqcn)));
        self.append(Fact::Intent {
            run: self.run(),
            chip,
            package_digest: product.package.digest(),
            plan: summary.clone(),
            backup: backup.id,
        })
        .await?;
        self.draft.set_changed();
        Ok(Authority { chip, summary })
    }
}

/// What the package would put into the EFS, where it has an image for it: a module that holds just that has no calibration.
fn blank_efs(product: &Product, efs: PageRange) -> Option<Result<Sha256Digest, Failure>> {
    let package = &product.package;
    let programs_it = |operation: &&crate::protocol::rawprogram::RawOperation| {
        operation.kind == RawKind::Program && efs.contains(operation.range) && operation.range.start == efs.start
    };
    let operation = package.operations().iter().find(programs_it)?;
    let image = package.image(&package.resolve(operation.file.as_deref()?)?.0)?;
    let skip = operation.file_page_offset.checked_mul(u64::from(operation.geometry.page_bytes))?;
    let most = efs.pages.checked_mul(u64::from(operation.geometry.page_bytes))?;
    let mut bytes = vec![0; usize::try_from(image.bytes.checked_sub(skip)?.min(most)).ok()?];
    let read = image.read_exact_at(&mut bytes, skip).map_err(|error| unreadable(&image.key, &error));
    Some(read.map(|()| efs_digest(&bytes, operation.geometry)))
}

/// A backup over DIAG alone is enough where the plan spares the guarded partitions and the partition table: then all that
/// can be lost is in it, and where the rest lies does not change.
fn refuse_weak(product: &Product, bound: &Bound) -> Result<(), Failure> {
    let mut spared = guarded_ranges(product, bound)?;
    spared.extend(
        bound.table.find(super::TABLE_PART).map(|own| bound.table.range(own, bound.geometry, bound.total_pages)),
    );
    spared.push(bound.table_range);
    let summary = bound.plan.summary();
    let touched = summary
        .erases
        .iter()
        .chain(&summary.programs)
        .find(|range| spared.iter().any(|spared| spared.overlaps(**range)));
    match touched {
        None => Ok(()),
        Some(range) => {
            let detail = format!("the plan changes {} pages from page {} on", range.pages, range.start);
            Err(Failure::new(FailureCode::GuardTooWeak, detail))
        }
    }
}

/// The guarded ranges, computed again from the module's table and not taken from the plan.
fn guarded_ranges(product: &Product, bound: &Bound) -> Result<Vec<PageRange>, Failure> {
    let ranges: Option<Vec<PageRange>> = product
        .profile
        .family
        .guarded
        .iter()
        .map(|name| bound.table.find(name).map(|found| bound.table.range(found, bound.geometry, bound.total_pages)))
        .collect();
    ranges.ok_or_else(|| Failure::new(FailureCode::TableInvalid, "a guarded partition is not in the module's table"))
}

/// Reads a stored backup again and verifies it; gives the partition table that is in it. In one over DIAG there is
/// none: what was begun with such a one leaves the module's own table alone.
pub(crate) async fn stored_table(
    vault: &std::sync::Arc<Vault>,
    backup: &BackupRef,
) -> Result<Option<Vec<u8>>, Failure> {
    let (vault, backup) = (std::sync::Arc::clone(vault), backup.clone());
    if backup.kind == BackupKind::Xqcn {
        return tokio::task::spawn_blocking(move || vault.check(&backup))
            .await
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?
            .map(|()| None)
            .map_err(vault_failure);
    }
    tokio::task::spawn_blocking(move || vault.load(&backup))
        .await
        .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?
        .map_err(vault_failure)?
        .parts
        .into_iter()
        .find(|part| part.partition == super::TABLE_PART)
        .map(|part| Some(part.bytes))
        .ok_or_else(|| Failure::new(FailureCode::BackupInvalid, "the backup holds no partition table"))
}

pub(crate) fn vault_failure(error: VaultError) -> Failure {
    let is_of_disk = matches!(error, VaultError::Disk { .. });
    Failure { is_of_disk, ..Failure::new(error.code(), error.to_string()) }
}
