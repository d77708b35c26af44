//! The phase `flash`: the only place from which commands go out that change a module.
//!
//! Every such command takes an [`Authority`] and is refused when the announced plan does not contain it; those that write
//! what belongs to the unit take a [`RestoreAuthority`]. The order
//! is the plan's: the boot loader is erased first and written last, after everything else was compared with the
//! package, so that a module whose flash is cut off at any moment wakes up in download mode. That is why a restore is
//! part of a flash: a module that started from half an EFS would make a new, empty one and copy it over its second copy.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::backup::Authority;
use super::board::Progress;
use super::edl::{Bound, unchanged, unreadable};
use super::failure::{Failure, RunError, SessionError};
use super::floor::Product;
use super::halt::Halt;
use super::restore::{RestoreAuthority, RestorePart};
use super::session::firehose::{Firehose, failure};
use super::work::{Edl, Work};
use crate::config::{Profile, ReadBack};
use crate::domain::{Fact, FailureCode, Geometry, PageRange, Phase, Sha256Digest, Wait};
use crate::firmware::Image;
use crate::hardware::DeviceRecord;
use crate::protocol::firehose::command;
use crate::protocol::plan::{EraseOp, ProgramOp};
use crate::protocol::restore::Comparison;

/// Bytes of an image that are read from the package at once.
const IMAGE_READ_BYTES: usize = 64 * 1024;

/// What a pass over the plan has done.
#[derive(Debug, Default)]
struct Tally {
    written: u64,
    read_back: u64,
    writing: Duration,
}

impl Work {
    /// Executes the plan once, from its first operation, and restores what belongs to the unit on the way where that is
    /// permitted.
    pub(crate) async fn flash(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        bound: &Bound,
        authority: &Authority,
        restore: Option<&RestoreAuthority>,
    ) -> Result<(), RunError> {
        self.enter(Phase::Flash);
        let Edl::Firehose(mut firehose) = std::mem::take(&mut self.edl) else {
            return Err(Failure::new(FailureCode::Internal, "no programmer to write with").into());
        };
        let mut tally = Tally::default();
        let mut staged = self.stage(&mut firehose, product, bound, authority, &mut tally).await;
        let mut restored = restore;
        if let (Ok(()), Some(restore)) = (&staged, restore) {
            let worn = self.stage_own(&mut firehose, product, bound, (authority, restore), &mut tally).await;
            staged = match worn {
                Ok(None) => Ok(()),
                Ok(Some((failure, parts))) => match self.over_diag_instead(&failure, restore.backup(), product).await {
                    Ok(true) => {
                        restored = None;
                        self.blank(&mut firehose, product, bound, (authority, restore), &parts).await
                    }
                    Ok(false) => Err(failure.into()),
                    Err(error) => {
                        self.edl = Edl::Firehose(firehose);
                        return Err(error);
                    }
                },
                Err(error) => Err(error),
            };
        }
        // Last chance: a package that changed underneath leaves the module in download mode, not half new.
        let result = match staged.and_then(|()| Ok(unchanged(&product.package)?)) {
            Ok(()) => {
                if let Some(restore) = restored {
                    let bytes = restore.pages().saturating_mul(u64::from(bound.geometry.page_bytes));
                    self.append(Fact::Restored { run: self.run(), backup: restore.backup().id, bytes }).await?;
                }
                self.append(Fact::Staged {
                    run: self.run(),
                    bytes: tally.written,
                    bytes_read_back: tally.read_back,
                    bad_blocks: firehose.bad_blocks(),
                })
                .await?;
                self.write_boot_loader(&mut firehose, product, bound, authority, &mut tally).await
            }
            Err(error) => Err(error),
        };
        self.note(&tally, &firehose);
        self.edl = Edl::Firehose(firehose);
        if let Err(error) = result {
            return Err(self.judge(error, &device.key, FailureCode::EdlSilent).await.into());
        }
        self.append(Fact::Flashed { run: self.run(), bytes: tally.written }).await
    }

