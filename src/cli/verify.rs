//! `verify`: the ledger's chain, and the reports against it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::places::{Found, Places};
use super::{Status, complain, counted, print, print_json};
use crate::host::{Disk, OsDisk};
use crate::ledger::{self, VerifyReport};
use crate::report::{self, FileState, FileVerdict, Recorded};

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    places: Places,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &VerifyArguments) -> Status {
    match check(arguments) {
        Ok(verdicts) => {
            let good = verdicts.iter().all(Verdict::is_good);
            if arguments.json {
                let all: Vec<serde_json::Value> = verdicts.iter().map(document).collect();
                print_json(&serde_json::json!({ "good": good, "stations": all }));
            } else {
                let all: Vec<String> = verdicts.iter().map(words).collect();
                print(&all.join("\n"));
            }
            if good { Status::Good } else { Status::NotAllGood }
        }
        Err(why) => {
            complain(why.trim_end());
            Status::Refused
        }
    }
}

/// What came out for one state directory.
struct Verdict {
    state: PathBuf,
    ledger: VerifyReport,
    files: Vec<FileVerdict>,
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.ledger.difference.is_none() && self.files.iter().all(|file| file.state == FileState::Equal)
    }
}

fn check(arguments: &VerifyArguments) -> Result<Vec<Verdict>, String> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let check = |found: Found| {
        let ledger =
            ledger::verify(disk.as_ref(), &found.state.join("ledger")).map_err(|error| format!("error: {error}"))?;
        let files = match (&found.reports, &ledger.difference) {
            // What a broken chain says of a report means nothing.
            (Some(reports), None) => {
                let entries = found.entries(disk.as_ref())?;
                report::verify(disk.as_ref(), reports, entries.iter().map(Recorded::from))
                    .map_err(|error| format!("error: {error}"))?
            }
            _ => Vec::new(),
        };
        Ok(Verdict { state: found.state, ledger, files })
    };
    arguments.places.find(disk.as_ref())?.into_iter().map(check).collect()
}

/// What makes a report what the ledger says.
fn remedy(place: &Path, file: &FileVerdict) -> String {
    match &file.state {
        FileState::Equal | FileState::Short { .. } => String::new(),
        FileState::Missing => format!("help: make it anew:\n{}", super::report::anew(&file.batch, place, &file.path)),
        FileState::Differs { .. } => super::report::instead(&file.batch, place, &file.path),
    }
}

fn state(file: &FileVerdict) -> String {
    match &file.state {
        FileState::Equal => "equal to the ledger".to_owned(),
        FileState::Missing => "MISSING".to_owned(),
        FileState::Short { line } => format!("INCOMPLETE from line {line} on; the next run completes it"),
        FileState::Differs { line, expected, found } => {
            format!("DIFFERS in line {line}\n  the ledger says {expected}\n  the file says   {found}")
        }
    }
}

fn words(verdict: &Verdict) -> String {
    let Verdict { state: place, ledger, files } = verdict;
    let ledger_at = place.join("ledger");
    let ledger_at = ledger_at.display();
    let mut text = String::new();
    match &ledger.difference {
        None => {
            let head = ledger.head.map_or_else(|| "none".to_owned(), |head| head.to_string());
            let _infallible = writeln!(
                text,
                "{ledger_at}: unaltered, {}; {}, {} finished, {} to be resumed\n  head {head}",
                counted(ledger.entries, "entry", "entries"),
                counted(ledger.runs, "run", "runs"),
                ledger.finished,
                ledger.open
            );
        }
        Some(difference) => {
            let _infallible = writeln!(
                text,
                "{ledger_at}: BROKEN in {}, line {}: {}\n  unaltered before that: {}\nhelp: restore the file from a copy; \
                 nothing in it can be believed from that line on",
                difference.segment,
                difference.line,
                difference.reason,
                counted(ledger.entries, "entry", "entries")
            );
        }
    }
    for file in files {
        let _infallible =
            writeln!(text, "{}: {}, {}", file.path.display(), counted(file.rows, "row", "rows"), state(file));
        text += &remedy(place, file);
    }
    text
}

fn document(verdict: &Verdict) -> serde_json::Value {
    let Verdict { state: place, ledger, files } = verdict;
    serde_json::json!({
        "good": verdict.is_good(),
        "state": place.display().to_string(),
        "ledger": {
            "segments": ledger.segments,
            "entries": ledger.entries,
            "head": ledger.head,
            "runs": ledger.runs,
            "finished": ledger.finished,
            "open": ledger.open,
            "difference": ledger.difference.as_ref().map(|difference| serde_json::json!({
                "segment": difference.segment, "line": difference.line, "reason": difference.reason,
            })),
        },
        "reports": files.iter().map(|file| serde_json::json!({
            "batch": file.batch,
            "path": file.path.display().to_string(),
            "rows": file.rows,
            "equal": file.state == FileState::Equal,
            "state": state(file),
        })).collect::<Vec<_>>(),
    })
}
