//! `sim attach`: served modules in this host's own USB stack, through the kernel's `vhci_hcd`.
//!
//! A slot has one port on the USB 2 root hub and one on the SuperSpeed root hub of a virtual controller, always the same
//! ones, so that its port chains are as stable as those of a real fixture. A module that changes its mode leaves and is
//! imported again where it was.

mod vhci;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Status, complain, prepare, print, signal, start};
use crate::config::Station;
use crate::domain::Side;
use crate::domain::text::printable;
use crate::host::{Clock, Disk, OsDisk};
use crate::sim::usbip::{self, ClientError, DeviceInfo, SPEED_SUPER};
use vhci::{Place, Vhci, VhciError};

/// How often server and ports are looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long a port may take to be free again.
const BUSY_TIME_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct AttachArguments {
    /// The USB/IP server, for example 127.0.0.1:3240
    address: String,
    /// The station file that is served there: with it, --station can be written
    #[arg(long, value_name = "STATION.yaml", requires = "station")]
    like: Option<PathBuf>,
    /// Write a station file with `hardware: usb` and the slots' port chains here, before anything is attached
    #[arg(long, value_name = "FILE", requires = "like")]
    station: Option<PathBuf>,
}

/// Why nothing is attached.
#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error("{address}: {error}\nhelp: start `stationmaster sim serve STATION.yaml --usbip ADDR` first")]
    Server { address: String, error: ClientError },
    #[error(transparent)]
    Vhci(#[from] VhciError),
}

pub(crate) fn run(arguments: &AttachArguments) -> Status {
    let runtime = match start::runtime() {
        Ok(runtime) => runtime,
        Err(status) => return status,
    };
    let vhci = match Vhci::find() {
        Ok(vhci) => vhci,
        Err(error) => {
            complain(format!("error: {error}"));
            return Status::Refused;
        }
    };
    if let (Some(like), Some(file)) = (&arguments.like, &arguments.station)
        && let Err(why) = write_station(like, file, &vhci)
    {
        complain(why.trim_end());
        return Status::Refused;
    }
    match runtime.block_on(attach(&arguments.address, &vhci)) {
        Ok(()) => Status::Good,
        Err(error) => {
            complain(format!("error: {error}"));
            Status::Stuck
        }
    }
}

