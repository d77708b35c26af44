//! Nothing is erased without a backup that would bring the unit back: neither when the module gives none, nor when what
//! was stored is not there any more.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stationmaster::controller::End;
use stationmaster::domain::{BackupRef, Fact, FailureCode, Outcome, PageRange, RunRecord};
use stationmaster::host::{Disk, MemoryDisk};
use stationmaster::ledger::Entry;
use stationmaster::sim::{BusEvent, Factory, UnitTruth};

use crate::harness::{Line, Witness, assert_sound, records, station, two_slots};

/// Station time in which a unit is through, and one that cannot be resumed was tried.
const LIMIT: Duration = Duration::from_secs(15 * 60);

fn one_slot(text: String) -> String {
    two_slots(text).lines().filter(|line| !line.contains("name: A2")).map(|line| format!("{line}\n")).collect()
}

fn efs_of(unit: &UnitTruth) -> PageRange {
    unit.flash(|_, map| map.range("EFS2").expect("it has a file system"))
}

/// Blocks of the file system with whether a superblock is in them, as the storage has them.
fn blocks(unit: &UnitTruth) -> Vec<(u64, bool)> {
    let efs = efs_of(unit);
    unit.flash(|nand, _| {
        let geometry = nand.geometry();
        let per_block = u64::from(geometry.pages_per_block);
        let mut page = vec![0; usize::try_from(geometry.page_bytes).expect("small")];
        (efs.start / per_block..efs.end() / per_block)
            .map(|block| {
                let is_super = (block * per_block..(block + 1) * per_block)
                    .any(|number| nand.read(number, &mut page).is_ok() && page[8..16] == *b"EFSSuper");
                (block, is_super)
            })
            .collect()
    })
}

/// Does something to the unit once its chip is known, which is before its backup is read; notes what was done to it.
fn saboteur(harm: impl Fn(&UnitTruth) + Send + 'static) -> (Witness, Arc<Mutex<Vec<BusEvent>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let look = move |factory: &Factory, _: &stationmaster::hardware::Listing, entry: &Entry| {
        let Some(unit) = factory.unit(1) else { return };
        if matches!(entry.fact, Fact::Claimed { .. }) {
            harm(&unit);
        }
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = unit.events();
    };
    (Box::new(look), events)
}

async fn held(line: &Line, what: &str, harm: impl Fn(&UnitTruth) + Send + 'static) -> RunRecord {
    let (witness, events) = saboteur(harm);
    let (_, entries) = line.work_before("HELD", 1, witness).await.end_within(line, LIMIT).await;
    assert_sound(line, &entries);
    let [record] = records(&entries, "HELD").try_into().unwrap_or_else(|all| panic!("{what}: {all:#?}"));
    let RunRecord { outcome, code, .. } = &record;
    assert_eq!((*outcome, *code), (Outcome::Held, Some(FailureCode::BackupInvalid)), "{what}: {record:#?}");
    let events = events.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(!events.is_empty(), "{what}: nothing was seen on the bus");
    assert!(!events.iter().any(BusEvent::is_destructive), "{what}: {events:#?}");
    assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::BackupStored { .. } | Fact::Intent { .. })));
    record
}

#[tokio::test(start_paused = true)]
async fn a_module_that_gives_no_file_system_in_use_is_held() {
    let erase = |keep: fn(bool) -> bool| {
        move |unit: &UnitTruth| {
            for (block, is_super) in blocks(unit) {
                if !keep(is_super) {
                    unit.erase_block(block).expect("a block");
                }
            }
        }
    };
    let line = Line::new(station("stations/demo.yaml", one_slot), 1).await;
    let record = held(&line, "blank", erase(|_| false)).await;
    assert!(record.detail.contains("it is blank"), "{}", record.detail);

    let line = Line::new(station("stations/demo.yaml", one_slot), 1).await;
    let record = held(&line, "no superblock", erase(|is_super| !is_super)).await;
    assert!(record.detail.contains("superblock") || record.detail.contains("blank"), "{}", record.detail);
}

#[tokio::test(start_paused = true)]
async fn a_file_system_with_fewer_pages_than_the_profile_says_is_a_skeleton() {
    // Every module is one to a profile that expects more.
    let mut line = Line::new(station("stations/demo.yaml", one_slot), 1).await;
    for product in &mut line.products {
        Arc::make_mut(&mut product.profile).efs_used_pages_min = 60_000;
    }
    let record = held(&line, "a skeleton", |_| {}).await;
    assert!(record.detail.contains("skeleton") && record.detail.contains("60000 are the least"), "{}", record.detail);
}

fn stored(entries: &[Entry]) -> BackupRef {
    let backup = |entry: &Entry| match &entry.fact {
        Fact::BackupStored { backup, .. } => Some(backup.clone()),
        _ => None,
    };
    entries.iter().find_map(backup).expect("a backup was stored")
}

