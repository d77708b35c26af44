//! Traces: recorded from whole lines in virtual time, and played back to the controller.

#[path = "../line/harness.rs"]
#[allow(dead_code, reason = "the harness serves the tests of lines too")]
mod harness;

mod edits;
mod format;
mod gaps;
mod replays;
