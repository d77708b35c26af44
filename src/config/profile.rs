//! A checked profile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{BandSet, Family, Guard, KeyHash, Manifest, Sha256Digest, Tac, Wait};

use super::Pattern;

/// What to do with a product, and what must be true afterwards. Everything in it has been checked.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The file it was read from, as it was named.
    pub path: PathBuf,
    /// The digest of that file; each run records it.
    pub digest: Sha256Digest,
    /// Its name.
    pub name: String,
    /// The models it is for; never empty, all of one family.
    pub models: Vec<String>,
    /// The family of these models.
    pub family: &'static Family,
    /// Revisions from which a module may be flashed; empty: any.
    pub source_revisions: Vec<Pattern>,
    /// What to do with a module that has the revision of the checks already.
    pub if_already: IfAlready,
    /// The firmware.
    pub package: PackageSource,
    /// The digest that the package must have; always there on stations with real hardware.
    pub package_digest: Option<Sha256Digest>,
    /// Hardware ids of the chips it is for; empty: any.
    pub hw_ids: Vec<u64>,
    /// Key hashes of the chips it is for; empty: any.
    pub key_hashes: Vec<KeyHash>,
    /// Which backups must be durable before anything is changed.
    pub guard: Guard,
    /// What a backup over DIAG must hold.
    pub manifest: Manifest,
    /// What to do with a package that touches the EFS.
    pub efs: Efs,
    /// The least number of used pages of an EFS whose backup is one.
    pub efs_used_pages_min: u64,
    /// What is read back and compared.
    pub read_back: ReadBack,
    /// How many boots are verified, 2 to 5.
    pub boots: u32,
    /// What must be true after each of them.
    pub checks: Checks,
    /// Whether a module that arrives broken may be repaired, and how often; `None`: it is refused.
    pub rework: Option<Rework>,
    /// How often something may be tried again.
    pub budgets: Budgets,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// What to do with a module that has the target revision already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IfAlready {
    /// Only verify it.
    Verify,
    /// Flash it like any other.
    #[default]
    Flash,
}

/// What to do with a package that touches the EFS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Efs {
    /// Refuse it.
    #[default]
    Keep,
    /// Leave these operations out, and split a whole-chip erase around the EFS.
    Carve,
}

/// What is read back from the module and compared before the boot loader is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReadBack {
    /// The partitions without which the module cannot start its modem.
    #[default]
    BootChain,
    /// Everything that was programmed.
    Full,
    /// Nothing.
    None,
}

/// Where the firmware comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PackageSource {
    /// A package directory; already resolved against the profile's own place.
    Directory(PathBuf),
    /// Generated, for simulated stations.
    Simulated(SimulatedPackage),
}

/// Generated firmware.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SimulatedPackage {
    /// The model it is for.
    pub model: String,
    /// The revision that a module has after it.
    pub revision: String,
    /// Its size, in MB (1 000 000 bytes).
    pub megabytes: u32,
    /// What kind of package: `update`, or one of the simulator's broken ones.
    pub variant: String,
}

/// What must be true after a boot. That the IMEI is valid, unchanged and unique is always checked.
#[derive(Clone, Debug)]
pub struct Checks {
    /// The revision.
    pub revision: Pattern,
    /// The number in `+CFUN: n`.
    pub cfun: u8,
    /// Bands that must be in each set; no set is empty, and the family can report each.
    pub bands: BTreeMap<BandSet, BTreeSet<u16>>,
    /// Whether the RF calibration must be there, and equal before and after.
    pub calibration: bool,
    /// Type allocation codes an IMEI may begin with; empty: any.
    pub tacs: Vec<Tac>,
    /// Further AT queries.
    pub queries: Vec<QueryCheck>,
}

/// One further AT query. Without a pattern it is enough that it is answered with `OK`.
#[derive(Clone, Debug)]
pub struct QueryCheck {
    /// The measurement's name.
    pub name: String,
    /// The command; it only reads.
    pub command: String,
    /// What the reply's lines, joined by line feeds, must match.
    pub pattern: Option<regex::Regex>,
    /// Limits for the number that the pattern finds; only there with a pattern.
    pub number: Option<NumberLimits>,
}

/// Limits for a number: the pattern's first group where it has one, else all that it matches.
#[derive(Clone, PartialEq, Debug)]
pub struct NumberLimits {
    /// The smallest number that passes; finite.
    pub min: Option<f64>,
    /// The largest number that passes; finite, not below `min`.
    pub max: Option<f64>,
    /// The unit; empty where none is given.
    pub unit: String,
}

/// How often something may be tried again before a unit is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budgets {
    /// Retries of one erase.
    pub erase_retries: u32,
    /// Retries of one program.
    pub program_retries: u32,
    /// Entries into download mode again after silence.
    pub reentries: u32,
    /// Retries of one AT query that is answered with an error or not at all.
    pub at_retries: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { erase_retries: 1, program_retries: 1, reentries: 1, at_retries: 3 }
    }
}

/// How often a module that arrives broken may be repaired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rework {
    /// Restores of its EFS in one run.
    pub per_run: u32,
    /// Runs of one unit on this station in which it was repaired.
    pub per_unit: u32,
}

impl Default for Rework {
    fn default() -> Self {
        Self { per_run: 1, per_unit: 2 }
    }
}

/// How long to wait for what. The defaults are what is known of real modules, with room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// The answer to one AT command.
    pub at: Duration,
    /// From the AT port to its first answer.
    pub ready: Duration,
    /// From the switch to download mode until it is seen.
    pub edl: Duration,
    /// Sahara's HELLO.
    pub hello: Duration,
    /// Sending the programmer.
    pub loader: Duration,
    /// The answer to `configure`.
    pub configure: Duration,
    /// The answer to one erase.
    pub erase: Duration,
    /// The answer after the last byte of one program.
    pub program_ack: Duration,
    /// One transfer of data.
    pub transfer: Duration,
    /// One read.
    pub read: Duration,
    /// A whole backup over DIAG.
    pub xqcn: Duration,
    /// From the order to restart, or from the cut of its supply, until the module is off the bus.
    pub reset: Duration,
    /// From there until the module is back in normal mode.
    pub boot: Duration,
}

impl Timeouts {
    /// The deadline of one kind of wait.
    #[must_use]
    pub const fn of(&self, wait: Wait) -> Duration {
        match wait {
            Wait::At => self.at,
            Wait::Ready => self.ready,
            Wait::Edl => self.edl,
            Wait::Hello => self.hello,
            Wait::Loader => self.loader,
            Wait::Configure => self.configure,
            Wait::Erase => self.erase,
            Wait::ProgramAck => self.program_ack,
            Wait::Transfer => self.transfer,
            Wait::Read => self.read,
            Wait::Reset => self.reset,
            Wait::Boot => self.boot,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            at: Duration::from_secs(5),
            ready: Duration::from_secs(60),
            edl: Duration::from_secs(30),
            hello: Duration::from_secs(5),
            loader: Duration::from_secs(10),
            configure: Duration::from_secs(10),
            erase: Duration::from_secs(30),
            program_ack: Duration::from_secs(120),
            transfer: Duration::from_secs(30),
            read: Duration::from_secs(60),
            xqcn: Duration::from_secs(600),
            reset: Duration::from_secs(10),
            boot: Duration::from_secs(90),
        }
    }
}
