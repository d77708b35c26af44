//! `backups list`, `show` and `verify`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Opened, Place, Selection, open_filled, stuck};
use crate::cli::{Status, counted, folded, print, print_json, wrapped};
use crate::domain::{BackupKind, BackupRef};
use crate::vault::{CopyState, Damage, Fault, Held, Verdict};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ListArguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    selection: Selection,
    /// Read each to its end, and say what it is worth
    #[arg(long)]
    verify: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShowArguments {
    #[command(flatten)]
    place: Place,
    /// The backup: the first digits of its id
    #[arg(value_name = "ID")]
    backup: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct VerifyArguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    selection: Selection,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A backup as it is shown.
struct Row {
    held: Held,
    verdict: Option<Verdict>,
    copy: Option<CopyState>,
    /// Its file in every place, where something is wrong with any of them.
    places: Vec<(PathBuf, Option<Fault>)>,
    /// Whether it is the one that a repair of its chip would use.
    is_best: bool,
}

impl Row {
    /// A word, and the reason where there is one.
    fn worth(&self) -> (&'static str, Option<&str>) {
        match (&self.held.about, &self.verdict) {
            (_, Some(Verdict::Good(_))) => ("good", None),
            (_, Some(Verdict::Suspect(backup))) => ("suspect", backup.suspect.as_deref()),
            (_, Some(Verdict::Damaged(faults))) | (Err(faults), None) => {
                ("damaged", faults.first().map(|fault| fault.reason.as_str()))
            }
            (Ok(about), None) => match about.label.as_ref().and_then(|label| label.suspect.as_deref()) {
                Some(reason) => ("suspect", Some(reason)),
                None => ("not verified", None),
            },
        }
    }

    fn is_damaged(&self) -> bool {
        self.worth().0 == "damaged" || self.copy.is_some_and(|copy| copy != CopyState::Equal)
    }
}

fn rows(opened: &Opened, selection: &Selection, verify: bool) -> Result<Vec<Row>, Status> {
    let mut rows = Vec::new();
    let mut cured = BTreeSet::new();
    let chips: BTreeSet<_> = opened.entries(selection)?.iter().map(|entry| entry.chip).collect();
    for chip in chips {
        for held in opened.vault.backups_of(chip).map_err(stuck)? {
            let verdict = verify.then(|| opened.vault.judge(&held.entry)).transpose().map_err(stuck)?;
            let copy = if verify { opened.vault.copy_state(&held.entry).map_err(stuck)? } else { None };
            let is_whole =
                !matches!(verdict, Some(Verdict::Damaged(_))) && copy.is_none_or(|copy| copy == CopyState::Equal);
            let places = match &held.about {
                _ if verify && !is_whole => opened.vault.every_place(&held.entry).map_err(stuck)?,
                Err(faults) if !verify => {
                    faults.iter().map(|fault| (fault.path.clone(), Some(fault.clone()))).collect()
                }
                _ => Vec::new(),
            };
            let is_best = match &verdict {
                Some(Verdict::Good(backup)) => {
                    opened.recorded.contains_key(&backup.id) && cured.insert((chip, backup.kind))
                }
                _ => false,
            };
            rows.push(Row { held, verdict, copy, places, is_best });
        }
    }
    Ok(rows)
}

fn kind(row: &Row) -> Option<BackupKind> {
    row.held.about.as_ref().ok().map(|about| about.kind)
}

/// When it was taken, as far as anybody knows.
fn taken(opened: &Opened, row: &Row) -> Option<jiff::Timestamp> {
    let label = row.held.about.as_ref().ok().and_then(|about| about.label.as_ref());
    label.map(|label| label.taken).or_else(|| opened.recorded.get(&row.held.entry.id).map(|recorded| recorded.time))
}

fn document(opened: &Opened, row: &Row) -> Value {
    let entry = &row.held.entry;
    let about = row.held.about.as_ref().ok();
    let (worth, reason) = row.worth();
    let recorded = opened.recorded.get(&entry.id);
    json!({
        "chip": entry.chip,
        "imei": about.map(|about| about.imei),
        "number": entry.number,
        "id": entry.id,
        "kind": kind(row),
        "taken": taken(opened, row).map(|taken| taken.to_string()),
        "run": recorded.and_then(|recorded| recorded.run),
        "given_by": recorded.and_then(|recorded| recorded.given_by.as_deref()),
        "recorded": recorded.is_some(),
        "sealed": entry.is_sealed(),
        "file_bytes": entry.bytes,
        "verdict": worth,
        "reason": reason,
        "faults": row.places.iter().filter_map(|(path, fault)| {
            fault.as_ref().map(|fault| json!({ "file": path.display().to_string(), "reason": fault.reason }))
        }).collect::<Vec<_>>(),
        "copy": row.copy.map(copy_word),
        "for_repair": row.is_best,
    })
}

const fn copy_word(copy: CopyState) -> &'static str {
    match copy {
        CopyState::Equal => "equal",
        CopyState::Missing => "missing",
        CopyState::Differs => "differs",
    }
}

