//! `sim serve`: the simulated modules for other programs, over USB/IP and as pseudo terminals.
//!
//! No controller works here, so nobody says that a run is finished: units stay where they are until they are told
//! otherwise on standard input ([`control`]), or until `--exchange-after` has it that a flashed unit is done.

mod control;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Status, complain, input, line, prepare, print, start};
use crate::config::{HardwareKind, Station};
use crate::host::{Clock, Disk, OsDisk, disk_words};
use crate::ledger;
use crate::sim::{BusAction, Factory, pty, usbip, usbredir};
use control::Control;

/// How often flashed units are looked for, in station time.
const EXCHANGE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArguments {
    /// The station file, with `hardware: simulated`
    station: PathBuf,
    /// Export the modules over USB/IP at this address, for example 127.0.0.1:3240; port 0 for any free one
    #[arg(long, value_name = "ADDR", required_unless_present_any = ["pty", "usbredir"])]
    usbip: Option<SocketAddr>,
    /// Offer the modules' ports as pseudo terminals: DIR/SLOT.edl, .at and .diag
    #[arg(long, value_name = "DIR")]
    pty: Option<PathBuf>,
    /// Offer the modules to QEMU's usb-redir devices, at a socket for each slot: DIR/SLOT.redir
    #[arg(long, value_name = "DIR")]
    usbredir: Option<PathBuf>,
    /// The modules run at full speed: QEMU's hubs carry no more
    #[arg(long)]
    full_speed: bool,
    /// Hand out at most so many units; without it, there is no end
    #[arg(long, value_name = "N")]
    units: Option<u32>,
    /// Take a unit that was flashed out this long after its last start, in seconds of station time, and put the next
    /// one in; without it, only `done SLOT` does
    #[arg(long, value_name = "SECONDS")]
    exchange_after: Option<u64>,
    /// Where the modules' flash and what is in which slot are kept, instead of the station file's `state`
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Why nothing is served.
enum Failed {
    Refused(String),
    Stuck(String),
}

pub(crate) fn run(arguments: &ServeArguments) -> Status {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format!("error: {error}"));
            return Status::Stuck;
        }
    };
    match runtime.block_on(serve(arguments)) {
        Ok(()) => Status::Good,
        Err(Failed::Refused(why)) => {
            complain(why.trim_end());
            Status::Refused
        }
        Err(Failed::Stuck(why)) => {
            complain(format!("error: {}", why.trim_end()));
            Status::Stuck
        }
    }
}

async fn serve(arguments: &ServeArguments) -> Result<(), Failed> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let station =
        prepare::station(disk.as_ref(), &arguments.station).map_err(|errors| Failed::Refused(errors.to_string()))?;
    if station.hardware != HardwareKind::Simulated {
        return Err(Failed::Refused(format!(
            "{}: there is nothing to serve: its hardware is not simulated\nhelp: say `hardware: simulated`, as \
             stations/demo.yaml does",
            arguments.station.display()
        )));
    }
    let state = arguments.state.clone().unwrap_or_else(|| station.state.clone());
    prepare::place_for(disk.as_ref(), &state, "state").map_err(Failed::Refused)?;
    // Sockets and links that cannot be had end the command before anything is touched.
    let listener = match arguments.usbip {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    if let Some(directory) = &arguments.pty {
        pty::prepare(directory, station.slots.iter().map(|slot| slot.name.as_str())).map_err(|error| {
            Failed::Refused(format!(
                "error: --pty {}: {}\nhelp: name a directory that this user may write to",
                directory.display(),
                disk_words(&error)
            ))
        })?;
    }
    let sockets = match &arguments.usbredir {
        Some(directory) => {
            Some(usbredir::bind(directory, station.slots.iter().map(|slot| &slot.name)).map_err(|error| {
                Failed::Refused(format!(
                    "error: --usbredir {}: {}\nhelp: name a directory that this user may write to, with a short path",
                    directory.display(),
                    disk_words(&error)
                ))
            })?)
        }
        None => None,
    };
    prepare::place(disk.as_ref(), &state, "state").map_err(Failed::Stuck)?;
    // A line has one owner: a controller that works on the same state directory would have its own modules.
    let _lock = ledger::lock(disk.as_ref(), &state.join("ledger"))
        .map_err(|error| Failed::Stuck(format!("{}: {}", state.display(), start::ledger_words(&error))))?;
    let clock = Clock::scaled(station.time_scale());
    let factory = line::start(&station, &clock, &disk, &state, arguments.units, arguments.full_speed)
        .await
        .map_err(Failed::Stuck)?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let mut started = json!({ "event": "serving", "slots": station.slots.len() });
    if let Some(listener) = listener {
        let bound = listener.local_addr().map_err(|error| Failed::Stuck(format!("the socket of USB/IP: {error}")))?;
        started["usbip"] = json!(bound.to_string());
        tasks.spawn(usbip::serve(listener, factory.exports(), stop.clone()));
    }
    if let Some(directory) = &arguments.pty {
        started["pty"] = json!(directory.display().to_string());
        tasks.spawn(pty::serve(directory.clone(), factory.exports(), stop.clone()));
    }
    if let (Some(sockets), Some(directory)) = (sockets, &arguments.usbredir) {
        started["usbredir"] = json!(directory.display().to_string());
        tasks.spawn(usbredir::serve(sockets, factory.exports(), Clock::real(), stop.clone()));
    }
    print(&format!("{started}\n"));
    work(arguments, &station, &factory, &clock).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    factory.stop();
    Ok(())
}

/// Obeys standard input until `quit` or a signal. Its end is no reason to stop: services have none.
async fn work(arguments: &ServeArguments, station: &Station, factory: &Factory, clock: &Clock) {
    let mut control = Control::new(station, factory, clock.clone());
    let mut lines = input::lines();
    let exchange_after = arguments.exchange_after.map(Duration::from_secs);
    let mut signals = std::pin::pin!(super::signal());
    loop {
        tokio::select! {
            biased;
            _ = &mut signals => return,
            Some(line) = lines.recv() => {
                let Some(answer) = control.obey(&line).await else { return };
                print(&format!("{answer}\n"));
            }
            () = clock.sleep(EXCHANGE_INTERVAL), if exchange_after.is_some() => {
                exchange(station, factory, clock, exchange_after.unwrap_or_default()).await;
            }
        }
    }
}

/// Takes out the units that were flashed and have run since for `after`.
async fn exchange(station: &Station, factory: &Factory, clock: &Clock, after: Duration) {
    for slot in &station.slots {
        let Some(unit) = factory.occupant(&slot.name).and_then(|number| factory.unit(number)) else { continue };
        let is_over = unit
            .events()
            .last()
            .is_some_and(|last| last.action == BusAction::Start && clock.now().saturating_sub(last.at) >= after);
        if unit.is_flashed() && is_over {
            factory.operator().slot_done(&slot.name).await;
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failed> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let why = start::listen_words(&error);
        Failed::Refused(format!(
            "error: --usbip {address}: {why}\nhelp: give an address and a port of this host such as 127.0.0.1:3240, or \
             port 0 for any free one"
        ))
    })?;
    if !address.ip().is_loopback() {
        complain(format!(
            "warning: {address} can be reached from other hosts, without encryption or login: whoever reaches it can \
             use and flash the simulated modules."
        ));
    }
    Ok(listener)
}
