//! The CSV files: what a spreadsheet, a strict reader, a crash and a curious hand do to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use stationmaster::domain::{
    BatchId, ChipId, Fact, FailureCode, Flags, Identity, Measurement, Outcome, Phase, PhaseTime, RunId, RunRecord,
    Sha256Digest, Verdict,
};
use stationmaster::host::{Disk, MemoryDisk};
use stationmaster::report::{
    self, COLUMNS, CsvWriter, FileState, Recorded, ReportError, header, line, rebuild, row, verify,
};

fn record(number: u8, batch: &str, text: &str) -> RunRecord {
    let identity = Identity {
        model: text.to_owned(),
        revision: text.to_owned(),
        imei_text: text.to_owned(),
        cfun: Some(1),
        bands: BTreeMap::from([(text.to_owned(), vec![77])]),
        ..Identity::default()
    };
    RunRecord {
        run: RunId::new(1_700_000_000_000, &[number; 10]),
        batch: batch.parse().expect("a batch name"),
        station: "demo".parse().expect("a station name"),
        slot: "A1".parse().expect("a slot name"),
        chain_normal: None,
        chain_edl: None,
        profile: text.to_owned(),
        profile_digest: None,
        package_digest: None,
        chip: Some(ChipId { hw_id: 1, serial: u32::from(number) }),
        key_hash: None,
        before: Some(identity),
        after: None,
        measurements: vec![Measurement {
            name: text.to_owned(),
            value: text.to_owned(),
            unit: String::new(),
            limits: text.to_owned(),
            verdict: Verdict::Pass,
        }],
        outcome: Outcome::Held,
        code: Some(FailureCode::ImeiInvalid),
        detail: text.to_owned(),
        phase: Phase::Admit,
        flags: Flags::default(),
        attempt: 0,
        boots_verified: 0,
        boots_required: 2,
        phases: vec![PhaseTime { phase: Phase::Identify, milliseconds: 12 }],
        waits: Vec::new(),
        bytes_written: 0,
        bytes_per_second: 0,
        bad_blocks: 0,
        backup: None,
        guard: None,
        diagnosis: None,
        time_scale: 1,
        started: "2026-11-23T03:55:12.345Z".parse().expect("a timestamp"),
        ended: "2026-11-23T03:55:13Z".parse().expect("a timestamp"),
    }
}

fn finished(number: u8, batch: &str) -> Fact {
    Fact::RunFinished(Box::new(record(number, batch, "text, with \"quotes\"")))
}

fn opened(batch: &str) -> Fact {
    Fact::BatchOpened { batch: batch_id(batch), units: None, profiles: BTreeMap::new() }
}

fn batch_id(name: &str) -> BatchId {
    name.parse().expect("a batch name")
}

/// The facts as a ledger holds them.
fn entries(facts: &[Fact]) -> Vec<Recorded<'_>> {
    let digest = |seq: u64| Sha256Digest::of(&seq.to_le_bytes());
    facts.iter().zip(1..).map(|(fact, seq)| Recorded { seq, hash: digest(seq), fact }).collect()
}

/// RFC 4180 to the letter; anything else is an error.
fn read_strictly(bytes: &[u8]) -> Result<Vec<Vec<String>>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    while chars.peek().is_some() {
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => return Err("a quoted field does not end".to_owned()),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !matches!(c, ',' | '\r' | '\n')) {
                if c == '"' {
                    return Err("a quote in a field without quotes".to_owned());
                }
                field.push(c);
            }
        }
        row.push(std::mem::take(&mut field));
        match (chars.next(), chars.peek()) {
            (Some(','), Some(_)) => {}
            (Some('\r'), Some('\n')) => {
                chars.next();
                rows.push(std::mem::take(&mut row));
            }
            (found, _) => return Err(format!("{found:?} behind a field")),
        }
    }
    if row.is_empty() { Ok(rows) } else { Err("the last row has no end".to_owned()) }
}

fn hostile() -> impl Strategy<Value = String> {
    let nasty = proptest::sample::select(vec![
        "=",
        "+",
        "-",
        "@",
        "\t",
        "\r",
        "\n",
        "\0",
        "\"",
        ",",
        ";",
        " ",
        "'",
        "\u{a0}",
        "＝",
        "\u{feff}",
        "\u{202e}",
        "\u{1b}[31m",
        "+QNWPREFCFG: \"nr5g_band\",77",
        "é",
        "x",
    ]);
    prop_oneof![any::<String>(), proptest::collection::vec(nasty, 0..8).prop_map(|parts| parts.concat()),]
}

