//! Reading an XQCN file.

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::encoding::{decode, unhex};
use super::error::{XqcnError, XqcnErrorKind as Kind};
use super::{
    ARRAYS, BACKUP_HEADER, CONFIGURATION, DATA, DIRECTORY, FEATURES, FILE_VERSION, ITEMS, NAME_CHARS_MAX, PROPERTIES,
    PROPERTIES_MAGIC, RECORD_BYTES, Section, VERSION, Xqcn, XqcnFile,
};
use crate::domain::limits::{
    DEVICE_TEXT_CHARS_MAX, EFS_FILE_BYTES_MAX, XQCN_BYTES_MAX, XQCN_DEPTH_MAX, XQCN_STREAMS_MAX, XQCN_UNKNOWN_MAX,
};
use crate::domain::text::{printable, printable_bytes};
use crate::protocol::diag::efs::EfsPath;
use crate::protocol::diag::nv::ItemKey;

/// Most attributes of an element: name, length, value.
const ATTRIBUTES_MAX: usize = 3;

/// Reads a file.
///
/// # Errors
/// [`XqcnError`] with the line, when it is none or contradicts itself.
pub fn read(bytes: &[u8]) -> Result<Xqcn, XqcnError> {
    let at_start = |kind| XqcnError { line: 1, kind };
    if bytes.len() > XQCN_BYTES_MAX {
        return Err(at_start(Kind::TooLarge { bytes: bytes.len() }));
    }
    let text = decode(bytes).ok_or_else(|| at_start(Kind::Encoding))?;
    let mut reader = Reader::from_str(&text);
    reader.config_mut().check_comments = false;
    let mut document = Document::default();
    loop {
        let start = reader.buffer_position();
        let result = match reader.read_event() {
            Ok(Event::Eof) => break,
            Ok(event) => document.take(&event),
            Err(error) => Err(Kind::Syntax(printable(&error.to_string(), DEVICE_TEXT_CHARS_MAX))),
        };
        result.map_err(|kind| XqcnError { line: line(&text, start), kind })?;
    }
    document.finish().map_err(|kind| XqcnError { line: line(&text, u64::MAX), kind })
}

/// The line of a position: the first one behind the white space that is there.
fn line(text: &str, position: u64) -> u32 {
    let position = usize::try_from(position).unwrap_or(usize::MAX).min(text.len());
    let bytes = text.as_bytes();
    let blank = bytes[position..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let lines = bytes[..position + blank].iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1)
}

/// One element's attributes.
#[derive(Default)]
struct Attributes {
    name: Option<String>,
    length: Option<usize>,
    value: Option<Vec<u8>>,
}

/// The two halves of a section, by the numbers of their streams.
#[derive(Default)]
struct Halves {
    paths: BTreeMap<u32, (EfsPath, u32)>,
    contents: BTreeMap<u32, Vec<u8>>,
}

#[derive(Default)]
struct Document {
    content: Xqcn,
    storages: Vec<String>,
    /// Names of everything at each place that was met: nothing may be there twice.
    seen: BTreeSet<String>,
    sections: BTreeMap<Section, Halves>,
    is_in_stream: bool,
    has_root: bool,
    has_version: bool,
    streams: usize,
}

fn syntax(what: &str) -> Kind {
    Kind::Syntax(what.to_owned())
}

impl Document {
    fn take(&mut self, event: &Event<'_>) -> Result<(), Kind> {
        match event {
            Event::Start(element) => self.element(element, false),
            Event::Empty(element) => self.element(element, true),
            // The reader has checked that it is the end of what is open.
            Event::End(_) => {
                if !std::mem::take(&mut self.is_in_stream) {
                    self.storages.pop();
                }
                Ok(())
            }
            Event::Text(text) if text.chars().all(char::is_whitespace) => Ok(()),
            Event::Decl(_) if !self.has_root => Ok(()),
            Event::Comment(_) => Ok(()),
            _ => Err(syntax("there is something that no XQCN file has: text, an entity, a document type")),
        }
    }

