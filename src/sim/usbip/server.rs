//! The USB/IP server: connections, their bounds, and one import's traffic.
//!
//! A client is not trusted: what it may say is bounded in length and number, what it does not read stops what is done
//! for it, and who says nothing is put out. Times are the host's, whatever the station's scale.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::usb::descriptors::CONFIGURATION;
use super::super::usb::{Completion, Direction, Ending, Transfer, UsbDevice};
use super::super::world::{Export, World};
use super::codec::{self, Command, DeviceInfo, Request, SPEED_FULL, SPEED_HIGH, SPEED_SUPER, Submit};
use super::codec::{ECONNRESET, ENOENT, ENOMEM, EOVERFLOW, EPIPE, EREMOTEIO, ESHUTDOWN};
use crate::domain::{Side, limits};
use crate::hardware::{HardwareError, Speed};
use crate::host::Clock;

/// How long to wait after a connection could not be accepted (out of file handles): it passes, spinning does not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Room for one read from a client, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// The simulated modules, for those who show them to other programs.
#[derive(Debug, Clone)]
pub struct Exports {
    pub(in crate::sim) world: Arc<World>,
}

impl Exports {
    /// What is plugged in now, in the order of the slots.
    #[must_use]
    pub fn list(&self) -> Vec<DeviceInfo> {
        self.world.exports().iter().map(info).collect()
    }

    /// A number that changes with everything that comes to the bus or leaves it.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.world.changes()
    }

    fn find(&self, busid: &str) -> Option<(DeviceInfo, Export)> {
        self.world.exports().into_iter().map(|export| (info(&export), export)).find(|(info, _)| info.busid == busid)
    }
}

/// A device as it is listed. Bus 1 is the USB 2 side of the fixture, bus 2 the SuperSpeed side; a slot has the same
/// number on both.
fn info(export: &Export) -> DeviceInfo {
    let (busnum, side) = match export.record.key.chain.side() {
        Side::Usb2 => (1, "usb2"),
        Side::Usb3 => (2, "usb3"),
    };
    let number = u32::try_from(export.index + 1).unwrap_or(u32::MAX);
    DeviceInfo {
        path: format!("/stationmaster/{}/{side}", export.slot),
        busid: format!("{busnum}-{number}"),
        busnum,
        devnum: number,
        speed: match export.record.speed {
            Speed::Full => SPEED_FULL,
            Speed::High => SPEED_HIGH,
            Speed::Super => SPEED_SUPER,
        },
        vendor_id: export.face.vendor_id,
        product_id: export.face.product_id,
        bcd_device: export.face.bcd_device,
        interfaces: export.face.interfaces.iter().map(|interface| interface.class).collect(),
    }
}

