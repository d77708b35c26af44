//! `at`, asked of modules that an earlier process left in the slots.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::place::{Place, alone};
use crate::serve::Served;

const STATION: &str = "--station stations/demo.yaml";

/// A line with a module in the first slot and in no other.
fn left(place: &Place) {
    let mut served = Served::start(place, "sim serve stations/demo.yaml --usbip 127.0.0.1:0 --units 1");
    served.line();
    served.until(0, |slot: &Value| slot["mode"] == "normal");
    let ran = served.quit();
    assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""));
}

/// The contents of every file.
fn contents(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = place.everything().into_iter().filter(|path| path.is_file());
    files.map(|path| (path.clone(), std::fs::read(&path).expect("it can be read"))).collect()
}

#[test]
fn a_module_that_is_in_a_slot_answers_and_the_exit_status_says_how() {
    let _alone = alone();
    let place = Place::new();
    left(&place);

    let ran = place.run(&format!("at A1 AT+CGSN {STATION}"));
    assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    let lines: Vec<&str> = ran.out.lines().collect();
    let [imei, "OK"] = lines[..] else { panic!("{}", ran.out) };
    assert!(imei.len() == 15 && imei.bytes().all(|byte| byte.is_ascii_digit()), "{imei}");
    let again = place.run(&format!("at A1 at+cgsn {STATION}"));
    assert_eq!((again.status, again.out), (Some(0), ran.out), "the same module, in the letters of a person");

    for (command, reply) in [("AT+CPIN?", "+CME ERROR: 10\n"), ("AT+CSQ=?", "ERROR\n")] {
        let ran = place.run(&format!("at A1 {command} {STATION}"));
        assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (Some(1), reply, ""), "{command}");
    }

    let ran = place.run(&format!("at A2 AT+CGSN {STATION}"));
    assert_eq!(ran.status, Some(3), "{}", ran.out);
    let help =
        "help: put the module in; `stationmaster devices stations/demo.yaml` shows which\n  slots are occupied\n";
    assert_eq!((ran.out.as_str(), ran.err), ("", format!("error: slot A2 is empty\n{help}")));

    let ran = place.run(&format!("at Z9 AT+CGSN {STATION}"));
    assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.starts_with("error: the station has no slot Z9\nhelp: its slots are A1, A2, "), "{}", ran.err);

    let before = contents(&place);
    for (command, why) in [
        ("AT+CFUN=5", "AT+CFUN=5 is not sent: the command has a value"),
        ("AT+CFUN?;+CFUN=5", "a chain of 2 commands, and number 2, +CFUN=5, is refused"),
        ("AT+QCFG=\"usbnet\",1", "the command does more than name a key"),
        ("ATE0", "only ATI is known to read"),
        ("AT+CFUN\u{ff1f}", "not printable ASCII"),
    ] {
        let ran = place.run(&format!("at A1 {command} {STATION}"));
        assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{command}");
        assert!(ran.err.starts_with("error: ") && ran.err.contains(why), "{command}: {}", ran.err);
        assert!(ran.err.contains("\nhelp: ") && ran.err.contains("AT+CGSN"), "{command}: {}", ran.err);
    }
    // A line end cannot come from a split at blanks.
    let mut command = place.command("at A1");
    let child = command.args(["AT+CFUN?\rAT+CFUN=0", "--station", "stations/demo.yaml"]).spawn();
    let ran = crate::place::ended(child.expect("the binary starts"));
    assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""));
    assert!(ran.err.contains("not printable ASCII") && !ran.err.contains('\r'), "{}", ran.err);
    assert!(contents(&place) == before, "what is refused starts no module");

    // The line has one owner at a time.
    let mut served = Served::start(&place, "sim serve stations/demo.yaml --usbip 127.0.0.1:0 --units 0");
    served.line();
    let ran = place.run(&format!("at A1 AT+CGSN {STATION}"));
    assert_eq!((ran.status, ran.out.as_str()), (Some(3), ""), "{}", ran.err);
    served.quit();
}
