//! The controller of a production line that flashes and tests cellular modules.
//!
//! The map, lowest layer first; a module uses lower layers only (a test holds it to that):
//!
//! | module | what it is |
//! |---|---|
//! | [`domain`] | the words of the factory floor as types |
//! | [`protocol`] | Sahara, Firehose, DIAG, AT, partition tables and plans: bytes in, actions out |
//! | [`host`] | clock, disk and randomness |
//! | [`config`] | YAML into checked stations and profiles |
//! | [`hardware`] | the traits behind which USB, or its simulation, lies |
//! | [`firmware`] | package directories |
//! | [`ledger`] | the append-only, hash-chained record of all facts |
//! | [`vault`] | the store of EFS backups |
//! | [`trace`] | what went over the wires of a run, written down and played back |
//! | [`controller`] | slots, runs, permits, recovery |
//! | [`sim`] | the virtual factory |
//! | [`report`], [`metrics`], [`web`] | what people and Prometheus read |
//! | [`cli`] | the command line; the only place that wires things together |

pub mod cli;
pub mod config;
pub mod controller;
pub mod domain;
pub mod firmware;
pub mod hardware;
pub mod host;
pub mod ledger;
pub mod metrics;
pub mod protocol;
pub mod report;
pub mod sim;
pub mod trace;
pub mod vault;
pub mod web;
