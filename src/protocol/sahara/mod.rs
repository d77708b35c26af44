//! Sahara: how a chip in emergency download mode is asked who it is, and how it takes a programmer.
//!
//! A session goes `HELLO`, command mode, three questions, and then stops with [`Step::ChipRead`]: the caller decides,
//! with the chip known, whether a programmer may be sent at all. The questions always come first, because a programmer
//! that runs has already taken over the module, and because the chip is what a unit is recognised by.
//!
//! A device that stays silent, or that is in the middle of somebody else's session, is common on a line (a HELLO is
//! sent only once after plugging in). The recoveries for that are here and counted; the clock that says "silent" is the
//! caller's, who calls [`Sahara::hello_lost`].

mod chip;
mod error;
mod packet;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use chip::{Answers, Query};
use packet::{Mode, Packet};

pub use chip::ChipInfo;
pub use error::{SaharaError, status_words};

use crate::domain::limits;

/// Image ids under which a programmer is asked for: 7 and 21 by older boot loaders, 13 by all others.
const PROGRAMMER_IMAGES: [u64; 3] = [7, 13, 21];
/// How everything that a running programmer sends begins.
const FIREHOSE_START: &[u8] = b"<?xml";

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write this as one transfer.
    Send(Vec<u8>),
    /// Write these bytes of the image, without any header.
    SendImage {
        /// Where they begin, in bytes.
        offset: u64,
        /// How many; never 0, within the image.
        length: u64,
    },
    /// Wait for the device.
    NeedBytes,
    /// The chip is known. Go on with [`Sahara::start_load`] or [`Sahara::reset`].
    ChipRead(ChipInfo),
    /// The device has the whole image and starts it. What it sends from now on is Firehose; what of it has come
    /// already is in [`Sahara::take_rest`].
    Loaded,
    /// The device confirmed the reset, or said hello again.
    ResetDone,
    /// A programmer of an earlier session is running and answered in its own language ([`Sahara::take_rest`]).
    AlreadyFirehose,
    /// The device offers a memory dump: its firmware crashed.
    MemoryDebug,
}

#[derive(Debug)]
enum State {
    /// Waits for HELLO.
    Hello,
    /// Command mode was asked for; waits for CMD_READY.
    Ready,
    /// EXECUTE was sent; waits for EXECUTE_RESP.
    Answer(Query),
    /// EXECUTE_DATA was sent; waits for so many raw bytes.
    Data(Query, usize),
    /// The chip was read; the caller decides.
    ChipRead,
    /// The device reads the image.
    Transfer,
    /// DONE was sent; waits for DONE_RESP.
    Done,
    /// RESET was sent on the caller's behalf; waits for RESET_RESP.
    Reset,
    /// Nothing more will be said here.
    Ended,
    Failed(SaharaError),
}

/// The host's side of one Sahara session. Feed what arrives, take steps until [`Step::NeedBytes`].
#[derive(Debug)]
pub struct Sahara {
    state: State,
    unread: Vec<u8>,
    steps: VecDeque<Step>,
    version: u32,
    answers: Answers,
    /// Length of the image, once a transfer was asked for.
    image_bytes: Option<u64>,
    image_id: Option<u64>,
    reads: u32,
    sent: u64,
    /// The end of the farthest range that the device has read.
    reach: u64,
    recoveries: u32,
    /// A HELLO_RESP was sent without a HELLO, so the device may go on without one.
    unsolicited: bool,
    stale: u32,
}

impl Default for Sahara {
    fn default() -> Self {
        Self::new()
    }
}

