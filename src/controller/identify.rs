//! The phases `identify` and `admit`: what the module says of itself, and whether it may be worked on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::diagnose::evidence;
use super::failure::{Failure, RunError, SessionError};
use super::floor::Product;
use super::session::at::AtSession;
use super::work::Work;
use crate::config::{IfAlready, Profile, Timeouts};
use crate::domain::text::printable;
use crate::domain::{
    Belonging, CFUN_FACTORY_TEST, CFUN_OFFLINE, FailureCode, Family, Identity, Imei, Sha256Digest, Wait, limits,
};
use crate::hardware::DeviceRecord;
use crate::protocol::at::{self, Reply};

/// How long a single RF item is asked for once the module has answered everything else.
const ITEM_LIMIT: Duration = Duration::from_secs(4);
/// How often the IMEI, an RF item, or a set of bands that seems to be empty is asked for at least: what is missing there
/// condemns a module, and one answer that was late, or refused once, is not missing.
const ASKS_MIN: u32 = 3;

impl Work {
    /// Reads the module's identity over AT.
    pub(crate) async fn identify(&mut self, device: &DeviceRecord, family: &Family) -> Result<Identity, Failure> {
        self.draft.update(|record| record.chain_normal = Some(device.key.chain.clone()));
        let timeouts = self.timeouts_for(family);
        let mut at = self.open_at(device, family, timeouts.at, timeouts.ready).await?;
        self.read_identity(&mut at, device, family, &timeouts).await
    }

    /// The timeouts of the profile that serves this family; the defaults where none does.
    pub(crate) fn timeouts_for(&self, family: &Family) -> Timeouts {
        self.floor
            .products
            .iter()
            .find(|product| product.profile.family.name == family.name)
            .map(|product| product.profile.timeouts)
            .unwrap_or_default()
    }

    /// Reads the identity over an open port.
    pub(crate) async fn read_identity(
        &mut self,
        at: &mut AtSession,
        device: &DeviceRecord,
        family: &Family,
        timeouts: &Timeouts,
    ) -> Result<Identity, Failure> {
        let deadline = self.floor.clock.deadline(timeouts.ready);
        let waiting = self.waiting(Wait::Ready);
        let identity = match read(at, family, deadline, self.floor.clock.now()).await {
            Ok(identity) => identity?,
            Err(error) => return Err(self.judge(error, &device.key, FailureCode::AtSilent).await),
        };
        waiting.over();
        self.floor.board.update(self.slot, |status| status.model = Some(identity.model.clone()));
        Ok(identity)
    }

    /// Whether the module may be worked on, by which product, and whether it is to be flashed.
    pub(crate) fn admit(&self, identity: &Identity) -> Result<(Product, bool), Failure> {
        let product = self.product_of(identity)?;
        self.admit_well(identity, product)?;
        let profile = &product.profile;
        let flash = needs_flash(profile, identity);
        if flash {
            admit_revision(profile, identity)?;
            self.admit_bands(identity, product)?;
        }
        Ok((product.clone(), flash))
    }

    /// The product that a module of that identity is made by.
    pub(crate) fn product_of(&self, identity: &Identity) -> Result<&Product, Failure> {
        self.floor.product(&identity.model).ok_or_else(|| {
            let detail = format!("the module says it is a {}", identity.model);
            Failure::new(FailureCode::ModelNotAllowed, detail)
        })
    }

    /// Whether a module has what a good one has.
    pub(crate) fn admit_well(&self, identity: &Identity, product: &Product) -> Result<(), Failure> {
        let profile = &product.profile;
        let diagnosis = self.draft.record().diagnosis;
        let told = |detail: String| diagnosis.as_ref().map_or(detail, ToString::to_string);
        if let Some(cfun @ (CFUN_FACTORY_TEST | CFUN_OFFLINE)) = identity.cfun {
            return Err(Failure::new(FailureCode::CfunFtmOnArrival, told(format!("+CFUN: {cfun}"))));
        }
        let Some(imei) = identity.imei else {
            let reports = format!("the module reports {:?}", identity.imei_text);
            let detail = diagnosis.as_ref().map_or(reports.clone(), |diagnosis| format!("{diagnosis}; {reports}"));
            return Err(Failure::new(FailureCode::ImeiInvalid, detail));
        };
        admit_tac(profile, imei)?;
        if profile.checks.calibration && identity.calibration.is_none() {
            let detail = told("an RF calibration item is missing".to_owned());
            return Err(Failure::new(FailureCode::CalibrationMissing, detail));
        }
        Ok(())
    }

    /// Whether a module has any band of each set that the profile requires. One that has none came with its settings lost,
    /// and is not changed where nothing allows to repair it; which bands must be there in the end the checks say.
    pub(crate) fn admit_bands(&self, identity: &Identity, product: &Product) -> Result<(), Failure> {
        let evidence = evidence(&product.profile.checks, None, identity);
        if evidence.bands != Belonging::Missing {
            return Ok(());
        }
        let diagnosis = self.draft.record().diagnosis;
        let detail = diagnosis.map_or_else(|| evidence.to_string(), |diagnosis| diagnosis.to_string());
        Err(Failure::new(FailureCode::BandMissing, detail))
    }

    /// Whether a module that is not well may be repaired by this product: what no repair changes.
    pub(crate) fn admit_ill(&self, identity: &Identity, product: &Product) -> Result<(), Failure> {
        if let Some(imei) = identity.imei {
            admit_tac(&product.profile, imei)?;
        }
        admit_revision(&product.profile, identity)
    }

