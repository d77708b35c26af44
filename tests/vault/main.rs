//! Backups come back as they were read, or not at all.

mod keeping;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use stationmaster::domain::{BackupRef, BadBlocks, ChipId, FailureCode, Geometry, Imei, PageRange};
use stationmaster::host::{Disk, EntryKind, FailKind, MemoryDisk, OsDisk};
use stationmaster::vault::{BackupDraft, Label, PartDraft, Taking, Vault, VaultError};

const GEOMETRY: Geometry = Geometry { page_bytes: 512, pages_per_block: 16 };
const CHIP: ChipId = ChipId { hw_id: 0x000f_50e1_0000_0000, serial: 0x1234 };
const DIRECTORY: &str = "/var/state/vault";

fn imei() -> Imei {
    "490154203237518".parse().expect("an IMEI")
}

/// An EFS of two blocks: a superblock, used pages as described by `kinds` (0: 0xFF, 1: 0xEE, else data).
fn efs(kinds: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..32_usize {
        let kind = kinds.get(number).copied().unwrap_or(0);
        let page: Vec<u8> = match kind {
            0 => vec![0xff; 512],
            1 => vec![0xee; 512],
            seed => {
                (0..512_usize).map(|at| u8::try_from((at * usize::from(seed) + number) % 251).expect("small")).collect()
            }
        };
        bytes.extend_from_slice(&page);
    }
    if kinds.first().is_some_and(|kind| *kind > 1) {
        bytes[8..16].copy_from_slice(b"EFSSuper");
        for (index, word) in [16_u32, 512, 2].into_iter().enumerate() {
            bytes[16 + index * 4..][..4].copy_from_slice(&word.to_le_bytes());
        }
    }
    bytes
}

fn good_efs() -> Vec<u8> {
    efs(&[7, 9, 0, 1, 1, 3, 4, 5, 6, 7, 8, 0, 0, 0, 2])
}

fn draft(efs: Vec<u8>) -> BackupDraft {
    let table = (0..16 * 512).map(|at| u8::try_from(at % 7).expect("small")).collect();
    let part = |name: &str, start, pages, bytes, is_efs| PartDraft {
        partition: name.to_owned(),
        range: PageRange { start, pages },
        bytes,
        efs: is_efs,
    };
    let parts = vec![
        part("mibib", 80, 16, table, false),
        part("efs2", 160, 32, efs, true),
        part("sys_rev", 400, 8, vec![0xff; 8 * 512], false),
    ];
    let bad_blocks = Some(BadBlocks { named: vec![10], counted: Some(3) });
    BackupDraft { taking: taking(None), geometry: GEOMETRY, parts, bad_blocks }
}

fn taking(suspect: Option<&str>) -> Taking {
    let taken = "2026-01-02T03:04:05Z".parse().expect("a time");
    let label = Label { taken, run: None, suspect: suspect.map(str::to_owned) };
    Taking { chip: CHIP, imei: imei(), label, used_pages_min: 0, blank_efs: None }
}

fn vault(disk: &MemoryDisk) -> Vault {
    Vault::new(Arc::new(disk.clone()), DIRECTORY.into())
}

fn file(backup: &BackupRef) -> PathBuf {
    Path::new(DIRECTORY).join(backup.chip.to_string()).join(format!("0001-{}.smb.age", backup.id))
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    let entries = disk.list(&Path::new(DIRECTORY).join(CHIP.to_string())).unwrap_or_default();
    entries.into_iter().filter(|entry| entry.kind == EntryKind::File).map(|entry| entry.name).collect()
}

fn assert_equal(vault: &Vault, stored: &BackupRef, draft: &BackupDraft) {
    let loaded = vault.load(stored).expect("verified");
    assert_eq!(loaded.reference, *stored);
    assert_eq!(loaded.parts.len(), draft.parts.len());
    for (found, expected) in loaded.parts.iter().zip(&draft.parts) {
        assert_eq!((&found.partition, found.range, found.efs), (&expected.partition, expected.range, expected.efs));
        assert!(found.bytes == expected.bytes, "{} differs", found.partition);
    }
}

fn assert_damaged<T: std::fmt::Debug>(result: Result<T, VaultError>) -> String {
    let error = result.expect_err("damaged");
    assert!(matches!(error, VaultError::Damaged { .. } | VaultError::Disk { .. }), "{error}");
    assert_eq!(error.code(), FailureCode::DiskFailed);
    error.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_read_comes_back(kinds in proptest::collection::vec(0_u8..6, 31), cuts in 1_usize..3000) {
        let disk = MemoryDisk::new();
        let vault = vault(&disk);
        let kinds = [vec![2; 8], kinds].concat();
        let draft = draft(efs(&kinds[..32]));
        let mut writer = vault.begin(draft.taking.clone(), draft.geometry).expect("begun");
        for part in &draft.parts {
            writer.part(&part.partition, part.range, part.efs).expect("fits");
            for bytes in part.bytes.chunks(cuts) {
                writer.bytes(bytes).expect("written");
            }
        }
        writer.bad_blocks(draft.bad_blocks.clone().expect("named"));
        let stored = writer.finish().expect("stored");
        assert_equal(&vault, &stored, &draft);
        prop_assert_eq!(vault.store(draft).expect("stored again"), stored, "how it was cut does not matter");
        prop_assert_eq!(names(&disk).len(), 1);
    }

    #[test]
    fn an_altered_file_is_never_given_out(at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let disk = MemoryDisk::new();
        let vault = vault(&disk);
        let stored = vault.store(draft(good_efs())).expect("stored");
        disk.tamper(&file(&stored), |bytes| {
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << bit;
            }
        }).expect("there");
        assert_damaged(vault.load(&stored));
        assert_damaged(vault.check(&stored));
        // What was read again is stored beside it, and found.
        prop_assert_eq!(&vault.store(draft(good_efs())).expect("stored beside it"), &stored);
        prop_assert_eq!(names(&disk).len(), 2);
        vault.check(&stored).expect("the other one is good");
    }

}

