//! What a package puts into other programs' hands: udev, systemd, dpkg and man must find in it what the program relies on.

#![expect(clippy::print_stderr, reason = "what a machine has no program for is said, not passed over")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use stationmaster::domain::family::{DUMP_IDS, EDL_IDS, FAMILIES};
use stationmaster::host::{Disk, OsDisk};

const BINARY: &str = env!("CARGO_BIN_EXE_stationmaster");
const RULES: &str = "packaging/70-stationmaster.rules";
const BRLTTY_RULES: &str = "packaging/99-stationmaster-brltty.rules";
const UNIT: &str = "packaging/stationmaster@.service";
/// The account, and its group.
const ACCOUNT: &str = "stationmaster";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    let bytes = OsDisk::new().read(&path, 1 << 20).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8(bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a program that a developer's machine may not have; `None` where it is missing.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Runs the program itself, which must go well.
fn stationmaster(arguments: &[&str]) -> String {
    let output = run(BINARY, arguments).expect("it was built for this test");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The lines of a file of rules or settings that say something.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The value that follows `key` in a line of rules, up to its closing quote.
fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let at = line.find(&format!("{key}\""))? + key.len() + 1;
    line[at..].split('"').next()
}

/// Whether the rules send a device with these ids to a label; `attribute` is how they ask for them.
fn leads_to(rules: &str, attribute: &str, (vendor, product): (u16, u16), label: &str) -> bool {
    let (vendor, product) = (format!("{vendor:04x}"), format!("{product:04x}"));
    let has = |line: &str, key: &str, id: &str| {
        quoted(line, &format!("{attribute}{{{key}}}==")).map(|ids| ids.split('|').any(|one| one == id))
    };
    lines(rules).any(|line| {
        (line.starts_with(attribute) || line.contains(&format!(" {attribute}{{")))
            && quoted(line, "GOTO=") == Some(label)
            && has(line, "idVendor", &vendor) == Some(true)
            && has(line, "idProduct", &product) != Some(false)
    })
}

/// What the rules say between a label and the next jump to the end.
fn section<'a>(rules: &'a str, label: &str) -> &'a str {
    let (_, after) = rules.split_once(&format!("LABEL=\"{label}\"")).unwrap_or_else(|| panic!("no label {label}"));
    after.split("\nGOTO=").next().unwrap_or_default()
}

fn ids() -> BTreeSet<(u16, u16)> {
    let normal = FAMILIES.iter().flat_map(|family| family.usb_ids);
    normal.chain(EDL_IDS).chain(DUMP_IDS).copied().collect()
}

#[test]
fn each_mode_of_each_module_is_given_to_the_station_and_kept_from_others() {
    let rules = read(RULES);
    let brltty = read(BRLTTY_RULES);
    let kept = lines(&brltty).find_map(|line| quoted(line, "ATTRS{idVendor}==")).expect("vendors").to_owned();
    assert!(ids().len() >= 13);
    for id in ids() {
        let name = format!("{:04x}:{:04x}", id.0, id.1);
        assert!(leads_to(&rules, "ATTR", id, "stationmaster_module"), "{name}: its USB device");
        assert!(leads_to(&rules, "ATTRS", id, "stationmaster_port"), "{name}: its ports");
        assert!(kept.split('|').any(|vendor| name.starts_with(vendor)), "{name}: brltty");
    }
    for foreign in [(0x05c6, 0x9215), (0x05c6, 0x9090), (0x3c93, 0x0001), (0x0403, 0x6001), (0x1d6b, 0x0002)] {
        assert!(!leads_to(&rules, "ATTR", foreign, "stationmaster_module"), "{foreign:04x?}");
        assert!(!leads_to(&rules, "ATTRS", foreign, "stationmaster_port"), "{foreign:04x?}");
    }
    let group = format!("GROUP=\"{ACCOUNT}\", MODE=\"0660\"");
    let module = section(&rules, "stationmaster_module");
    for words in [group.as_str(), "ENV{ID_MM_DEVICE_IGNORE}=\"1\"", "ATTR{power/control}=\"on\""] {
        assert!(module.contains(words), "a module's device: {words}");
    }
    let port = section(&rules, "stationmaster_port");
    for words in [group.as_str(), "SUBSYSTEM==\"tty\"", "ENV{ID_MM_DEVICE_IGNORE}=\"1\""] {
        assert!(port.contains(words), "a module's ports: {words}");
    }
}

