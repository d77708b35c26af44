//! What is wrong in a configuration, shown so that a technician can put it right: where, what, and the remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::domain::limits;
use crate::domain::text::printable;

use super::node::Place;

/// Longest part of a source line that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 100;
/// Characters shown before the place when a line is longer than that.
const SHOWN_BEFORE: usize = 40;

/// One thing that is wrong in one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    path: PathBuf,
    spot: Option<Spot>,
    sentence: String,
    help: String,
}

/// A position with the line it is in, ready to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Spot {
    line: usize,
    column: usize,
    /// The line, cut and made harmless.
    shown: String,
    /// Blanks before the caret, and carets.
    blanks: usize,
    carets: usize,
}

impl ConfigError {
    /// Something wrong with a file as a whole.
    pub(super) fn of_file(path: &Path, sentence: impl Into<String>, help: impl Into<String>) -> Self {
        Self { path: path.to_owned(), spot: None, sentence: sentence.into(), help: help.into() }
    }

    /// Something wrong at a place; `line` is the text of the place's line.
    pub(super) fn at(
        path: &Path,
        place: Place,
        line: &str,
        sentence: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let spot = Some(Spot::new(place, line));
        Self { path: path.to_owned(), spot, sentence: sentence.into(), help: help.into() }
    }

    /// The file, as it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Line and column, both from 1; `None` where the file as a whole is wrong.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        self.spot.as_ref().map(|spot| (spot.line, spot.column))
    }

    /// What is wrong.
    #[must_use]
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }
}

impl Spot {
    fn new(place: Place, line: &str) -> Self {
        let start = place.column - 1;
        let all: Vec<char> = line.chars().collect();
        let start = start.min(all.len());
        let end = start.saturating_add(place.chars.max(1)).min(all.len().max(start + 1));
        let from = if all.len() > SHOWN_CHARS_MAX { start.saturating_sub(SHOWN_BEFORE) } else { 0 };
        let to = all.len().min(from + SHOWN_CHARS_MAX);
        let part = |range: std::ops::Range<usize>| {
            let range = range.start.min(all.len())..range.end.min(all.len());
            let text: String = all[range].iter().map(|c| if *c == '\t' { ' ' } else { *c }).collect();
            printable(&text, usize::MAX)
        };
        let mut shown = part(from..to);
        let mut blanks = part(from..start).chars().count();
        if from > 0 {
            shown.insert(0, '…');
            blanks += 1;
        }
        if to < all.len() {
            shown.push('…');
        }
        let carets = part(start..end.min(to)).chars().count().max(1);
        Self { line: place.line, column: place.column, shown, blanks, carets }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = printable(&self.path.to_string_lossy(), usize::MAX);
        match &self.spot {
            None => writeln!(f, "{path}: {}", self.sentence)?,
            Some(spot) => {
                let Spot { line, column, shown, blanks, carets } = spot;
                writeln!(f, "{path}:{line}:{column}: {}", self.sentence)?;
                writeln!(f, "{}", format!("{line:>5} | {shown}").trim_end())?;
                writeln!(f, "      | {}{}", " ".repeat(*blanks), "^".repeat(*carets))?;
            }
        }
        write!(f, "help: {}", self.help)
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong in a station or profile and in the files it names; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().take(limits::CONFIG_ERRORS_MAX).enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            error.fmt(f)?;
        }
        if self.0.len() >= limits::CONFIG_ERRORS_MAX {
            f.write_str("\n\nthere may be more; put these right first")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(column: usize, chars: usize, line: &str) -> String {
        ConfigError::at(Path::new("s.yaml"), Place { line: 7, column, chars }, line, "wrong", "put it right")
            .to_string()
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        assert_eq!(shown(3, 5, "  solts:"), "s.yaml:7:3: wrong\n    7 |   solts:\n      |   ^^^^^\nhelp: put it right");
    }

    #[test]
    fn tabs_escapes_and_ends_of_lines_do_not_move_it() {
        assert!(shown(2, 1, "\tx").contains("    7 |  x\n      |  ^\n"));
        assert!(shown(2, 1, "\u{1b}x").contains("    7 | \\u{1b}x\n      |       ^\n"));
        assert!(shown(99, 9, "ab").contains("    7 | ab\n      |   ^\n"));
        assert!(shown(1, 1, "").contains("    7 |\n      | ^\n"));
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}here{}", "a".repeat(500), "b".repeat(500));
        let text = shown(501, 4, &line);
        assert!(text.lines().all(|line| line.chars().count() <= SHOWN_CHARS_MAX + 10), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        let column = lines[2].find('^').expect("a caret");
        assert_eq!(lines[1].chars().skip(column).take(4).collect::<String>(), "here");
    }
}
