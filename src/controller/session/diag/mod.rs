//! The DIAG port: the one frame that sends a module into download mode, and conversations about its file system.

mod collect;
mod files;
mod restore;
mod talk;

use std::time::Duration;

pub use collect::Collected;
pub use files::Tree;
pub use restore::{Compared, Restored};
pub use talk::{DiagFailure, DiagSession};

use crate::controller::failure::SessionError;
use crate::hardware::AtPort;
use crate::host::Clock;
use crate::protocol::diag::{self, Deframer};

/// How long the echo may take; real modules answer within 10 ms.
const ECHO_LIMIT: Duration = Duration::from_secs(3);

/// Asks once for download mode. `Ok(true)` when the module echoed the command or left after it; it then leaves the bus
/// by itself. `Ok(false)` when it did not react.
///
/// # Errors
/// [`SessionError::Gone`] when it was gone before it could be asked.
pub(crate) async fn ask_for_edl(port: &mut dyn AtPort, clock: &Clock) -> Result<bool, SessionError> {
    let deadline = clock.deadline(ECHO_LIMIT);
    let request = diag::encode(&diag::ENTER_EDL);
    match clock.timeout_at(deadline, port.write(&request)).await {
        Ok(written) => written?,
        Err(_) => return Ok(false),
    }
    match clock.timeout_at(deadline, echo(port)).await {
        Ok(Ok(())) | Ok(Err(SessionError::Gone)) => Ok(true),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

async fn echo(port: &mut dyn AtPort) -> Result<(), SessionError> {
    let mut frames = Deframer::new();
    let mut buffer = [0; 256];
    loop {
        let length = port.read(&mut buffer).await?;
        frames.feed(&buffer[..length]);
        for frame in frames.by_ref() {
            // Log and event frames come unasked; broken ones are noise.
            if frame.is_ok_and(|frame| diag::is_edl_echo(&frame)) {
                return Ok(());
            }
        }
    }
}
