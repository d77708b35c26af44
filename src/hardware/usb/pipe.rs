//! A module in download mode: its two bulk endpoints, held exclusively.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nusb::transfer::{Buffer, Bulk, In, Out};
use nusb::{Interface, MaybeFuture};
use tokio_util::sync::ReusableBoxFuture;

use super::budget::{Budget, Share};
use super::holders::Hold;
use super::queue::{Done, Driver, Queue};
use super::sessions::Present;
use super::sysfs::Sysfs;
use crate::hardware::{BulkPipe, DeviceRecord, EndpointKind, HardwareError};
use crate::host::Clock;

/// How long a device may still be there after a transfer to it failed because it leaves.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);
/// How often it is looked for meanwhile.
const LEAVE_INTERVAL: Duration = Duration::from_millis(50);
/// How long the kernel may take to give a cancelled transfer back.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// Opens the pair of bulk endpoints of `interface`, taking it from whichever kernel driver has it.
///
/// # Errors
/// [`HardwareError::Busy`] when another program has it, [`HardwareError::Gone`], or what the kernel said.
pub(super) async fn open(
    sysfs: &Arc<Sysfs>,
    budget: &Arc<Budget>,
    clock: &Clock,
    present: Present,
    record: &DeviceRecord,
    interface: u8,
    hold: Hold,
) -> Result<Box<dyn BulkPipe>, HardwareError> {
    let ends = record.interfaces.iter().find(|candidate| candidate.number == interface);
    let bulk = |inward: bool| {
        let mut of_kind = ends.iter().flat_map(|ends| &ends.endpoints).filter(move |end| {
            end.kind == EndpointKind::Bulk && (end.address & 0x80 != 0) == inward && end.packet_bytes > 0
        });
        of_kind.next().filter(|_| of_kind.next().is_none())
    };
    let (Some(inward), Some(outward)) = (bulk(true), bulk(false)) else {
        return Err(HardwareError::Unsupported("the interface has no pair of bulk endpoints"));
    };
    let (inward, outward) = (inward.address, outward.address);
    let share = Share::open(budget)?;
    let place = present.place.clone();
    let opening = Arc::clone(sysfs);
    let opened = tokio::task::spawn_blocking(move || {
        place.keep_awake(&opening);
        let node = opening.open_usb(place.enumeration.bus, place.enumeration.device).map_err(node_error)?;
        // The numbers in the node's name are given out again; what was opened stays what it is.
        if !place.is_there(&opening) {
            return Err(HardwareError::Gone);
        }
        let device = nusb::Device::from_fd(node).wait().map_err(|error| usb_error(&error))?;
        let claimed = device.detach_and_claim_interface(interface).wait().map_err(|error| usb_error(&error))?;
        let ends = claimed
            .endpoint::<Bulk, In>(inward)
            .and_then(|reader| Ok((reader, claimed.endpoint::<Bulk, Out>(outward)?)))
            .map_err(|error| usb_error(&error))?;
        Ok((claimed, ends))
    });
    let (claimed, (reader, writer)) = opened.await.map_err(|_| HardwareError::Failed("stopped".into()))??;
    let packet_bytes = writer.max_packet_size();
    let watch = Watch { sysfs: Arc::clone(sysfs), clock: clock.clone(), present };
    let held = Held { interface: Some(claimed), hold: Some(hold) };
    Ok(Box::new(Pipe::new(reader, writer, packet_bytes, share, watch, held)))
}

/// Why a device's node could not be opened.
pub(super) fn node_error(error: std::io::Error) -> HardwareError {
    match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV | rustix::io::Errno::NXIO) => HardwareError::Gone,
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => HardwareError::Failed(
            "no permission to open the device: install the udev rules, or run as a user who may".into(),
        ),
        _ => HardwareError::Failed(format!("the device's node: {error}")),
    }
}

/// What an error of the driver means here.
pub(super) fn usb_error(error: &nusb::Error) -> HardwareError {
    match error.kind() {
        nusb::ErrorKind::Disconnected => HardwareError::Gone,
        nusb::ErrorKind::Busy => HardwareError::Busy,
        _ => HardwareError::Failed(error.to_string()),
    }
}

/// How a pipe learns that its device is gone.
#[derive(Debug)]
struct Watch {
    sysfs: Arc<Sysfs>,
    clock: Clock,
    present: Present,
}

