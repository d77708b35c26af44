//! The phase `backup` and the gate behind it.
//!
//! [`Authority`] is the only key to the commands that change a module ([`super::flash`]). It can be made here alone,
//! and only from a backup that is durable and valid for the chip of the open session, with the intent durable in the
//! ledger.

use super::edl::Bound;
use super::failure::{Failure, RunError};
use super::floor::Product;
use super::session::firehose::Firehose;
use super::work::{Edl, Work};
use crate::domain::{BackupRef, ChipId, Fact, FailureCode, Imei, PageRange, Phase, PlanSummary};
use crate::hardware::DeviceRecord;
use crate::vault::{Vault, VaultError, Writer};

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
    /// Reads every guarded partition and the partition table into the vault. Nothing is erased before this returned.
    pub(crate) async fn backup(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        bound: &Bound,
    ) -> Result<BackupRef, RunError> {
        self.enter(Phase::Backup);
        self.check_stop()?;
        let record = self.draft.record();
        let (Some(chip), Some(imei)) = (record.chip, record.before.and_then(|before| before.imei)) else {
            return Err(Failure::new(FailureCode::Internal, "a backup of a unit without identity").into());
        };
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
        let mut writer = self.floor.vault.begin(chip, imei, bound.geometry).map_err(vault_failure)?;
        for (name, range, is_efs) in parts {
            writer.part(&name, range, is_efs).map_err(vault_failure)?;
            firehose
                .read(range, bound.geometry, |piece| {
                    progress.add(piece.len() as u64);
                    writer.bytes(piece).map_err(vault_failure)
                })
                .await?;
        }
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
        if !summary.erases.iter().all(safe) || !summary.programs.iter().all(safe) || !guarded.iter().all(covered) {
            return Err(Failure::new(FailureCode::PackageTouchesGuarded, "the plan and the backup disagree").into());
        }
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

/// Reads a stored backup again and verifies it; gives the partition table that is in it.
pub(crate) async fn stored_table(vault: &std::sync::Arc<Vault>, backup: &BackupRef) -> Result<Vec<u8>, Failure> {
    let (vault, backup) = (std::sync::Arc::clone(vault), backup.clone());
    tokio::task::spawn_blocking(move || vault.load(&backup))
        .await
        .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?
        .map_err(vault_failure)?
        .parts
        .into_iter()
        .find(|part| part.partition == super::TABLE_PART)
        .map(|part| part.bytes)
        .ok_or_else(|| Failure::new(FailureCode::BackupInvalid, "the backup holds no partition table"))
}

fn vault_failure(error: VaultError) -> Failure {
    let is_of_disk = matches!(error, VaultError::Disk { .. });
    Failure { is_of_disk, ..Failure::new(error.code(), error.to_string()) }
}
