//! Whole lines in virtual time: units are put in, flashed, proven, recorded and taken out.

mod arrivals;
mod backups;
mod by_hand;
mod cut_cures;
mod disk;
mod each_fault;
mod faults;
mod harness;
mod interruptions;
mod left_open;
mod matrix;
mod meddler;
mod mishaps;
mod moves;
mod passes;
mod qualify;
mod repair;
mod repair_cures;
mod swaps;
mod table;
mod truth;
mod xqcn;
