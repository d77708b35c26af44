//! A module's serial port: AT or DIAG, through the kernel's tty.
//!
//! The numbers in tty names are given out again at once, to whichever port comes next, so a tty is looked up through
//! its interface's directory at every opening, and looked up once more when it is open.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio_serial::SerialStream;

use super::holders::Hold;
use super::scan::Place;
use super::sessions::Present;
use super::sysfs::Sysfs;
use crate::hardware::{AtPort, BoxFuture, HardwareError};
use crate::host::Clock;

/// What a module ignores and a real line would need.
const BAUD: u32 = 115_200;
/// How long the kernel's driver may take to give an interface its tty.
const TTY_LIMIT: Duration = Duration::from_secs(15);
/// How long another program may hold a port that is wanted: something that only looks at new ports is soon done.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// How often a port is tried meanwhile.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// How long a port may refuse to take bytes.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How often it is tried meanwhile.
const WRITE_INTERVAL: Duration = Duration::from_millis(5);

/// The tty of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tty {
    /// Its name below `/dev`.
    pub(super) name: String,
    /// Major and minor number, as sysfs writes them.
    number: String,
}

/// Why a port is not open yet.
#[derive(Debug)]
enum Refusal {
    /// There is no tty, or its node is not there.
    Missing,
    /// Another program has it.
    Busy,
    /// It will not open.
    Final(HardwareError),
}

/// Opens the port of `interface`, exclusively.
///
/// # Errors
/// [`HardwareError::Busy`] when another program keeps it, [`HardwareError::Gone`], or why it cannot be opened.
pub(super) async fn open(
    sysfs: &Arc<Sysfs>,
    clock: &Clock,
    present: Present,
    interface: u8,
    hold: Hold,
) -> Result<Box<dyn AtPort>, HardwareError> {
    let start = clock.now();
    let waking = (Arc::clone(sysfs), present.place.clone());
    let _done_or_stopped = tokio::task::spawn_blocking(move || waking.1.keep_awake(&waking.0)).await;
    loop {
        let (looking, place) = (Arc::clone(sysfs), present.place.clone());
        let attempt = tokio::task::spawn_blocking(move || try_open(&looking, &place, interface));
        let refusal = match attempt.await.map_err(|_| HardwareError::Failed("stopped".into()))? {
            Ok(stream) => {
                let parts = Some((stream, hold));
                return Ok(Box::new(Port { parts, clock: clock.clone(), present, is_gone: false }));
            }
            Err(refusal) => refusal,
        };
        let waited = clock.now().saturating_sub(start);
        match refusal {
            // A port that leaves refuses in many ways.
            Refusal::Final(_) if !present.place.is_there(sysfs) => return Err(HardwareError::Gone),
            Refusal::Final(error) => return Err(error),
            Refusal::Busy if waited >= BUSY_LIMIT => return Err(HardwareError::Busy),
            Refusal::Missing if waited >= TTY_LIMIT => {
                return Err(HardwareError::Failed(format!(
                    "interface {interface} has no serial port: the kernel's `option` driver does not take it"
                )));
            }
            Refusal::Busy | Refusal::Missing => {}
        }
        tokio::select! {
            biased;
            () = present.gone.cancelled() => return Err(HardwareError::Gone),
            () = clock.sleep(RETRY_INTERVAL) => {}
        }
    }
}

