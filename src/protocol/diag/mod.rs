//! DIAG, the host's side: the diagnostic port of a running module.
//!
//! A [`Request`] is one command with everything that is needed to understand its answer: the port also carries frames
//! that nobody asked for, and late answers to earlier requests, so an answer is known by the bytes that it repeats of
//! its request. Sending, waiting and repeating belong to the caller.
//!
//! Commands: [`version`], [`build_id`], [`electronic_serial`], [`unlock`], [`password`] and [`control`] here, NV items
//! in [`nv`], the module's file system in [`efs`]. Layouts are those that public tools for these modules agree on;
//! where a layout was never seen on a real module, its item says so.

mod basic;
pub mod efs;
mod error;
mod frame;
pub mod nv;
mod request;
#[cfg(test)]
mod tests;

pub use basic::{
    DEFAULT_PASSWORD, DEFAULT_UNLOCK_CODE, Mode, Version, build_id, control, electronic_serial, password, unlock,
    version,
};
pub use error::{Errno, NvStatus, Refusal, ReplyError};
pub use frame::{Deframer, DiagError, FRAME_END, encode};
pub use request::{Body, Request};

/// The command that reboots a module into emergency download mode: subsystem dispatch (`4B`), subsystem `65`, code 1.
/// The module echoes it and then leaves the bus.
pub const ENTER_EDL: [u8; 4] = [0x4b, 0x65, 0x01, 0x00];

/// Whether a frame's payload is the echo with which a module confirms [`ENTER_EDL`].
#[must_use]
pub fn is_edl_echo(frame: &[u8]) -> bool {
    frame == ENTER_EDL
}
