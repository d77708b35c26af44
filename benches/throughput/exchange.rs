//! A programmer at the other end of a pipe, and stretches of bytes both ways, timed.
//!
//! How bytes are moved is a [`Mover`]'s business, so that two ways can be compared over the same conversation.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use stationmaster::domain::{Family, Geometry, PageRange, limits};
use stationmaster::hardware::{BulkPipe, PipeExt};
use stationmaster::protocol::firehose::{Banner, Inbox, Message, Negotiation, Response, command, negotiate};
use stationmaster::protocol::sahara::{Sahara, Step};

use limits::EDL_IMAGE_TRANSFER_BYTES as IMAGE_BYTES;
pub(crate) use limits::EDL_IN_TRANSFER_BYTES as IN_BYTES;

/// A way to move bytes.
pub(crate) trait Mover {
    /// Sends a transfer; with `zlp`, followed by an empty one where it ends with a whole packet.
    async fn send(&mut self, bytes: &[u8], zlp: bool) -> Result<(), String>;
    /// Waits until everything is sent.
    async fn flush(&mut self) -> Result<(), String>;
    /// Waits for a transfer; what arrived is appended.
    async fn receive(&mut self, into: &mut Vec<u8>) -> Result<(), String>;
}

/// Nobody speaks: a conversation between two ways.
pub(crate) struct Nobody;

impl Mover for Nobody {
    async fn send(&mut self, _: &[u8], _: bool) -> Result<(), String> {
        Err("nobody speaks".to_owned())
    }

    async fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }

    async fn receive(&mut self, _: &mut Vec<u8>) -> Result<(), String> {
        Err("nobody listens".to_owned())
    }
}

/// The product's pipe as the controller uses it: transfers in flight both ways.
#[derive(Debug)]
pub(crate) struct InFlight {
    pipe: Box<dyn BulkPipe>,
    depth: usize,
}

impl InFlight {
    pub(crate) fn new(pipe: Box<dyn BulkPipe>) -> Self {
        Self { pipe, depth: limits::TRANSFERS_IN_FLIGHT }
    }

