//! What is wrong with a module that is not well, told from what it says.
//!
//! The table is that of the repairers: without IMEI or calibration the EFS is lost, whatever mode the module is in; with
//! both of them only its mode or its configuration is wrong; and a module that takes an order and forgets it, although
//! all that it should know is there, does not store any more.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Factory test mode in `+CFUN: n`.
pub const CFUN_FACTORY_TEST: u8 = 5;
/// Offline in `+CFUN: n`: the radio and the EFS do not agree.
pub const CFUN_OFFLINE: u8 = 7;

/// What is wrong with a module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// What belongs to the unit, IMEI and calibration, is gone or is another's.
    EfsLost,
    /// All of it is there, and the module stays in a mode in which it does not work.
    ModeStuck,
    /// All of it is there, and the configuration around it does not fit: bands are gone, or the module stays offline.
    ConfigurationMismatch,
    /// All of it is there, and the module does not store what it is told.
    Hardware,
}

impl Condition {
    /// The word used in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EfsLost => "EFS lost",
            Self::ModeStuck => "mode stuck",
            Self::ConfigurationMismatch => "configuration mismatch",
            Self::Hardware => "hardware",
        }
    }

    /// What it means, for operators.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::EfsLost => "the module has lost its own memory: IMEI or radio calibration",
            Self::ModeStuck => "the module has all of its own memory and stays in a mode in which it does not work",
            Self::ConfigurationMismatch => "the module has its IMEI and calibration, but its settings do not fit them",
            Self::Hardware => "the module does not keep what it is told to store",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that belongs to a unit, as it says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Belonging {
    /// It is there, and not another than before.
    Sound,
    /// It is not there.
    Missing,
    /// It is another one than before.
    Changed,
    /// Nobody asked for it, or the answer says nothing.
    #[default]
    Unknown,
}

/// What became of the order to leave a mode.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeOrder {
    /// It was taken, and forgotten with the next start.
    Forgotten,
    /// It was refused because the module is not in a state for it (`+CME ERROR: 0` or `3`).
    NotAllowed,
    /// It was refused otherwise, or not answered.
    Refused,
}

/// What a module that is not well says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The number in `+CFUN: n`.
    pub cfun: Option<u8>,
    /// Its IMEI.
    pub imei: Belonging,
    /// Its RF calibration.
    pub calibration: Belonging,
    /// Its bands; missing where a set that is required is empty.
    pub bands: Belonging,
    /// The answer to `AT+CSQ`, printable; `99,99` for no signal at all, which a module without an antenna says too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// What became of `AT+CFUN=1`, where that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_order: Option<ModeOrder>,
}

impl Evidence {
    /// What is wrong; `None` where nothing speaks for it. `wanted` is the functionality level the module should have.
    #[must_use]
    pub fn condition(&self, wanted: u8) -> Option<Condition> {
        let is_gone = |belonging| matches!(belonging, Belonging::Missing | Belonging::Changed);
        if is_gone(self.imei) || is_gone(self.calibration) {
            return Some(Condition::EfsLost);
        }
        if is_gone(self.bands) {
            return Some(Condition::ConfigurationMismatch);
        }
        let cfun = self.cfun.filter(|cfun| *cfun != wanted)?;
        Some(match &self.mode_order {
            Some(ModeOrder::Forgotten | ModeOrder::Refused) => Condition::Hardware,
            Some(ModeOrder::NotAllowed) if cfun == CFUN_OFFLINE => Condition::ConfigurationMismatch,
            Some(ModeOrder::NotAllowed) | None => Condition::ModeStuck,
        })
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if let Some(cfun) = self.cfun {
            words.push(format!("+CFUN: {cfun}"));
        }
        for (belonging, missing, changed) in [
            (self.imei, "no IMEI", "another IMEI"),
            (self.calibration, "no calibration", "another calibration"),
            (self.bands, "no bands", "other bands"),
        ] {
            match belonging {
                Belonging::Missing => words.push(missing.to_owned()),
                Belonging::Changed => words.push(changed.to_owned()),
                Belonging::Sound | Belonging::Unknown => {}
            }
        }
        if let Some(signal) = &self.signal {
            words.push(format!("signal {signal}"));
        }
        match self.mode_order {
            Some(ModeOrder::Forgotten) => words.push("AT+CFUN=1 taken and forgotten".to_owned()),
            Some(ModeOrder::NotAllowed) => words.push("AT+CFUN=1 not allowed".to_owned()),
            Some(ModeOrder::Refused) => words.push("AT+CFUN=1 refused".to_owned()),
            None => {}
        }
        f.write_str(&words.join(", "))
    }
}

