//! The `slots` of a station file, written anew: port chains only, everything else byte for byte as it was.
//!
//! People comment these files, align them and keep them under version control; a file that was parsed and printed
//! again would be another one. So chains are replaced where they stand, and what is missing is put in beside its
//! neighbours, in their style. The text that comes out is read again and must mean exactly what was to be written, or
//! nothing is written at all.

mod lines;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use crate::domain::{PortChain, SlotName};

use super::error::{ConfigError, ConfigErrors};
use super::node::{At, Content, Document, Node, Place};
use super::station::SlotConfig;
use super::yaml;
use lines::Lines;

/// The names of the slots in a station file, as far as they are written; empty where there are none yet.
///
/// # Errors
/// When the file cannot be read as YAML.
pub fn slot_names(path: &Path, bytes: &[u8]) -> Result<Vec<String>, ConfigErrors> {
    let document = yaml::parse(path, bytes)?;
    let Some(Content::List(entries)) = document.node(&At::root().key("slots")).map(|node| &node.content) else {
        return Ok(Vec::new());
    };
    Ok(entries.iter().filter_map(|entry| scalar(entry, "name").map(|(_, text)| text.to_owned())).collect())
}

/// The station file `bytes` with these chains at these slots. Slots that it does not have yet are added behind the
/// others; a chain that is `None` leaves what is written there.
///
/// # Errors
/// When the file is no YAML, or its slots are written in a way in which they cannot be edited: the place, and how to
/// write it instead.
pub fn edit_slots(path: &Path, bytes: &[u8], slots: &[SlotConfig]) -> Result<Vec<u8>, ConfigErrors> {
    let document = yaml::parse(path, bytes)?;
    if slots.is_empty() {
        return Ok(bytes.to_vec());
    }
    let editor = Editor { document: &document, lines: Lines::of(&document.text), changes: Vec::new() };
    let text = editor.edit(slots)?;
    let edited = yaml::parse(path, text.as_bytes()).map(|edited| meaning(&edited));
    if edited.is_ok_and(|edited| edited == wanted(&document, slots)) {
        // The mark was no part of the text that was edited.
        let mark = &bytes[..bytes.len() - document.text.len()];
        return Ok([mark, text.as_bytes()].concat());
    }
    let place = document.key_place(&At::root().key("slots"));
    Err(unwritable(&document, place, "the slots of this file are written in a way that cannot be edited").into())
}

const STYLE_HELP: &str = "write each slot in a line of its own: `- { name: A1, usb2: CHAIN, usb3: CHAIN }`";

fn unwritable(document: &Document, place: Place, sentence: &str) -> ConfigError {
    ConfigError::at(&document.path, place, document.line(place.line), sentence, STYLE_HELP)
}

/// A single value below a key of a slot.
fn scalar<'a>(entry: &'a Node, wanted: &str) -> Option<(&'a Node, &'a str)> {
    let (_, node) = entry.entry(wanted)?;
    match &node.content {
        Content::Scalar { text, .. } => Some((node, text)),
        Content::List(_) | Content::Group(_) => None,
    }
}

