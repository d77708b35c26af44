//! One interface's pair of endpoints, seen from both ends of the cable.
//!
//! A link is what a host controller and a device controller share: transfers that the host has queued, and what the
//! device has to say. An OUT transfer completes when the *device* takes it, an IN transfer when the device has data
//! for it, so every hang that a real cable can produce (a device that takes nothing while its logs wait, a host
//! that forgot to keep an IN transfer pending) happens here by itself. When the device leaves, everything pending
//! ends with [`HardwareError::Gone`]; what had completed before can still be collected, as on real hardware.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::hardware::HardwareError;

/// Transfers a host may queue on one endpoint.
const HOST_TRANSFERS_MAX: usize = 64;
/// Transfers that wait in the device while nobody reads; a serial port forgets the oldest then.
const DEVICE_TRANSFERS_MAX: usize = 256;

/// Shared by the host's adapter and the module's task.
#[derive(Debug)]
pub(super) struct Link {
    state: Mutex<State>,
    packet_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    gone: bool,
    opened: bool,
    panics: bool,
    out: VecDeque<Vec<u8>>,
    out_done: usize,
    in_wanted: VecDeque<usize>,
    in_filling: Vec<u8>,
    in_done: VecDeque<Vec<u8>>,
    device: VecDeque<Vec<u8>>,
    host_out: Option<Waker>,
    host_in: Option<Waker>,
    device_out: Option<Waker>,
    device_drained: Option<Waker>,
}

