//! The only module that names the YAML crates.
//!
//! Two passes. The first walks the parser's events and builds the tree that knows positions and quoting; it refuses
//! what a configuration has no use for and an attacker or an accident has: aliases, tags, several documents, doubled
//! keys, great depth or size. The second reads types with `serde_yaml`, whose errors say only a path; the tree tells
//! where that path is.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::domain::limits;
use crate::domain::text::printable;

use super::error::{ConfigError, ConfigErrors};
use super::node::{At, Content, Document, Key, Node, Place, QUOTE_CHARS_MAX, source_line};
use super::serde_words;

const INDENT_HELP: &str = "indentation shows what belongs where: use blanks (no tabs), the same number for keys that \
                           belong together, and a blank after each `:` and `-`; quote texts with special characters";

/// The tree of the file `path` with the content `bytes`.
///
/// # Errors
/// When it is too long, no UTF-8, no YAML, or YAML with more than a configuration needs.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Document, ConfigErrors> {
    if u64::try_from(bytes.len()).map_or(true, |length| length > limits::CONFIG_BYTES_MAX) {
        return Err(too_long(path).into());
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let text = String::from_utf8_lossy(bytes);
            let help = "save the file as UTF-8";
            return Err(at_offset(path, &text, error.valid_up_to(), "this byte is not UTF-8", help).into());
        }
    };
    if let Some((offset, c)) = unusual_character(text) {
        let sentence = format!("the invisible character U+{:04X} has no place in a configuration", u32::from(c));
        let help = "delete it (it may have come with copied text)";
        return Err(at_offset(path, text, offset, &sentence, help).into());
    }
    let mut builder = Builder::default();
    let stopped = builder.read(text);
    let mut problems = builder.problems;
    problems.extend(stopped.err());
    if problems.is_empty() {
        match builder.root {
            Some(root) if matches!(root.content, Content::Group(_)) => {
                return Ok(Document { path: path.to_owned(), text: text.to_owned(), root });
            }
            Some(root) if !is_nothing(&root.content) => problems.push(Problem {
                place: root.place,
                sentence: format!("the file consists of {}, but must be `key: value` lines", root.describe()),
                help: "see docs/configuration.md for the keys".to_owned(),
            }),
            _ => return Err(ConfigError::of_file(path, "the file is empty", EMPTY_HELP).into()),
        }
    }
    let error = |problem: Problem| {
        let line = source_line(text, problem.place.line);
        ConfigError::at(path, problem.place, line, problem.sentence, problem.help)
    };
    Err(ConfigErrors(problems.into_iter().map(error).collect()))
}

const EMPTY_HELP: &str = "start from one of the files in stations/ or profiles/";

/// The error for a file above the limit.
pub(super) fn too_long(path: &Path) -> ConfigError {
    let sentence = format!("the file is longer than {} KiB", limits::CONFIG_BYTES_MAX / 1024);
    ConfigError::of_file(path, sentence, "name a station or profile file")
}

/// The typed content of a document.
///
/// # Errors
/// The first thing that does not fit the type, with its place.
pub(super) fn read<T: DeserializeOwned>(document: &Document) -> Result<T, ConfigErrors> {
    let value: serde_yaml::Value = serde_yaml::from_str(&document.text).map_err(|error| {
        let place = error.location().map_or(Place::START, |location| Place {
            line: location.line(),
            column: location.column(),
            chars: 1,
        });
        let text = error.to_string();
        // The first pass has accepted the syntax; a number beyond 64 bits is what only the second one sees.
        let (sentence, help) = if text.contains("expected any YAML value") {
            ("this number has too many digits".to_owned(), "write a smaller number, or a text of digits in quotes")
        } else {
            (format!("not valid YAML: {}", printable(&text, limits::DEVICE_TEXT_CHARS_MAX)), INDENT_HELP)
        };
        ConfigErrors::from(ConfigError::at(&document.path, place, document.line(place.line), sentence, help))
    })?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let at = error.path().iter().fold(At::root(), |at, segment| match segment {
            Segment::Seq { index } => at.index(*index),
            Segment::Map { key } => at.key(key),
            Segment::Enum { .. } | Segment::Unknown => at,
        });
        serde_words::explain(document, &at, &error.inner().to_string()).into()
    })
}

/// A control or format character, and its offset in bytes. The two parsers disagree on which of them end a line.
fn unusual_character(text: &str) -> Option<(usize, char)> {
    let mut characters = text.char_indices().peekable();
    while let Some((index, c)) = characters.next() {
        let usual = match c {
            '\n' | '\t' => true,
            '\r' => characters.peek().is_some_and(|(_, next)| *next == '\n'),
            c if c.is_ascii() => !c.is_control(),
            c => printable(c.encode_utf8(&mut [0; 4]), 1).starts_with(c),
        };
        if !usual {
            return Some((index, c));
        }
    }
    None
}