    fn note(&self, tally: &Tally, firehose: &Firehose) {
        let millis = tally.writing.as_millis().max(1);
        self.draft.update(|record| {
            record.bytes_written = record.bytes_written.saturating_add(tally.written);
            record.bytes_per_second =
                u64::try_from(u128::from(tally.written).saturating_mul(1000) / millis).unwrap_or_default();
            record.bad_blocks = record.bad_blocks.max(firehose.bad_blocks());
        });
    }

    fn writing<'a>(
        &'a self,
        firehose: &'a mut Firehose,
        product: &'a Product,
        bound: &Bound,
        authority: &'a Authority,
        total_bytes: u64,
    ) -> Writing<'a> {
        Writing {
            firehose,
            authority,
            profile: &product.profile,
            geometry: bound.plan.geometry,
            progress: self.progress(total_bytes),
            clock: &self.floor.clock,
            halt: &self.floor.halt,
        }
    }

    /// Everything but the boot loader, compared with the package.
    async fn stage(
        &self,
        firehose: &mut Firehose,
        product: &Product,
        bound: &Bound,
        authority: &Authority,
        tally: &mut Tally,
    ) -> Result<(), SessionError> {
        let plan = &bound.plan;
        let total: u64 = plan.programs.iter().map(|op| image_bytes(product, op)).sum::<u64>()
            + image_bytes(product, &plan.boot_loader);
        let mut writer = self.writing(firehose, product, bound, authority, total);
        writer.erase(&plan.boot_loader_erase).await?;
        for erase in &plan.erases {
            writer.erase(erase).await?;
        }
        for program in &plan.programs {
            writer.image(program, find(product, program)?, tally).await?;
        }
        for program in &plan.programs {
            let wanted = match product.profile.read_back {
                ReadBack::Full => true,
                ReadBack::BootChain => plan.is_boot_chain(program, product.profile.family.boot_chain),
                ReadBack::None => false,
            };
            if wanted {
                writer.compare(program, find(product, program)?, tally).await?;
            }
        }
        Ok(())
    }

    /// What belongs to the unit, compared with its backup. Gives the parts that cannot be restored over the blocks that
    /// there are now, and why.
    async fn stage_own<'a>(
        &self,
        firehose: &mut Firehose,
        product: &Product,
        bound: &Bound,
        (authority, restore): (&Authority, &'a RestoreAuthority),
        tally: &mut Tally,
    ) -> Result<Option<(Failure, Vec<&'a RestorePart>)>, SessionError> {
        let mut worn: Option<(Failure, Vec<&RestorePart>)> = None;
        let total = restore.pages().saturating_mul(bound.geometry.page_bytes.into());
        let mut writer = self.writing(firehose, product, bound, authority, total);
        for part in restore.parts() {
            let then = writer.firehose.bad_blocks_in(&[part.range], bound.geometry);
            let failure = match writer.restore(restore, part, tally).await {
                Err(SessionError::Failed(failure)) if is_of_media(failure.code) => Some(failure),
                Err(error) => return Err(error),
                Ok(()) if !then.is_same_layout(&writer.firehose.bad_blocks_in(&[part.range], bound.geometry)) => {
                    let detail = format!("a block of {} went bad while it was restored", part.partition);
                    Some(Failure::new(FailureCode::RestoreBadBlocks, detail))
                }
                Ok(()) => None,
            };
            if let Some(failure) = failure {
                worn.get_or_insert((failure, Vec::new())).1.push(part);
            }
        }
        let ranges: Vec<PageRange> = restore.parts().iter().map(|part| part.range).collect();
        if worn.is_none() && !restore.is_same_layout(&firehose.bad_blocks_in(&ranges, bound.geometry)) {
            // Where is not known: it may be the EFS, which is the first one.
            let failure = Failure::new(FailureCode::RestoreBadBlocks, "a block went bad while it was restored");
            worn = Some((failure, restore.parts().iter().take(1).collect()));
        }
        Ok(worn)
    }

    /// Erases parts that were restored in vain: what lies wrong must not be started from.
    async fn blank(
        &self,
        firehose: &mut Firehose,
        product: &Product,
        bound: &Bound,
        (authority, restore): (&Authority, &RestoreAuthority),
        parts: &[&RestorePart],
    ) -> Result<(), SessionError> {
        let mut writer = self.writing(firehose, product, bound, authority, 0);
        for part in parts {
            writer.erase_own(restore, part).await?;
        }
        Ok(())
    }

    async fn write_boot_loader(
        &self,
        firehose: &mut Firehose,
        product: &Product,
        bound: &Bound,
        authority: &Authority,
        tally: &mut Tally,
    ) -> Result<(), SessionError> {
        let program = &bound.plan.boot_loader;
        let image = find(product, program)?;
        let mut writer = self.writing(firehose, product, bound, authority, image.bytes);
        writer.image(program, image, tally).await?;
        if product.profile.read_back == ReadBack::None {
            return Ok(());
        }
        match writer.compare(program, image, tally).await {
            Err(SessionError::Failed(failure)) => {
                // A boot loader that is not what it should be must not be started.
                writer.erase(&bound.plan.boot_loader_erase).await?;
                Err(failure.into())
            }
            other => other,
        }
    }
}

