//! How backups are kept: under which keys, in which places, and which of several counts.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use stationmaster::domain::{BackupKind, BackupRef, FailureCode, PageRange, Sha256Digest, XqcnCounts};
use stationmaster::host::{Disk, FailKind, MemoryDisk};
use stationmaster::vault::{
    BackupDraft, CopyState, Damage, PublicKey, SecretKeys, Vault, VaultEntry, VaultError, Verdict, XqcnDraft,
    efs_digest,
};

use crate::{
    CHIP, DIRECTORY, GEOMETRY, assert_damaged, assert_equal, draft, efs, file, good_efs, imei, names, taking, vault,
};

const KEY: &str = "/var/state/vault.key";
const COPY: &str = "/mnt/second";

fn suspect(efs: Vec<u8>) -> BackupDraft {
    BackupDraft { taking: taking(Some("CFUN 5 on arrival")), ..draft(efs) }
}

/// Another EFS of the same module.
fn later_efs() -> Vec<u8> {
    let mut bytes = good_efs();
    bytes[600] ^= 1;
    bytes
}

fn best(vault: &Vault, recorded: &[&BackupRef]) -> Option<Sha256Digest> {
    let is_recorded = |backup: &BackupRef| recorded.contains(&backup);
    vault.best_for(CHIP, BackupKind::Raw, is_recorded).expect("read").map(|backup| backup.id)
}

/// A key that is kept elsewhere: its public half, and a file with the secret one.
fn recovery(disk: &MemoryDisk) -> (PublicKey, SecretKeys) {
    use age::secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    let text = format!("# kept in a safe\n\n{}\n", identity.to_string().expose_secret());
    disk.create_dir_all(Path::new("/safe")).expect("made");
    disk.replace(Path::new("/safe/key"), text.as_bytes(), false).expect("written");
    let public = identity.to_public().to_string().parse().expect("a public key");
    (public, SecretKeys::read(disk, Path::new("/safe/key")).expect("a key"))
}

