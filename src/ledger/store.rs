//! Reading entries back: the newest from memory, older ones from the files.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::limits;
use crate::host::Disk;

use super::LedgerError;
use super::line::{self, Entry};
use super::segment::{self, Head, Lines, RawLine};

/// Every so many entries the offset of one is noted.
const MARK_EVERY: u64 = 256;

/// What is known of one file.
#[derive(Debug)]
struct Segment {
    first_seq: u64,
    /// Offsets of some entries.
    marks: BTreeMap<u64, u64>,
}

#[derive(Debug, Default)]
struct Inner {
    segments: Vec<Segment>,
    newest: VecDeque<Arc<Entry>>,
}

/// The entries that are durable, shared by the writer and all readers.
#[derive(Debug)]
pub(super) struct Store {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    inner: Mutex<Inner>,
}

/// Where to look for an entry in the files.
struct Place {
    number: u32,
    seq: u64,
    offset: u64,
}

impl Store {
    pub(super) fn new(disk: Arc<dyn Disk>, directory: PathBuf) -> Self {
        Self { disk, directory, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file begins, with that entry.
    pub(super) fn begin_segment(&self, first_seq: u64) {
        self.inner().segments.push(Segment { first_seq, marks: BTreeMap::new() });
    }

    /// An entry of the last file became durable.
    pub(super) fn push(&self, entry: Arc<Entry>, offset: u64) {
        let mut inner = self.inner();
        if entry.seq.is_multiple_of(MARK_EVERY)
            && let Some(segment) = inner.segments.last_mut()
        {
            segment.marks.insert(entry.seq, offset);
        }
        inner.newest.push_back(entry);
        if inner.newest.len() > limits::LEDGER_ENTRIES_KEPT {
            inner.newest.pop_front();
        }
    }

    /// Entries from `from_seq` on: at most `max` of them, none after `head`.
    pub(super) fn read(&self, from_seq: u64, max: usize, head: u64) -> Result<Vec<Entry>, LedgerError> {
        let max = max.min(limits::LEDGER_READ_ENTRIES_MAX);
        match self.read_memory(from_seq.max(1), max, head) {
            Some(entries) => Ok(entries),
            None => self.read_files(from_seq.max(1), max, head),
        }
    }

    /// The same where memory alone can answer.
    pub(super) fn read_memory(&self, from_seq: u64, max: usize, head: u64) -> Option<Vec<Entry>> {
        let from_seq = from_seq.max(1);
        if from_seq > head || max == 0 {
            return Some(Vec::new());
        }
        let inner = self.inner();
        let skip = from_seq.checked_sub(inner.newest.front()?.seq)?;
        let entries = inner.newest.iter().skip(usize::try_from(skip).ok()?).take(max);
        Some(entries.take_while(|entry| entry.seq <= head).map(|entry| Entry::clone(entry)).collect())
    }

    fn place(&self, seq: u64) -> Option<Place> {
        let inner = self.inner();
        let index = inner.segments.partition_point(|segment| segment.first_seq <= seq).checked_sub(1)?;
        let segment = &inner.segments[index];
        let mark = segment.marks.range(..=seq).next_back();
        let (seq, offset) = mark.map_or((segment.first_seq, 0), |(seq, offset)| (*seq, *offset));
        Some(Place { number: u32::try_from(index).ok()? + 1, seq, offset })
    }

    fn read_files(&self, from_seq: u64, max: usize, head: u64) -> Result<Vec<Entry>, LedgerError> {
        let mut entries = Vec::new();
        let mut next = from_seq;
        while next <= head && entries.len() < max {
            let Some(place) = self.place(next) else { break };
            let before = next;
            self.scan(&place, &mut next, head, max, &mut entries)?;
            if next == before {
                let name = segment::name(place.number);
                return Err(LedgerError::corrupt(&name, 0, format!("entry {next} is missing")));
            }
        }
        Ok(entries)
    }

    /// Takes entries of one file from `next` on.
    fn scan(
        &self,
        place: &Place,
        next: &mut u64,
        head: u64,
        max: usize,
        entries: &mut Vec<Entry>,
    ) -> Result<(), LedgerError> {
        let mut lines = Lines::open(&*self.disk, &self.directory, place.number, place.offset)?;
        let mut seq = place.seq;
        let mut marks = Vec::new();
        while *next <= head && entries.len() < max {
            let offset = lines.offset();
            let Some(RawLine::Whole(text)) = lines.next()? else { break };
            if seq.is_multiple_of(MARK_EVERY) {
                marks.push((seq, offset));
            }
            if seq == *next {
                let entry = line::decode(&text).and_then(|entry| {
                    if entry.seq == seq { Ok(entry) } else { Err(format!("entry {seq} is expected here")) }
                });
                let first = self.inner().segments[place.number as usize - 1].first_seq;
                let name = segment::name(place.number);
                entries.push(entry.map_err(|reason| LedgerError::corrupt(&name, seq - first + 1, reason))?);
                *next += 1;
            }
            seq += 1;
        }
        self.inner().segments[place.number as usize - 1].marks.extend(marks);
        Ok(())
    }

    /// Hands every entry after `from` to `take`, verifying the chain on the way. Gives `false`, having handed over
    /// nothing, when entry `from` is not what the file holds.
    pub(super) fn replay(
        &self,
        from: Head,
        to: u64,
        mut take: impl FnMut(Entry) -> Result<(), LedgerError>,
    ) -> Result<bool, LedgerError> {
        if from.seq > 0 && self.read_files(from.seq, 1, to)?.first().is_none_or(|entry| entry.hash != from.hash) {
            return Ok(false);
        }
        let Some(start) = self.place(from.seq.max(1)) else { return Ok(true) };
        let mut head = from;
        let count = u32::try_from(self.inner().segments.len()).unwrap_or(u32::MAX);
        let (mut offset, mut seq) = (start.offset, start.seq);
        for number in start.number..=count {
            let mut lines = Lines::open(&*self.disk, &self.directory, number, offset)?;
            while let Some(RawLine::Whole(text)) = lines.next()? {
                seq += 1;
                if seq <= from.seq + 1 {
                    continue;
                }
                let first = self.inner().segments[number as usize - 1].first_seq;
                let entry = head.follow(&text).map_err(|reason| {
                    LedgerError::corrupt(&segment::name(number), (head.seq + 2).saturating_sub(first), reason)
                })?;
                take(entry)?;
            }
            offset = 0;
        }
        if head.seq == to {
            Ok(true)
        } else {
            let reason = format!("entry {} is missing", head.seq + 1);
            Err(LedgerError::corrupt(&segment::name(count), 0, reason))
        }
    }
}
