//! `report`: rebuilt from the ledger.

use std::sync::Arc;

use super::places::Places;
use super::{Status, complain};
use crate::domain::{BatchId, Fact};
use crate::host::{Disk, OsDisk};
use crate::report::{self, Recorded};

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
        Err(why) => {
            complain(why.trim_end());
            Status::Refused
        }
    }
}

fn csv(arguments: &CsvArguments) -> Result<Vec<u8>, String> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let entries = arguments.places.find(disk.as_ref())?.entries(disk.as_ref())?;
    let is_known = entries.iter().any(|entry| match &entry.fact {
        Fact::BatchOpened { batch, .. } => *batch == arguments.batch,
        Fact::RunFinished(record) => record.batch == arguments.batch,
        _ => false,
    });
    if !is_known {
        return Err(format!("error: the ledger knows no batch {}", arguments.batch));
    }
    report::rebuild(&arguments.batch, entries.iter().map(Recorded::from)).map_err(|error| format!("error: {error}"))
}
