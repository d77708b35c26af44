//! The simulated line, wired from a station file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{FlashStore, Simulation, Station};
use crate::domain::{ChipId, Fact, Outcome};
use crate::hardware::Listing;
use crate::host::{Clock, Disk, MemoryDisk, Random};
use crate::ledger::{self, Ledger};
use crate::sim::{Factory, FactorySpec, FaultSpec, Flash, OperatorSpec, SimSlot, UnitKind};

/// How long a line that is only looked at may take to show what is plugged in, in station time.
const SETTLE: Duration = Duration::from_secs(60);

/// The virtual factory of a station.
///
/// # Errors
/// A sentence for people.
pub(crate) async fn start(
    station: &Station,
    clock: &Clock,
    disk: &Arc<dyn Disk>,
    state: &Path,
    units: Option<u32>,
) -> Result<Factory, String> {
    let simulation =
        station.simulation.as_ref().ok_or_else(|| "the station file describes no simulation".to_owned())?;
    let spec = specification(station, simulation, state, units);
    Factory::start(spec, clock.clone(), Arc::clone(disk), Random::seeded(simulation.seed))
        .await
        .map_err(|error| format!("the simulated line: {error}"))
}

fn specification(station: &Station, simulation: &Simulation, state: &Path, units: Option<u32>) -> FactorySpec {
    FactorySpec {
        seed: simulation.seed,
        slots: station
            .slots
            .iter()
            .map(|slot| SimSlot { name: slot.name.clone(), usb2: slot.usb2.clone(), usb3: slot.usb3.clone() })
            .collect(),
        units: simulation
            .units
            .iter()
            .map(|kind| UnitKind {
                model: kind.model.clone(),
                revision: kind.revision.clone(),
                slots: kind.slots.clone(),
            })
            .collect(),
        operator: OperatorSpec {
            insert_after: simulation.operator.insert_after,
            remove_after: simulation.operator.remove_after,
            units,
        },
        faults: simulation
            .faults
            .iter()
            .map(|fault| FaultSpec {
                fault: fault.fault.clone(),
                unit: fault.unit,
                step: fault.step,
                after: fault.after,
            })
            .collect(),
        flash: match simulation.flash {
            FlashStore::Memory => Flash::Memory,
            FlashStore::Files => Flash::Files(state.join("sim").join("units")),
        },
        state: state.to_path_buf(),
    }
}

/// Takes out the units that an earlier process finished and did not live to take out.
///
/// # Errors
/// A sentence for people.
pub(crate) async fn clear_finished(factory: &Factory, ledger: &Ledger) -> Result<(), String> {
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

/// What is plugged into a line on which nothing works: the units that an earlier process left in the slots. They are
/// started for it, so the line is locked meanwhile; a line that was never used is not even made.
///
/// # Errors
/// A sentence for people.
pub(crate) async fn look(station: &Station, disk: &Arc<dyn Disk>, state: &Path) -> Result<Listing, String> {
    let was_used = disk.open(&state.join("sim").join("line.json")).is_ok();
    let (disk, _lock) = if was_used {
        let lock = ledger::lock(disk.as_ref(), &state.join("ledger")).map_err(|error| error.to_string())?;
        (Arc::clone(disk), Some(lock))
    } else {
        let nothing: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        (nothing, None)
    };
    let scale = station.simulation.as_ref().map_or(1, |simulation| simulation.time_scale);
    let clock = Clock::scaled(scale.max(100));
    let factory = start(station, &clock, &disk, state, Some(0)).await?;
    let bus = factory.bus();
    let deadline = clock.now() + SETTLE;
    loop {
        let listing = bus.list().await.map_err(|error| error.to_string())?;
        if listing.devices.len() >= factory.carried().len() || clock.now() >= deadline {
            factory.stop();
            return Ok(listing);
        }
        clock.sleep(Duration::from_secs(1)).await;
    }
}
