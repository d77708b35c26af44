//! The virtual factory.

pub mod models;
