//! Modules that cannot say who they are, because they arrive in download mode or with a memory dump: what is known of
//! one by its chip, and its restore by hand, which begins there.
//!
//! A module whose boot loader is broken, or whose EFS keeps it from starting, is the very one that a person wants to
//! have restored. What it would have said of itself comes from its own backup: its IMEI, its model, and what its checks
//! must find in the end. Nobody does that without being told: on the line such a module is left as it came.

use super::edl::fits;
use super::failure::{Failure, RunError};
use super::floor::{Product, Task};
use super::identify::admit_tac;
use super::verify::Verdict;
use super::walk::{NO_PLACE, Stopped};
use super::work::{Edl, Work};
use crate::config::Timeouts;
use crate::domain::{BackupRef, ChipId, FailureCode, Identity, Sha256Digest};
use crate::hardware::{DeviceMode, DeviceRecord};
use crate::protocol::sahara::ChipInfo;

impl Work {
    /// A module that has crashed cannot be asked who it is. Where it may be one that was being worked on, or a person
    /// has it restored, it is started again, once, and then asked.
    pub(super) async fn walk_from_dump(&mut self, device: &DeviceRecord, may_begin: bool) -> Result<Verdict, Stopped> {
        let was_sent = self.floor.visits.was_sent(self.slot);
        let by_hand = matches!(self.floor.task, Task::Restore { .. });
        let start_again = by_hand || was_sent || self.has_leftover() || self.floor.has_interrupted().await?;
        if start_again {
            match self.leave_dump(device).await? {
                Some((device, DeviceMode::Normal(family))) => {
                    return Box::pin(self.walk_from_normal(device, family, may_begin)).await;
                }
                Some((device, DeviceMode::Edl { interface })) => {
                    return Box::pin(self.walk_from_edl(device, interface, may_begin, true)).await;
                }
                _ => {}
            }
        }
        if !may_begin {
            return Err(Stopped::Left(NO_PLACE));
        }
        self.begin(&device.key.chain, None).await?;
        let detail = match start_again {
            true => "it is in memory-dump mode, also after it was started again",
            false => "it is in memory-dump mode",
        };
        Err(Failure::new(FailureCode::MemoryDump, detail).into())
    }

    /// Restores the module in download mode that said its chip from its own backup, flashes it and proves it.
    pub(super) async fn restore_from_edl(
        &mut self,
        info: ChipInfo,
        wanted: Option<Sha256Digest>,
    ) -> Result<Verdict, RunError> {
        self.repair.is_unheard = true;
        let (device, info) = self.ask_once_more(info).await?;
        self.note_chip(&info);
        let (backup, identity, product) = match self.known_by(&info, wanted).await {
            Ok(known) => known,
            Err(error) => {
                self.begin(&device.key.chain, None).await?;
                return Err(error);
            }
        };
        self.draft.update(|record| record.before = Some(identity.clone()));
        // One that was told something and does not start any more goes on under the run in which it was told.
        match self.floor.restarts.take(|run| run.is_cured() && run.chip() == Some(info.chip)) {
            Some(unfinished) => self.restart(&unfinished, &device).await?,
            None => self.begin(&device.key.chain, Some(identity)).await?,
        }
        self.admit_to(&product, true).await?;
        self.say(format!(
            "restored by hand from backup {}; it arrived in download mode, and what it was before is what that says",
            backup.id.short()
        ));
        self.choose(backup, &info, &product).await?;
        let device = self.write(device, &info, &product).await?;
        self.prove(device, &product, &info).await
    }

