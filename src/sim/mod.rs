//! The virtual factory.

pub mod flash_map;
mod images;
mod mibib;
pub mod models;
pub mod nand;
mod nand_store;
mod page_pool;
pub mod programmer;
