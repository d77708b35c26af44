//! What `run`, `check`, the tests and the benches share: everything that is read before a device is opened, and the
//! virtual factory that a station file describes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{
    self, ConfigErrors, FlashStore, HardwareKind, Known, KnownFault, PackageSource, Profile, SimUnitMix, Station,
};
use crate::controller::Product;
use crate::firmware::{Package, PackageError, PackageKind};
use crate::host::{Disk, disk_words};
use crate::protocol::at;
use crate::sim::{self, FactorySpec, FaultSpec, Flash, OperatorSpec, Pacing, SimSlot, UnitKind};
use crate::vault::Vault;

/// Reads a station and its profiles, with everything that configuration may name from layers it cannot ask itself.
///
/// # Errors
/// Everything that is wrong in these files.
pub fn station(disk: &dyn Disk, path: &Path) -> Result<Station, ConfigErrors> {
    with_known(|known| config::load_station(disk, path, known))
}

/// Checks what is to become the station file `path`.
///
/// # Errors
/// Everything that is wrong in it and in the profiles that it names.
pub(crate) fn station_from(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<Station, ConfigErrors> {
    with_known(|known| config::station_from(disk, path, bytes, known))
}

/// Reads a profile likewise.
///
/// # Errors
/// Everything that is wrong in it.
pub fn profile(disk: &dyn Disk, path: &Path) -> Result<Profile, ConfigErrors> {
    with_known(|known| config::load_profile(disk, path, known))
}

fn with_known<T>(read: impl FnOnce(&Known<'_>) -> T) -> T {
    let faults: Vec<KnownFault<'_>> =
        sim::FAULTS.iter().map(|fault| KnownFault { name: fault.name, takes_step: fault.takes_step }).collect();
    let variants: Vec<&str> = sim::package::VARIANTS.iter().map(|(name, _)| *name).collect();
    let models: Vec<&str> = sim::models::MODELS.iter().map(|model| model.name).collect();
    read(&Known {
        faults: &faults,
        reading_command: at::is_reading_command,
        sim_variants: &variants,
        sim_models: &models,
    })
}

/// Why a directory could not be made, in words.
pub(crate) fn no_directory(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            "it cannot be made: a file is in the place of a directory".to_owned()
        }
        ErrorKind::PermissionDenied => "it cannot be made: permission denied".to_owned(),
        _ => format!("it cannot be made: {}", disk_words(error)),
    }
}

/// Makes a directory where records are to go. `key` as in [`place_for`].
///
/// # Errors
/// A sentence for people, with the remedy.
pub(crate) fn place(disk: &dyn Disk, directory: &Path, key: &str) -> Result<(), String> {
    disk.create_dir_all(directory).map_err(|error| {
        format!(
            "{}: {}\nhelp: name a directory that this user may write to with --{key} DIR, or with `{key}` in the station \
             file",
            directory.display(),
            no_directory(&error)
        )
    })
}

/// Whether a directory can be where records are to go: no file is in its place. Makes nothing. `key` is the option, and
/// the key of the station file, that names it.
///
/// # Errors
/// A sentence for people, with the remedy.
pub(crate) fn place_for(disk: &dyn Disk, directory: &Path, key: &str) -> Result<(), String> {
    match disk.list(directory) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(format!(
            "error: {}: a file is in the place of a directory\nhelp: name a directory with --{key} DIR, or with `{key}` in \
             the station file",
            directory.display()
        )),
        _ => Ok(()),
    }
}

/// The vault of a station, in a state directory.
#[must_use]
pub fn vault(disk: &Arc<dyn Disk>, station: &Station, state: &Path) -> Vault {
    let mut vault = Vault::new(Arc::clone(disk), state.join("vault"));
    if let Some(recovery) = station.vault.recovery.as_deref().and_then(|text| text.parse().ok()) {
        vault = vault.with_recovery(recovery);
    }
    match &station.vault.copy {
        Some(copy) => vault.with_copy(copy.clone()),
        None => vault,
    }
}

/// What is wrong with how a station with real modules keeps its backups; `None` where nothing is.
pub(crate) fn vault_warning(station: &Station) -> Option<&'static str> {
    let is_at_risk = station.hardware == HardwareKind::Usb && station.vault.recovery.is_none();
    is_at_risk.then_some(
        "the station file names no recovery key (`vault: { recovery: age1... }`): if the key on this disk is lost, no \
         backup can be opened any more",
    )
}

/// Where the generated package of a simulated profile lies.
fn simulated_directory(state: &Path, profile: &Profile) -> PathBuf {
    state.join("packages").join(&profile.name)
}

