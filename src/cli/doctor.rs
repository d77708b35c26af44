//! `doctor`: whether this host is fit for a station.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Status, complain, prepare, print, print_json, qualify, reserve, start};
use crate::config::{HardwareKind, Station};
use crate::domain::PortChain;
use crate::hardware::SlotPower;
use crate::hardware::usb::fitness::{self, Check, Host, SlotPorts, Verdict};
use crate::hardware::usb::{HubPower, Sysfs};
use crate::host::{Clock, Disk, Hold, OsDisk};
use crate::ledger;
use crate::vault::VaultEntry;

/// Free bytes below which a shift should not begin: backups and records of some hundred units.
const FREE_BYTES_MIN: u64 = 2 * 1024 * 1024 * 1024;
/// No clock of a station shows less: seconds since 1970 at the beginning of 2025.
const CLOCK_MIN_S: i64 = 1_735_689_600;
/// How long a slot's supply is cut by `--switch-power`.
const OFF: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArguments {
    /// The station file. Without it, only what concerns the host itself is looked at
    station: Option<PathBuf>,
    /// Cut the supply of every slot for two seconds, to see whether its hub really switches
    #[arg(long, requires = "station")]
    switch_power: bool,
    /// Where ledger and backups are kept, instead of the station file's `state`
    #[arg(long, value_name = "DIR", requires = "station")]
    state: Option<PathBuf>,
    /// Endpoint contexts of each USB controller
    #[arg(long, value_name = "N", default_value_t = fitness::ENDPOINTS_USUAL)]
    endpoints: u32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &DoctorArguments) -> Status {
    attempt(arguments).unwrap_or_else(|status| status)
}

fn attempt(arguments: &DoctorArguments) -> Result<Status, Status> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let mut station = start::given_station(disk.as_ref(), arguments.station.as_deref())?;
    if let (Some(station), Some(state)) = (&mut station, &arguments.state) {
        station.state.clone_from(state);
    }
    let is_real = station.as_ref().is_none_or(|station| station.hardware == HardwareKind::Usb);
    let mut checks = Vec::new();
    if is_real {
        let slots: Vec<SlotPorts> = station.iter().flat_map(ports).collect();
        checks.extend(fitness::checks(&Host::default(), &slots, arguments.endpoints));
    } else {
        checks.push(Check::good("hardware", "simulated: only the station's records are looked at"));
    }
    if let Some(station) = &station {
        checks.extend(records(disk.as_ref(), station, Clock::real().wall()));
        checks.push(vault_check(&disk, station));
        checks.push(qualified(disk.as_ref(), station));
        if is_real {
            checks.push(power(disk.as_ref(), station, arguments.switch_power)?);
        }
    }
    let is_fit = checks.iter().all(|check| check.verdict != Verdict::Finding);
    if arguments.json {
        print_json(&document(&checks, is_fit));
    } else {
        print(&words(&checks, is_fit));
    }
    let status = status(&checks, arguments.switch_power);
    if status == Status::Stuck {
        complain("error: no supply was switched, see `power`");
    }
    Ok(status)
}

/// A host that is not fit is told first; what was asked for and not done comes after it.
fn status(checks: &[Check], switch: bool) -> Status {
    let was_not_switched = |check: &Check| check.name == "power" && check.verdict == Verdict::Unknown;
    if checks.iter().any(|check| check.verdict == Verdict::Finding) {
        Status::NotAllGood
    } else if switch && checks.iter().any(was_not_switched) {
        Status::Stuck
    } else {
        Status::Good
    }
}

fn ports(station: &Station) -> Vec<SlotPorts> {
    let ports = |slot: &crate::config::SlotConfig| SlotPorts {
        name: slot.name.as_str().to_owned(),
        chains: slot.chains().cloned().collect(),
    };
    station.slots.iter().map(ports).collect()
}

