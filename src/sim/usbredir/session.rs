//! What passes between one QEMU and the module in one slot.
//!
//! Bytes in, bytes out: the socket is elsewhere. While nothing is plugged in, the guest's port is empty; each
//! enumeration of a module is one `device_connect`, and leaving the bus is one `device_disconnect`, which the peer
//! acknowledges before the next one comes.

use std::collections::BTreeMap;
use std::future::pending;

use super::super::usb::descriptors::CONFIGURATION;
use super::super::usb::{Completion, Direction, Ending, Transfer, UsbDevice};
use super::super::world::Export;
use super::wire::{self, Broken, Reader};
use crate::domain::limits;
use crate::hardware::{EndpointKind, HardwareError, Speed};

/// Bit 7 of an endpoint's address, and of a request's type.
const IN: u8 = 0x80;
/// USB 2.0, table 9-4.
const REQUEST_SET_CONFIGURATION: u8 = 9;
const REQUEST_SET_INTERFACE: u8 = 11;

/// What a transfer answers when it has ended.
#[derive(Debug)]
enum Asked {
    Control { id: u64, header: [u8; wire::CONTROL_HEADER_BYTES] },
    Bulk { id: u64, endpoint: u8, stream: u32 },
    Configuration { id: u64, value: u8 },
    AltSetting { id: u64, interface: u8, value: u8 },
}

/// A packet at the front of what arrived.
#[derive(Debug)]
struct Packet<'a> {
    kind: u32,
    id: u64,
    body: &'a [u8],
    after: &'a [u8],
}

/// Which state the guest's port is in.
#[derive(Debug)]
enum Port {
    /// The peer has not greeted yet.
    Strange,
    /// Nothing is connected.
    Empty,
    /// A module is connected.
    Taken(Box<UsbDevice>),
    /// It has left, and the peer has not taken note yet.
    Leaving,
}

