//! The virtual factory, driven by hand-written bytes: what a cable sees.

mod conversation;
mod diag;
mod edl;
mod faults;
mod line;
mod normal;
mod package;
mod rig;
mod xqcn;
