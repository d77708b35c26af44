//! A run's working place: its slot, its record, and the waits that every phase needs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::board::Progress;
use super::draft::Draft;
use super::failure::{Failure, RunError, SessionError};
use super::floor::{Floor, Product};
use super::quota::Resuming;
use super::reconcile::SlotView;
use super::repair::Repair;
use super::session::at::AtSession;
use super::session::firehose::Firehose;
use super::session::sahara::SaharaSession;
use super::waits::Waiting;
use super::xqcn::OverDiag;
use crate::config::SlotConfig;
use crate::domain::{Fact, FailureCode, Family, Identity, Phase, PortChain, RunId, Wait, limits};
use crate::hardware::{DeviceKey, DeviceMode, DeviceRecord};
use crate::ledger::OpenRun;

/// How long a device may still be listed after a transfer to it failed because it is gone.
const GONE_LISTED_MAX: Duration = Duration::from_millis(2500);

/// The conversation in download mode that is open, so that a refused unit can be sent out of it.
#[derive(Debug, Default)]
pub(crate) enum Edl {
    /// None.
    #[default]
    None,
    /// The chip's own loader.
    Sahara(Box<SaharaSession>),
    /// The programmer.
    Firehose(Box<Firehose>),
}

/// What a wait for a device ended with.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// The device that was waited for.
    Wanted(DeviceRecord, DeviceMode),
    /// A module, but in another mode than the one that was waited for, and it stays so.
    Other(DeviceMode),
    /// Nothing came.
    Nothing,
}

/// One run at work.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) floor: Arc<Floor>,
    pub(crate) slot: usize,
    pub(crate) view: watch::Receiver<SlotView>,
    pub(crate) draft: Draft,
    pub(crate) edl: Edl,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    /// The interrupted run that this work finishes.
    pub(crate) resumed: Option<OpenRun>,
    /// Says so to the batch.
    pub(crate) resuming: Option<Resuming>,
    /// The backup over DIAG, where the profile asks for one.
    pub(crate) over_diag: OverDiag,
    /// What this run relies on, and does, to have a unit's own EFS back.
    pub(crate) repair: Repair,
}

impl Work {
    pub(crate) fn slot_config(&self) -> &SlotConfig {
        &self.floor.station.slots[self.slot]
    }

    /// The chains of the slot, for its power switch.
    pub(crate) fn chains(&self) -> Vec<PortChain> {
        self.slot_config().chains().cloned().collect()
    }

    pub(crate) fn run(&self) -> RunId {
        self.draft.run()
    }

    /// What the module must say after its flash: what it said of itself when it was well.
    pub(crate) fn expected(&self) -> Identity {
        self.repair.expected.clone().or_else(|| self.draft.record().before).unwrap_or_default()
    }

    /// Enters a phase, on the board and in the record.
    pub(crate) fn enter(&self, phase: Phase) {
        tracing::info!(%phase, "phase");
        self.draft.enter(phase);
        self.floor.board.phase(self.slot, phase);
    }

