//! What can be wrong with a raw-program document, and what a person does about it.

/// Why a raw-program or patch document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct RawProgramError {
    /// The line of the document, from 1.
    pub line: u32,
    /// What is wrong there.
    pub kind: RawProgramErrorKind,
}

/// What is wrong with a raw-program document. All texts are printable and bounded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RawProgramErrorKind {
    /// Larger than any real one.
    #[error("the document has {bytes} bytes; at most {bytes_max} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        bytes_max: u64,
    },
    /// Not well-formed.
    #[error("this is not well-formed XML: {0}")]
    Syntax(String),
    /// It says that it is written in something else than UTF-8.
    #[error("the document declares the encoding {0}; only UTF-8 is read")]
    Encoding(String),
    /// A document type, an entity or a processing instruction.
    #[error("{0} has no place in a raw-program document")]
    Forbidden(&'static str),
    /// The root is not one of the two known ones, or there are several.
    #[error("the document must have one root, <data> or <patches>, not <{0}>")]
    Root(String),
    /// There is no root element.
    #[error("the document has no <data> or <patches>")]
    Empty,
    /// An element that is not known. Nothing is guessed about what it would do to a module.
    #[error("the element <{0}> is not known, so what it would do to a module is not either")]
    UnknownElement(String),
    /// Text or elements inside an operation.
    #[error("there must be nothing inside of <{0}>")]
    Content(&'static str),
    /// More operations than any real package has.
    #[error("there are more than {0} operations")]
    TooManyOperations(usize),
    /// More attributes, or a longer element, than a command to the programmer can hold.
    #[error("the element has more than {attributes_max} attributes or {bytes_max} bytes")]
    ElementTooLong {
        /// The bound of attributes.
        attributes_max: usize,
        /// The bound of bytes.
        bytes_max: usize,
    },
    /// A known attribute in another case; a programmer may or may not take it for the known one.
    #[error("the attribute {found} must be written {meant}")]
    AttributeCase {
        /// As it is written.
        found: String,
        /// As it should be.
        meant: &'static str,
    },
    /// An attribute that may say where something is written, and is not known.
    #[error("the attribute {0} may say where something is written, and is not known")]
    AttributeUnknown(String),
    /// An attribute that is there and must not be.
    #[error("{attribute}=\"{value}\" is not supported")]
    AttributeUnsupported {
        /// The attribute.
        attribute: &'static str,
        /// Its value.
        value: String,
    },
    /// A value with characters that cannot be passed on.
    #[error("the value of {0} has control characters")]
    AttributeValue(String),
    /// A required attribute is not there.
    #[error("<{element}> has no {attribute}")]
    Missing {
        /// The element.
        element: &'static str,
        /// The attribute.
        attribute: &'static str,
    },
    /// Not a decimal number that fits.
    #[error("{attribute}=\"{value}\" is not a number in range")]
    Number {
        /// The attribute.
        attribute: &'static str,
        /// Its value.
        value: String,
    },
    /// A range that ends beyond every storage.
    #[error("the range of {pages} sectors from {start} on does not end")]
    Overflow {
        /// Its first sector.
        start: u64,
        /// Its length.
        pages: u64,
    },
    /// `last_sector` and the two other numbers do not say the same.
    #[error("last_sector=\"{found}\" contradicts start_sector and num_partition_sectors")]
    LastSector {
        /// What is written.
        found: String,
    },
    /// The package is not made for NAND.
    #[error("this package is for eMMC/UFS storage, which this version does not flash ({0})")]
    NotNand(String),
}

impl RawProgramErrorKind {
    /// What a person does about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NotNand(_) => "use the package for the NAND variant of the module",
            Self::UnknownElement(_) | Self::AttributeUnknown(_) | Self::AttributeUnsupported { .. } => {
                "ask the vendor for a package in the known form; nothing is guessed"
            }
            _ => "unpack the package again from the vendor's archive; the document looks damaged or edited",
        }
    }
}
