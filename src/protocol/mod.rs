//! In the making.

pub mod rawprogram;
pub mod table;
