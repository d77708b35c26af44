//! Paths of the module's file system.

use std::fmt;

use crate::domain::limits::EFS_PATH_BYTES_MAX;

/// Why something is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin at the root.
    #[error("a path in the module's file system begins with /")]
    NotAbsolute,
    /// It, or the name, has no part at all between two slashes, or one that means another directory.
    #[error("a path in the module's file system has no empty parts, and none called . or ..")]
    BadPart,
    /// It holds something that is not printable ASCII.
    #[error("a path in the module's file system is printable ASCII")]
    BadCharacter,
    /// It is too long.
    #[error("a path in the module's file system has at most {EFS_PATH_BYTES_MAX} bytes")]
    TooLong,
}

/// A path in the module's file system: absolute, printable ASCII, no longer than modules take.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EfsPath(String);

impl EfsPath {
    /// The root directory.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Checks a path.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn new(path: &str) -> Result<Self, PathError> {
        let relative = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        if relative.is_empty() {
            return Ok(Self::root());
        }
        if path.len() > EFS_PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        relative.split('/').try_for_each(check)?;
        Ok(Self(path.to_owned()))
    }

    /// An entry of this directory.
    ///
    /// # Errors
    /// [`PathError`], also for a name with a slash in it.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        if name.contains('/') {
            return Err(PathError::BadPart);
        }
        let separator = if self.0 == "/" { "" } else { "/" };
        Self::new(&format!("{}{separator}{name}", self.0)).and_then(|path| {
            // An empty name would give the directory itself.
            if path == *self { Err(PathError::BadPart) } else { Ok(path) }
        })
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory it lies in; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (parent, name) = self.0.rsplit_once('/')?;
        match (parent, name) {
            (_, "") => None,
            ("", _) => Some(Self::root()),
            (parent, _) => Some(Self(parent.to_owned())),
        }
    }

    /// The path as it stands in a request.
    pub(super) fn terminated(&self) -> Vec<u8> {
        let mut bytes = self.0.clone().into_bytes();
        bytes.push(0);
        bytes
    }
}

fn check(part: &str) -> Result<(), PathError> {
    if matches!(part, "" | "." | "..") {
        return Err(PathError::BadPart);
    }
    let printable = part.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if printable { Ok(()) } else { Err(PathError::BadCharacter) }
}

impl fmt::Display for EfsPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for EfsPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_absolute_and_lead_nowhere_else() {
        for good in ["/", "/nv", "/nv/item_files/rfnv/00020175", "/a b/..c/.d"] {
            assert_eq!(EfsPath::new(good).expect("a path").as_str(), good);
        }
        for (bad, why) in [
            ("", PathError::NotAbsolute),
            ("nv", PathError::NotAbsolute),
            ("//", PathError::BadPart),
            ("/nv/", PathError::BadPart),
            ("/nv/../nv", PathError::BadPart),
            ("/.", PathError::BadPart),
            ("/a\nb", PathError::BadCharacter),
            ("/\u{e4}", PathError::BadCharacter),
        ] {
            assert_eq!(EfsPath::new(bad), Err(why), "{bad:?}");
        }
        let longest = format!("/{}", "a".repeat(EFS_PATH_BYTES_MAX - 1));
        assert!(EfsPath::new(&longest).is_ok());
        assert_eq!(EfsPath::new(&format!("{longest}a")), Err(PathError::TooLong));
    }

    #[test]
    fn entries_lie_in_their_directory() {
        let nv = EfsPath::root().join("nv").expect("a path");
        assert_eq!(nv.as_str(), "/nv");
        assert_eq!(nv.join("item_files").expect("a path").as_str(), "/nv/item_files");
        assert_eq!(nv.parent(), Some(EfsPath::root()));
        assert_eq!(EfsPath::root().parent(), None);
        for bad in ["", ".", "..", "a/b", "/", "a\0"] {
            assert!(nv.join(bad).is_err() && EfsPath::root().join(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_joined_is_a_path_below(directory in "(/[ -~]{0,20}){1,4}", name in "\\PC{0,30}") {
            if let Ok(directory) = EfsPath::new(&directory) && let Ok(path) = directory.join(&name) {
                prop_assert_eq!(EfsPath::new(path.as_str()), Ok(path.clone()));
                prop_assert_eq!(path.parent(), Some(directory));
            }
        }
    }
}
