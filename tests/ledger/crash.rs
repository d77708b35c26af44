//! Every call to the disk fails once, in every way; every acknowledged fact survives.

use stationmaster::domain::{Fact, Outcome};
use stationmaster::host::{Disk, FailKind, MemoryDisk};
use stationmaster::ledger::{ClaimAnswer, Health, Ledger, LedgerError, verify};

use crate::facts::{self, directory, open};

/// One thing that a controller asks for.
enum Step {
    Append(Box<Fact>),
    Claim(u8),
}

fn script() -> Vec<Step> {
    let mut steps = vec![Step::Append(facts::station_started(true).into())];
    for number in [1, 2] {
        for fact in [facts::started(number), facts::admitted(number)] {
            steps.push(Step::Append(fact.into()));
        }
        steps.push(Step::Claim(number));
        for fact in [facts::backup_stored(number), facts::intent(number, 0), facts::finished(number, Outcome::Pass)] {
            steps.push(Step::Append(fact.into()));
        }
    }
    steps.push(Step::Append(facts::station_stopped().into()));
    steps
}

/// Does the steps from the `done`-th on; gives how many are done, and whether all were acknowledged.
async fn work(ledger: &Ledger, mut done: usize) -> (usize, Result<(), LedgerError>) {
    for step in script().into_iter().skip(done) {
        let result = match step {
            Step::Append(fact) => ledger.append(*fact).await.map(|_| ()),
            Step::Claim(number) => ledger.claim(facts::request(number, number, number)).await.map(|answer| {
                assert_eq!(answer, ClaimAnswer::Granted { attempt: 1 });
            }),
        };
        if let Err(error) = result {
            return (done, Err(error));
        }
        done += 1;
    }
    (done, Ok(()))
}

/// What is recorded is a beginning of the script.
async fn assert_recorded(ledger: &Ledger, acknowledged: usize) -> usize {
    let entries = ledger.read(1, 1000).await.expect("readable");
    assert!(entries.len() >= acknowledged, "{} of {acknowledged} acknowledged facts are there", entries.len());
    assert!(entries.len() <= acknowledged + 1, "only the fact that was being written may be there besides");
    for (index, (entry, step)) in entries.iter().zip(script()).enumerate() {
        assert_eq!(entry.seq, index as u64 + 1);
        match step {
            Step::Append(fact) => assert_eq!(entry.fact, *fact),
            Step::Claim(_) => assert!(matches!(entry.fact, Fact::Claimed { attempt: 1, .. })),
        }
    }
    entries.len()
}

fn assert_verifies(disk: &MemoryDisk, entries: usize) {
    let report = verify(disk, &directory()).expect("readable");
    assert_eq!(report.difference, None);
    assert_eq!(report.entries, entries as u64);
}

/// The `call`-th call fails; `false` when there were fewer.
async fn fails_once(call: u64, kind: FailKind, torn: Option<u64>) -> bool {
    let disk = MemoryDisk::new();
    disk.fail_call(call, kind);
    let struck = |disk: &MemoryDisk| disk.calls() >= call;
    let (mut acknowledged, mut failed) = (0, true);
    match open(&disk).await {
        Err(error) => assert!(matches!(error, LedgerError::Disk { .. }), "{error}"),
        Ok(ledger) => {
            let result;
            (acknowledged, result) = work(&ledger, 0).await;
            failed = result.is_err();
            if let Err(error) = result {
                assert!(matches!(error, LedgerError::Disk { .. }), "{error}");
                let again = ledger.append(facts::station_stopped()).await.expect_err("poisoned");
                assert!(matches!(again, LedgerError::Poisoned { .. }), "{again}");
                let claim = ledger.claim(facts::request(1, 1, 1)).await.expect_err("poisoned");
                assert!(matches!(claim, LedgerError::Poisoned { .. }), "{claim}");
            }
            if !failed && struck(&disk) {
                // A line that found no room was written in that of the reserve.
                assert_eq!(kind, FailKind::NoSpace);
                assert!(matches!(*ledger.health().borrow(), Health::Failing { .. }));
                assert!(!has_reserve(&disk));
            }
            ledger.close().await;
        }
    }
    if !failed && !struck(&disk) {
        return false;
    }
    if let Some(torn) = torn {
        disk.crash_torn(torn);
    }
    let ledger = open(&disk).await.expect("a restart works");
    let recorded = assert_recorded(&ledger, acknowledged).await;
    assert_verifies(&disk, recorded);
    let (done, result) = work(&ledger, recorded).await;
    result.expect("the disk is well again");
    assert_eq!(done, script().len());
    ledger.close().await;
    // What is acknowledged now does not hang in the air, although the failed write was never repeated.
    disk.crash();
    let ledger = open(&disk).await.expect("a restart works");
    assert_eq!(assert_recorded(&ledger, done).await, done);
    assert_verifies(&disk, done);
    true
}

