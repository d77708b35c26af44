//! `tests/data/faults.tsv`: what must come of every unit of `stations/faults.yaml`.

use std::collections::BTreeMap;

use serde_json::Value;
use stationmaster::domain::{ChipId, FailureCode, Outcome, Phase, RunRecord};
use stationmaster::sim::models::MODELS;
use stationmaster::sim::unit::identity;

/// The units that the table speaks of are numbered from 1 without a gap; guests are numbered apart.
const GUESTS: u32 = 500_000;
/// What a unit with the fault `imei-zero` says of itself.
const NO_IMEI: &str = "000000000000000";

/// What one says that has lost its EFS.
const LOST_IMEI: &str = "CmeText(\"memory failure\")";

/// A line of the table: one finished run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) unit: u32,
    pub(crate) fault: &'static str,
    pub(crate) end: Ending,
}

/// How a finished run ended, as far as the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    pub(crate) code: Option<FailureCode>,
    /// Without `simulated`, which all of them are; `-` for none.
    pub(crate) flags: String,
    pub(crate) phase: Phase,
}

/// The lines of the file, but its head.
fn lines() -> Vec<[&'static str; 7]> {
    let text = include_str!("../data/faults.tsv");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("unit\tfault\tstep\toutcome\tcode\tflags\tphase"));
    let columns = |line: &'static str| line.split('\t').collect::<Vec<_>>().try_into();
    lines.map(|line| columns(line).unwrap_or_else(|_| panic!("seven columns: {line}"))).collect()
}

/// The table, in its order: the runs that are finished.
pub(crate) fn table() -> Vec<Expected> {
    lines()
        .into_iter()
        .filter(|[_, _, _, outcome, ..]| *outcome != "-")
        .map(|[unit, fault, _, outcome, code, flags, phase]| Expected {
            unit: unit.parse().expect("a number"),
            fault,
            end: Ending::of_words(outcome, none(code), &format!("{} simulated", none(flags)), phase),
        })
        .collect()
}

/// The units whose run stays open, with the code and the phase of its last interruption.
pub(crate) fn left_open() -> Vec<(u32, &'static str, &'static str)> {
    let open = lines().into_iter().filter(|[_, _, _, outcome, ..]| *outcome == "-");
    open.map(|[unit, _, _, _, code, _, phase]| (unit.parse().expect("a number"), code, phase)).collect()
}

/// Compares what a summary lists as interrupted with the table.
pub(crate) fn compare_left_open(summary: &Value, who: &Who) {
    let interrupted = summary["interrupted"].as_array().expect("a list");
    let text = |run: &Value, key: &str| run[key].as_str().unwrap_or_default().to_owned();
    let chip = |run: &Value| run["chip"].as_str().map(|chip| chip.parse().expect("a chip"));
    let found: Vec<(Option<u32>, String, String)> = interrupted
        .iter()
        .map(|run| (who.unit(chip(run), &text(run, "imei")), text(run, "code"), text(run, "phase")))
        .collect();
    let expected: Vec<(Option<u32>, String, String)> =
        left_open().into_iter().map(|(unit, code, phase)| (Some(unit), code.to_owned(), phase.to_owned())).collect();
    assert_eq!(found, expected, "what is left open differs from tests/data/faults.tsv");
}

fn none(column: &str) -> &str {
    if column == "-" { "" } else { column }
}

/// The line's own units in the table: its highest number.
pub(crate) fn units() -> u32 {
    lines()
        .iter()
        .map(|[unit, ..]| unit.parse().expect("a number"))
        .filter(|unit| *unit < GUESTS)
        .max()
        .expect("a table")
}

impl Ending {
    /// From the words that all reports use; empty for none.
    fn of_words(outcome: &str, code: &str, flags: &str, phase: &str) -> Self {
        let words: Vec<&str> = flags.split_whitespace().collect();
        let others: Vec<&str> = words.iter().copied().filter(|word| *word != "simulated").collect();
        assert_eq!(words.len(), others.len() + 1, "every result of a simulated line says so");
        Self {
            outcome: Outcome::ALL.into_iter().find(|known| known.as_str() == outcome).expect("an outcome"),
            code: (!code.is_empty()).then(|| code.parse().expect("a failure code")),
            flags: if others.is_empty() { "-".to_owned() } else { others.join(" ") },
            phase: phase.parse().expect("a phase"),
        }
    }
}

/// Who is who on a line of that seed: the ground truth behind what modules say of themselves.
pub(crate) struct Who {
    by_chip: BTreeMap<ChipId, u32>,
    by_imei: BTreeMap<String, u32>,
}

impl Who {
    /// All units of the table with that seed, guests included; also those that arrive as another model.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut this = Self { by_chip: BTreeMap::new(), by_imei: BTreeMap::new() };
        for number in table().into_iter().map(|row| row.unit).chain(left_open().into_iter().map(|(unit, ..)| unit)) {
            for model in MODELS {
                let unit = identity(model, number, seed);
                this.by_chip.insert(unit.chip, number);
                this.by_imei.insert(unit.imei.to_string(), number);
            }
        }
        for row in table() {
            match (row.fault, row.end.outcome) {
                ("imei-zero", _) => drop(this.by_imei.insert(NO_IMEI.to_owned(), row.unit)),
                ("efs-lost", Outcome::Held) => drop(this.by_imei.insert(LOST_IMEI.to_owned(), row.unit)),
                _ => {}
            }
        }
        this
    }

    /// The unit with that chip or, where the chip was never read, that IMEI; `None` for one that said nothing.
    pub(crate) fn unit(&self, chip: Option<ChipId>, imei: &str) -> Option<u32> {
        match chip {
            Some(chip) => self.by_chip.get(&chip).copied(),
            None => self.by_imei.get(imei).copied(),
        }
    }
}