#[test]
fn rules_are_in_an_order_that_works() {
    for path in [RULES, BRLTTY_RULES] {
        let text = read(path);
        let rules: Vec<&str> = lines(&text).collect();
        for (index, line) in rules.iter().enumerate() {
            // udev only jumps forwards, and passes over a jump to nowhere without a word.
            if let Some(label) = quoted(line, "GOTO=") {
                let there = rules[index..].iter().any(|line| *line == format!("LABEL=\"{label}\""));
                assert!(there, "{path}: nothing below it has the label {label}");
            }
        }
    }
    let name = |path: &'static str| Path::new(path).file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(name(RULES) > "60-autosuspend.rules", "what it switches off would be switched on again");
    assert!(name(RULES) < "80-mm-candidate.rules", "ModemManager would see the port first");
    assert!(name(BRLTTY_RULES) > "90-brltty-device.rules", "nothing would be there yet to be taken back");
}

#[test]
fn udev_reads_the_rules() {
    let paths = [RULES, BRLTTY_RULES].map(|path| root().join(path).display().to_string());
    match run("udevadm", &["verify", "--help"]) {
        Some(help) if help.status.success() => {}
        _ => return eprintln!("left out: `udevadm verify` (systemd 254 or later) is not installed"),
    }
    // Names are resolved late: the group need not exist where this runs.
    let verified = run("udevadm", &["verify", "--resolve-names=never", &paths[0], &paths[1]]).expect("it was there");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// The settings of the unit: key and values, in order.
fn settings(unit: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut settings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, value) in lines(unit).filter_map(|line| line.split_once('=')) {
        settings.entry(key).or_default().push(value);
    }
    settings
}

#[test]
fn the_service_has_no_more_rights_than_it_needs() {
    let unit = read(UNIT);
    let settings = settings(&unit);
    for (key, values) in [
        ("User", vec![ACCOUNT]),
        ("Group", vec![ACCOUNT]),
        ("StateDirectory", vec!["stationmaster/%i"]),
        ("StateDirectoryMode", vec!["0700"]),
        ("UMask", vec!["0077"]),
        ("NoNewPrivileges", vec!["yes"]),
        ("CapabilityBoundingSet", vec![""]),
        ("AmbientCapabilities", vec![""]),
        ("ProtectSystem", vec!["strict"]),
        ("ReadWritePaths", vec!["-/sys/devices"]),
        ("ProtectHome", vec!["yes"]),
        ("PrivateTmp", vec!["yes"]),
        ("ProtectKernelTunables", vec!["yes"]),
        ("ProtectKernelModules", vec!["yes"]),
        ("ProtectKernelLogs", vec!["yes"]),
        ("ProtectControlGroups", vec!["yes"]),
        ("ProtectClock", vec!["yes"]),
        ("ProtectProc", vec!["invisible"]),
        ("RestrictNamespaces", vec!["yes"]),
        ("RestrictSUIDSGID", vec!["yes"]),
        ("RestrictAddressFamilies", vec!["AF_UNIX AF_INET AF_INET6 AF_NETLINK"]),
        ("SystemCallFilter", vec!["@system-service", "~@privileged @resources"]),
        ("SystemCallArchitectures", vec!["native"]),
        ("MemoryDenyWriteExecute", vec!["yes"]),
        ("LockPersonality", vec!["yes"]),
        ("DevicePolicy", vec!["closed"]),
        ("DeviceAllow", vec!["char-usb_device rw", "char-ttyUSB rw", "char-ttyACM rw"]),
        ("LimitCORE", vec!["0"]),
    ] {
        assert_eq!(settings.get(key), Some(&values), "{key}");
    }
    assert!(!settings.contains_key("PrivateDevices"), "USB would be gone");
    for key in ["MemoryMax", "TasksMax"] {
        assert!(settings.contains_key(key), "{key}");
    }
    assert!(lines(&read("packaging/stationmaster.sysusers")).any(|line| line.starts_with(&format!("u {ACCOUNT} "))));
}

