//! The module's file system: whole files, items, directories and the tree.

use super::talk::{DiagFailure, DiagSession};
use crate::domain::limits::{
    EFS_DEPTH_MAX, EFS_DIRECTORY_ENTRIES_MAX, EFS_FILE_BYTES_MAX, EFS_TRANSFER_BYTES_MAX, EFS_TREE_ENTRIES_MAX,
};
use crate::protocol::diag::efs::{DirectoryHandle, EfsPath, FileHandle, FileType, OpenMode, Stat};
use crate::protocol::diag::{Errno, ReplyError};

/// What a module lists of its file system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Everything below the root that was listed, directories before what is in them.
    pub entries: Vec<(EfsPath, Stat)>,
    /// Directories that the module did not let be read to their end. A backup that has some is not complete.
    pub unreadable: Vec<(EfsPath, Errno)>,
}

fn at(path: &EfsPath) -> impl Fn(DiagFailure) -> DiagFailure + '_ {
    move |failure| match failure {
        DiagFailure::Reply(error) => DiagFailure::Path { path: path.clone(), error },
        other => other,
    }
}

fn wrong<T>(path: &EfsPath, problem: &'static str) -> Result<T, DiagFailure> {
    Err(DiagFailure::Tree { path: path.clone(), problem })
}

/// What is not open is closed: the answer to the first closing may have been lost.
fn closed(answer: Result<(), DiagFailure>) -> Result<(), DiagFailure> {
    match answer {
        Err(DiagFailure::Reply(ReplyError::Efs { errno: Errno::BAD_HANDLE, .. })) => Ok(()),
        other => other,
    }
}