proptest! {
    #[test]
    fn any_fields_survive_a_strict_reader(fields in proptest::collection::vec(hostile(), 2..8)) {
        let bytes = line(&fields).expect("encodes");
        prop_assert_eq!(read_strictly(&bytes), Ok(vec![fields]));
    }

    #[test]
    fn no_field_of_a_row_can_be_a_formula_or_a_second_line(text in hostile()) {
        let row = row(7, &Sha256Digest::of(b"7"), &record(1, "B", &text));
        prop_assert_eq!(row.len(), COLUMNS.len());
        for field in &row {
            let start = field.trim_start().chars().next().unwrap_or('x');
            prop_assert!(!"=+-@\t\r\0＝＋－＠".contains(start), "{:?}", field);
            prop_assert!(!field.chars().any(char::is_control), "{:?}", field);
        }
        let bytes = line(&row).expect("encodes");
        prop_assert_eq!(read_strictly(&bytes), Ok(vec![row]));
    }
}

const DIRECTORY: &str = "reports";

struct Desk {
    disk: MemoryDisk,
    file: PathBuf,
}

impl Desk {
    fn new() -> Self {
        Self { disk: MemoryDisk::new(), file: Path::new(DIRECTORY).join("B.csv") }
    }

    /// A station that starts with `facts` in its ledger, and then stops.
    fn session(&self, facts: &[Fact]) -> Result<(), ReportError> {
        let mut writer = CsvWriter::new(Arc::new(self.disk.clone()), DIRECTORY.into());
        entries(facts).iter().try_for_each(|entry| writer.follow(entry))?;
        writer.settle()
    }

    fn content(&self) -> Vec<u8> {
        self.disk.read(&self.file, 1 << 20).expect("the report is there")
    }

    fn verdict(&self, facts: &[Fact]) -> FileState {
        let verdicts = verify(&self.disk, Path::new(DIRECTORY), entries(facts)).expect("the disk works");
        verdicts.into_iter().find(|verdict| verdict.batch == batch_id("B")).expect("the batch is known").state
    }
}

fn expected(facts: &[Fact]) -> Vec<u8> {
    rebuild(&batch_id("B"), entries(facts)).expect("encodes")
}

#[test]
fn a_report_is_the_header_and_one_row_per_finished_run_and_is_rebuilt_the_same() {
    let desk = Desk::new();
    let facts = [opened("B"), finished(1, "B"), finished(9, "OTHER"), finished(2, "B")];
    desk.session(&facts).expect("writes");
    let rows = read_strictly(&desk.content()).expect("RFC 4180");
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0], header());
    assert_eq!(desk.content(), expected(&facts));
    assert_eq!(desk.verdict(&facts), FileState::Equal);
    assert!(!desk.content().starts_with(b"\xef\xbb\xbf"));
}

#[test]
fn a_restart_adds_only_what_is_missing() {
    let desk = Desk::new();
    let facts = [opened("B"), finished(1, "B"), finished(2, "B"), finished(3, "B")];
    for known in 1..=facts.len() {
        desk.session(&facts[..known]).expect("writes");
        desk.session(&facts[..known]).expect("finds everything there");
    }
    assert_eq!(desk.content(), expected(&facts));
}

#[test]
fn a_file_torn_at_any_byte_is_mended() {
    let facts = [opened("B"), finished(1, "B"), finished(2, "B")];
    let whole = expected(&facts);
    for bytes in 0..whole.len() {
        let desk = Desk::new();
        desk.session(&facts).expect("writes");
        desk.disk.tamper(&desk.file, |content| content.truncate(bytes)).expect("it is there");
        desk.session(&facts).unwrap_or_else(|error| panic!("torn at {bytes}: {error}"));
        assert_eq!(desk.content(), whole, "torn at {bytes}");
    }
}

#[test]
fn an_altered_row_is_named_and_left_alone() {
    let desk = Desk::new();
    let facts = [opened("B"), finished(1, "B"), finished(2, "B"), finished(3, "B")];
    desk.session(&facts[..3]).expect("writes");
    let change = |content: &mut Vec<u8>| {
        let at = content.windows(4).rposition(|word| word == b"HELD").expect("a row says HELD");
        content[at..at + 4].copy_from_slice(b"PASS");
    };
    desk.disk.tamper(&desk.file, change).expect("it is there");
    let altered = desk.content();

    let error = desk.session(&facts).expect_err("the file was altered").to_string();
    assert!(error.starts_with("reports/B.csv:3: the report differs from the ledger"), "{error}");
    assert!(error.contains("PASS,IMEI_INVALID") && error.contains("HELD,IMEI_INVALID"), "{error}");
    assert_eq!(desk.content(), altered);
    assert!(matches!(desk.verdict(&facts), FileState::Differs { line: 3, .. }));
}

