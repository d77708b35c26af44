//! The boot ROM in emergency download mode: the device side of Sahara.
//!
//! It says HELLO once, answers the command mode, pulls a programmer in the pattern of real loaders (headers first,
//! then the hash segment, then 4 KiB steps) and starts it, or refuses one that its fuses do not trust. It is
//! as unhelpful as real ones: after a packet that it does not understand it says END_OF_IMAGE with a status and
//! listens to RESET only; then it says HELLO again. A refused programmer, and RESET in good order, reset the chip.

use std::future::poll_fn;
use std::time::Duration;

use super::elf::{self, Piece};
use super::link::Link;
use super::pace::Pace;
use super::world::Attachment;
use crate::domain::ChipId;

const HELLO: u32 = 0x01;
const HELLO_RESP: u32 = 0x02;
const READ_DATA: u32 = 0x03;
const END_OF_IMAGE: u32 = 0x04;
const DONE: u32 = 0x05;
const DONE_RESP: u32 = 0x06;
const RESET: u32 = 0x07;
const RESET_RESP: u32 = 0x08;
const CMD_READY: u32 = 0x0b;
const SWITCH_MODE: u32 = 0x0c;
const EXECUTE: u32 = 0x0d;
const EXECUTE_RESP: u32 = 0x0e;
const EXECUTE_DATA: u32 = 0x0f;
const READ_DATA64: u32 = 0x12;
const RESET_STATE_MACHINE: u32 = 0x13;

const MODE_IMAGE: u32 = 0;
const MODE_DUMP: u32 = 2;
const MODE_COMMAND: u32 = 3;

/// The image id of a Firehose programmer.
const IMAGE_PROGRAMMER: u32 = 13;

const STATUS_INVALID_COMMAND: u32 = 0x01;
const STATUS_BAD_PACKET_SIZE: u32 = 0x05;
const STATUS_BAD_LENGTH: u32 = 0x0a;
const STATUS_BAD_MODE: u32 = 0x18;
const STATUS_COMMAND_UNSUPPORTED: u32 = 0x1f;

/// What one 4 KiB step costs.
const STEP_TIME: Duration = Duration::from_millis(1);
/// Longest command in a real HELLO.
const COMMAND_BYTES_MAX: u32 = 0x400;

/// How Sahara ended.
#[derive(Debug)]
pub(super) enum End {
    /// The programmer runs.
    Programmer,
    /// The chip resets.
    ChipReset,
}

/// What a chip is, and how its ROM differs from others.
#[derive(Debug, Clone)]
pub(super) struct Rom {
    pub(super) chip: ChipId,
    pub(super) key_bytes: Vec<u8>,
    /// READ_DATA64 instead of READ_DATA.
    pub(super) wide_reads: bool,
    /// DONE_RESP says "pending" although the image is complete.
    pub(super) done_pending: bool,
    /// The first HELLO is lost.
    pub(super) hello_eaten: bool,
    /// What becomes of a complete programmer.
    pub(super) verdict: RomVerdict,
}

/// What the ROM does with a programmer beyond its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RomVerdict {
    /// Checks it and starts it.
    Check,
    /// Refuses it with this status.
    Refuse(u32),
    /// Falls silent.
    Silence,
}

enum State {
    AwaitsHello,
    Command { announced: Option<u32> },
    Failed { chip_reset: bool },
}

/// The ROM at work on one cable.
pub(super) struct Pbl<'a> {
    pub(super) link: &'a Link,
    pub(super) attachment: &'a Attachment,
    pub(super) pace: &'a mut Pace,
    pub(super) rom: Rom,
}

/// What a host's packet made happen.
pub(super) enum Seen {
    /// It spoke.
    Hello,
    /// It asked for the image mode.
    Image,
}

