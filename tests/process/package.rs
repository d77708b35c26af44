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
    assert_eq!(
        (checked.status, checked.out.as_str(), checked.err.as_str()),
        (Some(0), "stations/eg25.yaml: a good station with 1 slot and 1 profile\n", "")
    );
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
