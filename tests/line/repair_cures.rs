//! What is done to units that arrive ill, and what is known of them afterwards: no cure is taken for one that was none,
//! none is tried on what is whole, and what an ill unit held is nobody's backup.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stationmaster::controller::Task;
use stationmaster::domain::{BackupRef, Condition, Cure, Fact, FailureCode, Outcome, RunRecord, Sha256Digest};
use stationmaster::ledger::Entry;
use stationmaster::sim::UnitTruth;
use stationmaster::vault::Vault;

use crate::harness::{Line, Witness};
use crate::meddler::{Act, meddle};
use crate::repair::{KINDS, REPAIRED, UNIT, bench, end, items, out_and_in, put_in, run, run_for, was_touched};

const REWORK: &str = "rework: {}\n";
const STUCK: &str = "    - { fault: mode-stuck, unit: 7 }\n";

/// The backups that the last run stored, the first first, and its cures.
fn done(entries: &[Entry], record: &RunRecord) -> (Vec<BackupRef>, Vec<Cure>) {
    let (mut stored, mut cures) = (Vec::new(), Vec::new());
    for entry in entries {
        match &entry.fact {
            Fact::BackupStored { run, backup } if *run == record.run => stored.push(backup.clone()),
            Fact::Cure { run, cure } if *run == record.run => cures.push(*cure),
            _ => {}
        }
    }
    (stored, cures)
}

fn directory(unit: &UnitTruth) -> PathBuf {
    PathBuf::from("state/vault").join(unit.identity().chip.to_string())
}

/// Removes the unit's backups, but the one that is kept.
fn lose_backups(line: &Line, unit: &UnitTruth, kept: Option<&BackupRef>) {
    let directory = directory(unit);
    let kept = kept.map(|kept| kept.id.to_string());
    for entry in line.disk.list(&directory).expect("it has backups") {
        if kept.as_ref().is_none_or(|kept| !entry.name.contains(kept.as_str())) {
            line.disk.remove(&directory.join(entry.name)).expect("a file");
        }
    }
}

/// A flag, and who raises it when that fact is durable.
fn once(wanted: fn(&Fact) -> bool) -> (Arc<AtomicBool>, Witness) {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    let witness: Witness = Box::new(move |_, _, entry| {
        if wanted(&entry.fact) {
            raised.store(true, Ordering::Relaxed);
        }
    });
    (flag, witness)
}

