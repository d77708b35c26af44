//! Every destructive command of a run, cut off in every way in which a factory cuts things off: at its beginning, once
//! it was resumed in its middle, and then at its end. Each unit ends as if nothing had happened, but for the mark that it
//! was resumed.
//!
//! The commands are not listed by hand: they are what the simulated module saw in a run that nobody disturbed. What
//! came of each case is kept in `tests/data/interruptions/` and compared; `UPDATE_EXPECTED=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stationmaster::config::Station;
use stationmaster::controller::{End, Product};
use stationmaster::domain::{Outcome, PageRange, SlotName};
use stationmaster::host::{Disk, MemoryDisk, OsDisk};
use stationmaster::sim::{BusAction, GuardedSight, Moment, UnitTruth};

use crate::harness::{Line, assert_sound, records, station_of, two_slots};
use crate::truth::{Content, Seen, witness};

/// Station time within which everything that is waited for happens.
const PATIENCE: Duration = Duration::from_secs(1800);
const BATCH: &str = "MATRIX";

/// How a command is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    /// The module is pulled out; ten seconds later it is in the same slot, or in the other one.
    Unplug,
    /// Its supply fails for a moment, and the page that was being written is noise.
    Power,
    /// The controller dies; the module keeps its power and stands where it was.
    Kill,
    /// The hub of the slot is gone for five seconds.
    Hub,
}

impl Cut {
    const PAIRS: [[Self; 2]; 2] = [[Self::Unplug, Self::Hub], [Self::Power, Self::Kill]];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Unplug => "unplug",
            Self::Power => "module power loss",
            Self::Kill => "controller killed",
            Self::Hub => "hub loss",
        }
    }
}

/// A destructive command of the undisturbed run.
#[derive(Clone, Copy, Debug)]
struct Step {
    number: usize,
    is_erase: bool,
    range: PageRange,
}

/// Where and how one unit is cut off: in two of the four ways, so that the whole stays short.
#[derive(Clone, Copy, Debug)]
struct Case {
    step: Step,
    cuts: [Cut; 2],
}

impl Case {
    /// How and when the command is cut off, one after the other. An erase has no page to stop at.
    fn stops(&self) -> Vec<(Cut, Moment)> {
        let moments: &[Moment] = if self.step.is_erase { &[Moment::Middle] } else { &Moment::ALL };
        self.cuts.iter().flat_map(|cut| moments.iter().map(|moment| (*cut, *moment))).collect()
    }
}

/// A line for one family, with its package opened once.
struct Bench {
    station: Arc<Station>,
    products: Vec<Product>,
}

fn slot(name: &str) -> SlotName {
    name.parse().expect("a slot name")
}

/// The demo station with two slots and one kind of module.
fn only(text: &str, model: &str, profile: &str) -> String {
    let text = two_slots(text.to_owned());
    let (head, rest) = text.split_once("  units:\n").expect("the kinds");
    let (kinds, tail) = rest.split_once("  # Inserts and removes").expect("what follows the kinds");
    let kind = kinds.split("    - ").find(|kind| kind.starts_with(&format!("model: {model}\n"))).expect("the model");
    let is_other = |line: &&str| line.trim_start().starts_with("- ../profiles/") && !line.ends_with(profile);
    let head: String = head.lines().filter(|line| !is_other(line)).map(|line| format!("{line}\n")).collect();
    format!("{head}  units:\n    - {kind}  # Inserts and removes{tail}")
}

impl Bench {
    fn new(model: &str, profile: &str) -> Self {
        let station = station_of("stations/demo.yaml", 1, |text| only(&text, model, profile));
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let products = stationmaster::cli::prepare::products(&disk, &station, Path::new("state"));
        Self { station, products: products.expect("good packages") }
    }

    async fn line(&self) -> (Line, UnitTruth) {
        let line = Line::with(&self.products, &self.station, Arc::new(MemoryDisk::new()), 1).await;
        let unit = loop {
            match line.factory.unit(1) {
                Some(unit) => break unit,
                None => line.clock.sleep(Duration::from_millis(100)).await,
            }
        };
        unit.watch_guarded();
        (line, unit)
    }

    /// The destructive commands of a run that nobody disturbs, as the module saw them.
    async fn steps(&self) -> Vec<Step> {
        let (line, unit) = self.line().await;
        let (end, entries) = line.run(BATCH, 1).await;
        assert_eq!(end, End::Complete);
        let [record] = records(&entries, BATCH).try_into().expect("one run");
        assert_eq!((record.outcome, record.flags.resumed), (Outcome::Pass, false), "{record:#?}");
        let ranges = unit.events().into_iter().filter_map(|event| match event.action {
            BusAction::Erase(range) => Some((true, range)),
            BusAction::Program(range) => Some((false, range)),
            _ => None,
        });
        let steps = ranges.enumerate().map(|(number, (is_erase, range))| Step { number, is_erase, range });
        steps.collect()
    }

