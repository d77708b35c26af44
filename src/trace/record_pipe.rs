//! A pipe and a port that note what goes through them.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::format::{Event, Fault};
use super::piece::{Piece, Pieces};
use super::recorder::Shared;
use crate::domain::limits;
use crate::hardware::{AtPort, BoxFuture, BulkPipe, HardwareError};
use crate::protocol::content::{BulkTap, PortTap};

/// Where the events of a conversation go.
#[derive(Debug)]
struct Conversation {
    shared: Arc<Shared>,
    slot: usize,
    c: u32,
}

impl Conversation {
    fn emit(&self, event: Event, hidden: Vec<u8>) {
        self.shared.emit(self.slot, event, hidden);
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.emit(Event::Close { c: self.c }, Vec::new());
    }
}

/// A bulk pipe.
#[derive(Debug)]
pub(super) struct RecordedPipe {
    // Closed before that is noted.
    inner: Box<dyn BulkPipe>,
    tap: BulkTap,
    conversation: Conversation,
}

impl RecordedPipe {
    pub(super) fn new(shared: Arc<Shared>, slot: usize, c: u32, inner: Box<dyn BulkPipe>) -> Self {
        Self { inner, tap: BulkTap::new(), conversation: Conversation { shared, slot, c } }
    }

    fn note_in(&self, pieces: Vec<Piece>, hidden: Vec<u8>, error: Option<&HardwareError>) {
        let event = Event::In { c: self.conversation.c, pieces, payload: None, error: error.map(Fault::from) };
        self.conversation.emit(event, hidden);
    }
}

impl BulkPipe for RecordedPipe {
    fn packet_bytes(&self) -> usize {
        self.inner.packet_bytes()
    }

    fn submit_out(&mut self, bytes: &[u8]) -> Result<(), HardwareError> {
        let result = self.inner.submit_out(bytes);
        let spans = self.tap.take_out(bytes);
        let cut = Pieces::cut(bytes, &spans, &self.conversation.shared.veil, &[]);
        let error = result.as_ref().err().map(Fault::from);
        // What is sent is in the package; it is nobody's secret copy that must be kept.
        self.conversation.emit(Event::Out { c: self.conversation.c, pieces: cut.pieces, error }, Vec::new());
        result
    }

    fn out_pending(&self) -> usize {
        self.inner.out_pending()
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<Result<(), HardwareError>> {
        let poll = self.inner.poll_out(context);
        if let Poll::Ready(result) = &poll {
            let error = result.as_ref().err().map(Fault::from);
            self.conversation.emit(Event::Taken { c: self.conversation.c, error }, Vec::new());
        }
        poll
    }

    fn submit_in(&mut self, bytes_max: usize) -> Result<(), HardwareError> {
        let result = self.inner.submit_in(bytes_max);
        if let Err(error) = &result {
            self.note_in(Vec::new(), Vec::new(), Some(error));
        }
        result
    }

    fn in_pending(&self) -> usize {
        self.inner.in_pending()
    }

    fn poll_in(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<usize, HardwareError>> {
        let start = into.len();
        let poll = self.inner.poll_in(context, into);
        match &poll {
            Poll::Ready(Ok(_)) => {
                let bytes = &into[start..];
                let spans = self.tap.take_in(bytes);
                let cut = Pieces::cut(bytes, &spans, &self.conversation.shared.veil, &[]);
                self.note_in(cut.pieces, cut.hidden, None);
            }
            Poll::Ready(Err(error)) => self.note_in(Vec::new(), Vec::new(), Some(error)),
            Poll::Pending => {}
        }
        poll
    }

    fn cancel(&mut self) {
        self.conversation.emit(Event::Cancel { c: self.conversation.c }, Vec::new());
        self.inner.cancel();
    }
}

/// A serial port.
#[derive(Debug)]
pub(super) struct RecordedPort {
    inner: Box<dyn AtPort>,
    tap: PortTap,
    /// The last command: what a value that follows belongs to.
    command: Vec<u8>,
    conversation: Conversation,
}

impl RecordedPort {
    pub(super) fn new(shared: Arc<Shared>, slot: usize, c: u32, inner: Box<dyn AtPort>) -> Self {
        let conversation = Conversation { shared, slot, c };
        Self { inner, tap: PortTap::new(), command: Vec::new(), conversation }
    }
}

impl AtPort for RecordedPort {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        Box::pin(async move {
            let result = self.inner.read(buffer).await;
            let c = self.conversation.c;
            let (cut, error) = match &result {
                Ok(length) => {
                    let bytes = &buffer[..(*length).min(buffer.len())];
                    let spans = self.tap.take_in(bytes);
                    (Pieces::cut(bytes, &spans, &self.conversation.shared.veil, &self.command), None)
                }
                Err(error) => (Pieces::default(), Some(Fault::from(error))),
            };
            self.conversation.emit(Event::In { c, pieces: cut.pieces, payload: None, error }, cut.hidden);
            result
        })
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async move {
            let c = self.conversation.c;
            self.command.clear();
            self.command.extend_from_slice(&bytes[..bytes.len().min(limits::AT_COMMAND_CHARS_MAX)]);
            let spans = self.tap.take_out(bytes);
            let cut = Pieces::cut(bytes, &spans, &self.conversation.shared.veil, &[]);
            self.conversation.emit(Event::Out { c, pieces: cut.pieces, error: None }, Vec::new());
            let result = self.inner.write(bytes).await;
            let error = result.as_ref().err().map(Fault::from);
            self.conversation.emit(Event::Taken { c, error }, Vec::new());
            result
        })
    }
}
