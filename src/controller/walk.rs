//! One run, from the module's arrival to its verdict: the order of the phases, which no profile can change.

use super::failure::{Failure, RunError};
use super::floor::Task;
use super::resume::NO_BACKUP;
use super::verify::{Guest, Verdict};
use super::work::Work;
use crate::config::Timeouts;
use crate::domain::{Blame, CFUN_FACTORY_TEST, FailureCode, Family, Identity, Phase, RunState};
use crate::hardware::{DeviceMode, DeviceRecord};
use crate::protocol::sahara::ChipInfo;

/// Why a unit is left alone that has no place in the batch.
pub(super) const NO_PLACE: &str = "the batch takes no further unit";
/// Why a unit is left alone whose run this station cannot finish.
pub(super) const NO_PROFILE: &str = "no profile of this station belongs to the unit's open run";

/// How a walk ended.
#[derive(Debug)]
pub(crate) enum WalkEnd {
    /// Every check passed.
    Passed,
    /// It cannot go on.
    Broken(RunError),
    /// Another unit is in the slot.
    Swapped(Box<Guest>),
    /// What a person wanted was done, and nothing was changed.
    Done,
    /// Nothing was begun: the batch takes no further unit, or the open run of this unit cannot be served here.
    Left(&'static str),
}

/// Why a walk is not even begun.
#[derive(Debug)]
pub(super) enum Stopped {
    Done,
    Broken(RunError),
    Left(&'static str),
}

impl<E: Into<RunError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl Work {
    /// Walks the phases. A unit that is refused before anything was changed is back in normal mode afterwards.
    pub(crate) async fn walk(mut self, may_begin: bool) -> WalkEnd {
        let found = self.device();
        let came_in_normal_mode = matches!(found, Some((_, DeviceMode::Normal(_))));
        let walked = match found {
            Some((device, DeviceMode::Normal(family))) => {
                Box::pin(self.walk_from_normal(device, family, may_begin)).await
            }
            Some((device, DeviceMode::Edl { interface })) => {
                self.walk_from_edl(device, interface, may_begin, true).await
            }
            Some((device, _)) => self.walk_from_dump(&device, may_begin).await,
            None => Err(Stopped::Left("the module is gone again")),
        };
        match walked {
            Ok(Verdict::Proven) => WalkEnd::Passed,
            Ok(Verdict::Swapped(guest)) => WalkEnd::Swapped(guest),
            Err(_) if self.repair.stranger.is_some() => {
                self.repair.stranger.take().map_or(WalkEnd::Done, WalkEnd::Swapped)
            }
            Err(Stopped::Done) => WalkEnd::Done,
            Err(Stopped::Left(why)) => {
                if came_in_normal_mode && self.undo_question().await {
                    self.remember_left(why);
                }
                WalkEnd::Left(why)
            }
            // Whose run it would have been is not even known.
            Err(Stopped::Broken(RunError::Failed(failure)))
                if !self.draft.is_begun() && is_of_no_unit(failure.code) =>
            {
                if came_in_normal_mode {
                    self.undo_question().await;
                }
                WalkEnd::Left("it was taken out, or the station was stopped, before it was known")
            }
            Err(Stopped::Broken(RunError::Failed(failure))) => WalkEnd::Broken(self.give_back(failure).await.into()),
            Err(Stopped::Broken(error)) => WalkEnd::Broken(error),
        }
    }

    /// Brings a module that was only asked for its chip back into normal mode; whether it was.
    async fn undo_question(&mut self) -> bool {
        let Some((device, DeviceMode::Edl { .. })) = self.device() else { return false };
        self.send_back(&device.key, self.timeouts_of_run().boot).await;
        true
    }

    /// A module that was asked for its chip and left alone for what does not change while it is in its slot is not sent
    /// into download mode again for the same answer.
    fn remember_left(&self, why: &'static str) {
        if let Some((device, DeviceMode::Normal(_))) = self.device()
            && matches!(why, NO_PLACE | NO_PROFILE)
        {
            self.floor.visits.leave(self.slot, device.key, why);
        }
    }