/// An error at the character that begins `offset` bytes into `text`.
fn at_offset(path: &Path, text: &str, offset: usize, sentence: &str, help: &str) -> ConfigError {
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    ConfigError::at(path, Place { line, column, chars: 1 }, source_line(text, line), sentence, help)
}

/// Something wrong at a place of the file being read.
struct Problem {
    place: Place,
    sentence: String,
    help: String,
}

/// A list or group that is not closed yet.
enum Open {
    List { place: Place, entries: Vec<Node> },
    Group { place: Place, entries: Vec<(Key, Node)>, key: Option<Key>, lines: BTreeMap<String, usize> },
}

/// Builds the tree from events.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
    /// What does not stop the reading.
    problems: Vec<Problem>,
}

impl Builder {
    fn read(&mut self, text: &str) -> Result<(), Problem> {
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| syntax(text, &error))?;
            self.event(event, place(span))?;
            if self.problems.len() >= limits::CONFIG_ERRORS_MAX {
                break;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                refuse(self.documents > 1, place, "a second document begins here", "put it into a file of its own")
            }
            Event::Alias(_) => refuse(true, place, "aliases (`*name`) are not read here", "write the value itself"),
            Event::Scalar(text, style, anchor, tag) => {
                self.begin(place, anchor, tag.is_some())?;
                let content = Content::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.finished(Node { place, content })
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(place, anchor, tag.is_some())?;
                self.descend(Open::List { place, entries: Vec::new() }, place)
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(place, anchor, tag.is_some())?;
                let lines = BTreeMap::new();
                self.descend(Open::Group { place, entries: Vec::new(), key: None, lines }, place)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { place, entries }) => self.finished(Node { place, content: Content::List(entries) }),
                Some(Open::Group { place, entries, .. }) => {
                    self.finished(Node { place, content: Content::Group(entries) })
                }
                None => Ok(()),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    /// What is asked of every node before it is looked at.
    fn begin(&mut self, place: Place, anchor: usize, tagged: bool) -> Result<(), Problem> {
        self.nodes += 1;
        let sentence = format!("the file has more than {} values", limits::CONFIG_NODES_MAX);
        refuse(self.nodes > limits::CONFIG_NODES_MAX, place, &sentence, "name a station or profile file")?;
        refuse(anchor != 0, place, "anchors (`&name`) are not read here", "write the value at each place")?;
        refuse(tagged, place, "tags (`!name`) are not read here", "remove the tag; the key says what its value is")
    }

    fn descend(&mut self, open: Open, place: Place) -> Result<(), Problem> {
        let as_key = matches!(self.open.last(), Some(Open::Group { key: None, .. }));
        refuse(as_key, place, "a key must be a word", "quote a text that begins with `[` or `{`")?;
        refuse(self.open.len() >= limits::CONFIG_DEPTH_MAX, place, &too_deep(), DEPTH_HELP)?;
        self.open.push(open);
        Ok(())
    }

    /// A whole node was read: it is a key, a value, an entry of a list, or the root.
    fn finished(&mut self, node: Node) -> Result<(), Problem> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { entries, .. }) => {
                if is_nothing(&node.content) {
                    self.problems.push(nothing(node.place, "this entry"));
                }
                entries.push(node);
            }
            Some(Open::Group { entries, key: slot, lines, .. }) => match slot.take() {
                Some(key) => {
                    if is_nothing(&node.content) {
                        let name = format!("`{}`", printable(&key.text, QUOTE_CHARS_MAX));
                        self.problems.push(nothing(key.place, &name));
                    }
                    entries.push((key, node));
                }
                None => {
                    let Content::Scalar { text, .. } = node.content else {
                        return refuse(true, node.place, "a key must be a word", "write `key: value`");
                    };
                    if let Some(first) = lines.get(&text) {
                        self.problems.push(Problem {
                            place: node.place,
                            sentence: format!(
                                "the key `{}` is here twice; first in line {first}",
                                printable(&text, QUOTE_CHARS_MAX)
                            ),
                            help: "keep one of the two".to_owned(),
                        });
                    }
                    lines.entry(text.clone()).or_insert(node.place.line);
                    *slot = Some(Key { text, place: node.place });
                }
            },
        }
        Ok(())
    }
}

fn refuse(wrong: bool, place: Place, sentence: &str, help: &str) -> Result<(), Problem> {
    if wrong { Err(Problem { place, sentence: sentence.to_owned(), help: help.to_owned() }) } else { Ok(()) }
}

const DEPTH_HELP: &str = "no key of a configuration is that deep";

fn too_deep() -> String {
    format!("nested deeper than {} levels", limits::CONFIG_DEPTH_MAX)
}

