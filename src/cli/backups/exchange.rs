//! `backups export`, `import` and `key`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Opened, Place, Selection, open, open_filled, refused, stuck};
use crate::cli::{Status, complain, counted, folded, prepare, print, start};
use crate::config::HardwareKind;
use crate::domain::text::printable;
use crate::domain::{BackupKind, Fact, limits};
use crate::host::{Clock, Disk, EntryKind, disk_words};
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
    let opened = open_filled(&arguments.place)?;
    let to = recipients(arguments, &opened)?;
    let entries = match &arguments.backup {
        Some(prefix) => vec![opened.by_id(prefix)?],
        None => opened.entries(&arguments.selection)?,
    };
    if entries.is_empty() {
        let help = format!("`stationmaster backups list {}` shows those that are there", opened.named);
        return Err(refused(format!("there is no such backup\nhelp: {help}")));
    }
    let paths = targets(opened.disk.as_ref(), arguments, &entries).map_err(refused)?;
    let mut status = Status::Good;
    for (entry, path) in entries.iter().zip(paths) {
        match opened.vault.export(entry, &to, &path) {
            Ok(backup) => print(&format!("{}: backup {}\n", path.display(), backup.id.short())),
            Err(error @ (VaultError::Key { .. } | VaultError::Disk { .. })) => return Err(stuck(error)),
            Err(error) => {
                // Damage names its backup itself.
                let which = match error {
                    VaultError::Damaged { .. } => String::new(),
                    _ => format!("backup {} of chip {}: ", entry.id.short(), entry.chip),
                };
                complain(folded(&format!("error: {which}{error}")));
                status = Status::NotAllGood;
            }
        }
    }
    if status != Status::Good {
        let verify = format!("`stationmaster backups verify {}`", opened.named);
        let others = if entries.len() > 1 { "the others are exported; " } else { "" };
        complain(folded(&format!("help: {others}{verify} says more of what is damaged")));
    }
    Ok(status)
}

/// The files that are to be written, of which none may be there yet; their directory is, or is made now.
fn targets(disk: &dyn Disk, arguments: &ExportArguments, entries: &[VaultEntry]) -> Result<Vec<PathBuf>, String> {
    let out = &arguments.out;
    let listed = disk.list(out);
    let paths: Vec<PathBuf> = if arguments.backup.is_none() || listed.is_ok() {
        disk.create_dir_all(out).map_err(|error| {
            let why = prepare::no_directory(&error);
            format!(
                "--out {}: {why}\nhelp: name a directory that this user may write to, or one that can be made",
                out.display()
            )
        })?;
        entries.iter().map(|entry| out.join(file_name(entry))).collect()
    } else if out.to_string_lossy().ends_with(SUFFIX) {
        vec![out.clone()]
    } else {
        return Err(format!(
            "--out {}: this is no directory, and the name of an exported file ends with {SUFFIX}\nhelp: name a directory \
             that is there, or a new file with that ending",
            out.display()
        ));
    };
    for path in &paths {
        match disk.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => {
                return Err(format!(
                    "--out {}: it is there, and nothing is overwritten\nhelp: name {}, or move that one away",
                    path.display(),
                    if *path == *out { "a new file" } else { "another directory" }
                ));
            }
        }
    }
    // Before the first one is made: whether there can be any.
    if let Some(first) = paths.first() {
        disk.try_write(first).map_err(|error| {
            let directory = first.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            format!(
                "--out {}: it cannot be made in the directory {}: {}\nhelp: make the directory first, or name one that \
                 this user may write to",
                first.display(),
                directory.display(),
                disk_words(&error)
            )
        })?;
    }
    Ok(paths)
}

