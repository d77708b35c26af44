//! The player: a bus and a supply made from a trace.
//!
//! What the trace says of the module is given out in order, each thing once the controller has done everything that it
//! had done before it, and as long after that as it took then. So a controller that is faster or slower than the one
//! that was recorded meets the same module.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::difference::{Difference, Direction, compare_bytes, describe, describe_pieces};
use super::error::TraceError;
use super::format::{Event, Plugged};
use super::piece::{Piece, Tag, stand_in};
use super::play_pipe::{PlayedPipe, PlayedPort};
use super::read::Trace;
use super::script::Script;
use crate::domain::{PortChain, limits};
use crate::hardware::{AtPort, BoxFuture, BulkPipe, Bus, DeviceKey, HardwareError, HubRecord, Listing, SlotPower};
use crate::host::Clock;
use crate::protocol::content::{Kind, Span};

/// How much too early something may be given out, in real time: timers have milliseconds, and being late adds up.
const TOLERANCE: Duration = Duration::from_millis(1);
/// The lengths that pages of storage have.
const PAGE_BYTES: [usize; 2] = [2048, 4096];

#[derive(Debug)]
pub(super) struct State {
    script: Script,
    /// How many acts the controller has done.
    done: usize,
    /// By how many microseconds the replay is later than the trace.
    shift: i128,
    slot: Vec<PortChain>,
    listing: Listing,
    hubs: BTreeMap<PortChain, HubRecord>,
    /// What the controller has sent of what the trace reads back.
    sent: BTreeMap<Tag, Vec<u8>>,
    stood_in: bool,
    /// Pages that were given to the controller with something in them that stood in, by their own digest: what they stand
    /// for, where one content was a whole page. A restore sends them back.
    given: BTreeMap<Tag, Option<Tag>>,
}

/// What the bus, the supply and open conversations share.
#[derive(Debug)]
pub(super) struct Stage {
    trace: Arc<Trace>,
    pub(super) clock: Clock,
    state: Mutex<State>,
    /// Counts acts: whoever waits for one looks again.
    acts: watch::Sender<u64>,
    hints: watch::Sender<u64>,
    difference: watch::Sender<Option<Difference>>,
}

/// Plays a trace.
#[derive(Debug)]
pub struct Player {
    stage: Arc<Stage>,
    _plugging: AbortOnDropHandle<()>,
}

impl Player {
    /// Begins to play; the trace's first line is now. Must be called inside a runtime.
    ///
    /// # Errors
    /// [`TraceError::Place`] for a line that cannot be where it is; [`TraceError::Payload`].
    pub fn start(trace: Arc<Trace>, clock: Clock) -> Result<Self, TraceError> {
        let script = Script::new(&trace.lines)?;
        check_payloads(&trace)?;
        let shift = i128::try_from(clock.now().as_micros()).unwrap_or(i128::MAX);
        let state = State {
            script,
            done: 0,
            shift,
            slot: Vec::new(),
            listing: Listing::default(),
            hubs: BTreeMap::new(),
            sent: BTreeMap::new(),
            stood_in: false,
            given: BTreeMap::new(),
        };
        let stage = Arc::new(Stage {
            trace,
            clock,
            state: Mutex::new(state),
            acts: watch::Sender::new(0),
            hints: watch::Sender::new(0),
            difference: watch::Sender::new(None),
        });
        let plugging = tokio::spawn(plug(Arc::clone(&stage)));
        Ok(Self { stage, _plugging: AbortOnDropHandle::new(plugging) })
    }

    /// The bus for the controller.
    #[must_use]
    pub fn bus(&self) -> Arc<dyn Bus> {
        Arc::new(PlayedBus { stage: Arc::clone(&self.stage) })
    }

    /// The supply for the controller.
    #[must_use]
    pub fn power(&self) -> Arc<dyn SlotPower> {
        Arc::new(PlayedPower { stage: Arc::clone(&self.stage) })
    }

    /// The first difference, once there is one.
    #[must_use]
    pub fn difference(&self) -> watch::Receiver<Option<Difference>> {
        self.stage.difference.subscribe()
    }

    /// The next thing that the controller had done when the trace was recorded, as something that it does not do now.
    #[must_use]
    pub fn missing(&self) -> Option<Difference> {
        let index = {
            let state = self.stage.lock();
            *state.script.acts.get(state.done)?
        };
        Some(self.stage.differ(index, "nothing any more".to_owned()))
    }

    /// Waits until the controller has done what comes before a line of the trace, and the line's time has come.
    pub async fn due(&self, index: usize) {
        self.stage.due(index).await;
    }

