//! Reads the tree of USB devices from sysfs.
//!
//! The position is the device path of the controller, the side of its root hub, and the ports from there. The side is
//! told by the root hub's speed: bus numbers change between boots, and one controller device (xHCI, or `vhci_hcd`) has
//! two root hubs. Whether a device is configured is told by its interfaces' directories, and its texts are read once
//! for each enumeration: reading them anew takes a lock that a module in trouble may hold for seconds, and one slot
//! must not hold up the others.

use std::collections::BTreeMap;
use std::path::Path;

use super::descriptors;
use super::sysfs::Sysfs;
use crate::domain::text::printable;
use crate::domain::{PortChain, Side, limits};
use crate::hardware::{HardwareError, Interface, Speed};

/// `bDeviceClass` of a hub.
const HUB_CLASS: u8 = 9;

/// What tells one enumeration from the next at the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Enumeration {
    /// The number of its directory, which sysfs gives to no other one while the host is up.
    pub(super) inode: u64,
    pub(super) bus: u32,
    pub(super) device: u32,
}

/// Where a device is in sysfs, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The kernel's name, such as `1-1.4`.
    pub(super) name: String,
    pub(super) enumeration: Enumeration,
}

impl Place {
    /// Whether that very enumeration is still there. The kernel is asked, not the last listing.
    pub(super) fn is_there(&self, sysfs: &Sysfs) -> bool {
        enumeration(sysfs, &sysfs.usb_device(&self.name)) == Some(self.enumeration)
    }

    /// Turns off the kernel's sleep for the device. Without the right to do so it stays as it is.
    pub(super) fn keep_awake(&self, sysfs: &Sysfs) {
        let control = sysfs.usb_device(&self.name).join("power/control");
        if let Err(error) = sysfs.write(&control, "on") {
            tracing::debug!(%error, device = self.name, "autosuspend stays as it is");
        }
    }
}

/// What is known of a device as long as it stays enumerated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) product: String,
    pub(super) manufacturer: String,
    pub(super) serial: String,
    descriptors: Vec<u8>,
}

/// One device or hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) chain: PortChain,
    pub(super) device: descriptors::Device,
    pub(super) speed: Speed,
    pub(super) interfaces: Vec<Interface>,
    pub(super) texts: Texts,
    /// The number of its ports, where it is a hub.
    pub(super) hub_ports: Option<u8>,
}

/// A root hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    /// The kernel's name, such as `usb1`.
    pub(super) name: String,
    pub(super) controller: String,
    pub(super) side: Side,
}

/// Reads sysfs; remembers the texts of devices that stay.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    known: BTreeMap<String, (Enumeration, Texts)>,
}

impl Scanner {
    /// Everything that is plugged in, ascending by position.
    ///
    /// # Errors
    /// When the host has no USB.
    pub(super) fn scan(&mut self, sysfs: &Sysfs) -> Result<Vec<Found>, HardwareError> {
        let names = names(sysfs)?;
        let roots = roots(sysfs, &names);
        let mut known = BTreeMap::new();
        let mut all = Vec::new();
        for name in &names {
            let Some((bus, ports)) = position(name) else { continue };
            let Some(root) = roots.get(&bus) else { continue };
            let Ok(chain) = PortChain::new(&root.controller, root.side, &ports) else { continue };
            // One that left while it was read is not there.
            let Some(found) = self.read(sysfs, name, chain) else { continue };
            known.insert(name.clone(), (found.place.enumeration, found.texts.clone()));
            all.push(found);
        }
        self.known = known;
        all.sort_by(|a, b| a.chain.cmp(&b.chain));
        drop_doubles(&mut all);
        Ok(all)
    }

    fn read(&self, sysfs: &Sysfs, name: &str, chain: PortChain) -> Option<Found> {
        let directory = sysfs.real(&sysfs.usb_device(name))?;
        let enumeration = enumeration(sysfs, &directory)?;
        let texts = match self.known.get(name) {
            Some((known, texts)) if *known == enumeration => texts.clone(),
            _ => texts(sysfs, &directory)?,
        };
        let device = descriptors::device(&texts.descriptors)?;
        let configuration = configuration(sysfs, &directory, name);
        let interfaces =
            configuration.map(|value| descriptors::interfaces(&texts.descriptors, value)).unwrap_or_default();
        let hub_ports = (device.class == HUB_CLASS)
            .then(|| sysfs.number(&directory.join("maxchild")).and_then(|ports| u8::try_from(ports).ok()).unwrap_or(0));
        let speed = speed(sysfs, &directory);
        let place = Place { name: name.to_owned(), enumeration };
        // Read from the directory that was there at the beginning, all of it.
        place.is_there(sysfs).then_some(Found { place, chain, device, speed, interfaces, texts, hub_ports })
    }
}

/// The names of everything on the buses.
pub(super) fn names(sysfs: &Sysfs) -> Result<Vec<String>, HardwareError> {
    sysfs.names(&sysfs.usb_devices()).map_err(|error| {
        HardwareError::Failed(format!("{}: {error}: this kernel shows no USB", sysfs.usb_devices().display()))
    })
}

