//! `backups`: what the vault of a station holds, and how it leaves it and comes into it.
//!
//! Looking takes no lock: a vault only grows, and what is read is verified. Taking in takes the ledger's lock, as a
//! station at work does.

mod exchange;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::run::Failed;
use super::{Status, complain, folded, prepare, start, station_words};
use crate::config::Station;
use crate::domain::text::printable;
use crate::domain::{BackupRef, ChipId, Fact, Imei, RunId, Sha256Digest};
use crate::host::{Disk, disk_words};
use crate::ledger;
use crate::vault::{SecretKeys, Vault, VaultEntry, VaultError};

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
    #[arg(long, value_parser = chip)]
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
    /// How the station is named on the command line.
    named: String,
}

/// How a backup came into the ledger.
#[derive(Debug)]
pub(super) struct Recorded {
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
    complain(folded(&format!("error: {why}")));
    Status::Refused
}

fn chip(text: &str) -> Result<ChipId, String> {
    text.parse().map_err(|why| format!("{why}; `stationmaster backups list` without --chip shows them"))
}

/// As [`open`], of a vault that others fill: one whose state directory is not there is not meant.
fn open_filled(place: &Place) -> Result<Opened, Status> {
    let opened = open(place)?;
    start::named_state(opened.disk.as_ref(), place.state.as_deref())?;
    Ok(opened)
}

fn open(place: &Place) -> Result<Opened, Status> {
    let disk: Arc<dyn Disk> = Arc::new(crate::host::OsDisk::new());
    let station = start::station(disk.as_ref(), &place.station)?;
    let state = place.state.clone().unwrap_or_else(|| station.state.clone());
    prepare::place_for(disk.as_ref(), &state, "state").map_err(|why| Failed::Refused(folded(&why)).tell())?;
    let mut vault = prepare::vault(&disk, &station, &state);
    if let Some(path) = &place.identity {
        let keys = SecretKeys::read(disk.as_ref(), path);
        vault = vault.with_keys(keys.map_err(|error| {
            let why = match error {
                VaultError::Key { reason, .. } => reason,
                VaultError::Disk { source, .. } => disk_words(&source),
                other => other.to_string(),
            };
            refused(format!(
                "--identity {}: {why}\nhelp: name the file that `age-keygen -o FILE` wrote, with the secret half of the \
                 recovery key",
                path.display()
            ))
        })?);
    }
    let recorded = recorded(disk.as_ref(), &state).map_err(|why| Failed::Stuck(why).tell())?;
    let named = station_words(&place.station, place.state.as_deref());
    Ok(Opened { disk, station, state, vault, recorded, named })
}

/// What the ledger says of backups. Where there is no ledger, nothing is recorded.
///
/// # Errors
/// A sentence for people.
pub(super) fn recorded(disk: &dyn Disk, state: &Path) -> Result<BTreeMap<Sha256Digest, Recorded>, String> {
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
        named(&self.vault, &self.recorded, prefix, &self.named).map_err(Failed::tell)
    }
}

/// Fewest digits by which a backup is named.
const ID_DIGITS_MIN: usize = 8;
/// All digits of an id.
const ID_DIGITS: usize = 64;

/// The backup in a vault whose id begins so. `station` is how its station is named on the command line.
///
/// # Errors
/// There is none, or more than one; the vault cannot be read.
pub(super) fn named(
    vault: &Vault,
    recorded: &BTreeMap<Sha256Digest, Recorded>,
    prefix: &str,
    station: &str,
) -> Result<VaultEntry, Failed> {
    let refused = |why: String, help: &str| {
        let list = format!("`stationmaster backups list {station}` shows those that are there");
        Failed::Refused(folded(&format!("error: {why}\nhelp: {help}{list}")))
    };
    let shown = printable(prefix, ID_DIGITS);
    let prefix = prefix.to_ascii_lowercase();
    let is_id = (ID_DIGITS_MIN..=ID_DIGITS).contains(&prefix.len()) && prefix.bytes().all(|c| c.is_ascii_hexdigit());
    if !is_id {
        let help = format!("give the first {ID_DIGITS_MIN} or more of its hexadecimal digits; ");
        return Err(refused(format!("`{shown}` is no id of a backup"), &help));
    }
    let all = vault.list().map_err(|error| Failed::Stuck(error.to_string()))?;
    let begins = |id: &Sha256Digest| id.to_string().starts_with(&prefix);
    let found: Vec<VaultEntry> = all.into_iter().filter(|entry| begins(&entry.id)).collect();
    let ids: BTreeSet<Sha256Digest> = found.iter().map(|entry| entry.id).collect();
    match (ids.len(), found.into_iter().next_back()) {
        // Where the same content is there twice, the first of them is damaged, or suspect.
        (1, Some(last)) => Ok(last),
        (_, Some(_)) => {
            Err(refused(format!("{} backups have an id that begins with {shown}", ids.len()), "give more digits; "))
        }
        (_, None) => Err(match recorded.values().map(|recorded| &recorded.backup).find(|backup| begins(&backup.id)) {
            Some(gone) => refused(
                format!(
                    "backup {} is in the ledger, but its file is missing in {}",
                    gone.id.short(),
                    vault.directory_of(gone.chip).display()
                ),
                "put the file back from a copy of the state directory or from `vault.copy`; ",
            ),
            None => refused(format!("no backup has an id that begins with {shown}"), ""),
        }),
    }
}

/// The vault itself cannot be read.
fn stuck(error: VaultError) -> Status {
    complain(folded(&format!("error: {error}")));
    Status::Stuck
}
