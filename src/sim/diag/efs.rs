//! The file system over DIAG: subsystem EFS2.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{BAD_COMMAND, BAD_LENGTH, Store, SyncState};
use crate::sim::efs::{Change, Items, NV_TREE, Node, NodeKind, is_hidden, is_of_nv};
use crate::sim::spec::Pacing;

const DIRECTORIES_MAX: usize = 2;
const FILES_MAX: usize = 4;
const TRANSFER_BYTES_MAX: usize = 1024;
const ITEM_BYTES_MAX: usize = 1800;
const FILE_BYTES_MAX: usize = 64 * 1024;
const NAME_BYTES_MAX: usize = 128;
const PATH_BYTES_MAX: usize = 200;
/// When everything was accessed, changed and made: the clock's zero, which modules without network time show.
const TIME: [i32; 3] = [315_964_800, 315_964_800, 315_964_800];

const ENOENT: i32 = 2;
const EBADF: i32 = 9;
const EACCES: i32 = 13;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const EMFILE: i32 = 24;
const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;
const ENAMETOOLONG: i32 = 36;
const EIO: i32 = 5;

const CREATE: i32 = 0x40;
const TRUNCATE: i32 = 0x200;
const ITEM_FILE: i32 = 0x4_0000;
const MAKE_DIRECTORIES: i32 = 0x8_0000;

#[derive(Debug)]
struct OpenFile {
    path: String,
    is_written: bool,
}

#[derive(Debug)]
struct OpenDirectory {
    names: Vec<(String, String)>,
    /// The last entry that was given.
    sequence: u32,
}

/// What is open.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<i32, OpenFile>,
    directories: BTreeMap<i32, OpenDirectory>,
}

/// The words of a request, one after the other.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn i32(&mut self) -> Result<i32, u8> {
        let (word, rest) = self.0.split_first_chunk().ok_or(BAD_LENGTH)?;
        self.0 = rest;
        Ok(i32::from_le_bytes(*word))
    }

    fn u16(&mut self) -> Result<u16, u8> {
        let (word, rest) = self.0.split_first_chunk().ok_or(BAD_LENGTH)?;
        self.0 = rest;
        Ok(u16::from_le_bytes(*word))
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], u8> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(BAD_LENGTH)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The path at the end, with its NUL.
    fn path(self) -> Result<Result<String, i32>, u8> {
        let (last, path) = self.0.split_last().ok_or(BAD_LENGTH)?;
        if *last != 0 || path.contains(&0) {
            return Err(BAD_LENGTH);
        }
        let Ok(path) = std::str::from_utf8(path) else { return Ok(Err(EINVAL)) };
        Ok(if path.len() > PATH_BYTES_MAX {
            Err(ENAMETOOLONG)
        } else if !path.starts_with('/') || (path != "/" && path.ends_with('/')) || path.contains("//") {
            Err(EINVAL)
        } else if is_of_nv(path) {
            Err(EACCES)
        } else {
            Ok(path.to_owned())
        })
    }
}

