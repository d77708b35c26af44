//! What a batch came to: counts, yields, what did not pass and what a person does about it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::domain::{BatchId, ChipId, Fact, FailureCode, Flags, Imei, Outcome, Phase, RunId, RunRecord, SlotName};

use super::Recorded;

/// What a summary says of one finished run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunLine {
    /// The run.
    pub run: RunId,
    /// The batch it belongs to.
    pub batch: BatchId,
    /// The slot in which it finished.
    pub slot: SlotName,
    /// The model, printable; empty when the module never said.
    pub model: String,
    /// The profile; empty when none fitted.
    pub profile: String,
    /// The IMEI, or what the module answered instead; of before the flash.
    pub imei: String,
    /// The chip, once it was read.
    pub chip: Option<ChipId>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not pass.
    pub code: Option<FailureCode>,
    /// The phase in which it ended.
    pub phase: Phase,
    /// What else is true of it. `quarantined` also where an amendment of a later run says so.
    pub flags: Flags,
    /// The code of that amendment.
    pub amended: Option<FailureCode>,
    /// Which attempt at the unit it was.
    pub attempt: u32,
    /// More for people; printable.
    pub detail: String,
}

/// A unit that was changed and is not finished.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interrupted {
    /// The run.
    pub run: RunId,
    /// The slot in which it was last.
    pub slot: Option<SlotName>,
    /// The unit's IMEI.
    pub imei: Option<Imei>,
    /// Its chip.
    pub chip: Option<ChipId>,
    /// Where the run was.
    pub phase: Phase,
    /// Why it stopped.
    pub code: FailureCode,
    /// More for people; printable.
    pub detail: String,
}

/// The work of a station on one batch, followed from the ledger's facts.
///
/// Runs of an older batch that are resumed while this one is worked on are listed, but count for their own.
#[derive(Debug, Clone)]
pub struct Summary {
    batch: BatchId,
    time_scale: u32,
    finished: Vec<RunLine>,
    open: BTreeMap<RunId, Open>,
    resumed_here: BTreeSet<RunId>,
}

#[derive(Debug, Clone)]
struct Open {
    batch: Option<BatchId>,
    slot: Option<SlotName>,
    imei: Option<Imei>,
    chip: Option<ChipId>,
    stopped: Option<(Phase, FailureCode, String)>,
}

impl Summary {
    /// A summary of `batch`, empty until it [follows](Self::follow) facts.
    #[must_use]
    pub fn new(batch: BatchId) -> Self {
        Self { batch, time_scale: 1, finished: Vec::new(), open: BTreeMap::new(), resumed_here: BTreeSet::new() }
    }

