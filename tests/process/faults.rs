//! The faulty station as people run it: what is on the screen, in the report, in the metrics and in the ledger is one
//! story, and it is the table's.

use std::time::{Duration, Instant};

use stationmaster::domain::Fact;
use stationmaster::host::OsDisk;
use stationmaster::ledger;

use crate::place::{Place, alone, ended};
use crate::scrape::{follow, get};
use crate::table::{Found, Who, compare, compare_left_open, compare_metrics, found_in_csv, units};

/// The longest that the faulty station may take.
const FAULTS_MAX: Duration = Duration::from_secs(240);
/// The seed in the station file.
const SEED: u64 = 1;

#[test]
fn screen_report_metrics_and_ledger_of_a_faulty_line_are_the_table() {
    let _alone = alone();
    let place = Place::new();
    let start = Instant::now();
    let mut child = place
        .command(&format!(
            "run stations/faults.yaml --batch FAULTS-1 --units {} --json --listen 127.0.0.1:0 --linger 4",
            units()
        ))
        .spawn()
        .expect("the binary starts");
    let (address, lines) = follow(child.stderr.take().expect("it is piped"));
    let mut last = String::new();
    while let Some(metrics) = get(&address, "/metrics") {
        last = metrics;
        assert!(start.elapsed() < FAULTS_MAX, "it does not end: {:?}", lines.try_iter().collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(500));
    }
    let ran = ended(child);
    assert_eq!(ran.status, Some(1), "some units did not pass: {}", lines.iter().collect::<Vec<_>>().join("\n"));

    let who = Who::of_seed(SEED);
    let mut records = Vec::new();
    ledger::read_all(&OsDisk::new(), &place.path("state/faults/ledger"), |entry| {
        if let Fact::RunFinished(record) = entry.fact {
            records.push(record);
        }
    })
    .expect("an unbroken ledger");
    compare("the ledger", &records.iter().map(|record| Found::of_record(record, &who)).collect::<Vec<_>>());
    compare("the report", &found_in_csv(place.read("reports/FAULTS-1.csv").as_bytes(), &who));
    let screen: serde_json::Value = serde_json::from_str(&ran.out).expect("exactly one JSON document");
    let runs = screen["runs"].as_array().expect("a list");
    compare("the screen", &runs.iter().map(|run| Found::of_json(run, &who)).collect::<Vec<_>>());
    compare_left_open(&screen, &who);
    compare_metrics(&last);

    let verified = place.run("verify");
    assert_eq!(verified.status, Some(0), "{}{}", verified.out, verified.err);
}
