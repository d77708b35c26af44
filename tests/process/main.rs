//! Stations as people run them: the real binary on real files in real time, looked at from outside only.
#![expect(clippy::disallowed_methods, reason = "outside of the program there is nothing but the real host")]

mod at;
mod backups;
mod cli;
mod demo;
mod doctor;
mod faults;
mod hand;
mod invalid;
mod kill;
mod map;
mod package;
mod place;
mod qualify;
mod records;
mod scrape;
mod serve;
#[path = "../line/table.rs"]
mod table;
mod traces;
mod transcript;