    /// Takes the next fact of the ledger. Give it all of them, from the first entry on: a batch may go on after a
    /// restart, and an interrupted run began long before.
    pub fn follow(&mut self, entry: &Recorded<'_>) {
        match entry.fact {
            Fact::StationStarted { time_scale, .. } => self.time_scale = *time_scale,
            Fact::RunStarted { run, batch, slot, identity, .. } => {
                let open = self.open(*run);
                open.batch = Some(batch.clone());
                open.imei = identity.as_ref().and_then(|identity| identity.imei);
                open.slot = Some(slot.clone());
            }
            Fact::Claimed { run, chip, imei, .. } => {
                let open = self.open(*run);
                open.chip = Some(*chip);
                open.imei = Some(*imei);
            }
            Fact::RunInterrupted { run, phase, code, detail } => {
                self.open(*run).stopped = Some((*phase, *code, detail.clone()));
            }
            Fact::RunResumed { run, batch, slot, .. } => {
                if *batch == self.batch {
                    self.resumed_here.insert(*run);
                }
                let open = self.open(*run);
                open.slot = Some(slot.clone());
                open.stopped = None;
            }
            Fact::RunFinished(record) => self.finish(record),
            Fact::Quarantined { run, code, .. } => {
                for line in self.finished.iter_mut().filter(|line| line.run == *run) {
                    line.flags.quarantined = true;
                    line.amended = Some(*code);
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, run: RunId) -> &mut Open {
        self.open.entry(run).or_insert(Open { batch: None, slot: None, imei: None, chip: None, stopped: None })
    }

    fn finish(&mut self, record: &RunRecord) {
        self.open.remove(&record.run);
        if record.batch == self.batch || self.resumed_here.contains(&record.run) {
            self.finished.push(run_line(record));
        }
    }

    /// The batch.
    #[must_use]
    pub fn batch(&self) -> &BatchId {
        &self.batch
    }

    /// How much faster than real the station's clock runs.
    #[must_use]
    pub fn time_scale(&self) -> u32 {
        self.time_scale
    }

    /// Every finished run, in the order in which they finished; also those of older batches that were resumed here.
    #[must_use]
    pub fn finished(&self) -> &[RunLine] {
        &self.finished
    }

    fn own(&self) -> impl Iterator<Item = &RunLine> {
        self.finished.iter().filter(|line| line.batch == self.batch)
    }

    /// Whether any of it was simulated.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.finished.iter().any(|line| line.flags.simulated)
    }

    /// How many runs of the batch ended with `outcome`.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.own().filter(|line| line.outcome == outcome).count()
    }

    /// How many runs of the batch are finished.
    #[must_use]
    pub fn total(&self) -> usize {
        self.own().count()
    }

    /// PASS among PASS and FAIL, 0 to 1; `None` when no unit was judged.
    #[must_use]
    pub fn pass_yield(&self) -> Option<f64> {
        ratio(self.own(), |_| true)
    }

    /// The same of first attempts only. A unit whose attempts cannot be counted, because its chip was never read,
    /// counts as a first one. One that passed after it was repaired is judged, and did not pass the first time.
    #[must_use]
    pub fn first_pass_yield(&self) -> Option<f64> {
        ratio(self.own().filter(|line| line.attempt <= 1), |line| !line.flags.repaired)
    }

    /// Every finished run that a person must do something about: all but PASS, and what was quarantined afterwards.
    pub fn not_passed(&self) -> impl Iterator<Item = &RunLine> {
        self.finished.iter().filter(|line| line.outcome != Outcome::Pass || line.flags.quarantined)
    }

    /// Units of the batch, or resumed under it, that were changed and are not finished.
    #[must_use]
    pub fn interrupted(&self) -> Vec<Interrupted> {
        let concerned =
            |run: &RunId, open: &Open| open.batch.as_ref() == Some(&self.batch) || self.resumed_here.contains(run);
        let stopped = self.open.iter().filter(|(run, open)| concerned(run, open)).filter_map(|(run, open)| {
            let (phase, code, detail) = open.stopped.clone()?;
            Some(Interrupted {
                run: *run,
                slot: open.slot.clone(),
                imei: open.imei,
                chip: open.chip,
                phase,
                code,
                detail,
            })
        });
        stopped.collect()
    }

    /// Whether the unit of a run that did not pass has passed in a later one. Not where it was quarantined: that is
    /// for a lead to lift, whatever came later.
    #[must_use]
    pub fn passed_later(&self, line: &RunLine) -> bool {
        let is_same_unit = |other: &&RunLine| match (line.chip, other.chip) {
            (Some(chip), Some(other)) => chip == other,
            _ => !line.imei.is_empty() && line.imei == other.imei,
        };
        let later = self.finished.iter().rev().take_while(|other| other.run != line.run);
        let last = later.filter(|other| is_same_unit(other)).map(|other| other.outcome).next();
        !line.flags.quarantined && last == Some(Outcome::Pass)
    }

    /// Whether every unit passed in its last run and none is left over: what the exit status 0 means.
    #[must_use]
    pub fn is_all_well(&self) -> bool {
        self.not_passed().all(|line| self.passed_later(line)) && self.interrupted().is_empty()
    }

    /// The summary as one JSON document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let counts: serde_json::Map<String, Value> =
            Outcome::ALL.iter().map(|outcome| (outcome.to_string(), self.count(*outcome).into())).collect();
        let interrupted: Vec<Value> = self.interrupted().iter().map(Interrupted::to_json).collect();
        json!({
            "schema": "summary/1",
            "batch": self.batch,
            "simulated": self.is_simulated(),
            "time_scale": self.time_scale,
            "total": self.total(),
            "counts": counts,
            "yield": self.pass_yield(),
            "first_pass_yield": self.first_pass_yield(),
            "all_well": self.is_all_well(),
            "runs": self.finished.iter().map(|line| line.to_json(self.passed_later(line))).collect::<Vec<Value>>(),
            "interrupted": interrupted,
        })
    }
}

