//! Nothing recorded is altered unseen.

use std::path::PathBuf;

use proptest::prelude::*;
use stationmaster::domain::{Fact, Outcome, Sha256Digest};
use stationmaster::host::{Disk, MemoryDisk};
use stationmaster::ledger::verify;

use crate::facts::{self, directory, open};

fn file() -> PathBuf {
    directory().join("ledger-000001.jsonl")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

async fn fill(disk: &MemoryDisk) {
    let ledger = open(disk).await.expect("opened");
    facts::up_to_intent(&ledger, 1).await.expect("durable");
    ledger.append(facts::finished(1, Outcome::Pass)).await.expect("durable");
    ledger.close().await;
}

fn filled() -> (MemoryDisk, Vec<u8>) {
    let disk = MemoryDisk::new();
    block_on(fill(&disk));
    let bytes = disk.read(&file(), 1 << 20).expect("there");
    (disk, bytes)
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_changed_byte_is_found(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let (disk, bytes) = filled();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != value);
        disk.tamper(&file(), |bytes| bytes[at] = value).expect("there");
        let difference = verify(&disk, &directory()).expect("read").difference.expect("found");
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        prop_assert_eq!((difference.segment.as_str(), difference.line), ("ledger-000001.jsonl", line));
        // A controller refuses it too, or cuts off only what looks like the torn end of the last line.
        match block_on(open(&disk)) {
            Err(error) => prop_assert!(error.to_string().contains("was altered or damaged"), "{}", error),
            Ok(_) => prop_assert!(line == lines(&bytes).len() as u64 && value == 0, "line {}, value {}", line, value),
        }
    }

    #[test]
    fn a_line_taken_out_doubled_or_moved_is_found(first in 0_usize..8, second in 0_usize..8, what in 0_u8..3) {
        let (disk, bytes) = filled();
        let mut all = lines(&bytes);
        let (first, second) = (first % all.len(), second % all.len());
        match what {
            0 => {
                // The end alone may be missing unseen; an index or a hash written down elsewhere would tell.
                prop_assume!(first + 1 != all.len());
                all.remove(first);
            }
            1 => all.insert(second, all[first].clone()),
            _ => {
                prop_assume!(first != second);
                all.swap(first, second);
            }
        }
        disk.tamper(&file(), |bytes| *bytes = all.concat()).expect("there");
        prop_assert!(verify(&disk, &directory()).expect("read").difference.is_some());
        prop_assert!(block_on(open(&disk)).is_err());
    }

    #[test]
    fn any_torn_end_is_cut_and_work_goes_on(cut in any::<prop::sample::Index>()) {
        let (disk, bytes) = filled();
        let keep = cut.index(bytes.len());
        disk.tamper(&file(), |bytes| bytes.truncate(keep)).expect("there");
        let whole = lines(&bytes[..keep]).iter().filter(|line| line.ends_with(b"\n")).count() as u64;
        let next = block_on(async {
            let ledger = open(&disk).await.expect("opened");
            let next = ledger.append(facts::station_stopped()).await.expect("durable").seq;
            ledger.close().await;
            next
        });
        // A line of which only the line end is missing is kept: its hash proves it.
        let kept = whole + u64::from(bytes.get(keep) == Some(&b'\n'));
        prop_assert_eq!(next, kept + 1);
        let report = verify(&disk, &directory()).expect("read");
        prop_assert_eq!((report.difference, report.entries), (None, next));
    }
}

/// Writes facts as a forger would, with a chain that holds.
fn forge(facts: &[Fact]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir_all(&directory()).expect("made");
    let (mut text, mut prev) = (String::new(), "0".repeat(64));
    for (index, fact) in facts.iter().enumerate() {
        let fact = serde_json::to_string(fact).expect("JSON");
        let seq = index + 1;
        let body = format!("{{\"seq\":{seq},\"prev\":\"{prev}\",\"wall\":\"2026-01-01T00:00:00.000Z\",\"fact\":{fact}");
        prev = Sha256Digest::of(body.as_bytes()).to_string();
        text += &format!("{body},\"hash\":\"{prev}\"}}\n");
    }
    disk.replace(&file(), text.as_bytes(), false).expect("written");
    disk
}

#[test]
fn a_chain_that_holds_does_not_make_impossible_facts_possible() {
    let claimed = Fact::Claimed {
        run: facts::run(1),
        chip: facts::chip(1),
        key_hash: facts::key_hash(),
        imei: facts::imei(1),
        attempt: 1,
    };
    let foreign = Fact::BackupStored { run: facts::run(1), backup: facts::backup(2, 0) };
    let second = Fact::BackupStored { run: facts::run(1), backup: facts::backup(1, 1) };
    let whole = [facts::started(1), claimed.clone(), facts::backup_stored(1), facts::intent(1, 0)];
    let with = |more: &[Fact]| [&whole[..], more].concat();
    let finished = facts::finished(1, Outcome::Pass);
    for (facts, line, expected) in [
        (with(std::slice::from_ref(&finished)), 0, ""),
        (with(&[finished.clone(), finished.clone()]), 6, "finished a second time"),
        (with(&[finished, facts::interrupted(1)]), 6, "goes on after its end"),
        (with(&[second, facts::intent(1, 1)]), 6, "replaced the backup"),
        (vec![facts::started(1), claimed.clone(), facts::intent(1, 0)], 3, "without a backup"),
        (vec![facts::started(1), claimed, foreign], 3, "did not claim"),
        (vec![facts::started(1), facts::intent(1, 0)], 2, "did not claim"),
    ] {
        let difference = verify(&forge(&facts), &directory()).expect("read").difference;
        match difference {
            None => assert_eq!((line, expected), (0, "")),
            Some(found) => {
                assert_eq!(found.line, line);
                assert!(found.reason.contains(expected), "{}", found.reason);
            }
        }
    }
}
