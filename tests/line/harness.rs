//! A whole station in virtual time: the virtual factory, the controller, ledger and vault on a disk in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stationmaster::cli::prepare;
use stationmaster::cli::trace::Traces;
use stationmaster::config::{PowerKind, Station};
use stationmaster::controller::{Controller, End, Handle, Parts, Product, Task};
use stationmaster::domain::{BatchId, Fact, Outcome, RunRecord};
use stationmaster::hardware::{Bus, Listing, NoPower};
use stationmaster::host::{Clock, Disk, MemoryDisk, OsDisk, Random};
use stationmaster::ledger::{self, Entry, IndexPlace, Ledger, LedgerError, WriterMode};
use stationmaster::sim::{Factory, FactorySpec, Flash, Pacing};
use tokio::task::JoinHandle;

/// When virtual time begins.
pub(crate) const START: &str = "2026-01-01T08:00:00Z";

/// Everything that survives the controller, as it does when its process dies and the modules keep their power.
pub(crate) struct Line {
    pub(crate) station: Arc<Station>,
    pub(crate) disk: Arc<dyn Disk>,
    /// Where on it the controller keeps its ledger and its backups.
    pub(crate) state: PathBuf,
    pub(crate) clock: Clock,
    pub(crate) factory: Arc<Factory>,
    pub(crate) products: Vec<Product>,
    /// What the controller sees in place of the factory's own bus.
    pub(crate) bus: Option<Arc<dyn Bus>>,
    /// What writes down what goes over the wires, where anything does.
    pub(crate) traces: Option<Traces>,
}

/// A controller at work on a line.
pub(crate) struct Work {
    pub(crate) ledger: Ledger,
    pub(crate) handle: Handle,
    run: JoinHandle<Result<End, ledger::LedgerError>>,
    operator: JoinHandle<()>,
    /// How far the operator has been told.
    told: Arc<AtomicU64>,
}

/// Looks on while a line works: is given every durable entry with the factory and its bus as they are then, before the
/// operator is told.
pub(crate) type Witness = Box<dyn FnMut(&Factory, &Listing, &Entry) + Send>;

/// A station file of the tree, with `change` made to its text.
pub(crate) fn station(file: &str, change: impl FnOnce(String) -> String) -> Arc<Station> {
    station_with(file, change, |profile| profile)
}

/// The same with packages of so many MiB.
pub(crate) fn station_of(file: &str, megabytes: u32, change: impl FnOnce(String) -> String) -> Arc<Station> {
    let sized = format!("megabytes: {megabytes}");
    station_with(file, change, move |profile| profile.replace("megabytes: 3", &sized))
}

/// The same with `change_profile` made to the text of every profile.
pub(crate) fn station_with(
    file: &str,
    change: impl FnOnce(String) -> String,
    change_profile: impl Fn(String) -> String,
) -> Arc<Station> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = OsDisk::new().read(&root.join(file), 1 << 20).expect("the station file is in the tree");
    let disk = MemoryDisk::new();
    for directory in ["profiles", "stations"] {
        disk.create_dir_all(Path::new(directory)).expect("a directory in memory");
        for entry in OsDisk::new().list(&root.join(directory)).expect("a directory of the tree") {
            if entry.name.ends_with(".yaml") {
                let bytes = OsDisk::new().read(&root.join(directory).join(&entry.name), 1 << 20).expect("a file");
                // Small packages: what is tested does not grow with them.
                let small = String::from_utf8(bytes).expect("UTF-8").replace("megabytes: 24", "megabytes: 3");
                let small = if directory == "profiles" { change_profile(small) } else { small };
                disk.replace(&Path::new(directory).join(&entry.name), small.as_bytes(), true).expect("in memory");
            }
        }
    }
    let text = change(String::from_utf8(text).expect("UTF-8"));
    disk.replace(Path::new(file), text.as_bytes(), true).expect("in memory");
    load(&disk, Path::new(file))
}

