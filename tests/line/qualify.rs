//! Qualifications: real runs in virtual time, and what is computed from their facts.

use std::sync::Arc;

use stationmaster::controller::{End, Product};
use stationmaster::domain::{Fact, FailureCode, Guard, Outcome, PageRange, Phase, Qualification, Wait};
use stationmaster::ledger;
use stationmaster::report::{Qualifier, QualifyInput, Standings};

use crate::harness::{Line, assert_sound, records, station, two_slots};
use crate::xqcn::{AGAIN, Tampered, eg25};

const BATCH: &str = "Q";
const UNITS: u32 = 4;

/// The demonstration line with two slots and one kind of module.
fn one_kind(text: String) -> String {
    let mut text = two_slots(text);
    for others in [
        "    - model: RM500Q-GL\n      revision: RM500QGLABR11A06M4G_01.201.01.201\n",
        "    - model: RM520N-GL\n      revision: RM520NGLAAR03A02M4G_01.200.01.200\n",
        "    - model: EC25\n      revision: EC25EFAR06A06M4G_01.001.01.001\n",
    ] {
        assert!(text.contains(others), "{others}");
        text = text.replace(others, "");
    }
    text
}

async fn line(faults: &str) -> Line {
    let mut line = Line::new(station("stations/demo.yaml", |text| one_kind(text) + faults), UNITS).await;
    line.products.retain(|product| product.profile.name == "eg25-g");
    line.products[0].read_twice = true;
    line.products[0].round_trip = true;
    line
}

fn qualification<'a>(line: &Line, facts: impl IntoIterator<Item = &'a Fact>) -> Qualification {
    let Product { profile, package, .. } = &line.products[0];
    let batch = BATCH.parse().expect("a batch name");
    let mut qualifier = Qualifier::new(QualifyInput {
        station: &line.station.name,
        batch: &batch,
        profile,
        package_digest: package.digest(),
        simulated: true,
        units: UNITS,
        round_trip: line.products[0].round_trip,
    });
    facts.into_iter().for_each(|fact| qualifier.follow(fact));
    qualifier.conclude()
}

