//! Packages on disk: real ones without their images, and ones that are not what the profile pins.

use std::path::Path;

use crate::place::{Place, Report, alone};
use crate::transcript::Transcript;

const FORM: &str = "firmware/EG25";
const REVISION: &str = "EG25GGBR07A08M2G_30.006.30.006";

const STATION: &str = "\
name: eg25
hardware: simulated
profiles: [../profiles/on-disk.yaml]
slots:
  - { name: A1, usb2: sim-0/usb2/1.1 }
simulation:
  time_scale: 40
  units:
    - { model: EG25-G, revision: EG25GGBR07A07M2G_01.001.01.001 }
";

/// A profile for a package on disk.
fn profile(directory: &str, further: &str) -> String {
    format!(
        "name: on-disk\nmodels: [EG25-G]\n{further}package:\n  directory: ../{directory}\nchecks:\n  \
         revision: {REVISION}\n"
    )
}

/// The texts of a package in the vendor's form, without any image: what is left when the images may not be passed on.
fn text_only(place: &Place, variant: &str) {
    let made = place.run(&format!(
        "sim package --out whole --model EG25-G --revision {REVISION} --megabytes 3 --variant {variant}"
    ));
    assert_eq!(made.status, Some(0), "{}", made.err);
    for path in place.everything() {
        let Ok(name) = path.strip_prefix(place.path("whole")) else { continue };
        let is_text = name.extension().is_some_and(|extension| extension == "xml" || extension == "txt");
        if path.is_file() && is_text {
            place.write(Path::new(FORM).join(name), std::fs::read(&path).expect("readable"));
        }
    }
    let complete = place.run(&format!("sim package --complete {FORM} --out firmware/complete --revision {REVISION}"));
    assert_eq!(complete.status, Some(0), "{}", complete.err);
}

#[test]
fn a_package_of_texts_is_completed_flashed_and_passes() {
    let _alone = alone();
    let place = Place::new();
    text_only(&place, "update");
    place.write("stations/eg25.yaml", STATION);
    place.write("profiles/on-disk.yaml", profile("firmware/complete", ""));
    let checked = place.run("check stations/eg25.yaml");
    assert_eq!((checked.status, checked.out.as_str(), checked.err.as_str()), (Some(0), checked.out.as_str(), ""));
    let notes: Vec<&str> = checked.out.lines().collect();
    assert_eq!(notes[0], "stations/eg25.yaml: a good station with 1 slot and 1 profile");
    let untouched = "  note: package of profile on-disk: what belongs to the unit is untouched: EFS2,";
    assert_eq!(notes[1..3], [untouched, "    sys_rev, RAWDATA"]);
    assert!(notes[3].contains("its document's order is fatal"), "{notes:?}");
    assert!(notes.iter().all(|line| line.chars().count() <= 80), "{notes:?}");
    let ran = place.run("run stations/eg25.yaml --batch UPDATE --units 1 --listen off");
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let report = place.read("reports/UPDATE.csv");
    let report = Report::of(&report);
    assert_eq!(report.column("outcome"), ["PASS"]);
    assert_eq!(report.column("revision_after"), [REVISION]);
    assert_eq!(report.column("boots_verified"), ["2"]);
    assert_eq!(report.column("calibration_unchanged"), ["true"]);
}

#[test]
fn a_factory_document_beside_is_held_or_carved_and_never_reaches_the_efs() {
    let _alone = alone();
    let place = Place::new();
    text_only(&place, "update+factory");
    place.write("stations/eg25.yaml", STATION);
    place.write("profiles/on-disk.yaml", profile("firmware/complete", "efs: keep\n"));
    let mut transcript = Transcript::of(&place);
    transcript.run("check stations/eg25.yaml firmware/complete");
    transcript.assert("factory");
    let warning =
        "warning: package of profile on-disk: there are update and factory documents; the factory one is used\n";

    let ran = place.run("run stations/eg25.yaml --batch KEEP --units 1 --listen off");
    assert_eq!(ran.status, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains(warning), "{}", ran.err);
    let report = place.read("reports/KEEP.csv");
    let report = Report::of(&report);
    assert_eq!((report.column("outcome"), report.column("code")), (vec!["HELD"], vec!["PACKAGE_TOUCHES_GUARDED"]));
    assert_eq!(report.column("bytes_written"), ["0"]);

    place.write("profiles/on-disk.yaml", profile("firmware/complete", "efs: carve\n"));
    let ran = place.run("run stations/eg25.yaml --batch CARVE --units 1 --listen off");
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains(warning), "{}", ran.err);
    let report = place.read("reports/CARVE.csv");
    let report = Report::of(&report);
    assert_eq!(report.column("outcome"), ["PASS"]);
    assert_eq!(report.column("calibration_before"), report.column("calibration_after"));
    assert_eq!(report.column("imei_before"), report.column("imei_after"));
    assert_eq!(report.column("cfun_after"), ["1"]);
}

