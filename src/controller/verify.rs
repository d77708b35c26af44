//! The phases `reset` and `verify`: out of download mode, and every check after every boot.

use std::time::Duration;

use super::checks::{QueryAnswers, judge};
use super::failure::{Failure, RunError, SessionError};
use super::floor::Product;
use super::session::at::AtSession;
use super::work::{Arrival, Edl, Work};
use crate::config::Timeouts;
use crate::domain::{Blame, ChipId, Fact, FailureCode, Identity, Measurement, Phase, Wait};
use crate::hardware::{DeviceKey, DeviceMode, DeviceRecord};
use crate::protocol::at::Final;
use crate::protocol::sahara::ChipInfo;

/// How long a supply stays cut.
const POWER_OFF: Duration = Duration::from_secs(1);
/// What is said of a module that went for a restart and is not there any more.
const NOT_BACK: &str = "it did not come back after its reset, and its port is empty: it was taken out, or it is dead";
/// What the row of a run says whose supply was never cut.
const RESET_ONLY: &str = "booted again by a reset: its supply could not be cut";
/// How often in a row a module may start again by itself before it has answered.
const SELF_RESTARTS_MAX: u32 = 3;
/// How long a further query of the profile is repeated.
const QUERY_LIMIT: Duration = Duration::from_secs(10);

/// How the checks after a flash ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Every boot passed every check.
    Proven,
    /// Another unit is in the slot: its chip is not the run's. The guest is in normal mode again, as far as it
    /// could be brought there.
    Swapped(Box<Guest>),
}

/// A module that was found where another one should be.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) device: DeviceRecord,
    pub(crate) identity: Identity,
    pub(crate) chip: ChipInfo,
    /// The chip of the unit for which it was taken, where what belongs to that one was written to it.
    pub(crate) written_as: Option<ChipId>,
}

fn is_normal(mode: &DeviceMode) -> bool {
    matches!(mode, DeviceMode::Normal(_))
}

impl Work {
    /// Resets the module out of download mode and waits until it is back in normal mode.
    pub(crate) async fn reset(&mut self, device: &DeviceRecord, product: &Product) -> Result<DeviceRecord, Failure> {
        self.enter(Phase::Reset);
        let Edl::Firehose(firehose) = std::mem::take(&mut self.edl) else {
            return Err(Failure::new(FailureCode::Internal, "no programmer to reset"));
        };
        if let Err(error) = firehose.reset().await {
            let failure = self.judge(error, &device.key, FailureCode::NoReboot).await;
            if failure.code != FailureCode::NoReboot {
                return Err(failure);
            }
        }
        let left = self.await_left(&device.key).await;
        if !left && !self.cycle_power(&device.key).await {
            return Err(Failure::new(FailureCode::NoReboot, "it stays in download mode after the reset"));
        }
        self.permit = None;
        self.await_normal(&device.key, product.profile.timeouts.boot).await
    }

    /// Waits for normal mode after a restart; a module that does not come back gets one power cycle.
    pub(crate) async fn await_normal(&mut self, not: &DeviceKey, limit: Duration) -> Result<DeviceRecord, Failure> {
        let mut cycled = false;
        loop {
            let waiting = self.waiting(Wait::Boot);
            match self.await_module(is_normal, Some(not), limit).await? {
                Arrival::Wanted(device, _) => {
                    waiting.over();
                    self.draft.update(|record| record.chain_normal = Some(device.key.chain.clone()));
                    return Ok(device);
                }
                Arrival::Other(DeviceMode::MemoryDump) => {
                    return Err(Failure::new(FailureCode::MemoryDump, "it came up in memory-dump mode"));
                }
                Arrival::Other(DeviceMode::Edl { interface }) => {
                    return Err(self.judge_download_mode(interface).await);
                }
                Arrival::Other(_) => {
                    return Err(Failure::new(FailureCode::NoReboot, "it came up in a mode that is not known"));
                }
                Arrival::Nothing if cycled || !self.cycle_power(not).await => return Err(self.judge_absent()),
                Arrival::Nothing => cycled = true,
            }
        }
    }

