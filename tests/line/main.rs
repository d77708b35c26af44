//! Whole lines in virtual time: units are put in, flashed, proven, recorded and taken out.

mod answers;
mod arrivals;
mod backups;
mod by_hand;
mod disk;
mod each_fault;
mod faults;
mod give_back;
mod harness;
mod interruptions;
mod keeps;
mod matrix;
mod meddler;
mod moves;
mod passes;
mod qualify;
mod repair;
mod repair_cures;
mod swaps;
mod table;
mod truth;
mod vault_disk;
mod xqcn;
mod xqcn_cuts;