#[test]
fn a_package_that_is_not_what_was_released_is_refused() {
    let place = Place::new();
    let made =
        place.run(&format!("sim package --out firmware/good --model EG25-G --revision {REVISION} --megabytes 1"));
    assert_eq!(made.status, Some(0), "{}", made.err);
    let other = "\"0000000000000000000000000000000000000000000000000000000000000000\"";
    place.write("stations/eg25.yaml", STATION);
    let pinned = profile("firmware/good", "").replace("checks:", &format!("  sha256: {other}\nchecks:"));
    place.write("profiles/on-disk.yaml", pinned);
    let mut transcript = Transcript::of(&place);
    transcript.run("check stations/eg25.yaml");
    transcript.run("run stations/eg25.yaml --batch X --units 1 --listen off");

    transcript.note("a byte of an image is changed");
    place.write("profiles/on-disk.yaml", profile("firmware/good", ""));
    let image = place.path("firmware/good/update/tz.mbn");
    let mut bytes = std::fs::read(&image).expect("readable");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    place.write("firmware/good/update/tz.mbn", bytes);
    transcript.run("check profiles/on-disk.yaml");
    transcript.run("run stations/eg25.yaml --batch X --units 1 --listen off");

    transcript.note("the image is gone");
    std::fs::remove_file(image).expect("it can be removed");
    transcript.run("package inspect firmware/good");
    transcript.assert("package");
    assert!(!place.path("state/eg25/ledger").exists(), "the station did not start");
}

/// The texts of a package in a vendor's form that came without its images.
#[test]
fn documents_alone_are_analysed_and_what_is_missing_is_named() {
    let place = Place::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/packages/documents-only");
    crate::place::copy(&from, &place.path("documents"));
    let mut transcript = Transcript::of(&place);
    let ran = transcript.run("package inspect documents");
    assert_eq!(ran.status, Some(1));
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
    transcript.run("check documents");
    transcript.assert("documents-only");
    let ran = place.run("package inspect documents --json");
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("one JSON document");
    assert_eq!((ran.status, document["usable"].as_bool()), (Some(1), Some(false)), "{document:#}");
    assert_eq!(document["order"]["fatal"], true);
    assert_eq!((&document["touches_guarded"], &document["rewrites_efs"]), (&false.into(), &false.into()));
    assert_eq!(document["missing"].as_array().map(Vec::len), Some(11), "{document:#}");

    // Every key of it is described, so that programs can rely on it.
    let described = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/packages.md"));
    let described = described.expect("it is in the tree");
    fn keys(value: &serde_json::Value, into: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                into.insert(key.clone());
                keys(value, into);
            }),
            serde_json::Value::Array(values) => values.iter().for_each(|value| keys(value, into)),
            _ => {}
        }
    }
    let mut all = std::collections::BTreeSet::new();
    keys(&document, &mut all);
    assert!(all.len() > 40, "{all:?}");
    let missing: Vec<&String> = all.iter().filter(|key| !described.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/packages.md does not describe {missing:?}");
}

#[test]
fn what_a_package_would_do_is_shown_for_people_and_for_programs() {
    let place = Place::new();
    let mut transcript = Transcript::of(&place);
    transcript
        .run(&format!("sim package --out p --model EG25-G --revision {REVISION} --megabytes 1 --variant factory"));
    transcript.run("package inspect p");
    transcript.assert("inspect");
    let ran = place.run("package inspect p --json");
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("one JSON document");
    assert_eq!((ran.status, document["kind"].as_str()), (Some(0), Some("factory")), "{document:#}");
}