fn image_bytes(product: &Product, op: &ProgramOp) -> u64 {
    product.package.image(&op.image).map_or(0, |image| image.bytes)
}

fn find<'a>(product: &'a Product, op: &ProgramOp) -> Result<&'a Image, Failure> {
    product.package.image(&op.image).ok_or_else(|| {
        Failure::new(FailureCode::Internal, format!("the plan names an image {} that is not in the package", op.image))
    })
}

fn not_announced(what: &str) -> Failure {
    Failure::new(FailureCode::Internal, format!("{what} that was not announced"))
}

/// Whether a part could not be restored because of the blocks that it lies in.
const fn is_of_media(code: FailureCode) -> bool {
    use FailureCode as C;
    matches!(code, C::RestoreBadBlocks | C::TooManyBadBlocks | C::ProgramNak | C::RestoreDiffers)
}

/// What a module's refusal of a write means.
fn refused(what: &str, reason: &str) -> Failure {
    let code = if reason.to_ascii_lowercase().contains("out of good blocks") {
        FailureCode::TooManyBadBlocks
    } else {
        FailureCode::ProgramNak
    };
    Failure::new(code, format!("{what}: {reason}"))
}

/// The commands that change a module.
struct Writing<'a> {
    firehose: &'a mut Firehose,
    authority: &'a Authority,
    profile: &'a Profile,
    geometry: Geometry,
    progress: Progress<'a>,
    clock: &'a crate::host::Clock,
    halt: &'a Halt,
}

