//! Giving a unit its NV items and files back over DIAG, where its pages cannot be written: its bad blocks are not those
//! of its backup any more, or there is no backup of its pages.
//!
//! This is the only place from which anything of a module is changed over DIAG. The chip tells its name in download mode
//! only, so it is asked there just before, and what is written next is written to what comes up in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::backup::{stored_table, vault_failure};
use super::edl::Bound;
use super::failure::{Failure, RunError, SessionError};
use super::floor::Product;
use super::restore::{Restorable, donor};
use super::session::at::AtSession;
use super::session::diag::{Compared, Restored};
use super::verify::Guest;
use super::work::Work;
use super::xqcn::OverDiag;
use crate::config::Profile;
use crate::domain::{
    BackupKind, BackupRef, Blame, CFUN_FACTORY_TEST, ChipId, Fact, FailureCode, Family, Identity, Imei, Phase,
    Sha256Digest, Wait, limits,
};
use crate::hardware::{DeviceMode, DeviceRecord};
use crate::protocol::at;
use crate::protocol::diag::Mode;
use crate::protocol::diag::nv::ITEM_BYTES;
use crate::protocol::xqcn::{self, Owner, Xqcn};
use crate::vault::Vault;

/// Differences that a message names.
const DIFFERENCES_SHOWN: usize = 4;
/// How often a module without IMEI may leave between the question for its chip and the next one, and is asked again.
const LEAVES_MAX: u32 = 1;
/// How much longer than ever in its run a module may be away when it starts, and is still taken for the one that left.
const LATER_MAX: Duration = Duration::from_secs(3);

impl Work {
    /// What of the unit's own the next flash restores; `None` where it is given back over DIAG after that flash instead.
    pub(crate) async fn restorable(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        bound: &Bound,
        backup: &BackupRef,
    ) -> Result<Option<Restorable>, RunError> {
        if backup.kind == BackupKind::Xqcn {
            self.repair.over_diag = Some(backup.clone());
            return Ok(None);
        }
        // Its pages are those of an ill module: they made the flash permissible, and cure nothing.
        if backup.suspect.is_some()
            && let Some(own) = self.own_over_diag(backup.chip, backup.imei, product).await?
        {
            self.repair.over_diag = Some(own);
            return Ok(None);
        }
        let failure = match self.prepare_restore(device, product, bound, backup).await {
            Err(RunError::Failed(failure)) if is_of_pages(&failure) => failure,
            other => return other.map(Some),
        };
        match self.over_diag_instead(&failure, backup, product).await? {
            true => Ok(None),
            false => Err(failure.into()),
        }
    }

    /// Whether a unit whose pages cannot be restored is given back its own over DIAG after the flash instead: that there
    /// is a backup of it.
    pub(crate) async fn over_diag_instead(
        &mut self,
        failure: &Failure,
        pages: &BackupRef,
        product: &Product,
    ) -> Result<bool, RunError> {
        let Some(own) = self.own_over_diag(pages.chip, pages.imei, product).await? else { return Ok(false) };
        tracing::warn!(detail = failure.detail, "its pages cannot be restored; its own is given back over DIAG");
        self.say_also(&format!("given back over DIAG: {}", failure.detail));
        self.repair.over_diag = Some(own);
        Ok(true)
    }

    /// The partition table of the backup that a run relies on. Where its pages are damaged, and what belongs to the unit
    /// is there over DIAG too, the module's own has to do.
    pub(crate) async fn table_of(&self, backup: &BackupRef, product: &Product) -> Result<Option<Vec<u8>>, RunError> {
        match stored_table(&self.floor.vault, backup).await {
            Err(failure)
                if is_of_pages(&failure)
                    && backup.kind == BackupKind::Raw
                    && self.own_over_diag(backup.chip, backup.imei, product).await?.is_some() =>
            {
                tracing::warn!(detail = failure.detail, "the partition table is taken from the module");
                Ok(None)
            }
            table => Ok(table?),
        }
    }

    fn say_also(&self, said: &str) {
        self.draft.update(|record| {
            let before = std::mem::take(&mut record.detail);
            record.detail = if before.is_empty() { said.to_owned() } else { format!("{before}; {said}") };
        });
    }

