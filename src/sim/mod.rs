//! The virtual factory.

pub mod boot;
pub mod efs;
pub mod flash_map;
mod images;
mod mibib;
pub mod models;
pub mod nand;
mod nand_store;
pub mod package;
mod page_pool;
pub mod programmer;
pub mod unit;
