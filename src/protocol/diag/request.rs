//! One command, and how its answer is known and read.

use std::fmt;

use super::error::{Errno, Refusal, ReplyError};
use super::frame::encode;

/// Reads the part of an answer behind the bytes that it repeats; `None` when it answers something else.
type Reader<T> = dyn Fn(&mut Body<'_>) -> Result<Option<T>, ReplyError> + Send + Sync;

/// A command whose answer is a `T`.
pub struct Request<T> {
    name: &'static str,
    payload: Vec<u8>,
    key_bytes: usize,
    is_repeatable: bool,
    read: Box<Reader<T>>,
}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The payload may hold content of the module.
        formatter.debug_struct("Request").field("name", &self.name).field("bytes", &self.payload.len()).finish()
    }
}

impl<T> Request<T> {
    /// A command whose answer repeats its first `key_bytes` bytes.
    pub(super) fn new(
        name: &'static str,
        payload: Vec<u8>,
        key_bytes: usize,
        read: impl Fn(&mut Body<'_>) -> Result<Option<T>, ReplyError> + Send + Sync + 'static,
    ) -> Self {
        debug_assert!(0 < key_bytes && key_bytes <= payload.len());
        Self { name, payload, key_bytes, is_repeatable: true, read: Box::new(read) }
    }

    /// The same command, which must not be sent a second time when its answer is lost.
    pub(super) fn once(mut self) -> Self {
        self.is_repeatable = false;
        self
    }

    /// What it is, in words.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The frame to be written to the port.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        encode(&self.payload)
    }

    /// The payload of that frame.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether it may be sent again when no answer came: doing it twice does what doing it once does.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }

    /// Looks at the payload of a frame that arrived. `Ok(None)` when it has nothing to do with this request: a log
    /// or event frame, or a late answer to another request.
    ///
    /// # Errors
    /// [`ReplyError`] when it answers this request, but not with what was asked for.
    pub fn answer(&self, frame: &[u8]) -> Result<Option<T>, ReplyError> {
        let Some(first) = frame.first() else { return Ok(None) };
        if let Some(refusal) = Refusal::of(*first) {
            // It repeats the refused request, as much of it as it likes.
            let refused = &frame[1..];
            let common = refused.len().min(self.payload.len());
            return if refused[..common] == self.payload[..common] {
                Err(ReplyError::Refused { command: self.name, refusal })
            } else {
                Ok(None)
            };
        }
        match frame.strip_prefix(&self.payload[..self.key_bytes]) {
            Some(rest) => (self.read)(&mut Body { command: self.name, rest }),
            None => Ok(None),
        }
    }
}

/// The unread part of an answer.
#[derive(Debug)]
pub struct Body<'a> {
    command: &'static str,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    pub(super) fn malformed(&self, problem: &'static str) -> ReplyError {
        ReplyError::Malformed { command: self.command, problem }
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReplyError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(self.malformed("it is too short")),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, ReplyError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, ReplyError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, ReplyError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, ReplyError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// A number that cannot be negative.
    pub(super) fn count(&mut self) -> Result<u32, ReplyError> {
        u32::try_from(self.i32()?).map_err(|_| self.malformed("a length is negative"))
    }

    /// An error number of the file system; nothing behind it matters when it is one.
    pub(super) fn errno(&mut self) -> Result<(), ReplyError> {
        match self.i32()? {
            0 => Ok(()),
            errno => Err(ReplyError::Efs { command: self.command, errno: Errno(errno) }),
        }
    }

    /// Everything up to the next NUL, or to the end where there is none.
    pub(super) fn text(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| *byte == 0).unwrap_or(self.rest.len());
        let text = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        text
    }

    /// All the rest.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), ReplyError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("it is too long")) }
    }
}
