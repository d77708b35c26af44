//! What DIAG writes, and when it reaches the flash.
//!
//! A write goes into the journal and is seen by the running modem at once. It is in the flash only when the journal was
//! written down: because somebody asked for it and it took its time, or because nothing was written for a while. A
//! restart or a pulled plug before that loses it. NV items fill the journal, and a journal that is filled takes no
//! changes of files.

use std::time::Duration;

use super::{Body, BusAction};
use crate::sim::at_commands::Memory;
use crate::sim::diag::{RadioMode, Store, SyncState};
use crate::sim::efs::{self, Change, EfsState, Items};
use crate::sim::models::Model;
use crate::sim::spec::Pacing;

/// Without a request the journal is written down so long after the last change.
const IDLE_TIME: Duration = Duration::from_secs(37);
/// How long it takes to write it down, beside the changes.
const SYNC_TIME: Duration = Duration::from_millis(800);
/// How long each change takes.
const CHANGE_TIME: Duration = Duration::from_millis(4);
/// With so many NV items in the journal no file can be changed.
const NV_CHANGES_MAX: usize = 24;
/// Most changes of files in the journal.
const CHANGES_MAX: usize = 192;
/// Most changes in the journal.
const TOTAL_CHANGES_MAX: usize = 512;
/// Functionality level of a modem in factory test mode.
const CFUN_FTM: u8 = 5;
/// Functionality level of a modem that was taken offline.
const CFUN_OFFLINE: u8 = 7;

/// Changes that are not in the flash yet.
#[derive(Debug, Default)]
pub(super) struct Journal {
    changes: Vec<Change>,
    /// How many of them are NV items.
    nv_changes: usize,
    last_change: Option<Duration>,
    sync: Option<Sync>,
    syncs: u32,
    has_failed: bool,
}

#[derive(Debug)]
struct Sync {
    token: u32,
    done_at: Duration,
}

impl Body {
    /// When the journal is to be looked at again.
    pub(in crate::sim) fn journal_due(&self) -> Option<Duration> {
        let idle = self.journal.last_change.map(|at| at + IDLE_TIME);
        let sync = self.journal.sync.as_ref().map(|sync| sync.done_at);
        idle.into_iter().chain(sync).min()
    }

    /// Writes the journal down if its time has come.
    pub(in crate::sim) fn settle_journal(&mut self, now: Duration) {
        if self.journal_due().is_some_and(|due| due <= now) {
            self.write_journal();
        }
    }

    /// Writes the journal down.
    pub(super) fn write_journal(&mut self) {
        let changes = std::mem::take(&mut self.journal.changes);
        self.journal.nv_changes = 0;
        self.journal.last_change = None;
        self.journal.sync = None;
        if changes.is_empty() {
            return;
        }
        let map = self.flash_map();
        if let Err(error) = efs::apply(&mut self.nand, &map, &changes) {
            tracing::warn!(%error, unit = self.identity.number, "a journal could not be written down");
            self.journal.has_failed = true;
        }
    }

    fn add_change(&mut self, now: Duration, change: Change) {
        if self.events.last().is_none_or(|event| event.action != BusAction::Store) {
            self.note(now, BusAction::Store);
        }
        if let Some(system) = &mut self.running {
            system.items.change(&change);
        }
        match self.journal.changes.last_mut() {
            // A file that is written piece by piece.
            Some(last) if last.path == change.path => *last = change,
            _ => self.journal.changes.push(change),
        }
        self.journal.last_change = Some(now);
    }
}

impl Store for Body {
    fn model(&self) -> &'static Model {
        Memory::model(self)
    }

    fn revision(&self) -> String {
        Memory::revision(self)
    }

    fn items(&self) -> &Items {
        static NOTHING: std::sync::LazyLock<Items> = std::sync::LazyLock::new(Items::default);
        self.running.as_ref().map_or(&NOTHING, |system| &system.items)
    }

    fn is_offline(&self) -> bool {
        self.cfun == CFUN_OFFLINE
    }

    fn set_mode(&mut self, mode: RadioMode) -> bool {
        let is_whole = self.running.as_ref().is_some_and(|system| system.efs == EfsState::Present);
        self.cfun = match mode {
            RadioMode::Offline => CFUN_OFFLINE,
            // Only a restart leads out of it.
            _ if self.cfun == CFUN_OFFLINE => return false,
            RadioMode::FactoryTest => CFUN_FTM,
            // Without calibration the modem stays where it is.
            RadioMode::Online | RadioMode::LowPower if !is_whole => return false,
            RadioMode::Online => 1,
            RadioMode::LowPower => 4,
        };
        true
    }

    fn write_nv(&mut self, now: Duration, change: Change) -> bool {
        let has_room = self.journal.changes.len() < TOTAL_CHANGES_MAX;
        if has_room {
            self.add_change(now, change);
            self.journal.nv_changes += 1;
        }
        has_room
    }

    fn write_file(&mut self, now: Duration, change: Change) -> bool {
        let has_room = self.journal.nv_changes < NV_CHANGES_MAX && self.journal.changes.len() < CHANGES_MAX;
        if has_room {
            self.add_change(now, change);
        }
        has_room
    }

    fn sync(&mut self, now: Duration, pacing: Pacing) -> u32 {
        let changes = u32::try_from(self.journal.changes.len()).unwrap_or(u32::MAX);
        self.journal.syncs += 1;
        let token = self.journal.syncs;
        self.journal.sync = Some(Sync { token, done_at: now + pacing.of(SYNC_TIME + CHANGE_TIME * changes) });
        token
    }

    fn sync_state(&mut self, now: Duration, token: u32) -> SyncState {
        self.settle_journal(now);
        match &self.journal.sync {
            _ if token == 0 || token > self.journal.syncs => SyncState::Failed,
            Some(sync) if token <= sync.token => SyncState::Running,
            _ if self.journal.has_failed => SyncState::Failed,
            _ => SyncState::Done,
        }
    }
}