/// Everything a file says, by path, without how it is written.
fn meaning(document: &Document) -> BTreeMap<String, String> {
    fn collect(node: &Node, path: &str, found: &mut BTreeMap<String, String>) {
        match &node.content {
            Content::Scalar { text, .. } => {
                found.insert(path.to_owned(), text.clone());
            }
            Content::List(entries) => {
                found.insert(path.to_owned(), "[]".to_owned());
                entries
                    .iter()
                    .enumerate()
                    .for_each(|(index, entry)| collect(entry, &format!("{path}[{index}]"), found));
            }
            Content::Group(entries) => {
                found.insert(path.to_owned(), "{}".to_owned());
                entries.iter().for_each(|(key, entry)| collect(entry, &format!("{path}.{}", key.text), found));
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(&document.root, "", &mut found);
    found
}

/// What the edited file must say.
fn wanted(document: &Document, slots: &[SlotConfig]) -> BTreeMap<String, String> {
    let mut all = meaning(document);
    let mut names: Vec<Option<&str>> = match document.node(&At::root().key("slots")).map(|node| &node.content) {
        Some(Content::List(entries)) => entries.iter().map(|entry| Some(scalar(entry, "name")?.1)).collect(),
        _ => Vec::new(),
    };
    all.insert(".slots".to_owned(), "[]".to_owned());
    for slot in slots {
        let known = names.iter().position(|name| *name == Some(slot.name.as_str()));
        let index = known.unwrap_or(names.len());
        if known.is_none() {
            names.push(Some(slot.name.as_str()));
        }
        all.insert(format!(".slots[{index}]"), "{}".to_owned());
        all.insert(format!(".slots[{index}].name"), slot.name.to_string());
        all.insert(format!(".slots[{index}].usb2"), slot.usb2.to_string());
        if let Some(usb3) = &slot.usb3 {
            all.insert(format!(".slots[{index}].usb3"), usb3.to_string());
        }
    }
    all
}

/// A text in the making: what is to be put in the place of which bytes.
struct Editor<'a> {
    document: &'a Document,
    lines: Lines<'a>,
    changes: Vec<(std::ops::Range<usize>, String)>,
}

impl<'a> Editor<'a> {
    fn edit(mut self, slots: &[SlotConfig]) -> Result<String, ConfigErrors> {
        let at = At::root().key("slots");
        let document = self.document;
        let (known, new): (Vec<&SlotConfig>, Vec<&SlotConfig>) =
            slots.iter().partition(|slot| self.entry_of(&slot.name).is_some());
        for slot in known {
            let Some(entry) = self.entry_of(&slot.name) else { continue };
            self.edit_entry(entry, slot)?;
        }
        if !new.is_empty() {
            match document.node(&at) {
                None => self.begin_block(&new)?,
                Some(Node { content: Content::List(entries), place }) => match entries.last() {
                    Some(last) if !self.lines.is_at(*place, '[') => self.append(last, &new)?,
                    None => return Err(self.without_slots()),
                    _ => return Err(self.wrong(document.key_place(&at), "this list of slots cannot be added to")),
                },
                Some(_) => return Err(self.wrong(document.key_place(&at), "`slots` is no list of slots")),
            }
        }
        Ok(self.apply())
    }

    fn wrong(&self, place: Place, sentence: &str) -> ConfigErrors {
        unwritable(self.document, place, sentence).into()
    }

    /// `slots` with nothing in it.
    fn without_slots(&self) -> ConfigErrors {
        let place = self.document.key_place(&At::root().key("slots"));
        let line = self.document.line(place.line);
        let help = "remove this line: slots are then put at the end of the file";
        ConfigError::at(&self.document.path, place, line, "`slots` is empty", help).into()
    }

    fn entry_of(&self, name: &SlotName) -> Option<&'a Node> {
        let Content::List(entries) = &self.document.node(&At::root().key("slots"))?.content else { return None };
        entries.iter().find(|entry| scalar(entry, "name").is_some_and(|(_, text)| text == name.as_str()))
    }

    /// Puts the chains of a slot into its entry.
    fn edit_entry(&mut self, entry: &Node, slot: &SlotConfig) -> Result<(), ConfigErrors> {
        let Some((key, usb2)) = entry.entry("usb2") else {
            return Err(self.wrong(entry.place, "this slot has no `usb2` to be replaced"));
        };
        self.replace(usb2, &slot.usb2)?;
        let Some(chain) = &slot.usb3 else { return Ok(()) };
        if let Some((_, usb3)) = entry.entry("usb3") {
            return self.replace(usb3, chain);
        }
        if self.lines.is_at(entry.place, '{') {
            let end = self.span(usb2)?.end;
            self.changes.push((end..end, format!(", usb3: {}", quoted(chain))));
        } else {
            let indent = " ".repeat(key.place.column.saturating_sub(1));
            self.insert_after_line(usb2.place.line, &format!("{indent}usb3: {}", quoted(chain)));
        }
        Ok(())
    }

    /// Where a value stands, quotes included.
    fn span(&self, node: &Node) -> Result<std::ops::Range<usize>, ConfigErrors> {
        let Content::Scalar { text, .. } = &node.content else {
            return Err(self.wrong(node.place, "here must be a port chain"));
        };
        // The parser counts blanks behind a quoted value as its own. What was escaped or goes on in the next line does
        // not stand there as it was read.
        let written = [text.clone(), format!("'{text}'"), format!("\"{text}\"")];
        let span = written.iter().find_map(|written| self.lines.span_of(node.place, written));
        span.ok_or_else(|| self.wrong(node.place, "this port chain cannot be replaced"))
    }

    /// Replaces a value, in the quotes that it has.
    fn replace(&mut self, node: &Node, chain: &PortChain) -> Result<(), ConfigErrors> {
        let span = self.span(node)?;
        let old = &self.lines.text()[span.clone()];
        let (text, plain) = match &node.content {
            Content::Scalar { text, plain } => (text.as_str(), *plain),
            Content::List(_) | Content::Group(_) => return Ok(()),
        };
        let new = chain.to_string();
        if text == new {
            return Ok(());
        }
        let new = match old.chars().next() {
            Some(quote @ ('\'' | '"')) if !plain => format!("{quote}{new}{quote}"),
            _ if new.contains(':') && !text.contains(':') => format!("\"{new}\""),
            _ => new,
        };
        self.changes.push((span, new));
        Ok(())
    }

    /// Puts new entries behind the last one, as that one is written.
    fn append(&mut self, last: &Node, new: &[&SlotConfig]) -> Result<(), ConfigErrors> {
        let is_flow = self.lines.is_at(last.place, '{');
        let dash = self.lines.dash_before(last.place);
        let end = match is_flow {
            true => self.lines.end_of_flow(last.place),
            false => last_line(last),
        };
        let (Some(dash), Some(end)) = (dash, end) else {
            return Err(self.wrong(last.place, "nothing can be added behind this slot"));
        };
        let entries: Vec<String> = new.iter().map(|slot| written(slot, dash, is_flow, self.lines.end())).collect();
        self.insert_after_line(self.lines.with_comments(end, dash), &entries.join(self.lines.end()));
        Ok(())
    }

    /// Puts the whole block at the end of a file that has none.
    fn begin_block(&mut self, new: &[&SlotConfig]) -> Result<(), ConfigErrors> {
        let root = self.document.root.place;
        if self.lines.is_at(root, '{') {
            return Err(self.wrong(root, "slots cannot be added to a file in braces"));
        }
        let end = self.lines.end();
        let entries: Vec<String> = new.iter().map(|slot| written(slot, 2, true, end)).collect();
        let text = self.lines.text();
        let gap = if text.ends_with('\n') { "" } else { end };
        self.changes.push((text.len()..text.len(), format!("{gap}{end}slots:{end}{}{end}", entries.join(end))));
        Ok(())
    }

    /// Puts a line behind line `line` (from 1).
    fn insert_after_line(&mut self, line: usize, new: &str) {
        let end = self.lines.end();
        let (at, is_ended) = self.lines.after(line);
        let new = if is_ended { format!("{new}{end}") } else { format!("{end}{new}") };
        self.changes.push((at..at, new));
    }

    fn apply(mut self) -> String {
        self.changes.sort_by_key(|(range, _)| range.start);
        let mut text = self.lines.text().to_owned();
        for (range, new) in self.changes.into_iter().rev() {
            text.replace_range(range, &new);
        }
        text
    }
}

/// The last line of what is below `node`; `None` where that is not known, because a text goes on in the next line.
fn last_line(node: &Node) -> Option<usize> {
    match &node.content {
        Content::Scalar { .. } => (node.place.chars != usize::MAX).then_some(node.place.line),
        Content::List(entries) => {
            entries.iter().try_fold(node.place.line, |last, entry| Some(last.max(last_line(entry)?)))
        }
        Content::Group(entries) => {
            entries.iter().try_fold(node.place.line, |last, (_, entry)| Some(last.max(last_line(entry)?)))
        }
    }
}

/// A slot as an entry of the list, `dash` blanks from the left.
fn written(slot: &SlotConfig, dash: usize, is_flow: bool, end: &str) -> String {
    let indent = " ".repeat(dash);
    let name = plain_or_quoted(&slot.name);
    let mut keys = vec![format!("name: {name}"), format!("usb2: {}", quoted(&slot.usb2))];
    keys.extend(slot.usb3.as_ref().map(|usb3| format!("usb3: {}", quoted(usb3))));
    match is_flow {
        true => format!("{indent}- {{ {} }}", keys.join(", ")),
        false => format!("{indent}- {}", keys.join(&format!("{end}{indent}  "))),
    }
}

/// A chain as a value: in quotes where a colon could be taken for one of YAML's.
fn quoted(chain: &PortChain) -> String {
    let text = chain.to_string();
    if text.contains(':') { format!("\"{text}\"") } else { text }
}

/// A name in quotes where YAML would take it for something else.
fn plain_or_quoted(name: &SlotName) -> String {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let text = name.as_str();
    let is_word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_word;
    if is_plain { text.to_owned() } else { format!("\"{text}\"") }
}
