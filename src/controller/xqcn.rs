//! Backups over DIAG: read while the module runs, stored once its chip is known, and given back to that chip alone.
//!
//! The port that is read is the one over which the module is sent into download mode, so it is given up before. The
//! vault is addressed by chip, and the chip tells its name in download mode only: until then what was read is in memory.

use std::sync::Arc;

use jiff::Timestamp;

use super::backup::vault_failure;
use super::failure::{Failure, RunError, SessionError};
use super::floor::{Product, Task};
use super::session::diag::{Collected, DiagFailure, DiagSession};
use super::work::Work;
use crate::domain::{
    BackupRef, ChipId, Fact, FailureCode, Family, Guard, Identity, Imei, Manifest, Phase, XqcnCounts, limits,
};
use crate::hardware::{DeviceKey, DeviceRecord};
use crate::protocol::xqcn::{self, Owner};
use crate::vault::{Label, Taking, XqcnDraft};

/// What is known of the unit's backup over DIAG.
#[derive(Debug, Default)]
pub(crate) enum OverDiag {
    /// None was made.
    #[default]
    None,
    /// It was read and is complete, and is not stored yet.
    Read(Box<Held>),
    /// It is durable.
    Stored(BackupRef),
}

impl OverDiag {
    /// Whether there is one.
    pub(crate) const fn is_there(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The stored one, where it is of this unit.
    pub(crate) fn stored_of(&self, chip: ChipId, imei: Imei) -> Option<&BackupRef> {
        match self {
            Self::Stored(backup) if backup.chip == chip && backup.imei == imei => Some(backup),
            _ => None,
        }
    }
}

/// A complete backup in memory.
pub(crate) struct Held {
    imei: Imei,
    taken: Timestamp,
    counts: XqcnCounts,
    bytes: Vec<u8>,
    /// Whether it was read a second time.
    confirmed: bool,
}

impl Held {
    /// The file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The bytes are the unit's secrets.
        f.debug_struct("Held").field("imei", &self.imei).field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Work {
    /// Whether the run is there to repair a module that came broken, or because a person wants something of it.
    pub(crate) fn is_repair(&self) -> bool {
        self.repair.budget.is_some() || self.floor.task != Task::Line
    }

    /// Reads NV items and files of a module in normal mode, and holds them to the profile's manifest. Nothing of the
    /// module is changed, and its port is free again.
    pub(crate) async fn read_over_diag(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        identity: &Identity,
    ) -> Result<(), Failure> {
        self.enter(Phase::Backup);
        self.check_stop()?;
        let Some(imei) = identity.imei else {
            return Err(Failure::new(FailureCode::Internal, "a backup of a unit without identity"));
        };
        let (profile, floor) = (Arc::clone(&product.profile), Arc::clone(&self.floor));
        let taken = floor.clock.wall();
        let read = async {
            let mut session = self.open_diag(device, profile.family).await?;
            session.collect(profile.family).await
        };
        let read = tokio::select! {
            biased;
            () = floor.stop.until_gentle() => {
                return Err(Failure::new(FailureCode::Stopped, "the station was stopped"));
            }
            read = floor.clock.timeout(profile.timeouts.xqcn, read) => read,
        };
        let collected = match read {
            Ok(Ok(collected)) => collected,
            Ok(Err(failure)) => return Err(self.judge_diag(failure, &device.key, FailureCode::BackupFailed).await),
            Err(_) => {
                let limit = profile.timeouts.xqcn.as_secs();
                let detail = format!("NV items and files were not read over DIAG within {limit} s");
                return Err(Failure::new(FailureCode::BackupFailed, detail));
            }
        };
        let owner = Owner { imei, calibration: identity.calibration };
        let complete = move || complete(collected, profile.family, &profile.manifest, owner, taken);
        let held = tokio::task::spawn_blocking(complete).await;
        let mut held = held.unwrap_or_else(|error| Err(Failure::new(FailureCode::Internal, error.to_string())))?;
        // Where pages are read, it is they that are read twice.
        if product.read_twice && !product.profile.guard.has_raw() {
            self.read_over_diag_again(device, product, &held).await?;
            held.confirmed = true;
        }
        tracing::info!(items = held.counts.nv_items, files = held.counts.files, "read over DIAG");
        self.over_diag = OverDiag::Read(Box::new(held));
        Ok(())
    }

    pub(crate) async fn open_diag(&self, device: &DeviceRecord, family: &Family) -> Result<DiagSession, DiagFailure> {
        let port = self.floor.bus.open_port(&device.key, family.diag_interface).await?;
        DiagSession::open(port, self.floor.clock.clone()).await
    }

    /// What a conversation over DIAG that broke off means; `code` where it is the module's own fault.
    pub(crate) async fn judge_diag(&mut self, failure: DiagFailure, key: &DeviceKey, code: FailureCode) -> Failure {
        match failure {
            DiagFailure::Port(error) => self.judge(SessionError::from(error), key, code).await,
            other => Failure::new(code, other.to_string()),
        }
    }

    /// Stores what was read over DIAG, now that it is known whose it is.
    pub(crate) async fn store_over_diag(&mut self, chip: ChipId, imei: Imei) -> Result<BackupRef, RunError> {
        let held = match std::mem::take(&mut self.over_diag) {
            OverDiag::Read(held) if held.imei == imei => *held,
            OverDiag::Stored(backup) if backup.chip == chip && backup.imei == imei => {
                self.over_diag = OverDiag::Stored(backup.clone());
                return Ok(backup);
            }
            _ => return Err(Failure::new(FailureCode::Internal, "nothing of this unit was read over DIAG").into()),
        };
        let label = Label { taken: held.taken, run: Some(self.run()), suspect: self.suspicion() };
        let used_pages_min = limits::EFS_USED_PAGES_MIN;
        let taking = Taking { chip, imei, label, used_pages_min, blank_efs: None };
        let confirmed = held.confirmed;
        let draft = XqcnDraft { taking, counts: held.counts, bytes: held.bytes };
        let vault = Arc::clone(&self.floor.vault);
        let stored = tokio::task::spawn_blocking(move || vault.store_xqcn(draft)).await;
        let backup = match stored {
            Ok(result) => result.map_err(vault_failure)?,
            Err(error) => return Err(Failure::new(FailureCode::Internal, error.to_string()).into()),
        };
        self.append(Fact::BackupStored { run: self.run(), backup: backup.clone() }).await?;
        if confirmed {
            let (run, bytes) = (self.run(), backup.bytes);
            self.append(Fact::BackupConfirmed { run, backup: backup.id, bytes }).await?;
        }
        self.over_diag = OverDiag::Stored(backup.clone());
        Ok(backup)
    }
}

/// Makes a file of what was read, and holds it to everything that makes it a backup: only what can be read again, and
/// is complete then, is one.
fn complete(
    collected: Collected,
    family: &Family,
    manifest: &Manifest,
    owner: Owner,
    taken: Timestamp,
) -> Result<Held, Failure> {
    let Collected { content, directories, unreadable } = collected;
    if let Some(first) = unreadable.first().filter(|_| unreadable.len() as u64 > u64::from(manifest.unreadable_max)) {
        let detail = format!("the module does not give out {} items and files, the first is {first}", unreadable.len());
        return Err(Failure::new(FailureCode::BackupFailed, detail));
    }
    let invalid = |reason: String| Failure::new(FailureCode::BackupInvalid, format!("over DIAG: {reason}"));
    let bytes = xqcn::write(&content).map_err(|error| invalid(error.to_string()))?;
    let again = xqcn::read(&bytes).map_err(|error| invalid(error.to_string()))?;
    if again != content {
        return Err(Failure::new(FailureCode::Internal, "what was read over DIAG does not survive in a file"));
    }
    xqcn::check(&again, family, manifest, &owner)
        .map_err(|error| invalid(format!("{error} ({directories} directories were listed)")))?;
    let counts = XqcnCounts {
        nv_items: content.items.len() as u64,
        files: content.in_order().count() as u64,
        directories: directories as u64,
    };
    Ok(Held { imei: owner.imei, taken, counts, bytes, confirmed: false })
}

/// Which backups a module was changed under.
pub(crate) const fn guard_of(has_raw: bool, has_xqcn: bool) -> Guard {
    match (has_raw, has_xqcn) {
        (true, true) => Guard::RawXqcn,
        (false, true) => Guard::Xqcn,
        (_, false) => Guard::Raw,
    }
}
