//! What the vault of a station holds, and how it gets to another one.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use stationmaster::domain::{Fact, XqcnCounts};
use stationmaster::host::{Disk, OsDisk};
use stationmaster::ledger;
use stationmaster::vault::{Label, Taking, Vault, XqcnDraft};

use crate::place::{Place, Ran, Report, alone};
use crate::transcript::Transcript;

const STATION: &str = "\
name: one
hardware: simulated
profiles: [../profiles/eg25-g.yaml]
slots:
  - { name: A1, usb2: sim-0/usb2/1.1 }
vault:
  recovery: RECOVERY
simulation:
  time_scale: 40
  units:
    - { model: EG25-G, revision: EG25GGBR07A07M2G_01.001.01.001 }
";

/// A place in which station `one` has worked, with its one backup's file.
fn station_that_worked() -> (Place, PathBuf) {
    use age::secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    let place = Place::new();
    place.write("safe/recovery.key", format!("{}\n", identity.to_string().expose_secret()));
    let station = STATION.replace("RECOVERY", &identity.to_public().to_string());
    place.write("stations/one.yaml", &station);
    place.write("stations/two.yaml", station.replace("name: one", "name: two"));
    good(&place.run("run stations/one.yaml --batch LOT-1 --units 1 --listen off"));
    let mut files = place.everything().into_iter().filter(|path| path.to_string_lossy().ends_with(".smb.age"));
    let file = files.next().expect("a backup");
    assert_eq!(files.next(), None);
    (place, file)
}

/// The one file in `stick/`.
fn exported_file(place: &Place) -> PathBuf {
    let entry = std::fs::read_dir(place.path("stick")).expect("a directory").next().expect("a file");
    entry.expect("an entry").path()
}

/// The public half of the key in the safe.
fn public_of(place: &Place) -> String {
    let text = place.read("safe/recovery.key");
    text.trim().parse::<age::x25519::Identity>().expect("a key").to_public().to_string()
}

fn good(ran: &Ran) {
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
}

fn list(place: &Place, line: &str) -> Vec<Value> {
    let ran = place.run(line);
    let mut document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
    document["backups"].as_array_mut().map(std::mem::take).expect("a list")
}

