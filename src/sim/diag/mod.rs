//! The DIAG port of a module in normal mode.
//!
//! It is as stingy as real ones: NV items are written only when the service programming code was sent and the modem is
//! offline, the file system answers only after the security password, reads give 1 KiB, two directories and four files
//! can be open at a time (public tools found four directories on real modules; fewer find more mistakes). A handle
//! stays open until it is closed or the module restarts, whoever opened it. Log frames come between the answers.

mod efs;
mod frame;
mod nv;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::efs::{Change, Items};
use super::models::Model;
use super::spec::Pacing;
use efs::Files;
use frame::{Frames, encode};

/// "Reboot into download mode": subsystem 0x65, code 1.
const ENTER_EDL: [u8; 4] = [0x4b, 0x65, 0x01, 0x00];
const BAD_COMMAND: u8 = 0x13;
const BAD_LENGTH: u8 = 0x15;
const BAD_MODE: u8 = 0x18;
const BAD_CODE: u8 = 0x42;
const BAD_SECURITY: u8 = 0x47;
const UNLOCK_CODE: &[u8] = b"000000";
const PASSWORD: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe];
/// Every so many answers of NV and files a log frame comes first.
const LOG_EVERY: u32 = 5;

/// What the modem was switched to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RadioMode {
    Offline,
    FactoryTest,
    Online,
    LowPower,
}

/// What becomes of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncState {
    Running,
    Done,
    Failed,
}

/// The part of a module that DIAG reads and writes.
pub(super) trait Store {
    /// The model.
    fn model(&self) -> &'static Model;
    /// The full revision that booted.
    fn revision(&self) -> String;
    /// What the running modem sees.
    fn items(&self) -> &Items;
    /// Whether the modem is offline.
    fn is_offline(&self) -> bool;
    /// Switches it; whether that can be done.
    fn set_mode(&mut self, mode: RadioMode) -> bool;
    /// Writes an NV item into the journal; whether there was room.
    fn write_nv(&mut self, now: Duration, change: Change) -> bool;
    /// Changes files; whether there was room in the journal.
    fn write_file(&mut self, now: Duration, change: Change) -> bool;
    /// Begins to write the journal down; it is done after `time`. The token to ask with.
    fn sync(&mut self, now: Duration, pacing: Pacing) -> u32;
    /// How far that is.
    fn sync_state(&mut self, now: Duration, token: u32) -> SyncState;
}

/// What a command does besides its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// The module reboots into download mode.
    EnterEdl,
    /// The module restarts.
    Restart,
}

/// The port, and what the module remembers of the conversation.
#[derive(Debug)]
pub(super) struct DiagPort {
    frames: Frames,
    pacing: Pacing,
    files: Files,
    is_unlocked: bool,
    is_trusted: bool,
    answers: u32,
}

impl DiagPort {
    pub(super) fn new(pacing: Pacing) -> Self {
        let (frames, files) = (Frames::default(), Files::default());
        Self { frames, pacing, files, is_unlocked: false, is_trusted: false, answers: 0 }
    }

    /// The answer of a module that does not want to enter download mode.
    pub(super) fn refusal() -> Vec<u8> {
        encode(&[&[BAD_COMMAND], ENTER_EDL.as_slice()].concat())
    }

    /// Takes bytes; the commands that they complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.frames.take(bytes)
    }

    /// Executes a command; the frames to be sent.
    pub(super) fn execute(&mut self, request: &[u8], store: &mut dyn Store, now: Duration) -> (Vec<Vec<u8>>, Effect) {
        if request == ENTER_EDL {
            return (vec![encode(request)], Effect::EnterEdl);
        }
        let effect = if request == [0x29, 2, 0] { Effect::Restart } else { Effect::None };
        let answer = self.answer(request, store, now);
        let mut frames = Vec::new();
        if matches!(request[0], 0x26 | 0x27 | 0x4b) {
            self.answers += 1;
            if self.answers.is_multiple_of(LOG_EVERY) {
                let count = self.answers.to_le_bytes();
                frames.push(encode(&[&[0x10, 0x00, 0x10, 0x00], count.as_slice(), &[0x7e, 0x7d, 0x4b, 0x13]].concat()));
            }
        }
        frames.push(encode(&answer));
        (frames, effect)
    }

    fn answer(&mut self, request: &[u8], store: &mut dyn Store, now: Duration) -> Vec<u8> {
        let refuse = |code: u8| [&[code], request].concat();
        match request {
            [0x00] => version(store),
            [0x01] => vec![0x01, 0x00, 0x00, 0x00, 0x80],
            [0x7c] => build_id(store),
            [0x29, mode, 0] => {
                let done = match mode {
                    1 => store.set_mode(RadioMode::Offline),
                    2 => true,
                    3 => store.set_mode(RadioMode::FactoryTest),
                    4 => store.set_mode(RadioMode::Online),
                    5 => store.set_mode(RadioMode::LowPower),
                    _ => false,
                };
                if done { request.to_vec() } else { refuse(BAD_MODE) }
            }
            [0x41, code @ ..] => {
                self.is_unlocked = code == UNLOCK_CODE;
                vec![0x41, u8::from(self.is_unlocked)]
            }
            [0x46, password @ ..] => {
                self.is_trusted = password == PASSWORD;
                vec![0x46, u8::from(self.is_trusted)]
            }
            [0x26 | 0x27, ..] | [0x4b, 0x30, 0x01 | 0x02, 0x00, ..] => {
                nv::answer(request, store, self.is_unlocked, now).unwrap_or_else(refuse)
            }
            [0x4b, subsystem, operation, 0x00, body @ ..] if has_subsystem(store.model(), *subsystem) => {
                if !self.is_trusted {
                    return refuse(BAD_SECURITY);
                }
                match self.files.answer(*operation, body, store, now, self.pacing) {
                    Ok(answer) => [&request[..4], answer.as_slice()].concat(),
                    Err(code) => refuse(code),
                }
            }
            _ => refuse(BAD_COMMAND),
        }
    }
}

/// Older chips know the file system under one number, newer ones under both.
fn has_subsystem(model: &Model, subsystem: u8) -> bool {
    subsystem == 0x13 || (subsystem == 0x3e && model.family != "mdm9x07")
}

fn version(store: &dyn Store) -> Vec<u8> {
    let mut answer = vec![0x00];
    answer.extend(b"Apr 19 202017:49:11Apr 19 202017:00:00");
    let mut directory = store.model().chip.as_bytes().to_vec();
    directory.resize(8, 0);
    answer.extend(directory);
    answer.extend([0xff, 0x06, 0x00, 0x01, 0x00, 0x00]);
    answer
}

fn build_id(store: &dyn Store) -> Vec<u8> {
    let mut answer = vec![0x7c];
    answer.extend([0; 12]);
    answer.extend(store.revision().as_bytes());
    answer.push(0);
    answer
}