#[test]
fn the_service_is_not_killed_while_it_finishes_a_unit() {
    /// The largest package, sent by a slot that gets little of a shared bus, and read back as fast.
    const WRITTEN_MIB: u64 = 512;
    const MIB_PER_S: u64 = 1;
    /// From reset to an answer, with the deadlines that a profile has: `reset_s`, `boot_s`, `ready_s`; twice.
    const BOOTS_S: u64 = 2 * (10 + 90 + 60);
    let unit = read(UNIT);
    let settings = settings(&unit);
    let minutes: u64 = settings["TimeoutStopSec"][0].strip_suffix("min").expect("minutes").parse().expect("a number");
    assert!(minutes * 60 >= 2 * WRITTEN_MIB / MIB_PER_S + BOOTS_S, "{minutes} minutes");
    // A unit that did not pass is no reason to start the station again; a refusal would be refused again.
    assert_eq!(settings["SuccessExitStatus"], ["1"]);
    assert_eq!(settings["RestartPreventExitStatus"], ["2"]);
    assert_eq!(settings["KillSignal"], ["SIGTERM"]);
}

#[test]
fn systemd_reads_the_unit() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("stationmaster@.service");
    // It looks for the program, which is not installed where this runs.
    let unit = read(UNIT).replace("/usr/bin/stationmaster", BINARY);
    OsDisk::new().replace(&path, unit.as_bytes(), true).expect("writable");
    let path = path.display().to_string();
    let Some(verified) = run("systemd-analyze", &["verify", "--man=no", "--recursive-errors=no", &path]) else {
        return eprintln!("left out: systemd-analyze is not installed");
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    if said.contains("unrecognized option") {
        return eprintln!("left out: systemd-analyze is older than systemd 250");
    }
    assert!(verified.status.success(), "{said}");
    // A key that it does not know is no error to it.
    assert!(!said.contains("stationmaster@.service:"), "{said}");
}

/// The package's description, as cargo reads it.
fn description() -> serde_json::Value {
    let manifest = root().join("Cargo.toml").display().to_string();
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path", &manifest];
    let output = run(env!("CARGO"), &arguments).expect("cargo, which built this");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let description = document["packages"][0]["metadata"]["deb"].clone();
    assert!(description.is_object(), "Cargo.toml has no [package.metadata.deb]");
    description
}

/// The files that a path names, whose last part may be `*` or `*.ending`.
fn files(base: &Path, path: &str) -> Vec<String> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let entries = OsDisk::new().list(&base.join(directory)).unwrap_or_default();
    let fits = |entry: &str| name.strip_prefix('*').map_or(entry == name, |ending| entry.ends_with(ending));
    entries.into_iter().map(|entry| entry.name).filter(|entry| fits(entry)).collect()
}