fn has_reserve(disk: &MemoryDisk) -> bool {
    disk.list(&directory()).expect("listed").iter().any(|entry| entry.name == "reserve" && entry.bytes > 0)
}

/// A disk that is full for good: what is under way is recorded in the room of the reserve, which is there again once the
/// disk has room.
#[tokio::test(start_paused = true)]
async fn a_full_disk_leaves_room_to_record_what_is_under_way() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    assert!(has_reserve(&disk));
    let (done, result) = work(&ledger, 0).await;
    result.expect("a good disk");
    disk.set_room(Some(disk.used_bytes()));
    for number in 10..60 {
        ledger.append(facts::started(number)).await.expect("room in the reserve");
    }
    assert!(matches!(*ledger.health().borrow(), Health::Failing { .. }));
    assert!(!has_reserve(&disk));
    assert_eq!(ledger.read(1, 1000).await.expect("readable").len(), done + 50);
    ledger.close().await;
    let error = open(&disk).await.expect_err("a station whose disk is full does not begin");
    assert!(matches!(error, LedgerError::Disk { .. }), "{error}");
    disk.set_room(None);
    let ledger = open(&disk).await.expect("room again");
    assert!(has_reserve(&disk));
    assert_eq!(*ledger.health().borrow(), Health::Well);
    assert_eq!(ledger.read(1, 1000).await.expect("readable").len(), done + 50);
    ledger.close().await;
}

/// The reserve is given up once; when that is used up too, the ledger stops and says so before whoever waits is answered.
#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_beyond_the_reserve_stops_the_ledger() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    disk.set_room(Some(0));
    let error = ledger.append(facts::started(1)).await.expect_err("no room at all");
    assert!(matches!(error, LedgerError::Disk { .. }), "{error}");
    assert!(matches!(*ledger.health().borrow(), Health::Failed { .. }));
    ledger.close().await;
    disk.set_room(None);
    let ledger = open(&disk).await.expect("room again");
    assert!(ledger.read(1, 10).await.expect("readable").is_empty(), "what was not acknowledged is not there");
    ledger.close().await;
}

async fn each_call(kind: FailKind, torn: Option<u64>) {
    let mut call = 1;
    while fails_once(call, kind, torn).await {
        call += 1;
    }
    assert!(call > 30, "the script makes more than {call} calls");
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call() {
    for torn in [0, 1, 200, 100_000] {
        each_call(FailKind::Crash, Some(torn)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_any_call_and_a_restart_of_the_process() {
    for kind in [FailKind::Error, FailKind::NoSpace, FailKind::ShortWrite, FailKind::FailedSync] {
        each_call(kind, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_any_call_and_a_crash_of_the_host() {
    for kind in [FailKind::ShortWrite, FailKind::FailedSync] {
        each_call(kind, Some(0)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_facts_share_one_fsync() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    let before = disk.calls();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let ledger = ledger.clone();
        tasks.spawn(async move { ledger.append(facts::started(number)).await.expect("durable").seq });
    }
    let mut seqs = tasks.join_all().await;
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=200).collect::<Vec<u64>>());
    assert!(disk.calls() - before <= 10, "{} calls for 200 facts", disk.calls() - before);
}

#[tokio::test(start_paused = true)]
async fn followers_are_woken_by_durable_entries_only() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    let mut head = ledger.head();
    assert_eq!(*head.borrow_and_update(), 0);
    ledger.append(facts::started(1)).await.expect("durable");
    head.changed().await.expect("woken");
    assert_eq!(*head.borrow_and_update(), 1);
    disk.fail_call(2, FailKind::FailedSync);
    assert!(ledger.append(facts::started(2)).await.is_err());
    assert!(!head.has_changed().expect("the writer lives"));
    assert_eq!(ledger.read(1, 10).await.expect("readable").len(), 1);
    assert_eq!(ledger.unfinished_runs().await.expect("answered").len(), 1, "questions see durable facts only");
}

#[tokio::test(start_paused = true)]
async fn one_controller_at_a_time() {
    let disk = MemoryDisk::new();
    let ledger = open(&disk).await.expect("opened");
    let error = open(&disk).await.expect_err("locked");
    assert!(error.to_string().starts_with("another controller works on this state directory"), "{error}");
    let other = ledger.clone();
    ledger.close().await;
    assert!(matches!(other.append(facts::started(1)).await, Err(LedgerError::Closed)));
    open(&disk).await.expect("free again").close().await;
    assert!(disk.list(&directory()).expect("listed").iter().any(|entry| entry.name == "ledger.lock"));
}