    async fn give_back(&mut self, failure: Failure) -> Failure {
        if failure.is_of_disk {
            // At once, not after this module is back: whoever writes to one now does not begin another command.
            self.floor.halt.because(&failure.detail);
        }
        let leave = matches!(failure.code, FailureCode::EdlUnknownUnit | FailureCode::MemoryDump);
        if self.draft.is_changed() || leave || self.device().is_none() {
            return failure;
        }
        if self.repair.is_unheard {
            // As it came.
            self.stay_in_edl().await;
            return failure;
        }
        let family = self.device().and_then(|(_, mode)| match mode {
            DeviceMode::Normal(family) => Some(family),
            _ => None,
        });
        if family.is_some() && failure.code == FailureCode::AtSilent {
            return failure;
        }
        let timeouts = self.timeouts_of_run();
        match self.put_back(&timeouts).await {
            Ok(()) => failure,
            Err(back) if matches!(back.code, FailureCode::Unplugged | FailureCode::HubLost) => failure,
            // What was refused for another reason than the unit is not billed to it afterwards.
            Err(back)
                if failure.code.quarantines()
                    || failure.code.blame() != Blame::Unit
                    || back.code.blame() != Blame::Unit =>
            {
                let detail = format!("{}; then: {}", failure.detail, back.detail);
                Failure { is_of_disk: failure.is_of_disk, ..Failure::new(failure.code, detail) }
            }
            Err(back) => {
                self.draft.enter(Phase::Reset);
                let detail = format!("{}: {}; then: {}", failure.code, failure.detail, back.detail);
                Failure::new(FailureCode::NoReboot, detail)
            }
        }
    }

    pub(super) async fn walk_from_normal(
        &mut self,
        device: DeviceRecord,
        family: &'static Family,
        may_begin: bool,
    ) -> Result<Verdict, Stopped> {
        // Here it is, whatever was expected in this slot.
        self.floor.visits.take_sent(self.slot);
        self.enter(Phase::Identify);
        let identified = self.identify(&device, family).await;
        let known = identified.as_ref().ok().and_then(|identity| identity.imei);
        let open = match known {
            Some(imei) => self.floor.ledger.open_run_by_imei(imei).await?,
            None => None,
        };
        if let Some(open) = open.as_ref().filter(|open| open.state == RunState::Running)
            && !self.floor.is_occupied(&open.slot)
        {
            // Its slot waits for it in vain: it was put in here while it restarted. Where the slot is occupied there
            // are two modules with one IMEI, and the claim decides.
            self.floor.active.seen_elsewhere(open.run);
            return Err(Stopped::Left("the run of this unit is still open in another slot"));
        }
        let is_interrupted = open.as_ref().is_some_and(|open| open.state == RunState::Interrupted);
        if let Some(open) = open.as_ref().filter(|_| is_interrupted)
            && self.floor.product_named(&open.profile).is_none()
        {
            return Err(Stopped::Left(NO_PROFILE));
        }
        let may_be_another = match (known, &open) {
            (Some(imei), None) => self.floor.may_be_interrupted(imei, family).await?,
            _ => may_be_damaged(&identified) && self.floor.has_interrupted().await?,
        };
        let mut asked = None;
        if is_interrupted || may_be_another {
            // Whose it is was asked before. Only where there is a place now, something else may come of it.
            if let Some(why) = self.floor.visits.left(self.slot, &device.key)
                && (!may_begin || why == NO_PROFILE)
            {
                return Err(Stopped::Left(why));
            }
            let timeouts = self.timeouts_for(family);
            self.draft.update(|record| record.before = identified.as_ref().ok().cloned());
            match self.reach_edl(&device, family, &timeouts).await {
                Ok((there, info)) => match self.floor.ledger.open_run_by_chip(info.chip).await? {
                    Some(open) => {
                        let product = self.take_up(open, &there).await?;
                        self.repair.seen_imei = known;
                        return self.go_on(there, info, &product).await;
                    }
                    None => {
                        if let Some(imei) = known {
                            self.floor.visits.learn(imei, info.chip);
                        }
                        asked = Some((there, info));
                    }
                },
                // One that is well says nothing that it could be refused for instead.
                Err(failure)
                    if (is_interrupted || !may_be_damaged(&identified))
                        && may_begin
                        && !is_of_no_unit(failure.code) =>
                {
                    self.begin(&device.key.chain, identified.ok()).await?;
                    return Err(failure.into());
                }
                Err(failure) if is_interrupted || is_of_no_unit(failure.code) => return Err(failure.into()),
                // It cannot be asked for its chip either: it is refused for what it says of itself.
                Err(failure) => tracing::info!(code = %failure.code, detail = failure.detail, "no chip to go by"),
            }
        }
        let chip = asked.as_ref().map(|(_, info)| info.chip);
        let unfinished = self.floor.restarts.take_of(chip, known);
        if let Some(cured) = unfinished.as_ref().filter(|run| run.is_cured() && self.floor.task == Task::Backup) {
            self.floor.restarts.put(cured.clone());
            return Err(Stopped::Left(NO_BACKUP));
        }
        if unfinished.is_none() && !may_begin {
            return Err(Stopped::Left(NO_PLACE));
        }
        if let Some((_, info)) = &asked {
            self.note_chip(info);
        }
        let identity = match identified {
            Ok(identity) => identity,
            // A restart met the module on its way into download mode: it is met again there.
            Err(failure) if failure.code == FailureCode::Unplugged && self.has_leftover() => {
                return Err(Stopped::Left("the module is changing its mode"));
            }
            Err(failure) => {
                // It is refused as it came, not for how it comes back from the question.
                self.undo_question().await;
                match unfinished {
                    Some(unfinished) => self.restart(&unfinished, &device).await?,
                    None => self.begin(&device.key.chain, None).await?,
                }
                return Err(failure.into());
            }
        };
        self.draft.update(|record| record.before = Some(identity.clone()));
        match unfinished {
            Some(unfinished) => self.restart(&unfinished, &device).await?,
            None => self.begin(&device.key.chain, Some(identity.clone())).await?,
        }
        self.walk_from_identified(device, family, &identity, asked).await
    }

