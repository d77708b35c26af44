//! Reads a trace, and believes nothing in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::TraceError;
use super::format::{Event, FORMAT, Header, Line, decode};
use super::payloads::PayloadReader;
use crate::domain::{Fact, Outcome, Sha256Digest, limits};
use crate::host::Disk;

/// The file of payloads that belongs to a trace.
#[must_use]
pub fn payloads_beside(trace: &Path) -> PathBuf {
    trace.with_extension("payloads")
}

/// A whole trace: every line is there, and the facts are those that were recorded.
#[derive(Debug, Clone)]
pub struct Trace {
    /// What it is of.
    pub header: Header,
    /// All lines; the line `n` of the file is number `n - 1` here.
    pub lines: Vec<Line>,
    /// The facts of the run, in order.
    pub facts: Vec<Fact>,
    /// How the run ended; `None` where the recorder ended first.
    pub outcome: Option<Outcome>,
    pub(super) payloads: Option<Arc<PayloadReader>>,
    pub(super) payloads_path: PathBuf,
}

impl Trace {
    /// Reads a trace and the payloads beside it, where there are any.
    ///
    /// # Errors
    /// [`TraceError`] where it is not whole, was altered, or cannot be replayed.
    pub fn read(disk: &dyn Disk, path: &Path) -> Result<Self, TraceError> {
        let bytes = disk.read(path, limits::TRACE_RUN_BYTES_MAX).map_err(|error| TraceError::disk(path, error))?;
        let mut this = Self::parse(&bytes)?;
        let beside = payloads_beside(path);
        this.payloads = match PayloadReader::open(disk, &beside) {
            Ok(payloads) => Some(Arc::new(payloads)),
            Err(TraceError::Disk { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        this.payloads_path = beside;
        Ok(this)
    }

    /// A trace from its text.
    ///
    /// # Errors
    /// As [`Trace::read`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TraceError> {
        let is_whole = bytes.last() == Some(&b'\n');
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut lines: Vec<Line> = Vec::new();
        let mut facts = Vec::new();
        let mut hasher = Sha256::new();
        let (mut header, mut end) = (None, None);
        for (index, text) in text.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            let line = match decode(text, number) {
                Ok(line) => line,
                Err(TraceError::Line { reason, .. }) if index == 0 => return Err(TraceError::NoHeader(reason)),
                // The last line of a file that was cut off.
                Err(TraceError::Line { .. }) if !is_whole && text.len() + 1 > bytes.len() - position(bytes, text) => {
                    return Err(TraceError::CutOff { line: index });
                }
                Err(error) => return Err(error),
            };
            if end.is_some() {
                return Err(TraceError::AfterEnd { line: number });
            }
            check_order(&line, lines.last(), number)?;
            match &line.event {
                Event::Header(found) if index == 0 => header = Some(found.as_ref().clone()),
                Event::Header(_) => return Err(TraceError::Place { line: number, reason: "a second header" }),
                _ if index == 0 => return Err(TraceError::NoHeader("it is another line".to_owned())),
                Event::Gap { lines } => return Err(TraceError::Gap { line: number, lines: *lines }),
                Event::Bound { bytes } => return Err(TraceError::Bound { line: number, bytes: *bytes }),
                Event::Fact(fact) => {
                    hasher.update(serde_json::to_vec(fact).unwrap_or_default());
                    facts.push(fact.as_ref().clone());
                }
                Event::End { outcome, facts, digest } => end = Some((*outcome, *facts, *digest)),
                _ => {}
            }
            lines.push(line);
        }
        let Some(header) = header else { return Err(TraceError::NoHeader("there is no line".to_owned())) };
        let Some((outcome, count, digest)) = end else { return Err(TraceError::CutOff { line: lines.len() }) };
        if count != facts.len() as u64 || digest != Sha256Digest::finish(hasher) {
            return Err(TraceError::Facts);
        }
        if header.resumes {
            return Err(TraceError::Resumes);
        }
        Ok(Self { header, lines, facts, outcome, payloads: None, payloads_path: PathBuf::new() })
    }

    /// Whether what the trace leaves out lies beside it.
    #[must_use]
    pub const fn has_payloads(&self) -> bool {
        self.payloads.is_some()
    }
}

/// Where a part of `bytes` begins in them.
fn position(bytes: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize)
}

fn check_order(line: &Line, before: Option<&Line>, number: usize) -> Result<(), TraceError> {
    if let Event::Header(header) = &line.event
        && header.format != FORMAT
    {
        return Err(TraceError::Format { found: header.format });
    }
    let expected = before.map_or(0, |before| before.number + 1);
    if line.number != expected {
        return Err(TraceError::Number { line: number, expected, found: line.number });
    }
    if before.is_some_and(|before| before.micros > line.micros) {
        return Err(TraceError::Time { line: number });
    }
    Ok(())
}
