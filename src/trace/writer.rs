//! The writer: sorts the events of slots into the files of runs.
//!
//! Which run a slot's events belong to is known only once the run's first fact is durable, and for an interrupted run
//! only once its chip was read again. Until then a slot's events wait, from the moment at which its module appeared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::format::{Event, FORMAT, Header, Plugged};
use super::recorder::{Shared, Time};
use super::run_file::RunFile;
use crate::domain::{BatchId, Fact, FailureCode, RunId, SlotName, limits};
use crate::hardware::{DeviceMode, DeviceRecord};
use crate::host::Disk;

/// Where the writer works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In a task of the runtime, which then blocks on the disk: for a disk in memory and virtual time.
    Inline,
    /// On a thread of its own.
    Thread,
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Message {
    Event { slot: usize, time: Time, event: Event, hidden: Vec<u8> },
    Fact { time: Time, fact: Box<Fact> },
    Finish(oneshot::Sender<()>),
}

/// Starts the writer.
pub(super) fn start(
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    mut receiver: mpsc::Receiver<Message>,
    mode: Mode,
) -> std::io::Result<()> {
    let slots = shared.setup.slots.iter().map(|_| SlotState::default()).collect();
    let mut writer = Writer { shared, disk, slots, runs: BTreeMap::new() };
    match mode {
        Mode::Inline => {
            tokio::spawn(async move {
                while let Some(message) = receiver.recv().await {
                    if writer.take(message) {
                        return;
                    }
                }
            });
        }
        Mode::Thread => {
            let work = move || {
                while let Some(message) = receiver.blocking_recv() {
                    if writer.take(message) {
                        return;
                    }
                }
            };
            std::thread::Builder::new().name("trace".to_owned()).spawn(work)?;
        }
    }
    Ok(())
}

/// An event that waits.
#[derive(Debug)]
struct Waiting {
    time: Duration,
    event: Event,
    hidden: Vec<u8>,
}

#[derive(Debug, Default)]
struct SlotState {
    /// The run whose file gets the slot's events.
    run: Option<RunId>,
    /// The interrupted run that `pending` goes on with, should it be resumed here.
    continues: Option<RunId>,
    pending: Vec<Waiting>,
    pending_bytes: usize,
    /// Where in `pending` the present module appeared, and what was plugged in then.
    appeared: Option<(usize, Plugged)>,
    /// Whether anything was opened since.
    acted: bool,
    plugged: Plugged,
    absent_since: Duration,
}

impl SlotState {
    fn wait(&mut self, time: Duration, event: Event, hidden: Vec<u8>) {
        let pieces = match &event {
            Event::Out { pieces, .. } | Event::In { pieces, .. } => pieces.as_slice(),
            _ => &[],
        };
        let bytes = 128 + hidden.len() + pieces.iter().map(super::Piece::line_bytes).sum::<usize>();
        self.pending_bytes += bytes;
        if self.pending_bytes <= limits::TRACE_PENDING_BYTES {
            self.pending.push(Waiting { time, event, hidden });
        } else if let Some(Waiting { event: Event::Gap { lines }, .. }) = self.pending.last_mut() {
            *lines += 1;
        } else {
            self.pending.push(Waiting { time, event: Event::Gap { lines: 1 }, hidden: Vec::new() });
        }
    }

    /// Forgets what waits; what is plugged in now is where the next run begins.
    fn begin(&mut self) {
        self.pending.clear();
        self.pending_bytes = 0;
        self.acted = false;
        self.continues = None;
        self.appeared = (!self.plugged.devices.is_empty()).then(|| (0, self.plugged.clone()));
    }
}

#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    slots: Vec<SlotState>,
    runs: BTreeMap<RunId, RunFile>,
}