impl Sahara {
    /// A session that waits for HELLO and then asks for command mode.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Hello,
            unread: Vec::new(),
            steps: VecDeque::new(),
            version: packet::HOST_VERSION,
            answers: Answers::default(),
            image_bytes: None,
            image_id: None,
            reads: 0,
            sent: 0,
            reach: 0,
            recoveries: 0,
            unsolicited: false,
            stale: 0,
        }
    }

    /// Takes bytes as they arrived; a packet may come in pieces and a transfer may hold several.
    pub fn feed(&mut self, bytes: &[u8]) {
        let room = limits::SAHARA_UNREAD_BYTES_MAX.saturating_sub(self.unread.len());
        if bytes.len() > room {
            self.fail(SaharaError::Flood(self.unread.len().saturating_add(bytes.len())));
        }
        self.unread.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The next thing to do.
    ///
    /// # Errors
    /// When the device broke the protocol or refused; the same error again until [`Sahara::reset`].
    pub fn step(&mut self) -> Result<Step, SaharaError> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Ok(step);
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return Ok(Step::NeedBytes),
                Err(error) => {
                    self.fail(error.clone());
                    return Err(error);
                }
            }
        }
    }

    /// Tells that the device did not say hello in time. Each call makes the next step another recovery: a HELLO_RESP
    /// nobody asked for (the device may still wait for one), one byte (a programmer or a confused boot loader answers
    /// that), RESET. After the last one the session fails with [`SaharaError::NoHello`].
    pub fn hello_lost(&mut self) {
        if !matches!(self.state, State::Hello) {
            return;
        }
        self.recoveries += 1;
        match self.recoveries {
            1 => {
                self.unsolicited = true;
                self.send(packet::hello_response(packet::HOST_VERSION, self.mode()));
            }
            2 => self.send(vec![0]),
            recovery if recovery <= limits::SAHARA_RECOVERIES_MAX => self.send(packet::reset()),
            _ => self.fail(SaharaError::NoHello),
        }
    }

    /// Leaves command mode and lets the device read an image of that many bytes. To be called after
    /// [`Step::ChipRead`]; at any other time the next step is [`SaharaError::NotReady`].
    pub fn start_load(&mut self, image_bytes: u64) {
        if !matches!(self.state, State::ChipRead) {
            self.fail(SaharaError::NotReady);
            return;
        }
        self.image_bytes = Some(image_bytes);
        self.recoveries = 0;
        self.unsolicited = false;
        self.state = State::Hello;
        self.send(packet::switch_mode(Mode::ImageTransfer));
    }

    /// Resets the device, from any state. What it said before is forgotten; [`Step::ResetDone`] comes with its answer,
    /// and the session then waits for HELLO as a new one does.
    pub fn reset(&mut self) {
        *self = Self { state: State::Reset, ..Self::new() };
        self.send(packet::reset());
    }

    /// Bytes of the image handed out in [`Step::SendImage`], repeated reads included.
    #[must_use]
    pub const fn image_bytes_sent(&self) -> u64 {
        self.sent
    }

    /// Whether the device has read the end of the image. Loaders follow the headers of an image and leave gaps out, so
    /// the number of bytes does not tell.
    #[must_use]
    pub fn has_read_to_the_end(&self) -> bool {
        self.image_bytes == Some(self.reach)
    }

    /// What arrived and is not Sahara: after [`Step::Loaded`] and [`Step::AlreadyFirehose`] the first of the
    /// programmer's bytes. They are given away.
    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    fn mode(&self) -> Mode {
        if self.image_bytes.is_some() { Mode::ImageTransfer } else { Mode::Command }
    }

    fn send(&mut self, bytes: Vec<u8>) {
        self.steps.push_back(Step::Send(bytes));
    }

    fn fail(&mut self, error: SaharaError) {
        self.steps.clear();
        self.state = State::Failed(error);
    }

    fn end(&mut self, step: Step) {
        self.state = State::Ended;
        self.steps.push_back(step);
    }

    /// Takes one packet or answer; `false` when more bytes are needed or the caller must decide first.
    fn advance(&mut self) -> Result<bool, SaharaError> {
        match &self.state {
            State::Failed(error) => return Err(error.clone()),
            State::ChipRead | State::Ended => return Ok(false),
            State::Data(query, bytes) => return self.take_answer(*query, *bytes),
            State::Hello | State::Ready | State::Reset if self.unread.starts_with(FIREHOSE_START) => {
                self.end(Step::AlreadyFirehose);
                return Ok(true);
            }
            _ => {}
        }
        let Some((packet, length)) = Packet::decode(&self.unread)? else { return Ok(false) };
        self.unread.drain(..length);
        self.take_packet(packet)?;
        Ok(true)
    }

    fn take_packet(&mut self, packet: Packet) -> Result<(), SaharaError> {
        if packet == Packet::MemoryDebug {
            self.end(Step::MemoryDebug);
            return Ok(());
        }
        match (&self.state, packet) {
            (State::Hello, Packet::Hello { version, compatible, mode }) => self.hello(version, compatible, mode),
            (State::Hello, Packet::CommandReady) if self.unsolicited && self.image_bytes.is_none() => {
                self.ask(Query::Serial);
                Ok(())
            }
            (State::Hello, Packet::ReadData { .. }) if self.unsolicited && self.image_bytes.is_some() => {
                self.state = State::Transfer;
                self.take_packet(packet)
            }
            // The answer to a RESET that was sent as a recovery: a fresh HELLO follows.
            (State::Hello, Packet::ResetResponse) => self.pass_over(packet),
            (State::Hello, _) if self.image_bytes.is_none() => self.recover(packet),
            (State::Ready, Packet::CommandReady) => {
                self.ask(Query::Serial);
                Ok(())
            }
            (State::Answer(query), Packet::ExecuteResponse { command, bytes }) => {
                let (query, expected) = (*query, query.command(self.version));
                if command != expected {
                    return Err(SaharaError::Answer { command: expected, reason: "it is for another command" });
                }
                self.state = State::Data(query, Answers::length(command, bytes)?);
                self.send(packet::execute_data(command));
                Ok(())
            }
            (State::Transfer, Packet::ReadData { image, offset, length }) => self.read(image, offset, length),
            (State::Transfer, Packet::EndOfImage { image, status }) => self.end_of_image(u64::from(image), status),
            (State::Hello | State::Ready | State::Answer(_), Packet::EndOfImage { status, .. }) => {
                Err(SaharaError::CommandFailed { status })
            }
            // Status 0 says that more images are wanted; older chips say it although there is only this one.
            (State::Done, Packet::DoneResponse { status: 0 | 1 }) => {
                self.end(Step::Loaded);
                Ok(())
            }
            (State::Reset, Packet::ResetResponse) => {
                self.state = State::Hello;
                self.steps.push_back(Step::ResetDone);
                Ok(())
            }
            (State::Reset, Packet::Hello { version, compatible, mode }) => {
                self.state = State::Hello;
                self.steps.push_back(Step::ResetDone);
                self.hello(version, compatible, mode)
            }
            (State::Reset, _) => self.pass_over(packet),
            _ => Err(SaharaError::OutOfOrder { packet: packet.name(), wanted: self.wanted() }),
        }
    }

    const fn wanted(&self) -> &'static str {
        match self.state {
            State::Hello => "HELLO",
            State::Ready => "CMD_READY",
            State::Answer(_) => "EXECUTE_RESP",
            State::Transfer => "READ_DATA or END_OF_IMAGE",
            State::Done => "DONE_RESP",
            State::Reset => "RESET_RESP",
            State::Data(..) | State::ChipRead | State::Ended | State::Failed(_) => "nothing",
        }
    }

    fn hello(&mut self, version: u32, compatible: u32, mode: u32) -> Result<(), SaharaError> {
        if mode == packet::MODE_MEMORY_DEBUG {
            self.end(Step::MemoryDebug);
            return Ok(());
        }
        // Version 1 has no command mode, and without it the chip cannot be known.
        if version < packet::HOST_VERSION || compatible > packet::HOST_VERSION {
            return Err(SaharaError::Version(version));
        }
        self.version = version;
        self.send(packet::hello_response(version.min(packet::HOST_VERSION), self.mode()));
        self.state = if self.image_bytes.is_some() { State::Transfer } else { State::Ready };
        Ok(())
    }

    /// The device is in the middle of an older session: it has to be reset before it says hello.
    fn recover(&mut self, packet: Packet) -> Result<(), SaharaError> {
        self.pass_over(packet)?;
        self.recoveries += 1;
        if self.recoveries > limits::SAHARA_RECOVERIES_MAX {
            return Err(SaharaError::OutOfOrder { packet: packet.name(), wanted: self.wanted() });
        }
        self.send(packet::reset());
        Ok(())
    }

    fn pass_over(&mut self, packet: Packet) -> Result<(), SaharaError> {
        self.stale += 1;
        if self.stale > limits::SAHARA_STALE_PACKETS_MAX {
            return Err(SaharaError::OutOfOrder { packet: packet.name(), wanted: self.wanted() });
        }
        Ok(())
    }

    fn ask(&mut self, query: Query) {
        self.state = State::Answer(query);
        self.send(packet::execute(query.command(self.version)));
    }

    fn take_answer(&mut self, query: Query, bytes: usize) -> Result<bool, SaharaError> {
        let Some(answer) = self.unread.get(..bytes) else { return Ok(false) };
        self.answers.take(query, query.command(self.version), answer)?;
        self.unread.drain(..bytes);
        match (query.next(), self.answers.chip(self.version)) {
            (Some(next), _) => self.ask(next),
            (None, Some(chip)) => {
                self.state = State::ChipRead;
                self.steps.push_back(Step::ChipRead(chip));
            }
            (None, None) => return Err(SaharaError::NotReady),
        }
        Ok(true)
    }

    fn read(&mut self, image: u64, offset: u64, length: u64) -> Result<(), SaharaError> {
        self.check_image(image)?;
        let image_bytes = self.image_bytes.unwrap_or(0);
        let fits = offset.checked_add(length).is_some_and(|end| end <= image_bytes);
        if length == 0 || length > limits::SAHARA_READ_BYTES_MAX || !fits {
            return Err(SaharaError::Range { offset, length, image_bytes });
        }
        self.image_id = Some(image);
        self.reads += 1;
        self.sent = self.sent.saturating_add(length);
        self.reach = self.reach.max(offset.saturating_add(length));
        if self.reads > limits::SAHARA_READS_MAX
            || self.sent > image_bytes.saturating_mul(limits::SAHARA_RESEND_FACTOR_MAX)
        {
            return Err(SaharaError::Livelock { reads: self.reads, bytes: self.sent });
        }
        self.steps.push_back(Step::SendImage { offset, length });
        Ok(())
    }

    fn end_of_image(&mut self, image: u64, status: u32) -> Result<(), SaharaError> {
        // The image id of a refusal is not always set, so the status counts first.
        if status != 0 {
            return Err(SaharaError::Rejected { status });
        }
        self.check_image(image)?;
        if self.image_id.is_none() {
            return Err(SaharaError::OutOfOrder { packet: "END_OF_IMAGE", wanted: "READ_DATA" });
        }
        self.send(packet::done());
        self.state = State::Done;
        Ok(())
    }

    fn check_image(&self, image: u64) -> Result<(), SaharaError> {
        let same = self.image_id.is_none_or(|id| id == image);
        if same && PROGRAMMER_IMAGES.contains(&image) { Ok(()) } else { Err(SaharaError::UnexpectedImage(image)) }
    }
}
