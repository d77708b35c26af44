//! An edited trace is reported at the first difference, or refused with a sentence.

use std::sync::Arc;

use stationmaster::cli::replay::{Replayed, replay};
use stationmaster::domain::limits;
use stationmaster::host::{FailKind, MemoryDisk};
use stationmaster::trace::{Trace, TraceError};

use crate::harness::{Line, station, two_slots};
use crate::replays::{read, record, traces};

async fn recorded() -> (Line, String) {
    let mut line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    record(&mut line, false);
    line.run("TRACE", 1).await;
    let [path] = traces(line.disk.as_ref()).try_into().expect("one trace");
    read(line.disk.as_ref(), &path);
    let text = line.disk.read(&path, 1 << 30).expect("the trace");
    (line, String::from_utf8(text).expect("a text"))
}

async fn replayed(line: &Line, text: &str) -> Replayed {
    let trace = Trace::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    replay(trace, &line.station, line.products.clone()).await.expect("it can be replayed")
}

/// The index of the first line that holds both.
fn line_with(text: &str, first: &str, second: &str) -> usize {
    text.lines().position(|line| line.contains(first) && line.contains(second)).expect("such a line")
}

fn edit(text: &str, index: usize, from: &str, to: &str) -> String {
    let lines = text.lines().enumerate().map(|(number, line)| {
        if number == index {
            assert!(line.contains(from), "{line}");
            format!("{}\n", line.replacen(from, to, 1))
        } else {
            format!("{line}\n")
        }
    });
    lines.collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_edited_is_reported_where_it_matters() {
    let (line, text) = recorded().await;
    assert!(matches!(replayed(&line, &text).await, Replayed::Same { .. }));

    // A byte that the controller sends.
    let index = line_with(&text, "\"out\"", "<erase ");
    let Replayed::Different(found) = replayed(&line, &edit(&text, index, "<erase ", "<eraze ")).await else {
        panic!("a command was edited");
    };
    assert_eq!(found.line, index + 1);
    let offset = found.offset.expect("a place");
    let said = found.to_string();
    assert!(offset > 20 && said.contains("|") && said.contains("<eraze") && said.contains("<erase"), "{said}");
    assert!(said.contains(&format!("line {}, phase flash, controller to module, byte {offset}", index + 1)), "{said}");

    // A page of an image.
    let index = line_with(&text, "\"out\"", "\"content\"");
    let content = text.lines().nth(index).expect("the line");
    let at = content.find("\"content\":[").expect("content");
    let tag = content[at..].split('"').nth(3).expect("a tag").to_owned();
    let flipped: String = tag.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
    let Replayed::Different(found) = replayed(&line, &edit(&text, index, &tag, &flipped)).await else {
        panic!("a digest was edited");
    };
    assert_eq!(found.line, index + 1);
    assert!(found.expected.contains(&flipped) && found.got.contains(&tag), "{found}");

    // An answer of the module: the controller goes another way from there.
    let index = line_with(&text, "\"in\"", "\\\"ACK\\\"");
    let Replayed::Different(found) = replayed(&line, &edit(&text, index, "\\\"ACK\\\"", "\\\"NAK\\\"")).await else {
        panic!("an answer was edited");
    };
    assert!(found.line > index, "{found}");

    // A value that only becomes a fact.
    let index = line_with(&text, "\"in\"", "EG25GGBR07A07M2G_01");
    let outcome = replayed(&line, &edit(&text, index, "EG25GGBR07A07M2G_01", "EG25GGBR07A07M2G_02")).await;
    assert!(!matches!(outcome, Replayed::Same { .. }), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_whole_trace_is_refused_with_a_sentence() {
    let (_, text) = recorded().await;
    let refused = |text: &[u8]| Trace::parse(text).expect_err("it is refused");
    let lines: Vec<&str> = text.lines().collect();
    let join =
        |lines: &[&str]| -> Vec<u8> { lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect() };

    let mut removed = lines.clone();
    removed.remove(40);
    assert!(matches!(refused(&join(&removed)), TraceError::Number { line: 41, expected: 40, found: 41 }));
    let mut doubled = lines.clone();
    doubled.insert(10, lines[9]);
    assert!(matches!(refused(&join(&doubled)), TraceError::Number { line: 11, .. }));
    assert!(matches!(refused(&join(&lines[..50])), TraceError::CutOff { line: 50 }));
    assert!(matches!(refused(&text.as_bytes()[..text.len() / 2]), TraceError::CutOff { .. } | TraceError::Line { .. }));
    assert!(matches!(refused(b""), TraceError::NoHeader(_)));
    assert!(matches!(refused(b"garbage\n"), TraceError::NoHeader(_)));
    let mut garbage = lines.clone();
    garbage[7] = "\u{0}\u{1}garbage";
    assert!(matches!(refused(&join(&garbage)), TraceError::Line { line: 8, .. }));
    let huge = "x".repeat(limits::TRACE_LINE_BYTES_MAX + 1);
    garbage[7] = &huge;
    assert!(matches!(refused(&join(&garbage)), TraceError::TooLong { line: 8 }));
    let fact = line_with(&text, "\"fact\"", "run_finished");
    assert!(matches!(refused(edit(&text, fact, "\"PASS\"", "\"FAIL\"").as_bytes()), TraceError::Facts));
    assert!(matches!(refused(&[text.as_bytes(), lines[3].as_bytes(), b"\n"].concat()), TraceError::AfterEnd { .. }));
    let gap =
        edit(&text, 20, &lines[20][lines[20].find("\"e\":").expect("an event")..], "\"e\":{\"gap\":{\"lines\":3}}}");
    assert!(matches!(refused(gap.as_bytes()), TraceError::Gap { line: 21, lines: 3 }));
    for error in [refused(gap.as_bytes()), refused(b""), refused(&join(&removed))] {
        assert!(error.to_string().len() > 20, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_under_a_trace_fails_no_run() {
    let mut line = Line::new(station("stations/demo.yaml", two_slots), 1).await;
    let memory = MemoryDisk::new();
    let disk: Arc<dyn stationmaster::host::Disk> = Arc::new(memory.clone());
    let good = std::mem::replace(&mut line.disk, disk);
    record(&mut line, false);
    line.disk = good;
    (3..5000).for_each(|call| memory.fail_call(call, FailKind::Error));
    let (end, entries) = line.run("TRACE", 1).await;
    assert_eq!(end, stationmaster::controller::End::Complete);
    let [run] = crate::harness::records(&entries, "TRACE").try_into().expect("one run");
    assert_eq!(run.outcome, stationmaster::domain::Outcome::Pass);
}
