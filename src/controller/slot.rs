//! A slot: waits for a module, runs it, records how that ended, and waits until it is taken out.
//!
//! The walk is a task of its own, so that a panic in it ends one run and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::draft::Draft;
use super::failure::{Ending, Failure, RunError, ending};
use super::floor::Floor;
use super::reconcile::SlotView;
use super::verify::Guest;
use super::walk::WalkEnd;
use super::work::{Edl, Work};
use super::xqcn::OverDiag;
use crate::domain::{Fact, FailureCode, Outcome, Phase, RunId, SlotState, limits};
use crate::hardware::DeviceMode;
use crate::ledger::LedgerError;

/// How often a run is taken up again in this slot without its module having left in between.
const RESUMES_MAX: u32 = 3;

/// How often in a row a module may leave this slot before anything was changed, and is looked at again at once.
const ABORTS_MAX: u32 = 3;

/// How long a device may be without a configuration before its supply is cut, once: an enumeration takes less than a
/// second, and one that the kernel has given up on is never tried again.
const HALF_ENUMERATED_MAX: Duration = Duration::from_secs(8);

/// How long a module that was left alone is left alone, unless something changes.
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// One slot's own task state.
pub(crate) struct Slot {
    floor: Arc<Floor>,
    index: usize,
    view: watch::Receiver<SlotView>,
    /// The run that was interrupted here last, and how often in a row.
    interrupted: Option<(RunId, u32)>,
    /// Whether the last walk had a place in the batch, and how many runs had ended before it.
    had_place: bool,
    ends: u64,
    /// How many runs in a row ended here because their module left.
    aborted: u32,
    /// Whether the supply of what is in the slot was cut already because it was not configured.
    was_cycled: bool,
}

/// What to do with the slot after a walk.
enum Next {
    /// The module is dealt with; wait until it is taken out.
    Settled,
    /// Look at the slot again.
    Look,
    /// Wait until the slot or the batch changes.
    Wait,
}

impl Slot {
    /// A slot; `interrupted` is the run that an earlier controller left interrupted here.
    pub(crate) fn new(
        floor: Arc<Floor>,
        index: usize,
        view: watch::Receiver<SlotView>,
        interrupted: Option<RunId>,
    ) -> Self {
        let interrupted = interrupted.map(|run| (run, 0));
        Self { floor, index, view, interrupted, had_place: false, ends: 0, aborted: 0, was_cycled: false }
    }

    /// Works until the station stops.
    ///
    /// # Errors
    /// When the ledger cannot make facts durable.
    pub(crate) async fn work(mut self) -> Result<(), LedgerError> {
        let stop = self.floor.stop.clone();
        // An earlier controller may have died while the supply was cut.
        self.power_on().await;
        while !stop.is_gentle() {
            if !self.await_module().await {
                break;
            }
            let next = self.serve().await;
            // So may the walk that just ended.
            self.power_on().await;
            let next = match next {
                Err(error @ (LedgerError::Refused { .. } | LedgerError::TooLong { .. })) => {
                    // Nothing was written and the ledger works: this slot alone is at fault.
                    tracing::error!(%error, slot = self.index, "the end of a run could not be recorded");
                    Next::Settled
                }
                next => next?,
            };
            match next {
                Next::Look => {}
                Next::Settled => {
                    self.await_removal().await;
                    // Whatever is put in now begins anew.
                    self.aborted = 0;
                    self.interrupted = self.interrupted.map(|(run, _)| (run, 0));
                }
                Next::Wait => self.await_change().await,
            }
        }
        Ok(())
    }

    async fn power_on(&self) {
        let slot = &self.floor.station.slots[self.index];
        let chains: Vec<_> = slot.chains().cloned().collect();
        if self.floor.power.can_switch(&chains)
            && let Err(error) = self.floor.power.set(&chains, true).await
        {
            tracing::warn!(%error, slot = %slot.name, "the slot's supply could not be switched on");
        }
    }

