//! The real side of the hardware traits, on Linux: sysfs for what is plugged where, usbfs (by nusb) for bulk transfers,
//! the kernel's ttys for serial ports.
//!
//! Sysfs says where a device is and which enumeration it is; nothing is opened by an address alone. A key is looked up
//! in sysfs again after whatever it names was opened, because addresses and tty names are given out anew at any time.

mod budget;
mod descriptors;
pub mod fitness;
#[cfg(test)]
mod fixture;
mod holders;
mod hotplug;
mod pipe;
mod port;
mod power;
mod queue;
mod scan;
mod sessions;
mod sysfs;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use self::budget::Budget;
use self::holders::Holders;
use self::hotplug::Hints;
use self::scan::{Found, Scanner};
use self::sessions::{Present, Sessions};
use super::{AtPort, BoxFuture, BulkPipe, Bus, DeviceKey, DeviceRecord, HardwareError, HubRecord, Listing};
use crate::host::Clock;

pub use power::HubPower;
pub use sysfs::Sysfs;

/// The USB buses of the host.
#[derive(Debug)]
pub struct UsbBus {
    sysfs: Arc<Sysfs>,
    clock: Clock,
    state: Arc<Mutex<State>>,
    holders: Holders,
    budget: Arc<Budget>,
    hints: Hints,
}

#[derive(Debug, Default)]
struct State {
    scanner: Scanner,
    sessions: Sessions,
    listing: Listing,
}

impl UsbBus {
    /// The buses below `sysfs`; every limit of time is on `clock`, which must be the host's own.
    ///
    /// Must be called inside a runtime: hot-plug events are listened to from here on.
    #[must_use]
    pub fn start(sysfs: Sysfs, clock: Clock) -> Self {
        let budget = Budget::of_host(&sysfs);
        Self {
            sysfs: Arc::new(sysfs),
            clock,
            state: Arc::default(),
            holders: Holders::default(),
            budget,
            hints: Hints::start(),
        }
    }

    /// The device that a key means with what it told of itself, if it is still there.
    fn find(&self, key: &DeviceKey) -> Result<(Present, DeviceRecord), HardwareError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let present = state.sessions.find(key).ok_or(HardwareError::Gone)?;
        let record = state.listing.devices.iter().find(|device| device.key == *key).ok_or(HardwareError::Gone)?;
        Ok((present, record.clone()))
    }
}

impl State {
    fn list(&mut self, sysfs: &Sysfs) -> Result<Listing, HardwareError> {
        let found = self.scanner.scan(sysfs)?;
        let sessions = self.sessions.update(&found);
        let mut listing = Listing::default();
        for (found, session) in found.into_iter().zip(sessions) {
            match found.hub_ports {
                Some(ports) => {
                    listing.hubs.push(HubRecord { chain: found.chain, ports, product: found.texts.product });
                }
                None => listing.devices.push(record(found, session)),
            }
        }
        self.listing = listing.clone();
        Ok(listing)
    }
}

fn record(found: Found, session: u64) -> DeviceRecord {
    DeviceRecord {
        key: DeviceKey { chain: found.chain, session },
        vendor_id: found.device.vendor_id,
        product_id: found.device.product_id,
        bcd_device: found.device.bcd_device,
        speed: found.speed,
        product: found.texts.product,
        manufacturer: found.texts.manufacturer,
        serial: found.texts.serial,
        interfaces: found.interfaces,
    }
}

impl Bus for UsbBus {
    fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
        let (state, sysfs) = (Arc::clone(&self.state), Arc::clone(&self.sysfs));
        Box::pin(async move {
            // One listing at a time: an older one must not be taken for news.
            let list = move || state.lock().unwrap_or_else(PoisonError::into_inner).list(&sysfs);
            tokio::task::spawn_blocking(list).await.map_err(|_| HardwareError::Failed("stopped".into()))?
        })
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.receiver()
    }

    fn open_bulk<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
        Box::pin(async move {
            let (present, record) = self.find(device)?;
            let hold = self.holders.hold(device, interface, &self.clock).await?;
            pipe::open(&self.sysfs, &self.budget, &self.clock, present, &record, interface, hold).await
        })
    }

    fn open_port<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
        Box::pin(async move {
            let (present, record) = self.find(device)?;
            if !record.interfaces.iter().any(|candidate| candidate.number == interface) {
                return Err(HardwareError::Unsupported("the device has no such interface"));
            }
            let hold = self.holders.hold(device, interface, &self.clock).await?;
            port::open(&self.sysfs, &self.clock, present, interface, hold).await
        })
    }
}

#[cfg(test)]
mod tests;
