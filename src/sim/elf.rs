//! In which order a boot ROM pulls a programmer: its headers, its hash segment, its segments.
//!
//! The order is that of recorded sessions (SDX24 and SDX55): `(0,0x34)`, the program headers, the hash segment,
//! then the loadable segments in 4 KiB steps, without the gaps between them. A file that is no ELF is an MBN with the
//! old 40-byte header.

use std::collections::VecDeque;

/// Largest programmer a ROM has room for, in bytes.
const IMAGE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most program headers.
const HEADERS_MAX: u16 = 64;
/// The step of a ROM.
const STEP_BYTES: u64 = 0x1000;
const ELF32_HEADER_BYTES: u64 = 0x34;
const ELF64_HEADER_BYTES: u64 = 0x40;
const MBN_HEADER_BYTES: u64 = 0x28;
/// Segment type in bits 24 to 26 of `p_flags`: the hash table.
const SEGMENT_HASH: u32 = 2;
const STATUS_BAD_HEADER: u32 = 0x14;

/// A range of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// An image on its way in.
#[derive(Debug, Default)]
pub(super) struct Image {
    bytes: Vec<u8>,
    stage: Stage,
    queue: VecDeque<Piece>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Header,
    WideHeader,
    ProgramHeaders,
    Segments,
}

impl Image {
    /// What has arrived; gaps are zeros.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The next range; `None` when the image is complete.
    pub(super) fn wants(&mut self) -> Option<Result<Piece, u32>> {
        match self.stage {
            Stage::Header => Some(Ok(Piece { offset: 0, length: ELF32_HEADER_BYTES })),
            Stage::WideHeader => Some(Ok(Piece { offset: 0, length: ELF64_HEADER_BYTES })),
            Stage::ProgramHeaders => Some(self.program_headers().ok_or(STATUS_BAD_HEADER)),
            Stage::Segments => match self.queue.pop_front() {
                Some(piece) if piece.offset.saturating_add(piece.length) > IMAGE_BYTES_MAX => {
                    Some(Err(STATUS_BAD_HEADER))
                }
                other => other.map(Ok),
            },
        }
    }

    /// Takes a range that was wanted.
    pub(super) fn put(&mut self, piece: Piece, bytes: &[u8]) {
        let (Ok(offset), Ok(length)) = (usize::try_from(piece.offset), usize::try_from(piece.length)) else { return };
        let end = offset.saturating_add(length);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        self.stage = match self.stage {
            Stage::Header if self.bytes.starts_with(b"\x7fELF\x02") => Stage::WideHeader,
            Stage::Header if self.bytes.starts_with(b"\x7fELF") => Stage::ProgramHeaders,
            Stage::Header => {
                let image_bytes = u64::from(self.u32_at(0x10).unwrap_or(0));
                self.enqueue(MBN_HEADER_BYTES, image_bytes);
                Stage::Segments
            }
            Stage::WideHeader => Stage::ProgramHeaders,
            Stage::ProgramHeaders => {
                self.enqueue_segments();
                Stage::Segments
            }
            Stage::Segments => Stage::Segments,
        };
    }

    fn is_wide(&self) -> bool {
        self.bytes.get(4) == Some(&2)
    }

    fn program_headers(&self) -> Option<Piece> {
        let (offset, count) = self.table()?;
        let piece = Piece { offset, length: u64::from(count) * self.entry_bytes() };
        (piece.offset.checked_add(piece.length)? <= IMAGE_BYTES_MAX).then_some(piece)
    }

    fn entry_bytes(&self) -> u64 {
        if self.is_wide() { 0x38 } else { 0x20 }
    }

    fn table(&self) -> Option<(u64, u16)> {
        let (offset, count) = if self.is_wide() {
            (self.u64_at(0x20)?, self.u16_at(0x38)?)
        } else {
            (u64::from(self.u32_at(0x1c)?), self.u16_at(0x2c)?)
        };
        (1..=HEADERS_MAX).contains(&count).then_some((offset, count))
    }

