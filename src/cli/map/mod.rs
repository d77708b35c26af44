//! `map`: teaches a station file its slots.
//!
//! What is learned and refused is decided in [`controller::mapping`](crate::controller::mapping), how the file is
//! edited in [`config::edit_slots`](crate::config::edit_slots). Here is who asks, and when the file is written: at the
//! end, once, and only what the person wants.

mod person;
mod plan;
mod saving;
mod trainer;

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Status, complain, input, print, reserve, signal, start};
use crate::config::{HardwareKind, SlotConfig};
use crate::controller::mapping::{Mapper, Target, Taught};
use crate::domain::{PortChain, SlotName};
use crate::hardware::Bus;
use crate::hardware::usb::{Sysfs, UsbBus};
use crate::host::{Clock, Disk, Hold, LockGuard, OsDisk};
use person::{Person, say};
use plan::Plan;
use trainer::Trainer;

#[derive(Debug, clap::Args)]
pub(crate) struct MapArguments {
    /// The station file; only the port chains of its slots are changed
    station: PathBuf,
    /// Teach these slots only, in this order; new ones are added to the file
    #[arg(long, value_name = "A1,A2", value_delimiter = ',')]
    slots: Vec<SlotName>,
    /// Write what was learned also when some slots were not
    #[arg(long)]
    partial: bool,
    /// Where ledger and backups are kept, instead of the station file's `state`
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Write the station file to this new file instead
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// How the session ended.
struct Ended {
    taught: Taught,
    /// Whether what was learned is to be written.
    is_wanted: bool,
}

pub(crate) fn run(arguments: &MapArguments) -> Status {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let plan = match Plan::of(disk.as_ref(), arguments) {
        Ok(plan) => plan,
        Err(why) => {
            complain(why);
            return Status::Refused;
        }
    };
    let _locks = match lock(disk.as_ref(), &plan) {
        Ok(locks) => locks,
        Err(why) => {
            complain(format!("error: {why}"));
            return Status::Stuck;
        }
    };
    let runtime = match start::runtime() {
        Ok(runtime) => runtime,
        Err(status) => return status,
    };
    let ended = runtime.block_on(teach(disk.as_ref(), arguments, &plan));
    // A port that the kernel does not give back holds nobody up.
    runtime.shutdown_timeout(Duration::from_secs(2));
    match ended {
        Ok(ended) => conclude(disk.as_ref(), arguments, &plan, &ended),
        Err(why) => {
            complain(format!("error: {why}"));
            Status::Stuck
        }
    }
}

/// Keeps real stations from working meanwhile: this one would take the modules that are put in, and flash them; modules of
/// another one that restart would be taken for them.
fn lock(disk: &dyn Disk, plan: &Plan) -> Result<Vec<Box<dyn LockGuard>>, String> {
    reserve::modules(disk, &plan.station, Some(&plan.station.state), Hold::Alone)
}

async fn teach(disk: &dyn Disk, arguments: &MapArguments, plan: &Plan) -> Result<Ended, String> {
    let (bus, clock, trainer): (Arc<dyn Bus>, Clock, _) = match plan.station.hardware {
        HardwareKind::Usb => {
            let clock = Clock::real();
            (Arc::new(UsbBus::start(Sysfs::default(), clock.clone())), clock, None)
        }
        HardwareKind::Simulated => {
            let trainer = Trainer::start(&plan.station).await?;
            (trainer.bus(), trainer.clock(), Some(trainer))
        }
    };
    // Whatever keeps it from being listed is better known before the first module is put in.
    bus.list().await.map_err(|error| error.to_string())?;
    let stop = CancellationToken::new();
    let mut hangup = Hangup::new();
    let person_clock = clock.clone();
    let mapper = Mapper {
        bus,
        clock,
        targets: plan.targets.clone(),
        others: plan.others.clone(),
        profiles: plan.station.profiles.clone(),
        stop: stop.clone(),
    };
    let mut person = Person::new(input::lines(), trainer, person_clock);
    let names: Vec<SlotName> = plan.targets.iter().map(|target| target.name.clone()).collect();
    person.greet(plan.station.name.as_str(), &names);
    let taught = tokio::select! {
        biased;
        () = twice_signalled(&stop, &mut hangup) => {
            let help = person.left_behind().map(|left| format!("\nhelp: {left}")).unwrap_or_default();
            return Err(format!("stopped at once; nothing was written{help}"));
        }
        taught = Box::pin(mapper.teach(&mut person)) => taught,
    };
    if let Some(error) = &taught.failure {
        say(&format!("error: {error}"), 0);
        if let Some(left) = person.left_behind() {
            say(&format!("help: {left}"), 0);
        }
    }
    let is_complete = taught.missing.is_empty();
    let is_wanted = !taught.learned.is_empty()
        && (is_complete
            || arguments.partial
            || (!stop.is_cancelled()
                && saving::is_possible(disk, plan, &taught.learned)
                && agrees(&mut person, &question(&taught), &mut hangup).await));
    Ok(Ended { taught, is_wanted })
}

/// Whether the person agrees; a signal is a no.
async fn agrees(person: &mut Person, question: &str, hangup: &mut Hangup) -> bool {
    tokio::select! {
        biased;
        _ = signal() => false,
        () = hangup.come() => false,
        agreed = person.agrees(question) => agreed,
    }
}

fn question(taught: &Taught) -> String {
    let (learned, all) = (taught.learned.len(), taught.learned.len() + taught.missing.len());
    let (are, them) = if learned == 1 { ("is", "it") } else { ("are", "them") };
    format!("{learned} of {all} slots {are} learned. Write {them}, and leave the others as they are?")
}

/// The terminal's going away: a session over the network that broke off, a window that was closed.
struct Hangup(Option<tokio::signal::unix::Signal>);

impl Hangup {
    fn new() -> Self {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        Self(signal.inspect_err(|error| tracing::error!(%error, "hangups cannot be received")).ok())
    }

