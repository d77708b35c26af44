//! The hardware as the controller sees it: four traits.
//!
//! [`Bus`] lists what is plugged where and opens it; [`BulkPipe`] is a module in download mode; [`AtPort`] is one of
//! its serial ports (AT and DIAG); [`SlotPower`] switches a slot's supply. The simulator and the real USB stack
//! implement them; drivers' types never leave those, and no code above can tell which one it works with.

mod device;
mod pipe;
mod power;
pub mod usb;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;

use crate::domain::PortChain;

pub use device::{DeviceKey, DeviceMode, DeviceRecord, Endpoint, EndpointKind, HubRecord, Interface, Listing, Speed};
pub use pipe::{BulkPipe, PipeExt};
pub use power::NoPower;

/// A boxed future, so that the traits can be used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the hardware did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HardwareError {
    /// The device is not there any more. Every form of a disconnect is this one.
    #[error("the device is gone")]
    Gone,
    /// Another program holds it.
    #[error("the device is held by another program")]
    Busy,
    /// An endpoint stalled.
    #[error("the endpoint stalled")]
    Stall,
    /// A transfer failed in another way, or a port did.
    #[error("{0}")]
    Failed(String),
    /// What was asked for cannot be done with this hardware.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
}

/// All USB buses of the station.
pub trait Bus: Send + Sync + Debug {
    /// Everything that is plugged in now.
    fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>>;

    /// A number that changes when something was plugged or unplugged. A hint: changes may be merged or lost.
    fn hints(&self) -> watch::Receiver<u64>;

    /// Opens the bulk endpoints of an interface, exclusively.
    fn open_bulk<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>>;

    /// Opens the serial port of an interface, exclusively.
    fn open_port<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>>;
}

/// A serial port of a module: AT or DIAG. Closed when dropped.
pub trait AtPort: Send + Debug {
    /// Waits for bytes and puts at least one, at most `buffer.len()`, into `buffer`. A hang-up is
    /// [`HardwareError::Gone`], never 0. May be dropped while waiting without losing bytes.
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>>;

    /// Writes all of `bytes`.
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>>;
}

/// The supply of slots.
pub trait SlotPower: Send + Sync + Debug {
    /// Whether the slot whose module hangs at these chains can be switched at all.
    fn can_switch(&self, chains: &[PortChain]) -> bool;

    /// Switches the supply of the connector that these chains belong to (both halves of a USB 3 port).
    ///
    /// Returns once the switch has been commanded; whether the module really went is seen on the bus.
    fn set<'a>(&'a self, chains: &'a [PortChain], on: bool) -> BoxFuture<'a, Result<(), HardwareError>>;
}
