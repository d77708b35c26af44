//! What a tester can do to the served fixture: one command per line, one JSON document per answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::prepare;
use crate::config::{SlotConfig, Station};
use crate::domain::text::printable;
use crate::domain::{PortChain, SlotName, limits};
use crate::hardware::{DeviceMode, DeviceRecord};
use crate::host::Clock;
use crate::sim::boot::Boot;
use crate::sim::{BusAction, Factory, UnitTruth};

/// Units that a tester brings are numbered apart from the line's own.
const BROUGHT_NUMBERS: u32 = 700_000;

/// What there is, for those who ask and those who mistype.
const HELP: &str = "list | unplug SLOT | plug SLOT [UNIT|new] | swap SLOT SLOT | power SLOT on|off | hub CHAIN on|off | \
                    done SLOT | truth SLOT | help | quit";

/// The hands on the fixture.
pub(super) struct Control<'a> {
    station: &'a Station,
    factory: &'a Factory,
    clock: Clock,
    /// Units that were pulled out by hand, by the slot they were in.
    pulled: BTreeMap<SlotName, u32>,
    /// How many units were brought.
    brought: u32,
}

impl<'a> Control<'a> {
    pub(super) fn new(station: &'a Station, factory: &'a Factory, clock: Clock) -> Self {
        Self { station, factory, clock, pulled: BTreeMap::new(), brought: 0 }
    }