fn nothing(place: Place, what: &str) -> Problem {
    let help = "write a value behind it, or remove the line".to_owned();
    Problem { place, sentence: format!("{what} has no value"), help }
}

fn is_nothing(content: &Content) -> bool {
    matches!(content, Content::Scalar { text, plain: true }
        if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
}

/// What a syntax error most probably is: editors' tabs come first, and the parser sees them late.
fn syntax(text: &str, error: &ScanError) -> Problem {
    let marker = error.marker();
    let place = Place { line: marker.line().max(1), column: marker.col() + 1, chars: 1 };
    if error.info().contains("recursion limit") {
        return Problem { place, sentence: too_deep(), help: DEPTH_HELP.to_owned() };
    }
    let tab = text.lines().take(place.line + 1).enumerate().find_map(|(index, line)| {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        Some((index, line[..indentation].find('\t')?))
    });
    if let Some((index, column)) = tab {
        return Problem {
            place: Place { line: index + 1, column: column + 1, chars: 1 },
            sentence: "a tab in the indentation".to_owned(),
            help: "indent with blanks; most editors can turn tabs into blanks".to_owned(),
        };
    }
    Problem {
        place,
        sentence: format!("not valid YAML: {}", printable(error.info(), limits::DEVICE_TEXT_CHARS_MAX)),
        help: INDENT_HELP.to_owned(),
    }
}

/// The parser counts columns from 0. What goes on in the next line is marked to the end of the first.
fn place(span: Span) -> Place {
    let chars = if span.start.line() == span.end.line() { span.len() } else { usize::MAX };
    Place { line: span.start.line().max(1), column: span.start.col() + 1, chars: chars.max(1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages(text: &str) -> String {
        match parse(Path::new("f.yaml"), text.as_bytes()) {
            Ok(_) => String::new(),
            Err(errors) => errors.to_string(),
        }
    }

    #[test]
    fn values_keys_and_missing_things_have_places() {
        let text = "\u{feff}name: x\nslots:\n  - {usb2: 'a b', usb3: [1, 2]}\n  - usb2: c\n";
        let document = parse(Path::new("f.yaml"), text.as_bytes()).expect("valid");
        let at = |place: Place| (place.line, place.column, place.chars);
        let slot = At::root().key("slots").index(0);
        assert_eq!(at(document.place(&At::root().key("name"))), (1, 7, 1));
        assert_eq!(at(document.place(&slot.key("usb2"))), (3, 12, 5));
        assert_eq!(at(document.key_place(&slot.key("usb2"))), (3, 6, 4));
        assert_eq!(at(document.place(&slot.key("usb3"))), (3, 19, 4), "a list is pointed at by its key");
        assert_eq!(at(document.place(&slot.key("usb3").index(1))), (3, 29, 1));
        assert_eq!(at(document.place(&At::root().key("slots").index(1))), (4, 5, 4), "a group by its first key");
        assert_eq!(at(document.place(&slot.key("missing").key("deeper"))), (3, 6, 4));
    }

    #[test]
    fn both_line_ends_count_alike() {
        let document = parse(Path::new("f"), b"a: 1\r\nb: 2\r\n").expect("valid");
        assert_eq!(document.place(&At::root().key("b")).line, 2);
        assert_eq!(document.line(2), "b: 2");
    }

    #[test]
    fn bombs_end_at_their_limit() {
        assert!(messages(&"[".repeat(200_000)).contains("nested deeper"));
        assert!(messages(&format!("a: {}", "{b: ".repeat(40))).contains("nested deeper"));
        assert!(messages(&"a:\n".repeat(3)).contains("twice"));
        assert!(messages(&"- ".repeat(200_000)).contains("nested deeper"));
        assert!(messages(&format!("a: [{}]", "1,".repeat(60_000))).contains("more than"));
        let mut aliases = "a0: &a0 [x, x]\n".to_owned();
        for level in 1..30 {
            aliases += &format!("a{level}: &a{level} [*a{0}, *a{0}, *a{0}]\n", level - 1);
        }
        assert!(messages(&aliases).contains("f.yaml:1:5: anchors"));
        let doubled = messages(&"a: 1\n".repeat(40_000));
        assert_eq!(doubled.matches("is here twice").count(), limits::CONFIG_ERRORS_MAX);
        assert!(messages(&"x".repeat(2_000_000)).contains("longer than 1024 KiB"));
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "[a-c\\-:#'\"&*!|>\\[\\]{},~ \t\r\n\u{1}\u{85}\u{2028}é]{0,80}") {
            if let Ok(document) = parse(Path::new("f"), text.as_bytes()) {
                let _ = read::<BTreeMap<String, Vec<String>>>(&document);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(Path::new("f"), &bytes);
        }
    }
}
