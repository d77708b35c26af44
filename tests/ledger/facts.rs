//! Facts of a run as a controller would write them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stationmaster::domain::{
    BackupKind, BackupPart, BackupRef, BadBlocks, ChipId, Fact, FailureCode, Flags, Geometry, Identity, Imei, KeyHash,
    Outcome, PageRange, Phase, PlanSummary, RunId, RunRecord, Sha256Digest,
};
use stationmaster::host::{Clock, Disk, MemoryDisk};
use stationmaster::ledger::{ClaimRequest, IndexPlace, Ledger, LedgerError, WriterMode};

pub(crate) fn directory() -> PathBuf {
    Path::new("/var/state").to_owned()
}

pub(crate) async fn open(disk: &MemoryDisk) -> Result<Ledger, LedgerError> {
    let clock = Clock::simulated(jiff::Timestamp::UNIX_EPOCH);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Ledger::open(disk, clock, directory(), WriterMode::Inline, IndexPlace::Memory).await
}

pub(crate) fn run(number: u8) -> RunId {
    RunId::new(u64::from(number) * 1000, &[number; 10])
}

pub(crate) fn chip(number: u8) -> ChipId {
    ChipId { hw_id: 0x000f_50e1_0000_0000, serial: u32::from(number) }
}

pub(crate) fn imei(number: u8) -> Imei {
    Imei::from_body(&format!("86000000000{number:03}")).expect("14 digits")
}

pub(crate) fn key_hash() -> KeyHash {
    KeyHash::new(&[0; 32]).expect("32 bytes")
}

pub(crate) fn request(run_number: u8, chip_number: u8, imei_number: u8) -> ClaimRequest {
    ClaimRequest { run: run(run_number), chip: chip(chip_number), imei: imei(imei_number), key_hash: key_hash() }
}

pub(crate) fn station_started(simulated: bool) -> Fact {
    let station = "S".parse().expect("a name");
    let config = Sha256Digest::of(b"station");
    Fact::StationStarted { station, version: "1".into(), simulated, time_scale: 1, config }
}

pub(crate) fn station_stopped() -> Fact {
    Fact::StationStopped { station: "S".parse().expect("a name") }
}

pub(crate) fn started(number: u8) -> Fact {
    Fact::RunStarted {
        run: run(number),
        batch: "B-1".parse().expect("a name"),
        slot: "A1".parse().expect("a name"),
        chain: "pci-0000:00:14.0/usb2/1.1".parse().expect("a chain"),
        identity: Some(identity(number)),
    }
}

pub(crate) fn identity(number: u8) -> Identity {
    Identity {
        model: "EG25-G".into(),
        imei: Some(imei(number)),
        bands: BTreeMap::from([("lte_config".into(), vec![1, 3, 7])]),
        ..Identity::default()
    }
}

pub(crate) fn admitted(number: u8) -> Fact {
    Fact::Admitted {
        run: run(number),
        profile: "eg25".into(),
        profile_digest: Sha256Digest::of(b"profile"),
        package_digest: Sha256Digest::of(b"package"),
        flash: true,
    }
}

pub(crate) fn backup(number: u8, generation: u8) -> BackupRef {
    let range = PageRange { start: 0, pages: 64 };
    let part = BackupPart { partition: "efs2".into(), range, sha256: Sha256Digest::of(&[number]), used_pages: 9 };
    BackupRef {
        id: Sha256Digest::of(&[number, generation]),
        chip: chip(number),
        imei: imei(number),
        kind: BackupKind::Raw,
        geometry: Some(Geometry { page_bytes: 2048, pages_per_block: 64 }),
        parts: vec![part],
        bytes: 131_072,
        bad_blocks: Some(BadBlocks { named: vec![3], counted: Some(1) }),
        xqcn: None,
        suspect: None,
    }
}

pub(crate) fn backup_stored(number: u8) -> Fact {
    Fact::BackupStored { run: run(number), backup: backup(number, 0) }
}

pub(crate) fn plan() -> PlanSummary {
    let range = PageRange { start: 0, pages: 640 };
    PlanSummary { digest: Sha256Digest::of(b"plan"), erases: vec![range], programs: vec![range], guarded: vec![] }
}

pub(crate) fn intent(number: u8, generation: u8) -> Fact {
    Fact::Intent {
        run: run(number),
        chip: chip(number),
        package_digest: Sha256Digest::of(b"package"),
        plan: plan(),
        backup: Sha256Digest::of(&[number, generation]),
    }
}

pub(crate) fn interrupted(number: u8) -> Fact {
    Fact::RunInterrupted {
        run: run(number),
        phase: Phase::Flash,
        code: FailureCode::Unplugged,
        detail: "unplugged".into(),
    }
}

pub(crate) fn resumed(number: u8) -> Fact {
    Fact::RunResumed {
        run: run(number),
        batch: "B-2".parse().expect("a name"),
        slot: "A2".parse().expect("a name"),
        chain: "pci-0000:00:14.0/usb2/1.2".parse().expect("a chain"),
    }
}

pub(crate) fn finished(number: u8, outcome: Outcome) -> Fact {
    Fact::RunFinished(Box::new(RunRecord {
        run: run(number),
        batch: "B-1".parse().expect("a name"),
        station: "S".parse().expect("a name"),
        slot: "A1".parse().expect("a name"),
        chain_normal: None,
        chain_edl: None,
        profile: "eg25".into(),
        profile_digest: None,
        package_digest: None,
        chip: Some(chip(number)),
        key_hash: None,
        before: Some(identity(number)),
        after: None,
        measurements: Vec::new(),
        outcome,
        code: None,
        detail: String::new(),
        phase: Phase::Record,
        flags: Flags::default(),
        attempt: 1,
        boots_verified: 2,
        boots_required: 2,
        phases: Vec::new(),
        waits: Vec::new(),
        bytes_written: 0,
        bytes_per_second: 0,
        bad_blocks: 0,
        backup: None,
        guard: None,
        diagnosis: None,
        time_scale: 1,
        started: jiff::Timestamp::UNIX_EPOCH,
        ended: jiff::Timestamp::UNIX_EPOCH,
    }))
}

/// Writes everything of a run up to and including its intent.
pub(crate) async fn up_to_intent(ledger: &Ledger, number: u8) -> Result<(), LedgerError> {
    for fact in [started(number), admitted(number)] {
        ledger.append(fact).await?;
    }
    ledger.claim(request(number, number, number)).await?;
    for fact in [backup_stored(number), intent(number, 0)] {
        ledger.append(fact).await?;
    }
    Ok(())
}