/// Serves `exports` at `listener` until `stop` is cancelled.
pub async fn serve(listener: TcpListener, exports: Exports, stop: CancellationToken) {
    let clock = Clock::real();
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(limits::USBIP_GREETINGS_MAX));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (exports, stop, clock) = (exports.clone(), stop.clone(), clock.clone());
                connections.spawn(async move {
                    let result = tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        result = connection(stream, &exports, place, &clock) => result,
                    };
                    if let Err(error) = result {
                        tracing::info!(%peer, %error, "a USB/IP connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a USB/IP connection could not be accepted");
                clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn invalid(error: codec::CodecError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn connection<P>(mut stream: TcpStream, exports: &Exports, place: P, clock: &Clock) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    let greeting = clock.timeout(limits::USBIP_GREETING_TIME_MAX, greet(&mut stream, &mut buffer, exports)).await;
    let Some(device) = greeting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? else { return Ok(()) };
    // From here on the client has a device, of which there are few enough.
    drop(place);
    let gone = device.gone();
    let mut traffic = Traffic::new(device);
    tokio::select! {
        biased;
        result = traffic.run(&mut stream, &mut buffer) => return result,
        () = gone.cancelled() => {}
    }
    // What had completed when the module left still arrives; then the client sees the end of the connection.
    traffic.collect();
    traffic.refuse_rest(&mut buffer)?;
    let farewell = async {
        stream.write_all_buf(&mut traffic.out).await?;
        stream.shutdown().await?;
        // Closed with something unread, the connection would be reset, and what was written last be lost.
        while stream.read(&mut [0; 4096]).await? > 0 {}
        Ok(())
    };
    clock.timeout(limits::USBIP_FAREWELL_TIME_MAX, farewell).await.unwrap_or(Ok(()))
}

/// Hears what a client wants, and answers. The device, where it imported one.
async fn greet(stream: &mut TcpStream, buffer: &mut BytesMut, exports: &Exports) -> io::Result<Option<UsbDevice>> {
    let request = loop {
        if let Some(request) = codec::request(buffer).map_err(invalid)? {
            break request;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    match request {
        Request::List => {
            stream.write_all(&codec::list_reply(&exports.list(), CONFIGURATION)).await?;
            stream.shutdown().await?;
            Ok(None)
        }
        Request::Import(busid) => {
            let found = exports.find(&busid).map(|(info, export)| (info, UsbDevice::open(&export)));
            match found {
                Some((info, Ok(device))) => {
                    stream.write_all(&codec::import_reply(Some(&info), CONFIGURATION)).await?;
                    return Ok(Some(device));
                }
                Some((_, Err(HardwareError::Busy))) => {
                    tracing::info!(busid, "refused: another program has the device");
                }
                _ => tracing::info!(busid, "refused: there is no such device"),
            }
            stream.write_all(&codec::import_reply(None, CONFIGURATION)).await?;
            stream.shutdown().await?;
            Ok(None)
        }
    }
}

/// What goes to and fro for one imported device.
struct Traffic {
    device: UsbDevice,
    /// What each transfer in flight gets back with its end.
    frames: BTreeMap<u32, (u32, u32)>,
    out: BytesMut,
}

impl Traffic {
    fn new(device: UsbDevice) -> Self {
        Self { device, frames: BTreeMap::new(), out: BytesMut::new() }
    }

    /// Runs until the client hangs up.
    async fn run(&mut self, stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<()> {
        let (mut reader, mut writer) = stream.split();
        self.take(buffer)?;
        loop {
            let has_room = self.out.len() < limits::USBIP_UNREAD_BYTES;
            buffer.reserve(READ_BYTES);
            let device = &mut self.device;
            tokio::select! {
                biased;
                completion = poll_fn(|context| device.poll(context)), if has_room => self.put(completion),
                written = writer.write_buf(&mut self.out), if !self.out.is_empty() => {
                    written?;
                }
                count = reader.read_buf(buffer), if has_room => {
                    if count? == 0 {
                        return Ok(());
                    }
                    self.take(buffer)?;
                }
            }
        }
    }

    /// Does what the client's whole commands say.
    fn take(&mut self, buffer: &mut BytesMut) -> io::Result<()> {
        while let Some(command) = codec::command(buffer).map_err(invalid)? {
            match command {
                Command::Submit(submit) => self.submit(submit),
                Command::Unlink { seqnum, victim } => {
                    let status = if self.device.cancel(victim) {
                        self.frames.remove(&victim);
                        ECONNRESET
                    } else {
                        // The end of the transfer goes first.
                        self.collect();
                        0
                    };
                    codec::put_unlinked(seqnum, status, &mut self.out);
                }
            }
        }
        Ok(())
    }

    fn submit(&mut self, submit: Submit) {
        let bytes_max = usize::try_from(submit.bytes_max).unwrap_or(usize::MAX);
        self.frames.insert(submit.seqnum, submit.frames);
        self.device.submit(Transfer {
            id: submit.seqnum,
            endpoint: submit.endpoint,
            direction: if submit.is_in { Direction::In(bytes_max) } else { Direction::Out(submit.data) },
            setup: submit.setup,
            zero_packet: submit.zero_packet,
            short_not_ok: submit.short_not_ok,
        });
    }

    /// Puts everything that has ended by now into the output.
    fn collect(&mut self) {
        while let Poll::Ready(completion) = self.device.poll(&mut Context::from_waker(Waker::noop())) {
            self.put(completion);
        }
    }

    /// Ends everything that is in flight, as a host controller does when a device leaves, and whatever else the client
    /// had asked for by then. Linux would wait five seconds for a control transfer that nobody ends, and look at no other
    /// port of that hub meanwhile.
    fn refuse_rest(&mut self, buffer: &mut BytesMut) -> io::Result<()> {
        for (seqnum, frames) in std::mem::take(&mut self.frames) {
            codec::put_submitted(seqnum, ESHUTDOWN, 0, frames, &[], &mut self.out);
        }
        while let Some(command) = codec::command(buffer).map_err(invalid)? {
            match command {
                Command::Submit(submit) => {
                    codec::put_submitted(submit.seqnum, ESHUTDOWN, 0, submit.frames, &[], &mut self.out);
                }
                Command::Unlink { seqnum, .. } => codec::put_unlinked(seqnum, 0, &mut self.out),
            }
        }
        Ok(())
    }

    fn put(&mut self, completion: Completion) {
        let Completion { id, ending, data, actual } = completion;
        let status = match ending {
            Ending::Done => 0,
            Ending::Stalled => EPIPE,
            Ending::Babble => EOVERFLOW,
            Ending::Short => EREMOTEIO,
            Ending::NoEndpoint => ENOENT,
            Ending::NoMemory => ENOMEM,
        };
        let frames = self.frames.remove(&id).unwrap_or_default();
        codec::put_submitted(id, status, actual, frames, &data, &mut self.out);
    }
}
