//! The verification of a whole ledger, written apart from the writer so that the two cannot share a mistake.
//!
//! It takes the files as text, as `docs/ledger.md` describes them, and uses of the product only the facts' types.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::{ChipId, Fact, RunId, Sha256Digest, limits};
use crate::host::Disk;

use super::LedgerError;

/// Where the ledger is not what it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The file's name.
    pub segment: String,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong, as a clause.
    pub reason: String,
    /// Whether it is a last line that is cut off, at the very end of the ledger: a crash leaves it, and so does a writer
    /// at work. The next start of the controller repairs it; nothing durable is lost.
    pub is_torn_end: bool,
}

/// What a verification found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyReport {
    /// Files read.
    pub segments: u32,
    /// Entries that are as they must be; all of them where there is no difference.
    pub entries: u64,
    /// When the last of these was written, by the wall clock of then.
    pub last: Option<Timestamp>,
    /// The hash of the last of these, worth writing down elsewhere: it stands for everything before it.
    pub head: Option<Sha256Digest>,
    /// Runs that began.
    pub runs: u64,
    /// Runs that are finished.
    pub finished: u64,
    /// Runs with an intent and without an end.
    pub open: u64,
    /// The first difference.
    pub difference: Option<Difference>,
}

/// What was seen of one run.
#[derive(Default)]
struct Seen {
    claimed: Option<ChipId>,
    backups: Vec<(Sha256Digest, ChipId)>,
    valid_backup: Option<Sha256Digest>,
    finished: bool,
}

/// Reads all files and checks every line: its number, the hash of the line before, its own hash, its form, its fact,
/// and whether the fact may follow the others of its run.
///
/// # Errors
/// [`LedgerError::Disk`] when a file cannot be read. What is wrong with the content is part of the report.
pub fn verify(disk: &dyn Disk, directory: &Path) -> Result<VerifyReport, LedgerError> {
    let listed = disk.list(directory).map_err(|error| LedgerError::disk(directory, error))?;
    let mut names: Vec<&str> = listed.iter().map(|entry| entry.name.as_str()).collect();
    names.retain(|name| name.starts_with("ledger-") && name.ends_with(".jsonl"));
    let mut walk = Walk { report: VerifyReport::default(), before: "0".repeat(64), runs: BTreeMap::new() };
    for (index, name) in names.iter().enumerate() {
        let expected = format!("ledger-{:06}.jsonl", index + 1);
        if **name != expected {
            walk.report.difference = Some(Difference {
                segment: expected,
                line: 1,
                reason: format!("it is missing, {name} is there"),
                is_torn_end: false,
            });
            break;
        }
        let path = directory.join(name);
        let limit = limits::LEDGER_SEGMENT_BYTES_MAX;
        let bytes = disk.read(&path, limit).map_err(|error| LedgerError::disk(&path, error))?;
        walk.report.segments += 1;
        if let Err(difference) = walk.segment(name, &bytes, index + 1 == names.len()) {
            walk.report.difference = Some(difference);
            break;
        }
    }
    let unfinished = walk.runs.values().filter(|run| !run.finished);
    walk.report.open = unfinished.filter(|run| run.valid_backup.is_some()).count() as u64;
    Ok(walk.report)
}

struct Walk {
    report: VerifyReport,
    /// The hash of the line before, as text.
    before: String,
    runs: BTreeMap<RunId, Seen>,
}

