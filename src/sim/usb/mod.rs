//! A simulated module as a USB host controller sees it: descriptors as bytes, the control endpoint, and transfers by
//! endpoint. What carries these to another program (USB/IP, a redirection protocol) is built on top of it and knows
//! nothing of modules.

mod control;
pub(super) mod descriptors;
mod device;

pub(super) use device::{Completion, Direction, Ending, Transfer, UsbDevice};
