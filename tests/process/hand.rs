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

fn ledger_of(place: &Place) -> String {
    place.read("state/demo/ledger/ledger-000001.jsonl")
}

/// A digit that an id does not end with.
fn other_digit(id: &str) -> String {
    if id.ends_with('0') { "1" } else { "0" }.to_owned()
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

    // What cannot be meant is refused before the module is touched, or anything is recorded.
    let before = ledger_of(&place);
    for other in ["0".repeat(64), "0".repeat(8), id[..7].to_owned(), format!("{id}0"), "x".repeat(8)] {
        let refused = place.run(&format!("restore stations/demo.yaml A1 --backup {other}"));
        assert_eq!((refused.status, refused.out.as_str()), (Some(2), ""), "{}", refused.err);
        assert!(refused.err.contains("`stationmaster backups list stations/demo.yaml` shows"), "{}", refused.err);
    }
    let file = place.everything().into_iter().find(|path| path.to_string_lossy().contains(&id)).expect("a backup");
    let twin = file.with_file_name(format!("0002-{}.smb.age", id[..63].to_owned() + &other_digit(&id)));
    std::fs::copy(&file, &twin).expect("copied");
    let refused = place.run(&format!("restore stations/demo.yaml A1 --backup {}", &id[..8]));
    assert_eq!((refused.status, refused.out.as_str()), (Some(2), ""), "{}", refused.err);
    assert!(refused.err.contains("2 backups have an id that begins with"), "{}", refused.err);
    std::fs::remove_file(&twin).expect("removed");
    std::fs::rename(&file, place.path("aside")).expect("moved");
    let refused = place.run(&format!("restore stations/demo.yaml A1 --backup {}", &id[..8]));
    assert_eq!((refused.status, refused.out.as_str()), (Some(2), ""), "{}", refused.err);
    assert!(refused.err.contains("is in the ledger, but its file is missing"), "{}", refused.err);
    std::fs::rename(place.path("aside"), &file).expect("moved");
    assert_eq!(ledger_of(&place), before);

    let restored = place.run(&format!("restore stations/demo.yaml A1 --backup {}", id[..8].to_uppercase()));
    assert_eq!(restored.status, Some(0), "{}{}", restored.out, restored.err);
    assert!(restored.out.contains("PASS repaired simulated"), "{}", restored.out);
    assert!(restored.out.contains(&format!("restored by hand from backup {}", &id[..8])), "{}", restored.out);

    let empty = place.run("restore stations/demo.yaml A2");
    assert_eq!((empty.status, empty.out.as_str()), (Some(3), ""), "{}", empty.err);
    assert!(empty.err.contains("error: slot A2 is empty\nhelp: put the module in; "), "{}", empty.err);

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
    assert_eq!(ends, [(Outcome::Aborted, false), (Outcome::Pass, true)]);
    assert_eq!(intents, 1);
    let verified = place.run("verify --station stations/demo.yaml");
    assert_eq!(verified.status, Some(0), "{}{}", verified.out, verified.err);
}
