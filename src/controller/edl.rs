//! The phases `permit`, `enter-edl`, `probe` and `load`: into download mode and up to a bound plan.

use super::failure::{Failure, RunError, SessionError};
use super::floor::Product;
use super::session::firehose::Firehose;
use super::session::sahara::{Contact, SaharaSession};
use super::session::{EdlLink, diag};
use super::work::{Arrival, Edl, Work};
use crate::config::{Efs, Timeouts};
use crate::domain::{FailureCode, Geometry, Guard, Imei, PageRange, Phase, Sha256Digest, Wait, limits};
use crate::firmware::Package;
use crate::hardware::{DeviceKey, DeviceMode, DeviceRecord};
use crate::ledger::{ClaimAnswer, ClaimRequest};
use crate::protocol::firehose::StorageInfo;
use crate::protocol::plan::{self, EfsPolicy, Plan, PlanInput};
use crate::protocol::sahara::ChipInfo;
use crate::protocol::table::PartitionTable;

/// The partition that holds the partition table.
const TABLE_PARTITION: &str = "mibib";
/// How often a module is asked to go into download mode.
const EDL_ASKS_MAX: u32 = 5;

/// A module whose programmer runs, with everything that was learned of it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) geometry: Geometry,
    pub(crate) table: PartitionTable,
    pub(crate) table_range: PageRange,
    pub(crate) total_pages: u64,
    pub(crate) plan: Plan,
}

