//! What the operator knows, on disk: `sim/line.json`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::spec::SimError;
use crate::domain::SlotName;
use crate::host::Disk;

/// Longest file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A unit in its slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seated {
    pub(super) slot: SlotName,
    pub(super) unit: u32,
    pub(super) model: String,
    pub(super) revision: String,
    /// Its flash is complete: a unit whose making was cut short is made again.
    pub(super) made: bool,
    /// Its run is finished: it was only not taken out yet.
    pub(super) done: bool,
    /// Its faults that have struck.
    pub(super) spent: Vec<usize>,
    /// Whether its boot loader was programmed.
    pub(super) flashed: bool,
}

/// The file's content.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineState {
    /// The number of the next unit.
    pub(super) next: u32,
    /// What is in the slots.
    pub(super) seated: Vec<Seated>,
}

/// The file.
#[derive(Debug, Clone)]
pub(super) struct LineFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl LineFile {
    pub(super) fn new(disk: Arc<dyn Disk>, state: &Path) -> Result<Self, SimError> {
        let directory = state.join("sim");
        disk.create_dir_all(&directory)?;
        Ok(Self { disk, path: directory.join("line.json") })
    }

    pub(super) fn load(&self) -> Result<LineState, SimError> {
        let bytes = match self.disk.read(&self.path, FILE_BYTES_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(LineState::default()),
            other => other?,
        };
        serde_json::from_slice(&bytes)
            .map_err(|error| SimError::State { path: self.path.clone(), reason: error.to_string() })
    }

    pub(super) fn save(&self, next: u32, seated: Vec<Seated>) -> Result<(), SimError> {
        let state = LineState { next, seated };
        let mut bytes = serde_json::to_vec_pretty(&state)
            .map_err(|error| SimError::State { path: self.path.clone(), reason: error.to_string() })?;
        bytes.push(b'\n');
        Ok(self.disk.replace(&self.path, &bytes, true)?)
    }
}