    /// As [`Work::admit`], noted in ledger and record.
    pub(crate) async fn admit_new(&mut self, identity: &Identity) -> Result<(Product, bool), RunError> {
        let (product, flash) = self.admit(identity)?;
        self.admit_to(&product, flash).await?;
        Ok((product, flash))
    }
}

pub(super) fn admit_tac(profile: &Profile, imei: Imei) -> Result<(), Failure> {
    if !profile.checks.tacs.is_empty() && !profile.checks.tacs.contains(&imei.tac()) {
        return Err(Failure::new(FailureCode::TacNotAllowed, format!("TAC {}", imei.tac())));
    }
    Ok(())
}

fn admit_revision(profile: &Profile, identity: &Identity) -> Result<(), Failure> {
    let allowed = profile.source_revisions.is_empty()
        || profile.source_revisions.iter().any(|pattern| pattern.matches(&identity.revision))
        || profile.checks.revision.matches(&identity.revision);
    if !allowed {
        let detail = format!("the module has {}", identity.revision);
        return Err(Failure::new(FailureCode::RevisionNotAllowed, detail));
    }
    Ok(())
}

fn needs_flash(profile: &Profile, identity: &Identity) -> bool {
    profile.if_already == IfAlready::Flash || !profile.checks.revision.matches(&identity.revision)
}

/// Reads everything. The outer error is the port's, the inner one the module's.
async fn read(
    at: &mut AtSession,
    family: &Family,
    deadline: Duration,
    now: Duration,
) -> Result<Result<Identity, Failure>, SessionError> {
    let not_ready = |what: &str, answer: String| Failure::new(FailureCode::NotReady, format!("{what}: {answer}"));
    let cfun = match at.query("AT+CFUN?", deadline, at::cfun).await? {
        Ok(cfun) => cfun,
        Err(answer) => return Ok(Err(not_ready("AT+CFUN?", answer))),
    };
    // In factory test mode nothing else is going to become ready.
    let deadline = if cfun == CFUN_FACTORY_TEST { now } else { deadline };
    let model = match at.query_often("ATI", deadline, ASKS_MIN, at::model).await? {
        Ok(model) => model,
        Err(answer) => return Ok(Err(not_ready("ATI", answer))),
    };
    let revision = match at.query_often(family.revision_command, deadline, ASKS_MIN, at::revision).await? {
        Ok(revision) => revision,
        Err(answer) => return Ok(Err(not_ready(family.revision_command, answer))),
    };
    let imei_text = match at.query_often(family.imei_command, deadline, ASKS_MIN, at::imei_text).await? {
        Ok(text) => text,
        // A module that says in which mode it is and at the deadline still gives no IMEI, or an error in its place, has none.
        Err(answer) => answer,
    };
    let bands = read_bands(at, family, deadline).await?;
    let calibration = read_calibration(at, family, cfun).await?;
    Ok(Ok(Identity {
        model: printable(&model, limits::DEVICE_TEXT_CHARS_MAX),
        revision: printable(&revision, limits::DEVICE_TEXT_CHARS_MAX),
        imei: imei_text.parse().ok(),
        imei_text: printable(&imei_text, limits::DEVICE_TEXT_CHARS_MAX),
        cfun: Some(cfun),
        bands,
        calibration,
    }))
}

async fn read_bands(
    at: &mut AtSession,
    family: &Family,
    deadline: Duration,
) -> Result<BTreeMap<String, Vec<u16>>, SessionError> {
    let mut bands = BTreeMap::new();
    let commands: BTreeSet<&str> = family.bands.iter().map(|query| query.command).collect();
    for command in commands {
        let queries: Vec<_> = family.bands.iter().filter(|query| query.command == command).collect();
        // One command may answer several sets; an answer that lacks one of them is not complete yet, and one in which a set
        // is empty is believed when it is repeated.
        let mut empty_answers = 0;
        let understand = |reply: &Reply| {
            let sets = queries.iter().map(|query| at::bands(reply, &query.reply).map(|set| (query.set, set)));
            let sets = sets.collect::<Option<Vec<_>>>()?;
            if sets.iter().any(|(_, set)| set.is_empty()) {
                empty_answers += 1;
                return (empty_answers >= ASKS_MIN).then_some(sets);
            }
            Some(sets)
        };
        if let Ok(sets) = at.query_often(command, deadline, ASKS_MIN, understand).await? {
            for (set, numbers) in sets {
                bands.insert(set.as_str().to_owned(), numbers.into_iter().collect());
            }
        }
    }
    Ok(bands)
}

/// A digest over the RF items; `None` when one is missing.
async fn read_calibration(at: &mut AtSession, family: &Family, cfun: u8) -> Result<Option<Sha256Digest>, SessionError> {
    let mut items = Vec::with_capacity(family.calibration_items.len());
    for path in family.calibration_items {
        let now = at.now();
        let deadline = if cfun == CFUN_FACTORY_TEST { now } else { now + ITEM_LIMIT };
        let asked = format!("AT+QNVFR=\"{path}\"");
        let Ok(item) = at.query_often(&asked, deadline, ASKS_MIN, at::item).await? else {
            return Ok(None);
        };
        if item.is_empty() {
            return Ok(None);
        }
        items.push((*path, item));
    }
    Ok(Identity::calibration_of(items.iter().map(|(path, item)| (*path, item.as_slice()))))
}
