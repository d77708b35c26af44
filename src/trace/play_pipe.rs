//! A pipe and a port out of a trace.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use super::format::Event;
use super::player::Stage;
use crate::hardware::{AtPort, BoxFuture, BulkPipe, HardwareError};
use crate::protocol::content::BulkTap;

/// A wait for a line that is kept between two looks.
#[derive(Default)]
struct Wait {
    // A mutex only because a future that can be sent cannot always be shared.
    line: Mutex<Option<(usize, BoxFuture<'static, ()>)>>,
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wait")
    }
}

impl Wait {
    /// Ready once the line is due. There is none where the trace has no more: that is never due.
    fn poll(&mut self, stage: &Arc<Stage>, line: Option<usize>, context: &mut Context<'_>) -> Poll<usize> {
        let Some(line) = line else { return Poll::Pending };
        let slot = self.line.get_mut().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_none_or(|(waiting, _)| *waiting != line) {
            let stage = Arc::clone(stage);
            *slot = Some((line, Box::pin(async move { stage.due(line).await })));
        }
        if let Some((_, future)) = slot {
            ready!(future.as_mut().poll(context));
        }
        *slot = None;
        Poll::Ready(line)
    }
}

/// What a line that brings bytes brings.
fn brought(stage: &Stage, index: usize) -> Result<Vec<u8>, HardwareError> {
    match stage.event(index) {
        Some(Event::In { error: Some(fault), .. }) => Err(fault.into()),
        Some(Event::In { pieces, payload, .. }) => Ok(stage.bytes(pieces, *payload)),
        _ => Err(HardwareError::Gone),
    }
}

fn taken(stage: &Stage, index: usize) -> Result<(), HardwareError> {
    match stage.event(index) {
        Some(Event::Taken { error: Some(fault), .. }) => Err(fault.into()),
        _ => Ok(()),
    }
}

/// A bulk pipe.
#[derive(Debug)]
pub(super) struct PlayedPipe {
    stage: Arc<Stage>,
    c: u32,
    packet_bytes: usize,
    tap: BulkTap,
    ins: usize,
    outs: usize,
    wait_in: Wait,
    wait_out: Wait,
}

impl PlayedPipe {
    pub(super) fn new(stage: Arc<Stage>, c: u32, packet_bytes: u32) -> Self {
        Self {
            stage,
            c,
            packet_bytes: (packet_bytes as usize).max(1),
            tap: BulkTap::new(),
            ins: 0,
            outs: 0,
            wait_in: Wait::default(),
            wait_out: Wait::default(),
        }
    }
}

impl BulkPipe for PlayedPipe {
    fn packet_bytes(&self) -> usize {
        self.packet_bytes
    }

    fn submit_out(&mut self, bytes: &[u8]) -> Result<(), HardwareError> {
        self.stage.sends(self.c, bytes)?;
        let spans = self.tap.take_out(bytes);
        self.stage.keep(bytes, &spans);
        self.outs += 1;
        Ok(())
    }

    fn out_pending(&self) -> usize {
        self.outs
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<Result<(), HardwareError>> {
        let line = self.stage.next_taken(self.c);
        let line = ready!(self.wait_out.poll(&self.stage, line, context));
        self.stage.pop_taken(self.c);
        self.outs = self.outs.saturating_sub(1);
        Poll::Ready(taken(&self.stage, line))
    }

    fn submit_in(&mut self, _: usize) -> Result<(), HardwareError> {
        // A transfer that could not be begun is noted as one that failed, and comes out as such.
        self.ins += 1;
        Ok(())
    }

    fn in_pending(&self) -> usize {
        self.ins
    }

    fn poll_in(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<usize, HardwareError>> {
        let line = self.stage.next_in(self.c);
        let line = ready!(self.wait_in.poll(&self.stage, line, context));
        self.stage.pop_in(self.c);
        self.ins = self.ins.saturating_sub(1);
        let bytes = brought(&self.stage, line)?;
        self.tap.take_in(&bytes);
        into.extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn cancel(&mut self) {
        (self.ins, self.outs) = (0, 0);
    }
}

/// A serial port.
#[derive(Debug)]
pub(super) struct PlayedPort {
    stage: Arc<Stage>,
    c: u32,
    unread: VecDeque<u8>,
}

impl PlayedPort {
    pub(super) fn new(stage: Arc<Stage>, c: u32) -> Self {
        Self { stage, c, unread: VecDeque::new() }
    }
}

impl AtPort for PlayedPort {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        Box::pin(async move {
            while self.unread.is_empty() {
                let Some(line) = self.stage.next_in(self.c) else { return std::future::pending().await };
                self.stage.due(line).await;
                self.stage.pop_in(self.c);
                self.unread.extend(brought(&self.stage, line)?);
            }
            let length = buffer.len().min(self.unread.len());
            for (place, byte) in buffer.iter_mut().zip(self.unread.drain(..length)) {
                *place = byte;
            }
            Ok(length)
        })
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async move {
            self.stage.sends(self.c, bytes)?;
            let Some(line) = self.stage.next_taken(self.c) else { return std::future::pending().await };
            self.stage.due(line).await;
            self.stage.pop_taken(self.c);
            taken(&self.stage, line)
        })
    }
}
