//! A bus on which modules answer some AT commands otherwise, or later, than they would.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stationmaster::hardware::{AtPort, BoxFuture, DeviceKey, HardwareError};
use stationmaster::host::Clock;

use crate::between::{Between, Middle};
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
    let middle = Meddler { clock: line.clock.clone(), act: Arc::new(act) };
    line.bus = Some(Arc::new(Between { inner: line.factory.bus(), middle }));
}

struct Meddler {
    clock: Clock,
    act: Meddle,
}

impl Middle for Meddler {
    fn port(&self, _: &DeviceKey, _: u8, inner: Box<dyn AtPort>) -> Result<Box<dyn AtPort>, HardwareError> {
        let (clock, act) = (self.clock.clone(), Arc::clone(&self.act));
        Ok(Box::new(MeddledPort { inner, clock, act, ready: VecDeque::new(), quiet: Duration::ZERO }))
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
