//! Firehose over a link: one command at a time, answered or given up within its deadline.
//!
//! Only the reading half is here; what changes a module is in [`super::super::flash`] and needs the gate's authority.

use std::collections::BTreeSet;
use std::time::Duration;

use super::EdlLink;
use crate::config::Timeouts;
use crate::controller::failure::{Failure, SessionError};
use crate::controller::waits::Waiting;
use crate::domain::{BadBlocks, FailureCode, Family, Geometry, PageRange, Wait, limits};
use crate::protocol::firehose::{
    Banner, FirehoseError, Inbox, LogBudget, Message, Negotiation, Response, StorageInfo, bad_block_count,
    bad_block_number, command, negotiate, storage_info,
};

/// How long the programmer may take between two lines of its banner.
const BANNER_GAP: Duration = Duration::from_secs(3);
/// How long log lines are still read after a reset was acknowledged; the module leaves once they are.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing follows the words in the middle of a read that may be its refusal: payload would.
const REFUSAL_GAP: Duration = Duration::from_secs(3);
/// How much of the end of a payload may be such words.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;
/// How often a payload size is negotiated before that counts as a broken programmer.
const NEGOTIATIONS_MAX: u32 = 3;

/// A running programmer.
#[derive(Debug)]
pub(crate) struct Firehose {
    link: EdlLink,
    inbox: Inbox,
    timeouts: Timeouts,
    payload_bytes: u32,
    bad_blocks: SeenBadBlocks,
    payload: Pour,
}

/// A payload on its way, in either direction: since when, and how much of it.
#[derive(Debug, Clone, Copy, Default)]
struct Pour {
    began: Duration,
    bytes: u64,
}

impl Pour {
    /// When the next piece must be there, or taken: within `limit`, and before all of it together is slower than any
    /// programmer. The first pieces may take `limit` longer.
    fn deadline(&self, now: Duration, limit: Duration) -> Duration {
        let slowest = self.bytes.saturating_mul(1000) / limits::FIREHOSE_BYTES_PER_SECOND_MIN;
        let whole = self.began.saturating_add(limit).saturating_add(Duration::from_millis(slowest));
        now.saturating_add(limit).min(whole)
    }
}

/// What a reading of whole ranges came to, of which nothing is kept.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Erase blocks that were read.
    pub(crate) blocks_read: u64,
    /// What was said of the first that could not be read.
    pub(crate) refusal: Option<String>,
}

/// Bad blocks as far as the programmer tells: a count now and then, and lines that name one. The same line comes
/// again whenever its block is passed over, so lines are kept and not counted.
#[derive(Debug, Default)]
struct SeenBadBlocks {
    /// What the storage's description says.
    described: Option<u32>,
    count: u32,
    lines: BTreeSet<String>,
    numbers: BTreeSet<u32>,
}

impl SeenBadBlocks {
    fn note(&mut self, line: &str) {
        if let Some(number) = bad_block_number(line).filter(|_| self.numbers.len() < limits::BAD_BLOCKS_MAX) {
            self.numbers.insert(number);
        }
        match bad_block_count(line) {
            Some(1) if self.lines.len() < limits::BAD_BLOCK_LINES_MAX => {
                self.lines.insert(line.to_owned());
            }
            Some(count) => self.count = self.count.max(count),
            None => {}
        }
    }

    fn known(&self) -> u32 {
        self.count.max(u32::try_from(self.lines.len()).unwrap_or(u32::MAX))
    }
}

/// The answer to a command.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) logs: Vec<String>,
    /// Whether a log line of the command was an error.
    pub(crate) error_logged: bool,
}

impl Answer {
    /// The last log lines, for a record.
    pub(crate) fn reason(&self) -> String {
        if self.logs.is_empty() { "no log line".to_owned() } else { self.logs.join(" | ") }
    }
}