#[test]
fn a_backup_goes_from_one_station_to_another() {
    let _alone = alone();
    let (place, file) = station_that_worked();
    for private in [&file, &place.path("state/one/vault.key")] {
        assert_eq!(private.metadata().expect("there").permissions().mode() & 0o777, 0o600, "{}", private.display());
    }
    let [row] = <[Value; 1]>::try_from(list(&place, "backups list stations/one.yaml --verify --json")).expect("one");
    assert_eq!((&row["verdict"], &row["kind"], &row["number"]), (&"good".into(), &"raw".into(), &1.into()));
    assert_eq!((&row["recorded"], &row["for_repair"], &row["sealed"]), (&true.into(), &true.into(), &true.into()));
    let (chip, id) = (row["chip"].as_str().expect("text"), row["id"].as_str().expect("text"));
    let imei = row["imei"].as_str().expect("text");
    assert_eq!(row["faults"], Value::Array(Vec::new()));
    for (filter, rows) in
        [(format!("--chip {chip}"), 1), (format!("--imei {imei}"), 1), ("--imei 490154203237518".into(), 0)]
    {
        assert_eq!(list(&place, &format!("backups list stations/one.yaml --json {filter}")).len(), rows, "{filter}");
    }
    good(&place.run("backups verify stations/one.yaml"));
    let shown = place.run(&format!("backups show stations/one.yaml {}", &id[..8]));
    good(&shown);
    assert!(shown.out.contains("EFS2") && shown.out.contains("bad blocks under it"), "{}", shown.out);

    let key = place.run("backups key stations/two.yaml");
    good(&key);
    assert_eq!(place.run("backups key stations/two.yaml").out, key.out, "it is made once");
    let export = format!("backups export stations/one.yaml --chip {chip} --to {} --out stick", key.out.trim());
    good(&place.run(&export));
    let exported = std::fs::read(exported_file(&place)).expect("there");
    let again = place.run(&export);
    assert_eq!((again.status, again.out.as_str()), (Some(2), ""), "nothing is overwritten: {}", again.err);
    assert!(again.err.contains("nothing is overwritten") && again.err.contains("\nhelp: name "), "{}", again.err);
    assert_eq!(std::fs::read(exported_file(&place)).expect("there"), exported);
    let one = format!("backups export stations/one.yaml --backup {} --to {} --out", &id[..8], key.out.trim());
    let before = place.everything();
    for (out, why) in [("no/where/one.smb.age", "no/where"), ("stations/one.yaml", ".smb.age")] {
        let refused = place.run(&format!("{one} {out}"));
        assert_eq!((refused.status, refused.out.as_str()), (Some(2), ""), "{}", refused.err);
        assert!(refused.err.contains(why) && refused.err.contains("\nhelp: "), "{}", refused.err);
    }
    let refused = place.run(&format!("{export}/{}", exported_file(&place).file_name().expect("a name").display()));
    assert_eq!(refused.status, Some(2), "{}", refused.err);
    assert!(
        refused.err.contains("cannot be made") && refused.err.contains("\nhelp: name a directory"),
        "{}",
        refused.err
    );
    assert_eq!(place.everything(), before);
    let refused = place.run("backups import stations/one.yaml stick --from somebody");
    assert_eq!(refused.status, Some(2), "it is sealed to the other station: {}", refused.out);

    let lock = ledger::lock(&OsDisk::new(), &place.path("state/two/ledger")).expect("nobody works");
    let refused = place.run("backups import stations/two.yaml stick --from one");
    assert_eq!(refused.status, Some(2));
    assert!(refused.err.contains("the station is at work"), "{}", refused.err);
    drop(lock);
    good(&place.run("backups import stations/two.yaml stick --from one"));
    let again = place.run("backups import stations/two.yaml stick --from one");
    good(&again);
    assert!(again.out.contains("was there already"), "{}", again.out);
    let [row] = <[Value; 1]>::try_from(list(&place, "backups list stations/two.yaml --verify --json")).expect("one");
    assert_eq!((&row["id"], &row["given_by"], &row["for_repair"]), (&id.into(), &"one".into(), &true.into()));
    let mut given = Vec::new();
    ledger::read_all(&OsDisk::new(), &place.path("state/two/ledger"), |entry| {
        if let Fact::BackupImported { backup, given_by } = entry.fact {
            given.push((backup.id.to_string(), given_by));
        }
    })
    .expect("a ledger");
    assert_eq!(given, [(id.to_owned(), "one".to_owned())]);
    good(&place.run("verify --state state/two"));

    // The same module comes to the other station, without its EFS.
    place.change("profiles/eg25-g.yaml", |text| text + "\nrework: {}\n");
    place.change("stations/two.yaml", |text| text + "  faults:\n    - { fault: efs-lost, unit: 1 }\n");
    good(&place.run("run stations/two.yaml --batch LOT-2 --units 1 --listen off"));
    let report = place.read("reports/LOT-2.csv");
    let report = Report::of(&report);
    assert_eq!((report.column("outcome"), report.column("flags")), (vec!["PASS"], vec!["repaired simulated"]));
    assert_eq!(report.column("imei_after"), [imei], "its own");
    let mut restored = Vec::new();
    ledger::read_all(&OsDisk::new(), &place.path("state/two/ledger"), |entry| match entry.fact {
        Fact::Restored { backup, .. } => restored.push(backup.to_string()),
        Fact::RunFinished(record) => assert_eq!(record.chip.map(|chip| chip.to_string()).as_deref(), Some(chip)),
        _ => {}
    })
    .expect("a ledger");
    assert_eq!(restored, [id.to_owned()]);
    good(&place.run("verify --station stations/two.yaml"));
}

