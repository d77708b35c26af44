//! Configuration as its users meet it: files on disk in, checked values or messages out.
//!
//! Each `tests/data/invalid/*.yaml` is a mistake that people make, with the whole message it must give beside it in a
//! `.txt`. `UPDATE_EXPECTED=1 cargo test --test config` writes those anew (and the schemas); look at the difference
//! before it is committed.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use stationmaster::config::{
    Efs, FlashStore, HardwareKind, IfAlready, Known, KnownFault, PackageSource, ReadBack, load_profile, load_station,
    profile_schema, station_schema,
};
use stationmaster::domain::{BandSet, Guard, Manifest};
use stationmaster::host::{Disk, EntryKind, MemoryDisk, OsDisk};
use stationmaster::protocol::at::is_reading_command;
use stationmaster::sim::models::{MODELS, Model};
use stationmaster::sim::{self, flash_map::FlashMap};

/// What configuration may name from layers that it cannot ask itself, as the command line tells it.
static KNOWN: LazyLock<Known<'static>> = LazyLock::new(|| Known {
    faults: sim::FAULTS
        .iter()
        .map(|fault| KnownFault { name: fault.name, takes_step: fault.takes_step })
        .collect::<Vec<_>>()
        .leak(),
    reading_command: is_reading_command,
    sim_variants: sim::package::VARIANTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().leak(),
    sim_models: MODELS.iter().map(|model| model.name).collect::<Vec<_>>().leak(),
});

/// The message for a file, as the command line would show it; empty where there is none.
fn message(disk: &dyn Disk, path: &Path) -> String {
    let profile = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("profile"));
    let result =
        if profile { load_profile(disk, path, &KNOWN).map(drop) } else { load_station(disk, path, &KNOWN).map(drop) };
    result.err().map(|errors| format!("{errors}\n")).unwrap_or_default()
}

fn updating() -> bool {
    std::env::var_os("UPDATE_EXPECTED").is_some()
}

/// What is expected and what came, line by line.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let mut text = String::new();
    for index in 0..expected.len().max(found.len()) {
        match (expected.get(index), found.get(index)) {
            (Some(expected), Some(found)) if expected == found => text += &format!("  {expected}\n"),
            (expected, found) => {
                text.extend(expected.map(|line| format!("- {line}\n")));
                text.extend(found.map(|line| format!("+ {line}\n")));
            }
        }
    }
    text
}

#[test]
fn each_invalid_file_gives_exactly_its_message() {
    let disk = OsDisk::new();
    let directory = Path::new("tests/data/invalid");
    let entries = disk.list(directory).expect("the invalid files");
    let names: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::File)
        .filter_map(|entry| entry.name.strip_suffix(".yaml"))
        .collect();
    let mut differences = String::new();
    for name in &names {
        let path = directory.join(format!("{name}.yaml"));
        let found = message(&disk, &path);
        assert!(!found.is_empty(), "{} is accepted", path.display());
        let expected_path = directory.join(format!("{name}.txt"));
        if updating() {
            disk.replace(&expected_path, found.as_bytes(), true).expect("writable");
        }
        let expected = disk.read(&expected_path, 1 << 20).unwrap_or_default();
        let expected = String::from_utf8(expected).expect("UTF-8");
        if expected != found {
            differences += &format!("{}\n{}\n", path.display(), difference(&expected, &found));
        }
    }
    assert!(differences.is_empty(), "messages differ (- expected, + found):\n{differences}");
    assert!(names.len() >= 34, "only {} invalid files", names.len());
    for entry in entries.iter().filter_map(|entry| entry.name.strip_suffix(".txt")) {
        assert!(names.contains(&entry), "{entry}.txt has no file beside it");
    }
}

#[test]
fn each_message_has_a_position_and_a_remedy() {
    let disk = OsDisk::new();
    for entry in disk.list(Path::new("tests/data/invalid")).expect("the invalid files") {
        let path = Path::new("tests/data/invalid").join(&entry.name);
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for paragraph in message(&disk, &path).trim_end().split("\n\n") {
            let lines: Vec<&str> = paragraph.lines().collect();
            assert!(lines.last().is_some_and(|line| line.starts_with("help: ")), "{paragraph}");
            if lines.len() == 2 {
                continue; // the file as a whole
            }
            let (source, caret) = (lines[1].as_bytes(), lines[2]);
            let column = caret.find('^').expect("a caret");
            let behind_the_end = source.len() <= column;
            assert!(behind_the_end || source[column] != b' ' || entry.name.contains("tab"), "{paragraph}");
        }
    }
}