fn recipients(arguments: &ExportArguments, opened: &Opened) -> Result<Vec<PublicKey>, Status> {
    if arguments.to.len() > limits::SEAL_RECIPIENTS_MAX {
        let most = limits::SEAL_RECIPIENTS_MAX;
        return Err(refused(format!("--to was given more than {most} times\nhelp: export to fewer keys at a time")));
    }
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

/// How files that are taken in are told from others.
const NAMES: &str = "(its name would end with .smb.age, or .smb)";
/// What may be taken in.
const HELP: &str = "\nhelp: name files that `stationmaster backups export` wrote, or a directory of such";

/// The files that are meant, in an order in which the older backup of a chip comes first.
fn files(disk: &dyn Disk, paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    fn below(disk: &dyn Disk, directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), String> {
        let entries =
            disk.list(directory).map_err(|error| format!("{}: {}", directory.display(), disk_words(&error)))?;
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
        let shown = path.display();
        let is_named = SUFFIXES.iter().any(|suffix| path.to_string_lossy().ends_with(suffix));
        match (disk.list(path), disk.open(path)) {
            (Ok(_), _) => below(disk, path, 1, &mut found)?,
            (Err(_), Ok(_)) if is_named => found.push(path.clone()),
            (Err(_), Ok(_)) => return Err(format!("{shown}: this is no exported backup {NAMES}{HELP}")),
            (Err(error), Err(_)) if error.kind() != ErrorKind::NotADirectory => {
                return Err(format!("{shown}: {}{HELP}", disk_words(&error)));
            }
            (Err(_), Err(error)) => return Err(format!("{shown}: {}{HELP}", disk_words(&error))),
        }
        if found.len() == before {
            return Err(format!("{shown}: there is no exported backup in this directory {NAMES}{HELP}"));
        }
    }
    Ok(found)
}

pub(super) fn import(arguments: &ImportArguments) -> Result<Status, Status> {
    let given_by = printable(&arguments.from, limits::DEVICE_TEXT_CHARS_MAX);
    if given_by.trim().is_empty() {
        let help = "name a station or a person: --from \"line3, J. Doe\"";
        return Err(refused(format!("--from says who gave the backups, for the record, and is empty\nhelp: {help}")));
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
            complain(folded(&format!("error: {why}")));
            is_good = false;
        }
    }
    if !is_good {
        complain(folded(&format!(
            "help: nothing was taken in; a file that is sealed to another key needs --identity, or is exported again --to \
             the key that `stationmaster backups key {}` prints; one that is damaged must be exported again",
            opened.named
        )));
        return Err(Status::Refused);
    }
    let directory = opened.state.join("ledger");
    let ledger = Ledger::open(disk, clock.clone(), directory, WriterMode::Thread, IndexPlace::File);
    let ledger = ledger.await.map_err(|error| match error {
        LedgerError::Locked { .. } => refused("the station is at work\nhelp: stop it first"),
        error => {
            let why = start::ledger_words(&error);
            complain(folded(&format!("error: {}: {why}", opened.state.display())));
            Status::Stuck
        }
    })?;
    let result = store(opened, files, given_by, &ledger, &clock).await;
    ledger.close().await;
    result
}

/// What is wrong with a file, which it names.
fn judge(opened: &Opened, path: &Path) -> Result<(), String> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let words = |error: VaultError| match error {
        // Whose backup it is nobody knows as long as it cannot be read.
        VaultError::Damaged { fault, .. } => fault.to_string(),
        error @ VaultError::Disk { .. } => error.to_string(),
        other => named(&other),
    };
    let backup = opened.vault.examine(path).map_err(words)?.backup;
    if backup.kind != BackupKind::Xqcn {
        return Ok(());
    }
    let bytes = opened.vault.read_xqcn(path).map_err(words)?;
    let content = xqcn::read(&bytes).map_err(|error| named(&format_args!("what was read over DIAG: {error}")))?;
    let owner = Owner { imei: backup.imei, calibration: None };
    let profiles = opened.station.profiles.iter();
    let fitting = profiles.filter(|profile| profile.hw_ids.is_empty() || profile.hw_ids.contains(&backup.chip.hw_id));
    let mut wrong = None;
    for profile in fitting {
        match xqcn::check(&content, profile.family, &profile.manifest, &owner) {
            Ok(()) => return Ok(()),
            Err(error) => {
                let why = format_args!("what was read over DIAG is not complete for {}: {error}", profile.name);
                wrong = Some(named(&why));
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
        return Err(refused(format!(
            "{}: this state directory belongs to the other kind of hardware: what is simulated and what is real are not \
             mixed\nhelp: import into a station of the same kind",
            opened.state.display()
        )));
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
                    complain(folded(&format!("error: {}", start::ledger_words(&error))));
                    Status::Stuck
                }
            })?;
            opened.vault.prepare().map_err(stuck)?
        }
    };
    print(&format!("{key}\n"));
    Ok(Status::Good)
}
