//! A small fixture, and the host's side of the wire in as few lines as possible. It shares no code with the
//! product's protocol machines: the bytes are written out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stationmaster::domain::{PageRange, SlotName};
use stationmaster::hardware::{AtPort, BulkPipe, DeviceMode, DeviceRecord, HardwareError, PipeExt};
use stationmaster::host::{Clock, Disk, MemoryDisk, Random};
use stationmaster::sim::{Factory, FactorySpec, FaultSpec, Flash, OperatorSpec, Pacing, SimSlot, UnitKind};

pub(crate) const EG25: (&str, &str) = ("EG25-G", "EG25GGBR07A07M2G_01.001.01.001");
pub(crate) const RM500Q: (&str, &str) = ("RM500Q-GL", "RM500QGLABR11A06M4G_01.201.01.201");
pub(crate) const RM520N: (&str, &str) = ("RM520N-GL", "RM520NGLAAR03A02M4G_01.200.01.200");

pub(crate) struct Rig {
    pub(crate) factory: Factory,
    pub(crate) clock: Clock,
}

pub(crate) fn slot(name: &str) -> SlotName {
    name.parse().expect("a slot name")
}

/// Slots A1.. on one hub, each with both sides.
pub(crate) fn spec(kinds: &[(&str, &str)], slots: u8) -> FactorySpec {
    let place = |port: u8| SimSlot {
        name: slot(&format!("A{port}")),
        usb2: format!("pci-0000:00:14.0/usb2/1.{port}").parse().expect("a chain"),
        usb3: Some(format!("pci-0000:00:14.0/usb3/2.{port}").parse().expect("a chain")),
    };
    FactorySpec {
        seed: 7,
        slots: (1..=slots).map(place).collect(),
        units: kinds
            .iter()
            .map(|(model, revision)| UnitKind {
                model: (*model).to_owned(),
                revision: (*revision).to_owned(),
                slots: None,
            })
            .collect(),
        operator: OperatorSpec {
            insert_after: Duration::from_secs(1),
            remove_after: Duration::from_secs(1),
            units: None,
        },
        faults: Vec::new(),
        pacing: Pacing::Real,
        flash: Flash::Memory,
        full_speed: false,
        state: PathBuf::from("/state"),
    }
}

pub(crate) fn fault(name: &str) -> FaultSpec {
    FaultSpec { fault: name.to_owned(), unit: 1, step: None, after: None }
}

impl Rig {
    pub(crate) async fn start(spec: FactorySpec) -> Self {
        Self::start_on(spec, Arc::new(MemoryDisk::new())).await
    }

    pub(crate) async fn start_on(spec: FactorySpec, disk: Arc<dyn Disk>) -> Self {
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a timestamp"));
        let factory = Factory::start(spec, clock.clone(), disk, Random::seeded(1)).await.expect("a factory");
        Self { factory, clock }
    }

    pub(crate) async fn one(kind: (&str, &str), faults: &[FaultSpec]) -> Self {
        Self::start(FactorySpec { faults: faults.to_vec(), ..spec(&[kind], 1) }).await
    }

    /// Waits for a device of a kind on the first slot's port.
    pub(crate) async fn device(&self, fits: impl Fn(&DeviceRecord) -> bool) -> DeviceRecord {
        for _ in 0..2000 {
            let listing = self.factory.bus().list().await.expect("a listing");
            if let Some(found) = listing.devices.into_iter().find(|device| fits(device)) {
                return found;
            }
            self.clock.sleep(Duration::from_millis(100)).await;
        }
        panic!("no such device within 200 s");
    }

    pub(crate) async fn normal(&self) -> DeviceRecord {
        self.device(|device| matches!(device.mode(), DeviceMode::Normal(_))).await
    }

    pub(crate) async fn edl(&self) -> DeviceRecord {
        self.device(|device| matches!(device.mode(), DeviceMode::Edl { .. })).await
    }

    pub(crate) async fn at(&self) -> At {
        let device = self.normal().await;
        At { port: self.factory.bus().open_port(&device.key, 2).await.expect("an AT port"), clock: self.clock.clone() }
    }

    /// An AT port of a module that is ready.
    pub(crate) async fn ready(&self) -> At {
        let mut at = self.at().await;
        self.clock.sleep(Duration::from_secs(8)).await;
        at.ask("ATE0").await;
        at
    }

    pub(crate) async fn enter_edl(&self) -> Box<dyn BulkPipe> {
        let device = self.normal().await;
        let mut port = self.factory.bus().open_port(&device.key, 0).await.expect("a DIAG port");
        let frame = [0x4b, 0x65, 0x01, 0x00, 0x54, 0x0f, 0x7e];
        port.write(&frame).await.expect("a write");
        let mut echo = [0; 64];
        let count = port.read(&mut echo).await.expect("an echo");
        assert_eq!(&echo[..count], frame);
        assert_eq!(port.read(&mut echo).await, Err(HardwareError::Gone));
        self.open_edl().await
    }

    pub(crate) async fn open_edl(&self) -> Box<dyn BulkPipe> {
        let device = self.edl().await;
        let mut pipe = self.factory.bus().open_bulk(&device.key, 0).await.expect("a pipe");
        for _ in 0..4 {
            pipe.submit_in(16_384).expect("an IN transfer");
        }
        pipe
    }
}

