//! How long a run waited, by kind of wait. Only waits that were not in vain count: what a deadline ended says nothing
//! about how long the answer would have taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::{Wait, WaitTime};
use crate::host::Clock;

/// The longest waits of one run. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waits {
    /// In the order of [`Wait::ALL`], in microseconds and never 0; 0 where there was none.
    longest: Arc<[AtomicU64; Wait::ALL.len()]>,
}

impl Waits {
    /// A wait begins. It counts once it is [over](Waiting::over).
    pub(crate) fn begin(&self, wait: Wait, clock: &Clock) -> Waiting {
        Waiting { waits: self.clone(), wait, clock: clock.clone(), since: clock.now() }
    }

    fn note(&self, wait: Wait, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.longest[wait as usize].fetch_max(micros, Ordering::Relaxed);
    }

    /// The longest wait of that kind so far; 0 where there was none.
    pub(crate) fn longest(&self, wait: Wait) -> Duration {
        Duration::from_micros(self.longest[wait as usize].load(Ordering::Relaxed))
    }

    /// The longest wait of each kind that occurred.
    pub(crate) fn times(&self) -> Vec<WaitTime> {
        let all = Wait::ALL.into_iter().zip(self.longest.iter());
        all.map(|(wait, micros)| WaitTime { wait, milliseconds: micros.load(Ordering::Relaxed).div_ceil(1000) })
            .filter(|time| time.milliseconds > 0)
            .collect()
    }
}

/// A wait under way.
#[derive(Debug)]
pub(crate) struct Waiting {
    waits: Waits,
    wait: Wait,
    clock: Clock,
    since: Duration,
}

impl Waiting {
    /// What was waited for has come.
    pub(crate) fn over(self) {
        self.waits.note(self.wait, self.clock.now().saturating_sub(self.since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_wait_that_was_not_in_vain_counts() {
        let (waits, clock) = (Waits::default(), Clock::real());
        for (millis, in_vain) in [(20, false), (70, false), (500, true), (30, false)] {
            let waiting = waits.clone().begin(Wait::Erase, &clock);
            clock.sleep(Duration::from_millis(millis)).await;
            if !in_vain {
                waiting.over();
            }
        }
        waits.begin(Wait::At, &clock).over();
        let times = [(Wait::At, 1), (Wait::Erase, 70)].map(|(wait, milliseconds)| WaitTime { wait, milliseconds });
        assert_eq!(waits.times(), times);
    }

    #[test]
    fn the_list_is_in_the_order_of_the_kinds() {
        assert!(Wait::ALL.iter().enumerate().all(|(index, wait)| *wait as usize == index));
    }
}
