//! What changes a unit without a programmer: the orders over AT, and what is written over DIAG. Each of them is cut off in
//! every way in which a factory cuts things off, at its beginning, at its end and at moments in between. The moments are
//! not chosen by hand: they divide what it took in a run that nobody disturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stationmaster::cli::prepare;
use stationmaster::config::Station;
use stationmaster::controller::{End, Product, Task};
use stationmaster::domain::{BackupKind, Condition, Cure, Fact, RunId, SlotName};
use stationmaster::host::{Disk, MemoryDisk};
use stationmaster::ledger::Entry;
use stationmaster::report::{Recorded, Summary};
use stationmaster::sim::UnitTruth;

use crate::harness::{Line, Work, assert_sound, records, station_with, two_slots};
use crate::repair::{KINDS, REPAIRED, UNIT, end, items, out_and_in, put_in, run};
use crate::xqcn::kept;

/// Station time within which everything that is waited for happens.
const PATIENCE: Duration = Duration::from_secs(1800);
const BATCH: &str = "CUT";
/// Moments at which each is cut off.
const MOMENTS: u32 = 5;

/// What is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// `AT+CFUN=1`, to a module that is stuck in its mode.
    LeaveMode,
    /// `AT+QPRTPARA=3`, to a module without calibration and without a backup.
    OwnCopy,
    /// A restore over DIAG.
    OverDiag,
}

/// How.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    Unplug,
    /// For longer than any start takes.
    Gone,
    Power,
    Kill,
    Hub,
}

const CUTS: [Cut; 5] = [Cut::Unplug, Cut::Gone, Cut::Power, Cut::Kill, Cut::Hub];

impl What {
    fn begins(self, fact: &Fact) -> bool {
        match (self, fact) {
            (Self::LeaveMode, Fact::Cure { cure, .. }) => *cure == Cure::LeaveMode,
            (Self::OwnCopy, Fact::Cure { cure, .. }) => *cure == Cure::OwnCopy,
            (Self::OverDiag, Fact::RestoreIntent { ranges, .. }) => ranges.is_empty(),
            _ => false,
        }
    }

    /// In which of the ways it is cut off at one moment, counted from the one whose turn it is: in all of them, or so that
    /// each comes at two moments, where each unit has to be run once before.
    fn ways(self) -> Vec<usize> {
        match self {
            Self::LeaveMode => (0..CUTS.len()).collect(),
            Self::OwnCopy | Self::OverDiag => vec![0, 2],
        }
    }

    /// The fact after which nothing of it is left to be done.
    fn ends(self, fact: &Fact) -> bool {
        match self {
            Self::LeaveMode | Self::OwnCopy => matches!(fact, Fact::Intent { .. }),
            Self::OverDiag => matches!(fact, Fact::Restored { .. }),
        }
    }
}

struct Bench {
    what: What,
    station: Arc<Station>,
    products: Vec<Product>,
}

impl Bench {
    fn new(what: What) -> Self {
        let stuck = "  faults:\n    - { fault: mode-stuck, unit: 7 }\n";
        let faults = if what == What::LeaveMode { stuck } else { "" };
        let guard = if what == What::OverDiag { "guard: raw+xqcn\n" } else { "" };
        let profile = |profile: String| match profile.contains("\nrework:") {
            true => profile,
            false => format!("{profile}\nrework: {{}}\n{guard}"),
        };
        let station = station_with("stations/demo.yaml", |text| format!("{}{faults}", two_slots(text)), profile);
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let products = prepare::products(&disk, &station, Path::new("state")).expect("good packages");
        Self { what, station, products }
    }

