//! Modules that do not start are restored by hand where they are met: in download mode, or on the way there. What nobody
//! can say of them comes from their own backup, and without one they are left as they came.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stationmaster::config::{Checks, Profile};
use stationmaster::controller::{End, Product, Task};
use stationmaster::domain::{
    BackupKind, BackupRef, Fact, FailureCode, Imei, Outcome, RunRecord, Sha256Digest, SlotName,
};
use stationmaster::ledger::Entry;
use stationmaster::sim::efs::EfsState;
use stationmaster::sim::{Arrival, BusEvent, Moment, UnitTruth};
use stationmaster::vault::Vault;

use crate::harness::{Line, assert_sound, records, until_fact};
use crate::repair::{
    DONOR, KINDS, REPAIRED, UNIT, backup_of, bench, end, out_and_in, own, put_in, run, run_for, save, was_touched,
};
use crate::xqcn::kept;

/// What becomes of a unit before it comes to be restored.
type Harm = fn(&UnitTruth);

fn slot(name: &str) -> SlotName {
    name.parse().expect("a slot's name")
}

/// Erases every block of a partition.
fn erase(unit: &UnitTruth, partition: &str) {
    let per_block = u64::from(unit.identity().model.geometry.pages_per_block);
    let range = unit.flash(|_, map| map.range(partition)).expect("it has one");
    for block in range.start / per_block..range.end() / per_block {
        unit.erase_block(block).expect("a block");
    }
}

/// Its boot loader is gone, and with it its EFS.
fn is_dead(unit: &UnitTruth) {
    unit.lose_efs();
    unit.erase_block(0).expect("a block");
}

fn of_hand(backup: Option<&BackupRef>) -> Task {
    Task::Restore { backup: backup.map(|backup| backup.id) }
}

async fn by_hand(line: &Line, batch: &str, backup: Option<&BackupRef>) -> RunRecord {
    run_for(line, batch, of_hand(backup), Box::new(|_, _, _| {})).await
}

fn imei_before(record: &RunRecord) -> Option<Imei> {
    record.before.as_ref().and_then(|said| said.imei)
}

/// What a ledger has of a run, in its order.
fn facts(entries: &[Entry], record: &RunRecord) -> Vec<Fact> {
    entries.iter().filter(|entry| entry.fact.run() == Some(record.run)).map(|entry| entry.fact.clone()).collect()
}

fn place(facts: &[Fact], wanted: impl Fn(&Fact) -> bool) -> usize {
    facts.iter().position(wanted).unwrap_or_else(|| panic!("it is not there: {facts:#?}"))
}

