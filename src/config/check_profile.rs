//! The checks of a profile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::family::FAMILIES;
use crate::domain::{BandSet, Family, KeyHash, Sha256Digest, Tac, limits};

use super::checker::Checker;
use super::node::{At, Document};
use super::profile::{Budgets, Checks, PackageSource, Profile, Rework, SimulatedPackage, Timeouts};
use super::raw::{
    RawBandSets, RawBands, RawBudgets, RawChecks, RawPackage, RawProfile, RawRework, RawSimulatedPackage, RawTimeouts,
    Text,
};
use super::words::{choose, list};
use super::{Known, Pattern, beside, check_manifest, check_query};

/// The profile in `raw`; `None`, or errors in `checker`, where something is wrong.
pub(super) fn check(
    document: &Document,
    digest: Sha256Digest,
    raw: &RawProfile,
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> Option<Profile> {
    let root = At::root();
    let name = checker.name(&root.key("name"), &raw.name);
    let (models, family) = models(&raw.models, checker);
    let source_revisions = texts(&root.key("source_revisions"), &raw.source_revisions, REVISION_HELP, checker);
    let package = package(document, &raw.package, &models, known, checker);
    let package_digest = raw.package.sha256.as_ref().and_then(|text| {
        let help = "copy the digest that `stationmaster package inspect` prints";
        checker.parsed(&root.key("package").key("sha256"), text, limits::DEVICE_TEXT_CHARS_MAX, help)
    });
    let hw_ids = texts(&root.key("hw_ids"), &raw.hw_ids, "write the 16 digits of `hw_id` in a report", checker);
    let key_hashes: Vec<KeyHash> =
        texts(&root.key("key_hashes"), &raw.key_hashes, "write 64, 96 or 128 hexadecimal digits", checker);
    let efs_used_pages_min = checker.whole(&root.key("efs_used_pages_min"), raw.efs_used_pages_min, 8, 8..=65_536);
    let guard = raw.guard.unwrap_or_default();
    let manifest = check_manifest::manifest(&root.key("manifest"), raw.manifest.as_ref(), guard, family, checker);
    let boots = checker.whole(&root.key("boots"), raw.boots, 2, 2..=5);
    let checks = checks(&raw.checks, family, known, checker);
    let rework = raw.rework.as_ref().map(|raw| rework(raw, checker));
    let budgets = raw.budgets.as_ref().map_or_else(Budgets::default, |raw| budgets(raw, checker));
    let timeouts = raw.timeouts.as_ref().map_or_else(Timeouts::default, |raw| timeouts(raw, checker));
    if let (Some(PackageSource::Simulated(package)), Some(checks)) = (&package, &checks)
        && !checks.revision.matches(&package.revision)
    {
        checker.wrong(
            &root.key("checks").key("revision"),
            format!("the package gives the revision {}, which this does not match", package.revision),
            "let one follow the other: no unit could pass",
        );
    }
    Some(Profile {
        path: document.path.clone(),
        digest,
        name: name?,
        models,
        family: family?,
        source_revisions,
        if_already: raw.if_already.unwrap_or_default(),
        package: package?,
        package_digest,
        hw_ids: hw_ids.into_iter().map(|HwId(id)| id).collect(),
        key_hashes,
        guard,
        manifest: manifest?,
        efs: raw.efs.unwrap_or_default(),
        efs_used_pages_min,
        read_back: raw.read_back.unwrap_or_default(),
        boots,
        checks: checks?,
        rework,
        budgets,
        timeouts,
    })
}

const REVISION_HELP: &str = "write a revision as AT+QGMR gives it, with `*` for any characters";

/// A chip's hardware id: exactly 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq)]
struct HwId(u64);

impl std::fmt::Display for HwId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for HwId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = "a hardware id has 16 hexadecimal digits";
        if text.len() != 16 || !text.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(error);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| error)
    }
}