fn words(words: &[i32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An answer that is an error number.
fn errno(result: Result<(), i32>) -> Vec<u8> {
    words(&[result.err().unwrap_or_default()])
}

/// An answer that is a handle and an error number.
fn handle(result: Result<i32, i32>) -> Vec<u8> {
    match result {
        Ok(handle) => words(&[handle, 0]),
        Err(errno) => words(&[-1, errno]),
    }
}

fn mode_of(kind: NodeKind) -> i32 {
    match kind {
        NodeKind::Item => 0o160_777,
        NodeKind::File => 0o100_644,
        NodeKind::Directory => 0o040_755,
    }
}

fn length(items: &Items, path: &str) -> i32 {
    i32::try_from(items.get(path).unwrap_or_default().len()).unwrap_or(i32::MAX)
}

/// Whether something can be put at a path: its directory must be there, or may be made.
fn check_parent(items: &Items, path: &str, may_make: bool) -> Result<(), i32> {
    let mut parent = path;
    while let Some((above, _)) = parent.rsplit_once('/') {
        let above = if above.is_empty() { "/" } else { above };
        match items.kind(above) {
            Some(NodeKind::Directory) => return Ok(()),
            Some(_) => return Err(ENOTDIR),
            None if !may_make => return Err(ENOENT),
            None => parent = above,
        }
    }
    Ok(())
}

fn put(store: &mut dyn Store, now: Duration, path: &str, kind: NodeKind, data: Vec<u8>) -> Result<(), i32> {
    let change = Change { path: path.to_owned(), node: Some(Node { kind, data }) };
    if store.write_file(now, change) { Ok(()) } else { Err(ENOSPC) }
}

impl Files {
    /// The answer behind the four bytes that repeat the request, or the code with which that is refused.
    pub(super) fn answer(
        &mut self,
        operation: u8,
        body: &[u8],
        store: &mut dyn Store,
        now: Duration,
        pacing: Pacing,
    ) -> Result<Vec<u8>, u8> {
        let mut body = Words(body);
        Ok(match operation {
            0 => body.bytes(40)?.to_vec(),
            1 => {
                let limit = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
                words(&[limit(NAME_BYTES_MAX), limit(PATH_BYTES_MAX), 8, limit(FILE_BYTES_MAX), 4096, 8])
            }
            2 => {
                let (flags, _mode) = (body.i32()?, body.i32()?);
                let path = body.path()?;
                handle(path.and_then(|path| self.open(store, now, flags, path)))
            }
            3 => errno(self.files.remove(&body.i32()?).map(|_| ()).ok_or(EBADF)),
            4 => self.read(store.items(), &mut body)?,
            5 => self.write(store, now, &mut body)?,
            8 => errno(body.path()?.and_then(|path| unlink(store, now, &path))),
            9 => {
                body.u16()?;
                errno(body.path()?.and_then(|path| make_directory(store, now, &path)))
            }
            11 => handle(body.path()?.and_then(|path| self.open_directory(store, &path))),
            12 => self.read_directory(store.items(), &mut body)?,
            13 => errno(self.directories.remove(&body.i32()?).map(|_| ()).ok_or(EBADF)),
            15 => {
                let found = body.path()?.and_then(|path| {
                    let kind = store.items().kind(&path).ok_or(ENOENT)?;
                    Ok((mode_of(kind), length(store.items(), &path)))
                });
                match found {
                    Ok((mode, bytes)) => words(&[0, mode, bytes, 1, TIME[0], TIME[1], TIME[2]]),
                    Err(errno) => words(&[errno, 0, 0, 0, 0, 0, 0]),
                }
            }
            38 => put_item(store, now, body)?,
            39 => match body.path()?.and_then(|path| get_item(store.items(), &path)) {
                Ok(data) => [words(&[i32::try_from(data.len()).unwrap_or(i32::MAX), 0]), data].concat(),
                Err(errno) => words(&[-1, errno]),
            },
            48 => {
                let sequence = body.u16()?;
                let result = body.path()?.map(|_| store.sync(now, pacing));
                let mut answer = sequence.to_le_bytes().to_vec();
                answer.extend(result.unwrap_or_default().to_le_bytes());
                answer.extend(errno(result.map(|_| ())));
                answer
            }
            49 => {
                let sequence = body.u16()?;
                let token = body.i32()?.cast_unsigned();
                let result = body.path()?.map(|_| store.sync_state(now, token));
                let (status, result) = match result {
                    Ok(SyncState::Done) => (0, Ok(())),
                    Ok(SyncState::Running) => (1, Ok(())),
                    Ok(SyncState::Failed) => (2, Err(EIO)),
                    Err(errno) => (2, Err(errno)),
                };
                [sequence.to_le_bytes().as_slice(), &[status], &errno(result)].concat()
            }
            _ => return Err(BAD_COMMAND),
        })
    }

    fn open(&mut self, store: &mut dyn Store, now: Duration, flags: i32, path: String) -> Result<i32, i32> {
        if self.files.len() >= FILES_MAX {
            return Err(EMFILE);
        }
        let is_written = flags & 3 != 0;
        match store.items().kind(&path) {
            Some(NodeKind::Directory) => return Err(EISDIR),
            // Items are read and written as a whole.
            Some(NodeKind::Item) => return Err(EACCES),
            _ if flags & ITEM_FILE != 0 => return Err(EACCES),
            Some(NodeKind::File) if is_written && flags & TRUNCATE != 0 => {
                put(store, now, &path, NodeKind::File, Vec::new())?;
            }
            Some(NodeKind::File) => {}
            None if !is_written || flags & CREATE == 0 => return Err(ENOENT),
            None => {
                check_parent(store.items(), &path, flags & MAKE_DIRECTORIES != 0)?;
                put(store, now, &path, NodeKind::File, Vec::new())?;
            }
        }
        let handle = (0..).find(|handle| !self.files.contains_key(handle)).ok_or(EMFILE)?;
        self.files.insert(handle, OpenFile { path, is_written });
        Ok(handle)
    }

    fn read(&self, items: &Items, body: &mut Words<'_>) -> Result<Vec<u8>, u8> {
        let (handle, wanted, offset) = (body.i32()?, body.i32()?, body.i32()?);
        let data = match (self.files.get(&handle), usize::try_from(wanted), usize::try_from(offset)) {
            (None, ..) => Err(EBADF),
            (Some(file), Ok(wanted), Ok(offset)) if wanted <= TRANSFER_BYTES_MAX => {
                let content = items.get(&file.path).unwrap_or_default();
                let rest = content.get(offset..).unwrap_or_default();
                Ok(&rest[..rest.len().min(wanted)])
            }
            _ => Err(EINVAL),
        };
        Ok(match data {
            Ok(data) => {
                let bytes = i32::try_from(data.len()).unwrap_or(i32::MAX);
                [&words(&[handle, offset, bytes, 0]), data].concat()
            }
            Err(errno) => words(&[handle, offset, -1, errno]),
        })
    }

    fn write(&self, store: &mut dyn Store, now: Duration, body: &mut Words<'_>) -> Result<Vec<u8>, u8> {
        let (handle, offset) = (body.i32()?, body.i32()?);
        let data = body.0;
        let result = match (self.files.get(&handle), usize::try_from(offset)) {
            (None, _) => Err(EBADF),
            (Some(OpenFile { is_written: false, .. }), _) => Err(EBADF),
            (Some(file), Ok(offset)) if data.len() <= TRANSFER_BYTES_MAX => {
                let end = offset.saturating_add(data.len());
                if end > FILE_BYTES_MAX {
                    Err(EFBIG)
                } else {
                    let mut content = store.items().get(&file.path).unwrap_or_default().to_vec();
                    content.resize(content.len().max(end), 0);
                    content[offset..end].copy_from_slice(data);
                    put(store, now, &file.path, NodeKind::File, content)
                }
            }
            _ => Err(EINVAL),
        };
        let bytes = i32::try_from(data.len()).unwrap_or(i32::MAX);
        Ok(match result {
            Ok(()) => words(&[handle, offset, bytes, 0]),
            Err(errno) => words(&[handle, offset, -1, errno]),
        })
    }

    fn open_directory(&mut self, store: &dyn Store, path: &str) -> Result<i32, i32> {
        let items = store.items();
        match items.kind(path) {
            Some(NodeKind::Directory) => {}
            Some(_) => return Err(ENOTDIR),
            None => return Err(ENOENT),
        }
        if self.directories.len() >= DIRECTORIES_MAX {
            return Err(EACCES);
        }
        let below = if path == "/" { "" } else { path };
        let mut names: Vec<(String, String)> = items
            .names(path)
            .into_iter()
            .map(|name| (format!("{below}/{name}"), name))
            .filter(|(path, _)| path != NV_TREE && !is_hidden(path))
            .collect();
        if store.model().family != "mdm9x07" {
            // Newer builds list these too.
            let dots = [".", ".."].map(|name| (path.to_owned(), name.to_owned()));
            names.splice(0..0, dots);
        }
        let handle = (1..).find(|handle| !self.directories.contains_key(handle)).ok_or(EACCES)?;
        self.directories.insert(handle, OpenDirectory { names, sequence: 0 });
        Ok(handle)
    }

    fn read_directory(&mut self, items: &Items, body: &mut Words<'_>) -> Result<Vec<u8>, u8> {
        let (handle, sequence) = (body.i32()?, body.i32()?);
        let wanted = sequence.cast_unsigned();
        let error = |errno: i32| [words(&[handle, sequence, errno, 0, 0, 0, 0, 0, 0]), vec![0]].concat();
        let Some(directory) = self.directories.get_mut(&handle) else { return Ok(error(EBADF)) };
        // The next one, or the last one again.
        if wanted == 0 || (wanted != directory.sequence && wanted != directory.sequence + 1) {
            return Ok(error(EINVAL));
        }
        directory.sequence = wanted;
        let Some((path, name)) = directory.names.get(wanted as usize - 1) else { return Ok(error(0)) };
        let kind = items.kind(path).unwrap_or(NodeKind::File);
        let entry_type = match kind {
            NodeKind::File => 0,
            NodeKind::Directory => 1,
            NodeKind::Item => 0xf,
        };
        let entry = [handle, sequence, 0, entry_type, mode_of(kind), length(items, path), TIME[0], TIME[1], TIME[2]];
        Ok([&words(&entry), name.as_bytes(), &[0]].concat())
    }
}

fn unlink(store: &mut dyn Store, now: Duration, path: &str) -> Result<(), i32> {
    match store.items().kind(path) {
        None => Err(ENOENT),
        Some(NodeKind::Directory) => Err(EISDIR),
        Some(_) if store.write_file(now, Change { path: path.to_owned(), node: None }) => Ok(()),
        Some(_) => Err(ENOSPC),
    }
}

fn make_directory(store: &mut dyn Store, now: Duration, path: &str) -> Result<(), i32> {
    if store.items().kind(path).is_some() {
        return Err(EEXIST);
    }
    check_parent(store.items(), path, false)?;
    put(store, now, path, NodeKind::Directory, Vec::new())
}

fn get_item(items: &Items, path: &str) -> Result<Vec<u8>, i32> {
    match items.kind(path) {
        Some(NodeKind::Item) => items.get(path).map(<[u8]>::to_vec).ok_or(ENOENT),
        Some(NodeKind::Directory) => Err(EISDIR),
        Some(NodeKind::File) => Err(EINVAL),
        None => Err(ENOENT),
    }
}

fn put_item(store: &mut dyn Store, now: Duration, mut body: Words<'_>) -> Result<Vec<u8>, u8> {
    let bytes = usize::from(body.u16()?);
    body.u16()?;
    let (flags, mode) = (body.i32()?, body.u16()?);
    let data = body.bytes(bytes)?;
    let result = body.path()?.and_then(|path| {
        match store.items().kind(&path) {
            Some(NodeKind::Item) => {}
            Some(NodeKind::Directory) => return Err(EISDIR),
            Some(NodeKind::File) => return Err(EINVAL),
            None if flags & CREATE == 0 => return Err(ENOENT),
            None => check_parent(store.items(), &path, flags & MAKE_DIRECTORIES != 0)?,
        }
        if i32::from(mode) & 0o170_000 != 0o160_000 {
            return Err(EINVAL);
        }
        if data.len() > ITEM_BYTES_MAX {
            return Err(EFBIG);
        }
        put(store, now, &path, NodeKind::Item, data.to_vec())
    });
    let errno = i16::try_from(result.err().unwrap_or_default()).unwrap_or(i16::MAX);
    let written = if errno == 0 { i16::try_from(bytes).unwrap_or(i16::MAX) } else { -1 };
    Ok([0_i16, errno, written].iter().flat_map(|word| word.to_le_bytes()).collect())
}
