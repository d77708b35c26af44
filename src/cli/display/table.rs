//! The table at the end: what the batch came to, and what a person does now.

use crate::domain::{FailureCode, Outcome};
use crate::report::{RunLine, Summary};

use super::style::{Colour, Style, wrap};

/// Narrower than this the table is not made; it is wrapped by the terminal then.
const COLUMNS_MIN: usize = 40;
/// Wider lines are hard to read.
const COLUMNS_MAX: usize = 100;

/// The table for a terminal, or a pipe, of `columns`.
pub(super) fn table(summary: &Summary, columns: usize, style: Style) -> String {
    let columns = columns.clamp(COLUMNS_MIN, COLUMNS_MAX);
    let mut lines = vec![heading(summary)];
    lines.extend(wrap(&counts(summary), columns - 2).into_iter().map(|line| format!("  {line}")));
    lines.push(format!(
        "  yield {}, first pass {}, of {} judged",
        percent(summary.pass_yield()),
        percent(summary.first_pass_yield()),
        summary.count(Outcome::Pass) + summary.count(Outcome::Fail),
    ));
    for line in summary.not_passed() {
        lines.push(String::new());
        lines.extend(not_passed(summary, line, columns, style));
    }
    for unit in summary.interrupted() {
        lines.push(String::new());
        let slot = unit.slot.map(|slot| slot.to_string()).unwrap_or_default();
        let imei = unit.imei.map(|imei| imei.to_string()).unwrap_or_default();
        let head = format!("{slot}  NOT FINISHED {} in {}  {imei}", unit.code, unit.phase);
        lines.push(style.paint(&style.cut(&head, columns), Some(Colour::Yellow)));
        lines.extend(advice(unit.code, &unit.detail, columns));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn heading(summary: &Summary) -> String {
    let simulated = if summary.is_simulated() {
        format!(" (simulated, {} times real speed)", summary.time_scale())
    } else {
        String::new()
    };
    let total = summary.total();
    format!("Batch {}{simulated}: {total} {} finished", summary.batch(), if total == 1 { "run" } else { "runs" })
}

fn counts(summary: &Summary) -> String {
    let mut words: Vec<String> =
        Outcome::ALL.iter().map(|outcome| format!("{outcome} {}", summary.count(*outcome))).collect();
    words.push(format!("not finished {}", summary.interrupted().len()));
    words.join(", ")
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn not_passed(summary: &Summary, line: &RunLine, columns: usize, style: Style) -> Vec<String> {
    let (sign, colour) = style.outcome(line.outcome);
    let code = line.code.or(line.amended);
    let words = [
        Some(format!("{}  {sign} {}", line.slot, line.outcome)),
        code.map(|code| format!("{code} in {}", line.phase)),
        Some(line.model.clone()),
        Some(line.imei.clone()),
        line.flags.quarantined.then(|| "QUARANTINE".to_owned()),
        summary.passed_later(line).then(|| "passed later".to_owned()),
        (line.batch != *summary.batch()).then(|| format!("of batch {}", line.batch)),
    ];
    let head: Vec<String> = words.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    let colour = if line.flags.quarantined { Some(Colour::Red) } else { colour };
    let mut lines = vec![style.paint(&style.cut(&head.join("  "), columns), colour)];
    if let Some(code) = code.filter(|_| !summary.passed_later(line)) {
        lines.extend(advice(code, &line.detail, columns));
    }
    lines
}

/// What happened and what to do now, indented, in lines of at most `columns` cells.
pub(super) fn advice(code: FailureCode, detail: &str, columns: usize) -> Vec<String> {
    let what = if detail.is_empty() { code.sentence().to_owned() } else { format!("{} ({detail})", code.sentence()) };
    let texts = [what, format!("Do now: {}", code.advice())];
    texts.iter().flat_map(|text| wrap(text, columns.saturating_sub(4))).map(|line| format!("    {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::style::width;
    use super::*;
    use crate::domain::{Fact, Flags, Phase, RunRecord, Sha256Digest};
    use crate::report::Recorded;

    const PLAIN: Style = Style { is_unicode: false, is_coloured: false };

    fn summary(facts: &[Fact]) -> Summary {
        let mut summary = Summary::new("DEMO-1".parse().expect("a batch name"));
        for (fact, seq) in facts.iter().zip(1..) {
            summary.follow(&Recorded { seq, hash: Sha256Digest::of(b""), fact });
        }
        summary
    }

    fn failed() -> RunRecord {
        RunRecord {
            outcome: Outcome::Fail,
            code: Some(FailureCode::CfunFtm),
            phase: Phase::Verify,
            detail: "+CFUN: 5 after the first boot".to_owned(),
            flags: Flags { quarantined: true, simulated: true, ..Flags::default() },
            ..crate::report::samples::record(2)
        }
    }

    #[test]
    fn the_table_names_what_did_not_pass_and_what_to_do() {
        let passed = Fact::RunFinished(Box::new(crate::report::samples::record(1)));
        let failed = Fact::RunFinished(Box::new(failed()));
        let interrupted = Fact::RunInterrupted {
            run: crate::report::samples::run_id(9),
            phase: Phase::Flash,
            code: FailureCode::Unplugged,
            detail: String::new(),
        };
        let started = Fact::RunStarted {
            run: crate::report::samples::run_id(9),
            batch: "DEMO-1".parse().expect("a batch name"),
            slot: "B2".parse().expect("a slot name"),
            chain: "pci-0000:00:14.0/usb2/1.4".parse().expect("a chain"),
            identity: Some(crate::report::samples::identity()),
        };
        let scale = Fact::StationStarted {
            station: "demo".parse().expect("a station name"),
            version: String::new(),
            simulated: true,
            time_scale: 20,
            config: Sha256Digest::of(b""),
        };
        let text = table(&summary(&[scale, passed, failed, started, interrupted]), 80, PLAIN);
        let expected = "\
Batch DEMO-1 (simulated, 20 times real speed): 2 runs finished
  PASS 1, FAIL 1, ERROR 0, HELD 0, ABORTED 0, not finished 1
  yield 50.0 %, first pass 50.0 %, of 2 judged

A1  x FAIL  CFUN_FTM in verify  RM520N-GL  490154203237518  QUARANTINE
    After the flash the module is in factory test mode. (+CFUN: 5 after the
    first boot)
    Do now: Put the module into quarantine; do not flash it again. Call the
    lead.

B2  NOT FINISHED UNPLUGGED in flash  490154203237518
    The module was unplugged.
    Do now: Put it back into any slot; the run goes on or starts again. If
    nothing is seen of it there either, put it into the red bin.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_batch_where_all_passed_is_three_lines() {
        let text = table(&summary(&[Fact::RunFinished(Box::new(crate::report::samples::record(1)))]), 80, PLAIN);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("yield 100.0 %, first pass 100.0 %, of 1 judged"), "{text}");
        assert!(table(&summary(&[]), 80, PLAIN).contains("yield -, first pass -, of 0 judged"));
    }

    #[test]
    fn hostile_details_stay_within_the_width() {
        let detail = "模".repeat(200);
        let text = table(&summary(&[Fact::RunFinished(Box::new(RunRecord { detail, ..failed() }))]), 80, PLAIN);
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
    }
}
