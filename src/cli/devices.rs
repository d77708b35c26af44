//! `devices`: what is plugged in where.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Status, complain, line, print, print_json, start};
use crate::config::{HardwareKind, SlotConfig, Station};
use crate::domain::text::printable;
use crate::domain::{PortChain, Side};
use crate::hardware::{DeviceMode, DeviceRecord, HubRecord, Listing};
use crate::host::{Disk, OsDisk};

/// Where the second column begins; chains of the depth that fixtures have fit before it.
const COLUMN: usize = 24;
/// Longest text of a device in a line of the tree, in characters.
const TEXT_CHARS: usize = 24;

#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArguments {
    /// The station file: names the slots. Without it, everything at this host is shown
    station: Option<PathBuf>,
    /// The state directory of a simulated station, instead of the station file's
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &DevicesArguments) -> Status {
    attempt(arguments).unwrap_or_else(|status| status)
}

fn attempt(arguments: &DevicesArguments) -> Result<Status, Status> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let station = start::given_station(disk.as_ref(), arguments.station.as_deref())?;
    start::named_state(disk.as_ref(), arguments.state.as_deref())?;
    let runtime = start::runtime()?;
    let listing = runtime.block_on(async {
        match &station {
            Some(station) if station.hardware == HardwareKind::Simulated => {
                let state = arguments.state.clone().unwrap_or_else(|| station.state.clone());
                line::look(station, &disk, &state).await
            }
            _ => line::look_at_host().await,
        }
    });
    let listing = listing.map_err(|why| {
        complain(format!("error: {why}"));
        Status::Stuck
    })?;
    if arguments.json {
        print_json(&document(station.as_ref(), &listing));
    } else {
        print(&words(station.as_ref(), &listing));
    }
    Ok(Status::Good)
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

/// What is at one position.
#[derive(Default)]
struct Position<'a> {
    slot: Option<&'a str>,
    device: Option<&'a DeviceRecord>,
    hub: Option<&'a HubRecord>,
}

/// Every position that has something or is a slot's, ascending.
fn positions<'a>(station: Option<&'a Station>, listing: &'a Listing) -> BTreeMap<&'a PortChain, Position<'a>> {
    let mut all: BTreeMap<&PortChain, Position<'_>> = BTreeMap::new();
    for hub in &listing.hubs {
        all.entry(&hub.chain).or_default().hub = Some(hub);
    }
    for device in &listing.devices {
        all.entry(&device.key.chain).or_default().device = Some(device);
    }
    for slot in station.iter().flat_map(|station| &station.slots) {
        for chain in slot.chains() {
            all.entry(chain).or_default().slot = Some(slot.name.as_str());
        }
    }
    all
}

/// The tree: a heading for each root hub, and below it one or two lines for each position.
fn words(station: Option<&Station>, listing: &Listing) -> String {
    let mut text = String::new();
    let mut root = None;
    for (chain, position) in positions(station, listing) {
        let side = if chain.side() == Side::Usb2 { "usb2" } else { "usb3" };
        if root != Some((chain.controller(), side)) {
            root = Some((chain.controller(), side));
            let _infallible = writeln!(text, "{}/{side}", chain.controller());
        }
        let ports: Vec<String> = chain.ports().iter().map(u8::to_string).collect();
        let place = format!("{}{}", "  ".repeat(chain.ports().len()), ports.join("."));
        let slot = position.slot.unwrap_or_default();
        let _infallible = match (position.device, position.hub) {
            (Some(device), _) => writeln!(
                text,
                "{place:<COLUMN$} {slot:<12} {:04x}:{:04x}  {}\n{:<COLUMN$} {:<12} {}",
                device.vendor_id,
                device.product_id,
                mode(device),
                "",
                "",
                printable(&device.product, TEXT_CHARS),
            ),
            (None, Some(hub)) => {
                let product = printable(&hub.product, TEXT_CHARS);
                writeln!(text, "{place:<COLUMN$} {slot:<12} hub with {} ports  {product}", hub.ports)
            }
            (None, None) => writeln!(text, "{place:<COLUMN$} {slot:<12} empty"),
        };
    }
    if text.is_empty() { "nothing is plugged in\n".to_owned() } else { text }
}

fn document(station: Option<&Station>, listing: &Listing) -> serde_json::Value {
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
    let at = |slot: &SlotConfig| -> Vec<serde_json::Value> {
        listing.devices.iter().filter(|found| slot.is_at(&found.key.chain)).map(device).collect()
    };
    let slots = station.map(|station| &station.slots[..]).unwrap_or_default();
    let others = listing.devices.iter().filter(|found| !slots.iter().any(|slot| slot.is_at(&found.key.chain)));
    serde_json::json!({
        "station": station.map(|station| &station.name),
        "slots": slots.iter().map(|slot| serde_json::json!({
            "slot": slot.name,
            "usb2": slot.usb2,
            "usb3": slot.usb3,
            "devices": at(slot),
        })).collect::<Vec<_>>(),
        "others": others.map(device).collect::<Vec<_>>(),
        "hubs": listing.hubs.iter().map(|hub| serde_json::json!({
            "chain": hub.chain, "ports": hub.ports, "product": hub.product,
        })).collect::<Vec<_>>(),
    })
}