/// Where the module's partition table comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TableSource<'a> {
    /// The module itself.
    Module,
    /// The backup of the run that was interrupted: on the module it may be half erased.
    Backup(&'a [u8]),
    /// The module itself, or its own backup where it has none that can be read: that may be why it does not start.
    ModuleOr(&'a [u8]),
}

impl Work {
    /// Waits for bandwidth on the slot's root port.
    pub(crate) async fn take_permit(&mut self) -> Result<(), Failure> {
        if self.permit.is_some() {
            return Ok(());
        }
        self.enter(Phase::Permit);
        let floor = std::sync::Arc::clone(&self.floor);
        let chain = self.slot_config().usb2.clone();
        let changed = self.draft.is_changed();
        let mut view = self.view.clone();
        let permit = tokio::select! {
            biased;
            () = floor.stop.until_gentle(), if !changed => None,
            // A unit that was taken out must not keep its place in the queue.
            _ = view.wait_for(|view| view.module().is_none()) => {
                let is_hub = self.view.borrow().hub_lost;
                let code = if is_hub { FailureCode::HubLost } else { FailureCode::Unplugged };
                return Err(Failure::new(code, "it went away while it waited for bandwidth"));
            }
            permit = floor.permits.take(&chain) => permit,
        };
        self.permit = permit;
        self.check_stop()
    }

    /// Switches a module from normal mode into download mode; gives the device it has become.
    pub(crate) async fn enter_edl(
        &mut self,
        device: &DeviceRecord,
        interface: u8,
        timeouts: &Timeouts,
    ) -> Result<(DeviceRecord, u8), Failure> {
        self.enter(Phase::EnterEdl);
        let mut was_asked = false;
        for _ in 0..EDL_ASKS_MAX {
            let asked = match self.floor.bus.open_port(&device.key, interface).await {
                Ok(mut port) => diag::ask_for_edl(port.as_mut(), &self.floor.clock).await,
                Err(error) => Err(error.into()),
            };
            match asked {
                Ok(false) => was_asked = true,
                // What comes in download mode without having been asked to is another unit, for all that is known.
                Err(SessionError::Gone) if !was_asked => return Err(self.judge_gone(&device.key).await),
                Ok(true) | Err(SessionError::Gone) => {
                    was_asked = true;
                    if let Some(found) = self.await_edl(Some(&device.key), timeouts).await? {
                        return Ok(found);
                    }
                }
                Err(error) => return Err(self.judge(error, &device.key, FailureCode::EdlNotEntered).await),
            }
            if self.device().is_none_or(|(now, _)| now.key != device.key) {
                if was_asked && !self.draft.is_changed() {
                    self.floor.visits.sent_to_edl(self.slot);
                }
                return Err(Failure::new(FailureCode::Unplugged, "it left and did not come back in download mode"));
            }
        }
        Err(Failure::new(FailureCode::EdlNotEntered, "it does not react to the DIAG command"))
    }

    /// Waits for download mode under another enumeration than `not`.
    pub(crate) async fn await_edl(
        &mut self,
        not: Option<&DeviceKey>,
        timeouts: &Timeouts,
    ) -> Result<Option<(DeviceRecord, u8)>, Failure> {
        let wanted = |mode: &DeviceMode| matches!(mode, DeviceMode::Edl { .. });
        let waiting = self.waiting(Wait::Edl);
        match self.await_module(wanted, not, timeouts.edl).await? {
            Arrival::Wanted(device, DeviceMode::Edl { interface }) => {
                waiting.over();
                self.draft.update(|record| record.chain_edl = Some(device.key.chain.clone()));
                Ok(Some((device, interface)))
            }
            Arrival::Other(DeviceMode::MemoryDump) => {
                Err(Failure::new(FailureCode::MemoryDump, "it came up in memory-dump mode"))
            }
            Arrival::Wanted(..) | Arrival::Other(_) | Arrival::Nothing => Ok(None),
        }
    }

    /// Opens a module in download mode and reads its chip. A programmer that is left from an earlier session is not
    /// trusted: the module is sent back to the start of download mode first.
    pub(crate) async fn contact(
        &mut self,
        device: &mut DeviceRecord,
        interface: &mut u8,
        timeouts: &Timeouts,
    ) -> Result<ChipInfo, Failure> {
        for _ in 0..2 {
            let mut session = self.open_sahara(device, *interface, timeouts).await?;
            match session.contact().await {
                Ok(Contact::Chip(info)) => {
                    self.edl = Edl::Sahara(Box::new(session));
                    return Ok(info);
                }
                Ok(Contact::ForeignProgrammer) => {
                    let (link, heard) = session.into_link();
                    let left = Firehose::over(link, &heard, timeouts).reset_to_edl().await;
                    if let Err(error) = left {
                        return Err(self.judge(error, &device.key, FailureCode::SaharaNoHello).await);
                    }
                    match self.await_edl(Some(&device.key), timeouts).await? {
                        Some(found) => (*device, *interface) = found,
                        None => break,
                    }
                }
                Err(error) => {
                    self.edl = Edl::Sahara(Box::new(session));
                    return Err(self.judge(error, &device.key, FailureCode::SaharaNoHello).await);
                }
            }
        }
        Err(Failure::new(FailureCode::SaharaNoHello, "a programmer of an earlier session does not let go"))
    }

    pub(crate) async fn open_sahara(
        &mut self,
        device: &DeviceRecord,
        interface: u8,
        timeouts: &Timeouts,
    ) -> Result<SaharaSession, Failure> {
        let opened = match self.floor.bus.open_bulk(&device.key, interface).await {
            Ok(pipe) => EdlLink::new(pipe, self.floor.clock.clone()).map(|link| link.timed(self.draft.waits())),
            Err(error) => Err(error.into()),
        };
        match opened {
            Ok(link) => Ok(SaharaSession::new(link, timeouts)),
            Err(error) => Err(self.judge(error, &device.key, FailureCode::SaharaNoHello).await),
        }
    }

    /// The phase `probe` for a new run: the chip must be one that the package is for, and is claimed.
    pub(crate) async fn claim(&mut self, info: &ChipInfo, product: &Product) -> Result<(), RunError> {
        let Some(imei) = self.expected().imei else {
            self.note_chip(info);
            return Err(Failure::new(FailureCode::ImeiInvalid, "no IMEI to claim").into());
        };
        self.claim_as(info, product, imei).await
    }

    /// The same with an IMEI that the module does not say any more.
    pub(crate) async fn claim_as(&mut self, info: &ChipInfo, product: &Product, imei: Imei) -> Result<(), RunError> {
        self.note_chip(info);
        fits(info, product)?;
        let request = ClaimRequest { run: self.run(), chip: info.chip, imei, key_hash: info.key_hash.clone() };
        match self.floor.ledger.claim(request).await? {
            ClaimAnswer::Granted { attempt } => {
                // An earlier run has told it something and did not come to its end: this is not its first pass.
                let was_cured = self.floor.ledger.was_cured(info.chip).await?;
                self.draft.update(|record| {
                    record.attempt = attempt;
                    record.flags.repaired |= was_cured;
                });
                Ok(())
            }
            ClaimAnswer::Refused { holder, code } => {
                let detail = format!("chip {} with IMEI {imei}: run {holder} has the older claim", info.chip);
                Err(Failure::new(code, detail).into())
            }
        }
    }

    pub(crate) fn note_chip(&self, info: &ChipInfo) {
        self.draft.update(|record| {
            record.chip = Some(info.chip);
            record.key_hash = Some(info.key_hash.clone());
        });
    }

    /// The phase `load`: starts the programmer and binds the plan to this module.
    pub(crate) async fn load(
        &mut self,
        device: &DeviceRecord,
        product: &Product,
        table: TableSource<'_>,
    ) -> Result<Bound, Failure> {
        self.enter(Phase::Load);
        let programmer = unchanged_programmer(product).await?;
        let Edl::Sahara(session) = std::mem::take(&mut self.edl) else {
            return Err(Failure::new(FailureCode::Internal, "no Sahara session to load into"));
        };
        let timeouts = &product.profile.timeouts;
        let (link, heard) = match session.load(&programmer).await {
            Ok(loaded) => loaded,
            Err((session, error)) => {
                self.edl = Edl::Sahara(Box::new(session));
                return Err(self.judge(error, &device.key, FailureCode::LoaderRejected).await);
            }
        };
        let (firehose, functions) = match Firehose::start(link, &heard, timeouts).await {
            Ok(started) => started,
            Err(error) => return Err(self.judge(error, &device.key, FailureCode::LoaderRejected).await),
        };
        let mut firehose = Box::new(firehose);
        let bound = if functions.is_empty() || functions.contains("read") {
            bind(&mut firehose, product, table).await
        } else {
            let words: Vec<&str> = functions.iter().map(String::as_str).collect();
            Err(Failure::new(FailureCode::CannotRead, format!("its functions are {}", words.join(" "))).into())
        };
        self.draft.update(|record| record.bad_blocks = record.bad_blocks.max(firehose.bad_blocks()));
        self.edl = Edl::Firehose(firehose);
        match bound {
            Ok(bound) => Ok(bound),
            Err(error) => Err(self.judge(error, &device.key, FailureCode::EdlSilent).await),
        }
    }
}

/// The programmer's bytes, compared with what was hashed when the package was opened; a package of which any file is
/// not what it was is not begun with.
async fn unchanged_programmer(product: &Product) -> Result<Vec<u8>, Failure> {
    let package = std::sync::Arc::clone(&product.package);
    let read = move || {
        let changed = |key: &str| Failure::new(FailureCode::PackageChanged, key);
        unchanged(&package)?;
        let programmer = package.programmer();
        let length = usize::try_from(programmer.bytes).map_err(|_| changed(&programmer.key))?;
        let mut bytes = vec![0; length];
        programmer.read_exact_at(&mut bytes, 0).map_err(|error| unreadable(&programmer.key, &error))?;
        if Sha256Digest::of(&bytes) != programmer.sha256 {
            return Err(changed(&programmer.key));
        }
        Ok(bytes)
    };
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|error| Err(Failure::new(FailureCode::Internal, error.to_string())))
}

