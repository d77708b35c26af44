//! One module's task: what it does from power-on until its power is cut.
//!
//! Everything the module keeps in RAM lives in the future of the current power-on, which is dropped when the supply
//! changes: nothing can survive a pulled plug but what was written to flash. Its face on the bus is dropped
//! with it, so every transfer of the host ends at that moment too.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::at_commands::{self, Effect, Memory};
use super::at_port::{self, AtLine, Line};
use super::body::{BusAction, SharedBody, Started};
use super::descriptors::{EDL_INTERFACE, Face};
use super::diag::{self, DiagPort};
use super::faults::{Kind, Sign, Strike};
use super::loader::{self, Loader};
use super::models::Model;
use super::pace::Pace;
use super::sahara::{self, Pbl, Seen};
use super::spec::Pacing;
use super::world::{Attachment, Supply, World};
use crate::domain::{KeyHash, SlotName};
use crate::host::Clock;

/// What an AT command costs.
const AT_TIME: Duration = Duration::from_millis(8);
/// What a DIAG command costs.
const DIAG_TIME: Duration = Duration::from_micros(300);
/// From the answer to `AT+CFUN=1,1`, or to its like over DIAG, to the disappearance.
const RESTART_TIME: Duration = Duration::from_millis(800);
/// How long a looping module stays on the bus.
const LOOP_TIME: Duration = Duration::from_secs(4);
/// The modem port, which speaks AT too.
const MODEM_INTERFACE: u8 = 3;

/// Something that struck outside of the module: what follows from it is the operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Incident {
    pub(super) unit: u32,
    /// Where it was when it was struck.
    pub(super) slot: SlotName,
    pub(super) strike: Strike,
}

/// A module's task.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) unit: u32,
    pub(super) body: SharedBody,
    pub(super) world: Arc<World>,
    pub(super) clock: Clock,
    pub(super) pacing: Pacing,
    pub(super) incidents: mpsc::Sender<Incident>,
}

/// What comes next in a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Boot,
    Edl,
}

impl Module {
    /// Lives as long as the factory knows the module.
    pub(super) async fn run(self, mut supply: watch::Receiver<Supply>) {
        loop {
            let powered = supply.borrow_and_update().slot.is_some();
            if !powered {
                if supply.changed().await.is_err() {
                    return;
                }
                continue;
            }
            tokio::select! {
                biased;
                changed = supply.changed() => match changed {
                    Ok(()) => self.body.lock().lose_power(),
                    Err(_) => return,
                },
                () = Box::pin(self.live()) => return,
            }
        }
    }

    async fn live(&self) {
        let mut pace = Pace::new(self.clock.clone(), self.pacing);
        let mut next = Next::Boot;
        loop {
            next = match next {
                Next::Boot => self.boot(&mut pace).await,
                Next::Edl => self.edl(&mut pace).await,
            };
        }
    }

    /// A plug that is pulled is out at once: the host gets no answer to what it was pulled on, on any machine.
    fn strike(&self, attachment: &Attachment, strike: Strike) {
        if strike == Strike::Panic {
            attachment.links().values().for_each(|link| link.plant_panic());
            return;
        }
        let Some(slot) = self.world.slot_of(self.unit) else { return };
        // The queue is as long as there are faults; a full one means that the operator is gone.
        let _ = self.incidents.try_send(Incident { unit: self.unit, slot: slot.clone(), strike });
        let struck = match (strike, self.world.hub_of(&slot)) {
            (Strike::HubLost, Some(hub)) => self.world.set_hub(&hub, false),
            (Strike::HubLost | Strike::Panic, _) => Ok(()),
            (Strike::Unplug | Strike::Swap, _) => self.world.unplug(&slot).map(drop),
        };
        if let Err(error) = struck {
            tracing::error!(%error, %slot, "the simulated line cannot do what was planted");
        }
    }

    fn observe(&self, attachment: &Attachment, sign: Sign) {
        let strikes = self.body.lock().faults.observe(sign);
        strikes.into_iter().for_each(|strike| self.strike(attachment, strike));
    }

