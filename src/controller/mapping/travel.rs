//! A module's way into download mode and back.
//!
//! The same conversations as those of a run that only asks a module for its chip; here nobody knows the slot's ports
//! yet, so the module is recognised by when it leaves and comes, and by coming back to where it was.

use std::time::Duration;

use super::watch::Seen;
use super::{News, Refusal, Session};
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
/// How long a module may stay on the bus after it was told to reset.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// What became of the question for download mode.
enum Entered {
    Yes(DeviceRecord, u8),
    /// It is still there, in normal mode.
    Stays,
    No(Refusal),
}

impl Session<'_> {
    /// Into download mode and back into normal mode; the port on which download mode was seen.
    pub(super) async fn travel(
        &mut self,
        device: &DeviceRecord,
        family: &Family,
        before: &Seen,
    ) -> Result<Result<PortChain, Refusal>, HardwareError> {
        let timeouts = self.mapper.timeouts_for(family);
        let (download, interface) = match self.enter(device, family, &timeouts, before).await? {
            Ok(entered) => entered,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.asker.tell(&News::InDownloadMode(&download.key.chain));
        let asked = self.ask_chip(&download, interface, &timeouts).await?;
        if asked == Err(Refusal::Gone) {
            return Ok(Err(Refusal::Gone));
        }
        let back = self.await_back(device, &download.key, &timeouts).await?;
        Ok(asked.and(back).map(|()| download.key.chain))
    }

    /// Asks on the DIAG port for download mode until the module is in it.
    async fn enter(
        &mut self,
        device: &DeviceRecord,
        family: &Family,
        timeouts: &Timeouts,
        before: &Seen,
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
                Ok(true) => match self.await_download(device, timeouts, before).await? {
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
                return Ok(match self.await_download(device, timeouts, before).await? {
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

    /// Waits until the module has left normal mode and one new download mode is there.
    async fn await_download(
        &mut self,
        device: &DeviceRecord,
        timeouts: &Timeouts,
        before: &Seen,
    ) -> Result<Entered, HardwareError> {
        let clock = self.mapper.clock.clone();
        let deadline = clock.deadline(timeouts.edl);
        let mut hints = self.mapper.bus.hints();
        loop {
            let now = self.look().await?;
            if !now.has(&device.key) {
                let new = now.new_since(before);
                let found: Vec<(&DeviceRecord, u8)> = new
                    .filter_map(|device| match device.mode() {
                        DeviceMode::Edl { interface } => Some((device, interface)),
                        _ => None,
                    })
                    .collect();
                match found.as_slice() {
                    [] => {}
                    [(one, interface)] => return Ok(Entered::Yes((*one).clone(), *interface)),
                    several => {
                        let chains = several.iter().map(|(device, _)| device.key.chain.clone()).collect();
                        return Ok(Entered::No(Refusal::Several(chains)));
                    }
                }
            }
            if clock.now() >= deadline {
                if now.has(&device.key) {
                    return Ok(Entered::Stays);
                }
                let dump = now.new_since(before).find(|device| matches!(device.mode(), DeviceMode::MemoryDump));
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
                // Whether it obeyed is seen on the bus.
                let _gone_or_not = session.reset().await;
                Ok(())
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

    /// Waits until the module is back in normal mode, where it was.
    async fn await_back(
        &mut self,
        device: &DeviceRecord,
        download: &DeviceKey,
        timeouts: &Timeouts,
    ) -> Result<Result<(), Refusal>, HardwareError> {
        let clock = self.mapper.clock.clone();
        let leave = clock.deadline(LEAVE_LIMIT);
        let deadline = clock.deadline(timeouts.boot);
        let mut hints = self.mapper.bus.hints();
        loop {
            let now = self.look().await?;
            let is_there = now.has(download);
            if !is_there && now.at(&device.key.chain).is_some_and(is_normal) {
                return Ok(Ok(()));
            }
            if is_there && clock.now() >= leave {
                return Ok(Err(Refusal::NotBack));
            }
            if clock.now() >= deadline {
                let same_port = now.at(&download.chain).filter(|found| is_normal(found));
                return Ok(Err(match same_port {
                    Some(found) => Refusal::BackElsewhere(found.key.chain.clone()),
                    None => Refusal::NotBack,
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
