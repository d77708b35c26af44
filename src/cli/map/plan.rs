//! Everything about the station file that is known before anybody is asked to put a module in.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::MapArguments;
use crate::cli::prepare;
use crate::config::{self, SlotConfig, Station};
use crate::controller::mapping::Target;
use crate::domain::{PortChain, Side, SlotName, limits};
use crate::host::{Disk, disk_words};

/// Slots of one hub of an invented fixture.
const HUB_SLOTS: usize = 4;

/// What is to be taught.
#[derive(Debug)]
pub(super) struct Plan {
    /// The station; slots that the file does not have yet are at invented ports.
    pub(super) station: Station,
    pub(super) targets: Vec<Target>,
    /// The station's slots that are not taught.
    pub(super) others: Vec<SlotConfig>,
    path: PathBuf,
    /// The new file to be written, instead of that.
    out: Option<PathBuf>,
}

impl Plan {
    /// Reads the station file, and proves that whatever may be learned can be written into it.
    ///
    /// # Errors
    /// What people read: what is wrong, and the remedy.
    pub(super) fn of(disk: &dyn Disk, arguments: &MapArguments) -> Result<Self, String> {
        let path = arguments.station.clone();
        let named = &arguments.slots;
        if named.len() > limits::SLOTS_MAX {
            return Err(format!("error: --slots: a station has at most {} slots", limits::SLOTS_MAX));
        }
        if let Some((_, twice)) = named.iter().enumerate().find(|(index, name)| named[..*index].contains(name)) {
            return Err(format!("error: --slots names {twice} twice\nhelp: name each slot once"));
        }
        let bytes = config::read_file(disk, &path).map_err(|errors| errors.to_string())?;
        let known = config::slot_names(&path, &bytes).map_err(|errors| errors.to_string())?;
        let is_known = |name: &SlotName| known.iter().any(|known| known == name.as_str());
        let new = named.iter().filter(|name| !is_known(name));
        let new: Vec<SlotConfig> = invented(&bytes, &new.cloned().collect::<Vec<_>>());
        let planned = config::edit_slots(&path, &bytes, &new).map_err(|errors| errors.to_string())?;
        let none_named = named.is_empty() && known.is_empty() && !config::is_profile(disk, &path);
        let mut station = prepare::station_from(disk, &path, &planned).map_err(|errors| match none_named {
            true => format!("{errors}\nhelp: to teach slots that are not in the file yet, name them: --slots A1,A2"),
            false => errors.to_string(),
        })?;
        let wanted: Vec<SlotName> = match named.is_empty() {
            true => station.slots.iter().map(|slot| slot.name.clone()).collect(),
            false => named.clone(),
        };
        config::edit_slots(&path, &bytes, &invented(&bytes, &wanted)).map_err(|errors| errors.to_string())?;
        let targets = wanted.iter().map(|name| {
            let slot = station.slots.iter().find(|slot| slot.name == *name && is_known(name));
            Target {
                name: name.clone(),
                usb2: slot.map(|slot| slot.usb2.clone()),
                usb3: slot.and_then(|slot| slot.usb3.clone()),
            }
        });
        let targets = targets.collect();
        let others = station.slots.iter().filter(|slot| !wanted.contains(&slot.name)).cloned().collect();
        if let Some(out) = &arguments.out {
            check_out(disk, &station, out, &planned)?;
        }
        if let Some(state) = &arguments.state {
            prepare::place_for(disk, state, "state")?;
            station.state.clone_from(state);
        }
        let plan = Self { station, targets, others, path, out: arguments.out.clone() };
        // Better known now than when the whole fixture has been taught.
        disk.try_write(&plan.target()).map_err(|error| {
            format!(
                "error: {} cannot be written: {}\nhelp: name a new file with --out, in a directory that can be \
                 written",
                plan.shown().display(),
                disk_words(&error)
            )
        })?;
        Ok(plan)
    }

    /// The station file as it is now, and as it is to be.
    ///
    /// # Errors
    /// When it would not be a good station then: what people read.
    pub(super) fn edited(&self, disk: &dyn Disk, learned: &[SlotConfig]) -> Result<(Vec<u8>, Vec<u8>), String> {
        // Somebody may have worked on it meanwhile: what they wrote stays.
        let now = config::read_file(disk, &self.path).map_err(|errors| errors.to_string())?;
        let edited = config::edit_slots(&self.path, &now, learned).map_err(|errors| errors.to_string())?;
        prepare::station_from(disk, self.shown(), &edited).map_err(|errors| errors.to_string())?;
        Ok((now, edited))
    }