    /// What it means that no module came back. Whether one that is off the bus was taken out or does not start any more no
    /// port of a hub can tell: both look empty. So it is not judged; what is there and is no module is.
    fn judge_absent(&self) -> Failure {
        match self.view.borrow().devices.is_empty() {
            true => Failure::new(FailureCode::Unplugged, NOT_BACK),
            false => Failure::new(FailureCode::NoReboot, "what came back after the reset is no module"),
        }
    }

    /// What it means that a module in download mode is there where one was to start: that it does not start, unless its
    /// chip is another one.
    async fn judge_download_mode(&mut self, mut interface: u8) -> Failure {
        let no_reboot = Failure::new(FailureCode::NoReboot, "it came up in download mode");
        let (Some((mut device, _)), Some(chip)) = (self.device(), self.draft.record().chip) else { return no_reboot };
        let timeouts = self.timeouts_of_run();
        match self.contact(&mut device, &mut interface, &timeouts).await {
            Ok(info) if info.chip != chip => {
                self.edl = Edl::None;
                // Where nothing was changed the run's own unit was only taken out.
                let is_changed = self.draft.is_changed();
                let code = if is_changed { FailureCode::UnitSwapped } else { FailureCode::Unplugged };
                Failure::new(code, format!("chip {} in download mode where {chip} was", info.chip))
            }
            Err(failure) if failure.code.blame() != Blame::Unit => failure,
            Ok(_) | Err(_) => no_reboot,
        }
    }

    /// Waits until a module that was told to leave, or whose supply was cut, is off the bus; `false` when it stays.
    async fn await_left(&mut self, key: &DeviceKey) -> bool {
        let limit = self.timeouts_of_run().reset;
        let waiting = self.waiting(Wait::Reset);
        let left = self.await_gone(key, limit).await;
        if left {
            waiting.over();
        }
        left
    }

    /// Cuts the slot's supply and gives it back; `false` when that cannot be done or did not make the module leave.
    pub(crate) async fn cycle_power(&mut self, key: &DeviceKey) -> bool {
        let chains = self.chains();
        if !self.floor.power.can_switch(&chains) {
            return false;
        }
        if let Err(error) = self.floor.power.set(&chains, false).await {
            tracing::warn!(%error, "the slot's supply could not be cut");
            return false;
        }
        let left = self.await_left(key).await;
        self.floor.clock.sleep(POWER_OFF).await;
        if let Err(error) = self.floor.power.set(&chains, true).await {
            tracing::warn!(%error, "the slot's supply could not be given back");
            return false;
        }
        // Some hubs tell of a cut only when the supply is back.
        left || self.await_left(key).await
    }

    /// All checks, after as many boots as the profile asks for.
    pub(crate) async fn verify_boots(
        &mut self,
        mut device: DeviceRecord,
        product: &Product,
    ) -> Result<Verdict, RunError> {
        for boot in 1..=product.profile.boots {
            if boot > 1 {
                device = self.boot_again(&device, product).await?;
            }
            if let Some(guest) = self.verify(&mut device, product, boot).await? {
                return Ok(Verdict::Swapped(Box::new(guest)));
            }
            self.draft.update(|record| record.boots_verified = boot);
        }
        if let Some(other) = self.floor.ledger.is_contested(self.run()).await? {
            let detail = format!("run {other} found the same IMEI on another chip");
            return Err(Failure::new(FailureCode::ImeiDuplicate, detail).into());
        }
        Ok(Verdict::Proven)
    }

