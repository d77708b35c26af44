//! A trace as a script: what the controller has to do, and what the module says once it was done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::error::TraceError;
use super::format::{Event, Line};
use super::piece::{Piece, Tag};
use crate::domain::limits;

/// The lines of one conversation, as indices of the trace.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) opened: Option<usize>,
    pub(super) ins: VecDeque<usize>,
    pub(super) taken: VecDeque<usize>,
}

/// Which stretches of pages a trace reads back by digest, by where in a page they begin and how long they are.
pub(super) type Stretches = BTreeMap<(u32, u32), BTreeSet<Tag>>;

/// What is to be played.
#[derive(Debug)]
pub(super) struct Script {
    /// What the controller does, in order.
    pub(super) acts: Vec<usize>,
    /// For each line, how many acts come before it.
    pub(super) after: Vec<usize>,
    pub(super) conversations: BTreeMap<u32, Conversation>,
    /// What is plugged in.
    pub(super) plugged: VecDeque<usize>,
    pub(super) stretches: Stretches,
}

impl Script {
    pub(super) fn new(lines: &[Line]) -> Result<Self, TraceError> {
        let mut this = Self {
            acts: Vec::new(),
            after: Vec::with_capacity(lines.len()),
            conversations: BTreeMap::new(),
            plugged: VecDeque::new(),
            stretches: Stretches::new(),
        };
        for (index, line) in lines.iter().enumerate() {
            this.after.push(this.acts.len());
            this.take(index, &line.event)?;
        }
        Ok(this)
    }

    fn take(&mut self, index: usize, event: &Event) -> Result<(), TraceError> {
        let place = |reason| TraceError::Place { line: index + 1, reason };
        match event {
            Event::Slot { chains, .. } if chains.is_empty() => return Err(place("a slot without a port chain")),
            Event::Slot { .. } => self.plugged.push_back(index),
            Event::Plugged(_) if self.plugged.is_empty() => return Err(place("it comes before any slot")),
            Event::Plugged(_) => self.plugged.push_back(index),
            Event::Open { c, .. } => {
                if self.conversations.insert(*c, Conversation::default()).is_some() {
                    return Err(place("the conversation was begun before"));
                }
                self.acts.push(index);
            }
            Event::Opened { c, .. } => self.conversation(*c).ok_or_else(|| place(NO_SUCH))?.opened = Some(index),
            Event::Out { c, .. } => {
                self.conversation(*c).ok_or_else(|| place(NO_SUCH))?;
                self.acts.push(index);
            }
            Event::Taken { c, .. } => self.conversation(*c).ok_or_else(|| place(NO_SUCH))?.taken.push_back(index),
            Event::In { c, pieces, .. } => {
                self.conversation(*c).ok_or_else(|| place(NO_SUCH))?.ins.push_back(index);
                if pieces.iter().map(Piece::bytes).sum::<usize>() > limits::TRACE_PAYLOAD_TRANSFER_BYTES_MAX {
                    return Err(place("a transfer longer than any"));
                }
                for piece in pieces {
                    if let Piece::Content(offset, bytes, tag) = piece {
                        self.stretch((*offset, *bytes), *tag);
                    }
                }
            }
            // Switching it on is done whenever nothing is known of it, so it says nothing.
            Event::Power { on: false, .. } => self.acts.push(index),
            Event::Power { .. }
            | Event::Header(_)
            | Event::Cancel { .. }
            | Event::Close { .. }
            | Event::Fact(_)
            | Event::Elsewhere(_)
            | Event::Gap { .. }
            | Event::Bound { .. }
            | Event::End { .. } => {}
        }
        Ok(())
    }

    fn conversation(&mut self, c: u32) -> Option<&mut Conversation> {
        self.conversations.get_mut(&c)
    }

    fn stretch(&mut self, place: (u32, u32), tag: Tag) {
        if self.stretches.contains_key(&place) || self.stretches.len() < limits::TRACE_STRETCHES_MAX {
            self.stretches.entry(place).or_default().insert(tag);
        }
    }
}

const NO_SUCH: &str = "its conversation was not begun";
