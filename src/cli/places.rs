//! Where the records of a station lie: as the command line says, or as the stations at hand do.

use std::path::{Path, PathBuf};

use super::{complain, prepare};
use crate::domain::Fact;
use crate::host::{Disk, EntryKind};
use crate::ledger::{self, Entry};

/// Where stations are looked for when none is named.
const STATIONS: &str = "stations";

#[derive(Debug, clap::Args)]
pub(crate) struct Places {
    /// The station whose records are meant; without it and --state, all in stations/ that have records
    #[arg(long, value_name = "FILE")]
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
    /// The directories, at least one.
    ///
    /// # Errors
    /// A sentence for people: a station file is not good, or there are no records.
    pub(crate) fn find(&self, disk: &dyn Disk) -> Result<Vec<Found>, String> {
        let found = match (&self.station, &self.state) {
            (Some(path), _) => vec![self.of_station(disk, path)?],
            (None, Some(state)) => vec![Found { state: state.clone(), reports: self.reports.clone() }],
            (None, None) => self.at_hand(disk)?,
        };
        match found.iter().find(|found| !found.has_records(disk)) {
            Some(empty) => Err(format!(
                "error: {}: there are no records of a station here\nhelp: name the station with --station FILE, or its \
                 state directory with --state DIR",
                empty.state.display()
            )),
            None => Ok(found),
        }
    }

    fn of_station(&self, disk: &dyn Disk, path: &Path) -> Result<Found, String> {
        let station = prepare::station(disk, path).map_err(|errors| errors.to_string())?;
        Ok(Found {
            state: self.state.clone().unwrap_or(station.state),
            reports: Some(self.reports.clone().unwrap_or(station.reports)),
        })
    }

    /// The stations in `stations/` that have worked.
    fn at_hand(&self, disk: &dyn Disk) -> Result<Vec<Found>, String> {
        let entries = disk.list(Path::new(STATIONS)).unwrap_or_default();
        let mut names: Vec<&str> = entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::File && entry.name.ends_with(".yaml"))
            .map(|entry| entry.name.as_str())
            .collect();
        names.sort_unstable();
        let mut all: Vec<Found> = Vec::new();
        for name in names {
            match self.of_station(disk, &Path::new(STATIONS).join(name)) {
                // Two stations may not work on one state directory, but files may say so.
                Ok(found) if all.iter().any(|other| other.state == found.state) => {}
                Ok(found) if found.has_records(disk) => all.push(found),
                Ok(_) => {}
                Err(why) => complain(why.trim_end()),
            }
        }
        if all.is_empty() {
            return Err(format!(
                "error: no station in {STATIONS}/ has records\nhelp: name the station with --station FILE, or its state \
                 directory with --state DIR"
            ));
        }
        Ok(all)
    }
}

impl Found {
    fn has_records(&self, disk: &dyn Disk) -> bool {
        disk.list(&self.state.join("ledger")).is_ok()
    }

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
        .map_err(|error| format!("error: {}: {error}", self.state.display()))?;
        Ok(entries)
    }
}
