//! The memory that the kernel lends to USB transfers: one limit for all programs of the host.
//!
//! `usbfs_memory_mb` is 16 unless somebody raised it, and counts every buffer in flight and every buffer that is mapped,
//! of all devices together. Beyond it transfers fail with `ENOMEM` at whichever slot comes next. So the station counts
//! for itself: a pipe gets its share before anything on its module is touched, or is refused with the remedy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sysfs::Sysfs;
use crate::hardware::HardwareError;

/// The kernel's parameter.
pub(super) const PARAMETER: &str = "/sys/module/usbcore/parameters/usbfs_memory_mb";
/// What the kernel has unless it was told otherwise, in MiB.
const DEFAULT_MB: u64 = 16;
const MIB: u64 = 1024 * 1024;
/// A page: what the kernel rounds up to.
const PAGE_BYTES: u64 = 4096;
/// What the kernel adds for each transfer and each mapping, rounded up generously.
const EXTRA_BYTES: u64 = 1024;
/// What a pipe is given when it is opened: four transfers of 16 KiB each way, twice.
pub(super) const SHARE_BYTES: u64 = 256 * 1024;

/// The station's part of that memory.
#[derive(Debug)]
pub(super) struct Budget {
    /// In bytes; `None`: no limit.
    limit: Option<u64>,
    used: AtomicU64,
}

impl Budget {
    /// Three quarters of what the kernel lends; the rest is left to other programs.
    pub(super) fn of_host(sysfs: &Sysfs) -> Arc<Self> {
        let megabytes = sysfs.module_parameter("usbcore", "usbfs_memory_mb").and_then(|text| text.parse().ok());
        Self::new(match megabytes.unwrap_or(DEFAULT_MB) {
            0 => None,
            megabytes => Some(megabytes.saturating_mul(MIB) / 4 * 3),
        })
    }

    pub(super) fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    fn take(&self, bytes: u64) -> Result<(), HardwareError> {
        let fits = |used: u64| {
            let after = used.saturating_add(bytes);
            self.limit.is_none_or(|limit| after <= limit).then_some(after)
        };
        match self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => Ok(()),
            Err(used) => Err(HardwareError::Failed(exhausted(used.saturating_add(bytes)))),
        }
    }

    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Bytes that are given out.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }
}

/// The sentence for a station whose transfers need `bytes` in all.
pub(super) fn exhausted(bytes: u64) -> String {
    let needed = (bytes / MIB + 1).saturating_mul(4).div_ceil(3).next_power_of_two();
    format!("the kernel lends too little memory to USB transfers: write {needed} or more to {PARAMETER} (0: no limit)")
}

/// What a buffer of that length costs, in bytes.
pub(super) fn cost(buffer_bytes: usize) -> u64 {
    (buffer_bytes as u64).next_multiple_of(PAGE_BYTES) + EXTRA_BYTES
}

/// One pipe's part of the budget. Given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    /// What was taken from the budget.
    reserved: u64,
    used: u64,
}

impl Share {
    /// Takes a pipe's first part.
    ///
    /// # Errors
    /// When nothing is left; the text says what to raise.
    pub(super) fn open(budget: &Arc<Budget>) -> Result<Self, HardwareError> {
        budget.take(SHARE_BYTES)?;
        Ok(Self { budget: Arc::clone(budget), reserved: SHARE_BYTES, used: 0 })
    }

    /// Takes what one more buffer costs.
    ///
    /// # Errors
    /// As [`Share::open`].
    pub(super) fn take(&mut self, buffer_bytes: usize) -> Result<(), HardwareError> {
        let used = self.used.saturating_add(cost(buffer_bytes));
        if used > self.reserved {
            self.budget.take(used - self.reserved)?;
            self.reserved = used;
        }
        self.used = used;
        Ok(())
    }

    /// Gives back what a buffer cost.
    pub(super) fn give(&mut self, buffer_bytes: usize) {
        self.used = self.used.saturating_sub(cost(buffer_bytes));
        let keep = self.used.max(SHARE_BYTES);
        if self.reserved > keep {
            self.budget.give(self.reserved - keep);
            self.reserved = keep;
        }
    }

    /// Leaves everything accounted for: the kernel has not given it back.
    pub(super) fn abandon(mut self) {
        self.reserved = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give(self.reserved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_refused_with_the_remedy_and_given_back() {
        let budget = Budget::new(Some(3 * SHARE_BYTES));
        let mut first = Share::open(&budget).expect("room");
        let second = Share::open(&budget).expect("room");
        first.take(300 * 1024).expect("more than its share, and there is room");
        let error = Share::open(&budget).expect_err("no room");
        assert!(error.to_string().contains(PARAMETER), "{error}");
        first.give(300 * 1024);
        let third = Share::open(&budget).expect("room again");
        assert!(first.take(300 * 1024).is_err());
        first.take(16 * 1024).expect("its own share is its own");
        drop((first, second, third));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn no_limit_is_no_limit() {
        let budget = Budget::new(None);
        let mut share = Share::open(&budget).expect("room");
        (0..100).for_each(|_| share.take(1 << 30).expect("room"));
    }

    #[test]
    fn the_remedy_names_a_number_that_suffices() {
        for megabytes in [1_u64, 11, 12, 13, 63, 1000] {
            let text = exhausted(megabytes * MIB);
            let number: u64 = text.split(' ').find_map(|word| word.parse().ok()).expect("a number");
            assert!(number * 3 / 4 >= megabytes, "{text}");
        }
    }
}
