//! The papers: tables that repeat what the code defines are held to the code, and what a paper points at exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use stationmaster::domain::FailureCode;
use stationmaster::host::{Disk, EntryKind, OsDisk};
use stationmaster::metrics::{Metrics, MetricsLabels, ProfileLabels};
use stationmaster::sim;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bytes = OsDisk::new().read(&root.join(path), 1 << 20).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8(bytes).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Holds a document to a table, given as its rows.
fn assert_table(path: &str, rows: &[String]) {
    let table = rows.join("\n");
    assert!(read(path).contains(&table), "{path} must hold this table:\n\n{table}\n");
}

#[test]
fn each_failure_code_is_explained() {
    let mut rows = vec![
        "| code | at fault | quarantine | what happened | what to do |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    rows.extend(FailureCode::ALL.iter().map(|code| {
        let quarantine = if code.quarantines() { "yes" } else { "" };
        format!("| `{code}` | {} | {quarantine} | {} | {} |", code.blame().as_str(), code.sentence(), code.advice())
    }));
    assert_table("docs/faults.md", &rows);
}

#[test]
fn each_fault_that_can_be_injected_is_listed() {
    let mut rows = vec!["| fault | takes `step`, `after` | what happens |".to_owned(), "|---|---|---|".to_owned()];
    rows.extend(sim::FAULTS.iter().map(|fault| {
        let step = if fault.takes_step { "yes" } else { "" };
        format!("| `{}` | {step} | {} |", fault.name, fault.sentence)
    }));
    assert_table("docs/simulator.md", &rows);
}

#[test]
fn each_variant_of_a_package_is_listed() {
    let mut rows = vec!["| variant | what it is |".to_owned(), "|---|---|".to_owned()];
    rows.extend(sim::package::VARIANTS.iter().map(|(name, sentence)| format!("| `{name}` | {sentence} |")));
    assert_table("docs/simulator.md", &rows);
}

#[test]
fn each_metric_is_explained() {
    let labels = MetricsLabels {
        station: "demo".parse().expect("a station name"),
        version: "0".to_owned(),
        simulated: true,
        time_scale: 1,
        profiles: vec![ProfileLabels {
            name: "profile".to_owned(),
            sha256: String::new(),
            firmware: String::new(),
            firmware_sha256: String::new(),
        }],
        slots: vec![("hub".to_owned(), "A1".parse().expect("a slot name"))],
    };
    let text = Metrics::new(&labels).expect("the table of metrics is valid").render();
    let mut help = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    let mut series: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, words)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            help.insert(name, words);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            kinds.insert(name, kind);
        } else if let Some((name, rest)) = line.split_once('{') {
            let pairs = rest.split("\",").filter_map(|pair| pair.split_once('=')).map(|(label, _)| label);
            series.entry(name).or_default().extend(pairs.filter(|label| *label != "le"));
        }
    }
    assert!(kinds.len() > 15, "the metrics are rendered");
    let mut rows = vec!["| metric | kind | labels | what it says |".to_owned(), "|---|---|---|---|".to_owned()];
    for (name, kind) in kinds {
        let labels = series.iter().filter(|(own, _)| **own == name || **own == format!("{name}_bucket"));
        let labels: Vec<String> = labels.flat_map(|(_, labels)| labels).map(|label| format!("`{label}`")).collect();
        rows.push(format!("| `{name}` | {kind} | {} | {} |", labels.join(" "), help[name]));
    }
    assert_table("docs/metrics.md", &rows);
}

#[test]
fn what_the_papers_point_at_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let disk = OsDisk::new();
    let mut papers = Vec::new();
    for directory in ["", "docs", "reports"] {
        for entry in disk.list(&root.join(directory)).expect("a directory of the tree") {
            if entry.kind == EntryKind::File && entry.name.ends_with(".md") {
                papers.push((directory, Path::new(directory).join(&entry.name)));
            }
        }
    }
    assert!(papers.len() >= 10, "{papers:?}");
    let mut missing = Vec::new();
    for (directory, paper) in &papers {
        let text = read(&paper.to_string_lossy());
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        let links = links.filter(|target| !target.contains("://"));
        let links = links.map(|target| Path::new(directory).join(target.split('#').next().unwrap_or_default()));
        let folders = ["src/", "docs/", "tests/", "stations/", "profiles/", "scripts/", "benches/"];
        let words = text.split('`').skip(1).step_by(2).filter(|word| folders.iter().any(|at| word.starts_with(at)));
        let words = words.filter(|word| !word.contains(['*', ' ', '…']));
        for target in links.chain(words.map(|word| Path::new(word).to_path_buf())) {
            if !root.join(&target).exists() {
                missing.push(format!("{}: {}", paper.display(), target.display()));
            }
        }
    }
    assert!(missing.is_empty(), "not there: {missing:#?}");
}
