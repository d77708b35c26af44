//! The stream from a programmer: documents, and payload between them.
//!
//! A transfer may hold half a document or three of them with padding between, so transfers mean nothing here: the
//! stream is cut at `<?xml` and `</data>`. Only the caller knows when payload begins (it asked for it), therefore
//! documents are read one at a time and never past a response.

use std::collections::VecDeque;

use super::FirehoseError;
use super::document::{self, Message};
use crate::domain::limits;

const START: &[u8] = b"<?xml";
const END: &[u8] = b"</data>";

/// Cuts what a programmer sends into messages and payload.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// How many of `bytes` have been taken.
    taken: usize,
    /// How far the end of the present document has been searched for, from `taken` on.
    searched: usize,
    /// Everything up to the next document is passed over, because it has been reported.
    skipping: bool,
    raw_remaining: u64,
    messages: VecDeque<Message>,
}

impl Inbox {
    /// An inbox at the beginning of a programmer's stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they arrived; a zero-length packet is no bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message; `None` when more bytes are needed, or while payload is expected.
    ///
    /// # Errors
    /// [`FirehoseError`] for a document that cannot be read. It is dropped, and the stream goes on with the next one.
    #[expect(clippy::should_implement_trait, reason = "`None` is not the end, more bytes may come")]
    pub fn next(&mut self) -> Result<Option<Message>, FirehoseError> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            if self.raw_remaining > 0 {
                return Ok(None);
            }
            let Some(length) = self.document()? else { return Ok(None) };
            let document = &self.bytes[self.taken..self.taken + length];
            let parsed = document::parse(document);
            self.take(length);
            self.messages.extend(parsed?);
        }
    }

    /// Tells that the next `bytes` bytes are payload: after the response with `rawmode="true"` to a read. Real
    /// programmers begin it right behind the response's document; padding there would be part of it.
    pub fn expect_raw(&mut self, bytes: u64) {
        self.raw_remaining = bytes;
    }

    /// The payload that has arrived, none of it twice; `None` when there is none.
    pub fn take_raw(&mut self) -> Option<Vec<u8>> {
        let unread = &self.bytes[self.taken..];
        let length = usize::try_from(self.raw_remaining).unwrap_or(usize::MAX).min(unread.len());
        if length == 0 {
            return None;
        }
        let payload = unread[..length].to_vec();
        self.take(length);
        self.raw_remaining -= u64::try_from(length).unwrap_or(self.raw_remaining);
        Some(payload)
    }

    /// Bytes of payload that are still to come.
    #[must_use]
    pub const fn raw_remaining(&self) -> u64 {
        self.raw_remaining
    }

    fn take(&mut self, length: usize) {
        self.taken += length;
        self.searched = 0;
    }

    /// The length of the complete document at the front; `None` while there is none.
    fn document(&mut self) -> Result<Option<usize>, FirehoseError> {
        if !self.at_start()? {
            return Ok(None);
        }
        let unread = &self.bytes[self.taken..];
        let window = &unread[..unread.len().min(limits::FIREHOSE_DOCUMENT_BYTES_MAX)];
        let from = self.searched.min(window.len());
        if let Some(end) = window[from..].windows(END.len()).position(|bytes| bytes == END) {
            return Ok(Some(from + end + END.len()));
        }
        if window.len() == limits::FIREHOSE_DOCUMENT_BYTES_MAX {
            let length = window.len();
            self.take(length);
            self.skipping = true;
            return Err(FirehoseError::DocumentTooLong);
        }
        self.searched = window.len().saturating_sub(END.len() - 1);
        Ok(None)
    }

    /// Passes over padding (and garbage, once it has been reported); whether a document begins here.
    fn at_start(&mut self) -> Result<bool, FirehoseError> {
        loop {
            if self.searched > 0 {
                return Ok(true);
            }
            let unread = &self.bytes[self.taken..];
            if unread.starts_with(START) {
                self.skipping = false;
                return Ok(true);
            }
            if START.starts_with(unread) {
                return Ok(false);
            }
            let Some(byte) = unread.first().copied() else { return Ok(false) };
            if !self.skipping && !matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n') {
                self.skipping = true;
                return Err(FirehoseError::Garbage(byte));
            }
            self.take(1);
        }
    }
}
