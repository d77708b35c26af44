//! The lines that are shown while the line works.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::{Outcome, Phase, RunRecord, SlotState, SlotStatus};

use super::style::{Style, width};
use super::table::advice;

/// Cells of the columns of a slot's line, besides the slot's name.
const WORD_CELLS: usize = 11;
const MODEL_CELLS: usize = 12;
const PHASE_CELLS: usize = 9;
/// A bar shorter than this says nothing.
const BAR_CELLS_MIN: usize = 4;

/// What finished while the display ran.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// How many are to be finished, where that was said.
    wanted: Option<u32>,
    outcomes: BTreeMap<Outcome, u32>,
    is_simulated: bool,
    time_scale: u32,
}

impl Tally {
    /// Nothing is finished of what is `wanted`.
    pub(super) fn of(wanted: Option<u32>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Counts a finished run.
    pub(super) fn take(&mut self, record: &RunRecord) {
        *self.outcomes.entry(record.outcome).or_default() += 1;
        self.is_simulated |= record.flags.simulated;
        self.time_scale = record.time_scale;
    }

    fn line(&self) -> String {
        let counts: Vec<String> = self.outcomes.iter().map(|(outcome, number)| format!("{outcome} {number}")).collect();
        let wanted = self.wanted.map(|wanted| format!(" of {wanted}")).unwrap_or_default();
        let mut line = format!("{}{wanted} finished", self.outcomes.values().sum::<u32>());
        if !counts.is_empty() {
            line = format!("{line}: {}", counts.join("  "));
        }
        if self.is_simulated {
            line = format!("{line}  (simulated, {} times real speed)", self.time_scale);
        }
        line
    }
}

/// All lines of a terminal of `columns` by `rows`. Where the slots are too many, those that need eyes are shown.
pub(super) fn frame(slots: &[SlotStatus], tally: &Tally, columns: usize, rows: usize, style: Style) -> Vec<String> {
    // A terminal may wrap a line that fills its last column.
    let columns = columns.saturating_sub(1);
    let name_cells = slots.iter().map(|status| width(status.slot.as_str())).max().unwrap_or_default();
    // The tally, and the row that the cursor stands in.
    let places = rows.saturating_sub(2);
    let mut shown: Vec<usize> = (0..slots.len()).collect();
    if slots.len() > places {
        shown.sort_by_key(|index| urgency(&slots[*index]));
        shown.truncate(places.saturating_sub(1));
        shown.sort_unstable();
    }
    let mut lines: Vec<String> =
        shown.iter().map(|index| slot_line(&slots[*index], name_cells, columns, style)).collect();
    if shown.len() < slots.len() {
        let hidden = (0..slots.len()).filter(|index| !shown.contains(index)).map(|index| &slots[index]);
        lines.push(style.cut(&hidden_line(hidden), columns));
    }
    lines.push(style.cut(&tally.line(), columns));
    lines
}

/// Small numbers are shown first.
fn urgency(status: &SlotStatus) -> u8 {
    match (status.state, status.outcome) {
        (SlotState::Interrupted | SlotState::HubLost, _) => 0,
        (SlotState::Done, Some(outcome)) if outcome != Outcome::Pass => 1,
        (SlotState::Running, _) => 2,
        (SlotState::Done, _) => 3,
        (SlotState::Waiting, _) => 4,
        (SlotState::Empty, _) => 5,
    }
}

fn hidden_line<'a>(hidden: impl Iterator<Item = &'a SlotStatus>) -> String {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for status in hidden {
        *states.entry(status.state.as_str()).or_default() += 1;
    }
    let words: Vec<String> = states.iter().map(|(state, number)| format!("{number} {state}")).collect();
    format!("and {} more: {}", states.values().sum::<usize>(), words.join(", "))
}

