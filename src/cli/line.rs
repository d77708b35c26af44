//! The hardware of a station, real or simulated, wired from its file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{prepare, reserve, start as words};
use crate::config::{HardwareKind, PowerKind, Station};
use crate::domain::{ChipId, Fact, Outcome};
use crate::hardware::usb::{HubPower, Sysfs, UsbBus};
use crate::hardware::{Bus, Listing, NoPower, SlotPower};
use crate::host::{Clock, Disk, Hold, LockGuard, MemoryDisk, Random};
use crate::ledger::{self, Ledger};
use crate::sim::{Factory, OperatorHandle};

/// How much faster than real time simulated modules are, at least, where a person waits for them.
pub(crate) const SCALE_MIN: u32 = 100;

/// How long a line that is only looked at may take to show what is plugged in, in station time.
const SETTLE: Duration = Duration::from_secs(60);

/// What a station works on.
pub(crate) struct Line {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) power: Arc<dyn SlotPower>,
    /// There exactly when the hardware is simulated.
    factory: Option<Factory>,
    _locks: Vec<Box<dyn LockGuard>>,
}

impl Line {
    /// The hardware of a station; a simulated one whose operator hands out `units` units.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) async fn start(
        station: &Station,
        clock: &Clock,
        disk: &Arc<dyn Disk>,
        ledger: &Ledger,
        state: &Path,
        units: Option<u32>,
    ) -> Result<Self, String> {
        let line = Self::take(station, clock, disk, state, units).await?;
        if let Some(factory) = &line.factory {
            clear_finished(factory, ledger).await?;
        }
        Ok(line)
    }

    /// The hardware of a station as its last run left it: nothing is put in, and nothing that is finished taken out. The
    /// ledger is open, and locked with that.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) async fn as_left(
        station: &Station,
        clock: &Clock,
        disk: &Arc<dyn Disk>,
        state: &Path,
    ) -> Result<Self, String> {
        Self::take(station, clock, disk, state, Some(0)).await
    }

    async fn take(
        station: &Station,
        clock: &Clock,
        disk: &Arc<dyn Disk>,
        state: &Path,
        units: Option<u32>,
    ) -> Result<Self, String> {
        // The ledger is open, and locked with that.
        let locks = reserve::modules(disk.as_ref(), station, None, Hold::Shared)?;
        let (bus, power, factory): (Arc<dyn Bus>, Arc<dyn SlotPower>, _) = match station.hardware {
            HardwareKind::Usb => {
                let bus = UsbBus::start(Sysfs::default(), clock.clone());
                // Whatever keeps it from being listed is better known before the first module is put in.
                bus.list().await.map_err(|error| error.to_string())?;
                (Arc::new(bus), Arc::new(HubPower::new(Sysfs::default())), None)
            }
            HardwareKind::Simulated => {
                let factory = start(station, clock, disk, state, units, false).await?;
                (factory.bus(), factory.power(), Some(factory))
            }
        };
        let power = match station.power {
            PowerKind::Hub => power,
            PowerKind::None => Arc::new(NoPower),
        };
        Ok(Self { bus, power, factory, _locks: locks })
    }

    /// Whether the hardware is simulated.
    pub(crate) const fn is_simulated(&self) -> bool {
        self.factory.is_some()
    }

    /// How many simulated units an earlier process left in the slots.
    pub(crate) fn carried(&self) -> usize {
        self.factory.as_ref().map_or(0, |factory| factory.carried().len())
    }

    /// Who puts simulated modules in and takes them out.
    pub(crate) fn operator(&self) -> Option<OperatorHandle> {
        self.factory.as_ref().map(Factory::operator)
    }

    /// Takes the supply from simulated modules.
    pub(crate) fn stop(&self) {
        if let Some(factory) = &self.factory {
            factory.stop();
        }
    }
}

/// What is plugged in at this host.
///
/// # Errors
/// A sentence for people.
pub(crate) async fn look_at_host() -> Result<Listing, String> {
    let bus = UsbBus::start(Sysfs::default(), Clock::real());
    bus.list().await.map_err(|error| error.to_string())
}

