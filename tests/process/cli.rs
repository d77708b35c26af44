//! The command line as a newcomer meets it: help, usage, checks, and mistakes.

use std::process::Command;

use crate::place::Place;
use crate::transcript::Transcript;

#[test]
fn help_fits_an_eighty_column_terminal() {
    let place = Place::new();
    let mut transcript = Transcript::of(&place);
    for command in [
        "",
        "run",
        "qualify",
        "check",
        "package",
        "package inspect",
        "devices",
        "at",
        "backup",
        "restore",
        "map",
        "doctor",
        "report",
        "report csv",
        "backups",
        "backups list",
        "backups show",
        "backups verify",
        "backups export",
        "backups import",
        "backups key",
        "verify",
        "sim",
        "sim package",
        "sim serve",
        "sim attach",
        "schema",
        "completions",
    ] {
        let ran = transcript.run(format!("{command} --help").trim_start());
        for line in ran.out.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
    transcript.assert("help");
}

#[test]
fn bad_usage_is_explained_and_touches_nothing() {
    let place = Place::new();
    let before = place.everything();
    let mut transcript = Transcript::of(&place);
    for command in [
        "",
        "fly",
        "run",
        "run stations/none.yaml",
        "run stations",
        "run stations/demo.yaml --batch a/b",
        "run stations/demo.yaml --units 0",
        "run stations/demo.yaml --units many",
        "run stations/demo.yaml --listen here",
        "run stations/demo.yaml --listen 192.0.2.1:80",
        "run profiles/ec25.yaml",
        "check",
        "check none.yaml",
        "devices none.yaml",
        "at A1",
        "at A1 AT+CGSN --station none.yaml",
        "at Z9 AT+CGSN --station stations/demo.yaml",
        "at A1 AT+EGMR=1,7,\"490154203237518\" --station stations/demo.yaml",
        "at A1 AT+CGSN;+EGMR=1,7,\"490154203237518\" --station stations/demo.yaml",
        "at A1 AT+CFUN=0 --station stations/demo.yaml",
        "at A1 AT+CFUN?;+CSQ --station stations/demo.yaml",
        "at A1 ATE0 --station stations/demo.yaml",
        "backup",
        "backup stations/none.yaml A1",
        "backup stations/demo.yaml Z9",
        "restore stations/demo.yaml",
        "restore stations/demo.yaml Z9",
        "restore stations/demo.yaml A1 --backup 4711",
        "restore stations/demo.yaml A1 --backup 00004711",
        "map",
        "map none.yaml",
        "map profiles/ec25.yaml",
        "map stations/demo.yaml --slots A1,B/2",
        "map stations/demo.yaml --slots A1,A2,A1",
        "map stations/demo.yaml --out stations/faults.yaml",
        "map stations/demo.yaml --out made.yaml",
        "map stations/demo.yaml --out none/made.yaml",
        "map stations/demo.yaml --out stations/demo.yaml/made.yaml",
        "doctor none.yaml",
        "doctor --switch-power",
        "doctor --state none",
        "package inspect none",
        "package inspect profiles",
        "package inspect stations/demo.yaml",
        "report csv",
        "report csv DEMO-1",
        "report csv DEMO-1 --station stations/demo.yaml",
        "report csv DEMO-1 --state none",
        "verify",
        "verify --state none",
        "schema unit",
        "sim package --out made",
        "sim package --out made --model EG99 --revision X",
        "sim package --out made --model EG25-G --revision X --variant odd",
        "sim package --out made --model EG25-G --revision X --megabytes 4000",
        "sim package --out made --complete none",
        "sim package --out made --complete profiles",
        "sim package --out stations/demo.yaml --model EG25-G --revision X",
        "sim replay none",
        "sim replay stations",
        "sim replay stations/demo.yaml",
        "sim package --out stations --model EG25-G --revision X",
        "sim serve stations/demo.yaml",
        "sim serve stations/demo.yaml --usbip here",
        "sim serve stations/demo.yaml --usbip 192.0.2.1:3240",
        "sim serve stations/demo.yaml --pty stations/demo.yaml",
        "sim serve stations/none.yaml --pty ports",
        "sim attach",
        "sim attach 127.0.0.1:1 --like stations/demo.yaml",
    ] {
        let ran = transcript.run(command);
        assert_eq!(ran.status, Some(2), "{command}: {}{}", ran.out, ran.err);
    }
    transcript.assert("usage");
    assert_eq!(place.everything(), before, "something was made");
}

#[test]
fn check_reads_what_run_would_read() {
    let place = Place::new();
    place.write("stations/broken.yaml", "name: broken\nhardware: simulated\n");
    let mut transcript = Transcript::of(&place);
    transcript.run("check stations/demo.yaml stations/faults.yaml");
    transcript.run("check profiles/eg25-g.yaml profiles/rm520n-gl.yaml");
    transcript.run("check stations/demo.yaml stations/broken.yaml profiles/ec25.yaml");
    transcript.run("sim package --out firmware/good --model EC25 --revision NEW --megabytes 1");
    transcript
        .run("sim package --out firmware/both --model EC25 --revision NEW --megabytes 1 --variant update+factory");
    transcript.run("sim package --out firmware/bad --model EC25 --revision NEW --megabytes 1 --variant bad-checksum");
    transcript.run("check firmware/good firmware/both firmware/bad firmware");
    transcript.assert("check");
}

#[test]
fn devices_of_a_line_that_never_ran_are_none_and_nothing_is_made() {
    let place = Place::new();
    let before = place.everything();
    let mut transcript = Transcript::of(&place);
    transcript.run("devices stations/faults.yaml");
    let ran = transcript.run("devices stations/faults.yaml --json");
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("one JSON document");
    assert_eq!(document["slots"].as_array().map(Vec::len), Some(13));
    transcript.assert("devices");
    assert_eq!(place.everything(), before);
}

#[test]
fn the_doctor_of_a_simulated_station_looks_at_its_records_and_makes_nothing() {
    let place = Place::new();
    let before = place.everything();
    let ran = place.run("doctor stations/faults.yaml --json");
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("one JSON document");
    let checks = document["checks"].as_array().expect("checks");
    let names: Vec<&str> = checks.iter().filter_map(|check| check["check"].as_str()).collect();
    assert_eq!(names, ["hardware", "state", "reports", "ledger", "clock", "vault", "qualified"]);
    assert_eq!(place.everything(), before);

    // A file where the state directory should be, and a ledger that somebody wrote to.
    let station = place.read("stations/faults.yaml");
    place.write("stations/blocked.yaml", station.replace("reports: ../reports", "reports: ../blocked"));
    place.write("blocked", "no directory");
    let ran = place.run("doctor stations/blocked.yaml");
    assert_eq!(ran.status, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("FINDING  reports") && ran.out.ends_with("not fit\n"), "{}", ran.out);
}

#[test]
fn schemas_are_those_of_the_tree() {
    let place = Place::new();
    for (kind, path) in [("station", "stations/station.schema.json"), ("profile", "profiles/profile.schema.json")] {
        let ran = place.run(&format!("schema {kind}"));
        assert_eq!(ran.status, Some(0));
        assert!(ran.out == place.read(path), "{path} is not what `schema {kind}` prints");
    }
}

#[test]
fn completions_are_made_for_every_shell_and_bash_can_read_them() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = place.run(&format!("completions {shell}"));
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        for word in ["inspect", "completions", "batch", "listen"] {
            assert!(ran.out.contains(word), "{shell}: {word}");
        }
        place.write(format!("completions.{shell}"), ran.out);
    }
    if let Ok(checked) = Command::new("bash").arg("-n").arg(place.path("completions.bash")).output() {
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
