//! The index: SQLite for questions, made from the entries and never the truth.
//!
//! It is written without a single fsync while the ledger is in use, and marked so: an index whose last user did not
//! close it is made anew, because a half-written one could hide a claim, and claims are decided from it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::{BackupRef, Fact, FailureCode, Identity, Outcome, RunId, RunRecord, Sha256Digest};
use crate::host::Disk;

use super::LedgerError;
use super::line::Entry;
use super::run::Body;
use super::segment::Head;
use super::store::Store;

/// The file's name in the state directory.
pub(super) const FILE: &str = "index.sqlite";
/// Changes with every change of the tables or of what is written into them.
const VERSION: i64 = 7;

const SCHEMA: &str = "
    CREATE TABLE state (one INTEGER PRIMARY KEY, version INTEGER NOT NULL, clean INTEGER NOT NULL,
        seq INTEGER NOT NULL, hash TEXT NOT NULL, simulated INTEGER);
    CREATE TABLE runs (run TEXT PRIMARY KEY, batch TEXT, chip TEXT, imei TEXT, intent INTEGER NOT NULL,
        cured INTEGER NOT NULL, interrupted INTEGER NOT NULL, touched INTEGER NOT NULL, finished INTEGER, outcome TEXT, unit TEXT,
        backup TEXT, body TEXT) WITHOUT ROWID;
    CREATE INDEX runs_chip ON runs (chip);
    CREATE INDEX runs_imei ON runs (imei);
    CREATE INDEX runs_batch ON runs (batch);
    CREATE INDEX runs_unit ON runs (unit);
    CREATE INDEX runs_open ON runs (run) WHERE finished IS NULL;
    CREATE TABLE claims (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, chip TEXT NOT NULL, imei TEXT NOT NULL,
        attempt INTEGER NOT NULL);
    CREATE INDEX claims_chip ON claims (chip);
    CREATE INDEX claims_imei ON claims (imei);
    CREATE TABLE contested (seq INTEGER PRIMARY KEY, holder TEXT NOT NULL, run TEXT NOT NULL);
    CREATE INDEX contested_holder ON contested (holder);
    CREATE TABLE set_aside (run TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE backups (backup TEXT PRIMARY KEY, chip TEXT NOT NULL, identity TEXT) WITHOUT ROWID;
    CREATE INDEX backups_chip ON backups (chip);
    CREATE TABLE repairs (run TEXT PRIMARY KEY, chip TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX repairs_chip ON repairs (chip);
    CREATE TABLE foreign_imeis (chip TEXT NOT NULL, imei TEXT NOT NULL, run TEXT NOT NULL, PRIMARY KEY (chip, imei))
        WITHOUT ROWID;
    CREATE TABLE cures (run TEXT PRIMARY KEY, chip TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX cures_chip ON cures (chip);
";

/// Where the index lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexPlace {
    /// In memory, made at every start.
    Memory,
    /// In `index.sqlite` beside the ledger, on the host's own file system.
    File,
}

/// The index, used by the writer alone.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) connection: Connection,
    place: IndexPlace,
    /// The ledger's last entry when this process opened it: runs last heard of before are not running.
    pub(super) opened_at: i64,
}

/// SQLite's integers are signed.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Index {
    /// Opens the index and brings it up to `head`; makes it anew where it cannot be believed.
    ///
    /// # Errors
    /// [`LedgerError::Shortened`] when it knows of entries that the ledger has lost; of SQLite and the ledger's files.
    pub(super) fn open(
        disk: &dyn Disk,
        directory: &Path,
        place: IndexPlace,
        store: &Store,
        head: Head,
    ) -> Result<Self, LedgerError> {
        let path = directory.join(FILE);
        if place == IndexPlace::File {
            match Self::reopen(&path, store, head) {
                Ok(Some(index)) => return Ok(index),
                Err(error @ LedgerError::Shortened { .. }) => return Err(error),
                Ok(None) | Err(_) => tracing::info!("the ledger's index is made anew"),
            }
            match disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(LedgerError::disk(&path, error));
                }
                _ => {}
            }
        }
        let connection = match place {
            IndexPlace::Memory => Connection::open_in_memory()?,
            IndexPlace::File => Connection::open(&path)?,
        };
        Self::made_anew(connection, place, store, head.seq, int(head.seq))
    }

    fn made_anew(
        connection: Connection,
        place: IndexPlace,
        store: &Store,
        head_seq: u64,
        opened_at: i64,
    ) -> Result<Self, LedgerError> {
        relax(&connection)?;
        connection.execute_batch(SCHEMA)?;
        connection.execute(
            "INSERT INTO state VALUES (1, ?1, 0, 0, ?2, NULL)",
            params![VERSION, Head::GENESIS.hash.to_string()],
        )?;
        let mut index = Self { connection, place, opened_at };
        index.catch_up(store, Head::GENESIS, head_seq)?;
        Ok(index)
    }

    /// The same index in memory, made from the entries up to `head_seq`, which are all that the files have; `None` when
    /// it is there already. The file stays marked as in use, so the next start makes it anew.
    ///
    /// # Errors
    /// Of SQLite and the ledger's files.
    pub(super) fn without_file(&self, store: &Store, head_seq: u64) -> Result<Option<Self>, LedgerError> {
        match self.place {
            IndexPlace::Memory => Ok(None),
            IndexPlace::File => {
                let connection = Connection::open_in_memory()?;
                Self::made_anew(connection, IndexPlace::Memory, store, head_seq, self.opened_at).map(Some)
            }
        }
    }

    /// The index of an orderly end; `None` when there is none that fits.
    fn reopen(path: &Path, store: &Store, head: Head) -> Result<Option<Self>, LedgerError> {
        use rusqlite::OpenFlags;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        let (version, clean, seq, hash): (i64, bool, i64, String) =
            connection.query_row("SELECT version, clean, seq, hash FROM state", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
        if check != "ok" || version != VERSION {
            return Ok(None);
        }
        let seq = u64::try_from(seq).unwrap_or_default();
        if seq > head.seq {
            return Err(LedgerError::Shortened { ledger: head.seq, index: seq });
        }
        let Ok(hash) = hash.parse::<Sha256Digest>() else { return Ok(None) };
        if !clean {
            return Ok(None);
        }
        connection.execute_batch("PRAGMA synchronous = FULL; UPDATE state SET clean = 0")?;
        relax(&connection)?;
        let mut index = Self { connection, place: IndexPlace::File, opened_at: int(head.seq) };
        Ok(index.catch_up(store, Head { seq, hash }, head.seq)?.then_some(index))
    }

    fn catch_up(&mut self, store: &Store, from: Head, head_seq: u64) -> Result<bool, LedgerError> {
        self.begin()?;
        let fits = store.replay(from, head_seq, |entry| self.apply(&entry))?;
        self.commit()?;
        Ok(fits)
    }

    pub(super) fn begin(&self) -> Result<(), LedgerError> {
        Ok(self.connection.execute_batch("BEGIN")?)
    }

    pub(super) fn commit(&self) -> Result<(), LedgerError> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    pub(super) fn roll_back(&self) {
        if let Err(error) = self.connection.execute_batch("ROLLBACK") {
            tracing::error!(%error, "the ledger's index could not be rolled back");
        }
    }

    /// Marks the index as complete. Everything in it is durable before the mark is.
    pub(super) fn close(self) -> Result<(), LedgerError> {
        if self.place == IndexPlace::File {
            self.connection.execute_batch("PRAGMA synchronous = FULL; UPDATE state SET version = version")?;
            self.connection.execute_batch("UPDATE state SET clean = 1")?;
        }
        Ok(())
    }

    /// What is known of an unfinished run; nothing of one never heard of.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] when it is finished.
    pub(super) fn body(&self, run: RunId) -> Result<Body, LedgerError> {
        let found = self
            .connection
            .query_row("SELECT finished, body FROM runs WHERE run = ?1", [run.to_string()], |row| {
                Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<String>>(1)?))
            })
            .optional()?;
        match found {
            None => Ok(Body::default()),
            Some((None, Some(body))) => Ok(serde_json::from_str(&body)?),
            Some(_) => Err(LedgerError::Refused { reason: format!("run {run} is finished") }),
        }
    }

    /// Whether a fact may follow what is recorded.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] with the rule that it breaks.
    pub(super) fn check(&self, fact: &Fact) -> Result<(), LedgerError> {
        let refused = |reason: &str| LedgerError::Refused { reason: reason.to_owned() };
        if let Fact::StationStarted { simulated, .. } = fact {
            return match self.simulated()? {
                Some(seen) if seen != *simulated => {
                    Err(refused("a ledger records simulated hardware or real hardware, never both"))
                }
                _ => Ok(()),
            };
        }
        match (fact, fact.run()) {
            (Fact::Claimed { .. } | Fact::ClaimRefused { .. }, _) => Err(refused("claims are decided by the ledger")),
            (Fact::Quarantined { .. }, _) | (_, None) => Ok(()),
            (_, Some(run)) => self.body(run)?.check(fact).map_err(refused),
        }
    }

    /// Takes an entry in, within the transaction that is open.
    pub(super) fn apply(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        let seq = int(entry.seq);
        match &entry.fact {
            Fact::StationStarted { simulated, .. } => {
                let first = "UPDATE state SET simulated = ?1 WHERE simulated IS NULL";
                self.connection.execute(first, [*simulated])?;
            }
            Fact::RunFinished(record) => self.finish(record, seq)?,
            Fact::ClaimRefused { run, holder, code: FailureCode::ImeiDuplicate, .. } => {
                let sql = "INSERT INTO contested VALUES (?1, ?2, ?3)";
                self.connection.execute(sql, params![seq, holder.to_string(), run.to_string()])?;
            }
            Fact::Quarantined { run, .. } => {
                self.set_aside(*run)?;
            }
            // What its module said of itself only the other station knows.
            Fact::BackupImported { backup, .. } => self.note_backup(backup, None)?,
            fact => {
                if let Some(run) = fact.run() {
                    self.touch(run, entry, seq)?;
                }
            }
        }
        let sql = "UPDATE state SET seq = ?1, hash = ?2";
        self.connection.execute(sql, params![seq, entry.hash.to_string()])?;
        Ok(())
    }

    fn touch(&self, run: RunId, entry: &Entry, seq: i64) -> Result<(), LedgerError> {
        let mut body = match self.body(run) {
            // Written by something else than this writer; `verify` names it.
            Err(LedgerError::Refused { .. }) => return Ok(()),
            other => other?,
        };
        body.apply(entry);
        if let Fact::BackupStored { backup, .. } = &entry.fact {
            self.note_backup(backup, body.identity.as_ref())?;
        }
        if let Some(chip) = body.repaired_chip(&entry.fact) {
            let sql = "INSERT OR IGNORE INTO repairs VALUES (?1, ?2)";
            self.connection.execute(sql, params![run.to_string(), chip.to_string()])?;
        }
        if let (Fact::Cure { .. }, Some(claim)) = (&entry.fact, &body.claim) {
            let sql = "INSERT OR IGNORE INTO cures VALUES (?1, ?2)";
            self.connection.execute(sql, params![run.to_string(), claim.chip.to_string()])?;
        }
        let text = serde_json::to_string(&body)?;
        let (chip, imei) = body.claim.as_ref().map(|claim| (claim.chip.to_string(), claim.imei.to_string())).unzip();
        self.connection.execute(
            "INSERT OR REPLACE INTO runs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, NULL, NULL, NULL, ?9)",
            params![
                run.to_string(),
                body.batch.as_ref().map(ToString::to_string),
                chip,
                imei,
                body.has_intent(),
                body.is_cured(),
                body.is_interrupted,
                seq,
                text
            ],
        )?;
        if let Fact::Claimed { chip, imei, attempt, .. } = &entry.fact {
            self.connection.execute(
                "INSERT INTO claims VALUES (?1, ?2, ?3, ?4, ?5)",
                params![seq, run.to_string(), chip.to_string(), imei.to_string(), attempt],
            )?;
        }
        Ok(())
    }

    fn note_backup(&self, backup: &BackupRef, identity: Option<&Identity>) -> Result<(), LedgerError> {
        let identity = identity.map(serde_json::to_string).transpose()?;
        let sql = "INSERT OR IGNORE INTO backups VALUES (?1, ?2, ?3)";
        self.connection.execute(sql, params![backup.id.to_string(), backup.chip.to_string(), identity])?;
        Ok(())
    }

    fn finish(&self, record: &RunRecord, seq: i64) -> Result<(), LedgerError> {
        if record.flags.quarantined {
            self.set_aside(record.run)?;
        }
        // What was given up, or went wrong at the station, was no attempt at the unit, unless the unit was told something.
        if matches!(record.outcome, Outcome::Aborted | Outcome::Error) {
            let sql = "DELETE FROM repairs WHERE run = ?1 AND run NOT IN (SELECT run FROM cures)";
            self.connection.execute(sql, [record.run.to_string()])?;
        }
        if let (Outcome::Pass, Some(chip)) = (record.outcome, record.chip) {
            self.connection.execute("DELETE FROM cures WHERE chip = ?1", [chip.to_string()])?;
        }
        let imei = record.before.as_ref().and_then(|identity| identity.imei).map(|imei| imei.to_string());
        let chip = record.chip.map(|chip| chip.to_string());
        if record.code == Some(FailureCode::ForeignImei) {
            let sql = "INSERT OR IGNORE INTO foreign_imeis SELECT ?1, ?2, ?3 WHERE ?1 NOT NULL AND ?2 NOT NULL";
            self.connection.execute(sql, params![chip, imei, record.run.to_string()])?;
        }
        let unit = match (&chip, &imei) {
            _ if !counts(record) => None,
            (Some(chip), Some(imei)) => {
                // Runs that ended before the chip was read were of this unit.
                self.connection.execute("UPDATE runs SET unit = ?1 WHERE unit = ?2", params![chip, imei])?;
                Some(chip.clone())
            }
            (Some(chip), None) => Some(chip.clone()),
            (None, Some(imei)) => {
                let sql = "SELECT chip FROM claims WHERE imei = ?1 ORDER BY seq DESC LIMIT 1";
                let bound: Option<String> = self.connection.query_row(sql, [imei], |row| row.get(0)).optional()?;
                Some(bound.unwrap_or_else(|| imei.clone()))
            }
            (None, None) => Some(record.run.to_string()),
        };
        self.connection.execute(
            "INSERT OR REPLACE INTO runs VALUES (?1, ?2, ?3, ?4, 0, 0, 0, ?5, ?5, ?6, ?7, ?8, NULL)",
            params![
                record.run.to_string(),
                record.batch.as_str(),
                chip,
                imei,
                seq,
                record.outcome.as_str(),
                unit,
                record.backup.map(|backup| backup.to_string())
            ],
        )?;
        Ok(())
    }

    fn set_aside(&self, run: RunId) -> Result<(), LedgerError> {
        self.connection.execute("INSERT OR IGNORE INTO set_aside VALUES (?1)", [run.to_string()])?;
        Ok(())
    }

    /// What kind of hardware was recorded first.
    pub(super) fn simulated(&self) -> Result<Option<bool>, LedgerError> {
        Ok(self.connection.query_row("SELECT simulated FROM state", [], |row| row.get(0))?)
    }
}

/// Whether a run says something of a unit of its batch: an aborted one does not, its unit comes again, nor does that of
/// a guest that stood where another unit belongs.
fn counts(record: &RunRecord) -> bool {
    let is_guest = match record.code {
        Some(FailureCode::UnitSwapped) => true,
        Some(FailureCode::ForeignImei) => record.outcome == Outcome::Fail,
        _ => false,
    };
    record.outcome != Outcome::Aborted && !is_guest
}

fn relax(connection: &Connection) -> Result<(), LedgerError> {
    // Changing the journal's mode answers with a row, which `execute_batch` takes. Without spilling, the commit alone
    // finds out that there is no room.
    Ok(connection.execute_batch(
        "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_spill = OFF",
    )?)
}

/// A column that holds an id as text.
pub(super) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}
