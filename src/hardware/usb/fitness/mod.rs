//! Whether a host is fit for a station: what keeps modules from being found, opened or kept, each with its remedy.
//!
//! Only looks. What is read is the kernel's account (`/sys`, `/proc`) and the configuration of other programs (`/etc`,
//! `/usr/lib`); all roots can be put elsewhere.

mod layout;
mod system;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use super::scan::{self, Found, Root, Scanner};
use super::sysfs::Sysfs;
use crate::domain::PortChain;

/// How many endpoint contexts a controller is taken to have where nobody says otherwise; the common xHCI controllers
/// have 64 or 96.
pub const ENDPOINTS_USUAL: u32 = 96;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Good,
    /// Something keeps the station from working; the check has a remedy.
    Finding,
    /// It cannot be told now.
    Unknown,
}

/// One check of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its stable name.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen, as a clause.
    pub seen: String,
    /// What to do about it; empty unless it is a finding.
    pub remedy: String,
}

impl Check {
    /// All is well.
    #[must_use]
    pub fn good(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Good, seen: seen.into(), remedy: String::new() }
    }

    /// Something is wrong.
    #[must_use]
    pub fn finding(name: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Finding, seen: seen.into(), remedy: remedy.into() }
    }

    /// It cannot be told.
    #[must_use]
    pub fn unknown(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Unknown, seen: seen.into(), remedy: String::new() }
    }

    /// A finding where there are complaints, good otherwise.
    fn of(name: &'static str, complaints: &[String], good: impl Into<String>, remedy: &str) -> Self {
        if complaints.is_empty() {
            return Self::good(name, good);
        }
        let shown = complaints.iter().take(SHOWN_MAX).cloned().collect::<Vec<String>>().join("; ");
        let more = complaints.len().saturating_sub(SHOWN_MAX);
        let seen = if more == 0 { shown } else { format!("{shown}; and {more} more") };
        Self::finding(name, seen, remedy)
    }
}

/// Complaints that one check shows.
const SHOWN_MAX: usize = 4;

/// Where a host keeps what is looked at.
#[derive(Debug, Clone)]
pub struct Host {
    /// `/sys` and `/dev`.
    pub sysfs: Sysfs,
    /// `/proc`.
    pub proc: PathBuf,
    /// Directories of udev rules.
    pub rules: Vec<PathBuf>,
    /// `/lib/modules`.
    pub modules: PathBuf,
    /// Whether this process may read and write a file.
    pub may_use: fn(&Path) -> bool,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            sysfs: Sysfs::default(),
            proc: "/proc".into(),
            rules: ["/etc/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d"].map(PathBuf::from).into(),
            modules: "/lib/modules".into(),
            may_use: |path| {
                rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok()
            },
        }
    }
}

/// A slot, as far as a host is concerned.
#[derive(Debug, Clone)]
pub struct SlotPorts {
    /// Its name.
    pub name: String,
    /// Its port chains, one or two.
    pub chains: Vec<PortChain>,
}

/// What all checks look at.
struct View<'a> {
    host: &'a Host,
    slots: &'a [SlotPorts],
    roots: Vec<Root>,
    found: Vec<Found>,
    endpoints: u32,
}

impl View<'_> {
    /// The devices in slots, each with the slot's name.
    fn in_slots(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.found.iter().filter(|found| found.hub_ports.is_none()).filter_map(|found| {
            let slot = self.slots.iter().find(|slot| slot.chains.contains(&found.chain))?;
            Some((slot.name.as_str(), found))
        })
    }
}

/// Every check of a host for a station with these slots, whose controllers have `endpoints` endpoint contexts each.
/// Without slots, what concerns them is left out.
#[must_use]
pub fn checks(host: &Host, slots: &[SlotPorts], endpoints: u32) -> Vec<Check> {
    let sysfs = &host.sysfs;
    let mut all = vec![
        system::kernel(host),
        system::drivers(host),
        system::udev_rules(host),
        system::modem_manager(host),
        system::brltty(host),
        system::usbfs_memory(host, slots.len()),
    ];
    let names = match scan::names(sysfs) {
        Ok(names) => names,
        Err(error) => {
            all.push(Check::finding("usb", error.to_string(), "load the driver of the USB controller"));
            return all;
        }
    };
    let roots = scan::roots(sysfs, &names).into_values().collect();
    let found = match Scanner::default().scan(sysfs) {
        Ok(found) => found,
        Err(error) => {
            all.push(Check::finding("usb", error.to_string(), "load the driver of the USB controller"));
            return all;
        }
    };
    if slots.is_empty() {
        return all;
    }
    let view = View { host, slots, roots, found, endpoints };
    all.extend([
        layout::hubs(&view),
        layout::endpoints(&view),
        layout::configured(&view),
        layout::permissions(&view),
        layout::autosuspend(&view),
    ]);
    all
}