#[test]
fn damage_is_named_and_a_lost_key_is_replaced_from_the_safe() {
    let _alone = alone();
    let (place, file) = station_that_worked();
    let bytes = std::fs::read(&file).expect("there");
    let mut altered = bytes.clone();
    altered[500] ^= 1;
    std::fs::write(&file, &altered).expect("writable");
    let shown = file.strip_prefix(place.path("")).expect("below").display().to_string();
    let id = shown.rsplit('-').next().expect("an id")[..8].to_owned();
    for line in ["backups verify stations/one.yaml", &format!("backups show stations/one.yaml {id}")] {
        let ran = place.run(line);
        assert_eq!(ran.status, Some(1), "{}", ran.out);
        assert!(ran.out.contains(&format!("{shown}:\n        it was altered or cut off\n")), "{}", ran.out);
        assert!(ran.out.contains("stationmaster backups import stations/one.yaml FILE --from WHO"), "{}", ran.out);
    }
    let ran = place.run("backups verify stations/one.yaml");
    assert!(ran.out.contains("1 damaged"), "{}", ran.out);
    let rows = list(&place, "backups list stations/one.yaml --verify --json");
    assert_eq!(rows[0]["faults"][0]["file"], shown.as_str(), "{rows:?}");
    let ran = place.run("backups export stations/one.yaml --all --out stick");
    assert_eq!(ran.status, Some(1), "{}", ran.out);
    let ran = place.run(&format!("backups import stations/two.yaml {} --from one", file.display()));
    assert_eq!(ran.status, Some(2), "{}", ran.out);
    std::fs::remove_file(&file).expect("removed");
    let ran = place.run("backups verify stations/one.yaml");
    assert_eq!((ran.status, ran.out.contains("MISSING")), (Some(1), true), "{}", ran.out);
    assert!(ran.out.contains("\nhelp: ") && ran.out.contains("and has no file in state/one/vault/"), "{}", ran.out);
    std::fs::write(&file, &bytes).expect("writable");
    good(&place.run("backups verify stations/one.yaml"));

    std::fs::remove_file(place.path("state/one/vault.key")).expect("removed");
    let ran = place.run("run stations/one.yaml --batch LOT-1 --units 2 --listen off");
    assert_eq!(ran.status, Some(3), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("state/one/vault.key: it is missing"), "{}", ran.err);
    let export = format!("backups export stations/one.yaml --all --out stick --to {}", public_of(&place));
    for line in ["list stations/one.yaml", "verify stations/one.yaml", &format!("show stations/one.yaml {id}")]
        .map(|line| format!("backups {line}"))
        .iter()
        .chain([&export])
    {
        let ran = place.run(line);
        assert_eq!((ran.status, ran.out.as_str()), (Some(3), ""), "{line}: {}", ran.err);
        assert!(ran.err.contains("state/one/vault.key: it is missing"), "{line}: {}", ran.err);
        assert!(ran.err.contains("`--identity FILE`"), "{line}: {}", ran.err);
    }
    good(&place.run("backups list stations/one.yaml --verify --identity safe/recovery.key"));
    std::fs::rename(place.path("state/one/vault"), place.path("state/one/vault.lost")).expect("renamed");
    good(&place.run("backups import stations/one.yaml state/one/vault.lost --identity safe/recovery.key --from safe"));
    good(&place.run("backups verify stations/one.yaml"));
    good(&place.run("run stations/one.yaml --batch LOT-1 --units 2 --listen off"));
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = Place::new();
    place.write("stations/one.yaml", STATION.replace("vault:\n  recovery: RECOVERY\n", ""));
    place.write("README.md", "no backup\n");
    place.write("stick/README.md", "no backup\n");
    place.write("cut/empty.smb.age", "");
    place.write("cut/text.smb.age", "no backup\n");
    let key = age::x25519::Identity::generate();
    {
        use age::secrecy::ExposeSecret;
        place.write("recovery.key", format!("{}\n", key.to_string().expose_secret()));
    }
    let mut transcript = Transcript::of(&place);
    for (line, status) in [
        ("backups list stations/one.yaml", 0),
        ("backups list stations/one.yaml --json", 0),
        ("backups verify stations/one.yaml", 0),
        ("backups show stations/one.yaml 12345678", 2),
        ("backups list stations/none.yaml", 2),
        ("backups list stations/one.yaml --chip nonsense", 2),
        ("backups list stations/one.yaml --identity stations/one.yaml", 2),
        ("backups list stations/one.yaml --identity nokey", 2),
        ("backups list stations/one.yaml --identity stations", 2),
        ("backups list stations/one.yaml --state nowhere", 2),
        ("backups list stations/one.yaml --state README.md", 2),
        ("backups show stations/one.yaml 1234567", 2),
        ("backups show stations/one.yaml 1234567x", 2),
        ("backups export stations/one.yaml --out stick", 2),
        ("backups export stations/one.yaml --all --out stick", 2),
        ("backups export stations/one.yaml --all --out stick --to age1nonsense", 2),
        ("backups import stations/one.yaml stick --from one", 2),
        ("backups import stations/one.yaml stations --from one", 2),
        ("backups import stations/one.yaml nowhere --from one", 2),
        ("backups import stations/one.yaml README.md --from one", 2),
        ("backups import stations/one.yaml cut --from one --identity recovery.key", 2),
        ("backups import stations/one.yaml cut --from=", 2),
        ("backups import stations/one.yaml stations", 2),
    ] {
        let ran = transcript.run(line);
        assert_eq!(ran.status, Some(status), "{line}: {}{}", ran.out, ran.err);
    }
    transcript.note("a key in the station file");
    place.write("stations/one.yaml", STATION.replace("RECOVERY", "age1nonsense"));
    transcript.run("check stations/one.yaml");
    transcript.assert("backups");
}

