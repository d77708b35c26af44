//! Where the records of a station lie: as its file says, or as the command line does.

use std::path::PathBuf;

use super::prepare;
use crate::domain::Fact;
use crate::host::Disk;
use crate::ledger::{self, Entry};

#[derive(Debug, clap::Args)]
pub(crate) struct Places {
    /// The station file whose state and reports are meant
    #[arg(long, value_name = "FILE", required_unless_present = "state")]
    station: Option<PathBuf>,
    /// The state directory, instead of the station file's
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The reports directory, instead of the station file's
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
}

/// Directories of records.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) state: PathBuf,
    pub(crate) reports: Option<PathBuf>,
}

impl Places {
    /// The directories.
    ///
    /// # Errors
    /// A sentence for people: the station file is not good.
    pub(crate) fn find(&self, disk: &dyn Disk) -> Result<Found, String> {
        let station = match &self.station {
            Some(path) => Some(prepare::station(disk, path).map_err(|errors| errors.to_string())?),
            None => None,
        };
        let state = self.state.clone().or_else(|| station.as_ref().map(|station| station.state.clone()));
        let reports = self.reports.clone().or_else(|| station.map(|station| station.reports));
        let state = state.ok_or_else(|| "error: name a station file or a state directory".to_owned())?;
        Ok(Found { state, reports })
    }
}

impl Found {
    /// The entries that reports are made from, in order.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) fn entries(&self, disk: &dyn Disk) -> Result<Vec<Entry>, String> {
        let mut entries = Vec::new();
        ledger::read_all(disk, &self.state.join("ledger"), |entry| {
            if matches!(entry.fact, Fact::BatchOpened { .. } | Fact::RunFinished(_)) {
                entries.push(entry);
            }
        })
        .map_err(|error| format!("error: {error}"))?;
        Ok(entries)
    }
}