impl DiagSession {
    /// What lies at a path; `None` where nothing does.
    ///
    /// # Errors
    /// [`DiagFailure`].
    pub async fn stat(&mut self, path: &EfsPath) -> Result<Option<Stat>, DiagFailure> {
        let request = self.efs()?.stat(path);
        match self.ask(&request).await.map_err(at(path)) {
            Ok(stat) => Ok(Some(stat)),
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// An item file's content; `None` where there is none.
    ///
    /// # Errors
    /// [`DiagFailure`].
    pub async fn get_item(&mut self, path: &EfsPath) -> Result<Option<Vec<u8>>, DiagFailure> {
        let request = self.efs()?.get(path);
        match self.ask(&request).await.map_err(at(path)) {
            Ok(content) => Ok(Some(content)),
            Err(failure) if failure.is_absent() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Writes an item file. It is safe from a loss of power only after [`sync`](Self::sync).
    ///
    /// # Errors
    /// [`DiagFailure`].
    pub async fn put_item(&mut self, path: &EfsPath, content: &[u8]) -> Result<(), DiagFailure> {
        match self.efs()?.put(path, content) {
            Ok(request) => self.ask(&request).await.map_err(at(path)),
            Err(_) => wrong(path, "the item is longer than one request holds"),
        }
    }

    /// An ordinary file's content: all of it, or an error.
    ///
    /// # Errors
    /// [`DiagFailure`]; [`DiagFailure::Tree`] when the module gives more or less than it says the file has.
    pub async fn read_file(&mut self, path: &EfsPath) -> Result<Vec<u8>, DiagFailure> {
        let efs = self.efs()?;
        let stat = self.ask(&efs.stat(path)).await.map_err(at(path))?;
        if stat.bytes > EFS_FILE_BYTES_MAX {
            return wrong(path, "the file is longer than any that is read");
        }
        let file = self.open_handle(&efs.open(path, OpenMode::Read)).await.map_err(at(path))?;
        let content = self.read_open(path, file, stat.bytes).await;
        let closed = closed(self.ask(&efs.close(file)).await).map_err(at(path));
        content.and_then(|content| closed.map(|()| content))
    }

    async fn read_open(&mut self, path: &EfsPath, file: FileHandle, bytes: u32) -> Result<Vec<u8>, DiagFailure> {
        let efs = self.efs()?;
        let mut content = Vec::new();
        let mut offset = 0;
        loop {
            // One read behind the end: a file that has grown, or says that it is shorter than it is, is not whole.
            let piece = self.ask(&efs.read(file, offset, EFS_TRANSFER_BYTES_MAX)).await.map_err(at(path))?;
            if piece.is_empty() {
                break;
            }
            offset += u32::try_from(piece.len()).expect("a piece has 1 KiB at the most");
            content.extend(piece);
            if offset > bytes {
                return wrong(path, "the file is longer than it says");
            }
        }
        if offset < bytes { wrong(path, "the file ends before it should") } else { Ok(content) }
    }

    /// Writes an ordinary file, whatever was there before. It is safe from a loss of power only after
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    /// [`DiagFailure`].
    pub async fn write_file(&mut self, path: &EfsPath, content: &[u8], permissions: u16) -> Result<(), DiagFailure> {
        let efs = self.efs()?;
        let file = self.open_handle(&efs.open(path, OpenMode::Replace { permissions })).await.map_err(at(path))?;
        let written = self.write_open(path, file, content).await;
        let closed = closed(self.ask(&efs.close(file)).await).map_err(at(path));
        written.and(closed)
    }

    async fn write_open(&mut self, path: &EfsPath, file: FileHandle, content: &[u8]) -> Result<(), DiagFailure> {
        let efs = self.efs()?;
        let mut rest = content;
        let mut offset = 0;
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(EFS_TRANSFER_BYTES_MAX as usize)];
            let request = efs.write(file, offset, piece).expect("a piece fits into one request");
            let written = self.ask(&request).await.map_err(at(path))?;
            if written == 0 {
                return wrong(path, "the module writes nothing and gives no error");
            }
            offset = match offset.checked_add(written) {
                Some(offset) => offset,
                None => return wrong(path, "the file is too long"),
            };
            rest = &rest[written as usize..];
        }
        Ok(())
    }

    /// Makes a directory; one that is there already is fine.
    ///
    /// # Errors
    /// [`DiagFailure`].
    pub async fn make_directory(&mut self, path: &EfsPath, permissions: u16) -> Result<(), DiagFailure> {
        let request = self.efs()?.make_directory(path, permissions);
        match self.ask(&request).await {
            Err(DiagFailure::Reply(ReplyError::Efs { errno: Errno::EXISTS, .. })) => Ok(()),
            other => other.map_err(at(path)),
        }
    }

    /// Removes a file; one that is not there is fine.
    ///
    /// # Errors
    /// [`DiagFailure`].
    pub async fn remove(&mut self, path: &EfsPath) -> Result<(), DiagFailure> {
        let request = self.efs()?.unlink(path);
        match self.ask(&request).await.map_err(at(path)) {
            Err(failure) if failure.is_absent() => Ok(()),
            other => other,
        }
    }

    /// The entries of a directory, `.` and `..` left out.
    ///
    /// # Errors
    /// [`DiagFailure`].
    pub async fn list(&mut self, directory: &EfsPath) -> Result<Vec<(EfsPath, Stat)>, DiagFailure> {
        let efs = self.efs()?;
        let handle = self.open_handle(&efs.open_directory(directory)).await.map_err(at(directory))?;
        let entries = self.list_open(directory, handle).await;
        let closed = closed(self.ask(&efs.close_directory(handle)).await).map_err(at(directory));
        entries.and_then(|entries| closed.map(|()| entries))
    }

    async fn list_open(
        &mut self,
        directory: &EfsPath,
        handle: DirectoryHandle,
    ) -> Result<Vec<(EfsPath, Stat)>, DiagFailure> {
        let efs = self.efs()?;
        let mut entries = Vec::new();
        for sequence in 1..=EFS_DIRECTORY_ENTRIES_MAX {
            let Some(entry) = self.ask(&efs.read_directory(handle, sequence)).await.map_err(at(directory))? else {
                return Ok(entries);
            };
            if matches!(entry.name.as_str(), "." | "..") {
                continue;
            }
            match directory.join(&entry.name) {
                Ok(path) => entries.push((path, entry.stat)),
                Err(_) => return wrong(directory, "an entry has a name that cannot be part of a path"),
            }
        }
        wrong(directory, "the directory does not end")
    }

    /// Everything that the module lists below a directory. Each directory is closed before the next one is opened:
    /// modules allow few at a time, and a tool that forgot it has made backups of directories without files.
    ///
    /// # Errors
    /// [`DiagFailure`]. A directory that cannot be read is part of the result instead.
    pub async fn tree(&mut self, root: &EfsPath) -> Result<Tree, DiagFailure> {
        let mut tree = Tree::default();
        let mut waiting = vec![(root.clone(), 0)];
        while let Some((directory, depth)) = waiting.pop() {
            let entries = match self.list(&directory).await {
                Ok(entries) => entries,
                Err(DiagFailure::Path { path, error }) if path == directory && error.errno().is_some() => {
                    tree.unreadable.push((directory, error.errno().unwrap_or(Errno::ACCESS)));
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if tree.entries.len() + entries.len() > EFS_TREE_ENTRIES_MAX {
                return wrong(&directory, "the module lists more than is kept of one");
            }
            for (path, stat) in entries.iter().rev() {
                if stat.file_type != FileType::Directory {
                    continue;
                }
                if depth == EFS_DEPTH_MAX {
                    return wrong(path, "the directories are nested too deep");
                }
                waiting.push((path.clone(), depth + 1));
            }
            tree.entries.extend(entries);
        }
        Ok(tree)
    }
}