/// The rows, by chip.
fn words(opened: &Opened, rows: &[Row]) -> String {
    let mut text = String::new();
    let mut last = None;
    for row in rows {
        let entry = &row.held.entry;
        if last != Some(entry.chip) {
            let imei = row.held.about.as_ref().map_or_else(|_| "unknown".to_owned(), |about| about.imei.to_string());
            let _infallible = writeln!(text, "chip {}  IMEI {imei}", entry.chip);
            last = Some(entry.chip);
        }
        let time = taken(opened, row).map_or_else(String::new, |taken| taken.strftime("%F %H:%M:%S").to_string());
        let kind = kind(row).map_or_else(|| "?".to_owned(), |kind| kind.to_string());
        let (worth, reason) = row.worth();
        let mut notes = vec![worth.to_owned()];
        if row.is_best {
            notes.push("a repair uses it".to_owned());
        }
        if !opened.recorded.contains_key(&entry.id) {
            notes.push("not in the ledger".to_owned());
        }
        if !entry.is_sealed() {
            notes.push("not sealed".to_owned());
        }
        if let Some(copy) = row.copy.filter(|copy| *copy != CopyState::Equal) {
            notes.push(format!("its copy {}", if copy == CopyState::Missing { "is missing" } else { "differs" }));
        }
        let line = format!(
            "  {:>3} {} {time:<19} {kind:<4} {:>6} KiB  {}",
            entry.number,
            entry.id.short(),
            entry.bytes.div_ceil(1024),
            notes.join(", ")
        );
        text += &wrapped(&line, 6);
        text.push('\n');
        if let Some(reason) = reason.filter(|_| worth == "suspect") {
            text += &wrapped(&format!("      {reason}"), 6);
            text.push('\n');
        }
        text += &place_words(&row.places);
    }
    text
}

fn place_words(places: &[(PathBuf, Option<Fault>)]) -> String {
    let line = |(path, fault): &(PathBuf, Option<Fault>)| match fault {
        Some(fault) => wrapped(&format!("      {fault}"), 8) + "\n",
        None => wrapped(&format!("      {}: good", path.display()), 8) + "\n",
    };
    places.iter().map(line).collect()
}

/// What helps against what is wrong, once for each kind of fault.
fn helps(opened: &Opened, rows: &[Row], mut helps: BTreeSet<Help>) -> String {
    for row in rows.iter().filter(|row| !row.places.is_empty()) {
        let faults: Vec<&Fault> = row.places.iter().filter_map(|(_, fault)| fault.as_ref()).collect();
        if faults.is_empty() {
            helps.insert(Help::TwoSeals);
        } else if faults.len() < row.places.len() {
            helps.insert(Help::FromOtherPlace);
        } else {
            let other_key = faults.iter().any(|fault| fault.damage == Damage::OtherKey);
            let other = faults.iter().any(|fault| fault.damage != Damage::OtherKey);
            helps.extend(other_key.then_some(Help::Key).into_iter().chain(other.then_some(Help::FromOutside)));
        }
    }
    let told = |help: &Help| match help {
        Help::FromOtherPlace => {
            "help: where one place has the file good and the other has not, copy the good one over\n".to_owned()
        }
        Help::TwoSeals => {
            "help: two files that are good and not equal are two seals of one backup: put the vault's file \
                           into the second place\n"
                .to_owned()
        }
        Help::FromOutside => format!(
            "help: what is good in no place: put the file back from a copy of the state directory, or take the backup in \
             from an export:\n    stationmaster backups import {} FILE --from WHO\n",
            opened.named
        ),
        Help::Key => format!(
            "help: give the key to which the file is sealed, with --identity FILE; where {} is not the key of this \
             vault, put the right one back. If that does not help, its head was altered: put the file back from a copy\n",
            opened.state.join("vault.key").display()
        ),
    };
    let text: String = helps.iter().map(told).collect();
    text.lines().map(|line| folded(line) + "\n").collect()
}

/// Something that helps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Help {
    FromOtherPlace,
    TwoSeals,
    FromOutside,
    Key,
}

pub(super) fn list(arguments: &ListArguments) -> Result<Status, Status> {
    let opened = open_filled(&arguments.place)?;
    let rows = rows(&opened, &arguments.selection, arguments.verify)?;
    if arguments.json {
        let all: Vec<Value> = rows.iter().map(|row| document(&opened, row)).collect();
        print_json(&json!({ "backups": all }));
    } else if rows.is_empty() {
        print("no backups\n");
    } else {
        print(&(words(&opened, &rows) + &helps(&opened, &rows, BTreeSet::new())));
    }
    Ok(if rows.iter().any(Row::is_damaged) { Status::NotAllGood } else { Status::Good })
}

