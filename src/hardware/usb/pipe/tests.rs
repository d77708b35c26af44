use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use nusb::transfer::{Completion, TransferError};
use tokio_util::sync::CancellationToken;

use super::super::budget::SHARE_BYTES;
use super::super::fixture::{EDL, Fixture};
use super::super::scan::{Place, enumeration};
use super::*;
use crate::hardware::PipeExt;

/// An endpoint whose transfers end when the test says so.
#[derive(Debug, Clone, Default)]
struct End(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<Buffer>,
    done: VecDeque<Completion>,
    allocated: usize,
    /// The kernel keeps what is cancelled.
    is_stuck: bool,
    halts_cleared: usize,
    waker: Option<Waker>,
}

impl End {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, data: &[u8], status: Result<(), TransferError>) {
        let mut state = self.state();
        let mut buffer = state.pending.pop_front().expect("a transfer is in flight");
        if !data.is_empty() {
            buffer.clear();
            buffer.extend_from_slice(data);
        }
        state.done.push_back(Completion { buffer, actual_len: data.len(), status });
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Driver for End {
    fn allocate(&self, bytes: usize) -> Buffer {
        self.state().allocated += 1;
        Buffer::new(bytes)
    }

    fn submit(&mut self, buffer: Buffer) {
        self.state().pending.push_back(buffer);
    }

    fn pending(&self) -> usize {
        let state = self.state();
        state.pending.len() + state.done.len()
    }

    fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        let mut state = self.state();
        state.waker = Some(context.waker().clone());
        state.done.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn cancel(&mut self) {
        let count = if self.state().is_stuck { 0 } else { self.state().pending.len() };
        (0..count).for_each(|_| self.finish(&[], Err(TransferError::Cancelled)));
    }

    fn wait(&mut self, _: Duration) -> bool {
        self.state().done.pop_front().is_some()
    }

    fn clear_halt(&mut self) {
        self.state().halts_cleared += 1;
    }
}

struct Rig {
    fixture: Fixture,
    budget: Arc<Budget>,
    gone: CancellationToken,
    inward: End,
    outward: End,
    pipe: Pipe<End, End>,
}

fn rig() -> Rig {
    let fixture = Fixture::new();
    fixture.controller("pci0000:00/0000:00:14.0", "pci");
    fixture.root("pci0000:00/0000:00:14.0", 1, "480", 4);
    fixture.plug("1-1", &EDL);
    let sysfs = Arc::new(fixture.sysfs());
    let place =
        Place { name: "1-1".into(), enumeration: enumeration(&sysfs, &fixture.link("1-1")).expect("it is there") };
    let gone = CancellationToken::new();
    let budget = Budget::new(Some(2 * SHARE_BYTES));
    let watch = Watch { sysfs, clock: Clock::real(), present: Present { place, gone: gone.clone() } };
    let (inward, outward) = (End::default(), End::default());
    let share = Share::open(&budget).expect("room");
    let held = Held { interface: None, hold: None };
    let pipe = Pipe::new(inward.clone(), outward.clone(), 512, share, watch, held);
    Rig { fixture, budget, gone, inward, outward, pipe }
}

async fn settle(budget: &Budget) {
    // What closes a pipe runs on a thread of its own.
    for _ in 0..1000 {
        if budget.used() == 0 {
            return;
        }
        Clock::real().sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn transfers_complete_in_order_from_buffers_that_are_used_again() {
    let mut rig = rig();
    let mut into = Vec::new();
    for round in 0..50_u8 {
        (0..4).for_each(|_| rig.pipe.submit_in(16_384).expect("submits"));
        (0..4).for_each(|index| rig.inward.finish(&[round, index], Ok(())));
        for index in 0..4 {
            into.clear();
            assert_eq!(rig.pipe.in_done(&mut into).await, Ok(2));
            assert_eq!(into, [round, index]);
        }
        rig.pipe.submit_out(&[round; 700]).expect("submits");
        rig.pipe.submit_out(&[]).expect("submits");
        assert_eq!(rig.outward.state().pending.iter().map(Buffer::len).collect::<Vec<_>>(), [700, 0]);
        (0..2).for_each(|_| rig.outward.finish(&[], Ok(())));
        assert_eq!(rig.pipe.out_done().await, Ok(()));
        assert_eq!(rig.pipe.out_done().await, Ok(()));
    }
    assert_eq!((rig.inward.state().allocated, rig.outward.state().allocated), (4, 1));
    assert!(matches!(rig.pipe.submit_in(100), Err(HardwareError::Unsupported(_))), "no multiple of a packet");
    let budget = Arc::clone(&rig.budget);
    drop(rig);
    settle(&budget).await;
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_in_any_form_is_gone() {
    for error in [TransferError::Disconnected, TransferError::Fault, TransferError::Stall, TransferError::Cancelled] {
        let mut rig = rig();
        rig.pipe.submit_in(512).expect("submits");
        rig.inward.finish(&[], Err(error));
        rig.fixture.unplug("1-1");
        assert_eq!(rig.pipe.in_done(&mut Vec::new()).await, Err(HardwareError::Gone), "{error:?}");
        assert_eq!(rig.pipe.submit_out(b"x"), Err(HardwareError::Gone));
    }
    let mut rig = rig();
    rig.pipe.submit_in(512).expect("submits");
    rig.pipe.submit_in(512).expect("submits");
    rig.inward.finish(b"last words", Ok(()));
    rig.gone.cancel();
    let mut into = Vec::new();
    assert_eq!(rig.pipe.in_done(&mut into).await, Ok(10), "what had arrived comes first");
    assert_eq!(rig.pipe.in_done(&mut into).await, Err(HardwareError::Gone), "seen by a listing only");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_a_device_that_stays_is_what_it_is() {
    let mut rig = rig();
    rig.pipe.submit_out(b"x").expect("submits");
    rig.outward.finish(&[], Err(TransferError::Stall));
    assert_eq!(rig.pipe.out_pending(), 1, "until it is told");
    assert_eq!(rig.pipe.out_done().await, Err(HardwareError::Stall));
    assert_eq!(rig.pipe.out_pending(), 0);
    rig.pipe.submit_out(b"x").expect("submits");
    rig.outward.finish(&[], Err(TransferError::Unknown(12)));
    let error = rig.pipe.out_done().await.expect_err("no memory");
    assert!(error.to_string().contains("usbfs_memory_mb"), "{error}");
    let (outward, budget) = (rig.outward.clone(), Arc::clone(&rig.budget));
    drop(rig);
    settle(&budget).await;
    assert_eq!(outward.state().halts_cleared, 1, "the next one finds it usable");
}

#[tokio::test(start_paused = true)]
async fn what_was_cancelled_is_never_taken_for_the_next() {
    let mut rig = rig();
    rig.pipe.submit_in(512).expect("submits");
    rig.inward.finish(b"stale", Ok(()));
    rig.pipe.submit_in(512).expect("submits");
    rig.pipe.cancel();
    assert_eq!(rig.pipe.in_pending(), 0);
    rig.pipe.submit_in(512).expect("submits");
    rig.inward.finish(b"fresh", Ok(()));
    let mut into = Vec::new();
    assert_eq!(rig.pipe.in_done(&mut into).await, Ok(5));
    assert_eq!(into, b"fresh");
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_that_never_ends_gives_the_handle_up() {
    let mut rig = rig();
    rig.inward.state().is_stuck = true;
    rig.pipe.submit_in(512).expect("submits");
    rig.pipe.cancel();
    rig.pipe.submit_in(512).expect("submits");
    let mut into = Vec::new();
    let error = poll_fn(|context| rig.pipe.poll_in(context, &mut into)).await.expect_err("it is given up");
    assert!(matches!(error, HardwareError::Failed(_)), "{error}");
    assert_eq!(rig.pipe.submit_out(b"x"), Err(error));
}

#[tokio::test]
async fn more_than_the_kernel_lends_is_refused() {
    let mut rig = rig();
    let error = rig.pipe.submit_out(&vec![0; 1024 * 1024]).expect_err("too much");
    assert!(error.to_string().contains("usbfs_memory_mb"), "{error}");
    rig.pipe.submit_out(&[0; 16_384]).expect("its own share is its own");
}
