//! `verify`: the ledger's chain, and the reports against it.

use std::fmt::Write;
use std::sync::Arc;

use super::places::Places;
use super::{Status, complain, print, print_json};
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
        Ok((ledger, files)) => {
            let good = ledger.difference.is_none() && files.iter().all(|file| file.state == FileState::Equal);
            if arguments.json {
                print_json(&document(&ledger, &files, good));
            } else {
                print(&words(&ledger, &files));
            }
            if good { Status::Good } else { Status::NotAllGood }
        }
        Err(why) => {
            complain(why.trim_end());
            Status::Refused
        }
    }
}

fn check(arguments: &VerifyArguments) -> Result<(VerifyReport, Vec<FileVerdict>), String> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let found = arguments.places.find(disk.as_ref())?;
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
    Ok((ledger, files))
}

fn state(file: &FileVerdict) -> String {
    match &file.state {
        FileState::Equal => "equal to the ledger".to_owned(),
        FileState::Missing => "MISSING; `stationmaster report csv` makes it anew".to_owned(),
        FileState::Short { line } => format!("INCOMPLETE from line {line} on; the next run completes it"),
        FileState::Differs { line, expected, found } => {
            format!("DIFFERS in line {line}\n  the ledger says {expected}\n  the file says   {found}")
        }
    }
}

fn words(ledger: &VerifyReport, files: &[FileVerdict]) -> String {
    let mut text = String::new();
    match &ledger.difference {
        None => {
            let head = ledger.head.map_or_else(|| "none".to_owned(), |head| head.to_string());
            let _infallible = writeln!(
                text,
                "ledger: {} entries in {} files are unaltered; {} runs, {} finished, {} to be resumed\nhead: {head}",
                ledger.entries, ledger.segments, ledger.runs, ledger.finished, ledger.open
            );
        }
        Some(difference) => {
            let _infallible = writeln!(
                text,
                "ledger: BROKEN in {}, line {}: {}\n{} entries before it are unaltered\nhelp: restore the file from a \
                 copy; nothing in it can be believed from that line on",
                difference.segment, difference.line, difference.reason, ledger.entries
            );
        }
    }
    for file in files {
        let _infallible = writeln!(text, "{}: {} rows, {}", file.path.display(), file.rows, state(file));
    }
    text
}

fn document(ledger: &VerifyReport, files: &[FileVerdict], good: bool) -> serde_json::Value {
    serde_json::json!({
        "good": good,
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
