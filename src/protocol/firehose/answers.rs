//! What is read out of a programmer's words: its banner, its payload size, its storage.

use std::collections::{BTreeSet, VecDeque};

use super::{FirehoseError, Response};
use crate::domain::text::printable;
use crate::domain::{Geometry, limits};

/// Payload sizes are multiples of this, in bytes.
const PAYLOAD_UNIT: u32 = 512;
/// Pages of an erase block of every NAND these modules have; the storage's description does not name it.
const NAND_PAGES_PER_BLOCK: u32 = 64;

/// What a configure led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negotiation {
    /// Payload is sent in pieces of so many bytes.
    Agreed {
        /// At the most, per transfer.
        payload_bytes: u32,
    },
    /// The programmer takes less: configure again with this. It is smaller than what was asked, but a caller that
    /// does not want to be led downwards step by step asks a second time only.
    Again {
        /// What it offered.
        payload_bytes: u32,
    },
}

/// Reads the response to a configure that asked for `asked` bytes of payload.
///
/// A usable size is a multiple of 512 bytes, holds a page, and is not above the largest one allowed. An ACK without a
/// size agrees to what was asked, and an ACK with a larger one does so too: nobody has to send as much as is allowed.
///
/// # Errors
/// [`FirehoseError::ConfigureRefused`] for a NAK without a size, [`FirehoseError::Payload`] for one that cannot be.
pub fn negotiate(asked: u32, page_bytes: u32, response: &Response) -> Result<Negotiation, FirehoseError> {
    let offered = response.attributes.get("MaxPayloadSizeToTargetInBytes");
    let Some(text) = offered else {
        return if response.ack {
            Ok(Negotiation::Agreed { payload_bytes: asked })
        } else {
            Err(FirehoseError::ConfigureRefused)
        };
    };
    let size = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    let usable = size.filter(|size| {
        size.is_multiple_of(PAYLOAD_UNIT) && (page_bytes.max(1)..=limits::FIREHOSE_PAYLOAD_BYTES_MAX).contains(size)
    });
    match usable {
        Some(size) if response.ack => Ok(Negotiation::Agreed { payload_bytes: size.min(asked) }),
        Some(size) if size < asked => Ok(Negotiation::Again { payload_bytes: size }),
        _ => Err(FirehoseError::Payload(printable(text, limits::DEVICE_TEXT_CHARS_MAX))),
    }
}

/// What a programmer says of itself right after its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Banner {
    functions: BTreeSet<String>,
    serial: Option<u32>,
    listing: bool,
    complete: bool,
}

impl Banner {
    /// Nothing heard yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a log line.
    pub fn take(&mut self, line: &str) {
        let line = without_level(line);
        let lower = line.to_ascii_lowercase();
        if let Some(rest) = lower.strip_prefix("chip serial num:") {
            self.serial = serial(rest);
        } else if lower.starts_with("end of supported functions") {
            (self.listing, self.complete) = (false, true);
        } else if let Some(rest) = lower.strip_prefix("supported functions") {
            // Newer programmers give a count and one line each; older ones all names on this line.
            let names: Vec<&str> = rest.split_once(':').map_or("", |(_, names)| names).split_whitespace().collect();
            names.iter().for_each(|name| self.add(name));
            self.complete = !names.is_empty();
            self.listing = names.is_empty();
        } else if self.listing {
            self.add(&lower);
        }
    }

    /// Whether it has named all its functions.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// The functions that it can, in lower case: `program`, `read`, `erase`, …
    #[must_use]
    pub const fn functions(&self) -> &BTreeSet<String> {
        &self.functions
    }

    /// The chip's serial number, where it said one. Some programmers say 0.
    #[must_use]
    pub const fn serial(&self) -> Option<u32> {
        self.serial
    }

    fn add(&mut self, name: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = !name.is_empty() && name.len() <= limits::NAME_CHARS_MAX && name.chars().all(plain);
        if fits && self.functions.len() < limits::FIREHOSE_FUNCTIONS_MAX {
            self.functions.insert(name.to_owned());
        }
    }
}

/// ` 1238095855 (0x49cbd7ef)`; the number in parentheses counts, else the one before it.
fn serial(text: &str) -> Option<u32> {
    if let Some((_, rest)) = text.split_once("(0x") {
        return u32::from_str_radix(rest.split_once(')')?.0, 16).ok();
    }
    text.trim().parse().ok()
}

/// A line without the `INFO:` that many begin with.
fn without_level(line: &str) -> &str {
    let line = line.trim();
    line.strip_prefix("INFO:").unwrap_or(line).trim()
}

/// How much a programmer may say for one command, and what of it is kept.
#[derive(Debug, Default)]
pub struct LogBudget {
    lines: u32,
    bytes: usize,
    kept: VecDeque<String>,
    error: bool,
}

impl LogBudget {
    /// A fresh budget, for one command.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a log line.
    ///
    /// # Errors
    /// [`FirehoseError::LogFlood`] once there are too many lines or bytes.
    pub fn take(&mut self, line: &str) -> Result<(), FirehoseError> {
        self.lines = self.lines.saturating_add(1);
        self.bytes = self.bytes.saturating_add(line.len());
        self.error |= is_error(line);
        if self.kept.len() == limits::FIREHOSE_LOG_LINES_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(line.to_owned());
        if self.lines > limits::FIREHOSE_LOG_LINES_MAX || self.bytes > limits::FIREHOSE_LOG_BYTES_MAX {
            return Err(FirehoseError::LogFlood { lines: self.lines, bytes: self.bytes });
        }
        Ok(())
    }

