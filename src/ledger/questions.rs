//! The questions that the index answers, and the decision of claims.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, ToSql, params};

use crate::domain::{
    BatchId, ChipId, Fact, FailureCode, Identity, Imei, KeyHash, Outcome, RunId, RunRecord, RunState, Sha256Digest,
};

use super::LedgerError;
use super::index::{Index, parsed};
use super::run::{Body, OpenRun, UnfinishedRun};

/// A run asks for a unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimRequest {
    /// The run.
    pub run: RunId,
    /// The chip that was read.
    pub chip: ChipId,
    /// The IMEI that the module reported before.
    pub imei: Imei,
    /// The digest of the key that the chip trusts.
    pub key_hash: KeyHash,
}

/// What became of a claim. The fact that says so is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimAnswer {
    /// The unit is this run's.
    Granted {
        /// Which attempt at the unit it is, from 1.
        attempt: u32,
    },
    /// Another run has it.
    Refused {
        /// That run.
        holder: RunId,
        /// `ImeiDuplicate`: the IMEI belongs to another chip. `UnitSwapped`: the chip came with another IMEI before,
        /// or an open run has it.
        code: FailureCode,
    },
}

/// What the finished runs of a batch are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BatchCounts {
    /// Finished runs by outcome; outcomes that did not occur are missing.
    pub runs: BTreeMap<Outcome, u32>,
    /// Units with a finished run that was neither aborted nor that of a guest in another unit's place.
    pub units: u32,
}

/// A claim, decided.
pub(super) struct Decision {
    pub(super) answer: ClaimAnswer,
    /// What must be durable before the answer is given; nothing when the run has the unit already.
    pub(super) facts: Vec<Fact>,
}

impl Index {
    /// Decides a claim from everything that was written, and what is about to be.
    pub(super) fn decide(&self, request: &ClaimRequest) -> Result<Decision, LedgerError> {
        let body = self.body(request.run)?;
        if body.batch.is_none() {
            return Err(LedgerError::Refused { reason: format!("run {} was not started", request.run) });
        }
        let refused = |holder, code| {
            let ClaimRequest { run, chip, imei, .. } = *request;
            let mut facts = vec![Fact::ClaimRefused { run, chip, imei, holder, code }];
            if code == FailureCode::ImeiDuplicate {
                let still = self.may_still_be_shipped(holder, imei)?;
                facts.extend(still.into_iter().map(|held| Fact::Quarantined { run: held, code, other: Some(run) }));
            }
            Ok(Decision { answer: ClaimAnswer::Refused { holder, code }, facts })
        };
        if let Some(claim) = &body.claim {
            if claim.chip == request.chip && claim.imei == request.imei {
                return Ok(Decision { answer: ClaimAnswer::Granted { attempt: claim.attempt }, facts: Vec::new() });
            }
            // The same IMEI on another chip is no guest but a clone.
            let is_clone = claim.imei == request.imei;
            let code = if is_clone { FailureCode::ImeiDuplicate } else { FailureCode::UnitSwapped };
            return refused(request.run, code);
        }
        let (chip, imei) = (request.chip.to_string(), request.imei.to_string());
        // Its own clone by our own hand: nobody else is doubted for it.
        let foreign = "SELECT run FROM foreign_imeis WHERE chip = ?1 AND imei = ?2";
        if let Some(holder) = self.run_of(foreign, params![chip, imei])? {
            return refused(holder, FailureCode::ForeignImei);
        }
        let other_chip = "SELECT run FROM claims WHERE imei = ?1 AND chip <> ?2 ORDER BY seq DESC LIMIT 1";
        if let Some(holder) = self.run_of(other_chip, params![imei, chip])? {
            return refused(holder, FailureCode::ImeiDuplicate);
        }
        // Neither of two units with one IMEI may be shipped: the one that was first must not pass later either.
        let contested = "SELECT contested.run FROM contested JOIN claims ON claims.run = contested.holder
            WHERE claims.imei = ?1 ORDER BY contested.seq DESC LIMIT 1";
        if let Some(other) = self.run_of(contested, params![imei])? {
            return refused(other, FailureCode::ImeiDuplicate);
        }
        let other_imei = "SELECT run FROM claims WHERE chip = ?1 AND imei <> ?2 ORDER BY seq DESC LIMIT 1";
        if let Some(holder) = self.run_of(other_imei, params![chip, imei])? {
            return refused(holder, FailureCode::UnitSwapped);
        }
        // A run that changed nothing and whose process died does not keep its unit from being run again.
        let open = "SELECT run FROM runs WHERE chip = ?1 AND finished IS NULL AND (intent OR cured OR touched > ?2)
            LIMIT 1";
        if let Some(holder) = self.run_of(open, params![chip, self.opened_at])? {
            return refused(holder, FailureCode::UnitSwapped);
        }
        let earlier: u32 =
            self.connection.query_row("SELECT count(*) FROM claims WHERE chip = ?1", [chip], |row| row.get(0))?;
        let attempt = earlier.saturating_add(1);
        let ClaimRequest { run, chip, imei, key_hash } = request.clone();
        let facts = vec![Fact::Claimed { run, chip, key_hash, imei, attempt }];
        Ok(Decision { answer: ClaimAnswer::Granted { attempt }, facts })
    }

