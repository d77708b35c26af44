//! The kernel's virtual host controllers (`vhci_hcd`): which ports there are, which are in use, and how a connection
//! becomes a device. All of it are files below `/sys/devices/platform/vhci_hcd.0`, which stand for the ports of every
//! controller (Linux, `Documentation/ABI/testing/sysfs-platform-vhci_hcd` and `drivers/usb/usbip/vhci_sysfs.c`).

#![expect(clippy::disallowed_methods, reason = "sysfs is no disk: its files are the kernel's own interface")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::domain::{PortChain, Side};

/// Where all controllers are.
const PLATFORM: &str = "/sys/devices/platform";
/// Bytes of sysfs files are at most a page; a status file of 30 ports is shorter.
const STATUS_LINES_MAX: usize = 1024;
/// Entries of a controller's directory that are looked at.
const ROOT_HUBS_MAX: usize = 256;
/// `speed` of a SuperSpeed root hub, in Mbit/s.
const SPEED_SUPER_MBIT: u32 = 5000;
/// The state of a port that is free (`VDEV_ST_NULL`).
const STATE_FREE: &str = "004";

/// Why the controllers cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum VhciError {
    /// There are none.
    #[error(
        "there is no virtual host controller\nhelp: load it with `modprobe vhci-hcd`; the kernel needs USBIP_VHCI_HCD"
    )]
    Absent,
    /// A file cannot be used.
    #[error("{file}: {error}\nhelp: attaching takes root")]
    File { file: String, error: io::Error },
    /// A file says something unexpected.
    #[error("{0}: the kernel says something unexpected")]
    Unexpected(String),
    /// The port is still in use.
    #[error("port {0} is in use")]
    Busy(u32),
    /// The connection cannot be handed on.
    #[error("the connection: {0}")]
    Socket(io::Error),
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its number over all controllers.
    pub(super) port: u32,
    /// Its port chain.
    pub(super) chain: PortChain,
}

/// The controllers. Each has as many ports for USB 2 as for SuperSpeed, the former numbered first.
#[derive(Debug)]
pub(super) struct Vhci {
    ports: usize,
    controllers: usize,
}

fn read(file: &Path) -> Result<String, VhciError> {
    fs::read_to_string(file).map_err(|error| VhciError::File { file: file.display().to_string(), error })
}

impl Vhci {
    /// Looks for the controllers of this host.
    pub(super) fn find() -> Result<Self, VhciError> {
        let controllers = (0..).take_while(|number| controller(*number).is_dir()).count();
        if controllers == 0 {
            return Err(VhciError::Absent);
        }
        let file = controller(0).join("nports");
        let ports = read(&file)?.trim().parse().map_err(|_| VhciError::Unexpected(file.display().to_string()))?;
        Ok(Self::with(ports, controllers))
    }

    pub(super) fn with(ports: usize, controllers: usize) -> Self {
        Self { ports, controllers }
    }

    /// How many ports there are, of both sides.
    pub(super) fn ports(&self) -> usize {
        self.ports
    }

    /// The port of a slot, counted from 0, on one side; `None` where there are too few.
    pub(super) fn place(&self, slot: usize, side: Side) -> Option<Place> {
        let per_side = self.ports / self.controllers.max(1) / 2;
        let number = slot.checked_div(per_side).filter(|number| *number < self.controllers)?;
        let within = slot % per_side;
        let above = if side == Side::Usb3 { per_side } else { 0 };
        let port = u32::try_from(number * 2 * per_side + above + within).ok()?;
        let name = format!("platform-vhci_hcd.{number}");
        let chain = PortChain::new(&name, side, &[u8::try_from(within + 1).ok()?]).ok()?;
        Some(Place { port, chain })
    }

    /// The ports that are not free.
    pub(super) fn used(&self) -> Result<BTreeSet<u32>, VhciError> {
        let mut used = BTreeSet::new();
        for number in 0..self.controllers {
            let name = if number == 0 { "status".to_owned() } else { format!("status.{number}") };
            let file = controller(0).join(name);
            used.extend(used_in(&read(&file)?).ok_or_else(|| VhciError::Unexpected(file.display().to_string()))?);
        }
        Ok(used)
    }

