//! Traces: what went over the wires of one run, written down, and played back to the same controller.
//!
//! The recorder is a [`Bus`](crate::hardware::Bus) and a [`SlotPower`](crate::hardware::SlotPower) around the real
//! ones; the controller cannot tell. A trace is text, one JSON document a line: a header, what happened in order, the
//! facts of the run, and an end. What belongs to the unit, and the images, are in it by digest and length alone
//! ([`crate::protocol::content`] tells them from talk), so that a trace can be mailed to somebody.
//!
//! The player is a bus made from a trace. It gives out what the module said once the controller has done what it had
//! done before that, no earlier than the module took for it, and compares everything that the controller sends.

mod compare;
mod difference;
mod error;
mod format;
mod payloads;
mod piece;
mod play_pipe;
mod player;
mod read;
mod record_pipe;
mod recorder;
mod run_file;
mod script;
mod writer;

pub use compare::{FactsDiffer, compare};
pub use difference::{Difference, Direction};
pub use error::TraceError;
pub use format::{Event, FORMAT, Header, Line, decode, encode};
pub use piece::{Piece, Tag};
pub use player::Player;
pub use read::{Trace, payloads_beside};
pub use recorder::{Recorder, Setup, TracedSlot};
pub use writer::Mode;
