//! Why something is no XQCN file, or cannot become one.

use crate::domain::limits;
use crate::protocol::diag::efs::EfsPath;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XqcnErrorKind {
    /// It is longer than any that is read.
    #[error("{bytes} bytes are more than the {} of any XQCN file that is read", limits::XQCN_BYTES_MAX)]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// Its text cannot be decoded.
    #[error("the text is neither Windows-1252 nor UTF-8, or says something else of itself")]
    Encoding,
    /// It is no XML, or has what no such file has: a document type, entities, text.
    #[error("{0}")]
    Syntax(String),
    /// Too many, too deep or too long.
    #[error("more {0} than any XQCN file has")]
    TooMany(&'static str),
    /// A stream's bytes are no hexadecimal pairs with single spaces between them.
    #[error("stream {0}: the value is not made of hexadecimal pairs with single spaces between them")]
    Hex(String),
    /// A stream has another length than it says.
    #[error("stream {name}: {found} bytes, but it says {said}")]
    Length {
        /// Its name.
        name: String,
        /// What it says.
        said: usize,
        /// What it has.
        found: usize,
    },
    /// A stream's content makes no sense.
    #[error("stream {name}: {problem}")]
    Content {
        /// Its name.
        name: String,
        /// Why not.
        problem: &'static str,
    },
    /// Something is there twice.
    #[error("{0} is there twice")]
    Twice(String),
    /// Paths and contents do not match by their numbers.
    #[error("{section}: number {index} has a path or a content, but not both")]
    Unmatched {
        /// The section.
        section: &'static str,
        /// The number.
        index: u32,
    },
    /// Something that every file has is missing.
    #[error("there is no {0}")]
    Missing(&'static str),
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct XqcnError {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong.
    pub kind: XqcnErrorKind,
}

/// Why something cannot be written as a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XqcnWriteError {
    /// There is no place for the items of this subscription.
    #[error("an XQCN file has no place for NV items of subscription {0}")]
    Subscription(u16),
    /// The features are longer than their length field can say.
    #[error("features of {bytes} bytes do not fit into an XQCN file")]
    Features {
        /// How long they are.
        bytes: usize,
    },
    /// The name is longer than any that is read.
    #[error("a name of {chars} characters is longer than any that is read in an XQCN file")]
    Name {
        /// How long it is.
        chars: usize,
    },
    /// The firmware or the tool is longer than any text that is kept, or would not be read as it is.
    #[error(
        "the name of a firmware or of a tool is more than {} printable characters: {found}",
        limits::DEVICE_TEXT_CHARS_MAX
    )]
    Text {
        /// How it would be read.
        found: String,
    },
    /// A file is at the root, which is a directory.
    #[error("a file has no name")]
    Root,
    /// A file is longer than any that is read.
    #[error("{path}: {bytes} bytes are more than the {} of any file that is kept", limits::EFS_FILE_BYTES_MAX)]
    File {
        /// Its path.
        path: EfsPath,
        /// How long it is.
        bytes: usize,
    },
    /// There is more than is read of one file.
    #[error("the XQCN file would have more than {} storages and streams", limits::XQCN_STREAMS_MAX)]
    TooMany,
    /// It would be longer than any that is read.
    #[error("the XQCN file would be longer than {} bytes", limits::XQCN_BYTES_MAX)]
    TooLarge,
    /// A path is twice in one section.
    #[error("{0} is twice in one section of an XQCN file")]
    Twice(String),
}
