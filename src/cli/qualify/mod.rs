//! `qualify`: whether a profile keeps what it promises, found on real runs of a number of modules.
//!
//! It is a run of the station with one profile, whose every module is flashed and whose backups are read twice. What it
//! found is computed from the records of these runs and becomes a fact of the ledger they are in. On real hardware
//! `run` asks for such a fact.

mod words;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::run::{self, Failed, Purpose, RunArguments};
use super::{Status, print, print_json};
use crate::config::{HardwareKind, IfAlready, Profile, Station};
use crate::controller::Product;
use crate::domain::limits::{QUALIFY_UNITS_MAX, QUALIFY_UNITS_MIN};
use crate::domain::{BatchId, Fact, Qualification, StationName};
use crate::host::Disk;
use crate::ledger::{self, Ledger, LedgerError};
use crate::report::{Qualifier, QualifyInput, Standings};

/// Entries of the ledger that are read at once.
const READ_ENTRIES: usize = 256;

#[derive(Debug, clap::Args)]
pub(crate) struct QualifyArguments {
    #[command(flatten)]
    run: RunArguments,
    /// The profile: its name, or its file as the station file names it
    profile: String,
    /// Erase what belongs to each module and write it again from its backup; simulated modules always
    #[arg(long)]
    erase_and_restore: bool,
}

pub(crate) fn run(arguments: &QualifyArguments) -> Status {
    let QualifyArguments { run, profile, erase_and_restore } = arguments;
    run::run_for(run, Purpose::Qualification { profile, erase_and_restore: *erase_and_restore })
}

/// Lets products do what a qualification does beyond a run. On real modules a backup is written back only where somebody
/// asked for that: it is what a repair depends on, and the one thing by which a well module could be lost.
pub(super) fn try_more(products: &mut [Product], station: &Station, erase_and_restore: bool) {
    let simulated = station.hardware == HardwareKind::Simulated;
    for product in products {
        product.read_twice = true;
        product.round_trip = (simulated || erase_and_restore) && product.profile.guard.has_raw();
    }
}

/// The station with that one profile, which flashes whatever is put in.
///
/// # Errors
/// A sentence for people: there is no such profile, or the simulated line has no module for it.
pub(super) fn narrowed(station: Station, wanted: &str) -> Result<Station, String> {
    let is_meant = |profile: &&Arc<Profile>| profile.name == wanted || is_same(&profile.path, Path::new(wanted));
    let Some(profile) = station.profiles.iter().find(is_meant) else {
        let names: Vec<&str> = station.profiles.iter().map(|profile| profile.name.as_str()).collect();
        return Err(format!(
            "error: the station {} has no profile `{wanted}`\nhelp: it has: {}",
            station.name,
            names.join(", ")
        ));
    };
    // A module that is only verified proves nothing of the package.
    let profile = Arc::new(Profile { if_already: IfAlready::Flash, ..(**profile).clone() });
    let mut simulation = station.simulation.clone();
    if let Some(simulation) = &mut simulation {
        simulation.units.retain(|mix| profile.models.contains(&mix.model));
        if simulation.units.is_empty() {
            return Err(format!(
                "error: no module of the simulated line is for the profile {}\nhelp: add one of its models to \
                 `simulation.units`",
                profile.name
            ));
        }
    }
    Ok(Station { profiles: vec![profile], simulation, ..station })
}

fn is_same(one: &Path, other: &Path) -> bool {
    let absolute =
        |path: &Path| std::path::absolute(path).map(|path| path.components().collect::<std::path::PathBuf>());
    one == other || matches!((absolute(one), absolute(other)), (Ok(one), Ok(other)) if one == other)
}

/// How many units are tried: as many as there are slots unless something else is asked for.
///
/// # Errors
/// A sentence for people.
pub(super) fn units(asked: Option<u32>, station: &Station) -> Result<u32, String> {
    let slots: BTreeSet<_> = station.slots.iter().map(|slot| &slot.name).collect();
    let usual = u32::try_from(slots.len()).unwrap_or(u32::MAX).clamp(QUALIFY_UNITS_MIN, QUALIFY_UNITS_MAX);
    let units = asked.unwrap_or(usual);
    if (QUALIFY_UNITS_MIN..=QUALIFY_UNITS_MAX).contains(&units) {
        return Ok(units);
    }
    Err(format!(
        "error: --units {units}: a profile is qualified on {QUALIFY_UNITS_MIN} to {QUALIFY_UNITS_MAX} units\nhelp: where \
         there are fewer slots, put one module after the other in"
    ))
}