    async fn come(&mut self) {
        let came = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if came.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// The first signal stops once the module is back, the second one at once. A terminal that goes away says so more than
/// once, and nobody means by it that a module shall be left in download mode: that counts as the first one only.
async fn twice_signalled(stop: &CancellationToken, hangup: &mut Hangup) {
    for round in 0..2 {
        let asked = tokio::select! {
            biased;
            asked = signal() => asked,
            () = hangup.come(), if round == 0 => Ok(()),
        };
        if let Err(error) = asked {
            tracing::error!(%error, "signals cannot be received");
            std::future::pending::<()>().await;
        }
        if round == 0 {
            say("stopping; a module that is in download mode is brought back first", 0);
            stop.cancel();
        }
    }
}

/// Shows what was learned, and writes it where that is wanted.
fn conclude(disk: &dyn Disk, arguments: &MapArguments, plan: &Plan, ended: &Ended) -> Status {
    let Taught { learned, missing, failure } = &ended.taught;
    let not_all = if failure.is_some() { Status::Stuck } else { Status::NotAllGood };
    print(&words(plan, learned));
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(SlotName::as_str).collect();
        say(&format!("not learned: {}", names.join(", ")), 0);
    }
    if !ended.is_wanted {
        if let Some(help) = saving::help(plan, learned) {
            say(&help, 0);
        }
        complain("nothing was written");
        return not_all;
    }
    let (before, after) = match plan.edited(disk, learned) {
        Ok(edited) => edited,
        Err(why) => {
            complain(format!("{why}\n"));
            say("error: with what was learned the station file would not be good, and was not written", 0);
            if let Some(help) = saving::help(plan, learned) {
                say(&help, 0);
            }
            return Status::Refused;
        }
    };
    let good = if missing.is_empty() { Status::Good } else { not_all };
    let shown = plan.shown().display();
    if arguments.out.is_none() && before == after {
        print(&format!("{shown} says so already; nothing was written\n"));
        return good;
    }
    match plan.write(disk, &after) {
        Ok(()) => {
            print(&format!("{shown} is written\n"));
            good
        }
        Err(error) => {
            complain(format!("error: {shown}: {error}\nhelp: write the chains above into the file by hand"));
            Status::Stuck
        }
    }
}

/// The chains that were learned, and what is new about them.
fn words(plan: &Plan, learned: &[SlotConfig]) -> String {
    let mut text = String::new();
    for slot in learned {
        let target = plan.targets.iter().find(|target| target.name == slot.name);
        let before = |side: fn(&Target) -> Option<&PortChain>| target.and_then(side);
        let (old2, old3) = (before(|target| target.usb2.as_ref()), before(|target| target.usb3.as_ref()));
        let _infallible = writeln!(text, "{:<12} {:<32} {}", slot.name, slot.usb2, news(old2, &slot.usb2));
        let _infallible = match (&slot.usb3, old3) {
            (Some(usb3), old) => writeln!(text, "{:<12} {usb3:<32} {}", "", news(old, usb3)),
            (None, Some(old)) => writeln!(text, "{:<12} {old:<32} not seen, stays", ""),
            (None, None) => Ok(()),
        };
    }
    text
}

fn news(old: Option<&PortChain>, new: &PortChain) -> &'static str {
    match old {
        None => "new",
        Some(old) if old == new => "as before",
        Some(_) => "changed",
    }
}

#[cfg(test)]
mod tests {
    use super::plan::tests::{arguments, disk};
    use super::*;
    use crate::ledger;

    #[test]
    fn a_station_at_work_is_not_taught() {
        let disk = disk();
        let state = std::path::Path::new("state/elsewhere");
        let taught = MapArguments { state: Some(state.to_owned()), ..arguments(&[]) };
        let mut plan = Plan::of(&disk, &taught).expect("a good station");
        assert!(lock(&disk, &plan).expect("practice needs no lock").is_empty());
        plan.station.hardware = HardwareKind::Usb;
        assert!(!lock(&disk, &plan).expect("it has never worked").is_empty());
        let at_work = ledger::lock(&disk, &state.join("ledger")).expect("the first one");
        let why = lock(&disk, &plan).expect_err("it is at work where --state says");
        assert!(why.contains("is at work") && why.contains("stop it first"), "{why}");
        drop(at_work);
        assert!(!lock(&disk, &plan).expect("it is stopped").is_empty());
    }
}
