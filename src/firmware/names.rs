//! Names of files inside a package: from how a document writes them to the key under which the package knows them.
//!
//! A name from a document is never joined to a path. It is brought into one form and then looked up among the files
//! that were found by walking the directory; a name that leads outside, or that has never been found, finds nothing.

use crate::domain::limits::PACKAGE_PATH_BYTES_MAX;

/// Why a name cannot be one of a file in a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// Nothing, or only dots and separators.
    #[error("names no file")]
    Empty,
    /// Longer than any real one.
    #[error("is longer than {PACKAGE_PATH_BYTES_MAX} bytes")]
    TooLong,
    /// Control characters.
    #[error("has control characters")]
    Control,
    /// Not relative to the package.
    #[error("does not say where in the package the file is")]
    Absolute,
    /// `..` beyond the package.
    #[error("leads out of the package")]
    Outside,
}

/// The key of `name`, as written in a file that lies in `base`: components joined by `/`, back-slashes and `..`
/// resolved.
pub(super) fn normalise(base: &[&str], name: &str) -> Result<String, NameProblem> {
    if name.len() > PACKAGE_PATH_BYTES_MAX {
        return Err(NameProblem::TooLong);
    }
    if name.chars().any(char::is_control) {
        return Err(NameProblem::Control);
    }
    if name.starts_with(['/', '\\']) || name.contains(':') {
        return Err(NameProblem::Absolute);
    }
    let mut components: Vec<&str> = base.to_vec();
    for component in name.split(['/', '\\']) {
        match component {
            "" | "." => {}
            ".." => {
                components.pop().ok_or(NameProblem::Outside)?;
            }
            other => components.push(other),
        }
    }
    if components.is_empty() || name.ends_with(['/', '\\', '.']) || name.is_empty() {
        return Err(NameProblem::Empty);
    }
    Ok(components.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: &[&str] = &["update", "firehose"];

    #[test]
    fn names_are_resolved_inside_the_package_only() {
        let good = [
            ("..\\sbl1.mbn", "update/sbl1.mbn"),
            ("table.mbn", "update/firehose/table.mbn"),
            ("../../contents.xml", "contents.xml"),
            (".\\a\\.\\b", "update/firehose/a/b"),
            ("..%2f..%2fa", "update/firehose/..%2f..%2fa"),
        ];
        for (name, key) in good {
            assert_eq!(normalise(BASE, name).as_deref(), Ok(key), "{name}");
        }
        let bad = [
            ("", NameProblem::Empty),
            ("..\\..", NameProblem::Empty),
            ("a/", NameProblem::Empty),
            ("../../../etc/shadow", NameProblem::Outside),
            ("..\\..\\..\\update\\sbl1.mbn", NameProblem::Outside),
            ("/etc/shadow", NameProblem::Absolute),
            ("\\\\server\\share\\a", NameProblem::Absolute),
            ("C:\\a", NameProblem::Absolute),
            ("a\0.mbn", NameProblem::Control),
        ];
        for (name, problem) in bad {
            assert_eq!(normalise(BASE, name), Err(problem), "{name:?}");
        }
        assert_eq!(normalise(BASE, &"x".repeat(600)), Err(NameProblem::TooLong));
    }

    proptest! {
        #[test]
        fn no_name_gives_a_key_that_climbs(name in "[a./\\\\: %\u{0}é]{0,24}") {
            if let Ok(key) = normalise(BASE, &name) {
                prop_assert!(!key.is_empty() && !key.starts_with('/'));
                prop_assert!(key.split('/').all(|part| !["", ".", ".."].contains(&part)), "{}", key);
            }
        }
    }
}
