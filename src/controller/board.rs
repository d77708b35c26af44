//! The board: what every slot is doing right now, for displays and gauges.
//!
//! Made of ticks: nothing is decided by it, and a reader that is late only misses steps in between.

use std::sync::Arc;

use tokio::sync::watch;

use crate::domain::{Phase, SlotName, SlotState, SlotStatus};

/// A move of fewer bytes than this is not shown.
const PROGRESS_STEP_BYTES: u64 = 256 * 1024;

/// The station's slots as they are now.
#[derive(Debug)]
pub(crate) struct Board {
    slots: watch::Sender<Arc<Vec<SlotStatus>>>,
}

impl Board {
    pub(crate) fn new(names: impl Iterator<Item = SlotName>) -> Self {
        Self { slots: watch::Sender::new(Arc::new(names.map(SlotStatus::empty).collect())) }
    }

    /// Everything, now and whenever it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Vec<SlotStatus>>> {
        self.slots.subscribe()
    }

    /// Changes one slot.
    pub(crate) fn update(&self, slot: usize, change: impl FnOnce(&mut SlotStatus)) {
        self.slots.send_modify(|slots| {
            if let Some(status) = Arc::make_mut(slots).get_mut(slot) {
                change(status);
                status.version += 1;
            }
        });
    }

    /// A run entered a phase.
    pub(crate) fn phase(&self, slot: usize, phase: Phase) {
        self.update(slot, |status| {
            status.state = SlotState::Running;
            status.phase = Some(phase);
            status.bytes_done = 0;
            status.bytes_total = 0;
            status.bytes_per_second = 0.0;
        });
    }
}

/// Counts the bytes of one phase and shows them in steps.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    board: &'a Board,
    slot: usize,
    clock: crate::host::Clock,
    started: std::time::Duration,
    done: u64,
    shown: u64,
    total: u64,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(board: &'a Board, slot: usize, clock: &crate::host::Clock, total: u64) -> Self {
        let this =
            Self { board, slot, clock: clock.clone(), started: clock.now(), done: 0, shown: 0, total: total.max(1) };
        this.show();
        this
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if self.done - self.shown >= PROGRESS_STEP_BYTES || self.done >= self.total {
            self.shown = self.done;
            self.show();
        }
    }

    fn show(&self) {
        let seconds = self.clock.now().saturating_sub(self.started).as_secs_f64();
        let (done, total) = (self.done, self.total);
        self.board.update(self.slot, |status| {
            status.bytes_done = done.min(total);
            status.bytes_total = total;
            #[expect(clippy::cast_precision_loss, reason = "a rate for displays")]
            let rate = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
            status.bytes_per_second = rate;
        });
    }
}
