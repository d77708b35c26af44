//! The first thing that anybody tries: the demonstration station, and what can be seen of it meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::{Place, Report, alone, ended};
use crate::scrape::{follow, get};

/// The longest that a batch of the demonstration may take.
const DEMO_MAX: Duration = Duration::from_secs(120);

/// `promtool check metrics` has nothing to say about it. Where there is no promtool, that is said; in CI it must be.
fn check_with_promtool(text: &str) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var("CI").is_err(), "promtool cannot be run: {error}");
            let _closed = writeln!(std::io::stderr(), "NOT CHECKED: promtool cannot be run ({error})");
            return;
        }
    };
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("promtool reads");
    let ran = ended(child);
    assert_eq!((ran.status, ran.out + &ran.err), (Some(0), String::new()));
}

/// The units of all profiles and attempts, by outcome.
fn units_by_outcome(metrics: &str) -> BTreeMap<String, u32> {
    let mut units = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("stationmaster_units_total{")) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let outcome = series.split("outcome=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an outcome");
        *units.entry(outcome.to_owned()).or_default() += value.parse::<u32>().expect("a whole number");
    }
    units
}

#[test]
fn the_demonstration_passes_is_scraped_all_the_while_and_goes_on_with_the_next_batch() {
    let _alone = alone();
    let place = Place::new();
    // A debug build on a loaded host needs the time.
    place.change("stations/demo.yaml", |text| text.replace("time_scale: 20", "time_scale: 10"));
    let start = Instant::now();
    let mut child = place
        .command("run stations/demo.yaml --batch DEMO-1 --units 32 --listen 127.0.0.1:0 --linger 4")
        .spawn()
        .expect("the binary starts");
    let (address, lines) = follow(child.stderr.take().expect("it is piped"));
    let mut last = String::new();
    let mut scrapes = 0;
    while let Some(metrics) = get(&address, "/metrics") {
        check_with_promtool(&metrics);
        last = metrics;
        scrapes += 1;
        std::thread::sleep(Duration::from_secs(1));
    }
    let ran = ended(child);
    let took = start.elapsed();
    let err: Vec<String> = lines.iter().collect();
    assert_eq!(ran.status, Some(0), "{}\n{}", ran.out, err.join("\n"));
    assert!(took < DEMO_MAX, "it took {took:?}");
    assert!(scrapes > 5, "only {scrapes} scrapes");

    let csv = place.read("reports/DEMO-1.csv");
    let report = Report::of(&csv);
    assert_eq!(report.column("outcome"), ["PASS"; 32]);
    assert_eq!(report.column("simulated"), ["true"; 32]);
    let imeis: BTreeSet<&str> = report.column("imei_after").into_iter().collect();
    assert_eq!(imeis.len(), 32, "every unit has its own IMEI");
    assert!(imeis.iter().all(|imei| imei.len() == 15));
    assert_eq!(report.column("model").into_iter().collect::<BTreeSet<_>>().len(), 4, "all kinds of modules");
    assert_eq!(report.column("slot").into_iter().collect::<BTreeSet<_>>().len(), 16, "all slots were used");
    let counted = units_by_outcome(&last);
    for (outcome, units) in &counted {
        let rows = report.column("outcome").iter().filter(|row| **row == outcome).count();
        assert_eq!(u32::try_from(rows), Ok(*units), "{outcome} in the last of {scrapes} scrapes");
    }
    assert_eq!(counted["PASS"], 32);

    // Without a terminal, plain lines: one for each run that ends, and no escape sequence anywhere.
    assert_eq!(err.iter().filter(|line| line.contains(": PASS ")).count(), 32);
    assert!(err.iter().all(|line| !line.contains('\u{1b}')), "{err:#?}");
    let expected = "Batch DEMO-1 (simulated, 10 times real speed): 32 runs finished\n  \
                    PASS 32, FAIL 0, ERROR 0, HELD 0, ABORTED 0, not finished 0\n  \
                    yield 100.0 %, first pass 100.0 %, of 32 judged\nreport: reports/DEMO-1.csv\n";
    assert_eq!(ran.out, expected);

    // The report is made anew byte for byte, and everything agrees.
    assert_eq!(place.run("report csv DEMO-1").out, csv);
    let verified = place.run("verify");
    assert_eq!(verified.status, Some(0), "{}{}", verified.out, verified.err);

    // The next batch goes on with new units, this time for a program that reads the result.
    let ran = place.run("run stations/demo.yaml --batch DEMO-2 --units 8 --listen off --json");
    assert_eq!(ran.status, Some(0), "{}\n{}", ran.out, ran.err);
    assert_eq!(ran.err, "", "whoever reads JSON is told nothing else");
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("exactly one JSON document");
    assert_eq!(document["batch"], "DEMO-2", "{document:#}");
    let second = place.read("reports/DEMO-2.csv");
    let second = Report::of(&second);
    assert_eq!(second.column("outcome"), ["PASS"; 8]);
    let again: Vec<&str> = second.column("imei_after").into_iter().filter(|imei| imeis.contains(imei)).collect();
    assert!(again.is_empty(), "units came twice: {again:?}");
    assert_eq!(place.read("reports/DEMO-1.csv"), csv, "a report of a finished batch is not touched");
}