    async fn walk_from_identified(
        &mut self,
        device: DeviceRecord,
        family: &'static Family,
        identity: &Identity,
        asked: Option<(DeviceRecord, ChipInfo)>,
    ) -> Result<Verdict, Stopped> {
        self.enter(Phase::Admit);
        self.check_stop()?;
        match &self.floor.task {
            Task::Line => {}
            Task::Restore { backup } => {
                let wanted = *backup;
                return Ok(self.restore_by_hand((device, family), identity, asked, wanted).await?);
            }
            Task::Backup => {
                self.backup_by_hand((device, family), identity, asked).await?;
                return Err(Stopped::Done);
            }
        }
        if let Ok(product) = self.product_of(identity).cloned() {
            match (self.examine(&device, family, &product, identity).await?, product.profile.rework) {
                (Some(diagnosis), Some(rework)) => {
                    let what = (diagnosis, &product, rework);
                    return Ok(self.rework((device, family), identity, asked, what).await?);
                }
                // What it was told before it left, or before the controller died, has made it well.
                (None, _) if self.draft.is_cured() => self.accept_cured(identity, &product)?,
                _ => {}
            }
        }
        let (product, flash) = self.admit_new(identity).await?;
        let (device, asked) = match asked {
            // It was only asked whose it is. What it keeps it gives away in normal mode.
            Some((there, _)) if flash && product.profile.guard.has_xqcn() => {
                self.permit = None;
                let mut back = self.leave_probe(&there, &product).await?;
                // One that is still starting has not all of its items.
                drop(self.open_started(&mut back, &product).await?);
                (back, None)
            }
            asked => (device, asked),
        };
        if flash && product.profile.guard.has_xqcn() {
            self.read_over_diag(&device, &product, identity).await?;
        }
        let (device, info) = match asked {
            Some(asked) => asked,
            None => self.reach_edl(&device, family, &product.profile.timeouts).await?,
        };
        // Also a unit that is only verified: two modules with one IMEI are told apart by nothing but their chips.
        self.claim(&info, &product).await?;
        let device = match flash {
            true => self.write(device, &info, &product).await?,
            false => self.leave_probe(&device, &product).await?,
        };
        Ok(self.prove(device, &product, &info).await?)
    }

    /// From normal mode to a chip that said who it is.
    pub(crate) async fn reach_edl(
        &mut self,
        device: &DeviceRecord,
        family: &Family,
        timeouts: &Timeouts,
    ) -> Result<(DeviceRecord, ChipInfo), Failure> {
        self.take_permit().await?;
        let (mut device, mut interface) = self.enter_edl(device, family.diag_interface, timeouts).await?;
        self.enter(Phase::Probe);
        let info = self.contact(&mut device, &mut interface, timeouts).await?;
        Ok((device, info))
    }