/// The root hubs by bus number.
pub(super) fn roots(sysfs: &Sysfs, names: &[String]) -> BTreeMap<u32, Root> {
    let root = |name: &String| {
        let bus: u32 = name.strip_prefix("usb")?.parse().ok()?;
        let directory = sysfs.real(&sysfs.usb_device(name))?;
        let controller = controller(sysfs, directory.parent()?)?;
        let side = side(sysfs, &directory)?;
        Some((bus, Root { name: name.clone(), controller, side }))
    };
    names.iter().filter_map(root).collect()
}

/// Two root hubs of one side below one controller device would make positions that mean two things. None of these
/// devices is shown then.
fn drop_doubles(all: &mut Vec<Found>) {
    let doubled: Vec<PortChain> =
        all.windows(2).filter(|pair| pair[0].chain == pair[1].chain).map(|pair| pair[0].chain.clone()).collect();
    if !doubled.is_empty() {
        tracing::warn!(chain = %doubled[0], "two devices have one position; none of them is used");
        all.retain(|found| !doubled.contains(&found.chain));
    }
}

pub(super) fn enumeration(sysfs: &Sysfs, directory: &Path) -> Option<Enumeration> {
    let number = |name: &str| sysfs.number(&directory.join(name)).and_then(|number| u32::try_from(number).ok());
    Some(Enumeration { inode: sysfs.inode(directory)?, bus: number("busnum")?, device: number("devnum")? })
}

/// Bus and ports of a device's name: `1-1.4` is bus 1, ports 1 and 4.
fn position(name: &str) -> Option<(u32, Vec<u8>)> {
    let (bus, ports) = name.split_once('-')?;
    let ports: Result<Vec<u8>, _> = ports.split('.').map(str::parse).collect();
    Some((bus.parse().ok()?, ports.ok()?))
}

/// The device path of a controller: its subsystem and its name there, as udev's `ID_PATH` begins.
fn controller(sysfs: &Sysfs, directory: &Path) -> Option<String> {
    let subsystem = |directory: &Path| sysfs.link_name(&directory.join("subsystem"));
    let name = |directory: &Path| Some(directory.file_name()?.to_str()?.to_owned());
    let (mut kind, mut own) = (subsystem(directory)?, name(directory)?);
    // The child of a dual-role controller is numbered in the order of the boot; its parent has an address.
    if kind == "platform"
        && own.starts_with("xhci-hcd.")
        && let Some(parent) = directory.parent()
        && let (Some(above), Some(its_name)) = (subsystem(parent), name(parent))
    {
        (kind, own) = (above, its_name);
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || ":._-".contains(c) { c } else { '_' };
    Some(format!("{kind}-{own}").chars().map(plain).collect())
}

/// The side of a root hub, from its speed; from its USB version where that is not told.
fn side(sysfs: &Sysfs, directory: &Path) -> Option<Side> {
    let megabits = sysfs.number(&directory.join("speed"));
    let is_super = match megabits {
        Some(megabits) => megabits >= 5000,
        None => sysfs.text(&directory.join("version"))?.starts_with('3'),
    };
    Some(if is_super { Side::Usb3 } else { Side::Usb2 })
}

fn speed(sysfs: &Sysfs, directory: &Path) -> Speed {
    match sysfs.number(&directory.join("speed")) {
        Some(megabits) if megabits >= 5000 => Speed::Super,
        Some(480) => Speed::High,
        // Also `1.5`, which is no whole number.
        _ => Speed::Full,
    }
}

/// The value of the active configuration, from the names of the interfaces' directories: `1-1.4:1.0`. None is there
/// while a device is not configured, when `bConfigurationValue` is empty.
fn configuration(sysfs: &Sysfs, directory: &Path, name: &str) -> Option<u8> {
    let value = |entry: &String| entry.strip_prefix(name)?.strip_prefix(':')?.split_once('.')?.0.parse().ok();
    sysfs.names(directory).ok()?.iter().find_map(value)
}

fn texts(sysfs: &Sysfs, directory: &Path) -> Option<Texts> {
    let text = |name: &str| {
        let text = sysfs.text(&directory.join(name)).unwrap_or_default();
        printable(&text, limits::DEVICE_TEXT_CHARS_MAX)
    };
    let descriptors = sysfs.bytes(&directory.join("descriptors"), limits::USB_DESCRIPTOR_BYTES_MAX)?;
    Some(Texts { product: text("product"), manufacturer: text("manufacturer"), serial: text("serial"), descriptors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_positions() {
        assert_eq!(position("1-1.4"), Some((1, vec![1, 4])));
        assert_eq!(position("12-3"), Some((12, vec![3])));
        for other in ["usb1", "1-1.4:1.0", "1-0:1.0", "1-", "-1", "1-1..2", "1-999", "x-1"] {
            assert_eq!(position(other), None, "{other}");
        }
    }
}
