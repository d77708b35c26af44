//! YAML into checked stations and profiles.
//!
//! Whoever writes these files is no programmer and has a line waiting. So a mistake is shown where it stands, with a
//! caret and a remedy; everything that is wrong is shown at once; and what can be known to go wrong before a module is
//! touched (a band that the family cannot report, a command that would write) is an error here and not at two in the
//! morning. What leaves this module needs no further checks.
//!
//! The way of a file: [`yaml`] builds a tree with positions and reads the plain structs of [`raw`]; `check_*` turn
//! those into the public types, noting each error by its path, for which the tree knows the place.

mod check_manifest;
mod check_profile;
mod check_query;
mod check_station;
mod checker;
mod error;
mod node;
mod pattern;
mod profile;
mod raw;
mod schema;
mod serde_words;
mod slots_block;
mod station;
mod words;
mod yaml;

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::domain::{Sha256Digest, limits};
use crate::host::Disk;

pub use error::{ConfigError, ConfigErrors};
pub use pattern::{Pattern, PatternError};
pub use profile::{
    Budgets, Checks, Efs, IfAlready, NumberLimits, PackageSource, Profile, QueryCheck, ReadBack, Rework,
    SimulatedPackage, Timeouts,
};
pub use schema::{profile_schema, station_schema};
pub use slots_block::{edit_slots, slot_names};
pub use station::{
    FlashStore, HardwareKind, PowerKind, SimFault, SimOperator, SimUnitMix, Simulation, SlotConfig, Station,
    VaultConfig,
};

use checker::Checker;
use node::{At, Document};

/// What other parts of the product know and a configuration is checked against. Handed in, because this layer may not
/// ask them.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The faults that the simulator can inject.
    pub faults: &'a [KnownFault<'a>],
    /// Whether an AT command only reads; the reason where it does not.
    pub reading_command: fn(&str) -> Result<(), String>,
    /// The variants of simulated packages.
    pub sim_variants: &'a [&'a str],
    /// The models that the simulator can make.
    pub sim_models: &'a [&'a str],
}

/// A fault that the simulator can inject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownFault<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it can happen in several phases, so that `step` chooses one.
    pub takes_step: bool,
}

/// Reads and checks a station and the profiles that it names.
///
/// # Errors
/// Everything that is wrong in these files.
pub fn load_station(disk: &dyn Disk, path: &Path, known: &Known<'_>) -> Result<Station, ConfigErrors> {
    let bytes = read_file(disk, path)?;
    station_from(disk, path, &bytes, known)
}

/// Checks what is to become the station file `path`, as [`load_station`] would once it is there.
///
/// # Errors
/// Everything that is wrong in `bytes` and in the profiles that they name.
pub fn station_from(disk: &dyn Disk, path: &Path, bytes: &[u8], known: &Known<'_>) -> Result<Station, ConfigErrors> {
    let document = yaml::parse(path, bytes)?;
    let digest = Sha256Digest::of(bytes);
    let raw: raw::RawStation = yaml::read(&document)?;
    let mut checker = Checker::new(&document);
    let profiles = load_profiles(disk, &raw, &document, known, &mut checker);
    let station = check_station::check(&document, digest, &raw, &profiles, known, &mut checker);
    let errors = checker.into_errors();
    match station {
        Some(station) if errors.is_empty() => Ok(station),
        _ => Err(ConfigErrors(errors)),
    }
}

/// Reads and checks a profile.
///
/// # Errors
/// Everything that is wrong in it.
pub fn load_profile(disk: &dyn Disk, path: &Path, known: &Known<'_>) -> Result<Profile, ConfigErrors> {
    let (document, digest) = open(disk, path)?;
    profile_of(&document, digest, known)
}

fn profile_of(document: &Document, digest: Sha256Digest, known: &Known<'_>) -> Result<Profile, ConfigErrors> {
    let raw: raw::RawProfile = yaml::read(document)?;
    let mut checker = Checker::new(document);
    let profile = check_profile::check(document, digest, &raw, known, &mut checker);
    let errors = checker.into_errors();
    match profile {
        Some(profile) if errors.is_empty() => Ok(profile),
        _ => Err(ConfigErrors(errors)),
    }
}