impl RunLine {
    fn to_json(&self, passed_later: bool) -> Value {
        let code = self.code.or(self.amended);
        json!({
            "run": self.run,
            "batch": self.batch,
            "slot": self.slot,
            "model": self.model,
            "profile": self.profile,
            "imei": self.imei,
            "chip": self.chip,
            "outcome": self.outcome,
            "code": self.code,
            "amended": self.amended,
            "phase": self.phase,
            "flags": self.flags.to_string().split_whitespace().collect::<Vec<&str>>(),
            "attempt": self.attempt,
            "passed_later": passed_later,
            "detail": self.detail,
            "sentence": code.map(FailureCode::sentence),
            "advice": code.map(FailureCode::advice),
        })
    }
}

impl Interrupted {
    fn to_json(&self) -> Value {
        json!({
            "run": self.run,
            "slot": self.slot,
            "imei": self.imei,
            "chip": self.chip,
            "phase": self.phase,
            "code": self.code,
            "detail": self.detail,
            "sentence": self.code.sentence(),
            "advice": self.code.advice(),
        })
    }
}

fn run_line(record: &RunRecord) -> RunLine {
    let identity = record.before.as_ref().or(record.after.as_ref());
    RunLine {
        run: record.run,
        batch: record.batch.clone(),
        slot: record.slot.clone(),
        model: identity.map(|identity| identity.model.clone()).unwrap_or_default(),
        profile: record.profile.clone(),
        imei: identity
            .map(|identity| identity.imei.map_or_else(|| identity.imei_text.clone(), |imei| imei.to_string()))
            .unwrap_or_default(),
        chip: record.chip,
        outcome: record.outcome,
        code: record.code,
        phase: record.phase,
        flags: record.flags,
        amended: None,
        attempt: record.attempt,
        detail: record.detail.clone(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer units than 2^52")]
fn ratio<'a>(lines: impl Iterator<Item = &'a RunLine>, counts: impl Fn(&RunLine) -> bool) -> Option<f64> {
    let (mut passed, mut judged) = (0_usize, 0_usize);
    for line in lines {
        passed += usize::from(line.outcome == Outcome::Pass && counts(line));
        judged += usize::from(matches!(line.outcome, Outcome::Pass | Outcome::Fail));
    }
    (judged > 0).then(|| passed as f64 / judged as f64)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{record, recorded, run_id};
    use super::*;

    fn ended(number: u8, outcome: Outcome, code: Option<FailureCode>, attempt: u32) -> Fact {
        Fact::RunFinished(Box::new(RunRecord { outcome, code, attempt, ..record(number) }))
    }

    fn summary(facts: &[Fact]) -> Summary {
        let mut summary = Summary::new("DEMO-1".parse().expect("valid"));
        recorded(facts).iter().for_each(|entry| summary.follow(entry));
        summary
    }

    #[test]
    fn errors_and_retests_do_not_spoil_the_yield() {
        let summary = summary(&[
            ended(1, Outcome::Pass, None, 1),
            ended(2, Outcome::Fail, Some(FailureCode::BandMissing), 1),
            ended(3, Outcome::Error, Some(FailureCode::EdlSilent), 1),
            ended(4, Outcome::Held, Some(FailureCode::ImeiInvalid), 0),
            ended(5, Outcome::Pass, None, 2),
            ended(6, Outcome::Pass, None, 2),
        ]);
        assert_eq!(summary.pass_yield(), Some(0.75));
        assert_eq!(summary.first_pass_yield(), Some(0.5));
        assert_eq!(summary.not_passed().count(), 3);
        assert!(!summary.is_all_well());
        assert_eq!(self::summary(&[]).pass_yield(), None);
    }

    #[test]
    fn a_repaired_unit_has_passed_but_not_the_first_time() {
        let flags = Flags { repaired: true, ..Flags::default() };
        let repaired = Fact::RunFinished(Box::new(RunRecord { flags, ..record(2) }));
        let summary = summary(&[ended(1, Outcome::Pass, None, 1), repaired]);
        assert_eq!((summary.pass_yield(), summary.first_pass_yield()), (Some(1.0), Some(0.5)));
        assert!(summary.is_all_well());
    }

    #[test]
    fn an_interrupted_unit_is_listed_until_it_is_finished() {
        let run = run_id(7);
        let chain: crate::domain::PortChain = "pci-0000:00:14.0/usb2/1.4".parse().expect("valid");
        let (batch, slot): (BatchId, SlotName) = ("DEMO-1".parse().expect("valid"), "B2".parse().expect("valid"));
        let mut facts = vec![
            Fact::RunStarted { run, batch: batch.clone(), slot: slot.clone(), chain: chain.clone(), identity: None },
            Fact::RunInterrupted { run, phase: Phase::Flash, code: FailureCode::Unplugged, detail: String::new() },
        ];
        let stopped = summary(&facts).interrupted();
        assert_eq!((stopped.len(), stopped[0].slot.clone(), stopped[0].phase), (1, Some(slot.clone()), Phase::Flash));
        assert!(!summary(&facts).is_all_well());

        facts.push(Fact::RunResumed { run, batch, slot, chain });
        assert!(summary(&facts).interrupted().is_empty());
        facts.push(ended(7, Outcome::Pass, None, 1));
        assert!(summary(&facts).is_all_well());
    }

    #[test]
    fn a_unit_quarantined_afterwards_is_not_well() {
        let amendment = Fact::Quarantined { run: run_id(1), code: FailureCode::ImeiDuplicate, other: Some(run_id(2)) };
        let summary = summary(&[ended(1, Outcome::Pass, None, 1), amendment]);
        assert!(!summary.is_all_well());
        let json = summary.to_json();
        assert_eq!(json["runs"][0]["amended"], "IMEI_DUPLICATE");
        assert_eq!(json["runs"][0]["flags"], json!(["resumed", "quarantined", "simulated"]));
        assert_eq!(json["counts"]["PASS"], 1);
    }

    #[test]
    fn a_unit_that_passed_in_the_end_is_well_unless_it_was_quarantined() {
        let aborted = RunRecord { chip: None, outcome: Outcome::Aborted, ..record(1) };
        let aborted = Fact::RunFinished(Box::new(aborted));
        let passed = Fact::RunFinished(Box::new(RunRecord { run: run_id(2), ..record(1) }));
        assert!(summary(&[aborted.clone(), passed.clone()]).is_all_well());
        assert!(!summary(&[passed.clone(), aborted.clone()]).is_all_well());
        assert!(!summary(std::slice::from_ref(&aborted)).is_all_well());

        let flags = Flags { quarantined: true, ..Flags::default() };
        let failed = Fact::RunFinished(Box::new(RunRecord { outcome: Outcome::Fail, flags, ..record(1) }));
        assert!(!summary(&[failed, passed.clone()]).is_all_well());
        let other_chip = ended(3, Outcome::Fail, Some(FailureCode::BandMissing), 1);
        assert!(!summary(&[other_chip, passed]).is_all_well());
    }

    #[test]
    fn a_resumed_run_of_an_older_batch_is_listed_but_not_counted() {
        let run = run_id(9);
        let resumed = Fact::RunResumed {
            run,
            batch: "DEMO-1".parse().expect("valid"),
            slot: "A1".parse().expect("valid"),
            chain: "pci-0000:00:14.0/usb2/1.4".parse().expect("valid"),
        };
        let older = RunRecord { batch: "DEMO-0".parse().expect("valid"), ..record(9) };
        let summary = summary(&[resumed, Fact::RunFinished(Box::new(older))]);
        assert_eq!((summary.total(), summary.finished().len()), (0, 1));
    }
}
