//! USB redirection: modules as devices of QEMU's guests, behind QEMU's own hubs and host controllers.
//!
//! A socket for each slot, `DIRECTORY/SLOT.redir`, to which QEMU connects one `usb-redir` device:
//! `-chardev socket,id=a1,path=DIRECTORY/A1.redir,reconnect=1 -device usb-redir,chardev=a1,port=1.2`. QEMU says where
//! the device is plugged in the guest; what is in the slot comes and goes there. The connection is the cable: the module's
//! supply is interrupted when it ends, as it is where a hub is pulled out that feeds what hangs behind it.

mod session;
mod wire;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, Mode, lstat, mkdir, unlink};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::session::Session;
use super::usbip::Exports;
use super::world::{Export, World};
use crate::domain::{SlotName, limits};
use crate::hardware::HardwareError;
use crate::host::Clock;

/// How often a module is tried that another program holds.
const BUSY_INTERVAL: Duration = Duration::from_millis(200);

/// The sockets of slots.
#[derive(Debug)]
pub struct Sockets(Vec<(SlotName, UnixListener)>);

/// Makes the directory and a socket for each slot. A socket that an earlier process left is replaced; anything else of
/// that name is left alone. Must be called inside a runtime.
///
/// # Errors
/// The operating system's.
pub fn bind<'a>(directory: &Path, slots: impl Iterator<Item = &'a SlotName>) -> io::Result<Sockets> {
    match mkdir(directory, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = |slot: &SlotName| {
        let path = directory.join(format!("{slot}.redir"));
        if lstat(&path).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Socket) {
            unlink(&path)?;
        }
        Ok((slot.clone(), UnixListener::bind(&path)?))
    };
    slots.map(socket).collect::<io::Result<_>>().map(Sockets)
}

/// Serves all slots until `stop`; to each, one peer at a time.
pub async fn serve(sockets: Sockets, exports: Exports, clock: Clock, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    for (slot, listener) in sockets.0 {
        let (world, clock) = (exports.world.clone(), clock.clone());
        let serving = async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Err(error) = serve_peer(stream, &world, &slot, &clock).await {
                    tracing::warn!(%slot, error, "usb redirection ended");
                }
                world.interrupt_power(&slot);
            }
        };
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(serving).await });
    }
    tasks.close();
    tasks.wait().await;
}

/// Serves what is in a slot to the peer at the other end of `stream`, until that hangs up.
///
/// # Errors
/// What the peer did wrong, or the operating system's.
async fn serve_peer<S>(stream: S, world: &Arc<World>, slot: &SlotName, clock: &Clock) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut session = Session::new();
    let mut changes = world.changes();
    let (mut input, mut output) = (Vec::with_capacity(limits::USBIP_UNREAD_BYTES), Vec::new());
    loop {
        changes.mark_unchanged();
        let mut is_busy = false;
        if session.is_empty()
            && let Some(export) = world.exports().into_iter().find(|export| export.slot == *slot)
        {
            is_busy = connect(&mut session, &export)?;
        }
        output.append(session.output());
        let has_room = output.len() < limits::USBIP_UNREAD_BYTES;
        // Nothing is taken from a peer that does not read.
        tokio::select! {
            biased;
            written = writer.write(&output), if !output.is_empty() => {
                let written = written.map_err(|error| error.to_string())?;
                if written == 0 {
                    return Ok(());
                }
                output.drain(..written);
            }
            read = reader.read_buf(&mut input), if has_room => {
                if read.map_err(|error| error.to_string())? == 0 {
                    return Ok(());
                }
                session.take(&input).map_err(|error| error.to_string())?;
                input.clear();
            }
            () = session.step(), if has_room => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            () = clock.sleep(BUSY_INTERVAL), if is_busy => {}
        }
    }
}

/// Connects a module; whether it has to be tried again, because another program holds it.
fn connect(session: &mut Session, export: &Export) -> Result<bool, String> {
    match session.connect(export) {
        // One that is gone already comes back as a change.
        Ok(()) | Err(HardwareError::Gone) => Ok(false),
        Err(HardwareError::Busy) => Ok(true),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
