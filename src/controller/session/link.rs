//! The two bulk endpoints of a module in download mode, with IN transfers always pending.
//!
//! A programmer that cannot push its log lines stops taking data, so there is never a moment without an IN transfer
//! in flight. Sahara and Firehose speak over the same pipe without a break; the link survives the change.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::controller::failure::SessionError;
use crate::domain::limits;
use crate::hardware::BulkPipe;
use crate::host::Clock;

/// IN transfers kept pending.
const IN_PENDING: usize = 4;
/// Length of an IN transfer, in bytes: a multiple of every packet size, and of every payload of a NAND programmer.
const IN_BYTES: usize = 16 * 1024;

/// An open pipe with its clock.
#[derive(Debug)]
pub(crate) struct EdlLink {
    pipe: Box<dyn BulkPipe>,
    clock: Clock,
    received: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl EdlLink {
    /// Takes over a pipe and begins to listen.
    pub(crate) fn new(pipe: Box<dyn BulkPipe>, clock: Clock) -> Result<Self, SessionError> {
        let mut link = Self { pipe, clock, received: VecDeque::new(), spare: Vec::new() };
        link.listen()?;
        Ok(link)
    }

    /// The clock of the conversation.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn listen(&mut self) -> Result<(), SessionError> {
        while self.pipe.in_pending() < IN_PENDING {
            self.pipe.submit_in(IN_BYTES)?;
        }
        Ok(())
    }

    /// Completes whatever is complete. `Pending` when neither way moved.
    fn poll_progress(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), SessionError>> {
        let mut moved = false;
        while self.pipe.in_pending() > 0 {
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.clear();
            match self.pipe.poll_in(context, &mut buffer) {
                Poll::Ready(Ok(0)) => self.spare.push(buffer),
                Poll::Ready(Ok(_)) => self.received.push_back(buffer),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.spare.push(buffer);
                    break;
                }
            }
            moved = true;
            if let Err(error) = self.listen() {
                return Poll::Ready(Err(error));
            }
            if self.received.len() >= IN_PENDING {
                break;
            }
        }
        while self.pipe.out_pending() > 0 {
            match self.pipe.poll_out(context) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// What has arrived and was not taken yet.
    pub(crate) fn take_received(&mut self) -> Option<Vec<u8>> {
        self.received.pop_front()
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

    /// Waits until anything moves, at most until `deadline`.
    async fn progress_until(&mut self, deadline: Duration, silence: &'static str) -> Result<(), SessionError> {
        let clock = self.clock.clone();
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
        let deadline = self.clock.deadline(limit);
        while self.pipe.out_pending() >= limits::TRANSFERS_IN_FLIGHT {
            self.progress_until(deadline, silence).await?;
        }
        self.pipe.submit_out(bytes)?;
        if zlp && !bytes.is_empty() && bytes.len().is_multiple_of(self.pipe.packet_bytes()) {
            self.pipe.submit_out(&[])?;
        }
        Ok(())
    }

    /// Waits until every OUT transfer is complete.
    pub(crate) async fn flush(&mut self, limit: Duration, silence: &'static str) -> Result<(), SessionError> {
        while self.pipe.out_pending() > 0 {
            let deadline = self.clock.deadline(limit);
            self.progress_until(deadline, silence).await?;
        }
        Ok(())
    }
}