/// What the ledger says of qualifications.
///
/// # Errors
/// Those of the ledger.
pub(super) async fn standings(ledger: &Ledger) -> Result<Standings, LedgerError> {
    let mut standings = Standings::default();
    let mut next = 1;
    loop {
        let entries = ledger.read(next, READ_ENTRIES).await?;
        let Some(last) = entries.last() else { return Ok(standings) };
        next = last.seq + 1;
        entries.iter().for_each(|entry| standings.follow(&entry.fact));
    }
}

/// The same of a station that this process does not work on; nothing where there is no ledger, or none that can be read.
pub(super) fn standings_at(disk: &dyn Disk, state: &Path) -> Standings {
    let mut standings = Standings::default();
    let directory = state.join("ledger");
    if let Err(error) = ledger::read_all(disk, &directory, |entry| standings.follow(&entry.fact)) {
        tracing::info!(%error, "no qualifications can be read");
        return Standings::default();
    }
    standings
}

/// How the profiles of a station stand: a sentence for each of which there is something to say, and whether it keeps the
/// station from running it without being told to. The package of a profile for real hardware is the one that it pins.
pub(super) fn standing_notes(standings: &Standings, station: &Station) -> Vec<(String, bool)> {
    let simulated = station.hardware == HardwareKind::Simulated;
    let note = |profile: &Arc<Profile>| {
        let found = match profile.package_digest {
            Some(package) => standings.of(profile.digest, package, simulated),
            None => standings.of_profile(profile.digest, simulated),
        };
        match found {
            Some(found) => Some((
                format!("profile {} is qualified on {} units, batch {}", profile.name, found.units, found.batch),
                true,
            )),
            None if simulated => None,
            None => Some((format!("profile {} is not qualified with its package", profile.name), false)),
        }
    };
    station.profiles.iter().filter_map(note).collect()
}

/// Marks products whose profile is not qualified.
///
/// # Errors
/// Where the hardware is real and nobody said that such a profile may run; a sentence for people.
pub(super) fn admit(
    products: &mut [Product],
    standings: &Standings,
    (simulated, may_be_unqualified): (bool, bool),
    station: &Path,
) -> Result<(), String> {
    for product in products {
        let (profile, package) = (&product.profile, product.package.digest());
        if standings.of(profile.digest, package, simulated).is_some() {
            continue;
        }
        if !simulated && !may_be_unqualified {
            return Err(format!(
                "error: the profile {} is not qualified with its package on this station's hardware\nhelp: `stationmaster \
                 qualify {} {}` tries it on a number of modules; --unqualified runs it as it is, and each row says so",
                profile.name,
                station.display(),
                profile.name
            ));
        }
        // A simulated station asks for no qualification; its rows say so only when it was told to.
        product.unqualified = may_be_unqualified;
    }
    Ok(())
}

/// What was worked with.
pub(super) struct Ended<'a> {
    pub(super) station: &'a StationName,
    pub(super) batch: &'a BatchId,
    pub(super) products: &'a [Product],
    pub(super) units: u32,
    pub(super) simulated: bool,
}

/// Computes what was found, makes it a fact, and prints it.
///
/// # Errors
/// Those of the ledger.
pub(super) async fn conclude(ledger: &Ledger, ended: Ended<'_>, json: bool) -> Result<Status, Failed> {
    let Ended { station, batch, products, units, simulated } = ended;
    let [product] = products else { return Err(Failed::Stuck("a qualification is of one profile".to_owned())) };
    let (profile, package_digest) = (&product.profile, product.package.digest());
    let round_trip = product.round_trip;
    let input = QualifyInput { station, batch, profile, package_digest, simulated, units, round_trip };
    let mut qualifier = Qualifier::new(input);
    let mut next = 1;
    loop {
        let entries = ledger.read(next, READ_ENTRIES).await?;
        let Some(last) = entries.last() else { break };
        next = last.seq + 1;
        entries.iter().for_each(|entry| qualifier.follow(&entry.fact));
    }
    let found: Qualification = qualifier.conclude();
    ledger.append(Fact::Qualified(Box::new(found.clone()))).await?;
    if json {
        print_json(&words::document(&found));
    } else {
        print(&words::text(&found, &profile.path));
    }
    Ok(if found.qualified { Status::Good } else { Status::NotAllGood })
}