    /// One more boot: by cutting the supply, or by a reset where it cannot be cut.
    pub(crate) async fn boot_again(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
    ) -> Result<DeviceRecord, Failure> {
        self.enter(Phase::Reset);
        if !self.cycle_power(&device.key).await {
            let (at_limit, ready) = (product.profile.timeouts.at, product.profile.timeouts.ready);
            let mut at = self.open_at(device, product.profile.family, at_limit, ready).await?;
            match at.command("AT+CFUN=1,1").await {
                Ok(_) | Err(SessionError::Gone | SessionError::Silent(_)) => {}
                Err(error) => return Err(self.judge(error, &device.key, FailureCode::NoReboot).await),
            }
            drop(at);
            if !self.await_left(&device.key).await {
                return Err(Failure::new(FailureCode::NoReboot, "it does not restart"));
            }
            self.draft.update(|record| {
                record.detail = match record.detail.as_str() {
                    "" => RESET_ONLY.to_owned(),
                    said if said.ends_with(RESET_ONLY) => said.to_owned(),
                    said => format!("{said}; {RESET_ONLY}"),
                };
            });
        }
        self.await_normal(&device.key, product.profile.timeouts.boot).await
    }

    /// The checks after one boot; gives the guest when the module turns out to be another one.
    async fn verify(
        &mut self,
        device: &mut DeviceRecord,
        product: &Product,
        boot: u32,
    ) -> Result<Option<Guest>, RunError> {
        self.enter(Phase::Verify);
        let profile = &product.profile;
        let timeouts = &profile.timeouts;
        let mut at = self.open_started(device, product).await?;
        let after = self.read_identity(&mut at, device, profile.family, timeouts).await?;
        let before = self.expected();
        if after.imei != before.imei
            && let Some(chip) = self.draft.record().chip
        {
            drop(at);
            return self.verify_chip(device, product, (boot, chip, before, after)).await;
        }
        let queries = match self.ask(&mut at, product).await {
            Ok(queries) => queries,
            Err(error) => return Err(self.judge(error, &device.key, FailureCode::NotReady).await.into()),
        };
        let (measurements, failure) = judge(&profile.checks, &before, &after, &queries);
        let unread = profile.checks.bands.keys().find(|set| !after.bands.contains_key(set.as_str())).copied();
        self.note_verified(boot, after, measurements).await?;
        match (failure, unread) {
            (Some(failure), Some(set)) if failure.code == FailureCode::BandMissing => {
                // An error reply says nothing about a band.
                Err(Failure::new(FailureCode::NotReady, format!("{} cannot be read", set.as_str())).into())
            }
            (Some(failure), _) => Err(failure.into()),
            (None, _) => Ok(None),
        }
    }

    /// The module says another IMEI than before, or none: its chip says whether it is another unit, which is given, or
    /// a damaged one, which has failed.
    async fn verify_chip(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        (boot, chip, before, after): (u32, ChipId, Identity, Identity),
    ) -> Result<Option<Guest>, RunError> {
        let (measurements, judged) = judge(&product.profile.checks, &before, &after, &QueryAnswers::new());
        match (self.read_chip(device, product).await, after.imei) {
            (Ok(info), _) if info.chip != chip => {
                return Ok(Some(Guest { device: device.clone(), identity: after, chip: info, written_as: None }));
            }
            (Ok(_), _) => self.repair.seen_imei = after.imei,
            // Damaged so far that not even its chip can be asked: what it says of itself is all there is.
            (Err(failure), None) if failure.code == FailureCode::EdlNotEntered => {}
            (Err(failure), _) => return Err(failure.into()),
        }
        let detail = format!("it was {}, it is {}", before.imei_text, after.imei_text);
        let changed = Failure::new(FailureCode::ImeiChanged, detail);
        let failure = if after.imei.is_some() { changed } else { judged.unwrap_or(changed) };
        self.note_verified(boot, after, measurements).await?;
        Err(failure.into())
    }

