//! The disk fails under the vault alone, for one slot, while another one changes its module: that one begins no further
//! command either, at once and not when the first one's module is back.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stationmaster::controller::End;
use stationmaster::domain::{Fact, FailureCode, Outcome, RunRecord};
use stationmaster::host::{AppendFile, Disk, Entry, Hold, LockGuard, MemoryDisk, ReadAt, WriteAt};
use stationmaster::sim::{Moment, UnitTruth};
use tokio::sync::Notify;

use crate::harness::{Line, assert_sound, records, station_with, two_slots, until_fact};
use crate::meddler::{Act, meddle};
use crate::repair::{DONOR, KINDS, REPAIRED, UNIT, end, out_and_in, put_in, run};
use crate::xqcn::{kept, spoil};

/// Station time within which everything that is waited for happens.
const PATIENCE: Duration = Duration::from_secs(1800);

type Tell = Box<dyn Fn() + Send>;

/// A disk of which the part under the vault fails while it is told to.
#[derive(Clone)]
struct Half {
    whole: MemoryDisk,
    is_broken: Arc<AtomicBool>,
    /// Told of each call that fails.
    tell: Arc<Mutex<Option<Tell>>>,
}

impl std::fmt::Debug for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Half").field("is_broken", &self.is_broken).finish_non_exhaustive()
    }
}

impl Half {
    fn new() -> Self {
        Self { whole: MemoryDisk::new(), is_broken: Arc::default(), tell: Arc::default() }
    }

    fn break_under_the_vault(&self, tell: impl Fn() + Send + 'static) {
        *self.tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(tell));
        self.is_broken.store(true, Ordering::SeqCst);
    }

    fn mend(&self) {
        self.is_broken.store(false, Ordering::SeqCst);
    }

    fn call(&self, path: &Path) -> io::Result<()> {
        if !self.is_broken.load(Ordering::SeqCst) || !path.starts_with("state/vault") {
            return Ok(());
        }
        if let Some(tell) = &*self.tell.lock().unwrap_or_else(PoisonError::into_inner) {
            tell();
        }
        Err(io::Error::other("injected: I/O error under the vault"))
    }
}

impl Disk for Half {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call(path).and_then(|()| self.whole.create_dir_all(path))
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.call(path).and_then(|()| self.whole.read(path, bytes_max))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.call(directory).and_then(|()| self.whole.list(directory))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadAt>> {
        self.call(path).and_then(|()| self.whole.open(path))
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn WriteAt>> {
        self.call(path).and_then(|()| self.whole.open_write(path))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        self.call(path).and_then(|()| self.whole.append(path))
    }

    fn replace(&self, path: &Path, bytes: &[u8], public: bool) -> io::Result<()> {
        self.call(path).and_then(|()| self.whole.replace(path, bytes, public))
    }

    fn rewrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call(path).and_then(|()| self.whole.rewrite(path, bytes))
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call(path).and_then(|()| self.whole.create(path, bytes))
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        self.call(path).and_then(|()| self.whole.try_write(path))
    }

    fn publish(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(to).and_then(|()| self.whole.publish(from, to))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.call(path).and_then(|()| self.whole.truncate(path, bytes))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(path).and_then(|()| self.whole.remove(path))
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.call(directory).and_then(|()| self.whole.sync_dir(directory))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.whole.lock(path)
    }

    fn hold(&self, path: &Path, how: Hold) -> io::Result<Box<dyn LockGuard>> {
        self.whole.hold(path, how)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.whole.free_bytes(path)
    }
}

fn destructive(unit: &UnitTruth) -> usize {
    unit.events().iter().filter(|event| event.is_destructive()).count()
}

async fn bench(disk: &Half, extra: &'static str) -> Line {
    let profile = move |text: String| match text.contains("\nrework:") {
        true => format!("{text}\n{}", extra.replace("rework: {}\n", "")),
        false => format!("{text}\n{extra}"),
    };
    let station = station_with("stations/demo.yaml", two_slots, profile);
    Line::on(Arc::new(disk.clone()), station, 0).await
}

fn of<'a>(runs: &'a [RunRecord], unit: &UnitTruth) -> Vec<&'a RunRecord> {
    runs.iter().filter(|record| record.chip == Some(unit.identity().chip)).collect()
}