    fn element(&mut self, element: &BytesStart<'_>, is_empty: bool) -> Result<(), Kind> {
        if self.is_in_stream {
            return Err(syntax("there is an element inside of a stream"));
        }
        let tag = element.name();
        let attributes = attributes(element)?;
        let name = attributes.name.ok_or_else(|| syntax("an element has no Name"))?;
        if self.storages.is_empty() && std::mem::replace(&mut self.has_root, true) {
            return Err(syntax("there is more than one root"));
        }
        let above = self.storages.iter().skip(1).map(String::as_str);
        let place = above.chain([name.as_str()]).collect::<Vec<&str>>().join("/");
        if !self.storages.is_empty() && !self.seen.insert(place.clone()) {
            return Err(Kind::Twice(printable(&place, NAME_CHARS_MAX)));
        }
        self.streams += 1;
        if self.streams > XQCN_STREAMS_MAX {
            return Err(Kind::TooMany("elements"));
        }
        match tag.as_ref() {
            "Storage" if attributes.length.is_none() && attributes.value.is_none() => {
                if self.storages.len() >= XQCN_DEPTH_MAX {
                    return Err(Kind::TooMany("nested storages"));
                }
                if self.storages.is_empty() {
                    self.content.name.clone_from(&name);
                }
                if !is_empty {
                    self.storages.push(name);
                }
                Ok(())
            }
            "Stream" if !self.storages.is_empty() => {
                self.is_in_stream = !is_empty;
                let shown = printable(&name, NAME_CHARS_MAX);
                let said = attributes.length.ok_or_else(|| syntax("a stream has no Length"))?;
                let bytes = match attributes.value {
                    Some(bytes) => bytes,
                    None if said == 0 => Vec::new(),
                    None => return Err(syntax("a stream has no Value")),
                };
                if bytes.len() != said {
                    return Err(Kind::Length { name: shown, said, found: bytes.len() });
                }
                self.stream(&name, bytes, &place)
            }
            _ => Err(syntax("an element is neither a Storage nor a Stream below one")),
        }
    }

