//! The kernel's account of the USB devices: small files below `/sys`, and the nodes below `/dev`.
//!
//! Everything that is read here was told by a device or depends on one, so every read is bounded in length and every
//! directory in entries, and nothing outside the two roots is ever reached. The roots can be put elsewhere, so that a
//! test can plant a tree of its own.

#![expect(
    clippy::disallowed_methods,
    reason = "sysfs is the kernel's, not the station's disk: it is the hardware and cannot be simulated by `Disk`"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::domain::limits;

/// Where the kernel shows its devices.
#[derive(Debug, Clone)]
pub struct Sysfs {
    sys: PathBuf,
    dev: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::new("/sys", "/dev")
    }
}

impl Sysfs {
    /// A view of the trees at `sys` and `dev`.
    #[must_use]
    pub fn new(sys: impl Into<PathBuf>, dev: impl Into<PathBuf>) -> Self {
        Self { sys: sys.into(), dev: dev.into() }
    }

    /// The directory in which the kernel links every USB device and interface by its name.
    pub(super) fn usb_devices(&self) -> PathBuf {
        self.sys.join("bus/usb/devices")
    }

    /// The directory of one USB device or interface, by the kernel's name for it.
    pub(super) fn usb_device(&self, name: &str) -> PathBuf {
        self.usb_devices().join(name)
    }

    /// Whether something is at a path below `/sys`.
    pub(super) fn is_there(&self, path: &str) -> bool {
        self.exists(&self.sys.join(path))
    }

    /// A parameter of a kernel module.
    pub(super) fn module_parameter(&self, module: &str, parameter: &str) -> Option<String> {
        self.text(&self.sys.join("module").join(module).join("parameters").join(parameter))
    }

    /// The node of a character device, by its name below `/dev`.
    pub(super) fn node(&self, name: &str) -> PathBuf {
        self.dev.join(name)
    }

    /// The names in a directory, ascending; those beyond [`limits::USB_ENTRIES_MAX`] are left out.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(directory)?.take(limits::USB_ENTRIES_MAX);
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Up to `bytes_max` bytes of a file.
    pub(super) fn bytes(&self, path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
        // A pipe or a device in the place of an attribute would hold the reader.
        let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path).ok()?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// An attribute's text without the blanks around it.
    pub(super) fn text(&self, path: &Path) -> Option<String> {
        let bytes = self.bytes(path, limits::USB_ATTRIBUTE_BYTES_MAX)?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// An attribute that is a decimal number.
    pub(super) fn number(&self, path: &Path) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Writes an attribute.
    ///
    /// # Errors
    /// The operating system's; the kernel's verdict on the value is among them.
    pub(super) fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        // Without `create`: an attribute that is not there must not become a file.
        let mut file: File = OpenOptions::new().write(true).truncate(true).custom_flags(NONBLOCK).open(path)?;
        file.write_all(text.as_bytes())
    }

    /// Whether something is there.
    pub(super) fn exists(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok()
    }

    /// The number under which the kernel keeps a directory. Sysfs gives every directory another one, for as long as
    /// the host is up.
    pub(super) fn inode(&self, path: &Path) -> Option<u64> {
        let metadata = fs::metadata(path).ok()?;
        metadata.is_dir().then(|| metadata.ino())
    }

    /// Where a path really is; `None` when that is not below the root, or the links lead nowhere.
    pub(super) fn real(&self, path: &Path) -> Option<PathBuf> {
        let (root, real) = (fs::canonicalize(&self.sys).ok()?, fs::canonicalize(path).ok()?);
        real.starts_with(root).then_some(real)
    }

    /// The last part of where a symbolic link points to: how sysfs names a driver or a subsystem.
    pub(super) fn link_name(&self, path: &Path) -> Option<String> {
        fs::read_link(path).ok()?.file_name()?.to_str().map(ToOwned::to_owned)
    }

    /// Opens the node of a USB device for transfers.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn open_usb(&self, bus: u32, device: u32) -> io::Result<OwnedFd> {
        let node = self.node(&format!("bus/usb/{bus:03}/{device:03}"));
        Ok(OpenOptions::new().read(true).write(true).open(node)?.into())
    }

    /// Major and minor number of a character device, as sysfs writes them: `188:0`.
    pub(super) fn device_number(&self, node: &Path) -> Option<String> {
        let metadata = fs::metadata(node).ok()?;
        let device = metadata.rdev();
        metadata
            .file_type()
            .is_char_device()
            .then(|| format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
    }
}

/// `O_NONBLOCK` for `custom_flags`.
#[expect(clippy::cast_possible_wrap, reason = "the flag is one low bit on every platform")]
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;