#[tokio::test(start_paused = true)]
async fn while_the_vault_fails_for_one_slot_another_begins_no_further_command() {
    // So many seconds after the first one the other module is put in, and it is saved in whichever command the first is.
    for behind in [8, 10] {
        for moment in Moment::ALL {
            let disk = Half::new();
            let line = bench(&disk, "").await;
            let unit = put_in(&line, UNIT, KINDS[0], "A1");
            let work = line.work("TWO", 2).await;
            line.clock.sleep(Duration::from_secs(behind)).await;
            let other = put_in(&line, DONOR, KINDS[0], "A2");
            let chip = other.identity().chip;
            until_fact(&line, &work, |fact| matches!(fact, Fact::Claimed { chip: claimed, .. } if *claimed == chip))
                .await;
            let stop = unit.stop_at(0, moment);
            line.clock.timeout(PATIENCE, stop.reached()).await.expect("it is written");
            let step = destructive(&unit);
            // From its failure on the module in the other slot may go on with what it was told.
            let then = Arc::new(AtomicUsize::new(usize::MAX));
            let failed = Arc::new(Notify::new());
            let (tell, seen, witness) = (Arc::clone(&failed), Arc::clone(&then), unit.clone());
            disk.break_under_the_vault(move || {
                seen.fetch_min(destructive(&witness), Ordering::SeqCst);
                tell.notify_one();
            });
            let released = async {
                failed.notified().await;
                // Virtual time stands still as long as the thread that was refused has not told it.
                line.clock.sleep(Duration::from_millis(1)).await;
                stop.release();
            };
            let (ended, ()) = tokio::join!(work.outcome(&line, PATIENCE, |_| {}), released);
            let ended = ended.expect("it stops").expect("the ledger works");
            let what = format!("{moment:?} of command {step}, {behind} s behind");
            assert_eq!(ended, End::DiskFailed, "{what}");
            assert_eq!(then.load(Ordering::SeqCst), step, "{what}: the vault failed while it was in that command");
            assert_eq!((destructive(&unit), destructive(&other)), (step, 0), "{what}");
            let entries = line.entries();
            let interrupted = entries.iter().filter_map(|entry| match &entry.fact {
                Fact::RunInterrupted { code, .. } => Some(*code),
                _ => None,
            });
            assert_eq!(interrupted.collect::<Vec<_>>(), [FailureCode::DiskFailed], "{what}");
            let runs = records(&entries, "TWO");
            let ends: Vec<_> = of(&runs, &other).iter().map(|record| (record.outcome, record.code)).collect();
            assert_eq!(ends, [(Outcome::Aborted, Some(FailureCode::DiskFailed))], "{what}");

            disk.mend();
            let (ended, entries) = line.run("TWO", 2).await;
            assert_eq!(ended, End::Complete, "{what}");
            assert_sound(&line, &entries);
            let runs = records(&entries, "TWO");
            let [first] = of(&runs, &unit)[..] else { panic!("{what}: {runs:#?}") };
            assert_eq!((first.outcome, first.flags.resumed), (Outcome::Pass, true), "{what}: {first:#?}");
            assert_eq!(of(&runs, &other).last().map(|record| record.outcome), Some(Outcome::Pass), "{what}");
        }
    }
}

/// Whether these bytes tell a module over DIAG to change an NV item, a file or a directory.
pub(crate) fn is_change(sent: &str) -> bool {
    ["'", "K\u{13}\u{5}", "K\u{13}\u{9}", "K\u{13}&", "K0\u{2}"].iter().any(|begin| sent.starts_with(begin))
}

#[tokio::test(start_paused = true)]
async fn while_the_vault_fails_for_one_slot_nothing_more_is_given_back_over_diag_in_another() {
    let disk = Half::new();
    let mut line = bench(&disk, "rework: {}\nguard: raw+xqcn\n").await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let before = kept(&unit);
    assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
    // The other module is there and ready to be saved when the first one is in the middle of its restore.
    let changes: Arc<Mutex<(usize, usize)>> = Arc::default();
    let (count, broken) = (Arc::clone(&changes), Arc::clone(&disk.is_broken));
    let has_failed = Arc::new(AtomicBool::new(false));
    let failed = Arc::clone(&has_failed);
    meddle(&mut line, move |sent| {
        if is_change(sent) {
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            match failed.load(Ordering::SeqCst) {
                true => count.1 += 1,
                false => count.0 += 1,
            }
            if count.0 == 40 {
                broken.store(true, Ordering::SeqCst);
            }
            // Slow, so that the other slot comes to its backup meanwhile.
            return Act::Late(Duration::from_millis(900));
        }
        Act::Pass
    });
    out_and_in(&line, &unit, "A1", spoil);
    let work = line.work("DIAG", 2).await;
    while changes.lock().unwrap_or_else(PoisonError::into_inner).0 < 2 {
        assert!(work.ledger.is_open(), "{:#?}", line.entries());
        line.clock.sleep(Duration::from_millis(100)).await;
    }
    let tell = Arc::clone(&has_failed);
    *disk.tell.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Box::new(move || tell.store(true, Ordering::SeqCst)));
    let other = put_in(&line, DONOR, KINDS[0], "A2");
    let ended = work.outcome(&line, PATIENCE, |_| {}).await.expect("it stops").expect("the ledger works");
    assert_eq!(ended, End::DiskFailed);
    let (earlier, later) = *changes.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(earlier >= 40, "it was cut off in its restore: {earlier}");
    assert_eq!((later, destructive(&other)), (0, 0), "nothing is begun after the vault has failed");

    disk.mend();
    line.bus = None;
    let (ended, entries) = line.run("DIAG", 2).await;
    assert_eq!(ended, End::Complete);
    assert_sound(&line, &entries);
    let runs = records(&entries, "DIAG");
    let [first] = of(&runs, &unit)[..] else { panic!("{runs:#?}") };
    assert_eq!((end(first), first.flags.resumed), (REPAIRED, true), "{first:#?}");
    assert!(kept(&unit) == before, "IMEI, NV items, calibration, bands and files are the unit's own");
    assert_eq!(of(&runs, &other).last().map(|record| record.outcome), Some(Outcome::Pass));
}
