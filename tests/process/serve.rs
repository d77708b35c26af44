//! The served fixture, handled by a tester over standard input.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

use crate::place::{Place, Ran, alone, ended};

/// A served fixture, and its control input.
pub(crate) struct Served {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Served {
    pub(crate) fn start(place: &Place, line: &str) -> Self {
        let mut child = place.command(line).stdin(Stdio::piped()).spawn().expect("the binary starts");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, input, output }
    }

    pub(crate) fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    pub(crate) fn ask(&mut self, command: &str) -> Value {
        writeln!(self.input, "{command}").expect("taken");
        let answer = self.line();
        assert_eq!(answer["command"], command.trim());
        answer
    }

    /// Asks for the list until a slot's entry fits.
    pub(crate) fn until(&mut self, slot: usize, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let list = self.ask("list");
            if fits(&list["slots"][slot]) {
                return list["slots"][slot].clone();
            }
        }
    }

    /// Ends it; what is in the slots stays there.
    pub(crate) fn quit(mut self) -> Ran {
        writeln!(self.input, "quit").expect("taken");
        ended(self.child)
    }
}

#[test]
fn a_tester_has_hands_on_the_served_fixture() {
    let _alone = alone();
    let place = Place::new();
    let mut served = Served::start(&place, "sim serve stations/demo.yaml --usbip 127.0.0.1:0 --pty ports");
    let started = served.line();
    assert_eq!(
        (&started["event"], &started["slots"], &started["pty"]),
        (&"serving".into(), &16.into(), &"ports".into())
    );
    assert!(started["usbip"].as_str().expect("an address").starts_with("127.0.0.1:"));
    let normal = |slot: &Value| slot["mode"] == "normal";
    let first = served.until(0, normal);
    assert_eq!((&first["unit"], &first["busid"], &first["id"]), (&1.into(), &"1-1".into(), &"2c7c:0125".into()));
    served.until(1, normal);

    assert_eq!(served.ask("unplug A1")["unit"], 1);
    assert_eq!(served.ask("unplug A1")["error"], "slot A1 is empty");
    assert_eq!(served.ask("truth A1")["flash"]["boots_as"], "normal", "it lies beside its slot");
    assert_eq!(served.ask("plug A1")["unit"], 1);
    assert_eq!(served.ask("plug A1")["error"], "nothing was pulled out of slot A1");
    assert_eq!(served.ask("unplug A1")["unit"], 1);
    assert_eq!(served.ask("plug A1 new")["unit"], 700_000);
    assert_eq!(served.ask("truth A1")["model"], "EG25-G", "of the kind that the slot gets");
    assert_eq!(served.ask("unplug A1")["unit"], 700_000);
    assert_eq!(served.ask("plug A1 1")["unit"], 1);
    assert_eq!(served.ask("swap A1 A2")["units"], serde_json::json!({ "A1": 2, "A2": 1 }));
    assert_eq!(served.until(0, normal)["busid"], "2-1", "a SuperSpeed module is in the first slot now");
    assert_eq!(served.ask("power A1 off")["ok"], true);
    assert_eq!(served.until(0, |slot| slot["mode"].is_null())["unit"], 2, "still in, but dark");
    assert_eq!(served.ask("power A1 on")["ok"], true);
    served.until(0, normal);
    assert_eq!(served.ask("hub sim-0/usb2/1 off")["ok"], true);
    served.until(0, |slot| slot["mode"].is_null());
    assert_eq!(served.ask("hub sim-0/usb2/1 on")["ok"], true);
    served.until(0, normal);
    assert_eq!(served.ask("done A1")["unit"], 2);
    let next = served.until(0, |slot| slot["unit"].as_u64().is_some_and(|unit| unit > 2));
    assert!(next["unit"].as_u64().expect("a number") > 16, "{next}");
    for (command, why) in [
        ("fly A1", "there is no such command"),
        ("unplug Z9", "there is no slot Z9"),
        ("power A1 maybe", "say `on` or `off`"),
        ("hub sim-9/usb2/1 off", "there is no hub"),
        ("plug A2 9999", "there is no simulated unit 9999"),
    ] {
        let answer = served.ask(command);
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().expect("words").starts_with(why), "{answer}");
    }
    let ran = served.quit();
    assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read_dir(place.path("ports")).expect("a directory").count(), 0, "no link is left");
}

#[test]
fn a_line_has_one_owner() {
    let _alone = alone();
    let place = Place::new();
    let mut served = Served::start(&place, "sim serve stations/demo.yaml --usbip 127.0.0.1:0 --units 1");
    served.line();
    let ran = place.run("run stations/demo.yaml --batch B --units 1 --listen off");
    assert_eq!(ran.status, Some(3), "{}{}", ran.out, ran.err);
    assert_eq!(served.quit().status, Some(0));
}