/// Whether no file of the package is another one than the one that was hashed.
pub(crate) fn unchanged(package: &Package) -> Result<(), Failure> {
    for image in package.images() {
        match image.is_unchanged() {
            Ok(true) => {}
            Ok(false) => return Err(Failure::new(FailureCode::PackageChanged, &image.key)),
            Err(error) => return Err(unreadable(&image.key, &error)),
        }
    }
    Ok(())
}

/// What it means that a file of the package cannot be read: where it ends too early it was changed, else the disk is at
/// fault.
pub(crate) fn unreadable(key: &str, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => FailureCode::PackageChanged,
        _ => FailureCode::DiskFailed,
    };
    Failure::new(code, format!("{key}: {error}"))
}

/// Whether the package's programmer is for this chip.
pub(crate) fn fits(info: &ChipInfo, product: &Product) -> Result<(), Failure> {
    let profile = &product.profile;
    if !profile.hw_ids.is_empty() && !profile.hw_ids.contains(&info.chip.hw_id) {
        let detail = format!("hardware id {:016x} is not one of the profile's", info.chip.hw_id);
        return Err(Failure::new(FailureCode::LoaderMismatch, detail));
    }
    if !profile.key_hashes.is_empty() && !info.key_hash.is_unfused() && !profile.key_hashes.contains(&info.key_hash) {
        let detail = format!("key hash {} is not one of the profile's", info.key_hash);
        return Err(Failure::new(FailureCode::LoaderMismatch, detail));
    }
    Ok(())
}

