//! The two bulk endpoints of a module in download mode, with several transfers in flight.

use std::fmt::Debug;
use std::future::poll_fn;
use std::task::{Context, Poll};

use super::HardwareError;

/// A pair of bulk endpoints. Transfers are queued and complete in order, each way for itself. Dropping the pipe
/// cancels what is in flight and gives the interface back.
///
/// A disconnect in any form makes every pending and later call [`HardwareError::Gone`].
pub trait BulkPipe: Send + Sync + Debug {
    /// `wMaxPacketSize` of the OUT endpoint: a transfer of a multiple of it ends with a zero-length packet where
    /// the other side expects one.
    fn packet_bytes(&self) -> usize;

    /// Queues an OUT transfer of a copy of `bytes`; empty means a zero-length packet.
    ///
    /// # Errors
    /// [`HardwareError::Gone`].
    fn submit_out(&mut self, bytes: &[u8]) -> Result<(), HardwareError>;

    /// OUT transfers that have not been completed.
    fn out_pending(&self) -> usize;

    /// Completes the oldest OUT transfer. Must not be called when none is pending.
    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<Result<(), HardwareError>>;

    /// Queues an IN transfer of at most `bytes_max`, a multiple of the packet size.
    ///
    /// # Errors
    /// [`HardwareError::Gone`].
    fn submit_in(&mut self, bytes_max: usize) -> Result<(), HardwareError>;

    /// IN transfers that have not been completed.
    fn in_pending(&self) -> usize;

    /// Completes the oldest IN transfer: what arrived is appended to `into`, and its length returned; 0 for a
    /// zero-length packet. Must not be called when none is pending.
    fn poll_in(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<usize, HardwareError>>;

    /// Cancels everything in flight, both ways. Data of cancelled IN transfers that had already arrived is lost, as
    /// on real hardware.
    fn cancel(&mut self);
}

/// The awaiting side of [`BulkPipe`]. All of these may be dropped while waiting.
pub trait PipeExt: BulkPipe {
    /// Waits for the oldest OUT transfer.
    ///
    /// # Errors
    /// Of the transfer.
    fn out_done(&mut self) -> impl Future<Output = Result<(), HardwareError>> + Send;

    /// Waits for the oldest IN transfer; its data is appended to `into`.
    ///
    /// # Errors
    /// Of the transfer.
    fn in_done(&mut self, into: &mut Vec<u8>) -> impl Future<Output = Result<usize, HardwareError>> + Send;
}

impl<T: BulkPipe + ?Sized> PipeExt for T {
    async fn out_done(&mut self) -> Result<(), HardwareError> {
        poll_fn(|context| self.poll_out(context)).await
    }

    async fn in_done(&mut self, into: &mut Vec<u8>) -> Result<usize, HardwareError> {
        poll_fn(|context| self.poll_in(context, into)).await
    }
}
