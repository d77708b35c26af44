//! The lines of a trace.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::TraceError;
use super::piece::Piece;
use crate::domain::text::printable;
use crate::domain::{BatchId, Fact, Outcome, PortChain, RunId, Sha256Digest, SlotName, StationName, limits};
use crate::hardware::{DeviceKey, DeviceRecord, Endpoint, EndpointKind, HardwareError, HubRecord, Interface, Speed};

/// The format that is written and read.
pub const FORMAT: u32 = 1;

/// One line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Its number, from 0 for the header, without gaps.
    #[serde(rename = "i")]
    pub number: u64,
    /// Station time since the run's first line, in microseconds; never less than on the line before.
    #[serde(rename = "t")]
    pub micros: u64,
    /// What happened.
    #[serde(rename = "e")]
    pub event: Event,
}

/// What the trace is of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The format of the lines.
    pub format: u32,
    /// The version of the program that wrote it.
    pub program: String,
    /// The run.
    pub run: RunId,
    /// Its batch.
    pub batch: BatchId,
    /// The station.
    pub station: StationName,
    /// SHA-256 of the station file.
    pub config: Sha256Digest,
    /// Whether the hardware was simulated.
    pub simulated: bool,
    /// What chance in a simulation starts from.
    pub seed: Option<u64>,
    /// How much faster than real station time ran.
    pub time_scale: u32,
    /// The station's profiles with the digests of profile and package.
    pub profiles: BTreeMap<String, (Sha256Digest, Sha256Digest)>,
    /// The slot in which the run began.
    pub slot: SlotName,
    /// The module's family, where it was in normal mode.
    pub family: Option<String>,
    /// Whether the run had been begun by an earlier process.
    pub resumes: bool,
    /// The wall clock when the header was written.
    pub wall: Timestamp,
}

/// What is plugged into a slot, and the hubs above it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugged {
    /// Devices.
    pub devices: Vec<Device>,
    /// Hubs.
    pub hubs: Vec<Hub>,
}

/// What happened. The tag of each is its stable name in the file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The first line.
    Header(Box<Header>),
    /// The run is in this slot from here on.
    Slot {
        /// The slot.
        slot: SlotName,
        /// Its chains, USB 2 first.
        chains: Vec<PortChain>,
        /// Whether its supply can be switched.
        switchable: bool,
        /// What is plugged into it.
        plugged: Plugged,
    },
    /// What is plugged into the slot has changed.
    Plugged(Plugged),
    /// The controller opens an interface: conversation `c` begins.
    Open {
        /// The conversation.
        c: u32,
        /// Where the device is.
        chain: PortChain,
        /// Which enumeration of it.
        session: u64,
        /// The interface.
        interface: u8,
        /// Its bulk endpoints; a serial port otherwise.
        bulk: bool,
    },
    /// How that went.
    Opened {
        /// The conversation.
        c: u32,
        /// Packet size of the OUT endpoint, in bytes; 0 for a serial port.
        packet_bytes: u32,
        /// Why it did not go.
        error: Option<Fault>,
    },
    /// The controller sends.
    Out {
        /// The conversation.
        c: u32,
        /// What.
        pieces: Vec<Piece>,
        /// Why it could not be begun.
        error: Option<Fault>,
    },
    /// The oldest transfer that was sent is complete.
    Taken {
        /// The conversation.
        c: u32,
        /// Why it failed.
        error: Option<Fault>,
    },
    /// The module sends.
    In {
        /// The conversation.
        c: u32,
        /// What.
        pieces: Vec<Piece>,
        /// The number of its record in the file of payloads, from 0.
        payload: Option<u64>,
        /// Why nothing more came.
        error: Option<Fault>,
    },
    /// The controller cancels all transfers.
    Cancel {
        /// The conversation.
        c: u32,
    },
    /// The controller closes the interface.
    Close {
        /// The conversation.
        c: u32,
    },
    /// The controller switches the slot's supply.
    Power {
        /// On or off.
        on: bool,
        /// Why that did not go.
        error: Option<Fault>,
    },
    /// A fact about the run became durable.
    Fact(Box<Fact>),
    /// A fact about another run that bears on this one: its claim was refused because this run has the unit's IMEI.
    Elsewhere(Box<Fact>),
    /// So many lines were lost here.
    Gap {
        /// How many.
        lines: u64,
    },
    /// The trace has grown to its bound; only facts follow.
    Bound {
        /// The bound, in bytes.
        bytes: u64,
    },
    /// The last line.
    End {
        /// The run's outcome; `None` where it was not finished when the recorder ended.
        outcome: Option<Outcome>,
        /// How many facts there are.
        facts: u64,
        /// SHA-256 over them, as they stand in their lines, one after the other.
        digest: Sha256Digest,
    },
}

/// Why the hardware did not do what it was asked to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// As [`HardwareError::Gone`].
    Gone,
    /// As [`HardwareError::Busy`].
    Busy,
    /// As [`HardwareError::Stall`].
    Stall,
    /// As [`HardwareError::Failed`], printable.
    Failed(String),
    /// As [`HardwareError::Unsupported`].
    Unsupported(String),
}