    fn enqueue_segments(&mut self) {
        let Some((table, count)) = self.table() else { return };
        let mut segments: Vec<(bool, u64, u64)> = Vec::new();
        for index in 0..u64::from(count) {
            let Ok(at) = usize::try_from(table + index * self.entry_bytes()) else { return };
            let found = if self.is_wide() {
                (self.u32_at(at + 4), self.u64_at(at + 8), self.u64_at(at + 0x20))
            } else {
                let wide = |value: Option<u32>| value.map(u64::from);
                (self.u32_at(at + 0x18), wide(self.u32_at(at + 4)), wide(self.u32_at(at + 0x10)))
            };
            let (Some(flags), Some(offset), Some(length)) = found else { return };
            // What lies in the headers has been read already.
            if length > 0 && offset >= table {
                segments.push((flags >> 24 & 7 != SEGMENT_HASH, offset, length));
            }
        }
        segments.sort_unstable();
        segments.into_iter().for_each(|(_, offset, length)| self.enqueue(offset, length));
    }

    fn enqueue(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length);
        if end > IMAGE_BYTES_MAX {
            self.queue.push_back(Piece { offset, length });
            return;
        }
        let mut at = offset;
        while at < end {
            let length = STEP_BYTES.min(end - at);
            self.queue.push_back(Piece { offset: at, length });
            at += length;
        }
    }

    fn array_at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn u16_at(&self, at: usize) -> Option<u16> {
        self.array_at(at).map(u16::from_le_bytes)
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        self.array_at(at).map(u32::from_le_bytes)
    }

    fn u64_at(&self, at: usize) -> Option<u64> {
        self.array_at(at).map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pulls a whole image; the ranges that were asked for.
    fn pull(file: &[u8]) -> Result<Vec<(u64, u64)>, u32> {
        let mut image = Image::default();
        let mut asked = Vec::new();
        while let Some(piece) = image.wants() {
            let piece = piece?;
            asked.push((piece.offset, piece.length));
            let mut bytes = vec![0; usize::try_from(piece.length).expect("small")];
            for (index, byte) in bytes.iter_mut().enumerate() {
                *byte = file.get(usize::try_from(piece.offset).expect("small") + index).copied().unwrap_or(0);
            }
            image.put(piece, &bytes);
        }
        Ok(asked)
    }

    fn elf32(segments: &[(u32, u32, u32)]) -> Vec<u8> {
        let mut file = vec![0; 0x34 + 0x20 * segments.len()];
        file[..5].copy_from_slice(b"\x7fELF\x01");
        file[0x1c..0x20].copy_from_slice(&0x34u32.to_le_bytes());
        file[0x2c..0x2e].copy_from_slice(&u16::try_from(segments.len()).expect("few").to_le_bytes());
        for (index, (flags, offset, length)) in segments.iter().enumerate() {
            let at = 0x34 + 0x20 * index;
            file[at + 4..at + 8].copy_from_slice(&offset.to_le_bytes());
            file[at + 0x10..at + 0x14].copy_from_slice(&length.to_le_bytes());
            file[at + 0x18..at + 0x1c].copy_from_slice(&flags.to_le_bytes());
        }
        file
    }

    #[test]
    fn a_recorded_session_s_pattern() {
        // From the flash log of an RM500Q: headers, hash segment of 0x19d0 bytes, then segments with a gap.
        let file =
            elf32(&[(0x0700_0000, 0, 0xb4), (0x0200_0000, 0x1000, 0x19d0), (5, 0x3000, 0x1800), (6, 0x6000, 16)]);
        assert_eq!(
            pull(&file),
            Ok(vec![
                (0, 0x34),
                (0x34, 0x80),
                (0x1000, 0x1000),
                (0x2000, 0x9d0),
                (0x3000, 0x1000),
                (0x4000, 0x800),
                (0x6000, 16)
            ])
        );
    }

    #[test]
    fn a_header_that_lies_is_refused_and_never_believed() {
        assert_eq!(pull(&elf32(&[(5, 0x3000, u32::MAX)])), Err(STATUS_BAD_HEADER));
        assert_eq!(pull(b"\x7fELF\x01"), Err(STATUS_BAD_HEADER));
        assert_eq!(pull(b"\x7fELF\x02"), Err(STATUS_BAD_HEADER));
        assert_eq!(pull(&[0xff; 64]), Err(STATUS_BAD_HEADER));
    }
}
