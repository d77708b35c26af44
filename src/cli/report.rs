//! `report`: rebuilt from the ledger.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use super::places::Places;
use super::{Status, complain, typed};
use crate::domain::{BatchId, Fact};
use crate::host::{Disk, OsDisk};
use crate::ledger::Entry;
use crate::report::{self, Recorded};

/// How many batches are named when the one that was asked for is not there.
const NAMED_BATCHES_MAX: usize = 10;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ReportCommand {
    /// The CSV of a batch, byte for byte as `run` writes it, on standard output
    Csv(CsvArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CsvArguments {
    /// The batch
    batch: BatchId,
    #[command(flatten)]
    places: Places,
}

pub(crate) fn run(command: &ReportCommand) -> Status {
    let ReportCommand::Csv(arguments) = command;
    match csv(arguments) {
        Ok(bytes) => {
            super::print_bytes(&bytes);
            Status::Good
        }
        Err((status, why)) => {
            complain(why.trim_end());
            status
        }
    }
}

fn csv(arguments: &CsvArguments) -> Result<Vec<u8>, (Status, String)> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let mut batches: BTreeSet<BatchId> = BTreeSet::new();
    let mut reports: Vec<(String, Vec<u8>)> = Vec::new();
    for found in arguments.places.find(disk.as_ref()).map_err(refused)? {
        let entries = found.entries(disk.as_ref()).map_err(|why| (Status::Stuck, why))?;
        let here: BTreeSet<BatchId> = entries.iter().filter_map(batch).cloned().collect();
        if here.contains(&arguments.batch) {
            let bytes = report::rebuild(&arguments.batch, entries.iter().map(Recorded::from))
                .map_err(|error| (Status::Stuck, format!("error: {error}")))?;
            reports.push((found.state.display().to_string(), bytes));
        }
        batches.extend(here);
    }
    match reports.as_mut_slice() {
        [(_, bytes)] => Ok(std::mem::take(bytes)),
        [] => {
            let known: Vec<&str> = batches.iter().rev().take(NAMED_BATCHES_MAX).map(BatchId::as_str).collect();
            let more = if batches.len() > known.len() { ", ..." } else { "" };
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(refused(format!("error: no batch {} is recorded\nhelp: recorded are: {known}{more}", arguments.batch)))
        }
        several => {
            let places: Vec<&str> = several.iter().map(|(state, _)| state.as_str()).collect();
            Err(refused(format!(
                "error: batch {} is recorded in {}\nhelp: say which one is meant, with --state DIR",
                arguments.batch,
                places.join(" and in ")
            )))
        }
    }
}

/// The command that makes a batch's report anew, as a line to be typed.
pub(super) fn anew(batch: impl Display, state: &Path, report: &Path) -> String {
    format!("    stationmaster report csv {batch} --state {} > {}\n", typed(state), typed(report))
}

/// What is done with a report that is not what the ledger says, in lines.
pub(super) fn instead(batch: impl Display, state: &Path, report: &Path) -> String {
    let mut kept = report.as_os_str().to_owned();
    kept.push(".differs");
    format!(
        "help: keep the file as evidence under another name, then make it anew:\n    mv {} {}\n{}",
        typed(report),
        typed(Path::new(&kept)),
        anew(batch, state, report)
    )
}

fn refused(why: String) -> (Status, String) {
    (Status::Refused, why)
}

fn batch(entry: &Entry) -> Option<&BatchId> {
    match &entry.fact {
        Fact::BatchOpened { batch, .. } => Some(batch),
        Fact::RunFinished(record) => Some(&record.batch),
        _ => None,
    }
}
