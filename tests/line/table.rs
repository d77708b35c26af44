//! `tests/data/faults.tsv`: what must come of every unit of `stations/faults.yaml`.

use std::collections::BTreeMap;

use stationmaster::domain::{ChipId, FailureCode, Flags, Outcome, Phase};
use stationmaster::sim::models::{MODELS, Model};
use stationmaster::sim::unit::identity;

/// The units that the table speaks of are numbered from 1 without a gap; guests are numbered apart.
const GUESTS: u32 = 500_000;
/// What a unit with the fault `imei-zero` says of itself.
const NO_IMEI: &str = "000000000000000";

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

/// The table, in its order.
pub(crate) fn table() -> Vec<Expected> {
    let text = include_str!("../data/faults.tsv");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("unit\tfault\tstep\toutcome\tcode\tflags\tphase"));
    lines
        .map(|line| {
            let columns: Vec<&'static str> = line.split('\t').collect();
            let [unit, fault, _, outcome, code, flags, phase] = columns[..] else { panic!("seven columns: {line}") };
            Expected {
                unit: unit.parse().expect("a number"),
                fault,
                end: Ending {
                    outcome: outcome_of(outcome),
                    code: (code != "-").then(|| code.parse().expect("a failure code")),
                    flags: flags.to_owned(),
                    phase: phase.parse().expect("a phase"),
                },
            }
        })
        .collect()
}

/// An outcome by its word.
pub(crate) fn outcome_of(word: &str) -> Outcome {
    Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word).expect("an outcome")
}

/// The line's own units in the table: its highest number.
pub(crate) fn units() -> u32 {
    table().iter().map(|row| row.unit).filter(|unit| *unit < GUESTS).max().expect("a table")
}

/// The words of flags as the table writes them.
pub(crate) fn flags_text(flags: &str) -> String {
    let words: Vec<&str> = flags.split_whitespace().filter(|word| *word != "simulated").collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

impl Ending {
    /// From the domain's own types.
    pub(crate) fn new(outcome: Outcome, code: Option<FailureCode>, flags: Flags, phase: Phase) -> Self {
        Self { outcome, code, flags: flags_text(&flags.to_string()), phase }
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
        for row in table() {
            for model in MODELS {
                let unit = identity(model, row.unit, seed);
                this.by_chip.insert(unit.chip, row.unit);
                this.by_imei.insert(unit.imei.to_string(), row.unit);
            }
            if row.fault == "imei-zero" {
                this.by_imei.insert(NO_IMEI.to_owned(), row.unit);
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

/// A finished run as some report has it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The unit, where the report says who it was.
    pub(crate) unit: Option<u32>,
    pub(crate) slot: String,
    pub(crate) end: Ending,
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

/// The model of a unit's number by the turns of the station file.
pub(crate) fn model_of(unit: u32) -> &'static Model {
    let turns = ["EG25-G", "RM500Q-GL", "RM520N-GL"];
    let turn = (unit - 1) % 3;
    Model::by_name(turns[usize::try_from(turn).expect("small")]).expect("a model")
}
