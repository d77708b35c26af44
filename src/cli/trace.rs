//! `--trace`: the recorder of traces, wired to a station.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::task::AbortOnDropHandle;

use super::prepare;
use crate::config::{HardwareKind, Station};
use crate::controller::Product;
use crate::hardware::{Bus, SlotPower};
use crate::host::{Clock, Disk};
use crate::ledger::Ledger;
use crate::trace::{Mode, Recorder, Setup, TracedSlot};

/// Entries of the ledger that are read at once.
const READ_ENTRIES: usize = 256;

/// How often the end looks whether the last facts were told.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(5);

/// What the command line says of traces.
#[derive(Debug, Default, clap::Args)]
pub struct TraceArguments {
    /// Write down what goes over the wires, a file for each run, for `sim replay`; docs/traces.md says what is in it
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
    /// Keep what was read of the modules beside the traces, calibration included; such files must not be passed on
    #[arg(long, requires = "trace")]
    pub trace_payloads: bool,
}

/// The traces of a station at work; without a recorder, the bare hardware.
#[derive(Debug)]
pub struct Traces {
    hardware: (Arc<dyn Bus>, Arc<dyn SlotPower>),
    recorder: Option<Arc<Recorder>>,
    follower: std::sync::Mutex<Option<AbortOnDropHandle<()>>>,
    told: Arc<AtomicU64>,
}

impl Traces {
    /// Starts the recorder, where one is asked for.
    ///
    /// # Errors
    /// A sentence for people, when there is no place for traces.
    pub fn start(
        arguments: &TraceArguments,
        made_of: (&Station, &[Product]),
        disk: &Arc<dyn Disk>,
        clock: &Clock,
        hardware: (Arc<dyn Bus>, Arc<dyn SlotPower>),
    ) -> Result<Self, String> {
        Self::start_in(Mode::Thread, arguments, made_of, disk, clock, hardware)
    }

    /// The same with the writer where `mode` says.
    ///
    /// # Errors
    /// As [`Traces::start`].
    pub fn start_in(
        mode: Mode,
        arguments: &TraceArguments,
        (station, products): (&Station, &[Product]),
        disk: &Arc<dyn Disk>,
        clock: &Clock,
        hardware: (Arc<dyn Bus>, Arc<dyn SlotPower>),
    ) -> Result<Self, String> {
        let recorder = match &arguments.trace {
            None => None,
            Some(directory) => {
                let setup = Setup {
                    station: station.name.clone(),
                    config: station.digest,
                    simulated: station.hardware == HardwareKind::Simulated,
                    seed: station.simulation.as_ref().map(|simulation| simulation.seed),
                    profiles: products
                        .iter()
                        .map(|product| (&product.profile, product.package.digest()))
                        .map(|(profile, package)| (profile.name.clone(), (profile.digest, package)))
                        .collect(),
                    slots: station
                        .slots
                        .iter()
                        .map(|slot| TracedSlot { name: slot.name.clone(), chains: slot.chains().cloned().collect() })
                        .collect(),
                    directory: directory.clone(),
                    payloads: arguments.trace_payloads,
                };
                let hardware = (Arc::clone(&hardware.0), Arc::clone(&hardware.1));
                let recorder = Recorder::start(setup, Arc::clone(disk), clock.clone(), hardware, mode);
                let refuse = |error| {
                    let why = prepare::no_directory(&error);
                    format!(
                        "error: --trace {}: {why}\nhelp: name a directory that can be written to",
                        directory.display()
                    )
                };
                Some(Arc::new(recorder.map_err(refuse)?))
            }
        };
        Ok(Self { hardware, recorder, follower: std::sync::Mutex::new(None), told: Arc::default() })
    }

    /// The bus for the controller.
    #[must_use]
    pub fn bus(&self) -> Arc<dyn Bus> {
        self.recorder.as_ref().map_or_else(|| Arc::clone(&self.hardware.0), |recorder| recorder.bus())
    }

    /// The supply for the controller.
    #[must_use]
    pub fn power(&self) -> Arc<dyn SlotPower> {
        self.recorder.as_ref().map_or_else(|| Arc::clone(&self.hardware.1), |recorder| recorder.power())
    }

    /// Tells the recorder every fact from here on. Must be called inside a runtime.
    pub fn follow(&self, ledger: &Ledger) {
        let Some(recorder) = self.recorder.clone() else { return };
        let (ledger, told) = (ledger.clone(), Arc::clone(&self.told));
        told.store(*ledger.head().borrow(), Ordering::Relaxed);
        let task = tokio::spawn(async move {
            let mut head = ledger.head();
            loop {
                catch_up(&recorder, &ledger, &told).await;
                if head.changed().await.is_err() {
                    return;
                }
            }
        });
        *self.follower.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(AbortOnDropHandle::new(task));
    }

    /// Writes what is left, and ends the traces of runs that are not finished.
    pub async fn finish(&self, ledger: &Ledger) {
        let Some(recorder) = &self.recorder else { return };
        let follower = self.follower.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(follower) = follower {
            let head = *ledger.head().borrow();
            while self.told.load(Ordering::Relaxed) < head && !follower.is_finished() {
                Clock::real().sleep(LOOK_AGAIN).await;
            }
        }
        recorder.finish().await;
    }
}

async fn catch_up(recorder: &Recorder, ledger: &Ledger, told: &AtomicU64) {
    loop {
        let next = told.load(Ordering::Relaxed) + 1;
        let entries = match ledger.read(next, READ_ENTRIES).await {
            Ok(entries) if entries.is_empty() => return,
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, "traces miss facts");
                told.store(*ledger.head().borrow(), Ordering::Relaxed);
                return;
            }
        };
        for entry in entries {
            recorder.fact(&entry.fact).await;
            told.store(entry.seq, Ordering::Relaxed);
        }
    }
}