impl Writer {
    /// Takes a message; `true` after the last one.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Event { slot, time, event, hidden } => {
                self.shared.queued.fetch_sub(hidden.len(), Ordering::Relaxed);
                self.event(slot, time, event, hidden);
                self.note_lost(slot, time);
            }
            Message::Fact { time, fact } => self.fact(time, fact),
            Message::Finish(done) => {
                self.end();
                // Whoever asked may have been cancelled.
                let _ = done.send(());
                return true;
            }
        }
        false
    }

    /// Ends the traces of all runs that are not finished.
    fn end(&mut self) {
        let time = self.shared.clock.now();
        (0..self.slots.len()).for_each(|slot| self.note_lost(slot, time));
        std::mem::take(&mut self.runs).into_values().for_each(|file| file.end(time, None));
    }

    fn note_lost(&mut self, slot: usize, time: Duration) {
        let state = &self.slots[slot];
        if state.run.is_none() && state.appeared.is_none() && state.continues.is_none() {
            // What was lost may be of the run that has still to appear here.
            return;
        }
        let lines = self.shared.lost[slot].swap(0, Ordering::Relaxed);
        if lines > 0 {
            self.route(slot, time, Event::Gap { lines }, Vec::new());
        }
    }

    fn event(&mut self, slot: usize, time: Duration, event: Event, hidden: Vec<u8>) {
        let state = &mut self.slots[slot];
        match &event {
            Event::Open { .. } => state.acted = true,
            Event::Plugged(now) => {
                let (was, is) = (!state.plugged.devices.is_empty(), !now.devices.is_empty());
                state.plugged = now.clone();
                if was && !is {
                    state.absent_since = time;
                }
                let away = time.saturating_sub(state.absent_since);
                let is_other = !state.acted || away >= limits::TRACE_ABSENCE_MAX;
                if !was && is && state.run.is_none() {
                    if state.continues.is_some() {
                        state.appeared = Some((state.pending.len(), now.clone()));
                        state.acted = false;
                    } else if is_other || state.appeared.is_none() {
                        state.begin();
                        state.wait(time, event, hidden);
                        return;
                    }
                }
            }
            _ => {}
        }
        self.route(slot, time, event, hidden);
    }

    fn route(&mut self, slot: usize, time: Duration, event: Event, hidden: Vec<u8>) {
        let state = &mut self.slots[slot];
        match state.run {
            Some(run) => {
                if let Some(file) = self.runs.get_mut(&run) {
                    file.event(time, event, &hidden);
                }
            }
            None if state.appeared.is_some() || state.continues.is_some() => state.wait(time, event, hidden),
            // Nothing has been plugged in yet.
            None => {}
        }
    }

    fn fact(&mut self, time: Duration, fact: Box<Fact>) {
        let Some(run) = fact.run() else { return };
        // It decides how the run with the older claim ends.
        if let Fact::ClaimRefused { holder, code: FailureCode::ImeiDuplicate, .. } = fact.as_ref()
            && *holder != run
            && let Some(file) = self.runs.get_mut(holder)
        {
            file.event(time, Event::Elsewhere(fact.clone()), &[]);
        }
        match fact.as_ref() {
            Fact::RunStarted { slot, batch, .. } => self.attach(time, run, slot, batch, false),
            Fact::RunResumed { slot, batch, .. } => self.attach(time, run, slot, batch, true),
            _ => {}
        }
        let ended = match fact.as_ref() {
            Fact::RunFinished(record) => Some(record.outcome),
            _ => None,
        };
        let interrupted = matches!(fact.as_ref(), Fact::RunInterrupted { .. });
        if let Some(file) = self.runs.get_mut(&run) {
            file.fact(time, fact);
        }
        if interrupted || ended.is_some() {
            for state in self.slots.iter_mut().filter(|state| state.run == Some(run)) {
                state.run = None;
                state.begin();
                state.continues = interrupted.then_some(run);
            }
        }
        if let Some(outcome) = ended
            && let Some(file) = self.runs.remove(&run)
        {
            file.end(time, Some(outcome));
        }
    }

    /// From here on the events of a slot, and those that wait, belong to a run.
    fn attach(&mut self, time: Duration, run: RunId, slot: &SlotName, batch: &BatchId, resumed: bool) {
        let Some(index) = self.shared.setup.slots.iter().position(|known| known.name == *slot) else { return };
        for (other, state) in self.slots.iter_mut().enumerate() {
            if other != index && (state.run == Some(run) || state.continues == Some(run)) {
                state.run = None;
                state.begin();
            }
        }
        let state = &mut self.slots[index];
        let goes_on = state.continues == Some(run);
        let mut pending = std::mem::take(&mut state.pending);
        if !goes_on {
            let (from, plugged) = state.appeared.take().unwrap_or_else(|| (pending.len(), state.plugged.clone()));
            pending.drain(..from.min(pending.len()));
            let first = pending.first().map_or(time, |first| first.time);
            let traced = &self.shared.setup.slots[index];
            let event = Event::Slot {
                slot: traced.name.clone(),
                chains: traced.chains.clone(),
                switchable: self.shared.switchable[index],
                plugged,
            };
            let place = Waiting { time: first, event, hidden: Vec::new() };
            // The listing with which the module appeared is in it.
            match pending.first_mut() {
                Some(first) if matches!(first.event, Event::Plugged(_)) => *first = place,
                _ => pending.insert(0, place),
            }
        }
        let origin = pending.first().map_or(time, |first| first.time);
        if !self.runs.contains_key(&run) {
            let header = self.header(index, run, batch, resumed);
            let setup = &self.shared.setup;
            match RunFile::create(self.disk.as_ref(), &setup.directory, header, origin, setup.payloads) {
                Ok(file) => _ = self.runs.insert(run, file),
                Err(error) => {
                    tracing::warn!(%error, directory = %setup.directory.display(), "no trace of run {run}");
                    return;
                }
            }
        }
        let state = &mut self.slots[index];
        state.begin();
        state.run = Some(run);
        if let Some(file) = self.runs.get_mut(&run) {
            pending.into_iter().for_each(|waiting| file.event(waiting.time, waiting.event, &waiting.hidden));
        }
    }

    fn header(&self, slot: usize, run: RunId, batch: &BatchId, resumed: bool) -> Header {
        let setup = &self.shared.setup;
        let devices = &self.slots[slot].plugged.devices;
        let family = devices.iter().find_map(|device| match DeviceRecord::from(device).mode() {
            DeviceMode::Normal(family) => Some(family.name.to_owned()),
            _ => None,
        });
        Header {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            run,
            batch: batch.clone(),
            station: setup.station.clone(),
            config: setup.config,
            simulated: setup.simulated,
            seed: setup.seed,
            time_scale: self.shared.clock.scale(),
            profiles: setup.profiles.clone(),
            slot: setup.slots[slot].name.clone(),
            family,
            resumes: resumed,
            wall: self.shared.clock.wall(),
        }
    }
}
