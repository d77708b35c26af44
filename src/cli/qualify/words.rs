//! A qualification for people, 80 columns wide, and as JSON.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::wrapped;
use crate::domain::limits::{QUALIFY_DEADLINE_MS_MIN, QUALIFY_MARGIN};
use crate::domain::{Qualification, Spread};

/// Everything that is known, for people.
pub(super) fn text(found: &Qualification, profile: &Path) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        let _infallible = writeln!(text, "{}", wrapped(&line, 2));
    };
    let hardware = if found.simulated { "simulated hardware" } else { "real hardware" };
    let verdict = if found.qualified { "QUALIFIED" } else { "NOT QUALIFIED" };
    say(format!("{verdict}: profile {} on {hardware}, batch {}", found.profile, found.batch));
    for finding in &found.findings {
        say(format!("  {finding}"));
    }
    say(String::new());
    say(format!("units       {} of {}, in {} slots", found.units, found.units_asked, found.slots));
    say(format!("profile     {}", found.profile_digest));
    say(format!("package     {}", found.package_digest));
    say(format!("read twice  {} of {}, equal", found.read_twice, found.units));
    let restored = match found.restored {
        Some(units) => format!("{units} of {}, equal", found.units),
        None => "not tried".to_owned(),
    };
    say(format!("restored    {restored}"));
    for part in &found.guarded {
        let pages = format!("pages {}-{}", part.range.start, part.range.end().saturating_sub(1));
        let (min, max) = (part.used_pages_min, part.used_pages_max);
        say(format!("{:<11} {pages}, {min} to {max} of them used", part.partition));
    }
    say(format!("\n{:<11} {:>10} {:>10}   seconds in each phase", "phase", "median", "p99"));
    for phase in &found.phases {
        say(row(phase.phase.as_str(), phase.milliseconds));
    }
    say(row("whole run", found.run_ms));
    let per_hour = 3_600_000_u64.checked_div(found.takt_ms).unwrap_or(0);
    say(format!("takt        {} s per unit, {per_hour} units per hour", seconds(found.takt_ms)));
    say(format!("\n{:<11} {:>10} {:>10} {:>10}   seconds, each unit's longest", "wait", "median", "p99", "profile"));
    for wait in &found.waits {
        say(format!("{} {:>10}", row(wait.wait.as_str(), wait.milliseconds), seconds(wait.limit_ms)));
    }
    text + &deadlines(found, profile)
}

/// The deadlines that follow, as a block for the profile.
fn deadlines(found: &Qualification, profile: &Path) -> String {
    if found.waits.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n# {QUALIFY_MARGIN} times the 99th percentile of {} units, {} s at least\ntimeouts:\n",
        found.units,
        QUALIFY_DEADLINE_MS_MIN / 1000
    );
    for wait in &found.waits {
        let _infallible = writeln!(text, "  {}_s: {}", wait.wait, wait.proposed_ms / 1000);
    }
    let note = format!(
        "These deadlines are a proposal. Written into {}, they make it another profile, which is to be qualified anew.",
        profile.display()
    );
    let _infallible = writeln!(text, "\n{}", wrapped(&note, 0));
    text
}

fn row(name: &str, spread: Spread) -> String {
    format!("{name:<11} {:>10} {:>10}", seconds(spread.median), seconds(spread.p99))
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

/// The fact as it is in the ledger, and the margin behind its deadlines.
pub(super) fn document(found: &Qualification) -> Value {
    json!({
        "qualification": found,
        "margin": QUALIFY_MARGIN,
        "deadline_ms_min": QUALIFY_DEADLINE_MS_MIN,
    })
}