    /// Whether anything stood in for content that is not known.
    #[must_use]
    pub fn stood_in(&self) -> bool {
        self.stage.lock().stood_in
    }
}

/// Every payload that a line speaks of must be the one beside the trace.
fn check_payloads(trace: &Trace) -> Result<(), TraceError> {
    let Some(payloads) = &trace.payloads else { return Ok(()) };
    for (index, line) in trace.lines.iter().enumerate() {
        let Event::In { pieces, payload: Some(number), .. } = &line.event else { continue };
        let found = payloads.get(*number).unwrap_or_default();
        let mut rest = found.as_slice();
        let mut fits = true;
        for piece in pieces.iter().filter(|piece| piece.is_hidden()) {
            let Some((here, after)) = rest.split_at_checked(piece.bytes()) else {
                fits = false;
                break;
            };
            fits &= !matches!(piece, Piece::Content(_, _, tag) if Tag::of(here) != *tag);
            rest = after;
        }
        if !fits || !rest.is_empty() {
            return Err(TraceError::Payload { path: trace.payloads_path.clone(), number: *number, line: index + 1 });
        }
    }
    Ok(())
}

/// Plugs in and out what the trace says.
async fn plug(stage: Arc<Stage>) {
    loop {
        let Some(index) = stage.lock().script.plugged.pop_front() else { return };
        stage.due(index).await;
        stage.plugged(index);
    }
}

impl Stage {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn event(&self, index: usize) -> Option<&Event> {
        self.trace.lines.get(index).map(|line| &line.event)
    }

