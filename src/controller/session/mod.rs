//! Conversations with one module: the protocol machines driven over the hardware traits, with deadlines.
//!
//! The machines say what to send and understand what arrives; these drivers own the transfers and the time. Every
//! wait has a deadline in station time, and log lines never extend one.

pub(crate) mod at;
pub(crate) mod diag;
pub(crate) mod firehose;
mod link;
pub(crate) mod sahara;

pub(crate) use link::EdlLink;