    /// Writes what [`Self::edited`] gave: into the person's file, which stays theirs, or into a new one.
    ///
    /// # Errors
    /// Of the disk.
    pub(super) fn write(&self, disk: &dyn Disk, bytes: &[u8]) -> std::io::Result<()> {
        match &self.out {
            Some(out) => disk.create(out, bytes),
            None => disk.rewrite(&self.target(), bytes),
        }
    }

    /// The file that is written; where the station file is a link, the one that it leads to.
    fn target(&self) -> PathBuf {
        let through = self.path.is_symlink().then(|| std::fs::canonicalize(&self.path).ok()).flatten();
        self.out.clone().or(through).unwrap_or_else(|| self.path.clone())
    }

    /// The same as it was named.
    pub(super) fn shown(&self) -> &Path {
        self.out.as_deref().unwrap_or(&self.path)
    }
}

/// Whether `--out` names a new file that says there what the station file says here: its paths are seen from its own
/// directory.
fn check_out(disk: &dyn Disk, station: &Station, out: &Path, planned: &[u8]) -> Result<(), String> {
    let shown = out.display();
    match disk.open(out) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(format!(
                "error: --out {shown}: {}\nhelp: name a new file in the directory of the station file",
                disk_words(&error)
            ));
        }
        _ => return Err(format!("error: --out {shown}: it is there already\nhelp: name a new file")),
    }
    let paths = |station: &Station| -> Vec<Option<PathBuf>> {
        let profiles = station.profiles.iter().map(|profile| &profile.path);
        profiles.chain([&station.state, &station.reports]).map(|path| std::path::absolute(path).ok()).collect()
    };
    let directory = |path: &Path| std::fs::canonicalize(path.parent().unwrap_or(path)).ok();
    // What is good here and not there is so because of a path that leads nowhere.
    let is_same = prepare::station_from(disk, out, planned).is_ok_and(|there| {
        directory(out).is_some_and(|out| Some(out) == directory(&station.path)) || paths(&there) == paths(station)
    });
    if is_same {
        return Ok(());
    }
    Err(format!(
        "error: --out {shown}: `profiles`, `state` or `reports` would lead elsewhere from that directory\nhelp: name a \
         new file in the directory of the station file, as its paths are seen from there"
    ))
}