impl Firehose {
    /// Listens to the banner of a programmer that was just started; gives the functions that it names, empty when it
    /// names none. `heard` is what of it has arrived already.
    pub(crate) async fn start(
        link: EdlLink,
        heard: &[u8],
        timeouts: &Timeouts,
    ) -> Result<(Self, BTreeSet<String>), SessionError> {
        let mut this = Self::over(link, heard, timeouts);
        let mut banner = Banner::new();
        let mut budget = LogBudget::new();
        let mut lines = 0_u32;
        while !banner.is_complete() {
            let limit = if lines == 0 { this.timeouts.loader } else { BANNER_GAP };
            let waiting = this.waiting(Wait::Loader);
            match this.message(this.deadline(limit), "no banner").await {
                Ok(Message::Log(line)) => {
                    if lines == 0 {
                        waiting.over();
                    }
                    lines += 1;
                    this.note(&line);
                    budget.take(&line).map_err(failure)?;
                    banner.take(&line);
                }
                Ok(Message::Response(_)) => {
                    return Err(Failure::new(FailureCode::FirehoseProtocol, "an answer before any command").into());
                }
                Err(SessionError::Silent(_)) if lines > 0 => break,
                Err(SessionError::Silent(_)) => {
                    let detail = "the programmer was taken but does not start";
                    return Err(Failure::new(FailureCode::LoaderRejected, detail).into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok((this, banner.functions().clone()))
    }

    /// Takes over a programmer that is running already, only to send it away.
    pub(crate) fn over(link: EdlLink, heard: &[u8], timeouts: &Timeouts) -> Self {
        let mut inbox = Inbox::new();
        inbox.feed(heard);
        Self {
            link,
            inbox,
            timeouts: *timeouts,
            payload_bytes: 0,
            bad_blocks: SeenBadBlocks::default(),
            payload: Pour::default(),
        }
    }

    /// Agrees on the payload size.
    pub(crate) async fn configure(&mut self, family: &Family) -> Result<(), SessionError> {
        let mut asked = family.payload_bytes;
        for _ in 0..NEGOTIATIONS_MAX {
            let waiting = self.waiting(Wait::Configure);
            let answer = self.command(&command::configure("nand", asked), self.timeouts.configure).await?;
            waiting.over();
            match negotiate(asked, family.geometry.page_bytes, &answer.response).map_err(failure)? {
                Negotiation::Agreed { payload_bytes } => {
                    self.payload_bytes = payload_bytes;
                    return Ok(());
                }
                Negotiation::Again { payload_bytes } => asked = payload_bytes,
            }
        }
        Err(Failure::new(FailureCode::PayloadInvalid, "the programmer never agrees to a payload size").into())
    }

    /// The payload size that was agreed on, in bytes.
    pub(crate) fn payload_bytes(&self) -> u32 {
        self.payload_bytes
    }

    /// Blocks that the programmer has named as bad in this session.
    pub(crate) fn bad_blocks(&self) -> u32 {
        self.bad_blocks.known()
    }

    /// The bad blocks in those ranges, as far as they were named in this session: after the ranges were read, which
    /// names every one that was passed over, those that matter for what was read.
    pub(crate) fn bad_blocks_in(&self, ranges: &[PageRange], geometry: Geometry) -> BadBlocks {
        let per_block = u64::from(geometry.pages_per_block);
        let is_inside = |block: &&u32| {
            let pages = PageRange { start: u64::from(**block).saturating_mul(per_block), pages: per_block };
            ranges.iter().any(|range| range.overlaps(pages))
        };
        let named = self.bad_blocks.numbers.iter().filter(is_inside).copied().collect();
        BadBlocks { named, counted: self.bad_blocks.described }
    }

    /// The storage behind the programmer.
    pub(crate) async fn storage(&mut self) -> Result<StorageInfo, SessionError> {
        let waiting = self.waiting(Wait::Configure);
        let answer = self.command(&command::storage_info(), self.timeouts.configure).await?;
        waiting.over();
        let found = answer.logs.iter().find_map(|line| storage_info(line));
        match found {
            Some(info) if answer.response.ack => {
                let info = info.map_err(failure)?;
                self.bad_blocks.described = info.bad_blocks;
                self.bad_blocks.count = self.bad_blocks.count.max(info.bad_blocks.unwrap_or(0));
                Ok(info)
            }
            _ => {
                let detail = format!("the programmer does not describe its storage: {}", answer.reason());
                Err(Failure::new(FailureCode::GeometryMismatch, detail).into())
            }
        }
    }

    /// Whether the programmer still answers.
    pub(crate) async fn ping(&mut self) -> Result<(), SessionError> {
        self.command(&command::nop(), self.timeouts.configure).await.map(|_| ())
    }

    /// Reads a range; `sink` gets its bytes in order, in pieces. `progress` is told how many there are.
    pub(crate) async fn read(
        &mut self,
        range: PageRange,
        geometry: Geometry,
        mut sink: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), SessionError> {
        let xml = command::read(range, geometry).map_err(failure)?;
        let waiting = self.waiting(Wait::Read);
        let answer = self.command(&xml, self.timeouts.read).await?;
        waiting.over();
        if !answer.response.ack || answer.response.rawmode != Some(true) {
            let detail = format!("read of page {} refused: {}", range.start, answer.reason());
            return Err(Failure::new(FailureCode::BackupFailed, detail).into());
        }
        self.inbox.expect_raw(range.pages.saturating_mul(u64::from(geometry.page_bytes)));
        let mut pour = Pour { began: self.link.clock().now(), bytes: 0 };
        let mut last_words = LastWords::default();
        while self.inbox.raw_remaining() > 0 {
            if let Some(bytes) = self.inbox.take_raw() {
                pour.bytes += bytes.len() as u64;
                last_words.hear(&bytes);
                sink(&bytes)?;
                continue;
            }
            let refusal = last_words.refusal();
            let limit = if refusal.is_some() { REFUSAL_GAP } else { self.timeouts.transfer };
            let deadline = pour.deadline(self.link.clock().now(), self.timeouts.transfer).min(self.deadline(limit));
            let waiting = self.waiting(Wait::Transfer);
            let bytes = match (self.link.receive_until(deadline, "a read stopped in the middle").await, refusal) {
                (Err(SessionError::Silent(_)), Some(reason)) => {
                    self.inbox.expect_raw(0);
                    let detail = format!("read of page {} failed: {reason}", range.start);
                    return Err(Failure::new(FailureCode::BackupFailed, detail).into());
                }
                (bytes, _) => bytes?,
            };
            waiting.over();
            self.inbox.feed(&bytes);
            self.link.recycle(bytes);
        }
        let waiting = self.waiting(Wait::Read);
        let answer = self.answer(self.timeouts.read, "a read was not finished").await?;
        waiting.over();
        if !answer.response.ack {
            let detail = format!("read of page {} failed: {}", range.start, answer.reason());
            return Err(Failure::new(FailureCode::BackupFailed, detail).into());
        }
        Ok(())
    }

    /// Reads ranges only to make the programmer name the bad blocks in them. What it refuses to read is read again block by
    /// block, and passed over where it is refused again.
    pub(crate) async fn survey(&mut self, ranges: &[PageRange], geometry: Geometry) -> Result<Survey, SessionError> {
        let mut survey = Survey::default();
        let mut refusals = 0;
        for range in ranges {
            if self.try_read(*range, geometry, &mut survey).await? {
                continue;
            }
            let per_block = u64::from(geometry.pages_per_block);
            let mut start = range.start;
            while start < range.end() && refusals < limits::FIREHOSE_REFUSED_READS_MAX {
                let next = (start / per_block + 1).saturating_mul(per_block).min(range.end());
                let block = PageRange { start, pages: next - start };
                refusals += u32::from(!self.try_read(block, geometry, &mut survey).await?);
                start = next;
            }
        }
        Ok(survey)
    }

    /// Whether a range could be read; its refusal goes into the survey.
    async fn try_read(
        &mut self,
        range: PageRange,
        geometry: Geometry,
        survey: &mut Survey,
    ) -> Result<bool, SessionError> {
        match self.read(range, geometry, |_| Ok(())).await {
            Ok(()) => survey.blocks_read += range.pages.div_ceil(u64::from(geometry.pages_per_block)),
            Err(SessionError::Failed(failure)) if failure.code == FailureCode::BackupFailed => {
                survey.refusal.get_or_insert(failure.detail);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Reads a range into memory; for small ones.
    pub(crate) async fn read_bytes(&mut self, range: PageRange, geometry: Geometry) -> Result<Vec<u8>, SessionError> {
        let mut bytes = Vec::new();
        self.read(range, geometry, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(bytes)
    }

    /// Sends the module out of download mode and reads its logs until it leaves. Gone before the acknowledgement
    /// means that somebody took it.
    pub(crate) async fn reset(mut self) -> Result<(), SessionError> {
        self.leave(&command::power_reset()).await
    }

    /// Sends the module back to the start of download mode, with no programmer in it.
    pub(crate) async fn reset_to_edl(mut self) -> Result<(), SessionError> {
        self.leave(&command::power_reset_to_edl()).await
    }

    async fn leave(&mut self, xml: &[u8]) -> Result<(), SessionError> {
        let answer = self.command(xml, self.timeouts.configure).await?;
        if !answer.response.ack {
            return Err(Failure::new(FailureCode::NoReboot, format!("reset refused: {}", answer.reason())).into());
        }
        let deadline = self.deadline(DRAIN_LIMIT);
        loop {
            match self.message(deadline, "no disconnect").await {
                Ok(_) => {}
                Err(SessionError::Gone) => return Ok(()),
                // Still there: the caller looks at the bus.
                Err(_) => return Ok(()),
            }
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn command(&mut self, xml: &[u8], limit: Duration) -> Result<Answer, SessionError> {
        self.link.send(xml, true, self.timeouts.transfer, "a command was not taken").await?;
        self.answer(limit, "a command was not answered").await
    }

    /// Waits for the answer to what was sent.
    pub(crate) async fn answer(&mut self, limit: Duration, silence: &'static str) -> Result<Answer, SessionError> {
        let deadline = self.deadline(limit);
        let mut budget = LogBudget::new();
        loop {
            match self.message(deadline, silence).await? {
                Message::Log(line) => {
                    self.note(&line);
                    budget.take(&line).map_err(failure)?;
                }
                Message::Response(response) => {
                    // Where it asks for payload, that begins now.
                    self.payload = Pour { began: self.link.clock().now(), bytes: 0 };
                    return Ok(Answer { response, logs: budget.kept(), error_logged: budget.saw_error() });
                }
            }
        }
    }

    /// Queues a piece of payload.
    pub(crate) async fn send_payload(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let limit = self.payload_limit()?;
        self.payload.bytes += bytes.len() as u64;
        self.link.send(bytes, true, limit, "payload was not taken").await
    }

    /// Waits until all payload is taken.
    pub(crate) async fn flush_payload(&mut self) -> Result<(), SessionError> {
        let limit = self.payload_limit()?;
        self.link.flush(limit, "payload was not taken").await
    }

    /// How long the next transfer of the payload may take.
    fn payload_limit(&self) -> Result<Duration, SessionError> {
        let now = self.link.clock().now();
        match self.payload.deadline(now, self.timeouts.transfer).saturating_sub(now) {
            Duration::ZERO => Err(SessionError::Silent("payload was taken too slowly")),
            limit => Ok(limit),
        }
    }

    async fn message(&mut self, deadline: Duration, silence: &'static str) -> Result<Message, SessionError> {
        loop {
            if let Some(message) = self.inbox.next().map_err(failure)? {
                return Ok(message);
            }
            let bytes = self.link.receive_until(deadline, silence).await?;
            self.inbox.feed(&bytes);
            self.link.recycle(bytes);
        }
    }

    /// A wait begins that is part of the run's record once it is over.
    pub(crate) fn waiting(&self, wait: Wait) -> Waiting {
        self.link.waiting(wait)
    }

    fn note(&mut self, line: &str) {
        tracing::trace!(line, "programmer");
        self.bad_blocks.note(line);
    }

    fn deadline(&self, limit: Duration) -> Duration {
        self.link.clock().deadline(limit)
    }
}

/// The end of what has come of a payload: a programmer that cannot go on with a read says so where payload was expected.
#[derive(Debug, Default)]
struct LastWords(Vec<u8>);

impl LastWords {
    fn hear(&mut self, payload: &[u8]) {
        const START: &[u8] = b"<?xml";
        // Words come in transfers of their own.
        if !self.0.starts_with(START) || self.0.len() + payload.len() > REFUSAL_BYTES_MAX {
            self.0.clear();
        }
        if payload.len() <= REFUSAL_BYTES_MAX && (!self.0.is_empty() || payload.starts_with(START)) {
            self.0.extend_from_slice(payload);
        }
    }

    /// Why the read is refused, where these are words and nothing else, and the last of them is a refusal.
    fn refusal(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let mut inbox = Inbox::new();
        inbox.feed(&self.0);
        let mut logs = LogBudget::new();
        let mut is_refused = false;
        while let Some(message) = inbox.next().ok()? {
            match message {
                Message::Log(line) if !is_refused => logs.take(&line).ok()?,
                Message::Response(response) if !is_refused => is_refused = !response.ack,
                _ => return None,
            }
        }
        is_refused.then(|| logs.kept().join(" | "))
    }
}

/// What a broken protocol means.
pub(crate) fn failure(error: FirehoseError) -> SessionError {
    Failure::new(error.code(), error.to_string()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(body: &str) -> Vec<u8> {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\" ?><data>{body}</data>").into_bytes()
    }

    fn refusal(pieces: &[Vec<u8>]) -> Option<String> {
        let mut words = LastWords::default();
        pieces.iter().for_each(|piece| words.hear(piece));
        words.refusal()
    }

    #[test]
    fn a_refusal_in_the_middle_of_a_payload_is_told_from_payload() {
        let log = document("<log value=\"ERROR: page 9 cannot be corrected\" />");
        let refused = document("<response value=\"NAK\" rawmode=\"false\" />");
        let payload = vec![0xa5; 16 * 1024];
        let told = refusal(&[payload.clone(), log.clone(), refused.clone()]);
        assert!(told.is_some_and(|told| told.contains("page 9")));
        assert!(refusal(&[payload.clone(), [log.clone(), refused.clone()].concat()]).is_some());
        // Something follows, or it is none, or it is not all there.
        assert_eq!(refusal(&[refused.clone(), payload.clone()]), None);
        assert_eq!(refusal(&[refused.clone(), vec![0xa5]]), None);
        assert_eq!(refusal(&[document("<response value=\"ACK\" rawmode=\"false\" />")]), None);
        assert_eq!(refusal(&[log]), None);
        assert_eq!(refusal(&[refused[..refused.len() - 1].to_vec()]), None);
        assert_eq!(refusal(&[payload, vec![0xa5; 7]]), None);
    }

    #[test]
    fn a_payload_that_only_trickles_comes_to_an_end() {
        let limit = Duration::from_secs(30);
        let pour = |bytes| Pour { began: Duration::from_secs(100), bytes };
        assert_eq!(pour(0).deadline(Duration::from_secs(100), limit), Duration::from_secs(130));
        // At full speed only the single transfer counts.
        let second = limits::FIREHOSE_BYTES_PER_SECOND_MIN;
        assert_eq!(pour(600 * second).deadline(Duration::from_secs(160), limit), Duration::from_secs(190));
        // Below the least speed the whole of it does.
        assert_eq!(pour(10 * second).deadline(Duration::from_secs(125), limit), Duration::from_secs(140));
    }
}