    /// Whether the kernel still has the device that was at a place: a port is free a moment before its device is taken
    /// apart. One that is taken again meanwhile looks to the kernel's hub driver as if nothing had happened, where the
    /// descriptors are the same, and what held the old device would hold on to it.
    pub(super) fn is_occupied(&self, place: &Place) -> bool {
        self.root_hubs(&place.chain).any(|(directory, bus)| {
            place.chain.ports().first().is_some_and(|port| directory.join(format!("{bus}-{port}")).is_dir())
        })
    }

    /// The root hubs on a chain's side of its controller: their directories, and the numbers of their buses.
    fn root_hubs(&self, chain: &PortChain) -> impl Iterator<Item = (PathBuf, u32)> {
        let number = chain.controller().rsplit_once('.').and_then(|(_, number)| number.parse().ok());
        let entries = number.and_then(|number| fs::read_dir(controller(number)).ok());
        let is_super = chain.side() == Side::Usb3;
        entries.into_iter().flatten().take(ROOT_HUBS_MAX).filter_map(Result::ok).filter_map(move |entry| {
            let bus = entry.file_name().to_str()?.strip_prefix("usb")?.parse().ok()?;
            let speed: u32 = fs::read_to_string(entry.path().join("speed")).ok()?.trim().parse().ok()?;
            ((speed >= SPEED_SUPER_MBIT) == is_super).then(|| (entry.path(), bus))
        })
    }

    /// Gives a connection to the kernel, which then has the device at this port.
    pub(super) fn attach(&self, port: u32, socket: RawFd, devid: u32, speed: u32) -> Result<(), VhciError> {
        let file = controller(0).join("attach");
        let write = || {
            fs::OpenOptions::new()
                .write(true)
                .open(&file)?
                .write_all(attach_line(port, socket, devid, speed).as_bytes())
        };
        write().map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => VhciError::Busy(port),
            _ => VhciError::File { file: file.display().to_string(), error },
        })
    }
}

fn controller(number: usize) -> PathBuf {
    Path::new(PLATFORM).join(format!("vhci_hcd.{number}"))
}

fn attach_line(port: u32, socket: RawFd, devid: u32, speed: u32) -> String {
    format!("{port} {socket} {devid} {speed}")
}

/// The ports of a status file that are not free. Its first line is a heading; then side, port, state, and more.
fn used_in(status: &str) -> Option<Vec<u32>> {
    let lines = status.lines().take(STATUS_LINES_MAX).filter(|line| line.starts_with("hs") || line.starts_with("ss"));
    let parse = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let port: u32 = words.next()?.parse().ok()?;
        Some((port, words.next()? != STATE_FREE))
    };
    let ports: Option<Vec<(u32, bool)>> = lines.map(parse).collect();
    Some(ports?.into_iter().filter(|(_, is_used)| *is_used).map(|(port, _)| port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_fixed_ports_on_as_many_controllers_as_needed() {
        let vhci = Vhci::with(240, 8);
        let place = |slot, side| vhci.place(slot, side).map(|place| (place.port, place.chain.to_string()));
        let at = |port, chain: &str| Some((port, chain.to_owned()));
        assert_eq!(place(0, Side::Usb2), at(0, "platform-vhci_hcd.0/usb2/1"));
        assert_eq!(place(14, Side::Usb3), at(29, "platform-vhci_hcd.0/usb3/15"));
        assert_eq!(place(15, Side::Usb2), at(30, "platform-vhci_hcd.1/usb2/1"));
        assert_eq!(place(119, Side::Usb3), at(239, "platform-vhci_hcd.7/usb3/15"));
        assert_eq!(place(120, Side::Usb2), None);
        assert_eq!(Vhci::with(0, 1).place(0, Side::Usb2), None);
    }

    #[test]
    fn a_status_file_tells_which_ports_are_used() {
        let status = "hub port sta spd dev      sockfd local_busid\n\
                      hs  0000 006 003 00010001 000005 1-1\n\
                      hs  0001 004 000 00000000 000000 0-0\n\
                      ss  0015 005 000 00000000 000000 0-0\n";
        assert_eq!(used_in(status), Some(vec![0, 15]));
        assert_eq!(used_in("hs x 004"), None);
        assert_eq!(attach_line(15, 7, 2 << 16 | 3, 5), "15 7 131075 5");
    }
}
