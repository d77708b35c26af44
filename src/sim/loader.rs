//! The programmer: the device side of Firehose.
//!
//! It executes what it is told, in the order in which it is told, and knows nothing about safety; that is the host's
//! business. It is as unforgiving as real programmers: strict about XML, geometry and alignment, silent about what
//! it cannot push (no command is taken before its logs were read), every log and response is a transfer of its own.

use std::future::poll_fn;
use std::time::Duration;

use super::at_commands::Memory;
use super::body::{BusAction, SharedBody};
use super::faults::{Kind, Sign, Strike};
use super::flash_map::FlashMap;
use super::link::Link;
use super::loader_xml::{self as xml, Command};
use super::models::{BannerStyle, Model};
use super::pace::Pace;
use super::world::Attachment;
use crate::domain::PageRange;

/// What one XML command costs besides its work.
const COMMAND_TIME: Duration = Duration::from_millis(1);
/// What an impossible programmer insists on, in bytes.
const IMPOSSIBLE_PAYLOAD: u32 = 1000;
/// Longest delay that `power` takes, in seconds.
const POWER_DELAY_SECONDS_MAX: u64 = 60;

/// How the session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The chip resets.
    Reset,
    /// The chip resets into download mode.
    ResetToEdl,
    /// The module is off until its power is cut.
    Off,
}

/// A running programmer on one cable.
pub(super) struct Loader<'a> {
    pub(super) link: &'a Link,
    pub(super) attachment: &'a Attachment,
    pub(super) pace: &'a mut Pace,
    pub(super) body: SharedBody,
    pub(super) model: &'static Model,
    pub(super) strike: &'a (dyn Fn(Strike) + Send + Sync),
    pub(super) map: FlashMap,
    pub(super) guarded: Vec<PageRange>,
    pub(super) payload_bytes: Option<u32>,
    pub(super) scanned: bool,
}

/// What ends the session, if anything does.
pub(super) type Flow = Option<End>;

impl<'a> Loader<'a> {
    pub(super) fn new(
        link: &'a Link,
        attachment: &'a Attachment,
        pace: &'a mut Pace,
        body: SharedBody,
        strike: &'a (dyn Fn(Strike) + Send + Sync),
    ) -> Self {
        let locked = body.lock();
        let (model, map, guarded) = (locked.model(), locked.flash_map(), locked.guarded());
        drop(locked);
        Self { link, attachment, pace, body, model, strike, map, guarded, payload_bytes: None, scanned: false }
    }

    /// Runs until the module resets.
    pub(super) async fn run(&mut self) -> End {
        self.pace.work(self.model.timing.programmer_start).await;
        self.banner();
        loop {
            let document = self.document().await;
            self.pace.charge(COMMAND_TIME);
            let flow = match Command::parse(&document) {
                Ok(command) => self.execute(&command).await,
                Err(reason) => {
                    self.log(&format!("ERROR: {reason}"));
                    self.nak(&[]);
                    None
                }
            };
            if let Some(end) = flow {
                return end;
            }
        }
    }

    // The cable.

    pub(super) fn log(&self, line: &str) {
        self.say_document(xml::log(line));
    }

    fn ack(&self, attributes: &[(&str, String)]) {
        self.say_document(xml::response(true, attributes));
    }

    pub(super) fn ack_raw(&self, raw: bool) {
        self.ack(&[("rawmode", raw.to_string())]);
    }

    fn nak(&self, attributes: &[(&str, String)]) {
        self.say_document(xml::response(false, attributes));
    }

    pub(super) fn refuse(&self, reason: &str) -> Flow {
        self.log(&format!("ERROR: {reason}"));
        self.nak(&[("rawmode", "false".to_owned())]);
        None
    }

    fn say_document(&self, document: Vec<u8>) {
        let needs_end = document.len().is_multiple_of(self.link.packet_bytes());
        self.link.say(document);
        if needs_end {
            self.link.say(Vec::new());
        }
    }

    pub(super) async fn drained(&self) {
        poll_fn(|context| self.link.poll_drained(context)).await;
    }

    /// The next transfer from the host; none is taken before the host has read what was said.
    pub(super) async fn take(&self) -> Vec<u8> {
        self.drained().await;
        self.pace.settle().await;
        poll_fn(|context| self.link.poll_take(context)).await
    }

    /// One document: the transfers up to a short packet.
    async fn document(&self) -> Vec<u8> {
        let mut document = Vec::new();
        loop {
            let bytes = self.take().await;
            let ends = !bytes.len().is_multiple_of(self.link.packet_bytes()) || bytes.is_empty();
            document.extend(bytes);
            if (ends && !document.is_empty()) || document.len() > xml::DOCUMENT_BYTES_MAX {
                return document;
            }
        }
    }

    pub(super) fn observe(&self, sign: Sign) {
        let strikes = self.body.lock().faults.observe(sign);
        strikes.into_iter().for_each(|strike| (self.strike)(strike));
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.body.lock().faults.has(kind)
    }

    pub(super) fn hits(&self, kind: Kind, place: u64, persists: bool) -> bool {
        self.body.lock().faults.hits(kind, place, persists)
    }

    // The commands.

