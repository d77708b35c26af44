//! A tree of sysfs for tests, in a temporary directory.

#![expect(clippy::disallowed_methods, reason = "a test's own files, on the real disk")]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::sysfs::Sysfs;

/// The tree; removed when dropped.
pub(super) struct Fixture {
    directory: TempDir,
    numbers: Cell<u32>,
}

/// What a device shows.
pub(super) struct Shown<'a> {
    pub(super) id: (u16, u16),
    pub(super) class: u8,
    pub(super) speed: &'a str,
    pub(super) product: &'a [u8],
    /// Class, subclass and protocol of each interface; each has an IN and an OUT endpoint.
    pub(super) interfaces: &'a [(u8, u8, u8)],
    pub(super) ports: u8,
    pub(super) is_configured: bool,
}

/// A module in normal mode.
pub(super) const NORMAL: Shown<'static> = Shown {
    id: (0x2c7c, 0x0801),
    class: 0,
    speed: "5000",
    product: b"RM520N-GL\n",
    interfaces: &[(255, 255, 48), (255, 0, 64), (255, 0, 0), (255, 0, 0), (255, 255, 255)],
    ports: 0,
    is_configured: true,
};
/// A module in download mode.
pub(super) const EDL: Shown<'static> = Shown {
    id: (0x05c6, 0x9008),
    speed: "480",
    product: b"QUSB_BULK_CID:0410_SN:49CBD7EF\n",
    interfaces: &[(255, 255, 17)],
    ..NORMAL
};
/// A hub with four ports.
pub(super) const HUB: Shown<'static> = Shown {
    id: (0x2109, 0x2817),
    class: 9,
    speed: "480",
    product: b"USB2.0 Hub\n",
    interfaces: &[(9, 0, 1)],
    ports: 4,
    is_configured: true,
};

impl Fixture {
    pub(super) fn new() -> Self {
        let fixture = Self { directory: TempDir::new().expect("a directory"), numbers: Cell::new(1) };
        for path in ["sys/bus/usb/devices", "sys/devices", "dev", "sys/bus/pci", "sys/bus/platform"] {
            fs::create_dir_all(fixture.path(path)).expect("makes it");
        }
        fixture
    }

    pub(super) fn sysfs(&self) -> Sysfs {
        Sysfs::new(self.path("sys"), self.path("dev"))
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// A device of a subsystem, below `sys/devices`.
    pub(super) fn controller(&self, path: &str, subsystem: &str) {
        let directory = self.path("sys/devices").join(path);
        fs::create_dir_all(&directory).expect("makes it");
        symlink(self.path("sys/bus").join(subsystem), directory.join("subsystem")).expect("links it");
    }

    /// A root hub of the controller at `path`.
    pub(super) fn root(&self, path: &str, bus: u32, speed: &str, ports: u8) {
        let directory = self.path("sys/devices").join(path).join(format!("usb{bus}"));
        let shown = Shown { id: (0x1d6b, 2), speed, product: b"xHCI\n", ports, ..HUB };
        self.write_device(&directory, &format!("usb{bus}"), bus, &format!("{bus}-0"), &shown);
    }

    /// A device by the kernel's name, plugged into what the name says.
    pub(super) fn plug(&self, name: &str, shown: &Shown<'_>) {
        let (bus, ports) = name.split_once('-').expect("a device's name");
        let parent = match ports.rsplit_once('.') {
            Some((above, _)) => format!("{bus}-{above}"),
            None => format!("usb{bus}"),
        };
        let directory = fs::canonicalize(self.link(&parent)).expect("its hub is there").join(name);
        self.write_device(&directory, name, bus.parse().expect("a number"), name, shown);
    }

    /// Takes a device out, with everything behind it.
    pub(super) fn unplug(&self, name: &str) {
        fs::remove_dir_all(fs::canonicalize(self.link(name)).expect("it is there")).expect("removes it");
        fs::remove_file(self.link(name)).expect("removes it");
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.path("sys/bus/usb/devices").join(name)
    }

    /// The directory of a port of a hub.
    pub(super) fn port(&self, hub: &str, number: u8) -> PathBuf {
        let interface = hub.strip_prefix("usb").map_or_else(|| format!("{hub}:1.0"), |bus| format!("{bus}-0:1.0"));
        self.link(hub).join(interface).join(format!("{hub}-port{number}"))
    }

    pub(super) fn write(&self, path: &Path, text: impl AsRef<[u8]>) {
        fs::create_dir_all(path.parent().expect("it has one")).expect("makes it");
        fs::write(path, text).expect("writes it");
    }

    pub(super) fn remove(&self, path: &Path) {
        fs::remove_file(path).expect("removes it");
    }

    pub(super) fn read(&self, path: &Path) -> String {
        fs::read_to_string(path).expect("reads it")
    }

    fn write_device(&self, directory: &Path, name: &str, bus: u32, stem: &str, shown: &Shown<'_>) {
        self.numbers.set(self.numbers.get() + 1);
        let number = self.numbers.get();
        let configuration = if shown.is_configured { "1\n" } else { "\n" };
        for (attribute, text) in [
            ("busnum", format!("{bus}\n")),
            ("devnum", format!("{number}\n")),
            ("speed", format!("{}\n", shown.speed)),
            ("maxchild", format!("{}\n", shown.ports)),
            ("bConfigurationValue", configuration.to_owned()),
            ("power/control", "auto\n".to_owned()),
        ] {
            self.write(&directory.join(attribute), text);
        }
        self.write(&directory.join("product"), shown.product);
        self.write(&directory.join("descriptors"), descriptors(shown));
        if shown.is_configured {
            for index in 0..shown.interfaces.len() {
                fs::create_dir_all(directory.join(format!("{stem}:1.{index}"))).expect("makes it");
            }
            for port in 1..=shown.ports {
                self.write(&directory.join(format!("{stem}:1.0/{name}-port{port}/disable")), "0\n");
            }
        }
        symlink(directory, self.link(name)).expect("links it");
    }
}

/// The descriptors of a device.
pub(super) fn descriptors(shown: &Shown<'_>) -> Vec<u8> {
    let ([v0, v1], [p0, p1]) = (shown.id.0.to_le_bytes(), shown.id.1.to_le_bytes());
    let mut bytes = vec![18, 1, 0, 2, shown.class, 0, 0, 64, v0, v1, p0, p1, 0, 0, 1, 2, 0, 1];
    bytes.extend([9, 2, 0, 0, 0, 1, 0, 0x80, 1]);
    for (number, (class, subclass, protocol)) in (0..=u8::MAX).zip(shown.interfaces) {
        bytes.extend([9, 4, number, 0, 2, *class, *subclass, *protocol, 0]);
        bytes.extend([7, 5, 0x81_u8.wrapping_add(number), 2, 0, 2, 0, 7, 5, number.wrapping_add(1), 2, 0, 2, 0]);
    }
    bytes
}