    /// Whether what a unit is given back is more than what it has. Pages that were saved of a module that was not well are
    /// no more than that, as long as nothing of what it had then is gone.
    pub(crate) async fn has_lost(&self, now: &Identity, product: &Product) -> Result<bool, RunError> {
        let Some(backup) = self.repair.backup.as_ref().filter(|backup| backup.suspect.is_some()) else {
            return Ok(true);
        };
        if self.repair.over_diag.is_some() || self.own_over_diag(backup.chip, backup.imei, product).await?.is_some() {
            return Ok(true);
        }
        let then = self.draft.record().before.unwrap_or_default();
        let is_gone = |was: bool, is_same: bool| was && !is_same;
        Ok(is_gone(then.imei.is_some(), now.imei == then.imei)
            || is_gone(then.calibration.is_some(), now.calibration == then.calibration))
    }

    /// The backup over DIAG that this unit may be given back: of this run, or else the best one in the vault that the
    /// ledger knows.
    pub(crate) async fn own_over_diag(
        &self,
        chip: ChipId,
        imei: Imei,
        product: &Product,
    ) -> Result<Option<BackupRef>, RunError> {
        let judge = self.judge_of(chip, &[product]).await?;
        let of_run = self.over_diag.stored_of(chip, imei).cloned();
        let vault = Arc::clone(&self.floor.vault);
        let search = move || {
            if let Some(own) = of_run.filter(|own| judge.is_whole(&vault, own)) {
                return Ok(Some(own));
            }
            let is_own = |backup: &BackupRef| backup.imei == imei && judge.is_recorded(backup);
            vault.best_for(chip, BackupKind::Xqcn, |backup| is_own(backup) && judge.is_whole(&vault, backup))
        };
        let found = tokio::task::spawn_blocking(search)
            .await
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?;
        Ok(found.map_err(vault_failure)?)
    }

    /// What the backups of a chip are held to, where they may be chosen.
    pub(super) async fn judge_of(&self, chip: ChipId, products: &[&Product]) -> Result<Judge, RunError> {
        let mut owners = BTreeMap::new();
        for id in self.floor.ledger.backups_of(chip).await? {
            let origin = self.floor.ledger.origin_of(id).await?;
            owners.insert(id, origin);
        }
        let profiles = products.iter().map(|product| Arc::clone(&product.profile)).collect();
        Ok(Judge { profiles, owners })
    }

    /// Writes a backup over DIAG to the module in normal mode that it was read from, and starts it anew. Repeating it does
    /// no harm: what was written before is written again.
    pub(crate) async fn restore_xqcn(
        &mut self,
        device: DeviceRecord,
        product: &Product,
        backup: &BackupRef,
    ) -> Result<DeviceRecord, RunError> {
        let Some(chip) = self.draft.record().chip else {
            return Err(Failure::new(FailureCode::Internal, "a restore of an unknown chip").into());
        };
        if backup.chip != chip {
            return Err(donor(backup.id, backup.chip, chip).into());
        }
        let content = self.load_own(backup, product, &self.expected()).await?;
        let device = self.ask_whose(device, product, backup).await?;
        self.enter(Phase::Flash);
        if !matches!(&self.over_diag, OverDiag::Stored(known) if known.id == backup.id) {
            self.append(Fact::BackupChosen { run: self.run(), backup: backup.clone(), by_hand: false }).await?;
            self.over_diag = OverDiag::Stored(backup.clone());
        }
        let (run, backup_id) = (self.run(), backup.id);
        let announced = Fact::RestoreIntent { run, chip, backup: backup_id, ranges: Vec::new(), round_trip: false };
        self.append(announced).await?;
        self.draft.set_changed();
        self.draft.update(|record| {
            record.flags.repaired = true;
            record.backup = Some(backup.id);
        });
        let given = match self.write_and_start(&device, product, &content).await {
            Ok(device) => self.confirm_whose(device, product, backup).await,
            Err(failure) if failure.code.blame() == Blame::Unit || failure.code == FailureCode::RestoreSlow => {
                Err(self.blame_whose(failure, &device, product, backup).await)
            }
            Err(failure) => Err(failure),
        };
        let device = given?;
        self.append(Fact::Restored { run: self.run(), backup: backup.id, bytes: backup.bytes }).await?;
        Ok(device)
    }

    async fn write_and_start(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        content: &Xqcn,
    ) -> Result<DeviceRecord, Failure> {
        let restored = self.write_over_diag(device, product, content).await?;
        tracing::info!(items = restored.items, files = restored.files, refused = restored.refused.len(), "given back");
        if let Some(refused) = refused_words(&restored) {
            self.say_also(&refused);
        }
        let started = self.start_restored(device, product).await?;
        self.compare_started(started, product, content).await
    }

