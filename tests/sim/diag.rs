//! The DIAG port of a module: what it gives, what it refuses, and when a write is really there.

use std::time::Duration;

use crc::{CRC_16_IBM_SDLC, Crc};
use stationmaster::hardware::{AtPort, HardwareError};
use stationmaster::host::Clock;
use stationmaster::sim::efs::{EfsState, IMEI_PATH, RF_DIRECTORY, is_hidden};
use stationmaster::sim::models::Model;

use crate::edl::{loaded, reset};
use crate::rig::{EG25, RM520N, Rig, firehose, program, range_xml, read, slot};

const UNLOCK: &[u8] = b"\x41000000";
const PASSWORD: &[u8] = &[0x46, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe];
const OFFLINE: &[u8] = &[0x29, 1, 0];
const RESET: &[u8] = &[0x29, 2, 0];
const BAD_MODE: u8 = 0x18;
const BAD_CODE: u8 = 0x42;
const BAD_SECURITY: u8 = 0x47;
const ITEM: &str = "/nv/item_files/test/one";

struct Diag {
    port: Box<dyn AtPort>,
    clock: Clock,
}

fn words(words: &[i32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Diag {
    async fn open(rig: &Rig) -> Self {
        let device = rig.normal().await;
        let port = rig.factory.bus().open_port(&device.key, 0).await.expect("a DIAG port");
        Self { port, clock: rig.clock.clone() }
    }

    /// With code and password.
    async fn trusted(rig: &Rig) -> Self {
        let mut diag = Self::open(rig).await;
        assert_eq!(diag.ask(UNLOCK).await, [0x41, 1]);
        assert_eq!(diag.ask(PASSWORD).await, [0x46, 1]);
        diag
    }

    /// The answer to a command, log frames left out.
    async fn ask(&mut self, payload: &[u8]) -> Vec<u8> {
        let sum = Crc::<u16>::new(&CRC_16_IBM_SDLC).checksum(payload).to_le_bytes();
        let mut frame = Vec::new();
        for byte in payload.iter().chain(&sum) {
            match byte {
                0x7d | 0x7e => frame.extend([0x7d, byte ^ 0x20]),
                byte => frame.push(*byte),
            }
        }
        frame.push(0x7e);
        self.port.write(&frame).await.expect("a write");
        let mut buffer = [0; 8192];
        let mut answer = Vec::new();
        loop {
            let count = self.port.read(&mut buffer).await.expect("a read");
            answer.extend_from_slice(&buffer[..count]);
            while let Some(end) = answer.iter().position(|byte| *byte == 0x7e) {
                let frame: Vec<u8> = answer.drain(..=end).collect();
                let mut plain = Vec::new();
                let mut bytes = frame[..end].iter();
                while let Some(byte) = bytes.next() {
                    plain.push(if *byte == 0x7d { bytes.next().expect("an escaped byte") ^ 0x20 } else { *byte });
                }
                plain.truncate(plain.len() - 2);
                if plain[0] != 0x10 {
                    return plain;
                }
            }
        }
    }

    /// The body of an answer of the file system.
    async fn efs(&mut self, operation: u8, parts: &[&[u8]]) -> Vec<u8> {
        let head = [0x4b, 0x13, operation, 0];
        let answer = self.ask(&[&head, parts.concat().as_slice()].concat()).await;
        answer.strip_prefix(&head).unwrap_or_else(|| panic!("{answer:02x?}")).to_vec()
    }

    async fn path(&mut self, operation: u8, path: &str) -> Vec<u8> {
        self.efs(operation, &[path.as_bytes(), &[0]]).await
    }

    /// Writes an item file; the error number.
    async fn put(&mut self, path: &str, data: &[u8]) -> i16 {
        let length = u16::try_from(data.len()).expect("short").to_le_bytes();
        let head: [&[u8]; 4] = [&length, &[0, 0], &words(&[0x8_0241]), &[0xff, 0xe1]];
        let body = self.efs(38, &[&head.concat(), data, path.as_bytes(), &[0]]).await;
        i16::from_le_bytes([body[2], body[3]])
    }

    /// Reads or writes an NV item of the module; status and content.
    async fn nv(&mut self, command: u8, item: u16, data: &[u8]) -> (u16, Vec<u8>) {
        let mut content = data.to_vec();
        content.resize(128, 0);
        let answer = self.ask(&[&[command], item.to_le_bytes().as_slice(), &content, &[0, 0]].concat()).await;
        assert_eq!((answer.len(), answer[0]), (133, command), "{answer:02x?}");
        (u16::from_le_bytes([answer[131], answer[132]]), answer[3..131].to_vec())
    }

    async fn sync(&mut self) {
        let body = self.efs(48, &[&[7, 0], b"/\0"]).await;
        assert_eq!((&body[..2], &body[6..]), ([7, 0].as_slice(), [0, 0, 0, 0].as_slice()));
        for _ in 0..100 {
            let status = self.efs(49, &[&[7, 0], &body[2..6], b"/\0"]).await;
            if status[2] == 0 {
                return;
            }
            self.clock.sleep(Duration::from_millis(100)).await;
        }
        panic!("the journal is never written down");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_without_the_code_and_offline_and_no_file_seen_without_the_password() {
    let rig = Rig::one(EG25, &[]).await;
    let mut diag = Diag::open(&rig).await;
    let write = [&[0x27, 0xe9, 0x03], [1; 128].as_slice(), &[0, 0]].concat();
    let hello = [0x4b, 0x13, 0, 0];
    assert_eq!(diag.ask(&write).await[0], BAD_CODE);
    assert_eq!(diag.ask(&hello).await, [&[BAD_SECURITY], hello.as_slice()].concat());
    assert_eq!(diag.ask(b"\x41123456").await, [0x41, 0]);
    assert_eq!(diag.ask(UNLOCK).await, [0x41, 1]);
    assert_eq!(diag.ask(&write).await[0], BAD_MODE);
    assert_eq!(diag.ask(OFFLINE).await, OFFLINE);
    assert_eq!(rig.factory.unit(1).expect("a unit").cfun(), 7);
    assert_eq!(diag.nv(0x27, 1001, &[1; 128]).await.0, 0);
    assert_eq!(diag.ask(&[0x29, 4, 0]).await[0], BAD_MODE, "only a restart leads out of it");
    let imei = diag.nv(0x26, 550, &[]).await;
    assert_eq!(imei.0, 0);
    let truth = rig.factory.unit(1).expect("a unit").inspect().expect("readable");
    assert_eq!(Some(&imei.1[..9]), truth.items.get(IMEI_PATH));
    assert_eq!(diag.nv(0x27, 550, &imei.1).await.0, 7, "it is there");
    assert_eq!(diag.nv(0x26, 1002, &[]).await.0, 5);
    assert_eq!(diag.nv(0x27, 1002, &[]).await.0, 8);
    assert_eq!(diag.ask(PASSWORD).await, [0x46, 1]);
    assert_eq!(diag.path(39, IMEI_PATH).await, words(&[-1, 13]), "an NV item is no file");
}

#[tokio::test(start_paused = true)]
async fn few_things_are_open_at_a_time_and_hidden_items_answer_to_their_names() {
    for (kind, dots) in [(EG25, false), (RM520N, true)] {
        let rig = Rig::one(kind, &[]).await;
        let mut diag = Diag::trusted(&rig).await;
        let truth = rig.factory.unit(1).expect("a unit").inspect().expect("readable");
        let directory = RF_DIRECTORY.trim_end_matches('/');
        assert_eq!(diag.path(11, directory).await, words(&[1, 0]));
        assert_eq!(diag.path(11, "/").await, words(&[2, 0]));
        assert_eq!(diag.path(11, "/").await, words(&[-1, 13]));
        assert_eq!(diag.efs(13, &[&words(&[2])]).await, words(&[0]));
        assert_eq!(diag.efs(13, &[&words(&[2])]).await, words(&[9]));
        let mut names = Vec::new();
        for sequence in 1.. {
            let body = diag.efs(12, &[&words(&[1, sequence])]).await;
            assert_eq!(body[..12], words(&[1, sequence, 0]));
            let name = std::str::from_utf8(&body[36..body.len() - 1]).expect("text").to_owned();
            if name.is_empty() {
                break;
            }
            names.push(name);
        }
        assert_eq!(names.iter().any(|name| name == ".."), dots);
        let all: Vec<&str> = truth.items.below(RF_DIRECTORY).map(|(path, _)| path).collect();
        let hidden: Vec<&&str> = all.iter().filter(|path| is_hidden(path)).collect();
        assert_eq!(names.len() - if dots { 2 } else { 0 }, all.len() - hidden.len());
        assert!(!hidden.is_empty());
        for path in hidden {
            let content = truth.items.get(path).expect("an item");
            let length = i32::try_from(content.len()).expect("short");
            assert_eq!(diag.path(39, path).await, [&words(&[length, 0]), content].concat());
            assert_eq!(diag.path(15, path).await[..12], words(&[0, 0o160_777, length]));
            assert_eq!(diag.efs(2, &[&words(&[0, 0]), path.as_bytes(), &[0]]).await, words(&[-1, 13]), "no file");
        }
        let subsystem = diag.ask(&[0x4b, 0x3e, 1, 0]).await;
        assert_eq!(subsystem[0] == 0x4b, dots, "the other number of the file system");
        for handle in 0..4 {
            let open = diag.efs(2, &[&words(&[0, 0]), b"/quectel/profile\0"]).await;
            assert_eq!(open, words(&[handle, 0]));
        }
        assert_eq!(diag.efs(2, &[&words(&[0, 0]), b"/quectel/profile\0"]).await, words(&[-1, 24]));
        let read = diag.efs(4, &[&words(&[3, 1024, 1024])]).await;
        assert_eq!(read[..16], words(&[3, 1024, 1024, 0]));
        assert_eq!(&read[16..], &truth.items.get("/quectel/profile").expect("a file")[1024..2048]);
        assert_eq!(diag.efs(4, &[&words(&[3, 1025, 0])]).await, words(&[3, 0, -1, 22]), "1 KiB");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_written_down_is_lost_with_the_power() {
    let rig = Rig::one(EG25, &[]).await;
    let item = || rig.factory.unit(1).expect("a unit").inspect().expect("readable").items.get(ITEM).map(<[u8]>::to_vec);
    let mut diag = Diag::trusted(&rig).await;
    let changes =
        || rig.factory.unit(1).expect("a unit").events().iter().filter(|event| event.is_destructive()).count();
    assert_eq!(changes(), 0);
    assert_eq!(diag.put(ITEM, &[1]).await, 0);
    assert_eq!(changes(), 1);
    assert_eq!(diag.path(39, ITEM).await, [&words(&[1, 0]), [1].as_slice()].concat(), "the modem sees it at once");
    assert_eq!(item(), None);
    rig.factory.unplug(&slot("A1")).expect("a unit");
    rig.factory.plug(1, &slot("A1")).expect("a slot");
    let mut diag = Diag::trusted(&rig).await;
    assert_eq!(diag.path(39, ITEM).await, words(&[-1, 2]));

    assert_eq!(diag.put(ITEM, &[2]).await, 0);
    diag.sync().await;
    assert_eq!(item(), Some(vec![2]));
    assert_eq!(diag.put(ITEM, &[3]).await, 0);
    rig.clock.sleep(Duration::from_secs(40)).await;
    assert_eq!(item(), Some(vec![3]), "nobody asked for it, and it was written down");
    assert_eq!(diag.put(ITEM, &[4]).await, 0);
    assert_eq!(diag.ask(RESET).await, RESET);
    assert_eq!(diag.port.read(&mut [0; 8]).await, Err(HardwareError::Gone));
    let mut diag = Diag::trusted(&rig).await;
    assert_eq!(diag.path(39, ITEM).await, [&words(&[1, 0]), [3].as_slice()].concat());
    assert_eq!(rig.factory.unit(1).expect("a unit").cfun(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_journal_full_of_nv_items_takes_no_files_until_it_was_written_down() {
    let rig = Rig::one(RM520N, &[]).await;
    let mut diag = Diag::trusted(&rig).await;
    diag.ask(OFFLINE).await;
    let items: Vec<u16> = (0..100).map(|number| 1001 + 7 * number).collect();
    for item in &items {
        assert_eq!(diag.nv(0x27, *item, &[9; 128]).await.0, 0);
    }
    assert_eq!(diag.put(ITEM, &[1]).await, 28);
    let begun = diag.efs(48, &[&[1, 0], b"/\0"]).await;
    assert_eq!(diag.put(ITEM, &[1]).await, 28, "it was begun only");
    assert_eq!(diag.efs(49, &[&[1, 0], &begun[2..6], b"/\0"]).await[2], 1);
    diag.sync().await;
    assert_eq!(diag.put(ITEM, &[1]).await, 0);
    let truth = rig.factory.unit(1).expect("a unit").inspect().expect("readable");
    for item in items {
        let content = truth.items.get(&format!("/nvm/num/{item}")).expect("an item");
        assert!(content.iter().all(|byte| *byte == 9), "{item}");
    }
}

#[tokio::test(start_paused = true)]
async fn files_and_directories_are_made_and_removed() {
    let rig = Rig::one(EG25, &[]).await;
    let mut diag = Diag::trusted(&rig).await;
    let open = |flags: i32, path: &str| [&words(&[flags, 0o644]), path.as_bytes(), &[0]].concat();
    assert_eq!(diag.efs(2, &[&open(0x241, "/new/file")]).await, words(&[-1, 2]), "its directory is missing");
    assert_eq!(diag.efs(9, &[&[0xed, 1], b"/new\0"]).await, words(&[0]));
    assert_eq!(diag.efs(9, &[&[0xed, 1], b"/new\0"]).await, words(&[17]));
    assert_eq!(diag.efs(2, &[&open(0x241, "/new/file")]).await, words(&[0, 0]));
    let content: Vec<u8> = (0..2500_u32).map(|number| number.to_le_bytes()[0]).collect();
    for (offset, piece) in (0..).step_by(1024).zip(content.chunks(1024)) {
        let length = i32::try_from(piece.len()).expect("short");
        assert_eq!(diag.efs(5, &[&words(&[0, offset]), piece]).await, words(&[0, offset, length, 0]));
    }
    assert_eq!(diag.efs(3, &[&words(&[0])]).await, words(&[0]));
    assert_eq!(diag.efs(3, &[&words(&[0])]).await, words(&[9]));
    diag.sync().await;
    let truth = || rig.factory.unit(1).expect("a unit").inspect().expect("readable").items;
    assert_eq!(truth().get("/new/file"), Some(content.as_slice()));
    assert_eq!(diag.path(8, "/new/file").await, words(&[0]));
    assert_eq!(diag.path(8, "/new/file").await, words(&[2]));
    diag.sync().await;
    assert_eq!((truth().get("/new/file"), truth().kind("/new").is_some()), (None, true));
}

#[tokio::test(start_paused = true)]
async fn an_erase_loses_everything_and_a_raw_restore_brings_it_back() {
    for kind in [EG25, RM520N] {
        let rig = Rig::one(kind, &[]).await;
        let model = Model::by_name(kind.0).expect("a model");
        let page_bytes = model.geometry.page_bytes;
        let efs = model.range("EFS2").expect("a partition");
        let mut diag = Diag::trusted(&rig).await;
        let unit = rig.factory.unit(1).expect("a unit");
        diag.ask(OFFLINE).await;
        assert_eq!(diag.nv(0x27, 1008, &[0x42; 128]).await.0, 0);
        assert_eq!(diag.put(ITEM, b"mine").await, 0);
        diag.sync().await;
        let imei = diag.nv(0x26, 550, &[]).await;
        drop(diag);
        let before = unit.inspect().expect("readable");

        let mut pipe = loaded(&rig, kind).await;
        let image = read(&mut pipe, page_bytes, efs).await;
        assert!(firehose(&mut pipe, &range_xml("erase", page_bytes, efs)).await.1.contains("ACK"));
        reset(&mut pipe).await;
        let mut diag = Diag::trusted(&rig).await;
        assert_eq!(unit.cfun(), 5);
        assert_eq!(diag.nv(0x26, 550, &[]).await.0, 5, "not active");
        assert_eq!(diag.path(39, model.rf_items[0]).await, words(&[-1, 2]));
        assert_eq!(diag.path(39, ITEM).await, words(&[-1, 2]));
        drop(diag);

        let mut pipe = loaded(&rig, kind).await;
        assert!(firehose(&mut pipe, &range_xml("erase", page_bytes, efs)).await.1.contains("ACK"));
        let page = page_bytes as usize;
        let block = page * model.geometry.pages_per_block as usize;
        for (number, block) in (0..).zip(image.chunks(block)) {
            let is_blank = |page: &[u8]| page.iter().all(|byte| *byte == 0xff) || page.iter().all(|byte| *byte == 0xee);
            let Some(last) = block.chunks(page).rposition(|page| !is_blank(page)) else { continue };
            let start = efs.start + number * u64::from(model.geometry.pages_per_block);
            assert!(program(&mut pipe, page_bytes, start, &block[..(last + 1) * page]).await.contains("ACK"));
        }
        reset(&mut pipe).await;
        let mut diag = Diag::trusted(&rig).await;
        let after = unit.inspect().expect("readable");
        assert_eq!((after.efs, &after.imei, unit.cfun()), (EfsState::Present, &before.imei, 1));
        assert_eq!(after.efs_digest, before.efs_digest);
        assert_eq!(diag.nv(0x26, 550, &[]).await, imei);
        assert!(diag.nv(0x26, 1008, &[]).await.1.starts_with(&[0x42; 4]));
        assert_eq!(diag.path(39, ITEM).await, [&words(&[4, 0]), b"mine".as_slice()].concat());
    }
}