/// The directories, the ledger and the clock of a station. Makes nothing.
fn records(disk: &dyn Disk, station: &Station, now: Timestamp) -> Vec<Check> {
    let directory = station.state.join("ledger");
    let mut all =
        vec![directory_check(disk, "state", &station.state), directory_check(disk, "reports", &station.reports)];
    let mut last = None;
    if disk.list(&directory).is_err() {
        all.push(Check::good("ledger", "none yet"));
    } else {
        let verified = ledger::verify(disk, &directory);
        last = verified.as_ref().ok().and_then(|report| report.last);
        all.push(match verified {
            Ok(report) => match report.difference {
                None => Check::good("ledger", format!("unaltered, {} entries", report.entries)),
                // A crash leaves it, and a station at work is seen so in between.
                Some(difference) if difference.is_torn_end => Check::good(
                    "ledger",
                    format!(
                        "unaltered, {} entries; its last line is cut off; the next start repairs it",
                        report.entries
                    ),
                ),
                Some(difference) => Check::finding(
                    "ledger",
                    format!("broken in {}, line {}: {}", difference.segment, difference.line, difference.reason),
                    "restore the file from a copy; `stationmaster verify` says more",
                ),
            },
            Err(error) => Check::finding("ledger", error.to_string(), "make the state directory readable"),
        });
    }
    let remedy = "set the clock, and let the host keep it by NTP";
    all.push(match last {
        _ if now.as_second() < CLOCK_MIN_S => Check::finding("clock", format!("it is set to {now}"), remedy),
        Some(last) if now < last => {
            Check::finding("clock", format!("it is set to {now}, the ledger's last entry is of {last}"), remedy)
        }
        _ => Check::good("clock", "plausible"),
    });
    all
}

/// Whether the backups can be opened, also when this host is lost.
fn vault_check(disk: &Arc<dyn Disk>, station: &Station) -> Check {
    let (name, vault) = ("vault", prepare::vault(disk, station, &station.state));
    let key = match (vault.public_key(), vault.list()) {
        (Err(error), _) | (_, Err(error)) => {
            return Check::finding(name, error.to_string(), "make it readable, or put it back from a copy");
        }
        (Ok(None), Ok(entries)) if entries.iter().any(VaultEntry::is_sealed) => {
            let remedy = "put vault.key back from a copy, or import the backups with the recovery key";
            return Check::finding(name, "its key is missing, and backups are sealed to it", remedy);
        }
        (Ok(key), Ok(_)) => key,
    };
    if let Some(copy) = station.vault.copy.as_ref().filter(|copy| disk.list(copy).is_err()) {
        return Check::finding(name, format!("{}: cannot be read", copy.display()), "mount the disk of `vault.copy`");
    }
    match (prepare::vault_warning(station), key) {
        (Some(warning), _) => {
            Check::finding(name, warning, "make a key with age-keygen, and keep its secret elsewhere")
        }
        (None, Some(_)) => Check::good(name, "its key is there"),
        (None, None) => Check::good(name, "none yet"),
    }
}

/// Whether `run` takes the station's profiles as they are.
fn qualified(disk: &dyn Disk, station: &Station) -> Check {
    let name = "qualified";
    let notes = qualify::standing_notes(&qualify::standings_at(disk, &station.state), station);
    let said = |good: bool| -> Vec<&str> {
        notes.iter().filter(|(_, is_good)| *is_good == good).map(|(note, _)| note.as_str()).collect()
    };
    match (said(false), said(true)) {
        (bad, _) if !bad.is_empty() => Check::finding(
            name,
            bad.join("; "),
            "`stationmaster qualify STATION PROFILE` tries it on modules; `run --unqualified` runs it as it is",
        ),
        (_, good) if good.is_empty() => Check::good(name, "simulated hardware asks for no qualification"),
        (_, good) => Check::good(name, good.join("; ")),
    }
}

