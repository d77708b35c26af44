//! A module in normal mode: enumeration, AT, power, unplugging.

use std::time::Duration;

use stationmaster::domain::Side;
use stationmaster::hardware::{DeviceKey, HardwareError, Speed};

use crate::rig::{EG25, RM500Q, RM520N, Rig, fault, slot, spec};

#[tokio::test(start_paused = true)]
async fn a_module_boots_and_answers_from_its_flash() {
    for (kind, interfaces) in [(EG25, 5), (RM500Q, 5), (RM520N, 5)] {
        let rig = Rig::one(kind, &[]).await;
        let mut at = rig.at().await;
        let device = rig.normal().await;
        assert_eq!(device.interfaces.len(), interfaces);
        let wide = kind != EG25;
        assert_eq!(device.speed, if wide { Speed::Super } else { Speed::High });
        assert_eq!(device.key.chain.side(), if wide { Side::Usb3 } else { Side::Usb2 });
        let early = at.ask("AT+CFUN?").await;
        assert!(early.contains("ERROR") && early.starts_with("AT+CFUN?\r"), "{early:?}");
        let urcs = at.listen(Duration::from_secs(8)).await;
        assert!(urcs.contains("\r\nRDY\r\n") && urcs.contains("+CFUN: 1") && urcs.contains("PB DONE"), "{urcs:?}");
        assert_eq!(at.ask("ATE0").await, "ATE0\r\r\nOK\r\n");
        let short = kind.1.split('_').next().expect("a revision");
        assert_eq!(at.ask("ATI").await, format!("\r\nQuectel\r\n{}\r\nRevision: {short}\r\n\r\nOK\r\n", kind.0));
        assert_eq!(at.ask("AT+QGMR").await, format!("\r\n{}\r\n\r\nOK\r\n", kind.1));
        let imei = rig.factory.unit(1).expect("a unit").identity().imei;
        assert_eq!(at.ask("AT+CGSN").await, format!("\r\n{imei}\r\n\r\nOK\r\n"));
        assert_eq!(at.ask("AT+CFUN?").await, "\r\n+CFUN: 1\r\n\r\nOK\r\n");
        assert!(at.ask("AT+QNVFR=\"/nv/item_files/rfnv/00020175\"").await.contains("+QNVFR: "));
    }
}

