//! Who holds which interface.
//!
//! A pipe or a port is given back a moment after it was dropped, because the kernel takes its time. Whoever opens the
//! same interface again waits for that; one that is in use is busy at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::hardware::{DeviceKey, HardwareError};
use crate::host::Clock;

/// How long an interface may take to be given back.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InUse,
    Closing,
}

#[derive(Debug, Default)]
struct Shared {
    states: Mutex<BTreeMap<(DeviceKey, u8), State>>,
    changed: Notify,
}

/// Every interface that is held.
#[derive(Debug, Clone, Default)]
pub(super) struct Holders {
    shared: Arc<Shared>,
}

/// An interface that is held. Given back when dropped.
#[derive(Debug)]
pub(super) struct Hold {
    shared: Arc<Shared>,
    key: (DeviceKey, u8),
}

impl Holders {
    /// Takes an interface.
    ///
    /// # Errors
    /// [`HardwareError::Busy`] when it is in use, or was not given back in time.
    pub(super) async fn hold(&self, device: &DeviceKey, interface: u8, clock: &Clock) -> Result<Hold, HardwareError> {
        let key = (device.clone(), interface);
        let free = async {
            loop {
                let mut changed = std::pin::pin!(self.shared.changed.notified());
                // From here on no change is missed.
                changed.as_mut().enable();
                match self.try_hold(&key) {
                    Some(State::InUse) => return Err(HardwareError::Busy),
                    Some(State::Closing) => changed.await,
                    None => return Ok(Hold { shared: Arc::clone(&self.shared), key: key.clone() }),
                }
            }
        };
        clock.timeout(CLOSE_LIMIT, free).await.unwrap_or(Err(HardwareError::Busy))
    }

    /// Takes an interface that nobody has; says who has it otherwise.
    fn try_hold(&self, key: &(DeviceKey, u8)) -> Option<State> {
        let mut states = self.shared.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.get(key).copied();
        if state.is_none() {
            states.insert(key.clone(), State::InUse);
        }
        state
    }
}

impl Hold {
    /// Says that it will be given back soon.
    pub(super) fn is_closing(&self) {
        let mut states = self.shared.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.insert(self.key.clone(), State::Closing);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.states.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_in_use_is_busy_and_what_is_closing_is_waited_for() {
        let (holders, clock) = (Holders::default(), Clock::real());
        let key = DeviceKey { chain: "c/usb2/1".parse().expect("valid"), session: 1 };
        let hold = holders.hold(&key, 0, &clock).await.expect("free");
        assert!(holders.hold(&key, 1, &clock).await.is_ok(), "another interface");
        assert_eq!(holders.hold(&key, 0, &clock).await.err(), Some(HardwareError::Busy));
        assert!(clock.now().is_zero(), "at once");
        hold.is_closing();
        assert_eq!(holders.hold(&key, 0, &clock).await.err(), Some(HardwareError::Busy));
        assert_eq!(clock.now(), CLOSE_LIMIT, "not for ever");
        let (next, ()) = tokio::join!(holders.hold(&key, 0, &clock), async {
            clock.sleep(Duration::from_secs(1)).await;
            drop(hold);
        });
        assert!(next.is_ok());
    }
}
