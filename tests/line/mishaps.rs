//! A bus on which the station's own side goes wrong: a port that another program holds, a transfer that fails, a command
//! that does not arrive as it was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use stationmaster::hardware::{AtPort, BulkPipe, DeviceKey, HardwareError};

use crate::between::{Between, Middle};
use crate::harness::Line;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mishap {
    /// An AT port is held by another program.
    Busy,
    /// A transfer to a module in download mode fails.
    Transfer,
    /// A command of that kind, where it begins at that page if one is given, names pages that the module does not have,
    /// so that it is refused.
    Refused(&'static str, Option<u64>),
}

/// How often it still goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left(Arc<AtomicU32>);

impl Left {
    pub(crate) const ALWAYS: u32 = u32::MAX;

    pub(crate) fn set(&self, times: u32) {
        self.0.store(times, Ordering::Relaxed);
    }

    fn strikes(&self) -> bool {
        let less = |left: u32| if left == Self::ALWAYS { Some(left) } else { left.checked_sub(1) };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// Lets that go wrong on a line, once and as often as it is told to.
pub(crate) fn befall(line: &mut Line, mishap: Mishap) -> Left {
    let left = Left::default();
    line.bus = Some(Arc::new(Between { inner: line.factory.bus(), middle: BadBus { mishap, left: left.clone() } }));
    left
}

struct BadBus {
    mishap: Mishap,
    left: Left,
}

impl Middle for BadBus {
    fn bulk(&self, inner: Box<dyn BulkPipe>) -> Box<dyn BulkPipe> {
        Box::new(BadPipe { inner, mishap: self.mishap, left: self.left.clone() })
    }

    fn port(&self, _: &DeviceKey, _: u8, inner: Box<dyn AtPort>) -> Result<Box<dyn AtPort>, HardwareError> {
        match self.mishap == Mishap::Busy && self.left.strikes() {
            true => Err(HardwareError::Busy),
            false => Ok(inner),
        }
    }
}

#[derive(Debug)]
struct BadPipe {
    inner: Box<dyn BulkPipe>,
    mishap: Mishap,
    left: Left,
}

impl BulkPipe for BadPipe {
    fn packet_bytes(&self) -> usize {
        self.inner.packet_bytes()
    }

    fn submit_out(&mut self, bytes: &[u8]) -> Result<(), HardwareError> {
        let text = String::from_utf8_lossy(bytes);
        match self.mishap {
            Mishap::Transfer if self.left.strikes() => Err(HardwareError::Failed("EPROTO".to_owned())),
            Mishap::Refused(command, page) if is_of(&text, command, page) && self.left.strikes() => {
                let (head, rest) = text.split_once("start_sector=\"").expect("it names its pages");
                let (_, tail) = rest.split_once('"').expect("a whole attribute");
                self.inner.submit_out(format!("{head}start_sector=\"99999999\"{tail}").as_bytes())
            }
            _ => self.inner.submit_out(bytes),
        }
    }

    fn out_pending(&self) -> usize {
        self.inner.out_pending()
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<Result<(), HardwareError>> {
        self.inner.poll_out(context)
    }

    fn submit_in(&mut self, bytes: usize) -> Result<(), HardwareError> {
        self.inner.submit_in(bytes)
    }

    fn in_pending(&self) -> usize {
        self.inner.in_pending()
    }

    fn poll_in(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<usize, HardwareError>> {
        self.inner.poll_in(context, into)
    }

    fn cancel(&mut self) {
        self.inner.cancel();
    }
}

fn is_of(text: &str, command: &str, page: Option<u64>) -> bool {
    let begins_there = |page: u64| text.contains(&format!("start_sector=\"{page}\""));
    text.contains(&format!("<{command} ")) && page.is_none_or(begins_there)
}
