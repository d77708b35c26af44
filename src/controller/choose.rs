//! Which of a unit's backups is restored, and why none is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::backup::vault_failure;
use super::failure::{Failure, RunError};
use super::floor::{Product, Task};
use super::restore::donor;
use super::work::Work;
use super::xqcn::OverDiag;
use crate::domain::{BackupKind, BackupRef, ChipId, Diagnosis, Fact, FailureCode, Identity, Sha256Digest};
use crate::protocol::sahara::ChipInfo;
use crate::vault::{Fault, Held, Unjudged, Vault, VaultError, Verdict};

/// Backups that a message names.
const UNJUDGED_SHOWN: usize = 2;

impl Work {
    /// The run relies on an earlier backup of the claimed chip from now on, and restores it.
    pub(super) async fn choose(
        &mut self,
        backup: BackupRef,
        info: &ChipInfo,
        product: &Product,
    ) -> Result<(), RunError> {
        if backup.chip != info.chip {
            return Err(donor(backup.id, backup.chip, info.chip).into());
        }
        self.claim_as(info, product, backup.imei).await?;
        let expected = self.well_as_of(&backup).await?;
        if backup.kind == BackupKind::Xqcn {
            // Before anything is erased for it.
            self.load_own(&backup, product, &expected).await?;
        }
        let by_hand = self.floor.task != Task::Line;
        self.append(Fact::BackupChosen { run: self.run(), backup: backup.clone(), by_hand }).await?;
        if backup.kind == BackupKind::Xqcn {
            self.over_diag = OverDiag::Stored(backup.clone());
        }
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

    /// The best backup of a chip that a repair may use: of its pages, or else over DIAG. Pages without their bad blocks
    /// come last, because nobody can say where they would come to lie. One over DIAG that is not complete is passed over.
    /// That a chip has none is said only where that is certain: one that is damaged or cannot be opened is a failure, and
    /// nothing else is tried in its place.
    pub(super) async fn best_backup(&self, chip: ChipId, products: &[&Product]) -> Result<Option<BackupRef>, RunError> {
        let judge = self.judge_of(chip, products).await?;
        let vault = Arc::clone(&self.floor.vault);
        let search = move || {
            let best = |kind, is_usable: &dyn Fn(&BackupRef) -> bool| {
                vault.best_for(chip, kind, |backup| judge.is_recorded(backup) && is_usable(backup))
            };
            if let Some(pages) = best(BackupKind::Raw, &|backup| backup.bad_blocks.is_some())? {
                return Ok((Some(pages), Vec::new()));
            }
            let others = match best(BackupKind::Xqcn, &|backup| judge.is_whole(&vault, backup))? {
                Some(over_diag) => Some(over_diag),
                None => best(BackupKind::Raw, &|_| true)?,
            };
            let unjudged = if others.is_none() { vault.unjudged(chip, &judge.recorded())? } else { Vec::new() };
            Ok::<_, VaultError>((others, unjudged))
        };
        let (found, unjudged) = tokio::task::spawn_blocking(search)
            .await
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?
            .map_err(vault_failure)?;
        if !unjudged.is_empty() {
            return Err(cannot_be_used(chip, &unjudged).into());
        }
        Ok(found)
    }

    /// Why a chip has no backup that a repair may use, for QA; whether there is any at all.
    pub(super) async fn why_no_backup(&self, chip: ChipId) -> Result<(bool, String), RunError> {
        let recorded = self.floor.ledger.backups_of(chip).await?;
        let vault = Arc::clone(&self.floor.vault);
        let search = move || why_none(&vault, chip, &recorded);
        let reasons = tokio::task::spawn_blocking(search)
            .await
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?
            .map_err(vault_failure)?;
        Ok(if reasons.is_empty() {
            (false, format!("no backup of chip {chip} was ever made or taken in at this station"))
        } else {
            (true, format!("chip {chip} has no backup that can be restored: {}", reasons.join("; ")))
        })
    }

    /// The end of a module that has lost its EFS, and of which nothing is known.
    pub(super) async fn lost_for_good(&self, diagnosis: &Diagnosis, chip: ChipId) -> Result<Failure, RunError> {
        let detail = match self.why_no_backup(chip).await? {
            (false, _) => format!("{diagnosis}; this station has no backup of it and never knew its IMEI"),
            (true, why) => format!("{diagnosis}; {why}; this station never knew its IMEI"),
        };
        Ok(Failure::new(FailureCode::EfsLostNoBackup, detail))
    }

    /// The backup with that id, which must be a good one of this chip, whatever a person says.
    pub(super) async fn named_backup(&self, id: Sha256Digest, chip: ChipId) -> Result<BackupRef, RunError> {
        let vault = Arc::clone(&self.floor.vault);
        let missing = match self.floor.ledger.backups_of(chip).await?.contains(&id) {
            true => format!("it is recorded, but its file is missing in {}", vault.directory_of(chip).display()),
            false => "no backup of that id was ever made or taken in of this chip".to_owned(),
        };
        let search = move || {
            let entries: Vec<_> = vault.list()?.into_iter().filter(|entry| entry.id == id).collect();
            let mut verdict = None;
            // The same content may be there twice: of a module that was ill and was well later, or damaged once.
            for own in entries.iter().filter(|entry| entry.chip == chip) {
                match vault.judge(own)? {
                    good @ Verdict::Good(_) => return Ok((entries.into_iter().next(), Some(good))),
                    other => verdict = verdict.or(Some(other)),
                }
            }
            Ok::<_, VaultError>((entries.into_iter().next(), verdict))
        };
        let (entry, verdict) = tokio::task::spawn_blocking(search)
            .await
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?
            .map_err(vault_failure)?;
        let refused =
            |code: FailureCode, why: String| Err(Failure::new(code, format!("backup {}: {why}", id.short())).into());
        match (entry, verdict) {
            (None, _) => refused(FailureCode::BackupMissing, missing),
            (Some(entry), None) => Err(donor(id, entry.chip, chip).into()),
            (_, Some(Verdict::Good(backup))) => Ok(backup),
            (_, Some(Verdict::Suspect(backup))) => {
                let why = backup.suspect.unwrap_or_default();
                refused(FailureCode::BackupInvalid, format!("the module was not well when it was taken: {why}"))
            }
            (_, Some(Verdict::Damaged(faults))) => refused(FailureCode::BackupInvalid, told(&faults)),
        }
    }
}

/// What keeps each backup of a chip from being used, where none can be. Empty where there is none.
fn why_none(vault: &Vault, chip: ChipId, recorded: &BTreeSet<Sha256Digest>) -> Result<Vec<String>, VaultError> {
    let mut reasons = Vec::new();
    let mut gone = recorded.clone();
    for Held { entry, .. } in vault.backups_of(chip)? {
        gone.remove(&entry.id);
        let why = match vault.judge(&entry)? {
            Verdict::Damaged(faults) => told(&faults),
            Verdict::Suspect(backup) => {
                format!("the module was not well when it was taken: {}", backup.suspect.unwrap_or_default())
            }
            Verdict::Good(_) => "it is not in the ledger of this station, and must be imported".to_owned(),
        };
        reasons.push(format!("backup {}: {why}", entry.id.short()));
    }
    let directory = vault.directory_of(chip);
    for id in gone {
        let mut why = format!("backup {}: its file is missing in {}", id.short(), directory.display());
        // Who reads this may put it back.
        if let Some((copy, _)) = vault.any_place(chip, id)?.into_iter().find(|(_, fault)| fault.is_none()) {
            why += &format!(", its copy {} is good", copy.display());
        }
        reasons.push(why);
    }
    Ok(reasons)
}

fn told(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a chip that has backups gets none of them back, and what opens them. The station's fault, and not the unit's.
fn cannot_be_used(chip: ChipId, unjudged: &[Unjudged]) -> Failure {
    let each = unjudged
        .iter()
        .take(UNJUDGED_SHOWN)
        .map(|one| format!("; backup {}: {}: {}", one.id.short(), one.path.display(), one.reason));
    let detail = format!(
        "chip {chip} has backups, and none can be used: put the file back from the second place (vault.copy), or import \
         it with the key that opens it (`backups import --identity`){}",
        each.collect::<String>()
    );
    Failure::new(FailureCode::BackupMissing, detail)
}
