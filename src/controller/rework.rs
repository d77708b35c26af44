//! Modules that arrive broken, where the profile allows to repair them, and modules that a person has restored by hand.
//!
//! In this order: out of the mode in which it is stuck, but only with its EFS whole and saved, because that changes what
//! is stored; its own backup of an earlier run, of its pages or over DIAG; its own second copy, but only where there is no
//! backup, what it has was saved and the ledger knows whose IMEI must come out of it; and the flash, without which none
//! of this is proven. A module that has lost its EFS and has none of these is lost, and is told so.

use std::time::Duration;

use super::edl::{TableSource, fits};
use super::failure::{Failure, RunError, SessionError};
use super::floor::Product;
use super::verify::Verdict;
use super::work::Work;
use crate::config::{Checks, Rework};
use crate::domain::{
    Condition, Cure, Diagnosis, Fact, FailureCode, Family, Identity, Imei, ModeOrder, Phase, Sha256Digest, limits,
};
use crate::hardware::DeviceRecord;
use crate::protocol::at::Final;
use crate::protocol::sahara::ChipInfo;

/// A module in download mode that said who it is.
type Asked = (DeviceRecord, ChipInfo);
/// How often a module is told in one run, interrupted perhaps, to put back its own second copy.
const OWN_COPIES_MAX: usize = 3;
/// How often a module is given an order as long as it leaves the bus instead of an answer, or gives none, and shows nothing
/// of it after its next start: nobody knows whether it was heard.
const TRIES_MAX: u32 = 2;
/// CME errors with which a module refuses to leave its mode because its EFS does not allow it: phone failure, and
/// operation not allowed.
const NOT_ALLOWED: [u16; 2] = [0, 3];
/// How often an order that was refused for another reason is repeated.
const REFUSALS_MAX: u32 = 2;
/// The pause before that, in station time: a module that has just started is busy for some seconds.
const REFUSED_PAUSE: Duration = Duration::from_secs(4);

