//! The commands a programmer is sent, each a whole document.
//!
//! Programmers are picky readers: elements close themselves, a document stays below 4 KiB, and its length is never a
//! multiple of a USB packet, because a transfer that ends so needs a zero-length packet that not every host controller
//! sends. A missing or empty range means the whole storage to a programmer, so it cannot be encoded at all.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::FirehoseError;
use crate::domain::text::printable;
use crate::domain::{Geometry, PageRange, limits};

/// A document's length must not be a multiple of this (`wMaxPacketSize` of bulk endpoints at high speed; the one at
/// SuperSpeed is a multiple of it).
const PACKET_BYTES: usize = 512;
/// Attributes that are computed from range and geometry, whatever the package says.
const OWN: [&str; 4] = ["PAGES_PER_BLOCK", "SECTOR_SIZE_IN_BYTES", "num_partition_sectors", "start_sector"];
const PHYSICAL_PARTITION: &str = "physical_partition_number";

/// Opens the storage and proposes a payload size.
#[must_use]
pub fn configure(memory: &str, payload_bytes: u32) -> Vec<u8> {
    document(&format!(
        "configure MemoryName=\"{}\" Verbose=\"0\" AlwaysValidate=\"0\" MaxDigestTableSizeInBytes=\"2048\" \
         MaxPayloadSizeToTargetInBytes=\"{payload_bytes}\" ZlpAwareHost=\"1\" SkipStorageInit=\"0\"",
        escape(memory)
    ))
}

/// Asks for a sign of life.
#[must_use]
pub fn nop() -> Vec<u8> {
    document("nop value=\"ping\"")
}

/// Asks for the storage's description, which comes as a log line ([`super::storage_info`]).
#[must_use]
pub fn storage_info() -> Vec<u8> {
    document("getstorageinfo physical_partition_number=\"0\"")
}

/// Restarts the module. It does so only after the logs that follow the answer have been read.
#[must_use]
pub fn power_reset() -> Vec<u8> {
    document("power value=\"reset\"")
}

/// Restarts the module into emergency download mode.
#[must_use]
pub fn power_reset_to_edl() -> Vec<u8> {
    document("power value=\"reset_to_edl\"")
}

/// Erases a range. `attributes` are the package's own and are passed on; those of range and geometry are replaced.
///
/// # Errors
/// [`FirehoseError::EmptyRange`], [`FirehoseError::Attribute`], [`FirehoseError::CommandTooLong`].
pub fn erase(range: PageRange, geometry: Geometry, attributes: &[(String, String)]) -> Result<Vec<u8>, FirehoseError> {
    ranged("erase", range, geometry, attributes)
}

/// Announces exactly `range.pages` pages of payload. `attributes` as for [`erase`].
///
/// # Errors
/// As [`erase`].
pub fn program(
    range: PageRange,
    geometry: Geometry,
    attributes: &[(String, String)],
) -> Result<Vec<u8>, FirehoseError> {
    ranged("program", range, geometry, attributes)
}

/// Asks for exactly `range.pages` pages of payload.
///
/// # Errors
/// [`FirehoseError::EmptyRange`].
pub fn read(range: PageRange, geometry: Geometry) -> Result<Vec<u8>, FirehoseError> {
    ranged("read", range, geometry, &[])
}

fn ranged(
    tag: &str,
    range: PageRange,
    geometry: Geometry,
    attributes: &[(String, String)],
) -> Result<Vec<u8>, FirehoseError> {
    if range.pages == 0 {
        return Err(FirehoseError::EmptyRange);
    }
    let mut element = format!(
        "{tag} PAGES_PER_BLOCK=\"{}\" SECTOR_SIZE_IN_BYTES=\"{}\" num_partition_sectors=\"{}\" start_sector=\"{}\"",
        geometry.pages_per_block, geometry.page_bytes, range.pages, range.start
    );
    let mut seen: BTreeSet<&str> = OWN.into();
    for (name, value) in attributes.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
        if !is_name(name) || value.chars().any(char::is_control) || !seen.insert(name) {
            return Err(FirehoseError::Attribute(printable(name, limits::DEVICE_TEXT_CHARS_MAX)));
        }
        write!(element, " {name}=\"{}\"", escape(value)).expect("writing to a String cannot fail");
    }
    if !seen.contains(PHYSICAL_PARTITION) {
        write!(element, " {PHYSICAL_PARTITION}=\"0\"").expect("writing to a String cannot fail");
    }
    let document = document(&element);
    if document.len() > limits::FIREHOSE_COMMAND_BYTES_MAX {
        return Err(FirehoseError::CommandTooLong { bytes: document.len() });
    }
    Ok(document)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

fn escape(value: &str) -> String {
    quick_xml::escape::escape(value).into_owned()
}

fn document(element: &str) -> Vec<u8> {
    let mut text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<{element} />\n</data>");
    if text.len().is_multiple_of(PACKET_BYTES) {
        text.push('\n');
    }
    text.into_bytes()
}