/// Opens the packages of all profiles; simulated ones are generated below the state directory first.
///
/// # Errors
/// A sentence for people, naming the profile and the remedy.
pub fn products(disk: &Arc<dyn Disk>, station: &Station, state: &Path) -> Result<Vec<Product>, String> {
    station.profiles.iter().map(|profile| product(disk, profile, state)).collect()
}

/// Opens the package of one profile and compares it with the profile.
///
/// # Errors
/// As [`products`].
pub fn product(disk: &Arc<dyn Disk>, profile: &Arc<Profile>, state: &Path) -> Result<Product, String> {
    let place = format!("{}: package of profile {}", profile.path.display(), profile.name);
    let directory = match &profile.package {
        PackageSource::Directory(directory) => directory.clone(),
        PackageSource::Simulated(simulated) => {
            let directory = simulated_directory(state, profile);
            let spec = sim::package::PackageSpec {
                model: simulated.model.clone(),
                revision: simulated.revision.clone(),
                megabytes: simulated.megabytes,
                variant: simulated.variant.clone(),
            };
            sim::package::generate(disk.as_ref(), &directory, &spec).map_err(|error| format!("{place}: {error}"))?;
            directory
        }
    };
    let package = open_package(disk, &directory).map_err(|error| format!("{place}: {error}"))?;
    if let Some(pinned) = profile.package_digest
        && pinned != package.digest()
    {
        return Err(format!(
            "{place}: its digest is {}, the profile pins {pinned}\nhelp: this is not the package that was released \
             for the profile; restore it, or release the profile anew with the digest that `stationmaster package \
             inspect {}` prints",
            package.digest(),
            directory.display()
        ));
    }
    if !profile.guard.has_raw() && package.table().is_some() {
        return Err(format!(
            "{place}: it writes the partition table, and `guard: {}` backs up no partition\nhelp: write `guard: raw` or \
             `guard: raw+xqcn` in the profile",
            profile.guard
        ));
    }
    let (profile, package) = (Arc::clone(profile), Arc::new(package));
    Ok(Product { profile, package, unqualified: false, read_twice: false, round_trip: false })
}

/// Opens a package as a run uses it: by its update document, unless a factory document lies beside it. Then the factory
/// document is what counts: whoever put it there may mean it, and a profile that keeps the EFS refuses it.
///
/// # Errors
/// A sentence for people, with the remedy.
pub fn open_package(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Package, String> {
    let place = directory.display().to_string();
    let words = |error: PackageError| {
        let what = error.to_string();
        let what = if what.starts_with(&place) { what } else { format!("{place}: {what}") };
        format!("{what}\nhelp: {}", error.remedy())
    };
    let package = Package::open(disk, directory).map_err(words)?;
    let factory_beside = package.documents().iter().any(|document| document.kind == PackageKind::Factory);
    if package.kind() == PackageKind::Update && factory_beside {
        return Package::open_with(disk, directory, PackageKind::Factory).map_err(words);
    }
    Ok(package)
}

/// A kind of simulated modules, for the factory.
pub(crate) fn kind(mix: &SimUnitMix) -> UnitKind {
    UnitKind { model: mix.model.clone(), revision: mix.revision.clone(), slots: mix.slots.clone() }
}

/// The virtual factory that a station file describes, whose operator hands out `units` units; `None` for a station
/// with real hardware. Flash in files lies below `state`.
#[must_use]
pub fn factory(station: &Station, state: &Path, units: Option<u32>) -> Option<FactorySpec> {
    let simulation = station.simulation.as_ref()?;
    let slots = station.slots.iter();
    let kinds = simulation.units.iter();
    let faults = simulation.faults.iter();
    Some(FactorySpec {
        seed: simulation.seed,
        slots: slots
            .map(|slot| SimSlot { name: slot.name.clone(), usb2: slot.usb2.clone(), usb3: slot.usb3.clone() })
            .collect(),
        units: kinds.map(kind).collect(),
        operator: OperatorSpec {
            insert_after: simulation.operator.insert_after,
            remove_after: simulation.operator.remove_after,
            units,
        },
        faults: faults
            .map(|fault| FaultSpec {
                fault: fault.fault.clone(),
                unit: fault.unit,
                step: fault.step,
                after: fault.after,
            })
            .collect(),
        pacing: Pacing::Real,
        flash: match simulation.flash {
            FlashStore::Memory => Flash::Memory,
            FlashStore::Files => Flash::Files(state.join("sim").join("units")),
        },
        full_speed: false,
        state: state.to_path_buf(),
    })
}
