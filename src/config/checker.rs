//! Checks values one by one and collects everything that is wrong, so that a file is put right in one go.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::domain::limits;
use crate::domain::text::printable;

use super::error::ConfigError;
use super::node::{At, Content, Document, Place, QUOTE_CHARS_MAX};
use super::raw::Text;

/// The document that is checked, and what was found so far.
pub(super) struct Checker<'a> {
    document: &'a Document,
    errors: Vec<ConfigError>,
    /// Of other files.
    others: Vec<ConfigError>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        Self { document, errors: Vec::new(), others: Vec::new() }
    }

    /// Everything that was found: in this document from its top to its end, then in others.
    pub(super) fn into_errors(mut self) -> Vec<ConfigError> {
        self.errors.sort_by_key(ConfigError::position);
        self.errors.append(&mut self.others);
        self.errors
    }

    /// Adds what was found elsewhere (in a profile that this station names).
    pub(super) fn extend(&mut self, errors: Vec<ConfigError>) {
        self.others.extend(errors);
    }

    /// Notes something wrong with the value at `at`.
    pub(super) fn wrong(&mut self, at: &At, sentence: impl Into<String>, help: impl Into<String>) {
        self.push(self.document.place(at), sentence.into(), help.into());
    }

    /// Notes that a key should not be there.
    pub(super) fn wrong_key(&mut self, at: &At, sentence: impl Into<String>, help: impl Into<String>) {
        self.push(self.document.key_place(at), sentence.into(), help.into());
    }

    /// Notes an error. A hostile file has more of them than anybody reads, and each costs a look at its line.
    fn push(&mut self, place: Place, sentence: String, help: String) {
        if self.errors.len() >= limits::CONFIG_ERRORS_MAX {
            return;
        }
        let line = self.document.line(place.line);
        self.errors.push(ConfigError::at(&self.document.path, place, line, sentence, help));
    }

    /// A text of 1 to `chars_max` characters; quoted where YAML would take it for something else.
    pub(super) fn text<'t>(&mut self, at: &At, value: &'t Text, chars_max: usize) -> Option<&'t str> {
        if let Some(Content::Scalar { text, plain: true }) = self.document.node(at).map(|node| &node.content)
            && let Some(what) = looks_like(text)
        {
            let (text, whole) = (printable(text, QUOTE_CHARS_MAX), printable(text, limits::PATTERN_CHARS_MAX));
            let sentence = format!("{at} is `{text}` without quotes, which YAML takes for {what}");
            self.wrong(at, sentence, format!("write it in quotes: \"{whole}\""));
            return None;
        }
        let text = value.as_str();
        if text.is_empty() || text.chars().count() > chars_max {
            self.wrong(at, format!("{at} must have 1 to {chars_max} characters"), "write a text of that length");
            return None;
        }
        Some(text)
    }

    /// A text that is read as a `T`.
    pub(super) fn parsed<T>(&mut self, at: &At, value: &Text, chars_max: usize, help: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.text(at, value, chars_max)?;
        text.parse()
            .map_err(|error: T::Err| {
                let text = printable(text, QUOTE_CHARS_MAX);
                self.wrong(at, format!("{at} cannot be `{text}`: {error}"), help);
            })
            .ok()
    }

    /// A name: letters, digits, `.`, `_` and `-`.
    pub(super) fn name(&mut self, at: &At, value: &Text) -> Option<String> {
        let text = self.text(at, value, limits::NAME_CHARS_MAX)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain) {
            return Some(text.to_owned());
        }
        let sentence = format!("{at} cannot be `{}`", printable(text, QUOTE_CHARS_MAX));
        self.wrong(at, sentence, "use letters, digits, `.`, `_` and `-`, and begin with a letter or digit");
        None
    }

    /// A whole revision, as AT+QGMR gives it: visible ASCII, no wildcard.
    pub(super) fn revision(&mut self, at: &At, value: &Text) -> Option<String> {
        let text = self.text(at, value, limits::PATTERN_CHARS_MAX)?;
        if text.chars().all(|c| c.is_ascii_graphic() && c != '*') {
            return Some(text.to_owned());
        }
        let sentence = format!("{at} cannot be `{}`", printable(text, QUOTE_CHARS_MAX));
        self.wrong(at, sentence, "write one whole revision as AT+QGMR gives it, without blanks and `*`");
        None
    }

    /// A whole number within `range`; `default` where none is given (and where a wrong one is).
    pub(super) fn whole<T>(&mut self, at: &At, value: Option<i64>, default: T, range: RangeInclusive<i64>) -> T
    where
        T: TryFrom<i64>,
    {
        let Some(number) = value else { return default };
        if range.contains(&number)
            && let Ok(number) = T::try_from(number)
        {
            return number;
        }
        let (from, to) = (range.start(), range.end());
        self.wrong(at, format!("{at} is {number}, but must be {from} to {to}"), "write a number in that range");
        default
    }

    /// A time in seconds within `range`; `default` where none is given (and where a wrong one is).
    pub(super) fn seconds(
        &mut self,
        at: &At,
        value: Option<f64>,
        default: Duration,
        range: &RangeInclusive<f64>,
    ) -> Duration {
        let Some(seconds) = value else { return default };
        if range.contains(&seconds)
            && let Ok(duration) = Duration::try_from_secs_f64(seconds)
        {
            return duration;
        }
        let (from, to) = (range.start(), range.end());
        let sentence = format!("{at} is {seconds}, but must be {from} to {to} seconds");
        self.wrong(at, sentence, "write a number in that range, in seconds");
        default
    }

    /// Whether a list has at most `max` entries.
    pub(super) fn count(&mut self, at: &At, entries: usize, max: usize) {
        if entries > max {
            self.wrong(at, format!("{at} has {entries} entries, at most {max} are possible"), "remove some");
        }
    }

    /// Notes entries that are in a list twice.
    pub(super) fn doubles<T: PartialEq + Display>(&mut self, at: &At, entries: &[(usize, T)]) {
        for (position, (index, entry)) in entries.iter().enumerate() {
            if entries[..position].iter().any(|(_, earlier)| earlier == entry) {
                self.wrong(&at.index(*index), format!("`{entry}` is in {at} twice"), "keep one of the two");
            }
        }
    }
}

