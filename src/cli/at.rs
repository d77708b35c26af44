//! `at`: asks the module in a slot one reading command.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::slot::{self, Absent};
use super::{Status, complain, folded, line, print, start, station_words, wrapped};
use crate::config::SlotConfig;
use crate::controller::{AtSession, SessionError};
use crate::domain::text::printable;
use crate::hardware::{Bus, DeviceKey, DeviceMode, DeviceRecord, HardwareError};
use crate::host::{Clock, Disk, OsDisk};
use crate::protocol::at::{Final, Reply, is_reading_command, reading_commands};

/// How long the module may take to reply, in station time: some commands look at the network.
const REPLY_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to be ready, and to answer `AT`, in station time.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// The pause before a module that may still be starting is looked for again, in station time.
const RETRY: Duration = Duration::from_secs(1);
/// Longest line that is shown, in characters.
const LINE_CHARS: usize = 2048;
/// Longest part of a refused command that is shown, in characters.
const SHOWN_CHARS: usize = 80;

#[derive(Debug, clap::Args)]
pub(crate) struct AtArguments {
    /// The slot's name
    slot: String,
    /// The command, such as `AT+CGSN`; only commands that are known to read are sent
    command: String,
    /// The station file
    #[arg(long, value_name = "FILE")]
    station: PathBuf,
    /// Where ledger and backups are kept, instead of the station file's `state`
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

pub(crate) fn run(arguments: &AtArguments) -> Status {
    attempt(arguments).unwrap_or_else(|status| status)
}

fn attempt(arguments: &AtArguments) -> Result<Status, Status> {
    is_reading_command(&arguments.command).map_err(|why| {
        complain(refusal(&arguments.command, &why));
        Status::Refused
    })?;
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let station = start::station(disk.as_ref(), &arguments.station)?;
    let slot = slot::find(&station, &arguments.slot).map_err(|why| {
        complain(why);
        Status::Refused
    })?;
    start::named_state(disk.as_ref(), arguments.state.as_deref())?;
    let runtime = start::runtime()?;
    let state = arguments.state.clone().unwrap_or_else(|| station.state.clone());
    let named = station_words(&arguments.station, arguments.state.as_deref());
    let asked = runtime.block_on(async {
        let quiet = line::Quiet::start(&station, &disk, &state).await?;
        let comes = quiet.carried() > 0;
        let module = Module { bus: quiet.bus.as_ref(), clock: &quiet.clock, comes, station: &named };
        let reply = module.ask(slot, &arguments.command).await;
        quiet.stop();
        reply
    });
    // A port that the kernel does not give back holds nobody up.
    runtime.shutdown_timeout(Duration::from_secs(2));
    match asked {
        Ok(reply) => {
            print(&words(&reply));
            Ok(if reply.result == Final::Ok { Status::Good } else { Status::NotAllGood })
        }
        Err(why) => {
            complain(folded(&format!("error: {why}")));
            Err(Status::Stuck)
        }
    }
}

/// What a person is told whose command is not sent: which, why, and what may be asked instead.
fn refusal(command: &str, why: &str) -> String {
    let mut text = format!("error: {} is not sent: {why}\n", printable(command, SHOWN_CHARS));
    text.push_str("help: one command that is known to read may be asked:");
    for allowed in reading_commands() {
        text.push('\n');
        text.push_str(&wrapped(&format!("  {allowed}"), 4));
    }
    text
}

/// A line on which a module is asked.
struct Module<'a> {
    bus: &'a dyn Bus,
    clock: &'a Clock,
    /// Whether a module may still be starting; what is not there at once is not waited for otherwise.
    comes: bool,
    /// How its station is named on the command line.
    station: &'a str,
}

