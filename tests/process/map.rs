//! Teaching slots at a terminal, practised on a simulated station.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::place::{Place, Ran, alone, ended};
use crate::transcript::Transcript;

/// A station with a file as people write them.
const STATION: &str = "\
# Line 3, wired by Kim.
name: line3
hardware: simulated
profiles: [../profiles/eg25-g.yaml, ../profiles/rm520n-gl.yaml]

slots:   # from left to right
  # the black hub
  - { name: A1, usb2: sim-0/usb2/1.2, usb3: sim-0/usb3/1.2 }   # under the lamp
  - name: A2
    usb2: 'sim-0/usb2/1.1'
    usb3: 'sim-0/usb3/1.1'
  - { name: B1, usb2: sim-0/usb2/1.3 }

simulation:
  units:
    - { model: EG25-G, revision: EG25GGBR07A07M2G_01.001.01.001 }
    - { model: RM520N-GL, revision: RM520NGLAAR03A02M4G_01.200.01.200 }
";

fn place() -> Place {
    let place = Place::new();
    place.write("stations/line3.yaml", STATION);
    place
}

#[test]
fn slots_are_taught_and_the_rest_of_the_file_stays() {
    let _alone = alone();
    let place = place();
    let before = place.everything();
    let mut transcript = Transcript::of(&place);
    transcript.run_with("map stations/line3.yaml --slots A2", "\n");
    transcript.note("the stickers of A1 and A2 were exchanged; A2 is taken for A1 once more by mistake");
    transcript.run_with("map stations/line3.yaml --slots A1,A2,B1", "A2\nyes\nA2\nb\nA2\nyes\nA1\nhelp\nB1\n");
    let swap = |text: &str| text.replace("1.2", "1.x").replace("1.1", "1.2").replace("1.x", "1.1");
    let swapped = STATION.split_inclusive('\n').map(|line| match line.contains("revision") {
        true => line.to_owned(),
        false => swap(line),
    });
    assert_eq!(place.read("stations/line3.yaml"), swapped.collect::<String>(), "only the chains");
    transcript.note("a slot of another name, of which nothing is learned yet, and one that is left out");
    transcript.run_with("map stations/line3.yaml --slots A1,C1", "B1\ns\nq\n");
    transcript.run_with("map stations/line3.yaml --slots A1,C1", "\nq\nn\n");
    transcript.run_with("map stations/line3.yaml --slots A1,C1 --partial", "\n");
    transcript.assert("map");
    assert_eq!(place.everything(), before, "no state was made");
}

#[test]
fn a_file_without_slots_gets_them_and_out_leaves_the_file_alone() {
    let _alone = alone();
    let place = place();
    let (head, rest) = STATION.split_once("slots:").expect("slots");
    let (_, tail) = rest.split_once("\nsimulation:").expect("a simulation");
    let without = format!("{head}simulation:{tail}");
    place.write("stations/new.yaml", &without);
    let ran = place.run("map stations/new.yaml");
    assert_eq!(ran.status, Some(2), "{}", ran.err);
    assert!(ran.err.contains("--slots A1,A2"), "{}", ran.err);
    let ran = place.run_with("map stations/new.yaml --slots A1,2 --out stations/made.yaml", "\n\n");
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert_eq!(place.read("stations/new.yaml"), without);
    let made = place.read("stations/made.yaml");
    let block = made.strip_prefix(&without).expect("the file and more");
    assert_eq!(
        block,
        "\nslots:\n  - { name: A1, usb2: sim-0/usb2/1.1, usb3: sim-0/usb3/1.1 }\n  - { name: \"2\", usb2: \
         sim-0/usb2/1.2, usb3: sim-0/usb3/1.2 }\n"
    );
    assert_eq!(place.run("check stations/made.yaml").status, Some(0));
}

