//! What follows the ledger while a station works: CSV, metrics, the screen, and the simulated line's operator.
//!
//! One task reads the ledger by sequence number and hands every entry to each of them. Nothing here can hold a slot
//! up, and nothing is told twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::display::Records;
use super::{prepare, report};
use crate::config::Station;
use crate::controller::{Handle, Product};
use crate::domain::{Fact, Outcome, SlotStatus};
use crate::host::{Clock, Disk};
use crate::ledger::{Entry, Ledger, LedgerError};
use crate::metrics::{Metrics, MetricsLabels, ProfileLabels};
use crate::report::{CsvWriter, Recorded, ReportError};
use crate::sim::OperatorHandle;

/// Entries taken at once.
const READ_ENTRIES: usize = 256;

/// The followers before the station works: up to date with what the ledger held at the start.
pub(crate) struct Projections {
    csv: CsvWriter,
    metrics: Arc<Metrics>,
    next: u64,
    disk: Arc<dyn Disk>,
    state: PathBuf,
}

/// The followers at work.
pub(crate) struct Following {
    task: JoinHandle<Result<(), String>>,
    stop: CancellationToken,
}

/// Whom the followers tell besides files and metrics.
pub(crate) struct Audience {
    pub(crate) handle: Handle,
    pub(crate) operator: Option<OperatorHandle>,
    pub(crate) records: Records,
}

impl Projections {
    /// Reads the whole ledger once: compares the reports with it, and remembers what the gauges need.
    ///
    /// # Errors
    /// A sentence for people: a report differs, or the disk refuses.
    pub(crate) async fn open(
        disk: &Arc<dyn Disk>,
        ledger: &Ledger,
        station: &Station,
        products: &[Product],
        clock: &Clock,
        places: (&Path, &Path),
    ) -> Result<Self, String> {
        let (state, reports) = places;
        prepare::place(disk.as_ref(), reports, "reports")?;
        let metrics = Metrics::new(&labels(station, products, clock)).map_err(|error| error.to_string())?;
        metrics.ledger_up(true);
        let mut this = Self {
            csv: CsvWriter::new(Arc::clone(disk), reports.to_path_buf()),
            metrics: Arc::new(metrics),
            next: 1,
            disk: Arc::clone(disk),
            state: state.to_path_buf(),
        };
        loop {
            let entries = ledger.read(this.next, READ_ENTRIES).await.map_err(|error| error.to_string())?;
            if entries.is_empty() {
                break;
            }
            for entry in &entries {
                this.metrics.remember(&entry.fact);
            }
            this.write(entries).await?;
        }
        this.csv.settle().map_err(|error| told(&error, state))?;
        Ok(this)
    }

    /// The metrics, for the server.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    async fn write(&mut self, entries: Vec<Entry>) -> Result<(), String> {
        let count = entries.len() as u64;
        let placeholder = CsvWriter::new(Arc::clone(&self.disk), PathBuf::new());
        let mut csv = std::mem::replace(&mut self.csv, placeholder);
        let written = tokio::task::spawn_blocking(move || {
            let result = entries.iter().try_for_each(|entry| csv.follow(&Recorded::from(entry)));
            (csv, result)
        })
        .await;
        let (csv, result) = written.map_err(|error| format!("the report's writer failed: {error}"))?;
        self.csv = csv;
        self.next += count;
        result.map_err(|error| told(&error, &self.state))
    }

    /// Follows the ledger from here on.
    pub(crate) fn follow(mut self, ledger: Ledger, audience: Audience) -> Following {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut slots = audience.handle.slots();
            let mut head = ledger.head();
            let mut broken = None;
            loop {
                // Read before looking for the end: what was appended before the stop is still taken.
                let is_last = stopped.is_cancelled();
                match self.catch_up(&ledger, &audience).await {
                    Ok(()) => {}
                    Err(why) => broken = broken.or(Some(why)),
                }
                if is_last {
                    return broken.map_or(Ok(()), Err);
                }
                tokio::select! {
                    biased;
                    () = stopped.cancelled() => {}
                    // A ledger that has ended grows no more; the stop is still to come.
                    _ = head.changed(), if head.has_changed().is_ok() => {}
                    _ = slots.changed() => {
                        let now: Arc<Vec<SlotStatus>> = Arc::clone(&slots.borrow_and_update());
                        self.metrics.slots(&now);
                    }
                }
            }
        });
        Following { task, stop }
    }

    async fn catch_up(&mut self, ledger: &Ledger, audience: &Audience) -> Result<(), String> {
        loop {
            let entries = ledger.read(self.next, READ_ENTRIES).await.map_err(|error: LedgerError| {
                self.metrics.ledger_up(false);
                error.to_string()
            })?;
            if entries.is_empty() {
                return Ok(());
            }
            let facts: Vec<Fact> = entries.iter().map(|entry| entry.fact.clone()).collect();
            // The file first: who sees a count in the metrics finds the row.
            let written = self.write(entries).await;
            for fact in &facts {
                self.metrics.apply(fact);
            }
            if let Ok(free) = self.disk.free_bytes(&self.state) {
                self.metrics.disk_free_bytes(free);
            }
            for fact in &facts {
                if let Fact::RunFinished(record) = fact {
                    audience.records.tell(record);
                    // The unit of an aborted run stays, or comes back, and is run again.
                    if record.outcome != Outcome::Aborted
                        && let Some(operator) = &audience.operator
                    {
                        operator.slot_done(&record.slot).await;
                    }
                }
            }
            written?;
        }
    }
}

impl Following {
    /// Takes everything that the ledger holds, and ends.
    ///
    /// # Errors
    /// Why a report could not be written.
    pub(crate) async fn finish(self) -> Result<(), String> {
        self.stop.cancel();
        self.task.await.unwrap_or_else(|error| Err(format!("the reports' follower failed: {error}")))
    }
}

/// Why a report could not be written, and what to do about it.
fn told(error: &ReportError, state: &Path) -> String {
    match error {
        ReportError::Differs { path, batch, .. } => format!("{error}\n{}", report::instead(batch, state, path)),
        error => error.to_string(),
    }
}

fn labels(station: &Station, products: &[Product], clock: &Clock) -> MetricsLabels {
    MetricsLabels {
        station: station.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        simulated: station.simulation.is_some(),
        time_scale: clock.scale(),
        profiles: products
            .iter()
            .map(|product| ProfileLabels {
                name: product.profile.name.clone(),
                sha256: product.profile.digest.to_string(),
                firmware: product.profile.checks.revision.to_string(),
                firmware_sha256: product.package.digest().to_string(),
            })
            .collect(),
        slots: station
            .slots
            .iter()
            .map(|slot| {
                let hub = slot.usb2.hub().unwrap_or_else(|| slot.usb2.clone());
                (hub.to_string(), slot.name.clone())
            })
            .collect(),
    }
}
