//! A module's endpoints with the transfers that a host has queued on them.
//!
//! Transfers of one endpoint complete in order; those of different ones know nothing of each other. Interrupt
//! endpoints have nothing to say, so theirs stay pending, as most do on real modules.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_util::sync::CancellationToken;

use super::super::link::{HOST_TRANSFERS_MAX, InDone, Link};
use super::super::world::Export;
use super::control::{Control, Setup};
use crate::domain::limits;
use crate::hardware::{EndpointKind, HardwareError};

/// Bit 7 of an endpoint's address.
const IN: u8 = 0x80;

/// What a transfer carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) enum Direction {
    /// These bytes to the device.
    Out(Vec<u8>),
    /// At most so many bytes from it.
    In(usize),
}

/// A transfer that a host submits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) struct Transfer {
    /// The host's number for it.
    pub(in crate::sim) id: u32,
    /// The endpoint's number, without its direction.
    pub(in crate::sim) endpoint: u8,
    /// Direction and data.
    pub(in crate::sim) direction: Direction,
    /// The setup packet, where the endpoint is the control endpoint.
    pub(in crate::sim) setup: [u8; 8],
    /// An OUT transfer of whole packets is ended with a zero-length one.
    pub(in crate::sim) zero_packet: bool,
    /// An IN transfer that is not filled counts as failed.
    pub(in crate::sim) short_not_ok: bool,
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Ending {
    /// Well.
    Done,
    /// The endpoint stalled.
    Stalled,
    /// The device sent more than there was room for.
    Babble,
    /// The device sent less than was asked for, and that was not allowed.
    Short,
    /// There is no such endpoint.
    NoEndpoint,
    /// The host controller took no further transfer.
    NoMemory,
}

/// A transfer that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) struct Completion {
    /// The host's number.
    pub(in crate::sim) id: u32,
    /// How.
    pub(in crate::sim) ending: Ending,
    /// What an IN transfer brought.
    pub(in crate::sim) data: Vec<u8>,
    /// Bytes that were transferred.
    pub(in crate::sim) actual: usize,
}

impl Completion {
    fn refused(id: u32, ending: Ending) -> Self {
        Self { id, ending, data: Vec::new(), actual: 0 }
    }
}

#[derive(Debug)]
struct Queued {
    id: u32,
    bytes: usize,
    short_not_ok: bool,
    /// What is not handed to the link yet.
    waiting: Option<(Direction, bool)>,
}

/// One endpoint.
#[derive(Debug)]
struct Pipe {
    /// `None`: an interrupt endpoint.
    link: Option<Arc<Link>>,
    queue: VecDeque<Queued>,
    /// How many of the queue, from its front, the link has.
    handed: usize,
}

impl Pipe {
    fn hand_on(&mut self) {
        let Some(link) = &self.link else { return };
        while self.handed < HOST_TRANSFERS_MAX {
            let Some((direction, zero)) = self.queue.get_mut(self.handed).and_then(|queued| queued.waiting.take())
            else {
                return;
            };
            match direction {
                Direction::Out(bytes) => link.submit_out_raw(bytes, zero),
                Direction::In(bytes_max) => link.submit_in_raw(bytes_max),
            }
            self.handed += 1;
        }
    }

    fn poll(&mut self, is_in: bool, context: &mut Context<'_>) -> Poll<Completion> {
        let Some(link) = self.link.as_ref().filter(|_| self.handed > 0) else { return Poll::Pending };
        let (data, babble, is_over) = if is_in {
            match link.poll_in_raw(context) {
                Poll::Ready(Some(InDone::Data(data))) => (data, false, true),
                Poll::Ready(Some(InDone::Babble(data))) => (data, true, true),
                Poll::Ready(None) | Poll::Pending => (Vec::new(), false, false),
            }
        } else {
            (Vec::new(), false, link.poll_out_raw(context) == Poll::Ready(true))
        };
        let Some(queued) = is_over.then(|| self.queue.pop_front()).flatten() else { return Poll::Pending };
        self.handed -= 1;
        self.hand_on();
        let ending = if babble {
            Ending::Babble
        } else if is_in && queued.short_not_ok && data.len() < queued.bytes {
            Ending::Short
        } else {
            Ending::Done
        };
        let actual = if is_in { data.len() } else { queued.bytes };
        Poll::Ready(Completion { id: queued.id, ending, data, actual })
    }
}

/// A module in one enumeration, held by one host. Given back when dropped.
#[derive(Debug)]
pub(in crate::sim) struct UsbDevice {
    control: Control,
    links: Vec<Arc<Link>>,
    pipes: BTreeMap<u8, Pipe>,
    ended: VecDeque<Completion>,
    gone: CancellationToken,
}