#[test]
fn the_first_good_backup_is_the_one_for_a_repair() {
    let disk = MemoryDisk::new();
    let vault = vault(&disk);
    let arrived = vault.store(suspect(good_efs())).expect("stored");
    assert_eq!(arrived.suspect.as_deref(), Some("CFUN 5 on arrival"));
    assert_eq!(best(&vault, &[&arrived]), None, "a suspect one is never used");
    // The same content, read from the module when it was well, is another file.
    let good = vault.store(draft(good_efs())).expect("stored");
    assert_eq!((good.id, &good.suspect), (arrived.id, &None));
    let later = vault.store(draft(later_efs())).expect("stored");
    let lost = vault.store(suspect(efs(&[4; 20]))).expect("stored");
    let all = [&arrived, &good, &later, &lost];
    assert_eq!(best(&vault, &all), Some(good.id));
    assert_eq!(best(&vault, &[&later]), Some(later.id), "what the ledger does not know does not count");
    assert_eq!(best(&vault, &[]), None);
    let numbers: Vec<u32> = vault.backups_of(CHIP).expect("listed").iter().map(|held| held.entry.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let verdicts: Vec<bool> = vault
        .backups_of(CHIP)
        .expect("listed")
        .iter()
        .map(|held| matches!(vault.judge(&held.entry).expect("read"), Verdict::Good(_)))
        .collect();
    assert_eq!(verdicts, [false, true, true, false]);
    // What is damaged is passed over, and stays where it is.
    let path = file(&good).with_file_name(format!("0002-{}.smb.age", good.id));
    disk.tamper(&path, |bytes| bytes.truncate(bytes.len() - 1)).expect("there");
    assert_eq!(best(&vault, &all), Some(later.id));
    assert_eq!(vault.list().expect("listed").len(), 4);
}

#[test]
fn a_backup_opens_with_its_keys_only() {
    let disk = MemoryDisk::new();
    let (public, secret) = recovery(&disk);
    let own = vault(&disk).with_recovery(public);
    let stored = own.store(draft(good_efs())).expect("stored");
    let bytes = disk.read(&file(&stored), 1 << 20).expect("there");
    assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
    for plain in [&b"EFSSuper"[..], imei().as_str().as_bytes(), b"efs2"] {
        assert!(!bytes.windows(plain.len()).any(|window| window == plain), "it shows what is in it");
    }
    assert!(!format!("{own:?}").contains("AGE-SECRET-KEY"));

    let key = disk.read(Path::new(KEY), 1 << 16).expect("there");
    disk.replace(Path::new(KEY), b"# lost\nAGE-SECRET-KEY-1NONE\n", false).expect("written");
    let error = vault(&disk).store(draft(later_efs())).expect_err("no key");
    assert!(matches!(error, VaultError::Key { .. }), "{error}");
    assert!(!error.to_string().contains("1NONE"), "what stands in a key file is not shown");
    disk.remove(Path::new(KEY)).expect("removed");
    // Without its key nothing is stored: nobody could say later which key a backup is for.
    let error = vault(&disk).store(draft(later_efs())).expect_err("no key");
    assert_eq!(error.code(), FailureCode::DiskFailed);
    assert!(error.to_string().contains("only it can open"), "{error}");
    assert!(vault(&disk).prepare().is_err());
    assert!(vault(&disk).load(&stored).is_err());
    // What nobody can open is not called damaged.
    let error = vault(&disk).backups_of(CHIP).expect_err("no key");
    assert!(matches!(error, VaultError::Key { .. }) && error.to_string().contains("--identity FILE"), "{error}");
    assert_equal(&vault(&disk).with_keys(secret.clone()), &stored, &draft(good_efs()));

    // A vault of which all is lost but the files: taken in anew, with the key from the safe.
    let anew = Vault::new(Arc::new(disk.clone()), "/var/anew/vault".into()).with_keys(secret);
    let (taken, is_new) = anew.import(&file(&stored), "2026-02-02T00:00:00Z".parse().expect("a time")).expect("taken");
    assert!(is_new);
    assert_eq!(taken, stored);
    let plain = Vault::new(Arc::new(disk.clone()), "/var/anew/vault".into());
    assert_equal(&plain, &stored, &draft(good_efs()));
    disk.replace(Path::new(KEY), &key, false).expect("put back");
    assert_equal(&vault(&disk), &stored, &draft(good_efs()));
    let moved = Path::new("/var/anew/vault").join(CHIP.to_string()).join(format!("0001-{}.smb.age", stored.id));
    let error = vault(&disk).examine(&moved).expect_err("sealed to the other one");
    assert!(error.to_string().contains("sealed to another key"), "{error}");
}

#[test]
fn a_backup_counts_when_its_copy_is_durable() {
    let disk = MemoryDisk::new();
    let both = vault(&disk).with_copy(COPY.into());
    let stored = both.store(draft(good_efs())).expect("stored");
    let copy = Path::new(COPY).join(CHIP.to_string()).join(format!("0001-{}.smb.age", stored.id));
    let good = disk.read(&copy, 1 << 20).expect("there");
    assert_eq!(good, disk.read(&file(&stored), 1 << 20).expect("there"));
    let [entry]: [VaultEntry; 1] = both.list().expect("listed").try_into().expect("one");
    assert_eq!(both.copy_state(&entry).expect("read"), Some(CopyState::Equal));

    disk.tamper(&file(&stored), |bytes| bytes[300] ^= 4).expect("there");
    assert_damaged(vault(&disk).load(&stored));
    assert_equal(&both, &stored, &draft(good_efs()));
    assert_eq!(best(&both, &[&stored]), Some(stored.id));
    assert_eq!(both.copy_state(&entry).expect("read"), Some(CopyState::Differs));
    let places = both.every_place(&entry).expect("read");
    let [(own, Some(fault)), (second, None)] = &places[..] else { panic!("{places:?}") };
    assert_eq!((own, second, fault.damage), (&file(&stored), &copy, Damage::Content));
    disk.tamper(&copy, |bytes| bytes.truncate(90)).expect("there");
    let Verdict::Damaged(faults) = both.judge(&entry).expect("read") else { panic!("both are damaged") };
    let [own, second] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!((&own.path, own.reason.as_str()), (&file(&stored), "it was altered or cut off"));
    assert_eq!((&second.path, second.reason.as_str()), (&copy, "it is cut off in its head"));
    assert_eq!(both.backups_of(CHIP).expect("listed")[0].about.as_ref().err(), Some(&faults));
    disk.replace(&copy, &good, false).expect("put back");
    disk.remove(&file(&stored)).expect("removed");
    assert_equal(&both, &stored, &draft(good_efs()));
    assert_eq!(both.any_place(CHIP, stored.id).expect("read"), [(copy.clone(), None)]);
    disk.remove(&copy).expect("removed");
    assert!(assert_damaged(both.check(&stored)).contains("missing"));
}

/// Fails the `call`-th call; `false` when there were fewer.
fn copy_fails_once(call: u64, kind: FailKind) -> bool {
    let disk = MemoryDisk::new();
    let both = vault(&disk).with_copy(COPY.into());
    both.prepare().expect("a key");
    let before = disk.calls();
    disk.fail_call(before + call, kind);
    let result = both.store(draft(good_efs()));
    if disk.calls() < before + call {
        result.expect("no call failed");
        return false;
    }
    disk.crash();
    match result {
        Err(error) => assert_eq!(error.code(), FailureCode::DiskFailed, "{error}"),
        // What only tidies up may fail.
        Ok(stored) => both.check(&stored).expect("it is there"),
    }
    let stored = both.store(draft(good_efs())).expect("the disk is well again");
    disk.crash();
    assert_equal(&both, &stored, &draft(good_efs()));
    let entries = both.list().expect("listed");
    let states: Vec<_> = entries.iter().map(|entry| both.copy_state(entry).expect("read")).collect();
    assert!(states.contains(&Some(CopyState::Equal)), "{kind:?} of call {call}: {states:?}");
    true
}

#[test]
fn every_call_to_either_disk_may_fail() {
    for kind in [FailKind::Crash, FailKind::Error, FailKind::NoSpace, FailKind::FailedSync] {
        let mut call = 1;
        while copy_fails_once(call, kind) {
            call += 1;
        }
        assert!(call > 20, "storing a backup twice makes more than {call} calls");
    }
}

#[test]
fn what_a_profile_or_a_package_rules_out_is_no_backup() {
    let disk = MemoryDisk::new();
    let vault = vault(&disk);
    let mut demanding = draft(good_efs());
    demanding.taking.used_pages_min = 12;
    let error = vault.store(demanding).expect_err("too few");
    assert_eq!((error.code(), error.to_string().contains("skeleton: 9 pages")), (FailureCode::BackupInvalid, true));
    // The image of a package ends with its last used page, and the module reads the rest as it does.
    let blank = efs(&[5; 9]);
    let mut unused = draft(blank.clone());
    unused.taking.blank_efs = Some(efs_digest(&blank[..9 * 512 - 100], GEOMETRY));
    vault.store(unused.clone()).expect("a page that is cut off is another page");
    unused.taking.blank_efs = Some(efs_digest(&blank[..9 * 512], GEOMETRY));
    let error = vault.store(unused).expect_err("it is the package's");
    assert_eq!(error.code(), FailureCode::BackupInvalid);
    assert!(error.to_string().contains("blank EFS of a package"), "{error}");
    let mut used = draft(good_efs());
    used.taking.blank_efs = Some(efs_digest(&blank, GEOMETRY));
    vault.store(used).expect("the module's own");
}

#[test]
fn an_xqcn_file_comes_back_as_it_was() {
    let disk = MemoryDisk::new();
    let vault = vault(&disk);
    let counts = XqcnCounts { nv_items: 700, files: 1200, directories: 69 };
    let bytes: Vec<u8> = (0..200_000_u32).map(|at| u8::try_from(at % 253).expect("small")).collect();
    let draft_of = |counts, bytes: &[u8]| XqcnDraft { taking: taking(None), counts, bytes: bytes.to_vec() };
    let stored = vault.store_xqcn(draft_of(counts, &bytes)).expect("stored");
    assert_eq!((stored.kind, stored.xqcn, stored.bytes), (BackupKind::Xqcn, Some(counts), 200_000));
    assert_eq!(vault.load_xqcn(&stored).expect("verified"), bytes);
    assert!(vault.load_xqcn(&vault.store(draft(good_efs())).expect("stored")).is_err());
    // Directories and no files: what a tool has once made and called a backup.
    let hollow = XqcnCounts { nv_items: 700, files: 0, directories: 69 };
    let error = vault.store_xqcn(draft_of(hollow, &bytes)).expect_err("it holds nothing");
    assert_eq!(error.code(), FailureCode::BackupInvalid);
    assert!(error.to_string().contains("0 files and 69 directories"), "{error}");
    assert!(vault.store_xqcn(draft_of(counts, &[])).is_err());
    let recorded = |backup: &BackupRef| *backup == stored;
    let found = vault.best_for(CHIP, BackupKind::Xqcn, recorded).expect("read");
    assert_eq!(found.as_ref(), Some(&stored));
    disk.tamper(&file(&stored), |bytes| bytes.truncate(bytes.len() / 2)).expect("there");
    assert_damaged(vault.load_xqcn(&stored));
}

/// A backup as they were stored before they were sealed.
fn first_form(efs: &[u8]) -> Vec<u8> {
    let used: Vec<&[u8]> = efs.chunks(512).filter(|page| page.iter().any(|byte| *byte != page[0])).collect();
    let runs = format!("[[\"u\",{}],[\"f\",{}]]", used.len(), 32 - used.len());
    let mut frame = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    frame.window_log(16).expect("a window");
    used.iter().for_each(|page| frame.write_all(page).expect("in memory"));
    let index = format!(
        "{{\"schema\":1,\"chip\":\"{CHIP}\",\"imei\":\"{}\",\"geometry\":{{\"page_bytes\":512,\"pages_per_block\":16}},\
         \"parts\":[{{\"partition\":\"efs2\",\"range\":{{\"start\":160,\"pages\":32}},\"sha256\":\"{}\",\"efs\":true,\
         \"pages\":{runs}}}]}}",
        imei(),
        Sha256Digest::of(efs)
    );
    let pages = frame.finish().expect("in memory");
    [b"SMBACK01", &pages[..], index.as_bytes(), &(index.len() as u64).to_le_bytes(), b"SMBINDEX"].concat()
}

#[test]
fn a_backup_of_the_time_before_seals_is_still_read() {
    let disk = MemoryDisk::new();
    let vault = vault(&disk);
    let efs = efs(&[3; 10]);
    let bytes = first_form(&efs);
    let path = Path::new(DIRECTORY).join(CHIP.to_string()).join(format!("{}.smb", Sha256Digest::of(&bytes)));
    disk.create_dir_all(path.parent().expect("a directory")).expect("made");
    disk.replace(&path, &bytes, false).expect("written");
    let [entry]: [VaultEntry; 1] = vault.list().expect("listed").try_into().expect("one");
    assert!(!entry.is_sealed());
    let Verdict::Good(old) = vault.judge(&entry).expect("read") else { panic!("it is good") };
    assert_eq!((old.id, old.bad_blocks.as_ref()), (Sha256Digest::of(&bytes), None));
    assert_eq!(vault.load(&old).expect("verified").parts[0].bytes, efs);
    // What the ledger of that time says of it has neither a kind nor bad blocks.
    let text = serde_json::to_string(&old).expect("text");
    assert!(!text.contains("kind") && !text.contains("bad_blocks"), "{text}");
    assert_eq!(serde_json::from_str::<BackupRef>(&text).expect("read"), old);
    // It is older than every sealed one.
    let sealed = vault.store(draft(good_efs())).expect("stored");
    assert_eq!(best(&vault, &[&old, &sealed]), Some(old.id));
    let (copied, is_new) = vault.import(&path, "2026-02-02T00:00:00Z".parse().expect("a time")).expect("sealed");
    assert!(is_new && copied.id != old.id);
    assert_eq!(copied.parts, old.parts);
    disk.tamper(&path, |bytes| bytes[20] ^= 1).expect("there");
    assert!(assert_damaged(vault.load(&old)).contains("was altered"));
    assert_eq!(best(&vault, &[&old, &sealed]), Some(sealed.id));
}

#[test]
fn only_of_an_ill_module_an_efs_that_the_profile_rules_out_is_kept() {
    let disk = MemoryDisk::new();
    let vault = vault(&disk);
    for (ill, efs, is_kept) in [
        (None, good_efs(), false),
        (Some("EFS lost"), good_efs(), true),
        (Some("EFS lost"), vec![0xff; 32 * 512], false),
    ] {
        let mut taking = taking(ill);
        taking.used_pages_min = 31;
        let mut writer = vault.begin(taking, GEOMETRY).expect("begun");
        writer.keep_any_efs();
        writer.part("efs2", PageRange { start: 160, pages: 32 }, true).expect("a part");
        let padding = vec![0xff; 32 * 512 - efs.len()];
        writer.bytes(&[efs, padding].concat()).expect("all of it");
        match writer.finish() {
            Ok(backup) => {
                assert!(is_kept);
                assert_eq!(backup.suspect.as_deref(), ill);
                assert_eq!(best(&vault, &[&backup]), None);
            }
            Err(error) => assert_eq!((error.code(), is_kept), (FailureCode::BackupInvalid, false)),
        }
    }
}

#[test]
fn what_another_vault_exports_is_taken_in_and_replaces_nothing() {
    let disk = MemoryDisk::new();
    let (here, there) = (vault(&disk), Vault::new(Arc::new(disk.clone()), "/other/vault".into()));
    let key = there.prepare().expect("a key");
    let stored = here.store(draft(good_efs())).expect("stored");
    let [entry]: [VaultEntry; 1] = here.list().expect("listed").try_into().expect("one");
    disk.create_dir_all(Path::new("/stick")).expect("made");
    let out = PathBuf::from("/stick/one.smb.age");
    assert_eq!(here.export(&entry, std::slice::from_ref(&key), &out).expect("exported"), stored);
    assert!(here.export(&entry, std::slice::from_ref(&key), &out).is_err(), "it does not overwrite");
    assert_eq!(disk.list(Path::new("/stick")).expect("listed").len(), 1);
    assert!(here.examine(&out).is_err(), "it is for the other one alone");
    assert_eq!(there.examine(&out).expect("verified").backup, stored);
    let now = "2026-02-02T00:00:00Z".parse().expect("a time");
    assert_eq!(there.import(&out, now).expect("taken in"), (stored.clone(), true));
    assert_eq!(there.import(&out, now).expect("known"), (stored.clone(), false));
    assert_equal(&there, &stored, &draft(good_efs()));
    let held = there.backups_of(CHIP).expect("listed");
    let label = held[0].about.as_ref().expect("read").label.as_ref().expect("sealed");
    assert_eq!(*label, taking(None).label, "when it was taken stays on it");
    assert_eq!(held.len(), 1);

    disk.tamper(&out, |bytes| bytes[400] ^= 1).expect("there");
    assert_damaged(there.import(&out, now));
    assert_eq!(there.list().expect("listed").len(), 1);
    disk.tamper(&file(&stored), |bytes| bytes[400] ^= 1).expect("there");
    assert_damaged(here.export(&entry, &[key], Path::new("/stick/two.smb.age")));
    assert_eq!(disk.list(Path::new("/stick")).expect("listed").len(), 1, "nothing damaged is given out");
}

fn station_key(disk: &MemoryDisk) -> age::x25519::Identity {
    let text = String::from_utf8(disk.read(Path::new(KEY), 1 << 16).expect("there")).expect("text");
    text.lines().find(|line| line.starts_with("AGE-")).expect("a key").parse().expect("a key")
}

fn unsealed(bytes: &[u8], key: &age::x25519::Identity) -> Vec<u8> {
    let decryptor = age::Decryptor::new(bytes).expect("an age file");
    let mut plain = Vec::new();
    let mut reader = decryptor.decrypt(std::iter::once(key as &dyn age::Identity)).expect("its key");
    reader.read_to_end(&mut plain).expect("whole");
    // The label is a frame that a decoder passes over.
    zstd::stream::decode_all(&plain[..]).expect("compressed")
}

fn sealed(content: &[u8], key: &age::x25519::Identity) -> Vec<u8> {
    let label = br#"{"taken":"2026-01-02T03:04:05Z"}"#;
    let length = u32::try_from(label.len()).expect("small");
    let mut plain = [&0x184d_2a50_u32.to_le_bytes()[..], &length.to_le_bytes(), label].concat();
    let mut encoder = zstd::stream::write::Encoder::new(&mut plain, 1).expect("an encoder");
    encoder.window_log(16).expect("a window");
    encoder.write_all(content).expect("in memory");
    encoder.finish().expect("in memory");
    let public = key.to_public();
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&public as &dyn age::Recipient)).expect("one");
    let mut out = Vec::new();
    let mut writer = encryptor.wrap_output(&mut out).expect("in memory");
    writer.write_all(&plain).expect("in memory");
    writer.finish().expect("in memory");
    out
}