#[tokio::test(start_paused = true)]
async fn writes_over_at_are_in_the_flash_after_a_restart() {
    let rig = Rig::one(RM500Q, &[]).await;
    let mut at = rig.ready().await;
    assert!(at.ask("AT+QNVFW=\"/nv/item_files/test\",0a0b").await.contains("OK"));
    assert!(at.ask("AT+QNWPREFCFG=\"nr5g_band\",77:78").await.contains("OK"));
    let before = rig.normal().await.key;
    assert!(at.ask("AT+CFUN=1,1").await.contains("OK"));
    assert_eq!(at.port.read(&mut [0; 8]).await, Err(HardwareError::Gone));
    let mut at = rig.ready().await;
    assert_ne!(rig.normal().await.key, before, "another session");
    assert!(at.ask("AT+QNVFR=\"/nv/item_files/test\"").await.contains("0A0B"));
    assert!(at.ask("AT+QNWPREFCFG=\"nr5g_band\"").await.contains(",77:78\r\n"));
    assert_eq!(rig.factory.unit(1).expect("a unit").starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn nv_items_are_no_files_over_at() {
    let rig = Rig::one(RM500Q, &[]).await;
    let mut at = rig.ready().await;
    let digest = rig.factory.unit(1).expect("a unit").inspect().expect("readable").items.digest();
    for path in ["/nvm/num/550", "/nvm/num/1001", "/nvm/new"] {
        assert!(at.ask(&format!("AT+QNVFW=\"{path}\",{}", "5a".repeat(129))).await.contains("ERROR"), "{path}");
        assert!(at.ask(&format!("AT+QNVFR=\"{path}\"")).await.contains("ERROR"), "{path}");
    }
    assert_eq!(rig.factory.unit(1).expect("a unit").inspect().expect("readable").items.digest(), digest);
    assert!(at.ask("AT+QNVFW=\"/nvmore\",5a").await.contains("OK"));
}

#[tokio::test(start_paused = true)]
async fn ports_are_exclusive_and_old_keys_reach_nothing() {
    let rig = Rig::one(EG25, &[]).await;
    let device = rig.normal().await;
    let bus = rig.factory.bus();
    let port = bus.open_port(&device.key, 2).await.expect("a port");
    assert_eq!(bus.open_port(&device.key, 2).await.err(), Some(HardwareError::Busy));
    drop(port);
    assert!(bus.open_port(&device.key, 2).await.is_ok());
    let old = DeviceKey { session: device.key.session + 1, ..device.key.clone() };
    assert_eq!(bus.open_port(&old, 2).await.err(), Some(HardwareError::Gone));
    assert!(matches!(bus.open_port(&device.key, 9).await.err(), Some(HardwareError::Unsupported(_))));
    rig.factory.unplug(&slot("A1")).expect("a unit");
    assert_eq!(bus.open_port(&device.key, 2).await.err(), Some(HardwareError::Gone));
}

#[tokio::test(start_paused = true)]
async fn port_power_and_hubs_take_the_module_s_power() {
    let rig = Rig::start(spec(&[RM500Q], 2)).await;
    let first = rig.normal().await;
    let chains = [first.key.chain.clone()];
    let power = rig.factory.power();
    assert!(power.can_switch(&chains));
    assert!(!power.can_switch(&["pci-9/usb2/7".parse().expect("a chain")]));
    let mut port = rig.factory.bus().open_port(&first.key, 2).await.expect("a port");
    power.set(&chains, false).await.expect("a switch");
    assert_eq!(port.read(&mut [0; 8]).await, Err(HardwareError::Gone));
    rig.clock.sleep(Duration::from_secs(60)).await;
    let listing = rig.factory.bus().list().await.expect("a listing");
    assert_eq!(listing.devices.len(), 1, "only the neighbour");
    assert_eq!(listing.hubs.len(), 2, "both halves of one hub");
    rig.factory.set_hub(&listing.hubs[0].chain, false).expect("a hub");
    let listing = rig.factory.bus().list().await.expect("a listing");
    assert!(listing.devices.is_empty() && listing.hubs.is_empty());
    rig.factory.set_hub(&first.key.chain.hub().expect("a hub"), true).expect("a hub");
    power.set(&chains, true).await.expect("a switch");
    rig.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.factory.bus().list().await.expect("a listing").devices.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_identity_can_be_broken_from_the_start() {
    let rig = Rig::one(EG25, &[fault("imei-zero")]).await;
    assert!(rig.ready().await.ask("AT+CGSN").await.contains("\r\n000000000000000\r\n"));
    let mut factory = spec(&[EG25], 2);
    factory.faults = vec![stationmaster::sim::FaultSpec { unit: 2, ..fault("imei-of-another-slot") }];
    let rig = Rig::start(factory).await;
    rig.clock.sleep(Duration::from_secs(40)).await;
    let imei = |unit: u32| rig.factory.unit(unit).expect("a unit").inspect().expect("readable").imei;
    assert_eq!(imei(1), imei(2));
    let rig = Rig::one(EG25, &[fault("wrong-model")]).await;
    assert!(!rig.ready().await.ask("ATI").await.contains("EG25-G"));
}

#[tokio::test(start_paused = true)]
async fn garbage_is_in_every_reply() {
    let rig = Rig::one(RM500Q, &[fault("garbage-at")]).await;
    let reply = rig.ready().await.ask("AT+CFUN?").await;
    for part in ["~gar", "AT+CFUN?\r\r\n", "+CFUN: 1\r\n", "+QIND: \"csq\"", "\r\nOK\r\n"] {
        assert!(reply.contains(part), "{part:?} in {reply:?}");
    }
}