/// What YAML (1.1 or 1.2) makes of a text without quotes, where that is not a text.
fn looks_like(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    if ["true", "false", "yes", "no", "on", "off", "y", "n"].contains(&lower.as_str()) {
        return Some("a truth value");
    }
    let digits = lower.strip_prefix(['-', '+']).unwrap_or(&lower);
    if [".inf", ".nan"].contains(&digits) {
        return Some("a number");
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    let radix = |prefix: &str, base: u32| {
        plain.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(base)))
    };
    if radix("0x", 16) || radix("0o", 8) || radix("0b", 2) || plain.parse::<f64>().is_ok() {
        return Some("a number");
    }
    let sexagesimal = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    (plain.contains(':') && plain.split(':').all(sexagesimal)).then_some("a time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_misreads_is_known() {
        for number in ["86450704", "0123", "1e3", "0x10", "0o17", "1_000", ".5", "-1", "+1.5", ".inf", "-.INF", ".nan"]
        {
            assert_eq!(looks_like(number), Some("a number"), "{number}");
        }
        for truth in ["no", "On", "YES", "false"] {
            assert_eq!(looks_like(truth), Some("a truth value"), "{truth}");
        }
        assert_eq!(looks_like("12:30"), Some("a time"));
        for text in ["A1", "EG25-G", "0f50e1", "1.2.3", "infinity", "nan", "e3", "", "-", "12:3x", "0x", "..", "4th"] {
            assert_eq!(looks_like(text), None, "{text}");
        }
    }
}
