//! What the facts say of a run that is not finished, and which facts contradict it.
//!
//! The rules stand here, at the bottom, a second time: the controller is built to keep them, and a mistake in it must
//! not become an intent without a backup or a second outcome.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{
    BackupKind, BackupRef, BatchId, ChipId, Fact, FailureCode, Identity, Imei, KeyHash, Phase, PlanSummary, PortChain,
    RunId, RunState, Sha256Digest, SlotName,
};

use super::line::Entry;

/// Where and why a run was interrupted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Interruption {
    /// The phase it was in.
    pub phase: Phase,
    /// Why.
    pub code: FailureCode,
    /// More, for people.
    pub detail: String,
}

/// A run that changed its unit, or was about to, and is not finished.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenRun {
    /// The run.
    pub run: RunId,
    /// Running in this process, or interrupted (also: by the end of an earlier process).
    pub state: RunState,
    /// The batch that it was started under.
    pub batch: BatchId,
    /// The unit's chip.
    pub chip: ChipId,
    /// The IMEI that it reported before.
    pub imei: Imei,
    /// The digest of the key that the chip trusts.
    pub key_hash: KeyHash,
    /// Which attempt at the unit it is.
    pub attempt: u32,
    /// The slot in which it was last.
    pub slot: SlotName,
    /// Every port chain at which its module was found, in order, without repetition.
    pub chains: Vec<PortChain>,
    /// What the module said of itself before.
    pub identity_before: Identity,
    /// The profile's name.
    pub profile: String,
    /// SHA-256 of the profile file.
    pub profile_digest: Sha256Digest,
    /// SHA-256 over the package.
    pub package_digest: Sha256Digest,
    /// The backup taken before the first destructive command: the one that is valid for it.
    pub backup: BackupRef,
    /// The backup over DIAG that was taken besides, where one was.
    pub xqcn: Option<BackupRef>,
    /// The last plan that it intended.
    pub plan: PlanSummary,
    /// Whether what belongs to the unit is restored from that backup, half perhaps: it has to be restored again.
    pub restoring: bool,
    /// Bytes written when everything but the boot loader of that plan was written.
    pub staged: Option<u64>,
    /// Bytes written when that plan was done.
    pub flashed: Option<u64>,
    /// Boots verified since then.
    pub verified: u32,
    /// Whether it was resumed before.
    pub resumed: bool,
    /// How it was interrupted last; `None` when the process ended without saying so.
    pub interruption: Option<Interruption>,
    /// When it began.
    pub started: Timestamp,
}

/// A run that began, changed nothing, and did not end: its process died.
#[derive(Clone, PartialEq, Debug)]
pub struct UnfinishedRun {
    /// The run.
    pub run: RunId,
    /// Running in this process, or left over from an earlier one (shown as interrupted).
    pub state: RunState,
    /// Its batch.
    pub batch: BatchId,
    /// Its slot.
    pub slot: SlotName,
    /// The port chain at which its module was found.
    pub chain: PortChain,
    /// What the module said of itself, if it answered.
    pub identity: Option<Identity>,
    /// Name and digests of profile and package, if it came to that.
    pub profile: Option<(String, Sha256Digest, Sha256Digest)>,
    /// The chip, its key hash and the attempt, if it came to that.
    pub claim: Option<(ChipId, KeyHash, u32)>,
    /// The backup, if one was taken.
    pub backup: Option<Sha256Digest>,
    /// When it began.
    pub started: Timestamp,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Admission {
    profile: String,
    profile_digest: Sha256Digest,
    package_digest: Sha256Digest,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) chip: ChipId,
    pub(super) imei: Imei,
    pub(super) key_hash: KeyHash,
    pub(super) attempt: u32,
}

/// Everything that is kept of a run until it is finished.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    pub(super) batch: Option<BatchId>,
    slot: Option<SlotName>,
    chains: Vec<PortChain>,
    started: Option<Timestamp>,
    pub(super) identity: Option<Identity>,
    admission: Option<Admission>,
    pub(super) claim: Option<Claim>,
    backups: Vec<BackupRef>,
    /// The backup of the first intent.
    valid_backup: Option<Sha256Digest>,
    plan: Option<PlanSummary>,
    #[serde(default)]
    restoring: bool,
    /// It was not well on arrival, and no person has it restored.
    #[serde(default)]
    is_rework: bool,
    staged: Option<u64>,
    flashed: Option<u64>,
    verified: u32,
    resumed: bool,
    pub(super) is_interrupted: bool,
    interruption: Option<Interruption>,
}

