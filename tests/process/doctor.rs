//! `doctor` of a station with real hardware, on whatever machine this is.

use serde_json::Value;

use crate::place::Place;

const STATION: &str = "stations/bench.yaml";
/// The checks that are there for any machine; those of its hubs and ports only where it has USB.
const ALWAYS: [&str; 6] = ["kernel", "drivers", "udev-rules", "modem-manager", "brltty", "usbfs-memory"];
const WITH_USB: [&str; 5] = ["hubs", "endpoints", "configured", "permissions", "autosuspend"];
const OF_THE_STATION: [&str; 7] = ["state", "reports", "ledger", "clock", "vault", "qualified", "power"];

/// A place with a station that has real hardware; its package is none of the doctor's business.
fn bench() -> Place {
    let place = Place::new();
    let profile = place.read("profiles/eg25-g.yaml");
    let (head, tail) = profile.split_once("package:").expect("it has a package");
    let tail: String =
        tail.lines().skip(1).skip_while(|line| line.starts_with([' ', '#'])).collect::<Vec<_>>().join("\n");
    let digest = "0".repeat(64);
    place.write(
        "profiles/real.yaml",
        format!("{head}package:\n  directory: ../firmware\n  sha256: \"{digest}\"\n{tail}\n"),
    );
    place.write(
        STATION,
        "name: bench\nhardware: usb\nprofiles: [../profiles/real.yaml]\nstate: ../state/bench\nreports: ../reports\n\
         slots:\n  - {name: A1, usb2: pci-0000:1f:1f.7/usb2/1.1}\n  - {name: A2, usb2: pci-0000:1f:1f.7/usb2/1.2}\n",
    );
    place
}

#[test]
fn every_check_of_this_machine_is_named_and_text_and_document_agree() {
    let place = bench();
    let before = place.everything();
    let text = place.run(&format!("doctor {STATION}"));
    let ran = place.run(&format!("doctor {STATION} --json"));
    assert_eq!((text.err.as_str(), ran.err.as_str()), ("", ""), "{}{}", text.out, ran.out);
    let document: Value = serde_json::from_str(&ran.out).expect("one JSON document");
    let checks = document["checks"].as_array().expect("checks");
    let names: Vec<&str> = checks.iter().filter_map(|check| check["check"].as_str()).collect();
    let of_usb: &[&str] = if names.contains(&"usb") { &["usb"] } else { &WITH_USB };
    assert_eq!(names, [&ALWAYS, of_usb, &OF_THE_STATION].concat());

    let is_fit = document["fit"].as_bool().expect("a verdict");
    let status = Some(i32::from(!is_fit));
    assert_eq!((text.status, ran.status), (status, status));
    assert!(text.out.ends_with(if is_fit { "\nfit\n" } else { "\nnot fit\n" }), "{}", text.out);
    let mut lines = text.out.lines();
    for check in checks {
        let word = |key: &str| check[key].as_str().unwrap_or_default();
        let state = if word("state") == "finding" { "FINDING" } else { word("state") };
        assert!(matches!(state, "ok" | "FINDING" | "unknown"), "{check}");
        let line = lines.next().expect("a line for each check");
        // How much is free and what the clock shows may change between the two.
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [state, word("check")], "{line}");
        assert_eq!(state == "FINDING", !word("remedy").is_empty(), "a remedy for each finding, and for nothing else");
        assert!(!word("seen").is_empty(), "{check}");
        if state == "FINDING" {
            let help = lines.next().expect("a line with its remedy");
            assert_eq!(help.trim(), format!("help: {}", word("remedy")));
        }
    }
    assert_eq!(is_fit, checks.iter().all(|check| check["state"] != "finding"));
    assert_eq!(place.everything(), before, "something was made");

    // Of the host alone.
    let ran = place.run("doctor --json");
    let document: Value = serde_json::from_str(&ran.out).expect("one JSON document");
    let names = document["checks"].as_array().expect("checks").iter().filter_map(|check| check["check"].as_str());
    let names: Vec<&str> = names.filter(|name| *name != "usb").collect();
    assert_eq!(names, ALWAYS);
}

#[test]
fn no_hub_of_a_host_without_the_stations_hubs_is_switched() {
    let place = bench();
    let ran = place.run(&format!("doctor {STATION} --switch-power --json"));
    let document: Value = serde_json::from_str(&ran.out).expect("one JSON document");
    assert_eq!(ran.status, Some(1), "{}", ran.out);
    let checks = document["checks"].as_array().expect("checks");
    let power = checks.iter().find(|check| check["check"] == "power").expect("it is asked for");
    assert_eq!(power["state"], "finding", "{power}");
    let seen = power["seen"].as_str().expect("words");
    assert!(seen.contains("A1: ") && seen.contains("A2: "), "{seen}");
}

#[test]
fn nobody_reaches_for_the_modules_of_a_station_that_is_at_work() {
    let place = bench();
    // What a station that works holds, before it has made anything.
    let works = std::fs::File::open(place.path(STATION)).expect("it is there");
    works.try_lock().expect("nobody else has it");
    for command in
        [format!("map {STATION}"), format!("map {STATION} --state other"), format!("at A1 AT+CGSN --station {STATION}")]
    {
        let ran = place.run(&command);
        assert_eq!((ran.status, ran.out.as_str()), (Some(3), ""), "{command}: {}", ran.err);
        assert!(ran.err.starts_with("error: the station bench is at work"), "{command}: {}", ran.err);
        assert!(ran.err.ends_with("\nhelp: stop it first\n"), "{command}: {}", ran.err);
    }
    let power = || {
        let ran = place.run(&format!("doctor {STATION} --switch-power --json"));
        let document: Value = serde_json::from_str(&ran.out).expect("one JSON document");
        let checks = document["checks"].as_array().expect("checks");
        checks.iter().find(|check| check["check"] == "power").cloned().expect("it is asked for")
    };
    let check = power();
    assert!(check["state"] == "unknown" && check["seen"].as_str().is_some_and(|seen| seen.contains("is at work")));
    drop(works);
    assert_eq!(power()["state"], "finding", "it was tried");
    assert!(!place.path("state").exists(), "no state directory is made for a station that never worked");

    // A state directory of which nothing can be told stops them too.
    place.write("state/bench/ledger", "no directory");
    for command in [format!("map {STATION}"), format!("at A1 AT+CGSN --station {STATION}")] {
        let ran = place.run(&command);
        assert_eq!(ran.status, Some(3), "{command}: {}", ran.err);
        assert!(ran.err.contains("whether the station is at work cannot be seen"), "{command}: {}", ran.err);
        assert!(ran.err.contains("\nhelp: ") && ran.err.contains("--state"), "{command}: {}", ran.err);
    }
}