impl From<&HardwareError> for Fault {
    fn from(error: &HardwareError) -> Self {
        match error {
            HardwareError::Gone => Self::Gone,
            HardwareError::Busy => Self::Busy,
            HardwareError::Stall => Self::Stall,
            HardwareError::Failed(why) => Self::Failed(printable(why, limits::DEVICE_TEXT_CHARS_MAX)),
            HardwareError::Unsupported(what) => Self::Unsupported((*what).to_owned()),
        }
    }
}

impl From<&Fault> for HardwareError {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Gone => Self::Gone,
            Fault::Busy => Self::Busy,
            Fault::Stall => Self::Stall,
            Fault::Failed(why) => Self::Failed(why.clone()),
            Fault::Unsupported(_) => Self::Unsupported("so it was when the trace was recorded"),
        }
    }
}

/// An interface: number, class, subclass, protocol, endpoints.
type InterfaceLine = (u8, u8, u8, u8, Vec<EndpointLine>);
/// An endpoint: address, kind, packet size in bytes.
type EndpointLine = (u8, String, u16);

/// A device, as in [`DeviceRecord`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of the record")]
pub struct Device {
    pub chain: PortChain,
    pub session: u64,
    pub vendor_id: u16,
    pub product_id: u16,
    pub bcd_device: u16,
    pub speed: String,
    pub product: String,
    pub manufacturer: String,
    pub serial: String,
    pub interfaces: Vec<InterfaceLine>,
}

/// A hub, as in [`HubRecord`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of the record")]
pub struct Hub {
    pub chain: PortChain,
    pub ports: u8,
    pub product: String,
}

impl From<&DeviceRecord> for Device {
    fn from(record: &DeviceRecord) -> Self {
        let endpoint = |end: &Endpoint| {
            let kind = match end.kind {
                EndpointKind::Bulk => "bulk",
                EndpointKind::Interrupt => "interrupt",
                EndpointKind::Other => "other",
            };
            (end.address, kind.to_owned(), end.packet_bytes)
        };
        let interface = |interface: &Interface| {
            let (class, subclass, protocol) = interface.class;
            let endpoints = interface.endpoints.iter().map(endpoint).collect();
            (interface.number, class, subclass, protocol, endpoints)
        };
        let speed = match record.speed {
            Speed::Full => "full",
            Speed::High => "high",
            Speed::Super => "super",
        };
        Self {
            chain: record.key.chain.clone(),
            session: record.key.session,
            vendor_id: record.vendor_id,
            product_id: record.product_id,
            bcd_device: record.bcd_device,
            speed: speed.to_owned(),
            product: record.product.clone(),
            manufacturer: record.manufacturer.clone(),
            serial: record.serial.clone(),
            interfaces: record.interfaces.iter().map(interface).collect(),
        }
    }
}

impl From<&Device> for DeviceRecord {
    fn from(device: &Device) -> Self {
        let endpoint = |(address, kind, packet_bytes): &(u8, String, u16)| Endpoint {
            address: *address,
            kind: match kind.as_str() {
                "bulk" => EndpointKind::Bulk,
                "interrupt" => EndpointKind::Interrupt,
                _ => EndpointKind::Other,
            },
            packet_bytes: *packet_bytes,
        };
        let text = |text: &str| printable(text, limits::DEVICE_TEXT_CHARS_MAX);
        Self {
            key: DeviceKey { chain: device.chain.clone(), session: device.session },
            vendor_id: device.vendor_id,
            product_id: device.product_id,
            bcd_device: device.bcd_device,
            speed: match device.speed.as_str() {
                "super" => Speed::Super,
                "full" => Speed::Full,
                _ => Speed::High,
            },
            product: text(&device.product),
            manufacturer: text(&device.manufacturer),
            serial: text(&device.serial),
            interfaces: device
                .interfaces
                .iter()
                .map(|(number, class, subclass, protocol, endpoints)| Interface {
                    number: *number,
                    class: (*class, *subclass, *protocol),
                    endpoints: endpoints.iter().map(endpoint).collect(),
                })
                .collect(),
        }
    }
}

impl From<&HubRecord> for Hub {
    fn from(hub: &HubRecord) -> Self {
        Self { chain: hub.chain.clone(), ports: hub.ports, product: hub.product.clone() }
    }
}

impl From<&Hub> for HubRecord {
    fn from(hub: &Hub) -> Self {
        let product = printable(&hub.product, limits::DEVICE_TEXT_CHARS_MAX);
        Self { chain: hub.chain.clone(), ports: hub.ports, product }
    }
}

/// The text of a line, its end included; `None` where it would be longer than a line may be.
#[must_use]
pub fn encode(line: &Line) -> Option<Vec<u8>> {
    let mut text = serde_json::to_vec(line).ok()?;
    text.push(b'\n');
    (text.len() <= limits::TRACE_LINE_BYTES_MAX).then_some(text)
}

/// A line from its text, without its end; `number` is where it stands, from 1.
///
/// # Errors
/// [`TraceError::Line`], [`TraceError::TooLong`].
pub fn decode(text: &[u8], number: usize) -> Result<Line, TraceError> {
    if text.len() > limits::TRACE_LINE_BYTES_MAX {
        return Err(TraceError::TooLong { line: number });
    }
    serde_json::from_slice(text).map_err(|error| TraceError::Line {
        line: number,
        reason: printable(&error.to_string(), limits::DEVICE_TEXT_CHARS_MAX),
    })
}
