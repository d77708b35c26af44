//! Modules that arrive broken, where the profile allows to repair them, and modules that a person has restored by hand.
//!
//! In this order: out of the mode in which it is stuck, but only with its EFS whole and saved, because that changes what
//! is stored; its own backup of an earlier run; its own second copy, but only where there is no backup and the ledger
//! knows whose IMEI must come out of it; and the flash, without which none of this is proven. A module that has lost its
//! EFS and has none of these is lost, and is told so.

use super::backup::vault_failure;
use super::edl::{TableSource, fits};
use super::failure::{Failure, RunError};
use super::floor::{Product, Task};
use super::restore::donor;
use super::verify::Verdict;
use super::work::Work;
use crate::config::{Checks, Rework};
use crate::domain::{
    BackupKind, BackupRef, ChipId, Condition, Cure, Diagnosis, Fact, FailureCode, Family, Identity, Imei, ModeOrder,
    Phase, Sha256Digest,
};
use crate::hardware::DeviceRecord;
use crate::protocol::at::Final;
use crate::protocol::sahara::ChipInfo;
use crate::vault::{VaultError, Verdict as Worth};

/// A module in download mode that said who it is.
type Asked = (DeviceRecord, ChipInfo);
/// CME errors with which a module refuses to leave its mode because its EFS does not allow it: phone failure, and
/// operation not allowed.
const NOT_ALLOWED: [u16; 2] = [0, 3];