/// One peer and one slot.
#[derive(Debug)]
pub(super) struct Session {
    port: Port,
    asked: BTreeMap<u32, Asked>,
    next: u32,
    configuration: u8,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Session {
    pub(super) fn new() -> Self {
        let version = concat!("stationmaster ", env!("CARGO_PKG_VERSION"));
        Self {
            port: Port::Strange,
            asked: BTreeMap::new(),
            next: 0,
            configuration: CONFIGURATION,
            input: Vec::new(),
            output: wire::hello(version),
        }
    }

    /// What the peer is to be told; whoever sends it takes it out.
    pub(super) const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether a module can be connected now.
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self.port, Port::Empty)
    }

    /// Connects what is plugged into the slot.
    ///
    /// # Errors
    /// Those of [`UsbDevice::open`].
    pub(super) fn connect(&mut self, export: &Export) -> Result<(), HardwareError> {
        let device = UsbDevice::open(export)?;
        let face = &export.face;
        let mut kinds = [255_u8; 32];
        let mut intervals = [0_u8; 32];
        let mut owners = [0_u8; 32];
        let mut packets = [0_u8; 64];
        for index in [0, 16] {
            kinds[index] = 0;
        }
        let mut numbers = [0_u8; 32];
        let mut classes = [[0_u8; 32]; 3];
        for (at, interface) in face.interfaces.iter().enumerate().take(32) {
            numbers[at] = interface.number;
            let (class, subclass, protocol) = interface.class;
            for (table, value) in classes.iter_mut().zip([class, subclass, protocol]) {
                table[at] = value;
            }
            for end in &interface.endpoints {
                let index = wire::endpoint_index(end.address);
                (kinds[index], intervals[index]) = match end.kind {
                    EndpointKind::Bulk => (2, 0),
                    EndpointKind::Interrupt => (3, 1),
                    EndpointKind::Other => (255, 0),
                };
                owners[index] = interface.number;
                packets[2 * index..2 * index + 2].copy_from_slice(&end.packet_bytes.to_le_bytes());
            }
        }
        let count = u32::try_from(face.interfaces.len().min(32)).unwrap_or(0).to_le_bytes();
        self.send(wire::EP_INFO, 0, &[&kinds, &intervals, &owners, &packets]);
        self.send(wire::INTERFACE_INFO, 0, &[&count, &numbers, &classes.concat()]);
        let speed = match export.record.speed {
            Speed::Full => 1,
            Speed::High => 2,
            Speed::Super => 3,
        };
        let [vendor, product, version] = [face.vendor_id, face.product_id, face.bcd_device].map(u16::to_le_bytes);
        self.send(wire::DEVICE_CONNECT, 0, &[&[speed, 0, 0, 0], &vendor, &product, &version]);
        self.configuration = CONFIGURATION;
        self.port = Port::Taken(Box::new(device));
        Ok(())
    }

    /// Waits until the connected module does something, and puts it into the output. For ever while there is none.
    pub(super) async fn step(&mut self) {
        let Port::Taken(device) = &mut self.port else { return pending().await };
        let gone = device.gone();
        let done = tokio::select! {
            biased;
            done = std::future::poll_fn(|context| device.poll(context)) => Some(done),
            () = gone.cancelled() => None,
        };
        match done {
            Some(done) => self.answer(done),
            None => self.disconnect(),
        }
    }

    fn disconnect(&mut self) {
        self.send(wire::DEVICE_DISCONNECT, 0, &[]);
        self.asked.clear();
        self.port = Port::Leaving;
    }

    /// Takes what the peer sent.
    ///
    /// # Errors
    /// [`Broken`]: the connection is of no use any more.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some(packet) = self.split(rest)? {
            self.packet(packet.kind, packet.id, packet.body)?;
            rest = packet.after;
        }
        self.input = rest.to_vec();
        Ok(())
    }

    /// The first packet of `bytes`, if all of it is there.
    fn split<'a>(&self, bytes: &'a [u8]) -> Result<Option<Packet<'a>>, Broken> {
        let is_first = matches!(self.port, Port::Strange);
        let header = if is_first { wire::HEADER_FIRST_BYTES } else { wire::HEADER_BYTES };
        if bytes.len() < header {
            return Ok(None);
        }
        let mut reader = Reader(bytes);
        let (kind, length) = (reader.u32()?, reader.u32()?);
        let id = if is_first { u64::from(reader.u32()?) } else { reader.u64()? };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > usize::try_from(limits::USBIP_TRANSFER_BYTES_MAX).unwrap_or(0) + wire::BULK_HEADER_BYTES {
            return Err(Broken("a packet is too long"));
        }
        Ok(reader.0.split_at_checked(length).map(|(body, after)| Packet { kind, id, body, after }))
    }

    fn packet(&mut self, kind: u32, id: u64, body: &[u8]) -> Result<(), Broken> {
        let mut reader = Reader(body);
        if matches!(self.port, Port::Strange) {
            if kind != wire::HELLO {
                return Err(Broken("its first packet is no greeting"));
            }
            wire::check_hello(body)?;
            self.port = Port::Empty;
            return Ok(());
        }
        match kind {
            wire::DISCONNECT_ACK => {
                if matches!(self.port, Port::Leaving) {
                    self.port = Port::Empty;
                }
            }
            // The port was reset: the module is addressed anew, as it was.
            wire::RESET => {}
            wire::FILTER_FILTER => {}
            wire::FILTER_REJECT => return Err(Broken("it rejects the device")),
            wire::SET_CONFIGURATION => {
                let value = reader.u8()?;
                let setup = [0, REQUEST_SET_CONFIGURATION, value, 0, 0, 0, 0, 0];
                self.submit(Asked::Configuration { id, value }, 0, Direction::Out(Vec::new()), setup);
            }
            wire::GET_CONFIGURATION => {
                self.send(wire::CONFIGURATION_STATUS, id, &[&[wire::SUCCESS, self.configuration]]);
            }
            wire::SET_ALT_SETTING => {
                let (interface, value) = (reader.u8()?, reader.u8()?);
                let setup = [1, REQUEST_SET_INTERFACE, value, 0, interface, 0, 0, 0];
                self.submit(Asked::AltSetting { id, interface, value }, 0, Direction::Out(Vec::new()), setup);
            }
            wire::GET_ALT_SETTING => {
                let interface = reader.u8()?;
                self.send(wire::ALT_SETTING_STATUS, id, &[&[wire::SUCCESS, interface, 0]]);
            }
            // Interrupt endpoints of modules have nothing to say.
            wire::START_INTERRUPT | wire::STOP_INTERRUPT => {
                let endpoint = reader.u8()?;
                self.send(wire::INTERRUPT_STATUS, id, &[&[wire::SUCCESS, endpoint]]);
            }
            wire::CANCEL => self.cancel(id),
            wire::CONTROL => self.control(id, body)?,
            wire::BULK => self.bulk(id, body)?,
            wire::INTERRUPT => return Err(Broken("it sends to an interrupt endpoint")),
            _ => return Err(Broken("a packet of an unknown kind")),
        }
        Ok(())
    }

    fn control(&mut self, id: u64, body: &[u8]) -> Result<(), Broken> {
        let (header, data) = body.split_first_chunk::<{ wire::CONTROL_HEADER_BYTES }>().ok_or(Broken("no header"))?;
        let [_, request, kind, _, value, value_high, index, index_high, length, length_high] = *header;
        let setup = [kind, request, value, value_high, index, index_high, length, length_high];
        let wanted = usize::from(u16::from_le_bytes([length, length_high]));
        let direction = if kind & IN == 0 { Direction::Out(data.to_vec()) } else { Direction::In(wanted) };
        self.submit(Asked::Control { id, header: *header }, 0, direction, setup);
        Ok(())
    }

    fn bulk(&mut self, id: u64, body: &[u8]) -> Result<(), Broken> {
        let mut reader = Reader(body);
        let (endpoint, _status, low) = (reader.u8()?, reader.u8()?, reader.u16()?);
        let (stream, high) = (reader.u32()?, reader.u16()?);
        let length = u32::from(high) << 16 | u32::from(low);
        if length > limits::USBIP_TRANSFER_BYTES_MAX {
            return Err(Broken("a transfer is too long"));
        }
        let direction = if endpoint & IN == 0 {
            Direction::Out(reader.0.to_vec())
        } else {
            Direction::In(usize::try_from(length).unwrap_or(0))
        };
        self.submit(Asked::Bulk { id, endpoint, stream }, endpoint & !IN, direction, [0; 8]);
        Ok(())
    }

    fn submit(&mut self, asked: Asked, endpoint: u8, direction: Direction, setup: [u8; 8]) {
        // What was on its way while the module left needs no answer.
        let Port::Taken(device) = &mut self.port else { return };
        self.next = self.next.wrapping_add(1);
        self.asked.insert(self.next, asked);
        let transfer = Transfer { id: self.next, endpoint, direction, setup, zero_packet: false, short_not_ok: false };
        device.submit(transfer);
    }

    fn cancel(&mut self, id: u64) {
        let Port::Taken(device) = &mut self.port else { return };
        let named =
            |asked: &Asked| matches!(asked, Asked::Control { id: own, .. } | Asked::Bulk { id: own, .. } if *own == id);
        // One that has ended is answered already, or will be.
        let Some(number) = self.asked.iter().find(|(_, asked)| named(asked)).map(|(number, _)| *number) else { return };
        if device.cancel(number)
            && let Some(asked) = self.asked.remove(&number)
        {
            self.reply(&asked, wire::CANCELLED, 0, &[]);
        }
    }

    fn answer(&mut self, done: Completion) {
        let Some(asked) = self.asked.remove(&done.id) else { return };
        let status = match done.ending {
            Ending::Done => wire::SUCCESS,
            Ending::Stalled => wire::STALL,
            Ending::Babble => wire::BABBLE,
            Ending::NoEndpoint => wire::INVALID,
            Ending::Short | Ending::NoMemory => wire::IO_ERROR,
        };
        self.reply(&asked, status, done.actual, &done.data);
    }

    fn reply(&mut self, asked: &Asked, status: u8, actual: usize, data: &[u8]) {
        match asked {
            Asked::Control { id, header } => {
                let mut header = *header;
                header[3] = status;
                [header[8], header[9]] = wire::halves(actual).0;
                self.send(wire::CONTROL, *id, &[&header, data]);
            }
            Asked::Bulk { id, endpoint, stream } => {
                let (low, high) = wire::halves(actual);
                let stream = stream.to_le_bytes();
                self.send(wire::BULK, *id, &[&[*endpoint, status], &low, &stream, &high, data]);
            }
            Asked::Configuration { id, value } => {
                if status == wire::SUCCESS {
                    self.configuration = *value;
                }
                self.send(wire::CONFIGURATION_STATUS, *id, &[&[status, self.configuration]]);
            }
            Asked::AltSetting { id, interface, value } => {
                let value = if status == wire::SUCCESS { *value } else { 0 };
                self.send(wire::ALT_SETTING_STATUS, *id, &[&[status, *interface, value]]);
            }
        }
    }

    fn send(&mut self, kind: u32, id: u64, body: &[&[u8]]) {
        let packet = wire::packet(kind, id, body);
        self.output.extend(packet);
    }
}
