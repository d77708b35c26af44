//! The DIAG port: the one frame that sends a module into download mode.

use std::time::Duration;

use crate::controller::failure::SessionError;
use crate::hardware::AtPort;
use crate::host::Clock;
use crate::protocol::diag::{self, Deframer};

/// How long the echo may take; real modules answer within 10 ms.
const ECHO_LIMIT: Duration = Duration::from_secs(3);

/// Asks once for download mode. `Ok(true)` when the module echoed the command or is gone already; it then leaves the
/// bus by itself. `Ok(false)` when it did not react.
pub(crate) async fn ask_for_edl(port: &mut dyn AtPort, clock: &Clock) -> Result<bool, SessionError> {
    match clock.timeout_at(clock.deadline(ECHO_LIMIT), exchange(port)).await {
        Ok(Ok(())) | Ok(Err(SessionError::Gone)) => Ok(true),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

async fn exchange(port: &mut dyn AtPort) -> Result<(), SessionError> {
    port.write(&diag::encode(&diag::ENTER_EDL)).await?;
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