impl UsbDevice {
    /// Takes the device.
    ///
    /// # Errors
    /// [`HardwareError::Busy`] while another program has one of its interfaces, [`HardwareError::Gone`].
    pub(in crate::sim) fn open(export: &Export) -> Result<Self, HardwareError> {
        let mut device = Self {
            control: Control::new(export.face.clone(), export.record.speed),
            links: Vec::new(),
            pipes: BTreeMap::new(),
            ended: VecDeque::new(),
            gone: export.gone.clone(),
        };
        for interface in &export.face.interfaces {
            let Some(link) = export.links.get(&interface.number) else { continue };
            // What was opened before a refusal is closed with `device`.
            link.open()?;
            device.links.push(link.clone());
            for end in &interface.endpoints {
                let link = (end.kind == EndpointKind::Bulk).then(|| link.clone());
                device.pipes.insert(end.address, Pipe { link, queue: VecDeque::new(), handed: 0 });
            }
        }
        Ok(device)
    }

    /// Cancelled once the device is off the bus. What had completed before can still be polled.
    pub(in crate::sim) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Takes a transfer; its end comes out of [`poll`](Self::poll).
    pub(in crate::sim) fn submit(&mut self, transfer: Transfer) {
        let Transfer { id, endpoint, direction, setup, zero_packet, short_not_ok } = transfer;
        if endpoint == 0 {
            let completion = self.control(id, Setup::parse(setup), direction);
            self.ended.push_back(completion);
            return;
        }
        let (address, bytes) = match &direction {
            Direction::Out(bytes) => (endpoint, bytes.len()),
            Direction::In(bytes_max) => (endpoint | IN, *bytes_max),
        };
        let is_full = self.is_full(if address & IN == 0 { bytes } else { 0 });
        let halted = self.control.is_halted(address);
        let refusal = match self.pipes.get_mut(&address) {
            None => Ending::NoEndpoint,
            Some(_) if halted => Ending::Stalled,
            Some(_) if is_full => Ending::NoMemory,
            Some(pipe) => {
                let packet = pipe.link.as_ref().map_or(1, |link| link.packet_bytes());
                let zero = zero_packet && bytes > 0 && bytes.is_multiple_of(packet);
                pipe.queue.push_back(Queued { id, bytes, short_not_ok, waiting: Some((direction, zero)) });
                pipe.hand_on();
                return;
            }
        };
        self.ended.push_back(Completion::refused(id, refusal));
    }

    fn is_full(&self, out_bytes: usize) -> bool {
        let count: usize = self.pipes.values().map(|pipe| pipe.queue.len()).sum();
        let out = self.pipes.iter().filter(|(address, _)| **address & IN == 0);
        let bytes: usize = out.flat_map(|(_, pipe)| &pipe.queue).map(|queued| queued.bytes).sum();
        count >= limits::USBIP_TRANSFERS_MAX || bytes + out_bytes > limits::USBIP_OUT_BYTES_MAX
    }

    fn control(&mut self, id: u32, setup: Setup, direction: Direction) -> Completion {
        let (data, room) = match &direction {
            Direction::Out(data) => (data.as_slice(), 0),
            Direction::In(bytes_max) => (&[][..], *bytes_max),
        };
        if setup.is_in() != matches!(direction, Direction::In(_)) && setup.length > 0 {
            return Completion::refused(id, Ending::Stalled);
        }
        match self.control.handle(setup, data) {
            Err(_) => Completion::refused(id, Ending::Stalled),
            Ok(answer) if setup.is_in() => {
                let ending = if answer.len() > room { Ending::Babble } else { Ending::Done };
                let data: Vec<u8> = answer.into_iter().take(room).collect();
                Completion { id, ending, actual: data.len(), data }
            }
            Ok(_) => Completion { id, ending: Ending::Done, actual: data.len(), data: Vec::new() },
        }
    }

    /// Takes a transfer back. `true`: it will not end. `false`: it has ended, and [`poll`](Self::poll) gives or gave
    /// it out.
    pub(in crate::sim) fn cancel(&mut self, id: u32) -> bool {
        for (address, pipe) in &mut self.pipes {
            let Some(position) = pipe.queue.iter().position(|queued| queued.id == id) else { continue };
            if position < pipe.handed {
                let taken_back = pipe.link.as_ref().is_none_or(|link| match address & IN {
                    0 => link.cancel_out(position),
                    _ => link.cancel_in(position),
                });
                if !taken_back {
                    return false;
                }
                pipe.handed -= 1;
            }
            pipe.queue.remove(position);
            pipe.hand_on();
            return true;
        }
        false
    }

    /// The next transfer that ended. Pending for ever once the device is gone and everything was given out.
    pub(in crate::sim) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        if let Some(completion) = self.ended.pop_front() {
            return Poll::Ready(completion);
        }
        for (address, pipe) in &mut self.pipes {
            if let Poll::Ready(completion) = pipe.poll(address & IN != 0, context) {
                return Poll::Ready(completion);
            }
        }
        Poll::Pending
    }
}