/// The tty that the kernel made for an interface: `ttyUSB…` for a serial driver, `tty/ttyACM…` for CDC ACM.
pub(super) fn tty(sysfs: &Sysfs, place: &Place, interface: u8) -> Option<Tty> {
    let device = sysfs.real(&sysfs.usb_device(&place.name))?;
    let is_wanted = |entry: &&String| {
        let numbers = entry.strip_prefix(&place.name).and_then(|rest| rest.strip_prefix(':'));
        numbers.and_then(|numbers| numbers.split_once('.')).is_some_and(|(_, number)| number.parse() == Ok(interface))
    };
    let names = sysfs.names(&device).ok()?;
    let directory = device.join(names.iter().find(is_wanted)?);
    let is_tty = |name: &&String| {
        (name.starts_with("ttyUSB") || name.starts_with("ttyACM")) && name.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let places: [PathBuf; 2] = [directory.clone(), directory.join("tty")];
    places.iter().find_map(|place| {
        let names = sysfs.names(place).ok()?;
        let name = names.iter().find(is_tty)?;
        let own = place.join(name);
        let number = sysfs.text(&own.join("dev")).or_else(|| sysfs.text(&own.join("tty").join(name).join("dev")))?;
        Some(Tty { name: name.clone(), number })
    })
}

fn try_open(sysfs: &Sysfs, place: &Place, interface: u8) -> Result<SerialStream, Refusal> {
    if !place.is_there(sysfs) {
        return Err(Refusal::Final(HardwareError::Gone));
    }
    let tty = tty(sysfs, place, interface).ok_or(Refusal::Missing)?;
    let node = sysfs.node(&tty.name);
    if sysfs.device_number(&node).as_ref() != Some(&tty.number) {
        return Err(Refusal::Missing);
    }
    // Exclusive: `TIOCEXCL` against everybody but root, `flock` against everybody who asks. The control lines are left
    // alone: not every port has them.
    let builder = tokio_serial::new(node.to_string_lossy(), BAUD);
    let stream = SerialStream::open(&builder).map_err(|error| refusal(&error))?;
    let is_still_ours = place.is_there(sysfs)
        && self::tty(sysfs, place, interface).as_ref() == Some(&tty)
        && sysfs.device_number(&node).as_ref() == Some(&tty.number);
    if is_still_ours { Ok(stream) } else { Err(Refusal::Missing) }
}

fn refusal(error: &tokio_serial::Error) -> Refusal {
    use std::io::ErrorKind as Io;
    match error.kind() {
        // What the lock says when another program has it.
        tokio_serial::ErrorKind::NoDevice | tokio_serial::ErrorKind::Io(Io::ResourceBusy | Io::WouldBlock) => {
            Refusal::Busy
        }
        tokio_serial::ErrorKind::Io(Io::NotFound) => Refusal::Missing,
        tokio_serial::ErrorKind::Io(Io::PermissionDenied) => Refusal::Final(HardwareError::Failed(
            "no permission to open the serial port: install the udev rules, or run as a user who may".into(),
        )),
        _ => Refusal::Final(HardwareError::Failed(format!("the serial port cannot be opened: {error}"))),
    }
}

/// What an error of an open port means: after a hang-up the kernel says `EIO`.
fn port_error(error: &std::io::Error) -> HardwareError {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::IO | Errno::NODEV | Errno::NXIO | Errno::PIPE | Errno::SHUTDOWN) => HardwareError::Gone,
        _ => HardwareError::Failed(format!("the serial port: {error}")),
    }
}

/// Writes all of `bytes`. Whether a port takes bytes is tried, not waited for: that of a module that is leaving calls
/// itself ready each time it has refused, and would be tried without a pause.
async fn write_all(stream: &mut SerialStream, clock: &Clock, mut bytes: &[u8]) -> std::io::Result<()> {
    use std::io::ErrorKind;
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => clock.sleep(WRITE_INTERVAL).await,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An open serial port.
#[derive(Debug)]
struct Port {
    /// Always there; taken when the port is dropped.
    parts: Option<(SerialStream, Hold)>,
    clock: Clock,
    present: Present,
    is_gone: bool,
}

impl Port {
    fn note<T>(&mut self, result: Result<T, HardwareError>) -> Result<T, HardwareError> {
        self.is_gone |= matches!(result, Err(HardwareError::Gone));
        result
    }

    fn stream(&mut self) -> Result<&mut SerialStream, HardwareError> {
        match &mut self.parts {
            Some((stream, _)) if !self.is_gone => Ok(stream),
            _ => Err(HardwareError::Gone),
        }
    }
}

impl AtPort for Port {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        Box::pin(async move {
            if buffer.is_empty() {
                return Err(HardwareError::Unsupported("a read of no bytes"));
            }
            let gone = self.present.gone.clone();
            let stream = self.stream()?;
            let result = tokio::select! {
                biased;
                result = stream.read(buffer) => match result {
                    // A hang-up; asked again it would say so for ever.
                    Ok(0) => Err(HardwareError::Gone),
                    Ok(length) => Ok(length),
                    Err(error) => Err(port_error(&error)),
                },
                () = gone.cancelled() => Err(HardwareError::Gone),
            };
            self.note(result)
        })
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async move {
            let (gone, clock) = (self.present.gone.clone(), self.clock.clone());
            let stream = self.stream()?;
            let result = tokio::select! {
                biased;
                result = clock.timeout(WRITE_LIMIT, write_all(stream, &clock, bytes)) => match result {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(port_error(&error)),
                    Err(_) => Err(HardwareError::Failed("the serial port takes no bytes".into())),
                },
                () = gone.cancelled() => Err(HardwareError::Gone),
            };
            self.note(result)
        })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let Some((stream, hold)) = self.parts.take() else { return };
        hold.is_closing();
        let close = move || {
            // Closing waits, up to half a minute, for what the module does not take.
            let _nothing_to_throw_away = tokio_serial::SerialPort::clear(&stream, tokio_serial::ClearBuffer::Output);
            drop(stream);
            drop(hold);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(close)),
            Err(_) => close(),
        }
    }
}

#[cfg(test)]
mod tests;
