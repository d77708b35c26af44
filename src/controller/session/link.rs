//! The two bulk endpoints of a module in download mode, with IN transfers always pending.
//!
//! A programmer that cannot push its log lines stops taking data, so there is never a moment without an IN transfer
//! in flight. Sahara and Firehose speak over the same pipe without a break; the link survives the change.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::controller::failure::{Failure, SessionError};
use crate::controller::waits::{Waiting, Waits};
use crate::domain::{FailureCode, Wait, limits};
use crate::hardware::BulkPipe;
use crate::host::Clock;

/// IN transfers kept pending.
const IN_PENDING: usize = 4;

/// An open pipe with its clock.
#[derive(Debug)]
pub(crate) struct EdlLink {
    pipe: Box<dyn BulkPipe>,
    clock: Clock,
    received: VecDeque<Vec<u8>>,
    /// Bytes in `received`.
    received_bytes: usize,
    spare: Vec<Vec<u8>>,
    /// Why nothing will move any more, once everything that had moved is given out.
    broken: Option<SessionError>,
    waits: Waits,
}

impl EdlLink {
    /// Takes over a pipe and begins to listen.
    pub(crate) fn new(pipe: Box<dyn BulkPipe>, clock: Clock) -> Result<Self, SessionError> {
        let mut link = Self {
            pipe,
            clock,
            received: VecDeque::new(),
            received_bytes: 0,
            spare: Vec::new(),
            broken: None,
            waits: Waits::default(),
        };
        link.listen()?;
        Ok(link)
    }

    /// Notes how long was waited for what.
    pub(crate) fn timed(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    /// A wait begins that counts once it is over.
    pub(crate) fn waiting(&self, wait: Wait) -> Waiting {
        self.waits.begin(wait, &self.clock)
    }

    /// The clock of the conversation.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn listen(&mut self) -> Result<(), SessionError> {
        while self.pipe.in_pending() < IN_PENDING {
            self.pipe.submit_in(limits::EDL_IN_TRANSFER_BYTES)?;
        }
        Ok(())
    }

    /// Completes whatever is complete. `Pending` when neither way moved. What a module sent before it left is given out
    /// before the news that it left: its last answer may be the acknowledgement of a reset.
    fn poll_progress(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), SessionError>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        let mut moved = false;
        while self.pipe.in_pending() > 0 {
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.clear();
            match self.pipe.poll_in(context, &mut buffer) {
                Poll::Ready(Ok(0)) => self.spare.push(buffer),
                Poll::Ready(Ok(_)) => {
                    self.received_bytes += buffer.len();
                    self.received.push_back(buffer);
                }
                Poll::Ready(Err(error)) if moved => {
                    self.broken = Some(error.into());
                    break;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.spare.push(buffer);
                    break;
                }
            }
            moved = true;
            if let Err(error) = self.listen()
                && self.pipe.in_pending() == 0
            {
                self.broken = Some(error);
            }
            if self.received.len() >= IN_PENDING {
                break;
            }
        }
        while self.pipe.out_pending() > 0 {
            match self.pipe.poll_out(context) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(error)) if moved => {
                    self.broken = Some(error.into());
                    break;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        if let Err(failure) = self.check_unread() {
            return Poll::Ready(Err(failure.into()));
        }
        if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Whatever is said while something is sent waits here; a module that never stops must not fill the memory.
    fn check_unread(&self) -> Result<(), Failure> {
        let (transfers, bytes) = (self.received.len(), self.received_bytes);
        if transfers <= limits::EDL_UNREAD_TRANSFERS_MAX && bytes <= limits::EDL_UNREAD_BYTES_MAX {
            return Ok(());
        }
        let detail = format!("{bytes} bytes in {transfers} transfers while it should listen");
        Err(Failure::new(FailureCode::LogFlood, detail))
    }

    /// What has arrived and was not taken yet.
    pub(crate) fn take_received(&mut self) -> Option<Vec<u8>> {
        let bytes = self.received.pop_front()?;
        self.received_bytes -= bytes.len();
        Some(bytes)
    }

    /// Gives a buffer back for reuse.
    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < 2 * IN_PENDING {
            self.spare.push(buffer);
        }
    }

