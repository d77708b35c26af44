//! Each fault's effect on the device's side of the cable.

use std::time::Duration;

use stationmaster::domain::{PageRange, Phase};
use stationmaster::hardware::{BulkPipe, DeviceMode, HardwareError, PipeExt};
use stationmaster::sim::efs::{BandKey, EfsState};
use stationmaster::sim::models::Model;
use stationmaster::sim::{FAULTS, FactorySpec, FaultSpec, programmer_for};

use crate::rig::{
    EG25, RM500Q, Rig, banner, fault, firehose, program, range_xml, read, receive, sahara, send, slot, spec, words,
};

const PAGE: u32 = 4096;

fn model() -> &'static Model {
    Model::by_name(RM500Q.0).expect("a model")
}

fn partition(name: &str) -> PageRange {
    model().range(name).expect("a partition")
}

async fn load(pipe: &mut Box<dyn BulkPipe>) -> Vec<String> {
    sahara(pipe, &programmer_for(model())).await.expect("a started programmer");
    let lines = banner(pipe).await;
    let (_, response) =
        firehose(pipe, "<configure MemoryName=\"nand\" MaxPayloadSizeToTargetInBytes=\"8192\" />").await;
    assert!(response.contains("ACK"), "{response}");
    lines
}

async fn loaded(rig: &Rig) -> Box<dyn BulkPipe> {
    let mut pipe = rig.enter_edl().await;
    load(&mut pipe).await;
    pipe
}

async fn erase(pipe: &mut Box<dyn BulkPipe>, name: &str) -> String {
    firehose(pipe, &range_xml("erase", PAGE, partition(name))).await.1
}

/// A module whose boot loader was erased and programmed again, and that was reset.
async fn flashed(faults: &[FaultSpec]) -> Rig {
    let rig = Rig::one(RM500Q, faults).await;
    let mut pipe = loaded(&rig).await;
    let image = read(&mut pipe, PAGE, PageRange { start: 0, pages: 3 }).await;
    assert!(erase(&mut pipe, "SBL").await.contains("ACK"));
    assert!(program(&mut pipe, PAGE, 0, &image).await.contains("ACK"));
    send(&mut pipe, &crate::rig::document("<power value=\"reset\" />")).await;
    let mut bytes = Vec::new();
    while pipe.in_done(&mut bytes).await.is_ok() {
        let _ = pipe.submit_in(4096);
    }
    rig
}

#[tokio::test(start_paused = true)]
async fn what_a_flash_did_to_a_unit_shows_at_the_first_boot_after_it() {
    let before = Rig::one(RM500Q, &[]).await;
    before.normal().await;
    let good = before.factory.unit(1).expect("a unit").inspect().expect("readable");
    for name in ["band-missing-config", "band-missing-policy", "imei-changed", "calibration-lost", "cfun-5-after"] {
        let rig = flashed(&[fault(name)]).await;
        let mut at = rig.ready().await;
        let found = rig.factory.unit(1).expect("a unit").inspect().expect("readable");
        let bands = |key: BandKey| found.items.bands(key).contains(&77);
        assert_eq!(bands(BandKey::NrSaConfig), !matches!(name, "band-missing-config" | "cfun-5-after"), "{name}");
        assert_eq!(bands(BandKey::NrSaPolicy), !matches!(name, "band-missing-policy" | "cfun-5-after"), "{name}");
        assert_eq!(found.imei == good.imei, !matches!(name, "imei-changed" | "cfun-5-after"), "{name}");
        assert_eq!(found.efs == EfsState::Present, name != "cfun-5-after", "{name}");
        let calibration = at.ask(&format!("AT+QNVFR=\"{}\"", model().rf_items[0])).await;
        assert_eq!(calibration.contains("+QNVFR"), !matches!(name, "calibration-lost" | "cfun-5-after"), "{name}");
        let cfun = if name == "cfun-5-after" { "+CFUN: 5" } else { "+CFUN: 1" };
        assert!(at.ask("AT+CFUN?").await.contains(cfun), "{name}");
    }
    let rig = flashed(&[fault("revision-wrong-after")]).await;
    assert!(rig.ready().await.ask("AT+QGMR").await.contains(RM500Q.1));
    let rig = flashed(&[fault("crash-after")]).await;
    rig.device(|device| matches!(device.mode(), DeviceMode::MemoryDump)).await;
    let rig = flashed(&[fault("boot-loop")]).await;
    let first = rig.normal().await.key.session;
    rig.clock.sleep(Duration::from_secs(90)).await;
    assert!(rig.normal().await.key.session > first + 1, "it starts again and again");
}