impl Body {
    pub(super) const fn has_intent(&self) -> bool {
        self.plan.is_some()
    }

    /// Whether the fact may follow what is known of its run.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(super) fn check(&self, fact: &Fact) -> Result<(), &'static str> {
        match fact {
            Fact::BackupStored { backup, .. } | Fact::BackupChosen { backup, .. } => match &self.claim {
                Some(claim) if claim.chip == backup.chip => Ok(()),
                _ => Err("a backup belongs to the chip that its run has claimed"),
            },
            Fact::Cure { .. } if self.claim.is_none() => Err("a module is claimed before anything of it is changed"),
            Fact::BackupConfirmed { backup, .. } if !self.backups.iter().any(|stored| stored.id == *backup) => {
                Err("only a stored backup of the run can be confirmed")
            }
            Fact::Intent { chip, backup, .. } => self.check_intent(*chip, *backup),
            Fact::RestoreIntent { chip, backup, .. } => self.check_restore(*chip, *backup),
            Fact::Restored { .. } if !self.restoring => Err("what is restored was announced before"),
            Fact::Staged { .. } | Fact::Flashed { .. } | Fact::RunInterrupted { .. } if !self.has_intent() => {
                Err("a run without an intent has changed nothing that could be staged, flashed or interrupted")
            }
            _ => Ok(()),
        }
    }

    fn check_intent(&self, chip: ChipId, backup: Sha256Digest) -> Result<(), &'static str> {
        if self.batch.is_none() || self.identity.is_none() || self.admission.is_none() {
            return Err("an intent needs a run that was started, identified and admitted");
        }
        if self.claim.as_ref().is_none_or(|claim| claim.chip != chip) {
            return Err("an intent needs the claim of its chip");
        }
        if !self.backups.iter().any(|stored| stored.id == backup) {
            return Err("an intent needs a stored backup of its chip");
        }
        if self.valid_backup.is_some_and(|valid| valid != backup) {
            return Err("the backup taken before the first intent of a run is the valid one");
        }
        Ok(())
    }

    fn check_restore(&self, chip: ChipId, backup: Sha256Digest) -> Result<(), &'static str> {
        if self.claim.as_ref().is_none_or(|claim| claim.chip != chip) {
            return Err("a restore needs the claim of its chip");
        }
        // What is in a backup over DIAG may come back where the pages of the other one cannot.
        let is_xqcn = |stored: &BackupRef| stored.id == backup && stored.kind == BackupKind::Xqcn;
        if self.valid_backup != Some(backup) && !(self.has_intent() && self.backups.iter().any(is_xqcn)) {
            return Err("only a backup of a run's intent is restored in it");
        }
        Ok(())
    }

    /// The claimed chip, once something of it was announced to be changed that was not well on arrival. What was lost in
    /// our own hands, and what a person has restored, does not count against the unit.
    pub(super) fn repaired_chip(&self, fact: &Fact) -> Option<ChipId> {
        let changes = matches!(fact, Fact::Cure { .. } | Fact::RestoreIntent { round_trip: false, .. });
        let is_repair = self.is_rework && changes;
        self.claim.as_ref().filter(|_| is_repair).map(|claim| claim.chip)
    }

    /// Takes a fact of this run in.
    pub(super) fn apply(&mut self, entry: &Entry) {
        match entry.fact.clone() {
            Fact::RunStarted { batch, slot, chain, identity, .. } => {
                self.identity = identity;
                self.batch = Some(batch);
                self.started = Some(entry.wall);
                self.found_at(slot, chain);
            }
            Fact::Admitted { profile, profile_digest, package_digest, .. } => {
                // What a resumed run was begun with counts until it is begun anew.
                let begun_with = self.admission.as_ref().filter(|_| self.plan.is_some());
                let package_digest = begun_with.map_or(package_digest, |known| known.package_digest);
                self.admission = Some(Admission { profile, profile_digest, package_digest });
            }
            Fact::Claimed { chip, key_hash, imei, attempt, .. } => {
                self.claim = Some(Claim { chip, imei, key_hash, attempt });
            }
            Fact::BackupStored { backup, .. } => self.backups.push(backup),
            // An earlier backup is chosen to be restored.
            Fact::BackupChosen { backup, by_hand, .. } => {
                self.backups.push(backup);
                self.restoring = true;
                self.is_rework &= !by_hand;
            }
            Fact::Diagnosed { diagnosis, .. } => self.is_rework |= diagnosis.boot == 0,
            Fact::RestoreIntent { .. } => self.restoring = true,
            Fact::Intent { plan, backup, package_digest, .. } => {
                if let Some(admission) = &mut self.admission {
                    admission.package_digest = package_digest;
                }
                self.plan = Some(plan);
                self.valid_backup.get_or_insert(backup);
                (self.staged, self.flashed, self.verified) = (None, None, 0);
            }
            Fact::Staged { bytes, .. } => self.staged = Some(bytes),
            Fact::Flashed { bytes, .. } => self.flashed = Some(bytes),
            Fact::Verified { .. } => self.verified += 1,
            Fact::RunInterrupted { phase, code, detail, .. } => {
                self.is_interrupted = true;
                self.interruption = Some(Interruption { phase, code, detail });
            }
            Fact::RunResumed { slot, chain, .. } => {
                (self.resumed, self.is_interrupted, self.interruption) = (true, false, None);
                self.found_at(slot, chain);
            }
            Fact::StationStarted { .. }
            | Fact::StationStopped { .. }
            | Fact::BatchOpened { .. }
            | Fact::BackupConfirmed { .. }
            | Fact::Qualified(_)
            | Fact::ClaimRefused { .. }
            | Fact::Cure { .. }
            | Fact::Restored { .. }
            | Fact::RunFinished(_)
            | Fact::Quarantined { .. }
            | Fact::BackupImported { .. }
            | Fact::HubLost { .. }
            | Fact::HubReturned { .. } => {}
        }
    }

    fn found_at(&mut self, slot: SlotName, chain: PortChain) {
        self.slot = Some(slot);
        if !self.chains.contains(&chain) {
            self.chains.push(chain);
        }
    }

    /// The run as open; `None` where a part is missing, which [`Body::check`] excludes.
    pub(super) fn open(self, run: RunId, state: RunState) -> Option<OpenRun> {
        let (claim, admission) = (self.claim?, self.admission?);
        let valid = self.valid_backup?;
        Some(OpenRun {
            run,
            state,
            batch: self.batch?,
            chip: claim.chip,
            imei: claim.imei,
            key_hash: claim.key_hash,
            attempt: claim.attempt,
            slot: self.slot?,
            chains: self.chains,
            identity_before: self.identity?,
            profile: admission.profile,
            profile_digest: admission.profile_digest,
            package_digest: admission.package_digest,
            xqcn: self.backups.iter().find(|backup| backup.kind == BackupKind::Xqcn).cloned(),
            backup: self.backups.into_iter().find(|backup| backup.id == valid)?,
            plan: self.plan?,
            restoring: self.restoring,
            staged: self.staged,
            flashed: self.flashed,
            verified: self.verified,
            resumed: self.resumed,
            interruption: self.interruption,
            started: self.started?,
        })
    }

    /// The run as unfinished; `None` for one of which no beginning is recorded.
    pub(super) fn unfinished(self, run: RunId, state: RunState) -> Option<UnfinishedRun> {
        Some(UnfinishedRun {
            run,
            state,
            batch: self.batch?,
            slot: self.slot?,
            chain: self.chains.into_iter().next()?,
            identity: self.identity,
            profile: self.admission.map(|found| (found.profile, found.profile_digest, found.package_digest)),
            claim: self.claim.map(|claim| (claim.chip, claim.key_hash, claim.attempt)),
            backup: self.backups.last().map(|backup| backup.id),
            started: self.started?,
        })
    }
}
