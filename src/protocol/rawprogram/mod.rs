//! Raw-program and patch documents: what a package wants done to a module, in the order in which it says so.
//!
//! The order is not one that may be executed; [`super::plan`] makes a safe one. This reader only turns text into
//! operations, and refuses whatever it does not know completely: an element that is skipped here would be a part of
//! the module that is silently not flashed, or flashed where nobody looked. Optional are those attributes that real
//! packages leave out (`label`, `last_sector`, `physical_partition_number`).
//!
//! Documents come from outside: no document type, no entities, bounded size, count and depth.

mod element;
mod error;
#[cfg(test)]
mod tests;

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use self::element::{Element, RAWDATA_PAGES, RAWDATA_START, parse_number, syntax};
pub use self::error::{RawProgramError, RawProgramErrorKind};
use crate::domain::limits::{DEVICE_TEXT_CHARS_MAX, PACKAGE_OPERATIONS_MAX, PACKAGE_TEXT_BYTES_MAX};
use crate::domain::text::printable;
use crate::domain::{Geometry, PageRange};

use RawProgramErrorKind as Kind;

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RawKind {
    /// Erases blocks.
    Erase,
    /// Writes a file.
    Program,
    /// Changes a few bytes, of a file on the host or (file name `DISK`) of the storage.
    Patch,
}

/// One operation of a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawOperation {
    /// What it does.
    pub kind: RawKind,
    /// Where, as written. `pages` is 0 for an erase without a length, which programmers take as the whole storage,
    /// and for a patch whose place is an expression. For a program it is the partition's size, not the file's.
    pub range: PageRange,
    /// Page and block size that the document assumes. Patches name no block size: it is 0 in them.
    pub geometry: Geometry,
    /// The file's name as written, with back-slashes; `None` for an erase.
    pub file: Option<String>,
    /// From which page of the file on (`file_sector_offset`).
    pub file_page_offset: u64,
    /// Attributes that are passed on to the programmer unchanged, in the document's order.
    pub attributes: Vec<(String, String)>,
    /// The line of the document, from 1.
    pub line: u32,
}

impl RawOperation {
    /// The range that a vendor's tag on an erase names besides (`a_rawdata_start_sector`, `b_rawdata_num_sector`).
    /// What a programmer does with it is not public, so it counts as touched.
    #[must_use]
    pub fn vendor_range(&self) -> Option<PageRange> {
        let number = |name: &'static str| {
            let (_, value) = self.attributes.iter().find(|(key, _)| key == name)?;
            parse_number(name, value).ok()
        };
        Some(PageRange { start: number(RAWDATA_START)?, pages: number(RAWDATA_PAGES)? }).filter(|r| r.pages > 0)
    }

    /// Whether a vendor's tag gives the operation a meaning beyond its range.
    #[must_use]
    pub fn has_vendor_tag(&self) -> bool {
        self.attributes.iter().any(|(key, _)| key == "vendor")
    }

    /// Whether the programmer is to execute the patch; others are for the host's copy of a file and change nothing.
    #[must_use]
    pub fn is_disk_patch(&self) -> bool {
        self.kind == RawKind::Patch && self.file.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("DISK"))
    }
}

/// Reads a raw-program or patch document.
///
/// # Errors
/// When it is not one, is for another kind of storage, or holds anything that is not known.
pub fn parse(text: &str) -> Result<Vec<RawOperation>, RawProgramError> {
    let bytes = text.len();
    if bytes as u64 > PACKAGE_TEXT_BYTES_MAX {
        return Err(RawProgramError { line: 1, kind: Kind::TooLarge { bytes, bytes_max: PACKAGE_TEXT_BYTES_MAX } });
    }
    let mut document = Document::default();
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = false;
    let mut lines = Lines { text: text.as_bytes(), offset: 0, line: 1 };
    loop {
        let line = lines.at(reader.buffer_position());
        let event = match reader.read_event() {
            Ok(Event::Eof) => break,
            Ok(event) => event,
            Err(error) => {
                let line = lines.at(reader.error_position());
                return Err(RawProgramError { line, kind: syntax(&error) });
            }
        };
        // An event of text begins with the white space after the element before it.
        let blank_lines = match &event {
            Event::Text(text) => text.chars().take_while(|c| c.is_whitespace()).filter(|c| *c == '\n').count(),
            _ => 0,
        };
        let line = line.saturating_add(u32::try_from(blank_lines).unwrap_or(u32::MAX));
        document.take(&event, line).map_err(|kind| RawProgramError { line, kind })?;
    }
    let line = lines.at(bytes as u64);
    match document {
        Document { inside: Some(name), .. } => Err(Kind::Syntax(format!("<{name}> is not closed"))),
        Document { root: Root::Open, .. } => Err(Kind::Syntax("the root element is not closed".to_owned())),
        Document { root: Root::Missing, .. } => Err(Kind::Empty),
        Document { operations, .. } => Ok(operations),
    }
    .map_err(|kind| RawProgramError { line, kind })
}