    /// Opens the AT port of a module that has just started. One that leaves before it has answered has started again,
    /// as far as the bus tells: it is waited for as after a reset. One that does so again and again does not come up.
    pub(crate) async fn open_started(
        &mut self,
        device: &mut DeviceRecord,
        product: &Product,
    ) -> Result<AtSession, Failure> {
        let (family, timeouts) = (product.profile.family, &product.profile.timeouts);
        for _ in 0..=SELF_RESTARTS_MAX {
            let left = match self.open_at(device, family, timeouts.at, timeouts.ready).await {
                Err(failure) if failure.code == FailureCode::Unplugged => failure,
                other => return other,
            };
            match self.await_module(is_normal, Some(&device.key), timeouts.boot).await? {
                Arrival::Wanted(again, _) => *device = again,
                Arrival::Other(DeviceMode::MemoryDump) => {
                    return Err(Failure::new(FailureCode::MemoryDump, "it came up in memory-dump mode"));
                }
                Arrival::Other(_) | Arrival::Nothing => return Err(left),
            }
        }
        Err(Failure::new(FailureCode::NoReboot, "it starts again and again before it answers"))
    }

    async fn note_verified(
        &mut self,
        boot: u32,
        after: Identity,
        measurements: Vec<Measurement>,
    ) -> Result<(), RunError> {
        self.draft.update(|record| {
            record.after = Some(after.clone());
            record.measurements.clone_from(&measurements);
        });
        self.append(Fact::Verified { run: self.run(), boot, identity: after, measurements }).await
    }

    async fn ask(&mut self, at: &mut AtSession, product: &Product) -> Result<QueryAnswers, SessionError> {
        let mut answers = QueryAnswers::new();
        for check in &product.profile.checks.queries {
            let deadline = at.now() + QUERY_LIMIT;
            let answer =
                at.query(&check.command, deadline, |reply| (reply.result == Final::Ok).then(|| reply.lines.join("\n")));
            answers.insert(check.name.clone(), answer.await?);
        }
        Ok(answers)
    }

    /// Into download mode, only to read the chip, and out again.
    async fn read_chip(&mut self, device: &DeviceRecord, product: &Product) -> Result<ChipInfo, Failure> {
        let timeouts = &product.profile.timeouts;
        let (mut edl, mut interface) = self.enter_edl(device, product.profile.family.diag_interface, timeouts).await?;
        let info = self.contact(&mut edl, &mut interface, timeouts).await?;
        self.send_back(&edl.key, timeouts.boot).await;
        self.enter(Phase::Verify);
        Ok(info)
    }

    /// Out of download mode, where only the chip was read, to be verified.
    pub(crate) async fn leave_probe(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
    ) -> Result<DeviceRecord, Failure> {
        self.enter(Phase::Reset);
        self.leave_edl(&device.key).await;
        self.permit = None;
        self.await_normal(&device.key, product.profile.timeouts.boot).await
    }

    /// The timeouts of the profile that the run was admitted to; the defaults before that.
    pub(crate) fn timeouts_of_run(&self) -> Timeouts {
        let profile = self.draft.record().profile;
        self.floor.product_named(&profile).map(|product| product.profile.timeouts).unwrap_or_default()
    }

    /// Brings a refused module, on which nothing was changed, out of download mode, and sees it answer.
    pub(crate) async fn put_back(&mut self, timeouts: &Timeouts) -> Result<(), Failure> {
        let Some((device, mode)) = self.device() else {
            return Err(Failure::new(FailureCode::Unplugged, "it was unplugged before it was put back"));
        };
        let device = match mode {
            DeviceMode::Normal(_) => device,
            _ => {
                self.leave_edl(&device.key).await;
                self.await_normal(&device.key, timeouts.boot).await?
            }
        };
        self.permit = None;
        let Some((_, DeviceMode::Normal(family))) = self.device() else {
            return Err(Failure::new(FailureCode::NoReboot, "it left again after it was put back"));
        };
        self.open_at(&device, family, timeouts.at, timeouts.ready).await.map(|_| ())
    }