    fn stream(&mut self, name: &str, bytes: Vec<u8>, place: &str) -> Result<(), Kind> {
        let wrong = |problem| Kind::Content { name: printable(name, NAME_CHARS_MAX), problem };
        let storages: Vec<&str> = self.storages.iter().map(String::as_str).collect();
        match storages.as_slice() {
            [_] if name == VERSION => {
                self.has_version = true;
                if bytes == FILE_VERSION { Ok(()) } else { Err(wrong("a version that is not known")) }
            }
            [_, _, CONFIGURATION] if name == PROPERTIES => {
                if let Some((model, tool)) = properties(&bytes) {
                    (self.content.model, self.content.tool) = (model, tool);
                    return Ok(());
                }
                self.note_unknown(place)
            }
            [_, _, CONFIGURATION] if name == FEATURES => match bytes.split_first_chunk() {
                Some((length, features)) if usize::from(u16::from_le_bytes(*length)) == features.len() => {
                    self.content.features = features.to_vec();
                    Ok(())
                }
                _ => self.note_unknown(place),
            },
            [_, _, CONFIGURATION, ITEMS] => match ARRAYS.iter().find(|(array, _)| *array == name) {
                Some((_, subscription)) => self.items(&bytes, *subscription).map_err(wrong),
                None => self.note_unknown(place),
            },
            [_, _, CONFIGURATION, section, half] => {
                let section = Section::ALL.into_iter().find(|known| known.name() == *section);
                let (Some(section), true) = (section, matches!(*half, DIRECTORY | DATA)) else {
                    return self.note_unknown(place);
                };
                let index = Some(name).filter(|name| name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit()));
                let index = index.and_then(|name| u32::from_str_radix(name, 16).ok());
                let index = index.ok_or_else(|| wrong("its name is not a number of eight hexadecimal digits"))?;
                let is_path = *half == DIRECTORY;
                let halves = self.sections.entry(section).or_default();
                // The same number can be written in two ways.
                let twice = if is_path {
                    let path = path(section, &bytes).ok_or_else(|| wrong("it holds no path"))?;
                    halves.paths.insert(index, path).is_some()
                } else if bytes.len() > EFS_FILE_BYTES_MAX as usize {
                    return Err(wrong("it is longer than any file that is kept"));
                } else {
                    halves.contents.insert(index, bytes).is_some()
                };
                if twice { Err(Kind::Twice(printable(place, NAME_CHARS_MAX))) } else { Ok(()) }
            }
            _ => self.note_unknown(place),
        }
    }

    fn note_unknown(&mut self, place: &str) -> Result<(), Kind> {
        if self.content.unknown.len() >= XQCN_UNKNOWN_MAX {
            return Err(Kind::TooMany("streams that are not understood"));
        }
        self.content.unknown.push(printable(place, NAME_CHARS_MAX));
        Ok(())
    }

    fn items(&mut self, bytes: &[u8], subscription: Option<u16>) -> Result<(), &'static str> {
        let (records, rest) = bytes.as_chunks::<{ RECORD_BYTES as usize }>();
        if !rest.is_empty() {
            return Err("its length is not that of whole records");
        }
        for record in records {
            let (head, data) = record.split_at(8);
            if head[..2] != RECORD_BYTES.to_le_bytes() {
                return Err("a record has another length");
            }
            let number = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            let item = u16::try_from(number).map_err(|_| "a record is of an item that cannot be")?;
            let data = data.try_into().map_err(|_| "a record has another length")?;
            if self.content.items.insert(ItemKey { item, subscription }, data).is_some() {
                return Err("an item is there twice");
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Xqcn, Kind> {
        if !self.storages.is_empty() || self.is_in_stream {
            return Err(syntax("it ends in the middle"));
        }
        if !self.has_root {
            return Err(Kind::Missing("root storage"));
        }
        if !self.has_version {
            return Err(Kind::Missing(VERSION));
        }
        for (section, Halves { paths, mut contents }) in std::mem::take(&mut self.sections) {
            let unmatched = |index| Kind::Unmatched { section: section.name(), index };
            let mut files = Vec::with_capacity(paths.len());
            let mut seen = BTreeSet::new();
            for (index, (path, stamp)) in paths {
                let data = contents.remove(&index).ok_or_else(|| unmatched(index))?;
                if !seen.insert(path.clone()) {
                    return Err(Kind::Twice(path.to_string()));
                }
                files.push(XqcnFile { path, stamp, data });
            }
            if let Some(index) = contents.into_keys().next() {
                return Err(unmatched(index));
            }
            self.content.files.insert(section, files);
        }
        Ok(self.content)
    }
}

fn attributes(element: &BytesStart<'_>) -> Result<Attributes, Kind> {
    let mut found = Attributes::default();
    for (count, attribute) in element.attributes().enumerate() {
        if count >= ATTRIBUTES_MAX {
            return Err(Kind::TooMany("attributes"));
        }
        let bad = |error: &dyn std::fmt::Display| Kind::Syntax(printable(&error.to_string(), DEVICE_TEXT_CHARS_MAX));
        let attribute = attribute.map_err(|error| bad(&error))?;
        match attribute.key.as_ref() {
            "Name" => {
                let name = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| bad(&error))?;
                if name.chars().count() > NAME_CHARS_MAX {
                    return Err(Kind::TooMany("characters of a name"));
                }
                found.name = Some(name.into_owned());
            }
            "Length" => {
                let length = attribute.value.as_ref();
                let length = Some(length).filter(|text| text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit()));
                let length = length.and_then(|text| text.parse().ok());
                found.length = Some(length.ok_or_else(|| syntax("a Length is no number"))?);
            }
            // The raw text: a reference in it is no hexadecimal digit.
            "Value" => {
                let name = found.name.clone().unwrap_or_default();
                let value = unhex(attribute.value.as_ref());
                found.value = Some(value.ok_or_else(|| Kind::Hex(printable(&name, NAME_CHARS_MAX)))?);
            }
            _ => return Err(syntax("an element has an attribute that is not known")),
        }
    }
    Ok(found)
}

/// Firmware and tool.
fn properties(bytes: &[u8]) -> Option<(String, String)> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (_, mut rest) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*magic) != PROPERTIES_MAGIC {
        return None;
    }
    let mut text = || {
        let (length, after) = rest.split_first_chunk()?;
        let (text, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        rest = after;
        Some(printable_bytes(text, DEVICE_TEXT_CHARS_MAX))
    };
    let texts = (text()?, text()?);
    rest.is_empty().then_some(texts)
}

/// A path and what stands beside it. Tools end paths of one section with a NUL; one more or less is read everywhere.
fn path(section: Section, bytes: &[u8]) -> Option<(EfsPath, u32)> {
    let (stamp, path) = match section {
        Section::Backup => {
            let (stamp, path) = bytes.strip_prefix(&BACKUP_HEADER)?.split_first_chunk()?;
            (u32::from_le_bytes(*stamp), path)
        }
        _ => (0, bytes),
    };
    let path = path.strip_suffix(&[0]).unwrap_or(path);
    let path = std::str::from_utf8(path).ok().and_then(|path| EfsPath::new(path).ok())?;
    Some((path, stamp)).filter(|(path, _)| *path != EfsPath::root())
}