impl Module<'_> {
    /// Sends one command to the module in a slot.
    async fn ask(&self, slot: &SlotConfig, command: &str) -> Result<Reply, String> {
        // Here too, so that no caller can leave it out.
        is_reading_command(command)?;
        let deadline = self.clock.deadline(READY_LIMIT);
        loop {
            let listing = self.bus.list().await.map_err(|error| error.to_string())?;
            let why = match module(slot, &listing.devices) {
                Ok((key, interface)) => match self.open(&key, interface, deadline).await {
                    Ok(mut session) => {
                        let reply = session.command(command).await;
                        return reply.map_err(|error| self.broken(slot, error));
                    }
                    Err(error) => self.broken(slot, error),
                },
                Err(absent) => absent.told(&slot.name, self.station),
            };
            if !self.comes || self.clock.now() >= deadline {
                return Err(why);
            }
            self.clock.sleep(RETRY).await;
        }
    }

    /// What a person is told of a conversation that broke off.
    fn broken(&self, slot: &SlotConfig, error: SessionError) -> String {
        format!(
            "slot {}: {}\nhelp: `stationmaster devices {}` shows what is in the slot; take the module out, put it in \
             again, and ask once more",
            slot.name,
            clause(error),
            self.station
        )
    }

    /// Opens an AT port, and repeats `AT` until it is answered.
    async fn open(&self, key: &DeviceKey, interface: u8, deadline: Duration) -> Result<AtSession, SessionError> {
        let port = self.bus.open_port(key, interface).await?;
        let mut session = AtSession::new(port, self.clock.clone(), REPLY_LIMIT);
        session.synchronise(deadline).await?;
        Ok(session)
    }
}

/// Why a conversation broke off, as a clause.
fn clause(error: SessionError) -> String {
    match error {
        SessionError::Gone => HardwareError::Gone.to_string(),
        SessionError::Busy => HardwareError::Busy.to_string(),
        SessionError::Silent(what) => what.to_owned(),
        SessionError::Usb(what) => what,
        SessionError::Failed(failure) => failure.detail,
    }
}

/// The one module in normal mode at a slot's port chains, and the number of its AT port.
fn module(slot: &SlotConfig, devices: &[DeviceRecord]) -> Result<(DeviceKey, u8), Absent> {
    match slot::devices(slot, devices).as_slice() {
        [] => Err(Absent::Empty),
        [device] => match device.mode() {
            DeviceMode::Normal(family) => Ok((device.key.clone(), family.at_interface)),
            mode => Err(Absent::of(mode).unwrap_or(Absent::Foreign)),
        },
        _ => Err(Absent::Two),
    }
}

