//! The virtual factory.

pub mod models;
pub mod nand;
mod nand_store;
mod page_pool;