    /// Asks the module that was written to for its chip, and starts it again: what it says over AT it was just given, so
    /// nothing else proves that it is the unit. Another one is remembered, because it carries what is not its own.
    async fn confirm_whose(
        &mut self,
        device: DeviceRecord,
        product: &Product,
        backup: &BackupRef,
    ) -> Result<DeviceRecord, Failure> {
        let profile = Arc::clone(&product.profile);
        let (there, info) = self.reach_edl(&device, profile.family, &profile.timeouts).await?;
        let started = self.leave_probe(&there, product).await;
        if info.chip == backup.chip {
            return started;
        }
        let mut device = started.unwrap_or(there);
        let identity = match self.open_started(&mut device, product).await {
            Ok(mut at) => self.read_identity(&mut at, &device, profile.family, &profile.timeouts).await,
            Err(failure) => Err(failure),
        };
        // What it does not say now it will say once it is asked again.
        let identity = identity.unwrap_or_else(|_| Identity {
            imei: Some(backup.imei),
            imei_text: backup.imei.to_string(),
            ..Identity::default()
        });
        let detail = format!("chip {} was written to where {} was", info.chip, backup.chip);
        self.repair.stranger = Some(Box::new(Guest { device, identity, chip: info, written_as: Some(backup.chip) }));
        Err(Failure::new(FailureCode::UnitSwapped, detail))
    }

    /// A failure of what was given back is that of the unit only where it is the unit that was given it.
    async fn blame_whose(
        &mut self,
        failure: Failure,
        device: &DeviceRecord,
        product: &Product,
        backup: &BackupRef,
    ) -> Failure {
        let started = match self.device() {
            // It has not restarted yet.
            Some((now, _)) if now.key == device.key => self.start_restored(device, product).await.ok(),
            Some((now, DeviceMode::Normal(_))) => Some(now),
            Some(_) => None,
            None => self.await_normal(&device.key, product.profile.timeouts.boot).await.ok(),
        };
        let Some(started) = started else { return failure };
        match self.confirm_whose(started, product, backup).await {
            Err(swapped) if swapped.code == FailureCode::UnitSwapped => swapped,
            Ok(_) | Err(_) => failure,
        }
    }

    /// The content of a backup, verified as when it was made.
    pub(super) async fn load_own(
        &self,
        backup: &BackupRef,
        product: &Product,
        expected: &Identity,
    ) -> Result<Xqcn, Failure> {
        if expected.imei != Some(backup.imei) {
            let said = &expected.imei_text;
            let detail = format!("backup {} is of IMEI {}, this unit has {said}", backup.id.short(), backup.imei);
            return Err(Failure::new(FailureCode::BackupOfAnother, detail));
        }
        let owner = Owner { imei: backup.imei, calibration: expected.calibration };
        let (vault, wanted, profile) = (Arc::clone(&self.floor.vault), backup.clone(), Arc::clone(&product.profile));
        let load = move || load(&vault, &wanted, &profile, &owner);
        tokio::task::spawn_blocking(load)
            .await
            .unwrap_or_else(|error| Err(Failure::new(FailureCode::Internal, error.to_string())))
    }

    /// Asks a module once more who it is, in download mode and then over AT; gives the device it is in normal mode again.
    async fn ask_whose(
        &mut self,
        mut device: DeviceRecord,
        product: &Product,
        backup: &BackupRef,
    ) -> Result<DeviceRecord, Failure> {
        let (family, timeouts) = (product.profile.family, product.profile.timeouts);
        let swapped = |detail: String| Err(Failure::new(FailureCode::UnitSwapped, detail));
        let mut left = 0;
        loop {
            let (there, info) = self.reach_edl(&device, family, &timeouts).await?;
            let usual = self.draft.waits().longest(Wait::Boot);
            device = self.leave_probe(&there, product).await?;
            let is_late = self.draft.waits().longest(Wait::Boot) > usual + LATER_MAX;
            if info.chip != backup.chip {
                return swapped(format!("chip {} where {} was", info.chip, backup.chip));
            }
            let came = device.key.clone();
            let mut at = self.open_started(&mut device, product).await?;
            let said = match ask_imei(&mut at, family, timeouts.ready).await {
                Ok(said) => said,
                Err(error) => return Err(self.judge(error, &device.key, FailureCode::AtSilent).await),
            };
            match said {
                Some(own) if own == backup.imei => return Ok(device),
                // The wrong one that is to be cured.
                Some(other) if self.repair.seen_imei == Some(other) => return Ok(device),
                Some(other) => {
                    return swapped(format!("the module reports IMEI {other}, the unit has {}", backup.imei));
                }
                None if !self.may_say_none() => {
                    return swapped(format!("the module reports no IMEI, the one of the backup had {}", backup.imei));
                }
                None if device.key == came && !is_late => return Ok(device),
                // It left after it had said its chip, or was away for longer than it takes to start, and nothing that it
                // says tells whether it is still the same.
                None if left < LEAVES_MAX => left += 1,
                None => return swapped("it leaves again and again after it was asked for its chip".to_owned()),
            }
        }
    }