#[test]
fn what_only_begins_like_a_sealed_file_is_refused() {
    let disk = MemoryDisk::new();
    let vault = vault(&disk);
    vault.prepare().expect("a key");
    disk.create_dir_all(Path::new("/stick")).expect("made");
    let path = Path::new("/stick/x.smb.age");
    let line = b"-> X25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
    let endless = [b"age-encryption.org/v1\n".to_vec(), line.repeat(20_000)].concat();
    let headless = b"age-encryption.org/v1\n--- AAAA\n".to_vec();
    for bytes in [endless, headless, vec![], vec![0; 5_000], b"age-encryption.org/v1\n".to_vec()] {
        disk.replace(path, &bytes, false).expect("written");
        assert_damaged(vault.examine(path));
    }
}

#[test]
fn a_vault_is_read_with_common_tools() {
    let disk = MemoryDisk::new();
    let stored = vault(&disk).store(draft(good_efs())).expect("stored");
    let content = unsealed(&disk.read(&file(&stored), 1 << 20).expect("there"), &station_key(&disk));
    assert_eq!(Sha256Digest::of(&content), stored.id);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Who has the keys can seal anything; nothing panics, and what is recorded still has to match.
    #[test]
    fn a_sealed_forgery_is_refused(at in any::<prop::sample::Index>(), value in any::<u8>(), what in 0..3_u8) {
        let disk = MemoryDisk::new();
        let vault = vault(&disk);
        let mut stored = vault.store(draft(good_efs())).expect("stored");
        let key = station_key(&disk);
        let mut content = unsealed(&disk.read(&file(&stored), 1 << 20).expect("there"), &key);
        let at = at.index(content.len());
        match what {
            0 => {
                prop_assume!(content[at] != value);
                content[at] = value;
            }
            1 => content.truncate(at),
            _ => content.insert(at, value),
        }
        stored.id = Sha256Digest::of(&content);
        disk.replace(&file(&stored), &sealed(&content, &key), false).expect("written");
        let [_, entry]: [VaultEntry; 2] = vault.list().expect("listed").try_into().expect("two");
        let _no_panic = vault.judge(&entry).expect("the disk is well");
        if let Ok(loaded) = vault.load(&stored) {
            for (found, expected) in loaded.parts.iter().zip(draft(good_efs()).parts) {
                prop_assert!(found.bytes == expected.bytes);
            }
        }
        prop_assert_eq!(names(&disk).len(), 2);
    }
}