    /// The amendment that is due with the end of a run: its IMEI was found on another chip, and its record does not say
    /// so because it had been judged before.
    pub(super) fn amendment(&self, record: &RunRecord) -> Result<Option<Fact>, LedgerError> {
        let code = FailureCode::ImeiDuplicate;
        if record.code == Some(code) {
            return Ok(None);
        }
        let contested = self.contested(record.run)?;
        Ok(contested.map(|other| Fact::Quarantined { run: record.run, code, other: Some(other) }))
    }

    /// The finished runs that a second chip with their IMEI throws doubt on: the one that holds the claim, and every one
    /// that passed; not those whose record or an amendment sets the unit aside already.
    fn may_still_be_shipped(&self, holder: RunId, imei: Imei) -> Result<Vec<RunId>, LedgerError> {
        let sql = "SELECT run FROM runs WHERE finished NOT NULL AND (run = ?1 OR (imei = ?2 AND outcome = ?3))
            AND run NOT IN (SELECT run FROM set_aside) ORDER BY run";
        let mut statement = self.connection.prepare(sql)?;
        let values = params![holder.to_string(), imei.to_string(), Outcome::Pass.as_str()];
        let rows = statement.query_map(values, |row| parsed(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The last finished run of a chip that took a backup, with that; the last one where none did.
    pub(super) fn last_run_of(&self, chip: ChipId) -> Result<Option<(RunId, Option<Sha256Digest>)>, LedgerError> {
        let sql =
            "SELECT run, backup FROM runs WHERE chip = ?1 AND finished NOT NULL ORDER BY backup IS NULL, finished DESC
            LIMIT 1";
        let found = self.connection.query_row(sql, [chip.to_string()], |row| {
            let backup = row.get::<_, Option<String>>(1)?.map(|_| parsed(row, 1)).transpose()?;
            Ok((parsed(row, 0)?, backup))
        });
        Ok(found.optional()?)
    }

    fn run_of(&self, sql: &str, values: &[&dyn ToSql]) -> Result<Option<RunId>, LedgerError> {
        Ok(self.connection.query_row(sql, values, |row| parsed(row, 0)).optional()?)
    }

    /// Unfinished runs for which a condition holds, by the order in which they began.
    fn bodies(&self, condition: &str, values: &[&dyn ToSql]) -> Result<Vec<(RunId, RunState, Body)>, LedgerError> {
        let sql = format!(
            "SELECT run, touched > {} AND NOT interrupted, body FROM runs
             WHERE finished IS NULL AND {condition} ORDER BY run",
            self.opened_at
        );
        let mut statement = self.connection.prepare(&sql)?;
        let rows = statement.query_map(values, |row| {
            let state = if row.get(1)? { RunState::Running } else { RunState::Interrupted };
            Ok((parsed::<RunId>(row, 0)?, state, row.get::<_, String>(2)?))
        })?;
        rows.map(|row| {
            let (run, state, body) = row?;
            Ok((run, state, serde_json::from_str(&body)?))
        })
        .collect()
    }

    pub(super) fn open_runs(&self, condition: &str, values: &[&dyn ToSql]) -> Result<Vec<OpenRun>, LedgerError> {
        let condition = format!("intent AND {condition}");
        let runs = self.bodies(&condition, values)?;
        runs.into_iter()
            .map(|(run, state, body)| {
                let incomplete = || LedgerError::Index { reason: format!("run {run} has an intent and is incomplete") };
                body.open(run, state).ok_or_else(incomplete)
            })
            .collect()
    }

    pub(super) fn unfinished_runs(&self) -> Result<Vec<UnfinishedRun>, LedgerError> {
        let runs = self.bodies("NOT intent", &[])?;
        Ok(runs.into_iter().filter_map(|(run, state, body)| body.unfinished(run, state)).collect())
    }

    pub(super) fn contested(&self, run: RunId) -> Result<Option<RunId>, LedgerError> {
        self.run_of("SELECT run FROM contested WHERE holder = ?1 ORDER BY seq LIMIT 1", params![run.to_string()])
    }

    pub(super) fn imei_holder(&self, imei: Imei) -> Result<Option<(ChipId, RunId)>, LedgerError> {
        let sql = "SELECT chip, run FROM claims WHERE imei = ?1 ORDER BY seq DESC LIMIT 1";
        let found = self.connection.query_row(sql, [imei.to_string()], |row| Ok((parsed(row, 0)?, parsed(row, 1)?)));
        Ok(found.optional()?)
    }

    /// The IMEI with which a chip was claimed last.
    pub(super) fn imei_of(&self, chip: ChipId) -> Result<Option<Imei>, LedgerError> {
        let sql = "SELECT imei FROM claims WHERE chip = ?1 ORDER BY seq DESC LIMIT 1";
        Ok(self.connection.query_row(sql, [chip.to_string()], |row| parsed(row, 0)).optional()?)
    }

    /// What the module of a backup said of itself before the backup was taken.
    pub(super) fn origin_of(&self, backup: Sha256Digest) -> Result<Option<Identity>, LedgerError> {
        let sql = "SELECT identity FROM backups WHERE backup = ?1 AND identity NOT NULL";
        let found: Option<String> =
            self.connection.query_row(sql, [backup.to_string()], |row| row.get(0)).optional()?;
        Ok(found.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// The backups of a chip.
    pub(super) fn backups_of(&self, chip: ChipId) -> Result<BTreeSet<Sha256Digest>, LedgerError> {
        let mut statement = self.connection.prepare("SELECT backup FROM backups WHERE chip = ?1")?;
        let rows = statement.query_map([chip.to_string()], |row| parsed(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many runs but `run` repaired a chip that was not well on arrival, or began to; but those by hand, and those
    /// that were aborted or met a fault of the station.
    pub(super) fn repairs(&self, chip: ChipId, run: RunId) -> Result<u32, LedgerError> {
        let sql = "SELECT count(*) FROM repairs WHERE chip = ?1 AND run <> ?2";
        Ok(self.connection.query_row(sql, [chip.to_string(), run.to_string()], |row| row.get(0))?)
    }

    /// Whether a chip was told something because it was not well, and has not passed since.
    pub(super) fn was_cured(&self, chip: ChipId) -> Result<bool, LedgerError> {
        let sql = "SELECT count(*) FROM cures WHERE chip = ?1";
        let count: u32 = self.connection.query_row(sql, [chip.to_string()], |row| row.get(0))?;
        Ok(count > 0)
    }

    pub(super) fn batch_counts(&self, batch: &BatchId) -> Result<BatchCounts, LedgerError> {
        let mut counts = BatchCounts::default();
        let sql = "SELECT outcome, count(*) FROM runs WHERE batch = ?1 AND finished NOT NULL GROUP BY outcome";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([batch.as_str()], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        for row in rows {
            let (word, count): (String, u32) = row?;
            if let Some(outcome) = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word) {
                counts.runs.insert(outcome, count);
            }
        }
        counts.units = self.connection.query_row(
            "SELECT count(DISTINCT unit) FROM runs WHERE batch = ?1 AND finished NOT NULL",
            [batch.as_str()],
            |row| row.get(0),
        )?;
        Ok(counts)
    }

    pub(super) fn attempts(&self, chip: ChipId) -> Result<u32, LedgerError> {
        let sql = "SELECT count(*) FROM claims WHERE chip = ?1";
        Ok(self.connection.query_row(sql, [chip.to_string()], |row| row.get(0))?)
    }

    /// When a run finished: the number of its entry.
    pub(super) fn finished_at(&self, run: RunId) -> Result<Option<u64>, LedgerError> {
        let sql = "SELECT finished FROM runs WHERE run = ?1 AND finished NOT NULL";
        let seq: Option<i64> = self.connection.query_row(sql, [run.to_string()], |row| row.get(0)).optional()?;
        Ok(seq.and_then(|seq| u64::try_from(seq).ok()))
    }
}