    /// The module in download mode with its chip; asked again where the conversation was given up to start it.
    async fn ask_once_more(&mut self, info: ChipInfo) -> Result<(DeviceRecord, ChipInfo), Failure> {
        let gone = |detail: &str| Err(Failure::new(FailureCode::Unplugged, detail));
        let Some((mut device, DeviceMode::Edl { mut interface })) = self.device() else {
            return gone("it left download mode before it was restored");
        };
        if !matches!(self.edl, Edl::None) {
            return Ok((device, info));
        }
        let again = self.contact(&mut device, &mut interface, &Timeouts::default()).await?;
        match again.chip == info.chip {
            true => Ok((device, again)),
            false => gone("another module is there than the one that was asked"),
        }
    }

    /// Everything that the module would have said of itself, from its own backup: that backup, its identity, and the
    /// product that it is made by.
    async fn known_by(
        &self,
        info: &ChipInfo,
        wanted: Option<Sha256Digest>,
    ) -> Result<(BackupRef, Identity, Product), RunError> {
        let found = match wanted {
            Some(id) => Some(self.named_backup(id, info.chip).await?),
            None => {
                let fitting: Vec<&Product> =
                    self.floor.products.iter().filter(|product| fits(info, product).is_ok()).collect();
                self.best_backup(info.chip, &fitting).await?
            }
        };
        let Some(backup) = found else {
            let detail = format!("{}; the vault has no good backup of it", self.known_of(info.chip).await?);
            return Err(Failure::new(FailureCode::EdlUnknownUnit, detail).into());
        };
        let product = self.product_by(&backup, info).await?;
        fits(info, &product)?;
        let identity = self.well_as_of(&backup).await?;
        // A backup of another station does not say from which firmware it was taken.
        let admitted = match identity.revision.is_empty() {
            true => admit_tac(&product.profile, backup.imei),
            false => self.admit_ill(&identity, &product),
        };
        admitted.map_err(|failure| {
            let detail = format!("when backup {} was taken: {}", backup.id.short(), failure.detail);
            Failure::new(failure.code, detail)
        })?;
        Ok((backup, identity, product))
    }

    /// The product of the module that a backup was read from: by the model that it said then, or else the one product
    /// that is for its chip. Two models may have the same chip.
    async fn product_by(&self, backup: &BackupRef, info: &ChipInfo) -> Result<Product, RunError> {
        let origin = self.floor.ledger.origin_of(backup.id).await?;
        if let Some(origin) = origin.filter(|origin| !origin.model.is_empty()) {
            return Ok(self.product_of(&origin)?.clone());
        }
        let fitting: Vec<&Product> = self
            .floor
            .products
            .iter()
            .filter(|product| product.profile.hw_ids.contains(&info.chip.hw_id) && fits(info, product).is_ok())
            .filter(|product| admit_tac(&product.profile, backup.imei).is_ok())
            .collect();
        match fitting[..] {
            [product] => Ok(product.clone()),
            _ => {
                let names: Vec<&str> = fitting.iter().map(|product| product.profile.name.as_str()).collect();
                let detail = format!(
                    "chip {}: backup {} does not say of which model it is, and the profiles for this chip are: {}",
                    info.chip,
                    backup.id.short(),
                    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                );
                Err(Failure::new(FailureCode::EdlUnknownUnit, detail).into())
            }
        }
    }

    /// What this station knows of a chip whose module cannot say who it is.
    pub(super) async fn known_of(&self, chip: ChipId) -> Result<String, RunError> {
        Ok(match self.floor.ledger.last_run_of(chip).await? {
            Some((run, Some(backup))) => {
                format!("chip {chip}: its last run was {run}, its backup is {}", backup.short())
            }
            Some((run, None)) => format!("chip {chip}: its last run was {run}, without a backup"),
            None => format!("chip {chip}: this station has no run of it"),
        })
    }

    /// Leaves a module on which nothing was changed in download mode, without what was loaded into it.
    pub(super) async fn stay_in_edl(&mut self) {
        if let Edl::Firehose(firehose) = std::mem::take(&mut self.edl)
            && let Err(error) = firehose.reset_to_edl().await
        {
            tracing::warn!(?error, "the programmer was not ended");
        }
    }
}
