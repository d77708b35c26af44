//! What is plugged in, and the wait for the module that was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;

use super::super::reconcile::hint_or_interval;
use super::{News, Refusal, Session, Target, Wish, is_module};
use crate::domain::family::{DUMP_IDS, EDL_IDS};
use crate::domain::{Family, PortChain, limits};
use crate::hardware::{DeviceKey, DeviceMode, DeviceRecord, HardwareError};

/// How long a module must be alone and stay before it is believed: two that are put in with two hands are not seen at
/// the same moment.
pub(super) const SETTLE: Duration = Duration::from_secs(3);
/// How long the kernel may take to configure a device.
const CONFIGURE_LIMIT: Duration = Duration::from_secs(10);
/// How often in a row the bus may fail to be listed.
const FAILURES_MAX: u32 = 30;

/// What was plugged in at one moment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    devices: Vec<DeviceRecord>,
}

impl Seen {
    /// The modules, in whichever mode.
    pub(super) fn modules(&self) -> impl Iterator<Item = &DeviceRecord> {
        self.devices.iter().filter(|device| is_module(device))
    }

    /// The modules that were enumerated since.
    pub(super) fn new_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a DeviceRecord> {
        self.modules().filter(|device| !before.has(&device.key))
    }

    /// Whether that very enumeration is there.
    pub(super) fn has(&self, key: &DeviceKey) -> bool {
        self.devices.iter().any(|device| device.key == *key)
    }

    /// Leaves out what is at a port, as if it had not been there.
    pub(super) fn forget(&mut self, chain: &PortChain) {
        self.devices.retain(|device| device.key.chain != *chain);
    }

    /// The device at a port.
    pub(super) fn at(&self, chain: &PortChain) -> Option<&DeviceRecord> {
        self.devices.iter().find(|device| device.key.chain == *chain)
    }
}

/// How the wait for a module ended.
pub(super) enum Arrived {
    /// One module, in normal mode.
    Module(DeviceRecord, &'static Family),
    /// What came does not teach the slot.
    Refused(Refusal),
    /// The person wants something else.
    Wish(Wish),
}

/// What waits to be believed, and since when.
#[derive(Default)]
pub(super) struct Settling(Option<(DeviceKey, Duration)>);

impl Settling {
    /// What is waited for.
    pub(super) fn key(&self) -> Option<&DeviceKey> {
        self.0.as_ref().map(|(key, _)| key)
    }

    /// How long `key` has been seen without a break, now that it is seen again.
    pub(super) fn age(&mut self, key: &DeviceKey, now: Duration) -> Duration {
        match &self.0 {
            Some((known, since)) if known == key => now.saturating_sub(*since),
            _ => {
                self.0 = Some((key.clone(), now));
                Duration::ZERO
            }
        }
    }
}

impl Session<'_> {
    /// What is plugged in now. A list that cannot be had for a moment is asked for again.
    pub(super) async fn look(&mut self) -> Result<Seen, HardwareError> {
        let mut failures = 0;
        loop {
            match self.mapper.bus.list().await {
                Ok(listing) => {
                    let now = Seen { devices: listing.devices };
                    self.recent.extend(now.modules().map(|device| device.key.chain.clone()));
                    let new = now.new_since(&self.before);
                    for device in new {
                        let is_edl = matches!(device.mode(), DeviceMode::Edl { .. });
                        *self.arrived.entry(device.key.chain.clone()).or_default() |= is_edl;
                    }
                    return Ok(now);
                }
                Err(error) => {
                    failures += 1;
                    if failures >= FAILURES_MAX {
                        return Err(error);
                    }
                    if failures == 1 {
                        self.asker.tell(&News::BusFailed(&error));
                    }
                    self.mapper.clock.sleep(limits::RECONCILE_INTERVAL).await;
                }
            }
        }
    }

    /// Waits until the bus is worth another look: after a hint, or a second.
    pub(super) async fn pause(&mut self, hints: &mut watch::Receiver<u64>) {
        hint_or_interval(hints, &self.mapper.clock).await;
    }

    /// Waits for exactly one module that was not there before.
    pub(super) async fn await_module(&mut self, target: &Target) -> Result<Arrived, HardwareError> {
        let mut hints = self.mapper.bus.hints();
        let mut strangers = BTreeSet::new();
        let (mut settling, mut unconfigured) = (Settling::default(), BTreeMap::new());
        loop {
            let now = self.look().await?;
            let time = self.mapper.clock.now();
            let (owned, new): (Vec<&DeviceRecord>, Vec<&DeviceRecord>) =
                now.new_since(&self.before).partition(|device| self.owner(&device.key.chain).is_some());
            match (new.as_slice(), owned.first()) {
                ([], None) => settling = Settling::default(),
                ([one], _) | ([], Some(one)) => {
                    if settling.age(&one.key, time) >= SETTLE {
                        let one = (*one).clone();
                        return Ok(self.judge(target, &one, &now));
                    }
                }
                (several, _) => {
                    let chains = several.iter().map(|device| device.key.chain.clone()).collect();
                    return Ok(Arrived::Refused(Refusal::Several(chains)));
                }
            }
            for device in now.devices.iter().filter(|device| !is_module(device) && !self.before.has(&device.key)) {
                match device.mode() {
                    DeviceMode::Unconfigured if has_module_id(device) => {
                        let since = *unconfigured.entry(device.key.clone()).or_insert(time);
                        if time.saturating_sub(since) >= CONFIGURE_LIMIT {
                            return Ok(Arrived::Refused(Refusal::Unconfigured(device.key.chain.clone())));
                        }
                    }
                    DeviceMode::Foreign if strangers.insert(device.key.clone()) => {
                        self.asker.tell(&News::Stranger(device));
                    }
                    _ => {}
                }
            }
            let mapper = self.mapper;
            let wish = self.asker.wish();
            tokio::select! {
                biased;
                () = mapper.stop.cancelled() => return Ok(Arrived::Wish(Wish::End)),
                wish = wish => return Ok(Arrived::Wish(wish)),
                () = hint_or_interval(&mut hints, &mapper.clock) => {}
            }
        }
    }

    /// What a module that stays is good for.
    fn judge(&mut self, target: &Target, device: &DeviceRecord, now: &Seen) -> Arrived {
        let chain = &device.key.chain;
        if let Some(refusal) = self.conflict(chain) {
            return Arrived::Refused(refusal);
        }
        match device.mode() {
            DeviceMode::Edl { .. } => Arrived::Refused(Refusal::InDownloadMode(chain.clone())),
            DeviceMode::MemoryDump => Arrived::Refused(Refusal::Crashed(chain.clone())),
            DeviceMode::Normal(family) => {
                match self.doubt(target, chain).or_else(|| self.doubt_side(chain, family, now)) {
                    Some(doubt) => {
                        self.doubted.insert(chain.clone(), chain.clone());
                        Arrived::Refused(doubt)
                    }
                    None => Arrived::Module(device.clone(), family),
                }
            }
            DeviceMode::Foreign | DeviceMode::Unconfigured => Arrived::Refused(Refusal::Gone),
        }
    }
}

/// Whether a device without interfaces has the id of a module.
fn has_module_id(device: &DeviceRecord) -> bool {
    let id = (device.vendor_id, device.product_id);
    Family::by_usb_id(id.0, id.1).is_some() || EDL_IDS.contains(&id) || DUMP_IDS.contains(&id)
}
