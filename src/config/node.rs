//! A configuration file as a tree that remembers where everything stands.
//!
//! The typed structs know nothing of positions, so that they stay plain. Whoever finds something wrong names it by its
//! path ([`At`]), and the tree tells line, column and length for it.

use std::fmt;
use std::path::PathBuf;

use crate::domain::text::printable;

/// Longest key or value that a sentence repeats, in characters.
pub(super) const QUOTE_CHARS_MAX: usize = 48;

/// A position in a file, in characters, counted from 1 as editors do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The line.
    pub(super) line: usize,
    /// The column.
    pub(super) column: usize,
    /// How many characters are meant; at least 1.
    pub(super) chars: usize,
}

impl Place {
    /// The beginning of the file.
    pub(super) const START: Self = Self { line: 1, column: 1, chars: 1 };
}

/// A key as written.
#[derive(Debug)]
pub(super) struct Key {
    /// Its text.
    pub(super) text: String,
    /// Where it stands.
    pub(super) place: Place,
}

/// What a node consists of.
#[derive(Debug)]
pub(super) enum Content {
    /// A single value.
    Scalar {
        /// Its text, without quotes.
        text: String,
        /// Whether it stands there without quotes, so that YAML may take it for a number.
        plain: bool,
    },
    /// `- …` entries, or `[…]`.
    List(Vec<Node>),
    /// `key: value` entries, or `{…}`.
    Group(Vec<(Key, Node)>),
}

/// A value, a list or a group, and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it begins; a single value's whole length.
    pub(super) place: Place,
    /// What it consists of.
    pub(super) content: Content,
}

impl Node {
    /// What a person would call it.
    pub(super) fn describe(&self) -> String {
        match &self.content {
            Content::Scalar { text, plain: true } => format!("`{}`", printable(text, QUOTE_CHARS_MAX)),
            Content::Scalar { text, plain: false } => format!("the text \"{}\"", printable(text, QUOTE_CHARS_MAX)),
            Content::List(_) => "a list".to_owned(),
            Content::Group(_) => "a group of keys".to_owned(),
        }
    }

    /// What a group has below a key.
    pub(super) fn entry(&self, name: &str) -> Option<(&Key, &Self)> {
        let Content::Group(entries) = &self.content else { return None };
        entries.iter().find(|(key, _)| key.text == name).map(|(key, node)| (key, node))
    }

    /// Where the node is best pointed at when it has no key of its own.
    fn own_place(&self) -> Place {
        match &self.content {
            Content::Group(entries) => entries.first().map_or(self.place, |(key, _)| key.place),
            Content::List(entries) => entries.first().map_or(self.place, Self::own_place),
            Content::Scalar { .. } => self.place,
        }
    }
}

/// One step of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// The path of something in a file, such as `slots[3].usb2`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct At(Vec<Step>);

impl At {
    /// The file's top level.
    pub(super) fn root() -> Self {
        Self::default()
    }

    /// What is below the key `name`.
    #[must_use]
    pub(super) fn key(&self, name: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(name.to_owned()));
        Self(steps)
    }

    /// The list's entry `index`, from 0.
    #[must_use]
    pub(super) fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The last key of the path, as written.
    pub(super) fn last_key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
    }
}

impl fmt::Display for At {
    /// As a sentence begins: "`usb2`", or "entry 2 of `models`".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = printable(self.last_key().unwrap_or("file"), QUOTE_CHARS_MAX);
        match self.0.last() {
            Some(Step::Index(index)) => write!(f, "entry {} of `{key}`", index + 1),
            _ => write!(f, "`{key}`"),
        }
    }
}

/// A file that was read, and the tree of what is in it.
#[derive(Debug)]
pub(super) struct Document {
    /// The path as given on the command line.
    pub(super) path: PathBuf,
    /// Its text, without a byte order mark.
    pub(super) text: String,
    /// The tree; a group.
    pub(super) root: Node,
}

impl Document {
    /// The node at `at`, where it exists.
    pub(super) fn node(&self, at: &At) -> Option<&Node> {
        at.0.iter().try_fold(&self.root, |node, step| Some(child(node, step)?.1))
    }

    /// Where to point for `at`: a single value itself; the key of a list or a group; for what is missing, the group it
    /// is missing from.
    pub(super) fn place(&self, at: &At) -> Place {
        let mut node = &self.root;
        let mut key = None;
        for step in &at.0 {
            let Some((found, below)) = child(node, step) else { break };
            (key, node) = (found, below);
        }
        match (&node.content, key) {
            (Content::Scalar { .. }, _) | (_, None) => node.own_place(),
            (_, Some(key)) => key.place,
        }
    }

    /// Where the key of `at` stands.
    pub(super) fn key_place(&self, at: &At) -> Place {
        let found = at.0.split_last().and_then(|(last, above)| {
            let above = above.iter().try_fold(&self.root, |node, step| Some(child(node, step)?.1))?;
            child(above, last)?.0
        });
        found.map_or_else(|| self.place(at), |key| key.place)
    }

    /// Line `line` of the file (from 1), without its end.
    pub(super) fn line(&self, line: usize) -> &str {
        source_line(&self.text, line)
    }
}

/// Line `line` of `text` (from 1), without its end; empty where there is none.
pub(super) fn source_line(text: &str, line: usize) -> &str {
    text.lines().nth(line.saturating_sub(1)).unwrap_or_default()
}

fn child<'a>(node: &'a Node, step: &Step) -> Option<(Option<&'a Key>, &'a Node)> {
    match (&node.content, step) {
        (Content::Group(_), Step::Key(name)) => node.entry(name).map(|(key, node)| (Some(key), node)),
        (Content::List(entries), Step::Index(index)) => entries.get(*index).map(|node| (None, node)),
        _ => None,
    }
}
