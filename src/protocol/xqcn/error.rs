//! Why something is no XQCN file, or cannot become one.

use crate::domain::limits;

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
    /// A text is longer than its length field can say.
    #[error("a name of {bytes} bytes does not fit into an XQCN file")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It would be longer than any that is read.
    #[error("the XQCN file would be longer than {} bytes", limits::XQCN_BYTES_MAX)]
    TooLarge,
    /// A path is twice in one section.
    #[error("{0} is twice in one section of an XQCN file")]
    Twice(String),
}
