//! How many units the batch still takes, and when it is complete.
//!
//! A slot reserves a place before it starts a run, so that sixteen slots do not start sixteen runs when one unit is
//! missing. An interrupted run keeps its place: its unit comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::domain::RunId;

/// How a batch stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchCount {
    /// Units of this batch that are finished, as the ledger counts them: each once, however often it was run.
    pub finished: u32,
    /// Runs under way that hold a place.
    pub running: u32,
    /// Interrupted runs of this batch.
    pub interrupted: BTreeSet<RunId>,
    /// Interrupted runs, of whatever batch, that are being finished right now.
    pub resuming: u32,
    /// Grows whenever a run is finished or interrupted.
    pub ends: u64,
}

impl BatchCount {
    fn taken(&self) -> u32 {
        let interrupted = u32::try_from(self.interrupted.len()).unwrap_or(u32::MAX);
        self.finished.saturating_add(self.running).saturating_add(interrupted)
    }
}

/// The places of a batch. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    limit: Option<u32>,
    count: Arc<watch::Sender<BatchCount>>,
}

/// A reserved place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    quota: Quota,
}

impl Quota {
    pub(crate) fn new(limit: Option<u32>, finished: u32, interrupted: BTreeSet<RunId>) -> Self {
        let count = BatchCount { finished, interrupted, ..BatchCount::default() };
        Self { limit, count: Arc::new(watch::Sender::new(count)) }
    }

    /// A place for a new run, if there is one.
    pub(crate) fn reserve(&self) -> Option<Place> {
        let free = |count: &BatchCount| self.limit.is_none_or(|limit| count.taken() < limit);
        self.count
            .send_if_modified(|count| {
                let free = free(count);
                if free {
                    count.running += 1;
                }
                free
            })
            .then(|| Place { quota: self.clone() })
    }

    /// Waits until the count differs from what it was when this was called.
    pub(crate) fn watch(&self) -> watch::Receiver<BatchCount> {
        self.count.subscribe()
    }

    /// Whether as many units are finished as were asked for.
    pub(crate) fn is_complete(&self) -> bool {
        self.limit.is_some_and(|limit| self.count.borrow().finished >= limit)
    }

    /// Whether every place is used by a run that is finished, under way or interrupted.
    pub(crate) fn is_taken(&self) -> bool {
        self.limit.is_some_and(|limit| self.count.borrow().taken() >= limit)
    }

    /// An interrupted run is being finished, until the guard is dropped.
    pub(crate) fn resuming(&self) -> Resuming {
        self.count.send_modify(|count| count.resuming += 1);
        Resuming { quota: self.clone() }
    }

    /// A run of this batch is finished; the batch has `units` finished units with it, says the ledger.
    pub(crate) fn finished(&self, run: RunId, units: u32) {
        self.count.send_modify(|count| {
            count.interrupted.remove(&run);
            count.ends += 1;
            // Slots may ask the ledger in one order and tell in another.
            count.finished = count.finished.max(units);
        });
    }

    /// A run of this batch is interrupted and keeps a place of its own.
    pub(crate) fn interrupted(&self, run: RunId) {
        self.count.send_modify(|count| {
            count.interrupted.insert(run);
            count.ends += 1;
        });
    }

    /// A run of another batch is finished, or interrupted again.
    pub(crate) fn ended_elsewhere(&self) {
        self.count.send_modify(|count| count.ends += 1);
    }

    /// Waits until a module that was left alone is worth another look: a run ended since the count of `ends` was
    /// taken, or, for one that had no place, there is one. Both are asked of the count as it is, not of its changes:
    /// a place that became free a moment ago would be missed.
    pub(crate) async fn worth_a_look(&self, ends: u64, had_place: bool) {
        let mut count = self.watch();
        let limit = self.limit;
        let is_worth =
            |count: &BatchCount| count.ends != ends || (!had_place && limit.is_none_or(|limit| count.taken() < limit));
        // The sender lives as long as this quota does.
        let _closed = count.wait_for(is_worth).await;
    }

    /// How many runs have ended so far.
    pub(crate) fn ends(&self) -> u64 {
        self.count.borrow().ends
    }
}

/// An interrupted run that is being finished.
#[derive(Debug)]
pub(crate) struct Resuming {
    quota: Quota,
}

impl Drop for Resuming {
    fn drop(&mut self) {
        self.quota.count.send_modify(|count| count.resuming -= 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.quota.count.send_modify(|count| count.running -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_out_once_and_come_back() {
        let run = RunId::new(1, &[0; 10]);
        let quota = Quota::new(Some(2), 0, BTreeSet::new());
        let first = quota.reserve().expect("two places");
        let second = quota.reserve().expect("one place");
        assert!(quota.reserve().is_none());
        quota.interrupted(run);
        drop(first);
        assert!(quota.reserve().is_none(), "the interrupted run keeps its place");
        quota.finished(run, 1);
        drop(second);
        assert!(quota.reserve().is_some());
        assert!(!quota.is_complete());
        quota.finished(RunId::new(2, &[0; 10]), 2);
        assert!(quota.is_complete());
        quota.finished(RunId::new(3, &[0; 10]), 1);
        assert_eq!(quota.watch().borrow().finished, 2);
    }

    #[tokio::test]
    async fn a_place_that_became_free_before_anybody_waited_is_seen() {
        let quota = Quota::new(Some(1), 0, BTreeSet::new());
        let ends = quota.ends();
        let other = quota.reserve().expect("one place");
        assert!(quota.reserve().is_none());
        let waits = |had_place| is_ready(quota.worth_a_look(ends, had_place));
        assert!(!waits(false), "no place, nothing ended");
        drop(other);
        assert!(waits(false), "a place is free");
        assert!(!waits(true), "who had a place waits for another run's end");
        quota.finished(RunId::new(1, &[0; 10]), 1);
        assert!(waits(true), "a run has ended");
    }

    /// Whether a future is ready at its first poll.
    fn is_ready(future: impl Future<Output = ()>) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context).is_ready()
    }
}