impl Pbl<'_> {
    /// Runs until the programmer starts or the chip resets. `check` gives the status with which a programmer is
    /// refused; `observe` is told how far the host is.
    pub(super) async fn run(
        &mut self,
        check: &(dyn Fn(&[u8]) -> Result<(), u32> + Send + Sync),
        observe: &mut (dyn FnMut(Seen) + Send),
    ) -> End {
        let mut state = State::AwaitsHello;
        if !self.rom.hello_eaten {
            self.hello(MODE_IMAGE);
        }
        loop {
            let bytes = self.take().await;
            if bytes.is_empty() {
                continue;
            }
            observe(Seen::Hello);
            let packet = Packet::parse(&bytes);
            state = match (state, packet) {
                (State::Failed { chip_reset: false }, Ok(Packet { command: RESET, .. })) => {
                    self.send(RESET_RESP, &[]);
                    self.hello(MODE_IMAGE);
                    State::AwaitsHello
                }
                (_, Ok(Packet { command: RESET, .. })) => {
                    self.send(RESET_RESP, &[]);
                    poll_fn(|context| self.link.poll_drained(context)).await;
                    return End::ChipReset;
                }
                (State::Failed { chip_reset }, _) => State::Failed { chip_reset },
                (_, Ok(Packet { command: RESET_STATE_MACHINE, .. })) => {
                    self.hello(MODE_IMAGE);
                    State::AwaitsHello
                }
                (State::AwaitsHello, Ok(Packet { command: HELLO_RESP, words })) if words.len() == 10 => {
                    match words[3] {
                        MODE_IMAGE => {
                            observe(Seen::Image);
                            match self.image(check).await {
                                Ok(()) => return End::Programmer,
                                Err(failed) => failed,
                            }
                        }
                        MODE_COMMAND => {
                            self.send(CMD_READY, &[]);
                            State::Command { announced: None }
                        }
                        _ => self.fail(STATUS_BAD_MODE, false),
                    }
                }
                (State::Command { announced }, Ok(packet)) => self.command(announced, &packet),
                (_, Ok(_)) => self.fail(STATUS_INVALID_COMMAND, false),
                (_, Err(status)) => self.fail(status, false),
            };
        }
    }

    fn command(&mut self, announced: Option<u32>, packet: &Packet) -> State {
        match (packet.command, packet.words.as_slice()) {
            (EXECUTE, &[client]) => match self.client_data(client) {
                Some(data) => {
                    self.send(EXECUTE_RESP, &[client, u32::try_from(data.len()).unwrap_or_default()]);
                    State::Command { announced: Some(client) }
                }
                None => self.fail(STATUS_COMMAND_UNSUPPORTED, false),
            },
            (EXECUTE_DATA, &[client]) if announced == Some(client) => {
                self.link.say(self.client_data(client).unwrap_or_default());
                State::Command { announced: None }
            }
            (SWITCH_MODE, &[mode]) if matches!(mode, MODE_IMAGE | MODE_COMMAND) => {
                self.hello(mode);
                State::AwaitsHello
            }
            (SWITCH_MODE, _) => self.fail(STATUS_BAD_MODE, false),
            _ => self.fail(STATUS_INVALID_COMMAND, false),
        }
    }

    fn client_data(&self, client: u32) -> Option<Vec<u8>> {
        match client {
            1 => Some(self.rom.chip.serial.to_le_bytes().to_vec()),
            2 => Some(self.rom.chip.hw_id.to_le_bytes().to_vec()),
            3 => Some(self.rom.key_bytes.repeat(3)),
            7 => Some(0u32.to_le_bytes().to_vec()),
            8 => Some([1u32, 2, 3, 7, 8].iter().flat_map(|id| id.to_le_bytes()).collect()),
            _ => None,
        }
    }

    async fn image(&mut self, check: &(dyn Fn(&[u8]) -> Result<(), u32> + Send + Sync)) -> Result<(), State> {
        let mut image = elf::Image::default();
        while let Some(piece) = image.wants() {
            let piece = piece.map_err(|status| self.fail(status, false))?;
            let bytes = self.read(piece).await.map_err(|status| self.fail(status, false))?;
            image.put(piece, &bytes);
        }
        let verdict = match self.rom.verdict {
            RomVerdict::Check => check(image.bytes()),
            RomVerdict::Refuse(status) => Err(status),
            RomVerdict::Silence => std::future::pending().await,
        };
        verdict.map_err(|status| self.fail(status, true))?;
        self.send(END_OF_IMAGE, &[IMAGE_PROGRAMMER, 0]);
        loop {
            let bytes = self.take().await;
            match Packet::parse(&bytes) {
                _ if bytes.is_empty() => {}
                Ok(Packet { command: DONE, .. }) => break,
                Ok(_) => return Err(self.fail(STATUS_INVALID_COMMAND, false)),
                Err(status) => return Err(self.fail(status, false)),
            }
        }
        self.send(DONE_RESP, &[u32::from(!self.rom.done_pending)]);
        poll_fn(|context| self.link.poll_drained(context)).await;
        Ok(())
    }

    async fn read(&mut self, piece: Piece) -> Result<Vec<u8>, u32> {
        if self.rom.wide_reads {
            let words = [u64::from(IMAGE_PROGRAMMER), piece.offset, piece.length];
            let words: Vec<u32> = words.iter().flat_map(|word| halves(*word)).collect();
            self.send(READ_DATA64, &words);
        } else {
            let offset = u32::try_from(piece.offset).unwrap_or(u32::MAX);
            self.send(READ_DATA, &[IMAGE_PROGRAMMER, offset, u32::try_from(piece.length).unwrap_or(u32::MAX)]);
        }
        let wanted = usize::try_from(piece.length).map_err(|_| STATUS_BAD_LENGTH)?;
        let mut bytes = Vec::with_capacity(wanted);
        while bytes.len() < wanted {
            bytes.extend(self.take().await);
        }
        if bytes.len() > wanted {
            return Err(STATUS_BAD_LENGTH);
        }
        self.pace.charge(STEP_TIME);
        self.pace.not_before(self.attachment.carry(wanted));
        self.pace.settle().await;
        Ok(bytes)
    }

    async fn take(&self) -> Vec<u8> {
        poll_fn(|context| self.link.poll_take(context)).await
    }

    fn hello(&self, mode: u32) {
        self.send(HELLO, &[2, 1, COMMAND_BYTES_MAX, mode, 0, 0, 0, 0, 0, 0]);
    }

    fn fail(&self, status: u32, chip_reset: bool) -> State {
        self.send(END_OF_IMAGE, &[IMAGE_PROGRAMMER, status]);
        State::Failed { chip_reset }
    }

    fn send(&self, command: u32, words: &[u32]) {
        self.link.say(packet(command, words));
    }
}

