//! Whole lines in virtual time: units are put in, flashed, proven, recorded and taken out.

mod each_fault;
mod faults;
mod harness;
mod interruptions;
mod moves;
mod passes;
mod qualify;
mod swaps;
mod table;
mod truth;
