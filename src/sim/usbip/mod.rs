//! The simulated modules over USB/IP, so that another program, or the kernel's own USB stack through `vhci_hcd`, has
//! them as if they were real. The protocol is that of Linux' `Documentation/usb/usbip_protocol.rst`, version 1.1.1.
//!
//! [`codec`] is bytes and nothing else, [`server`] the connections; what a device answers
//! is in [`usb`](super::usb). [`client`] asks a server for its list and imports a device, for those
//! who hand them to this host's kernel.
//!
//! A slot has one bus id per side, whatever is plugged into it: `1-3` is the USB 2 side of the third slot of the
//! fixture, `2-3` its SuperSpeed side. A module that leaves the bus closes the connection of its import.

mod client;
mod codec;
mod server;

pub use client::{ClientError, import, list};
pub use codec::{DeviceInfo, SPEED_FULL, SPEED_HIGH, SPEED_SUPER};
pub use server::{Exports, serve};