#[tokio::test(start_paused = true)]
async fn what_a_unit_held_while_it_was_ill_is_not_its_cure() {
    let line = bench(REWORK, STUCK).await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    let record = run(&line, "STUCK").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    let (stored, cures) = done(&line.entries(), &record);
    assert_eq!(cures, [Cure::LeaveMode]);
    let [ill, well] = &stored[..] else { panic!("two backups: {stored:#?}") };
    assert!(ill.suspect.as_deref().is_some_and(|why| why.contains("mode stuck")), "{ill:#?}");
    assert_eq!((&well.suspect, record.backup), (&None, Some(well.id)));
    let before = items(&unit);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let record = run(&line, "LOST").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert_eq!(record.backup, Some(well.id));
    assert_eq!(items(&unit).imei(), before.imei());
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_left_its_mode_with_another_imei_is_not_well() {
    let mut line = bench(REWORK, STUCK).await;
    let (is_cured, witness) = once(|fact| matches!(fact, Fact::Cure { .. }));
    meddle(&mut line, move |command| match command {
        "AT+CGSN" if is_cured.load(Ordering::Relaxed) => Act::Say(&["490154203237518", "OK"]),
        _ => Act::Pass,
    });
    put_in(&line, UNIT, KINDS[0], "A1");
    let record = run_for(&line, "OTHER", Task::Line, witness).await;
    assert_eq!((record.outcome, record.code), (Outcome::Fail, Some(FailureCode::ImeiChanged)), "{record:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_calibration_is_only_not_answered_at_first_keeps_what_it_has() {
    for faults in ["", STUCK] {
        let mut line = bench(REWORK, faults).await;
        let unit = put_in(&line, UNIT, KINDS[0], "A1");
        let first = run(&line, "FIRST").await;
        assert_eq!(first.outcome, Outcome::Pass);
        lose_backups(&line, &unit, None);
        out_and_in(&line, &unit, "A1", |_| {});
        let (is_told, witness) = once(|fact| matches!(fact, Fact::Diagnosed { .. }));
        // It was cured of its mode in its first run, and says that it is not.
        let stuck = Arc::new(AtomicBool::new(!faults.is_empty()));
        meddle(&mut line, move |command| match command {
            "AT+CFUN=1" => {
                stuck.store(false, Ordering::Relaxed);
                Act::Pass
            }
            "AT+CFUN?" if stuck.load(Ordering::Relaxed) => Act::Say(&["+CFUN: 5", "OK"]),
            command if command.starts_with("AT+QNVFR") && !is_told.load(Ordering::Relaxed) => {
                Act::Say(&["+CME ERROR: 4"])
            }
            _ => Act::Pass,
        });
        let record = run_for(&line, "AGAIN", Task::Line, witness).await;
        assert_eq!(end(&record), REPAIRED, "{record:#?}");
        let (stored, cures) = done(&line.entries(), &record);
        let expected: &[Cure] = if faults.is_empty() { &[] } else { &[Cure::LeaveMode] };
        assert_eq!(cures, expected, "nothing is put over what is whole");
        assert_eq!(stored.iter().map(|backup| backup.suspect.is_some()).collect::<Vec<_>>(), [true, false]);
        assert!(!was_touched(&unit));
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_copy_is_put_back_only_over_what_is_saved_and_only_to_the_same_unit() {
    let mut line = bench(REWORK, "").await;
    let unit = put_in(&line, UNIT, KINDS[0], "A1");
    assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
    lose_backups(&line, &unit, None);
    out_and_in(&line, &unit, "A1", |unit| unit.lose_calibration().expect("its storage works"));
    let (is_told, witness) = once(|fact| matches!(fact, Fact::Diagnosed { .. }));
    meddle(&mut line, move |command| match command {
        "AT+CGSN" if is_told.load(Ordering::Relaxed) => Act::Say(&["490154203237518", "OK"]),
        _ => Act::Pass,
    });
    let record = run_for(&line, "OTHER", Task::Line, witness).await;
    assert_eq!((record.outcome, record.code), (Outcome::Held, Some(FailureCode::ImeiChanged)), "{record:#?}");
    assert_eq!(done(&line.entries(), &record).1, []);

    line.bus = None;
    out_and_in(&line, &unit, "A1", |_| {});
    let record = run(&line, "COPY").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    let entries = line.entries();
    let (stored, cures) = done(&entries, &record);
    assert_eq!(cures, [Cure::OwnCopy]);
    let [ill, well] = &stored[..] else { panic!("two backups: {stored:#?}") };
    assert!(ill.suspect.is_some() && well.suspect.is_none(), "{stored:#?}");
    let place = |wanted: &dyn Fn(&Fact) -> bool| entries.iter().rposition(|entry| wanted(&entry.fact));
    let saved = place(&|fact| matches!(fact, Fact::BackupStored { backup, .. } if backup.id == ill.id));
    assert!(saved < place(&|fact| matches!(fact, Fact::Cure { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_answered_late_or_never_is_judged_by_what_came_of_it() {
    for late in [12, 600] {
        let mut line = bench(REWORK, STUCK).await;
        meddle(&mut line, move |command| match command {
            "AT+CFUN=1" => Act::Late(Duration::from_secs(late)),
            _ => Act::Pass,
        });
        put_in(&line, UNIT, KINDS[0], "A1");
        let record = run(&line, "LATE").await;
        assert_eq!(end(&record), REPAIRED, "{late} s: {record:#?}");
        let condition = record.diagnosis.as_ref().map(|diagnosis| diagnosis.condition);
        assert_eq!(condition, Some(Condition::ModeStuck), "{late} s");

        let mut line = bench(REWORK, "").await;
        let unit = put_in(&line, UNIT, KINDS[0], "A1");
        assert_eq!(run(&line, "FIRST").await.outcome, Outcome::Pass);
        lose_backups(&line, &unit, None);
        out_and_in(&line, &unit, "A1", |unit| unit.lose_calibration().expect("its storage works"));
        meddle(&mut line, move |command| match command {
            "AT+QPRTPARA=3" => Act::Late(Duration::from_secs(late)),
            _ => Act::Pass,
        });
        let record = run(&line, "COPY").await;
        assert_eq!(end(&record), REPAIRED, "{late} s: {record:#?}");
    }
}

/// What a backup holds, as it was stored before backups were sealed.
fn first_form(line: &Line, backup: &BackupRef) -> Vec<u8> {
    let stored = Vault::new(Arc::clone(&line.disk), PathBuf::from("state/vault")).load(backup).expect("it is good");
    let mut frame = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    frame.window_log(16).expect("a window");
    let mut parts = Vec::new();
    for part in &stored.parts {
        frame.write_all(&part.bytes).expect("in memory");
        parts.push(format!(
            "{{\"partition\":\"{}\",\"range\":{{\"start\":{},\"pages\":{}}},\"sha256\":\"{}\",\"efs\":{},\
             \"pages\":[[\"u\",{}]]}}",
            part.partition,
            part.range.start,
            part.range.pages,
            Sha256Digest::of(&part.bytes),
            part.efs,
            part.range.pages,
        ));
    }
    let geometry = backup.geometry.expect("pages have a geometry");
    let index = format!(
        "{{\"schema\":1,\"chip\":\"{}\",\"imei\":\"{}\",\"geometry\":{{\"page_bytes\":{},\"pages_per_block\":{}}},\
         \"parts\":[{}]}}",
        backup.chip,
        backup.imei,
        geometry.page_bytes,
        geometry.pages_per_block,
        parts.join(","),
    );
    let pages = frame.finish().expect("in memory");
    [b"SMBACK01", &pages[..], index.as_bytes(), &(index.len() as u64).to_le_bytes(), b"SMBINDEX"].concat()
}

#[tokio::test(start_paused = true)]
async fn a_backup_without_bad_blocks_does_not_stand_before_one_that_can_be_restored() {
    let line = bench(REWORK, "").await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let first = run(&line, "FIRST").await;
    let (stored, _) = done(&line.entries(), &first);
    let bytes = first_form(&line, &stored[0]);
    let path = directory(&unit).join(format!("{}.smb", Sha256Digest::of(&bytes)));
    line.disk.replace(&path, &bytes, false).expect("written");
    let vault = Vault::new(Arc::clone(&line.disk), PathBuf::from("state/vault"));
    let [old, _] = &vault.backups_of(unit.identity().chip).expect("two")[..] else { panic!("two backups") };
    let stationmaster::vault::Verdict::Good(old) = vault.judge(&old.entry).expect("read") else { panic!("it is good") };
    assert_eq!(old.bad_blocks, None);
    line.append(Fact::BackupImported { backup: old.clone(), given_by: "a test".to_owned() }).await;

    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let record = run(&line, "SEALED").await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
    assert_eq!(record.backup, Some(stored[0].id));

    // Where it is the only one, that is what is said of it.
    lose_backups(&line, &unit, Some(&old));
    assert!(line.disk.list(Path::new(&directory(&unit))).expect("a directory").len() == 1);
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);
    let record = run(&line, "OLD").await;
    assert_eq!(record.code, Some(FailureCode::RestoreBadBlocks), "{record:#?}");
    assert!(record.detail.contains("before bad blocks were noted"), "{}", record.detail);
}

#[tokio::test(start_paused = true)]
async fn why_no_backup_can_be_restored_is_said_with_the_file() {
    let line = bench(REWORK, "").await;
    let unit = put_in(&line, UNIT, KINDS[1], "A1");
    let chip = unit.identity().chip;
    let by_hand = |backup| Task::Restore { backup };
    let none = run_for(&line, "NONE", by_hand(None), Box::new(|_, _, _| {})).await;
    assert_eq!(none.code, Some(FailureCode::BackupMissing), "{none:#?}");
    assert_eq!(none.detail, format!("no backup of chip {chip} was ever made or taken in at this station"));

    let first = run(&line, "FIRST").await;
    let (stored, _) = done(&line.entries(), &first);
    let id = stored[0].id;
    let path = directory(&unit).join(format!("0001-{id}.smb.age"));
    let whole = line.disk.read(&path, 1 << 24).expect("its backup");
    out_and_in(&line, &unit, "A1", UnitTruth::lose_efs);

    line.disk.replace(&path, &whole[..100], false).expect("cut off");
    let record = run_for(&line, "DAMAGED", by_hand(None), Box::new(|_, _, _| {})).await;
    assert_eq!(record.code, Some(FailureCode::BackupMissing), "{record:#?}");
    let damaged = format!("backup {}: {}: it is cut off in its head", id.short(), path.display());
    assert!(record.detail.contains(&damaged), "{}", record.detail);
    let record = run_for(&line, "NAMED", by_hand(Some(id)), Box::new(|_, _, _| {})).await;
    assert_eq!(record.code, Some(FailureCode::BackupInvalid), "{record:#?}");
    assert!(record.detail.contains(&damaged), "{}", record.detail);

    line.disk.remove(&path).expect("there");
    let gone = format!("its file is missing in {}", directory(&unit).display());
    for (batch, wanted) in [("GONE", None), ("NAMED-GONE", Some(id))] {
        let record = run_for(&line, batch, by_hand(wanted), Box::new(|_, _, _| {})).await;
        assert_eq!(record.code, Some(FailureCode::BackupMissing), "{record:#?}");
        assert!(record.detail.contains(&gone), "{}", record.detail);
    }
    assert!(!was_touched(&unit));

    // Once the file is put back, as the detail says, the unit is cured.
    line.disk.replace(&path, &whole, false).expect("put back");
    let record = run_for(&line, "BACK", by_hand(Some(id)), Box::new(|_, _, _| {})).await;
    assert_eq!(end(&record), REPAIRED, "{record:#?}");
}