    /// Restarts a module that does not talk, through the protocol or else through its supply, and waits until it is
    /// back in whichever mode; `None` when it is not.
    pub(crate) async fn start_anew(
        &mut self,
        device: &DeviceRecord,
        timeouts: &Timeouts,
    ) -> Result<Option<(DeviceRecord, DeviceMode)>, Failure> {
        let is_there = self.device().is_some_and(|(now, _)| now.key == device.key);
        if is_there {
            self.leave_edl(&device.key).await;
        }
        match self.await_module(|_| true, Some(&device.key), timeouts.boot).await? {
            Arrival::Wanted(device, mode) => Ok(Some((device, mode))),
            Arrival::Other(_) | Arrival::Nothing => Ok(None),
        }
    }

    /// Restarts a module that offers a memory dump, through the protocol or else through its supply; as
    /// [`Work::start_anew`].
    pub(crate) async fn leave_dump(
        &mut self,
        device: &DeviceRecord,
    ) -> Result<Option<(DeviceRecord, DeviceMode)>, Failure> {
        let timeouts = self.timeouts_of_run();
        let interface = device.interfaces.first().map(|interface| interface.number).unwrap_or_default();
        if let Ok(mut session) = self.open_sahara(device, interface, &timeouts).await {
            // Its hello is heard first, or it would be taken for the answer to the reset.
            let _says_dump = session.contact().await;
            self.edl = Edl::Sahara(Box::new(session));
        }
        self.start_anew(device, &timeouts).await
    }

    /// Out of download mode again after only the chip was asked. Whether the module answers is for whoever looks at
    /// the slot next; the question was who it is.
    pub(crate) async fn send_back(&mut self, key: &DeviceKey, limit: Duration) {
        self.leave_edl(key).await;
        if let Err(failure) = self.await_module(is_normal, Some(key), limit).await {
            tracing::warn!(detail = failure.detail, "the module did not come back from being asked for its chip");
        }
    }

    /// Makes a module leave download mode: through the protocol, or else through its supply.
    async fn leave_edl(&mut self, key: &DeviceKey) {
        match std::mem::take(&mut self.edl) {
            Edl::Sahara(mut session) => {
                let _gone_or_not = session.reset().await;
            }
            Edl::Firehose(firehose) => {
                let _gone_or_not = firehose.reset().await;
            }
            Edl::None => {}
        }
        if !self.await_left(key).await {
            self.cycle_power(key).await;
        }
    }

    /// Cuts the supply of a silent module and meets it again in download mode; its boot loader is erased.
    pub(crate) async fn reenter(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
    ) -> Result<(DeviceRecord, ChipInfo), Failure> {
        let timeouts = &product.profile.timeouts;
        self.edl = Edl::None;
        if !self.cycle_power(&device.key).await {
            return Err(Failure::new(FailureCode::EdlSilent, "it is silent, and its supply cannot be cut"));
        }
        self.enter(Phase::Probe);
        let (mut device, mut interface) = match self.await_edl(Some(&device.key), timeouts).await? {
            Some(found) => found,
            None => match self.device() {
                // Its boot loader was not erased yet, or it is another unit: the chip tells.
                Some((again, DeviceMode::Normal(family))) if again.key != device.key => {
                    self.enter_edl(&again, family.diag_interface, timeouts).await.map_err(still_silent)?
                }
                _ => return Err(Failure::new(FailureCode::EdlSilent, "it did not come back in download mode")),
            },
        };
        self.enter(Phase::Probe);
        let info = self.contact(&mut device, &mut interface, timeouts).await.map_err(still_silent)?;
        Ok((device, info))
    }
}

/// A module that fell silent while it was written and does not talk after a fresh start either is still silent.
fn still_silent(failure: Failure) -> Failure {
    match failure.code {
        FailureCode::SaharaNoHello | FailureCode::SaharaProtocol | FailureCode::EdlNotEntered => {
            Failure::new(FailureCode::EdlSilent, failure.detail)
        }
        _ => failure,
    }
}
