//! The words of the factory floor as types.
//!
//! Everything above this module speaks in these types, so that a chip serial can never be passed where an IMEI is
//! meant and a failure code means the same on the screen, in the CSV, in the metrics and in the ledger. Nothing here
//! knows about files, time, USB or YAML.

mod condition;
mod digest;
mod fact;
pub mod failure;
pub mod family;
mod guard;
mod ids;
mod imei;
pub mod limits;
mod measurement;
mod outcome;
mod port;
mod qualification;
mod record;
pub mod text;
mod tick;
mod wait;

pub use condition::{Belonging, CFUN_FACTORY_TEST, CFUN_OFFLINE, Condition, Diagnosis, Evidence, ModeOrder};
pub use digest::Sha256Digest;
pub use fact::{
    BackupKind, BackupPart, BackupRef, BadBlocks, Cure, Fact, Identity, PageRange, PlanSummary, XqcnCounts,
};
pub use failure::{Blame, FailureCode};
pub use family::{BandQuery, BandReply, BandSet, Family, Geometry, NvData};
pub use guard::{Guard, Manifest};
pub use ids::{BatchId, ChipId, IdError, KeyHash, RunId, SlotName, StationName};
pub use imei::{Imei, ImeiError, Tac};
pub use measurement::{Measurement, Verdict};
pub use outcome::{Flags, Outcome, Phase, RunState};
pub use port::{PortChain, PortChainError, Side};
pub use qualification::{GuardedSpread, PhaseSpread, Qualification, Spread, WaitSpread};
pub use record::{PhaseTime, RunRecord};
pub use tick::{SlotState, SlotStatus};
pub use wait::{Wait, WaitTime};
