//! The automatic operator, and what survives a restart.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stationmaster::host::{Disk, MemoryDisk};
use stationmaster::sim::{FactorySpec, Flash, OperatorSpec};

use crate::rig::{EG25, RM500Q, RM520N, Rig, fault, slot, spec};

#[tokio::test(start_paused = true)]
async fn finished_units_make_room_for_the_next_until_all_are_handed_out() {
    let mut factory = spec(&[EG25, RM500Q, RM520N], 2);
    factory.operator = OperatorSpec { units: Some(3), ..factory.operator };
    let rig = Rig::start(factory).await;
    rig.clock.sleep(Duration::from_secs(3)).await;
    let (first, second) = (slot("A1"), slot("A2"));
    assert_eq!((rig.factory.occupant(&first), rig.factory.occupant(&second)), (Some(1), Some(2)));
    let operator = rig.factory.operator();
    operator.slot_done(&second).await;
    operator.slot_done(&second).await;
    rig.clock.sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.factory.occupant(&second), Some(3), "taken out once, and the next one put in");
    assert!(rig.factory.unit(2).is_none());
    let kinds: Vec<&str> = [1, 3].map(|unit| rig.factory.unit(unit).expect("a unit").identity().model.name).to_vec();
    assert_eq!(kinds, ["EG25-G", "RM520N-GL"], "the kinds take turns");
    operator.slot_done(&first).await;
    rig.clock.sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.factory.occupant(&first), None, "all three are handed out");
}

#[tokio::test(start_paused = true)]
async fn units_in_files_survive_the_process_and_numbers_never_repeat() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let files = || FactorySpec { flash: Flash::Files(PathBuf::from("/state/sim/units")), ..spec(&[RM500Q], 2) };
    let rig = Rig::start_on(files(), disk.clone()).await;
    let mut at = rig.ready().await;
    assert!(at.ask("AT+QNVFW=\"/nv/item_files/test\",55").await.contains("OK"));
    let imei = rig.factory.unit(1).expect("a unit").identity().imei.to_string();
    rig.clock.sleep(Duration::from_secs(2)).await;
    rig.factory.operator().slot_done(&slot("A2")).await;
    // The process dies before the finished unit is taken out.
    drop(at);
    drop(rig);
    let rig = Rig::start_on(files(), disk.clone()).await;
    let carried = rig.factory.carried().to_vec();
    assert_eq!(carried.len(), 1, "the finished one is not put back");
    assert_eq!((carried[0].unit, carried[0].slot.clone(), carried[0].imei.clone()), (1, slot("A1"), imei));
    let mut at = rig.ready().await;
    assert!(at.ask("AT+QNVFR=\"/nv/item_files/test\"").await.contains("55"));
    rig.clock.sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.factory.occupant(&slot("A2")), Some(3));
    rig.factory.operator().discard(&slot("A1")).await;
    rig.clock.sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.factory.occupant(&slot("A1")), Some(4));
    let files: BTreeSet<String> = disk
        .list(&PathBuf::from("/state/sim/units"))
        .expect("a directory")
        .into_iter()
        .filter_map(|entry| entry.name.split('.').next().map(str::to_owned))
        .collect();
    assert_eq!(files, BTreeSet::from(["3".to_owned(), "4".to_owned()]), "the flash of units that left is deleted");
}

#[tokio::test(start_paused = true)]
async fn a_specification_that_cannot_work_is_refused() {
    let start = |factory: FactorySpec| async move {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let clock = stationmaster::host::Clock::real();
        let random = stationmaster::host::Random::seeded(1);
        stationmaster::sim::Factory::start(factory, clock, disk, random).await.expect_err("refused").to_string()
    };
    let unknown = FactorySpec { faults: vec![fault("gremlins")], ..spec(&[EG25], 1) };
    assert_eq!(start(unknown).await, "there is no fault gremlins");
    assert_eq!(start(spec(&[("EC99", "")], 1)).await, "there is no simulated module EC99");
    let mut twice = spec(&[EG25], 2);
    twice.slots[1].usb2 = twice.slots[0].usb2.clone();
    assert_eq!(start(twice).await, "pci-0000:00:14.0/usb2/1.1 is used twice");
}

#[tokio::test(start_paused = true)]
async fn a_swapped_module_comes_back_after_its_guest() {
    let rig = Rig::one(
        RM500Q,
        &[stationmaster::sim::FaultSpec { step: Some(stationmaster::domain::Phase::Identify), ..fault("swapped") }],
    )
    .await;
    let mut at = rig.at().await;
    let _ = at.ask("ATI").await;
    rig.clock.sleep(Duration::from_secs(3)).await;
    let guest = rig.factory.occupant(&slot("A1")).expect("a guest");
    assert_ne!(guest, 1);
    let identity = |unit| rig.factory.unit(unit).expect("a unit").identity();
    assert_ne!(identity(guest).imei, identity(1).imei);
    assert_ne!(identity(guest).chip, identity(1).chip);
    rig.factory.operator().slot_done(&slot("A1")).await;
    rig.clock.sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.factory.occupant(&slot("A1")), Some(1));
}
