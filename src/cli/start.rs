//! How the commands that look at a line begin: a station is read, a runtime is made, and what goes wrong with either is
//! said in one way.

use std::path::Path;

use tokio::runtime::{Builder, Runtime};

use super::{Status, complain, prepare};
use crate::config::Station;
use crate::host::Disk;

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

/// A runtime on this thread. What keeps it from being made has been said when there is none.
pub(super) fn runtime() -> Result<Runtime, Status> {
    Builder::new_current_thread().enable_all().build().map_err(|error| {
        complain(format!("error: no runtime: {error}"));
        Status::Stuck
    })
}