    /// When a line is due, in station time; `None` while the controller has not done what comes before it.
    fn target(&self, index: usize) -> Option<Duration> {
        let state = self.lock();
        if *state.script.after.get(index)? > state.done {
            return None;
        }
        let micros = i128::from(self.trace.lines.get(index)?.micros) + state.shift;
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or_default()))
    }

    /// Waits until a line is due.
    pub(super) async fn due(&self, index: usize) {
        let mut acts = self.acts.subscribe();
        let tolerance = TOLERANCE * self.clock.scale();
        loop {
            acts.borrow_and_update();
            match self.target(index) {
                Some(target) if self.clock.now() + tolerance >= target => return,
                Some(target) => tokio::select! {
                    biased;
                    _ = acts.changed() => {}
                    () = self.clock.sleep_until(target) => {}
                },
                // The stage outlives its waiters, so there always is another change to come.
                None => _ = acts.changed().await,
            }
        }
    }

    /// The next line of a conversation that brings bytes.
    pub(super) fn next_in(&self, c: u32) -> Option<usize> {
        self.lock().script.conversations.get(&c)?.ins.front().copied()
    }

    /// The next line of a conversation that completes a transfer.
    pub(super) fn next_taken(&self, c: u32) -> Option<usize> {
        self.lock().script.conversations.get(&c)?.taken.front().copied()
    }

    pub(super) fn pop_in(&self, c: u32) {
        if let Some(conversation) = self.lock().script.conversations.get_mut(&c) {
            conversation.ins.pop_front();
        }
    }

    pub(super) fn pop_taken(&self, c: u32) {
        if let Some(conversation) = self.lock().script.conversations.get_mut(&c) {
            conversation.taken.pop_front();
        }
    }

    fn plugged(&self, index: usize) {
        let (chains, plugged) = match self.event(index) {
            Some(Event::Slot { chains, plugged, .. }) => (Some(chains.clone()), plugged.clone()),
            Some(Event::Plugged(plugged)) => (None, plugged.clone()),
            _ => return,
        };
        {
            let mut state = self.lock();
            if let Some(chains) = chains {
                state.slot = chains;
            }
            state.plug(&plugged);
        }
        self.hints.send_modify(|hint| *hint += 1);
    }

    /// The line of the trace that the controller's next act is compared with, once it is done.
    fn act(&self) -> Option<usize> {
        let state = self.lock();
        state.script.acts.get(state.done).copied()
    }

    /// The controller has done what the line says.
    fn did(&self, index: usize) {
        {
            let mut state = self.lock();
            state.done += 1;
            let now = i128::try_from(self.clock.now().as_micros()).unwrap_or(i128::MAX);
            let then = self.trace.lines.get(index).map_or(0, |line| i128::from(line.micros));
            state.shift = now - then;
        }
        self.acts.send_modify(|acts| *acts += 1);
    }

    fn differ(&self, index: usize, got: String) -> Difference {
        let (direction, expected) = match self.event(index) {
            Some(Event::Open { chain, interface, bulk, .. }) => (Direction::Act, open_words(chain, *interface, *bulk)),
            Some(Event::Out { pieces, .. }) => (Direction::ToModule, describe_pieces(pieces)),
            Some(Event::Power { on, .. }) => (Direction::Act, power_words(*on).to_owned()),
            _ => (Direction::Act, "the end".to_owned()),
        };
        Difference { line: index + 1, phase: None, direction, offset: None, expected, got }
    }

    /// Notes a difference, if it is the first one.
    fn report(&self, difference: Difference) {
        self.difference.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(difference);
            }
            is_first
        });
    }

    /// The controller does something else than what is due.
    fn report_other(&self, act: Option<usize>, got: String) {
        let last = self.trace.lines.len().saturating_sub(1);
        self.report(self.differ(act.unwrap_or(last), got));
    }

    /// The controller opens an interface; gives the conversation.
    async fn open(&self, device: &DeviceKey, interface: u8, bulk: bool) -> Result<(u32, u32), HardwareError> {
        let act = self.act();
        let begun = match act.and_then(|index| self.event(index).map(|event| (index, event))) {
            Some((index, Event::Open { c, chain, session, interface: number, bulk: is_bulk }))
                if *chain == device.chain && *session == device.session && *number == interface && *is_bulk == bulk =>
            {
                Some((index, *c))
            }
            _ => None,
        };
        let Some((index, c)) = begun else {
            self.report_other(act, open_words(&device.chain, interface, bulk));
            return Err(HardwareError::Gone);
        };
        self.did(index);
        let opened = self.lock().script.conversations.get(&c).and_then(|conversation| conversation.opened);
        let Some(opened) = opened else { return std::future::pending().await };
        self.due(opened).await;
        match self.event(opened) {
            Some(Event::Opened { error: Some(fault), .. }) => Err(fault.into()),
            Some(Event::Opened { packet_bytes, .. }) => Ok((c, *packet_bytes)),
            _ => Err(HardwareError::Gone),
        }
    }

    /// The controller sends something.
    pub(super) fn sends(&self, c: u32, bytes: &[u8]) -> Result<(), HardwareError> {
        let act = self.act();
        let due = act.and_then(|index| self.event(index).map(|event| (index, event)));
        let Some((index, Event::Out { pieces, error, .. })) =
            due.filter(|(_, event)| matches!(event, Event::Out { c: other, .. } if *other == c))
        else {
            self.report_other(act, describe(bytes));
            return Err(HardwareError::Gone);
        };
        if let Some((offset, expected, got)) = compare_bytes(pieces, bytes, |page, tag| self.stands_for(page, tag)) {
            let difference = Difference {
                line: index + 1,
                phase: None,
                direction: Direction::ToModule,
                offset: Some(offset),
                expected,
                got,
            };
            self.report(difference);
            return Err(HardwareError::Gone);
        }
        self.did(index);
        error.as_ref().map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Whether bytes that the controller sends are a page that it was given, with what stood in for that content.
    fn stands_for(&self, page: &[u8], tag: Tag) -> bool {
        match self.lock().given.get(&Tag::of(page)) {
            Some(Some(stood_for)) => *stood_for == tag,
            Some(None) => true,
            None => false,
        }
    }

    /// Remembers the pages of a transfer in which something stood in; `stand_ins` are those places, with what they stand
    /// for.
    fn remember_given(&self, stand_ins: &[(Range<usize>, Tag)], bytes: &[u8]) {
        let mut state = self.lock();
        for (place, tag) in stand_ins {
            for page_bytes in PAGE_BYTES {
                let from = place.start - place.start % page_bytes;
                let Some(page) = bytes.get(from..from + page_bytes) else { continue };
                if state.given.len() >= limits::TRACE_GIVEN_PAGES_MAX {
                    return;
                }
                let is_whole = *place == (from..from + page_bytes);
                state.given.insert(Tag::of(page), is_whole.then_some(*tag));
            }
        }
    }

    /// Keeps what the trace reads back of what was sent.
    pub(super) fn keep(&self, bytes: &[u8], spans: &[Span]) {
        let mut state = self.lock();
        if state.script.stretches.is_empty() {
            return;
        }
        let mut rest = bytes;
        for span in spans {
            let (here, after) = rest.split_at(span.bytes.min(rest.len()));
            rest = after;
            let Kind::Content { page_offset } = span.kind else { continue };
            let end = page_offset.saturating_add(u32::try_from(here.len()).unwrap_or(u32::MAX));
            let mut kept = Vec::new();
            for ((offset, length), tags) in &state.script.stretches {
                if *offset < page_offset || offset.saturating_add(*length) > end {
                    continue;
                }
                let from = (offset - page_offset) as usize;
                let stretch = &here[from..from + *length as usize];
                let tag = Tag::of(stretch);
                if tags.contains(&tag) {
                    kept.push((tag, stretch.to_vec()));
                }
            }
            for (tag, stretch) in kept {
                state.sent.entry(tag).or_insert(stretch);
            }
        }
    }

    /// The bytes that a line brings.
    pub(super) fn bytes(&self, pieces: &[Piece], payload: Option<u64>) -> Vec<u8> {
        let hidden = payload.and_then(|number| self.trace.payloads.as_ref()?.get(number));
        let mut hidden = hidden.as_deref();
        let mut out = Vec::new();
        let mut stand_ins = Vec::new();
        for piece in pieces {
            if piece.is_hidden()
                && let Some((here, after)) = hidden.and_then(|bytes| bytes.split_at_checked(piece.bytes()))
            {
                out.extend_from_slice(here);
                hidden = Some(after);
                continue;
            }
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Hex(hex) => out.extend_from_slice(&hex.0),
                Piece::Fill(byte, bytes) => out.resize(out.len() + *bytes as usize, *byte),
                Piece::Veiled(digits) => {
                    self.lock().stood_in = true;
                    out.extend_from_slice(digits.as_bytes());
                }
                Piece::Content(_, bytes, tag) => {
                    let mut state = self.lock();
                    match state.sent.get(tag) {
                        Some(sent) => out.extend_from_slice(sent),
                        None => {
                            state.stood_in = true;
                            stand_ins.push((out.len()..out.len() + *bytes as usize, *tag));
                            out.extend_from_slice(&stand_in(*tag, *bytes as usize));
                        }
                    }
                }
            }
        }
        self.remember_given(&stand_ins, &out);
        out
    }
}