/// Slots at ports of a controller that the file does not name, so that the file can be checked before the real ports
/// are known. On a simulated station they are real enough.
fn invented(bytes: &[u8], names: &[SlotName]) -> Vec<SlotConfig> {
    let text = String::from_utf8_lossy(bytes);
    let controller = (0..).map(|number| format!("sim-{number}")).find(|name| !text.contains(&format!("{name}/")));
    let controller = controller.unwrap_or_default();
    let port = |number: usize| u8::try_from(number + 1).unwrap_or(u8::MAX);
    let at = |side, index: usize| {
        PortChain::new(&controller, side, &[port(index / HUB_SLOTS), port(index % HUB_SLOTS)]).ok()
    };
    let names = names.iter().take(limits::SLOTS_MAX).enumerate();
    names
        .filter_map(|(index, name)| {
            Some(SlotConfig { name: name.clone(), usb2: at(Side::Usb2, index)?, usb3: at(Side::Usb3, index) })
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::host::{MemoryDisk, OsDisk};

    /// A disk with the demo station and its profiles.
    pub(in super::super) fn disk() -> MemoryDisk {
        let disk = MemoryDisk::new();
        for directory in ["profiles", "stations"] {
            disk.create_dir_all(Path::new(directory)).expect("in memory");
            for entry in OsDisk::new().list(Path::new(directory)).expect("a directory of the tree") {
                let path = Path::new(directory).join(&entry.name);
                let bytes = OsDisk::new().read(&path, limits::CONFIG_BYTES_MAX).expect("a file");
                disk.replace(&path, &bytes, true).expect("in memory");
            }
        }
        disk
    }

    pub(in super::super) fn arguments(slots: &[&str]) -> MapArguments {
        MapArguments {
            station: PathBuf::from("stations/demo.yaml"),
            slots: slots.iter().map(|name| name.parse().expect("a name")).collect(),
            partial: false,
            state: None,
            out: None,
        }
    }

    fn learned(name: &str, usb2: &str) -> SlotConfig {
        SlotConfig { name: name.parse().expect("a name"), usb2: usb2.parse().expect("a chain"), usb3: None }
    }

    #[test]
    fn targets_and_others_are_all_slots_and_new_ones_know_nothing() {
        let plan = Plan::of(&disk(), &arguments(&["B1", "E1"])).expect("a good station");
        assert_eq!(plan.others.len(), 15);
        let [known, new] = plan.targets.as_slice() else { panic!("two targets") };
        assert_eq!(known.usb2, Some("sim-0/usb2/2.1".parse().expect("a chain")));
        assert_eq!((&new.usb2, &new.usb3), (&None, &None));
        assert_eq!(plan.station.slots.len(), 17, "a fixture to practise on has a place for it");
        let all = Plan::of(&disk(), &arguments(&[])).expect("a good station");
        assert_eq!((all.targets.len(), all.others.len()), (16, 0));
    }

    #[test]
    fn what_somebody_wrote_into_the_file_meanwhile_stays() {
        let disk = disk();
        let plan = Plan::of(&disk, &arguments(&["A1"])).expect("a good station");
        let change = |from: &str, to: &str| {
            let path = Path::new("stations/demo.yaml");
            let text = String::from_utf8(disk.read(path, 1 << 20).expect("a file")).expect("text");
            assert!(text.contains(from));
            disk.replace(path, text.replace(from, to).as_bytes(), true).expect("in memory");
        };
        change("  # Hub B, on root port 2.", "  # Hub B, the blue one.");
        let (before, after) = plan.edited(&disk, &[learned("A1", "sim-0/usb2/9.1")]).expect("it is good");
        let (before, after) = (String::from_utf8(before).expect("text"), String::from_utf8(after).expect("text"));
        assert_eq!(after, before.replace("usb2: sim-0/usb2/1.1,", "usb2: sim-0/usb2/9.1,"));
        assert!(after.contains("the blue one"));
        // And what they broke is said before anything is written.
        change("hardware: simulated", "hardware: none");
        let why = plan.edited(&disk, &[learned("A1", "sim-0/usb2/9.1")]).expect_err("no station");
        assert!(why.starts_with("stations/demo.yaml:14:"), "{why}");
    }

    #[test]
    fn what_would_be_no_good_station_is_not_written() {
        let disk = disk();
        let plan = Plan::of(&disk, &arguments(&["A1", "A2"])).expect("a good station");
        let why = plan.edited(&disk, &[learned("A1", "sim-0/usb2/1.2")]).expect_err("two slots with one port");
        assert!(why.contains("slot A1 has this port already"), "{why}");
    }

    #[test]
    fn a_new_file_is_new_and_means_the_same_where_it_is() {
        let disk = disk();
        let out = |name: &str| {
            let named = MapArguments { out: Some(PathBuf::from(name)), ..arguments(&["A1"]) };
            Plan::of(&disk, &named)
        };
        disk.create_dir_all(Path::new("other")).expect("in memory");
        out("other/same.yaml").expect("../profiles and ../state are the same from there");
        let why = out("else.yaml").expect_err("they are not from here");
        assert!(why.contains("in the directory of the station file"), "{why}");
        let why = out("stations/faults.yaml").expect_err("it is taken");
        assert!(why.contains("it is there already"), "{why}");
        let why = out("nowhere/new.yaml").expect_err("it could not be written in the end");
        assert!(why.contains("nowhere/new.yaml cannot be written"), "{why}");
        let plan = out("stations/new.yaml").expect("beside it");
        // Somebody takes the name while the fixture is taught.
        disk.create(Path::new("stations/new.yaml"), b"theirs").expect("in memory");
        let (_, after) = plan.edited(&disk, &[learned("A1", "sim-0/usb2/9.1")]).expect("it is good");
        plan.write(&disk, &after).expect_err("it is not overwritten");
        assert_eq!(disk.read(Path::new("stations/new.yaml"), 99).expect("a file"), b"theirs");
    }
}