/// The profiles of a station, each with its position in the station's list.
fn load_profiles(
    disk: &dyn Disk,
    raw: &raw::RawStation,
    document: &Document,
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> Vec<(usize, Arc<Profile>)> {
    let at = At::root().key("profiles");
    checker.count(&at, raw.profiles.len(), limits::PROFILES_MAX);
    let mut profiles = Vec::new();
    let mut paths = Vec::new();
    for (index, entry) in raw.profiles.iter().enumerate().take(limits::PROFILES_MAX) {
        let at = at.index(index);
        let Some(text) = checker.text(&at, entry, limits::CONFIG_PATH_CHARS_MAX) else { continue };
        let path = beside(&document.path, text);
        if paths.contains(&path) {
            checker.wrong(&at, "this profile is in the list twice", "keep one of the two");
            continue;
        }
        match read_bytes(disk, &path) {
            Err(error) => {
                let shown = crate::domain::text::printable(&path.to_string_lossy(), limits::CONFIG_PATH_CHARS_MAX);
                let help = "write the profile's path as seen from the directory of this file";
                checker.wrong(&at, format!("the profile {shown} cannot be read: {}", reason(&error)), help);
            }
            Ok(bytes) => {
                let digest = Sha256Digest::of(&bytes);
                match yaml::parse(&path, &bytes).and_then(|document| profile_of(&document, digest, known)) {
                    Ok(profile) => profiles.push((index, Arc::new(profile))),
                    Err(errors) => checker.extend(errors.0),
                }
            }
        }
        paths.push(path);
    }
    profiles
}

fn open(disk: &dyn Disk, path: &Path) -> Result<(Document, Sha256Digest), ConfigErrors> {
    let bytes = read_file(disk, path)?;
    Ok((yaml::parse(path, &bytes)?, Sha256Digest::of(&bytes)))
}

/// A station or profile file as it is, unread.
///
/// # Errors
/// When it cannot be read, or is longer than such a file may be.
pub fn read_file(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, ConfigErrors> {
    read_bytes(disk, path).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => yaml::too_long(path).into(),
        _ => {
            let sentence = format!("cannot be read: {}", reason(&error));
            ConfigError::of_file(path, sentence, "name a station or profile file; ready ones are in stations/").into()
        }
    })
}

fn read_bytes(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    disk.read(path, limits::CONFIG_BYTES_MAX)
}

/// The kind of an I/O error in words that do not depend on the system.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        io::ErrorKind::FileTooLarge => format!("it is longer than {} KiB", limits::CONFIG_BYTES_MAX / 1024),
        io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => "it is not a regular file".to_owned(),
        _ => crate::domain::text::printable(&error.to_string(), limits::DEVICE_TEXT_CHARS_MAX),
    }
}

/// The path `text` as seen from the directory of `file`. A leading `..` takes the place of a plain directory name, so
/// that `stations/demo.yaml` and `../profiles/x.yaml` give `profiles/x.yaml`; where the way leads through anything
/// else, it is left as written.
fn beside(file: &Path, text: &str) -> PathBuf {
    let mut path = file.parent().map(Path::to_owned).unwrap_or_default();
    for component in Path::new(text).components() {
        match (component, path.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                path.pop();
            }
            (component, _) => path.push(component),
        }
    }
    path
}

/// Whether a file is a profile rather than a station, as far as its keys tell: a profile has `models`. A file that
/// cannot be read counts as a station, whose reader then says what is wrong with it.
#[must_use]
pub fn is_profile(disk: &dyn Disk, path: &Path) -> bool {
    open(disk, path).is_ok_and(|(document, _)| document.node(&At::root().key("models")).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_seen_from_the_file() {
        let from = |file: &str, text: &str| beside(Path::new(file), text).display().to_string();
        assert_eq!(from("stations/demo.yaml", "../profiles/a.yaml"), "profiles/a.yaml");
        assert_eq!(from("demo.yaml", "../profiles/a.yaml"), "../profiles/a.yaml");
        assert_eq!(from("demo.yaml", "./a.yaml"), "a.yaml");
        assert_eq!(from("../x/demo.yaml", "../../a"), "../../a");
        assert_eq!(from("/etc/line/demo.yaml", "/var/lib/state"), "/var/lib/state");
    }
}