/// The virtual factory of a station.
///
/// # Errors
/// A sentence for people.
pub(super) async fn start(
    station: &Station,
    clock: &Clock,
    disk: &Arc<dyn Disk>,
    state: &Path,
    units: Option<u32>,
    full_speed: bool,
) -> Result<Factory, String> {
    let spec = prepare::factory(station, state, units).ok_or("the station file describes no simulation")?;
    let random = Random::seeded(spec.seed);
    let spec = crate::sim::FactorySpec { full_speed, ..spec };
    Factory::start(spec, clock.clone(), Arc::clone(disk), random)
        .await
        .map_err(|error| format!("the simulated line: {error}"))
}

/// Takes out the units that an earlier process finished and did not live to take out.
///
/// # Errors
/// A sentence for people.
async fn clear_finished(factory: &Factory, ledger: &Ledger) -> Result<(), String> {
    let carried = factory.carried();
    if carried.is_empty() {
        return Ok(());
    }
    let mut finished: Vec<ChipId> = Vec::new();
    let mut next = 1;
    loop {
        let entries = ledger.read(next, 256).await.map_err(|error| error.to_string())?;
        let Some(last) = entries.last() else { break };
        next = last.seq + 1;
        for entry in &entries {
            let Fact::RunFinished(record) = &entry.fact else { continue };
            // What arrived in download mode or refused to answer is not known by its chip; it runs again.
            if let Some(chip) = record.chip.filter(|_| record.outcome != Outcome::Aborted) {
                finished.push(chip);
            }
        }
    }
    for unit in carried {
        if finished.contains(&unit.chip) {
            factory.operator().discard(&unit.slot).await;
        }
    }
    Ok(())
}

/// A line on which nothing works; it is locked meanwhile, because its modules are spoken to. Of a simulated one, the units
/// that an earlier process left in the slots are started for it; one that was never used is not even made.
pub(crate) struct Quiet {
    pub(crate) bus: Arc<dyn Bus>,
    /// The line's time; a simulated one goes by fast.
    pub(crate) clock: Clock,
    factory: Option<Factory>,
    _locks: Vec<Box<dyn LockGuard>>,
}

impl Quiet {
    /// The line of a station.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) async fn start(station: &Station, disk: &Arc<dyn Disk>, state: &Path) -> Result<Self, String> {
        if station.hardware == HardwareKind::Usb {
            let locks = reserve::modules(disk.as_ref(), station, Some(state), Hold::Shared)?;
            let clock = Clock::real();
            let bus = Arc::new(UsbBus::start(Sysfs::default(), clock.clone()));
            return Ok(Self { bus, clock, factory: None, _locks: locks });
        }
        let was_used = disk.open(&state.join("sim").join("line.json")).is_ok();
        let (disk, lock) = if was_used {
            let lock = ledger::lock(disk.as_ref(), &state.join("ledger"));
            let lock = lock.map_err(|error| words::ledger_words(&error))?;
            (Arc::clone(disk), Some(lock))
        } else {
            let nothing: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
            (nothing, None)
        };
        let clock = Clock::scaled(station.time_scale().max(SCALE_MIN));
        let factory = start(station, &clock, &disk, state, Some(0), false).await?;
        Ok(Self { bus: factory.bus(), clock, factory: Some(factory), _locks: lock.into_iter().collect() })
    }

    /// How many units an earlier process left in the slots.
    pub(crate) fn carried(&self) -> usize {
        self.factory.as_ref().map_or(0, |factory| factory.carried().len())
    }

    /// Takes the supply from simulated modules.
    pub(crate) fn stop(&self) {
        if let Some(factory) = &self.factory {
            factory.stop();
        }
    }
}

/// What is plugged into a line on which nothing works.
///
/// # Errors
/// A sentence for people.
pub(crate) async fn look(station: &Station, disk: &Arc<dyn Disk>, state: &Path) -> Result<Listing, String> {
    let quiet = Quiet::start(station, disk, state).await?;
    let deadline = quiet.clock.deadline(SETTLE);
    loop {
        let listing = quiet.bus.list().await.map_err(|error| error.to_string())?;
        if listing.devices.len() >= quiet.carried() || quiet.clock.now() >= deadline {
            quiet.stop();
            return Ok(listing);
        }
        quiet.clock.sleep(Duration::from_secs(1)).await;
    }
}
