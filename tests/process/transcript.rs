//! What the command line says, word by word: commands and their output, compared whole with a checked-in text.
//!
//! `UPDATE_EXPECTED=1 cargo test --test process` writes the texts anew; look at the difference before it is committed.

use std::fmt::Write;
use std::path::Path;

use crate::place::{Place, Ran};

/// Commands and what came of them.
pub(crate) struct Transcript<'a> {
    place: &'a Place,
    text: String,
}

impl<'a> Transcript<'a> {
    pub(crate) fn of(place: &'a Place) -> Self {
        Self { place, text: String::new() }
    }

    /// Runs a command and notes it.
    pub(crate) fn run(&mut self, line: &str) -> Ran {
        let ran = self.place.run(line);
        self.keep(line, ran)
    }

    /// Runs a command with that at its standard input and notes both.
    pub(crate) fn run_with(&mut self, line: &str, input: &str) -> Ran {
        let ran = self.place.run_with(line, input);
        self.keep(&format!("{line} <<< {input:?}"), ran)
    }

    fn keep(&mut self, line: &str, ran: Ran) -> Ran {
        let status = ran.status.map_or_else(|| "signal".to_owned(), |status| status.to_string());
        let _infallible = write!(self.text, "$ stationmaster {line}\n{}", ran.out);
        for line in ran.err.lines() {
            let _infallible = writeln!(self.text, "2> {line}");
        }
        let _infallible = writeln!(self.text, "[exit {status}]\n");
        ran
    }

    /// Notes what was done between two commands.
    pub(crate) fn note(&mut self, words: &str) {
        let _infallible = writeln!(self.text, "# {words}\n");
    }

    /// Compares everything with `tests/data/cli/<topic>.txt`.
    pub(crate) fn assert(self, topic: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cli").join(format!("{topic}.txt"));
        let text = self.text.replace(&self.place.path("").display().to_string(), "DIR/");
        let found = without_durations(&without_digests(&text));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
            std::fs::write(&path, &found).expect("writable");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        let first = expected.lines().zip(found.lines()).position(|(expected, found)| expected != found);
        let line = first.unwrap_or_else(|| expected.lines().count().min(found.lines().count()));
        assert!(
            expected == found,
            "{} differs in line {}\n- {}\n+ {}\n\n{found}",
            path.display(),
            line + 1,
            expected.lines().nth(line).unwrap_or_default(),
            found.lines().nth(line).unwrap_or_default()
        );
    }
}

/// Digests are replaced by a word: they change with every byte of a package or of a record.
fn without_digests(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_digit() || ('a'..='f').contains(&c) {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() == 64 { "SHA256" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out.pop();
    out
}

/// The durations of a run, behind its boots in a row, are measured anew each time.
fn without_durations(text: &str) -> String {
    const BOOTS: &str = "simulated,1,2,2,";
    let cut = |line: &str| match line.split_once(BOOTS) {
        Some((before, _)) => format!("{before}{BOOTS}…\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(cut).collect()
}
