//! From a chip that said who it is to a module that is back in normal mode: `load`, `backup`, gate, `flash`, `reset`.

use super::backup::Authority;
use super::edl::TableSource;
use super::failure::{Failure, RunError};
use super::floor::Product;
use super::work::Work;
use crate::domain::{BackupRef, FailureCode};
use crate::hardware::DeviceRecord;
use crate::protocol::sahara::ChipInfo;

/// What one try to write a module leaves to the next.
#[derive(Debug, Default)]
struct Tries {
    backup: Option<BackupRef>,
    /// The module's partition table, from its backup.
    table: Option<Vec<u8>>,
    authority: Option<Authority>,
    /// How many fresh starts there were.
    reentries: u32,
}

impl Work {
    /// Writes the module in download mode and waits until it is back in normal mode. A module that falls silent, or whose
    /// transfers fail, gets a fresh start within the budget, once it is one that was changed.
    pub(crate) async fn write(
        &mut self,
        mut device: DeviceRecord,
        info: &ChipInfo,
        product: &Product,
    ) -> Result<DeviceRecord, RunError> {
        let mut tries = Tries { backup: self.repair.backup.clone(), ..Tries::default() };
        loop {
            match self.write_once(&device, info, product, &mut tries).await {
                Ok(()) => break,
                Err(RunError::Failed(failure))
                    if matches!(failure.code, FailureCode::EdlSilent | FailureCode::UsbError)
                        && self.draft.is_changed()
                        && tries.reentries < product.profile.budgets.reentries =>
                {
                    tracing::warn!(code = %failure.code, detail = failure.detail, "a fresh start of the programmer");
                    tries.reentries += 1;
                    let (again, found) = self.reenter(&device, product).await?;
                    if found.chip != info.chip {
                        self.send_back(&again.key, product.profile.timeouts.boot).await;
                        let detail = format!("chip {} where {} was", found.chip, info.chip);
                        return Err(Failure::new(FailureCode::UnitSwapped, detail).into());
                    }
                    device = again;
                }
                Err(error) => return Err(error),
            }
        }
        let device = self.reset(&device, product).await?;
        match self.repair.over_diag.take() {
            Some(own) => Box::pin(self.restore_xqcn(device, product, &own)).await,
            None => Ok(device),
        }
    }

    /// Everything up to the last page that is written.
    async fn write_once(
        &mut self,
        device: &DeviceRecord,
        info: &ChipInfo,
        product: &Product,
        tries: &mut Tries,
    ) -> Result<(), RunError> {
        if let (None, Some(stored)) = (&tries.table, &tries.backup)
            && (self.draft.is_changed() || self.repair.is_unheard)
        {
            tries.table = self.table_of(stored, product).await?;
        }
        let source = match tries.table.as_deref() {
            None => TableSource::Module,
            Some(table) if self.draft.is_changed() => TableSource::Backup(table),
            Some(table) => TableSource::ModuleOr(table),
        };
        let has_fitted = self.draft.is_changed()
            && self.resumed.as_ref().is_none_or(|open| open.package_digest == product.package.digest());
        let bound = self.load(device, product, source).await.map_err(|failure| match failure.code {
            // This very package was begun with: it is the module that does not take it any more.
            FailureCode::LoaderRejected | FailureCode::GeometryMismatch if has_fitted => {
                Failure::new(FailureCode::EdlSilent, failure.detail)
            }
            _ => failure,
        })?;
        if let Some(open) = &self.resumed
            && let Some(left) = bound.plan.summary().first_uncovered(&open.plan)
        {
            let detail = format!(
                "the run was begun with another package ({}); the present one leaves {} pages from page {} on as they \
                 are, half written perhaps",
                open.package_digest.short(),
                left.pages,
                left.start
            );
            return Err(Failure::new(FailureCode::PlanInvalid, detail).into());
        }
        let stored = match &tries.backup {
            Some(stored) => stored.clone(),
            None => {
                let stored = self.backup(device, product, &bound).await?;
                if product.read_twice {
                    self.read_again(device, &bound, &stored).await?;
                }
                stored
            }
        };
        tries.backup = Some(stored.clone());
        self.repair.backup = Some(stored.clone());
        let restorable = match self.repair.is_due {
            true => self.restorable(device, product, &bound, &stored).await?,
            false if product.round_trip => self.for_round_trip(device, product, &bound, &stored).await?,
            false => None,
        };
        let permission = match tries.authority.take() {
            Some(given) if given.covers(info.chip, &bound.plan.summary()) => given,
            _ => self.open_gate(product, &bound, &stored).await?,
        };
        let restore = match restorable {
            Some(restorable) => Some(self.open_restore(restorable).await?),
            None => None,
        };
        let flashed = self.flash(device, product, &bound, &permission, restore.as_ref()).await;
        tries.authority = Some(permission);
        flashed
    }
}
