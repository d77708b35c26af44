//! The index may be deleted, old, foreign or broken; the answers stay the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stationmaster::domain::{Fact, Outcome};
use stationmaster::host::{Clock, OsDisk};
use stationmaster::ledger::{BatchCounts, IndexPlace, Ledger, LedgerError, OpenRun, UnfinishedRun, WriterMode, verify};
use tempfile::TempDir;

use crate::facts;

async fn open(path: &Path) -> Result<Ledger, LedgerError> {
    let (disk, clock) = (Arc::new(OsDisk::new()), Clock::real());
    Ledger::open(disk, clock, path.to_owned(), WriterMode::Thread, IndexPlace::File).await
}

#[derive(Debug, PartialEq)]
struct Answers {
    open: Vec<OpenRun>,
    unfinished: Vec<UnfinishedRun>,
    counts: BatchCounts,
    attempts: Vec<u32>,
    simulated: Option<bool>,
}

async fn answers(ledger: &Ledger) -> Answers {
    let mut attempts = Vec::new();
    for number in 1..=5 {
        attempts.push(ledger.attempts(facts::chip(number)).await.expect("answered"));
    }
    Answers {
        open: ledger.open_runs().await.expect("answered"),
        unfinished: ledger.unfinished_runs().await.expect("answered"),
        counts: ledger.batch_counts("B-1".parse().expect("a name")).await.expect("answered"),
        attempts,
        simulated: ledger.simulated().await.expect("answered"),
    }
}

/// A state directory with something of everything, closed in an orderly way.
async fn state() -> (TempDir, PathBuf, Answers) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("state");
    let ledger = open(&path).await.expect("opened");
    ledger.append(facts::station_started(true)).await.expect("durable");
    for number in 1..=3 {
        facts::up_to_intent(&ledger, number).await.expect("durable");
    }
    ledger.append(facts::finished(1, Outcome::Pass)).await.expect("durable");
    ledger.append(facts::interrupted(2)).await.expect("durable");
    ledger.append(facts::started(4)).await.expect("durable");
    ledger.close().await;
    let ledger = open(&path).await.expect("opened");
    let expected = answers(&ledger).await;
    ledger.close().await;
    (directory, path, expected)
}

async fn assert_same(path: &Path, expected: &Answers) {
    let ledger = open(path).await.expect("opened");
    assert_eq!(answers(&ledger).await, *expected);
    ledger.close().await;
    assert_eq!(verify(&OsDisk::new(), path).expect("read").difference, None);
}

fn database(path: &Path) -> PathBuf {
    path.join("index.sqlite")
}

fn sql(path: &Path, text: &str) {
    rusqlite::Connection::open(database(path)).expect("opened").execute_batch(text).expect("done");
}

#[tokio::test]
async fn deleted_or_broken() {
    let (_directory, path, expected) = state().await;
    assert_eq!((expected.open.len(), expected.unfinished.len(), expected.counts.units), (2, 1, 1));
    assert_eq!(expected.attempts, [1, 1, 1, 0, 0]);
    assert_eq!(expected.simulated, Some(true));
    std::fs::remove_file(database(&path)).expect("removed");
    assert_same(&path, &expected).await;
    std::fs::write(database(&path), b"this is no database").expect("written");
    assert_same(&path, &expected).await;
    let bytes = std::fs::read(database(&path)).expect("read");
    std::fs::write(database(&path), &bytes[..bytes.len() / 2]).expect("written");
    assert_same(&path, &expected).await;
}

#[tokio::test]
async fn not_closed_foreign_or_of_another_version() {
    let (_directory, path, expected) = state().await;
    for change in [
        "UPDATE state SET clean = 0; DELETE FROM claims",
        "UPDATE state SET version = 99; DELETE FROM claims",
        "UPDATE state SET seq = 3; DELETE FROM claims",
        "DELETE FROM state",
    ] {
        sql(&path, change);
        assert_same(&path, &expected).await;
    }
}

#[tokio::test]
async fn an_older_index_catches_up() {
    let (directory, path, _) = state().await;
    let kept = directory.path().join("kept");
    std::fs::copy(database(&path), &kept).expect("copied");
    let ledger = open(&path).await.expect("opened");
    ledger.append(facts::finished(2, Outcome::Pass)).await.expect("durable");
    ledger.append(facts::station_stopped()).await.expect("durable");
    ledger.close().await;
    let ledger = open(&path).await.expect("opened");
    let expected = answers(&ledger).await;
    ledger.close().await;
    std::fs::copy(&kept, database(&path)).expect("copied");
    assert_same(&path, &expected).await;
}

#[tokio::test]
async fn a_ledger_that_lost_its_end_is_refused() {
    let (_directory, path, _) = state().await;
    let file = path.join("ledger-000001.jsonl");
    let text = std::fs::read_to_string(&file).expect("read");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    std::fs::write(&file, lines[..lines.len() - 2].concat()).expect("written");
    let error = open(&path).await.expect_err("two entries are gone");
    let (ledger, index) = (lines.len() as u64 - 2, lines.len() as u64);
    assert!(matches!(error, LedgerError::Shortened { ledger: l, index: i } if (l, i) == (ledger, index)), "{error}");
}

#[tokio::test]
async fn a_writer_on_a_thread_serves_followers() {
    let (_directory, path, _) = state().await;
    let ledger = open(&path).await.expect("opened");
    let last = *ledger.head().borrow();
    let entries = ledger.read(1, 1000).await.expect("read");
    assert_eq!(entries.len() as u64, last);
    assert!(matches!(entries[0].fact, Fact::StationStarted { .. }));
    ledger.close().await;
}
