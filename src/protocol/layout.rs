//! `partition_nand.xml`: the list of partitions from which a package's table was made, for the vendor's other tools.
//!
//! No flasher needs it. Where the image of the table is missing, it still gives every page of a document its
//! partition's name, so that a package can be judged by its documents alone. Partitions follow each other without
//! gaps; each takes its size and, as spare for bad blocks, its padding; the last one takes the rest.

use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::table::{Partition, PartitionTable, TableError};
use crate::domain::Geometry;
use crate::domain::limits::{DEVICE_TEXT_CHARS_MAX, PACKAGE_TEXT_BYTES_MAX, PARTITIONS_MAX};
use crate::domain::text::printable;

/// The elements from the root down to one partition.
const PARTITION: [&str; 3] = ["nandboot", "partitions", "partition"];
/// Elements inside each other; real lists have four.
const DEPTH_MAX: usize = 8;
/// What stands for "the rest".
const REST: u64 = 0xffff_ffff;

/// Why a list of partitions cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Larger than any real one, or nested deeper.
    #[error("the list is larger, or nested deeper, than any real one")]
    TooLarge,
    /// Not well-formed, or with a document type or entities.
    #[error("this is not well-formed XML without entities: {0}")]
    Syntax(String),
    /// No `<nandboot>` with `<partitions>` in it.
    #[error("this is not a list of partitions: <nandboot><partitions> is missing")]
    NotALayout,
    /// A size that is no number.
    #[error("the partition {name} has the size \"{value}\"")]
    Size {
        /// The partition, printable.
        name: String,
        /// What stands there, printable.
        value: String,
    },
    /// The partitions contradict each other.
    #[error("{0}")]
    Table(TableError),
}

