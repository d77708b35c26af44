//! What is wrong with a module that does not say what it should.

use super::floor::Product;
use super::work::Work;
use crate::config::Checks;
use crate::domain::text::printable;
use crate::domain::{
    Belonging, CFUN_FACTORY_TEST, CFUN_OFFLINE, Condition, Diagnosis, Evidence, Fact, FailureCode, Family, Identity,
    limits,
};
use crate::hardware::DeviceRecord;
use crate::protocol::at::Final;

use super::failure::RunError;

/// What a module's answers are evidence of. `before` is what it said when it was well, where that is known.
pub(crate) fn evidence(checks: &Checks, before: Option<&Identity>, now: &Identity) -> Evidence {
    let imei = match (now.imei, before.and_then(|before| before.imei)) {
        (None, _) => Belonging::Missing,
        (Some(now), Some(before)) if now != before => Belonging::Changed,
        (Some(_), _) => Belonging::Sound,
    };
    let calibration = match (now.calibration, before.and_then(|before| before.calibration)) {
        _ if !checks.calibration => Belonging::Unknown,
        (None, _) => Belonging::Missing,
        (Some(now), Some(before)) if now != before => Belonging::Changed,
        (Some(_), _) => Belonging::Sound,
    };
    // A band that is missing may be a matter of the carrier; a set without any band is gone. An error reply says nothing.
    let sets: Vec<_> = checks.bands.keys().filter_map(|set| now.bands.get(set.as_str())).collect();
    let bands = match sets.is_empty() {
        true => Belonging::Unknown,
        false if sets.into_iter().any(Vec::is_empty) => Belonging::Missing,
        false => Belonging::Sound,
    };
    Evidence { cfun: now.cfun, imei, calibration, bands, signal: None, mode_order: None }
}

/// Whether a module with that diagnosis on arrival holds what is no cure for it: where its EFS is lost, its bands are gone,
/// or it is in a mode in which the line does not admit it. One that a host has only left in another mode is well.
pub(crate) fn spoils_backup(diagnosis: &Diagnosis) -> bool {
    matches!(diagnosis.condition, Condition::EfsLost | Condition::ConfigurationMismatch)
        || matches!(diagnosis.evidence.cfun, Some(CFUN_FACTORY_TEST | CFUN_OFFLINE))
}

/// Whether a failure of the checks after a flash is one that the unit's own EFS may cure. A band may be gone with the EFS or
/// by the package's policy for a carrier, which looks the same: that it was there before is worth one restore.
pub(crate) fn is_cured_by_restore(code: FailureCode, checks: &Checks, before: &Identity, now: &Identity) -> bool {
    match code {
        FailureCode::CfunFtm | FailureCode::CalibrationLost | FailureCode::ImeiChanged => true,
        FailureCode::CfunWrong => now.cfun == Some(CFUN_OFFLINE),
        FailureCode::BandMissing => checks.bands.iter().any(|(set, required)| {
            let has =
                |identity: &Identity, band| identity.bands.get(set.as_str()).is_some_and(|found| found.contains(band));
            required.iter().any(|band| has(before, band) && !has(now, band))
        }),
        _ => false,
    }
}

impl Work {
    /// What is wrong with a module that was just identified; `None` where it looks well. Nothing is changed.
    pub(crate) async fn examine(
        &mut self,
        device: &DeviceRecord,
        family: &Family,
        product: &Product,
        identity: &Identity,
    ) -> Result<Option<Diagnosis>, RunError> {
        let checks = &product.profile.checks;
        let mut evidence = evidence(checks, None, identity);
        let Some(condition) = evidence.condition(checks.cfun) else { return Ok(None) };
        evidence.signal = self.ask_signal(device, family).await;
        let diagnosis = Diagnosis { boot: 0, condition, evidence };
        self.note_diagnosis(diagnosis.clone()).await?;
        Ok(Some(diagnosis))
    }

    /// Makes a diagnosis part of the record and the ledger.
    pub(crate) async fn note_diagnosis(&mut self, diagnosis: Diagnosis) -> Result<(), RunError> {
        tracing::warn!(%diagnosis, "the module is not well: {}", diagnosis.condition.sentence());
        self.draft.update(|record| record.diagnosis = Some(diagnosis.clone()));
        self.append(Fact::Diagnosed { run: self.run(), diagnosis }).await
    }