pub(super) fn show(arguments: &ShowArguments) -> Result<Status, Status> {
    let opened = open_filled(&arguments.place)?;
    let entry = opened.by_id(&arguments.backup)?;
    let selection = Selection { chip: Some(entry.chip), imei: None };
    let mut rows = rows(&opened, &selection, true)?;
    rows.retain(|row| row.held.entry == entry);
    let Some(row) = rows.first() else { return Err(super::refused("its file was taken away meanwhile")) };
    let content = match &row.verdict {
        Some(Verdict::Good(backup) | Verdict::Suspect(backup)) => Some(backup),
        _ => None,
    };
    if arguments.json {
        let mut value = document(&opened, row);
        value["content"] = json!(content);
        print_json(&value);
    } else {
        print(&words(&opened, &rows));
        print(&format!("  id {}\n", entry.id));
        if let Some(recorded) = opened.recorded.get(&entry.id) {
            let how = match (&recorded.run, &recorded.given_by) {
                (Some(run), _) => format!("taken by run {run}"),
                (None, by) => format!("given by {}", by.as_deref().unwrap_or("nobody knows whom")),
            };
            print(&format!("  {how}, recorded {}\n", recorded.time));
        }
        if let Some(content) = content {
            print(&about_content(content));
        }
        print(&helps(&opened, &rows, BTreeSet::new()));
    }
    Ok(if row.is_damaged() { Status::NotAllGood } else { Status::Good })
}

fn about_content(backup: &BackupRef) -> String {
    let mut text = String::new();
    if let Some(geometry) = backup.geometry {
        let _infallible = writeln!(text, "  storage: {geometry}");
    }
    for part in &backup.parts {
        let _infallible = writeln!(
            text,
            "  {:<12} pages {} + {}, {} used",
            part.partition, part.range.start, part.range.pages, part.used_pages
        );
    }
    if let Some(counts) = backup.xqcn {
        let nv_items = counted(counts.nv_items, "NV item", "NV items");
        let files = counted(counts.files, "file", "files");
        let directories = counted(counts.directories, "directory", "directories");
        let _infallible = writeln!(text, "  {nv_items}, {files}, {directories}");
    }
    if let Some(bad) = &backup.bad_blocks {
        let named: Vec<String> = bad.named.iter().map(ToString::to_string).collect();
        let named = if named.is_empty() { "none".to_owned() } else { named.join(", ") };
        let line = format!("  bad blocks under it: {named}");
        let _infallible = writeln!(text, "{}", wrapped(&line, 4));
        if let Some(counted) = bad.counted {
            let _infallible = writeln!(text, "  bad blocks of the whole storage: {counted}");
        }
    }
    text
}

pub(super) fn verify(arguments: &VerifyArguments) -> Result<Status, Status> {
    let opened = open_filled(&arguments.place)?;
    let rows = rows(&opened, &arguments.selection, true)?;
    // What the ledger knows and the vault has not, or not any more as it was.
    let mut good: BTreeMap<_, bool> = BTreeMap::new();
    for row in &rows {
        *good.entry(row.held.entry.id).or_default() |= row.worth().0 != "damaged";
    }
    let is_meant = |backup: &&BackupRef| {
        arguments.selection.chip.is_none_or(|chip| chip == backup.chip)
            && arguments.selection.imei.is_none_or(|imei| imei == backup.imei)
    };
    let recorded = opened.recorded.values().map(|recorded| &recorded.backup).filter(is_meant);
    let missing: Vec<&BackupRef> = recorded.filter(|backup| !good.contains_key(&backup.id)).collect();
    let is_well = missing.is_empty() && !rows.iter().any(Row::is_damaged);
    if arguments.json {
        let all: Vec<Value> = rows.iter().map(|row| document(&opened, row)).collect();
        let missing: Vec<Value> =
            missing.iter().map(|backup| json!({ "chip": backup.chip, "id": backup.id })).collect();
        print_json(&json!({ "good": is_well, "backups": all, "missing": missing }));
    } else {
        print(&words(&opened, &rows));
        let mut remedies = BTreeSet::new();
        for backup in &missing {
            let line = format!(
                "MISSING: backup {} of chip {} is in the ledger, and has no file in {}",
                backup.id.short(),
                backup.chip,
                opened.vault.directory_of(backup.chip).display()
            );
            print(&format!("{}\n", wrapped(&line, 2)));
            let copies = opened.vault.any_place(backup.chip, backup.id).map_err(stuck)?;
            print(&place_words(&copies));
            let is_elsewhere = copies.iter().any(|(_, fault)| fault.is_none());
            remedies.insert(if is_elsewhere { Help::FromOtherPlace } else { Help::FromOutside });
        }
        let number = counted(rows.len() as u64, "backup", "backups");
        let damaged = rows.iter().filter(|row| row.is_damaged()).count();
        print(&format!("{number}, {damaged} damaged, {} missing\n", missing.len()));
        print(&helps(&opened, &rows, remedies));
    }
    Ok(if is_well { Status::Good } else { Status::NotAllGood })
}
