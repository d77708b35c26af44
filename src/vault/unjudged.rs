//! Backups of which nobody can say what they are worth: they exist, so their chip is not without one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::held::Verdict;
use super::{Vault, VaultError};
use crate::domain::{ChipId, Sha256Digest};

/// A backup that exists and cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unjudged {
    /// Which one.
    pub id: Sha256Digest,
    /// The file in the vault, or what keeps it from being opened.
    pub path: PathBuf,
    /// What is wrong with it, as a clause.
    pub reason: String,
}

impl Vault {
    /// Those of the `recorded` backups of a chip that are damaged or cannot be opened, in every place, and whose like is
    /// not there in a good file. Of one that says itself that its module was not well nobody wants to know. Blocks.
    ///
    /// # Errors
    /// Of the disk.
    pub fn unjudged(&self, chip: ChipId, recorded: &BTreeSet<Sha256Digest>) -> Result<Vec<Unjudged>, VaultError> {
        let (mut found, mut seen, mut sound) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for held in self.backups_of(chip)? {
            let id = held.entry.id;
            seen.insert(id);
            let is_suspect = held.about.is_ok_and(|about| about.label.is_some_and(|label| label.suspect.is_some()));
            if is_suspect || !recorded.contains(&id) {
                continue;
            }
            let (path, reason) = match self.judge(&held.entry) {
                Ok(Verdict::Good(_) | Verdict::Suspect(_)) => {
                    sound.insert(id);
                    continue;
                }
                Ok(Verdict::Damaged(faults)) => {
                    let others: String = faults.iter().skip(1).map(|fault| format!("; {fault}")).collect();
                    let first = faults.into_iter().next();
                    match first {
                        Some(fault) => (fault.path, fault.reason + &others),
                        None => (self.entry_path(&held.entry), "it cannot be read".to_owned()),
                    }
                }
                Err(VaultError::Key { path, reason }) => (path, format!("the key: {reason}")),
                Err(error) => return Err(error),
            };
            found.push(Unjudged { id, path, reason });
        }
        found.retain(|unjudged| !sound.contains(&unjudged.id));
        // What is not here may lie in a second place that cannot be looked into.
        if let Some(copy) = &self.copy
            && let Err(error) = super::entries(&*self.disk, copy)
        {
            let reason = format!("it is not in the vault, and the second place cannot be read: {error}");
            let missing = recorded.iter().filter(|id| !seen.contains(*id));
            found.extend(missing.map(|id| Unjudged { id: *id, path: copy.clone(), reason: reason.clone() }));
        }
        Ok(found)
    }
}