impl State {
    fn wake_host(&mut self) {
        for waker in [self.host_out.take(), self.host_in.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn wake_device(&mut self) {
        for waker in [self.device_out.take(), self.device_drained.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Moves device data into the host's transfers: one ends when it is full, or with a short packet.
    fn pump(&mut self, packet_bytes: usize) {
        let mut moved = false;
        while let (Some(&wanted), Some(front)) = (self.in_wanted.front(), self.device.front_mut()) {
            let room = wanted - self.in_filling.len();
            let short = !front.len().is_multiple_of(packet_bytes) || front.is_empty();
            let taken = room.min(front.len());
            let exhausted = taken == front.len();
            if exhausted {
                let rest = self.device.pop_front().unwrap_or_default();
                if self.in_filling.is_empty() {
                    self.in_filling = rest
                } else {
                    self.in_filling.extend_from_slice(&rest)
                }
            } else {
                self.in_filling.extend_from_slice(&front[..taken]);
                front.drain(..taken);
            }
            if self.in_filling.len() == wanted || (exhausted && short) {
                self.in_wanted.pop_front();
                self.in_done.push_back(std::mem::take(&mut self.in_filling));
            }
            moved = true;
        }
        if moved {
            if let Some(waker) = self.host_in.take() {
                waker.wake();
            }
            if self.device.is_empty()
                && let Some(waker) = self.device_drained.take()
            {
                waker.wake();
            }
        }
    }
}

impl Link {
    pub(super) fn new(packet_bytes: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), packet_bytes })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn packet_bytes(&self) -> usize {
        self.packet_bytes
    }

    /// The device is unplugged or enumerates anew.
    pub(super) fn disconnect(&self) {
        let mut state = self.state();
        state.gone = true;
        state.out.clear();
        state.device.clear();
        state.wake_host();
        state.wake_device();
    }

    /// The next call from the host's side panics, as a driver with a bug would.
    pub(super) fn plant_panic(&self) {
        let mut state = self.state();
        state.panics = true;
        state.wake_host();
    }

    fn check_panic(&self) {
        let planted = std::mem::take(&mut self.state().panics);
        assert!(!planted, "a panic planted in the simulated driver");
    }

    // The host's side.

    pub(super) fn open(&self) -> Result<(), HardwareError> {
        let mut state = self.state();
        if state.gone {
            return Err(HardwareError::Gone);
        }
        if std::mem::replace(&mut state.opened, true) {
            return Err(HardwareError::Busy);
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        self.cancel();
        self.state().opened = false;
    }

    pub(super) fn cancel(&self) {
        let mut state = self.state();
        state.out.clear();
        state.out_done = 0;
        state.in_wanted.clear();
        state.in_filling.clear();
        state.in_done.clear();
    }

    pub(super) fn submit_out(&self, bytes: &[u8]) -> Result<(), HardwareError> {
        self.check_panic();
        let mut state = self.state();
        if state.gone {
            return Err(HardwareError::Gone);
        }
        if state.out.len() + state.out_done >= HOST_TRANSFERS_MAX {
            return Err(HardwareError::Failed("too many OUT transfers in flight".into()));
        }
        state.out.push_back(bytes.to_vec());
        if let Some(waker) = state.device_out.take() {
            waker.wake();
        }
        Ok(())
    }

    pub(super) fn out_pending(&self) -> usize {
        let state = self.state();
        state.out.len() + state.out_done
    }

    pub(super) fn poll_out_done(&self, context: &mut Context<'_>) -> Poll<Result<(), HardwareError>> {
        self.check_panic();
        let mut state = self.state();
        if state.out_done > 0 {
            state.out_done -= 1;
            return Poll::Ready(Ok(()));
        }
        if state.gone {
            return Poll::Ready(Err(HardwareError::Gone));
        }
        state.host_out = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn submit_in(&self, bytes_max: usize) -> Result<(), HardwareError> {
        self.check_panic();
        let mut state = self.state();
        if state.gone {
            return Err(HardwareError::Gone);
        }
        if bytes_max == 0 || !bytes_max.is_multiple_of(self.packet_bytes) {
            return Err(HardwareError::Failed(format!(
                "an IN transfer of {bytes_max} bytes is no multiple of the packet size"
            )));
        }
        if state.in_wanted.len() + state.in_done.len() >= HOST_TRANSFERS_MAX {
            return Err(HardwareError::Failed("too many IN transfers in flight".into()));
        }
        state.in_wanted.push_back(bytes_max);
        state.pump(self.packet_bytes);
        Ok(())
    }

    pub(super) fn in_pending(&self) -> usize {
        let state = self.state();
        state.in_wanted.len() + state.in_done.len()
    }

    pub(super) fn poll_in_done(
        &self,
        context: &mut Context<'_>,
        into: &mut Vec<u8>,
    ) -> Poll<Result<usize, HardwareError>> {
        self.check_panic();
        let mut state = self.state();
        if let Some(bytes) = state.in_done.pop_front() {
            into.extend_from_slice(&bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        if state.gone {
            return Poll::Ready(Err(HardwareError::Gone));
        }
        state.host_in = Some(context.waker().clone());
        Poll::Pending
    }

    /// For a serial port: whatever the device said, as a stream.
    pub(super) fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize, HardwareError>> {
        self.check_panic();
        let mut state = self.state();
        let mut count = 0;
        while count < buffer.len() {
            let Some(front) = state.device.front_mut() else { break };
            let taken = front.len().min(buffer.len() - count);
            buffer[count..count + taken].copy_from_slice(&front[..taken]);
            front.drain(..taken);
            count += taken;
            if front.is_empty() {
                state.device.pop_front();
            }
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        if state.gone {
            return Poll::Ready(Err(HardwareError::Gone));
        }
        state.host_in = Some(context.waker().clone());
        Poll::Pending
    }

    // The device's side.

    /// Takes the oldest OUT transfer, which completes it. Pending for ever once the device is disconnected: what
    /// happens then is decided by whoever cut the supply.
    pub(super) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Vec<u8>> {
        let mut state = self.state();
        if let Some(bytes) = state.out.pop_front() {
            state.out_done += 1;
            if let Some(waker) = state.host_out.take() {
                waker.wake();
            }
            return Poll::Ready(bytes);
        }
        state.device_out = Some(context.waker().clone());
        Poll::Pending
    }

    /// Queues data for the host: one transfer on the wire.
    pub(super) fn say(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        if state.gone {
            return;
        }
        if state.device.len() >= DEVICE_TRANSFERS_MAX {
            state.device.pop_front();
        }
        state.device.push_back(bytes);
        state.pump(self.packet_bytes);
        if let Some(waker) = state.host_in.take() {
            waker.wake();
        }
    }

    /// Whether the host has read everything that was said.
    pub(super) fn poll_drained(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.device.is_empty() {
            return Poll::Ready(());
        }
        state.device_drained = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn an_in_transfer_ends_when_full_or_with_a_short_packet() {
        let link = Link::new(512);
        let mut into = Vec::new();
        link.submit_in(1024).expect("submits");
        link.say(vec![1; 512]);
        assert!(link.poll_in_done(&mut context(), &mut into).is_pending(), "a full packet does not end a transfer");
        link.say(vec![2; 3]);
        assert_eq!(link.poll_in_done(&mut context(), &mut into), Poll::Ready(Ok(515)));
        link.submit_in(512).expect("submits");
        link.say(Vec::new());
        assert_eq!(link.poll_in_done(&mut context(), &mut into), Poll::Ready(Ok(0)), "a zero-length packet ends it");
        link.say(vec![3; 700]);
        link.submit_in(512).expect("submits");
        link.submit_in(512).expect("submits");
        assert_eq!(link.poll_in_done(&mut context(), &mut into), Poll::Ready(Ok(512)));
        assert_eq!(link.poll_in_done(&mut context(), &mut into), Poll::Ready(Ok(188)));
        assert!(link.submit_in(100).is_err());
    }

    #[test]
    fn an_out_transfer_completes_only_when_the_device_takes_it() {
        let link = Link::new(512);
        link.submit_out(b"x").expect("submits");
        assert!(link.poll_out_done(&mut context()).is_pending());
        assert_eq!(link.poll_take(&mut context()), Poll::Ready(b"x".to_vec()));
        assert_eq!(link.poll_out_done(&mut context()), Poll::Ready(Ok(())));
    }

    #[test]
    fn what_had_completed_survives_the_disconnect_and_all_else_is_gone() {
        let link = Link::new(512);
        let mut into = Vec::new();
        link.submit_in(512).expect("submits");
        link.submit_in(512).expect("submits");
        link.submit_out(b"late").expect("submits");
        link.say(b"last words".to_vec());
        link.disconnect();
        assert_eq!(link.poll_in_done(&mut context(), &mut into), Poll::Ready(Ok(10)));
        assert_eq!(link.poll_in_done(&mut context(), &mut into), Poll::Ready(Err(HardwareError::Gone)));
        assert_eq!(link.poll_out_done(&mut context()), Poll::Ready(Err(HardwareError::Gone)));
        assert_eq!(link.submit_out(b"y"), Err(HardwareError::Gone));
        assert_eq!(link.open(), Err(HardwareError::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_planted_panic_happens_in_the_callers_task_once() {
        let link = Link::new(512);
        link.plant_panic();
        let other = link.clone();
        let task = tokio::spawn(async move { other.submit_out(b"x") });
        assert!(task.await.expect_err("panics").is_panic());
        link.submit_out(b"x").expect("works again");
        assert_eq!(poll_fn(|context| link.poll_take(context)).await, b"x".to_vec());
    }
}
