//! The tap on the bulk pipe of a module in download mode: Sahara first, then Firehose.

use super::{Kind, Span, push};
use crate::domain::limits;
use crate::protocol::firehose::{Inbox, Message};
use crate::protocol::table::PartitionTable;

const START: &[u8] = b"<?xml";
const END: &[u8] = b"</data>";
/// Sahara's EXECUTE_DATA: what follows from the device is the bare answer.
const SAHARA_EXECUTE_DATA: u32 = 0x0f;
/// Highest Sahara command there is.
const SAHARA_COMMAND_MAX: u32 = 0x20;
/// A superblock of an EFS: its magic, and how many bytes of the page are geometry and nothing else.
const SUPERBLOCK: &[u8] = b"EFSSuper";
const SUPERBLOCK_AT: usize = 8;
const SUPERBLOCK_BYTES: u32 = 28;
/// The page size where no command has named one, in bytes.
const PAGE_BYTES: u32 = 4096;

/// What a command has announced.
#[derive(Debug, Clone, Copy)]
struct Announced {
    inward: bool,
    bytes: u64,
    page_bytes: u32,
}

/// Payload under way.
#[derive(Debug, Clone, Copy)]
struct Raw {
    left: u64,
    at: u64,
    page_bytes: u32,
    /// Whether it is a partition table; known once its first bytes were seen.
    layout: bool,
}

impl Raw {
    /// Cuts what of `bytes` belongs to it at its pages; gives how much that is.
    fn cut(&mut self, bytes: &[u8], spans: &mut Vec<Span>, inward: bool) -> usize {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let mut done = 0;
        while done < length {
            let page_offset = u32::try_from(self.at % u64::from(self.page_bytes)).unwrap_or_default();
            let piece = ((self.page_bytes - page_offset) as usize).min(length - done);
            let page = &bytes[done..done + piece];
            let is_superblock = inward
                && page_offset == 0
                && piece > SUPERBLOCK_BYTES as usize
                && page.get(SUPERBLOCK_AT..SUPERBLOCK_AT + SUPERBLOCK.len()) == Some(SUPERBLOCK);
            if self.layout {
                push(spans, piece, Kind::Layout);
            } else if is_superblock {
                push(spans, SUPERBLOCK_BYTES as usize, Kind::Layout);
                let kind = Kind::Content { page_offset: SUPERBLOCK_BYTES };
                push(spans, piece - SUPERBLOCK_BYTES as usize, kind);
            } else {
                push(spans, piece, Kind::Content { page_offset });
            }
            done += piece;
            self.at += piece as u64;
        }
        self.left -= length as u64;
        length
    }
}

/// Listens to both directions of a bulk pipe.
#[derive(Debug, Default)]
pub struct BulkTap {
    firehose: bool,
    announced: Option<Announced>,
    outward: Option<Raw>,
    inward: Option<Raw>,
    /// Bytes of a Sahara answer that are still to come.
    execute: usize,
    /// The document that has begun.
    document: Vec<u8>,
}

