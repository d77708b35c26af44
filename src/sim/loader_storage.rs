//! The programmer's work on storage: erase, program, read.
//!
//! Pages are addressed as if no block were bad; the module's partition map finds the good ones. Time is charged per
//! chunk at the storage's speed, and the next chunk is taken only when the last one is on its way into the pages, so
//! no host runs ahead of a module.

use std::time::Duration;

use super::body::BusAction;
use super::faults::{Kind, Sign};
use super::loader::{Flow, Loader};
use super::loader_xml::Command;
use super::pace::transfer_time;
use super::stage::Moment;
use crate::domain::{Geometry, PageRange};

/// What one log line of an endless stream costs.
const LOG_TIME: Duration = Duration::from_micros(100);
/// Chunks between two zero-length packets of a read.
const CHUNKS_PER_ZERO_PACKET: u64 = 3;

impl Loader<'_> {
    /// The command's range, checked against the storage's geometry; the whole storage where it names none.
    fn range(&self, command: &Command) -> Result<PageRange, String> {
        let Geometry { page_bytes, pages_per_block } = self.model.geometry;
        for (name, expected) in [("SECTOR_SIZE_IN_BYTES", page_bytes), ("PAGES_PER_BLOCK", pages_per_block)] {
            match (command.get(name), command.number(name)) {
                (None, _) if name == "PAGES_PER_BLOCK" => {}
                (_, Some(found)) if found == u64::from(expected) => {}
                (found, _) => return Err(format!("{name} {} does not match {expected}", found.unwrap_or("missing"))),
            }
        }
        let range = match (command.get("start_sector"), command.get("num_partition_sectors")) {
            (None, None) => PageRange { start: 0, pages: self.model.total_pages },
            _ => PageRange {
                start: command.number("start_sector").ok_or("start_sector is no number")?,
                pages: command.number("num_partition_sectors").ok_or("num_partition_sectors is no number")?,
            },
        };
        match range.start.checked_add(range.pages) {
            Some(end) if end <= self.model.total_pages && range.pages > 0 => Ok(range),
            _ => Err(format!("sectors {} + {} are not on the device", range.start, range.pages)),
        }
    }

    /// Says which bad blocks a command steps over.
    fn name_bad_blocks(&self, range: PageRange) {
        if self.has(Kind::BadBlocksUntold) {
            return;
        }
        let bad = self.body.lock().bad_blocks_in(range);
        bad.into_iter().for_each(|block| self.log(&format!("INFO: NAND bad block skipped: {block}")));
    }

    async fn scan(&mut self) {
        if std::mem::replace(&mut self.scanned, true) {
            self.log("INFO: NAND was previously open, returning existing handle 0.");
            return;
        }
        let blocks = self.model.total_blocks();
        self.log(&format!("INFO: [296] bbt_size:{} blocks:{blocks}.", blocks / 8));
        self.pace.work(self.model.timing.first_erase).await;
    }

    pub(super) async fn erase(&mut self, command: &Command) -> Flow {
        self.log("INFO: Calling handler for erase");
        if command.get("vendor").is_some() && command.get("start_sector").is_none() {
            // The vendor's own element carries no range of ours; real programmers acknowledge it.
            self.ack_raw(false);
            return None;
        }
        let range = match self.range(command) {
            Ok(range) => range,
            Err(reason) => return self.refuse(&reason),
        };
        let block = u64::from(self.model.geometry.pages_per_block);
        if !range.start.is_multiple_of(block) || !range.pages.is_multiple_of(block) {
            self.log(&format!("INFO: start_sector = {} and num_partition_sectors =0x{:x})", range.start, range.pages));
            return self.refuse("start_sector unaligned");
        }
        self.scan().await;
        if self.hits(Kind::EraseNak, range.start, true) {
            self.log("WARN: [205]NAND Error -2 (4)");
            return self.refuse("Erase failed");
        }
        self.body.lock().note(self.pace.clock().now(), BusAction::Erase(range));
        self.name_bad_blocks(range);
        self.log(&format!("INFO: Erasing start sector {}, num sectors 0", range.start));
        self.stop(Moment::Begin).await;
        let half = range.pages / block / 2 * block;
        let first = PageRange { start: range.start, pages: half };
        let second = PageRange { start: range.start + half, pages: range.pages - half };
        for (part, moment) in [(first, Moment::Middle), (second, Moment::End)] {
            if part.pages > 0 {
                let erased = self.body.lock().erase(&self.map, part);
                match erased {
                    Ok(erased) => {
                        let blocks = u32::try_from(erased.blocks).unwrap_or(u32::MAX);
                        self.pace.charge(self.model.timing.erase_block.saturating_mul(blocks));
                    }
                    Err(reason) => return self.refuse(&format!("Erase failed: {reason}")),
                }
            }
            if moment == Moment::End {
                self.pace.settle().await;
                self.body.lock().settle_storage();
            }
            self.stop(moment).await;
        }
        if self.hits(Kind::EfsWiped, range.start, false) {
            self.body.lock().lose_efs();
        }
        self.observe(Sign::Destructive);
        self.ack_raw(false);
        None
    }

    pub(super) async fn program(&mut self, command: &Command) -> Flow {
        self.log("INFO: Calling handler for program");
        let range = match self.range(command) {
            Ok(range) => range,
            Err(reason) => return self.refuse(&reason),
        };
        self.name_bad_blocks(range);
        self.ack_raw(true);
        let page_bytes = usize::try_from(self.model.geometry.page_bytes).unwrap_or(usize::MAX);
        let payload = usize::try_from(self.payload_bytes.unwrap_or(self.model.payload_bytes)).unwrap_or(0);
        let silent = self.hits(Kind::SilenceInProgram, range.start, false)
            || self.hits(Kind::SilenceInProgramAlways, range.start, true);
        let refused =
            self.hits(Kind::ProgramNak, range.start, true) || self.hits(Kind::ProgramNakOnce, range.start, false);
        self.body.lock().note(self.pace.clock().now(), BusAction::Program(range));
        let mut failure: Option<String> = None;
        let mut pending: Vec<u8> = Vec::with_capacity(payload + page_bytes);
        let mut page = 0;
        let half = range.pages / 2;
        let mut observed = false;
        let mut is_half = false;
        self.stop(Moment::Begin).await;
        while page < range.pages {
            let bytes = self.take().await;
            if bytes.len() > payload {
                return self.refuse(&format!("{} bytes are more than the payload of {payload}", bytes.len()));
            }
            self.pace.charge(transfer_time(bytes.len() as u64, self.model.timing.write_bytes_per_second));
            self.pace.not_before(self.attachment.carry(bytes.len()));
            pending.extend(bytes);
            let whole = pending.len() / page_bytes;
            if page + whole as u64 > range.pages
                || (page + whole as u64 == range.pages && !pending.len().is_multiple_of(page_bytes))
            {
                return self.refuse("more bytes than announced");
            }
            if failure.is_none() && whole > 0 {
                let start = range.start + page;
                failure = self.body.lock().program(&self.map, start, &pending[..whole * page_bytes]).err();
            }
            page += whole as u64;
            pending.drain(..whole * page_bytes);
            if page > half && !std::mem::replace(&mut is_half, true) {
                self.stop(Moment::Middle).await;
            }
            if page > half && !std::mem::replace(&mut observed, true) {
                if silent {
                    std::future::pending::<()>().await;
                }
                self.observe(Sign::Destructive);
            }
        }
        self.pace.settle().await;
        self.body.lock().settle_storage();
        self.stop(Moment::End).await;
        if refused {
            failure = Some("Write Failed sector 0, size 0 result 2".to_owned());
        }
        if let Some(reason) = failure {
            return self.refuse(&reason);
        }
        if self.hits(Kind::EndlessLogs, range.start, true) {
            self.log_for_ever().await;
        }
        let table = self.body.lock().programmed(range);
        self.map = table.unwrap_or_else(|| self.map.clone());
        self.ack_raw(false);
        None
    }

    /// Stands still where a test wants it to.
    async fn stop(&self, moment: Moment) {
        let stop = self.body.lock().stage.stop_at(moment);
        if let Some(stop) = stop {
            stop.stand().await;
        }
    }

    async fn log_for_ever(&mut self) {
        loop {
            self.drained().await;
            self.log("INFO: nand_program_page retry");
            self.pace.work(LOG_TIME).await;
            // Without a scaled or virtual wait in between, a host that reads at once would starve everyone else.
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn read(&mut self, command: &Command) -> Flow {
        if !self.can_read() {
            return self.refuse("Unsupported command read");
        }
        let range = match self.range(command) {
            Ok(range) => range,
            Err(reason) => return self.refuse(&reason),
        };
        let overlaps = |other: &PageRange| other.start < range.end() && range.start < other.end();
        let guarded = self.guarded.iter().any(overlaps);
        if !guarded {
            self.observe(Sign::Harmless);
        }
        self.name_bad_blocks(range);
        self.body.lock().note(self.pace.clock().now(), BusAction::Read(range));
        self.ack_raw(true);
        self.link.say(Vec::new());
        let page_bytes = usize::try_from(self.model.geometry.page_bytes).unwrap_or(usize::MAX);
        let payload = usize::try_from(self.payload_bytes.unwrap_or(self.model.payload_bytes)).unwrap_or(0);
        let pages_per_chunk = u64::try_from((payload / page_bytes).max(1)).unwrap_or(1);
        let mut page = 0;
        let mut chunks = 0;
        let mut observed = !guarded;
        let mut differs = guarded && self.hits(Kind::ReadsDiffer, range.start, false);
        while page < range.pages {
            let end = (page + pages_per_chunk).min(range.pages);
            let mut chunk = vec![0; usize::try_from(end - page).unwrap_or_default() * page_bytes];
            for buffer in chunk.chunks_exact_mut(page_bytes) {
                if let Err(reason) = self.read_page(range.start + page, buffer) {
                    return self.refuse(&reason);
                }
                page += 1;
            }
            if std::mem::take(&mut differs) {
                chunk[0] ^= 1;
            }
            self.pace.charge(transfer_time(chunk.len() as u64, self.model.timing.read_bytes_per_second));
            self.pace.not_before(self.attachment.carry(chunk.len()));
            self.drained().await;
            self.pace.settle().await;
            self.link.say(chunk);
            chunks += 1;
            if chunks % CHUNKS_PER_ZERO_PACKET == 0 || page == range.pages {
                self.link.say(Vec::new());
            }
            if page > range.pages / 2 && !std::mem::replace(&mut observed, true) {
                self.observe(Sign::GuardedRead);
            }
        }
        self.drained().await;
        self.ack_raw(false);
        None
    }

    fn read_page(&self, page: u64, buffer: &mut [u8]) -> Result<(), String> {
        if !self.body.lock().read(&self.map, page, buffer)? {
            buffer.fill(self.model.blank_read);
        }
        Ok(())
    }
}