    /// Waits for a module that can be worked on; `false` when the station stops first.
    async fn await_module(&mut self) -> bool {
        let (stop, clock) = (self.floor.stop.clone(), self.floor.clock.clone());
        loop {
            let (present, hub_lost, is_empty, half) = {
                let view = self.view.borrow_and_update();
                let half = view.half_enumerated().map(|device| device.key.clone());
                (view.module().is_some(), view.hub_lost, view.devices.is_empty(), half)
            };
            if present {
                self.was_cycled = false;
                return !stop.is_gentle();
            }
            if is_empty {
                self.was_cycled = false;
            }
            self.forget_finished().await;
            let half = half.filter(|_| !self.was_cycled);
            let patience = async {
                match &half {
                    Some(_) => clock.sleep(HALF_ENUMERATED_MAX).await,
                    None => std::future::pending().await,
                }
            };
            let mut count = self.floor.quota.watch();
            let state = match (hub_lost, self.interrupted) {
                (true, _) => SlotState::HubLost,
                (false, Some(_)) => SlotState::Interrupted,
                (false, None) => SlotState::Empty,
            };
            self.floor.board.update(self.index, |status| {
                status.state = state;
                if state == SlotState::Empty {
                    *status = crate::domain::SlotStatus { version: status.version, ..empty(status) };
                }
            });
            tokio::select! {
                biased;
                () = stop.until_gentle() => return false,
                changed = self.view.changed() => if changed.is_err() {
                    return false;
                },
                // The run that is waited for here may be finished in another slot.
                _ = count.changed(), if self.interrupted.is_some() => {}
                () = patience => if let Some(key) = half {
                    self.restart_half(&key).await;
                },
            }
        }
    }

    /// No longer waits for a run that was finished elsewhere.
    async fn forget_finished(&mut self) {
        let Some((run, _)) = self.interrupted else { return };
        if let Ok(false) = self.floor.is_open(run).await {
            self.interrupted = None;
        }
    }

    /// Cuts the supply of what was enumerated and never configured, once, and waits until it is back as anything.
    async fn restart_half(&mut self, key: &crate::hardware::DeviceKey) {
        let name = &self.floor.station.slots[self.index].name;
        tracing::warn!(slot = %name, "the module was enumerated and not configured; its supply is cut once");
        let draft = self.draft();
        if !self.work_on(&draft).cycle_power(key).await {
            tracing::warn!(slot = %name, "the slot's supply could not be cut; the module must be put in again");
        }
        self.was_cycled = true;
        let clock = self.floor.clock.clone();
        let back = self.view.wait_for(|view| !view.devices.is_empty() && !view.has(key));
        // Whether it came is seen by whoever looks next.
        let _back = clock.timeout(crate::config::Timeouts::default().boot, back).await;
    }

