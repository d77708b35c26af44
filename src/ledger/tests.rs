//! What needs segments smaller than the product's.

use std::path::Path;
use std::sync::Arc;

use crate::domain::{Fact, PortChain, RunId, limits};
use crate::host::{Clock, Disk, MemoryDisk, OsDisk};

use super::writer::Setup;
use super::{Entry, Health, IndexPlace, Ledger, LedgerError, WriterMode, segment, verify};

const DIRECTORY: &str = "state";
/// Runs that need more room than the index's file gets in a test.
const RUNS: u8 = 200;

async fn open(disk: &MemoryDisk) -> Result<Ledger, LedgerError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let setup = Setup { disk, directory: DIRECTORY.into(), index: IndexPlace::Memory, segment_bytes: 4096 };
    Ledger::start(setup, Clock::simulated(jiff::Timestamp::UNIX_EPOCH), WriterMode::Inline).await
}

fn fact(number: u32) -> Fact {
    let port = u8::try_from(number % 255).expect("small") + 1;
    let hub = PortChain::new(&format!("pci-{number}"), crate::domain::Side::Usb2, &[port]).expect("valid");
    Fact::HubReturned { hub }
}

async fn filled(disk: &MemoryDisk, count: u32) -> Vec<Entry> {
    let ledger = open(disk).await.expect("opened");
    let mut entries = Vec::new();
    for number in 1..=count {
        entries.push(ledger.append(fact(number)).await.expect("durable"));
    }
    ledger.close().await;
    entries
}

fn path(number: u32) -> std::path::PathBuf {
    Path::new(DIRECTORY).join(segment::name(number))
}

#[tokio::test(start_paused = true)]
async fn the_chain_goes_on_across_segments_and_can_be_read_anywhere() {
    let disk = MemoryDisk::new();
    let count = u32::try_from(limits::LEDGER_ENTRIES_KEPT).expect("small") + 300;
    let entries = filled(&disk, count).await;
    let segments = segment::count(&disk, Path::new(DIRECTORY)).expect("listed");
    assert!(segments > 10, "{segments}");
    let report = verify(&disk, Path::new(DIRECTORY)).expect("read");
    assert_eq!((report.entries, report.segments, report.difference), (u64::from(count), segments, None));

    // Fresh from the files, with nothing of it in memory.
    let ledger = open(&disk).await.expect("opened");
    for from in [0, 1, 2, 17, 255, 256, 257, 600, count - 1, count, count + 1] {
        let skip = usize::try_from(from.max(1) - 1).expect("small");
        for max in [0, 1, 40, 5000] {
            let found = ledger.read(from.into(), max).await.expect("read");
            let expected: Vec<_> = entries.iter().skip(skip).take(max).cloned().collect();
            assert!(found == expected, "from {from}, {max} entries");
        }
    }
    let next = ledger.append(fact(7)).await.expect("durable");
    assert_eq!((next.seq, next.prev), (u64::from(count) + 1, entries[entries.len() - 1].hash));
    assert_eq!(ledger.read(u64::from(count), 9).await.expect("read").len(), 2);
    ledger.close().await;
}

#[tokio::test(start_paused = true)]
async fn damage_in_any_segment_stops_the_start_and_is_named() {
    let count = 60;
    type Damage = fn(&mut Vec<u8>);
    let damage: [(u32, &str, Damage); 4] = [
        (1, "ledger-000001.jsonl, line 1", |bytes| bytes[3] ^= 1),
        (2, "ledger-000002.jsonl, line 3", |bytes| {
            let third = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).expect("lines").0;
            bytes[third + 40] ^= 1;
        }),
        (2, "ledger-000002.jsonl, line 0: its last line is not whole", |bytes| {
            bytes.pop();
        }),
        (2, "ledger-000003.jsonl, line 1", |bytes| {
            let end = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("lines");
            bytes.truncate(end + 1);
        }),
    ];
    for (number, expected, change) in damage {
        let disk = MemoryDisk::new();
        filled(&disk, count).await;
        disk.tamper(&path(number), change).expect("there");
        let error = open(&disk).await.expect_err("damaged").to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(verify(&disk, Path::new(DIRECTORY)).expect("read").difference.is_some());
    }
    let disk = MemoryDisk::new();
    filled(&disk, count).await;
    disk.remove(&path(2)).expect("there");
    let error = open(&disk).await.expect_err("a gap").to_string();
    assert!(error.starts_with("ledger-000002.jsonl, line 1: it is missing"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_new_segment_is_what_a_crash_may_leave() {
    let disk = MemoryDisk::new();
    let entries = filled(&disk, 40).await;
    let number = segment::count(&disk, Path::new(DIRECTORY)).expect("listed") + 1;
    drop(disk.append(&path(number)).expect("made"));
    let ledger = open(&disk).await.expect("opened");
    let entry = ledger.append(fact(41)).await.expect("durable");
    assert_eq!(entry.seq, 41);
    assert_eq!(ledger.read(40, 9).await.expect("read"), [entries[39].clone(), entry]);
    ledger.close().await;
    assert_eq!(verify(&disk, Path::new(DIRECTORY)).expect("read").difference, None);
}

fn started(number: u8) -> Fact {
    Fact::RunStarted {
        run: RunId::new(u64::from(number), &[number; 10]),
        batch: "B-1".parse().expect("a name"),
        slot: "A1".parse().expect("a name"),
        chain: "pci-0/usb2/1.1".parse().expect("a chain"),
        identity: None,
    }
}

#[tokio::test]
async fn where_the_index_finds_no_room_the_ledger_goes_on_without_its_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let path = directory.path().join(DIRECTORY);
    let open = || Ledger::open(disk.clone(), Clock::real(), path.clone(), WriterMode::Thread, IndexPlace::File);
    let ledger = open().await.expect("opened");
    ledger.append(started(1)).await.expect("durable");
    let no_room = "PRAGMA max_page_count = 1";
    ledger.ask(|index| Ok(index.connection.execute_batch(no_room)?)).await.expect("SQLite takes it");

    // In groups, so that some of them are cut in their middle.
    let mut appends = tokio::task::JoinSet::new();
    for number in 2..=RUNS {
        let ledger = ledger.clone();
        appends.spawn(async move { ledger.append(started(number)).await });
    }
    for appended in appends.join_all().await {
        appended.expect("durable: the index is not the truth");
    }
    let health = ledger.health().borrow().clone();
    let Health::Failing { reason } = health else { panic!("nothing new may be begun: {health:?}") };
    assert_eq!(reason, "index.sqlite: the disk is full");
    assert_eq!(ledger.unfinished_runs().await.expect("answered").len(), usize::from(RUNS));
    ledger.close().await;

    let ledger = open().await.expect("opened");
    assert_eq!(*ledger.health().borrow(), Health::Well);
    assert_eq!(ledger.unfinished_runs().await.expect("answered").len(), usize::from(RUNS));
    ledger.close().await;
    assert_eq!(verify(&*disk, &path).expect("read").difference, None);
}