/// Keeps everything attached until a signal comes. What is attached then stays so until its server stops.
async fn attach(address: &str, vhci: &Vhci) -> Result<(), AttachError> {
    let clock = Clock::real();
    let mut signals = std::pin::pin!(signal());
    let mut attached: BTreeMap<u32, DeviceInfo> = BTreeMap::new();
    let mut complained: BTreeSet<String> = BTreeSet::new();
    let mut was_reached = false;
    loop {
        let used = vhci.used()?;
        attached.retain(|port, device| {
            let stays = used.contains(port);
            if !stays {
                say("detached", *port, device, vhci);
            }
            stays
        });
        match usbip::list(address).await {
            Ok(devices) => {
                was_reached = true;
                for device in devices {
                    let Some(place) = place(&device, vhci) else {
                        if complained.insert(device.busid.clone()) {
                            complain(format!(
                                "warning: there is no port for {}: {} ports in all",
                                device.busid,
                                vhci.ports()
                            ));
                        }
                        continue;
                    };
                    if used.contains(&place.port) || vhci.is_occupied(&place) {
                        continue;
                    }
                    match import(address, &device, place.port, vhci, &clock).await {
                        Ok(device) => {
                            say("attached", place.port, &device, vhci);
                            attached.insert(place.port, device);
                        }
                        // It has just left, or somebody else has it: the next list tells.
                        Err(AttachError::Server { error, .. }) => {
                            tracing::info!(busid = device.busid, %error, "not imported");
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) if !was_reached => return Err(AttachError::Server { address: address.to_owned(), error }),
            Err(error) => tracing::warn!(%error, "the server cannot be asked"),
        }
        tokio::select! {
            biased;
            _ = &mut signals => return Ok(()),
            () = clock.sleep(INTERVAL) => {}
        }
    }
}

/// The place of a device in the virtual controllers: by the number of its slot, on its own side.
fn place(device: &DeviceInfo, vhci: &Vhci) -> Option<Place> {
    let side = if device.speed == SPEED_SUPER { Side::Usb3 } else { Side::Usb2 };
    vhci.place(usize::try_from(device.devnum.checked_sub(1)?).ok()?, side)
}

async fn import(
    address: &str,
    device: &DeviceInfo,
    port: u32,
    vhci: &Vhci,
    clock: &Clock,
) -> Result<DeviceInfo, AttachError> {
    let (stream, found) = usbip::import(address, &device.busid)
        .await
        .map_err(|error| AttachError::Server { address: address.to_owned(), error })?;
    // The kernel takes a reference to the socket; ours is closed on return.
    let stream = stream.into_std().map_err(VhciError::Socket)?;
    stream.set_nonblocking(false).map_err(VhciError::Socket)?;
    let deadline = clock.now() + BUSY_TIME_MAX;
    loop {
        match vhci.attach(port, stream.as_raw_fd(), found.devid(), found.speed) {
            Err(VhciError::Busy(_)) if clock.now() < deadline => clock.sleep(INTERVAL).await,
            other => break other?,
        }
    }
    Ok(DeviceInfo { interfaces: device.interfaces.clone(), ..found })
}

/// One line per event, as a JSON document.
fn say(event: &str, port: u32, device: &DeviceInfo, vhci: &Vhci) {
    let slot = device.path.split('/').nth(2).unwrap_or_default();
    let chain = place(device, vhci).map(|place| place.chain.to_string());
    let line = json!({
        "event": event,
        "slot": printable(slot, 64),
        "busid": printable(&device.busid, 64),
        "port": port,
        "chain": chain,
        "id": format!("{:04x}:{:04x}", device.vendor_id, device.product_id),
    });
    print(&format!("{line}\n"));
}

/// Writes the station file for what is attached.
fn write_station(like: &std::path::Path, file: &std::path::Path, vhci: &Vhci) -> Result<(), String> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let station = prepare::station(disk.as_ref(), like).map_err(|errors| errors.to_string())?;
    let text = station_text(&station, vhci)?;
    disk.replace(file, text.as_bytes(), true).map_err(|error| format!("error: {}: {error}", file.display()))
}

fn station_text(station: &Station, vhci: &Vhci) -> Result<String, String> {
    let text = |value: &dyn std::fmt::Display| serde_json::Value::String(value.to_string()).to_string();
    let absolute = |path: &std::path::Path| {
        std::path::absolute(path).map(|path| text(&path.display())).map_err(|error| format!("error: {error}"))
    };
    let mut out =
        String::from("# Written by `stationmaster sim attach`: simulated modules on this host's USB stack.\n");
    out.push_str(&format!("name: {}\nhardware: usb\nprofiles:\n", text(&format_args!("{}-usb", station.name))));
    for profile in &station.profiles {
        out.push_str(&format!("  - {}\n", absolute(&profile.path)?));
    }
    let state = absolute(&station.state.with_file_name(format!("{}-usb", station.name)))?;
    out.push_str(&format!("state: {state}\nreports: {}\n", absolute(&station.reports)?));
    out.push_str("slots:\n");
    for (index, slot) in station.slots.iter().enumerate() {
        let (Some(low), Some(high)) = (vhci.place(index, Side::Usb2), vhci.place(index, Side::Usb3)) else {
            return Err(format!(
                "error: slot {}: the virtual controllers have {} ports in all, too few for {} slots\nhelp: use a station \
                 with fewer slots, or a kernel with more (USBIP_VHCI_NR_HCS)",
                slot.name,
                vhci.ports(),
                station.slots.len()
            ));
        };
        out.push_str(&format!(
            "  - {{ name: {}, usb2: {}, usb3: {} }}\n",
            text(&slot.name),
            text(&low.chain),
            text(&high.chain)
        ));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_station_file_that_is_written_is_one() {
        let disk = OsDisk::new();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let station = prepare::station(&disk, &root.join("stations/demo.yaml")).expect("the demonstration");
        let text = station_text(&station, &Vhci::with(240, 8)).expect("enough ports");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("usb.yaml");
        disk.replace(&file, text.as_bytes(), true).expect("writable");
        // Everything but the packages of these profiles, which are simulated ones: those must be real directories.
        let errors = prepare::station(&disk, &file).expect_err("simulated packages").to_string();
        let (complaints, packages) =
            (errors.matches("help: ").count(), errors.matches("has a simulated package").count());
        assert_eq!((complaints, packages), (station.profiles.len(), station.profiles.len()), "{errors}");
        for line in [
            "hardware: usb\n",
            "  - { name: \"A1\", usb2: \"platform-vhci_hcd.0/usb2/1\", usb3: \"platform-vhci_hcd.0/usb3/1\" }\n",
            "  - { name: \"D4\", usb2: \"platform-vhci_hcd.1/usb2/1\", usb3: \"platform-vhci_hcd.1/usb3/1\" }\n",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        let why = station_text(&station, &Vhci::with(16, 1)).expect_err("too few");
        assert!(why.contains("slot C1: the virtual controllers have 16 ports"), "{why}");
    }
}
