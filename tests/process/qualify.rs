//! Qualifying a profile with the real binary, and what the other commands make of it.

use crate::place::{Place, Report, alone};
use crate::transcript::Transcript;

const STATION: &str = "\
name: three
hardware: simulated
profiles: [../profiles/eg25-g.yaml, ../profiles/ec25.yaml]
slots:
  - { name: A1, usb2: sim-0/usb2/1.1 }
  - { name: A2, usb2: sim-0/usb2/1.2 }
  - { name: A3, usb2: sim-0/usb2/1.3 }
simulation:
  time_scale: 40
  units:
    - { model: EG25-G, revision: EG25GGBR07A07M2G_01.001.01.001 }
";
const FILE: &str = "stations/three.yaml";

/// The `flags` of a batch's rows.
fn flags(place: &Place, batch: &str) -> Vec<String> {
    let report = place.read(format!("reports/{batch}.csv"));
    Report::of(&report).column("flags").into_iter().map(str::to_owned).collect()
}

#[test]
fn a_profile_is_qualified_and_a_change_of_it_ends_that() {
    let _alone = alone();
    let place = Place::new();
    place.write(FILE, STATION);
    let ran = place.run(&format!("run {FILE} --batch BEFORE --units 1 --listen off --unqualified"));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(flags(&place, "BEFORE"), ["simulated unqualified"]);

    let ran = place.run(&format!("qualify {FILE} eg25-g --batch Q-1 --listen off --json"));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("one JSON document");
    let found = &document["qualification"];
    assert_eq!(found["qualified"], true, "{document:#}");
    assert_eq!((found["units"].as_u64(), found["read_twice"].as_u64()), (Some(3), Some(3)), "{document:#}");
    assert_eq!(found["restored"].as_u64(), Some(3), "{document:#}");
    assert_eq!((document["margin"].as_u64(), found["simulated"].as_bool()), (Some(3), Some(true)));
    assert_eq!(flags(&place, "Q-1"), ["simulated unqualified"; 3], "it was not qualified yet");
    let ledger = place.read("state/three/ledger/ledger-000001.jsonl");
    let facts = ledger.lines().filter(|line| line.contains("\"fact\":{\"qualified\":"));
    assert_eq!(facts.count(), 1);
    assert_eq!(place.run("verify").status, Some(0));

    let qualified = "\n  note: profile eg25-g is qualified on 3 units, batch Q-1\n";
    let checked = place.run(&format!("check {FILE}"));
    assert_eq!(checked.status, Some(0));
    assert!(checked.out.ends_with(qualified), "{}", checked.out);
    let looked = place.run(&format!("doctor {FILE}"));
    assert!(looked.out.contains(" qualified      profile eg25-g is qualified on 3 units"), "{}", looked.out);
    let ran = place.run(&format!("run {FILE} --batch AFTER --units 1 --listen off --unqualified"));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(flags(&place, "AFTER"), ["simulated"]);

    // For people, and with the deadlines that follow from it.
    let ran = place.run(&format!("qualify {FILE} profiles/eg25-g.yaml --listen off"));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
    assert!(ran.out.starts_with("QUALIFIED: profile eg25-g on simulated hardware, batch Q-"), "{}", ran.out);
    assert!(ran.out.contains("\nrestored    3 of 3, equal\n"), "{}", ran.out);
    let (_, block) = ran.out.split_once("\ntimeouts:\n").expect("a block for the profile");
    let lines = block.lines().take_while(|line| line.starts_with("  ")).collect::<Vec<_>>();
    assert_eq!(lines.len(), 12, "{block}");
    place.change("profiles/eg25-g.yaml", |text| format!("{text}\ntimeouts:\n{}\n", lines.join("\n")));
    let checked = place.run(&format!("check {FILE}"));
    assert_eq!(
        (checked.status, checked.out.as_str()),
        (Some(0), "stations/three.yaml: a good station with 3 slots and 2 profiles\n"),
        "the block is good, and makes it another profile"
    );
}

#[test]
fn what_cannot_be_qualified_is_refused_before_anything_is_made() {
    let place = Place::new();
    place.write(FILE, STATION);
    let before = place.everything();
    let mut transcript = Transcript::of(&place);
    for line in ["rm520n-gl", "ec25", "eg25-g --units 2", "eg25-g --units 501"] {
        assert_eq!(transcript.run(&format!("qualify {FILE} {line}")).status, Some(2), "{line}");
    }
    transcript.assert("qualify");
    let made = place.everything();
    assert!(made.iter().all(|path| before.contains(path) || path.starts_with(place.path("state"))), "{made:?}");
    assert!(!place.path("state/three/ledger").exists(), "no ledger was begun");
}

#[test]
fn real_hardware_asks_for_a_qualification() {
    let place = Place::new();
    let made = place.run("sim package --out firmware --model EG25-G --revision NEW --megabytes 1");
    assert_eq!(made.status, Some(0), "{}", made.err);
    let inspected = place.run("package inspect firmware --json");
    let document: serde_json::Value = serde_json::from_str(&inspected.out).expect("one JSON document");
    let digest = document["digest"].as_str().expect("it is whole");
    place.write(
        "profiles/real.yaml",
        format!(
            "name: real\nmodels: [EG25-G]\npackage:\n  directory: ../firmware\n  sha256: \"{digest}\"\nchecks:\n  \
             revision: NEW\n"
        ),
    );
    place.write(
        "stations/real.yaml",
        "name: real\nhardware: usb\nprofiles: [../profiles/real.yaml]\nslots:\n  \
         - { name: A1, usb2: pci-0000:1f:1f.7/usb2/1.1 }\n",
    );
    let mut transcript = Transcript::of(&place);
    assert_eq!(transcript.run("run stations/real.yaml --batch X --units 1 --listen off").status, Some(2));
    assert_eq!(transcript.run("check stations/real.yaml").status, Some(0));
    transcript.assert("unqualified");
    let looked = place.run("doctor stations/real.yaml");
    assert!(looked.out.contains("FINDING  qualified      profile real is not qualified"), "{}", looked.out);
    assert!(!place.path("reports/X.csv").exists());
}
