//! A unit whose EFS was lost in our own hands gets it back from the backup of this very run, always.
//!
//! The whole plan is done again, from its first operation, and the EFS is written while the boot loader is erased: so a
//! restore that is cut off leaves the module in download mode, its run open, and is done again like every interrupted
//! flash.

use super::diagnose::{evidence, is_cured_by_restore, spoils_backup};
use super::edl::fits;
use super::failure::{Failure, RunError};
use super::floor::Product;
use super::verify::{Guest, Verdict};
use super::work::Work;
use crate::domain::{BackupKind, BackupRef, Blame, Diagnosis, FailureCode, Identity, Imei};
use crate::hardware::{DeviceMode, DeviceRecord};
use crate::ledger::OpenRun;
use crate::protocol::sahara::ChipInfo;

/// Restores of an EFS that was lost in our own hands, in one run.
const OWN_RESTORES_MAX: u32 = 1;

/// What a run relies on, and does, to have a unit's own EFS back.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    /// The backup that makes it permissible to change the unit: of this run, or an earlier one that it has chosen.
    pub(crate) backup: Option<BackupRef>,
    /// Whether the next flash restores it.
    pub(crate) is_due: bool,
    /// The backup that is given back over DIAG once the module has started, in place of its pages.
    pub(crate) over_diag: Option<BackupRef>,
    /// How often it was restored.
    pub(crate) restores: u32,
    /// How often it may be, where the profile says so.
    pub(crate) budget: Option<u32>,
    /// What the unit said of itself when it was well, where that is not what it said on arrival.
    pub(crate) expected: Option<Identity>,
    /// Whether a unit that arrived ill is well by now, so that what is read of it is a good backup.
    pub(crate) is_cured: bool,
    /// Whether what it arrived with is kept whatever it is, because another cure than its pages will overwrite it.
    pub(crate) keeps_any: bool,
    /// Whether what is due is the trial of a qualification: the unit is well.
    pub(crate) is_trial: bool,
    /// How often the unit was told to put back its own second copy.
    pub(crate) own_copies: usize,
    /// Whether the unit arrived in download mode and was never asked how it is: all that is known of it comes from its
    /// backup.
    pub(crate) is_unheard: bool,
    /// The wrong IMEI that the unit says, as it was heard from its very chip.
    pub(crate) seen_imei: Option<Imei>,
    /// Another module, to which was written what belongs to the unit.
    pub(crate) stranger: Option<Box<Guest>>,
}

impl Repair {
    /// Of an interrupted run: a restore that was announced is done again, whatever of it was done.
    pub(crate) fn of_open(open: &OpenRun) -> Self {
        Self {
            backup: Some(open.backup.clone()),
            is_due: open.restoring,
            is_trial: open.restoring && open.round_trip,
            restores: u32::from(open.restoring),
            ..Self::default()
        }
    }

    /// From now on the unit's EFS comes from that backup, with what its module said of itself then. One over DIAG is given
    /// back after the flash, and its pages are saved before it, as they are, where the plan asks for that.
    pub(crate) fn use_backup(&mut self, backup: BackupRef, expected: Identity) {
        self.expected = Some(expected);
        self.restores = 1;
        match backup.kind {
            BackupKind::Raw => {
                self.backup = Some(backup);
                self.is_due = true;
            }
            BackupKind::Xqcn => {
                self.over_diag = Some(backup);
                self.keeps_any = true;
            }
        }
    }

    /// Whatever the unit holds is saved from now on, as that of a unit of which only so much is known.
    pub(crate) fn keep_any(&mut self, known: Identity) {
        self.expected = Some(known);
        self.keeps_any = true;
    }

    /// The unit is well as it is. What was saved before is not what it would be given back.
    pub(crate) fn cured(&mut self, now: Identity) {
        self.is_cured = true;
        self.backup = None;
        self.expected = Some(now);
    }
}

impl Work {
    /// Why what is read of the module now would not be a good backup: what it arrived with, as long as that is not cured,
    /// and where it is anything for which the line would not admit it.
    pub(crate) fn suspicion(&self) -> Option<String> {
        if self.repair.is_unheard {
            return Some("it arrived in download mode, and nobody knows how it was".to_owned());
        }
        let on_arrival = self.draft.record().diagnosis.filter(|diagnosis| diagnosis.boot == 0);
        on_arrival
            .filter(|diagnosis| !self.repair.is_cured && spoils_backup(diagnosis))
            .map(|diagnosis| diagnosis.to_string())
    }

    /// All checks after every boot, with as many restores in between as are permitted.
    pub(crate) async fn prove(
        &mut self,
        mut device: DeviceRecord,
        product: &Product,
        info: &ChipInfo,
    ) -> Result<Verdict, RunError> {
        loop {
            let failure = match self.verify_boots(device, product).await {
                Err(RunError::Failed(failure)) => failure,
                other => return other,
            };
            let now = self.draft.record().after.unwrap_or_default();
            let (checks, before) = (&product.profile.checks, self.expected());
            if !self.draft.is_changed() || !is_cured_by_restore(failure.code, checks, &before, &now) {
                return Err(failure.into());
            }
            let evidence = evidence(checks, Some(&before), &now);
            if let Some(condition) = evidence.condition(checks.cfun) {
                let boot = self.draft.record().boots_verified + 1;
                self.note_diagnosis(Diagnosis { boot, condition, evidence }).await?;
            }
            if !self.has_lost(&now, product).await? {
                return Err(failure.into());
            }
            let budget = self.repair.budget.unwrap_or(OWN_RESTORES_MAX);
            if self.repair.restores >= budget.max(OWN_RESTORES_MAX) {
                // What lies in the package, and not in the EFS, is no matter of its backup: that has repaired nothing.
                if failure.code == FailureCode::BandMissing {
                    self.draft.update(|record| record.flags.repaired = false);
                }
                let detail = format!("{}; also after its own backup was restored", failure.detail);
                return Err(Failure::new(failure.code, detail).into());
            }
            device = self.restore_own(&failure, product, info).await?;
        }
    }

    /// Flashes the module again, with the EFS of this run's backup.
    async fn restore_own(
        &mut self,
        lost: &Failure,
        product: &Product,
        info: &ChipInfo,
    ) -> Result<DeviceRecord, RunError> {
        let said = format!("{} after the flash: {}", lost.code, lost.detail);
        tracing::warn!(code = %lost.code, detail = lost.detail, "its own backup is restored");
        self.repair.is_due = true;
        self.repair.is_trial = false;
        self.repair.restores += 1;
        self.draft.update(|record| {
            record.boots_verified = 0;
            record.detail = format!("its own backup was restored: {said}");
        });
        let Some((device, DeviceMode::Normal(family))) = self.device() else {
            let detail = format!("{said}; then it left before it was repaired");
            return Err(Failure::new(FailureCode::Unplugged, detail).into());
        };
        let reached = self.reach_edl(&device, family, &product.profile.timeouts).await;
        let (device, found) = match reached {
            Ok(reached) => reached,
            Err(failure) if failure.code.blame() != Blame::Unit => return Err(failure.into()),
            // What it failed for is still the reason.
            Err(failure) => {
                let detail = format!("{}; then: {} {}", lost.detail, failure.code, failure.detail);
                return Err(Failure::new(lost.code, detail).into());
            }
        };
        if found.chip != info.chip {
            self.send_back(&device.key, product.profile.timeouts.boot).await;
            let detail = format!("chip {} where {} was", found.chip, info.chip);
            return Err(Failure::new(FailureCode::UnitSwapped, detail).into());
        }
        fits(&found, product)?;
        self.write(device, &found, product).await
    }
}
