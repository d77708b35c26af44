//! The virtual factory.

pub mod flash_map;
mod mibib;
pub mod models;
pub mod nand;
mod nand_store;
mod page_pool;