    async fn drain_to(&mut self, rest: usize) -> Result<(), String> {
        while self.pipe.out_pending() > rest {
            self.pipe.out_done().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn listen(&mut self) -> Result<(), String> {
        while self.pipe.in_pending() < self.depth {
            self.pipe.submit_in(IN_BYTES).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Mover for InFlight {
    async fn send(&mut self, bytes: &[u8], zlp: bool) -> Result<(), String> {
        self.listen()?;
        self.drain_to(self.depth - 1).await?;
        self.pipe.submit_out(bytes).map_err(|error| error.to_string())?;
        if zlp && !bytes.is_empty() && bytes.len().is_multiple_of(self.pipe.packet_bytes()) {
            self.pipe.submit_out(&[]).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), String> {
        self.drain_to(0).await
    }

    async fn receive(&mut self, into: &mut Vec<u8>) -> Result<(), String> {
        self.listen()?;
        poll_fn(|context| self.pipe.poll_in(context, into)).await.map_err(|error| error.to_string())?;
        self.listen()
    }
}

/// A conversation with a programmer.
#[derive(Debug)]
pub(crate) struct Exchange<M> {
    mover: M,
    inbox: Inbox,
    geometry: Geometry,
    payload_bytes: usize,
}

impl<M: Mover> Exchange<M> {
    /// Starts a programmer in a module that has none, and agrees with it on a payload size.
    pub(crate) async fn start(mut mover: M, programmer: &[u8], family: &Family) -> Result<Self, String> {
        let heard = load(&mut mover, programmer).await?;
        let mut inbox = Inbox::new();
        inbox.feed(&heard);
        let mut this = Self { mover, inbox, geometry: family.geometry, payload_bytes: 0 };
        let mut banner = Banner::new();
        while !banner.is_complete() {
            if let Message::Log(line) = this.message().await? {
                banner.take(&line);
            }
        }
        let mut asked = family.payload_bytes;
        loop {
            let response = this.command(&command::configure("nand", asked)).await?;
            let page_bytes = family.geometry.page_bytes;
            match negotiate(asked, page_bytes, &response).map_err(|error| error.to_string())? {
                Negotiation::Agreed { payload_bytes } => {
                    this.payload_bytes = usize::try_from(payload_bytes).map_err(|error| error.to_string())?;
                    return Ok(this);
                }
                Negotiation::Again { payload_bytes } if payload_bytes < asked => asked = payload_bytes,
                Negotiation::Again { .. } => return Err("no payload size is agreed on".to_owned()),
            }
        }
    }

    /// The length of an OUT transfer, in bytes.
    pub(crate) const fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The same conversation by another way; the first one is closed by then.
    pub(crate) fn by<N: Mover>(&self, mover: N) -> Exchange<N> {
        Exchange { mover, inbox: Inbox::new(), geometry: self.geometry, payload_bytes: self.payload_bytes }
    }

    /// Erases a range.
    pub(crate) async fn erase(&mut self, range: PageRange) -> Result<(), String> {
        let xml = command::erase(range, self.geometry, &[]).map_err(|error| error.to_string())?;
        self.command(&xml).await.map(drop)
    }

    /// Programs an erased range; how long its bytes took, with what the module needed to take the last of them.
    pub(crate) async fn program(&mut self, range: PageRange, content: &[u8]) -> Result<Duration, String> {
        let xml = command::program(range, self.geometry, &[]).map_err(|error| error.to_string())?;
        self.command(&xml).await?;
        let start = now();
        for piece in content.chunks(self.payload_bytes) {
            self.mover.send(piece, true).await?;
        }
        self.mover.flush().await?;
        self.answer().await?;
        Ok(now() - start)
    }

    /// Reads a range; its bytes, and how long they took.
    pub(crate) async fn read(&mut self, range: PageRange) -> Result<(Vec<u8>, Duration), String> {
        let xml = command::read(range, self.geometry).map_err(|error| error.to_string())?;
        self.command(&xml).await?;
        let wanted = range.pages.saturating_mul(u64::from(self.geometry.page_bytes));
        self.inbox.expect_raw(wanted);
        let mut content = Vec::with_capacity(usize::try_from(wanted).map_err(|error| error.to_string())?);
        let mut buffer = Vec::with_capacity(IN_BYTES);
        let start = now();
        while self.inbox.raw_remaining() > 0 {
            if let Some(bytes) = self.inbox.take_raw() {
                content.extend_from_slice(&bytes);
                continue;
            }
            buffer.clear();
            self.mover.receive(&mut buffer).await?;
            self.inbox.feed(&buffer);
        }
        let took = now() - start;
        self.answer().await?;
        Ok((content, took))
    }

    async fn command(&mut self, xml: &[u8]) -> Result<Response, String> {
        self.mover.send(xml, true).await?;
        self.mover.flush().await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Response, String> {
        let mut last = "no log line".to_owned();
        loop {
            match self.message().await? {
                Message::Log(line) => last = line,
                Message::Response(response) if response.ack => return Ok(response),
                // The offer of another payload size is a refusal with an attribute.
                Message::Response(response) if !response.attributes.is_empty() && self.payload_bytes == 0 => {
                    return Ok(response);
                }
                Message::Response(_) => return Err(format!("the programmer refuses: {last}")),
            }
        }
    }

    async fn message(&mut self) -> Result<Message, String> {
        let mut buffer = Vec::new();
        loop {
            if let Some(message) = self.inbox.next().map_err(|error| error.to_string())? {
                return Ok(message);
            }
            buffer.clear();
            self.mover.receive(&mut buffer).await?;
            self.inbox.feed(&buffer);
        }
    }
}

/// Sends a programmer over Sahara; what was heard of it already.
async fn load(mover: &mut impl Mover, programmer: &[u8]) -> Result<Vec<u8>, String> {
    let mut machine = Sahara::new();
    let mut buffer = Vec::new();
    loop {
        match machine.step().map_err(|error| error.to_string())? {
            Step::Send(bytes) => {
                mover.send(&bytes, false).await?;
                mover.flush().await?;
            }
            Step::SendImage { offset, length } => {
                let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
                let asked = range.and_then(|(from, length)| programmer.get(from..from.checked_add(length)?));
                for piece in asked.ok_or("it asks for more than there is")?.chunks(IMAGE_BYTES) {
                    mover.send(piece, false).await?;
                }
                mover.flush().await?;
            }
            Step::ChipRead(_) => machine.start_load(programmer.len() as u64),
            Step::Loaded => return Ok(machine.take_rest()),
            Step::NeedBytes => {
                buffer.clear();
                mover.receive(&mut buffer).await?;
                machine.feed(&buffer);
            }
            Step::AlreadyFirehose => return Err("a programmer runs in it that is not ours".to_owned()),
            Step::MemoryDebug | Step::ResetDone => return Err("it is not in download mode".to_owned()),
        }
    }
}

/// Bytes that are no page of any image and differ from round to round.
pub(crate) fn content(round: u32, bytes: usize) -> Vec<u8> {
    let mut state = u64::from(round).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut content: Vec<u8> = std::iter::repeat_with(&mut next).flatten().take(bytes).collect();
    content.shrink_to_fit();
    content
}

#[expect(clippy::disallowed_methods, reason = "a bench measures the host itself, with its own clock")]
fn now() -> Instant {
    Instant::now()
}
