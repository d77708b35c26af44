//! `stations/faults.yaml`: everything goes wrong, and what comes of it stands in `tests/data/faults.tsv`.

use std::time::Duration;

use stationmaster::controller::End;

use crate::harness::{Line, assert_sound, records, station};
use crate::table::{Ending, Found, Who, compare, units};

/// Station time within which the whole line must be through.
const LIMIT: Duration = Duration::from_secs(1200);
const BATCH: &str = "FAULTS";

#[tokio::test(start_paused = true)]
async fn everything_that_goes_wrong_ends_as_the_table_says() {
    let station = station("stations/faults.yaml", |text| text);
    let who = Who::of_seed(station.simulation.as_ref().expect("simulated").seed);
    let line = Line::new(station, units()).await;
    let (end, entries) = line.work(BATCH, units()).await.end_within(&line, LIMIT).await;
    let found: Vec<Found> = records(&entries, BATCH)
        .iter()
        .map(|record| {
            let imei = record.before.as_ref().map(|before| before.imei_text.clone()).unwrap_or_default();
            Found {
                unit: who.unit(record.chip, &imei),
                slot: record.slot.to_string(),
                end: Ending::new(record.outcome, record.code, record.flags, record.phase),
            }
        })
        .collect();
    compare("the ledger", &found);
    assert_eq!(end, Some(End::Complete));
    assert_sound(&line, &entries);
}