    /// The answer to `AT+CSQ`. It only adds to what is known, so no answer is one too.
    async fn ask_signal(&mut self, device: &DeviceRecord, family: &Family) -> Option<String> {
        let timeouts = self.timeouts_for(family);
        let mut at = self.open_at(device, family, timeouts.at, timeouts.at).await.ok()?;
        let reply = at.command("AT+CSQ").await.ok().filter(|reply| reply.result == Final::Ok)?;
        let line = reply.lines.iter().find_map(|line| line.strip_prefix("+CSQ:"))?;
        Some(printable(line.trim(), limits::DEVICE_TEXT_CHARS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::domain::{BandSet, Sha256Digest};

    fn checks() -> Checks {
        Checks {
            revision: "*".parse().expect("a pattern"),
            cfun: 1,
            bands: BTreeMap::from([(BandSet::NrSaPolicy, BTreeSet::from([77]))]),
            calibration: true,
            tacs: Vec::new(),
            queries: Vec::new(),
        }
    }

    fn well() -> Identity {
        Identity {
            imei: "490154203237518".parse().ok(),
            cfun: Some(1),
            bands: BTreeMap::from([("nr_sa_policy".to_owned(), vec![77, 78])]),
            calibration: Some(Sha256Digest::of(b"own")),
            ..Identity::default()
        }
    }

    fn condition(before: Option<&Identity>, change: impl FnOnce(&mut Identity)) -> Option<Condition> {
        let mut now = well();
        change(&mut now);
        evidence(&checks(), before, &now).condition(1)
    }

    #[test]
    fn what_a_module_says_is_evidence() {
        let before = well();
        for before in [None, Some(&before)] {
            assert_eq!(condition(before, |_| {}), None);
            assert_eq!(condition(before, |now| now.imei = None), Some(Condition::EfsLost));
            assert_eq!(condition(before, |now| now.calibration = None), Some(Condition::EfsLost));
            assert_eq!(condition(before, |now| now.cfun = Some(5)), Some(Condition::ModeStuck));
            let no_bands = |now: &mut Identity| now.bands.values_mut().for_each(Vec::clear);
            assert_eq!(condition(before, no_bands), Some(Condition::ConfigurationMismatch));
            // One band less is no loss of all, and an error says nothing.
            let fewer = |now: &mut Identity| now.bands.values_mut().for_each(|set| set.truncate(1));
            assert_eq!(condition(before, fewer), None);
            assert_eq!(condition(before, |now| now.bands.clear()), None);
        }
        let other = |now: &mut Identity| now.imei = "356938035643809".parse().ok();
        assert_eq!(condition(Some(&before), other), Some(Condition::EfsLost));
        assert_eq!(condition(None, other), None);
        let other = |now: &mut Identity| now.calibration = Some(Sha256Digest::of(b"a donor's"));
        assert_eq!(condition(Some(&before), other), Some(Condition::EfsLost));
    }

    #[test]
    fn a_profile_that_does_not_ask_for_calibration_does_not_miss_it() {
        let checks = Checks { calibration: false, ..checks() };
        let now = Identity { calibration: None, ..well() };
        assert_eq!(evidence(&checks, None, &now).condition(1), None);
    }

    #[test]
    fn only_what_lies_in_the_efs_is_cured_by_restoring_it() {
        for code in FailureCode::ALL {
            let expected =
                matches!(code, FailureCode::CfunFtm | FailureCode::CalibrationLost | FailureCode::ImeiChanged);
            assert_eq!(is_cured_by_restore(*code, &checks(), &well(), &well()), expected, "{code}");
        }
        let offline = Identity { cfun: Some(7), ..well() };
        assert!(is_cured_by_restore(FailureCode::CfunWrong, &checks(), &well(), &offline));
        let without = |band: u16| {
            let mut identity = well();
            identity.bands.values_mut().for_each(|set| set.retain(|have| *have != band));
            identity
        };
        let is_cured =
            |before: &Identity, now: &Identity| is_cured_by_restore(FailureCode::BandMissing, &checks(), before, now);
        assert!(is_cured(&well(), &without(77)));
        // It never had it, or nobody requires it.
        assert!(!is_cured(&without(77), &without(77)) && !is_cured(&well(), &without(78)));
    }

    #[test]
    fn what_a_module_holds_that_the_line_admits_is_its_cure() {
        for (cfun, imei, spoils) in
            [(4, true, false), (0, true, false), (5, true, true), (7, true, true), (4, false, true)]
        {
            let now = Identity { cfun: Some(cfun), imei: well().imei.filter(|_| imei), ..well() };
            let evidence = evidence(&checks(), None, &now);
            let condition = evidence.condition(1).expect("it is not well");
            assert_eq!(spoils_backup(&Diagnosis { boot: 0, condition, evidence }), spoils, "{cfun} {imei}");
        }
    }
}
