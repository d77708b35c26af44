//! Sahara over a link: reads the chip, and starts the programmer.

use std::time::Duration;

use super::EdlLink;
use crate::config::Timeouts;
use crate::controller::failure::{Failure, SessionError};
use crate::domain::{FailureCode, Wait, limits};
use crate::protocol::sahara::{ChipInfo, Sahara, SaharaError, Step};

/// How often a hello that was eaten by somebody is asked for again.
const HELLO_RETRIES_MAX: u32 = 3;

/// How the first contact in download mode ended.
#[derive(Debug)]
pub(crate) enum Contact {
    /// The chip said who it is; nothing has been sent to it but questions.
    Chip(ChipInfo),
    /// A programmer of an earlier session answers. It is not ours and not trusted.
    ForeignProgrammer,
}

/// A Sahara conversation.
#[derive(Debug)]
pub(crate) struct SaharaSession {
    link: EdlLink,
    machine: Sahara,
    timeouts: Timeouts,
}

impl SaharaSession {
    /// A conversation over a fresh link.
    pub(crate) fn new(link: EdlLink, timeouts: &Timeouts) -> Self {
        Self { link, machine: Sahara::new(), timeouts: *timeouts }
    }

    /// Waits for the hello and reads serial, hardware id and key hash.
    pub(crate) async fn contact(&mut self) -> Result<Contact, SessionError> {
        let mut retries = 0;
        loop {
            match self.machine.step().map_err(failure)? {
                Step::Send(bytes) => self.send(&bytes).await?,
                Step::ChipRead(info) => return Ok(Contact::Chip(info)),
                Step::AlreadyFirehose => return Ok(Contact::ForeignProgrammer),
                Step::MemoryDebug => {
                    return Err(Failure::new(FailureCode::MemoryDump, "Sahara hello with memory-debug mode").into());
                }
                Step::NeedBytes => match self.receive(Wait::Hello, self.timeouts.hello).await {
                    Err(SessionError::Silent(_)) if retries < HELLO_RETRIES_MAX => {
                        retries += 1;
                        self.machine.hello_lost();
                    }
                    Err(SessionError::Silent(_)) => {
                        return Err(Failure::new(FailureCode::SaharaNoHello, "no hello after every retry").into());
                    }
                    other => other?,
                },
                Step::SendImage { .. } | Step::Loaded | Step::ResetDone => return Err(out_of_place()),
            }
        }
    }

    /// Sends the programmer and waits until the chip has taken it. The link is then the programmer's; what of its
    /// words has arrived already comes with it.
    pub(crate) async fn load(mut self, programmer: &[u8]) -> Result<(EdlLink, Vec<u8>), (Self, SessionError)> {
        self.machine.start_load(programmer.len() as u64);
        match self.transfer(programmer).await {
            Ok(()) => Ok(self.into_link()),
            Err(error) => Err((self, error)),
        }
    }

    async fn transfer(&mut self, programmer: &[u8]) -> Result<(), SessionError> {
        loop {
            match self.machine.step().map_err(failure)? {
                Step::Send(bytes) => self.send(&bytes).await?,
                Step::SendImage { offset, length } => self.send_image(programmer, offset, length).await?,
                Step::Loaded => return Ok(()),
                Step::NeedBytes => match self.receive(Wait::Loader, self.timeouts.loader).await {
                    Err(SessionError::Silent(_)) if self.machine.has_read_to_the_end() => {
                        let detail = "it took the whole programmer and fell silent; a fused chip does so with a \
                                      programmer that is not signed for it";
                        return Err(Failure::new(FailureCode::LoaderRejected, detail).into());
                    }
                    Err(SessionError::Silent(_)) => {
                        let detail = "it fell silent while it was taking the programmer";
                        return Err(Failure::new(FailureCode::SaharaProtocol, detail).into());
                    }
                    other => other?,
                },
                Step::MemoryDebug => {
                    return Err(Failure::new(FailureCode::MemoryDump, "Sahara hello with memory-debug mode").into());
                }
                Step::AlreadyFirehose | Step::ChipRead(_) | Step::ResetDone => return Err(out_of_place()),
            }
        }
    }

    /// Makes the chip start anew, out of download mode where its boot loader is intact.
    pub(crate) async fn reset(&mut self) -> Result<(), SessionError> {
        self.machine.reset();
        loop {
            match self.machine.step().map_err(failure)? {
                Step::Send(bytes) => self.send(&bytes).await?,
                Step::ResetDone => return Ok(()),
                Step::NeedBytes => match self.receive(Wait::Hello, self.timeouts.hello).await {
                    // The chip may be gone before its answer was read.
                    Err(SessionError::Gone) => return Ok(()),
                    other => other?,
                },
                _ => return Err(out_of_place()),
            }
        }
    }

    /// The link, for the programmer that runs now, and what of its words has arrived already.
    pub(crate) fn into_link(mut self) -> (EdlLink, Vec<u8>) {
        let heard = self.machine.take_rest();
        (self.link, heard)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.link.send(bytes, false, self.timeouts.transfer, "a Sahara packet was not taken").await
    }

    async fn receive(&mut self, wait: Wait, limit: Duration) -> Result<(), SessionError> {
        let deadline = self.link.clock().deadline(limit);
        let waiting = self.link.waiting(wait);
        let bytes = self.link.receive_until(deadline, "no Sahara packet").await?;
        waiting.over();
        self.machine.feed(&bytes);
        self.link.recycle(bytes);
        Ok(())
    }

    async fn send_image(&mut self, programmer: &[u8], offset: u64, length: u64) -> Result<(), SessionError> {
        let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        // The machine has refused requests beyond the end.
        let asked = range.and_then(|(offset, length)| programmer.get(offset..offset.checked_add(length)?));
        for piece in asked.ok_or_else(out_of_place)?.chunks(limits::EDL_IMAGE_TRANSFER_BYTES) {
            self.link.send(piece, false, self.timeouts.transfer, "a piece of the programmer was not taken").await?;
        }
        Ok(())
    }
}

fn failure(error: SaharaError) -> SessionError {
    Failure::new(error.code(), error.to_string()).into()
}

fn out_of_place() -> SessionError {
    Failure::new(FailureCode::SaharaProtocol, "an answer out of place").into()
}
