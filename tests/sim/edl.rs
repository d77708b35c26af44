//! Download mode: Sahara, Firehose, and what a host's mistakes do to a module.

use std::time::Duration;

use stationmaster::domain::PageRange;
use stationmaster::hardware::{HardwareError, PipeExt, Speed};
use stationmaster::sim::BusAction;
use stationmaster::sim::boot::Boot;
use stationmaster::sim::models::Model;
use stationmaster::sim::programmer_for as programmer;

use crate::rig::{
    EG25, RM500Q, RM520N, Rig, answer, banner, document, fault, firehose, program, range_xml, read, receive, sahara,
    send, slot, words,
};

fn range(start: u64, pages: u64) -> PageRange {
    PageRange { start, pages }
}

/// A module with a configured programmer.
pub(crate) async fn loaded(rig: &Rig, kind: (&str, &str)) -> Box<dyn stationmaster::hardware::BulkPipe> {
    let mut pipe = rig.enter_edl().await;
    load(&mut pipe, kind).await;
    pipe
}

async fn load(pipe: &mut Box<dyn stationmaster::hardware::BulkPipe>, kind: (&str, &str)) {
    let file = programmer(Model::by_name(kind.0).expect("a model"));
    sahara(pipe, &file).await.expect("a started programmer");
    banner(pipe).await;
    let (_, response) =
        firehose(pipe, "<configure MemoryName=\"nand\" MaxPayloadSizeToTargetInBytes=\"8192\" />").await;
    assert!(response.contains("ACK") && response.contains("MaxPayloadSizeToTargetInBytes=\"8192\""), "{response}");
}

