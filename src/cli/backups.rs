//! `backups`: what the vault of a station holds, and how it leaves it and comes into it.
//!
//! Looking takes no lock: a vault only grows, and what is read is verified. Taking in takes the ledger's lock, as a
//! station at work does.

mod exchange;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Status, complain, prepare, start};
use crate::config::Station;
use crate::domain::{BackupRef, ChipId, Fact, Imei, RunId, Sha256Digest};
use crate::host::Disk;
use crate::ledger;
use crate::vault::{SecretKeys, Vault, VaultEntry};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum BackupsCommand {
    /// Which backups there are, by chip and age
    List(look::ListArguments),
    /// Everything that is known of one backup, read to its end
    Show(look::ShowArguments),
    /// Read every backup to its end, and compare with the ledger and the second place
    Verify(look::VerifyArguments),
    /// Write backups into files for another station, sealed to its key
    Export(exchange::ExportArguments),
    /// Take backups in that another station exported
    Import(exchange::ImportArguments),
    /// The public half of the vault's key, to which others can export
    Key(exchange::KeyArguments),
}

/// Whose vault.
#[derive(Debug, clap::Args)]
struct Place {
    /// The station file
    station: PathBuf,
    /// Where ledger and backups are kept, instead of the station file's `state`
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// A file with secret keys (age-keygen's) that open backups as well: the recovery key
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

/// Which of them.
#[derive(Debug, clap::Args)]
struct Selection {
    /// Only of this chip
    #[arg(long)]
    chip: Option<ChipId>,
    /// Only of the module that reported this IMEI
    #[arg(long)]
    imei: Option<Imei>,
}

/// A vault, and what the ledger beside it says.
#[derive(Debug)]
struct Opened {
    disk: Arc<dyn Disk>,
    station: Station,
    state: PathBuf,
    vault: Vault,
    recorded: BTreeMap<Sha256Digest, Recorded>,
}

/// How a backup came into the ledger.
#[derive(Debug)]
struct Recorded {
    backup: BackupRef,
    time: Timestamp,
    run: Option<RunId>,
    given_by: Option<String>,
}

pub(crate) fn run(command: &BackupsCommand) -> Status {
    let result = match command {
        BackupsCommand::List(arguments) => look::list(arguments),
        BackupsCommand::Show(arguments) => look::show(arguments),
        BackupsCommand::Verify(arguments) => look::verify(arguments),
        BackupsCommand::Export(arguments) => exchange::export(arguments),
        BackupsCommand::Import(arguments) => exchange::import(arguments),
        BackupsCommand::Key(arguments) => exchange::key(arguments),
    };
    result.unwrap_or_else(|status| status)
}

/// Says why, and ends.
fn refused(why: impl std::fmt::Display) -> Status {
    complain(format!("error: {why}"));
    Status::Refused
}

fn open(place: &Place) -> Result<Opened, Status> {
    let disk: Arc<dyn Disk> = Arc::new(crate::host::OsDisk::new());
    let station = start::station(disk.as_ref(), &place.station)?;
    let state = place.state.clone().unwrap_or_else(|| station.state.clone());
    let mut vault = prepare::vault(&disk, &station, &state);
    if let Some(path) = &place.identity {
        vault = vault.with_keys(SecretKeys::read(disk.as_ref(), path).map_err(refused)?);
    }
    let recorded = recorded(disk.as_ref(), &state).map_err(refused)?;
    Ok(Opened { disk, station, state, vault, recorded })
}

/// What the ledger says of backups. Where there is no ledger, nothing is recorded.
fn recorded(disk: &dyn Disk, state: &std::path::Path) -> Result<BTreeMap<Sha256Digest, Recorded>, String> {
    let mut all = BTreeMap::new();
    let directory = state.join("ledger");
    if disk.list(&directory).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(all);
    }
    ledger::read_all(disk, &directory, |entry| {
        let time = entry.wall;
        let (backup, run, given_by) = match entry.fact {
            Fact::BackupStored { run, backup } => (backup, Some(run), None),
            Fact::BackupImported { backup, given_by } => (backup, None, Some(given_by)),
            _ => return,
        };
        all.entry(backup.id).or_insert(Recorded { backup, time, run, given_by });
    })
    .map_err(|error| format!("{}: {error}", state.display()))?;
    Ok(all)
}

impl Opened {
    /// The files of the vault that are meant, by chip and age.
    fn entries(&self, selection: &Selection) -> Result<Vec<VaultEntry>, Status> {
        let mut entries = self.vault.list().map_err(stuck)?;
        entries.retain(|entry| selection.chip.is_none_or(|chip| chip == entry.chip));
        if let Some(imei) = selection.imei {
            let mut meant = BTreeSet::new();
            for chip in entries.iter().map(|entry| entry.chip).collect::<BTreeSet<ChipId>>() {
                let held = self.vault.backups_of(chip).map_err(stuck)?;
                if held.iter().any(|held| held.about.as_ref().is_ok_and(|about| about.imei == imei)) {
                    meant.insert(chip);
                }
            }
            entries.retain(|entry| meant.contains(&entry.chip));
        }
        Ok(entries)
    }

    /// The one whose id begins so.
    fn by_id(&self, prefix: &str) -> Result<VaultEntry, Status> {
        let all = self.vault.list().map_err(stuck)?;
        let prefix = prefix.to_ascii_lowercase();
        let found: Vec<&VaultEntry> = all.iter().filter(|entry| entry.id.to_string().starts_with(&prefix)).collect();
        match found.as_slice() {
            [one] if prefix.len() >= ID_DIGITS_MIN => Ok((*one).clone()),
            // The same content twice: the first of them is damaged, or suspect.
            [_, .., last] if prefix.len() == 64 => Ok((*last).clone()),
            [] => Err(refused("no backup has that id\nhelp: `stationmaster backups list` shows them")),
            _ => Err(refused(format!("that id is not clear\nhelp: give at least {ID_DIGITS_MIN} of its digits"))),
        }
    }
}

/// Fewest digits by which a backup is named.
const ID_DIGITS_MIN: usize = 8;

/// The vault itself cannot be read.
fn stuck(error: crate::vault::VaultError) -> Status {
    complain(format!("error: {error}"));
    Status::Stuck
}
