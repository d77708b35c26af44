//! `backups export`, `import` and `key`.

use std::path::{Path, PathBuf};

use super::{Opened, Place, Selection, open, refused, stuck};
use crate::cli::{Status, complain, counted, print, start};
use crate::config::HardwareKind;
use crate::domain::text::printable;
use crate::domain::{BackupKind, Fact, limits};
use crate::host::{Clock, Disk, EntryKind};
use crate::ledger::{self, IndexPlace, Ledger, LedgerError, WriterMode};
use crate::protocol::xqcn::{self, Owner};
use crate::vault::{PublicKey, VaultEntry, VaultError};

/// How exported files end.
const SUFFIX: &str = ".smb.age";
/// How files end that are taken in.
const SUFFIXES: [&str; 2] = [SUFFIX, ".smb"];
/// Most files that one command takes in.
const IMPORTS_MAX: usize = 100_000;

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "stationmaster backups export [OPTIONS] --out <PATH>\n           <--backup <ID>|--chip <CHIP>|--imei <IMEI>|--all> <STATION>"
)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["backup", "chip", "imei", "all"]))]
pub(in crate::cli) struct ExportArguments {
    #[command(flatten)]
    place: Place,
    /// One backup: the first digits of its id
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    #[command(flatten)]
    selection: Selection,
    /// All of the vault
    #[arg(long)]
    all: bool,
    /// Whom to seal them to (age1...), any number; without it, to the station file's recovery key
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    to: Vec<PublicKey>,
    /// The directory to write them into, or for one backup the file
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ImportArguments {
    #[command(flatten)]
    place: Place,
    /// Exported files, or directories of such
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Who gave them, for the record: a station, a person
    #[arg(long, value_name = "WHO")]
    from: String,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct KeyArguments {
    #[command(flatten)]
    place: Place,
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    text.parse().map_err(|why| format!("{why}; `stationmaster backups key` of the other station prints its key"))
}

pub(super) fn export(arguments: &ExportArguments) -> Result<Status, Status> {
    let opened = open(&arguments.place)?;
    let to = recipients(arguments, &opened)?;
    let entries = match &arguments.backup {
        Some(prefix) => vec![opened.by_id(prefix)?],
        None => opened.entries(&arguments.selection)?,
    };
    if entries.is_empty() {
        return Err(refused("there is no such backup\nhelp: `stationmaster backups list` shows them"));
    }
    let disk = opened.disk.as_ref();
    let into = arguments.backup.is_none() || disk.list(&arguments.out).is_ok();
    let name = |path: &Path| path.to_string_lossy().ends_with(SUFFIX);
    if into {
        let made = disk.create_dir_all(&arguments.out);
        made.map_err(|error| refused(format!("{}: {error}", arguments.out.display())))?;
    } else if !name(&arguments.out) {
        return Err(refused(format!("the name of an exported file ends with {SUFFIX}")));
    }
    let mut status = Status::Good;
    for entry in &entries {
        let path = if into { arguments.out.join(file_name(entry)) } else { arguments.out.clone() };
        match opened.vault.export(entry, &to, &path) {
            Ok(backup) => print(&format!("{}: backup {}\n", path.display(), backup.id.short())),
            Err(error) => {
                complain(format!("error: backup {} of chip {}: {error}", entry.id.short(), entry.chip));
                status = Status::NotAllGood;
            }
        }
    }
    Ok(status)
}

fn recipients(arguments: &ExportArguments, opened: &Opened) -> Result<Vec<PublicKey>, Status> {
    if !arguments.to.is_empty() {
        return Ok(arguments.to.clone());
    }
    match opened.station.vault.recovery.as_deref().and_then(|text| text.parse().ok()) {
        Some(recovery) => Ok(vec![recovery]),
        None => Err(refused(
            "to whom? The station file names no recovery key\nhelp: give --to with the key that `stationmaster backups \
             key` of the other station prints; a backup is not written without a seal",
        )),
    }
}

fn file_name(entry: &VaultEntry) -> String {
    format!("{}-{:04}-{}{SUFFIX}", entry.chip, entry.number, entry.id.short())
}

/// The files that are meant, in an order in which the older backup of a chip comes first.
fn files(disk: &dyn Disk, paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    fn below(disk: &dyn Disk, directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), String> {
        let entries = disk.list(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        for entry in entries {
            let path = directory.join(&entry.name);
            match entry.kind {
                EntryKind::Directory if depth > 0 => below(disk, &path, depth - 1, found)?,
                EntryKind::File if SUFFIXES.iter().any(|suffix| entry.name.ends_with(suffix)) => found.push(path),
                _ => {}
            }
            if found.len() > IMPORTS_MAX {
                return Err(format!("{}: more than {IMPORTS_MAX} files", directory.display()));
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        match disk.list(path) {
            Ok(_) => below(disk, path, 1, &mut found)?,
            Err(_) if SUFFIXES.iter().any(|suffix| path.to_string_lossy().ends_with(suffix)) => {
                found.push(path.clone());
            }
            Err(_) => {}
        }
        if found.len() == before {
            return Err(format!("{}: no file or directory with backups ({SUFFIX})", path.display()));
        }
    }
    Ok(found)
}

pub(super) fn import(arguments: &ImportArguments) -> Result<Status, Status> {
    let given_by = printable(&arguments.from, limits::DEVICE_TEXT_CHARS_MAX);
    if given_by.trim().is_empty() {
        return Err(refused("--from says who gave the backups, for the record"));
    }
    let opened = open(&arguments.place)?;
    let files = files(opened.disk.as_ref(), &arguments.files).map_err(refused)?;
    let runtime = start::runtime()?;
    runtime.block_on(take_in(&opened, &files, &given_by))
}

/// Everything is verified before the first one is taken in.
async fn take_in(opened: &Opened, files: &[PathBuf], given_by: &str) -> Result<Status, Status> {
    let (clock, disk) = (Clock::real(), std::sync::Arc::clone(&opened.disk));
    let mut is_good = true;
    for path in files {
        if let Err(why) = judge(opened, path) {
            complain(format!("error: {}: {why}", path.display()));
            is_good = false;
        }
    }
    if !is_good {
        complain(
            "help: nothing was taken in; a file that is sealed to another key needs --identity,\nor is exported again \
             --to the key that `backups key` prints here",
        );
        return Err(Status::Refused);
    }
    let directory = opened.state.join("ledger");
    let ledger = Ledger::open(disk, clock.clone(), directory, WriterMode::Thread, IndexPlace::File);
    let ledger = ledger.await.map_err(|error| match error {
        LedgerError::Locked { .. } => refused("the station is at work\nhelp: stop it first"),
        error => {
            complain(format!("error: {}: {error}", opened.state.display()));
            Status::Stuck
        }
    })?;
    let result = store(opened, files, given_by, &ledger, &clock).await;
    ledger.close().await;
    result
}

/// What is wrong with a file, as a clause.
fn judge(opened: &Opened, path: &Path) -> Result<(), String> {
    let clause = |error: VaultError| match error {
        // Whose backup it is nobody knows as long as it cannot be read.
        VaultError::Damaged { reason, .. } => reason,
        other => other.to_string(),
    };
    let backup = opened.vault.examine(path).map_err(clause)?.backup;
    if backup.kind != BackupKind::Xqcn {
        return Ok(());
    }
    let bytes = opened.vault.read_xqcn(path).map_err(clause)?;
    let content = xqcn::read(&bytes).map_err(|error| format!("what was read over DIAG: {error}"))?;
    let owner = Owner { imei: backup.imei, calibration: None };
    let profiles = opened.station.profiles.iter();
    let fitting = profiles.filter(|profile| profile.hw_ids.is_empty() || profile.hw_ids.contains(&backup.chip.hw_id));
    let mut wrong = None;
    for profile in fitting {
        match xqcn::check(&content, profile.family, &profile.manifest, &owner) {
            Ok(()) => return Ok(()),
            Err(error) => {
                wrong = Some(format!("what was read over DIAG is not complete for {}: {error}", profile.name))
            }
        }
    }
    wrong.map_or(Ok(()), Err)
}

async fn store(
    opened: &Opened,
    files: &[PathBuf],
    given_by: &str,
    ledger: &Ledger,
    clock: &Clock,
) -> Result<Status, Status> {
    let not_recorded = |error: LedgerError| {
        complain(format!("error: the ledger: {error}"));
        Status::Stuck
    };
    let simulated = opened.station.hardware == HardwareKind::Simulated;
    if ledger.simulated().await.map_err(not_recorded)?.is_some_and(|seen| seen != simulated) {
        return Err(refused("this state directory belongs to the other kind of hardware"));
    }
    opened.vault.prepare().map_err(stuck)?;
    let mut taken = 0;
    for path in files {
        let (backup, is_new) = opened.vault.import(path, clock.wall()).map_err(stuck)?;
        let words = if is_new { "taken in" } else { "was there already" };
        print(&format!("{}: backup {} of chip {} {words}\n", path.display(), backup.id.short(), backup.chip));
        taken += u64::from(is_new);
        if !opened.recorded.contains_key(&backup.id) {
            let fact = Fact::BackupImported { backup, given_by: given_by.to_owned() };
            ledger.append(fact).await.map_err(not_recorded)?;
        }
    }
    print(&format!("{} taken in\n", counted(taken, "backup", "backups")));
    Ok(Status::Good)
}

pub(super) fn key(arguments: &KeyArguments) -> Result<Status, Status> {
    let opened = open(&arguments.place)?;
    let key = match opened.vault.public_key().map_err(stuck)? {
        Some(key) => key,
        None => {
            // It is made now; nobody else may make another one meanwhile.
            let lock = ledger::lock(opened.disk.as_ref(), &opened.state.join("ledger"));
            let _lock = lock.map_err(|error| match error {
                LedgerError::Locked { .. } => refused("the station is at work\nhelp: stop it first"),
                error => {
                    complain(format!("error: {error}"));
                    Status::Stuck
                }
            })?;
            opened.vault.prepare().map_err(stuck)?
        }
    };
    print(&format!("{key}\n"));
    Ok(Status::Good)
}
