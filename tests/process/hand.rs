//! `backup` and `restore`, of a module that an earlier process left in its slot.

use serde_json::Value;
use stationmaster::domain::{Fact, Identity, Outcome};
use stationmaster::host::OsDisk;
use stationmaster::ledger;
use stationmaster::sim::models;
use stationmaster::sim::nand::Nand;

use crate::place::{Place, alone};
use crate::serve::Served;

/// A line with a module in the first slot and in no other.
fn left(place: &Place) {
    let mut served = Served::start(place, "sim serve stations/demo.yaml --usbip 127.0.0.1:0 --units 1");
    served.line();
    served.until(0, |slot: &Value| slot["mode"] == "normal");
    let ran = served.quit();
    assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""));
}

/// A place whose packages are small, so that it does not take long, with a module in the first slot.
fn small() -> Place {
    let place = Place::new();
    for profile in ["profiles/eg25-g.yaml", "profiles/rm500q-gl.yaml", "profiles/rm520n-gl.yaml"] {
        let text = place.read(profile);
        place.write(profile, text.replace("megabytes: 24", "megabytes: 2"));
    }
    left(&place);
    place
}

/// Takes a backup of the module in the first slot; what is said of it.
fn saved(place: &Place) -> Value {
    let saved = place.run("backup stations/demo.yaml A1 --json");
    assert_eq!(saved.status, Some(0), "{}{}", saved.out, saved.err);
    let document: Value = serde_json::from_str(&saved.out).expect("exactly one JSON document");
    assert_eq!((document["schema"].as_str(), document["slot"].as_str()), (Some("backup/1"), Some("A1")));
    document["backup"].clone()
}

/// Takes away the EFS and the boot loader of the one module of the place.
fn kill_module(place: &Place, efs: &Value) {
    let states = place.everything().into_iter().filter(|path| path.to_string_lossy().ends_with(".state"));
    let [state] = <[_; 1]>::try_from(states.collect::<Vec<_>>()).expect("one module");
    let model = models::MODELS.iter().find(|model| model.name == "EG25-G").expect("the first of the line");
    let mut nand = Nand::in_file(model.geometry, model.total_pages, &OsDisk::new(), &state.with_extension(""))
        .expect("the flash of the module");
    let number = |name: &str| efs["range"][name].as_u64().expect("a number");
    let per_block = u64::from(model.geometry.pages_per_block);
    let range = number("start") / per_block..(number("start") + number("pages")) / per_block;
    for block in std::iter::once(0).chain(range) {
        if !nand.is_bad(block) {
            nand.erase(block).expect("a block");
        }
    }
}

#[test]
fn a_module_that_does_not_start_is_restored_by_hand_where_it_is_met() {
    let _alone = alone();
    let place = small();
    let backup = saved(&place);
    let parts = backup["parts"].as_array().expect("its parts");
    kill_module(&place, parts.iter().find(|part| part["partition"] == "EFS2").expect("the EFS"));
    let imei = backup["imei"].as_str().expect("its IMEI");

    let restored = place.run(&format!("restore stations/demo.yaml A1 --backup {}", backup["id"].as_str().expect("id")));
    assert_eq!(restored.status, Some(0), "{}{}", restored.out, restored.err);
    assert!(restored.out.contains("PASS repaired simulated"), "{}", restored.out);
    assert!(restored.out.contains("it arrived in download mode"), "{}", restored.out);
    let mut ends = Vec::new();
    ledger::read_all(&OsDisk::new(), &place.path("state/demo/ledger"), |entry| {
        if let Fact::RunFinished(record) = entry.fact {
            let said = |said: Option<Identity>| said.map_or(String::new(), |said| said.imei_text);
            ends.push((record.outcome, said(record.before), said(record.after)));
        }
    })
    .expect("an unbroken ledger");
    let own = || imei.to_owned();
    assert_eq!(ends, [(Outcome::Aborted, own(), String::new()), (Outcome::Pass, own(), own())]);
    let verified = place.run("verify --station stations/demo.yaml");
    assert_eq!(verified.status, Some(0), "{}{}", verified.out, verified.err);
}

#[test]
fn a_module_is_saved_and_restored_by_hand() {
    let _alone = alone();
    let place = small();
    let id = saved(&place)["id"].as_str().expect("its id").to_owned();

    let other = "0".repeat(64);
    let refused = place.run(&format!("restore stations/demo.yaml A1 --backup {other}"));
    assert_eq!(refused.status, Some(1), "{}{}", refused.out, refused.err);
    assert!(refused.out.contains("BACKUP_MISSING"), "{}", refused.out);

    let restored = place.run(&format!("restore stations/demo.yaml A1 --backup {id}"));
    assert_eq!(restored.status, Some(0), "{}{}", restored.out, restored.err);
    assert!(restored.out.contains("PASS repaired simulated"), "{}", restored.out);
    assert!(restored.out.contains(&format!("restored by hand from backup {}", &id[..8])), "{}", restored.out);

    let empty = place.run("restore stations/demo.yaml A2");
    assert_eq!((empty.status, empty.out.as_str()), (Some(3), ""), "{}", empty.err);
    assert!(empty.err.ends_with("error: slot A2 is empty\n"), "{}", empty.err);

    let mut ends = Vec::new();
    let mut intents = 0;
    ledger::read_all(&OsDisk::new(), &place.path("state/demo/ledger"), |entry| match entry.fact {
        Fact::RunFinished(record) => ends.push((record.outcome, record.flags.repaired)),
        Fact::RestoreIntent { backup, .. } => {
            assert_eq!(backup.to_string(), id);
            intents += 1;
        }
        _ => {}
    })
    .expect("an unbroken ledger");
    assert_eq!(ends, [(Outcome::Aborted, false), (Outcome::Held, false), (Outcome::Pass, true)]);
    assert_eq!(intents, 1);
    let verified = place.run("verify --station stations/demo.yaml");
    assert_eq!(verified.status, Some(0), "{}{}", verified.out, verified.err);
}