#[test]
fn rows_that_the_ledger_does_not_have_are_noticed() {
    let desk = Desk::new();
    let facts = [opened("B"), finished(1, "B"), finished(2, "B")];
    desk.session(&facts).expect("writes");
    assert!(matches!(desk.session(&facts[..2]), Err(ReportError::Differs { line: 3, .. })));
    assert!(matches!(desk.verdict(&facts[..2]), FileState::Differs { line: 3, .. }));
    assert!(matches!(desk.session(&facts[..1]), Err(ReportError::Differs { line: 2, .. })));
    // Another ledger's file of the same name, met by a station that is running already.
    let mut writer = CsvWriter::new(Arc::new(desk.disk.clone()), DIRECTORY.into());
    writer.settle().expect("nothing is known yet");
    assert!(matches!(writer.follow(&entries(&facts)[0]), Err(ReportError::Differs { line: 2, .. })));
}

#[test]
fn missing_and_short_files_are_told_apart() {
    let desk = Desk::new();
    let facts = [opened("B"), finished(1, "B"), finished(2, "B")];
    assert_eq!(desk.verdict(&facts[..1]), FileState::Equal);
    assert_eq!(desk.verdict(&facts), FileState::Missing);
    desk.session(&facts[..2]).expect("writes");
    assert_eq!(desk.verdict(&facts), FileState::Short { line: 3 });
}

#[test]
fn a_row_that_was_written_survives_a_crash_of_the_host() {
    let desk = Desk::new();
    let facts = [opened("B"), finished(1, "B"), finished(2, "B")];
    desk.session(&facts).expect("writes");
    desk.disk.crash();
    assert_eq!(desk.content(), expected(&facts));
}

#[test]
fn a_crash_at_any_call_of_the_disk_is_mended_by_the_next_start() {
    let facts = [opened("B"), finished(1, "B"), finished(2, "B")];
    let calls = {
        let desk = Desk::new();
        desk.session(&facts).expect("writes");
        desk.disk.calls()
    };
    for call in 1..=calls {
        for torn in [0, 100] {
            let desk = Desk::new();
            desk.disk.fail_call(call, stationmaster::host::FailKind::Error);
            assert!(desk.session(&facts).is_err(), "call {call}");
            desk.disk.crash_torn(torn);
            desk.session(&facts).unwrap_or_else(|error| panic!("after call {call}: {error}"));
            assert_eq!(desk.content(), expected(&facts), "after call {call}");
        }
    }
}

#[test]
fn after_a_failed_write_nothing_more_goes_into_the_file() {
    let desk = Desk::new();
    let facts = [finished(1, "B"), finished(2, "B")];
    let mut writer = CsvWriter::new(Arc::new(desk.disk.clone()), DIRECTORY.into());
    let entries = entries(&facts);
    writer.follow(&entries[0]).expect("writes");
    desk.disk.fail_call(1, stationmaster::host::FailKind::Error);
    assert!(matches!(writer.follow(&entries[1]), Err(ReportError::Disk { .. })));
    assert!(matches!(writer.follow(&entries[1]), Err(ReportError::Stopped { .. })));
}

#[test]
fn no_entry_is_skipped_and_none_is_written_twice() {
    let desk = Desk::new();
    let facts = [finished(1, "B"), finished(2, "B"), finished(3, "B")];
    let entries = entries(&facts);
    let mut writer = CsvWriter::new(Arc::new(desk.disk.clone()), DIRECTORY.into());
    writer.follow(&entries[0]).expect("writes");
    assert!(matches!(writer.follow(&entries[2]), Err(ReportError::Gap { expected: 2, found: 3 })));
    writer.follow(&entries[0]).expect("was taken before");
    writer.follow(&entries[1]).expect("writes");
    assert_eq!(writer.next_seq(), 3);
    assert_eq!(desk.content(), expected(&facts[..2]));
}

#[test]
fn the_header_is_the_documented_one() {
    let text = String::from_utf8(report::line(&header()).expect("encodes")).expect("ASCII");
    assert!(text.starts_with("schema,run,batch,station,slot,"), "{text}");
    assert!(text.ends_with(",ledger_seq,ledger_sha256,measurements\r\n"), "{text}");
}
