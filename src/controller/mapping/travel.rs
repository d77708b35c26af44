//! A module's way into download mode and back.
//!
//! The same conversations as those of a run that only asks a module for its chip; here nobody knows the slot's ports
//! yet, so the module is recognised by when it leaves and comes, and by coming back to where it was.

use std::collections::BTreeSet;
use std::time::Duration;

use super::watch::{SETTLE, Settling};
use super::{News, Refusal, Session, is_module};
use crate::config::Timeouts;
use crate::controller::failure::SessionError;
use crate::controller::session::firehose::Firehose;
use crate::controller::session::sahara::{Contact, SaharaSession};
use crate::controller::session::{EdlLink, diag};
use crate::domain::{FailureCode, Family, PortChain};
use crate::hardware::{BulkPipe, DeviceKey, DeviceMode, DeviceRecord, HardwareError};

/// The pause before a port that does not answer is asked again: it may still be starting.
const RETRY: Duration = Duration::from_secs(1);
/// How often a module that answers and stays is asked for download mode.
const ASKS_MAX: u32 = 3;
/// How long the host may take to let a device be opened that was just enumerated.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// What became of the question for download mode.
enum Entered {
    Yes(DeviceRecord, u8),
    /// It is still there, in normal mode.
    Stays,
    No(Refusal),
}

/// What is known of the module on its way.
#[derive(Default)]
struct Journey {
    /// The port of the download mode that is taken for its own.
    download: Option<PortChain>,
    /// Where a download mode was reset.
    reset: BTreeSet<PortChain>,
}

