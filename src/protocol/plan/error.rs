//! Why no plan can be made, and which failure code that is.

use crate::domain::{FailureCode, Geometry, PageRange};
use crate::protocol::table::TableError;

/// Why a package cannot be executed on a module. Lines are those of the raw-program document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Made for another page or block size.
    #[error("line {line} of the package is for {package}, the module's storage has {chip}")]
    Geometry {
        /// The line.
        line: u32,
        /// What the package assumes.
        package: Geometry,
        /// What the module has.
        chip: Geometry,
    },
    /// The storage does not consist of whole blocks.
    #[error("a storage of {total_pages} pages with {geometry} makes no sense")]
    Storage {
        /// Its pages, as the programmer says.
        total_pages: u64,
        /// Its geometry, as the programmer says.
        geometry: Geometry,
    },
    /// The module's own table does not fit its storage.
    #[error("the module's table: {0}")]
    ModuleTable(TableError),
    /// The module's table does not say where the calibration lies.
    #[error("the module's table has no partition {name}, so where its calibration lies is unknown")]
    NoEfs {
        /// The partition looked for.
        name: String,
    },
    /// The module's table has no boot loader's partition apart from the guarded ones.
    #[error("the module's table has no partition for the boot loader at the start of the storage")]
    NoBootPartition,
    /// The package's table does not fit the module's storage.
    #[error("the package's table: {0}")]
    PackageTable(TableError),
    /// The package's table has a guarded partition elsewhere, in another size, or not at all.
    #[error("the package's table puts the guarded partition {name} {}, the module has it {}", place(.package), place(.module))]
    MovesGuarded {
        /// The partition.
        name: String,
        /// Where the module has it.
        module: Option<PageRange>,
        /// Where the package's table puts it.
        package: Option<PageRange>,
    },
    /// An operation on a guarded partition.
    #[error("line {line} of the package {does} the guarded partition {name}")]
    TouchesGuarded {
        /// The line.
        line: u32,
        /// "erases" or "writes".
        does: &'static str,
        /// The partition.
        name: String,
    },
    /// A range beyond the storage.
    #[error("line {line} of the package ends beyond the storage of {total_pages} pages")]
    BeyondStorage {
        /// The line.
        line: u32,
        /// Pages of the storage.
        total_pages: u64,
    },
    /// A range that does not lie on block boundaries.
    #[error("line {line} of the package does not lie on the boundaries of blocks of {pages_per_block} pages")]
    Unaligned {
        /// The line.
        line: u32,
        /// Pages of a block.
        pages_per_block: u32,
    },
    /// A program of a file that the package does not have.
    #[error("line {line} of the package names the file {file}, which is not in it")]
    UnknownFile {
        /// The line.
        line: u32,
        /// The file, printable.
        file: String,
    },
    /// An image without content.
    #[error("line {line} of the package writes the empty file {image}")]
    EmptyImage {
        /// The line.
        line: u32,
        /// The image.
        image: String,
    },
    /// An image that is larger than the range it is for.
    #[error("line {line} of the package writes {image} with {pages} pages where {room} are provided")]
    ImageTooLarge {
        /// The line.
        line: u32,
        /// The image.
        image: String,
        /// Its pages.
        pages: u64,
        /// Pages of the range.
        room: u64,
    },
    /// Two programs of the same pages.
    #[error("lines {first} and {second} of the package write the same pages")]
    Overlap {
        /// The first line.
        first: u32,
        /// The second line.
        second: u32,
    },
    /// A program of pages that nothing erases.
    #[error("line {line} of the package writes pages that no line erases")]
    NotErased {
        /// The line.
        line: u32,
    },
    /// Nothing is written at the start of the storage.
    #[error("the package has no boot loader: no line writes the first page")]
    NoBootLoader,
    /// The boot loader is written and not erased.
    #[error("no line of the package erases the boot loader")]
    BootLoaderNotErased,
    /// The boot loader does not fit the module's partition for it, or shares it.
    #[error("line {line} of the package writes to the boot loader's partition what is not one boot loader inside it")]
    BootLoaderShape {
        /// The line.
        line: u32,
    },
    /// A partition that the module cannot start without is erased and stays empty.
    #[error(
        "the package erases the partition {name}, without which the module does not start, and writes nothing there"
    )]
    BootChainLost {
        /// The partition.
        name: String,
    },
    /// A patch of the storage: on NAND it would be a write without an erase.
    #[error("line {line} of the package patches the storage, which a NAND cannot do")]
    DiskPatch {
        /// The line.
        line: u32,
    },
    /// A program of a part of a file.
    #[error("line {line} of the package writes a file from its middle on, which is not supported")]
    FileOffset {
        /// The line.
        line: u32,
    },
    /// An erase with a vendor's tag that would have to be split.
    #[error("line {line} of the package has a vendor's tag and overlaps another erase, so what it does is unclear")]
    VendorErase {
        /// The line.
        line: u32,
    },
}

impl PlanError {
    /// The failure code that an operator sees.
    #[must_use]
    pub const fn code(&self) -> FailureCode {
        match self {
            Self::Geometry { .. } | Self::Storage { .. } => FailureCode::GeometryMismatch,
            Self::ModuleTable(_) | Self::NoEfs { .. } | Self::NoBootPartition => FailureCode::TableInvalid,
            Self::MovesGuarded { .. } => FailureCode::TableMovesGuarded,
            Self::TouchesGuarded { .. } => FailureCode::PackageTouchesGuarded,
            _ => FailureCode::PlanInvalid,
        }
    }
}

fn place(range: &Option<PageRange>) -> String {
    match range {
        Some(range) => format!("at pages {} to {}", range.start, range.end().saturating_sub(1)),
        None => "nowhere".to_owned(),
    }
}
