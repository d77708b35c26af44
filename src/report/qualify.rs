//! The qualification of a profile, computed from the facts of the runs it rests on.
//!
//! The runs are those of any batch: the same controller, real flashes, verified. Nothing is measured here; so anybody
//! can compute the same result from the same ledger, also years later.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Profile;
use crate::domain::limits::{QUALIFY_DEADLINE_MS_MIN, QUALIFY_HEADROOM_PERCENT, QUALIFY_MARGIN, QUALIFY_UNITS_MIN};
use crate::domain::{
    BackupPart, BadBlocks, BatchId, Blame, ChipId, Fact, GuardedSpread, Outcome, Phase, PhaseSpread, Qualification,
    RunId, RunRecord, Sha256Digest, SlotName, Spread, StationName, Wait, WaitSpread,
};

/// What is qualified, and how.
#[derive(Debug, Clone)]
pub struct QualifyInput<'a> {
    /// The station.
    pub station: &'a StationName,
    /// The batch whose runs count.
    pub batch: &'a BatchId,
    /// The profile.
    pub profile: &'a Profile,
    /// SHA-256 over its package.
    pub package_digest: Sha256Digest,
    /// Whether the hardware is simulated.
    pub simulated: bool,
    /// How many units it is to be.
    pub units: u32,
    /// Whether each backup was to be written back to its unit.
    pub round_trip: bool,
}

/// The facts that a qualification rests on, gathered while the ledger is read.
#[derive(Debug)]
pub struct Qualifier<'a> {
    input: QualifyInput<'a>,
    backups: BTreeMap<RunId, Vec<BackupPart>>,
    confirmed: BTreeSet<RunId>,
    restored: BTreeSet<RunId>,
    /// Runs whose programmer told nothing of bad blocks.
    untold: BTreeSet<RunId>,
    records: Vec<RunRecord>,
}

impl<'a> Qualifier<'a> {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(input: QualifyInput<'a>) -> Self {
        let (confirmed, restored, untold) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { input, backups: BTreeMap::new(), confirmed, restored, untold, records: Vec::new() }
    }

    /// Takes the next fact of the ledger.
    pub fn follow(&mut self, fact: &Fact) {
        match fact {
            // Only one that was read page by page says where partitions lie.
            Fact::BackupStored { run, backup } if !backup.parts.is_empty() => {
                self.backups.insert(*run, backup.parts.clone());
                if !backup.bad_blocks.as_ref().is_some_and(BadBlocks::is_told) {
                    self.untold.insert(*run);
                }
            }
            Fact::BackupConfirmed { run, .. } => {
                self.confirmed.insert(*run);
            }
            Fact::Restored { run, .. } => {
                self.restored.insert(*run);
            }
            Fact::RunFinished(record) if record.batch == *self.input.batch => self.records.push((**record).clone()),
            _ => {}
        }
    }

    /// What follows from them.
    #[must_use]
    pub fn conclude(self) -> Qualification {
        let QualifyInput { station, batch, profile, package_digest, simulated, units: units_asked, round_trip } =
            self.input;
        let mut findings: Vec<String> = self.records.iter().filter_map(refused).collect();
        // A unit that was put in twice counts once, and as it was the first time.
        let mut passed: BTreeMap<ChipId, &RunRecord> = BTreeMap::new();
        for record in self.records.iter().filter(|record| is_proof(record, profile, package_digest)) {
            if let Some(chip) = record.chip {
                passed.entry(chip).or_insert(record);
            }
        }
        let passed: Vec<&RunRecord> = passed.into_values().collect();
        let units = count(passed.len());
        let enough = units_asked.max(QUALIFY_UNITS_MIN);
        if units < enough {
            findings.push(format!("{units} of {enough} units passed"));
        }
        let read_twice = count(passed.iter().filter(|record| self.confirmed.contains(&record.run)).count());
        if read_twice < units {
            findings.push(format!("the backups of {} units were not read twice", units - read_twice));
        }
        let restored =
            round_trip.then(|| count(passed.iter().filter(|record| self.restored.contains(&record.run)).count()));
        if let Some(restored) = restored
            && restored < units
        {
            findings.push(format!("the backups of {} units were not written back", units - restored));
        }
        let untold = passed.iter().filter(|record| self.untold.contains(&record.run)).count();
        if untold > 0 {
            findings.push(format!(
                "the programmers of {untold} units neither name nor count bad blocks: whether a backup would come to lie where it \
                 was is not known"
            ));
        }
        let guarded = self.guarded(&passed, profile, &mut findings);
        let waits = waits(&passed, profile, &mut findings);
        let slots: BTreeSet<&SlotName> = passed.iter().map(|record| &record.slot).collect();
        Qualification {
            station: station.clone(),
            batch: batch.clone(),
            profile: profile.name.clone(),
            profile_digest: profile.digest,
            package_digest,
            simulated,
            qualified: findings.is_empty(),
            findings,
            units_asked,
            units,
            runs: passed.iter().map(|record| record.run).collect(),
            read_twice,
            restored,
            guarded,
            phases: phases(&passed),
            waits,
            run_ms: spread(passed.iter().map(|record| total_ms(record)).collect())
                .unwrap_or(Spread { median: 0, p99: 0 }),
            takt_ms: takt_ms(&passed),
            slots: count(slots.len()),
        }
    }