    /// Obeys a line: the answer, or `None` when it was the last one.
    pub(super) async fn obey(&mut self, line: &str) -> Option<Value> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let result = match words.as_slice() {
            ["quit"] => return None,
            ["help"] => Ok(json!({ "commands": HELP })),
            ["list"] => self.list().await,
            ["unplug", slot] => self.unplug(slot),
            ["plug", slot] => self.plug(slot, None),
            ["plug", slot, unit] => self.plug(slot, Some(unit)),
            ["swap", one, other] => self.swap(one, other).await,
            ["power", slot, state] => self.power(slot, state).await,
            ["hub", chain, state] => self.hub(chain, state),
            ["done", slot] => self.done(slot).await,
            ["truth", slot] => self.truth(slot),
            _ => Err(format!("there is no such command; there are: {HELP}")),
        };
        let mut answer = json!({ "command": printable(line.trim(), limits::INPUT_LINE_BYTES_MAX) });
        match result {
            Ok(Value::Object(more)) => {
                answer["ok"] = json!(true);
                more.into_iter().for_each(|(key, value)| answer[&key] = value);
            }
            Ok(_) => answer["ok"] = json!(true),
            Err(why) => {
                answer["ok"] = json!(false);
                answer["error"] = json!(why);
            }
        }
        Some(answer)
    }

    fn slot(&self, name: &str) -> Result<SlotName, String> {
        let found = self.station.slots.iter().find(|slot| slot.name.as_str() == name);
        found.map(|slot| slot.name.clone()).ok_or_else(|| format!("there is no slot {}", printable(name, 64)))
    }

    fn unplug(&mut self, slot: &str) -> Result<Value, String> {
        let slot = self.slot(slot)?;
        let unit = self.factory.unplug(&slot).map_err(|error| error.to_string())?;
        let unit = unit.ok_or_else(|| format!("slot {slot} is empty"))?;
        self.pulled.insert(slot, unit);
        Ok(json!({ "unit": unit }))
    }

    fn plug(&mut self, slot: &str, unit: Option<&str>) -> Result<Value, String> {
        let slot = self.slot(slot)?;
        let unit = match unit {
            Some("new") => self.bring(&slot)?,
            Some(text) => text.parse().map_err(|_| format!("{} is no number of a unit", printable(text, 64)))?,
            None => *self.pulled.get(&slot).ok_or_else(|| format!("nothing was pulled out of slot {slot}"))?,
        };
        self.factory.plug(unit, &slot).map_err(|error| error.to_string())?;
        self.pulled.retain(|_, pulled| *pulled != unit);
        Ok(json!({ "unit": unit }))
    }

    /// Makes one more unit of the kind that belongs into a slot.
    fn bring(&mut self, slot: &SlotName) -> Result<u32, String> {
        let kinds = self.station.simulation.iter().flat_map(|simulation| &simulation.units);
        let mut kinds = kinds.filter(|kind| kind.fits(slot)).map(prepare::kind);
        let kind = kinds.next().ok_or_else(|| format!("the station file has no units for slot {slot}"))?;
        let unit = BROUGHT_NUMBERS.saturating_add(self.brought);
        self.factory.make(unit, &kind).map_err(|error| error.to_string())?;
        self.brought += 1;
        Ok(unit)
    }

    async fn swap(&mut self, one: &str, other: &str) -> Result<Value, String> {
        let (one, other) = (self.slot(one)?, self.slot(other)?);
        self.factory.operator().swap(&one, &other).await.map_err(|error| error.to_string())?;
        let (first, second) = (self.factory.occupant(&one), self.factory.occupant(&other));
        Ok(json!({ "units": { one.as_str(): first, other.as_str(): second } }))
    }

    async fn power(&self, slot: &str, state: &str) -> Result<Value, String> {
        let name = self.slot(slot)?;
        let slot = self.station.slots.iter().find(|slot| slot.name == name);
        let chains: Vec<PortChain> = slot.into_iter().flat_map(SlotConfig::chains).cloned().collect();
        let power = self.factory.power();
        power.set(&chains, is_on(state)?).await.map_err(|error| error.to_string())?;
        Ok(Value::Null)
    }

    fn hub(&self, chain: &str, state: &str) -> Result<Value, String> {
        let chain: PortChain = chain.parse().map_err(|error| format!("{}: {error}", printable(chain, 64)))?;
        self.factory.set_hub(&chain, is_on(state)?).map_err(|error| error.to_string())?;
        Ok(Value::Null)
    }

    async fn done(&self, slot: &str) -> Result<Value, String> {
        let slot = self.slot(slot)?;
        let unit = self.factory.occupant(&slot).ok_or_else(|| format!("slot {slot} is empty"))?;
        self.factory.operator().slot_done(&slot).await;
        Ok(json!({ "unit": unit }))
    }

    async fn list(&self) -> Result<Value, String> {
        let devices = self.factory.bus().list().await.map_err(|error| error.to_string())?.devices;
        let exports = self.factory.exports().list();
        let slots = self.station.slots.iter().map(|slot| {
            let device = devices.iter().find(|device| slot.is_at(&device.key.chain));
            let path = format!("/stationmaster/{}/", slot.name);
            let busid = exports.iter().find(|export| export.path.starts_with(&path)).map(|export| &export.busid);
            json!({
                "slot": slot.name.as_str(),
                "unit": self.factory.occupant(&slot.name),
                "mode": device.map(mode),
                "chain": device.map(|device| device.key.chain.to_string()),
                "busid": busid,
                "id": device.map(|device| format!("{:04x}:{:04x}", device.vendor_id, device.product_id)),
                "product": device.map(|device| device.product.as_str()),
            })
        });
        Ok(json!({ "slots": slots.collect::<Vec<Value>>() }))
    }

    fn truth(&self, slot: &str) -> Result<Value, String> {
        let slot = self.slot(slot)?;
        let unit = self.factory.occupant(&slot).or(self.pulled.get(&slot).copied());
        let truth = unit.and_then(|unit| self.factory.unit(unit)).ok_or_else(|| format!("slot {slot} is empty"))?;
        Ok(self.truth_of(&truth))
    }

    /// What a unit is, and what is in its flash: not what it says.
    fn truth_of(&self, unit: &UnitTruth) -> Value {
        let identity = unit.identity();
        let events = unit.events();
        let count = |is: fn(BusAction) -> bool| events.iter().filter(|event| is(event.action)).count();
        let mut document = json!({
            "unit": unit.number(),
            "model": identity.model.name,
            "hw_id": format!("{:016x}", identity.chip.hw_id),
            "chip_serial": format!("{:08x}", identity.chip.serial),
            "born_imei": identity.imei.as_str(),
            "flashed": unit.is_flashed(),
            "starts": unit.starts(),
            "erases_and_programs": count(|action| matches!(action, BusAction::Erase(_) | BusAction::Program(_))),
            "idle_s": events.last().map(|last| self.clock.now().saturating_sub(last.at).as_secs()),
        });
        if let Some(found) = unit.inspect() {
            let (boots_as, why) = match &found.boot {
                Boot::Normal(_) => ("normal", None),
                Boot::Edl { reason } => ("edl", Some(reason)),
                Boot::MemoryDump { reason } => ("memory-dump", Some(reason)),
                Boot::NoSystem { reason } => ("mute", Some(reason)),
            };
            document["flash"] = json!({
                "boots_as": boots_as,
                "why": why,
                "revision": found.revision,
                "imei": found.imei,
                "efs": format!("{:?}", found.efs).to_lowercase(),
                "efs_digest": found.efs_digest.to_string(),
                "bad_blocks": found.bad_blocks,
            });
            document["cfun"] = json!((boots_as == "normal").then(|| unit.cfun()));
        }
        document
    }
}

fn is_on(state: &str) -> Result<bool, String> {
    match state {
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(format!("say `on` or `off`, not `{}`", printable(other, 64))),
    }
}

fn mode(device: &DeviceRecord) -> &'static str {
    match device.mode() {
        DeviceMode::Normal(_) => "normal",
        DeviceMode::Edl { .. } => "edl",
        DeviceMode::MemoryDump => "memory-dump",
        DeviceMode::Foreign => "foreign",
        DeviceMode::Unconfigured => "unconfigured",
    }
}