    /// Whether the unit of this run says no IMEI, as far as is known: it came so, or nobody could ask it when it came, or
    /// it lost it in our hands.
    fn may_say_none(&self) -> bool {
        let record = self.draft.record();
        let has_none = |said: &Option<Identity>| said.as_ref().is_some_and(|said| said.imei.is_none());
        self.repair.is_unheard
            || has_none(&record.before)
            || has_none(&record.after)
            // What it said before it was interrupted in its restore is not known any more.
            || self.resumed.as_ref().is_some_and(|open| open.restoring)
    }

    /// Writes everything, compares it, and restarts the module; the latter also where it could not be written, because
    /// nothing else leads out of the offline mode.
    async fn write_over_diag(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        content: &Xqcn,
    ) -> Result<Restored, Failure> {
        let profile = Arc::clone(&product.profile);
        self.floor.halt.check()?;
        let mut session = match self.open_diag(device, profile.family).await {
            Ok(session) => session,
            Err(failure) => return Err(self.judge_diag(failure, &device.key, FailureCode::RestoreDiffers).await),
        };
        let limit = time_for(content);
        let write = async {
            let restored = session.restore(content, profile.family).await?;
            let compared = Compared::Everything(&restored);
            let different = session.differences(content, profile.family, &profile.manifest, compared).await?;
            Ok((restored, different))
        };
        let written = tokio::select! {
            biased;
            () = self.floor.halt.until() => None,
            written = self.floor.clock.timeout(limit, write) => Some(written),
        };
        // It may be gone before it has answered, and whether it restarts is seen on the bus.
        let _answered_or_not = session.control(Mode::Reset).await;
        drop(session);
        let differs = |what: String| Failure::new(FailureCode::RestoreDiffers, what);
        // Once the disk has failed nothing more is written; the run is interrupted, and the restore done again.
        self.floor.halt.check()?;
        let Some(written) = written else {
            return Err(Failure::new(FailureCode::DiskFailed, "the restore was cut off"));
        };
        match written {
            Ok(Ok((restored, different))) => {
                let refused = refused_words(&restored);
                let most = u64::from(profile.manifest.unreadable_max);
                match (different.is_empty(), refused) {
                    (false, None) => Err(differs(words(&different))),
                    (false, Some(refused)) => Err(differs(format!("{}; {refused}", words(&different)))),
                    (true, Some(refused)) if restored.refused.len() as u64 > most => {
                        Err(differs(format!("{refused}; the profile allows {most}")))
                    }
                    (true, _) => Ok(restored),
                }
            }
            Ok(Err(failure)) => Err(self.judge_diag(failure, &device.key, FailureCode::RestoreDiffers).await),
            Err(_) => Err(slow("written and compared", limit)),
        }
    }

    /// Waits until the module has restarted.
    async fn start_restored(&mut self, device: &DeviceRecord, product: &Product) -> Result<DeviceRecord, Failure> {
        self.enter(Phase::Reset);
        if !self.await_gone(&device.key, product.profile.timeouts.reset).await && !self.cycle_power(&device.key).await {
            return Err(Failure::new(FailureCode::NoReboot, "it does not restart after it was restored"));
        }
        self.await_normal(&device.key, product.profile.timeouts.boot).await
    }

    /// What was synchronised is there after a start. The rest may have been changed by it.
    async fn compare_started(
        &mut self,
        mut started: DeviceRecord,
        product: &Product,
        content: &Xqcn,
    ) -> Result<DeviceRecord, Failure> {
        let profile = Arc::clone(&product.profile);
        drop(self.open_started(&mut started, product).await?);
        let compare = async {
            let mut session = self.open_diag(&started, profile.family).await?;
            session.differences(content, profile.family, &profile.manifest, Compared::Required).await
        };
        let limit = time_for(content);
        let different = match self.floor.clock.timeout(limit, compare).await {
            Ok(Ok(different)) => different,
            Ok(Err(failure)) => {
                return Err(self.judge_diag(failure, &started.key, FailureCode::RestoreDiffers).await);
            }
            Err(_) => return Err(slow("compared after a start", limit)),
        };
        match different.is_empty() {
            true => Ok(started),
            false => Err(Failure::new(FailureCode::RestoreDiffers, format!("after a start: {}", words(&different)))),
        }
    }
}