impl Watch {
    /// Whether the device leaves within [`LEAVE_LIMIT`]. A transfer fails a moment before the kernel says why.
    fn leaves(&self) -> ReusableBoxFuture<'static, bool> {
        let (sysfs, clock, present) = (Arc::clone(&self.sysfs), self.clock.clone(), self.present.clone());
        ReusableBoxFuture::new(async move {
            let look = async {
                while present.place.is_there(&sysfs) {
                    clock.sleep(LEAVE_INTERVAL).await;
                }
            };
            let noticed = async {
                tokio::select! {
                    biased;
                    () = present.gone.cancelled() => {}
                    () = look => {}
                }
            };
            clock.timeout(LEAVE_LIMIT, noticed).await.is_ok()
        })
    }
}

/// A failed transfer whose reason is not known yet.
#[derive(Debug)]
struct Doubt {
    error: HardwareError,
    leaves: ReusableBoxFuture<'static, bool>,
}

/// One way of a pipe.
#[derive(Debug)]
struct Way<D> {
    queue: Queue<D>,
    doubt: Option<Doubt>,
    stalled: bool,
}

impl<D: Driver> Way<D> {
    fn new(driver: D) -> Self {
        Self { queue: Queue::new(driver), doubt: None, stalled: false }
    }

    fn pending(&self) -> usize {
        self.queue.pending() + usize::from(self.doubt.is_some())
    }

    fn cancel(&mut self) {
        self.queue.cancel();
        self.doubt = None;
    }

    /// Lets go of the endpoint, on a thread that may wait. `false` when the kernel keeps a transfer.
    fn close(mut self) -> bool {
        let drained = self.queue.drain(CANCEL_LIMIT);
        if drained && self.stalled {
            // The next one to open it finds it usable.
            self.queue.clear_halt();
        }
        drained
    }
}

/// What must outlive the endpoints.
#[derive(Debug)]
struct Held {
    interface: Option<Interface>,
    hold: Option<Hold>,
}

/// Both ways and what they share.
#[derive(Debug)]
struct Ends<I, O> {
    inward: Way<I>,
    outward: Way<O>,
    share: Share,
    held: Held,
}

impl<I: Driver, O: Driver> Ends<I, O> {
    /// Cancels what is in flight, waits for it, and gives the interface back to the kernel's driver.
    fn close(self) {
        let Self { inward, outward, share, held } = self;
        // Both, whatever became of the first.
        let drained = [inward.close(), outward.close()];
        if drained == [true, true] {
            drop(share);
        } else {
            tracing::warn!("the kernel keeps transfers that were cancelled; their memory stays accounted for");
            share.abandon();
        }
        let Held { interface, hold } = held;
        drop(interface);
        drop(hold);
    }
}

/// What ends a pipe besides its own transfers.
#[derive(Debug)]
struct Fate {
    watch: Watch,
    /// Ready once a listing showed that the device is gone.
    missed: ReusableBoxFuture<'static, ()>,
    /// Runs out when the kernel keeps cancelled transfers.
    overdue: Option<ReusableBoxFuture<'static, ()>>,
    /// Why nothing will move any more.
    broken: Option<HardwareError>,
}

impl Fate {
    fn check(&self) -> Result<(), HardwareError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn break_off(&mut self, error: HardwareError) -> HardwareError {
        self.broken = Some(error.clone());
        error
    }

    /// Completes the oldest transfer of a way. What had completed is given out before the news that the device left.
    fn poll<D: Driver>(
        &mut self,
        way: &mut Way<D>,
        share: &mut Share,
        context: &mut Context<'_>,
    ) -> Poll<Result<(Buffer, usize), HardwareError>> {
        loop {
            if let Some(doubt) = &mut way.doubt {
                let Poll::Ready(leaves) = doubt.leaves.poll(context) else { return Poll::Pending };
                let error = std::mem::replace(&mut doubt.error, HardwareError::Gone);
                way.doubt = None;
                return Poll::Ready(Err(if leaves { self.break_off(HardwareError::Gone) } else { error }));
            }
            match way.queue.poll(context, share) {
                Poll::Ready(Done::Well(buffer, length)) => return Poll::Ready(Ok((buffer, length))),
                Poll::Ready(Done::Gone) => return Poll::Ready(Err(self.break_off(HardwareError::Gone))),
                Poll::Ready(Done::Badly(error)) => {
                    way.stalled |= error == HardwareError::Stall;
                    way.doubt = Some(Doubt { error, leaves: self.watch.leaves() });
                }
                Poll::Pending => break,
            }
        }
        if let Err(error) = self.check() {
            return Poll::Ready(Err(error));
        }
        if self.missed.poll(context).is_ready() {
            return Poll::Ready(Err(self.break_off(HardwareError::Gone)));
        }
        if way.queue.stale() > 0
            && let Some(overdue) = &mut self.overdue
            && overdue.poll(context).is_ready()
        {
            self.overdue = None;
            let what = "the kernel does not give a cancelled transfer back: put the module in again";
            return Poll::Ready(Err(self.break_off(HardwareError::Failed(what.into()))));
        }
        Poll::Pending
    }
}

