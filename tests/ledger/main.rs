//! The ledger under crashes, failing disks, tampering and concurrent claims.

#![expect(clippy::disallowed_methods, reason = "files are damaged behind the product's back")]

mod claims;
mod crash;
mod cures;
mod facts;
mod index;
mod script;
mod tamper;
