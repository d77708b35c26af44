//! A restore over DIAG that is cut off at any place is done again, from its beginning: the module ends with everything
//! that it had.
//!
//! The places are not chosen by hand: they are shares of the changes that an undisturbed restore tells the module, its
//! beginning, and what comes after the last one. Each unit is cut off twice, the second time after it was resumed.

use std::sync::Arc;
use std::time::Duration;

use stationmaster::controller::End;
use stationmaster::domain::{BackupKind, Fact, RunRecord};
use stationmaster::ledger::Entry;
use stationmaster::sim::efs::EfsState;
use tokio::sync::watch;

use crate::harness::{Line, Work, assert_sound, records};
use crate::meddler::{Act, meddle};
use crate::repair::{KINDS, REPAIRED, UNIT, bench, end, out_and_in, put_in, save};
use crate::vault_disk::is_change;
use crate::xqcn::{kept, spoil};

/// Station time within which everything that is waited for happens.
const PATIENCE: Duration = Duration::from_secs(1800);

/// How a restore is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    /// The module is pulled out, and comes back into the other slot.
    Unplug,
    /// Its supply fails for a moment: what it had not written down is gone.
    Power,
    /// The controller dies; the module stands where it was, offline.
    Kill,
}

/// Where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// It is announced, and nothing was changed.
    Announced,
    /// Before so many hundredths of the changes are done.
    Share(usize),
    /// The last change was sent so many milliseconds ago: it is compared, reset, started and compared again.
    After(u64),
}

/// A line with an EG25-G whose pages cannot be restored, and a count of what it is told over DIAG.
struct Bench {
    line: Line,
    unit: stationmaster::sim::UnitTruth,
    before: std::collections::BTreeMap<String, Vec<u8>>,
    changes: Arc<watch::Sender<usize>>,
}

impl Bench {
    async fn new() -> Self {
        let mut line = bench("rework: {}\nguard: raw+xqcn\n", "").await;
        let unit = put_in(&line, UNIT, KINDS[1], "A1");
        let before = kept(&unit);
        save(&line).await;
        out_and_in(&line, &unit, "A1", spoil);
        let changes = Arc::new(watch::Sender::new(0));
        let count = Arc::clone(&changes);
        meddle(&mut line, move |sent| {
            if is_change(sent) {
                count.send_modify(|changes| *changes += 1);
            }
            Act::Pass
        });
        Self { line, unit, before, changes }
    }

    /// Waits until the `turn`-th restore has come so far; `total` is how many changes each has. `false` where there is no
    /// such restore, because the cut before was none to the run: a supply that fails while the module starts anew.
    async fn until(&self, work: &Work, place: Place, turn: usize, total: usize) -> bool {
        let is_announced = |fact: &Fact| matches!(fact, Fact::RestoreIntent { ranges, .. } if ranges.is_empty());
        let mut head = work.ledger.head();
        let mut told = self.changes.subscribe();
        let wait = async {
            loop {
                let entries = work.ledger.read(1, 10_000).await.expect("a ledger");
                if entries.iter().filter(|entry| is_announced(&entry.fact)).count() >= turn {
                    break;
                }
                let is_over = |entry: &Entry| matches!(&entry.fact, Fact::RunFinished(record) if is_of_batch(record));
                if entries.iter().any(is_over) {
                    return false;
                }
                head.changed().await.expect("the ledger is open");
            }
            let from = *told.borrow_and_update();
            let wanted = match place {
                Place::Announced => return true,
                Place::Share(hundredths) => (total * hundredths / 100).max(1),
                Place::After(_) => total,
            };
            told.wait_for(|changes| *changes - from >= wanted).await.expect("it is counted");
            if let Place::After(milliseconds) = place {
                self.line.clock.sleep(Duration::from_millis(milliseconds)).await;
            }
            true
        };
        let reached = self.line.clock.timeout(PATIENCE, wait).await;
        reached.unwrap_or_else(|_| panic!("{place:?}: {:#?}", self.line.entries()))
    }