/// Counts lines while positions go forward.
struct Lines<'a> {
    text: &'a [u8],
    offset: usize,
    line: u32,
}

impl Lines<'_> {
    fn at(&mut self, offset: u64) -> u32 {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.text.len()).max(self.offset);
        for byte in &self.text[self.offset..offset] {
            self.line = self.line.saturating_add(u32::from(*byte == b'\n'));
        }
        self.offset = offset;
        self.line
    }
}

#[derive(Default, PartialEq)]
enum Root {
    #[default]
    Missing,
    Open,
    Closed,
}

/// What has been read of a document. Its depth is two: the root, and operations without content.
#[derive(Default)]
struct Document {
    root: Root,
    inside: Option<&'static str>,
    operations: Vec<RawOperation>,
}

impl Document {
    fn take(&mut self, event: &Event<'_>, line: u32) -> Result<(), Kind> {
        match event {
            Event::Start(start) => self.open(start, line, false),
            Event::Empty(start) => self.open(start, line, true),
            Event::End(_) if self.inside.take().is_some() => Ok(()),
            Event::End(_) => {
                self.root = Root::Closed;
                Ok(())
            }
            Event::Text(text) if text.trim_matches([' ', '\t', '\r', '\n', '\u{feff}']).is_empty() => Ok(()),
            Event::Text(_) | Event::CData(_) => match self.inside {
                Some(name) => Err(Kind::Content(name)),
                None => Err(Kind::Forbidden("text between the elements")),
            },
            Event::Decl(declaration) => match declaration.encoding() {
                Some(Ok(name)) if !["utf-8", "us-ascii"].iter().any(|known| name.eq_ignore_ascii_case(known)) => {
                    Err(Kind::Encoding(printable(&name, DEVICE_TEXT_CHARS_MAX)))
                }
                Some(Err(error)) => Err(syntax(&error)),
                _ => Ok(()),
            },
            Event::DocType(_) => Err(Kind::Forbidden("a document type")),
            Event::GeneralRef(_) => Err(Kind::Forbidden("an entity")),
            Event::PI(_) => Err(Kind::Forbidden("a processing instruction")),
            Event::Comment(_) | Event::Eof => Ok(()),
        }
    }

    fn open(&mut self, start: &BytesStart<'_>, line: u32, is_empty: bool) -> Result<(), Kind> {
        let name = start.name().into_inner();
        if let Some(parent) = self.inside {
            return Err(Kind::Content(parent));
        }
        if self.root != Root::Open {
            if self.root == Root::Closed || !["data", "patches"].contains(&name) {
                return Err(Kind::Root(printable(name, DEVICE_TEXT_CHARS_MAX)));
            }
            self.root = if is_empty { Root::Closed } else { Root::Open };
            return Ok(());
        }
        let (name, operation) = match name {
            "erase" => ("erase", Some(erase(Element::read("erase", start)?, line)?)),
            "program" => ("program", program(Element::read("program", start)?, line)?),
            "patch" => ("patch", Some(patch(Element::read("patch", start)?, line)?)),
            other => return Err(Kind::UnknownElement(printable(other, DEVICE_TEXT_CHARS_MAX))),
        };
        if self.operations.len() == PACKAGE_OPERATIONS_MAX {
            return Err(Kind::TooManyOperations(PACKAGE_OPERATIONS_MAX));
        }
        self.operations.extend(operation);
        if !is_empty {
            self.inside = Some(name);
        }
        Ok(())
    }
}

fn erase(element: Element, line: u32) -> Result<RawOperation, Kind> {
    let geometry = geometry(&element)?;
    let pages = element.number("num_partition_sectors")?.unwrap_or(0);
    let start = element.number("start_sector")?;
    let range = match (start, pages) {
        (_, 0) => PageRange { start: 0, pages: 0 },
        (Some(start), pages) => PageRange { start, pages },
        (None, _) => return Err(Kind::Missing { element: "erase", attribute: "start_sector" }),
    };
    check_range(&element, range)?;
    match (element.get("vendor"), element.number(RAWDATA_START)?, element.number(RAWDATA_PAGES)?) {
        (_, None, None) => {}
        (Some(_), Some(start), Some(pages)) if start.checked_add(pages).is_some() => {}
        (Some(_), Some(start), Some(pages)) => return Err(Kind::Overflow { start, pages }),
        (Some(_), None, _) => return Err(Kind::Missing { element: "erase", attribute: RAWDATA_START }),
        (Some(_), _, None) => return Err(Kind::Missing { element: "erase", attribute: RAWDATA_PAGES }),
        (None, ..) => return Err(Kind::Missing { element: "erase", attribute: "vendor" }),
    }
    let attributes = element.passed_on()?;
    Ok(RawOperation { kind: RawKind::Erase, range, geometry, file: None, file_page_offset: 0, attributes, line })
}