/// A pair of bulk endpoints.
struct Pipe<I: Driver + 'static, O: Driver + 'static> {
    /// Always there; taken when the pipe is dropped.
    ends: Option<Ends<I, O>>,
    packet_bytes: usize,
    fate: Fate,
}

impl<I: Driver, O: Driver> Pipe<I, O> {
    fn new(reader: I, writer: O, packet_bytes: usize, share: Share, watch: Watch, held: Held) -> Self {
        let missed = ReusableBoxFuture::new(watch.present.gone.clone().cancelled_owned());
        Self {
            ends: Some(Ends { inward: Way::new(reader), outward: Way::new(writer), share, held }),
            packet_bytes,
            fate: Fate { watch, missed, overdue: None, broken: None },
        }
    }
}

/// The ends and the fate of a pipe that is not being dropped.
fn parts<I: Driver, O: Driver>(pipe: &mut Pipe<I, O>) -> (&mut Ends<I, O>, &mut Fate) {
    (pipe.ends.as_mut().expect("only a dropped pipe has no ends"), &mut pipe.fate)
}

impl<I: Driver, O: Driver> BulkPipe for Pipe<I, O> {
    fn packet_bytes(&self) -> usize {
        self.packet_bytes
    }

    fn submit_out(&mut self, bytes: &[u8]) -> Result<(), HardwareError> {
        let (ends, fate) = parts(self);
        fate.check()?;
        ends.outward.queue.submit_out(bytes, &mut ends.share)
    }

    fn out_pending(&self) -> usize {
        self.ends.as_ref().map_or(0, |ends| ends.outward.pending())
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<Result<(), HardwareError>> {
        let (ends, fate) = parts(self);
        fate.poll(&mut ends.outward, &mut ends.share, context).map_ok(|(buffer, _)| {
            ends.outward.queue.recycle(buffer, &mut ends.share);
        })
    }

    fn submit_in(&mut self, bytes_max: usize) -> Result<(), HardwareError> {
        let packet_bytes = self.packet_bytes;
        let (ends, fate) = parts(self);
        fate.check()?;
        if bytes_max == 0 || !bytes_max.is_multiple_of(packet_bytes) {
            return Err(HardwareError::Unsupported("an IN transfer is a multiple of the packet size"));
        }
        ends.inward.queue.submit_in(bytes_max, &mut ends.share)
    }

    fn in_pending(&self) -> usize {
        self.ends.as_ref().map_or(0, |ends| ends.inward.pending())
    }

    fn poll_in(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<usize, HardwareError>> {
        let (ends, fate) = parts(self);
        fate.poll(&mut ends.inward, &mut ends.share, context).map_ok(|(buffer, length)| {
            let arrived = &buffer[..length.min(buffer.len())];
            into.extend_from_slice(arrived);
            let length = arrived.len();
            ends.inward.queue.recycle(buffer, &mut ends.share);
            length
        })
    }

    fn cancel(&mut self) {
        let (ends, fate) = parts(self);
        ends.inward.cancel();
        ends.outward.cancel();
        let clock = fate.watch.clock.clone();
        fate.overdue = Some(ReusableBoxFuture::new(async move { clock.sleep(CANCEL_LIMIT).await }));
    }
}

impl<I: Driver, O: Driver> Drop for Pipe<I, O> {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        if let Some(hold) = &ends.held.hold {
            hold.is_closing();
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(|| ends.close())),
            Err(_) => ends.close(),
        }
    }
}

impl<I: Driver, O: Driver> fmt::Debug for Pipe<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("device", &self.fate.watch.present.place.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