impl Drop for UsbDevice {
    fn drop(&mut self) {
        self.links.iter().for_each(|link| link.close());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::task::Waker;

    use super::super::super::descriptors::Face;
    use super::super::super::models::Model;
    use super::*;
    use crate::domain::{PortChain, Side};
    use crate::hardware::{DeviceKey, DeviceRecord, Speed};

    fn export() -> Export {
        let model = Model::by_name("EG25-G").expect("a model");
        let face = Face::normal(model, model.chip_id(5));
        let chain = PortChain::new("sim-0", Side::Usb2, &[1]).expect("a chain");
        let record = DeviceRecord {
            key: DeviceKey { chain, session: 1 },
            vendor_id: face.vendor_id,
            product_id: face.product_id,
            bcd_device: face.bcd_device,
            speed: Speed::High,
            product: face.product.clone(),
            manufacturer: face.manufacturer.clone(),
            serial: face.serial.clone(),
            interfaces: face.interfaces.clone(),
        };
        let links: BTreeMap<u8, Arc<Link>> = (0..5).map(|number| (number, Link::new(512))).collect();
        let slot = "A1".parse().expect("a name");
        Export { index: 0, slot, record, face, links, gone: CancellationToken::new() }
    }

    fn transfer(id: u32, endpoint: u8, direction: Direction) -> Transfer {
        Transfer { id, endpoint, direction, setup: [0; 8], zero_packet: false, short_not_ok: false }
    }

    fn poll(device: &mut UsbDevice) -> Option<(u32, Ending, usize)> {
        match device.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some((done.id, done.ending, done.actual)),
            Poll::Pending => None,
        }
    }

    #[test]
    fn more_transfers_than_the_link_takes_complete_in_order() {
        let export = export();
        let mut device = UsbDevice::open(&export).expect("free");
        assert_eq!(UsbDevice::open(&export).map(|_| ()), Err(HardwareError::Busy));
        (0..100).for_each(|id| device.submit(transfer(id, 3, Direction::Out(vec![7; 5]))));
        assert!(device.cancel(99) && device.cancel(10) && !device.cancel(10));
        let mut done = Vec::new();
        while export.links[&2].poll_take(&mut Context::from_waker(Waker::noop())).is_ready() {
            while let Some((id, Ending::Done, 5)) = poll(&mut device) {
                done.push(id);
            }
        }
        assert_eq!(done, (0..99).filter(|id| *id != 10).collect::<Vec<u32>>());
        drop(device);
        UsbDevice::open(&export).expect("given back");
    }

    #[test]
    fn refusals_say_why() {
        let export = export();
        let mut device = UsbDevice::open(&export).expect("free");
        device.submit(transfer(1, 9, Direction::Out(vec![])));
        device.submit(transfer(2, 5, Direction::In(10)));
        assert_eq!(poll(&mut device), Some((1, Ending::NoEndpoint, 0)));
        assert_eq!(poll(&mut device), None, "an interrupt endpoint has nothing to say");
        assert!(device.cancel(2));
        export.links[&2].say(b"abc".to_vec());
        device.submit(Transfer { short_not_ok: true, ..transfer(3, 4, Direction::In(512)) });
        assert_eq!(poll(&mut device), Some((3, Ending::Short, 3)));
        export.links[&2].say(b"abc".to_vec());
        device.submit(transfer(4, 4, Direction::In(2)));
        assert_eq!(poll(&mut device), Some((4, Ending::Babble, 0)));
        let halt = Transfer { setup: [0x02, 3, 0, 0, 0x84, 0, 0, 0], ..transfer(5, 0, Direction::Out(vec![])) };
        device.submit(halt);
        assert_eq!(poll(&mut device), Some((5, Ending::Done, 0)));
        device.submit(transfer(6, 4, Direction::In(512)));
        assert_eq!(poll(&mut device), Some((6, Ending::Stalled, 0)));
        let megabyte = || Direction::Out(vec![0; 1 << 20]);
        (100..117).for_each(|id| device.submit(transfer(id, 1, megabyte())));
        assert_eq!(poll(&mut device), Some((116, Ending::NoMemory, 0)));
        (0..2000).for_each(|id| device.submit(transfer(1000 + id, 2, Direction::In(512))));
        assert_eq!(poll(&mut device).map(|(_, ending, _)| ending), Some(Ending::NoMemory));
    }

    #[test]
    fn a_zero_length_packet_follows_whole_packets_only() {
        let export = export();
        let mut device = UsbDevice::open(&export).expect("free");
        for (id, bytes) in [(1, 512), (2, 100)] {
            device.submit(Transfer { zero_packet: true, ..transfer(id, 3, Direction::Out(vec![1; bytes])) });
        }
        let mut taken = Vec::new();
        while let Poll::Ready(bytes) = export.links[&2].poll_take(&mut Context::from_waker(Waker::noop())) {
            taken.push(bytes.len());
        }
        assert_eq!(taken, [512, 0, 100]);
        assert_eq!(poll(&mut device), Some((1, Ending::Done, 512)));
        assert_eq!(poll(&mut device), Some((2, Ending::Done, 100)));
        assert_eq!(poll(&mut device), None);
    }
}
