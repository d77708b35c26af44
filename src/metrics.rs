//! The Prometheus registry: what the line does, in numbers that can be added up.
//!
//! Two sources feed it. Durable facts move the counters ([`Metrics::apply`]), so that the counters and the reports
//! come from the same entries of the ledger; the slots' present state sets the gauges ([`Metrics::slots`]). Nothing
//! asks hardware or disk while a scrape waits.
//!
//! * Every label set that can be known is there from the start, at 0: `increase()` would miss the first event of a
//!   series that appears with it.
//! * No label holds an identity (IMEI, chip, batch, run) or a text from a device: `/metrics` may be read on a
//!   factory network, and the number of series stays bounded. A hub that the station file does not know is `other`.
//! * Counters begin at 0 with the process, as Prometheus expects. What the ledger holds from earlier processes is
//!   only [remembered](Metrics::remember), for the gauges that speak of a whole batch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::domain::{
    BatchId, Fact, FailureCode, Outcome, Phase, RunId, RunRecord, SlotName, SlotState, SlotStatus, StationName,
};

/// Upper bounds of the duration buckets, in seconds of station time: from an AT exchange to a whole flash.
const DURATION_BUCKETS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0];
/// The label of runs that no profile fitted.
const NO_PROFILE: &str = "none";
/// The label of a profile or a hub that the station file does not name (any more).
const OTHER: &str = "other";
/// The values of the label `attempt`.
const ATTEMPTS: [&str; 3] = ["first", "retest", "rework"];

/// What the labels of a station can be; from its configuration.
#[derive(Clone, Debug)]
pub struct MetricsLabels {
    /// The station.
    pub station: StationName,
    /// The controller's version.
    pub version: String,
    /// Whether the hardware is simulated.
    pub simulated: bool,
    /// How much faster than real the station's clock runs.
    pub time_scale: u32,
    /// The profiles it runs.
    pub profiles: Vec<ProfileLabels>,
    /// Every slot with the hub it hangs at, as its port chain or a name for it.
    pub slots: Vec<(String, SlotName)>,
}

/// What is told of a profile.
#[derive(Clone, Debug)]
pub struct ProfileLabels {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// The firmware revision that it requires.
    pub firmware: String,
    /// SHA-256 over its package.
    pub firmware_sha256: String,
}

/// Why the registry could not be made: two metrics of one name, or a name that Prometheus does not allow.
#[derive(Debug, thiserror::Error)]
#[error("a metric is not valid")]
pub struct MetricsError(#[from] prometheus::Error);

/// All metrics of a station.
pub struct Metrics {
    registry: Registry,
    /// Held for a whole update and for a whole scrape, so that no scrape sees half of a fact.
    state: Mutex<State>,
    profiles: BTreeSet<String>,
    hubs: BTreeMap<SlotName, String>,
    units: IntCounterVec,
    failures: IntCounterVec,
    interruptions: IntCounterVec,
    phase_seconds: HistogramVec,
    slots: IntGaugeVec,
    slot_units: IntCounterVec,
    slot_consecutive_failures: IntGaugeVec,
    written_bytes: IntCounterVec,
    disconnects: IntCounterVec,
    hub_events: IntCounterVec,
    permits: IntGaugeVec,
    permit_wait_seconds: HistogramVec,
    ledger_up: IntGauge,
    imei_duplicates: IntCounter,
    batch_units: IntGaugeVec,
    disk_free_bytes: IntGauge,
    tasks: IntGauge,
}

#[derive(Default)]
struct State {
    /// Where the runs that are not finished are.
    places: BTreeMap<RunId, SlotName>,
    /// Runs whose plan is done: their next checks come after a reset that the station asked for.
    flashed: BTreeSet<RunId>,
    /// Runs that are interrupted, with their batch.
    interrupted: BTreeSet<RunId>,
    batches: BTreeMap<RunId, BatchId>,
    batch: Option<BatchId>,
    results: BTreeMap<BatchId, BTreeMap<&'static str, i64>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("profiles", &self.profiles).field("hubs", &self.hubs).finish_non_exhaustive()
    }
}

/// The registry, while it is filled.
struct Maker(Registry);