/// One slot in at most `columns` cells: name, sign and word, model, and what belongs to the state.
pub(super) fn slot_line(status: &SlotStatus, name_cells: usize, columns: usize, style: Style) -> String {
    let ((sign, colour), word) = match (status.state, status.outcome) {
        (SlotState::Done, Some(outcome)) => (style.outcome(outcome), outcome.as_str()),
        (state, _) => (style.state(state), state.as_str()),
    };
    let name = style.fit(status.slot.as_str(), name_cells);
    let badge = format!("{sign} {}", style.fit(word, WORD_CELLS));
    let model = style.fit(status.model.as_deref().unwrap_or_default(), MODEL_CELLS);
    let used = width(&name) + 1 + width(&badge) + 1 + MODEL_CELLS + 1;
    if used > columns {
        return style.cut(&format!("{name} {badge} {model}"), columns);
    }
    let rest = rest(status, columns - used, style);
    format!("{name} {} {model} {rest}", style.paint(&badge, colour)).trim_end().to_owned()
}

/// What stands behind the model, in at most `cells` cells.
fn rest(status: &SlotStatus, cells: usize, style: Style) -> String {
    let phase = status.phase.map(Phase::as_str).unwrap_or_default();
    let code = status.code.map(|code| code.as_str()).unwrap_or_default();
    let text = match status.state {
        SlotState::Running if status.bytes_total > 0 => return progress(status, phase, cells, style),
        SlotState::Running => format!("{} {}", style.fit(phase, PHASE_CELLS), elapsed(status)),
        SlotState::Done => format!("{code} {}", elapsed(status)),
        SlotState::Interrupted => format!("{phase} {code}"),
        SlotState::Waiting | SlotState::Empty | SlotState::HubLost => code.to_owned(),
    };
    style.cut(text.trim(), cells)
}

/// Phase, bar, share, rate and time left; the bar takes what the others leave, and goes when that is too little.
fn progress(status: &SlotStatus, phase: &str, cells: usize, style: Style) -> String {
    let percent = u128::from(status.bytes_done.min(status.bytes_total)) * 100 / u128::from(status.bytes_total.max(1));
    let phase = style.fit(phase, PHASE_CELLS);
    // Nothing has moved while storage is still being erased: a rate of nothing and a time without end say nothing.
    let tail = if status.bytes_done == 0 {
        format!("{percent:>3}% {:21}", "")
    } else {
        format!("{percent:>3}% {:>9} {:>6} left", rate(status.bytes_per_second), time_left(status))
    };
    let others = width(&phase) + 1 + 2 + 1 + width(&tail);
    let bar_cells = cells.saturating_sub(others);
    if bar_cells < BAR_CELLS_MIN {
        return style.cut(format!("{phase} {tail}").trim_end(), cells);
    }
    let bar = style.bar(status.bytes_done, status.bytes_total, bar_cells);
    format!("{phase} [{bar}] {tail}")
}

fn elapsed(status: &SlotStatus) -> String {
    if status.elapsed.is_zero() { String::new() } else { clock_face(status.elapsed) }
}

