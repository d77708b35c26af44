//! The checks of a station.

use std::sync::Arc;

use crate::domain::text::printable;
use crate::domain::{Phase, PortChain, Sha256Digest, Side, SlotName, limits};

use super::checker::Checker;
use super::node::{At, Document, QUOTE_CHARS_MAX};
use super::raw::{RawFault, RawOperator, RawSimulation, RawSlot, RawStation, RawUnits, Text};
use super::station::{HardwareKind, SimFault, SimOperator, SimUnitMix, Simulation, SlotConfig, Station, VaultConfig};
use super::words::choose;
use super::{Known, PackageSource, Profile, beside};

/// The station in `raw`; `None`, or errors in `checker`, where something is wrong. `profiles` are those that could be
/// read, each with its position in the station's list.
pub(super) fn check(
    document: &Document,
    digest: Sha256Digest,
    raw: &RawStation,
    profiles: &[(usize, Arc<Profile>)],
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> Option<Station> {
    let root = At::root();
    let help = "use letters, digits, `.`, `_` and `-`";
    let name = checker.parsed(&root.key("name"), &raw.name, limits::DEVICE_TEXT_CHARS_MAX, help);
    check_profiles(raw, profiles, checker);
    let slots = slots(&raw.slots, checker);
    let mut path = |key: &str, value: &Option<Text>, default: String| {
        let text = match value {
            Some(text) => checker.text(&root.key(key), text, limits::CONFIG_PATH_CHARS_MAX)?.to_owned(),
            None => default,
        };
        Some(beside(&document.path, &text))
    };
    let state = path("state", &raw.state, format!("../state/{}", raw.name.as_str()));
    let reports = path("reports", &raw.reports, "../reports".to_owned());
    let vault = vault(document, raw, checker);
    let permits = checker.whole(&root.key("permits_per_root_port"), raw.permits_per_root_port, 8, 1..=64);
    let at = root.key("simulation");
    match (raw.hardware, &raw.simulation) {
        (HardwareKind::Usb, Some(_)) => checker.wrong_key(
            &at,
            "`simulation` has no place on a station with `hardware: usb`",
            "remove it, or write `hardware: simulated`",
        ),
        (HardwareKind::Simulated, None) => checker.wrong(
            &root.key("hardware"),
            "`hardware: simulated` needs a `simulation`",
            "add `simulation:` with at least `units` below it; stations/demo.yaml shows how",
        ),
        _ => {}
    }
    let all_read = profiles.len() == raw.profiles.len();
    let simulation = raw.simulation.as_ref().map(|raw| simulation(raw, &slots, profiles, all_read, known, checker));
    Some(Station {
        path: document.path.clone(),
        digest,
        name: name?,
        hardware: raw.hardware,
        slots: slots.into_iter().filter_map(|slot| slot.checked).collect(),
        profiles: profiles.iter().map(|(_, profile)| Arc::clone(profile)).collect(),
        state: state?,
        vault,
        reports: reports?,
        permits_per_root_port: permits,
        power: raw.power.unwrap_or_default(),
        simulation,
    })
}

fn vault(document: &Document, raw: &RawStation, checker: &mut Checker<'_>) -> VaultConfig {
    let Some(raw) = &raw.vault else { return VaultConfig::default() };
    let at = At::root().key("vault");
    let recovery = raw.recovery.as_ref().and_then(|text| {
        let key_at = at.key("recovery");
        let text = checker.text(&key_at, text, limits::DEVICE_TEXT_CHARS_MAX)?;
        if text.starts_with("AGE-SECRET-KEY-") {
            checker.wrong(
                &key_at,
                "this is a secret key, which must never be on a station",
                "write its public half, `age1...`, which `age-keygen -y` prints; and make a new key: this one was shown",
            );
            return None;
        }
        if let Err(why) = text.parse::<age::x25519::Recipient>() {
            let sentence = format!("this is not the public half of a key: {why}");
            checker.wrong(&key_at, sentence, "write `age1...` as `age-keygen` prints it after `Public key:`");
            return None;
        }
        Some(text.to_owned())
    });
    let copy = raw.copy.as_ref().and_then(|text| {
        let text = checker.text(&at.key("copy"), text, limits::CONFIG_PATH_CHARS_MAX)?;
        Some(beside(&document.path, text))
    });
    VaultConfig { recovery, copy }
}

/// What holds between a station and its profiles, and among these.
fn check_profiles(raw: &RawStation, profiles: &[(usize, Arc<Profile>)], checker: &mut Checker<'_>) {
    let list_at = At::root().key("profiles");
    if raw.profiles.is_empty() {
        checker.wrong(&list_at, "`profiles` has no entry", "name at least one profile file");
    }
    for (position, (index, profile)) in profiles.iter().enumerate() {
        let at = list_at.index(*index);
        for (_, earlier) in &profiles[..position] {
            if earlier.name == profile.name {
                let sentence = format!("two profiles have the name `{}`", profile.name);
                checker.wrong(&at, sentence, "give one of them another `name`: records tell them apart by it");
            }
            if let Some(model) = profile.models.iter().find(|model| earlier.models.contains(model)) {
                checker.wrong(
                    &at,
                    format!("the profiles `{}` and `{}` both take {model}", earlier.name, profile.name),
                    "remove one of them: a module's model must pick exactly one profile",
                );
            }
        }
        if raw.hardware == HardwareKind::Usb {
            let file = printable(&profile.path.to_string_lossy(), limits::DEVICE_TEXT_CHARS_MAX);
            if matches!(profile.package, PackageSource::Simulated(_)) {
                checker.wrong(
                    &at,
                    format!("the profile `{}` has a simulated package, which real modules must not get", profile.name),
                    format!("name a `directory` under `package` in {file}"),
                );
            } else if profile.package_digest.is_none() {
                checker.wrong(
                    &at,
                    format!("the profile `{}` does not pin its package, which real modules demand", profile.name),
                    format!("add the `sha256` that `stationmaster package inspect` prints under `package` in {file}"),
                );
            }
        }
    }
}

/// A slot as far as it could be read: its name is compared even where a chain is wrong.
struct ReadSlot {
    name: Option<SlotName>,
    chains: Vec<(At, PortChain)>,
    checked: Option<SlotConfig>,
}

fn slots(raw: &[RawSlot], checker: &mut Checker<'_>) -> Vec<ReadSlot> {
    let at = At::root().key("slots");
    if raw.is_empty() {
        checker.wrong(&at, "`slots` has no entry", "add at least one, with `name` and `usb2`");
    }
    checker.count(&at, raw.len(), limits::SLOTS_MAX);
    let mut slots: Vec<ReadSlot> = Vec::new();
    for (index, raw) in raw.iter().enumerate().take(limits::SLOTS_MAX) {
        let slot = slot(&at.index(index), raw, checker);
        if let Some(name) = &slot.name
            && let Some(first) = slots.iter().position(|earlier| earlier.name.as_ref() == Some(name))
        {
            let sentence = format!("two slots have the name {name}; the other is entry {}", first + 1);
            checker.wrong(&at.index(index).key("name"), sentence, "write what the sticker says");
        }
        for (at, chain) in &slot.chains {
            compare_chains(at, chain, &slots, checker);
        }
        slots.push(slot);
    }
    slots
}

fn slot(at: &At, raw: &RawSlot, checker: &mut Checker<'_>) -> ReadSlot {
    let help = "write what the sticker says: letters, digits, `.`, `_` and `-`";
    let name: Option<SlotName> = checker.parsed(&at.key("name"), &raw.name, limits::DEVICE_TEXT_CHARS_MAX, help);
    let usb2 = chain(&at.key("usb2"), &raw.usb2, Side::Usb2, checker);
    let usb3 = raw.usb3.as_ref().map(|text| chain(&at.key("usb3"), text, Side::Usb3, checker));
    let chains = [("usb2", usb2.clone()), ("usb3", usb3.clone().flatten())]
        .into_iter()
        .filter_map(|(key, chain)| Some((at.key(key), chain?)))
        .collect();
    let checked = match (&name, usb2) {
        (Some(name), Some(usb2)) => Some(SlotConfig { name: name.clone(), usb2, usb3: usb3.flatten() }),
        _ => None,
    };
    ReadSlot { name, chains, checked }
}

fn chain(at: &At, text: &Text, side: Side, checker: &mut Checker<'_>) -> Option<PortChain> {
    let key = if side == Side::Usb2 { "usb2" } else { "usb3" };
    let help = format!("`stationmaster devices` shows chains, such as pci-0000:00:14.0/{key}/1.4");
    let chain: PortChain = checker.parsed(at, text, limits::DEVICE_TEXT_CHARS_MAX, &help)?;
    if chain.side() != side {
        checker.wrong(at, format!("this chain is not on the {key} side"), help);
        return None;
    }
    Some(chain)
}

/// No module can be at a port that another slot has, nor where a hub must be.
fn compare_chains(at: &At, chain: &PortChain, slots: &[ReadSlot], checker: &mut Checker<'_>) {
    for (index, slot) in slots.iter().enumerate() {
        let other = slot.name.as_ref().map_or_else(|| format!("entry {}", index + 1), |name| format!("slot {name}"));
        for (_, taken) in &slot.chains {
            if taken == chain {
                checker.wrong(at, format!("{other} has this port already"), "each slot has ports of its own");
                return;
            } else if taken.is_at_or_behind(chain) {
                let sentence = format!("there must be a hub here: {other} is behind it, at {taken}");
                checker.wrong(at, sentence, "write the whole chain, down to the port that the module is plugged into");
            } else if chain.is_at_or_behind(taken) {
                let sentence = format!("this is behind the port of {other} ({taken}), where a module is, not a hub");
                checker.wrong(at, sentence, format!("correct this chain or the one of {other}"));
            }
        }
    }
}

fn simulation(
    raw: &RawSimulation,
    slots: &[ReadSlot],
    profiles: &[(usize, Arc<Profile>)],
    all_read: bool,
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> Simulation {
    let at = At::root().key("simulation");
    let units_at = at.key("units");
    if raw.units.is_empty() {
        checker.wrong(&units_at, "`units` has no entry", "add at least one, with `model` and `revision`");
    }
    checker.count(&units_at, raw.units.len(), limits::SIM_UNIT_KINDS_MAX);
    let units = raw.units.iter().enumerate().take(limits::SIM_UNIT_KINDS_MAX);
    let units: Vec<SimUnitMix> = units
        .filter_map(|(index, raw)| unit(&units_at.index(index), raw, slots, profiles, all_read, known, checker))
        .collect();
    let operator = raw.operator.as_ref().map_or_else(SimOperator::default, |raw| operator(&at, raw, checker));
    let faults_at = at.key("faults");
    checker.count(&faults_at, raw.faults.len(), limits::SIM_FAULTS_MAX);
    let mut faults: Vec<SimFault> = Vec::new();
    for (index, raw) in raw.faults.iter().enumerate().take(limits::SIM_FAULTS_MAX) {
        let at = faults_at.index(index);
        let Some(fault) = fault(&at, raw, known, checker) else { continue };
        if faults.contains(&fault) {
            checker.wrong(&at, "this fault is in the list twice", "keep one of the two");
        }
        faults.push(fault);
    }
    Simulation {
        time_scale: checker.whole(&at.key("time_scale"), raw.time_scale, 1, 1..=1000),
        seed: checker.whole(&at.key("seed"), raw.seed, 1, 0..=i64::from(u32::MAX)),
        flash: raw.flash.unwrap_or_default(),
        units,
        operator,
        faults,
    }
}

fn unit(
    at: &At,
    raw: &RawUnits,
    slots: &[ReadSlot],
    profiles: &[(usize, Arc<Profile>)],
    all_read: bool,
    known: &Known<'_>,
    checker: &mut Checker<'_>,
) -> Option<SimUnitMix> {
    let model = checker.text(&at.key("model"), &raw.model, limits::DEVICE_TEXT_CHARS_MAX);
    if let Some(model) = model {
        let shown = printable(model, QUOTE_CHARS_MAX);
        if !known.sim_models.contains(&model) {
            let help = choose(model, "the simulator has", known.sim_models.iter().copied());
            checker.wrong(&at.key("model"), format!("the simulator has no model `{shown}`"), help);
        } else if all_read && !profiles.iter().any(|(_, profile)| profile.models.iter().any(|known| known == model)) {
            let help = "add a profile for it to `profiles`, or remove these units";
            checker.wrong(&at.key("model"), format!("no profile of this station takes {shown}"), help);
        }
    }
    let revision = checker.revision(&at.key("revision"), &raw.revision);
    let unit_slots = raw.slots.as_ref().map(|names| unit_slots(&at.key("slots"), names, slots, checker));
    Some(SimUnitMix { model: model?.to_owned(), revision: revision?, slots: unit_slots })
}

fn unit_slots(at: &At, names: &[Text], slots: &[ReadSlot], checker: &mut Checker<'_>) -> Vec<SlotName> {
    if names.is_empty() {
        checker.wrong(at, "`slots` has no entry", "name slots, or remove the line: all slots then");
    }
    checker.count(at, names.len(), limits::SLOTS_MAX);
    let mut read: Vec<(usize, SlotName)> = Vec::new();
    for (index, text) in names.iter().enumerate().take(limits::SLOTS_MAX) {
        let at = at.index(index);
        let help = "write a slot's `name`";
        let Some(name) = checker.parsed::<SlotName>(&at, text, limits::DEVICE_TEXT_CHARS_MAX, help) else { continue };
        if !slots.iter().any(|slot| slot.name.as_ref() == Some(&name)) {
            let possible = slots.iter().filter_map(|slot| slot.name.as_ref().map(SlotName::as_str));
            let help = choose(name.as_str(), "slots are", possible);
            checker.wrong(&at, format!("this station has no slot {name}"), help);
        }
        read.push((index, name));
    }
    checker.doubles(at, &read);
    read.into_iter().map(|(_, name)| name).collect()
}

fn operator(at: &At, raw: &RawOperator, checker: &mut Checker<'_>) -> SimOperator {
    let (at, default) = (at.key("operator"), SimOperator::default());
    let mut time = |key: &str, value, default| checker.seconds(&at.key(key), value, default, &(0.0..=3600.0));
    SimOperator {
        insert_after: time("insert_after_s", raw.insert_after_s, default.insert_after),
        remove_after: time("remove_after_s", raw.remove_after_s, default.remove_after),
    }
}

fn fault(at: &At, raw: &RawFault, known: &Known<'_>, checker: &mut Checker<'_>) -> Option<SimFault> {
    let name = checker.text(&at.key("fault"), &raw.fault, limits::DEVICE_TEXT_CHARS_MAX);
    let fault = name.and_then(|name| known.faults.iter().find(|fault| fault.name == name));
    if let (Some(name), None) = (name, fault) {
        let help = choose(name, "faults are", known.faults.iter().map(|fault| fault.name));
        checker.wrong(&at.key("fault"), format!("there is no fault `{}`", printable(name, QUOTE_CHARS_MAX)), help);
    }
    let unit = checker.whole(&at.key("unit"), Some(raw.unit), 1, 1..=limits::SIM_UNITS_MAX);
    let step = raw.step.as_ref().and_then(|text| step(&at.key("step"), text, checker));
    if let Some(fault) = fault.filter(|fault| !fault.takes_step) {
        for (key, given) in [("step", raw.step.is_some()), ("after", raw.after.is_some())] {
            if given {
                let sentence = format!("the fault `{}` happens at one point only", fault.name);
                checker.wrong_key(&at.key(key), sentence, format!("remove `{key}`"));
            }
        }
    }
    let after = raw.after.map(|after| checker.whole(&at.key("after"), Some(after), 0, 0..=100_000));
    Some(SimFault { fault: fault?.name.to_owned(), unit, step, after })
}

fn step(at: &At, text: &Text, checker: &mut Checker<'_>) -> Option<Phase> {
    let word = checker.text(at, text, limits::DEVICE_TEXT_CHARS_MAX)?;
    let step = word.parse().ok();
    if step.is_none() {
        let help = choose(word, "phases are", Phase::ALL.map(Phase::as_str));
        checker.wrong(at, format!("there is no phase `{}`", printable(word, QUOTE_CHARS_MAX)), help);
    }
    step
}