    /// A line with a unit that comes to be repaired so, and what it held when it was well.
    async fn line(&self) -> (Line, UnitTruth, BTreeMap<String, Vec<u8>>) {
        let line = Line::with(&self.products, &self.station, Arc::new(MemoryDisk::new()), 0).await;
        let unit = put_in(&line, UNIT, KINDS[1], "A1");
        let before = kept(&unit);
        if self.what != What::LeaveMode {
            run(&line, "FIRST").await;
            let lost = |id: &str| match self.what {
                What::OverDiag => of_pages(&line.entries()).iter().any(|raw| id.contains(raw.as_str())),
                _ => true,
            };
            let directory = PathBuf::from("state/vault").join(unit.identity().chip.to_string());
            for entry in line.disk.list(&directory).expect("it has backups").iter().filter(|entry| lost(&entry.name)) {
                line.disk.remove(&directory.join(&entry.name)).expect("a file");
            }
            out_and_in(&line, &unit, "A1", |unit| match self.what {
                What::OverDiag => unit.lose_efs(),
                _ => unit.lose_calibration().expect("its storage works"),
            });
        }
        (line, unit, before)
    }

    /// How long it takes where nobody disturbs it.
    async fn takes(&self) -> Duration {
        let (line, ..) = self.line().await;
        let work = line.work(BATCH, 1).await;
        until(&line, &work, |fact| self.what.begins(fact)).await;
        let began = line.clock.now();
        until(&line, &work, |fact| self.what.ends(fact)).await;
        let took = line.clock.now() - began;
        let (end, _) = work.end_within(&line, PATIENCE).await;
        assert_eq!(end, Some(End::Complete));
        took
    }

    async fn case(&self, cut: Cut, after: Duration) {
        let what = format!("{:?} {cut:?} after {after:?}", self.what);
        let (line, unit, before) = self.line().await;
        let imei = unit.identity().imei.to_string();
        let mut work = line.work(BATCH, 1).await;
        until(&line, &work, |fact| self.what.begins(fact)).await;
        line.clock.sleep(after).await;
        let run = of_last(&line.entries());
        work = cut_off(&line, work, cut).await;
        let (end_of_batch, entries) = work.end_within(&line, PATIENCE).await;
        assert_eq!(end_of_batch, Some(End::Complete), "{what}: {entries:#?}");
        assert_sound(&line, &entries);
        let [record] = records(&entries, BATCH).try_into().unwrap_or_else(|runs| panic!("{what}: one run: {runs:#?}"));
        assert_eq!(end(&record), REPAIRED, "{what}: {record:#?}");
        assert_eq!((record.run, record.boots_verified), (run, 2), "{what}");
        let is_of_run = |entry: &&Entry| entry.fact.run() == Some(run);
        let of_run: Vec<&Fact> = entries.iter().filter(is_of_run).map(|entry| &entry.fact).collect();
        let was_resumed = of_run.iter().any(|fact| matches!(fact, Fact::RunResumed { .. }));
        assert_eq!(record.flags.resumed, was_resumed, "{what}: {of_run:#?}");
        assert!(record.detail.contains("arrived with"), "{what}: {}", record.detail);
        let found = record.diagnosis.as_ref().map(|found| found.condition);
        let expected = if self.what == What::LeaveMode { Condition::ModeStuck } else { Condition::EfsLost };
        assert_eq!(found, Some(expected), "{what}");
        // It has passed, and not at the first go.
        let mut summary = Summary::new(BATCH.parse().expect("a batch name"));
        entries.iter().for_each(|entry| summary.follow(&Recorded::from(entry)));
        assert!(summary.is_all_well(), "{what}");
        assert!(summary.first_pass_yield().is_none_or(|ratio| ratio == 0.0), "{what}");
        let own_copies = of_run.iter().filter(|fact| matches!(fact, Fact::Cure { cure: Cure::OwnCopy, .. })).count();
        assert!(own_copies <= 3, "{what}");
        // And it is the one that it was.
        assert_eq!((unit.cfun(), items(&unit).imei()), (1, Some(imei)), "{what}");
        assert_eq!(record.chip, Some(unit.identity().chip), "{what}");
        if self.what == What::OverDiag {
            assert!(kept(&unit) == before, "{what}: NV items, calibration, bands and files are its own");
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "how long the whole takes is what is printed, and nothing is decided by it"
    )]
    async fn all(&self) {
        let began = Instant::now();
        let takes = self.takes().await;
        assert!(takes > Duration::from_secs(1), "{takes:?}");
        let mut cases = 0;
        for (moment, number) in (0..MOMENTS).zip(0..) {
            for place in self.what.ways() {
                self.case(CUTS[(number + place) % CUTS.len()], takes * moment / MOMENTS).await;
                cases += 1;
            }
        }
        let _closed = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!(
                "{:?}: {cases} cuts in {takes:?} of station time; {:.1} s\n",
                self.what,
                began.elapsed().as_secs_f64()
            ),
        );
    }
}