#[test]
fn the_demo_station_is_what_its_comments_say() {
    let disk = OsDisk::new();
    let station =
        load_station(&disk, Path::new("stations/demo.yaml"), &KNOWN).map_err(|e| e.to_string()).expect("valid");
    assert_eq!(station.hardware, HardwareKind::Simulated);
    assert_eq!(station.slots.len(), 16);
    let hubs: std::collections::BTreeSet<_> = station.slots.iter().map(|slot| slot.usb2.root_port()).collect();
    assert_eq!(hubs.len(), 4);
    assert!(station.slots.iter().all(|slot| slot.usb3.as_ref().is_some_and(|usb3| usb3.ports() == slot.usb2.ports())));
    assert_eq!(station.state, PathBuf::from("state/demo"));
    assert_eq!(station.reports, PathBuf::from("reports"));
    assert_eq!(station.digest.to_string().len(), 64);
    let simulation = station.simulation.as_ref().expect("simulated");
    assert!(simulation.time_scale <= 20);
    assert_eq!(simulation.flash, FlashStore::Files);
    let families: std::collections::BTreeSet<_> = station.profiles.iter().map(|profile| profile.family.name).collect();
    assert_eq!(families.len(), 3, "mixed families");
    for unit in &simulation.units {
        let profile = station.profile_for(&unit.model).expect("each unit has a profile");
        assert!(profile.source_revisions.iter().any(|pattern| pattern.matches(&unit.revision)), "{unit:?}");
        assert!(!profile.checks.revision.matches(&unit.revision), "{unit:?} is flashed, not only verified");
    }
    for profile in &station.profiles {
        let PackageSource::Simulated(package) = &profile.package else { panic!("{} is simulated", profile.name) };
        assert!(package.megabytes >= 20);
        assert_eq!((profile.boots, profile.read_back, profile.efs), (2, ReadBack::BootChain, Efs::Keep));
        assert_eq!(profile.if_already, IfAlready::Verify);
    }
    let rm520 = station.profile_for("RM520N-GL").expect("there");
    for set in [BandSet::NrSaConfig, BandSet::NrSaPolicy, BandSet::NrNsaConfig, BandSet::NrNsaPolicy] {
        assert!(rm520.checks.bands[&set].contains(&77) && rm520.checks.bands[&set].contains(&78), "{set:?}");
    }
    let query = &rm520.checks.queries[0];
    let captures =
        query.pattern.as_ref().expect("a pattern").captures("+QTEMP: \"modem-cpu\",\"60\"").expect("matches");
    assert_eq!(&captures[1], "60");
    assert_eq!(query.number.as_ref().expect("limits").max, Some(85.0));
}

#[test]
fn the_demo_profiles_ask_for_what_the_simulated_modules_are() {
    for entry in OsDisk::new().list(Path::new("profiles")).expect("the profiles") {
        if !entry.name.ends_with(".yaml") {
            continue;
        }
        let profile = load_profile(&OsDisk::new(), &Path::new("profiles").join(&entry.name), &KNOWN);
        let profile = profile.map_err(|errors| errors.to_string()).expect("valid");
        for model in &profile.models {
            let model = Model::by_name(model).expect("it can be simulated");
            assert_eq!(profile.family.name, model.family);
            assert_eq!(profile.family.geometry, model.geometry);
            let tacs: Vec<String> = profile.checks.tacs.iter().map(ToString::to_string).collect();
            assert_eq!(tacs, [model.tac], "{}", model.name);
            let PackageSource::Simulated(package) = &profile.package else { panic!("simulated") };
            assert_eq!(package.revision, model.current_revision());
            assert!(profile.checks.revision.matches(model.current_revision()));
            let (old, new) = model.revisions.split_at(model.revisions.len() - 1);
            for revision in old {
                assert!(profile.source_revisions.iter().any(|pattern| pattern.matches(revision)), "{revision}");
                assert!(!profile.checks.revision.matches(revision), "{revision} would pass for {new:?}");
            }
            for (set, bands) in &profile.checks.bands {
                let has = match set {
                    BandSet::LteConfig | BandSet::LtePolicy => model.lte,
                    BandSet::NrSaConfig | BandSet::NrSaPolicy => model.nr_sa,
                    BandSet::NrNsaConfig | BandSet::NrNsaPolicy => model.nr_nsa,
                };
                let missing: Vec<&u16> = bands.iter().filter(|band| !has.contains(band)).collect();
                assert!(missing.is_empty(), "{} has no {missing:?} in {set:?}", model.name);
            }
            for guarded in profile.family.guarded {
                let map = FlashMap::of_model(model);
                assert!(map.range(guarded).is_some(), "{} has no partition {guarded}", model.name);
            }
        }
    }
}