impl Session<'_> {
    /// Into download mode and back into normal mode; the port on which download mode was seen.
    pub(super) async fn travel(
        &mut self,
        device: &DeviceRecord,
        family: &Family,
    ) -> Result<Result<PortChain, Refusal>, HardwareError> {
        let timeouts = self.mapper.timeouts_for(family);
        let mut journey = Journey::default();
        self.arrived.clear();
        let mut outcome = self.go(device, family, &timeouts, &mut journey).await?;
        if outcome != Err(Refusal::Gone)
            && let Some(several) = self.several(device, journey.download.as_ref())
        {
            outcome = Err(several);
        }
        if outcome.is_err() {
            let is_several = matches!(outcome, Err(Refusal::Several(_)));
            self.release(device, &timeouts, &mut journey, is_several).await?;
        }
        self.tried.extend(journey.download);
        Ok(outcome)
    }

    /// The journey, as long as nothing comes between.
    async fn go(
        &mut self,
        device: &DeviceRecord,
        family: &Family,
        timeouts: &Timeouts,
        journey: &mut Journey,
    ) -> Result<Result<PortChain, Refusal>, HardwareError> {
        let (download, interface) = match self.enter(device, family, timeouts).await? {
            Ok(entered) => entered,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let chain = download.key.chain.clone();
        journey.download = Some(chain.clone());
        journey.reset.insert(chain.clone());
        self.asker.tell(&News::InDownloadMode(&chain));
        let asked = self.ask_chip(&download, interface, timeouts).await?;
        if asked == Err(Refusal::Gone) {
            return Ok(Err(Refusal::Gone));
        }
        let back = self.await_back(device, &download.key, timeouts).await?;
        Ok(asked.and(back).map(|()| chain))
    }

    /// The refusal when another module came on the way, in whichever mode: whose download mode was seen is not known
    /// then. Modules in slots that are known may come and go.
    fn several(&self, device: &DeviceRecord, download: Option<&PortChain>) -> Option<Refusal> {
        let normal = &device.key.chain;
        let mut others = self
            .arrived
            .iter()
            .filter(|(chain, _)| *chain != normal && Some(*chain) != download && self.owner(chain).is_none());
        let mut chains = vec![normal.clone()];
        // With a second download mode the one that was believed may be the other module's.
        let has_edl = others.clone().any(|(_, is_edl)| *is_edl);
        chains.extend(download.filter(|chain| has_edl && *chain != normal).cloned());
        let first = others.next()?;
        chains.extend(std::iter::once(first).chain(others).map(|(chain, _)| chain.clone()));
        Some(Refusal::Several(chains))
    }

    /// Resets what came up in download mode meanwhile and was not reset yet, once at each port, and waits for the module
    /// where it was: nothing is left in download mode because nothing was learned of it.
    async fn release(
        &mut self,
        device: &DeviceRecord,
        timeouts: &Timeouts,
        journey: &mut Journey,
        mut is_awaited: bool,
    ) -> Result<(), HardwareError> {
        let clock = self.mapper.clock.clone();
        let mut deadline = clock.deadline(timeouts.reset.saturating_add(timeouts.boot));
        let mut hints = self.mapper.bus.hints();
        loop {
            let now = self.look().await?;
            let stuck = now.new_since(&self.before).find_map(|found| match found.mode() {
                DeviceMode::Edl { interface } => {
                    let chain = &found.key.chain;
                    let is_ours = !journey.reset.contains(chain) && self.owner(chain).is_none();
                    is_ours.then(|| (found.clone(), interface))
                }
                _ => None,
            });
            if let Some((found, interface)) = stuck {
                journey.reset.insert(found.key.chain.clone());
                // Nothing is learned of it; whether it obeys is seen on the bus.
                let _chip_or_not = self.ask_chip(&found, interface, timeouts).await?;
                is_awaited = true;
                deadline = clock.deadline(timeouts.reset.saturating_add(timeouts.boot));
                continue;
            }
            if !is_awaited || now.at(&device.key.chain).is_some_and(is_normal) || clock.now() >= deadline {
                return Ok(());
            }
            self.pause(&mut hints).await;
        }
    }

    /// Asks on the DIAG port for download mode until the module is in it.
    async fn enter(
        &mut self,
        device: &DeviceRecord,
        family: &Family,
        timeouts: &Timeouts,
    ) -> Result<Result<(DeviceRecord, u8), Refusal>, HardwareError> {
        let (bus, clock) = (self.mapper.bus.clone(), self.mapper.clock.clone());
        let deadline = clock.deadline(timeouts.ready);
        let mut answers = 0;
        let mut was_asked = false;
        let mut why = Refusal::NoDiag("no answer".to_owned());
        loop {
            let asked = match bus.open_port(&device.key, family.diag_interface).await {
                Ok(mut port) => diag::ask_for_edl(port.as_mut(), &clock).await,
                Err(error) => Err(error.into()),
            };
            was_asked |= asked.is_ok();
            match asked {
                Ok(true) => match self.await_download(device, timeouts).await? {
                    Entered::Yes(download, interface) => return Ok(Ok((download, interface))),
                    Entered::No(refusal) => return Ok(Err(refusal)),
                    Entered::Stays => {
                        answers += 1;
                        why = Refusal::StaysOut;
                    }
                },
                Ok(false) => why = Refusal::NoDiag("no answer".to_owned()),
                Err(SessionError::Gone) => {}
                Err(SessionError::Busy) => why = Refusal::Held,
                Err(SessionError::Silent(what)) => why = Refusal::NoDiag(what.to_owned()),
                Err(SessionError::Usb(what)) => why = Refusal::NoDiag(what),
                Err(SessionError::Failed(failure)) => why = Refusal::NoDiag(failure.detail),
            }
            if !self.look().await?.has(&device.key) {
                // It may have taken the question and answered too late.
                if !was_asked {
                    return Ok(Err(Refusal::Gone));
                }
                return Ok(match self.await_download(device, timeouts).await? {
                    Entered::Yes(download, interface) => Ok((download, interface)),
                    Entered::No(refusal) => Err(refusal),
                    Entered::Stays => Err(Refusal::StaysOut),
                });
            }
            if answers >= ASKS_MAX || clock.now() >= deadline {
                return Ok(Err(why));
            }
            clock.sleep(RETRY).await;
        }
    }

    /// Waits until the module has left normal mode and one new download mode is there, alone and for a while: another
    /// module may be in download mode sooner.
    async fn await_download(&mut self, device: &DeviceRecord, timeouts: &Timeouts) -> Result<Entered, HardwareError> {
        let clock = self.mapper.clock.clone();
        let deadline = clock.deadline(timeouts.edl);
        let mut hints = self.mapper.bus.hints();
        let mut settling = Settling::default();
        loop {
            let now = self.look().await?;
            let time = clock.now();
            if !now.has(&device.key) {
                let new = now.new_since(&self.before).filter_map(|found| match found.mode() {
                    DeviceMode::Edl { interface } => Some((found, interface)),
                    _ => None,
                });
                let (owned, mut found): (Vec<_>, Vec<_>) =
                    new.partition(|(found, _)| self.owner(&found.key.chain).is_some());
                // At the port of another slot it is believed only when it shows nowhere else: the file may be wrong.
                if found.is_empty() && time >= deadline {
                    found = owned;
                }
                match found.as_slice() {
                    [] => {
                        if let Some(gone) = settling.key() {
                            let several = self.several(device, Some(&gone.chain));
                            self.tried.insert(gone.chain.clone());
                            return Ok(Entered::No(several.unwrap_or(Refusal::Gone)));
                        }
                    }
                    [(one, interface)] => {
                        if let Some(several) = self.several(device, Some(&one.key.chain)) {
                            return Ok(Entered::No(several));
                        }
                        if settling.age(&one.key, time) >= SETTLE {
                            return Ok(Entered::Yes((*one).clone(), *interface));
                        }
                        if time < deadline.saturating_add(SETTLE * 2) {
                            self.pause(&mut hints).await;
                            continue;
                        }
                    }
                    several => {
                        let chains = several.iter().map(|(device, _)| device.key.chain.clone()).collect();
                        return Ok(Entered::No(Refusal::Several(chains)));
                    }
                }
            }
            if time >= deadline {
                if now.has(&device.key) {
                    return Ok(Entered::Stays);
                }
                let dump = now.new_since(&self.before).find(|device| matches!(device.mode(), DeviceMode::MemoryDump));
                let is_back = now.at(&device.key.chain).is_some_and(is_normal);
                return Ok(Entered::No(match dump {
                    Some(dump) => Refusal::Crashed(dump.key.chain.clone()),
                    None if is_back => Refusal::StaysOut,
                    None => Refusal::NotInDownloadMode,
                }));
            }
            self.pause(&mut hints).await;
        }
    }

    /// Asks a module in download mode who it is, which proves that this port carries both ways, and resets it.
    async fn ask_chip(
        &mut self,
        download: &DeviceRecord,
        interface: u8,
        timeouts: &Timeouts,
    ) -> Result<Result<(), Refusal>, HardwareError> {
        let link = match self.open(&download.key, interface).await? {
            Ok(pipe) => EdlLink::new(pipe, self.mapper.clock.clone()),
            Err(error) => Err(error),
        };
        let mut session = match link {
            Ok(link) => SaharaSession::new(link, timeouts),
            Err(error) => return Ok(Err(refusal(error, &download.key.chain))),
        };
        Ok(match session.contact().await {
            Ok(Contact::Chip(_)) => {
                // One that is gone before it was told to is not coming back by itself. Whether it obeyed is seen on the
                // bus.
                match session.reset().await {
                    Err(SessionError::Gone) => Err(Refusal::Gone),
                    _ => Ok(()),
                }
            }
            Ok(Contact::ForeignProgrammer) => {
                let (link, heard) = session.into_link();
                let _gone_or_not = Firehose::over(link, &heard, timeouts).reset().await;
                Err(Refusal::OddDownloadMode("a programmer of an earlier session runs in it".to_owned()))
            }
            Err(error) => {
                if error != SessionError::Gone {
                    let _gone_or_not = session.reset().await;
                }
                Err(refusal(error, &download.key.chain))
            }
        })
    }

    /// Opens download mode; right after an enumeration the host may not be ready for that.
    async fn open(
        &mut self,
        key: &DeviceKey,
        interface: u8,
    ) -> Result<Result<Box<dyn BulkPipe>, SessionError>, HardwareError> {
        let deadline = self.mapper.clock.deadline(OPEN_LIMIT);
        loop {
            let error = match self.mapper.bus.open_bulk(key, interface).await {
                Ok(pipe) => return Ok(Ok(pipe)),
                Err(error) => error,
            };
            let is_there = self.look().await?.has(key);
            if !is_there || self.mapper.clock.now() >= deadline {
                return Ok(Err(if is_there { error.into() } else { SessionError::Gone }));
            }
            self.mapper.clock.sleep(RETRY).await;
        }
    }

    /// Waits until the module is back in normal mode, where it was, and stays there alone.
    async fn await_back(
        &mut self,
        device: &DeviceRecord,
        download: &DeviceKey,
        timeouts: &Timeouts,
    ) -> Result<Result<(), Refusal>, HardwareError> {
        let clock = self.mapper.clock.clone();
        let leave = clock.deadline(timeouts.reset);
        let deadline = leave.saturating_add(timeouts.boot);
        let mut hints = self.mapper.bus.hints();
        let mut settling = Settling::default();
        let mut is_again = false;
        loop {
            let now = self.look().await?;
            let time = clock.now();
            if let Some(several) = self.several(device, Some(&download.chain)) {
                return Ok(Err(several));
            }
            let is_there = now.has(download);
            if is_there && time >= leave {
                return Ok(Err(Refusal::NotBack));
            }
            let at_download = now.at(&download.chain).filter(|found| is_module(found) && found.key != *download);
            // In download mode again: what is back in normal mode cannot be the module that was reset.
            is_again |= at_download.is_some_and(|found| matches!(found.mode(), DeviceMode::Edl { .. }));
            let back = now.at(&device.key.chain).filter(|found| !is_there && is_normal(found));
            if let Some(back) = back {
                if is_again {
                    return Ok(Err(Refusal::NotBack));
                }
                if at_download.is_some_and(|found| found.key != back.key) {
                    return Ok(Err(Refusal::Several(vec![device.key.chain.clone(), download.chain.clone()])));
                }
                if settling.age(&back.key, time) >= SETTLE {
                    return Ok(Ok(()));
                }
            }
            if time >= deadline.saturating_add(SETTLE) || (time >= deadline && back.is_none()) {
                return Ok(Err(match at_download.filter(|found| is_normal(found)) {
                    Some(found) if back.is_none() => Refusal::BackElsewhere(found.key.chain.clone()),
                    _ => Refusal::NotBack,
                }));
            }
            self.pause(&mut hints).await;
        }
    }
}

fn is_normal(device: &DeviceRecord) -> bool {
    matches!(device.mode(), DeviceMode::Normal(_))
}

/// Why a conversation in download mode broke off.
fn refusal(error: SessionError, chain: &PortChain) -> Refusal {
    match error {
        SessionError::Gone => Refusal::Gone,
        SessionError::Silent(_) => Refusal::SilentDownloadMode,
        SessionError::Busy => Refusal::Held,
        SessionError::Usb(what) => Refusal::OddDownloadMode(what),
        SessionError::Failed(failure) => match failure.code {
            FailureCode::SaharaNoHello => Refusal::SilentDownloadMode,
            FailureCode::MemoryDump => Refusal::Crashed(chain.clone()),
            _ => Refusal::OddDownloadMode(failure.detail),
        },
    }
}