impl Maker {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        let made = IntCounterVec::new(Opts::new(format!("stationmaster_{name}"), help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        let made = IntGaugeVec::new(Opts::new(format!("stationmaster_{name}"), help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        let made = IntGauge::new(format!("stationmaster_{name}"), help)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn seconds(&self, name: &str, help: &str, label: &str) -> Result<HistogramVec, MetricsError> {
        let options = HistogramOpts::new(format!("stationmaster_{name}"), help).buckets(DURATION_BUCKETS.to_vec());
        let made = HistogramVec::new(options, &[label])?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }
}

impl Metrics {
    /// A registry with every label set that the station can have, all at 0.
    ///
    /// # Errors
    /// [`MetricsError`] when the table of metrics below is wrong; never because of `labels`.
    pub fn new(labels: &MetricsLabels) -> Result<Self, MetricsError> {
        let make = Maker(Registry::new());
        info(&make, labels)?;
        let imei_duplicates = IntCounter::new(
            "stationmaster_imei_duplicates_total",
            "Claims refused because another chip has the same IMEI.",
        )?;
        make.0.register(Box::new(imei_duplicates.clone()))?;
        let metrics = Self {
            state: Mutex::default(),
            profiles: labels.profiles.iter().map(|profile| profile.name.clone()).collect(),
            hubs: labels.slots.iter().map(|(hub, slot)| (slot.clone(), hub.clone())).collect(),
            units: make.counters("units_total", "Finished runs.", &["profile", "outcome", "attempt"])?,
            failures: make.counters(
                "failures_total",
                "Finished runs that did not pass, by the phase in which they ended and why.",
                &["phase", "code"],
            )?,
            interruptions: make.counters(
                "interruptions_total",
                "Runs that stopped after their unit was changed, by why; they are resumed.",
                &["code"],
            )?,
            phase_seconds: make.seconds(
                "phase_duration_seconds",
                "Time of a finished run in a phase, in station time.",
                "phase",
            )?,
            slots: make.gauges("slots", "Slots by what they are doing.", &["state"])?,
            slot_units: make.counters("slot_units_total", "Finished runs by slot.", &["hub", "slot", "outcome"])?,
            slot_consecutive_failures: make.gauges(
                "slot_consecutive_failures",
                "FAIL and ERROR in a slot since its last PASS.",
                &["hub", "slot"],
            )?,
            written_bytes: make.counters(
                "usb_written_bytes_total",
                "Image bytes written to modules, counted when their runs finish.",
                &["hub"],
            )?,
            disconnects: make.counters(
                "usb_disconnects_total",
                "Modules that left the bus: expected when a run asked for it and went on, otherwise not.",
                &["hub", "expected"],
            )?,
            hub_events: make.counters("hub_events_total", "Hubs that vanished or came back.", &["hub", "event"])?,
            permits: make.gauges(
                "hub_flash_permits",
                "Runs that hold a bandwidth permit, or wait for one.",
                &["hub", "use"],
            )?,
            permit_wait_seconds: make.seconds(
                "hub_permit_wait_seconds",
                "Time that a finished run waited for bandwidth, in station time.",
                "hub",
            )?,
            ledger_up: make.gauge("ledger_up", "Whether the ledger takes facts.")?,
            imei_duplicates,
            batch_units: make.gauges(
                "batch_units",
                "Units of the batch under way, by outcome; interrupted ones are not finished.",
                &["result"],
            )?,
            disk_free_bytes: make.gauge("disk_free_bytes", "Free space on the disk of the state directory.")?,
            tasks: make.gauge("tasks", "Tasks of the controller that have not ended, when this was read.")?,
            registry: make.0,
        };
        metrics.begin_at_zero(labels);
        Ok(metrics)
    }

    /// Touches every label set, which makes it appear.
    fn begin_at_zero(&self, labels: &MetricsLabels) {
        let profiles = self.profiles.iter().map(String::as_str).chain([NO_PROFILE, OTHER]);
        for profile in profiles {
            for outcome in Outcome::ALL {
                for attempt in ATTEMPTS {
                    self.units.with_label_values(&[profile, outcome.as_str(), attempt]);
                }
            }
        }
        for phase in Phase::ALL {
            self.phase_seconds.with_label_values(&[phase.as_str()]);
            for code in FailureCode::ALL {
                self.failures.with_label_values(&[phase.as_str(), code.as_str()]);
            }
        }
        for code in FailureCode::ALL {
            self.interruptions.with_label_values(&[code.as_str()]);
        }
        for state in SlotState::ALL {
            self.slots.with_label_values(&[state.as_str()]);
        }
        for (hub, slot) in &labels.slots {
            self.slot_consecutive_failures.with_label_values(&[hub, slot.as_str()]);
            for outcome in Outcome::ALL {
                self.slot_units.with_label_values(&[hub.as_str(), slot.as_str(), outcome.as_str()]);
            }
        }
        for hub in self.hub_labels() {
            self.written_bytes.with_label_values(&[hub]);
            self.permit_wait_seconds.with_label_values(&[hub]);
            for (expected, event, usage) in [("false", "lost", "held"), ("true", "returned", "waiting")] {
                self.disconnects.with_label_values(&[hub, expected]);
                self.hub_events.with_label_values(&[hub, event]);
                self.permits.with_label_values(&[hub, usage]);
            }
        }
        for result in Outcome::ALL.map(Outcome::as_str).into_iter().chain(["interrupted"]) {
            self.batch_units.with_label_values(&[result]);
        }
    }

    fn hub_labels(&self) -> BTreeSet<&str> {
        self.hubs.values().map(String::as_str).chain([OTHER]).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a fact from before this process: the counters stay, the batch's gauges know it.
    pub fn remember(&self, fact: &Fact) {
        let mut state = self.state();
        state.take(fact);
        self.show_batch(&state);
    }

    /// Takes the next durable fact: the counters move.
    pub fn apply(&self, fact: &Fact) {
        let mut state = self.state();
        self.count(&state, fact);
        state.take(fact);
        self.show_batch(&state);
    }

    /// Takes the present state of all slots.
    pub fn slots(&self, all: &[SlotStatus]) {
        let _whole = self.state();
        let mut states: BTreeMap<&str, i64> = SlotState::ALL.iter().map(|state| (state.as_str(), 0)).collect();
        let mut permits: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for hub in self.hub_labels() {
            permits.extend([((hub, "held"), 0), ((hub, "waiting"), 0)]);
        }
        for status in all {
            *states.entry(status.state.as_str()).or_default() += 1;
            let usage = match (status.state, status.phase) {
                (SlotState::Running, Some(Phase::Permit)) => "waiting",
                (SlotState::Running, Some(phase)) if (Phase::EnterEdl..=Phase::Reset).contains(&phase) => "held",
                _ => continue,
            };
            *permits.entry((self.hub_of(Some(&status.slot)), usage)).or_default() += 1;
        }
        for (state, number) in states {
            self.slots.with_label_values(&[state]).set(number);
        }
        for ((hub, usage), number) in permits {
            self.permits.with_label_values(&[hub, usage]).set(number);
        }
    }

    /// Says whether the ledger takes facts.
    pub fn ledger_up(&self, is_up: bool) {
        self.ledger_up.set(i64::from(is_up));
    }

    /// Says how many bytes the disk of the state directory has left.
    pub fn disk_free_bytes(&self, bytes: u64) {
        self.disk_free_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Everything in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        // What is left behind by runs shows here first. Outside of a runtime there are none.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.set(i64::try_from(runtime.metrics().num_alive_tasks()).unwrap_or(i64::MAX));
        }
        let families = {
            let _whole = self.state();
            self.registry.gather()
        };
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!(%error, "the metrics cannot be encoded");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn count(&self, state: &State, fact: &Fact) {
        match fact {
            Fact::RunFinished(record) => self.count_record(record),
            Fact::RunInterrupted { run, code, .. } => {
                self.interruptions.with_label_values(&[code.as_str()]).inc();
                if is_disconnect(*code) {
                    self.count_disconnect(state.places.get(run), "false");
                }
            }
            // Only a module in normal mode is claimed, and it had to leave the bus to be read in download mode.
            Fact::Claimed { run, .. } => self.count_disconnect(state.places.get(run), "true"),
            Fact::Verified { run, .. } if state.flashed.contains(run) => {
                self.count_disconnect(state.places.get(run), "true");
            }
            Fact::ClaimRefused { code: FailureCode::ImeiDuplicate, .. } => self.imei_duplicates.inc(),
            Fact::HubLost { hub, .. } => {
                self.hub_events.with_label_values(&[self.known_hub(&hub.to_string()), "lost"]).inc();
            }
            Fact::HubReturned { hub } => {
                self.hub_events.with_label_values(&[self.known_hub(&hub.to_string()), "returned"]).inc();
            }
            _ => {}
        }
    }

    fn count_record(&self, record: &RunRecord) {
        let outcome = record.outcome.as_str();
        let attempt = match record.attempt {
            // What was repaired did not pass the first time.
            _ if record.flags.repaired => "rework",
            0 | 1 => "first",
            _ => "retest",
        };
        self.units.with_label_values(&[self.known_profile(&record.profile), outcome, attempt]).inc();
        if let Some(code) = record.code {
            self.failures.with_label_values(&[record.phase.as_str(), code.as_str()]).inc();
            if is_disconnect(code) {
                self.count_disconnect(Some(&record.slot), "false");
            }
        }
        let hub = self.hub_of(Some(&record.slot));
        for time in &record.phases {
            let seconds = std::time::Duration::from_millis(time.milliseconds).as_secs_f64();
            self.phase_seconds.with_label_values(&[time.phase.as_str()]).observe(seconds);
            if time.phase == Phase::Permit {
                self.permit_wait_seconds.with_label_values(&[hub]).observe(seconds);
            }
        }
        self.written_bytes.with_label_values(&[hub]).inc_by(record.bytes_written);
        if self.hubs.contains_key(&record.slot) {
            let slot = record.slot.as_str();
            self.slot_units.with_label_values(&[hub, slot, outcome]).inc();
            let in_a_row = self.slot_consecutive_failures.with_label_values(&[hub, slot]);
            match record.outcome {
                Outcome::Pass => in_a_row.set(0),
                Outcome::Fail | Outcome::Error => in_a_row.inc(),
                Outcome::Held | Outcome::Aborted => {}
            }
        }
    }

    fn count_disconnect(&self, slot: Option<&SlotName>, expected: &str) {
        self.disconnects.with_label_values(&[self.hub_of(slot), expected]).inc();
    }

    fn hub_of(&self, slot: Option<&SlotName>) -> &str {
        slot.and_then(|slot| self.hubs.get(slot)).map_or(OTHER, String::as_str)
    }

    fn known_hub<'a>(&'a self, hub: &str) -> &'a str {
        self.hubs.values().find(|known| *known == hub).map_or(OTHER, String::as_str)
    }

    fn known_profile<'a>(&'a self, name: &str) -> &'a str {
        match self.profiles.get(name) {
            Some(known) => known,
            None if name.is_empty() => NO_PROFILE,
            None => OTHER,
        }
    }

    fn show_batch(&self, state: &State) {
        let results = state.batch.as_ref().and_then(|batch| state.results.get(batch));
        for outcome in Outcome::ALL.map(Outcome::as_str) {
            let number = results.and_then(|results| results.get(outcome)).copied().unwrap_or_default();
            self.batch_units.with_label_values(&[outcome]).set(number);
        }
        let of_batch = |run: &&RunId| state.batches.get(run) == state.batch.as_ref();
        let interrupted = state.interrupted.iter().filter(of_batch).count();
        self.batch_units.with_label_values(&["interrupted"]).set(i64::try_from(interrupted).unwrap_or(i64::MAX));
    }
}

impl State {
    fn take(&mut self, fact: &Fact) {
        match fact {
            Fact::BatchOpened { batch, .. } => self.batch = Some(batch.clone()),
            Fact::RunStarted { run, batch, slot, .. } => {
                self.places.insert(*run, slot.clone());
                self.batches.insert(*run, batch.clone());
            }
            Fact::RunResumed { run, slot, .. } => {
                self.places.insert(*run, slot.clone());
                self.interrupted.remove(run);
            }
            Fact::RunInterrupted { run, .. } => {
                self.interrupted.insert(*run);
                self.flashed.remove(run);
            }
            Fact::Flashed { run, .. } => {
                self.flashed.insert(*run);
            }
            Fact::RunFinished(record) => {
                self.places.remove(&record.run);
                self.batches.remove(&record.run);
                self.flashed.remove(&record.run);
                self.interrupted.remove(&record.run);
                let results = self.results.entry(record.batch.clone()).or_default();
                *results.entry(record.outcome.as_str()).or_default() += 1;
            }
            _ => {}
        }
    }
}

/// Whether a failure means that the module left the bus unasked.
fn is_disconnect(code: FailureCode) -> bool {
    matches!(code, FailureCode::Unplugged | FailureCode::HubLost)
}

/// The metrics that never change: who this is and what it runs.
fn info(make: &Maker, labels: &MetricsLabels) -> Result<(), MetricsError> {
    make.gauges("build_info", "The controller's build; always 1.", &["version"])?
        .with_label_values(&[labels.version.as_str()])
        .set(1);
    let station = make.gauges(
        "station_info",
        "The station and each profile it runs; always 1.",
        &["station", "simulated", "profile", "profile_sha256", "firmware", "firmware_sha256"],
    )?;
    for profile in &labels.profiles {
        station
            .with_label_values(&[
                labels.station.as_str(),
                if labels.simulated { "true" } else { "false" },
                &profile.name,
                &profile.sha256,
                &profile.firmware,
                &profile.firmware_sha256,
            ])
            .set(1);
    }
    make.gauge("time_scale_ratio", "Station time per real time; 1 on real hardware.")?.set(labels.time_scale.into());
    Ok(())
}