    /// Runs one case: a unit that is cut off again and again in one command, each time after it was resumed.
    async fn run(&self, case: &Case, turn: usize) -> Value {
        let (line, unit) = self.line().await;
        let (look, mut diary) = witness(line.products.clone());
        let mut work = line.work_before(BATCH, 1, look).await;
        let mut before = None;
        for (index, (cut, moment)) in case.stops().into_iter().enumerate() {
            // A resumed run begins with its first command.
            let stop = unit.stop_at(case.step.number, moment);
            let reached = line.clock.timeout(PATIENCE, stop.reached()).await;
            reached.unwrap_or_else(|_| panic!("{case:?} never reaches {cut:?} {moment:?}: {:#?}", line.entries()));
            if before.is_none() {
                before = diary.lock().unwrap_or_else(PoisonError::into_inner).before.remove(&1);
            }
            if cut == Cut::Kill {
                work.kill().await;
                drop(stop);
                let look;
                (look, diary) = witness(line.products.clone());
                work = line.work_before(BATCH, 1, look).await;
            } else {
                cut_off(case.step, (cut, moment), &line, &unit, turn + index).await;
            }
        }
        let (end, entries) = work.end_within(&line, PATIENCE).await;
        let end = end.unwrap_or_else(|| panic!("{case:?}: the batch does not end: {entries:#?}"));
        assert_eq!(end, End::Complete, "{case:?}: {entries:#?}");
        assert_sound(&line, &entries);
        let ends = std::mem::take(&mut diary.lock().unwrap_or_else(PoisonError::into_inner).ends);
        let [seen] = ends.try_into().unwrap_or_else(|ends| panic!("{case:?}: one end: {ends:#?}"));
        self.judge(case, &seen, &before.expect("its run began"), &unit.guarded_sights())
    }

    fn judge(&self, case: &Case, seen: &Seen, before: &Content, sights: &[GuardedSight]) -> Value {
        let record = &seen.record;
        assert_eq!((record.outcome, record.code), (Outcome::Pass, None), "{case:?}: {record:#?}");
        assert!(record.flags.resumed, "{case:?}: {record:#?}");
        seen.assert_proven(before);
        assert_eq!(record.boots_verified, 2, "{case:?}");
        // Whatever belongs to the unit was, page for page, the same before the first boot as before the first erase.
        let mut pairs = 0;
        for pair in sights.windows(2).filter(|pair| !pair[0].is_boot && pair[1].is_boot) {
            assert_eq!(pair[0].pages, pair[1].pages, "{case:?}: guarded pages were changed by something but a boot");
            pairs += 1;
        }
        assert!(pairs > 0, "{case:?}: {sights:?}");
        let Step { number, is_erase, range } = case.step;
        json!({
            "step": number + 1,
            "command": if is_erase { "erase" } else { "program" },
            "pages": [range.start, range.pages],
            "cuts": case.stops().iter().map(|(cut, moment)| [cut.as_str(), moment.as_str()]).collect::<Vec<_>>(),
            "outcome": record.outcome,
            "flags": record.flags.to_string(),
            "slot": record.slot,
        })
    }
}

/// Cuts a module off that stands in the middle of a command, and lets it come back.
async fn cut_off(step: Step, (cut, moment): (Cut, Moment), line: &Line, unit: &UnitTruth, turn: usize) {
    let here = line.factory.slot_of(unit.number()).expect("it is plugged in");
    let place = line.station.slots.iter().find(|slot| slot.name == here).expect("a slot of the station");
    let chains: Vec<_> = place.chains().cloned().collect();
    let hub = chains[0].hub().expect("the slot is behind a hub");
    match cut {
        Cut::Unplug => {
            line.factory.unplug(&here).expect("a slot").expect("a unit");
            line.clock.sleep(Duration::from_secs(10)).await;
            let back = if turn.is_multiple_of(2) { "A1" } else { "A2" };
            line.factory.plug(unit.number(), &slot(back)).expect("a free slot");
        }
        Cut::Power => {
            let power = line.factory.power();
            power.set(&chains, false).await.expect("a switchable port");
            if !step.is_erase && moment == Moment::Middle {
                let PageRange { start, pages } = step.range;
                unit.spoil_pages(PageRange { start: start + (pages / 2 + 1).min(pages - 1), pages: 1 })
                    .expect("a page");
            }
            line.clock.sleep(Duration::from_millis(700)).await;
            power.set(&chains, true).await.expect("a switchable port");
        }
        Cut::Hub => {
            line.factory.set_hub(&hub, false).expect("a hub");
            line.clock.sleep(Duration::from_secs(5)).await;
            line.factory.set_hub(&hub, true).expect("a hub");
        }
        Cut::Kill => unreachable!("the controller is killed elsewhere"),
    }
}

