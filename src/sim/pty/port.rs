//! One port as a pseudo terminal: our end of the terminal on one side, the module's link on the other.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::super::link::{InDone, Link};
use super::PortLink;
use crate::host::Clock;

/// How often to look whether a program has opened the terminal: nothing tells.
const OPEN_INTERVAL: Duration = Duration::from_millis(10);
/// How long the last words of a module may wait in the terminal after it has left.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_millis(500);
/// How long the kernel may take to carry bytes from our end to the program's.
const CARRY_TIME: Duration = Duration::from_millis(30);
/// Transfers that a serial driver keeps in flight, each way.
const TRANSFERS: usize = 4;
/// Bytes of one of them; a multiple of every packet size.
const TRANSFER_BYTES: usize = 4096;

/// Our end of a terminal.
struct Terminal {
    master: OwnedFd,
}

/// The same while a program has it open. The runtime takes a hang-up for final and would report it for ever, so each
/// opening is registered anew.
struct Opened<'a> {
    terminal: &'a Terminal,
    master: AsyncFd<BorrowedFd<'a>>,
}

/// What happened to a terminal.
enum Read {
    Bytes(usize),
    /// No program has it open.
    Closed,
}

impl Terminal {
    /// A terminal in raw mode that no program has open.
    fn new() -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        // Opened once and closed, so that "nobody has it" looks the same before the first program and after each.
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let mut mode = tcgetattr(&slave)?;
        mode.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &mode)?;
        drop(slave);
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self { master })
    }

    fn opened(&self) -> io::Result<Opened<'_>> {
        #[expect(
            deprecated,
            reason = "a borrowed descriptor is always the same one; the successor of this asks for a promise of that"
        )]
        let master = AsyncFd::new(self.master.as_fd())?;
        Ok(Opened { terminal: self, master })
    }

    fn name(&self) -> io::Result<std::ffi::OsString> {
        let name = ptsname(&self.master, Vec::new())?;
        Ok(std::ffi::OsStr::from_bytes(name.as_bytes()).to_owned())
    }

    /// What there is to read now, `None` when nothing.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<Read>> {
        match rustix::io::read(&self.master, buffer) {
            Ok(0) | Err(Errno::IO) => Ok(Some(Read::Closed)),
            Ok(count) => Ok(Some(Read::Bytes(count))),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the program has read what is in the terminal: a hang-up throws it away.
    async fn settle(&self, clock: &Clock) -> io::Result<()> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&self.master, flags)?;
        let deadline = clock.now() + LAST_WORDS_TIME_MAX;
        // The kernel carries bytes over in a task of its own: what was written just now is not to be seen at once.
        clock.sleep(CARRY_TIME).await;
        while rustix::io::ioctl_fionread(&slave)? > 0 && clock.now() < deadline {
            clock.sleep(OPEN_INTERVAL).await;
        }
        Ok(())
    }
}

impl Opened<'_> {
    async fn read(&self, buffer: &mut [u8]) -> io::Result<Read> {
        loop {
            let mut ready = self.master.readable().await?;
            match self.terminal.try_read(buffer)? {
                Some(read) => return Ok(read),
                // It was closed, and opened again before that was seen.
                None if ready.ready().is_read_closed() => return Ok(Read::Closed),
                None => ready.clear_ready(),
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.master.writable().await?;
            match rustix::io::write(&self.terminal.master, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::AGAIN) if ready.ready().is_write_closed() => return Ok(()),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                // Nobody has it open any more: as on a serial port, the bytes are lost.
                Err(Errno::IO) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Serves one port of one module until it is gone.
pub(super) async fn serve(path: &Path, link: Arc<Link>, gone: CancellationToken) -> io::Result<()> {
    let clock = Clock::real();
    let terminal = Terminal::new()?;
    let shown = PortLink::new(path.to_owned(), Path::new(&terminal.name()?))?;
    // What a program wrote before the module could be had for it.
    let mut held = Vec::new();
    while !gone.is_cancelled() {
        let is_open = if held.is_empty() {
            let mut buffer = [0; TRANSFER_BYTES];
            match terminal.try_read(&mut buffer)? {
                Some(Read::Closed) => false,
                Some(Read::Bytes(count)) => {
                    held.extend(&buffer[..count]);
                    true
                }
                None => true,
            }
        } else {
            true
        };
        if !is_open || link.open().is_err() {
            tokio::select! {
                biased;
                () = gone.cancelled() => {}
                () = clock.sleep(OPEN_INTERVAL) => {}
            }
            continue;
        }
        let overdue = async {
            gone.cancelled().await;
            clock.sleep(LAST_WORDS_TIME_MAX).await;
        };
        let opened = terminal.opened()?;
        let conversed = tokio::select! {
            biased;
            conversed = converse(&opened, &link, std::mem::take(&mut held), &clock) => conversed,
            () = overdue => Ok(()),
        };
        link.close();
        conversed?;
    }
    drop(shown);
    terminal.settle(&clock).await
}

/// Carries bytes both ways until the program closes the terminal or the module has left and was heard to its end.
async fn converse(terminal: &Opened<'_>, link: &Link, start: Vec<u8>, clock: &Clock) -> io::Result<()> {
    tokio::select! {
        biased;
        ended = up(terminal, link) => ended,
        ended = down(terminal, link, start, clock) => ended,
    }
}

/// From the module to the program, until the module is gone.
async fn up(terminal: &Opened<'_>, link: &Link) -> io::Result<()> {
    (0..TRANSFERS).for_each(|_| link.submit_in_raw(TRANSFER_BYTES));
    while let Some(InDone::Data(bytes) | InDone::Babble(bytes)) = poll_fn(|context| link.poll_in_raw(context)).await {
        link.submit_in_raw(TRANSFER_BYTES);
        terminal.write(&bytes).await?;
    }
    Ok(())
}

/// From the program to the module, until the program closes the terminal.
async fn down(terminal: &Opened<'_>, link: &Link, start: Vec<u8>, clock: &Clock) -> io::Result<()> {
    let mut buffer = vec![0; TRANSFER_BYTES];
    let mut pending = 0;
    let mut bytes = start;
    loop {
        if !bytes.is_empty() {
            link.submit_out_raw(std::mem::take(&mut bytes), false);
            pending += 1;
        }
        let read = tokio::select! {
            biased;
            taken = poll_fn(|context| link.poll_out_raw(context)), if pending > 0 => {
                if !taken {
                    // The module is gone; what it said last is still on its way up.
                    return std::future::pending().await;
                }
                pending -= 1;
                continue;
            }
            read = terminal.read(&mut buffer), if pending < TRANSFERS => read?,
        };
        match read {
            Read::Bytes(count) => bytes = buffer[..count].to_vec(),
            Read::Closed => break,
        }
    }
    // What was written before the closing still goes to a module that takes it.
    let rest = async {
        while pending > 0 && poll_fn(|context| link.poll_out_raw(context)).await {
            pending -= 1;
        }
    };
    let _late = clock.timeout(LAST_WORDS_TIME_MAX, rest).await;
    Ok(())
}
