//! The ports of simulated modules as pseudo terminals: `DIR/SLOT.edl`, `.at` and `.diag` are links to them, each for as
//! long as the module is in the mode that has the port. When it leaves, whoever has the port open sees it hang up.
//!
//! A port takes the module's interface only while a program has it open, so that the same module can be had over
//! USB/IP; who comes first has it.

mod port;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, lstat, mkdir, symlink, unlink};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::usbip::Exports;
use super::world::Export;
use crate::hardware::DeviceMode;

/// What the links are called, after the name of their slot.
const SUFFIXES: [&str; 3] = ["edl", "at", "diag"];

/// The ports that a module has in its present mode: suffix and interface.
fn ports(export: &Export) -> Vec<(&'static str, u8)> {
    match export.record.mode() {
        DeviceMode::Edl { interface } => vec![("edl", interface)],
        DeviceMode::Normal(family) => vec![("at", family.at_interface), ("diag", family.diag_interface)],
        DeviceMode::MemoryDump | DeviceMode::Foreign | DeviceMode::Unconfigured => Vec::new(),
    }
}

/// A link to a terminal. Removed when dropped.
#[derive(Debug)]
struct PortLink(PathBuf);

impl PortLink {
    fn new(path: PathBuf, terminal: &Path) -> io::Result<Self> {
        remove_link(&path)?;
        symlink(terminal, &path)?;
        Ok(Self(path))
    }
}

impl Drop for PortLink {
    fn drop(&mut self) {
        if let Err(error) = remove_link(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the link to a port cannot be removed");
        }
    }
}

/// Removes a link; what is none is left alone and refused.
fn remove_link(path: &Path) -> io::Result<()> {
    match lstat(path) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Symlink => Ok(unlink(path)?),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is no link", path.display()))),
    }
}

/// Makes the directory ready: what an earlier process left there is removed.
///
/// # Errors
/// When it cannot be made, or something that is no link has the name of a port.
pub fn prepare<'a>(directory: &Path, slots: impl Iterator<Item = &'a str>) -> io::Result<()> {
    match mkdir(directory, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    for slot in slots {
        for suffix in SUFFIXES {
            remove_link(&directory.join(format!("{slot}.{suffix}")))?;
        }
    }
    Ok(())
}

/// Serves the ports below `directory` until `stop` is cancelled.
pub async fn serve(directory: PathBuf, exports: Exports, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let mut served: BTreeMap<usize, u64> = BTreeMap::new();
    let mut changes = exports.changes();
    loop {
        changes.mark_unchanged();
        let devices = exports.world.exports();
        served.retain(|index, session| {
            devices.iter().any(|device| device.index == *index && device.record.key.session == *session)
        });
        for device in devices {
            let session = device.record.key.session;
            if served.insert(device.index, session) == Some(session) {
                continue;
            }
            for (suffix, interface) in ports(&device) {
                let Some(link) = device.links.get(&interface).cloned() else { continue };
                let path = directory.join(format!("{}.{suffix}", device.slot));
                let (gone, stop) = (device.gone.clone(), stop.clone());
                tasks.spawn(async move {
                    let served = tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        served = port::serve(&path, link, gone) => served,
                    };
                    if let Err(error) = served {
                        tracing::warn!(path = %path.display(), %error, "a port cannot be served");
                    }
                });
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    tasks.close();
    tasks.wait().await;
}
