//! Which enumeration a key means.
//!
//! Every enumeration that is seen at a position gets the next number, so no key is ever given out twice. Whoever holds
//! something open at a position waits for its token: it is cancelled as soon as a listing shows that the device is not
//! there any more, or another one is, also when no transfer ever failed.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::scan::{Found, Place};
use crate::domain::PortChain;
use crate::hardware::DeviceKey;

#[derive(Debug)]
struct Known {
    place: Place,
    session: u64,
    gone: CancellationToken,
}

/// A device that is there, as its user holds it.
#[derive(Debug, Clone)]
pub(super) struct Present {
    pub(super) place: Place,
    /// Cancelled once it is gone.
    pub(super) gone: CancellationToken,
}

/// Every enumeration that is there.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    given: u64,
    known: BTreeMap<PortChain, Known>,
}

impl Sessions {
    /// Takes a listing over; gives the session of each of its devices.
    pub(super) fn update(&mut self, listing: &[Found]) -> Vec<u64> {
        let mut old = std::mem::take(&mut self.known);
        let mut sessions = Vec::with_capacity(listing.len());
        for found in listing {
            let known = match old.remove(&found.chain) {
                Some(known) if known.place == found.place => known,
                other => {
                    if let Some(known) = other {
                        known.gone.cancel();
                    }
                    self.given += 1;
                    Known { place: found.place.clone(), session: self.given, gone: CancellationToken::new() }
                }
            };
            sessions.push(known.session);
            self.known.insert(found.chain.clone(), known);
        }
        old.into_values().for_each(|known| known.gone.cancel());
        sessions
    }

    /// The device that a key means, if it is still there.
    pub(super) fn find(&self, key: &DeviceKey) -> Option<Present> {
        let known = self.known.get(&key.chain).filter(|known| known.session == key.session)?;
        Some(Present { place: known.place.clone(), gone: known.gone.clone() })
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.known.values().for_each(|known| known.gone.cancel());
    }
}
