//! A bus on which modules answer some AT commands otherwise, or later, than they would.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stationmaster::hardware::{AtPort, BoxFuture, BulkPipe, Bus, DeviceKey, HardwareError, Listing};
use stationmaster::host::Clock;
use tokio::sync::watch;

use crate::harness::Line;

/// What becomes of a command.
pub(crate) enum Act {
    /// The module answers it.
    Pass,
    /// It does not arrive, and these lines are its answer.
    Say(&'static [&'static str]),
    /// The module answers it, and the answer is so late.
    Late(Duration),
}

type Meddle = Arc<dyn Fn(&str) -> Act + Send + Sync>;

/// Puts somebody between the controller of a line and its modules.
pub(crate) fn meddle(line: &mut Line, act: impl Fn(&str) -> Act + Send + Sync + 'static) {
    line.bus = Some(Arc::new(Meddler { inner: line.factory.bus(), clock: line.clock.clone(), act: Arc::new(act) }));
}

struct Meddler {
    inner: Arc<dyn Bus>,
    clock: Clock,
    act: Meddle,
}

impl fmt::Debug for Meddler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meddler").finish_non_exhaustive()
    }
}

impl Bus for Meddler {
    fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
        self.inner.list()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.inner.hints()
    }

    fn open_bulk<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
        self.inner.open_bulk(device, interface)
    }

    fn open_port<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
        Box::pin(async move {
            let inner = self.inner.open_port(device, interface).await?;
            let (clock, act) = (self.clock.clone(), Arc::clone(&self.act));
            let port = MeddledPort { inner, clock, act, ready: VecDeque::new(), quiet: Duration::ZERO };
            Ok(Box::new(port) as Box<dyn AtPort>)
        })
    }
}

struct MeddledPort {
    inner: Box<dyn AtPort>,
    clock: Clock,
    act: Meddle,
    ready: VecDeque<u8>,
    /// The station time before which nothing is heard.
    quiet: Duration,
}

impl fmt::Debug for MeddledPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeddledPort").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl AtPort for MeddledPort {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        Box::pin(async move {
            let left = self.quiet.saturating_sub(self.clock.now());
            if !left.is_zero() {
                self.clock.sleep(left).await;
            }
            if self.ready.is_empty() {
                return self.inner.read(buffer).await;
            }
            let length = self.ready.len().min(buffer.len());
            for (place, byte) in buffer.iter_mut().zip(self.ready.drain(..length)) {
                *place = byte;
            }
            Ok(length)
        })
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
        match (self.act)(String::from_utf8_lossy(bytes).trim()) {
            Act::Pass => {}
            Act::Late(late) => self.quiet = self.clock.deadline(late),
            Act::Say(lines) => {
                self.ready.extend(lines.iter().flat_map(|line| format!("\r\n{line}\r\n").into_bytes()));
                return Box::pin(async { Ok(()) });
            }
        }
        self.inner.write(bytes)
    }
}