#[test]
fn all_that_the_package_installs_exists_or_is_made() {
    let description = description();
    let script = read("scripts/package");
    let made = tempfile::tempdir().expect("a directory");
    stationmaster(&["man", &made.path().join("man").display().to_string()]);
    let mut installed = BTreeSet::new();
    for asset in description["assets"].as_array().expect("assets") {
        let [from, to, _mode] = [0, 1, 2].map(|part| asset[part].as_str().expect("a text"));
        assert!(!to.starts_with('/'), "{to}");
        if let Some(shell) = from.strip_prefix("target/package/completions/stationmaster.") {
            let text = stationmaster(&["completions", shell]);
            assert!(text.contains("stationmaster"), "{shell}");
            let shells = script.lines().find_map(|line| line.trim().strip_prefix("for shell in ")).expect("the loop");
            let mut shells = shells.trim_end_matches("; do").split(' ');
            assert!(shells.any(|one| one == shell), "{from}: scripts/package does not make it");
        } else if from == "target/package/changelog.gz" {
            assert!(
                script.contains("CHANGELOG.md >\"$made/changelog.gz\""),
                "{from}: scripts/package does not make it"
            );
        } else if let Some(page) = from.strip_prefix("target/package/") {
            assert!(!files(made.path(), page).is_empty(), "{from}: nothing makes it");
        } else if from != "target/release/stationmaster" {
            assert!(!from.starts_with("target/"), "{from}: nothing makes it");
            assert!(!files(root(), from).is_empty(), "{from} is not in the tree");
        }
        let to =
            if to.ends_with('/') { format!("{to}{}", from.rsplit('/').next().unwrap_or(from)) } else { to.to_owned() };
        assert!(installed.insert(to.clone()), "{to} is there twice");
    }
    let conf_files = description["conf-files"].as_array().expect("conf-files");
    for path in conf_files.iter().map(|path| path.as_str().expect("a text")) {
        assert!(installed.contains(path.trim_start_matches('/')), "{path} is not installed");
    }
    for path in installed.iter().filter(|path| path.starts_with("etc/")) {
        assert!(conf_files.iter().any(|file| file.as_str() == Some(&format!("/{path}"))), "{path}: no conf-file");
    }
    for path in ["usr/bin/stationmaster", "usr/lib/systemd/system/stationmaster@.service"] {
        assert!(installed.contains(path), "{path}");
    }
    for path in [RULES, BRLTTY_RULES] {
        assert!(installed.contains(&path.replace("packaging/", "usr/lib/udev/rules.d/")), "{path}");
    }
}

#[test]
fn maintainer_scripts_can_be_read() {
    let directory = description()["maintainer-scripts"].as_str().expect("a directory").to_owned();
    for name in ["postinst", "prerm", "postrm"] {
        let path = format!("{directory}{name}");
        let text = read(&path);
        assert!(text.starts_with("#!/bin/sh\n") && text.contains("\nset -e\n"), "{path}");
        assert!(!text.contains("#DEBHELPER#"), "{path}: nothing takes its place");
        let checked = run("sh", &["-n", &root().join(&path).display().to_string()]).expect("a shell");
        assert!(checked.status.success(), "{path}: {}", String::from_utf8_lossy(&checked.stderr));
        // The ledger and the backups outlive the package.
        assert!(!text.contains("rm "), "{path}");
    }
}

/// The subcommands in a help text.
fn subcommands(help: &str) -> Vec<String> {
    let (_, list) = help.split_once("Commands:\n").unwrap_or_default();
    let own = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let names = own.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(' ').next());
    names.filter(|name| *name != "help").map(ToOwned::to_owned).collect()
}

#[test]
fn the_manual_has_each_command() {
    let directory = tempfile::tempdir().expect("a directory");
    stationmaster(&["man", &directory.path().display().to_string()]);
    let mut waiting = vec![Vec::<String>::new()];
    let mut pages = BTreeSet::new();
    while let Some(command) = waiting.pop() {
        let mut words: Vec<&str> = command.iter().map(String::as_str).collect();
        let page = format!("{}.1", [&["stationmaster"], &words[..]].concat().join("-"));
        let text = read(directory.path().join(&page)).replace("\\-", "-");
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
        pages.insert(page.clone());
        words.push("--help");
        for name in subcommands(&stationmaster(&words)) {
            let below = [&command[..], std::slice::from_ref(&name)].concat();
            assert!(text.contains(&format!("stationmaster-{}(1)", below.join("-"))), "{page} does not name {name}");
            waiting.push(below);
        }
    }
    assert!(pages.len() >= 13, "{pages:?}");
    let made: BTreeSet<String> = files(directory.path(), "*").into_iter().collect();
    assert_eq!(made, pages, "a page for each command, and no other");
}
