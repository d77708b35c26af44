//! The simulated fixture behind the traits of [`hardware`](crate::hardware).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;

use super::link::Link;
use super::world::World;
use crate::domain::PortChain;
use crate::hardware::{
    AtPort, BoxFuture, BulkPipe, Bus, DeviceKey, DeviceMode, EndpointKind, HardwareError, Listing, SlotPower,
};

/// OUT transfers that a serial driver keeps in flight.
const PORT_WRITES_MAX: usize = 4;
/// Bytes of one of them.
const PORT_WRITE_BYTES: usize = 4096;

/// The simulated buses.
#[derive(Debug, Clone)]
pub(super) struct SimBus {
    pub(super) world: Arc<World>,
}

impl Bus for SimBus {
    fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
        Box::pin(async { Ok(self.world.listing()) })
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.world.hints()
    }

    fn open_bulk<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
        Box::pin(async move {
            let (link, record) = self.world.link(device, interface)?;
            let found = record.interfaces.iter().find(|candidate| candidate.number == interface);
            let bulk =
                found.map_or(0, |found| found.endpoints.iter().filter(|end| end.kind == EndpointKind::Bulk).count());
            if bulk != 2 {
                return Err(HardwareError::Unsupported("the interface has no pair of bulk endpoints"));
            }
            link.open()?;
            Ok(Box::new(SimPipe { link }) as Box<dyn BulkPipe>)
        })
    }

    fn open_port<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
        Box::pin(async move {
            let (link, record) = self.world.link(device, interface)?;
            if !matches!(record.mode(), DeviceMode::Normal(_)) {
                return Err(HardwareError::Unsupported("the interface is no serial port"));
            }
            link.open()?;
            Ok(Box::new(SimPort { link }) as Box<dyn AtPort>)
        })
    }
}

/// A pair of bulk endpoints.
#[derive(Debug)]
struct SimPipe {
    link: Arc<Link>,
}

impl BulkPipe for SimPipe {
    fn packet_bytes(&self) -> usize {
        self.link.packet_bytes()
    }

    fn submit_out(&mut self, bytes: &[u8]) -> Result<(), HardwareError> {
        self.link.submit_out(bytes)
    }

    fn out_pending(&self) -> usize {
        self.link.out_pending()
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<Result<(), HardwareError>> {
        self.link.poll_out_done(context)
    }

    fn submit_in(&mut self, bytes_max: usize) -> Result<(), HardwareError> {
        self.link.submit_in(bytes_max)
    }

    fn in_pending(&self) -> usize {
        self.link.in_pending()
    }

    fn poll_in(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<usize, HardwareError>> {
        self.link.poll_in_done(context, into)
    }

    fn cancel(&mut self) {
        self.link.cancel();
    }
}

impl Drop for SimPipe {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// A serial port.
#[derive(Debug)]
struct SimPort {
    link: Arc<Link>,
}

impl AtPort for SimPort {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        Box::pin(poll_fn(move |context| self.link.poll_read(context, buffer)))
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async move {
            for piece in bytes.chunks(PORT_WRITE_BYTES) {
                self.link.submit_out(piece)?;
                // A serial driver returns once it has the bytes; it waits only when its transfers are used up.
                while self.link.out_pending() >= PORT_WRITES_MAX {
                    poll_fn(|context| self.link.poll_out_done(context)).await?;
                }
            }
            Ok(())
        })
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// The fixture's switchable ports.
#[derive(Debug, Clone)]
pub(super) struct SimPower {
    pub(super) world: Arc<World>,
}

impl SlotPower for SimPower {
    fn can_switch(&self, chains: &[PortChain]) -> bool {
        self.world.has_port(chains)
    }

    fn set<'a>(&'a self, chains: &'a [PortChain], on: bool) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async move { self.world.set_port(chains, on) })
    }
}
