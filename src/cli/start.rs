//! How the commands that look at a line begin: a station is read, a runtime is made, and what goes wrong with either is
//! said in one way.

use std::io::ErrorKind;
use std::path::Path;

use tokio::runtime::{Builder, Runtime};

use super::{Status, complain, prepare};
use crate::config::Station;
use crate::host::{Disk, disk_words};
use crate::ledger::LedgerError;

/// The station of a file. What is wrong with it has been said when there is none.
pub(super) fn station(disk: &dyn Disk, path: &Path) -> Result<Station, Status> {
    prepare::station(disk, path).map_err(|errors| {
        complain(errors);
        Status::Refused
    })
}

/// Likewise, where a station file need not be given.
pub(super) fn given_station(disk: &dyn Disk, path: Option<&Path>) -> Result<Option<Station>, Status> {
    path.map(|path| station(disk, path)).transpose()
}

/// Whether the state directory that was named for a command which looks into it is there. What is wrong has been said when
/// it is not.
pub(super) fn named_state(disk: &dyn Disk, state: Option<&Path>) -> Result<(), Status> {
    let Some(state) = state else { return Ok(()) };
    disk.list(state).map(drop).map_err(|error| {
        let why = disk_words(&error);
        complain(format!(
            "error: --state {}: {why}\nhelp: name the state directory of the station, or leave --state out",
            state.display()
        ));
        Status::Refused
    })
}

/// What the ledger of a station says, with what helps where that is not told yet.
pub(super) fn ledger_words(error: &LedgerError) -> String {
    match error {
        LedgerError::Disk { source, .. } if source.kind() == ErrorKind::PermissionDenied => format!(
            "{error}\nhelp: do it as a user who may use the state directory, as the station's own may; --state names \
             another directory"
        ),
        LedgerError::Disk { source, .. }
            if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
        {
            format!("{error}\nhelp: make room on the disk; nothing was begun")
        }
        error => error.to_string(),
    }
}

/// Why an address cannot be listened at.
pub(super) fn listen_words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "another program listens there".to_owned(),
        ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        _ => disk_words(error),
    }
}

/// A runtime on this thread. What keeps it from being made has been said when there is none.
pub(super) fn runtime() -> Result<Runtime, Status> {
    Builder::new_current_thread().enable_all().build().map_err(|error| {
        complain(format!("error: no runtime: {error}"));
        Status::Stuck
    })
}