/// The demo station with two of its slots, for lines on which more would only take time.
pub(crate) fn two_slots(text: String) -> String {
    text.lines()
        .filter(|line| {
            !line.trim_start().starts_with("- { name:") || line.contains("name: A1") || line.contains("name: A2")
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

fn load(disk: &dyn Disk, path: &Path) -> Arc<Station> {
    match prepare::station(disk, path) {
        Ok(station) => Arc::new(station),
        Err(errors) => panic!("{errors}"),
    }
}

fn specification(station: &Station, units: u32) -> FactorySpec {
    let spec = prepare::factory(station, Path::new("state"), Some(units)).expect("a simulated station");
    FactorySpec { flash: Flash::Memory, ..spec }
}

impl Line {
    /// A line whose operator puts in `units` units.
    pub(crate) async fn new(station: Arc<Station>, units: u32) -> Self {
        Self::on(Arc::new(MemoryDisk::new()), station, units).await
    }

    /// The same on a given disk.
    pub(crate) async fn on(disk: Arc<dyn Disk>, station: Arc<Station>, units: u32) -> Self {
        Self::paced(disk, station, units, Pacing::Real).await
    }

    /// A line whose modules take no time for anything.
    pub(crate) async fn instant(station: Arc<Station>, units: u32) -> Self {
        Self::paced(Arc::new(MemoryDisk::new()), station, units, Pacing::Instant).await
    }

    /// A line with packages that are open already, on a disk of its own.
    pub(crate) async fn with(products: &[Product], station: &Arc<Station>, disk: Arc<dyn Disk>, units: u32) -> Self {
        let spec = specification(station, units);
        Self::of(disk, Arc::clone(station), products.to_vec(), spec).await
    }

    async fn paced(disk: Arc<dyn Disk>, station: Arc<Station>, units: u32, pacing: Pacing) -> Self {
        let products = prepare::products(&disk, &station, Path::new("state")).expect("good packages");
        let spec = FactorySpec { pacing, ..specification(&station, units) };
        Self::of(disk, station, products, spec).await
    }

    async fn of(disk: Arc<dyn Disk>, station: Arc<Station>, products: Vec<Product>, spec: FactorySpec) -> Self {
        let clock = Clock::simulated(START.parse().expect("a timestamp"));
        let factory = Factory::start(spec, clock.clone(), Arc::clone(&disk), Random::seeded(1));
        let factory = factory.await.expect("a virtual factory");
        let state = PathBuf::from("state");
        Self { station, disk, state, clock, factory: Arc::new(factory), products, bus: None, traces: None }
    }

    /// Puts a controller to work.
    pub(crate) async fn work(&self, batch: &str, units: u32) -> Work {
        self.work_before(batch, units, Box::new(|_, _, _| {})).await
    }

    /// Puts a controller to work before the eyes of a witness.
    pub(crate) async fn work_before(&self, batch: &str, units: u32, witness: Witness) -> Work {
        self.work_for(batch, units, Task::Line, witness).await
    }

    /// Puts a controller to work for something else than the line's work.
    pub(crate) async fn work_for(&self, batch: &str, units: u32, task: Task, witness: Witness) -> Work {
        self.start(batch, units, task, witness).await.expect("a ledger and a controller")
    }

    /// Puts a controller to work on a disk that may fail.
    pub(crate) async fn try_work(&self, batch: &str, units: u32) -> Result<Work, LedgerError> {
        self.start(batch, units, Task::Line, Box::new(|_, _, _| {})).await
    }

    async fn start(&self, batch: &str, units: u32, task: Task, witness: Witness) -> Result<Work, LedgerError> {
        let ledger = Ledger::open(
            Arc::clone(&self.disk),
            self.clock.clone(),
            self.state.join("ledger"),
            WriterMode::Inline,
            IndexPlace::Memory,
        )
        .await?;
        if let Some(traces) = &self.traces {
            traces.follow(&ledger);
        }
        let parts = Parts {
            station: Arc::clone(&self.station),
            products: self.products.clone(),
            bus: match (&self.bus, &self.traces) {
                (Some(bus), _) => Arc::clone(bus),
                (None, Some(traces)) => traces.bus(),
                (None, None) => self.factory.bus(),
            },
            power: match (&self.traces, self.station.power) {
                (Some(traces), _) => traces.power(),
                (None, PowerKind::Hub) => self.factory.power(),
                (None, PowerKind::None) => Arc::new(NoPower),
            },
            clock: self.clock.clone(),
            random: Random::seeded(2),
            ledger: ledger.clone(),
            vault: Arc::new(prepare::vault(&self.disk, &self.station, &self.state)),
            simulated: true,
            batch: batch.parse().expect("a batch name"),
            units: Some(units),
            wait: Duration::from_secs(600),
        };
        let controller = match Controller::start_for(parts, task).await {
            Ok(controller) => controller,
            Err(error) => {
                ledger.close().await;
                return Err(error);
            }
        };
        let handle = controller.handle();
        let told = Arc::new(AtomicU64::new(*ledger.head().borrow()));
        let operator = tell_operator(ledger.clone(), Arc::clone(&self.factory), Arc::clone(&told), witness);
        let operator = tokio::spawn(operator);
        Ok(Work { ledger, handle, run: tokio::spawn(controller.run()), operator, told })
    }

    /// Runs a batch to its end; the entries of the ledger.
    pub(crate) async fn run(&self, batch: &str, units: u32) -> (End, Vec<Entry>) {
        self.work(batch, units).await.end(self).await
    }

    /// Appends a fact while no controller works.
    pub(crate) async fn append(&self, fact: Fact) {
        let directory = self.state.join("ledger");
        let (disk, clock) = (Arc::clone(&self.disk), self.clock.clone());
        let ledger = Ledger::open(disk, clock, directory, WriterMode::Inline, IndexPlace::Memory).await;
        let ledger = ledger.expect("a ledger");
        ledger.append(fact).await.expect("durable");
        ledger.close().await;
    }

    /// Everything in the ledger.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        ledger::read_all(self.disk.as_ref(), &self.state.join("ledger"), |entry| entries.push(entry))
            .expect("an unbroken ledger");
        entries
    }

    /// Verifies the ledger as `verify` does.
    pub(crate) fn verify(&self) {
        let report = ledger::verify(self.disk.as_ref(), &self.state.join("ledger")).expect("a ledger");
        assert_eq!(report.difference, None);
    }
}

impl Work {
    /// Waits for the end of the batch, within a day of virtual time.
    pub(crate) async fn end(self, line: &Line) -> (End, Vec<Entry>) {
        let (end, entries) = self.end_within(line, Duration::from_secs(24 * 3600)).await;
        (end.unwrap_or_else(|| panic!("the batch does not end: {:#?}", tail(&entries))), entries)
    }

    /// Waits for the end of the batch, for at most `limit` of virtual time; `None` when it did not come.
    pub(crate) async fn end_within(self, line: &Line, limit: Duration) -> (Option<End>, Vec<Entry>) {
        let Self { ledger, run, operator, told, .. } = self;
        let ended = line.clock.timeout(limit, run).await.ok();
        let end = ended.map(|end| end.expect("the controller does not panic").expect("the ledger works"));
        while told.load(Ordering::Relaxed) < *ledger.head().borrow() {
            line.clock.sleep(Duration::from_millis(10)).await;
        }
        // Finished units are taken out before anybody goes on.
        line.clock.sleep(Duration::from_secs(10)).await;
        operator.abort();
        if let Some(traces) = &line.traces {
            traces.finish(&ledger).await;
        }
        ledger.close().await;
        (end, line.entries())
    }

    /// Waits until the controller has ended, on a disk that may fail, for at most `limit` of virtual time; `None` when it
    /// did not. `tell` is given all entries that are acknowledged, as long as they can be read.
    pub(crate) async fn outcome(
        self,
        line: &Line,
        limit: Duration,
        tell: impl FnOnce(Vec<Entry>),
    ) -> Option<Result<End, LedgerError>> {
        let Self { ledger, run, operator, .. } = self;
        let ended = line.clock.timeout(limit, run).await.ok();
        if let Ok(entries) = ledger.read(1, 10_000).await {
            tell(entries);
        }
        operator.abort();
        let _ended = operator.await;
        ledger.close().await;
        ended.map(|end| end.expect("the controller does not panic"))
    }

    /// Ends the controller as a crash does: nothing is said any more, nothing is cleaned up.
    pub(crate) async fn kill(self) {
        self.run.abort();
        let _cancelled = self.run.await;
        self.operator.abort();
        self.ledger.close().await;
    }
}

fn tail(entries: &[Entry]) -> Vec<String> {
    entries.iter().rev().take(20).map(|entry| format!("{} {:?}", entry.seq, entry.fact)).collect()
}

async fn tell_operator(ledger: Ledger, factory: Arc<Factory>, told: Arc<AtomicU64>, mut witness: Witness) {
    let mut head = ledger.head();
    let bus = factory.bus();
    loop {
        while let Ok(entries) = ledger.read(told.load(Ordering::Relaxed) + 1, 64).await {
            if entries.is_empty() {
                break;
            }
            for entry in &entries {
                let listing = bus.list().await.expect("a simulated bus can be listed");
                witness(&factory, &listing, entry);
                if let Fact::RunFinished(record) = &entry.fact
                    && record.outcome != Outcome::Aborted
                {
                    factory.operator().slot_done(&record.slot).await;
                }
                told.store(entry.seq, Ordering::Relaxed);
            }
        }
        if head.changed().await.is_err() {
            return;
        }
    }
}

/// The records of all finished runs of a batch.
pub(crate) fn records(entries: &[Entry], batch: &str) -> Vec<RunRecord> {
    let batch: BatchId = batch.parse().expect("a batch name");
    entries
        .iter()
        .filter_map(|entry| match &entry.fact {
            Fact::RunFinished(record) if record.batch == batch => Some((**record).clone()),
            _ => None,
        })
        .collect()
}

/// What every run must look like in a ledger, whatever happened: exactly one end, and nothing destructive announced
/// without its backup.
pub(crate) fn assert_sound(line: &Line, entries: &[Entry]) {
    assert_sound_but(line, entries, 0);
}

/// The same where so many runs are left open.
pub(crate) fn assert_sound_but(line: &Line, entries: &[Entry], left_open: usize) {
    line.verify();
    let (mut begun, mut backups) = (BTreeMap::new(), BTreeMap::new());
    for entry in entries {
        match &entry.fact {
            Fact::RunStarted { run, .. } => assert_eq!(begun.insert(*run, 0), None, "run {run} began twice"),
            Fact::BackupStored { run, backup } | Fact::BackupChosen { run, backup, .. } => {
                backups.entry(*run).or_insert_with(Vec::new).push((backup.id, backup.chip));
            }
            Fact::Intent { run, chip, backup, .. } => {
                let own = backups.get(run).is_some_and(|own| own.contains(&(*backup, *chip)));
                assert!(own, "run {run} goes on without its own backup");
            }
            Fact::RunFinished(record) => {
                *begun.get_mut(&record.run).expect("a finished run has begun") += 1;
            }
            _ => {}
        }
    }
    let open = begun.values().filter(|ends| **ends == 0).count();
    assert_eq!(open, left_open, "runs without an end: {begun:?}");
    for (run, ends) in begun {
        assert!(ends <= 1, "run {run} has {ends} ends");
    }
}

/// Waits until the ledger has a fact.
pub(crate) async fn until_fact(line: &Line, work: &Work, wanted: impl Fn(&Fact) -> bool) {
    let deadline = line.clock.now() + Duration::from_secs(3600);
    loop {
        let entries = work.ledger.read(1, 10_000).await.expect("a ledger");
        if entries.iter().any(|entry| wanted(&entry.fact)) {
            return;
        }
        assert!(line.clock.now() < deadline, "{entries:#?}");
        line.clock.sleep(Duration::from_millis(100)).await;
    }
}