#[tokio::test(start_paused = true)]
async fn a_module_that_does_not_start_is_given_its_own_back_by_hand() {
    let harms: [(&str, Harm); 5] = [
        ("no boot loader, no EFS", is_dead),
        ("in download mode and well", |unit| unit.arrive(Arrival::Edl)),
        ("a crash, and then no boot loader", |unit| {
            is_dead(unit);
            unit.arrive(Arrival::Dump);
        }),
        ("no table, no EFS", |unit| {
            unit.lose_efs();
            erase(unit, "MIBIB");
        }),
        ("under the vendor's id", |unit| {
            is_dead(unit);
            unit.keep_vendor_id();
        }),
    ];
    for of in KINDS {
        for (number, (what, harm)) in harms.into_iter().enumerate() {
            let line = bench("", "").await;
            let unit = put_in(&line, UNIT, of, "A1");
            let before = own(&unit);
            let (_, entries) = save(&line).await;
            let backup = backup_of(&entries, unit.identity().chip);
            out_and_in(&line, &unit, "A1", harm);
            let named = (number % 2 == 0).then_some(&backup);
            let record = by_hand(&line, "BACK", named).await;
            assert_eq!(end(&record), REPAIRED, "{what}: {record:#?}");
            assert_eq!((record.boots_verified, record.backup), (2, Some(backup.id)), "{what}");
            assert_eq!(imei_before(&record), Some(unit.identity().imei), "{what}");
            assert!(record.detail.contains("arrived in download mode"), "{what}: {}", record.detail);
            assert_eq!(own(&unit), before, "{what}");
            assert!(was_touched(&unit), "{what}");
            let facts = facts(&line.entries(), &record);
            let chosen = place(&facts, |fact| matches!(fact, Fact::BackupChosen { by_hand: true, .. }));
            let intent = place(&facts, |fact| matches!(fact, Fact::Intent { .. }));
            let announced = place(&facts, |fact| matches!(fact, Fact::RestoreIntent { .. }));
            assert!(chosen < intent && intent < announced, "{what}: {facts:#?}");
            assert!(announced < place(&facts, |fact| matches!(fact, Fact::Staged { .. })), "{what}: {facts:#?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_only_crashed_is_restored_by_hand_as_one_that_runs() {
    let line = bench("", "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let before = own(&unit);
    let (_, entries) = save(&line).await;
    let backup = backup_of(&entries, unit.identity().chip);
    out_and_in(&line, &unit, "A1", |unit| {
        unit.lose_efs();
        unit.arrive(Arrival::Dump);
    });
    let record = by_hand(&line, "CRASH", Some(&backup)).await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert_eq!(imei_before(&record), None, "it was asked, and said none");
    assert_eq!(own(&unit), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_modules_own_is_refused_in_download_mode_too() {
    let line = bench("rework: {}\n", "").await;
    let donor = put_in(&line, DONOR, KINDS[0], "A1");
    assert_eq!(run(&line, "DONOR").await.outcome, Outcome::Pass);
    let of_donor = backup_of(&line.entries(), donor.identity().chip);
    line.factory.unplug(&slot("A1")).expect("a slot");
    let unit = put_in(&line, UNIT, KINDS[0], "A2");
    out_and_in(&line, &unit, "A2", is_dead);
    let refused = async |batch: &str, named: Option<&BackupRef>, code: FailureCode, words: &str| {
        let record = by_hand(&line, batch, named).await;
        assert_eq!(end(&record), (Outcome::Held, Some(code), false, false), "{record:#?}");
        assert!(record.detail.contains(words), "{}", record.detail);
        assert_eq!(record.chip, Some(unit.identity().chip));
        assert!(!unit.events().iter().any(BusEvent::is_destructive));
    };
    let chip = unit.identity().chip.to_string();
    refused("FORCED", Some(&of_donor), FailureCode::BackupOfAnother, &donor.identity().chip.to_string()).await;
    let nothing = BackupRef { id: Sha256Digest::of(b"nothing"), ..of_donor.clone() };
    refused("NOTHING", Some(&nothing), FailureCode::BackupMissing, "ever made or taken in").await;
    refused("NONE", None, FailureCode::EdlUnknownUnit, &format!("chip {chip}")).await;
    refused("AGAIN", None, FailureCode::EdlUnknownUnit, "no good backup of it").await;
    // Nor does the line do on its own what a person may.
    let record = run(&line, "LINE").await;
    assert_eq!((record.outcome, record.code), (Outcome::Held, Some(FailureCode::EdlUnknownUnit)), "{record:#?}");
    assert!(!unit.events().iter().any(BusEvent::is_destructive));
}

#[tokio::test(start_paused = true)]
async fn a_module_in_download_mode_with_other_bad_blocks_is_left_there_and_can_be_tried_again() {
    let line = bench("", "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let (_, entries) = save(&line).await;
    let backup = backup_of(&entries, unit.identity().chip);
    out_and_in(&line, &unit, "A1", |unit| {
        is_dead(unit);
        let geometry = unit.identity().model.geometry;
        let range = unit.flash(|_, map| map.range("EFS2")).expect("it has one");
        unit.spoil_block(range.start / u64::from(geometry.pages_per_block) + 3).expect("a block");
    });
    // Whoever met it left its programmer, or its conversation, as the next one can go on.
    for batch in ["FIRST", "SECOND"] {
        let record = by_hand(&line, batch, Some(&backup)).await;
        let expected = (Outcome::Fail, Some(FailureCode::RestoreBadBlocks), false, true);
        assert_eq!(end(&record), expected, "{record:#?}");
        assert!(!unit.events().iter().any(BusEvent::is_destructive));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_was_cut_off_in_download_mode_is_finished_by_hand_or_on_the_line() {
    for task in [Task::Line, Task::Restore { backup: None }] {
        let line = bench("", "").await;
        let unit = put_in(&line, UNIT, KINDS[1], "A1");
        let before = own(&unit);
        let (_, entries) = save(&line).await;
        let backup = backup_of(&entries, unit.identity().chip);
        out_and_in(&line, &unit, "A1", is_dead);
        let work = line.work_for("HAND-2", 1, of_hand(Some(&backup)), Box::new(|_, _, _| {})).await;
        until_fact(&line, &work, |fact| matches!(fact, Fact::RestoreIntent { .. })).await;
        let stop = unit.stop_at(3, Moment::Middle);
        stop.reached().await;
        line.factory.unplug(&slot("A1")).expect("a slot");
        drop(stop);
        until_fact(&line, &work, |fact| matches!(fact, Fact::RunInterrupted { .. })).await;
        work.handle.stop_gently();
        assert_eq!(work.end(&line).await.0, End::Stopped);

        line.factory.plug(UNIT, &slot("A1")).expect("it is free");
        let work = line.work_for("THEN", 1, task, Box::new(|_, _, _| {})).await;
        until_fact(&line, &work, |fact| matches!(fact, Fact::RunFinished(record) if record.flags.resumed)).await;
        work.handle.stop_gently();
        let (_, entries) = work.end(&line).await;
        assert_sound(&line, &entries);
        let [record] = records(&entries, "HAND-2").try_into().expect("one run");
        assert_eq!((end(&record), record.flags.resumed), (REPAIRED, true), "{record:#?}");
        assert_eq!(own(&unit), before);
    }
}

/// A module with both kinds of backup, as it was then.
async fn with_both() -> (Line, UnitTruth, [BackupRef; 2]) {
    let line = bench("guard: raw+xqcn\n", "").await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let (_, entries) = save(&line).await;
    let stored = entries.into_iter().filter_map(|entry| match entry.fact {
        Fact::BackupStored { backup, .. } => Some(backup),
        _ => None,
    });
    let both: Vec<BackupRef> = stored.collect();
    assert_eq!(both.iter().map(|backup| backup.kind).collect::<Vec<_>>(), [BackupKind::Xqcn, BackupKind::Raw]);
    (line, unit, both.try_into().expect("two"))
}

/// Damages the module's EFS so that it is still one, or a block under it, or takes all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Calibration,
    BadBlock,
    Blank,
}

#[tokio::test(start_paused = true)]
async fn a_module_in_download_mode_is_given_its_own_back_over_diag_where_its_pages_cannot_be() {
    for damage in [Damage::Calibration, Damage::BadBlock, Damage::Blank] {
        let (line, unit, [over_diag, raw]) = with_both().await;
        let (imei, before) = (unit.identity().imei, kept(&unit));
        if damage != Damage::BadBlock {
            let directory = PathBuf::from("state/vault").join(unit.identity().chip.to_string());
            for entry in line.disk.list(&directory).expect("it has backups") {
                if entry.name.contains(&raw.id.to_string()) {
                    line.disk.remove(&directory.join(entry.name)).expect("a file");
                }
            }
        }
        out_and_in(&line, &unit, "A1", |unit| {
            match damage {
                Damage::Calibration => unit.lose_calibration().expect("its storage works"),
                Damage::Blank => unit.lose_efs(),
                Damage::BadBlock => {
                    let per_block = u64::from(unit.identity().model.geometry.pages_per_block);
                    let range = unit.flash(|_, map| map.range("EFS2")).expect("it has one");
                    unit.spoil_block(range.start / per_block + 3).expect("a block");
                    unit.lose_efs();
                }
            }
            unit.erase_block(0).expect("a block");
        });
        let record = by_hand(&line, "DIAG", None).await;
        if damage == Damage::Blank {
            // The package writes the partition table, and what the table was could not be saved with the EFS.
            let expected = (Outcome::Held, Some(FailureCode::BackupInvalid), false, false);
            assert_eq!(end(&record), expected, "{record:#?}");
            assert!(!unit.events().iter().any(BusEvent::is_destructive));
            continue;
        }
        assert_eq!(end(&record), REPAIRED, "{damage:?}: {record:#?}");
        assert_eq!(record.backup, Some(over_diag.id), "{damage:?}");
        let after = unit.inspect().expect("its storage can be read");
        assert_eq!((after.efs, after.imei, unit.cfun()), (EfsState::Present, Some(imei.to_string()), 1), "{damage:?}");
        assert!(kept(&unit) == before, "{damage:?}: NV items, calibration, bands and files are its own");
        // What was read of it before is nobody's cure.
        let saved = facts(&line.entries(), &record).into_iter().find_map(|fact| match fact {
            Fact::BackupStored { backup, .. } => Some(backup),
            _ => None,
        });
        let is_suspect = saved.map(|saved| saved.suspect.is_some_and(|why| why.contains("download mode")));
        assert_eq!(is_suspect, (damage == Damage::Calibration).then_some(true), "{damage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_of_another_station_says_no_model_and_its_chip_must_be_of_one_profile() {
    // Two profiles are for the chip of an EG25-G, and only their type allocation codes tell them apart.
    for (of, has_tacs, fits) in [(KINDS[0], false, true), (KINDS[1], true, true), (KINDS[1], false, false)] {
        let mut line = bench("", "").await;
        for Product { profile, .. } in line.products.iter_mut().filter(|_| !has_tacs) {
            let checks = Checks { tacs: Vec::new(), ..profile.checks.clone() };
            *profile = Arc::new(Profile { checks, ..(**profile).clone() });
        }
        let unit = put_in(&line, UNIT, of, "A1");
        let before = own(&unit);
        let (_, entries) = save(&line).await;
        let backup = backup_of(&entries, unit.identity().chip);
        let here = Vault::new(Arc::clone(&line.disk), line.state.join("vault"));
        line.state = PathBuf::from("there");
        let there = Vault::new(Arc::clone(&line.disk), line.state.join("vault"));
        line.disk.create_dir_all(&line.state).expect("a directory in memory");
        let stick = Path::new("0001.smb.age");
        let entries = here.list().expect("it can be read");
        here.export(&entries[0], &[there.prepare().expect("a key")], stick).expect("sealed to the other one");
        let (given, _) = there.import(stick, line.clock.wall()).expect("it is good");
        line.append(Fact::BackupImported { backup: given, given_by: "here".to_owned() }).await;
        out_and_in(&line, &unit, "A1", is_dead);
        let record = by_hand(&line, "THERE", Some(&backup)).await;
        if fits {
            assert_eq!(end(&record), REPAIRED, "{record:#?}");
            assert_eq!(own(&unit), before);
        } else {
            let expected = (Outcome::Held, Some(FailureCode::EdlUnknownUnit), false, false);
            assert_eq!(end(&record), expected, "{record:#?}");
            assert!(record.detail.contains("eg25-g") && record.detail.contains("ec25"), "{}", record.detail);
            assert!(!unit.events().iter().any(BusEvent::is_destructive));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_was_asked_and_then_died_is_restored_by_hand_all_the_same() {
    let line = bench("", "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let before = own(&unit);
    assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
    let backup = backup_of(&line.entries(), unit.identity().chip);
    // A controller that claimed it and died before it changed anything.
    out_and_in(&line, &unit, "A1", |_| {});
    let work = line.work("DIED", 1).await;
    let is_claimed = || line.entries().iter().filter(|entry| matches!(entry.fact, Fact::Claimed { .. })).count() == 2;
    while !is_claimed() {
        line.clock.sleep(Duration::from_millis(100)).await;
    }
    work.kill().await;
    out_and_in(&line, &unit, "A1", is_dead);
    let record = by_hand(&line, "BACK", Some(&backup)).await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert_eq!(own(&unit), before);
}