/// Learns the storage and its partition table, and makes the plan for exactly this module.
async fn bind(firehose: &mut Firehose, product: &Product, source: TableSource<'_>) -> Result<Bound, SessionError> {
    let (profile, package) = (&product.profile, &product.package);
    firehose.configure(profile.family).await?;
    let storage = firehose.storage().await?;
    if storage.geometry != package.geometry() {
        let detail = format!("the module has {}, the package is for {}", storage.geometry, package.geometry());
        return Err(Failure::new(FailureCode::GeometryMismatch, detail).into());
    }
    let table_range = match table_range(package, storage.total_pages) {
        Some(range) => range,
        // Only what leaves the table alone may be guarded so, and such a package has no reason to name it.
        None if profile.guard == Guard::Xqcn => find_table(firehose, &storage).await?,
        None => {
            let detail = "the package does not say where the partition table lies";
            return Err(Failure::new(FailureCode::PlanInvalid, detail).into());
        }
    };
    if table_range.end() > storage.total_pages {
        return Err(Failure::new(FailureCode::PlanInvalid, "the package's table lies beyond the storage").into());
    }
    let (table, table_range) = match source {
        TableSource::Module => own_table(firehose, table_range, &storage).await?,
        TableSource::Backup(bytes) => (parse_table(bytes, storage.geometry)?, table_range),
        TableSource::ModuleOr(bytes) => match own_table(firehose, table_range, &storage).await {
            Err(SessionError::Failed(failure)) if failure.code == FailureCode::TableInvalid => {
                tracing::warn!(detail = failure.detail, "the partition table is taken from its backup");
                (parse_table(bytes, storage.geometry)?, table_range)
            }
            own => own?,
        },
    };
    let plan = plan::build(&PlanInput {
        operations: package.operations(),
        resolve: &|name| package.resolve(name),
        geometry: storage.geometry,
        total_pages: storage.total_pages,
        module_table: &table,
        package_table: package.table(),
        guarded: profile.family.guarded,
        efs: match profile.efs {
            Efs::Keep => EfsPolicy::Keep,
            Efs::Carve => EfsPolicy::Carve,
        },
    })
    .map_err(|error| Failure::new(error.code(), error.to_string()))?;
    Ok(Bound { geometry: storage.geometry, table, table_range, total_pages: storage.total_pages, plan })
}

fn parse_table(bytes: &[u8], geometry: Geometry) -> Result<PartitionTable, Failure> {
    PartitionTable::parse_mibib(bytes, geometry)
        .map_err(|error| Failure::new(FailureCode::TableInvalid, error.to_string()))
}

/// The module's own partition table, and the partition it lies in, whole: the valid copy may lie in any block of it.
async fn own_table(
    firehose: &mut Firehose,
    range: PageRange,
    storage: &StorageInfo,
) -> Result<(PartitionTable, PageRange), SessionError> {
    let geometry = storage.geometry;
    let table = parse_table(&firehose.read_bytes(range, geometry).await?, geometry)?;
    let Some(own) = table.find(TABLE_PARTITION) else { return Ok((table, range)) };
    let whole = table.range(own, geometry, storage.total_pages);
    if whole == range {
        return Ok((table, range));
    }
    let bytes = whole.pages.saturating_mul(u64::from(geometry.page_bytes));
    if whole.start != range.start || whole.end() > storage.total_pages || bytes > limits::TABLE_PARTITION_BYTES_MAX {
        let detail = format!("the table found at page {} says that it lies at page {}", range.start, whole.start);
        return Err(Failure::new(FailureCode::TableInvalid, detail).into());
    }
    let table = parse_table(&firehose.read_bytes(whole, geometry).await?, geometry)?;
    Ok((table, whole))
}

/// Where the module itself says that its partition table lies. Boot loaders look for it near the beginning of the storage.
async fn find_table(firehose: &mut Firehose, storage: &StorageInfo) -> Result<PageRange, SessionError> {
    let geometry = storage.geometry;
    let pages = limits::TABLE_PARTITION_BYTES_MAX / u64::from(geometry.page_bytes.max(1));
    let first = PageRange { start: 0, pages: pages.min(storage.total_pages) };
    let table = parse_table(&firehose.read_bytes(first, geometry).await?, geometry)?;
    let own = table.find(TABLE_PARTITION).map(|own| table.range(own, geometry, storage.total_pages));
    own.filter(|own| first.overlaps(*own) && own.pages <= pages).ok_or_else(|| {
        Failure::new(FailureCode::TableInvalid, "the module's table does not say where it lies itself").into()
    })
}

/// Where the package says the partition table lies: the partition of its own table, or else the image that it writes.
fn table_range(package: &Package, total_pages: u64) -> Option<PageRange> {
    let image = package
        .operations()
        .iter()
        .find(|operation| {
            operation.file.as_deref().is_some_and(|file| {
                let name = file.rsplit(['\\', '/']).next().unwrap_or(file);
                name.to_ascii_lowercase().starts_with("partition_complete")
            }) && operation.range.pages > 0
        })
        .map(|operation| operation.range)?;
    let partition = package
        .table()
        .and_then(|table| table.find(TABLE_PARTITION).map(|own| table.range(own, package.geometry(), total_pages)))
        .filter(|range| {
            let bytes = range.pages.saturating_mul(u64::from(package.geometry().page_bytes));
            range.contains(image) && bytes <= limits::TABLE_PARTITION_BYTES_MAX
        });
    Some(partition.unwrap_or(image))
}