/// Every other command of one family from `part` on, compared with what is kept.
#[expect(
    clippy::disallowed_methods,
    reason = "how long the whole takes is what is printed, and nothing is decided by it"
)]
async fn matrix(model: &str, profile: &str, part: usize) {
    let began = Instant::now();
    let bench = Bench::new(model, profile);
    let steps = bench.steps().await;
    assert!(steps.iter().any(|step| step.is_erase) && steps.iter().any(|step| !step.is_erase), "{steps:?}");
    assert!(steps[0].is_erase && steps[0].range.start == 0, "the boot loader is erased first: {:?}", steps[0]);
    let last = steps.last().expect("not empty");
    assert!(!last.is_erase && last.range.start == 0, "the boot loader is written last: {last:?}");
    let of_part: Vec<Step> = steps.into_iter().filter(|step| step.number % 2 == part).collect();
    let mut rows = Vec::new();
    let mut cuts: BTreeMap<&str, usize> = BTreeMap::new();
    for step in &of_part {
        for pair in Cut::PAIRS {
            let case = Case { step: *step, cuts: pair };
            case.stops().iter().for_each(|(cut, _)| *cuts.entry(cut.as_str()).or_default() += 1);
            rows.push(bench.run(&case, rows.len()).await);
        }
    }
    let seed = bench.station.simulation.as_ref().expect("simulated").seed;
    let _closed = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!(
            "{model}, part {}: {} destructive commands x 4 = {} cells, {} interruptions of {} units; seeds: modules {seed}, \
         factory 1, controller 2; {:.1} s\n",
            part + 1,
            of_part.len(),
            4 * of_part.len(),
            cuts.values().sum::<usize>(),
            rows.len(),
            began.elapsed().as_secs_f64()
        ),
    );
    let name = profile.trim_end_matches(".yaml");
    let head = json!({
        "model": model,
        "seeds": { "modules": seed, "factory": 1, "controller": 2 },
        "commands": of_part.len(),
        "cells": 4 * of_part.len(),
        "interruptions": cuts,
        "units": rows.len(),
    });
    compare(&format!("{name}-{}.json", part + 1), &head, &rows);
}

/// Compares the table with the one that is kept, or writes it anew: a row per line, for whoever looks at a difference.
fn compare(file: &str, head: &Value, rows: &[Value]) {
    let place = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/interruptions").join(file);
    let mut text = format!("{{\n\"table\": {head},\n\"rows\": [\n");
    for (index, row) in rows.iter().enumerate() {
        writeln!(text, "{row}{}", if index + 1 < rows.len() { "," } else { "" }).expect("a string takes everything");
    }
    text.push_str("]\n}\n");
    serde_json::from_str::<Value>(&text).expect("the table is JSON");
    let disk = OsDisk::new();
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        disk.create_dir_all(place.parent().expect("a directory")).expect("made");
        disk.replace(&place, text.as_bytes(), true).expect("written");
        return;
    }
    let kept = disk.read(&place, 1 << 22).expect("the table is in the tree");
    let kept = String::from_utf8(kept).expect("UTF-8");
    let different = kept.lines().zip(text.lines()).find(|(kept, found)| kept != found);
    assert!(kept == text, "{}: kept and found differ, first here: {different:#?}", place.display());
}

#[tokio::test(start_paused = true)]
async fn an_mdm9x07_that_is_cut_off_in_any_odd_command_is_finished() {
    matrix("EG25-G", "eg25-g.yaml", 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_mdm9x07_that_is_cut_off_in_any_even_command_is_finished() {
    matrix("EG25-G", "eg25-g.yaml", 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_sdx55_that_is_cut_off_in_any_odd_command_is_finished() {
    matrix("RM500Q-GL", "rm500q-gl.yaml", 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_sdx55_that_is_cut_off_in_any_even_command_is_finished() {
    matrix("RM500Q-GL", "rm500q-gl.yaml", 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_sdx6x_that_is_cut_off_in_any_odd_command_is_finished() {
    matrix("RM520N-GL", "rm520n-gl.yaml", 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_sdx6x_that_is_cut_off_in_any_even_command_is_finished() {
    matrix("RM520N-GL", "rm520n-gl.yaml", 1).await;
}
