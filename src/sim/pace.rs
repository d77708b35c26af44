//! How fast a module is, in station time.
//!
//! Storage and cable take their time per chunk, but a timer per 8 KiB would cost more than the work itself when
//! station time is scaled. So the time at which the module will be done is kept as a number, and the module really
//! waits only when that lies ahead of the clock by more than a timer's resolution. The sum is exact; under virtual
//! time every wait is too.

use std::time::Duration;

use super::spec::Pacing;
use crate::host::Clock;

/// Shorter waits than this, in real time, are carried over to the next one.
const SLACK_REAL: Duration = Duration::from_millis(2);
/// Work that comes no later than this after the last was done, in real time, counts as without a pause: timers fire
/// up to two milliseconds late, and what they lose at each wait would make a scaled module slower than a real one.
const LATENESS_REAL: Duration = Duration::from_millis(5);

/// The module's own time.
#[derive(Debug)]
pub(super) struct Pace {
    clock: Clock,
    pacing: Pacing,
    busy_until: Duration,
}

impl Pace {
    pub(super) fn new(clock: Clock, pacing: Pacing) -> Self {
        let busy_until = clock.now();
        Self { clock, pacing, busy_until }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Gives the module work.
    pub(super) fn charge(&mut self, work: Duration) {
        let now = self.clock.now();
        if now > self.busy_until + LATENESS_REAL.saturating_mul(self.clock.scale()) {
            self.busy_until = now;
        }
        self.busy_until += self.pacing.of(work);
    }

    /// The module cannot be done before `at` (a shared cable was busy until then).
    pub(super) fn not_before(&mut self, at: Duration) {
        if self.pacing == Pacing::Real {
            self.busy_until = self.busy_until.max(at);
        }
    }

    /// Waits until the module is done, or nearly so.
    pub(super) async fn settle(&self) {
        let ahead = self.busy_until.saturating_sub(self.clock.now());
        if self.clock.real_duration(ahead) > SLACK_REAL {
            self.clock.sleep_until(self.busy_until).await;
        }
    }

    /// Does work that others wait for: an erase, a reset.
    pub(super) async fn work(&mut self, work: Duration) {
        self.charge(work);
        self.settle().await;
    }
}

/// How long `bytes` take at `bytes_per_second`.
pub(super) fn transfer_time(bytes: u64, bytes_per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_small_pieces_take_as_long_as_one_large_one() {
        for scale in [1, 20] {
            let clock = Clock::scaled(scale);
            let mut pace = Pace::new(clock.clone(), Pacing::Real);
            for _ in 0..1000 {
                pace.charge(transfer_time(8192, 3_800_000));
                pace.settle().await;
            }
            let taken = clock.now();
            let expected = transfer_time(8_192_000, 3_800_000);
            assert!(taken + Duration::from_millis(2 * u64::from(scale)) >= expected, "{taken:?}");
            assert!(taken <= expected + Duration::from_millis(4 * u64::from(scale)), "{taken:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_instant_module_takes_no_time_for_anything() {
        let clock = Clock::scaled(1);
        let mut pace = Pace::new(clock.clone(), Pacing::Instant);
        pace.work(Duration::from_secs(20)).await;
        pace.not_before(Duration::from_secs(30));
        pace.settle().await;
        assert_eq!(clock.now(), Duration::ZERO);
    }
}