/// Whether a directory can be written, or be made, and has room. The nearest one that is there is asked.
fn directory_check(disk: &dyn Disk, name: &'static str, path: &Path) -> Check {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let Some(there) = absolute.ancestors().find(|above| rustix::fs::access(*above, rustix::fs::Access::EXISTS).is_ok())
    else {
        return Check::unknown(name, format!("{} leads nowhere", path.display()));
    };
    let remedy = "give this user a writable directory, or name another in the station file";
    let modes = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if disk.list(there).is_err() {
        return Check::finding(name, format!("{} is no directory that can be read", there.display()), remedy);
    }
    if rustix::fs::access(there, modes).is_err() {
        return Check::finding(name, format!("{} cannot be written", there.display()), remedy);
    }
    match disk.free_bytes(there) {
        Ok(free) if free < FREE_BYTES_MIN => Check::finding(
            name,
            format!("{}: {} MiB are free", path.display(), free / 1024 / 1024),
            "make room: at least 2 GiB are needed for backups and records",
        ),
        Ok(_) => Check::good(name, format!("{} can be written and has room", path.display())),
        Err(error) => Check::unknown(name, format!("{}: {error}", there.display())),
    }
}

/// Whether the hubs really switch; unknown where that was not tried, because nobody wants it or the station works.
fn power(disk: &dyn Disk, station: &Station, switch: bool) -> Result<Check, Status> {
    let name = "power";
    if station.power == crate::config::PowerKind::None {
        return Ok(Check::good(name, "the station file says that nobody switches it"));
    }
    if !switch {
        return Ok(Check::unknown(name, "not tried; --switch-power cuts the supply of every slot for two seconds"));
    }
    let _locks = match reserve::modules(disk, station, Some(&station.state), Hold::Shared) {
        Ok(locks) => locks,
        Err(why) => return Ok(Check::unknown(name, why.replace("\nhelp: ", "; "))),
    };
    let runtime = start::runtime()?;
    Ok(runtime.block_on(switched(&HubPower::new(Sysfs::default()), station, &Clock::real())))
}

/// Cuts the supply of every slot and gives it back, one after the other.
async fn switched(supply: &dyn SlotPower, station: &Station, clock: &Clock) -> Check {
    let name = "power";
    let mut bad = Vec::new();
    for slot in ports(station) {
        if let Err(why) = cycle(supply, &slot.chains, clock).await {
            bad.push(format!("{}: {why}", slot.name));
        }
    }
    if bad.is_empty() {
        return Check::good(name, "every slot's supply was cut and given back");
    }
    let remedy = "use hubs with switched ports, or write `power: none` in the station file: a reset takes its place";
    Check::finding(name, bad.join("; "), remedy)
}

/// Cuts a supply and gives it back, whatever came of the cut. [`HubPower`] judges by the ports' status.
async fn cycle(supply: &dyn SlotPower, chains: &[PortChain], clock: &Clock) -> Result<(), String> {
    if !supply.can_switch(chains) {
        return Err("its hub cannot switch".to_owned());
    }
    let cut = supply.set(chains, false).await;
    if cut.is_ok() {
        clock.sleep(OFF).await;
    }
    let given = supply.set(chains, true).await;
    cut.map_err(|error| error.to_string())?;
    given.map_err(|error| format!("it was cut and not given back: {error}"))
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Finding => "FINDING",
        Verdict::Unknown => "unknown",
    }
}

fn words(checks: &[Check], is_fit: bool) -> String {
    let mut text = String::new();
    for check in checks {
        let _infallible = writeln!(text, "{:<8} {:<14} {}", word(check.verdict), check.name, check.seen);
        if !check.remedy.is_empty() {
            let _infallible = writeln!(text, "{:<23} help: {}", "", check.remedy);
        }
    }
    text.push_str(if is_fit { "fit\n" } else { "not fit\n" });
    text
}

fn document(checks: &[Check], is_fit: bool) -> serde_json::Value {
    let check = |check: &Check| {
        serde_json::json!({
            "check": check.name,
            "state": word(check.verdict).to_lowercase(),
            "seen": check.seen,
            "remedy": if check.remedy.is_empty() { None } else { Some(&check.remedy) },
        })
    };
    serde_json::json!({ "fit": is_fit, "checks": checks.iter().map(check).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests;