/// The reply as a terminal would have shown it, without what the module said unasked.
fn words(reply: &Reply) -> String {
    let mut text = String::new();
    for line in &reply.lines {
        let _infallible = writeln!(text, "{}", printable(line, LINE_CHARS));
    }
    let result = match &reply.result {
        Final::Ok => "OK".to_owned(),
        Final::Error => "ERROR".to_owned(),
        Final::Cme(number) => format!("+CME ERROR: {number}"),
        Final::CmeText(text) => format!("+CME ERROR: {}", printable(text, LINE_CHARS)),
        Final::Cms(number) => format!("+CMS ERROR: {number}"),
    };
    let _infallible = writeln!(text, "{result}");
    text
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::path::Path;

    use super::super::prepare;
    use super::*;
    use crate::hardware::{AtPort, BoxFuture, BulkPipe, Endpoint, EndpointKind, Interface, Listing, Speed};
    use crate::host::{MemoryDisk, Random};
    use crate::sim::Factory;

    #[tokio::test(start_paused = true)]
    async fn a_module_in_a_slot_is_asked_and_nothing_that_writes_is_sent() {
        let station = prepare::station(&OsDisk::new(), Path::new("stations/demo.yaml")).expect("it is good");
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a time"));
        let spec = prepare::factory(&station, Path::new("/state"), Some(1)).expect("it is simulated");
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let factory = Factory::start(spec, clock.clone(), disk, Random::seeded(1)).await.expect("a factory");
        let bus = factory.bus();
        while bus.list().await.expect("a listing").devices.is_empty() {
            clock.sleep(RETRY).await;
        }
        let listing = bus.list().await.expect("a listing");
        let chain = &listing.devices[0].key.chain;
        let slot = station.slots.iter().find(|slot| slot.is_at(chain)).expect("it is in a slot");
        let module = Module { bus: bus.as_ref(), clock: &clock, comes: true, station: "stations/demo.yaml" };
        let reply = module.ask(slot, "AT+CGSN").await.expect("a reply");
        assert_eq!(reply.result, Final::Ok);
        let imei = reply.lines.first().expect("a line").clone();
        assert!(imei.len() == 15 && imei.bytes().all(|byte| byte.is_ascii_digit()), "{imei}");
        assert_eq!(words(&reply), format!("{imei}\nOK\n"));
        for chain in ["AT+CGSN;+CFUN=0", "AT+EGMR=1,7,\"490154203237518\"", "AT+QPRTPARA=3"] {
            module.ask(slot, chain).await.expect_err("it writes");
        }
        let empty = station.slots.iter().find(|other| other.name != slot.name).expect("two slots");
        let nobody = Module { comes: false, ..module };
        let why = nobody.ask(empty, "AT+CGSN").await.expect_err("it is empty");
        let help = "help: put the module in; `stationmaster devices stations/demo.yaml` shows which slots are occupied";
        assert_eq!(why, format!("slot {} is empty\n{help}", empty.name));
        factory.stop();
    }

    /// The classes of a module's interfaces in normal mode.
    const NORMAL: [(u8, u8, u8); 5] = [(255, 255, 255), (255, 0, 0), (255, 0, 0), (255, 0, 0), (255, 255, 255)];

    fn record(chain: &crate::domain::PortChain, id: (u16, u16), interfaces: &[(u8, u8, u8)]) -> DeviceRecord {
        let endpoint = |address| Endpoint { address, kind: EndpointKind::Bulk, packet_bytes: 512 };
        let interface = |(number, class): (u8, &(u8, u8, u8))| Interface {
            number,
            class: *class,
            endpoints: vec![endpoint(0x81 + number), endpoint(1 + number)],
        };
        DeviceRecord {
            key: DeviceKey { chain: chain.clone(), session: 1 },
            vendor_id: id.0,
            product_id: id.1,
            bcd_device: 0,
            speed: Speed::High,
            product: String::new(),
            manufacturer: String::new(),
            serial: String::new(),
            interfaces: (0..).zip(interfaces).map(interface).collect(),
        }
    }

    #[test]
    fn what_is_in_the_slot_instead_of_a_module_that_runs_is_named() {
        let station = prepare::station(&OsDisk::new(), Path::new("stations/demo.yaml")).expect("it is good");
        let [first, second] = [0, 1].map(|slot: usize| station.slots[slot].usb2.clone());
        let here = |id, interfaces: &[(u8, u8, u8)]| vec![record(&first, id, interfaces)];
        let slot = &station.slots[0];
        let (key, interface) = module(slot, &here((0x2c7c, 0x0125), &NORMAL)).expect("a module");
        assert_eq!((key.chain, interface), (first.clone(), 2));
        let twice = [here((0x2c7c, 0x0125), &NORMAL), here((0x05c6, 0x9008), &[(255, 255, 17)])].concat();
        for (devices, why) in [
            (Vec::new(), "is empty"),
            (vec![record(&second, (0x2c7c, 0x0125), &NORMAL)], "is empty"),
            (here((0x05c6, 0x9008), &[(255, 255, 17)]), "is in download mode and has no AT port"),
            (here((0x05c6, 0x900e), &[(255, 255, 17)]), "has crashed and has no AT port"),
            (here((0x2c7c, 0x0125), &[]), "the kernel did not configure the module"),
            (here((0x0781, 0x5567), &[(8, 6, 80)]), "is no known module"),
            (twice, "shows two devices"),
        ] {
            let absent = module(slot, &devices).expect_err("there is none to ask");
            let said = absent.told(&slot.name, "stations/demo.yaml");
            assert!(said.contains("\nhelp: "), "{said}");
            assert!(said.contains(why) && said.contains(slot.name.as_str()), "{said}: {why}");
        }
    }

    /// A bus that nobody may use.
    #[derive(Debug)]
    struct Untouchable;

    impl Bus for Untouchable {
        fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
            unreachable!("the bus is looked at")
        }

        fn hints(&self) -> tokio::sync::watch::Receiver<u64> {
            unreachable!("the bus is listened to")
        }

        fn open_bulk<'a>(&'a self, _: &'a DeviceKey, _: u8) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
            unreachable!("a pipe is opened")
        }

        fn open_port<'a>(&'a self, _: &'a DeviceKey, _: u8) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
            unreachable!("a port is opened")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn for_a_command_that_is_refused_the_bus_is_not_even_looked_at() {
        let station = prepare::station(&OsDisk::new(), Path::new("stations/demo.yaml")).expect("it is good");
        let module = Module { bus: &Untouchable, clock: &Clock::real(), comes: true, station: "demo.yaml" };
        for command in ["AT+CFUN=5", "AT+CFUN?;+CFUN=5", "AT+CFUN?\rAT+CFUN=5", "AT&F", "A/", "", "AT+QPOWD"] {
            module.ask(&station.slots[0], command).await.expect_err("it is refused");
        }
    }

    /// A module in a slot that was busy when it was first asked: its answer to the first `AT` comes late.
    #[derive(Debug)]
    struct Busy {
        device: DeviceRecord,
        clock: Clock,
    }

    impl Bus for Busy {
        fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
            Box::pin(async { Ok(Listing { devices: vec![self.device.clone()], hubs: Vec::new() }) })
        }

        fn hints(&self) -> tokio::sync::watch::Receiver<u64> {
            unreachable!("nothing is waited for")
        }

        fn open_bulk<'a>(&'a self, _: &'a DeviceKey, _: u8) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
            unreachable!("a pipe is opened")
        }

        fn open_port<'a>(&'a self, _: &'a DeviceKey, _: u8) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
            let port = BusyPort { clock: self.clock.clone(), answers: VecDeque::new(), is_busy: true };
            Box::pin(async { Ok(Box::new(port) as Box<dyn AtPort>) })
        }
    }

    /// Its port: what it will say, and when, in station time.
    #[derive(Debug)]
    struct BusyPort {
        clock: Clock,
        answers: VecDeque<(Duration, &'static str)>,
        is_busy: bool,
    }

    impl AtPort for BusyPort {
        fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
            Box::pin(async move {
                let Some((at, answer)) = self.answers.front().copied() else { return std::future::pending().await };
                self.clock.sleep_until(at).await;
                self.answers.pop_front();
                buffer[..answer.len()].copy_from_slice(answer.as_bytes());
                Ok(answer.len())
            })
        }

        fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
            let delay = Duration::from_millis(if std::mem::take(&mut self.is_busy) { 1400 } else { 20 });
            let answer = if bytes == b"AT\r" { "\r\nOK\r\n" } else { "\r\n490154203237518\r\n\r\nOK\r\n" };
            self.answers.push_back((self.clock.deadline(delay), answer));
            Box::pin(async { Ok(()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_to_at_is_not_taken_for_the_reply_to_the_command() {
        let station = prepare::station(&OsDisk::new(), Path::new("stations/demo.yaml")).expect("it is good");
        let slot = &station.slots[0];
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a time"));
        let bus = Busy { device: record(&slot.usb2, (0x2c7c, 0x0125), &NORMAL), clock: clock.clone() };
        let module = Module { bus: &bus, clock: &clock, comes: false, station: "demo.yaml" };
        let reply = module.ask(slot, "AT+CGSN").await.expect("a reply");
        assert_eq!(words(&reply), "490154203237518\nOK\n");
    }

    #[test]
    fn a_refusal_names_command_reason_and_what_is_allowed_within_the_width() {
        let text =
            refusal("AT+CFUN?;+CFUN=5\u{1b}[2J", &is_reading_command("AT+CFUN?;+CFUN=5").expect_err("it writes"));
        let mut lines = text.lines();
        let first = lines.next().expect("a line");
        assert!(first.starts_with("error: AT+CFUN?;+CFUN=5") && first.contains("number 2, +CFUN=5"), "{first}");
        assert!(!text.contains('\u{1b}'), "nothing reaches the terminal that is no text");
        assert!(lines.next().is_some_and(|line| line.starts_with("help: ")));
        assert!(lines.clone().all(|line| line.len() <= 80), "{text}");
        assert!(lines.any(|line| line.contains("AT+CGSN")), "{text}");
    }
}
