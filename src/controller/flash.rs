//! The phase `flash`: the only place from which commands go out that change a module.
//!
//! Every such command takes an [`Authority`] and is refused when the announced plan does not contain it. The order
//! is the plan's: the boot loader is erased first and written last, after everything else was compared with the
//! package, so that a module whose flash is cut off at any moment wakes up in download mode.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::backup::Authority;
use super::board::Progress;
use super::edl::Bound;
use super::failure::{Failure, RunError, SessionError};
use super::floor::Product;
use super::session::firehose::{Firehose, failure};
use super::work::{Edl, Work};
use crate::config::{Profile, ReadBack};
use crate::domain::{Fact, FailureCode, Geometry, PageRange, Phase, Sha256Digest, Wait};
use crate::firmware::Image;
use crate::hardware::DeviceRecord;
use crate::protocol::firehose::command;
use crate::protocol::plan::{EraseOp, ProgramOp};

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
    /// Executes the plan once, from its first operation.
    pub(crate) async fn flash(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        bound: &Bound,
        authority: &Authority,
    ) -> Result<(), RunError> {
        self.enter(Phase::Flash);
        let Edl::Firehose(mut firehose) = std::mem::take(&mut self.edl) else {
            return Err(Failure::new(FailureCode::Internal, "no programmer to write with").into());
        };
        let mut tally = Tally::default();
        let staged = self.stage(&mut firehose, product, bound, authority, &mut tally).await;
        let result = match staged {
            Ok(()) => {
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
        // Last chance: a package that changed underneath leaves the module in download mode, not half new.
        if let Some(image) = product.package.images().find(|image| !image.is_unchanged()) {
            return Err(Failure::new(FailureCode::PackageChanged, image.key.clone()).into());
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

/// The commands that change a module.
struct Writing<'a> {
    firehose: &'a mut Firehose,
    authority: &'a Authority,
    profile: &'a Profile,
    geometry: Geometry,
    progress: Progress<'a>,
    clock: &'a crate::host::Clock,
}

impl Writing<'_> {
    async fn erase(&mut self, op: &EraseOp) -> Result<(), SessionError> {
        self.erase_range(op.range, &op.attributes).await
    }

    async fn erase_range(&mut self, range: PageRange, attributes: &[(String, String)]) -> Result<(), SessionError> {
        if !self.authority.may_erase(range) {
            return Err(Failure::new(FailureCode::Internal, "an erase that was not announced").into());
        }
        let xml = command::erase(range, self.geometry, attributes).map_err(failure)?;
        let mut refusals = 0;
        loop {
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
            return Err(Failure::new(FailureCode::Internal, "a write that was not announced").into());
        }
        let refused = |reason: String| {
            let code = if reason.to_ascii_lowercase().contains("out of good blocks") {
                FailureCode::TooManyBadBlocks
            } else {
                FailureCode::ProgramNak
            };
            Failure::new(code, format!("{}: {reason}", op.image))
        };
        let xml = command::program(op.range, self.geometry, &op.attributes).map_err(failure)?;
        let waiting = self.firehose.waiting(Wait::Configure);
        let answer = self.firehose.command(&xml, self.profile.timeouts.configure).await?;
        waiting.over();
        if !answer.response.ack {
            return Ok(Err(refused(answer.reason())));
        }
        if answer.response.rawmode != Some(true) {
            return Err(Failure::new(FailureCode::FirehoseProtocol, "a write without raw mode").into());
        }
        let sent = self.send_image(op, image).await?;
        let waiting = self.firehose.waiting(Wait::ProgramAck);
        let answer = self.firehose.answer(self.profile.timeouts.program_ack, "a write was not acknowledged").await?;
        waiting.over();
        if !answer.response.ack || answer.error_logged {
            return Ok(Err(refused(answer.reason())));
        }
        if sent != image.sha256 {
            return Err(Failure::new(FailureCode::PackageChanged, image.key.clone()).into());
        }
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
            image
                .read_exact_at(&mut buffer[..real], offset)
                .map_err(|error| Failure::new(FailureCode::PackageChanged, format!("{}: {error}", image.key)))?;
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