/// An AT port.
pub(crate) struct At {
    pub(crate) port: Box<dyn AtPort>,
    clock: Clock,
}

impl At {
    /// Everything that comes within a second after a command.
    pub(crate) async fn ask(&mut self, command: &str) -> String {
        self.port.write(format!("{command}\r").as_bytes()).await.expect("a write");
        self.listen(Duration::from_secs(1)).await
    }

    pub(crate) async fn listen(&mut self, time: Duration) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 512];
        let until = self.clock.now() + time;
        while let Ok(Ok(count)) =
            self.clock.timeout(until.saturating_sub(self.clock.now()), self.port.read(&mut buffer)).await
        {
            bytes.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// One IN transfer, replaced by a new one.
pub(crate) async fn receive(pipe: &mut Box<dyn BulkPipe>) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipe.in_done(&mut bytes).await.expect("an IN transfer");
    let _ = pipe.submit_in(16_384);
    bytes
}

pub(crate) async fn send(pipe: &mut Box<dyn BulkPipe>, bytes: &[u8]) {
    pipe.submit_out(bytes).expect("an OUT transfer");
    pipe.out_done().await.expect("an OUT transfer");
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Command mode and image transfer; what the chip said of itself.
pub(crate) async fn sahara(pipe: &mut Box<dyn BulkPipe>, programmer: &[u8]) -> Result<Vec<(u64, u64)>, Vec<u8>> {
    let hello = receive(pipe).await;
    assert_eq!(hello[..8], [1, 0, 0, 0, 0x30, 0, 0, 0]);
    send(pipe, &words(&[2, 0x30, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0])).await;
    let mut asked = Vec::new();
    loop {
        let packet = receive(pipe).await;
        let word = |at: usize| u32::from_le_bytes(packet[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(packet[at..at + 8].try_into().expect("eight bytes"));
        let (offset, length) = match word(0) {
            3 => (u64::from(word(12)), u64::from(word(16))),
            0x12 => (long(16), long(24)),
            4 if word(12) == 0 => break,
            _ => return Err(packet),
        };
        asked.push((offset, length));
        let (from, to) = (usize::try_from(offset).expect("small"), usize::try_from(offset + length).expect("small"));
        send(pipe, &programmer[from..to]).await;
    }
    send(pipe, &words(&[5, 8])).await;
    assert_eq!(receive(pipe).await[..8], [6, 0, 0, 0, 12, 0, 0, 0]);
    Ok(asked)
}

/// The rest of the programmer's banner.
pub(crate) async fn banner(pipe: &mut Box<dyn BulkPipe>) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let line = String::from_utf8(receive(pipe).await).expect("text");
        let last = line.contains("End of supported functions") || line.contains("Supported Functions: ");
        lines.push(line);
        if last {
            return lines;
        }
    }
}

pub(crate) fn document(command: &str) -> Vec<u8> {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n{command}\n</data>\n").into_bytes()
}

/// A command; the logs and the response.
pub(crate) async fn firehose(pipe: &mut Box<dyn BulkPipe>, command: &str) -> (Vec<String>, String) {
    send(pipe, &document(command)).await;
    answer(pipe).await
}

pub(crate) async fn answer(pipe: &mut Box<dyn BulkPipe>) -> (Vec<String>, String) {
    let mut logs = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&receive(pipe).await).into_owned();
        if text.contains("<response ") {
            return (logs, text);
        }
        if !text.is_empty() {
            logs.push(text);
        }
    }
}

pub(crate) fn range_xml(tag: &str, page_bytes: u32, range: PageRange) -> String {
    format!(
        "<{tag} PAGES_PER_BLOCK=\"64\" SECTOR_SIZE_IN_BYTES=\"{page_bytes}\" num_partition_sectors=\"{}\" \
         physical_partition_number=\"0\" start_sector=\"{}\" />",
        range.pages, range.start
    )
}

/// Reads a range as the programmer gives it.
pub(crate) async fn read(pipe: &mut Box<dyn BulkPipe>, page_bytes: u32, range: PageRange) -> Vec<u8> {
    let (_, response) = firehose(pipe, &range_xml("read", page_bytes, range)).await;
    assert!(response.contains("rawmode=\"true\""), "{response}");
    let wanted = usize::try_from(range.pages).expect("small") * page_bytes as usize;
    let mut bytes = Vec::new();
    while bytes.len() < wanted {
        bytes.extend(receive(pipe).await);
    }
    assert_eq!(bytes.len(), wanted);
    let (_, response) = answer(pipe).await;
    assert!(response.contains("ACK"), "{response}");
    bytes
}

/// Programs a range; the last response.
pub(crate) async fn program(pipe: &mut Box<dyn BulkPipe>, page_bytes: u32, start: u64, content: &[u8]) -> String {
    let range = PageRange { start, pages: (content.len() / page_bytes as usize) as u64 };
    let (_, response) = firehose(pipe, &range_xml("program", page_bytes, range)).await;
    assert!(response.contains("rawmode=\"true\""), "{response}");
    for chunk in content.chunks(8192) {
        send(pipe, chunk).await;
    }
    answer(pipe).await.1
}