impl BulkTap {
    /// A tap on a pipe that was just opened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts a transfer to the module. The spans together are as long as it.
    pub fn take_out(&mut self, bytes: &[u8]) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut rest = bytes;
        if let Some(raw) = &mut self.outward {
            let taken = raw.cut(rest, &mut spans, false);
            if raw.left == 0 {
                self.outward = None;
            }
            rest = &rest[taken..];
        }
        if rest.is_empty() {
            return spans;
        }
        if is_command(rest) {
            self.firehose = true;
            self.announced = announced(rest);
            push(&mut spans, rest.len(), Kind::Talk);
        } else if !self.firehose && is_sahara(rest) {
            if word(rest, 0) == Some(SAHARA_EXECUTE_DATA) {
                self.execute = limits::SAHARA_EXEC_BYTES_MAX as usize;
            } else {
                self.execute = 0;
            }
            push(&mut spans, rest.len(), Kind::Talk);
        } else {
            push(&mut spans, rest.len(), Kind::Content { page_offset: 0 });
        }
        spans
    }

    /// Cuts a transfer from the module. The spans together are as long as it.
    pub fn take_in(&mut self, bytes: &[u8]) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = if self.inward.is_some() {
                self.payload(rest, &mut spans)
            } else if self.firehose || !self.document.is_empty() || rest.starts_with(START) {
                self.firehose = true;
                self.documents(rest, &mut spans)
            } else {
                self.sahara(rest, &mut spans)
            };
            rest = &rest[taken..];
        }
        spans
    }

    fn sahara(&mut self, bytes: &[u8], spans: &mut Vec<Span>) -> usize {
        let is_talk = is_sahara(bytes) || bytes.len() <= self.execute;
        if !is_sahara(bytes) {
            self.execute = self.execute.saturating_sub(bytes.len());
        }
        push(spans, bytes.len(), if is_talk { Kind::Talk } else { Kind::Content { page_offset: 0 } });
        bytes.len()
    }

    /// Takes payload, page by page, and no further than it goes.
    fn payload(&mut self, bytes: &[u8], spans: &mut Vec<Span>) -> usize {
        let Some(raw) = &mut self.inward else { return 0 };
        if raw.at == 0 {
            raw.layout = raw.left <= limits::TABLE_PARTITION_BYTES_MAX && PartitionTable::is_mibib(bytes);
        }
        let taken = raw.cut(bytes, spans, true);
        if raw.left == 0 {
            self.inward = None;
        }
        taken
    }

    /// Takes padding, or one document as far as it has arrived. Anything else is content.
    fn documents(&mut self, bytes: &[u8], spans: &mut Vec<Span>) -> usize {
        if self.document.is_empty() {
            let is_padding = |byte: &u8| matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n');
            let padding = bytes.iter().take_while(|byte| is_padding(byte)).count();
            if padding > 0 {
                push(spans, padding, Kind::Talk);
                return padding;
            }
        }
        for (index, byte) in bytes.iter().enumerate() {
            let at = self.document.len();
            let fits = if at < START.len() { START[at] == *byte } else { is_text(*byte) };
            if !fits || at == limits::FIREHOSE_DOCUMENT_BYTES_MAX {
                self.document.clear();
                push(spans, index, Kind::Talk);
                // Up to where the next document may begin.
                let rest = &bytes[index..];
                let from = usize::from(index == 0);
                let skip = rest[from..].windows(START.len()).position(|window| window == START);
                let length = skip.map_or(rest.len(), |skip| skip + from);
                push(spans, length, Kind::Content { page_offset: 0 });
                return index + length;
            }
            self.document.push(*byte);
            if self.document.ends_with(END) {
                self.answered();
                push(spans, index + 1, Kind::Talk);
                return index + 1;
            }
        }
        push(spans, bytes.len(), Kind::Talk);
        bytes.len()
    }

    /// A document is complete: an answer begins the payload that was announced, or takes it back.
    fn answered(&mut self) {
        let mut inbox = Inbox::new();
        inbox.feed(&std::mem::take(&mut self.document));
        while let Ok(Some(message)) = inbox.next() {
            let Message::Response(response) = message else { continue };
            let Some(announced) = self.announced.take() else { continue };
            if !response.ack || response.rawmode != Some(true) || announced.bytes == 0 {
                continue;
            }
            let raw = Raw { left: announced.bytes, at: 0, page_bytes: announced.page_bytes, layout: false };
            if announced.inward { self.inward = Some(raw) } else { self.outward = Some(raw) }
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte >= b' ' || matches!(byte, b'\t' | b'\r' | b'\n')
}

fn is_command(bytes: &[u8]) -> bool {
    bytes.len() <= limits::FIREHOSE_COMMAND_BYTES_MAX
        && bytes.starts_with(START)
        && bytes.iter().all(|byte| is_text(*byte))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes)
}

/// Whether this is one whole Sahara packet.
fn is_sahara(bytes: &[u8]) -> bool {
    bytes.len() <= limits::SAHARA_PACKET_BYTES_MAX
        && word(bytes, 0).is_some_and(|command| (1..=SAHARA_COMMAND_MAX).contains(&command))
        && word(bytes, 4).is_some_and(|length| length as usize == bytes.len())
}

/// What a command announces, if it is one that moves pages.
fn announced(command: &[u8]) -> Option<Announced> {
    let text = std::str::from_utf8(command).ok()?;
    let inward = text.contains("<read ");
    if !inward && !text.contains("<program ") {
        return None;
    }
    let number = |name: &str| -> Option<u64> {
        let (_, rest) = text.split_once(&format!(" {name}=\""))?;
        rest.split('"').next()?.parse().ok()
    };
    let page_bytes = number("SECTOR_SIZE_IN_BYTES").and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(PAGE_BYTES);
    let bytes = number("num_partition_sectors").unwrap_or_default().saturating_mul(u64::from(page_bytes));
    Some(Announced { inward, bytes, page_bytes: page_bytes.max(1) })
}