    async fn boot(&self, pace: &mut Pace) -> Next {
        let (started, delay, model, chip) = {
            let mut body = self.body.lock();
            let started = body.start(self.clock.now());
            (started, body.boot_time(), body.model(), body.chip())
        };
        match started {
            Started::Edl => Next::Edl,
            Started::Dump => {
                pace.work(model.timing.edl_enumeration).await;
                let attachment = self.world.attach(self.unit, Face::dump(model, chip));
                match attachment.link(EDL_INTERFACE) {
                    Some(link) => sahara::serve_dump(link).await,
                    None => std::future::pending().await,
                }
                Next::Boot
            }
            Started::Half => {
                pace.work(delay).await;
                let _attachment = self.world.attach(self.unit, Face::half(model, chip));
                std::future::pending().await
            }
            Started::Mute => {
                pace.work(delay).await;
                let _attachment = self.world.attach(self.unit, Face::normal(model, chip));
                std::future::pending().await
            }
            Started::Loop => {
                pace.work(delay).await;
                let attachment = self.world.attach(self.unit, Face::normal(model, chip));
                pace.work(LOOP_TIME).await;
                drop(attachment);
                Next::Boot
            }
            Started::Normal => {
                pace.work(delay).await;
                self.normal(model, pace).await
            }
        }
    }

    async fn normal(&self, model: &'static Model, pace: &mut Pace) -> Next {
        let chip = self.body.lock().chip();
        let attachment = self.world.attach(self.unit, Face::normal(model, chip));
        let mut desk = Desk::new(model, self.clock.now(), self.pacing);
        loop {
            let due = desk.due();
            let journal_due = self.body.lock().journal_due();
            tokio::select! {
                biased;
                () = self.clock.sleep_until(journal_due.unwrap_or_default()), if journal_due.is_some() => {
                    self.body.lock().settle_journal(self.clock.now());
                }
                (interface, bytes) = any_transfer(&attachment) => {
                    if let Some(next) = self.take(&mut desk, &attachment, pace, interface, &bytes).await {
                        return next;
                    }
                }
                () = self.clock.sleep_until(due.unwrap_or_default()), if due.is_some() => {
                    self.announce(&mut desk, &attachment);
                }
            }
        }
    }

    /// Says an unsolicited line that is due.
    fn announce(&self, desk: &mut Desk, attachment: &Attachment) {
        let Some((_, line)) = desk.unsolicited.pop_front() else { return };
        let line = line.replace("{cfun}", &self.body.lock().cfun().to_string());
        if let Some(link) = attachment.link(desk.model.at_interface) {
            link.say(at_port::unsolicited(&line));
        }
    }

    async fn take(
        &self,
        desk: &mut Desk,
        attachment: &Attachment,
        pace: &mut Pace,
        interface: u8,
        bytes: &[u8],
    ) -> Option<Next> {
        if interface == desk.model.diag_interface {
            for request in desk.diag.take(bytes) {
                if let Some(next) = self.diag(desk, attachment, pace, &request).await {
                    return Some(next);
                }
            }
            return None;
        }
        let port = if interface == desk.model.at_interface {
            &mut desk.at
        } else if interface == MODEM_INTERFACE {
            &mut desk.modem
        } else {
            return None;
        };
        let link = attachment.link(interface)?;
        let (echo, lines) = port.take(bytes);
        if !echo.is_empty() {
            link.say(echo);
        }
        for line in lines {
            self.observe(attachment, Sign::AtCommand);
            pace.work(AT_TIME).await;
            let (text, (reply, effect)) = match line {
                Line::Bad => (String::new(), (at_commands::Reply::error(), Effect::None)),
                Line::Command(text)
                    if self.clock.now() < desk.ready_at && !text.to_ascii_uppercase().starts_with("ATE") =>
                {
                    desk.refused += 1;
                    (text, (at_commands::not_ready(desk.refused), Effect::None))
                }
                Line::Command(text) => {
                    let answer = at_commands::execute(&text, &mut *self.body.lock());
                    (text, answer)
                }
            };
            let noisy = self.body.lock().faults.has(Kind::GarbageAt);
            link.say(if noisy { at_port::noisy_frame(&text, &reply) } else { at_port::frame(&reply) });
            match effect {
                Effect::None => {}
                Effect::Echo(on) => port.set_echo(on),
                Effect::Restart => {
                    pace.work(RESTART_TIME).await;
                    return Some(Next::Boot);
                }
            }
        }
        None
    }

