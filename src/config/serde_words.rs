//! Says in a technician's words what serde says in a programmer's.
//!
//! Serde hands out sentences, not values; their fixed beginnings are matched here. A sentence that is not known passes
//! through as it is, so that nothing is hidden when serde changes its words.

use crate::domain::limits;
use crate::domain::text::printable;

use super::error::ConfigError;
use super::node::{At, Document, QUOTE_CHARS_MAX};
use super::words::choose;

/// The error that serde reports as `message` at `at`.
pub(super) fn explain(document: &Document, at: &At, message: &str) -> ConfigError {
    let error = |place, sentence: String, help: String| {
        let place: super::node::Place = place;
        ConfigError::at(&document.path, place, document.line(place.line), sentence, help)
    };
    if message.starts_with("unknown field") {
        let key = at.last_key().unwrap_or_default();
        let help = choose(key, "keys here are", expected_words(message));
        return error(document.key_place(at), format!("unknown key {at}"), help);
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        let sentence = format!("the key {rest} is missing here");
        let help = format!("add it; docs/configuration.md says what {rest} means");
        return error(document.place(at), sentence, help);
    }
    let found = document.node(at).map_or_else(|| "this".to_owned(), super::node::Node::describe);
    if message.starts_with("unknown variant") {
        let help = choose(found.trim_matches('`'), "possible are", expected_words(message));
        return error(document.place(at), format!("{at} cannot be {found}"), help);
    }
    let expected = message.rsplit_once(", expected ").map(|(_, expected)| expected);
    let (wanted, help) = match expected {
        Some("i64") => ("a whole number", "write the number without quotes, blanks or a unit"),
        Some("f64") => ("a number", "write the number without quotes, blanks or a unit"),
        Some("a boolean") => ("`true` or `false`", "write `true` or `false`, without quotes"),
        Some("a sequence") => ("a list", "write each entry on a line of its own that begins with `- `"),
        Some("a text") => ("a text", "write one text, in quotes where it looks like a number"),
        Some("a group of keys") => ("a group of keys", "write its keys below it, each indented by two blanks"),
        _ if message.starts_with("invalid type") => ("one of a few words", "docs/configuration.md lists the words"),
        _ => {
            let sentence = printable(message, limits::DEVICE_TEXT_CHARS_MAX);
            let help = "docs/configuration.md says what can be written here".to_owned();
            return error(document.place(at), sentence, help);
        }
    };
    error(document.place(at), format!("{at} is {found}, but must be {wanted}"), help.to_owned())
}

/// The words in backquotes behind the last "expected".
fn expected_words(message: &str) -> Vec<&str> {
    let (_, expected) = message.rsplit_once(", expected ").unwrap_or_default();
    expected.split('`').skip(1).step_by(2).filter(|word| word.len() <= QUOTE_CHARS_MAX).collect()
}
