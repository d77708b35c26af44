//! One element with its attributes: bounds, spelling, and the numbers in them.

use quick_xml::XmlVersion;
use quick_xml::events::BytesStart;

use super::error::RawProgramErrorKind as Kind;
use crate::domain::limits::{
    DEVICE_TEXT_CHARS_MAX, PACKAGE_ATTRIBUTES_MAX, PACKAGE_ELEMENT_BYTES_MAX, PAGE_BYTES, PAGES_PER_BLOCK,
};
use crate::domain::text::printable;

/// Attributes with a meaning here. One of them in another case is refused: this reader would pass it on as unknown,
/// and a programmer might take it for the known one.
const KNOWN: &[&str] = &[
    "PAGES_PER_BLOCK",
    "SECTOR_SIZE_IN_BYTES",
    "filename",
    "file_sector_offset",
    "label",
    "last_sector",
    "num_partition_sectors",
    "physical_partition_number",
    "sparse",
    "start_sector",
    "byte_offset",
    "size_in_bytes",
    "value",
    "what",
    RAWDATA_START,
    RAWDATA_PAGES,
];

/// In an erase with a vendor's tag: where the raw data begin.
pub(super) const RAWDATA_START: &str = "a_rawdata_start_sector";
/// In an erase with a vendor's tag: how long they are.
pub(super) const RAWDATA_PAGES: &str = "b_rawdata_num_sector";

/// The attributes of one element in the order of the document, unescaped.
pub(super) struct Element {
    pub(super) name: &'static str,
    attributes: Vec<(String, String)>,
}

impl Element {
    pub(super) fn read(name: &'static str, start: &BytesStart<'_>) -> Result<Self, Kind> {
        let too_long =
            Kind::ElementTooLong { attributes_max: PACKAGE_ATTRIBUTES_MAX, bytes_max: PACKAGE_ELEMENT_BYTES_MAX };
        if start.attributes_raw().len() > PACKAGE_ELEMENT_BYTES_MAX {
            return Err(too_long);
        }
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            if attributes.len() == PACKAGE_ATTRIBUTES_MAX {
                return Err(too_long);
            }
            let attribute = attribute.map_err(|error| syntax(&error))?;
            let key = attribute.key.into_inner();
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| syntax(&error))?;
            check(key, &value)?;
            attributes.push((key.to_owned(), value.into_owned()));
        }
        Ok(Self { name, attributes })
    }

    pub(super) fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == attribute).map(|(_, value)| value.as_str())
    }

    pub(super) fn require(&self, attribute: &'static str) -> Result<&str, Kind> {
        self.get(attribute).ok_or(Kind::Missing { element: self.name, attribute })
    }

    pub(super) fn number(&self, attribute: &'static str) -> Result<Option<u64>, Kind> {
        self.get(attribute).map(|value| parse_number(attribute, value)).transpose()
    }

    /// A power of two within `bounds`: the only sizes that pages and blocks have.
    pub(super) fn size(
        &self,
        attribute: &'static str,
        bounds: &std::ops::RangeInclusive<u32>,
    ) -> Result<Option<u32>, Kind> {
        let Some(number) = self.number(attribute)? else { return Ok(None) };
        match u32::try_from(number) {
            Ok(size) if size.is_power_of_two() && bounds.contains(&size) => Ok(Some(size)),
            _ => Err(Kind::Number { attribute, value: number.to_string() }),
        }
    }

    pub(super) fn page_bytes(&self) -> Result<Option<u32>, Kind> {
        self.size("SECTOR_SIZE_IN_BYTES", &PAGE_BYTES)
    }

    pub(super) fn pages_per_block(&self) -> Result<Option<u32>, Kind> {
        self.size("PAGES_PER_BLOCK", &PAGES_PER_BLOCK)
    }

    /// What is passed on to the programmer: all but what the encoder of the command writes itself. Unknown attributes
    /// are passed on as well (real programmers want `label` and others), unless they look like a place.
    pub(super) fn passed_on(self) -> Result<Vec<(String, String)>, Kind> {
        const WRITTEN_BY_ENCODER: &[&str] = &[
            "PAGES_PER_BLOCK",
            "SECTOR_SIZE_IN_BYTES",
            "num_partition_sectors",
            "physical_partition_number",
            "start_sector",
            "file_sector_offset",
        ];
        for (key, _) in &self.attributes {
            let lower = key.to_ascii_lowercase();
            let is_place = ["sector", "start", "offset", "block", "page"].iter().any(|word| lower.contains(word));
            if is_place && !KNOWN.contains(&key.as_str()) {
                return Err(Kind::AttributeUnknown(printable(key, DEVICE_TEXT_CHARS_MAX)));
            }
        }
        Ok(self.attributes.into_iter().filter(|(key, _)| !WRITTEN_BY_ENCODER.contains(&key.as_str())).collect())
    }
}

fn check(key: &str, value: &str) -> Result<(), Kind> {
    let shown = || printable(key, DEVICE_TEXT_CHARS_MAX);
    let first_is_letter = key.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !first_is_letter || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte)) {
        return Err(Kind::Syntax(format!("{} is no attribute's name", shown())));
    }
    if value.chars().any(char::is_control) {
        return Err(Kind::AttributeValue(shown()));
    }
    match KNOWN.iter().find(|known| known.eq_ignore_ascii_case(key)) {
        Some(meant) if *meant != key => Err(Kind::AttributeCase { found: shown(), meant }),
        _ => Ok(()),
    }
}

/// A decimal number: no sign, no expression, no other base.
pub(super) fn parse_number(attribute: &'static str, value: &str) -> Result<u64, Kind> {
    let digits_only = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits_only { value.parse().ok() } else { None };
    number.ok_or_else(|| Kind::Number { attribute, value: printable(value, DEVICE_TEXT_CHARS_MAX) })
}

pub(super) fn syntax(error: &dyn std::fmt::Display) -> Kind {
    Kind::Syntax(printable(&error.to_string(), DEVICE_TEXT_CHARS_MAX))
}