#[tokio::test(start_paused = true)]
async fn the_boot_rom_s_faults() {
    let rig = Rig::one(RM500Q, &[fault("edl-refused")]).await;
    let device = rig.normal().await;
    let mut port = rig.factory.bus().open_port(&device.key, 0).await.expect("a port");
    port.write(&[0x4b, 0x65, 1, 0, 0x54, 0x0f, 0x7e]).await.expect("a write");
    let mut reply = [0; 32];
    port.read(&mut reply).await.expect("a reply");
    assert_eq!(reply[0], 0x13, "bad command");

    let rig = Rig::one(RM500Q, &[fault("silent-edl")]).await;
    let mut pipe = rig.enter_edl().await;
    let heard = rig.clock.timeout(Duration::from_secs(60), pipe.in_done(&mut Vec::new())).await;
    assert!(heard.is_err());

    let rig = Rig::one(RM500Q, &[fault("programmer-rejected")]).await;
    let mut pipe = rig.enter_edl().await;
    let refusal = sahara(&mut pipe, &programmer_for(model())).await.expect_err("refused");
    assert_eq!(refusal, words(&[4, 16, 13, 0x25]));

    let rig = Rig::one(RM500Q, &[fault("programmer-silent")]).await;
    let mut pipe = rig.enter_edl().await;
    let file = programmer_for(model());
    let silent = rig.clock.timeout(Duration::from_secs(60), sahara(&mut pipe, &file)).await;
    assert!(silent.is_err(), "no END_OF_IMAGE");

    // HELLO is lost once only: a second entry finds it.
    let rig = Rig::one(RM500Q, &[fault("hello-eaten")]).await;
    drop(rig.enter_edl().await);
    let chains = [rig.edl().await.key.chain];
    rig.factory.power().set(&chains, false).await.expect("a switch");
    rig.factory.power().set(&chains, true).await.expect("a switch");
    let mut pipe = rig.enter_edl().await;
    assert_eq!(receive(&mut pipe).await[..4], [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_programmer_s_faults_before_anything_is_written() {
    let rig = Rig::one(RM500Q, &[fault("payload-impossible")]).await;
    let mut pipe = rig.enter_edl().await;
    sahara(&mut pipe, &programmer_for(model())).await.expect("started");
    banner(&mut pipe).await;
    for bytes in [8192, 1000] {
        let ask = format!("<configure MemoryName=\"nand\" MaxPayloadSizeToTargetInBytes=\"{bytes}\" />");
        let (_, response) = firehose(&mut pipe, &ask).await;
        assert!(response.contains("NAK") && response.contains("InBytes=\"1000\""), "{response}");
    }

    let rig = Rig::one(RM500Q, &[fault("programmer-cannot-read")]).await;
    let mut pipe = rig.enter_edl().await;
    let lines = load(&mut pipe).await;
    assert!(!lines.iter().any(|line| line.contains("INFO: read")));
    let (_, response) = firehose(&mut pipe, &range_xml("read", PAGE, partition("EFS2"))).await;
    assert!(response.contains("NAK"), "{response}");

    let rig = Rig::one(RM500Q, &[fault("geometry-mismatch")]).await;
    let mut pipe = loaded(&rig).await;
    let (logs, _) = firehose(&mut pipe, "<getstorageinfo physical_partition_number=\"0\" />").await;
    assert!(logs[0].contains("&quot;page_size&quot;:2048"), "{}", logs[0]);

    let rig = Rig::one(RM500Q, &[fault("package-moves-efs")]).await;
    rig.ready().await;
    let truth = rig.factory.unit(1).expect("a unit");
    assert_eq!(truth.inspect().expect("readable").efs, EfsState::Present, "moved with its content");
    assert_ne!(truth.guarded()[0], partition("EFS2"));

    let rig = Rig::one(RM500Q, &[fault("bad-block")]).await;
    let mut pipe = loaded(&rig).await;
    let (logs, response) = firehose(&mut pipe, &range_xml("erase", PAGE, partition("system"))).await;
    assert!(response.contains("ACK"));
    let bad = partition("system").start / 64 + 1;
    assert!(logs.iter().any(|log| log.contains(&format!("NAND bad block skipped: {bad}"))), "{logs:?}");
    let content: Vec<u8> = (0..200 * 4096_u32).map(|at| u8::try_from(at / 4096).expect("below 200")).collect();
    assert!(program(&mut pipe, PAGE, partition("system").start, &content).await.contains("ACK"));
    let back = read(&mut pipe, PAGE, PageRange { start: partition("system").start, pages: 200 }).await;
    assert_eq!(back, content);
}

#[tokio::test(start_paused = true)]
async fn refusals_persist_or_do_not() {
    let nth = |name: &str, after: u32| FaultSpec { after: Some(after), ..fault(name) };
    let rig = Rig::one(RM500Q, &[nth("erase-nak", 1)]).await;
    let mut pipe = loaded(&rig).await;
    let answers = [erase(&mut pipe, "fota").await, erase(&mut pipe, "misc").await, erase(&mut pipe, "misc").await];
    assert_eq!(answers.map(|answer| answer.contains("ACK")), [true, false, false]);
    let page = vec![1; 4096];
    for (name, third) in [("program-nak", false), ("program-nak-once", true)] {
        let rig = Rig::one(RM500Q, &[nth(name, 1)]).await;
        let mut pipe = loaded(&rig).await;
        assert!(erase(&mut pipe, "fota").await.contains("ACK"));
        let fota = partition("fota").start;
        assert!(program(&mut pipe, PAGE, fota + 64, &page).await.contains("ACK"));
        assert!(program(&mut pipe, PAGE, fota, &page).await.contains("NAK"));
        assert!(erase(&mut pipe, "fota").await.contains("ACK"));
        assert_eq!(program(&mut pipe, PAGE, fota, &page).await.contains("ACK"), third, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_and_endless_logs_in_a_program() {
    let content = vec![1; 4096 * 8];
    for (name, recovers) in [("silence-in-program", true), ("silence-in-program-always", false)] {
        let rig = Rig::one(RM500Q, &[FaultSpec { after: Some(0), ..fault(name) }]).await;
        let fota = partition("fota").start;
        let mut pipe = loaded(&rig).await;
        assert!(erase(&mut pipe, "SBL").await.contains("ACK"));
        assert!(erase(&mut pipe, "fota").await.contains("ACK"));
        let patience = Duration::from_secs(300);
        let silent = rig.clock.timeout(patience, program(&mut pipe, PAGE, fota, &content)).await;
        assert!(silent.is_err(), "{name}");
        drop(pipe);
        let chains = [rig.edl().await.key.chain];
        rig.factory.power().set(&chains, false).await.expect("a switch");
        rig.factory.power().set(&chains, true).await.expect("a switch");
        let mut pipe = rig.open_edl().await;
        load(&mut pipe).await;
        assert!(erase(&mut pipe, "fota").await.contains("ACK"));
        let again = rig.clock.timeout(patience, program(&mut pipe, PAGE, fota, &content)).await;
        assert_eq!(again.is_ok_and(|answer| answer.contains("ACK")), recovers, "{name}");
    }
    let rig = Rig::one(RM500Q, &[FaultSpec { after: Some(0), ..fault("endless-logs") }]).await;
    let mut pipe = loaded(&rig).await;
    assert!(erase(&mut pipe, "fota").await.contains("ACK"));
    let range = PageRange { start: partition("fota").start, pages: 1 };
    firehose(&mut pipe, &range_xml("program", PAGE, range)).await;
    send(&mut pipe, &[1; 4096]).await;
    for _ in 0..1000 {
        assert!(String::from_utf8_lossy(&receive(&mut pipe).await).contains("<log "));
    }
}

/// Goes through a whole run by hand until the device is gone; the phase in which that was.
async fn run_until_gone(rig: &Rig) -> Phase {
    let mut at = rig.at().await;
    if at.port.write(b"ATI\r").await.is_err() || gone(rig, &mut at).await {
        return Phase::Identify;
    }
    drop(at);
    let device = rig.normal().await;
    let Ok(mut port) = rig.factory.bus().open_port(&device.key, 0).await else { return Phase::Identify };
    let _ = port.write(&[0x4b, 0x65, 1, 0, 0x54, 0x0f, 0x7e]).await;
    let mut buffer = [0; 64];
    while port.read(&mut buffer).await.is_ok() {}
    rig.clock.sleep(Duration::from_secs(4)).await;
    let listing = rig.factory.bus().list().await.expect("a listing");
    let Some(device) = listing.devices.first() else { return Phase::EnterEdl };
    let mut pipe = rig.factory.bus().open_bulk(&device.key, 0).await.expect("a pipe");
    let _ = pipe.submit_in(16_384);
    let mut phase = Phase::Probe;
    let steps = async {
        exchange(&mut pipe, &words(&[2, 0x30, 2, 1, 0, 3, 0, 0, 0, 0, 0, 0])).await?;
        exchange(&mut pipe, &words(&[0x0c, 12, 0])).await?;
        phase = Phase::Load;
        exchange(&mut pipe, &words(&[2, 0x30, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0])).await?;
        Ok::<(), HardwareError>(())
    };
    if steps.await.is_err() {
        return phase;
    }
    panic!("the device is still there")
}

async fn gone(rig: &Rig, at: &mut crate::rig::At) -> bool {
    let mut buffer = [0; 256];
    let until = rig.clock.now() + Duration::from_secs(2);
    loop {
        match rig.clock.timeout(until.saturating_sub(rig.clock.now()), at.port.read(&mut buffer)).await {
            Ok(Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

async fn exchange(pipe: &mut Box<dyn BulkPipe>, packet: &[u8]) -> Result<(), HardwareError> {
    pipe.submit_out(packet)?;
    pipe.out_done().await?;
    for _ in 0..2 {
        pipe.in_done(&mut Vec::new()).await?;
        pipe.submit_in(16_384)?;
        if packet[0] != 2 {
            break;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_plug_is_pulled_in_its_phase_and_put_back() {
    for step in [Phase::Identify, Phase::EnterEdl, Phase::Probe, Phase::Load] {
        let rig = Rig::one(RM500Q, &[FaultSpec { step: Some(step), ..fault("unplug") }]).await;
        assert_eq!(run_until_gone(&rig).await, step);
        assert_eq!(rig.factory.occupant(&slot("A1")), None);
        rig.factory.operator().slot_done(&slot("A1")).await;
        rig.clock.sleep(Duration::from_secs(12)).await;
        assert_eq!(rig.factory.occupant(&slot("A1")), Some(1), "the same unit");
        rig.normal().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_plug_is_pulled_in_the_backup_and_in_the_flash() {
    let rig = Rig::one(RM500Q, &[FaultSpec { step: Some(Phase::Backup), ..fault("unplug") }]).await;
    let mut pipe = loaded(&rig).await;
    let _ = read(&mut pipe, PAGE, PageRange { start: 0, pages: 8 }).await;
    send(&mut pipe, &crate::rig::document(&range_xml("read", PAGE, partition("EFS2")))).await;
    let mut bytes = Vec::new();
    while pipe.in_done(&mut bytes).await.is_ok() {
        let _ = pipe.submit_in(16_384);
    }
    assert!(bytes.len() > 1_000_000, "in the middle of it");
    rig.normal().await;

    let rig = Rig::one(RM500Q, &[FaultSpec { after: Some(1), ..fault("unplug") }]).await;
    let mut pipe = loaded(&rig).await;
    assert!(erase(&mut pipe, "SBL").await.contains("ACK"));
    send(&mut pipe, &crate::rig::document(&range_xml("erase", PAGE, partition("fota")))).await;
    let mut bytes = Vec::new();
    while pipe.in_done(&mut bytes).await.is_ok() {
        let _ = pipe.submit_in(4096);
    }
    rig.edl().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_hub_takes_its_neighbours_along_and_returns() {
    let faults = vec![FaultSpec { step: Some(Phase::Identify), ..fault("hub-lost") }];
    let rig = Rig::start(FactorySpec { faults, ..spec(&[EG25], 2) }).await;
    rig.clock.sleep(Duration::from_secs(40)).await;
    let mut at = rig.at().await;
    at.port.write(b"ATI\r").await.expect("a write");
    assert!(gone(&rig, &mut at).await);
    let listing = rig.factory.bus().list().await.expect("a listing");
    assert!(listing.hubs.is_empty() && listing.devices.is_empty());
    rig.factory.operator().slot_done(&slot("A1")).await;
    rig.clock.sleep(Duration::from_secs(40)).await;
    let listing = rig.factory.bus().list().await.expect("a listing");
    assert_eq!((listing.hubs.len(), listing.devices.len()), (2, 2));
    assert_eq!(rig.factory.occupant(&slot("A1")), Some(1), "it was not taken away meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_planted_panic_is_the_caller_s() {
    let rig = Rig::one(RM500Q, &[FaultSpec { after: Some(0), ..fault("panic") }]).await;
    let mut pipe = loaded(&rig).await;
    let task = tokio::spawn(async move { erase(&mut pipe, "fota").await });
    assert!(task.await.expect_err("it panicked").is_panic());
    let mut pipe = rig.open_edl().await;
    let (_, response) = firehose(&mut pipe, "<nop />").await;
    assert!(response.contains("ACK"), "once only: {response}");
}

#[test]
fn every_fault_has_a_sentence() {
    assert!(FAULTS.iter().all(|fault| fault.sentence.ends_with('.')));
    assert!(FAULTS.iter().any(|fault| fault.takes_step));
}