impl State {
    fn plug(&mut self, plugged: &Plugged) {
        let slot = &self.slot;
        self.hubs.retain(|hub, _| !slot.iter().any(|chain| chain.is_at_or_behind(hub)));
        self.hubs.extend(plugged.hubs.iter().map(|hub| (hub.chain.clone(), hub.into())));
        self.listing.hubs = self.hubs.values().cloned().collect();
        self.listing.devices = plugged.devices.iter().map(Into::into).collect();
        self.listing.devices.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

fn open_words(chain: &PortChain, interface: u8, bulk: bool) -> String {
    let what = if bulk { "the bulk endpoints" } else { "the serial port" };
    format!("it opens {what} of interface {interface} at {chain}")
}

const fn power_words(on: bool) -> &'static str {
    if on { "it switches the supply on" } else { "it switches the supply off" }
}

#[derive(Debug)]
struct PlayedBus {
    stage: Arc<Stage>,
}

impl Bus for PlayedBus {
    fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
        Box::pin(async { Ok(self.stage.lock().listing.clone()) })
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.stage.hints.subscribe()
    }

    fn open_bulk<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
        Box::pin(async move {
            let (c, packet_bytes) = self.stage.open(device, interface, true).await?;
            Ok(Box::new(PlayedPipe::new(Arc::clone(&self.stage), c, packet_bytes)) as Box<dyn BulkPipe>)
        })
    }

    fn open_port<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
        Box::pin(async move {
            let (c, _) = self.stage.open(device, interface, false).await?;
            Ok(Box::new(PlayedPort::new(Arc::clone(&self.stage), c)) as Box<dyn AtPort>)
        })
    }
}

#[derive(Debug)]
struct PlayedPower {
    stage: Arc<Stage>,
}

impl SlotPower for PlayedPower {
    fn can_switch(&self, chains: &[PortChain]) -> bool {
        let is_here = |event: &Event| match event {
            Event::Slot { chains: here, switchable, .. } => *switchable && here.iter().any(|at| chains.contains(at)),
            _ => false,
        };
        self.stage.trace.lines.iter().any(|line| is_here(&line.event))
    }

    fn set<'a>(&'a self, _: &'a [PortChain], on: bool) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async move {
            if on {
                return Ok(());
            }
            let act = self.stage.act();
            match act.and_then(|index| self.stage.event(index).map(|event| (index, event))) {
                Some((index, Event::Power { on: false, error })) => {
                    self.stage.did(index);
                    error.as_ref().map_or(Ok(()), |fault| Err(fault.into()))
                }
                _ => {
                    self.stage.report_other(act, power_words(on).to_owned());
                    Err(HardwareError::Gone)
                }
            }
        })
    }
}
