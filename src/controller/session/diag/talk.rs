//! A conversation over the DIAG port: one request at a time, each with its own deadline.

use std::time::Duration;

use crate::domain::limits::EFS_STALE_HANDLES_MAX;
use crate::hardware::{AtPort, HardwareError};
use crate::host::Clock;
use crate::protocol::diag::efs::{DirectoryHandle, Efs, EfsPath, FileHandle, Subsystem};
use crate::protocol::diag::nv::{self, ItemData, ItemKey};
use crate::protocol::diag::{
    self, DEFAULT_PASSWORD, DEFAULT_UNLOCK_CODE, Deframer, FRAME_END, Mode, NvStatus, Refusal, ReplyError, Request,
};

/// How long one answer may take; real modules need a few milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How often a request that may be repeated is sent in all.
const ATTEMPTS: u32 = 3;
/// How long to wait before a request is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// NV items that no module has, one after the other: the answer to a question for one of them names it, so it tells
/// that everything asked before has been answered or never will be.
const PROBE_ITEMS: std::ops::RangeInclusive<u16> = 0xf000..=0xffff;
/// Bytes that are read from the port at a time.
const READ_BYTES: usize = 4096;
/// How often a module that says it is busy is asked in all.
const BUSY_ATTEMPTS: u32 = 10;
/// How long a synchronisation may take.
const SYNC_LIMIT: Duration = Duration::from_secs(60);
/// How long to wait before asking again whether it is done.
const SYNC_PAUSE: Duration = Duration::from_millis(250);

