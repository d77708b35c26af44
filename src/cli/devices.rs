//! `devices`: what is plugged in where.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Status, complain, line, prepare, print, print_json};
use crate::config::{HardwareKind, SlotConfig, Station};
use crate::hardware::{DeviceMode, DeviceRecord, Listing};
use crate::host::{Disk, OsDisk};

#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArguments {
    /// The station file: names the slots
    station: PathBuf,
    /// The state directory, instead of the station file's
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &DevicesArguments) -> Status {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let station = match prepare::station(disk.as_ref(), &arguments.station) {
        Ok(station) => station,
        Err(errors) => {
            complain(errors);
            return Status::Refused;
        }
    };
    if station.hardware == HardwareKind::Usb {
        complain(format!("{}: this version drives simulated hardware only", arguments.station.display()));
        return Status::Refused;
    }
    let state = arguments.state.clone().unwrap_or_else(|| station.state.clone());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format!("error: {error}"));
            return Status::Stuck;
        }
    };
    match runtime.block_on(line::look(&station, &disk, &state)) {
        Ok(listing) if arguments.json => {
            print_json(&document(&station, &listing));
            Status::Good
        }
        Ok(listing) => {
            print(&words(&station, &listing));
            Status::Good
        }
        Err(why) => {
            complain(format!("error: {why}"));
            Status::Stuck
        }
    }
}

fn mode(device: &DeviceRecord) -> String {
    match device.mode() {
        DeviceMode::Normal(family) => format!("normal, family {}", family.name),
        DeviceMode::Edl { .. } => "emergency download".to_owned(),
        DeviceMode::MemoryDump => "memory dump".to_owned(),
        DeviceMode::Foreign => "no module".to_owned(),
        DeviceMode::Unconfigured => "not configured".to_owned(),
    }
}

fn of_slot<'a>(listing: &'a Listing, slot: &SlotConfig) -> Vec<&'a DeviceRecord> {
    let is_here =
        |device: &&DeviceRecord| device.key.chain == slot.usb2 || slot.usb3.as_ref() == Some(&device.key.chain);
    listing.devices.iter().filter(is_here).collect()
}

fn words(station: &Station, listing: &Listing) -> String {
    let mut text = String::new();
    for slot in &station.slots {
        let devices = of_slot(listing, slot);
        if devices.is_empty() {
            let _infallible = writeln!(text, "{:<12} empty        {}", slot.name, slot.usb2);
        }
        for device in devices {
            let _infallible = writeln!(
                text,
                "{:<12} {:04x}:{:04x}    {}  {}  {}",
                slot.name,
                device.vendor_id,
                device.product_id,
                device.key.chain,
                device.product,
                mode(device)
            );
        }
    }
    for hub in &listing.hubs {
        let _infallible = writeln!(text, "hub          {} ports      {}  {}", hub.ports, hub.chain, hub.product);
    }
    text
}

fn document(station: &Station, listing: &Listing) -> serde_json::Value {
    let device = |device: &DeviceRecord| {
        serde_json::json!({
            "chain": device.key.chain,
            "vendor_id": format!("{:04x}", device.vendor_id),
            "product_id": format!("{:04x}", device.product_id),
            "product": device.product,
            "manufacturer": device.manufacturer,
            "serial": device.serial,
            "speed": format!("{:?}", device.speed).to_lowercase(),
            "interfaces": device.interfaces.len(),
            "mode": mode(device),
        })
    };
    serde_json::json!({
        "station": station.name,
        "slots": station.slots.iter().map(|slot| serde_json::json!({
            "slot": slot.name,
            "usb2": slot.usb2,
            "usb3": slot.usb3,
            "devices": of_slot(listing, slot).into_iter().map(device).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "hubs": listing.hubs.iter().map(|hub| serde_json::json!({
            "chain": hub.chain, "ports": hub.ports, "product": hub.product,
        })).collect::<Vec<_>>(),
    })
}
