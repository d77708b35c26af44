//! A served fixture of modules that need no time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stationmaster::domain::SlotName;
use stationmaster::host::{Clock, MemoryDisk, Random};
use stationmaster::sim::{Factory, FactorySpec, Flash, OperatorSpec, Pacing, SimSlot, UnitKind, usbip};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) const EG25: (&str, &str) = ("EG25-G", "EG25GGBR07A07M2G_01.001.01.001");
pub(crate) const RM520N: (&str, &str) = ("RM520N-GL", "RM520NGLAAR03A02M4G_01.200.01.200");

pub(crate) struct Rig {
    pub(crate) factory: Factory,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
}

pub(crate) fn slot(name: &str) -> SlotName {
    name.parse().expect("a slot name")
}

impl Rig {
    /// Slots A1.. on one hub, a kind of module for each.
    pub(crate) async fn start(kinds: &[(&str, &str)]) -> Self {
        let place = |port: usize| SimSlot {
            name: slot(&format!("A{port}")),
            usb2: format!("sim-0/usb2/1.{port}").parse().expect("a chain"),
            usb3: Some(format!("sim-0/usb3/1.{port}").parse().expect("a chain")),
        };
        let kind = |(index, (model, revision)): (usize, &(&str, &str))| UnitKind {
            model: (*model).to_owned(),
            revision: (*revision).to_owned(),
            slots: Some(vec![slot(&format!("A{}", index + 1))]),
        };
        let operator = OperatorSpec { insert_after: Duration::ZERO, remove_after: Duration::ZERO, units: None };
        let spec = FactorySpec {
            seed: 7,
            slots: (1..=kinds.len()).map(place).collect(),
            units: kinds.iter().enumerate().map(kind).collect(),
            operator,
            faults: Vec::new(),
            pacing: Pacing::Instant,
            flash: Flash::Memory,
            full_speed: false,
            state: PathBuf::from("/state"),
        };
        let disk = Arc::new(MemoryDisk::new());
        let factory = Factory::start(spec, Clock::real(), disk, Random::seeded(1)).await.expect("a factory");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        tokio::spawn(usbip::serve(listener, factory.exports(), stop.clone()));
        let rig = Self { factory, address, stop };
        rig.until(|ids| ids.len() == kinds.len()).await;
        rig
    }

    /// Waits until the bus ids with their USB ids fit.
    pub(crate) async fn until(&self, fits: impl Fn(&[(String, u16)]) -> bool) {
        let mut changes = self.factory.exports().changes();
        loop {
            let list = self.factory.exports().list();
            let ids: Vec<(String, u16)> = list.into_iter().map(|device| (device.busid, device.product_id)).collect();
            if fits(&ids) {
                return;
            }
            changes.changed().await.expect("the factory lives");
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