#[test]
fn the_faults_station_is_valid() {
    let station = load_station(&OsDisk::new(), Path::new("stations/faults.yaml"), &KNOWN);
    let station = station.map_err(|errors| errors.to_string()).expect("valid");
    assert!(!station.simulation.expect("simulated").faults.is_empty());
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let disk = MemoryDisk::new();
    put(&disk, "s/min.yaml", MINIMAL_STATION);
    put(&disk, "s/profile.yaml", MINIMAL_PROFILE);
    let station = load_station(&disk, Path::new("s/min.yaml"), &KNOWN).map_err(|e| e.to_string()).expect("valid");
    assert_eq!(station.permits_per_root_port, 8);
    assert_eq!((station.state, station.reports), (PathBuf::from("state/min"), PathBuf::from("reports")));
    let simulation = station.simulation.expect("simulated");
    assert_eq!((simulation.time_scale, simulation.seed, simulation.flash), (1, 1, FlashStore::Memory));
    assert_eq!(simulation.operator.insert_after, Duration::from_secs(2));
    assert_eq!(simulation.units[0].slots, None);
    let profile = &station.profiles[0];
    assert_eq!(
        (profile.if_already, profile.efs, profile.read_back),
        (IfAlready::Flash, Efs::Keep, ReadBack::BootChain)
    );
    assert_eq!((profile.boots, profile.checks.cfun, profile.checks.calibration), (2, 1, true));
    assert_eq!((profile.guard, &profile.manifest), (Guard::Raw, &Manifest::of_family(profile.family)));
    assert!(profile.checks.bands.is_empty() && profile.checks.tacs.is_empty() && profile.checks.queries.is_empty());
    let budgets = profile.budgets;
    assert_eq!((budgets.erase_retries, budgets.program_retries, budgets.reentries, budgets.at_retries), (1, 1, 1, 3));
    assert_eq!(
        (profile.timeouts.program_ack, profile.timeouts.xqcn),
        (Duration::from_secs(120), Duration::from_secs(600))
    );
    let PackageSource::Simulated(package) = &profile.package else { panic!("simulated") };
    assert_eq!((package.megabytes, package.variant.as_str()), (24, "update"));
}

#[test]
fn a_manifest_adds_to_what_the_family_asks_for() {
    let disk = MemoryDisk::new();
    put(&disk, "s/min.yaml", MINIMAL_STATION);
    let manifest = "guard: raw+xqcn\nmanifest:\n  nv_items: 244\n  unreadable: 2\n  required_items: [453, 550]\n  \
                    required_paths: [/nv/item_files/modem/mmode/lte_bandpref]\n";
    put(&disk, "s/profile.yaml", &format!("{MINIMAL_PROFILE}{manifest}"));
    let station = load_station(&disk, Path::new("s/min.yaml"), &KNOWN).map_err(|e| e.to_string()).expect("valid");
    let profile = &station.profiles[0];
    let of_family = Manifest::of_family(profile.family);
    let mut paths = of_family.paths.clone();
    paths.push("/nv/item_files/modem/mmode/lte_bandpref".to_owned());
    let expected = Manifest { items: vec![453, 550], paths, items_min: 244, unreadable_max: 2, ..of_family };
    assert_eq!((profile.guard, &profile.manifest), (Guard::RawXqcn, &expected));
}

#[test]
fn real_hardware_with_a_pinned_package_is_accepted() {
    let disk = MemoryDisk::new();
    let simulated = MINIMAL_STATION.find("simulation:").expect("there");
    put(&disk, "s/usb.yaml", &MINIMAL_STATION[..simulated].replace("hardware: simulated", "hardware: usb"));
    let start = MINIMAL_PROFILE.find("  simulated:").expect("there");
    let end = MINIMAL_PROFILE.find("checks:").expect("there");
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let package = format!("  directory: ../packages/EG25\n  sha256: {digest}\n");
    put(&disk, "s/profile.yaml", &format!("{}{package}{}", &MINIMAL_PROFILE[..start], &MINIMAL_PROFILE[end..]));
    let station = load_station(&disk, Path::new("s/usb.yaml"), &KNOWN).map_err(|e| e.to_string()).expect("valid");
    let profile = &station.profiles[0];
    assert_eq!(profile.package, PackageSource::Directory(PathBuf::from("packages/EG25")));
    assert_eq!(profile.package_digest.expect("pinned").to_string(), digest);
}