    /// A module that arrives in download mode: only its chip can say whose it is.
    pub(super) async fn walk_from_edl(
        &mut self,
        mut device: DeviceRecord,
        mut interface: u8,
        may_begin: bool,
        may_restart: bool,
    ) -> Result<Verdict, Stopped> {
        self.draft.update(|record| record.chain_edl = Some(device.key.chain.clone()));
        let timeouts = Timeouts::default();
        self.take_permit().await?;
        self.enter(Phase::Probe);
        let info = match self.contact(&mut device, &mut interface, &timeouts).await {
            Ok(info) => info,
            // An earlier session may have left the chip in the middle of a conversation.
            Err(failure) if may_restart && failure.code != FailureCode::HubLost => {
                match self.start_anew(&device, &timeouts).await? {
                    Some((device, DeviceMode::Normal(family))) => {
                        return Box::pin(self.walk_from_normal(device, family, may_begin)).await;
                    }
                    Some((device, DeviceMode::Edl { interface })) => {
                        return Box::pin(self.walk_from_edl(device, interface, may_begin, false)).await;
                    }
                    _ if may_begin => {
                        self.begin(&device.key.chain, None).await?;
                        return Err(failure.into());
                    }
                    _ => return Err(Stopped::Left("the module is gone again")),
                }
            }
            Err(failure) if may_begin => {
                self.begin(&device.key.chain, None).await?;
                return Err(failure.into());
            }
            Err(_) => return Err(Stopped::Left(NO_PLACE)),
        };
        if let Some(open) = self.floor.ledger.open_run_by_chip(info.chip).await? {
            let product = self.take_up(open, &device).await?;
            return self.go_on(device, info, &product).await;
        }
        let by_hand = match self.floor.task {
            Task::Restore { backup } => Some(backup),
            Task::Line | Task::Backup => None,
        };
        let is_claimed =
            self.floor.restarts.knows(|run| run.claim.as_ref().is_some_and(|(chip, ..)| *chip == info.chip));
        let was_sent = self.floor.visits.take_sent(self.slot);
        if is_claimed || was_sent || self.has_leftover() {
            // Its run had changed nothing: out of download mode, and from the start.
            match self.put_back(&timeouts).await {
                Ok(()) => {}
                // Not the one that was only late, or one that does not start by itself.
                Err(failure) if (was_sent || by_hand.is_some()) && failure.code == FailureCode::NoReboot => {
                    tracing::warn!(detail = failure.detail, "it stays in download mode");
                }
                Err(failure) => return Err(failure.into()),
            }
            if let Some((device, DeviceMode::Normal(family))) = self.device() {
                return Box::pin(self.walk_from_normal(device, family, may_begin)).await;
            }
        }
        if !may_begin {
            return Err(Stopped::Left(NO_PLACE));
        }
        if let Some(wanted) = by_hand {
            return Ok(self.restore_from_edl(info, wanted).await?);
        }
        self.note_chip(&info);
        self.begin(&device.key.chain, None).await?;
        Err(Failure::new(FailureCode::EdlUnknownUnit, self.known_of(info.chip).await?).into())
    }

    /// Whether a restart cut off a run in this slot that had changed nothing and not yet read the chip.
    pub(super) fn has_leftover(&self) -> bool {
        let slot = &self.slot_config().name;
        self.floor.restarts.knows(|run| run.claim.is_none() && run.slot == *slot)
    }
}

/// What says nothing of a unit: it was taken, or the station was stopped.
const fn is_of_no_unit(code: FailureCode) -> bool {
    matches!(code, FailureCode::Unplugged | FailureCode::HubLost | FailureCode::Stopped)
}

/// Whether what a module says of itself looks as after a flash that was cut off: then its IMEI is nothing to go by, and
/// an interrupted run may be its own.
fn may_be_damaged(identified: &Result<Identity, Failure>) -> bool {
    match identified {
        Ok(identity) => identity.imei.is_none() || identity.cfun == Some(CFUN_FACTORY_TEST),
        Err(failure) => matches!(failure.code, FailureCode::NotReady | FailureCode::AtSilent),
    }
}
