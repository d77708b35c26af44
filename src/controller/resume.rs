//! Runs that were begun before: interrupted ones, which are finished, and those that a restart of the controller cut off.

use super::edl::fits;
use super::failure::RunError;
use super::floor::{Product, Task};
use super::repair::Repair;
use super::verify::Verdict;
use super::walk::{NO_PROFILE, Stopped};
use super::work::Work;
use super::xqcn::OverDiag;
use crate::domain::{BackupRef, Cure, Fact};
use crate::hardware::DeviceRecord;
use crate::ledger::{Findings, OpenRun, UnfinishedRun};
use crate::protocol::sahara::ChipInfo;

/// Why a unit is left alone whose backup was asked for and whose run is open.
pub(super) const NO_BACKUP: &str =
    "its run is interrupted: what it has now is not worth keeping, and `run` or `restore` finishes it";
/// Why a unit is left alone that is to be restored from something else than its open run relies on.
const OTHER_BACKUP: &str = "its run is interrupted, and is finished with the backup of that run only";

impl Work {
    /// Takes up an interrupted run: this work becomes that run.
    pub(super) async fn take_up(&mut self, open: OpenRun, device: &DeviceRecord) -> Result<Product, Stopped> {
        let by_hand = match self.floor.task {
            Task::Line => false,
            Task::Restore { backup } if backup.is_none_or(|wanted| wanted == open.backup.id) => true,
            Task::Restore { .. } => return Err(Stopped::Left(OTHER_BACKUP)),
            Task::Backup => return Err(Stopped::Left(NO_BACKUP)),
        };
        let Some(product) = self.floor.product_named(&open.profile).cloned() else {
            return Err(Stopped::Left(NO_PROFILE));
        };
        let Some(active) = self.floor.active.take(open.run) else {
            // By its chip it is here, wherever that slot still waits for it.
            self.floor.active.seen_elsewhere(open.run);
            return Err(Stopped::Left("another slot works on the open run of this unit"));
        };
        self.draft.hold(Some(active));
        self.resuming = Some(self.floor.quota.resuming());
        self.draft.update(|record| {
            record.run = open.run;
            record.batch = open.batch.clone();
            record.chip = Some(open.chip);
            record.key_hash = Some(open.key_hash.clone());
            record.before = Some(open.identity_before.clone());
            record.attempt = open.attempt;
            record.started = open.started;
            record.backup = Some(open.backup.id);
            record.flags.resumed = true;
        });
        self.draft.set_begun();
        self.draft.set_changed();
        self.name_span();
        self.append(Fact::RunResumed {
            run: open.run,
            batch: self.floor.batch.clone(),
            slot: self.slot_config().name.clone(),
            chain: device.key.chain.clone(),
        })
        .await?;
        self.admit_to(&product, true).await?;
        self.over_diag = open.xqcn.clone().map_or(OverDiag::None, OverDiag::Stored);
        self.repair = Repair::of_open(&open);
        self.draft.update(|record| {
            record.diagnosis = open.findings.last.clone();
            record.detail = words(&open.findings, &open.backup);
            record.flags.repaired |= !open.cures.is_empty();
        });
        if by_hand && open.backup.suspect.is_none() && !open.restoring {
            self.repair.is_due = true;
            self.repair.restores = 1;
            self.repair.expected = Some(self.well_as_of(&open.backup).await?);
        }
        // One that came without its IMEI, and had it again before its backup was taken.
        let was_cured = open.identity_before.imei != Some(open.imei);
        if open.restoring || was_cured {
            self.repair.expected = Some(self.well_as_of(&open.backup).await?);
            self.draft.update(|record| record.flags.repaired |= was_cured);
        }
        self.resumed = Some(open);
        Ok(product)
    }

    /// Finishes an interrupted run: the whole plan again, from its first operation.
    pub(super) async fn go_on(
        &mut self,
        device: DeviceRecord,
        info: ChipInfo,
        product: &Product,
    ) -> Result<Verdict, Stopped> {
        fits(&info, product)?;
        let device = self.write(device, &info, product).await?;
        Ok(self.prove(device, product, &info).await?)
    }

    /// Goes on, from the start, under the id of a run that did not come to a flash.
    pub(super) async fn restart(&mut self, unfinished: &UnfinishedRun, device: &DeviceRecord) -> Result<(), RunError> {
        self.draft.update(|record| {
            record.run = unfinished.run;
            record.batch = unfinished.batch.clone();
            record.started = unfinished.started;
        });
        self.draft.hold(self.floor.active.take(unfinished.run));
        self.draft.set_begun();
        if unfinished.is_cured() {
            // It keeps its place in its batch, and is not as it came.
            self.resuming = Some(self.floor.quota.resuming());
            self.draft.set_cured();
            self.repair.own_copies = unfinished.cures.iter().filter(|cure| **cure == Cure::OwnCopy).count();
            self.draft.update(|record| {
                record.flags.resumed = true;
                record.before = unfinished.identity.clone().or(record.before.take());
                record.diagnosis = unfinished.findings.last.clone();
                if let Some(found) = &unfinished.findings.on_arrival {
                    record.detail = format!("arrived with {found}");
                }
            });
        }
        self.name_span();
        self.append(Fact::RunResumed {
            run: unfinished.run,
            batch: self.floor.batch.clone(),
            slot: self.slot_config().name.clone(),
            chain: device.key.chain.clone(),
        })
        .await
    }
}

/// What the record of a resumed run says of why its unit is repaired, as it said before.
fn words(findings: &Findings, backup: &BackupRef) -> String {
    match (&findings.on_arrival, &findings.last) {
        _ if findings.by_hand => format!("restored by hand from backup {}", backup.id.short()),
        (Some(found), _) => format!("arrived with {found}"),
        (None, Some(found)) => format!("found after an earlier flash of this run: {found}"),
        (None, None) => String::new(),
    }
}