#[tokio::test(start_paused = true)]
async fn the_chip_tells_who_it_is_and_resets_into_normal_mode() {
    for kind in [EG25, RM500Q, RM520N] {
        let rig = Rig::one(kind, &[]).await;
        let before = rig.normal().await;
        let unit = rig.factory.unit(1).expect("a unit").identity();
        let mut pipe = rig.enter_edl().await;
        let device = rig.edl().await;
        assert_eq!(device.speed, Speed::High, "download mode is on the USB 2 side");
        assert_eq!(device.key.chain.ports().last(), before.key.chain.ports().last());
        let hello = receive(&mut pipe).await;
        assert_eq!(hello.len(), 0x30);
        assert_eq!(hello[..4], [1, 0, 0, 0]);
        send(&mut pipe, &words(&[2, 0x30, 2, 1, 0, 3, 0, 0, 0, 0, 0, 0])).await;
        assert_eq!(receive(&mut pipe).await, words(&[0x0b, 8]));
        let mut answers = Vec::new();
        for client in [1, 2, 3] {
            send(&mut pipe, &words(&[0x0d, 12, client])).await;
            let response = receive(&mut pipe).await;
            send(&mut pipe, &words(&[0x0f, 12, client])).await;
            let data = receive(&mut pipe).await;
            assert_eq!(response, words(&[0x0e, 16, client, u32::try_from(data.len()).expect("short")]));
            answers.push(data);
        }
        assert_eq!(answers[0], unit.chip.serial.to_le_bytes());
        assert_eq!(answers[1], unit.chip.hw_id.to_le_bytes());
        assert_eq!(answers[2].len(), 144, "three copies of 48 bytes");
        assert_eq!(answers[2][..48], answers[2][96..]);
        send(&mut pipe, &words(&[0x0c, 12, 0])).await;
        assert_eq!(receive(&mut pipe).await[..4], [1, 0, 0, 0], "a new HELLO");
        send(&mut pipe, &words(&[7, 8])).await;
        assert_eq!(receive(&mut pipe).await, words(&[8, 8]));
        let after = rig.normal().await;
        assert_eq!(after.product, before.product);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_packet_is_answered_with_an_error_until_reset() {
    let rig = Rig::one(RM500Q, &[fault("hello-eaten")]).await;
    let mut pipe = rig.enter_edl().await;
    let mut bytes = Vec::new();
    assert!(rig.clock.timeout(Duration::from_secs(5), pipe.in_done(&mut bytes)).await.is_err(), "no HELLO");
    send(&mut pipe, &[0]).await;
    assert_eq!(receive(&mut pipe).await, words(&[4, 16, 13, 5]), "bad packet size");
    send(&mut pipe, &words(&[7, 8])).await;
    assert_eq!(receive(&mut pipe).await, words(&[8, 8]));
    assert_eq!(receive(&mut pipe).await[..8], words(&[1, 0x30])[..], "a fresh HELLO");
}

#[tokio::test(start_paused = true)]
async fn an_unsolicited_hello_response_is_taken() {
    let rig = Rig::one(EG25, &[fault("hello-eaten")]).await;
    let mut pipe = rig.enter_edl().await;
    send(&mut pipe, &words(&[2, 0x30, 2, 1, 0, 3, 0, 0, 0, 0, 0, 0])).await;
    assert_eq!(receive(&mut pipe).await, words(&[0x0b, 8]));
}

#[tokio::test(start_paused = true)]
async fn a_foreign_programmer_is_refused_and_reset_leaves_download_mode() {
    let rig = Rig::one(RM500Q, &[]).await;
    let mut pipe = rig.enter_edl().await;
    let foreign = programmer(Model::by_name("RM520N-GL").expect("a model"));
    let refusal = sahara(&mut pipe, &foreign).await.expect_err("refused");
    assert_eq!(refusal, words(&[4, 16, 13, 0x25]));
    send(&mut pipe, &words(&[7, 8])).await;
    assert_eq!(receive(&mut pipe).await, words(&[8, 8]));
    rig.normal().await;
}

#[tokio::test(start_paused = true)]
async fn the_read_pattern_is_that_of_a_recorded_load() {
    for kind in [RM500Q, RM520N] {
        let rig = Rig::one(kind, &[]).await;
        let mut pipe = rig.enter_edl().await;
        let file = programmer(Model::by_name(kind.0).expect("a model"));
        let asked = sahara(&mut pipe, &file).await.expect("a started programmer");
        assert_eq!(asked[..4], [(0, 0x34), (0x34, 0x80), (0x1000, 0x1000), (0x2000, 0x9d0)]);
        assert!(asked[4..].iter().all(|(_, length)| *length <= 0x1000));
        let lines = banner(&mut pipe).await;
        assert!(lines[0].contains("Binary build date"), "{}", lines[0]);
        assert!(lines.iter().any(|line| line.contains("Supported Functions (15)")));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_while_logs_wait() {
    let rig = Rig::one(EG25, &[]).await;
    let mut pipe = rig.enter_edl().await;
    sahara(&mut pipe, &programmer(Model::by_name(EG25.0).expect("a model"))).await.expect("a started programmer");
    // The four IN transfers that are queued take four logs at the most; MDM9x07 has that many.
    pipe.cancel();
    rig.clock.sleep(Duration::from_secs(5)).await;
    pipe.submit_out(&document("<nop />")).expect("an OUT transfer");
    assert!(rig.clock.timeout(Duration::from_secs(30), pipe.out_done()).await.is_err(), "its banner was not read");
    for _ in 0..4 {
        pipe.submit_in(16_384).expect("an IN transfer");
    }
    rig.clock.timeout(Duration::from_secs(1), pipe.out_done()).await.expect("taken").expect("taken");
    banner(&mut pipe).await;
    assert!(answer(&mut pipe).await.1.contains("ACK"));
}

#[tokio::test(start_paused = true)]
async fn configure_negotiates_as_real_programmers_do() {
    let rig = Rig::one(RM500Q, &[]).await;
    let mut pipe = rig.enter_edl().await;
    sahara(&mut pipe, &programmer(Model::by_name(RM500Q.0).expect("a model"))).await.expect("started");
    banner(&mut pipe).await;
    let (_, response) = firehose(&mut pipe, &range_xml("erase", 4096, range(0, 640))).await;
    assert!(response.contains("NAK"), "not configured: {response}");
    let ask = |bytes: u32| format!("<configure MemoryName=\"nand\" MaxPayloadSizeToTargetInBytes=\"{bytes}\" />");
    let (_, response) = firehose(&mut pipe, &ask(1_048_576)).await;
    assert!(response.contains("NAK") && response.contains("MaxPayloadSizeToTargetInBytes=\"8192\""), "{response}");
    let (logs, response) = firehose(&mut pipe, "<configure MemoryName=\"ufs\" />").await;
    assert!(response.contains("NAK") && !response.contains("MaxPayload"), "{response}");
    assert!(logs[0].contains("Failed to open device, type:ufs"));
    let (_, response) = firehose(&mut pipe, &ask(8192)).await;
    assert!(response.contains("ACK"), "{response}");
    let (logs, response) = firehose(&mut pipe, "<getstorageinfo physical_partition_number=\"0\" />").await;
    assert!(response.contains("ACK"));
    assert!(logs[0].contains("&quot;total_blocks&quot;:131072, &quot;block_size&quot;:4096"), "{}", logs[0]);
    for bad in ["<erase ", "<nop></nop>", "<unknown />"] {
        let (_, response) = firehose(&mut pipe, bad).await;
        assert!(response.contains("NAK"), "{bad}: {response}");
    }
    let (_, response) = firehose(&mut pipe, "<patch filename=\"DISK\" value=\"0\" />").await;
    assert!(response.contains("ACK"));
}

#[tokio::test(start_paused = true)]
async fn erase_program_and_read_know_their_storage() {
    let rig = Rig::one(RM500Q, &[]).await;
    let mut pipe = loaded(&rig, RM500Q).await;
    let boot = Model::by_name(RM500Q.0).and_then(|model| model.range("fota")).expect("a partition");
    for (start, pages) in [(boot.start + 1, 64), (boot.start, 65)] {
        let (logs, response) = firehose(&mut pipe, &range_xml("erase", 4096, range(start, pages))).await;
        assert!(response.contains("NAK") && logs.iter().any(|log| log.contains("unaligned")), "{logs:?}");
    }
    let (_, response) = firehose(&mut pipe, &range_xml("erase", 2048, range(boot.start, 64))).await;
    assert!(response.contains("NAK"), "another page size: {response}");
    let (_, response) = firehose(&mut pipe, &range_xml("erase", 4096, range(131_008, 128))).await;
    assert!(response.contains("NAK"), "beyond the end: {response}");
    let (_, response) = firehose(&mut pipe, &range_xml("erase", 4096, boot)).await;
    assert!(response.contains("ACK"), "{response}");
    assert!(read(&mut pipe, 4096, range(boot.start, 5)).await.iter().all(|byte| *byte == 0xee), "blank pages");
    let content: Vec<u8> = (0..3 * 4096).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
    assert!(program(&mut pipe, 4096, boot.start, &content).await.contains("ACK"));
    assert_eq!(read(&mut pipe, 4096, range(boot.start, 3)).await, content);
    let spoiled = program(&mut pipe, 4096, boot.start, &content).await;
    assert!(spoiled.contains("NAK"), "pages that are not erased: {spoiled}");
}

#[tokio::test(start_paused = true)]
async fn the_document_s_order_kills_a_module_and_the_safe_order_does_not() {
    let rig = Rig::one(RM500Q, &[]).await;
    let model = Model::by_name(RM500Q.0).expect("a model");
    let sbl = model.range("SBL").expect("a partition");
    let mut pipe = loaded(&rig, RM500Q).await;
    let image = read(&mut pipe, 4096, range(0, 3)).await;
    // Erase first, program last.
    assert!(firehose(&mut pipe, &range_xml("erase", 4096, sbl)).await.1.contains("ACK"));
    assert!(program(&mut pipe, 4096, 0, &image).await.contains("ACK"));
    reset(&mut pipe).await;
    rig.normal().await;
    // As documents have it: program, then erase.
    let mut pipe = loaded(&rig, RM500Q).await;
    assert!(program(&mut pipe, 4096, 0, &image).await.contains("NAK"));
    assert!(firehose(&mut pipe, &range_xml("erase", 4096, sbl)).await.1.contains("ACK"));
    reset(&mut pipe).await;
    rig.edl().await;
    let truth = rig.factory.unit(1).expect("a unit");
    assert!(matches!(truth.inspect().expect("readable").boot, Boot::Edl { .. }));
    let destructive = truth.events().iter().filter(|event| event.is_destructive()).count();
    assert_eq!(destructive, 4);
    assert!(truth.events().iter().any(|event| matches!(event.action, BusAction::Read(_))));
}

pub(crate) async fn reset(pipe: &mut Box<dyn stationmaster::hardware::BulkPipe>) {
    let (_, response) = firehose(pipe, "<power value=\"reset\" />").await;
    assert!(response.contains("ACK"));
    let mut bytes = Vec::new();
    while pipe.in_done(&mut bytes).await.is_ok() {
        let _ = pipe.submit_in(4096);
    }
    assert!(String::from_utf8_lossy(&bytes).contains("bsp_target_reset"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_efs_leaves_a_module_in_factory_test_mode() {
    for (kind, error) in [(EG25, "+CME ERROR: 3"), (RM500Q, "+CME ERROR: 0")] {
        let rig = Rig::one(kind, &[]).await;
        let model = Model::by_name(kind.0).expect("a model");
        let mut pipe = loaded(&rig, kind).await;
        let efs = model.range("EFS2").expect("a partition");
        assert!(firehose(&mut pipe, &range_xml("erase", model.geometry.page_bytes, efs)).await.1.contains("ACK"));
        reset(&mut pipe).await;
        let mut at = rig.ready().await;
        assert!(at.ask("AT+CFUN?").await.contains("+CFUN: 5"));
        assert!(at.ask("AT+CFUN=1").await.contains(error));
        assert!(at.ask("AT+CGSN").await.contains("+CME ERROR"));
    }
}

#[tokio::test(start_paused = true)]
async fn storage_takes_its_time_and_a_pulled_plug_ends_everything() {
    let rig = Rig::one(RM500Q, &[]).await;
    let mut pipe = loaded(&rig, RM500Q).await;
    let fota = Model::by_name(RM500Q.0).and_then(|model| model.range("fota")).expect("a partition");
    assert!(firehose(&mut pipe, &range_xml("erase", 4096, fota)).await.1.contains("ACK"));
    let content = vec![0x5a; 4096 * 1000];
    let before = rig.clock.now();
    assert!(program(&mut pipe, 4096, fota.start, &content).await.contains("ACK"));
    let rate = content.len() as f64 / (rig.clock.now() - before).as_secs_f64();
    assert!((3.5e6..3.9e6).contains(&rate), "{rate} bytes per second");
    let before = rig.clock.now();
    read(&mut pipe, 4096, range(fota.start, 1000)).await;
    let rate = content.len() as f64 / (rig.clock.now() - before).as_secs_f64();
    assert!((4.2e6..4.6e6).contains(&rate), "{rate} bytes per second");
    rig.factory.unplug(&slot("A1")).expect("a slot");
    assert_eq!(pipe.submit_out(b"x"), Err(HardwareError::Gone));
    assert_eq!(pipe.in_done(&mut Vec::new()).await, Err(HardwareError::Gone));
}