    /// The guarded partitions, where all units agree on their places.
    fn guarded(&self, passed: &[&RunRecord], profile: &Profile, findings: &mut Vec<String>) -> Vec<GuardedSpread> {
        let mut all: Vec<GuardedSpread> = Vec::new();
        // Where no partition is read, nothing is known of where they lie, nor changed there.
        if !profile.guard.has_raw() {
            return all;
        }
        for name in profile.family.guarded {
            let mut found: Option<GuardedSpread> = None;
            for record in passed {
                let parts = self.backups.get(&record.run).map_or(&[][..], Vec::as_slice);
                let Some(part) = parts.iter().find(|part| part.partition.eq_ignore_ascii_case(name)) else {
                    findings.push(format!("the backup of run {} has no {name}", record.run));
                    continue;
                };
                match &mut found {
                    None => {
                        found = Some(GuardedSpread {
                            partition: part.partition.clone(),
                            range: part.range,
                            used_pages_min: part.used_pages,
                            used_pages_max: part.used_pages,
                        });
                    }
                    Some(known) if known.range != part.range => {
                        findings.push(format!("{name} does not lie where it lies on other units: run {}", record.run));
                    }
                    Some(known) => {
                        known.used_pages_min = known.used_pages_min.min(part.used_pages);
                        known.used_pages_max = known.used_pages_max.max(part.used_pages);
                    }
                }
            }
            all.extend(found);
        }
        all
    }
}

/// Why a run speaks against the profile; `None` where it says nothing about it, or that it is good.
fn refused(record: &RunRecord) -> Option<String> {
    let is_handling = record.code.is_some_and(|code| code.blame() == Blame::Handling);
    if record.outcome == Outcome::Pass && record.flags.resumed {
        return Some(format!("run {} in slot {} was interrupted: its times are not whole", record.run, record.slot));
    }
    if record.outcome == Outcome::Pass || record.outcome == Outcome::Aborted || is_handling {
        return None;
    }
    let code = record.code.map_or_else(String::new, |code| format!(" {code}"));
    Some(format!("run {} in slot {}: {}{code}", record.run, record.slot, record.outcome))
}

