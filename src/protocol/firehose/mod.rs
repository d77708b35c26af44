//! Firehose: XML commands to a programmer that runs in the module's memory, and raw payload between them.
//!
//! There is no session machine here, because the order of commands is the plan's and the waiting is the caller's. What
//! is here is what must not depend on either: cutting the stream ([`Inbox`]), encoding commands ([`command`]), and
//! reading answers ([`negotiate`], [`Banner`], [`storage_info`]).
//!
//! A programmer is code from a package, on a module that may be broken: its documents are bounded in size, depth and
//! attributes, and its logs in number ([`LogBudget`]).

mod answers;
pub mod command;
mod document;
mod error;
mod inbox;
#[cfg(test)]
mod tests;

pub use answers::{
    Banner, LogBudget, Negotiation, StorageInfo, bad_block_count, bad_block_number, negotiate, storage_info,
};
pub use document::{Message, Response};
pub use error::FirehoseError;
pub use inbox::Inbox;
