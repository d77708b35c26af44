//! Which of the devices of another library is the one that a record means.
//!
//! Vendor, product and port numbers are not enough: a real module at the same ports of another controller has them too,
//! and the plain loop erases what it opens.

use std::path::Path;

use stationmaster::domain::{PortChain, Side};

/// What the kernel calls virtual host controllers, before their number.
pub(crate) const CONTROLLER: &str = "platform-vhci_hcd";

/// A device as it is told by where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// Its directory in sysfs, links resolved.
    pub(crate) directory: &'a Path,
    /// The ports from the root hub to it.
    pub(crate) ports: &'a [u8],
    /// Whether it is a SuperSpeed device, and so at the other root hub of its controller.
    pub(crate) is_super: bool,
}

impl Candidate<'_> {
    /// Whether it is at this position, of a virtual controller: its controller is the directory that holds the root hub,
    /// which holds the hubs, one in the other.
    pub(crate) fn is_at(self, chain: &PortChain) -> bool {
        let root = self.directory.ancestors().nth(self.ports.len());
        let controller = root.and_then(Path::parent);
        let name = controller.and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        let bus = controller.and_then(Path::parent).and_then(Path::file_name).and_then(|name| name.to_str());
        let wanted = chain.controller();
        wanted.starts_with(CONTROLLER)
            && bus == Some("platform")
            && format!("platform-{name}") == wanted
            && self.ports == chain.ports()
            && self.is_super == (chain.side() == Side::Usb3)
    }
}

/// The only one of some.
///
/// # Errors
/// When there is none, or more than one: neither is to be guessed.
pub(crate) fn only<T>(mut all: impl Iterator<Item = T>) -> Result<T, String> {
    let first = all.next().ok_or("the device is gone")?;
    match all.next() {
        None => Ok(first),
        Some(_) => Err("more than one device is where the module is: none of them is opened".to_owned()),
    }
}