/// `None` for a program without a file, which is skipped.
fn program(element: Element, line: u32) -> Result<Option<RawOperation>, Kind> {
    let geometry = geometry(&element)?;
    let file = element.require("filename")?.to_owned();
    if file.is_empty() {
        return Ok(None);
    }
    let (start, pages) = (element.number("start_sector")?, element.number("num_partition_sectors")?);
    let start = start.ok_or(Kind::Missing { element: "program", attribute: "start_sector" })?;
    let pages = pages.ok_or(Kind::Missing { element: "program", attribute: "num_partition_sectors" })?;
    if pages == 0 {
        return Err(Kind::Number { attribute: "num_partition_sectors", value: "0".to_owned() });
    }
    let range = PageRange { start, pages };
    check_range(&element, range)?;
    if let Some(value) = element.get("sparse").filter(|value| !value.eq_ignore_ascii_case("false")) {
        let value = printable(value, DEVICE_TEXT_CHARS_MAX);
        return Err(Kind::AttributeUnsupported { attribute: "sparse", value });
    }
    if element.get(RAWDATA_START).or(element.get(RAWDATA_PAGES)).is_some() {
        return Err(Kind::AttributeUnknown(RAWDATA_START.to_owned()));
    }
    let file_page_offset = element.number("file_sector_offset")?.unwrap_or(0);
    let attributes = element.passed_on()?;
    let kind = RawKind::Program;
    Ok(Some(RawOperation { kind, range, geometry, file: Some(file), file_page_offset, attributes, line }))
}

fn patch(element: Element, line: u32) -> Result<RawOperation, Kind> {
    let page_bytes = element.page_bytes()?;
    let page_bytes = page_bytes.ok_or(Kind::Missing { element: "patch", attribute: "SECTOR_SIZE_IN_BYTES" })?;
    refuse_other_storage(&element, page_bytes)?;
    let file = Some(element.require("filename")?.to_owned());
    // The place of a patch may be an expression (`NUM_DISK_SECTORS-33.`) which the device works out.
    let start = parse_number("start_sector", element.require("start_sector")?).ok();
    let range = start.map_or(PageRange { start: 0, pages: 0 }, |start| PageRange { start, pages: 1 });
    let geometry = Geometry { page_bytes, pages_per_block: 0 };
    let attributes = element.passed_on()?;
    Ok(RawOperation { kind: RawKind::Patch, range, geometry, file, file_page_offset: 0, attributes, line })
}

/// Page and block size; a document without a block size is for another kind of storage.
fn geometry(element: &Element) -> Result<Geometry, Kind> {
    let missing = |attribute| Kind::Missing { element: element.name, attribute };
    let page_bytes = element.page_bytes()?.ok_or(missing("SECTOR_SIZE_IN_BYTES"))?;
    refuse_other_storage(element, page_bytes)?;
    match element.pages_per_block()? {
        Some(pages_per_block) => Ok(Geometry { page_bytes, pages_per_block }),
        None if page_bytes == 4096 => Err(Kind::NotNand("sectors of 4096 bytes without PAGES_PER_BLOCK".to_owned())),
        None => Err(missing("PAGES_PER_BLOCK")),
    }
}

fn refuse_other_storage(element: &Element, page_bytes: u32) -> Result<(), Kind> {
    if page_bytes == 512 && element.get("PAGES_PER_BLOCK").is_none() {
        return Err(Kind::NotNand("sectors of 512 bytes".to_owned()));
    }
    // Real packages leave the number out of erases; a NAND has the one partition 0.
    match element.number("physical_partition_number")? {
        None | Some(0) => Ok(()),
        Some(other) => Err(Kind::NotNand(format!("physical partition {other}"))),
    }
}

/// The range must end, and `last_sector`, which is passed on, must say the same as the two other numbers.
fn check_range(element: &Element, range: PageRange) -> Result<(), Kind> {
    let PageRange { start, pages } = range;
    let end = start.checked_add(pages).ok_or(Kind::Overflow { start, pages })?;
    match element.get("last_sector") {
        Some(found) if pages == 0 || element.number("last_sector")? != Some(end - 1) => {
            Err(Kind::LastSector { found: printable(found, DEVICE_TEXT_CHARS_MAX) })
        }
        _ => Ok(()),
    }
}