#[test]
fn what_is_no_complete_backup_over_diag_is_not_taken_in() {
    let place = Place::new();
    place.write("stations/one.yaml", STATION.replace("vault:\n  recovery: RECOVERY\n", ""));
    let key = place.run("backups key stations/one.yaml");
    good(&key);
    // It can be opened, and holds nothing that a module could be given back.
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    let elsewhere = Vault::new(disk, place.path("elsewhere/vault"));
    std::fs::create_dir_all(place.path("elsewhere")).expect("a directory");
    elsewhere.prepare().expect("a key");
    let taken = "2026-01-01T00:00:00Z".parse().expect("a time");
    let taking = Taking {
        chip: "001670e100000000-0a0b0c0d".parse().expect("a chip"),
        imei: "490154203237518".parse().expect("an IMEI"),
        label: Label { taken, run: None, suspect: None },
        used_pages_min: 8,
        blank_efs: None,
    };
    let counts = XqcnCounts { nv_items: 1, files: 1, directories: 69 };
    let draft = XqcnDraft { taking, counts, bytes: b"<Storage Name='x'/>".to_vec() };
    elsewhere.store_xqcn(draft).expect("it is stored");
    let entry = elsewhere.list().expect("a vault").pop().expect("one");
    std::fs::create_dir(place.path("stick")).expect("a directory");
    let to = [key.out.trim().parse().expect("a key")];
    elsewhere.export(&entry, &to, &place.path("stick/junk.smb.age")).expect("it is written");
    let refused = place.run("backups import stations/one.yaml stick --from elsewhere");
    assert_eq!(refused.status, Some(2), "{}{}", refused.out, refused.err);
    assert!(refused.err.contains("what was read over DIAG"), "{}", refused.err);
    assert_eq!(list(&place, "backups list stations/one.yaml --json").len(), 0);
}