impl Work {
    /// Repairs a module that is not well, flashes it and proves it.
    pub(crate) async fn rework(
        &mut self,
        (device, family): (DeviceRecord, &'static Family),
        identity: &Identity,
        asked: Option<Asked>,
        (diagnosis, product, rework): (Diagnosis, &Product, Rework),
    ) -> Result<Verdict, RunError> {
        self.admit_ill(identity, product)?;
        self.admit_to(product, true).await?;
        let (device, info) = self.ask_chip(device, family, asked, product).await?;
        let reworked = self.floor.ledger.repairs(info.chip, self.run()).await?;
        if reworked >= rework.per_unit {
            let detail = format!("{diagnosis}; {reworked} of {} allowed runs have repaired it", rework.per_unit);
            return Err(Failure::new(FailureCode::ReworkExhausted, detail).into());
        }
        self.repair.budget = Some(rework.per_run);
        self.say(format!("arrived with {diagnosis}"));
        let own = self.best_backup(info.chip).await?;
        let (device, info) = match (diagnosis.condition, own) {
            (Condition::EfsLost, Some(own)) => {
                self.choose(own, &info, product).await?;
                (device, info)
            }
            (Condition::EfsLost, None) => match self.floor.ledger.imei_of(info.chip).await? {
                Some(imei) => self.take_own_copy((device, family), &info, product, imei).await?,
                None => return Err(no_backup(&diagnosis).into()),
            },
            (_, own) => {
                self.claim(&info, product).await?;
                let (device, info, is_well) = self.leave_mode((device, family), &info, product, diagnosis).await?;
                if let Some(own) = own.filter(|_| !is_well) {
                    self.choose(own, &info, product).await?;
                }
                (device, info)
            }
        };
        let device = self.write(device, &info, product).await?;
        self.prove(device, product, &info).await
    }

    /// Restores the module in the slot from its own backup because a person wants it so, flashes it and proves it.
    pub(crate) async fn restore_by_hand(
        &mut self,
        (device, family): (DeviceRecord, &'static Family),
        identity: &Identity,
        asked: Option<Asked>,
        wanted: Option<Sha256Digest>,
    ) -> Result<Verdict, RunError> {
        let product = self.product_of(identity)?.clone();
        self.examine(&device, family, &product, identity).await?;
        self.admit_ill(identity, &product)?;
        self.admit_to(&product, true).await?;
        let (device, info) = self.ask_chip(device, family, asked, &product).await?;
        let backup = match wanted {
            None => self.best_backup(info.chip).await?.ok_or_else(|| {
                Failure::new(FailureCode::BackupMissing, format!("there is no good backup of chip {}", info.chip))
            })?,
            Some(id) => self.named_backup(id, info.chip).await?,
        };
        self.say(format!("restored by hand from backup {}", backup.id.short()));
        self.choose(backup, &info, &product).await?;
        let device = self.write(device, &info, &product).await?;
        self.prove(device, &product, &info).await
    }

    /// Takes a backup of the module in the slot because a person wants it so, and puts the module back. Nothing is
    /// changed.
    pub(crate) async fn backup_by_hand(
        &mut self,
        (device, family): (DeviceRecord, &'static Family),
        identity: &Identity,
        asked: Option<Asked>,
    ) -> Result<(), RunError> {
        let product = self.product_of(identity)?.clone();
        // Of a module that is not well there is nothing worth keeping.
        self.admit_well(identity, &product)?;
        self.admit_to(&product, false).await?;
        if product.profile.guard.has_xqcn() && asked.is_none() {
            self.read_over_diag(&device, &product, identity).await?;
        }
        let (device, info) = self.ask_chip(device, family, asked, &product).await?;
        self.claim(&info, &product).await?;
        let bound = self.load(&device, &product, TableSource::Module).await?;
        let backup = self.backup(&device, &product, &bound).await?;
        self.put_back(&product.profile.timeouts).await?;
        self.say(format!("its backup was taken by hand: {}", backup.id));
        Ok(())
    }

    fn say(&self, said: String) {
        self.draft.update(|record| record.detail = said);
    }

    /// The chip of a module in normal mode, which must be one that the package is for.
    async fn ask_chip(
        &mut self,
        device: DeviceRecord,
        family: &Family,
        asked: Option<Asked>,
        product: &Product,
    ) -> Result<Asked, RunError> {
        let (device, info) = match asked {
            Some(asked) => {
                self.enter(Phase::Probe);
                asked
            }
            None => self.reach_edl(&device, family, &product.profile.timeouts).await?,
        };
        self.note_chip(&info);
        fits(&info, product)?;
        Ok((device, info))
    }

    /// The run relies on an earlier backup of the claimed chip from now on, and restores it.
    async fn choose(&mut self, backup: BackupRef, info: &ChipInfo, product: &Product) -> Result<(), RunError> {
        if backup.chip != info.chip {
            return Err(donor(backup.id, backup.chip, info.chip).into());
        }
        self.claim_as(info, product, backup.imei).await?;
        let expected = self.well_as_of(&backup).await?;
        let by_hand = self.floor.task != Task::Line;
        self.append(Fact::BackupChosen { run: self.run(), backup: backup.clone(), by_hand }).await?;
        self.repair.use_backup(backup, expected);
        Ok(())
    }

    /// What the module of a backup must say when it is well: what it said before the backup was taken. Of one that
    /// another station took only its IMEI is known.
    pub(crate) async fn well_as_of(&self, backup: &BackupRef) -> Result<Identity, RunError> {
        let origin = self.floor.ledger.origin_of(backup.id).await?;
        let known = origin.filter(|identity| identity.imei == Some(backup.imei));
        Ok(known.unwrap_or_else(|| Identity {
            imei: Some(backup.imei),
            imei_text: backup.imei.to_string(),
            ..Identity::default()
        }))
    }

    /// The best raw backup of a chip that a repair may use.
    async fn best_backup(&self, chip: ChipId) -> Result<Option<BackupRef>, RunError> {
        let recorded = self.floor.ledger.backups_of(chip).await?;
        let vault = std::sync::Arc::clone(&self.floor.vault);
        let search = move || vault.best_for(chip, BackupKind::Raw, |backup| recorded.contains(&backup.id));
        let found = tokio::task::spawn_blocking(search)
            .await
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?;
        Ok(found.map_err(vault_failure)?)
    }

    /// The backup with that id, which must be a good one of this chip, whatever a person says.
    async fn named_backup(&self, id: Sha256Digest, chip: ChipId) -> Result<BackupRef, RunError> {
        let vault = std::sync::Arc::clone(&self.floor.vault);
        let search = move || {
            let entry = vault.list()?.into_iter().find(|entry| entry.id == id);
            let own = entry.as_ref().filter(|entry| entry.chip == chip);
            let verdict = own.map(|own| vault.judge(own)).transpose()?;
            Ok::<_, VaultError>((entry, verdict))
        };
        let (entry, verdict) = tokio::task::spawn_blocking(search)
            .await
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?
            .map_err(vault_failure)?;
        let refused =
            |code: FailureCode, why: String| Err(Failure::new(code, format!("backup {}: {why}", id.short())).into());
        match (entry, verdict) {
            (None, _) => refused(FailureCode::BackupMissing, "it is not in the vault".to_owned()),
            (Some(entry), None) => Err(donor(id, entry.chip, chip).into()),
            (_, Some(Worth::Good(backup))) if backup.kind == BackupKind::Raw => Ok(backup),
            (_, Some(Worth::Good(backup))) => {
                refused(FailureCode::BackupInvalid, format!("it is of the kind {}", backup.kind))
            }
            (_, Some(Worth::Suspect(backup))) => {
                let why = backup.suspect.unwrap_or_default();
                refused(FailureCode::BackupInvalid, format!("the module was not well when it was taken: {why}"))
            }
            (_, Some(Worth::Damaged(why))) => refused(FailureCode::BackupInvalid, why),
        }
    }

    /// Brings a module whose EFS is whole out of the mode in which it is stuck: saves the EFS, starts the module anew,
    /// tells it, and starts it again. Whether it is well then.
    async fn leave_mode(
        &mut self,
        (device, family): (DeviceRecord, &'static Family),
        info: &ChipInfo,
        product: &Product,
        mut diagnosis: Diagnosis,
    ) -> Result<(DeviceRecord, ChipInfo, bool), RunError> {
        let checks = &product.profile.checks;
        if diagnosis.evidence.cfun == Some(checks.cfun) {
            return Ok((device, info.clone(), false));
        }
        let bound = self.load(&device, product, TableSource::Module).await?;
        self.repair.backup = Some(self.backup(&device, product, &bound).await?);
        let mut device = self.reset(&device, product).await?;
        let mut now = self.identify_started(&mut device, product).await?;
        if !is_well(checks, &now) {
            self.append(Fact::Cure { run: self.run(), cure: Cure::LeaveMode }).await?;
            let mut order = self.tell(&device, product, "AT+CFUN=1").await?;
            if order.is_none() {
                device = self.boot_again(&device, product).await?;
                now = self.identify_started(&mut device, product).await?;
                order = (!is_well(checks, &now)).then_some(ModeOrder::Forgotten);
            }
            if let Some(order) = order {
                diagnosis.evidence = super::diagnose::evidence(checks, None, &now);
                diagnosis.evidence.mode_order = Some(order);
                diagnosis.condition = diagnosis.evidence.condition(checks.cfun).unwrap_or(diagnosis.condition);
                self.say(format!("arrived with {diagnosis}"));
                self.note_diagnosis(diagnosis).await?;
            }
        }
        let well = is_well(checks, &now);
        if well {
            self.draft.update(|record| record.flags.repaired = true);
            self.repair.expected = Some(now);
        }
        let (device, found) = self.again(&device, family, info, product).await?;
        Ok((device, found, well))
    }

    /// Lets a module that has lost its EFS put back its own second copy of it. Only the IMEI that the ledger has of the
    /// chip may come out of that.
    async fn take_own_copy(
        &mut self,
        (device, family): (DeviceRecord, &'static Family),
        info: &ChipInfo,
        product: &Product,
        imei: Imei,
    ) -> Result<Asked, RunError> {
        self.claim_as(info, product, imei).await?;
        let mut device = self.leave_probe(&device, product).await?;
        // It answers first, or its own restart would be taken for an answer.
        self.identify_started(&mut device, product).await?;
        self.append(Fact::Cure { run: self.run(), cure: Cure::OwnCopy }).await?;
        let lost = |why: String| Failure::new(FailureCode::EfsLostNoBackup, why);
        if self.tell(&device, product, "AT+QPRTPARA=3").await?.is_some() {
            return Err(lost("there is no backup, and the module has no second copy of its own".to_owned()).into());
        }
        device = self.boot_again(&device, product).await?;
        let now = self.identify_started(&mut device, product).await?;
        if now.imei != Some(imei) || !is_well(&product.profile.checks, &now) {
            let detail = format!(
                "there is no backup, and with the module's own second copy it is {} with +CFUN: {}; it was {imei}",
                now.imei_text,
                now.cfun.map_or_else(|| "?".to_owned(), |cfun| cfun.to_string()),
            );
            return Err(lost(detail).into());
        }
        self.draft.update(|record| record.flags.repaired = true);
        self.repair.expected = Some(now);
        self.again(&device, family, info, product).await
    }

    async fn again(
        &mut self,
        device: &DeviceRecord,
        family: &Family,
        info: &ChipInfo,
        product: &Product,
    ) -> Result<Asked, RunError> {
        let (device, found) = self.reach_edl(device, family, &product.profile.timeouts).await?;
        if found.chip != info.chip {
            self.send_back(&device.key, product.profile.timeouts.boot).await;
            let detail = format!("chip {} where {} was", found.chip, info.chip);
            return Err(Failure::new(FailureCode::Unplugged, detail).into());
        }
        Ok((device, found))
    }

    async fn identify_started(&mut self, device: &mut DeviceRecord, product: &Product) -> Result<Identity, RunError> {
        let mut at = self.open_started(device, product).await?;
        let profile = &product.profile;
        Ok(self.read_identity(&mut at, device, profile.family, &profile.timeouts).await?)
    }

    /// Tells a module something over AT; `None` where it says OK.
    async fn tell(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        command: &str,
    ) -> Result<Option<ModeOrder>, RunError> {
        let timeouts = &product.profile.timeouts;
        let mut at = self.open_at(device, product.profile.family, timeouts.at, timeouts.ready).await?;
        self.floor.halt.check()?;
        let reply = match at.command(command).await {
            Ok(reply) => reply.result,
            Err(super::failure::SessionError::Silent(_)) => return Ok(Some(ModeOrder::Refused)),
            Err(error) => return Err(self.judge(error, &device.key, FailureCode::AtSilent).await.into()),
        };
        Ok(match reply {
            Final::Ok => None,
            Final::Cme(number) if NOT_ALLOWED.contains(&number) => Some(ModeOrder::NotAllowed),
            _ => Some(ModeOrder::Refused),
        })
    }
}

fn is_well(checks: &Checks, now: &Identity) -> bool {
    super::diagnose::evidence(checks, None, now).condition(checks.cfun).is_none()
}

fn no_backup(diagnosis: &Diagnosis) -> Failure {
    let detail = format!("{diagnosis}; this station has no backup of it and never knew its IMEI");
    Failure::new(FailureCode::EfsLostNoBackup, detail)
}