/// How long what is in a backup may take to be written, or read, and compared.
fn time_for(content: &Xqcn) -> Duration {
    let files = content.in_order().map(|(file, _)| file.data.len());
    let things = content.items.len() + content.in_order().count();
    let bytes = content.items.len() * ITEM_BYTES + files.sum::<usize>();
    let at = |many: usize, per_second: u32| Duration::from_secs((many as u64).div_ceil(u64::from(per_second)));
    limits::GIVE_BACK_TIME
        + at(things, limits::GIVE_BACK_PER_SECOND_MIN)
        + at(bytes, limits::GIVE_BACK_BYTES_PER_SECOND_MIN)
}

/// What a module did not take back: how much, and the first of it.
fn refused_words(restored: &Restored) -> Option<String> {
    let named: Vec<String> = restored.refused.iter().map(|(name, why)| format!("{name} ({why})")).collect();
    (!named.is_empty()).then(|| format!("{} items and files were not taken back: {}", named.len(), words(&named)))
}

fn slow(what: &str, limit: Duration) -> Failure {
    Failure::new(FailureCode::RestoreSlow, format!("it was not {what} within {} s", limit.as_secs()))
}

/// Whether it is the pages of a backup that cannot be restored, and not the module, the link or the disk that is at fault.
pub(crate) fn is_of_pages(failure: &Failure) -> bool {
    match failure.code {
        FailureCode::RestoreBadBlocks | FailureCode::BackupInvalid => true,
        // A file of the vault that is damaged.
        FailureCode::DiskFailed => !failure.is_of_disk,
        _ => false,
    }
}

/// What a backup over DIAG must hold to be chosen: what it had to hold when it was made.
pub(super) struct Judge {
    /// Those that the module may be made by.
    profiles: Vec<Arc<Profile>>,
    /// The backups that the ledger knows, with what their modules said of themselves then.
    owners: BTreeMap<Sha256Digest, Option<Identity>>,
}

impl Judge {
    /// Whether the ledger knows it.
    pub(super) fn is_recorded(&self, backup: &BackupRef) -> bool {
        self.owners.contains_key(&backup.id)
    }

    /// All that it knows.
    pub(super) fn recorded(&self) -> BTreeSet<Sha256Digest> {
        self.owners.keys().copied().collect()
    }

    /// Whether one over DIAG is complete, and its owner's. Blocks.
    pub(super) fn is_whole(&self, vault: &Vault, backup: &BackupRef) -> bool {
        let origin = self.owners.get(&backup.id).and_then(Option::as_ref);
        let calibration = origin.filter(|origin| origin.imei == Some(backup.imei)).and_then(|known| known.calibration);
        let owner = Owner { imei: backup.imei, calibration };
        self.profiles.iter().any(|profile| match load(vault, backup, profile, &owner) {
            Ok(_) => true,
            Err(failure) => {
                tracing::warn!(backup = %backup.id.short(), detail = failure.detail, "a backup is passed over");
                false
            }
        })
    }
}

/// The content of a backup over DIAG, verified as when it was made. Blocks.
fn load(vault: &Vault, backup: &BackupRef, profile: &Profile, owner: &Owner) -> Result<Xqcn, Failure> {
    let bytes = vault.load_xqcn(backup).map_err(vault_failure)?;
    let invalid = |reason: String| {
        let detail = format!("backup {} is no complete one: {reason}", backup.id.short());
        Failure::new(FailureCode::BackupInvalid, detail)
    };
    let content = xqcn::read(&bytes).map_err(|error| invalid(error.to_string()))?;
    xqcn::check(&content, profile.family, &profile.manifest, owner).map_err(|error| invalid(error.to_string()))?;
    Ok(content)
}

/// The IMEI of a module that has just started, once it can say it; `None` where it has none. In factory test mode nothing
/// is going to become ready.
async fn ask_imei(at: &mut AtSession, family: &Family, ready: Duration) -> Result<Option<Imei>, SessionError> {
    let deadline = at.now() + ready;
    let cfun = at.query("AT+CFUN?", deadline, at::cfun).await?;
    let deadline = if cfun == Ok(CFUN_FACTORY_TEST) { at.now() } else { deadline };
    Ok(at.query(family.imei_command, deadline, at::imei_text).await?.ok().and_then(|said| said.parse().ok()))
}

/// The first of several things, and how many more there are.
pub(crate) fn words(different: &[String]) -> String {
    let shown = &different[..different.len().min(DIFFERENCES_SHOWN)];
    match different.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}
