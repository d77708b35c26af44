//! A package directory: what a vendor ships to be flashed.
//!
//! Everything that can be wrong with a package is found here, before a module is touched: a package that turns out to
//! be incomplete in the middle of a flash leaves a dead module behind. [`Package::open`] finds the files by walking,
//! compares each one with the check list, keeps those open that a flash needs, and tells update from factory
//! documents. [`mod@inspect`] says in words what the package would do, also of one that is not whole.

mod check_list;
mod document;
mod error;
pub mod inspect;
mod names;
mod opening;
mod package;
mod shelf;
#[cfg(test)]
mod tests;

pub use document::PackageKind;
pub use error::{PackageError, PackageProblem};
pub use inspect::{Inspection, inspect, survey};
pub use names::NameProblem;
pub use package::{DocumentInfo, Image, Package, PackageFile};