fn of_pages(entries: &[Entry]) -> BTreeSet<String> {
    let stored = entries.iter().filter_map(|entry| match &entry.fact {
        Fact::BackupStored { backup, .. } if backup.kind == BackupKind::Raw => Some(backup.id.to_string()),
        _ => None,
    });
    stored.collect()
}

/// The run that was begun last.
fn of_last(entries: &[Entry]) -> RunId {
    let started = entries.iter().rev().find_map(|entry| match &entry.fact {
        Fact::RunStarted { run, .. } => Some(*run),
        _ => None,
    });
    started.expect("a run was begun")
}

/// Waits for a fact of the batch.
async fn until(line: &Line, work: &Work, wanted: impl Fn(&Fact) -> bool) {
    let mut head = work.ledger.head();
    let (mut next, mut is_of_batch) = (1, false);
    loop {
        let entries = work.ledger.read(next, 10_000).await.expect("a ledger");
        for entry in &entries {
            is_of_batch |= matches!(&entry.fact, Fact::BatchOpened { batch, .. } if batch.as_str() == BATCH);
            next = entry.seq + 1;
            if is_of_batch && wanted(&entry.fact) {
                return;
            }
        }
        let changed = line.clock.timeout(PATIENCE, head.wait_for(|seq| *seq >= next)).await;
        changed.expect("it comes in time").expect("the ledger is open");
    }
}

/// Cuts it off; what works afterwards.
async fn cut_off(line: &Line, work: Work, cut: Cut) -> Work {
    let slot: SlotName = "A1".parse().expect("a slot name");
    let place = line.station.slots.iter().find(|known| known.name == slot).expect("a slot of the station");
    let chains: Vec<_> = place.chains().cloned().collect();
    let hub = chains[0].hub().expect("the slot is behind a hub");
    match cut {
        Cut::Unplug | Cut::Gone => {
            line.factory.unplug(&slot).expect("a slot").expect("a unit");
            line.clock.sleep(Duration::from_secs(if cut == Cut::Gone { 400 } else { 10 })).await;
            line.factory.plug(UNIT, &slot).expect("a free slot");
        }
        Cut::Power => {
            let power = line.factory.power();
            power.set(&chains, false).await.expect("a switchable port");
            line.clock.sleep(Duration::from_millis(700)).await;
            power.set(&chains, true).await.expect("a switchable port");
        }
        Cut::Hub => {
            line.factory.set_hub(&hub, false).expect("a hub");
            line.clock.sleep(Duration::from_secs(5)).await;
            line.factory.set_hub(&hub, true).expect("a hub");
        }
        Cut::Kill => {
            work.kill().await;
            return line.work_for(BATCH, 1, Task::Line, Box::new(|_, _, _| {})).await;
        }
    }
    work
}

#[tokio::test(start_paused = true)]
async fn an_order_to_leave_a_mode_that_is_cut_off_counts_and_is_finished() {
    Bench::new(What::LeaveMode).all().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_to_take_its_own_copy_that_is_cut_off_counts_and_is_finished() {
    Bench::new(What::OwnCopy).all().await;
}

#[tokio::test(start_paused = true)]
async fn a_restore_over_diag_that_is_cut_off_is_finished() {
    Bench::new(What::OverDiag).all().await;
}