#[test]
fn the_checked_in_schemas_are_up_to_date() {
    let disk = OsDisk::new();
    for (path, schema) in
        [("stations/station.schema.json", station_schema()), ("profiles/profile.schema.json", profile_schema())]
    {
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).expect("a schema is JSON"));
        if updating() {
            disk.replace(Path::new(path), text.as_bytes(), true).expect("writable");
        }
        let found = String::from_utf8(disk.read(Path::new(path), 1 << 20).expect("there")).expect("UTF-8");
        assert!(found == text, "{path} is not what the code says; see the head of this file");
    }
}

#[test]
fn the_document_names_every_key() {
    let disk = OsDisk::new();
    let text = disk.read(Path::new("docs/configuration.md"), 1 << 20).expect("the document");
    let text = String::from_utf8(text).expect("UTF-8");
    for schema in [station_schema(), profile_schema()] {
        let groups = schema["$defs"].as_object().into_iter().flatten().map(|(_, group)| group).chain([&schema]);
        for key in groups.filter_map(|group| group["properties"].as_object()).flatten().map(|(key, _)| key) {
            assert!(text.contains(&format!("`{key}`")), "docs/configuration.md does not explain `{key}`");
        }
    }
}

const MINIMAL_STATION: &str = "\
name: min
hardware: simulated
profiles: [profile.yaml]
slots:
  - name: A1
    usb2: sim-0/usb2/1
simulation:
  units:
    - model: EG25-G
      revision: OLD
";

const MINIMAL_PROFILE: &str = "\
name: min
models: [EG25-G]
package:
  simulated:
    model: EG25-G
    revision: NEW
checks:
  revision: NEW
";

fn put(disk: &MemoryDisk, path: &str, text: &str) {
    disk.create_dir_all(Path::new("s")).expect("a directory");
    disk.replace(Path::new(path), text.as_bytes(), true).expect("writable");
}

/// One change to a text: a range of lines or characters is doubled, removed, moved or replaced.
fn mutated(text: &str, changes: &[(u8, prop::sample::Index, prop::sample::Index, String)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (kind, from, length, insert) in changes {
        if characters.is_empty() {
            break;
        }
        let from = from.index(characters.len());
        let to = (from + length.index(24)).min(characters.len());
        let replacement: Vec<char> = match kind % 3 {
            0 => insert.chars().collect(),
            1 => characters[from..to].iter().chain(&characters[from..to]).copied().collect(),
            _ => Vec::new(),
        };
        characters.splice(from..to, replacement);
    }
    characters.into_iter().collect()
}

fn changes() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, prop::sample::Index, String)>> {
    let insert = prop_oneof![
        "[ -~\n]{0,6}",
        prop::sample::select(vec![
            "&a ",
            "*a",
            "!t ",
            "- ",
            ": ",
            "\"",
            "'",
            "|\n",
            "---\n",
            "null",
            "-1",
            "1e400",
            "{",
            "[",
            "\u{85}",
            "\t",
            ".nan",
            "99999999999999999999",
            "é",
            "\u{202e}"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec((any::<u8>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), insert), 1..4)
}

proptest! {
    #[test]
    fn a_mutated_station_is_accepted_or_explained(changes in changes()) {
        let disk = MemoryDisk::new();
        put(&disk, "s/profile.yaml", MINIMAL_PROFILE);
        put(&disk, "s/station.yaml", &mutated(MINIMAL_STATION, &changes));
        explained(&message(&disk, Path::new("s/station.yaml")))?;
    }

    #[test]
    fn a_mutated_profile_is_accepted_or_explained(changes in changes()) {
        let disk = MemoryDisk::new();
        let profile = OsDisk::new().read(Path::new("profiles/rm520n-gl.yaml"), 1 << 20).expect("there");
        let profile = String::from_utf8(profile).expect("UTF-8");
        put(&disk, "s/profile.yaml", &mutated(&profile, &changes));
        explained(&message(&disk, Path::new("s/profile.yaml")))?;
    }
}

/// Whatever is wrong is said with a remedy, and nothing of the file's can act on a terminal.
fn explained(message: &str) -> Result<(), TestCaseError> {
    prop_assert!(message.chars().all(|c| c == '\n' || !c.is_control()), "{message:?}");
    prop_assert!(!message.contains('\u{202e}'), "{message:?}");
    for paragraph in message.trim_end().split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        prop_assert!(paragraph.starts_with("s/") && paragraph.contains("\nhelp: "), "{paragraph}");
    }
    Ok(())
}
