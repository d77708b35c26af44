//! Simulated Firehose programmers: what a package sends to the boot ROM.
//!
//! An ELF of the form that the real ones have (four program headers, a hash segment, a gap between the segments), so
//! that a boot ROM that follows the headers asks for it in the real pattern. The hash segment names the chip and the
//! key it is signed with; a fused chip takes no other.

use crate::domain::KeyHash;

use super::images::fill;
use super::page_pool::content_hash;

/// Where in the file the hash segment begins, with [`ProgrammerInfo`] at its front.
pub const HASH_SEGMENT_AT: usize = 0x1000;
/// Length of the hash segment, as in a captured load of SDX55's programmer.
const HASH_SEGMENT_BYTES: usize = 0x19d0;
const CODE_AT: usize = 0x3000;
const GAP_BYTES: usize = 0x1000;
/// Shortest file with all segments.
pub(super) const PROGRAMMER_BYTES_MIN: u64 = 0x8000;

const MAGIC: [u8; 8] = *b"SIMPROG1";
const CHIP_AT: usize = 8;
const KEY_AT: usize = CHIP_AT + 16;
const FLAGS_AT: usize = KEY_AT + 48;
const BUILD_AT: usize = FLAGS_AT + 4;
const INFO_BYTES: usize = BUILD_AT + 32;
const FLAG_CAN_READ: u32 = 1;

/// What a programmer says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgrammerInfo {
    /// The chip it runs on.
    pub chip: String,
    /// The digest of the key it is signed with.
    pub key_hash: KeyHash,
    /// Whether it can read storage back.
    pub can_read: bool,
    /// Its build date as its first log gives it.
    pub build: String,
}

/// Makes a programmer file of about `bytes` bytes.
pub(super) fn build(info: &ProgrammerInfo, bytes: u64) -> Vec<u8> {
    let length = usize::try_from(bytes.max(PROGRAMMER_BYTES_MIN)).unwrap_or_default();
    let mut file = vec![0; length];
    let code = (length - CODE_AT - GAP_BYTES) / 2 / GAP_BYTES * GAP_BYTES;
    let data_at = CODE_AT + code + GAP_BYTES;
    let segments = [
        (0, 0xb4, 0x0700_0000),
        (HASH_SEGMENT_AT, HASH_SEGMENT_BYTES, 0x0220_0000),
        (CODE_AT, code, 5),
        (data_at, length - data_at, 6),
    ];
    file[..0x34].copy_from_slice(&elf_header());
    for (index, (offset, size, flags)) in segments.into_iter().enumerate() {
        let word = |value: usize| u32::try_from(value).unwrap_or_default();
        let kind = u32::from(index >= 2);
        let address = if index == 0 { 0 } else { 0x0804_0000 + word(offset) };
        let words = [kind, word(offset), address, address, word(size), word(size), flags, 0x1000];
        let at = 0x34 + index * 0x20;
        for (field, value) in file[at..at + 0x20].chunks_exact_mut(4).zip(words) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        if index > 0 {
            fill(content_hash(info.build.as_bytes()) ^ index as u64, &mut file[offset..offset + size]);
        }
    }
    let segment = &mut file[HASH_SEGMENT_AT..HASH_SEGMENT_AT + INFO_BYTES];
    segment.fill(0);
    segment[..8].copy_from_slice(&MAGIC);
    copy_text(&mut segment[CHIP_AT..KEY_AT], &info.chip);
    segment[KEY_AT..FLAGS_AT].copy_from_slice(&key_bytes(&info.key_hash));
    let flags = if info.can_read { FLAG_CAN_READ } else { 0 };
    segment[FLAGS_AT..BUILD_AT].copy_from_slice(&flags.to_le_bytes());
    copy_text(&mut segment[BUILD_AT..], &info.build);
    file
}

/// ELF32, little-endian, executable, ARM; four program headers behind it.
fn elf_header() -> [u8; 0x34] {
    let mut header = [0; 0x34];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1, 1, 1]);
    header[0x10..0x18].copy_from_slice(&[2, 0, 0x28, 0, 1, 0, 0, 0]);
    header[0x18..0x1c].copy_from_slice(&0x0804_3000_u32.to_le_bytes());
    header[0x1c..0x20].copy_from_slice(&0x34_u32.to_le_bytes());
    header[0x28..0x2e].copy_from_slice(&[0x34, 0, 0x20, 0, 4, 0]);
    header
}

fn copy_text(field: &mut [u8], text: &str) {
    let room = field.len() - 1;
    for (byte, source) in field.iter_mut().zip(text.bytes().take(room)) {
        *byte = source;
    }
}

/// The bytes of a key hash of 48 bytes; a shorter or longer one is padded or cut.
fn key_bytes(key: &KeyHash) -> [u8; 48] {
    let mut bytes = [0; 48];
    let text = key.to_string();
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default();
        *byte = u8::try_from(digit(pair[0]) << 4 | digit(pair[1])).unwrap_or_default();
    }
    bytes
}

/// What the programmer in `file` says of itself; `None` when it is none, or its hash segment is not complete yet.
#[must_use]
pub fn programmer_info(file: &[u8]) -> Option<ProgrammerInfo> {
    let segment = file.get(HASH_SEGMENT_AT..HASH_SEGMENT_AT + INFO_BYTES)?;
    if !file.starts_with(b"\x7fELF") || segment[..8] != MAGIC {
        return None;
    }
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&field[..end]).ok().map(str::to_owned)
    };
    let flags = u32::from_le_bytes(segment[FLAGS_AT..BUILD_AT].try_into().ok()?);
    Some(ProgrammerInfo {
        chip: text(&segment[CHIP_AT..KEY_AT])?,
        key_hash: KeyHash::new(&segment[KEY_AT..FLAGS_AT]).ok()?,
        can_read: flags & FLAG_CAN_READ != 0,
        build: text(&segment[BUILD_AT..])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::models::MODELS;

    #[test]
    fn a_programmer_says_what_it_was_made_for() {
        for model in MODELS {
            let info = ProgrammerInfo {
                chip: model.chip.to_owned(),
                key_hash: model.key_hash(),
                can_read: model.name.starts_with("RM"),
                build: "Apr 19 2020 @ 17:49:11".to_owned(),
            };
            let file = build(&info, 128_376);
            assert_eq!(file.len(), 128_376);
            assert_eq!(programmer_info(&file), Some(info));
            assert_eq!(programmer_info(&file[..0x1010]), None);
        }
        assert_eq!(programmer_info(&[0; 0x2000]), None);
    }

    #[test]
    fn segments_lie_apart_and_end_with_the_file() {
        let info = ProgrammerInfo {
            chip: "SDX55".to_owned(),
            key_hash: KeyHash::new(&[1; 48]).expect("48 bytes"),
            can_read: true,
            build: String::new(),
        };
        let file = build(&info, 0);
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes")) as usize;
        let segment = |index: usize| (word(0x34 + index * 0x20 + 4), word(0x34 + index * 0x20 + 16));
        assert_eq!((segment(0), segment(1)), ((0, 0xb4), (0x1000, 0x19d0)));
        let (code, data) = (segment(2), segment(3));
        assert_eq!(code.0, 0x3000);
        assert_eq!(code.0 + code.1 + 0x1000, data.0);
        assert_eq!(data.0 + data.1, file.len());
    }
}