impl Walk {
    fn segment(&mut self, name: &str, bytes: &[u8], is_last: bool) -> Result<(), Difference> {
        let differs = |line, reason, is_torn_end| Difference { segment: name.to_owned(), line, reason, is_torn_end };
        if bytes.is_empty() && !is_last {
            return Err(differs(1, "it is empty, and others follow it".to_owned(), false));
        }
        let mut rest = bytes;
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                // What a crash cuts off is never a whole line with something else in the place of its end.
                let is_changed = rest.split_last().is_some_and(|(_, line)| hashed(line).is_ok());
                let is_torn_end = is_last && !is_changed;
                let repair = if is_torn_end { " (the next start of the controller repairs it)" } else { "" };
                return Err(differs(number, format!("the line has no end{repair}"), is_torn_end));
            };
            self.line(&rest[..end]).map_err(|reason| differs(number, reason, false))?;
            rest = &rest[end + 1..];
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let (text, hash) = hashed(line)?;
        let value: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let keys: Vec<&String> = value.as_object().ok_or("it is no JSON object")?.keys().collect();
        if keys != ["seq", "prev", "wall", "fact", "hash"] {
            return Err("its keys are not seq, prev, wall, fact, hash".to_owned());
        }
        let expected = self.report.entries + 1;
        if value["seq"].as_u64() != Some(expected) {
            return Err(format!("it is entry {}, entry {expected} is expected here", value["seq"]));
        }
        if value["prev"].as_str() != Some(self.before.as_str()) {
            return Err(format!("the line before has the hash {}, it names {}", self.before, value["prev"]));
        }
        let wall = value["wall"].as_str().and_then(|wall| wall.parse::<Timestamp>().ok());
        let wall = wall.ok_or_else(|| format!("{} is no time", value["wall"]))?;
        let fact: Fact =
            serde_json::from_value(value["fact"].clone()).map_err(|error| format!("its fact is unknown: {error}"))?;
        self.fact(&fact)?;
        self.report.entries = expected;
        self.report.last = Some(wall);
        self.report.head = hash.parse().ok();
        self.before = hash;
        Ok(())
    }

    fn fact(&mut self, fact: &Fact) -> Result<(), String> {
        if let Fact::Qualified(found) = fact
            && let Some(run) = found.runs.iter().find(|run| !self.runs.get(run).is_some_and(|seen| seen.finished))
        {
            return Err(format!("a qualification rests on run {run}, which is not finished before it"));
        }
        let Some(run) = fact.run() else { return Ok(()) };
        let is_new = !self.runs.contains_key(&run);
        let seen = self.runs.entry(run).or_default();
        self.report.runs += u64::from(is_new);
        if seen.finished {
            return match fact {
                Fact::Quarantined { .. } => Ok(()),
                Fact::RunFinished(_) => Err(format!("run {run} is finished a second time")),
                _ => Err(format!("run {run} goes on after its end")),
            };
        }
        match fact {
            Fact::Claimed { chip, .. } => seen.claimed = Some(*chip),
            Fact::BackupStored { backup, .. } | Fact::BackupChosen { backup, .. } => {
                if seen.claimed != Some(backup.chip) {
                    return Err(format!("run {run} has a backup of a chip that it did not claim"));
                }
                seen.backups.push((backup.id, backup.chip));
            }
            Fact::BackupConfirmed { backup, .. } if !seen.backups.iter().any(|(stored, _)| stored == backup) => {
                return Err(format!("run {run} confirms a backup that it did not take"));
            }
            Fact::Intent { chip, backup, .. } => {
                if seen.claimed != Some(*chip) {
                    return Err(format!("run {run} intends to change a chip that it did not claim"));
                }
                if !seen.backups.contains(&(*backup, *chip)) {
                    return Err(format!("run {run} intends to change a chip without a backup of it"));
                }
                if *seen.valid_backup.get_or_insert(*backup) != *backup {
                    return Err(format!("run {run} replaced the backup of its first intent"));
                }
            }
            Fact::RestoreIntent { chip, backup, .. }
                if seen.claimed != Some(*chip)
                    || seen.valid_backup.is_none()
                    || !seen.backups.contains(&(*backup, *chip)) =>
            {
                return Err(format!("run {run} intends to restore what is not the backup of its own chip"));
            }
            Fact::RunFinished(_) => {
                seen.finished = true;
                self.report.finished += 1;
            }
            _ => {}
        }
        Ok(())
    }
}

/// A line as text with the hash of its content, which is the one at its end.
fn hashed(line: &[u8]) -> Result<(&str, String), String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let (body, tail) = text.rsplit_once(",\"hash\":\"").ok_or("it has no hash")?;
    let stated = tail.strip_suffix("\"}").ok_or("it does not end with its hash")?;
    let hash: String = Sha256::digest(body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    if stated != hash {
        return Err(format!("its hash is {stated}, of its content it is {hash}"));
    }
    Ok((text, hash))
}
