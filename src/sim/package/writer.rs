//! Writes the files of a package and keeps the check list as it goes.

use std::io;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use crate::host::Disk;
use crate::sim::images::Image;

use super::PackageError;

/// Bytes of an image that are made at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A package directory that is being written.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    disk: &'a dyn Disk,
    directory: PathBuf,
    /// Keys with their MD5, in the order in which they were written.
    entries: Vec<(String, String)>,
}

/// An error at a path.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> PackageError + '_ {
    move |source| PackageError::Disk { path: path.to_owned(), source }
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Takes a file away if it is there.
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> Result<(), PackageError> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

impl<'a> Writer<'a> {
    /// Makes the directory, and takes its check list away: until the new one is there, it is no package.
    pub(super) fn begin(disk: &'a dyn Disk, directory: &Path) -> Result<Self, PackageError> {
        let firehose = directory.join("update/firehose");
        disk.create_dir_all(&firehose).map_err(at(&firehose))?;
        remove(disk, &directory.join("md5.txt"))?;
        Ok(Self { disk, directory: directory.to_owned(), entries: Vec::new() })
    }

    fn write(
        &mut self,
        key: &str,
        mut next: impl FnMut(&mut Vec<u8>) -> Result<(), PackageError>,
    ) -> Result<(), PackageError> {
        let path = self.directory.join(key);
        if let Some(parent) = path.parent() {
            self.disk.create_dir_all(parent).map_err(at(parent))?;
        }
        remove(self.disk, &path)?;
        let mut file = self.disk.append(&path).map_err(at(&path))?;
        let mut digest = Md5::new();
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        loop {
            chunk.clear();
            next(&mut chunk)?;
            if chunk.is_empty() {
                break;
            }
            digest.update(&chunk);
            file.append(&chunk).map_err(at(&path))?;
        }
        file.sync().map_err(at(&path))?;
        self.entries.push((key.to_owned(), hexadecimal(&digest.finalize())));
        Ok(())
    }

    /// Writes a file from its bytes.
    pub(super) fn bytes(&mut self, key: &str, bytes: &[u8]) -> Result<(), PackageError> {
        let mut chunks = bytes.chunks(CHUNK_BYTES);
        self.write(key, |chunk| {
            chunk.extend(chunks.next().unwrap_or_default());
            Ok(())
        })
    }

    /// Writes an image.
    pub(super) fn image(&mut self, key: &str, image: &Image) -> Result<(), PackageError> {
        let mut pages = 0..image.pages();
        let mut page = vec![0; image.page_bytes()];
        self.write(key, |chunk| {
            for index in pages.by_ref().take(CHUNK_BYTES / page.len()) {
                image.fill_page(index, &mut page);
                chunk.extend(&page[..image.bytes_in_page(index)]);
            }
            Ok(())
        })
    }

    /// Copies a file of another directory.
    pub(super) fn copy(&mut self, key: &str, source: &Path) -> Result<(), PackageError> {
        let file = self.disk.open(source).map_err(at(source))?;
        let bytes = file.bytes().map_err(at(source))?;
        let mut offset = 0;
        self.write(key, |chunk| {
            let count = usize::try_from(bytes - offset).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
            chunk.resize(count, 0);
            file.read_exact_at(chunk, offset).map_err(at(source))?;
            offset += count as u64;
            Ok(())
        })
    }

    /// The MD5 of a written file, as the check list has it.
    pub(super) fn md5(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(own, _)| own == key).map(|(_, md5)| md5.as_str())
    }

    /// Everything that was written, with its MD5.
    pub(super) fn entries(&self) -> &[(String, String)] {
        &self.entries
    }

    /// Puts the check list in place: paths with back-slashes, digests in capitals, lines that end with CR and LF.
    pub(super) fn finish(self, lines: impl IntoIterator<Item = (String, String)>) -> Result<(), PackageError> {
        let mut list = String::from("VERSION:1.0\r\nFILE:START\r\n");
        for (key, md5) in lines {
            list.push_str(&format!("FILE:\\{}:{md5}\r\n", key.replace('/', "\\")));
        }
        list.push_str("FILE:END\r\n");
        let path = self.directory.join("md5.txt");
        self.disk.replace(&path, list.as_bytes(), true).map_err(at(&path))
    }
}