    pub(crate) fn progress(&self, total: u64) -> Progress<'_> {
        Progress::new(&self.floor.board, self.slot, &self.floor.clock, total)
    }

    pub(crate) async fn append(&self, fact: Fact) -> Result<(), RunError> {
        self.floor.ledger.append(fact).await?;
        Ok(())
    }

    /// The device in the slot right now.
    pub(crate) fn device(&self) -> Option<(DeviceRecord, DeviceMode)> {
        self.view.borrow().module().map(|(device, mode)| (device.clone(), mode))
    }

    /// Before anything is changed, a run ends at the next phase when the operator asked to stop.
    pub(crate) fn check_stop(&self) -> Result<(), Failure> {
        if self.floor.stop.is_gentle() && !self.draft.is_changed() {
            return Err(Failure::new(FailureCode::Stopped, "the station was stopped"));
        }
        Ok(())
    }

    /// Waits until a module in a wanted mode is in the slot, under another enumeration than `not`.
    ///
    /// A module that stays in another mode ends the wait too: it will not change by itself any more.
    pub(crate) async fn await_module(
        &mut self,
        wanted: impl Fn(&DeviceMode) -> bool,
        not: Option<&DeviceKey>,
        limit: Duration,
    ) -> Result<Arrival, Failure> {
        /// How long a module may show another mode before that counts as where it ended up.
        const OTHER_MODE: Duration = Duration::from_secs(4);
        let clock = self.floor.clock.clone();
        let deadline = clock.deadline(limit);
        let moved = self.draft.moved();
        let mut other: Option<(DeviceKey, Duration)> = None;
        loop {
            let mut wake = deadline;
            {
                let view = self.view.borrow_and_update();
                if view.hub_lost {
                    return Err(Failure::new(
                        FailureCode::HubLost,
                        "the hub went away while the module was restarting",
                    ));
                }
                match view.module().filter(|(device, _)| Some(&device.key) != not) {
                    Some((device, mode)) if wanted(&mode) => return Ok(Arrival::Wanted(device.clone(), mode)),
                    Some((device, mode)) => match &other {
                        Some((key, since)) if *key == device.key => {
                            if clock.now() >= *since + OTHER_MODE {
                                return Ok(Arrival::Other(mode));
                            }
                            wake = wake.min(*since + OTHER_MODE);
                        }
                        _ => {
                            other = Some((device.key.clone(), clock.now()));
                            wake = wake.min(clock.now() + OTHER_MODE);
                        }
                    },
                    None => other = None,
                }
            }
            if clock.now() >= deadline {
                return Ok(Arrival::Nothing);
            }
            tokio::select! {
                biased;
                changed = self.view.changed() => if changed.is_err() {
                    return Err(Failure::new(FailureCode::Internal, "the reconciler has ended"));
                },
                () = moved.cancelled() => {
                    return Err(Failure::new(FailureCode::Unplugged, "its unit was put into another slot"));
                }
                () = clock.sleep_until(wake) => {}
            }
        }
    }

    /// Waits until that enumeration has left the slot; `false` when it is still there at the limit.
    pub(crate) async fn await_gone(&mut self, key: &DeviceKey, limit: Duration) -> bool {
        let clock = self.floor.clock.clone();
        let gone = self.view.wait_for(|view| !view.has(key));
        clock.timeout_at(clock.deadline(limit), gone).await.is_ok()
    }

    /// What a conversation that broke off means. Only the bus knows whether the module was taken: a transfer error
    /// alone may be a cable.
    pub(crate) async fn judge(&mut self, error: SessionError, key: &DeviceKey, silent: FailureCode) -> Failure {
        match error {
            SessionError::Gone => self.judge_gone(key).await,
            SessionError::Silent(what) => Failure::new(silent, what),
            SessionError::Busy => Failure::new(FailureCode::PortBusy, "the port cannot be opened exclusively"),
            SessionError::Usb(what) => {
                if self.await_gone(key, limits::RECONCILE_INTERVAL).await {
                    self.judge_gone(key).await
                } else {
                    Failure::new(FailureCode::UsbError, what)
                }
            }
            SessionError::Failed(failure) => failure,
        }
    }

    /// Whether a module that is gone was taken, or left with its hub.
    pub(crate) async fn judge_gone(&mut self, key: &DeviceKey) -> Failure {
        self.await_gone(key, GONE_LISTED_MAX).await;
        // A hub's own disappearance may be listed a moment after that of its devices.
        let clock = self.floor.clock.clone();
        let hub = self.view.wait_for(|view| view.hub_lost);
        if clock.timeout(limits::RECONCILE_INTERVAL, hub).await.is_ok() {
            return Failure::new(FailureCode::HubLost, "the slot's hub is gone");
        }
        Failure::new(FailureCode::Unplugged, format!("it was unplugged in phase {}", self.draft.phase()))
    }

    /// Opens the module's AT port and waits until it answers.
    pub(crate) async fn open_at(
        &mut self,
        device: &DeviceRecord,
        family: &Family,
        at_limit: Duration,
        ready_limit: Duration,
    ) -> Result<AtSession, Failure> {
        let clock = self.floor.clock.clone();
        let deadline = clock.deadline(ready_limit);
        let port = self.floor.bus.open_port(&device.key, family.at_interface).await;
        let opened = match port {
            Ok(port) => {
                let waiting = self.waiting(Wait::Ready);
                let mut at = AtSession::new(port, clock, at_limit).timed(self.draft.waits());
                at.synchronise(deadline).await.map(|()| {
                    waiting.over();
                    at
                })
            }
            Err(error) => Err(error.into()),
        };
        match opened {
            Ok(at) => Ok(at),
            Err(error) => Err(self.judge(error, &device.key, FailureCode::AtSilent).await),
        }
    }

    /// A wait begins that is part of the run's record once it is over.
    pub(crate) fn waiting(&self, wait: Wait) -> Waiting {
        self.draft.waits().begin(wait, &self.floor.clock)
    }

    /// Gives the log lines of this walk, and the slot on the board, the run they belong to.
    pub(crate) fn name_span(&self) {
        let run = self.run();
        self.floor.board.update(self.slot, |status| status.run = Some(run));
        tracing::Span::current().record("run", tracing::field::display(self.run()));
    }

    /// Makes the run known to the ledger.
    pub(crate) async fn begin(&mut self, chain: &PortChain, identity: Option<Identity>) -> Result<(), RunError> {
        let record = self.draft.record();
        self.append(Fact::RunStarted {
            run: record.run,
            batch: record.batch,
            slot: record.slot,
            chain: chain.clone(),
            identity,
        })
        .await?;
        self.draft.set_begun();
        self.name_span();
        Ok(())
    }

    /// Notes the product in the record and in the ledger.
    pub(crate) async fn admit_to(&mut self, product: &Product, flash: bool) -> Result<(), RunError> {
        let (profile, package) = (&product.profile, &product.package);
        self.draft.update(|record| {
            record.profile.clone_from(&profile.name);
            record.profile_digest = Some(profile.digest);
            record.package_digest = Some(package.digest());
            record.boots_required = profile.boots;
            record.flags.unqualified = product.unqualified;
        });
        self.append(Fact::Admitted {
            run: self.run(),
            profile: profile.name.clone(),
            profile_digest: profile.digest,
            package_digest: package.digest(),
            flash,
        })
        .await
    }
}