#[test]
fn the_file_stays_its_owners_and_what_cannot_be_written_is_known_before_the_first_module() {
    let _alone = alone();
    let place = place();
    let file = place.path("stations/line3.yaml");
    let mode = |path: &std::path::Path| path.metadata().expect("it is there").permissions().mode() & 0o7777;
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
    place.write("stations/.line3.yaml.tmp", "somebody's");
    let ran = place.run_with("map stations/line3.yaml --slots A1,A2", "A2\nyes\nA1\n");
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert_ne!(place.read("stations/line3.yaml"), STATION);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(place.read("stations/.line3.yaml.tmp"), "somebody's");

    std::fs::hard_link(&file, place.path("stations/also.yaml")).expect("linked");
    let before = place.everything();
    for (arguments, why) in [
        ("", "hard links"),
        ("--out stations/line3.yaml", "it is there already"),
        ("--out none/new.yaml", "none/new.yaml cannot be written"),
        ("--out new.yaml", "in the directory of the station file"),
    ] {
        let ran = place.run_with(&format!("map stations/line3.yaml {arguments}"), "\n\n\n");
        assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{arguments}: {}", ran.err);
        assert!(ran.err.contains(why) && ran.err.contains("\nhelp: "), "{arguments}: {}", ran.err);
        assert!(!ran.err.contains("put one module"), "{arguments}: {}", ran.err);
    }
    assert_eq!(place.everything(), before, "nothing is left of the attempts");
}

#[test]
fn a_rewired_fixture_that_is_taught_half_is_said_to_need_the_other_slots_too() {
    let _alone = alone();
    let place = place();
    let ran = place.run_with("map stations/line3.yaml", "A2\nyes\nq\ny\n");
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    assert!(!ran.err.contains("(y/N)"), "a yes could not be obeyed: {}", ran.err);
    let err = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(err.contains("slot A2 is still at ports that were learned for others"), "{err}");
    assert!(err.contains("teach it too: --slots A1,A2 nothing was written"), "{err}");
    assert_eq!(place.read("stations/line3.yaml"), STATION);
    let ran = place.run_with("map stations/line3.yaml --slots A1,A2", "A2\nyes\nA1\n");
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert_ne!(place.read("stations/line3.yaml"), STATION);
}

/// Teaches A1, and sends a signal while A2 is asked for.
fn interrupted(place: &Place, arguments: &str, signal: rustix::process::Signal) -> Ran {
    let line = format!("map stations/line3.yaml {arguments}");
    let mut child = place.command(&line).stdin(Stdio::piped()).spawn().expect("the binary starts");
    let mut input = child.stdin.take().expect("it is piped");
    writeln!(input, "A2\nyes").expect("taken");
    let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut read = String::new();
    while !read.ends_with("put one module into slot A2\n") {
        assert_ne!(errors.read_line(&mut read).expect("a line"), 0, "{read}");
    }
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("it can be sent");
    std::io::Read::read_to_string(&mut errors, &mut read).expect("text");
    Ran { err: read, ..ended(child) }
}

#[test]
fn an_interruption_writes_nothing_unless_that_was_asked_for() {
    let _alone = alone();
    let place = place();
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::HUP] {
        let ran = interrupted(&place, "--slots A1,A2", signal);
        assert_eq!(ran.status, Some(1), "{}", ran.err);
        assert!(ran.err.contains("is brought back first"), "{}", ran.err);
        assert!(ran.err.contains("not learned: A2\n") && ran.err.ends_with("nothing was written\n"), "{}", ran.err);
        assert_eq!(place.read("stations/line3.yaml"), STATION);
    }
    // What was learned takes the port of a slot that was not: that is no station.
    place.change("stations/line3.yaml", |text| text.replace("sim-0/usb2/1.2, usb3: sim-0/usb3/1.2", "sim-0/usb2/1.4"));
    let changed = place.read("stations/line3.yaml");
    let ran = interrupted(&place, "--slots A1,A2,B1 --partial", rustix::process::Signal::INT);
    assert_eq!((ran.status, ran.out.lines().count()), (Some(2), 2), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("slot A1 has this port already"), "{}", ran.err);
    assert_eq!(place.read("stations/line3.yaml"), changed);
}
