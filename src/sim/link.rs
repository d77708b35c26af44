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
pub(super) const HOST_TRANSFERS_MAX: usize = 64;
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
    out: VecDeque<Out>,
    out_done: usize,
    in_wanted: VecDeque<usize>,
    in_filling: Vec<u8>,
    in_done: VecDeque<InDone>,
    device: VecDeque<Vec<u8>>,
    host_out: Option<Waker>,
    host_in: Option<Waker>,
    device_out: Option<Waker>,
    device_drained: Option<Waker>,
}

/// An OUT transfer.
#[derive(Debug)]
struct Out {
    bytes: Vec<u8>,
    /// A zero-length packet follows, as part of the same transfer.
    then_zero: bool,
    /// This is such a packet: its transfer has completed already.
    is_tail: bool,
}

/// How an IN transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InDone {
    /// With what the device sent: it was full, or a short packet came.
    Data(Vec<u8>),
    /// The next packet had more bytes than there was room left; what came before it.
    Babble(Vec<u8>),
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

    fn push_out(&mut self, out: Out) {
        self.out.push_back(out);
        if let Some(waker) = self.device_out.take() {
            waker.wake();
        }
    }

    /// Moves device data into the host's transfers: one ends when it is full, or with a short packet. Where the room
    /// left is no whole packet, a packet that does not fit is babble, as a host controller finds.
    fn pump(&mut self, packet_bytes: usize) {
        let mut moved = false;
        while let (Some(&wanted), Some(front)) = (self.in_wanted.front(), self.device.front_mut()) {
            let room = wanted - self.in_filling.len();
            let short = !front.len().is_multiple_of(packet_bytes) || front.is_empty();
            let whole = if front.len() <= room { front.len() } else { room - room % packet_bytes };
            let exhausted = whole == front.len();
            let mut babble = false;
            if exhausted {
                let rest = self.device.pop_front().unwrap_or_default();
                if self.in_filling.is_empty() {
                    self.in_filling = rest
                } else {
                    self.in_filling.extend_from_slice(&rest)
                }
            } else {
                self.in_filling.extend_from_slice(&front[..whole]);
                front.drain(..whole);
                if self.in_filling.len() < wanted {
                    babble = true;
                    front.drain(..packet_bytes.min(front.len()));
                    if front.is_empty() {
                        self.device.pop_front();
                    }
                }
            }
            if babble || self.in_filling.len() == wanted || (exhausted && short) {
                self.in_wanted.pop_front();
                let bytes = std::mem::take(&mut self.in_filling);
                self.in_done.push_back(if babble { InDone::Babble(bytes) } else { InDone::Data(bytes) });
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
        state.push_out(Out { bytes: bytes.to_vec(), then_zero: false, is_tail: false });
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
        self.poll_in_raw(context).map(|done| match done {
            Some(InDone::Data(bytes)) => {
                into.extend_from_slice(&bytes);
                Ok(bytes.len())
            }
            Some(InDone::Babble(_)) => Err(HardwareError::Failed("babble".into())),
            None => Err(HardwareError::Gone),
        })
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

    // The host's side as a host controller works it, below any driver: transfers of any size, each cancelled by itself.
    // The caller bounds their number.

    /// Queues an OUT transfer, with a zero-length packet behind it where asked for.
    pub(super) fn submit_out_raw(&self, bytes: Vec<u8>, then_zero: bool) {
        let mut state = self.state();
        if !state.gone {
            state.push_out(Out { bytes, then_zero, is_tail: false });
        }
    }

    /// Whether the oldest OUT transfer has completed; it is forgotten then. `false` once the device is gone.
    pub(super) fn poll_out_raw(&self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        if state.out_done > 0 {
            state.out_done -= 1;
            return Poll::Ready(true);
        }
        if state.gone {
            return Poll::Ready(false);
        }
        state.host_out = Some(context.waker().clone());
        Poll::Pending
    }

    /// Queues an IN transfer of any size.
    pub(super) fn submit_in_raw(&self, bytes_max: usize) {
        let mut state = self.state();
        if !state.gone {
            state.in_wanted.push_back(bytes_max);
            state.pump(self.packet_bytes);
        }
    }

    /// The end of the oldest IN transfer; `None` once the device is gone and nothing completed is left.
    pub(super) fn poll_in_raw(&self, context: &mut Context<'_>) -> Poll<Option<InDone>> {
        let mut state = self.state();
        if let Some(done) = state.in_done.pop_front() {
            return Poll::Ready(Some(done));
        }
        if state.gone {
            return Poll::Ready(None);
        }
        state.host_in = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes the OUT transfer back that is `position`-th among those whose end was not collected; `false` when the
    /// device has it.
    pub(super) fn cancel_out(&self, position: usize) -> bool {
        let mut state = self.state();
        let Some(position) = position.checked_sub(state.out_done) else { return false };
        let tail = usize::from(state.out.front().is_some_and(|out| out.is_tail));
        state.out.remove(position + tail).is_some()
    }

    /// Takes the IN transfer back that is `position`-th among those whose end was not collected; `false` when it has
    /// completed. What had arrived for it is lost, as on real hardware.
    pub(super) fn cancel_in(&self, position: usize) -> bool {
        let mut state = self.state();
        let Some(position) = position.checked_sub(state.in_done.len()) else { return false };
        if position == 0 {
            state.in_filling.clear();
        }
        state.in_wanted.remove(position).is_some()
    }

    // The device's side.

    /// Takes the oldest OUT transfer, which completes it. Pending for ever once the device is disconnected: what
    /// happens then is decided by whoever cut the supply.
    pub(super) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Vec<u8>> {
        let mut state = self.state();
        if let Some(out) = state.out.pop_front() {
            if out.then_zero {
                state.out.push_front(Out { bytes: Vec::new(), then_zero: false, is_tail: true });
            }
            if !out.is_tail {
                state.out_done += 1;
                if let Some(waker) = state.host_out.take() {
                    waker.wake();
                }
            }
            return Poll::Ready(out.bytes);
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
    fn an_in_transfer_of_any_size_takes_whole_packets_and_babbles_at_one_that_does_not_fit() {
        let link = Link::new(512);
        let done = |link: &Link| link.poll_in_raw(&mut context());
        link.submit_in_raw(13);
        link.say(vec![1; 13]);
        assert_eq!(done(&link), Poll::Ready(Some(InDone::Data(vec![1; 13]))));
        link.submit_in_raw(700);
        link.say(vec![2; 1100]);
        assert_eq!(done(&link), Poll::Ready(Some(InDone::Babble(vec![2; 512]))), "the second packet does not fit");
        link.submit_in_raw(600);
        assert_eq!(done(&link), Poll::Ready(Some(InDone::Data(vec![2; 76]))), "the third one was not lost");
        link.submit_in_raw(10);
        link.say(vec![3; 11]);
        assert_eq!(done(&link), Poll::Ready(Some(InDone::Babble(vec![]))));
        assert!(done(&link).is_pending());
    }

    #[test]
    fn transfers_are_cancelled_one_by_one_and_what_has_completed_is_not() {
        let link = Link::new(512);
        for byte in 0..3 {
            link.submit_out_raw(vec![byte; 512], byte == 0);
        }
        assert_eq!(link.poll_take(&mut context()), Poll::Ready(vec![0; 512]));
        assert!(!link.cancel_out(0), "the device has it");
        assert!(link.cancel_out(1));
        assert_eq!(link.poll_take(&mut context()), Poll::Ready(vec![]), "the zero-length packet of the first");
        assert_eq!(link.poll_take(&mut context()), Poll::Ready(vec![2; 512]));
        assert_eq!(link.poll_out_raw(&mut context()), Poll::Ready(true));
        assert_eq!(link.poll_out_raw(&mut context()), Poll::Ready(true));
        assert!(link.poll_out_raw(&mut context()).is_pending(), "a packet that belongs to a transfer ends none");
        (0..3).for_each(|_| link.submit_in_raw(512));
        link.say(vec![7; 5]);
        assert!(!link.cancel_in(0));
        assert!(link.cancel_in(1));
        assert_eq!(link.poll_in_raw(&mut context()), Poll::Ready(Some(InDone::Data(vec![7; 5]))));
        assert!(link.cancel_in(0) && !link.cancel_in(0));
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
