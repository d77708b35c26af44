//! One bulk endpoint with several transfers in flight, from buffers that usbfs maps and that are used again.
//!
//! Completions come in the order of submission. After a cancellation the kernel still gives every transfer back; those
//! are counted and passed over, so that a stale one is never taken for the next.

use std::fmt::Debug;
use std::task::{Context, Poll};
use std::time::Duration;

use nusb::transfer::{Buffer, BulkOrInterrupt, Completion, EndpointDirection, TransferError};
use nusb::{Endpoint, MaybeFuture};

use super::budget::{Share, exhausted};
use crate::domain::limits;
use crate::hardware::HardwareError;

/// Idle buffers that an endpoint keeps.
const SPARE_MAX: usize = limits::TRANSFERS_IN_FLIGHT;
/// Transfers are cut to whole pages of this size, so that a buffer fits the next one.
const PAGE_BYTES: usize = 4096;
/// `ENOMEM`.
const OUT_OF_MEMORY: u32 = 12;

/// What an endpoint of the driver can do; a test has one of its own.
pub(super) trait Driver: Send + Sync + Debug {
    fn allocate(&self, bytes: usize) -> Buffer;
    fn submit(&mut self, buffer: Buffer);
    fn pending(&self) -> usize;
    fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<Completion>;
    fn cancel(&mut self);
    /// Waits for one completion on the calling thread; `false` when `limit` passes first.
    fn wait(&mut self, limit: Duration) -> bool;
    /// Makes a stalled endpoint usable again, on the calling thread.
    fn clear_halt(&mut self);
}

impl<T: BulkOrInterrupt, D: EndpointDirection> Driver for Endpoint<T, D> {
    fn allocate(&self, bytes: usize) -> Buffer {
        Self::allocate(self, bytes)
    }

    fn submit(&mut self, buffer: Buffer) {
        Self::submit(self, buffer);
    }

    fn pending(&self) -> usize {
        Self::pending(self)
    }

    fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        self.poll_next_complete(context)
    }

    fn cancel(&mut self) {
        self.cancel_all();
    }

    fn wait(&mut self, limit: Duration) -> bool {
        self.wait_next_complete(limit).is_some()
    }

    fn clear_halt(&mut self) {
        if let Err(error) = Self::clear_halt(self).wait() {
            tracing::debug!(%error, "a stalled endpoint stays stalled");
        }
    }
}

/// How a transfer ended.
#[derive(Debug)]
pub(super) enum Done {
    /// Well; with what arrived, for an IN transfer.
    Well(Buffer, usize),
    /// The device is gone.
    Gone,
    /// In another way; whether the device is still there remains to be seen.
    Badly(HardwareError),
}

/// An endpoint at work.
#[derive(Debug)]
pub(super) struct Queue<D> {
    driver: D,
    spare: Vec<Buffer>,
    /// Cancelled transfers that the kernel has not given back.
    stale: usize,
}

impl<D: Driver> Queue<D> {
    pub(super) fn new(driver: D) -> Self {
        Self { driver, spare: Vec::new(), stale: 0 }
    }

    /// Transfers in flight that were not cancelled.
    pub(super) fn pending(&self) -> usize {
        self.driver.pending() - self.stale
    }

    /// Cancelled transfers that the kernel has not given back.
    pub(super) fn stale(&self) -> usize {
        self.stale
    }

    /// A buffer with room for that many bytes, empty.
    fn buffer(&mut self, bytes: usize, share: &mut Share) -> Result<Buffer, HardwareError> {
        if bytes == 0 {
            // Nothing to map: a zero-length packet has no data.
            return Ok(Buffer::new(0));
        }
        if bytes > limits::USB_TRANSFER_BYTES_MAX || self.driver.pending() >= limits::USB_TRANSFERS_MAX {
            return Err(HardwareError::Failed("too much in flight on one endpoint".into()));
        }
        if let Some(at) = self.spare.iter().position(|spare| spare.capacity() >= bytes) {
            let mut buffer = self.spare.swap_remove(at);
            buffer.clear();
            return Ok(buffer);
        }
        // Those that are too small now will be too small again.
        self.spare.drain(..).for_each(|spare| share.give(spare.capacity()));
        let bytes = bytes.next_multiple_of(PAGE_BYTES);
        share.take(bytes)?;
        let buffer = self.driver.allocate(bytes);
        // The system's allocator may have given more than was asked for; the count must not drift.
        if buffer.capacity() != bytes {
            share.give(bytes);
            share.take(buffer.capacity())?;
        }
        Ok(buffer)
    }

    /// Queues an OUT transfer of a copy of `bytes`.
    pub(super) fn submit_out(&mut self, bytes: &[u8], share: &mut Share) -> Result<(), HardwareError> {
        let mut buffer = self.buffer(bytes.len(), share)?;
        buffer.extend_from_slice(bytes);
        self.driver.submit(buffer);
        Ok(())
    }

    /// Queues an IN transfer.
    pub(super) fn submit_in(&mut self, bytes: usize, share: &mut Share) -> Result<(), HardwareError> {
        let mut buffer = self.buffer(bytes, share)?;
        buffer.set_requested_len(bytes);
        self.driver.submit(buffer);
        Ok(())
    }

    /// Completes the oldest transfer that was not cancelled.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, share: &mut Share) -> Poll<Done> {
        loop {
            if self.driver.pending() == 0 {
                return Poll::Pending;
            }
            let Poll::Ready(completion) = self.driver.poll_complete(context) else { return Poll::Pending };
            if self.stale > 0 {
                self.stale -= 1;
                self.recycle(completion.buffer, share);
                continue;
            }
            let Completion { buffer, actual_len, status } = completion;
            let Err(error) = status else { return Poll::Ready(Done::Well(buffer, actual_len)) };
            self.recycle(buffer, share);
            return Poll::Ready(match error {
                TransferError::Disconnected => Done::Gone,
                TransferError::Stall => Done::Badly(HardwareError::Stall),
                TransferError::Unknown(OUT_OF_MEMORY) => Done::Badly(HardwareError::Failed(exhausted(0))),
                error => Done::Badly(HardwareError::Failed(error.to_string())),
            });
        }
    }

    /// Takes a buffer back.
    pub(super) fn recycle(&mut self, buffer: Buffer, share: &mut Share) {
        if buffer.capacity() == 0 {
            return;
        }
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        } else {
            share.give(buffer.capacity());
        }
    }

    /// Cancels everything in flight.
    pub(super) fn cancel(&mut self) {
        self.driver.cancel();
        self.stale = self.driver.pending();
    }

    /// Makes a stalled endpoint usable again, on the calling thread.
    pub(super) fn clear_halt(&mut self) {
        self.driver.clear_halt();
    }

    /// Cancels everything and waits on the calling thread until the kernel has given it back; `false` when one did not
    /// come within `limit`.
    pub(super) fn drain(&mut self, limit: Duration) -> bool {
        self.cancel();
        while self.driver.pending() > 0 {
            if !self.driver.wait(limit) {
                return false;
            }
        }
        true
    }
}