/// Reads the list, for storage of that geometry.
///
/// # Errors
/// When it is not one, or contradicts itself.
pub fn parse(text: &str, geometry: Geometry) -> Result<PartitionTable, LayoutError> {
    if text.len() as u64 > PACKAGE_TEXT_BYTES_MAX || geometry.block_bytes() == 0 {
        return Err(LayoutError::TooLarge);
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = false;
    let syntax =
        |error: &dyn std::fmt::Display| LayoutError::Syntax(printable(&error.to_string(), DEVICE_TEXT_CHARS_MAX));
    let mut path: Vec<String> = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    let mut text = String::new();
    loop {
        match reader.read_event().map_err(|error| syntax(&error))? {
            Event::Eof => break,
            Event::Start(start) => {
                if path.len() == DEPTH_MAX {
                    return Err(LayoutError::TooLarge);
                }
                path.push(printable(start.name().into_inner(), DEVICE_TEXT_CHARS_MAX));
                text.clear();
                if path == PARTITION {
                    if entries.len() == PARTITIONS_MAX {
                        return Err(LayoutError::TooLarge);
                    }
                    entries.push(Entry::default());
                }
            }
            Event::Text(piece) => {
                if text.len() + piece.len() <= DEVICE_TEXT_CHARS_MAX {
                    text.push_str(&piece);
                }
            }
            Event::End(_) => {
                if let (Some((element, above)), Some(entry)) = (path.split_last(), entries.last_mut())
                    && above == PARTITION
                {
                    entry.take(element, text.trim());
                }
                path.pop();
                text.clear();
            }
            Event::DocType(_) | Event::GeneralRef(_) => return Err(syntax(&"an entity or a document type")),
            Event::Empty(_) | Event::CData(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    if !path.is_empty() {
        return Err(syntax(&"an element is not closed"));
    }
    if entries.is_empty() {
        return Err(LayoutError::NotALayout);
    }
    table(&entries, geometry)
}

/// What a list says of one partition.
#[derive(Default)]
struct Entry {
    name: String,
    size_blocks: Option<String>,
    pad_blocks: Option<String>,
    size_kib: Option<String>,
    pad_kib: Option<String>,
}

impl Entry {
    fn take(&mut self, element: &str, text: &str) {
        let into = match element {
            "name" => {
                text.clone_into(&mut self.name);
                return;
            }
            "size_blks" => &mut self.size_blocks,
            "pad_blks" => &mut self.pad_blocks,
            "size_kb" => &mut self.size_kib,
            "pad_kb" => &mut self.pad_kib,
            _ => return,
        };
        *into = Some(text.to_owned());
    }

    fn number(&self, value: Option<&String>) -> Result<Option<u64>, LayoutError> {
        let Some(value) = value else { return Ok(None) };
        let number = match value.strip_prefix("0x").or(value.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        };
        number.filter(|number| *number <= REST).map(Some).ok_or_else(|| LayoutError::Size {
            name: printable(&self.name, DEVICE_TEXT_CHARS_MAX),
            value: printable(value, DEVICE_TEXT_CHARS_MAX),
        })
    }

    /// Its blocks with the padding; `None` where it takes the rest.
    fn blocks(&self, geometry: Geometry) -> Result<Option<u64>, LayoutError> {
        let in_blocks = |kib: u64| (kib * 1024).div_ceil(geometry.block_bytes());
        let size = match (self.number(self.size_blocks.as_ref())?, self.number(self.size_kib.as_ref())?) {
            (Some(REST), _) | (None, Some(REST) | None) => return Ok(None),
            (Some(blocks), _) => blocks,
            (None, Some(kib)) => in_blocks(kib),
        };
        let pad = match (self.number(self.pad_blocks.as_ref())?, self.number(self.pad_kib.as_ref())?) {
            (Some(blocks), _) => blocks,
            (None, kib) => in_blocks(kib.unwrap_or(0)),
        };
        Ok(Some(size + pad))
    }
}

fn table(entries: &[Entry], geometry: Geometry) -> Result<PartitionTable, LayoutError> {
    let mut partitions = Vec::with_capacity(entries.len());
    let mut start_block = 0_u64;
    for entry in entries {
        let blocks = entry.blocks(geometry)?;
        let name = entry.name.strip_prefix("0:").unwrap_or(&entry.name).to_owned();
        partitions.push(Partition {
            name,
            start_block,
            blocks: blocks.unwrap_or(0),
            grows: blocks.is_none_or(|blocks| blocks == 0),
        });
        start_block += blocks.unwrap_or(0);
    }
    PartitionTable::from_partitions(partitions).map_err(LayoutError::Table)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::PageRange;

    const GEOMETRY: Geometry = Geometry { page_bytes: 2048, pages_per_block: 64 };

    fn layout(partitions: &str) -> String {
        format!("\u{feff}<?xml version=\"1.0\"?>\n<nandboot>\n<partitions>\n{partitions}</partitions></nandboot>\n")
    }

    fn partition(name: &str, sizes: &str) -> String {
        format!("<partition><name length=\"16\">0:{name}</name>{sizes}<attr>0xFF</attr></partition>\n")
    }

    #[test]
    fn sizes_in_blocks_and_in_kilobytes_follow_each_other() {
        let text = layout(
            &[
                partition("SBL", "<size_blks length=\"4\">0x8</size_blks><pad_blks>0x2</pad_blks>"),
                partition("EFS2", "<size_kb>16384</size_kb><pad_kb>1024</pad_kb>"),
                partition("odd", "<size_kb>129</size_kb>"),
                partition("system", "<flags>0xFFFFFFFF</flags>"),
            ]
            .concat(),
        );
        let table = parse(&text, GEOMETRY).expect("a list");
        let range = |name: &str| table.range(table.find(name).expect("a partition"), GEOMETRY, 131_072);
        assert_eq!(range("sbl"), PageRange { start: 0, pages: 640 });
        assert_eq!(range("efs2"), PageRange { start: 640, pages: 8704 });
        assert_eq!(range("odd"), PageRange { start: 9344, pages: 128 });
        assert_eq!(range("system"), PageRange { start: 9472, pages: 131_072 - 9472 });
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let endless = partition("a", "");
        let cases = [
            (String::new(), "is missing"),
            ("<data/>".to_owned(), "is missing"),
            (layout(""), "is missing"),
            (layout(&partition("a", "<size_kb>many</size_kb>")), "has the size \"many\""),
            (layout(&partition("a", "<size_blks>0x1ffffffff</size_blks>")), "has the size"),
            (layout(&[endless.as_str(), &partition("b", "<size_kb>1</size_kb>")].concat()), "has no length"),
            (layout(&partition("", "<size_kb>1</size_kb>")), "no usable name"),
            (layout(&partition("a", "<size_kb>1</size_kb>").repeat(2)), "two partitions a"),
            (layout(&partition("a", "<size_kb>1</size_kb>").repeat(65)), "larger"),
            ("<nandboot>".repeat(9), "nested deeper"),
            ("<nandboot>".to_owned(), "not closed"),
            ("<!DOCTYPE x><nandboot/>".to_owned(), "a document type"),
            (layout(&partition("&x;", "<size_kb>1</size_kb>")), "an entity"),
        ];
        for (text, expected) in cases {
            let error = parse(&text, GEOMETRY).expect_err(&text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(<nandboot>|</?partitions>|</?partition>|<size_kb>|</size_kb>|<name>a</name>|[0-9x&<>]){0,40}") {
            let _ = parse(&text, GEOMETRY);
        }
    }
}