/// A finished run as some record of it has it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The unit, where the report says who it was.
    pub(crate) unit: Option<u32>,
    pub(crate) slot: String,
    pub(crate) end: Ending,
}

impl Found {
    /// As the ledger has it.
    pub(crate) fn of_record(record: &RunRecord, who: &Who) -> Self {
        let imei = record.before.as_ref().map_or("", |before| &before.imei_text);
        let code = record.code.map(|code| code.to_string()).unwrap_or_default();
        Self {
            unit: who.unit(record.chip, imei),
            slot: record.slot.to_string(),
            end: Ending::of_words(record.outcome.as_str(), &code, &record.flags.to_string(), record.phase.as_str()),
        }
    }

    /// As the screen's JSON has it.
    pub(crate) fn of_json(run: &Value, who: &Who) -> Self {
        let text = |key: &str| run[key].as_str().unwrap_or_default();
        let flags: Vec<&str> = run["flags"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        Self {
            unit: who.unit(run["chip"].as_str().map(|chip| chip.parse().expect("a chip")), text("imei")),
            slot: text("slot").to_owned(),
            end: Ending::of_words(text("outcome"), text("code"), &flags.join(" "), text("phase")),
        }
    }
}

/// The finished runs of a CSV report.
pub(crate) fn found_in_csv(report: &[u8], who: &Who) -> Vec<Found> {
    let mut reader = csv::Reader::from_reader(report);
    let columns = reader.headers().expect("a header").clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
    let cell = |row: &csv::StringRecord, name: &str| {
        let at = columns.iter().position(|column| column == name).expect("a column of that name");
        row[at].to_owned()
    };
    rows.iter()
        .map(|row| {
            let chip = [cell(row, "hw_id"), cell(row, "chip_serial")].join("-");
            Found {
                unit: who.unit((chip != "-").then(|| chip.parse().expect("a chip")), &cell(row, "imei_before")),
                slot: cell(row, "slot"),
                end: Ending::of_words(
                    &cell(row, "outcome"),
                    &cell(row, "code"),
                    &cell(row, "flags"),
                    &cell(row, "phase"),
                ),
            }
        })
        .collect()
}

/// Compares Prometheus' text with the table: finished runs by outcome, failures by phase and code, and the one hub.
pub(crate) fn compare_metrics(text: &str) {
    let mut units: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut hubs: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let label = |name: &str| {
            let (_, rest) = series.split_once(&format!("{name}=\"")).expect("a label of that name");
            rest.split('"').next().expect("its value").to_owned()
        };
        let count = || value.parse::<usize>().expect("a whole number");
        match series.split('{').next() {
            Some("stationmaster_units_total") => *units.entry(label("outcome")).or_default() += count(),
            Some("stationmaster_failures_total") => {
                *failures.entry((label("phase"), label("code"))).or_default() += count();
            }
            Some("stationmaster_hub_events_total") => *hubs.entry(label("event")).or_default() += count(),
            _ => {}
        }
    }
    let (mut expected, mut expected_failures) = (BTreeMap::new(), BTreeMap::new());
    for Expected { end, .. } in table() {
        *expected.entry(end.outcome.to_string()).or_default() += 1;
        if let Some(code) = end.code {
            *expected_failures.entry((end.phase.to_string(), code.to_string())).or_default() += 1;
        }
    }
    failures.retain(|_, count| *count > 0);
    assert_eq!((units, failures), (expected, expected_failures), "the metrics differ from tests/data/faults.tsv");
    let once = BTreeMap::from([("lost".to_owned(), 1), ("returned".to_owned(), 1)]);
    assert_eq!(hubs, once, "one event each, however many ports the hub has");
}

/// Compares finished runs, in the order in which they finished, with the table; `source` is for the message.
///
/// A unit that was pulled out before it said who it was is the one that the same slot runs next.
pub(crate) fn compare(source: &str, found: &[Found]) {
    let mut ends: BTreeMap<u32, Vec<Ending>> = BTreeMap::new();
    for (index, run) in found.iter().enumerate() {
        let next = || found[index + 1..].iter().find(|later| later.slot == run.slot).and_then(|later| later.unit);
        let unit =
            run.unit.or_else(next).unwrap_or_else(|| panic!("{source}: nobody knows whose run this is: {run:?}"));
        ends.entry(unit).or_default().push(run.end.clone());
    }
    let mut expected: BTreeMap<u32, (Vec<Ending>, &str)> = BTreeMap::new();
    for row in table() {
        expected.entry(row.unit).or_insert((Vec::new(), row.fault)).0.push(row.end);
    }
    let mut differences = String::new();
    for unit in expected.keys().chain(ends.keys()).collect::<std::collections::BTreeSet<_>>() {
        let (wanted, fault) = expected.get(unit).cloned().unwrap_or((Vec::new(), "not in the table"));
        let got = ends.get(unit).cloned().unwrap_or_default();
        if wanted != got {
            differences += &format!("unit {unit} ({fault}):\n  expected {wanted:?}\n  found    {got:?}\n");
        }
    }
    assert!(differences.is_empty(), "{source} differs from tests/data/faults.tsv:\n{differences}");
}
