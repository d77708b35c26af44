//! Traces as people meet them: written by one process, replayed by another.

use std::path::PathBuf;

use crate::place::{Place, Ran, alone};

/// The traces of a place, by name.
fn traces(place: &Place) -> Vec<PathBuf> {
    let is_trace = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jsonl");
    let files =
        std::fs::read_dir(place.path("traces")).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut traces: Vec<PathBuf> = files.filter(is_trace).collect();
    traces.sort();
    traces
}

fn replay(place: &Place, trace: &std::path::Path) -> Ran {
    place.run(&format!("sim replay {} --station stations/demo.yaml", trace.display()))
}

const RUN: &str = "run stations/demo.yaml --batch T --units 1 --listen off --linger 0 --trace traces";

#[test]
fn a_trace_replays_and_one_that_cannot_be_says_why() {
    let _alone = alone();
    let place = Place::new();
    let ran = place.run(RUN);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let [trace] = traces(&place).try_into().expect("one trace");
    let ran = replay(&place, &trace);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains(": the same, ") && ran.err.is_empty(), "{}{}", ran.out, ran.err);

    // One that had grown to its bound at its tenth line.
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let lines: Vec<&str> = text.lines().collect();
    let bound = r#"{"i":9,"t":4294967295,"e":{"bound":{"bytes":67108864}}}"#;
    let time =
        |line: &str| line.split_once("\"t\":").and_then(|(_, rest)| rest.split_once(',')).map(|(t, _)| t.to_owned());
    let bound = bound.replace("4294967295", &time(lines[9]).expect("a time"));
    let grown = [&lines[..9], &[bound.as_str()], &lines[10..]].concat().join("\n") + "\n";
    place.write("traces/grown.jsonl", grown);
    let ran = replay(&place, &place.path("traces/grown.jsonl"));
    assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""));
    let said = "grown.jsonl: the trace ends at line 10, because it had grown to its bound of 67108864 bytes";
    assert!(ran.err.contains(said), "{}", ran.err);
}

#[test]
fn a_run_that_goes_on_in_another_process_is_not_replayed() {
    let _alone = alone();
    let place = Place::new();
    // The process ends while it writes the module: an intent is durable, an end is not.
    let ran = place.run(&format!("{RUN} --crash-after 8"));
    assert_ne!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let ran = place.run(RUN);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let found = traces(&place);
    let [second, first] = found.as_slice() else { panic!("{found:?}") };
    assert!(second.to_string_lossy().ends_with("-2.jsonl"), "{found:?}");
    let ran = replay(&place, second);
    assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
    assert!(ran.err.contains("the run was begun by an earlier process"), "{}", ran.err);
    let ran = replay(&place, first);
    assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
    assert!(ran.err.contains("without an end line: it was cut off"), "{}", ran.err);
}
