//! What the controller takes for one unit, and for one gigabyte.
//!
//! The modules are instant: boots, erases and writes take them no time, so what a unit takes is the controller, the
//! ledger's and the vault's fsyncs on a real disk, the modules' own code, and what the controller waits for on
//! purpose. Simulator and controller have a runtime each, so that the kernel counts their CPU time apart.
//!
//! `cargo bench --bench unit`; its first argument, if it has one, is the number of units (11).

#![expect(clippy::print_stdout, reason = "its result is what it prints")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Bench, cpu_seconds, directory, median, print_machine, write_station};
use stationmaster::cli::prepare;
use stationmaster::controller::{Controller, Parts};
use stationmaster::domain::{Fact, Outcome, PlanSummary, RunRecord};
use stationmaster::host::{Clock, Disk, OsDisk, Random};
use stationmaster::ledger::{IndexPlace, Ledger, WriterMode};
use stationmaster::sim::{BusAction, Factory, FactorySpec, Pacing};
use stationmaster::vault::Vault;
use tokio::runtime::{Builder, Runtime};

const MODEL: (&str, &str) = ("RM500Q-GL", "RM500QGLABR11A06M4G_01.201.01.201");
const SIMULATOR: &str = "simulator";

/// What was measured.
struct Measured {
    records: Vec<RunRecord>,
    /// From the switch into download mode to the restart out of it, as the module saw it.
    sessions: Vec<Duration>,
    plan: Option<PlanSummary>,
    /// CPU seconds of the process, and of the simulator's threads in it.
    cpu: (f64, f64),
}

fn main() {
    let units = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(11);
    print_machine();
    let simulator = runtime(SIMULATOR);
    let controller = runtime("controller");
    // The first unit pays for what is made once; it is not counted.
    let small = measure(&simulator, &controller, 24, units + 1);
    report_units(&small);
    for megabytes in [24, 150] {
        let measured = measure(&simulator, &controller, megabytes, units);
        report_bytes(megabytes, &measured);
    }
}

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build().expect("a runtime")
}

fn measure(simulator: &Runtime, controller: &Runtime, megabytes: u32, units: u32) -> Measured {
    let root = directory(&format!("unit-{megabytes}"));
    let station =
        write_station(&root, &Bench { slots: 1, models: &[MODEL], megabytes, time_scale: 1, flash: "memory" });
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let station = Arc::new(prepare::station(disk.as_ref(), &station).unwrap_or_else(|errors| panic!("{errors}")));
    let products = prepare::products(&disk, &station, &station.state).expect("good packages");
    let clock = simulator.block_on(async { Clock::real() });
    let spec = prepare::factory(&station, &station.state, Some(units)).expect("a simulated station");
    let spec = FactorySpec { pacing: Pacing::Instant, ..spec };
    let factory = simulator
        .block_on(Factory::start(spec, clock.clone(), Arc::clone(&disk), Random::seeded(1)))
        .expect("a virtual factory");
    let before = cpu_seconds(SIMULATOR);
    let (records, sessions, plan) = controller.block_on(async {
        let place = station.state.join("ledger");
        let ledger = Ledger::open(Arc::clone(&disk), clock.clone(), place, WriterMode::Thread, IndexPlace::File).await;
        let ledger = ledger.expect("a new ledger");
        let controller = Controller::start(Parts {
            station: Arc::clone(&station),
            products,
            bus: factory.bus(),
            power: factory.power(),
            clock: clock.clone(),
            random: Random::from_host(),
            ledger: ledger.clone(),
            vault: Arc::new(Vault::new(Arc::clone(&disk), vault(&station.state))),
            simulated: true,
            batch: "BENCH".parse().expect("a batch name"),
            units: Some(units),
            wait: Duration::from_secs(60),
        });
        let controller = tokio::spawn(controller.await.expect("a controller").run());
        let seen = follow(&ledger, &factory, units).await;
        controller.await.expect("the controller does not panic").expect("the ledger works");
        ledger.close().await;
        seen
    });
    let after = cpu_seconds(SIMULATOR);
    factory.stop();
    Measured { records, sessions, plan, cpu: (after.0 - before.0, after.1 - before.1) }
}

fn vault(state: &Path) -> std::path::PathBuf {
    state.join("vault")
}

/// Tells the operator which units are finished, and looks at each before it is taken out.
async fn follow(
    ledger: &Ledger,
    factory: &Factory,
    units: u32,
) -> (Vec<RunRecord>, Vec<Duration>, Option<PlanSummary>) {
    let (mut records, mut sessions, mut plan) = (Vec::new(), Vec::new(), None);
    let (mut next, mut head) = (1, ledger.head());
    while records.len() < units as usize {
        for entry in ledger.read(next, 64).await.expect("the ledger can be read") {
            next = entry.seq + 1;
            match entry.fact {
                Fact::Intent { plan: summary, .. } => plan = Some(summary),
                Fact::RunFinished(record) => {
                    assert_eq!(record.outcome, Outcome::Pass, "{record:#?}");
                    let unit = factory.occupant(&record.slot).and_then(|unit| factory.unit(unit));
                    let events = unit.expect("the unit is still in its slot").events();
                    let switched = events.iter().position(|event| event.action == BusAction::EdlSwitch);
                    let switched = switched.expect("a unit that was flashed was in download mode");
                    let restarted = events[switched..].iter().find(|event| event.action == BusAction::Start);
                    sessions.push(restarted.expect("it was restarted").at - events[switched].at);
                    factory.operator().slot_done(&record.slot).await;
                    records.push(*record);
                }
                _ => {}
            }
        }
        if next > *head.borrow_and_update() && records.len() < units as usize {
            head.changed().await.expect("the ledger is open");
        }
    }
    (records, sessions, plan)
}

fn report_units(measured: &Measured) {
    let plan = measured.plan.as_ref().expect("a plan was announced");
    let bytes = measured.records.first().map_or(0, |record| record.bytes_written);
    println!(
        "\none unit on an instant device: {} erases, {} images, {:.1} MB, {} units",
        plan.erases.len(),
        plan.programs.len(),
        megabytes(bytes),
        measured.records.len() - 1
    );
    let row = |name: &str, values: &[f64]| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        println!("  {name:<34} median {:7.3} s   least {least:7.3}   most {most:7.3}", median(values));
    };
    let sessions: Vec<f64> = measured.sessions.iter().skip(1).map(Duration::as_secs_f64).collect();
    row("download mode, switch to restart", &sessions);
    for phase in stationmaster::domain::Phase::ALL {
        let seconds = |record: &RunRecord| {
            let times = record.phases.iter().filter(|time| time.phase == phase);
            Duration::from_millis(times.map(|time| time.milliseconds).sum()).as_secs_f64()
        };
        let values: Vec<f64> = measured.records.iter().skip(1).map(seconds).collect();
        row(&format!("  phase {phase}"), &values);
    }
}

fn report_bytes(size: u32, measured: &Measured) {
    let sent: u64 = measured.records.iter().map(|record| record.bytes_written).sum();
    let gigabytes = megabytes(sent) / 1000.0;
    let (all, simulator) = measured.cpu;
    println!(
        "\nCPU for {gigabytes:.2} GB in packages of {size} MiB: {all:.2} s, {:.2} s per GB; of it the simulator's threads \
         {:.2}, all others {:.2} s per GB",
        all / gigabytes,
        simulator / gigabytes,
        (all - simulator) / gigabytes
    );
}

#[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
