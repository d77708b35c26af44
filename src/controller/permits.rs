//! Permits: how many modules may be written at once behind one root port.
//!
//! Everything behind a high-speed root port shares about 33 MB/s. A permit is taken before a unit enters download
//! mode and held until its reset, so that a unit never waits for bandwidth in a state that needs attention. First
//! come, first served; a permit is given back when dropped, also by a panic.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::PortChain;

/// The permits of all root ports.
#[derive(Debug)]
pub(crate) struct Permits {
    ports: BTreeMap<PortChain, Arc<Semaphore>>,
}

impl Permits {
    /// `each` permits for every root port that one of `chains` (the USB 2 side of the slots) begins at.
    pub(crate) fn new<'a>(chains: impl Iterator<Item = &'a PortChain>, each: u32) -> Self {
        let each = usize::try_from(each.max(1)).unwrap_or(usize::MAX);
        let ports = chains.map(|chain| (chain.root_port(), Arc::new(Semaphore::new(each)))).collect();
        Self { ports }
    }

    /// Waits for a permit for a slot whose USB 2 chain is `chain`.
    pub(crate) async fn take(&self, chain: &PortChain) -> Option<OwnedSemaphorePermit> {
        let port = self.ports.get(&chain.root_port())?;
        // The semaphores are never closed, so this waits until there is one.
        Arc::clone(port).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn root_ports_do_not_share_and_permits_come_back() {
        let first: PortChain = "c/usb2/1.1".parse().expect("valid");
        let neighbour: PortChain = "c/usb2/1.2".parse().expect("valid");
        let other: PortChain = "c/usb2/2.1".parse().expect("valid");
        let permits = Permits::new([&first, &neighbour, &other].into_iter(), 1);
        let held = permits.take(&first).await;
        assert!(held.is_some());
        assert!(permits.take(&other).await.is_some());
        let mut waiting = std::pin::pin!(permits.take(&neighbour));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("a second permit behind the same root port"),
            () = tokio::task::yield_now() => {}
        }
        drop(held);
        assert!(waiting.await.is_some());
    }
}