/// Why a conversation over DIAG did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiagFailure {
    /// The port cannot be used any more.
    #[error("the DIAG port: {0}")]
    Port(#[from] HardwareError),
    /// No answer came, however often it was asked.
    #[error("no answer over DIAG ({0})")]
    Silent(&'static str),
    /// The module said no, or nonsense.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// The module said no, or nonsense, about a path.
    #[error("{path}: {error}")]
    Path {
        /// The path.
        path: EfsPath,
        /// What it said.
        error: ReplyError,
    },
    /// What the module says of a path cannot be, or is more than is kept of one module.
    #[error("{path}: {problem}")]
    Tree {
        /// The path.
        path: EfsPath,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The module has no file system that answers over DIAG.
    #[error("the module's file system does not answer over DIAG")]
    NoFileSystem,
    /// There is more of something than of any module.
    #[error("more {0} than any module has")]
    TooMuch(&'static str),
}

impl DiagFailure {
    /// Whether the module said that there is no such item or path.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Reply(error) | Self::Path { error, .. } => error.is_absent(),
            _ => false,
        }
    }
}

/// An open conversation.
#[derive(Debug)]
pub struct DiagSession {
    port: Box<dyn AtPort>,
    clock: Clock,
    frames: Deframer,
    buffer: Vec<u8>,
    efs: Option<Efs>,
    syncs: u16,
    is_unlocked: bool,
    is_trusted: bool,
    /// An answer was lost: the module may have opened something that nobody knows of.
    has_lost_answers: bool,
    /// An answer may still come: it must not be taken for that of the next request.
    is_out_of_step: bool,
    probe: u16,
}

impl DiagSession {
    /// Begins a conversation: lets what is left of earlier ones pass, sends the service programming code and the security
    /// password, finds the file system and closes what an earlier conversation left open on it. A module that accepts
    /// neither can still be asked for NV items.
    ///
    /// # Errors
    /// [`DiagFailure::Port`] and [`DiagFailure::Silent`].
    pub async fn open(port: Box<dyn AtPort>, clock: Clock) -> Result<Self, DiagFailure> {
        // Elsewhere than an earlier conversation began, whose probes may still be answered.
        let spread = clock.now().as_micros() % (PROBE_ITEMS.len() as u128);
        let probe = PROBE_ITEMS.start() | u16::try_from(spread).unwrap_or_default();
        let mut session = Self {
            port,
            clock,
            frames: Deframer::new(),
            buffer: vec![0; READ_BYTES],
            efs: None,
            syncs: 0,
            is_unlocked: false,
            is_trusted: false,
            has_lost_answers: false,
            // What an earlier conversation asked for may still be answered.
            is_out_of_step: true,
            probe,
        };
        session.is_unlocked = accepted(session.ask(&diag::unlock(DEFAULT_UNLOCK_CODE)).await)?;
        session.is_trusted = accepted(session.ask(&diag::password(DEFAULT_PASSWORD)).await)?;
        for subsystem in Subsystem::ALL {
            if accepted(session.ask(&Efs(subsystem).hello()).await)? {
                session.efs = Some(Efs(subsystem));
                session.close_stale().await?;
                break;
            }
        }
        Ok(session)
    }

    /// Whether the service programming code was accepted: without it no NV item can be written.
    #[must_use]
    pub fn is_unlocked(&self) -> bool {
        self.is_unlocked
    }

    /// Whether the security password was accepted.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// The subsystem under which the file system answers.
    #[must_use]
    pub fn subsystem(&self) -> Option<Subsystem> {
        self.efs.map(|efs| efs.0)
    }

    pub(super) fn efs(&self) -> Result<Efs, DiagFailure> {
        self.efs.ok_or(DiagFailure::NoFileSystem)
    }

    /// Asks one thing. A request that may be repeated is, when its answer does not come, and nothing else is asked
    /// until it is certain that the lost answer will not come either: most answers do not say what they answer.
    ///
    /// # Errors
    /// [`DiagFailure::Port`], [`DiagFailure::Silent`] and [`DiagFailure::Reply`].
    pub async fn ask<T>(&mut self, request: &Request<T>) -> Result<T, DiagFailure> {
        let attempts = if request.is_repeatable() { ATTEMPTS } else { 1 };
        for attempt in 1..=attempts {
            if self.is_out_of_step {
                self.fall_in_step().await?;
            }
            let (clock, deadline) = (self.clock.clone(), self.clock.deadline(ANSWER_LIMIT));
            // Also when this future is dropped before the answer has come.
            self.is_out_of_step = true;
            if let Ok(result) = clock.timeout_at(deadline, self.exchange(request)).await {
                self.is_out_of_step = false;
                return result;
            }
            self.has_lost_answers = true;
            tracing::debug!(request = request.name(), attempt, "no answer over DIAG");
        }
        Err(DiagFailure::Silent(request.name()))
    }

    /// Listens until the module has answered a question that was never asked before.
    async fn fall_in_step(&mut self) -> Result<(), DiagFailure> {
        for _ in 0..ATTEMPTS {
            // Half a frame may be on its way to the module; an empty one ends it. It comes before anything is read, because
            // it also tells whoever listens on the port what is spoken on it.
            self.port.write(&[FRAME_END]).await?;
            self.drain(RETRY_PAUSE).await?;
            self.probe = self.probe.checked_add(1).unwrap_or(*PROBE_ITEMS.start());
            let probe = nv::read(ItemKey::of_module(self.probe));
            let (clock, deadline) = (self.clock.clone(), self.clock.deadline(ANSWER_LIMIT));
            if let Ok(result) = clock.timeout_at(deadline, self.hear_probe(&probe)).await {
                self.is_out_of_step = false;
                return result;
            }
        }
        Err(DiagFailure::Silent("probe"))
    }

    async fn hear_probe(&mut self, probe: &Request<ItemData>) -> Result<(), DiagFailure> {
        self.port.write(&probe.frame()).await?;
        let key = &probe.payload()[..3];
        loop {
            let frame = self.hear().await?;
            // The answer, or the refusal that repeats the question.
            let refused = frame.split_first().filter(|(first, _)| Refusal::of(**first).is_some());
            if frame.starts_with(key) || refused.is_some_and(|(_, refused)| refused.starts_with(key)) {
                return Ok(());
            }
        }
    }

    /// Opens a file or a directory. Where that fails after an answer was lost, everything is closed first and it is
    /// tried again: the handle in the lost answer may be the one too many.
    pub(super) async fn open_handle<T>(&mut self, request: &Request<T>) -> Result<T, DiagFailure> {
        match self.ask(request).await {
            Err(DiagFailure::Reply(ReplyError::Efs { .. })) if std::mem::take(&mut self.has_lost_answers) => {
                self.close_stale().await?;
                self.ask(request).await
            }
            other => other,
        }
    }

    async fn exchange<T>(&mut self, request: &Request<T>) -> Result<T, DiagFailure> {
        self.port.write(&request.frame()).await?;
        loop {
            if let Some(answer) = request.answer(&self.hear().await?)? {
                return Ok(answer);
            }
        }
    }

    /// The next sound frame. Damaged ones are noise; if the answer was one of them, the deadline passes.
    async fn hear(&mut self) -> Result<Vec<u8>, DiagFailure> {
        loop {
            if let Some(frame) = self.frames.by_ref().flatten().next() {
                return Ok(frame);
            }
            let length = self.port.read(&mut self.buffer).await?;
            self.frames.feed(&self.buffer[..length]);
        }
    }

    /// Passes over whatever arrives.
    async fn drain(&mut self, time: Duration) -> Result<(), DiagFailure> {
        let clock = self.clock.clone();
        let listen = async {
            loop {
                if let Err(error) = self.port.read(&mut self.buffer).await {
                    return error;
                }
            }
        };
        let end = clock.timeout(time, listen).await;
        self.frames = Deframer::new();
        end.map_or(Ok(()), |error| Err(error.into()))
    }

    /// A controller that died may have left files and directories open, and modules allow few of them.
    async fn close_stale(&mut self) -> Result<(), DiagFailure> {
        let efs = self.efs()?;
        for handle in 0..=EFS_STALE_HANDLES_MAX {
            let closed = self.ask(&efs.close_directory(DirectoryHandle(handle))).await;
            accepted(closed)?;
            let closed = self.ask(&efs.close(FileHandle(handle))).await;
            accepted(closed)?;
        }
        Ok(())
    }

    /// Reads an NV item; `None` where the module has none.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask); a refusal is an error, because it says nothing about the item.
    pub async fn nv_read(&mut self, key: ItemKey) -> Result<Option<ItemData>, DiagFailure> {
        match self.ask_while_busy(&nv::read(key)).await {
            Ok(data) => Ok(Some(data)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an NV item. The module must be offline, and loses it with its power until [`sync`](Self::sync). An item
    /// that may be written once only and has this content already is fine: the answer to its first writing may have
    /// been lost.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub async fn nv_write(&mut self, key: ItemKey, data: &ItemData) -> Result<(), DiagFailure> {
        let failure = match self.ask_while_busy(&nv::write(key, data)).await {
            Err(failure @ DiagFailure::Reply(ReplyError::Nv { status: NvStatus::ReadOnly, .. })) => failure,
            other => return other,
        };
        if self.nv_read(key).await?.as_ref() == Some(data) { Ok(()) } else { Err(failure) }
    }

    async fn ask_while_busy<T>(&mut self, request: &Request<T>) -> Result<T, DiagFailure> {
        let mut attempt = 1;
        loop {
            match self.ask(request).await {
                Err(DiagFailure::Reply(ReplyError::Nv { status: NvStatus::Busy, .. })) if attempt < BUSY_ATTEMPTS => {
                    attempt += 1;
                    self.clock.sleep(RETRY_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    /// Switches the module's mode.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask). A module that is reset may be gone before its answer was read.
    pub async fn control(&mut self, mode: Mode) -> Result<(), DiagFailure> {
        self.ask(&diag::control(mode)).await
    }

    /// Has the journal written down, and waits until it is. Only then is what was written safe from a loss of power.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask); [`DiagFailure::Silent`] when it is not finished in time.
    pub async fn sync(&mut self) -> Result<(), DiagFailure> {
        let efs = self.efs()?;
        self.syncs = self.syncs.wrapping_add(1);
        let root = EfsPath::root();
        let token = self.ask(&efs.sync(&root, self.syncs)).await?;
        let deadline = self.clock.deadline(SYNC_LIMIT);
        while !self.ask(&efs.sync_is_done(&root, token)).await? {
            if self.clock.now() >= deadline {
                return Err(DiagFailure::Silent("EFS sync is not finished"));
            }
            self.clock.sleep(SYNC_PAUSE).await;
        }
        Ok(())
    }
}

/// Whether the module did what was asked. That it says no is no failure, whatever the words.
fn accepted(answer: Result<(), DiagFailure>) -> Result<bool, DiagFailure> {
    match answer {
        Ok(()) => Ok(true),
        Err(DiagFailure::Reply(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