impl Work {
    /// Repairs a module that is not well, flashes it and proves it.
    pub(crate) async fn rework(
        &mut self,
        (device, family): (DeviceRecord, &'static Family),
        identity: &Identity,
        asked: Option<Asked>,
        (diagnosis, product, rework): (Diagnosis, &Product, Rework),
    ) -> Result<Verdict, RunError> {
        self.admit_ill(identity, product)?;
        self.admit_to(product, true).await?;
        let (device, info) = self.ask_chip(device, family, asked, product).await?;
        let reworked = self.floor.ledger.repairs(info.chip, self.run()).await?;
        if reworked >= rework.per_unit {
            let detail = format!("{diagnosis}; {reworked} of {} allowed runs have repaired it", rework.per_unit);
            return Err(Failure::new(FailureCode::ReworkExhausted, detail).into());
        }
        self.repair.budget = Some(rework.per_run);
        self.say(format!("arrived with {diagnosis}"));
        let own = match self.best_backup(info.chip, &[product]).await {
            // Its EFS is whole, and saved before anything is done to it.
            Err(RunError::Failed(failure))
                if failure.code == FailureCode::BackupMissing && diagnosis.condition != Condition::EfsLost =>
            {
                None
            }
            other => other?,
        };
        let (device, info) = match (diagnosis.condition, own) {
            (Condition::EfsLost, Some(own)) => {
                self.choose(own, &info, product).await?;
                (device, info)
            }
            (Condition::EfsLost, None) => match self.floor.ledger.imei_of(info.chip).await? {
                Some(imei) => self.take_own_copy((device, family), &info, product, (diagnosis, imei)).await?,
                None => return Err(self.lost_for_good(&diagnosis, info.chip).await?.into()),
            },
            (_, own) => {
                self.claim(&info, product).await?;
                let (device, info, is_well) = self.leave_mode((device, family), &info, product, diagnosis).await?;
                if let Some(own) = own.filter(|_| !is_well) {
                    self.choose(own, &info, product).await?;
                }
                (device, info)
            }
        };
        let device = self.write(device, &info, product).await?;
        self.prove(device, product, &info).await
    }

    /// Restores the module in the slot from its own backup because a person wants it so, flashes it and proves it.
    pub(crate) async fn restore_by_hand(
        &mut self,
        (device, family): (DeviceRecord, &'static Family),
        identity: &Identity,
        asked: Option<Asked>,
        wanted: Option<Sha256Digest>,
    ) -> Result<Verdict, RunError> {
        let product = self.product_of(identity)?.clone();
        self.examine(&device, family, &product, identity).await?;
        self.admit_ill(identity, &product)?;
        self.admit_to(&product, true).await?;
        let (device, info) = self.ask_chip(device, family, asked, &product).await?;
        let backup = match wanted {
            None => match self.best_backup(info.chip, &[&product]).await? {
                Some(best) => best,
                None => {
                    let (_, why) = self.why_no_backup(info.chip).await?;
                    return Err(Failure::new(FailureCode::BackupMissing, why).into());
                }
            },
            Some(id) => self.named_backup(id, info.chip).await?,
        };
        self.say(format!("restored by hand from backup {}", backup.id.short()));
        self.choose(backup, &info, &product).await?;
        let device = self.write(device, &info, &product).await?;
        self.prove(device, &product, &info).await
    }

    /// Takes a backup of the module in the slot because a person wants it so, and puts the module back. Nothing is
    /// changed.
    pub(crate) async fn backup_by_hand(
        &mut self,
        (device, family): (DeviceRecord, &'static Family),
        identity: &Identity,
        asked: Option<Asked>,
    ) -> Result<(), RunError> {
        let product = self.product_of(identity)?.clone();
        // Of a module that is not well there is nothing worth keeping.
        self.admit_well(identity, &product)?;
        self.admit_bands(identity, &product)?;
        self.admit_to(&product, false).await?;
        if product.profile.guard.has_xqcn() && asked.is_none() {
            self.read_over_diag(&device, &product, identity).await?;
        }
        let (device, info) = self.ask_chip(device, family, asked, &product).await?;
        self.claim(&info, &product).await?;
        let bound = self.load(&device, &product, TableSource::Module).await?;
        let backup = self.backup(&device, &product, &bound).await?;
        self.put_back(&product.profile.timeouts).await?;
        self.say(format!("its backup was taken by hand: {}", backup.id));
        Ok(())
    }

    pub(super) fn say(&self, said: String) {
        self.draft.update(|record| record.detail = said);
    }

    /// The chip of a module in normal mode, which must be one that the package is for.
    async fn ask_chip(
        &mut self,
        device: DeviceRecord,
        family: &Family,
        asked: Option<Asked>,
        product: &Product,
    ) -> Result<Asked, RunError> {
        let (device, info) = match asked {
            Some(asked) => {
                self.enter(Phase::Probe);
                asked
            }
            None => self.reach_edl(&device, family, &product.profile.timeouts).await?,
        };
        self.note_chip(&info);
        fits(&info, product)?;
        Ok((device, info))
    }

    /// Brings a module whose EFS is whole out of the mode in which it is stuck: saves the EFS, starts the module anew,
    /// tells it, and starts it again. Whether it is well then.
    async fn leave_mode(
        &mut self,
        (device, family): (DeviceRecord, &'static Family),
        info: &ChipInfo,
        product: &Product,
        diagnosis: Diagnosis,
    ) -> Result<(DeviceRecord, ChipInfo, bool), RunError> {
        if diagnosis.evidence.cfun == Some(product.profile.checks.cfun) {
            return Ok((device, info.clone(), false));
        }
        let (device, now) = self.save_and_start(&device, product).await?;
        self.order_mode((device, family), info, product, (diagnosis, now)).await
    }

    /// Reads the pages of a module in download mode into the vault as they are, and starts it; what it says then.
    async fn save_and_start(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
    ) -> Result<(DeviceRecord, Identity), RunError> {
        let bound = self.load(device, product, TableSource::Module).await?;
        match self.backup(device, product, &bound).await {
            Ok(backup) => self.repair.backup = Some(backup),
            // What is no file system any more holds nothing that its second copy could overwrite.
            Err(RunError::Failed(failure)) if self.repair.keeps_any && failure.code == FailureCode::BackupInvalid => {
                tracing::warn!(detail = failure.detail, "nothing of it can be saved");
            }
            Err(error) => return Err(error),
        }
        let mut device = self.reset(device, product).await?;
        let now = self.identify_started(&mut device, product).await?;
        Ok((device, now))
    }

    /// The order to leave a mode, to a module that is saved and has its EFS.
    async fn order_mode(
        &mut self,
        (mut device, family): (DeviceRecord, &'static Family),
        info: &ChipInfo,
        product: &Product,
        (mut diagnosis, mut now): (Diagnosis, Identity),
    ) -> Result<(DeviceRecord, ChipInfo, bool), RunError> {
        let checks = &product.profile.checks;
        let before = self.expected();
        if now.imei != before.imei {
            // Another module, perhaps, that was put in while this one started: nothing of it was saved.
            self.again(&device, family, info, product).await?;
            let detail = format!("{diagnosis}; it was {}, it is {}", before.imei_text, now.imei_text);
            return Err(Failure::new(FailureCode::ImeiChanged, detail).into());
        }
        if now.cfun != Some(checks.cfun) {
            if self.repair.backup.is_none() {
                let detail = "what it has cannot be saved, so it is not told to leave its mode";
                return Err(Failure::new(FailureCode::BackupInvalid, detail).into());
            }
            let mut order;
            let mut tries = 0;
            loop {
                tries += 1;
                self.announce(Cure::LeaveMode).await?;
                let told = self.tell(&device, product, "AT+CFUN=1").await?;
                order = told.refusal();
                if order.is_some() {
                    break;
                }
                device = self.start_told(&device, product, &told).await?;
                now = self.identify_started(&mut device, product).await?;
                order = (now.cfun != Some(checks.cfun)).then_some(match told {
                    Told::Unanswered => ModeOrder::Refused,
                    _ => ModeOrder::Forgotten,
                });
                // Nobody knows whether it was heard.
                let may_not_have_heard = matches!(told, Told::Unanswered | Told::Left) && now.imei == before.imei;
                if order.is_none() || !may_not_have_heard || tries >= TRIES_MAX {
                    break;
                }
            }
            if !is_well(checks, &before, &now) {
                diagnosis.evidence = super::diagnose::evidence(checks, Some(&before), &now);
                diagnosis.evidence.mode_order = order;
                diagnosis.condition = diagnosis.evidence.condition(checks.cfun).unwrap_or(diagnosis.condition);
                self.say(format!("arrived with {diagnosis}"));
                self.note_diagnosis(diagnosis).await?;
            }
        }
        let well = is_well(checks, &before, &now);
        if well {
            self.cured(now);
        }
        let (device, found) = self.again(&device, family, info, product).await?;
        Ok((device, found, well))
    }

    /// The next command may change what the module has stored.
    async fn announce(&mut self, cure: Cure) -> Result<(), RunError> {
        self.append(Fact::Cure { run: self.run(), cure }).await?;
        self.draft.set_cured();
        Ok(())
    }

    /// A module that was told something in an earlier part of this run, and is well: it must be the one that it was.
    pub(super) fn accept_cured(&mut self, now: &Identity, product: &Product) -> Result<(), Failure> {
        let checks = &product.profile.checks;
        let before = self.draft.record().before.unwrap_or_default();
        if !is_well(checks, &before, now) {
            let detail = "it is not the same any more after what it was told";
            return Err(Failure::new(FailureCode::CalibrationLost, detail));
        }
        self.cured(now.clone());
        Ok(())
    }

    /// The module is well: from now on it is to stay what it says, and what is saved of it is good.
    fn cured(&mut self, now: Identity) {
        self.draft.update(|record| record.flags.repaired = true);
        self.repair.cured(now);
    }

    /// Lets a module that has lost its EFS put back its own second copy of it, after what it has was saved. Only the IMEI
    /// that the ledger has of the chip may come out of that. One that is found whole at its second start keeps what it has.
    async fn take_own_copy(
        &mut self,
        (device, family): (DeviceRecord, &'static Family),
        info: &ChipInfo,
        product: &Product,
        (diagnosis, imei): (Diagnosis, Imei),
    ) -> Result<Asked, RunError> {
        let checks = &product.profile.checks;
        let known = Identity { imei: Some(imei), imei_text: imei.to_string(), ..Identity::default() };
        self.claim_as(info, product, imei).await?;
        self.repair.keep_any(known.clone());
        let (mut device, mut now) = self.save_and_start(&device, product).await?;
        if let Some(other) = now.imei.filter(|other| *other != imei) {
            // Another module, perhaps, that was put in while this one started.
            self.again(&device, family, info, product).await?;
            let detail = format!("{diagnosis}; chip {} had IMEI {imei}, it says {other}", info.chip);
            return Err(Failure::new(FailureCode::ImeiChanged, detail).into());
        }
        if super::diagnose::evidence(checks, Some(&known), &now).condition(checks.cfun) != Some(Condition::EfsLost) {
            // What was missing at first was an answer.
            let (device, found, _) = self.order_mode((device, family), info, product, (diagnosis, now)).await?;
            return Ok((device, found));
        }
        let lost = |why: String| Failure::new(FailureCode::EfsLostNoBackup, why);
        let mut tries = 0;
        loop {
            if self.repair.own_copies >= OWN_COPIES_MAX {
                let times = self.repair.own_copies;
                return Err(lost(format!("there is no backup; its own second copy was asked for {times} times")).into());
            }
            (tries, self.repair.own_copies) = (tries + 1, self.repair.own_copies + 1);
            self.announce(Cure::OwnCopy).await?;
            let told = self.tell(&device, product, "AT+QPRTPARA=3").await?;
            if told.refusal().is_some() {
                return Err(lost("there is no backup, and the module has no second copy of its own".to_owned()).into());
            }
            device = self.start_told(&device, product, &told).await?;
            now = self.identify_started(&mut device, product).await?;
            // Nobody knows whether it was heard.
            let may_not_have_heard =
                matches!(told, Told::Unanswered | Told::Left) && now.imei.is_none_or(|said| said == imei);
            if is_well(checks, &known, &now) || !may_not_have_heard || tries >= TRIES_MAX {
                break;
            }
        }
        if now.imei != Some(imei) || !is_well(checks, &known, &now) {
            let detail = format!(
                "there is no backup that can be restored, and with the module's own second copy it is {} with +CFUN: {}; it was {imei}",
                now.imei_text,
                now.cfun.map_or_else(|| "?".to_owned(), |cfun| cfun.to_string()),
            );
            return Err(lost(detail).into());
        }
        self.cured(now);
        self.again(&device, family, info, product).await
    }

    async fn again(
        &mut self,
        device: &DeviceRecord,
        family: &Family,
        info: &ChipInfo,
        product: &Product,
    ) -> Result<Asked, RunError> {
        let (device, found) = self.reach_edl(device, family, &product.profile.timeouts).await?;
        if found.chip != info.chip {
            self.send_back(&device.key, product.profile.timeouts.boot).await;
            let detail = format!("chip {} where {} was", found.chip, info.chip);
            return Err(Failure::new(FailureCode::Unplugged, detail).into());
        }
        Ok((device, found))
    }

    async fn identify_started(&mut self, device: &mut DeviceRecord, product: &Product) -> Result<Identity, RunError> {
        let mut at = self.open_started(device, product).await?;
        let profile = &product.profile;
        Ok(self.read_identity(&mut at, device, profile.family, &profile.timeouts).await?)
    }

    /// Tells a module something over AT that may take it long, and again where it refuses without saying that it may not:
    /// it may have been busy.
    async fn tell(&mut self, device: &DeviceRecord, product: &Product, command: &str) -> Result<Told, RunError> {
        let timeouts = &product.profile.timeouts;
        let limit = timeouts.at.max(limits::CURE_TIME_MAX);
        let mut at = self.open_at(device, product.profile.family, limit, timeouts.ready).await?;
        let mut refusals = 0;
        loop {
            self.floor.halt.check()?;
            let told = match at.command(command).await {
                Ok(reply) => match reply.result {
                    Final::Ok => return Ok(Told::Taken),
                    Final::Cme(number) if NOT_ALLOWED.contains(&number) => {
                        return Ok(Told::Refused(ModeOrder::NotAllowed));
                    }
                    _ if refusals >= REFUSALS_MAX => return Ok(Told::Refused(ModeOrder::Refused)),
                    _ => at.pause(REFUSED_PAUSE).await,
                },
                Err(error) => Err(error),
            };
            match told {
                Ok(()) => refusals += 1,
                Err(SessionError::Silent(_)) => return Ok(Told::Unanswered),
                Err(SessionError::Gone) => return Ok(Told::Left),
                Err(error) => return Err(self.judge(error, &device.key, FailureCode::AtSilent).await.into()),
            }
        }
    }

    /// Starts a module anew that was told something, unless it does so by itself.
    async fn start_told(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        told: &Told,
    ) -> Result<DeviceRecord, Failure> {
        match told {
            Told::Left => {
                self.enter(Phase::Reset);
                self.await_normal(&device.key, product.profile.timeouts.boot).await
            }
            _ => self.boot_again(device, product).await,
        }
    }
}

/// What became of an order.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Told {
    /// It was answered with OK.
    Taken,
    /// It was answered with an error.
    Refused(ModeOrder),
    /// There was no answer in time. What came of it is seen at the next start.
    Unanswered,
    /// The module left the bus over it, and what came of it is seen when it is back.
    Left,
}

impl Told {
    fn refusal(&self) -> Option<ModeOrder> {
        match self {
            Self::Refused(order) => Some(order.clone()),
            Self::Taken | Self::Unanswered | Self::Left => None,
        }
    }
}

/// Whether a module that was not well is, and still the one that it was.
fn is_well(checks: &Checks, before: &Identity, now: &Identity) -> bool {
    super::diagnose::evidence(checks, Some(before), now).condition(checks.cfun).is_none()
}
