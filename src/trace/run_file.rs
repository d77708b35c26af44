//! The file of one run.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::format::{Event, Header, Line, encode};
use super::payloads::PayloadWriter;
use super::read::payloads_beside;
use crate::domain::{Fact, Outcome, Sha256Digest, limits};
use crate::host::{AppendFile, Disk};

/// Most files of one run in one directory: each process that works on it begins another one.
const FILES_MAX: u32 = 1000;
/// What is left for facts and the end once the trace has grown to its bound, in bytes.
const RESERVE_BYTES: u64 = 4 * limits::TRACE_LINE_BYTES_MAX as u64;

/// A trace that is being written. A disk that fails ends it, and nothing else.
#[derive(Debug)]
pub(super) struct RunFile {
    path: PathBuf,
    file: Option<Box<dyn AppendFile>>,
    payloads: Option<PayloadWriter>,
    origin: Duration,
    micros: u64,
    number: u64,
    bounded: bool,
    facts: u64,
    hasher: Sha256,
}

impl RunFile {
    /// Makes the file, with its header; `origin` is the time of its first line.
    pub(super) fn create(
        disk: &dyn Disk,
        directory: &Path,
        header: Header,
        origin: Duration,
        keep_payloads: bool,
    ) -> io::Result<Self> {
        let name = |number: u32| match number {
            1 => format!("{}.jsonl", header.run),
            _ => format!("{}-{number}.jsonl", header.run),
        };
        let is_free = |path: &PathBuf| {
            let is_missing = |path: &Path| disk.open(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
            is_missing(path) && is_missing(&payloads_beside(path))
        };
        let path = (1..=FILES_MAX).map(|number| directory.join(name(number))).find(is_free);
        let path = path.ok_or_else(|| io::Error::new(io::ErrorKind::AlreadyExists, "too many traces of one run"))?;
        let file = disk.append(&path)?;
        let payloads = match keep_payloads {
            true => Some(PayloadWriter::new(disk.append(&payloads_beside(&path))?)),
            false => None,
        };
        let mut this = Self {
            path,
            file: Some(file),
            payloads,
            origin,
            micros: 0,
            number: 0,
            bounded: false,
            facts: 0,
            hasher: Sha256::new(),
        };
        this.line(Event::Header(Box::new(header)));
        Ok(this)
    }

    /// Writes an event that happened at `time`, and keeps what its line leaves out.
    pub(super) fn event(&mut self, time: Duration, mut event: Event, hidden: &[u8]) {
        self.at(time);
        if self.bounded || self.file.is_none() {
            return;
        }
        if let (Event::In { payload, .. }, Some(payloads), false) = (&mut event, &mut self.payloads, hidden.is_empty())
        {
            match payloads.add(hidden) {
                Ok(number) => *payload = number,
                Err(error) => {
                    tracing::warn!(%error, trace = %self.path.display(), "payloads cannot be written any more");
                    self.payloads = None;
                }
            }
        }
        self.line(event);
        let is_full = |file: &dyn AppendFile| file.bytes() + RESERVE_BYTES > limits::TRACE_RUN_BYTES_MAX;
        if self.file.as_deref().is_some_and(is_full) {
            self.line(Event::Bound { bytes: limits::TRACE_RUN_BYTES_MAX });
            self.bounded = true;
        }
    }

    /// Writes a fact; also beyond the bound.
    pub(super) fn fact(&mut self, time: Duration, fact: Box<Fact>) {
        self.at(time);
        if let Ok(text) = serde_json::to_vec(&fact) {
            self.hasher.update(&text);
            self.facts += 1;
            self.line(Event::Fact(fact));
        }
    }

    /// Writes the end.
    pub(super) fn end(mut self, time: Duration, outcome: Option<Outcome>) {
        self.at(time);
        let digest = Sha256Digest::finish(std::mem::take(&mut self.hasher));
        self.line(Event::End { outcome, facts: self.facts, digest });
        if let Some(file) = &mut self.file
            && let Err(error) = file.sync()
        {
            tracing::warn!(%error, trace = %self.path.display(), "a trace may be lost");
        }
    }

    fn at(&mut self, time: Duration) {
        let micros = u64::try_from(time.saturating_sub(self.origin).as_micros()).unwrap_or(u64::MAX);
        self.micros = self.micros.max(micros);
    }

    fn line(&mut self, event: Event) {
        let Some(file) = &mut self.file else { return };
        let line = |event| Line { number: self.number, micros: self.micros, event };
        let text = encode(&line(event)).or_else(|| encode(&line(Event::Gap { lines: 1 }))).unwrap_or_default();
        match file.append(&text) {
            Ok(()) => self.number += 1,
            Err(error) => {
                tracing::warn!(%error, trace = %self.path.display(), "a trace cannot be written any more");
                self.file = None;
            }
        }
    }
}