#[tokio::test(start_paused = true)]
async fn a_programmer_that_tells_nothing_of_bad_blocks_is_found() {
    let line = line("  faults:\n    - { fault: bad-blocks-untold, unit: 2 }\n").await;
    let (end, entries) = line.run(BATCH, UNITS).await;
    assert_eq!(end, End::Complete);
    let facts: Vec<Fact> = entries.into_iter().map(|entry| entry.fact).collect();
    let found = qualification(&line, &facts);
    assert!(!found.qualified && found.restored == Some(UNITS - 1), "{found:#?}");
    assert!(found.findings.iter().any(|finding| finding.contains("bad blocks")), "{:#?}", found.findings);
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_keeps_what_it_promises_is_qualified_by_its_runs() {
    let line = line("").await;
    let (end, entries) = line.run(BATCH, UNITS).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let facts: Vec<Fact> = entries.into_iter().map(|entry| entry.fact).collect();
    let confirmed =
        facts.iter().filter(|fact| matches!(fact, Fact::BackupConfirmed { bytes, .. } if *bytes > 20_000_000));
    assert_eq!(confirmed.count(), 4, "every backup was read twice, as a whole");

    let found = qualification(&line, &facts);
    assert!(found.qualified, "{:?}", found.findings);
    assert_eq!((found.units, found.units_asked, found.read_twice, found.slots), (4, 4, 4, 2));
    assert_eq!((found.runs.len(), found.restored), (4, Some(4)));
    let names: Vec<&str> = found.guarded.iter().map(|part| part.partition.as_str()).collect();
    assert_eq!(names, ["EFS2", "sys_rev", "RAWDATA"]);
    assert_eq!(found.guarded[0].range, PageRange { start: 1280, pages: 8704 });
    assert!(found.guarded[0].used_pages_min > 0 && found.guarded[0].used_pages_min <= found.guarded[0].used_pages_max);

    let waits: Vec<Wait> = found.waits.iter().map(|spread| spread.wait).collect();
    assert_eq!(waits, Wait::ALL, "each deadline of a profile was needed for something");
    for spread in &found.waits {
        assert!(spread.milliseconds.median <= spread.milliseconds.p99, "{spread:?}");
        assert!(spread.milliseconds.p99 < spread.limit_ms && spread.proposed_ms >= spread.milliseconds.p99 * 3);
        assert!(spread.proposed_ms >= 1000 && spread.proposed_ms.is_multiple_of(1000), "{spread:?}");
    }
    let wait = |wanted: Wait| found.waits.iter().find(|spread| spread.wait == wanted).expect("each is there");
    assert!(wait(Wait::Boot).milliseconds.median > 2_000, "a boot takes its time: {:?}", wait(Wait::Boot));
    assert_eq!(wait(Wait::Boot).limit_ms, 90_000);

    let phase = |wanted: Phase| found.phases.iter().find(|spread| spread.phase == wanted).expect("it was entered");
    let flash = phase(Phase::Flash).milliseconds;
    assert!(flash.median > 0 && found.run_ms.median > flash.p99 + phase(Phase::Backup).milliseconds.median);
    // Two slots work at the same time.
    assert!(found.takt_ms < found.run_ms.p99 && found.takt_ms > found.run_ms.median / 3, "{found:#?}");
    for record in records(&line.entries(), BATCH) {
        assert!(!record.flags.unqualified && record.waits.len() == Wait::ALL.len(), "{record:#?}");
        assert!(!record.flags.repaired, "it was well: {record:#?}");
    }
    assert_short_of_proof(&line, &facts);
    assert_rests_on_its_runs(&line, &found).await;
    assert_counts_for_that_profile(found);
}

/// As a fact of the ledger it stands behind the runs that it rests on, and nowhere else.
async fn assert_rests_on_its_runs(line: &Line, found: &Qualification) {
    let unheard = Qualification { runs: vec![stationmaster::domain::RunId::new(1, &[7; 10])], ..found.clone() };
    for (fact, is_sound) in [(found.clone(), true), (unheard, false)] {
        line.append(Fact::Qualified(Box::new(fact))).await;
        let report = ledger::verify(line.disk.as_ref(), "state/ledger".as_ref()).expect("a ledger");
        assert_eq!(report.difference.is_none(), is_sound, "{:?}", report.difference);
    }
}

/// What would keep the profile from being qualified by the same runs.
fn assert_short_of_proof(line: &Line, facts: &[Fact]) {
    let with = |change: &dyn Fn(usize, &mut Fact)| {
        let mut changed = facts.to_vec();
        let finished = |fact: &Fact| matches!(fact, Fact::RunFinished(_) | Fact::BackupStored { .. });
        let relevant = changed.iter_mut().filter(|fact| finished(fact) || matches!(fact, Fact::BackupConfirmed { .. }));
        relevant.enumerate().for_each(|(index, fact)| change(index, fact));
        let found = qualification(line, &changed);
        assert_eq!(found.qualified, found.findings.is_empty());
        found.findings.join("; ")
    };
    let record_of = |fact: &mut Fact, change: &dyn Fn(&mut stationmaster::domain::RunRecord)| {
        if let Fact::RunFinished(record) = fact {
            change(record);
        }
    };
    assert_eq!(with(&|_, _| {}), "");
    let other = stationmaster::domain::Sha256Digest::of(b"another profile");
    let unproven = with(&|_, fact| record_of(fact, &|record| record.profile_digest = Some(other)));
    assert_eq!(unproven, "0 of 4 units passed", "runs of another profile prove nothing");
    let only_verified = with(&|_, fact| record_of(fact, &|record| record.bytes_written = 0));
    assert_eq!(only_verified, "0 of 4 units passed");
    let resumed = with(&|index, fact| record_of(fact, &|record| record.flags.resumed = index < 6));
    assert!(resumed.contains(" was interrupted: its times are not whole; "), "{resumed}");
    assert!(resumed.ends_with(" of 4 units passed"), "{resumed}");
    let slow = with(&|_, fact| {
        record_of(fact, &|record| {
            record.waits.iter_mut().filter(|time| time.wait == Wait::Boot).for_each(|time| time.milliseconds = 60_001);
        });
    });
    assert_eq!(slow, "boot_s leaves no room: it is 90.000 s, and 60.001 s was needed");
    let moved = with(&|index, fact| {
        if let Fact::BackupStored { backup, .. } = fact
            && index > 1
        {
            backup.parts.iter_mut().for_each(|part| part.range.start += 64);
        }
    });
    assert!(moved.starts_with("efs2 does not lie where it lies on other units: run "), "{moved}");
    let once = with(&|_, fact| {
        if let Fact::BackupConfirmed { run, .. } = fact {
            *run = stationmaster::domain::RunId::new(1, &[0; 10]);
        }
    });
    assert_eq!(once, "the backups of 4 units were not read twice");
    let found = qualification(line, facts.iter().filter(|fact| !matches!(fact, Fact::Restored { .. })));
    assert_eq!(found.findings, ["the backups of 4 units were not written back"]);
}

fn assert_counts_for_that_profile(found: Qualification) {
    let other = stationmaster::domain::Sha256Digest::of(b"another");
    let (profile, package) = (found.profile_digest, found.package_digest);
    let mut standings = Standings::default();
    assert!(standings.of(profile, package, true).is_none());
    standings.follow(&Fact::Qualified(Box::new(found.clone())));
    assert!(standings.of(profile, package, true).is_some() && standings.of_profile(profile, true).is_some());
    assert!(standings.of(other, package, true).is_none(), "another profile file");
    assert!(standings.of(profile, other, true).is_none(), "another package");
    assert!(standings.of(profile, package, false).is_none(), "simulated modules say nothing of real ones");
    standings.follow(&Fact::Qualified(Box::new(Qualification { qualified: false, ..found })));
    assert!(standings.of(profile, package, true).is_none(), "the last word counts");
}

#[tokio::test(start_paused = true)]
async fn a_programmer_that_reads_two_things_does_not_qualify_and_nothing_is_written() {
    let line = line("  faults:\n    - { fault: reads-differ, unit: 2 }\n").await;
    let (end, entries) = line.run(BATCH, UNITS).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let records = records(&entries, BATCH);
    let [bad] = records.iter().filter(|record| record.outcome != Outcome::Pass).collect::<Vec<_>>()[..] else {
        panic!("one unit does not pass: {records:#?}");
    };
    assert_eq!((bad.outcome, bad.code), (Outcome::Held, Some(FailureCode::BackupFailed)));
    assert_eq!((bad.bytes_written, bad.detail.as_str()), (0, "EFS2 was read twice and differs"));
    assert!(!entries.iter().any(|entry| matches!(&entry.fact, Fact::Intent { run, .. } if *run == bad.run)));
    let found = qualification(&line, entries.iter().map(|entry| &entry.fact));
    assert!(!found.qualified && found.units == 3);
    let expected = format!("run {} in slot {}: HELD BACKUP_FAILED", bad.run, bad.slot);
    assert_eq!(found.findings, [expected, "3 of 4 units passed".to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_profile_that_is_not_qualified_say_so_and_are_read_once() {
    let mut line = line("").await;
    line.products[0].read_twice = false;
    line.products[0].round_trip = false;
    line.products[0].unqualified = true;
    let (_, entries) = line.run(BATCH, 1).await;
    let [record] = records(&entries, BATCH).try_into().expect("one run");
    assert_eq!((record.outcome, record.flags.to_string().as_str()), (Outcome::Pass, "simulated unqualified"));
    assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::BackupConfirmed { .. })));
    assert_eq!(qualification(&line, entries.iter().map(|entry| &entry.fact)).restored, None, "it was not asked for");
    let row = stationmaster::report::row(1, &stationmaster::domain::Sha256Digest::of(b""), &record);
    let flags = stationmaster::report::COLUMNS.iter().position(|column| *column == "flags").expect("a column");
    assert_eq!(row[flags], "simulated unqualified");
}

/// A line whose profile backs up over DIAG alone.
async fn line_over_diag() -> Line {
    let mut line = Line::new(eg25(Guard::Xqcn, "no-table"), UNITS).await;
    line.products.retain(|product| product.profile.name == "eg25-g");
    line.products[0].read_twice = true;
    line
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_backs_up_over_diag_alone_is_qualified_by_what_was_read_twice_there() {
    let line = line_over_diag().await;
    let (end, entries) = line.run(BATCH, UNITS).await;
    assert_eq!(end, End::Complete);
    assert_sound(&line, &entries);
    let found = qualification(&line, entries.iter().map(|entry| &entry.fact));
    assert!(found.qualified, "{:?}", found.findings);
    assert_eq!((found.units, found.read_twice, found.guarded.len()), (4, 4, 0));
    let unconfirmed = entries.iter().map(|entry| &entry.fact);
    let found = qualification(&line, unconfirmed.filter(|fact| !matches!(fact, Fact::BackupConfirmed { .. })));
    assert_eq!(found.findings, ["the backups of 4 units were not read twice"]);
}

#[tokio::test(start_paused = true)]
async fn what_differs_when_it_is_read_again_over_diag_is_no_backup() {
    let mut line = line_over_diag().await;
    line.bus = Some(Tampered::bus(line.factory.bus(), Arc::clone(&line.station), &AGAIN));
    let (_, entries) = line.run(BATCH, 1).await;
    assert_sound(&line, &entries);
    let [record] = records(&entries, BATCH).try_into().expect("one run");
    assert_eq!((record.outcome, record.code), (Outcome::Held, Some(FailureCode::BackupFailed)), "{record:#?}");
    assert!(record.detail.ends_with("was read twice and differs"), "{}", record.detail);
    assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::Intent { .. } | Fact::BackupConfirmed { .. })));
}
