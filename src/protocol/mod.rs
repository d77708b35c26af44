//! The languages that modules and packages speak, as pure state machines: bytes in, actions out.
//!
//! Nothing here waits, reads a clock, opens a file or knows what a USB transfer is. A machine is fed whatever bytes
//! arrived and says what to send next; timeouts, retries and the pipe belong to its caller. That is why every machine
//! can be stepped by hand, fuzzed, and fed the same conversation in any split: a transfer boundary never changes a
//! result.
//!
//! All input is hostile. Each machine bounds what it keeps by [`crate::domain::limits`], checks every sum, and
//! answers nonsense with a typed error whose `code()` is what the operator sees.

pub mod at;
pub mod content;
pub mod diag;
pub mod firehose;
pub mod layout;
pub mod plan;
pub mod rawprogram;
pub mod restore;
pub mod sahara;
pub mod table;
pub mod xqcn;