#[test]
fn a_backup_that_cannot_be_judged_is_there_all_the_same() {
    let disk = MemoryDisk::new();
    let both = vault(&disk).with_copy(COPY.into());
    let stored = both.store(draft(good_efs())).expect("stored");
    let recorded = BTreeSet::from([stored.id]);
    let path = file(&stored);
    let copy = Path::new(COPY).join(CHIP.to_string()).join(path.file_name().expect("a name"));
    let good = disk.read(&path, 1 << 20).expect("there");
    assert_eq!(both.unjudged(CHIP, &recorded).expect("read"), []);

    // Where one place has it, it is listed and used.
    disk.remove(&path).expect("there");
    assert_eq!(both.list().expect("listed").len(), 1);
    assert_eq!(best(&both, &[&stored]), Some(stored.id));
    assert_eq!(both.unjudged(CHIP, &recorded).expect("read"), []);

    disk.tamper(&copy, |bytes| bytes.truncate(bytes.len() - 1)).expect("there");
    assert_eq!(best(&both, &[&stored]), None);
    let [one] = &both.unjudged(CHIP, &recorded).expect("read")[..] else { panic!("one") };
    assert_eq!((one.id, &one.path), (stored.id, &path));
    assert_eq!(both.unjudged(CHIP, &BTreeSet::new()).expect("read"), [], "it is nobody's");

    // What stands in for it later is as good.
    let again = both.store(draft(good_efs())).expect("stored");
    assert_eq!((again.id, best(&both, &[&again])), (stored.id, Some(stored.id)));
    assert_eq!(both.unjudged(CHIP, &recorded).expect("read"), []);

    // Sealed to a key that is not there.
    let key = disk.read(Path::new(KEY), 1 << 20).expect("there");
    disk.remove(Path::new(KEY)).expect("there");
    let reopened = vault(&disk).with_copy(COPY.into());
    let error = reopened.unjudged(CHIP, &recorded).expect_err("nobody can say");
    assert!(matches!(error, VaultError::Key { .. }), "{error}");
    disk.replace(Path::new(KEY), &key, false).expect("put back");
    disk.replace(&path, &good, false).expect("put back");
    assert_eq!(best(&vault(&disk).with_copy(COPY.into()), &[&stored]), Some(stored.id));
}
