//! What a qualification does beyond a run: it reads twice, and writes back what it has read.
//!
//! A backup that was read once proves that something was read. Loaders have been seen that drop packets or pad reads;
//! only a second reading tells such a backup from a good one, so a profile is not qualified without it. That a backup
//! can be written back is found out on a unit that is well, or else on one that depends on it.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::edl::Bound;
use super::failure::{Failure, RunError, SessionError};
use super::floor::Product;
use super::give_back::words;
use super::restore::Restorable;
use super::session::diag::Compared;
use super::session::firehose::Firehose;
use super::work::{Edl, Work};
use super::xqcn::Held;
use crate::domain::{BackupKind, BackupRef, Fact, FailureCode, Sha256Digest};
use crate::hardware::DeviceRecord;
use crate::protocol::xqcn;

impl Work {
    /// Reads everything that a backup holds once more, in the same session, and compares.
    pub(crate) async fn read_again(
        &mut self,
        device: &DeviceRecord,
        bound: &Bound,
        backup: &BackupRef,
    ) -> Result<(), RunError> {
        // It was compared when it was read: its module does not run any more.
        if backup.kind == BackupKind::Xqcn {
            return Ok(());
        }
        let Edl::Firehose(mut firehose) = std::mem::take(&mut self.edl) else {
            return Err(Failure::new(FailureCode::Internal, "no programmer to read with").into());
        };
        let read = self.compare_parts(&mut firehose, bound, backup).await;
        self.edl = Edl::Firehose(firehose);
        match read {
            Ok(()) => {
                self.append(Fact::BackupConfirmed { run: self.run(), backup: backup.id, bytes: backup.bytes }).await
            }
            Err(error) => Err(self.judge(error, &device.key, FailureCode::BackupFailed).await.into()),
        }
    }

    /// What of a well unit's own the flash erases and writes again; `None` where its pages could not be brought back to
    /// where they are, so that they are left alone.
    pub(crate) async fn for_round_trip(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        bound: &Bound,
        backup: &BackupRef,
    ) -> Result<Option<Restorable>, RunError> {
        if backup.kind != BackupKind::Raw {
            return Ok(None);
        }
        match self.prepare_restore(device, product, bound, backup).await {
            Err(RunError::Failed(failure)) if failure.code == FailureCode::RestoreBadBlocks => {
                tracing::warn!(detail = failure.detail, "its backup is not written back to it");
                Ok(None)
            }
            prepared => prepared.map(Some),
        }
    }

    /// Reads what a backup over DIAG must hold once more, in a session of its own, and compares. The rest a module may
    /// change while it runs.
    pub(crate) async fn read_over_diag_again(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        held: &Held,
    ) -> Result<(), Failure> {
        let (profile, floor) = (Arc::clone(&product.profile), Arc::clone(&self.floor));
        let content = xqcn::read(held.bytes())
            .map_err(|error| Failure::new(FailureCode::Internal, format!("it was just written: {error}")))?;
        let compare = async {
            let mut session = self.open_diag(device, profile.family).await?;
            session.differences(&content, profile.family, &profile.manifest, Compared::Required).await
        };
        let compared = tokio::select! {
            biased;
            () = floor.stop.until_gentle() => {
                return Err(Failure::new(FailureCode::Stopped, "the station was stopped"));
            }
            compared = floor.clock.timeout(profile.timeouts.xqcn, compare) => compared,
        };
        let failed = |detail: String| Err(Failure::new(FailureCode::BackupFailed, detail));
        match compared {
            Ok(Ok(different)) if different.is_empty() => Ok(()),
            Ok(Ok(different)) => failed(format!("over DIAG: {} was read twice and differs", words(&different))),
            Ok(Err(failure)) => Err(self.judge_diag(failure, &device.key, FailureCode::BackupFailed).await),
            Err(_) => {
                let limit = profile.timeouts.xqcn.as_secs();
                failed(format!("NV items and files were not read a second time over DIAG within {limit} s"))
            }
        }
    }

    async fn compare_parts(
        &self,
        firehose: &mut Firehose,
        bound: &Bound,
        backup: &BackupRef,
    ) -> Result<(), SessionError> {
        let mut progress = self.progress(backup.bytes);
        for part in &backup.parts {
            let mut hasher = Sha256::new();
            firehose
                .read(part.range, bound.geometry, |piece| {
                    progress.add(piece.len() as u64);
                    hasher.update(piece);
                    Ok(())
                })
                .await?;
            if Sha256Digest::finish(hasher) != part.sha256 {
                let detail = format!("{} was read twice and differs", part.partition);
                return Err(Failure::new(FailureCode::BackupFailed, detail).into());
            }
        }
        Ok(())
    }
}
