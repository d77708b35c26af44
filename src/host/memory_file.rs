//! The content of a file of a [`super::MemoryDisk`]: sparse, so that the flash of many simulated modules fits.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Bytes of a piece of a file; a piece of zeros is not kept.
const CHUNK_BYTES: u64 = 16 * 1024;

/// Bytes of a file and how many of them would survive a crash.
#[derive(Debug, Default, Clone)]
pub(super) struct Content {
    bytes: u64,
    /// Pieces by number; a short one continues with zeros.
    chunks: BTreeMap<u64, Vec<u8>>,
    /// What was synced is a prefix, because what is synced is only ever appended to.
    pub(super) durable: u64,
    /// After a failed fsync the kernel counts the lost pages as clean: no later fsync brings them to the disk.
    pub(super) lost_from: Option<u64>,
    /// Grows with every change.
    pub(super) version: u64,
}

fn end_of(offset: u64, length: usize) -> io::Result<u64> {
    u64::try_from(length)
        .ok()
        .and_then(|length| offset.checked_add(length))
        .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))
}

/// The piece, and the position in it, of a byte.
fn place(at: u64) -> (u64, usize) {
    (at / CHUNK_BYTES, usize::try_from(at % CHUNK_BYTES).expect("a piece's length fits"))
}

impl Content {
    pub(super) fn of(bytes: &[u8]) -> io::Result<Self> {
        let mut content = Self::default();
        content.write(bytes, 0)?;
        Ok(content)
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if end_of(offset, buffer.len())? > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let (number, start) = place(at);
            let length = rest.len().min(usize::try_from(CHUNK_BYTES).expect("small") - start);
            let (now, later) = rest.split_at_mut(length);
            now.fill(0);
            if let Some(known) = self.chunks.get(&number).and_then(|chunk| chunk.get(start..)) {
                let known = &known[..known.len().min(length)];
                now[..known.len()].copy_from_slice(known);
            }
            (at, rest) = (end_of(at, length)?, later);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = end_of(offset, bytes.len())?;
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (number, start) = place(at);
            let length = rest.len().min(usize::try_from(CHUNK_BYTES).expect("small") - start);
            let (now, later) = rest.split_at(length);
            let chunk = self.chunks.entry(number).or_default();
            if chunk.len() < start + length {
                chunk.resize(start + length, 0);
            }
            chunk[start..start + length].copy_from_slice(now);
            (at, rest) = (end_of(at, length)?, later);
        }
        self.bytes = self.bytes.max(end);
        self.version += 1;
        Ok(())
    }

    pub(super) fn punch(&mut self, offset: u64, bytes: u64) {
        let end = offset.saturating_add(bytes).min(self.bytes);
        let mut at = offset;
        while at < end {
            let (number, start) = place(at);
            let next = ((number + 1) * CHUNK_BYTES).min(end);
            if start == 0 && (next - at == CHUNK_BYTES || next == self.bytes) {
                self.chunks.remove(&number);
            } else if let Some(chunk) = self.chunks.get_mut(&number) {
                let stop = start + usize::try_from(next - at).expect("within a piece");
                let stop = stop.min(chunk.len());
                if start < stop {
                    chunk[start..stop].fill(0);
                }
            }
            at = next;
        }
        self.version += 1;
    }

    pub(super) fn truncate(&mut self, bytes: u64) {
        if bytes < self.bytes {
            let (number, start) = place(bytes);
            self.chunks.split_off(&(number + 1));
            if let Some(chunk) = self.chunks.get_mut(&number) {
                chunk.truncate(start);
            }
        }
        self.bytes = bytes;
        self.lost_from = self.lost_from.filter(|from| *from < bytes);
        self.version += 1;
    }

    /// What an fsync that succeeds does.
    pub(super) fn sync(&mut self) {
        self.durable = self.lost_from.unwrap_or(self.bytes).min(self.bytes).max(self.durable.min(self.bytes));
    }

    /// What an fsync that fails does.
    pub(super) fn fail_sync(&mut self) {
        let durable = self.durable;
        self.lost_from.get_or_insert(durable);
    }

    /// What a crash leaves: what is durable, and `torn` bytes of what is not.
    pub(super) fn crash(&mut self, torn: u64) {
        let kept = self.durable.saturating_add(torn).min(self.lost_from.unwrap_or(u64::MAX)).min(self.bytes);
        self.truncate(kept.max(self.durable.min(self.bytes)));
        self.durable = self.bytes;
        self.lost_from = None;
    }
}

/// The place of a path: all paths begin at the same root, `.` and `..` are resolved by their letters.
pub(super) fn key(path: &Path) -> PathBuf {
    let mut key = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => key.push(name),
            Component::ParentDir => drop(key.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sparse_content_equals_a_plain_buffer(
            steps in proptest::collection::vec((0_u8..3, 0_u64..70_000, 0_usize..40_000, any::<u8>()), 1..20)
        ) {
            let (mut content, mut plain) = (Content::default(), Vec::<u8>::new());
            for (what, offset, length, value) in steps {
                let start = usize::try_from(offset).expect("small");
                match what {
                    0 => {
                        content.write(&vec![value; length], offset).expect("fits");
                        if length > 0 {
                            plain.resize(plain.len().max(start + length), 0);
                            plain[start..start + length].fill(value);
                        } else {
                            plain.resize(plain.len().max(start), 0);
                        }
                    }
                    1 => {
                        content.punch(offset, length as u64);
                        let end = (start + length).min(plain.len());
                        if start < end {
                            plain[start..end].fill(0);
                        }
                    }
                    _ => {
                        content.truncate(offset);
                        plain.resize(start, 0);
                    }
                }
                let mut bytes = vec![9; plain.len()];
                content.read(&mut bytes, 0).expect("within the file");
                prop_assert!(bytes == plain);
                prop_assert_eq!(content.bytes(), plain.len() as u64);
            }
        }
    }
}