    async fn diag(&self, desk: &mut Desk, attachment: &Attachment, pace: &mut Pace, request: &[u8]) -> Option<Next> {
        let link = attachment.link(desk.model.diag_interface)?;
        pace.work(DIAG_TIME).await;
        let (frames, effect) = {
            let mut body = self.body.lock();
            let now = self.clock.now();
            body.settle_journal(now);
            desk.diag.execute(request, &mut *body, now)
        };
        if effect == diag::Effect::EnterEdl {
            self.observe(attachment, Sign::EdlFrame);
            if self.body.lock().faults.has(Kind::EdlRefused) {
                link.say(DiagPort::refusal());
                return None;
            }
        }
        frames.into_iter().for_each(|frame| link.say(frame));
        match effect {
            diag::Effect::None => None,
            diag::Effect::Restart => {
                pace.work(RESTART_TIME).await;
                Some(Next::Boot)
            }
            diag::Effect::EnterEdl => {
                let delay = {
                    let mut body = self.body.lock();
                    body.note(self.clock.now(), BusAction::EdlSwitch);
                    body.stage.edl_delay.take()
                };
                pace.work(desk.model.timing.diag_to_drop).await;
                if let Some(delay) = delay {
                    attachment.leave();
                    pace.work(delay).await;
                }
                Some(Next::Edl)
            }
        }
    }

    async fn edl(&self, pace: &mut Pace) -> Next {
        let (model, chip, key_hash, by_vendor) = {
            let body = self.body.lock();
            (body.model(), body.chip(), body.key_hash(), body.stage.vendor_edl)
        };
        pace.work(model.timing.edl_enumeration).await;
        let face = if by_vendor { Face::vendor_edl(model, chip) } else { Face::edl(model, chip) };
        let attachment = self.world.attach(self.unit, face);
        let Some(link) = attachment.link(EDL_INTERFACE) else { return std::future::pending().await };
        if self.body.lock().faults.has(Kind::SilentEdl) {
            return std::future::pending().await;
        }
        pace.work(model.timing.hello).await;
        let rom = {
            let mut body = self.body.lock();
            sahara::Rom {
                chip,
                key_bytes: key_bytes(&key_hash),
                wide_reads: body.reads_wide(),
                done_pending: body.says_pending(),
                hello_eaten: body.faults.take(Kind::HelloEaten),
                verdict: body.rom_verdict(),
            }
        };
        let mut observe = |seen| match seen {
            Seen::Hello => self.observe(&attachment, Sign::SaharaPacket),
            Seen::Image => self.observe(&attachment, Sign::SaharaImage),
        };
        let check = |image: &[u8]| self.body.lock().start_programmer(self.clock.now(), image);
        let mut pbl = Pbl { link, attachment: &attachment, pace, rom };
        match pbl.run(&check, &mut observe).await {
            sahara::End::ChipReset => {
                self.observe(&attachment, Sign::Reset);
                pace.work(model.timing.reset).await;
                return Next::Boot;
            }
            sahara::End::Programmer => {}
        }
        let strike = |strike| self.strike(&attachment, strike);
        let end = Loader::new(link, &attachment, pace, self.body.clone(), &strike).run().await;
        match end {
            loader::End::Reset => Next::Boot,
            loader::End::ResetToEdl => Next::Edl,
            loader::End::Off => {
                drop(attachment);
                std::future::pending().await
            }
        }
    }
}

/// The ports of a module in normal mode.
#[derive(Debug)]
struct Desk {
    model: &'static Model,
    at: AtLine,
    modem: AtLine,
    diag: DiagPort,
    ready_at: Duration,
    refused: u32,
    unsolicited: VecDeque<(Duration, &'static str)>,
}

impl Desk {
    fn new(model: &'static Model, now: Duration, pacing: Pacing) -> Self {
        let ready = now + pacing.of(model.timing.ready);
        let ready_at = ready + pacing.of(model.timing.at_ready);
        let second = Duration::from_secs(1);
        Self {
            model,
            at: AtLine::default(),
            modem: AtLine::default(),
            diag: DiagPort::new(pacing),
            ready_at,
            refused: 0,
            unsolicited: VecDeque::from([
                (ready, "RDY"),
                (ready_at, "+CFUN: {cfun}"),
                (ready_at, "+CPIN: NOT INSERTED"),
                (ready_at + second, "+QUSIM: 0"),
                (ready_at + second, "+QIND: SMS DONE"),
                (ready_at + 2 * second, "+QIND: PB DONE"),
            ]),
        }
    }

    fn due(&self) -> Option<Duration> {
        self.unsolicited.front().map(|(due, _)| *due)
    }
}

/// The next transfer on any interface, lowest number first.
async fn any_transfer(attachment: &Attachment) -> (u8, Vec<u8>) {
    poll_fn(|context| {
        for (number, link) in attachment.links() {
            if let Poll::Ready(bytes) = link.poll_take(context) {
                return Poll::Ready((*number, bytes));
            }
        }
        Poll::Pending
    })
    .await
}

/// A key hash's bytes, out of its written form.
fn key_bytes(hash: &KeyHash) -> Vec<u8> {
    let text = hash.to_string();
    (0..text.len()).step_by(2).filter_map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
