//! Time: a monotonic *station time* for every deadline and duration, and the wall clock for stamps.
//!
//! Station time may run faster than real time. The simulator and the controller's deadlines read the same clock, so
//! that a scaled run keeps all proportions: a module that boots in 25 s still boots within a 60 s deadline. The wall
//! clock is never scaled: a stamp says when something was written down.
//!
//! Everything sits on tokio's timer. Under a paused runtime time jumps from one timer to the next, and a whole shift
//! takes as long as its computations.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The shortest real time after which a scaled clock lets a deadline pass. Only the modules are sped up: the host that
/// serves them is as late as ever, and a scheduling delay must not look like a silent module.
const PATIENCE: Duration = Duration::from_secs(2);

/// A deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

/// The clock of a station. Clones share one origin.
#[derive(Debug, Clone)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    origin: Instant,
    wall_origin: Wall,
    scale: u32,
}

#[derive(Debug)]
enum Wall {
    System,
    From(Timestamp),
}

#[expect(clippy::disallowed_methods, reason = "this is the place through which time enters")]
impl Clock {
    /// The host's clock: station time runs as real time does.
    #[must_use]
    pub fn real() -> Self {
        Self::scaled(1)
    }

    /// A clock whose station time runs `scale` times as fast as real time; 0 counts as 1.
    #[must_use]
    pub fn scaled(scale: u32) -> Self {
        Self::with(scale, Wall::System)
    }

    /// A clock for virtual time: its wall clock starts at `wall` and follows tokio's (paused) timer.
    #[must_use]
    pub fn simulated(wall: Timestamp) -> Self {
        Self::with(1, Wall::From(wall))
    }

    fn with(scale: u32, wall_origin: Wall) -> Self {
        Self { inner: Arc::new(Inner { origin: Instant::now(), wall_origin, scale: scale.max(1) }) }
    }

    /// How much faster than real time station time runs.
    #[must_use]
    pub fn scale(&self) -> u32 {
        self.inner.scale
    }

    /// Station time since the clock was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.inner.origin.elapsed().saturating_mul(self.inner.scale)
    }

    /// The wall clock, in UTC.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        match self.inner.wall_origin {
            Wall::System => Timestamp::now(),
            Wall::From(start) => start
                .checked_add(jiff::SignedDuration::try_from(self.inner.origin.elapsed()).unwrap_or_default())
                .unwrap_or(start),
        }
    }

    /// Waits for `duration` of station time.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(self.real_duration(duration)).await;
    }

    /// Waits until station time is `deadline`.
    pub async fn sleep_until(&self, deadline: Duration) {
        tokio::time::sleep_until(self.inner.origin + self.real_duration(deadline)).await;
    }

    /// The station time at which to give a device up that may take `limit`. On a scaled clock at least two seconds of
    /// real time are left to it.
    #[must_use]
    pub fn deadline(&self, limit: Duration) -> Duration {
        let scale = self.inner.scale;
        self.now() + if scale > 1 { limit.max(PATIENCE * scale) } else { limit }
    }

    /// Runs `future`, until `deadline` (station time) at the most.
    ///
    /// # Errors
    /// [`Elapsed`] when it took longer; the future is dropped then.
    pub async fn timeout_at<F: Future>(&self, deadline: Duration, future: F) -> Result<F::Output, Elapsed> {
        self.timeout(deadline.saturating_sub(self.now()), future).await
    }

    /// Runs `future`, for at most `limit` of station time.
    ///
    /// # Errors
    /// [`Elapsed`] when it took longer; the future is dropped then.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(self.real_duration(limit), future).await.map_err(|_| Elapsed)
    }

    /// How long `station` lasts in real time.
    #[must_use]
    pub fn real_duration(&self, station: Duration) -> Duration {
        station / self.inner.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn station_time_is_scaled_and_wall_time_is_not() {
        let clock = Clock::scaled(20);
        clock.sleep(Duration::from_secs(40)).await;
        assert_eq!(clock.now(), Duration::from_secs(40));
        assert!(clock.timeout(Duration::from_secs(1), std::future::pending::<()>()).await.is_err());
        assert_eq!(clock.now(), Duration::from_secs(41));
    }

    #[tokio::test(start_paused = true)]
    async fn a_scaled_clock_is_patient_with_devices_and_an_unscaled_one_is_exact() {
        let second = Duration::from_secs(1);
        assert_eq!(Clock::scaled(20).deadline(second), Duration::from_secs(40));
        assert_eq!(Clock::scaled(20).deadline(Duration::from_secs(60)), Duration::from_secs(60));
        assert_eq!(Clock::real().deadline(second), second);
    }

    #[tokio::test(start_paused = true)]
    async fn virtual_wall_clock_follows_the_timer() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
        let clock = Clock::simulated(start);
        clock.sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.wall().to_string(), "2026-01-01T00:01:30Z");
    }
}
