//! What a module must be able to say after a boot: measurements with limits and a verdict.
//!
//! Pure: the values were read before. All checks are always made, so that a record shows everything that is wrong;
//! the code is the gravest one's.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::Failure;
use crate::config::{Checks, QueryCheck};
use crate::domain::text::printable;
use crate::domain::{FailureCode, Identity, Measurement, Verdict, limits};

/// The answers to a profile's further queries, by name: what was read, or why it could not be.
pub(crate) type QueryAnswers = BTreeMap<String, Result<String, String>>;

/// All measurements of one verification, and the gravest failure among them.
pub(crate) fn judge(
    checks: &Checks,
    before: &Identity,
    after: &Identity,
    queries: &QueryAnswers,
) -> (Vec<Measurement>, Option<Failure>) {
    let mut sheet = Sheet::default();
    sheet.cfun(checks, after);
    sheet.imei(checks, before, after);
    sheet.calibration(checks, before, after);
    sheet.add(
        "revision",
        &after.revision,
        "",
        &format!("= {}", checks.revision),
        checks.revision.matches(&after.revision),
        FailureCode::RevisionWrong,
    );
    for (set, required) in &checks.bands {
        sheet.bands(set.as_str(), required, after.bands.get(set.as_str()));
    }
    for check in &checks.queries {
        sheet.query(check, queries.get(&check.name));
    }
    (sheet.measurements, sheet.failures.into_iter().min_by_key(|(rank, _)| *rank).map(|(_, failure)| failure))
}

#[derive(Default)]
struct Sheet {
    measurements: Vec<Measurement>,
    failures: Vec<(usize, Failure)>,
}

impl Sheet {
    fn add(&mut self, name: &str, value: &str, unit: &str, limits: &str, pass: bool, code: FailureCode) {
        let value = printable(value, limits::DEVICE_TEXT_CHARS_MAX);
        if !pass {
            let detail = format!("{name} is {}, required {limits}", if value.is_empty() { "empty" } else { &value });
            // Checks are made gravest first, so the order of failing is the rank.
            self.failures.push((self.failures.len(), Failure::new(code, detail)));
        }
        if self.measurements.len() < limits::MEASUREMENTS_MAX {
            self.measurements.push(Measurement {
                name: name.to_owned(),
                value,
                unit: unit.to_owned(),
                limits: limits.to_owned(),
                verdict: if pass { Verdict::Pass } else { Verdict::Fail },
            });
        }
    }

    fn cfun(&mut self, checks: &Checks, after: &Identity) {
        let value = after.cfun.map(|cfun| cfun.to_string()).unwrap_or_default();
        let code = if after.cfun == Some(5) { FailureCode::CfunFtm } else { FailureCode::CfunWrong };
        self.add("cfun", &value, "", &format!("= {}", checks.cfun), after.cfun == Some(checks.cfun), code);
    }

    fn imei(&mut self, checks: &Checks, before: &Identity, after: &Identity) {
        let required = before.imei.map(|imei| imei.to_string()).unwrap_or_default();
        let same = after.imei.is_some() && after.imei == before.imei;
        self.add("imei", &after.imei_text, "", &format!("= {required}"), same, FailureCode::ImeiChanged);
        if let (Some(imei), false) = (after.imei, checks.tacs.is_empty()) {
            let known: Vec<String> = checks.tacs.iter().map(ToString::to_string).collect();
            let pass = checks.tacs.contains(&imei.tac());
            let limits = format!("one of {}", known.join(" "));
            self.add("tac", &imei.tac().to_string(), "", &limits, pass, FailureCode::TacNotAllowed);
        }
    }

    fn calibration(&mut self, checks: &Checks, before: &Identity, after: &Identity) {
        if !checks.calibration {
            return;
        }
        let value = after.calibration.map(|digest| digest.short()).unwrap_or_default();
        // Of a unit whose backup another station took, what it had before is not known; a raw restore proves itself.
        let (limits, equal) = match before.calibration {
            Some(required) => (format!("= {}", required.short()), after.calibration == before.calibration),
            None => ("present".to_owned(), true),
        };
        let pass = after.calibration.is_some() && equal;
        self.add("calibration", &value, "", &limits, pass, FailureCode::CalibrationLost);
    }

    fn bands(&mut self, name: &str, required: &BTreeSet<u16>, found: Option<&Vec<u16>>) {
        let found: BTreeSet<u16> = found.into_iter().flatten().copied().collect();
        let missing: Vec<u16> = required.difference(&found).copied().collect();
        let words = |bands: &mut dyn Iterator<Item = u16>| -> String {
            bands.map(|band| band.to_string()).collect::<Vec<_>>().join(" ")
        };
        let limits = format!("contains {}", words(&mut required.iter().copied()));
        let pass = missing.is_empty();
        self.add(name, &words(&mut found.iter().copied()), "", &limits, pass, FailureCode::BandMissing);
        if let (false, Some((_, failure))) = (pass, self.failures.last_mut()) {
            failure.detail = format!("{name} lacks {}", words(&mut missing.into_iter()));
        }
    }

    fn query(&mut self, check: &QueryCheck, answer: Option<&Result<String, String>>) {
        let answer = match answer {
            Some(Ok(answer)) => answer.as_str(),
            Some(Err(reason)) => {
                self.add(&check.name, reason, "", "an answer", false, FailureCode::QueryFailed);
                return;
            }
            None => {
                self.add(&check.name, "not asked", "", "an answer", false, FailureCode::QueryFailed);
                return;
            }
        };
        let found = match &check.pattern {
            None => Some(answer),
            Some(pattern) => pattern
                .captures(answer)
                .and_then(|captures| captures.get(1).or_else(|| captures.get(0)))
                .map(|found| found.as_str()),
        };
        match (&check.number, found) {
            (None, found) => {
                let limits = check.pattern.as_ref().map(|p| format!("matches {p}")).unwrap_or_default();
                self.add(&check.name, found.unwrap_or(answer), "", &limits, found.is_some(), FailureCode::QueryFailed);
            }
            (Some(number), found) => {
                let value: Option<f64> = found.and_then(|text| text.trim().parse().ok());
                let low = number.min.map_or(String::new(), |min| min.to_string());
                let high = number.max.map_or(String::new(), |max| max.to_string());
                let pass = value.is_some_and(|value| {
                    value.is_finite()
                        && number.min.is_none_or(|min| value >= min)
                        && number.max.is_none_or(|max| value <= max)
                });
                let shown = found.unwrap_or(answer);
                let limits = format!("{low} .. {high}");
                self.add(&check.name, shown, &number.unit, &limits, pass, FailureCode::QueryFailed);
            }
        }
    }
}