/// Memory dump after a crash: says so, and resets when told to.
pub(super) async fn serve_dump(link: &Link) {
    link.say(packet(HELLO, &[2, 1, COMMAND_BYTES_MAX, MODE_DUMP, 0, 0, 0, 0, 0, 0]));
    loop {
        let bytes = poll_fn(|context| link.poll_take(context)).await;
        match Packet::parse(&bytes) {
            Ok(Packet { command: RESET, .. }) => {
                link.say(packet(RESET_RESP, &[]));
                poll_fn(|context| link.poll_drained(context)).await;
                return;
            }
            _ => link.say(packet(END_OF_IMAGE, &[IMAGE_PROGRAMMER, STATUS_INVALID_COMMAND])),
        }
    }
}

fn halves(word: u64) -> [u32; 2] {
    let bytes = word.to_le_bytes();
    let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [half(0), half(4)]
}

/// A packet's bytes: command, length of the whole, body.
fn packet(command: u32, words: &[u32]) -> Vec<u8> {
    let length = u32::try_from(8 + 4 * words.len()).unwrap_or(u32::MAX);
    [command, length].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

/// A packet from the host.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    command: u32,
    words: Vec<u32>,
}

impl Packet {
    fn parse(bytes: &[u8]) -> Result<Self, u32> {
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        match words.as_slice() {
            [command, length, body @ ..]
                if usize::try_from(*length) == Ok(bytes.len()) && bytes.len().is_multiple_of(4) =>
            {
                Ok(Self { command: *command, words: body.to_vec() })
            }
            _ => Err(STATUS_BAD_PACKET_SIZE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_of_real_devices() {
        let hello = packet(HELLO, &[2, 1, COMMAND_BYTES_MAX, MODE_IMAGE, 0, 0, 0, 0, 0, 0]);
        assert_eq!(hello.len(), 0x30);
        assert_eq!(
            hello[..24],
            [1, 0, 0, 0, 0x30, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0],
            "HELLO of version 2, compatible with 1, commands of 0x400 bytes, image mode"
        );
        assert_eq!(
            packet(READ_DATA, &[13, 0, 0x34]),
            [3, 0, 0, 0, 0x14, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0, 0]
        );
        assert_eq!(packet(END_OF_IMAGE, &[13, 0x25]), [4, 0, 0, 0, 0x10, 0, 0, 0, 13, 0, 0, 0, 0x25, 0, 0, 0]);
        assert_eq!(packet(DONE_RESP, &[1]), [6, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(packet(CMD_READY, &[]), [0x0b, 0, 0, 0, 8, 0, 0, 0]);
        let wide: Vec<u32> = [13u64, 0x1000, 0x1000].iter().flat_map(|word| halves(*word)).collect();
        assert_eq!(packet(READ_DATA64, &wide).len(), 0x20);
    }

    #[test]
    fn a_packet_whose_length_lies_is_refused() {
        assert_eq!(Packet::parse(&[7, 0, 0, 0, 8, 0, 0, 0]), Ok(Packet { command: RESET, words: vec![] }));
        for bad in [&[7, 0, 0, 0, 9, 0, 0, 0][..], &[0], &[7, 0, 0, 0], &[7, 0, 0, 0, 8, 0, 0, 0, 0]] {
            assert_eq!(Packet::parse(bad), Err(STATUS_BAD_PACKET_SIZE));
        }
    }
}