fn rate(bytes_per_second: f64) -> String {
    if bytes_per_second >= 1e6 {
        format!("{:.1} MB/s", bytes_per_second / 1e6)
    } else {
        format!("{:.0} kB/s", bytes_per_second / 1e3)
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn time_left(status: &SlotStatus) -> String {
    let left = status.bytes_total.saturating_sub(status.bytes_done) as f64 / status.bytes_per_second;
    match Duration::try_from_secs_f64(left) {
        Ok(left) if left < Duration::from_secs(100 * 60) => clock_face(left),
        _ => "-:--".to_owned(),
    }
}

/// Minutes and seconds; a started second counts.
fn clock_face(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_millis() > 0);
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// What is worth a plain line between two looks at the slots. Finished runs are told by [`finished`].
pub(super) fn changes(before: &[SlotStatus], now: &[SlotStatus]) -> Vec<String> {
    let pairs = before.iter().zip(now).filter(|(before, now)| before.version != now.version);
    pairs.filter_map(|(before, now)| change(before, now)).collect()
}

fn change(before: &SlotStatus, now: &SlotStatus) -> Option<String> {
    let slot = &now.slot;
    let model = now.model.as_deref().map(|model| format!(" {model}")).unwrap_or_default();
    let phase = now.phase.map(Phase::as_str).unwrap_or_default();
    let is_new = |state: SlotState| now.state == state && before.state != state;
    if is_new(SlotState::Interrupted) {
        let why = now.code.map(|code| format!("{code}: {}", code.advice())).unwrap_or_default();
        Some(format!("{slot}: interrupted in {phase}{model} {why}").trim_end().to_owned())
    } else if is_new(SlotState::HubLost) {
        Some(format!("{slot}: its hub is gone"))
    } else if now.state != SlotState::Running {
        None
    } else if now.run.is_some() && before.run != now.run {
        Some(format!("{slot}: run started{model}"))
    } else if now.phase == Some(Phase::Flash) && before.phase != Some(Phase::Flash) {
        Some(format!("{slot}: flashing{model}"))
    } else {
        None
    }
}

/// What is said of a finished run: one line, and what to do where it did not pass.
pub(super) fn finished(record: &RunRecord, columns: usize, style: Style) -> Vec<String> {
    let identity = record.before.as_ref().or(record.after.as_ref());
    let unit = identity
        .map(|identity| {
            let imei = identity.imei.map_or_else(|| identity.imei_text.clone(), |imei| imei.to_string());
            format!(" {} {imei}", identity.model)
        })
        .unwrap_or_default();
    let flags = record.flags.to_string();
    let flags = if flags.is_empty() { flags } else { format!(" ({flags})") };
    let milliseconds = record.phases.iter().fold(0_u64, |sum, time| sum.saturating_add(time.milliseconds));
    let duration = clock_face(Duration::from_millis(milliseconds));
    let Some(code) = record.code else {
        return vec![style.cut(&format!("{}: {}{unit} {duration}{flags}", record.slot, record.outcome), columns)];
    };
    let head = format!("{}: {} {code} in {}{unit} {duration}{flags}", record.slot, record.outcome, record.phase);
    let columns = columns.saturating_sub(1);
    let mut lines = vec![style.paint(&style.cut(&head, columns), style.outcome(record.outcome).1)];
    lines.extend(advice(code, &record.detail, columns));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::FailureCode;

    const PLAIN: Style = Style { is_unicode: false, is_coloured: false };
    const RICH: Style = Style { is_unicode: true, is_coloured: false };

    fn slot(name: &str) -> SlotStatus {
        SlotStatus::empty(name.parse().expect("a slot name"))
    }

    fn flashing() -> SlotStatus {
        SlotStatus {
            version: 7,
            state: SlotState::Running,
            run: Some("019b76da-a800-7000-8000-000000000001".parse().expect("a run")),
            phase: Some(Phase::Flash),
            bytes_done: 42_000_000,
            bytes_total: 100_000_000,
            bytes_per_second: 3_800_000.0,
            model: Some("RM520N-GL".to_owned()),
            ..slot("A1")
        }
    }

    #[test]
    fn a_slot_at_work_at_80_columns() {
        assert_eq!(
            slot_line(&flashing(), 3, 79, PLAIN),
            "A1  > running     RM520N-GL    flash     [###......]  42%  3.8 MB/s   0:16 left"
        );
        let backup = SlotStatus { phase: Some(Phase::EnterEdl), bytes_total: 0, ..flashing() };
        assert_eq!(slot_line(&backup, 3, 79, RICH), "A1  ▶ running     RM520N-GL    enter-edl");
    }

    #[test]
    fn while_nothing_moves_there_is_no_rate() {
        let erasing = SlotStatus { bytes_done: 0, bytes_per_second: 0.0, ..flashing() };
        assert_eq!(slot_line(&erasing, 3, 79, PLAIN), "A1  > running     RM520N-GL    flash     [.........]   0%");
    }

    #[test]
    fn the_tally_says_how_many_are_wanted() {
        let mut tally = Tally::of(Some(32));
        assert_eq!(tally.line(), "0 of 32 finished");
        tally.take(&crate::report::samples::record(1));
        assert_eq!(tally.line(), "1 of 32 finished: PASS 1  (simulated, 20 times real speed)");
    }

    #[test]
    fn a_slot_at_rest() {
        let done = SlotStatus {
            state: SlotState::Done,
            outcome: Some(Outcome::Fail),
            code: Some(FailureCode::BandMissing),
            elapsed: Duration::from_millis(92_100),
            ..flashing()
        };
        assert_eq!(slot_line(&done, 2, 79, PLAIN), "A1 x FAIL        RM520N-GL    BAND_MISSING 1:33");
        let lost = SlotStatus { state: SlotState::Interrupted, code: Some(FailureCode::Unplugged), ..flashing() };
        assert_eq!(slot_line(&lost, 2, 79, PLAIN), "A1 \" interrupted RM520N-GL    flash UNPLUGGED");
        assert_eq!(slot_line(&slot("A1"), 2, 79, PLAIN), "A1 . empty");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut wide = flashing();
        wide.model = Some("模块".repeat(60));
        wide.bytes_per_second = f64::MAX;
        let mut still = flashing();
        still.bytes_per_second = 0.0;
        still.bytes_done = u64::MAX;
        let mut slots = vec![wide, still, flashing(), slot("TWELVE-CHARS")];
        slots[1].code = Some(FailureCode::PackageTouchesGuarded);
        for state in SlotState::ALL {
            slots.push(SlotStatus { state, ..slots[0].clone() });
        }
        for style in [PLAIN, RICH] {
            for columns in [0, 1, 10, 30, 40, 60, 80, 81, 132] {
                for line in frame(&slots, &Tally::default(), columns, 40, style) {
                    assert!(width(&line) <= columns, "{columns}: {line}");
                }
            }
        }
    }

    #[test]
    fn too_many_slots_for_the_terminal_show_those_that_need_eyes() {
        let mut slots: Vec<SlotStatus> = (0..64).map(|number| slot(&format!("S{number:02}"))).collect();
        slots[60].state = SlotState::Interrupted;
        slots[40].state = SlotState::Running;
        let lines = frame(&slots, &Tally::default(), 80, 24, PLAIN);
        assert_eq!(lines.len(), 23);
        assert!(lines.iter().any(|line| line.starts_with("S60 \" interrupted")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("S40 > running")), "{lines:#?}");
        assert_eq!(lines[21], "and 43 more: 43 empty");
        assert_eq!(lines[22], "0 finished");
    }

    #[test]
    fn a_finished_run_is_one_line_and_a_failed_one_says_what_to_do() {
        let passed = crate::report::samples::record(1);
        assert_eq!(
            finished(&passed, usize::MAX, PLAIN),
            ["A1: PASS RM520N-GL 490154203237518 1:03 (resumed simulated)"]
        );
        let code = FailureCode::BandMissing;
        let detail = "n77 is not in nr_sa_policy".to_owned();
        let failed = RunRecord { outcome: Outcome::Fail, code: Some(code), detail, phase: Phase::Verify, ..passed };
        assert_eq!(
            finished(&failed, 80, PLAIN),
            [
                "A1: FAIL BAND_MISSING in verify RM520N-GL 490154203237518 1:03 (resumed simula~",
                "    A band that the profile requires is missing. (n77 is not in nr_sa_policy)",
                "    Do now: Put the module into the red bin; the lead checks the product's",
                "    variant.",
            ]
        );
    }

    #[test]
    fn plain_lines_say_what_changed_and_nothing_else() {
        let empty = [slot("A1")];
        let running = [SlotStatus { phase: Some(Phase::Backup), ..flashing() }];
        let flash = [SlotStatus { version: 8, ..flashing() }];
        let further = [SlotStatus { version: 9, bytes_done: 43_000_000, ..flashing() }];
        let lost = [SlotStatus {
            version: 10,
            state: SlotState::Interrupted,
            code: Some(FailureCode::Unplugged),
            ..flashing()
        }];
        assert_eq!(changes(&empty, &running), ["A1: run started RM520N-GL"]);
        // A module that is only looked at, because the batch has no place for it, has no run.
        let looked_at = [SlotStatus { run: None, phase: Some(Phase::Identify), ..flashing() }];
        assert!(changes(&empty, &looked_at).is_empty());
        assert_eq!(changes(&running, &flash), ["A1: flashing RM520N-GL"]);
        assert!(changes(&flash, &further).is_empty());
        assert_eq!(
            changes(&further, &lost),
            [format!("A1: interrupted in flash RM520N-GL UNPLUGGED: {}", FailureCode::Unplugged.advice())]
        );
        assert!(changes(&lost, &lost).is_empty());
    }
}