    /// The last few lines, oldest first.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        self.kept.iter().cloned().collect()
    }

    /// Whether one of all lines reported an error. Programmers have been seen to log a failure and acknowledge the
    /// command nevertheless, so such a command counts as done only once its result was proven otherwise.
    #[must_use]
    pub const fn saw_error(&self) -> bool {
        self.error
    }
}

fn is_error(line: &str) -> bool {
    let upper = line.trim().to_ascii_uppercase();
    let word = upper.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("");
    matches!(word, "ERROR" | "FATAL") || upper.contains("_FAILURE")
}

/// The storage as its programmer describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageInfo {
    /// Pages and blocks.
    pub geometry: Geometry,
    /// Pages of the whole storage.
    pub total_pages: u64,
    /// Bad blocks, where it says so.
    pub bad_blocks: Option<u32>,
}

/// Reads the log line with which a programmer answers [`super::command::storage_info`]; `None` for any other line.
///
/// Its `total_blocks` counts units of `block_size` bytes, and on the modules known `block_size` is the page: the size of an
/// erase block is not told, and 64 pages on all of them. A `block_size` of several pages is taken for the erase block.
pub fn storage_info(line: &str) -> Option<Result<StorageInfo, FirehoseError>> {
    let start = line.find('{')?;
    if !line[start..].contains("\"storage_info\"") {
        return None;
    }
    Some(parse_storage(&line[start..]))
}

fn parse_storage(json: &str) -> Result<StorageInfo, FirehoseError> {
    // Whatever follows the object on the line does not matter.
    let value = serde_json::Deserializer::from_str(json).into_iter::<serde_json::Value>().next();
    let value = value.and_then(Result::ok).ok_or(FirehoseError::Storage("it is not valid JSON"))?;
    let info = &value["storage_info"];
    let number = |name: &str| info[name].as_u64();
    if info["mem_type"].as_str().is_some_and(|kind| !kind.eq_ignore_ascii_case("nand")) {
        return Err(FirehoseError::Storage("it is not a NAND"));
    }
    let page = number("page_size").or(number("block_size")).unwrap_or(0);
    let unit = number("block_size").unwrap_or(page);
    let total = number("total_blocks").unwrap_or(0);
    let page_bytes = u32::try_from(page)
        .ok()
        .filter(|page| page.is_power_of_two() && (512..=65_536).contains(page))
        .ok_or(FirehoseError::Storage("its page size is impossible"))?;
    if unit < page || !unit.is_multiple_of(page) {
        return Err(FirehoseError::Storage("its block size is not a multiple of its page size"));
    }
    let pages_per_block = match u32::try_from(unit / page) {
        Ok(1) => NAND_PAGES_PER_BLOCK,
        Ok(pages) if pages <= 4096 => pages,
        _ => return Err(FirehoseError::Storage("its block size is impossible")),
    };
    let total_pages = total
        .checked_mul(unit / page)
        .filter(|pages| *pages >= u64::from(pages_per_block) && pages.checked_mul(page).is_some())
        .ok_or(FirehoseError::Storage("its size is impossible"))?;
    let bad = number("bad_blocks").or(number("num_bad_blocks"));
    let bad_blocks = bad.map(|bad| u32::try_from(bad).unwrap_or(u32::MAX));
    Ok(StorageInfo { geometry: Geometry { page_bytes, pages_per_block }, total_pages, bad_blocks })
}

/// How many bad blocks a log line reports: the number in `bad blocks: 3` or `badblocks:0x3`, 1 for a line that names
/// one (`skipping bad block 171`), `None` for any other line. The sum over the lines of one command is its count.
#[must_use]
pub fn bad_block_count(line: &str) -> Option<u32> {
    let lower = line.to_ascii_lowercase();
    for word in ["bad blocks", "badblocks", "bad_blocks"] {
        if let Some((_, rest)) = lower.split_once(word) {
            let rest = rest.trim_start_matches([' ', ':', '=']);
            let (digits, radix) = rest.strip_prefix("0x").map_or((rest, 10), |rest| (rest, 16));
            let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
            return u32::from_str_radix(&digits[..end], radix).ok();
        }
    }
    (lower.contains("bad block") || lower.contains("badblock")).then_some(1)
}

/// Which block a log line names as bad (`skipping bad block 171`, `NAND bad block skipped: 0xab`), `None` for a line
/// that names none.
#[must_use]
pub fn bad_block_number(line: &str) -> Option<u32> {
    let lower = line.to_ascii_lowercase();
    let at = ["bad block", "badblock"].into_iter().find_map(|word| lower.find(word).map(|at| at + word.len()))?;
    let rest = &lower[at..];
    if rest.starts_with('s') {
        return None;
    }
    let digits = &rest[rest.find(|c: char| c.is_ascii_digit())?..];
    let (digits, radix) = digits.strip_prefix("0x").map_or((digits, 10), |digits| (digits, 16));
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    u32::from_str_radix(&digits[..end], radix).ok()
}
