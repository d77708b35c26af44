//! `package`: what a firmware package would do.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Status, complain, prepare, print, print_json};
use crate::firmware;
use crate::host::{Disk, OsDisk};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum PackageCommand {
    /// What the package erases and writes, by partition; whether it touches what belongs to the unit; its digest
    Inspect(InspectArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArguments {
    /// The package's directory
    directory: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &PackageCommand) -> Status {
    let PackageCommand::Inspect(arguments) = command;
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let (inspection, status) = match prepare::open_package(&disk, &arguments.directory) {
        Ok(package) => (firmware::inspect(&package), Status::Good),
        Err(why) => {
            let why = why.trim_end();
            complain(why);
            // What its documents would do is worth knowing also where images are missing.
            let first = why.lines().next().unwrap_or_default();
            match firmware::survey(disk.as_ref(), &arguments.directory, first) {
                Ok(inspection) => (inspection, Status::NotAllGood),
                Err(_) => return Status::Refused,
            }
        }
    };
    if !arguments.json {
        print(&inspection.to_string());
        return status;
    }
    match serde_json::to_value(&inspection) {
        Ok(value) => print_json(&value),
        Err(error) => {
            complain(format!("error: {error}"));
            return Status::Stuck;
        }
    }
    status
}