/// A type allocation code, with an error that does not speak of whole IMEIs.
#[derive(Clone, Copy, PartialEq)]
struct TacText(Tac);

impl std::fmt::Display for TacText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for TacText {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "a type allocation code has 8 digits")
    }
}

/// A list of texts, each read as a `T`, none twice.
fn texts<T>(at: &At, entries: &[Text], help: &str, checker: &mut Checker<'_>) -> Vec<T>
where
    T: std::str::FromStr + PartialEq + std::fmt::Display,
    T::Err: std::fmt::Display,
{
    checker.count(at, entries.len(), limits::PATTERNS_MAX);
    let read: Vec<(usize, T)> = entries
        .iter()
        .enumerate()
        .take(limits::PATTERNS_MAX)
        .filter_map(|(index, text)| {
            Some((index, checker.parsed(&at.index(index), text, limits::PATTERN_CHARS_MAX, help)?))
        })
        .collect();
    checker.doubles(at, &read);
    read.into_iter().map(|(_, value)| value).collect()
}

/// The models, and their one family.
fn models(entries: &[Text], checker: &mut Checker<'_>) -> (Vec<String>, Option<&'static Family>) {
    let at = At::root().key("models");
    if entries.is_empty() {
        checker.wrong(&at, "`models` has no entry", format!("name at least one of: {}", all_models()));
    }
    checker.count(&at, entries.len(), limits::MODELS_MAX);
    let mut models: Vec<(usize, String)> = Vec::new();
    let mut family: Option<&'static Family> = None;
    for (index, entry) in entries.iter().enumerate().take(limits::MODELS_MAX) {
        let at = at.index(index);
        let Some(model) = checker.text(&at, entry, limits::DEVICE_TEXT_CHARS_MAX) else { continue };
        match (FAMILIES.iter().find(|family| family.models.contains(&model)), family) {
            (None, _) => {
                let known = FAMILIES.iter().flat_map(|family| family.models.iter().copied());
                let help = choose(model, "known models are", known);
                checker.wrong(&at, format!("the model {} is not known", shown(model)), help);
            }
            (Some(found), Some(first)) if found.name != first.name => checker.wrong(
                &at,
                format!("{model} is of the family {}, the models before it are of {}", found.name, first.name),
                "write a profile for each family",
            ),
            (Some(found), _) => {
                family = Some(found);
                models.push((index, model.to_owned()));
            }
        }
    }
    checker.doubles(&at, &models);
    (models.into_iter().map(|(_, model)| model).collect(), family)
}

fn all_models() -> String {
    list(FAMILIES.iter().flat_map(|family| family.models.iter().copied()))
}

fn shown(text: &str) -> String {
    format!("`{}`", crate::domain::text::printable(text, super::node::QUOTE_CHARS_MAX))
}

fn package(
    document: &Document,
    raw: &RawPackage,
    models: &[String],
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> Option<PackageSource> {
    let at = At::root().key("package");
    match (&raw.directory, &raw.simulated) {
        (Some(directory), None) => {
            let text = checker.text(&at.key("directory"), directory, limits::CONFIG_PATH_CHARS_MAX)?;
            Some(PackageSource::Directory(beside(&document.path, text)))
        }
        (None, Some(simulated)) => simulated_package(&at.key("simulated"), simulated, models, known, checker),
        (Some(_), Some(_)) => {
            checker.wrong_key(
                &at.key("simulated"),
                "`package` has both `directory` and `simulated`",
                "keep `directory` for firmware on disk, or `simulated` for generated firmware",
            );
            None
        }
        (None, None) => {
            checker.wrong(&at, "`package` says nowhere where the firmware is", "add `directory: PATH` below it");
            None
        }
    }
}

fn simulated_package(
    at: &At,
    raw: &RawSimulatedPackage,
    models: &[String],
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> Option<PackageSource> {
    let model = checker.text(&at.key("model"), &raw.model, limits::DEVICE_TEXT_CHARS_MAX);
    if let Some(model) = model {
        if !known.sim_models.contains(&model) {
            let help = choose(model, "the simulator has", known.sim_models.iter().copied());
            checker.wrong(&at.key("model"), format!("the simulator has no model {}", shown(model)), help);
        } else if !models.is_empty() && !models.iter().any(|known| known == model) {
            let sentence = format!("the package is for {}, which `models` does not name", shown(model));
            checker.wrong(
                &at.key("model"),
                sentence,
                format!("write one of: {}", list(models.iter().map(String::as_str))),
            );
        }
    }
    let revision = checker.revision(&at.key("revision"), &raw.revision);
    let megabytes = checker.whole(&at.key("megabytes"), raw.megabytes, 24, 1..=512);
    let variant = match &raw.variant {
        None => Some("update"),
        Some(text) => checker.text(&at.key("variant"), text, limits::DEVICE_TEXT_CHARS_MAX),
    };
    if let Some(variant) = variant
        && raw.variant.is_some()
        && !known.sim_variants.contains(&variant)
    {
        let help = choose(variant, "variants are", known.sim_variants.iter().copied());
        checker.wrong(&at.key("variant"), format!("there is no variant {}", shown(variant)), help);
    }
    Some(PackageSource::Simulated(SimulatedPackage {
        model: model?.to_owned(),
        revision: revision?,
        megabytes,
        variant: variant?.to_owned(),
    }))
}

fn checks(
    raw: &RawChecks,
    family: Option<&'static Family>,
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> Option<Checks> {
    let at = At::root().key("checks");
    let revision: Option<Pattern> =
        checker.parsed(&at.key("revision"), &raw.revision, limits::PATTERN_CHARS_MAX, REVISION_HELP);
    let cfun = checker.whole(&at.key("cfun"), raw.cfun, 1, 0..=7);
    let bands = raw.bands.as_ref().map(|raw| bands(&at.key("bands"), raw, family, checker)).unwrap_or_default();
    let tacs = texts(&at.key("tacs"), &raw.tacs, "write the first 8 digits of an IMEI, in quotes", checker);
    let tacs = tacs.into_iter().map(|TacText(tac)| tac).collect();
    let queries = check_query::queries(&at.key("queries"), &raw.queries, known, checker);
    let calibration = raw.calibration.unwrap_or(true);
    Some(Checks { revision: revision?, cfun, bands, calibration, tacs, queries })
}

fn bands(
    at: &At,
    raw: &RawBands,
    family: Option<&'static Family>,
    checker: &mut Checker<'_>,
) -> BTreeMap<BandSet, BTreeSet<u16>> {
    let technologies: [(&str, Option<&RawBandSets>, BandSet, BandSet, u16); 3] = [
        ("lte", raw.lte.as_ref(), BandSet::LteConfig, BandSet::LtePolicy, limits::LTE_BAND_MAX),
        ("nr_sa", raw.nr_sa.as_ref(), BandSet::NrSaConfig, BandSet::NrSaPolicy, limits::NR_BAND_MAX),
        ("nr_nsa", raw.nr_nsa.as_ref(), BandSet::NrNsaConfig, BandSet::NrNsaPolicy, limits::NR_BAND_MAX),
    ];
    let mut bands = BTreeMap::new();
    for (technology, sets, config, policy, band_max) in technologies {
        let Some(sets) = sets else { continue };
        for (key, list, set) in [("config", &sets.config, config), ("policy", &sets.policy, policy)] {
            let Some(list) = list else { continue };
            let at = at.key(technology).key(key);
            if let Some(family) = family.filter(|family| family.band_query(set).is_none()) {
                let possible: Vec<&str> = family.bands.iter().map(|query| query.set.as_str()).collect();
                let sentence = format!("the family {} cannot report {}", family.name, set.as_str());
                checker.wrong_key(&at, sentence, format!("remove it; the family reports: {}", possible.join(", ")));
                continue;
            }
            bands.insert(set, band_list(&at, list, band_max, checker));
        }
    }
    bands
}

fn band_list(at: &At, list: &[i64], band_max: u16, checker: &mut Checker<'_>) -> BTreeSet<u16> {
    if list.is_empty() {
        checker.wrong(at, format!("{at} requires no band"), "name bands, or remove the line");
    }
    let mut bands = BTreeSet::new();
    checker.count(at, list.len(), limits::BANDS_MAX);
    for (index, band) in list.iter().enumerate().take(limits::BANDS_MAX) {
        let at_band = at.index(index);
        match u16::try_from(*band).ok().filter(|band| (1..=band_max).contains(band)) {
            None => {
                let sentence = format!("there is no band {band}; bands here are 1 to {band_max}");
                checker.wrong(&at_band, sentence, "write the band's number, such as 77 for n77");
            }
            Some(band) if !bands.insert(band) => {
                checker.wrong(&at_band, format!("band {band} is in the list twice"), "keep one of the two");
            }
            Some(_) => {}
        }
    }
    bands
}

fn rework(raw: &RawRework, checker: &mut Checker<'_>) -> Rework {
    let at = At::root().key("rework");
    let default = Rework::default();
    Rework {
        per_run: checker.whole(&at.key("per_run"), raw.per_run, default.per_run, 1..=3),
        per_unit: checker.whole(&at.key("per_unit"), raw.per_unit, default.per_unit, 1..=10),
    }
}

fn budgets(raw: &RawBudgets, checker: &mut Checker<'_>) -> Budgets {
    let at = At::root().key("budgets");
    let default = Budgets::default();
    let mut budget = |key: &str, value, default| checker.whole(&at.key(key), value, default, 0..=10);
    Budgets {
        erase_retries: budget("erase_retries", raw.erase_retries, default.erase_retries),
        program_retries: budget("program_retries", raw.program_retries, default.program_retries),
        reentries: budget("reentries", raw.reentries, default.reentries),
        at_retries: budget("at_retries", raw.at_retries, default.at_retries),
    }
}

fn timeouts(raw: &RawTimeouts, checker: &mut Checker<'_>) -> Timeouts {
    let at = At::root().key("timeouts");
    let default = Timeouts::default();
    let mut time = |key: &str, value: Option<f64>, default: Duration| {
        checker.seconds(&at.key(key), value, default, &(0.1..=3600.0))
    };
    let timeouts = Timeouts {
        at: time("at_s", raw.at_s, default.at),
        ready: time("ready_s", raw.ready_s, default.ready),
        edl: time("edl_s", raw.edl_s, default.edl),
        hello: time("hello_s", raw.hello_s, default.hello),
        loader: time("loader_s", raw.loader_s, default.loader),
        configure: time("configure_s", raw.configure_s, default.configure),
        erase: time("erase_s", raw.erase_s, default.erase),
        program_ack: time("program_ack_s", raw.program_ack_s, default.program_ack),
        transfer: time("transfer_s", raw.transfer_s, default.transfer),
        read: time("read_s", raw.read_s, default.read),
        xqcn: time("xqcn_s", raw.xqcn_s, default.xqcn),
        reset: time("reset_s", raw.reset_s, default.reset),
        boot: time("boot_s", raw.boot_s, default.boot),
    };
    if timeouts.at > timeouts.ready {
        let key = if raw.at_s.is_some() { "at_s" } else { "ready_s" };
        let sentence = format!(
            "one AT answer may take {} s (`at_s`), but all of them together {} s (`ready_s`)",
            timeouts.at.as_secs_f64(),
            timeouts.ready.as_secs_f64()
        );
        checker.wrong(&at.key(key), sentence, "let `ready_s` be the longer of the two");
    }
    timeouts
}