    /// Waits until the slot has looked empty long enough; a re-enumeration is no removal.
    async fn await_removal(&mut self) {
        let floor = Arc::clone(&self.floor);
        loop {
            let absent = self.view.borrow_and_update().module().is_none();
            let waited = async {
                if absent {
                    floor.clock.sleep(limits::REMOVAL_DEBOUNCE).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                () = floor.stop.until_gentle() => return,
                changed = self.view.changed() => if changed.is_err() {
                    return;
                },
                () = waited => return,
            }
        }
    }

    async fn await_change(&mut self) {
        let floor = Arc::clone(&self.floor);
        // That it went and came back because it was asked for its chip is no change.
        let is_back = matches!(self.view.borrow().module(), Some((_, DeviceMode::Normal(_))));
        if is_back {
            self.view.mark_unchanged();
        }
        tokio::select! {
            biased;
            () = floor.stop.until_gentle() => {}
            _ = self.view.changed() => {}
            () = floor.quota.worth_a_look(self.ends, self.had_place) => {}
            () = floor.clock.sleep(LEFT_ALONE) => {}
        }
    }

    /// Runs the module that is in the slot.
    async fn serve(&mut self) -> Result<Next, LedgerError> {
        let floor = Arc::clone(&self.floor);
        self.ends = floor.quota.ends();
        let place = floor.quota.reserve();
        self.had_place = place.is_some();
        let draft = self.draft();
        floor.board.update(self.index, |status| {
            status.state = SlotState::Waiting;
            status.run = None;
            status.elapsed = Duration::ZERO;
            status.outcome = None;
            status.code = None;
        });
        let work = self.work_on(&draft);
        let name = &floor.station.slots[self.index].name;
        let span = tracing::info_span!("run", slot = %name, run = tracing::field::Empty);
        let mut task = AbortOnDropHandle::new(tokio::spawn(work.walk(place.is_some()).instrument(span)));
        let end = tokio::select! {
            biased;
            end = &mut task => end,
            () = floor.stop.until_now() => {
                task.abort();
                (&mut task).await
            }
        };
        let end = match end {
            Ok(end) => end,
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "a walk panicked");
                let detail = "a programming error ended this slot's run";
                WalkEnd::Broken(Failure::new(FailureCode::Internal, detail).into())
            }
            Err(_) => WalkEnd::Broken(Failure::new(FailureCode::Stopped, "stopped at once").into()),
        };
        self.conclude(&draft, end).await
    }

    fn draft(&self) -> Draft {
        let floor = &self.floor;
        let unix_ms = u64::try_from(floor.clock.wall().as_millisecond()).unwrap_or_default();
        let run = RunId::new(unix_ms, &floor.random.bytes());
        let slot = floor.station.slots[self.index].name.clone();
        let draft =
            Draft::new(&floor.clock, run, floor.batch.clone(), floor.station.name.clone(), slot, floor.simulated);
        draft.hold(floor.active.take(run));
        draft
    }

    fn work_on(&self, draft: &Draft) -> Work {
        Work {
            floor: Arc::clone(&self.floor),
            slot: self.index,
            view: self.view.clone(),
            draft: draft.clone(),
            edl: Edl::None,
            permit: None,
            resumed: None,
            resuming: None,
            over_diag: OverDiag::None,
            repair: super::repair::Repair::default(),
        }
    }

    async fn conclude(&mut self, draft: &Draft, end: WalkEnd) -> Result<Next, LedgerError> {
        match end {
            WalkEnd::Left(why) => {
                tracing::info!(why, slot = %self.floor.station.slots[self.index].name, "module left alone");
                self.floor.board.update(self.index, |status| status.state = SlotState::Waiting);
                Ok(Next::Wait)
            }
            WalkEnd::Passed => {
                self.aborted = 0;
                draft.enter(Phase::Record);
                self.finish(draft, Outcome::Pass, None).await?;
                Ok(Next::Settled)
            }
            WalkEnd::Done => {
                draft.enter(Phase::Record);
                let said = Failure::new(FailureCode::Stopped, draft.record().detail);
                self.finish(draft, Outcome::Aborted, Some(said)).await?;
                Ok(Next::Settled)
            }
            WalkEnd::Swapped(guest) => {
                let detail = format!("another module ({}) is in the slot", guest.identity.imei_text);
                let code = match guest.written_as {
                    None => FailureCode::Unplugged,
                    Some(_) => FailureCode::UnitSwapped,
                };
                let left = Failure::new(code, detail);
                match draft.is_touched() {
                    true => self.interrupt(draft, left).await?,
                    // Only verified: its owner comes again and begins anew.
                    false => self.finish(draft, Outcome::Aborted, Some(left)).await?,
                }
                self.hold_guest(*guest).await?;
                Ok(Next::Settled)
            }
            WalkEnd::Broken(RunError::Ledger(error)) => Err(error),
            WalkEnd::Broken(RunError::Failed(failure)) => self.broken(draft, failure).await,
        }
    }

    async fn broken(&mut self, draft: &Draft, failure: Failure) -> Result<Next, LedgerError> {
        if !draft.is_begun() && (failure.code == FailureCode::Stopped || self.has_open_run(draft).await?) {
            // No run of its own: the open one is still to be finished.
            self.floor.board.update(self.index, |status| status.state = SlotState::Waiting);
            return Ok(Next::Wait);
        }
        if !draft.is_begun() {
            // A panic during the very first questions.
            let chain = self.floor.station.slots[self.index].usb2.clone();
            let record = draft.record();
            let (run, batch, slot, identity) = (record.run, record.batch, record.slot, record.before);
            self.floor.ledger.append(Fact::RunStarted { run, batch, slot, chain, identity }).await?;
        }
        if failure.is_of_disk {
            // Before anything is recorded: whoever writes to a module now does not begin another command.
            self.floor.halt.because(&failure.detail);
        }
        match ending(failure.code, draft.phase(), draft.is_touched()) {
            Ending::Finished(outcome) => {
                let code = failure.code;
                // Before the end is recorded: then the module is taken out, and the next one must not be taken for it.
                if code == FailureCode::Internal {
                    self.put_back(draft).await;
                }
                self.finish(draft, outcome, Some(failure)).await?;
                // A unit that was taken out before anything was changed may be back already, and begins anew; one that
                // leaves by itself whatever it is asked does not go on for ever.
                let is_gone = matches!(code, FailureCode::Unplugged | FailureCode::HubLost);
                self.aborted = if outcome == Outcome::Aborted && is_gone { self.aborted + 1 } else { 0 };
                Ok(if (1..=ABORTS_MAX).contains(&self.aborted) { Next::Look } else { Next::Settled })
            }
            Ending::Interrupted => {
                let run = draft.run();
                self.interrupt(draft, failure).await?;
                let times = match self.interrupted {
                    Some((last, times)) if last == run => times + 1,
                    _ => 1,
                };
                self.interrupted = Some((run, times));
                let present = self.view.borrow().module().is_some();
                Ok(if present && times >= RESUMES_MAX { Next::Settled } else { Next::Look })
            }
        }
    }

    /// Whether the IMEI that was read belongs to a run that is open.
    async fn has_open_run(&self, draft: &Draft) -> Result<bool, LedgerError> {
        match draft.record().before.and_then(|before| before.imei) {
            Some(imei) => Ok(self.floor.ledger.open_run_by_imei(imei).await?.is_some()),
            None => Ok(false),
        }
    }

    /// After a panic nobody holds the module any more; bring it back to normal mode as far as that goes. In a task of
    /// its own, as the walk: whatever panicked may do so again.
    async fn put_back(&self, draft: &Draft) {
        let mut work = self.work_on(draft);
        let limit = crate::config::Timeouts::default();
        let task = AbortOnDropHandle::new(tokio::spawn(async move { work.put_back(&limit).await }));
        let back = tokio::select! {
            biased;
            back = task => back,
            () = self.floor.stop.until_now() => return,
        };
        match back {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                tracing::warn!(code = %failure.code, detail = failure.detail, "the module was not put back");
            }
            Err(error) => tracing::error!(%error, "the module was not put back"),
        }
    }

    async fn finish(&mut self, draft: &Draft, outcome: Outcome, failure: Option<Failure>) -> Result<(), LedgerError> {
        let code = failure.as_ref().map(|failure| failure.code);
        draft.update(|record| {
            record.outcome = outcome;
            record.code = code;
            if let Some(failure) = failure {
                record.detail = failure.detail;
            }
            // Only what passed was repaired.
            record.flags.repaired &= outcome == Outcome::Pass;
            record.flags.quarantined = code.is_some_and(FailureCode::quarantines);
        });
        let record = draft.finish();
        tracing::info!(run = %record.run, slot = %record.slot, %outcome, code = ?code, "run finished");
        let (run, batch) = (record.run, record.batch.clone());
        let elapsed = Duration::from_millis(record.phases.iter().map(|time| time.milliseconds).sum());
        self.floor.ledger.append(Fact::RunFinished(Box::new(record))).await?;
        if batch == self.floor.batch {
            let units = self.floor.ledger.finished_in_batch(batch).await?;
            self.floor.quota.finished(run, units);
        } else {
            self.floor.quota.ended_elsewhere();
        }
        self.interrupted = self.interrupted.filter(|(last, _)| *last != run);
        self.floor.board.update(self.index, |status| {
            status.state = SlotState::Done;
            status.run = Some(run);
            status.outcome = Some(outcome);
            status.elapsed = elapsed;
            status.code = code;
        });
        Ok(())
    }

    async fn interrupt(&mut self, draft: &Draft, failure: Failure) -> Result<(), LedgerError> {
        let record = draft.record();
        tracing::warn!(run = %record.run, slot = %record.slot, code = %failure.code, detail = failure.detail,
            "run interrupted");
        let (run, batch) = (record.run, record.batch);
        self.interrupted = Some((run, self.interrupted.filter(|(last, _)| *last == run).map_or(0, |(_, n)| n)));
        self.floor
            .ledger
            .append(Fact::RunInterrupted { run, phase: record.phase, code: failure.code, detail: failure.detail })
            .await?;
        if !draft.is_changed() {
            // Its unit was told something, and did not come to a flash: it begins anew under the same run.
            let unfinished = self.floor.ledger.unfinished_runs().await?;
            unfinished.into_iter().filter(|open| open.run == run).for_each(|open| self.floor.restarts.put(open));
        }
        if batch == self.floor.batch {
            self.floor.quota.interrupted(run);
        } else {
            self.floor.quota.ended_elsewhere();
        }
        self.floor.board.update(self.index, |status| {
            status.state = SlotState::Interrupted;
            status.run = Some(run);
            status.code = Some(failure.code);
        });
        Ok(())
    }

    /// A module that stands where another one's run is open: refused, and seen to answer again. One that was written to
    /// in that one's place has a record that sets it aside.
    async fn hold_guest(&mut self, guest: Guest) -> Result<(), LedgerError> {
        let draft = self.draft();
        let slot = &self.floor.station.slots[self.index];
        draft.update(|record| {
            record.chain_normal = Some(guest.device.key.chain.clone());
            record.chip = Some(guest.chip.chip);
            record.key_hash = Some(guest.chip.key_hash.clone());
            record.before = Some(guest.identity.clone());
        });
        draft.enter(Phase::Probe);
        self.floor
            .ledger
            .append(Fact::RunStarted {
                run: draft.run(),
                batch: self.floor.batch.clone(),
                slot: slot.name.clone(),
                chain: guest.device.key.chain.clone(),
                identity: Some(guest.identity.clone()),
            })
            .await?;
        draft.set_begun();
        let mut work = self.work_on(&draft);
        let back = match guest_timeouts(&self.floor, &guest) {
            Some(timeouts) => work.put_back(&timeouts).await,
            None => Ok(()),
        };
        drop(work);
        let said = &guest.identity.imei_text;
        let (outcome, mut failure) = match guest.written_as {
            None => {
                let detail = format!("IMEI {said} stands where the unit of an open run was");
                (Outcome::Held, Failure::new(FailureCode::UnitSwapped, detail))
            }
            Some(owner) => {
                let detail =
                    format!("what belongs to chip {owner} was written to chip {}; it says {said}", guest.chip.chip);
                (Outcome::Fail, Failure::new(FailureCode::ForeignImei, detail))
            }
        };
        if let Err(back) = back {
            failure.detail = format!("{}; then: {}", failure.detail, back.detail);
        }
        self.finish(&draft, outcome, Some(failure)).await
    }
}

fn guest_timeouts(floor: &Floor, guest: &Guest) -> Option<crate::config::Timeouts> {
    match guest.device.mode() {
        DeviceMode::Normal(family) => floor
            .products
            .iter()
            .find(|product| product.profile.family.name == family.name)
            .map(|product| product.profile.timeouts),
        _ => None,
    }
}

fn empty(status: &crate::domain::SlotStatus) -> crate::domain::SlotStatus {
    crate::domain::SlotStatus::empty(status.slot.clone())
}
