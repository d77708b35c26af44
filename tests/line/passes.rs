//! Lines on which nothing goes wrong.

use std::collections::BTreeSet;

use stationmaster::controller::End;
use stationmaster::domain::{Fact, Outcome};

use crate::harness::{Line, assert_sound, records, station};

#[tokio::test(start_paused = true)]
async fn a_line_of_mixed_families_passes_and_goes_on_with_the_next_batch() {
    let line = Line::new(station("stations/demo.yaml", |text| text), 24).await;
    let (end, entries) = line.run("FIRST", 20).await;
    assert_eq!(end, End::Complete);
    let first = records(&entries, "FIRST");
    assert_eq!(first.len(), 20);
    for record in &first {
        assert_eq!((record.outcome, record.code), (Outcome::Pass, None), "{record:#?}");
        assert!(record.flags.simulated);
        assert_eq!(record.boots_verified, 2);
        assert!(record.bytes_written > 1_000_000);
        // The modules write 3.8 MB/s; of images this small, the commands and the last pages take up to 18 ms each.
        assert!((2_600_000..=3_800_000).contains(&record.bytes_per_second), "{}", record.bytes_per_second);
    }
    let imeis: BTreeSet<String> =
        first.iter().filter_map(|record| record.after.as_ref()?.imei.map(|imei| imei.to_string())).collect();
    assert_eq!(imeis.len(), 20, "every unit has its own IMEI");
    let models: BTreeSet<&str> =
        first.iter().filter_map(|record| Some(record.before.as_ref()?.model.as_str())).collect();
    assert_eq!(models.len(), 4);
    assert_sound(&line, &entries);

    let (end, entries) = line.run("SECOND", 4).await;
    assert_eq!(end, End::Complete);
    let second = records(&entries, "SECOND");
    assert_eq!(second.len(), 4);
    for record in &second {
        let imei = record.after.as_ref().and_then(|after| after.imei).expect("a verified unit").to_string();
        assert!(!imeis.contains(&imei), "unit {imei} came twice");
    }
    assert_sound(&line, &entries);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_has_the_firmware_is_only_verified() {
    let line = Line::new(
        station("stations/demo.yaml", |text| {
            text.replace("EG25GGBR07A07M2G_01.001.01.001", "EG25GGBR07A08M2G_30.006.30.006")
        }),
        1,
    )
    .await;
    let (end, entries) = line.run("VERIFY", 1).await;
    assert_eq!(end, End::Complete);
    let [record] = records(&entries, "VERIFY").try_into().expect("one run");
    assert_eq!(record.outcome, Outcome::Pass, "{record:#?}");
    assert_eq!(record.bytes_written, 0);
    assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::Intent { .. })));
    assert_sound(&line, &entries);
}

/// A module that acknowledges its reset and is gone at once must not count as unplugged.
#[tokio::test(start_paused = true)]
async fn modules_that_answer_and_leave_at_once_are_not_lost() {
    let line = Line::instant(station("stations/demo.yaml", |text| text), 4).await;
    let (end, entries) = line.run("INSTANT", 4).await;
    assert_eq!(end, End::Complete);
    let records = records(&entries, "INSTANT");
    assert_eq!(records.len(), 4);
    for record in &records {
        assert_eq!((record.outcome, record.flags.resumed), (Outcome::Pass, false), "{record:#?}");
    }
    assert!(!entries.iter().any(|entry| matches!(entry.fact, Fact::RunInterrupted { .. })));
    assert_sound(&line, &entries);
}

#[tokio::test(start_paused = true)]
async fn without_a_switch_the_second_boot_is_a_reset_and_the_row_says_so() {
    let without = |text: String| text.replace("hardware: simulated", "hardware: simulated\npower: none");
    let line = Line::new(station("stations/demo.yaml", without), 4).await;
    let (end, entries) = line.run("UNSWITCHED", 4).await;
    assert_eq!(end, End::Complete);
    for record in &records(&entries, "UNSWITCHED") {
        assert_eq!((record.outcome, record.boots_verified), (Outcome::Pass, 2), "{record:#?}");
        assert_eq!(record.detail, "booted again by a reset: its supply could not be cut");
    }
}
