//! Named values with limits and a verdict: what a PASS consists of.

use serde::{Deserialize, Serialize};

/// What a measurement's limits say of its value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Within the limits.
    Pass,
    /// Outside.
    Fail,
}

/// One named value of one unit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// A stable name such as `cfun` or `nr_sa_policy`.
    pub name: String,
    /// The value as text, already made printable.
    pub value: String,
    /// The unit of the value; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// What was required, in words or numbers that a person can check: `= 1`, `contains 77 78`, `-20 .. 85`.
    pub limits: String,
    /// What the limits say.
    pub verdict: Verdict,
}
