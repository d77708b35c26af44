//! In the making.

pub mod rawprogram;