    async fn cut(&self, work: Work, cut: Cut) -> Work {
        let Self { line, unit, .. } = self;
        let here = line.factory.slot_of(unit.number()).expect("it is plugged in");
        match cut {
            Cut::Unplug => {
                line.factory.unplug(&here).expect("a slot").expect("a unit");
                line.clock.sleep(Duration::from_secs(10)).await;
                let back = if here.as_str() == "A1" { "A2" } else { "A1" };
                line.factory.plug(unit.number(), &back.parse().expect("a slot")).expect("it is free");
                work
            }
            Cut::Power => {
                let slot = line.station.slots.iter().find(|slot| slot.name == here).expect("a slot of the station");
                let chains: Vec<_> = slot.chains().cloned().collect();
                let power = line.factory.power();
                power.set(&chains, false).await.expect("a switchable port");
                line.clock.sleep(Duration::from_millis(700)).await;
                power.set(&chains, true).await.expect("a switchable port");
                work
            }
            Cut::Kill => {
                work.kill().await;
                line.work("CUTS", 1).await
            }
        }
    }

    async fn finish(&self, work: Work, what: &str) -> bool {
        let (ended, entries) = work.end_within(&self.line, PATIENCE).await;
        let runs = records(&entries, "CUTS");
        assert_eq!(ended, Some(End::Complete), "{what}: {runs:#?}");
        assert_sound(&self.line, &entries);
        let [record] = &runs[..] else { panic!("{what}: one run: {runs:#?}") };
        assert_eq!(end(record), REPAIRED, "{what}: {record:#?}");
        assert_eq!(record.boots_verified, 2, "{what}");
        let over_diag = entries.iter().find_map(|entry| match &entry.fact {
            Fact::BackupStored { backup, .. } if backup.kind == BackupKind::Xqcn => Some(backup.id),
            _ => None,
        });
        assert_eq!(record.backup, over_diag, "{what}");
        let after = self.unit.inspect().expect("its storage can be read");
        assert_eq!((after.efs, self.unit.cfun()), (EfsState::Present, 1), "{what}");
        assert_eq!(after.imei.as_deref(), Some(self.unit.identity().imei.as_str()), "{what}");
        assert!(kept(&self.unit) == self.before, "{what}: an NV item or a file is not what it was");
        let was_interrupted = entries.iter().any(|entry| matches!(entry.fact, Fact::RunResumed { .. }));
        assert_eq!(record.flags.resumed, was_interrupted, "{what}: {record:#?}");
        was_interrupted
    }
}

fn is_of_batch(record: &RunRecord) -> bool {
    record.batch.as_str() == "CUTS"
}

/// How many changes an undisturbed restore tells a module.
async fn undisturbed() -> usize {
    let bench = Bench::new().await;
    let work = bench.line.work("CUTS", 1).await;
    assert!(!bench.finish(work, "undisturbed").await, "nobody cut it off");
    let total = *bench.changes.borrow();
    assert!(total > 200, "it is told {total} changes");
    total
}

async fn cut_twice(cuts: [Cut; 2]) {
    let total = undisturbed().await;
    let mut resumed = 0;
    for places in [
        [Place::Announced, Place::Share(50)],
        [Place::Share(1), Place::Share(99)],
        [Place::Share(20), Place::After(200)],
        [Place::Share(75), Place::After(9_000)],
        [Place::After(2_000), Place::Announced],
    ] {
        let bench = Bench::new().await;
        let mut work = bench.line.work("CUTS", 1).await;
        for (turn, (place, cut)) in places.into_iter().zip(cuts).enumerate() {
            if !bench.until(&work, place, turn + 1, total).await {
                break;
            }
            work = bench.cut(work, cut).await;
        }
        let what = format!("{cuts:?} at {places:?} of {total} changes");
        resumed += u32::from(bench.finish(work, &what).await);
    }
    assert!(resumed >= 4, "{cuts:?}: {resumed} of 5 were interrupted, and only what starts anyway may not be");
}

#[tokio::test(start_paused = true)]
async fn a_restore_over_diag_that_is_unplugged_is_done_again() {
    cut_twice([Cut::Unplug, Cut::Power]).await;
}

#[tokio::test(start_paused = true)]
async fn a_restore_over_diag_during_which_the_module_loses_its_power_is_done_again() {
    cut_twice([Cut::Power, Cut::Kill]).await;
}

#[tokio::test(start_paused = true)]
async fn a_restore_over_diag_whose_controller_dies_is_done_again() {
    cut_twice([Cut::Kill, Cut::Unplug]).await;
}