    /// Waits for the next bytes from the module, at most until `deadline` (station time).
    pub(crate) async fn receive_until(
        &mut self,
        deadline: Duration,
        silence: &'static str,
    ) -> Result<Vec<u8>, SessionError> {
        loop {
            if let Some(bytes) = self.take_received() {
                return Ok(bytes);
            }
            self.progress_until(deadline, silence).await?;
        }
    }

    /// Waits until anything moves, at most until `deadline`: one that has passed is over, however much there is to
    /// read.
    async fn progress_until(&mut self, deadline: Duration, silence: &'static str) -> Result<(), SessionError> {
        let clock = self.clock.clone();
        if clock.now() >= deadline {
            return Err(SessionError::Silent(silence));
        }
        match clock.timeout_at(deadline, poll_fn(|context| self.poll_progress(context))).await {
            Ok(result) => result,
            Err(_) => Err(SessionError::Silent(silence)),
        }
    }

    /// Queues an OUT transfer, waiting (at most `limit`) while too many are in flight. A transfer that is a multiple
    /// of the packet size is followed by a zero-length packet when `zlp` says so.
    pub(crate) async fn send(
        &mut self,
        bytes: &[u8],
        zlp: bool,
        limit: Duration,
        silence: &'static str,
    ) -> Result<(), SessionError> {
        self.drain_to(limits::TRANSFERS_IN_FLIGHT - 1, limit, silence).await?;
        self.pipe.submit_out(bytes)?;
        if zlp && !bytes.is_empty() && bytes.len().is_multiple_of(self.pipe.packet_bytes()) {
            self.pipe.submit_out(&[])?;
        }
        Ok(())
    }

    /// Waits until every OUT transfer is complete.
    pub(crate) async fn flush(&mut self, limit: Duration, silence: &'static str) -> Result<(), SessionError> {
        self.drain_to(0, limit, silence).await
    }

    /// Waits until at most `rest` OUT transfers are pending. Each may take `limit`, and what the module says meanwhile
    /// does not extend that.
    async fn drain_to(&mut self, rest: usize, limit: Duration, silence: &'static str) -> Result<(), SessionError> {
        let mut pending = self.pipe.out_pending();
        let mut deadline = self.clock.deadline(limit);
        let mut waiting = self.waiting(Wait::Transfer);
        while pending > rest {
            self.progress_until(deadline, silence).await?;
            let now = self.pipe.out_pending();
            if now < pending {
                deadline = self.clock.deadline(limit);
                std::mem::replace(&mut waiting, self.waiting(Wait::Transfer)).over();
            }
            pending = now;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::*;
    use crate::hardware::HardwareError;

    /// A module that has said its last words and left.
    #[derive(Debug)]
    struct Leaving {
        pending: usize,
        words: VecDeque<&'static [u8]>,
    }

    impl BulkPipe for Leaving {
        fn packet_bytes(&self) -> usize {
            512
        }

        fn submit_out(&mut self, _: &[u8]) -> Result<(), HardwareError> {
            Err(HardwareError::Gone)
        }

        fn out_pending(&self) -> usize {
            0
        }

        fn poll_out(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HardwareError>> {
            Poll::Pending
        }

        fn submit_in(&mut self, _: usize) -> Result<(), HardwareError> {
            if self.words.len() < IN_PENDING && self.pending > 0 {
                return Err(HardwareError::Gone);
            }
            self.pending += 1;
            Ok(())
        }

        fn in_pending(&self) -> usize {
            self.pending
        }

        fn poll_in(&mut self, _: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<usize, HardwareError>> {
            let Some(word) = self.words.pop_front() else { return Poll::Ready(Err(HardwareError::Gone)) };
            self.pending -= 1;
            into.extend_from_slice(word);
            Poll::Ready(Ok(word.len()))
        }

        fn cancel(&mut self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_module_said_before_it_left_is_heard_first() {
        let words: [&[u8]; IN_PENDING] = [b"log", b"ACK", b"log", b"bye"];
        let pipe = Leaving { pending: 0, words: words.into() };
        let mut link = EdlLink::new(Box::new(pipe), Clock::real()).expect("it listens");
        let limit = Duration::from_secs(1);
        for word in words {
            assert_eq!(link.receive_until(limit, "silent").await.expect("heard"), word);
        }
        let end = link.receive_until(limit, "silent").await;
        assert!(matches!(end, Err(SessionError::Gone)), "{end:?}");
    }
}
