//! Who may touch the modules of a station with real hardware.
//!
//! Three locks, because each alone leaves a gap:
//! * the station file. Two commands of one station meet there also before its first run has made a state directory, and
//!   where they were given different ones. The file is only opened for it: were the state directory made here, by
//!   somebody who is root for a moment, the station could not write it later.
//! * the ledger, where there is one: who replaces the station file under a working station leaves the lock behind.
//! * the USB of this host. To `map`, a module of another station that restarts looks like one that is put in. So it is
//!   alone on its host; all others share it.
//!
//! Simulated stations need none of them: their modules exist in the process that simulates them.

use std::io::ErrorKind;
use std::path::Path;

use crate::config::{HardwareKind, Station};
use crate::host::{Disk, Hold, LockGuard};
use crate::ledger::{self, LedgerError};

/// What stands for the USB of a host: the kernel makes it, it stays as long as the host is up, everybody can read it, and
/// a service that may write nowhere can lock it.
const HOST_USB: &str = "/sys/bus/usb";

/// Takes the locks of a station, until they are dropped. `state` is its state directory; `None` where the caller opens
/// the ledger itself, which takes its lock.
///
/// # Errors
/// A sentence for people, with the remedy.
pub(super) fn modules(
    disk: &dyn Disk,
    station: &Station,
    state: Option<&Path>,
    host: Hold,
) -> Result<Vec<Box<dyn LockGuard>>, String> {
    let mut locks = Vec::new();
    if station.hardware == HardwareKind::Simulated {
        return Ok(locks);
    }
    let at_work = || {
        format!(
            "the station {} is at work: another stationmaster has its modules in hand\nhelp: stop it first",
            station.name
        )
    };
    locks.push(disk.hold(&station.path, Hold::Alone).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => at_work(),
        _ => format!(
            "whether the station is at work cannot be seen: {}: {error}\nhelp: keep the station file on a disk of this \
             host",
            station.path.display()
        ),
    })?);
    if let Some(state) = state {
        let directory = state.join("ledger");
        let is_new = disk.list(&directory).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        let lock = (!is_new).then(|| ledger::lock(disk, &directory)).transpose();
        locks.extend(lock.map_err(|error| match error {
            LedgerError::Locked { .. } => at_work(),
            error => format!(
                "whether the station is at work cannot be seen: {error}\nhelp: do it as a user who may use the state \
                 directory, as the station's own may; --state names another directory"
            ),
        })?);
    }
    match disk.hold(Path::new(HOST_USB), host) {
        Ok(lock) => locks.push(lock),
        // No USB, no modules.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(occupied(host)),
        Err(error) => return Err(format!("{HOST_USB} cannot be locked: {error}\nhelp: let this user read it")),
    }
    Ok(locks)
}

fn occupied(wanted: Hold) -> String {
    match wanted {
        Hold::Alone => {
            "another station of this host is at work: its modules that restart look like modules that are put \
                        in\nhelp: stop every station of this host first"
        }
        Hold::Shared => {
            "slots of a station of this host are being taught: a module that comes now would be taken for \
                         the one that is put in\nhelp: wait until `map` has ended"
        }
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::prepare;
    use crate::host::{MemoryDisk, OsDisk};

    /// A disk with two station files of real stations, on a host with USB.
    fn host() -> (MemoryDisk, [Station; 2]) {
        let disk = MemoryDisk::new();
        for directory in ["stations", HOST_USB] {
            disk.create_dir_all(Path::new(directory)).expect("in memory");
        }
        let stations = ["line3", "line4"].map(|name| {
            let mut station =
                prepare::station(&OsDisk::new(), Path::new("stations/demo.yaml")).expect("the demonstration is good");
            station.hardware = HardwareKind::Usb;
            station.name = name.parse().expect("a name");
            station.path = Path::new("stations").join(name);
            station.state = Path::new("state").join(name);
            disk.create(&station.path, b"name: x").expect("in memory");
            station
        });
        (disk, stations)
    }

    fn refused<T: std::fmt::Debug>(taken: Result<T, String>, why: &str) {
        let said = taken.expect_err(why);
        assert!(said.contains(why) && said.contains("\nhelp: "), "{said}");
    }

    #[test]
    fn several_stations_work_on_one_host_but_nobody_beside_map() {
        let (disk, [line3, line4]) = host();
        let works = modules(&disk, &line3, None, Hold::Shared).expect("it runs");
        let asks = modules(&disk, &line4, Some(&line4.state), Hold::Shared).expect("another one is asked");
        refused(modules(&disk, &line4, None, Hold::Alone), "the station line4 is at work");
        drop(asks);
        refused(modules(&disk, &line4, Some(&line4.state), Hold::Alone), "another station of this host is at work");
        drop(works);
        let taught = modules(&disk, &line4, Some(&line4.state), Hold::Alone).expect("nobody works");
        refused(modules(&disk, &line3, None, Hold::Shared), "are being taught");
        drop(taught);
        drop(modules(&disk, &line3, None, Hold::Shared).expect("it has ended"));
        // Practice is in nobody's way.
        let _works = modules(&disk, &line3, None, Hold::Shared).expect("it runs");
        let practice = Station { hardware: HardwareKind::Simulated, ..line3.clone() };
        assert!(modules(&disk, &practice, Some(&line3.state), Hold::Alone).expect("practice").is_empty());
    }

    #[test]
    fn one_station_has_one_command_whatever_its_state_directory() {
        let (disk, [station, _]) = host();
        let (own, other) = (station.state.as_path(), Path::new("state/other"));
        // It has never worked, so there is no ledger to lock; and none is made.
        let works = modules(&disk, &station, None, Hold::Shared).expect("it runs");
        for state in [own, other] {
            refused(modules(&disk, &station, Some(state), Hold::Shared), "the station line3 is at work");
        }
        drop(works);
        drop(modules(&disk, &station, Some(own), Hold::Shared).expect("it is stopped"));
        assert_eq!(disk.list(own).expect_err("nothing is made").kind(), ErrorKind::NotFound);
        // Its file was replaced meanwhile: the ledger is still locked.
        let at_work = ledger::lock(&disk, &own.join("ledger")).expect("the first one");
        for how in [Hold::Shared, Hold::Alone] {
            refused(modules(&disk, &station, Some(own), how), "the station line3 is at work");
        }
        drop(modules(&disk, &station, Some(other), Hold::Shared).expect("another directory is said to be meant"));
        drop(at_work);
        drop(modules(&disk, &station, Some(own), Hold::Alone).expect("it is stopped"));
    }

    #[test]
    fn what_cannot_be_seen_stops() {
        let (disk, [station, _]) = host();
        let without_usb = MemoryDisk::new();
        without_usb.create_dir_all(Path::new("stations")).expect("in memory");
        refused(modules(&without_usb, &station, None, Hold::Shared), "cannot be seen: stations/line3");
        without_usb.create(&station.path, b"name: x").expect("in memory");
        assert_eq!(modules(&without_usb, &station, None, Hold::Alone).expect("nothing to touch").len(), 1);
        // A file in the place of the ledger's directory.
        disk.create_dir_all(&station.state).expect("in memory");
        disk.create(&station.state.join("ledger"), b"x").expect("in memory");
        for how in [Hold::Shared, Hold::Alone] {
            disk.fail_call(2, crate::host::FailKind::Error);
            refused(modules(&disk, &station, Some(&station.state), how), "--state names another directory");
        }
    }
}
