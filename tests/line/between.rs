//! A bus that stands between a controller and its modules, for the buses of tests that change what is said there.

use std::fmt;
use std::sync::Arc;

use stationmaster::hardware::{AtPort, BoxFuture, BulkPipe, Bus, DeviceKey, HardwareError, Listing};
use tokio::sync::watch;

/// What becomes of what is opened; everything else goes through.
pub(crate) trait Middle: Send + Sync + 'static {
    /// What the controller gets for the bulk endpoints of a module.
    fn bulk(&self, inner: Box<dyn BulkPipe>) -> Box<dyn BulkPipe> {
        inner
    }

    /// What it gets for a port of the module.
    fn port(
        &self,
        _device: &DeviceKey,
        _interface: u8,
        inner: Box<dyn AtPort>,
    ) -> Result<Box<dyn AtPort>, HardwareError> {
        Ok(inner)
    }
}

/// The bus.
pub(crate) struct Between<M> {
    pub(crate) inner: Arc<dyn Bus>,
    pub(crate) middle: M,
}

impl<M> fmt::Debug for Between<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Between").finish_non_exhaustive()
    }
}

impl<M: Middle> Bus for Between<M> {
    fn list(&self) -> BoxFuture<'_, Result<Listing, HardwareError>> {
        self.inner.list()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.inner.hints()
    }

    fn open_bulk<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn BulkPipe>, HardwareError>> {
        Box::pin(async move { Ok(self.middle.bulk(self.inner.open_bulk(device, interface).await?)) })
    }

    fn open_port<'a>(
        &'a self,
        device: &'a DeviceKey,
        interface: u8,
    ) -> BoxFuture<'a, Result<Box<dyn AtPort>, HardwareError>> {
        Box::pin(async move {
            let inner = self.inner.open_port(device, interface).await?;
            self.middle.port(device, interface, inner)
        })
    }
}
