//! What the facts say of a run that is not finished, and which facts contradict it.
//!
//! The rules stand here, at the bottom, a second time: the controller is built to keep them, and a mistake in it must
//! not become an intent without a backup or a second outcome.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{
    BackupKind, BackupRef, BatchId, ChipId, Condition, Cure, Diagnosis, Fact, FailureCode, Identity, Imei, KeyHash,
    Outcome, Phase, PlanSummary, PortChain, RunId, RunState, Sha256Digest, SlotName,
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
    /// Whether that is the trial of a qualification, and no repair: the unit was well.
    pub round_trip: bool,
    /// What the unit was told over AT because it was not well, in order.
    pub cures: Vec<Cure>,
    /// What was wrong with it, as it was found.
    pub findings: Findings,
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

/// What was found to be wrong with the unit of a run that is not finished.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// On its arrival.
    pub on_arrival: Option<Diagnosis>,
    /// Last; on its arrival too, where nothing was found since.
    pub last: Option<Diagnosis>,
    /// Whether a person has it restored.
    pub by_hand: bool,
}

/// A run that did not begin to flash, and did not end: its process died, or its unit left after it was told something.
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
    /// The IMEI with which the chip was claimed.
    pub imei: Option<Imei>,
    /// The backup, if one was taken.
    pub backup: Option<Sha256Digest>,
    /// What the unit was told over AT because it was not well, in order: what it has stored may have changed by that.
    pub cures: Vec<Cure>,
    /// What was wrong with it, as it was found.
    pub findings: Findings,
    /// How it was interrupted last; `None` when the process ended without saying so.
    pub interruption: Option<Interruption>,
    /// When it began.
    pub started: Timestamp,
}

impl UnfinishedRun {
    /// Whether its unit may have been changed: then it is interrupted, and has no outcome before it is finished.
    #[must_use]
    pub fn is_cured(&self) -> bool {
        !self.cures.is_empty()
    }

    /// The chip, if it was claimed.
    #[must_use]
    pub fn chip(&self) -> Option<ChipId> {
        self.claim.as_ref().map(|(chip, ..)| *chip)
    }
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
    #[serde(default)]
    round_trip: bool,
    #[serde(default)]
    cures: Vec<Cure>,
    #[serde(default)]
    findings: Findings,
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

    pub(super) const fn is_cured(&self) -> bool {
        !self.cures.is_empty()
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
            Fact::Cure { cure, .. } => self.check_cure(*cure),
            Fact::BackupConfirmed { backup, .. } if !self.backups.iter().any(|stored| stored.id == *backup) => {
                Err("only a stored backup of the run can be confirmed")
            }
            Fact::Intent { chip, backup, .. } => self.check_intent(*chip, *backup),
            Fact::RestoreIntent { chip, backup, .. } => self.check_restore(*chip, *backup),
            Fact::Restored { .. } if !self.restoring => Err("what is restored was announced before"),
            Fact::Staged { .. } | Fact::Flashed { .. } if !self.has_intent() => {
                Err("a run without an intent has changed nothing that could be staged or flashed")
            }
            Fact::RunInterrupted { .. } if !self.has_intent() && !self.is_cured() => {
                Err("a run that has changed nothing ends, and is not interrupted")
            }
            Fact::RunFinished(record)
                if matches!(record.outcome, Outcome::Held | Outcome::Aborted)
                    && (self.has_intent() || self.is_cured()) =>
            {
                Err("a run that may have changed its module is neither held nor aborted")
            }
            _ => Ok(()),
        }
    }

    /// What a module has is saved before it is told what overwrites it; where that is no file system any more, the module
    /// must have said so.
    fn check_cure(&self, cure: Cure) -> Result<(), &'static str> {
        let Some(claim) = &self.claim else {
            return Err("a module is claimed before anything of it is changed");
        };
        let is_lost = |found: &Diagnosis| found.condition == Condition::EfsLost;
        let has_nothing = cure == Cure::OwnCopy && self.findings.on_arrival.as_ref().is_some_and(is_lost);
        match has_nothing || self.backups.iter().any(|stored| stored.chip == claim.chip) {
            true => Ok(()),
            false => Err("what a module has is saved before it is told what changes it"),
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
                self.findings.by_hand |= by_hand;
            }
            Fact::Diagnosed { diagnosis, .. } => {
                self.is_rework |= diagnosis.boot == 0;
                if diagnosis.boot == 0 {
                    self.findings.on_arrival = Some(diagnosis.clone());
                }
                self.findings.last = Some(diagnosis);
            }
            Fact::Cure { cure, .. } => self.cures.push(cure),
            Fact::RestoreIntent { round_trip, .. } => (self.restoring, self.round_trip) = (true, round_trip),
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
            round_trip: self.round_trip,
            cures: self.cures,
            findings: self.findings,
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
            imei: self.claim.as_ref().map(|claim| claim.imei),
            claim: self.claim.map(|claim| (claim.chip, claim.key_hash, claim.attempt)),
            backup: self.backups.last().map(|backup| backup.id),
            cures: self.cures,
            findings: self.findings,
            interruption: self.interruption,
            started: self.started?,
        })
    }
}
