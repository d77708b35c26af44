//! `check`: reads stations, profiles and packages as `run` would.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Status, complain, counted, prepare, print, qualify, wrapped};
use crate::config;
use crate::firmware::{self, Package};
use crate::host::{Disk, EntryKind, OsDisk};

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArguments {
    /// Station files, profiles, or package directories
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &CheckArguments) -> Status {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let mut status = Status::Good;
    for path in &arguments.files {
        match check(&disk, path) {
            Ok(words) => print(&format!("{}: {words}\n", path.display())),
            Err(error) => {
                complain(error.trim_end());
                status = Status::Refused;
            }
        }
    }
    status
}

fn check(disk: &Arc<dyn Disk>, path: &Path) -> Result<String, String> {
    if is_directory(disk, path) {
        let package = prepare::open_package(disk, path)?;
        let notes: String = notes(&package).iter().map(String::as_str).map(noted).collect();
        return Ok(format!("a good {} package, digest {}{notes}", package.kind().as_str(), package.digest()));
    }
    if config::is_profile(disk.as_ref(), path) {
        let profile = prepare::profile(disk.as_ref(), path).map_err(|errors| errors.to_string())?;
        let notes = check_package(disk, &profile)?;
        return Ok(format!("a good profile for {}{notes}", profile.models.join(", ")));
    }
    let station = prepare::station(disk.as_ref(), path).map_err(|errors| errors.to_string())?;
    let mut notes = String::new();
    for profile in &station.profiles {
        notes += &check_package(disk, profile)?;
    }
    notes += &prepare::vault_warning(&station).map(noted).unwrap_or_default();
    let standings = qualify::standings_at(disk.as_ref(), &station.state);
    for (note, is_good) in qualify::standing_notes(&standings, &station) {
        let help = if is_good { "" } else { ": `run` refuses it without --unqualified" };
        notes += &noted(&format!("{note}{help}"));
    }
    let slots = counted(station.slots.len() as u64, "slot", "slots");
    let profiles = counted(station.profiles.len() as u64, "profile", "profiles");
    Ok(format!("a good station with {slots} and {profiles}{notes}"))
}

/// Opens a package on disk, and gives what is to be said about it, a line each. A generated one is made by `run` and
/// not here, where nothing is written.
fn check_package(disk: &Arc<dyn Disk>, profile: &config::Profile) -> Result<String, String> {
    match &profile.package {
        config::PackageSource::Directory(_) => {
            let product = prepare::product(disk, &Arc::new(profile.clone()), Path::new(""))?;
            let about = |note: &String| noted(&format!("package of profile {}: {note}", profile.name));
            Ok(notes(&product.package).iter().map(about).collect())
        }
        config::PackageSource::Simulated(_) => Ok(String::new()),
    }
}

/// A line of a verdict, folded.
fn noted(note: &str) -> String {
    format!("\n{}", wrapped(&format!("  note: {note}"), 4))
}

/// What a person should know of a package, a sentence each.
fn notes(package: &Package) -> Vec<String> {
    let findings = firmware::inspect(package).findings.into_iter().map(|finding| finding.text);
    package.warnings().iter().cloned().chain(findings).collect()
}

fn is_directory(disk: &Arc<dyn Disk>, path: &Path) -> bool {
    let (Some(name), parent) = (path.file_name(), path.parent()) else { return disk.list(path).is_ok() };
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.list(parent).is_ok_and(|entries| {
        entries.iter().any(|entry| entry.kind == EntryKind::Directory && Path::new(&entry.name) == name)
    })
}
