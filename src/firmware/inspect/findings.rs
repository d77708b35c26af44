//! What follows from an inspection: a stable word and a sentence each, the weightiest first.

use serde::Serialize;

use super::{GuardedRole, Inspection};

/// Most names in one sentence.
const NAMES_MAX: usize = 6;

/// One thing that a person who releases a package should know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The stable word.
    pub finding: &'static str,
    /// The sentence, without a period.
    pub text: String,
}

pub(super) fn findings(inspection: &Inspection) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut say = |finding: &'static str, text: String| all.push(Finding { finding, text });
    usability(inspection, &mut say);
    calibration(inspection, &mut say);
    order(inspection, &mut say);
    match inspection.partitions.iter().find(|partition| partition.range.start == 0) {
        _ if !inspection.writes_boot_loader => {
            say("no-boot-loader", "it writes no boot loader, so no flash with it can be made safe".to_owned());
        }
        Some(partition) if !partition.name.is_empty() => {
            say("boot-loader-written", format!("it writes the boot loader ({})", partition.name));
        }
        _ => say("boot-loader-written", "it writes the boot loader".to_owned()),
    }
    if inspection.writes_table {
        say("table-written", "it writes the partition table".to_owned());
    }
    for duplicate in &inspection.duplicate {
        let names = names(&duplicate.names);
        match duplicate.what {
            "content" => say("duplicate-content", format!("files with equal content: {names}")),
            what => say("duplicate", format!("more than one {what}: {names}")),
        }
    }
    if !inspection.unreferenced.is_empty() {
        say("unreferenced", format!("listed, and not used by the document: {}", names(&inspection.unreferenced)));
    }
    // Of a package that can be used a warning says it already.
    if !inspection.unlisted.is_empty() && !inspection.usable {
        say("unlisted", format!("not in the check list, and not used: {}", names(&inspection.unlisted)));
    }
    all
}

fn usability(inspection: &Inspection, say: &mut impl FnMut(&'static str, String)) {
    if !inspection.missing.is_empty() {
        say("missing", format!("not there: {}", names(&inspection.missing)));
    }
    for what in &inspection.damaged {
        say("damaged", what.clone());
    }
    for why in &inspection.refused {
        say("refused", why.clone());
    }
}

fn calibration(inspection: &Inspection, say: &mut impl FnMut(&'static str, String)) {
    let of = |touched: bool, role: Option<GuardedRole>| -> Vec<String> {
        let guarded = inspection.guarded.iter();
        let meant = guarded.filter(|p| p.touched == touched && role.is_none_or(|role| p.role == role));
        meant.map(|partition| partition.name.clone()).collect()
    };
    if inspection.rewrites_efs {
        let efs = of(true, Some(GuardedRole::Efs));
        let efs = if efs.is_empty() { "EFS".to_owned() } else { names(&efs) };
        say(
            "efs-rewritten",
            format!("it would rewrite the EFS ({efs}): the unit's calibration and IMEI would be lost"),
        );
    }
    let copies = of(true, Some(GuardedRole::Copy));
    if !copies.is_empty() {
        say("copies-rewritten", format!("it would rewrite the module's own copies of the EFS: {}", names(&copies)));
    }
    if inspection.names_from.is_none() {
        let text = "it has no partition table: what belongs to the unit shows on the module only";
        say("no-table", text.to_owned());
    } else if inspection.guarded.is_empty() {
        say("no-guarded", "its partition table has no partition that belongs to the unit".to_owned());
    } else if !inspection.touches_guarded && !inspection.rewrites_efs {
        let untouched = of(false, None);
        say("guarded-untouched", format!("what belongs to the unit is untouched: {}", names(&untouched)));
    }
}

fn order(inspection: &Inspection, say: &mut impl FnMut(&'static str, String)) {
    let order = &inspection.order;
    let lost: Vec<String> = order
        .lost
        .iter()
        .filter(|lost| lost.boot_chain)
        .map(|lost| format!("{} (line {}, erased in {})", lost.what, lost.line, lost.erased_in_line))
        .collect();
    if order.fatal {
        say("order-fatal", format!("its document's order is fatal: written first and erased later: {}", names(&lost)));
    } else if let Some(line) = order.unsafe_from_line {
        let text = format!("its document's order is unsafe: cut off from line {line} on, it would start half written");
        say("order-unsafe", text);
    } else {
        say("order-safe", "its document's order is safe".to_owned());
    }
}

fn names(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let shown: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