    fn functions(&self) -> Vec<&'static str> {
        let mut functions = vec![
            "program",
            "read",
            "nop",
            "patch",
            "configure",
            "setbootablestoragedrive",
            "erase",
            "power",
            "firmwarewrite",
            "getstorageinfo",
            "benchmark",
            "emmc",
            "ufs",
            "fixgpt",
            "getsha256digest",
        ];
        if !self.can_read() {
            functions.retain(|function| *function != "read");
        }
        functions
    }

    pub(super) fn can_read(&self) -> bool {
        self.body.lock().programmer_can_read() && !self.has(Kind::ProgrammerCannotRead)
    }

    fn banner(&self) {
        let functions = self.functions();
        let count = functions.len();
        let (build, serial) = {
            let body = self.body.lock();
            (body.programmer_build(), body.chip().serial)
        };
        self.log(&format!("INFO: Binary build date: {build}"));
        self.log(&format!("INFO: Binary build date: {build}."));
        self.log(&format!("INFO: Chip serial num: {serial} (0x{serial:x})"));
        match self.model.banner {
            BannerStyle::Lines => {
                self.log(&format!("INFO: Supported Functions ({count}):"));
                functions.iter().for_each(|function| self.log(&format!("INFO: {function}")));
                self.log(&format!("INFO: End of supported functions {count}"));
            }
            BannerStyle::OneLine => self.log(&format!("INFO: Supported Functions: {} ", functions.join(" "))),
        }
    }

    async fn execute(&mut self, command: &Command) -> Flow {
        match command.name.as_str() {
            "configure" => self.configure(command),
            "nop" => {
                self.observe(Sign::Harmless);
                self.log(&format!("INFO: Supported Functions: {} ", self.functions().join(" ")));
                self.ack_raw(false);
                None
            }
            _ if self.payload_bytes.is_none() => self.refuse("Not configured"),
            "erase" => self.erase(command).await,
            "program" => self.program(command).await,
            "read" => self.read(command).await,
            "getstorageinfo" => self.storage_info(command),
            "power" => self.power(command).await,
            "patch" => {
                self.observe(Sign::Harmless);
                self.ack_raw(false);
                None
            }
            other => self.refuse(&format!("Unsupported command {other}")),
        }
    }

    fn configure(&mut self, command: &Command) -> Flow {
        self.observe(Sign::Harmless);
        let memory = command.get("MemoryName").unwrap_or("nand");
        if !memory.eq_ignore_ascii_case("nand") {
            self.log(&format!("ERROR: Failed to open device, type:{memory}, slot:0, lun:0 error:4"));
            self.nak(&[]);
            return None;
        }
        let supported = if self.has(Kind::PayloadImpossible) { IMPOSSIBLE_PAYLOAD } else { self.model.payload_bytes };
        let asked = match command.get("MaxPayloadSizeToTargetInBytes") {
            None => u64::from(supported),
            Some(_) => command.number("MaxPayloadSizeToTargetInBytes").unwrap_or(0),
        };
        let page = u64::from(self.model.geometry.page_bytes);
        let attributes = |payload: u32| {
            let number = |value: u32| value.to_string();
            [
                ("MemoryName", "nand".to_owned()),
                ("MinVersionSupported", "1".to_owned()),
                ("Version", "1".to_owned()),
                ("MaxPayloadSizeToTargetInBytes", number(payload)),
                ("MaxPayloadSizeToTargetInBytesSupported", number(supported)),
                ("MaxXMLSizeInBytes", number(4096)),
                ("DateTime", "Apr 19 2020 - 17:49:11".to_owned()),
            ]
        };
        match u32::try_from(asked) {
            Ok(asked) if asked <= supported && asked > 0 && u64::from(asked).is_multiple_of(page) => {
                self.payload_bytes = Some(asked);
                self.ack(&attributes(asked));
            }
            _ => self.nak(&attributes(supported)),
        }
        None
    }

    fn storage_info(&self, _command: &Command) -> Flow {
        self.observe(Sign::Harmless);
        let mut geometry = self.model.geometry;
        let mut total = self.model.total_pages;
        if self.has(Kind::GeometryMismatch) {
            let wide = geometry.page_bytes > 2048;
            geometry.page_bytes = if wide { 2048 } else { 4096 };
            total = if wide { total * 2 } else { total / 2 };
        }
        let page = geometry.page_bytes;
        let bad_blocks = match self.has(Kind::BadBlocksUntold) {
            true => String::new(),
            false => format!(", \"bad_blocks\":{}", self.body.lock().bad_blocks()),
        };
        self.log(&format!(
            "INFO: {{\"storage_info\": {{\"total_blocks\":{total}, \"block_size\":{page}, \"page_size\":{page}, \
             \"num_physical\":1, \"manufacturer_id\":44, \"serial_num\":0, \"fw_version\":\"0\", \"mem_type\":\"NAND\", \
             \"prod_name\":\"SIMNAND\", \"pages_per_block\":{}{bad_blocks}}}}}",
            geometry.pages_per_block,
        ));
        self.ack_raw(false);
        None
    }

    async fn power(&mut self, command: &Command) -> Flow {
        let end = match command.get("value") {
            Some("reset") => End::Reset,
            Some("reset_to_edl") => End::ResetToEdl,
            Some("off") => End::Off,
            other => return self.refuse(&format!("power {} unknown", other.unwrap_or("without a value"))),
        };
        let delay = command.number("DelayInSeconds").unwrap_or(0).min(POWER_DELAY_SECONDS_MAX);
        self.ack_raw(false);
        self.log("INFO: Will issue reset/power off 100 useconds, if this hangs check if watchdog is enabled");
        self.log("INFO: bsp_target_reset() 1");
        self.body.lock().note(self.pace.clock().now(), BusAction::Power);
        self.drained().await;
        self.observe(Sign::Reset);
        self.pace.work(Duration::from_secs(delay) + self.model.timing.reset).await;
        Some(end)
    }
}