/// A line whose controller died while a unit was written; with its disk and the file of the backup.
async fn interrupted(text: impl FnOnce(String) -> String) -> (Line, MemoryDisk, PathBuf) {
    let disk = MemoryDisk::new();
    let line = Line::on(Arc::new(disk.clone()), station("stations/demo.yaml", text), 1).await;
    let work = line.work("CUT", 1).await;
    let mut head = work.ledger.head();
    loop {
        let seq = *head.borrow_and_update();
        let last = work.ledger.read(seq, 1).await.expect("read").pop();
        if last.is_some_and(|entry| matches!(entry.fact, Fact::Intent { .. })) {
            break;
        }
        head.changed().await.expect("the ledger is open");
    }
    line.clock.sleep(Duration::from_secs(2)).await;
    work.kill().await;
    let backup = stored(&line.entries());
    assert!(backup.bad_blocks.is_some(), "the bad blocks under it are known");
    let directory = PathBuf::from("state/vault").join(backup.chip.to_string());
    let path = directory.join(format!("0001-{}.smb.age", backup.id));
    (line, disk, path)
}

fn destructive(line: &Line) -> usize {
    let unit = line.factory.unit(1).expect("a unit");
    unit.events().iter().filter(|event| event.is_destructive()).count()
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_does_not_go_on_without_its_backup() {
    for what in ["truncated", "one bit", "another chip's", "missing"] {
        let (line, disk, path) = interrupted(one_slot).await;
        match what {
            "truncated" => disk.tamper(&path, |bytes| bytes.truncate(bytes.len() / 2)).expect("there"),
            "one bit" => disk
                .tamper(&path, |bytes| {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                })
                .expect("there"),
            "another chip's" => {
                // A unit of another line, stored with the same key.
                let (other, theirs, foreign) = interrupted(|text| one_slot(text).replace("seed: ", "seed: 9")).await;
                assert_ne!(stored(&other.entries()).chip, stored(&line.entries()).chip);
                let bytes = theirs.read(&foreign, 1 << 24).expect("there");
                let key = theirs.read(std::path::Path::new("state/vault.key"), 1 << 16).expect("there");
                disk.replace(&path, &bytes, false).expect("written");
                disk.replace(std::path::Path::new("state/vault.key"), &key, false).expect("written");
            }
            _ => disk.remove(&path).expect("removed"),
        }
        let before = destructive(&line);
        assert!(before > 0, "{what}: it was interrupted too early");
        let (end, entries) = line.work("CUT", 1).await.end_within(&line, LIMIT).await;
        assert_eq!(destructive(&line), before, "{what}: something was changed without a backup");
        assert_ne!(end, Some(End::Complete), "{what}");
        let why = |entry: &Entry| match &entry.fact {
            Fact::RunInterrupted { code, detail, .. } => Some((*code, detail.clone())),
            _ => None,
        };
        let last = entries.iter().rev().find_map(why);
        assert_eq!(last.as_ref().map(|last| last.0), Some(FailureCode::DiskFailed), "{what}: {last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_place_stands_in_for_a_damaged_file() {
    let with_copy = |text: String| format!("{}\nvault:\n  copy: ../second\n", one_slot(text));
    let (line, disk, path) = interrupted(with_copy).await;
    disk.tamper(&path, |bytes| bytes.truncate(100)).expect("there");
    let (end, entries) = line.run("CUT", 1).await;
    assert_eq!(end, End::Complete);
    let [record] = records(&entries, "CUT").try_into().expect("one run");
    assert_eq!((record.outcome, record.flags.resumed), (Outcome::Pass, true), "{record:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_place_that_cannot_be_written_stops_before_anything_is_changed() {
    let disk = MemoryDisk::new();
    let with_copy = |text: String| format!("{}\nvault:\n  copy: ../second\n", one_slot(text));
    let line = Line::on(Arc::new(disk.clone()), station("stations/demo.yaml", with_copy), 1).await;
    let copy = line.station.vault.copy.clone().expect("a second place");
    disk.create_dir_all(copy.parent().expect("above it")).expect("made");
    disk.create(&copy, b"a file in the place of a directory").expect("made");
    let (witness, events) = saboteur(|_| {});
    let (_, entries) = line.work_before("FULL", 1, witness).await.end_within(&line, LIMIT).await;
    let events = events.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(!events.is_empty() && !events.iter().any(BusEvent::is_destructive), "{events:#?}");
    let all = records(&entries, "FULL");
    assert!(all.iter().any(|record| record.code == Some(FailureCode::DiskFailed)), "{all:#?}");
    assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::BackupStored { .. } | Fact::Intent { .. })));
}