/// Whether a run proves something: flashed with this very profile and package in one go, and passed.
fn is_proof(record: &RunRecord, profile: &Profile, package: Sha256Digest) -> bool {
    record.outcome == Outcome::Pass
        && record.profile_digest == Some(profile.digest)
        && record.package_digest == Some(package)
        && record.bytes_written > 0
        && !record.flags.resumed
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn total_ms(record: &RunRecord) -> u64 {
    record.phases.iter().map(|time| time.milliseconds).fold(0, u64::saturating_add)
}

/// Median and 99th percentile by nearest rank; `None` of nothing.
fn spread(mut values: Vec<u64>) -> Option<Spread> {
    values.sort_unstable();
    let last = values.len().checked_sub(1)?;
    let (low, high) = (values[last / 2], values[last.div_ceil(2)]);
    let rank = (values.len() * 99).div_ceil(100);
    Some(Spread { median: low + (high - low).div_ceil(2), p99: values[rank.clamp(1, values.len()) - 1] })
}

fn phases(passed: &[&RunRecord]) -> Vec<PhaseSpread> {
    let of = |phase: Phase| {
        let times = passed.iter().filter_map(|record| record.phases.iter().find(|time| time.phase == phase));
        spread(times.map(|time| time.milliseconds).collect()).map(|milliseconds| PhaseSpread { phase, milliseconds })
    };
    Phase::ALL.into_iter().filter_map(of).collect()
}

fn waits(passed: &[&RunRecord], profile: &Profile, findings: &mut Vec<String>) -> Vec<WaitSpread> {
    let mut all: Vec<WaitSpread> = Vec::new();
    for wait in Wait::ALL {
        let times = passed.iter().filter_map(|record| record.waits.iter().find(|time| time.wait == wait));
        let Some(milliseconds) = spread(times.map(|time| time.milliseconds).collect()) else { continue };
        let limit_ms = u64::try_from(profile.timeouts.of(wait).as_millis()).unwrap_or(u64::MAX);
        let needed_ms = milliseconds.p99.saturating_mul(QUALIFY_HEADROOM_PERCENT) / 100;
        if limit_ms < needed_ms {
            findings.push(format!(
                "{wait}_s leaves no room: it is {}, and {} was needed",
                seconds(limit_ms),
                seconds(milliseconds.p99)
            ));
        }
        let proposed_ms = milliseconds.p99.saturating_mul(QUALIFY_MARGIN).max(QUALIFY_DEADLINE_MS_MIN);
        all.push(WaitSpread { wait, milliseconds, limit_ms, proposed_ms: proposed_ms.next_multiple_of(1000) });
    }
    // One answer may not take longer than all of them together.
    let at = all.iter().find(|spread| spread.wait == Wait::At).map_or(0, |spread| spread.proposed_ms);
    if let Some(ready) = all.iter_mut().find(|spread| spread.wait == Wait::Ready) {
        ready.proposed_ms = ready.proposed_ms.max(at);
    }
    all
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03} s", milliseconds / 1000, milliseconds % 1000)
}

/// From the first start to the last end, divided by the units. Stamps are the host's; the scale makes station time.
fn takt_ms(passed: &[&RunRecord]) -> u64 {
    let first = passed.iter().map(|record| record.started).min();
    let last = passed.iter().map(|record| record.ended).max();
    let (Some(first), Some(last)) = (first, last) else { return 0 };
    let scale = passed.iter().map(|record| u64::from(record.time_scale)).max().unwrap_or(1);
    let span = u64::try_from(last.duration_since(first).as_millis()).unwrap_or(0);
    span.saturating_mul(scale) / (passed.len() as u64).max(1)
}

/// Which profiles are qualified, as the ledger says: the last word on each counts.
#[derive(Debug, Clone, Default)]
pub struct Standings {
    latest: BTreeMap<(Sha256Digest, Sha256Digest, bool), Qualification>,
}

impl Standings {
    /// Takes the next fact of the ledger.
    pub fn follow(&mut self, fact: &Fact) {
        if let Fact::Qualified(found) = fact {
            let key = (found.profile_digest, found.package_digest, found.simulated);
            self.latest.insert(key, (**found).clone());
        }
    }

    /// The qualification that holds for a profile, with whichever package.
    #[must_use]
    pub fn of_profile(&self, profile: Sha256Digest, simulated: bool) -> Option<&Qualification> {
        let mut known = self.latest.iter().filter(|((own, _, kind), _)| *own == profile && *kind == simulated);
        known.find_map(|(_, found)| found.qualified.then_some(found))
    }

    /// The qualification that holds for a profile with a package on that kind of hardware.
    #[must_use]
    pub fn of(&self, profile: Sha256Digest, package: Sha256Digest, simulated: bool) -> Option<&Qualification> {
        self.latest.get(&(profile, package, simulated)).filter(|found| found.qualified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_percentile_are_of_nearest_rank() {
        assert_eq!(spread(Vec::new()), None);
        assert_eq!(spread(vec![7]), Some(Spread { median: 7, p99: 7 }));
        assert_eq!(spread(vec![9, 1]), Some(Spread { median: 5, p99: 9 }));
        assert_eq!(spread(vec![3, 1, 2]), Some(Spread { median: 2, p99: 3 }));
        assert_eq!(spread((1..=100).collect()), Some(Spread { median: 51, p99: 99 }));
        assert_eq!(spread((1..=200).collect()), Some(Spread { median: 101, p99: 198 }));
    }
}
