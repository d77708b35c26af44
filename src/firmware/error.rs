//! Why a package cannot be used, as a sentence with its place, and what a person does about it.

use std::fmt;

use super::names::NameProblem;
use crate::domain::Geometry;
use crate::domain::limits::PACKAGE_DEPTH_MAX;
use crate::protocol::rawprogram::RawProgramErrorKind;
use crate::protocol::table::TableError;

/// Why a package cannot be used. Nothing was sent to any module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageError {
    /// The file inside the package, or the directory; printable.
    pub place: String,
    /// The line of that file, where there is one.
    pub line: Option<u32>,
    /// What is wrong.
    pub problem: PackageProblem,
}

impl PackageError {
    /// What a person does about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        self.problem.remedy()
    }
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.problem),
            None => write!(f, "{}: {}", self.place, self.problem),
        }
    }
}

impl std::error::Error for PackageError {}

/// What is wrong with a package. All texts are printable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageProblem {
    /// The disk does not give the file or the directory.
    #[error("cannot be read: {0}")]
    Disk(String),
    /// Not a package's directory.
    #[error("this is not a package: there is no directory update/firehose")]
    Layout,
    /// No `md5.txt`.
    #[error("the package has no check list")]
    NoCheckList,
    /// A check list that is not one.
    #[error("this is not a complete check list: {0}")]
    CheckList(&'static str),
    /// More files than any real package has.
    #[error("the package has more files than are plausible")]
    TooManyFiles,
    /// Directories in directories in directories.
    #[error("the package has directories nested deeper than {PACKAGE_DEPTH_MAX}")]
    TooDeep,
    /// A file that is larger than any real one.
    #[error("the file has {bytes} bytes; at most {bytes_max} are accepted")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// A text that is not UTF-8.
    #[error("the file is not UTF-8 text")]
    NotUtf8,
    /// A listed or used file that is not there.
    #[error("the file {0} is not in the package")]
    Missing(String),
    /// It is there under a name in another case.
    #[error("the file {wanted} is not in the package, but {found} is")]
    OtherCase {
        /// The name looked for.
        wanted: String,
        /// The name there is.
        found: String,
    },
    /// A link, a pipe, a device.
    #[error("{0} is a link or a device, not a regular file")]
    NotAFile(String),
    /// A name that is none of a file in a package.
    #[error("the file name {0}")]
    Name(NameProblem),
    /// The content is not what the list says.
    #[error("the file's MD5 is {found}, the check list says {listed}")]
    Digest {
        /// 32 digits from the list.
        listed: String,
        /// 32 digits of the content.
        found: String,
    },
    /// A used file that the check list does not name.
    #[error("the file {0} is used but not in the check list")]
    NotListed(String),
    /// The file was written to while it was read.
    #[error("the file changed while it was read")]
    Changed,
    /// No programmer for NAND.
    #[error("the package has no programmer (prog_…_firehose_….mbn or .elf)")]
    NoProgrammer,
    /// Programmer or documents are for another kind of storage.
    #[error("this package is for eMMC/UFS storage, which this version does not flash")]
    NotNand,
    /// More than one of what there must be one of; which one is meant is not guessed.
    #[error("there are several {what}: {names}")]
    Several {
        /// What.
        what: &'static str,
        /// Their names.
        names: String,
    },
    /// No raw-program document of the wanted kind.
    #[error("the package has no {0} document (rawprogram_….xml)")]
    NoDocument(&'static str),
    /// A document that cannot be executed.
    #[error("{0}")]
    RawProgram(RawProgramErrorKind),
    /// An operation that patches the storage.
    #[error("the patch is for the storage, which a NAND cannot do")]
    DiskPatch,
    /// A document of patches that erases or programs.
    #[error("a document of patches erases or programs")]
    NotAPatch,
    /// A document without a single operation.
    #[error("the document does nothing")]
    NothingToDo,
    /// Operations, or the file's name, say different sizes.
    #[error("{found} here, {expected} elsewhere in the package (its first operation, or the file's name)")]
    Geometry {
        /// What this place says.
        found: Geometry,
        /// What another one says.
        expected: Geometry,
    },
    /// The package's partition table cannot be believed.
    #[error("{0}")]
    Table(TableError),
}

impl PackageProblem {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Disk(_) => "check that the path is right, mounted and readable",
            Self::Layout => "give the directory that contains update/ and md5.txt",
            Self::NoCheckList => {
                "unpack the whole archive; without md5.txt nothing proves that the package is complete"
            }
            Self::OtherCase { .. } => "give the file the name that the package uses; upper and lower case differ",
            Self::NotListed(_) => "use the vendor's package as it is; what its check list does not name is not flashed",
            Self::Changed => "stop whatever writes to the package, and try again",
            Self::Several { .. } => "keep the one that is meant and move the others out of the package",
            Self::NoDocument(_) | Self::NoProgrammer | Self::NotNand => {
                "use the package for the NAND variant of the module"
            }
            Self::RawProgram(kind) => kind.remedy(),
            Self::NotAFile(_) => "put the file itself there instead of a link",
            _ => "unpack the package again from the vendor's archive; it looks damaged or edited",
        }
    }
}