impl Writing<'_> {
    async fn erase(&mut self, op: &EraseOp) -> Result<(), SessionError> {
        self.erase_range(op.range, &op.attributes).await
    }

    async fn erase_range(&mut self, range: PageRange, attributes: &[(String, String)]) -> Result<(), SessionError> {
        if !self.authority.may_erase(range) {
            return Err(not_announced("an erase").into());
        }
        self.send_erase(range, attributes).await
    }

    async fn send_erase(&mut self, range: PageRange, attributes: &[(String, String)]) -> Result<(), SessionError> {
        let xml = command::erase(range, self.geometry, attributes).map_err(failure)?;
        let mut refusals = 0;
        loop {
            self.halt.check()?;
            let waiting = self.firehose.waiting(Wait::Erase);
            let answer = self.firehose.command(&xml, self.profile.timeouts.erase).await?;
            waiting.over();
            if answer.response.ack && !answer.error_logged {
                return Ok(());
            }
            if refusals >= self.profile.budgets.erase_retries {
                let detail = format!("erase of page {}: {}", range.start, answer.reason());
                return Err(Failure::new(FailureCode::EraseNak, detail).into());
            }
            refusals += 1;
            self.firehose.ping().await?;
        }
    }

    /// Writes an image, again from an erase within the budget when the module refuses.
    async fn image(&mut self, op: &ProgramOp, image: &Image, tally: &mut Tally) -> Result<(), SessionError> {
        let mut refusals = 0;
        loop {
            let started = self.clock.now();
            let written = self.program(op, image).await;
            tally.writing += self.clock.now().saturating_sub(started);
            match written? {
                Ok(()) => {
                    tally.written += image.bytes;
                    return Ok(());
                }
                Err(failure) if refusals >= self.profile.budgets.program_retries => return Err(failure.into()),
                Err(_) => {
                    refusals += 1;
                    self.firehose.ping().await?;
                    self.erase_range(self.whole_blocks(op.range), &[]).await?;
                }
            }
        }
    }

    fn whole_blocks(&self, range: PageRange) -> PageRange {
        let block = u64::from(self.geometry.pages_per_block);
        let start = range.start - range.start % block;
        PageRange { start, pages: range.end().next_multiple_of(block) - start }
    }

    /// Writes an image once. The inner error is the module's refusal.
    async fn program(&mut self, op: &ProgramOp, image: &Image) -> Result<Result<(), Failure>, SessionError> {
        if !self.authority.may_program(op.range) {
            return Err(not_announced("a write").into());
        }
        if let Err(refused) = self.announce(op.range, &op.attributes, &op.image).await? {
            return Ok(Err(refused));
        }
        let sent = self.send_image(op, image).await?;
        if let Err(refused) = self.acknowledged(&op.image).await? {
            return Ok(Err(refused));
        }
        if sent != image.sha256 {
            return Err(Failure::new(FailureCode::PackageChanged, image.key.clone()).into());
        }
        Ok(Ok(()))
    }

    /// Announces a write. The inner error is the module's refusal, as in what follows.
    async fn announce(
        &mut self,
        range: PageRange,
        attributes: &[(String, String)],
        what: &str,
    ) -> Result<Result<(), Failure>, SessionError> {
        let xml = command::program(range, self.geometry, attributes).map_err(failure)?;
        self.halt.check()?;
        let waiting = self.firehose.waiting(Wait::Configure);
        let answer = self.firehose.command(&xml, self.profile.timeouts.configure).await?;
        waiting.over();
        if !answer.response.ack {
            return Ok(Err(refused(what, &answer.reason())));
        }
        if answer.response.rawmode != Some(true) {
            return Err(Failure::new(FailureCode::FirehoseProtocol, "a write without raw mode").into());
        }
        Ok(Ok(()))
    }

    /// Waits for the end of a write.
    async fn acknowledged(&mut self, what: &str) -> Result<Result<(), Failure>, SessionError> {
        let waiting = self.firehose.waiting(Wait::ProgramAck);
        let answer = self.firehose.answer(self.profile.timeouts.program_ack, "a write was not acknowledged").await?;
        waiting.over();
        let is_good = answer.response.ack && !answer.error_logged;
        Ok(if is_good { Ok(()) } else { Err(refused(what, &answer.reason())) })
    }

    async fn erase_own(&mut self, authority: &RestoreAuthority, part: &RestorePart) -> Result<(), SessionError> {
        if !authority.may_erase(part.range) {
            return Err(not_announced("the erase of a guarded partition").into());
        }
        self.send_erase(part.range, &[]).await
    }

    /// Restores a guarded partition, again from its erase within the budget when the module refuses, or when what is
    /// read back is not what the backup holds.
    async fn restore(
        &mut self,
        authority: &RestoreAuthority,
        part: &RestorePart,
        tally: &mut Tally,
    ) -> Result<(), SessionError> {
        let mut refusals = 0;
        loop {
            self.erase_own(authority, part).await?;
            let started = self.clock.now();
            let written = self.restore_pages(authority, part).await;
            tally.writing += self.clock.now().saturating_sub(started);
            let result = match written? {
                Ok(bytes) => {
                    tally.written += bytes;
                    self.compare_part(part, tally).await?
                }
                refused => refused.map(drop),
            };
            match result {
                Ok(()) => return Ok(()),
                Err(failure) if refusals >= self.profile.budgets.program_retries => return Err(failure.into()),
                Err(_) => {
                    refusals += 1;
                    self.firehose.ping().await?;
                }
            }
        }
    }

    /// Writes the used pages of a guarded partition; gives their bytes.
    async fn restore_pages(
        &mut self,
        authority: &RestoreAuthority,
        part: &RestorePart,
    ) -> Result<Result<u64, Failure>, SessionError> {
        let payload = usize::try_from(self.firehose.payload_bytes()).unwrap_or(IMAGE_READ_BYTES).max(1);
        let page_bytes = u64::from(self.geometry.page_bytes);
        let mut written = 0;
        for range in &part.writes {
            if !authority.may_program(*range) {
                return Err(not_announced("a write to a guarded partition").into());
            }
            let at = |page: u64| usize::try_from((page - part.range.start).saturating_mul(page_bytes)).ok();
            let bytes = at(range.start).zip(at(range.end())).and_then(|(from, to)| part.bytes.get(from..to));
            let bytes = bytes.ok_or_else(|| Failure::new(FailureCode::Internal, "a write beyond its partition"))?;
            if let Err(refused) = self.announce(*range, &[], &part.partition).await? {
                return Ok(Err(refused));
            }
            for piece in bytes.chunks(payload) {
                self.firehose.send_payload(piece).await?;
                self.progress.add(piece.len() as u64);
            }
            self.firehose.flush_payload().await?;
            if let Err(refused) = self.acknowledged(&part.partition).await? {
                return Ok(Err(refused));
            }
            written += bytes.len() as u64;
        }
        Ok(Ok(written))
    }

    /// Reads a guarded partition back. The inner error is that it differs.
    async fn compare_part(
        &mut self,
        part: &RestorePart,
        tally: &mut Tally,
    ) -> Result<Result<(), Failure>, SessionError> {
        let mut comparison = Comparison::new(&part.bytes, self.geometry);
        self.firehose
            .read(part.range, self.geometry, |piece| {
                comparison.take(piece);
                Ok(())
            })
            .await?;
        if let Some(page) = comparison.difference() {
            let detail = format!("{}: page {} of it differs", part.partition, page);
            return Ok(Err(Failure::new(FailureCode::RestoreDiffers, detail)));
        }
        tally.read_back += part.bytes.len() as u64;
        Ok(Ok(()))
    }

    /// Streams the image, the rest of its last page filled with zeros; gives the digest of the image's bytes sent.
    async fn send_image(&mut self, op: &ProgramOp, image: &Image) -> Result<Sha256Digest, SessionError> {
        let total = op.range.pages.saturating_mul(u64::from(self.geometry.page_bytes));
        let payload = usize::try_from(self.firehose.payload_bytes()).unwrap_or(IMAGE_READ_BYTES);
        let mut buffer = vec![0; IMAGE_READ_BYTES.next_multiple_of(payload)];
        let mut hasher = Sha256::new();
        let mut offset = 0;
        while offset < total {
            let step = usize::try_from(total - offset).unwrap_or(usize::MAX).min(buffer.len());
            let real = usize::try_from(image.bytes.saturating_sub(offset)).unwrap_or(usize::MAX).min(step);
            image.read_exact_at(&mut buffer[..real], offset).map_err(|error| unreadable(&image.key, &error))?;
            buffer[real..step].fill(0);
            hasher.update(&buffer[..real]);
            for piece in buffer[..step].chunks(payload) {
                self.firehose.send_payload(piece).await?;
                self.progress.add(piece.len() as u64);
            }
            offset += step as u64;
        }
        self.firehose.flush_payload().await?;
        Ok(Sha256Digest::finish(hasher))
    }

    /// Reads an image back and compares it with the package.
    async fn compare(&mut self, op: &ProgramOp, image: &Image, tally: &mut Tally) -> Result<(), SessionError> {
        let mut hasher = Sha256::new();
        let mut left = image.bytes;
        self.firehose
            .read(op.range, self.geometry, |piece| {
                let real = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
                hasher.update(&piece[..real]);
                left -= real as u64;
                Ok(())
            })
            .await?;
        if Sha256Digest::finish(hasher) != image.sha256 {
            return Err(Failure::new(FailureCode::ReadBackDiffers, image.key.clone()).into());
        }
        tally.read_back += image.bytes;
        Ok(())
    }
}
