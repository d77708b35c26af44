//! The checks of a profile's further AT queries.

use regex::{Regex, RegexBuilder};

use crate::domain::text::printable;
use crate::domain::{BandSet, limits};

use super::Known;
use super::checker::Checker;
use super::node::At;
use super::profile::{NumberLimits, QueryCheck};
use super::raw::{RawNumber, RawQuery, Text};

/// Names of measurements that every run has; a query may not pretend to be one of them.
const TAKEN: &[&str] = &["model", "revision", "imei", "cfun", "calibration"];

/// The queries in `raw` that are in order.
pub(super) fn queries(at: &At, raw: &[RawQuery], known: &Known<'_>, checker: &mut Checker<'_>) -> Vec<QueryCheck> {
    checker.count(at, raw.len(), limits::QUERIES_MAX);
    let mut queries: Vec<QueryCheck> = Vec::new();
    for (index, raw) in raw.iter().enumerate().take(limits::QUERIES_MAX) {
        let at = at.index(index);
        let query = query(&at, raw, known, checker);
        let Some(query) = query else { continue };
        if queries.iter().any(|earlier| earlier.name == query.name) {
            let sentence = format!("two queries have the name `{}`", query.name);
            checker.wrong(&at.key("name"), sentence, "give each its own: it names the measurement");
        }
        queries.push(query);
    }
    queries
}

fn query(at: &At, raw: &RawQuery, known: &Known<'_>, checker: &mut Checker<'_>) -> Option<QueryCheck> {
    let name = checker.name(&at.key("name"), &raw.name);
    if let Some(name) = &name
        && (TAKEN.contains(&name.as_str()) || band_set_name(name))
    {
        let sentence = format!("`{name}` is the name of a measurement that every run has");
        checker.wrong(&at.key("name"), sentence, "give the query another name");
    }
    let command = command(&at.key("command"), &raw.command, known, checker);
    let pattern = raw.pattern.as_ref().map(|text| pattern(&at.key("pattern"), text, checker));
    let number = raw.number.as_ref().map(|raw| number(&at.key("number"), raw, checker));
    if raw.number.is_some() && raw.pattern.is_none() {
        let help = "add a `pattern` with a group, such as '\\+QTEMP: (-?\\d+)'";
        checker.wrong(&at.key("number"), "`number` needs a `pattern` that finds the number", help);
    }
    Some(QueryCheck { name: name?, command: command?, pattern: pattern.flatten(), number: number.flatten() })
}

fn band_set_name(name: &str) -> bool {
    use BandSet::{LteConfig, LtePolicy, NrNsaConfig, NrNsaPolicy, NrSaConfig, NrSaPolicy};
    [LteConfig, LtePolicy, NrNsaConfig, NrNsaPolicy, NrSaConfig, NrSaPolicy].iter().any(|set| set.as_str() == name)
}

fn command(at: &At, text: &Text, known: &Known<'_>, checker: &mut Checker<'_>) -> Option<String> {
    let command = checker.text(at, text, limits::AT_COMMAND_CHARS_MAX)?;
    if let Err(reason) = (known.reading_command)(command) {
        let reason = printable(&reason, limits::DEVICE_TEXT_CHARS_MAX);
        checker.wrong(
            at,
            format!("this command is refused: {reason}; a profile may only read"),
            "use a command that only asks",
        );
        return None;
    }
    Some(command.to_owned())
}

fn pattern(at: &At, text: &Text, checker: &mut Checker<'_>) -> Option<Regex> {
    let pattern = checker.text(at, text, limits::QUERY_PATTERN_CHARS_MAX)?;
    RegexBuilder::new(pattern)
        .size_limit(limits::QUERY_PATTERN_BYTES_MAX)
        .dfa_size_limit(limits::QUERY_PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                let help = "repeat less: {1000} of a large group is too much";
                checker.wrong(at, "this regular expression is too large", help);
            }
            error => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                let reason = printable(reason, limits::DEVICE_TEXT_CHARS_MAX);
                let help = "a backslash before ( ) [ ] { } . * + ? | ^ $ means the character itself; \
                            put the pattern in single quotes";
                checker.wrong(at, format!("this is no regular expression: {reason}"), help);
            }
        })
        .ok()
}

fn number(at: &At, raw: &RawNumber, checker: &mut Checker<'_>) -> Option<NumberLimits> {
    let unit = match &raw.unit {
        None => String::new(),
        Some(text) => printable(checker.text(&at.key("unit"), text, limits::UNIT_CHARS_MAX)?, limits::UNIT_CHARS_MAX),
    };
    if raw.min.is_none() && raw.max.is_none() {
        checker.wrong(at, "`number` has neither `min` nor `max`", "add at least one of them");
    }
    for (key, value) in [("min", raw.min), ("max", raw.max)] {
        if value.is_some_and(|value| !value.is_finite()) {
            let help = "write a number, or leave the line out where there is no limit";
            checker.wrong(&at.key(key), format!("`{key}` is not a finite number"), help);
        }
    }
    if let (Some(min), Some(max)) = (raw.min, raw.max)
        && min > max
    {
        checker.wrong(&at.key("min"), format!("`min` is {min}, above `max`, which is {max}"), "swap the two");
    }
    Some(NumberLimits { min: raw.min, max: raw.max, unit })
}
