//! In the making.

pub mod plan;
pub mod rawprogram;
pub mod table;