/// What is wrong with a module, and what says so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diagnosis {
    /// After which boot since the flash, from 1; 0 on arrival.
    pub boot: u32,
    /// What is wrong.
    pub condition: Condition,
    /// What says so.
    pub evidence: Evidence,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.condition, self.evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Belonging::{Changed, Missing, Sound, Unknown};
    use Condition::{ConfigurationMismatch, EfsLost, Hardware, ModeStuck};

    fn evidence(cfun: u8, imei: Belonging, calibration: Belonging, bands: Belonging) -> Evidence {
        Evidence { cfun: Some(cfun), imei, calibration, bands, ..Evidence::default() }
    }

    #[test]
    fn what_is_wrong_is_told_from_what_a_module_says() {
        for (cfun, imei, calibration, bands, expected) in [
            (1, Sound, Sound, Sound, None),
            (1, Sound, Unknown, Unknown, None),
            (5, Missing, Missing, Missing, Some(EfsLost)),
            (7, Missing, Missing, Missing, Some(EfsLost)),
            // The IMEI put back, the calibration not: still dead.
            (5, Sound, Missing, Missing, Some(EfsLost)),
            (1, Sound, Missing, Sound, Some(EfsLost)),
            (1, Missing, Sound, Sound, Some(EfsLost)),
            (1, Changed, Sound, Sound, Some(EfsLost)),
            (1, Sound, Changed, Sound, Some(EfsLost)),
            (5, Sound, Sound, Sound, Some(ModeStuck)),
            (7, Sound, Sound, Sound, Some(ModeStuck)),
            (4, Sound, Sound, Sound, Some(ModeStuck)),
            (0, Sound, Unknown, Unknown, Some(ModeStuck)),
            (1, Sound, Sound, Missing, Some(ConfigurationMismatch)),
            (5, Sound, Sound, Missing, Some(ConfigurationMismatch)),
        ] {
            let evidence = evidence(cfun, imei, calibration, bands);
            assert_eq!(evidence.condition(1), expected, "{evidence}");
        }
    }

    #[test]
    fn what_became_of_the_order_to_leave_a_mode_tells_more() {
        for (cfun, order, expected) in [
            (5, ModeOrder::NotAllowed, Some(ModeStuck)),
            (7, ModeOrder::NotAllowed, Some(ConfigurationMismatch)),
            (5, ModeOrder::Refused, Some(Hardware)),
            (5, ModeOrder::Forgotten, Some(Hardware)),
            (7, ModeOrder::Forgotten, Some(Hardware)),
            (1, ModeOrder::Forgotten, None),
        ] {
            let evidence = Evidence { mode_order: Some(order), ..evidence(cfun, Sound, Sound, Sound) };
            assert_eq!(evidence.condition(1), expected, "{evidence}");
            let lost = Evidence { imei: Missing, ..evidence };
            assert_eq!(lost.condition(1), Some(EfsLost), "{lost}");
        }
    }

    #[test]
    fn a_module_without_an_antenna_is_not_ill() {
        let evidence = Evidence { signal: Some("99,99".to_owned()), ..evidence(1, Sound, Sound, Sound) };
        assert_eq!(evidence.condition(1), None);
        assert_eq!(evidence.to_string(), "+CFUN: 1, signal 99,99");
    }

    #[test]
    fn a_diagnosis_can_be_read() {
        let evidence = Evidence { signal: Some("99,99".to_owned()), ..evidence(5, Missing, Missing, Missing) };
        let diagnosis = Diagnosis { boot: 0, condition: EfsLost, evidence };
        let words = "EFS lost (+CFUN: 5, no IMEI, no calibration, no bands, signal 99,99)";
        assert_eq!(diagnosis.to_string(), words);
    }
}
