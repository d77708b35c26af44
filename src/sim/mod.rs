//! The virtual factory: hosts with root ports, hubs, ports with power, modules, and an operator.
//!
//! A module is a USB device first. It has descriptors and endpoints, a NAND with bad blocks and a partition table,
//! and boots from what is in it; nothing about it is declared, everything follows from its flash. So a controller
//! that does the wrong thing gets what it would get on the line: a module that is dead. The wire's bytes are written
//! here anew (Sahara, Firehose, DIAG and AT from the device's side) and never shared with the product's protocol
//! machines, so that a wrong encoder cannot agree with itself.
//!
//! [`Factory`] is the whole: [`Factory::bus`] and [`Factory::power`] are what a controller sees,
//! [`Factory::operator`] is whom it tells that a slot is finished, and [`Factory::unit`] is the ground truth, for
//! tests alone. How the parts fit: the fixture (`world`) gives power to the modules (`module`), each a task; a
//! module shows its face on the bus and talks over links (`link`); what it says in each mode is in `at_commands`,
//! `diag`, `sahara` and `loader`; what it is lies in its `body`. Faults ([`FAULTS`]) are part of the unit they
//! belong to. Other programs get the modules through [`usbip`] and [`pty`].

mod adapters;
mod at_commands;
mod at_port;
mod body;
pub mod boot;
mod descriptors;
mod diag;
pub mod efs;
mod elf;
mod factory;
mod faults;
pub mod flash_map;
mod images;
mod line;
mod line_state;
mod link;
mod loader;
mod loader_storage;
mod loader_xml;
mod maker;
mod mibib;
pub mod models;
mod module;
pub mod nand;
mod nand_store;
mod pace;
pub mod package;
mod page_pool;
pub mod programmer;
pub mod pty;
mod sahara;
mod shop;
mod spec;
mod stage;
pub mod unit;
mod usb;
pub mod usbip;
pub mod usbredir;
mod world;

pub use body::{BusAction, BusEvent};
pub use factory::{Carried, Factory, OperatorHandle, UnitTruth};
pub use faults::{FAULTS, FaultInfo};
pub use maker::programmer_for;
pub use spec::{FactorySpec, FaultSpec, Flash, OperatorSpec, Pacing, SimError, SimSlot, UnitKind};
pub use stage::{Arrival, GuardedSight, Moment, StopPoint};