#[test]
fn implausible_content_is_no_backup() {
    let disk = MemoryDisk::new();
    let vault = vault(&disk);
    let mut wrong_geometry = good_efs();
    wrong_geometry[20] = 1;
    for (efs, expected) in [
        (efs(&[0; 32]), "partition `efs2`: it is blank"),
        (efs(&[1; 32]), "partition `efs2`: it is blank"),
        (efs(&[2; 5]), "partition `efs2`: it is a skeleton"),
        (efs(&[&[0][..], &[3; 20]].concat()), "partition `efs2`: it has no EFS superblock"),
        (wrong_geometry, "partition `efs2`: its superblock speaks of"),
    ] {
        let error = vault.store(draft(efs)).expect_err("implausible");
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.code(), FailureCode::BackupInvalid);
    }
    let mut without = draft(good_efs());
    without.parts.remove(1);
    assert!(matches!(vault.store(without), Err(VaultError::Draft { .. })));
    let mut short = draft(good_efs());
    short.parts[0].bytes.pop();
    let error = vault.store(short).expect_err("not complete");
    assert_eq!(error.code(), FailureCode::BackupFailed);
    let mut long = draft(good_efs());
    long.parts[2].bytes.push(0);
    assert!(matches!(vault.store(long), Err(VaultError::Length { .. })));
    let mut twice = draft(good_efs());
    twice.parts[2].partition = "mibib".into();
    assert!(matches!(vault.store(twice), Err(VaultError::Draft { .. })));
    let mut endless = draft(good_efs());
    endless.parts[2].range.pages = u64::MAX;
    assert!(matches!(vault.store(endless), Err(VaultError::Draft { .. })));
    assert!(names(&disk).is_empty(), "nothing of a refused backup stays: {:?}", names(&disk));
}

#[test]
fn a_backup_belongs_to_its_chip() {
    let disk = MemoryDisk::new();
    let vault = vault(&disk);
    let stored = vault.store(draft(good_efs())).expect("stored");
    let mut foreign = stored.clone();
    foreign.chip.serial += 1;
    assert!(assert_damaged(vault.load(&foreign)).contains("missing"));
    let bytes = disk.read(&file(&stored), 1 << 20).expect("there");
    disk.create_dir_all(file(&foreign).parent().expect("a directory")).expect("made");
    disk.replace(&file(&foreign), &bytes, false).expect("copied");
    assert!(assert_damaged(vault.load(&foreign)).contains("it belongs to chip 000f50e100000000-00001234"));
    let mut other_parts = stored.clone();
    other_parts.parts[1].used_pages += 1;
    assert!(assert_damaged(vault.load(&other_parts)).contains("not those that were recorded"));
    vault.load(&stored).expect("its own is still good");
}

#[test]
fn a_later_backup_never_replaces_an_earlier_one() {
    let disk = MemoryDisk::new();
    let vault = vault(&disk);
    let first = vault.store(draft(good_efs())).expect("stored");
    let mut later = good_efs();
    later[600] ^= 1;
    let second = vault.store(draft(later.clone())).expect("stored");
    assert_ne!(first.id, second.id);
    assert_equal(&vault, &first, &draft(good_efs()));
    assert_equal(&vault, &second, &draft(later));
    let listed = vault.list().expect("listed");
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|entry| entry.chip == CHIP && entry.bytes > 0));
}

/// Fails the `call`-th call; `false` when there were fewer.
fn fails_once(call: u64, kind: FailKind, crashes: bool) -> bool {
    let disk = MemoryDisk::new();
    let vault = vault(&disk);
    disk.fail_call(call, kind);
    let result = vault.store(draft(good_efs()));
    let made = disk.calls();
    if made < call {
        result.expect("no call failed");
        return false;
    }
    if crashes {
        disk.crash();
    }
    let error = result.expect_err("a call failed");
    assert_eq!(error.code(), FailureCode::DiskFailed, "{error}");
    let stored = vault.store(draft(good_efs())).expect("the disk is well again");
    disk.crash();
    assert_equal(&vault, &stored, &draft(good_efs()));
    assert_eq!(names(&disk), [format!("0001-{}.smb.age", stored.id)], "nothing else is left");
    true
}

#[test]
fn every_call_to_the_disk_may_fail() {
    for (kind, crashes) in [
        (FailKind::Crash, true),
        (FailKind::Error, false),
        (FailKind::NoSpace, true),
        (FailKind::ShortWrite, false),
        (FailKind::FailedSync, true),
        (FailKind::FailedSync, false),
    ] {
        let mut call = 1;
        while fails_once(call, kind, crashes) {
            call += 1;
        }
        assert!(call > 10, "storing a backup makes more than {call} calls");
    }
}

#[test]
fn files_are_private_on_a_real_disk() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let vault = Vault::new(Arc::new(OsDisk::new()), directory.path().join("vault"));
    let stored = vault.store(draft(good_efs())).expect("stored");
    assert_equal(&vault, &stored, &draft(good_efs()));
    let backup = directory.path().join("vault").join(CHIP.to_string()).join(format!("0001-{}.smb.age", stored.id));
    for path in [backup, directory.path().join("vault.key")] {
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }
}
