//! Backups over DIAG as the product makes them, and giving them back to a module that has lost everything.

use std::path::PathBuf;
use std::sync::Arc;

use stationmaster::controller::{Compared, DiagSession};
use stationmaster::domain::{BackupRef, ChipId, Family, Imei, Manifest, XqcnCounts};
use stationmaster::host::{Disk, MemoryDisk};
use stationmaster::protocol::diag::Mode;
use stationmaster::protocol::xqcn::{self, FileKind, Owner, Xqcn};
use stationmaster::sim::UnitTruth;
use stationmaster::sim::efs::{BOOTS_PATH, EfsState, Items, NodeKind, RF_DIRECTORY, is_of_nv};
use stationmaster::vault::{Label, Taking, Vault, XqcnDraft};

use crate::conversation::items_of;
use crate::rig::{EG25, RM520N, Rig};

fn family(kind: (&str, &str)) -> &'static Family {
    let found = stationmaster::domain::family::FAMILIES.iter().find(|family| family.models.contains(&kind.0));
    found.expect("a family")
}

/// The files of a module, as a backup has them: without NV items, directories and what changes at each start.
fn files(items: &Items) -> Vec<(String, FileKind, Vec<u8>)> {
    let files =
        items.nodes().filter(|(path, node)| node.kind != NodeKind::Directory && !is_of_nv(path) && *path != BOOTS_PATH);
    files
        .map(|(path, node)| {
            let kind = if node.kind == NodeKind::Item { FileKind::Item } else { FileKind::Ordinary };
            (path.to_owned(), kind, node.data.clone())
        })
        .collect()
}

fn files_of_backup(content: &Xqcn) -> Vec<(String, FileKind, Vec<u8>)> {
    let mut files: Vec<_> =
        content.in_order().map(|(file, kind)| (file.path.to_string(), kind, file.data.clone())).collect();
    files.sort_by(|one, other| one.0.cmp(&other.0));
    files
}

fn lose_efs(unit: &UnitTruth) {
    for range in unit.guarded() {
        for block in range.start / 64..range.end() / 64 {
            unit.erase_block(block).expect("a block");
        }
    }
}

async fn collected(session: &mut DiagSession, kind: (&str, &str)) -> Xqcn {
    let found = session.collect(family(kind)).await.expect("a backup");
    assert_eq!((found.unreadable, found.directories > 8), (Vec::new(), true));
    // What is given back later comes out of a file.
    let bytes = xqcn::write(&found.content).expect("it can be written");
    let read = xqcn::read(&bytes).expect("it can be read");
    assert_eq!(read, found.content);
    read
}

fn owner(imei: &str) -> Owner {
    Owner { imei: imei.parse::<Imei>().expect("an IMEI"), calibration: None }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_lost_its_file_system_gets_everything_back() {
    for kind in [EG25, RM520N] {
        let (rig, family) = (Rig::one(kind, &[]).await, family(kind));
        let manifest = Manifest::of_family(family);
        let mut session = rig.session().await;
        let unit = rig.factory.unit(1).expect("a unit");
        let saved = collected(&mut session, kind).await;
        drop(session);
        let before = unit.inspect().expect("readable");
        let imei = before.imei.clone().expect("an IMEI");
        assert!(saved.items == items_of(&before.items), "every NV item of every subscription");
        assert!(files_of_backup(&saved) == files(&before.items), "every file with its kind, hidden ones too");
        assert!(saved.in_order().any(|(file, _)| file.path.as_str().starts_with(RF_DIRECTORY)));
        xqcn::check(&saved, family, &manifest, &owner(&imei)).expect("it is whole");

        lose_efs(&unit);
        rig.replug();
        rig.normal().await;
        rig.replug();
        let mut session = rig.session().await;
        let lost = unit.inspect().expect("readable");
        assert_eq!((lost.efs, lost.imei, unit.cfun()), (EfsState::Skeleton, None, 5));
        if kind == EG25 {
            let skeleton = session.collect(family).await.expect("a backup").content;
            let problems = xqcn::check(&skeleton, family, &manifest, &owner(&imei)).expect_err("a skeleton");
            assert!(problems.to_string().contains("NV item 550 is missing"), "{problems}");
        }
        let different = session.differences(&saved, family, &manifest, Compared::Required).await.expect("answers");
        assert!(different.contains(&"NV item 550".to_owned()) && different.len() > 40, "{different:?}");

        let restored = session.restore(&saved, family).await.expect("a restore");
        assert_eq!(restored.refused, []);
        assert_eq!((restored.items, restored.files), (saved.items.len(), saved.in_order().count()));
        let compared = Compared::Everything(&restored);
        assert_eq!(session.differences(&saved, family, &manifest, compared).await, Ok(Vec::new()));
        session.control(Mode::Reset).await.expect("a reset");
        drop(session);
        rig.clock.sleep(std::time::Duration::from_secs(5)).await;
        rig.normal().await;
        let after = unit.inspect().expect("readable");
        assert_eq!((after.efs, after.imei, unit.cfun()), (EfsState::Present, before.imei.clone(), 1));
        assert!(items_of(&after.items) == saved.items && files(&after.items) == files(&before.items));
        let mut session = rig.session().await;
        assert_eq!(session.differences(&saved, family, &manifest, Compared::Required).await, Ok(Vec::new()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_the_module_does_not_take_holds_up_nothing_unless_it_is_required() {
    let (rig, family) = (Rig::one(EG25, &[]).await, family(EG25));
    let manifest = Manifest::of_family(family);
    let mut session = rig.session().await;
    let mut saved = collected(&mut session, EG25).await;
    // Item 3 is one that this firmware does not define, and the IMEI may be written once.
    let odd = stationmaster::protocol::diag::nv::ItemKey::of_module(3);
    saved.items.insert(odd, [1; 128]);
    let restored = session.restore(&saved, family).await.expect("a restore");
    assert_eq!(restored.refused, [("NV item 3".to_owned(), "DIAG NV write: not defined".to_owned())]);
    let compared = Compared::Everything(&restored);
    assert_eq!(session.differences(&saved, family, &manifest, compared).await, Ok(Vec::new()));
    let manifest = Manifest { items: vec![3], ..manifest };
    assert_eq!(session.differences(&saved, family, &manifest, compared).await, Ok(vec!["NV item 3".to_owned()]));
}

#[test]
fn what_was_altered_cut_off_or_is_another_chips_does_not_come_out_of_the_vault() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let vault = Vault::new(Arc::clone(&disk), PathBuf::from("state/vault"));
    let chip = |serial| ChipId { hw_id: 0x0004_a0e1_0000_0000, serial };
    let imei = owner("490154203237518").imei;
    let label = Label { taken: "2026-01-01T00:00:00Z".parse().expect("a timestamp"), run: None, suspect: None };
    let taking = Taking { chip: chip(1), imei, label, used_pages_min: 8, blank_efs: None };
    let counts = XqcnCounts { nv_items: 1, files: 1, directories: 1 };
    let bytes: Vec<u8> = (0..3000_u32).flat_map(u32::to_le_bytes).collect();
    let backup = vault.store_xqcn(XqcnDraft { taking, counts, bytes: bytes.clone() }).expect("it is stored");
    assert_eq!(vault.load_xqcn(&backup).expect("it is good"), bytes);

    let directory = PathBuf::from("state/vault").join(backup.chip.to_string());
    let [entry] = disk.list(&directory).expect("a directory").try_into().expect("one file");
    let path = directory.join(&entry.name);
    let whole = disk.read(&path, 1 << 20).expect("a file");
    for at in (0..whole.len()).step_by(41) {
        let mut altered = whole.clone();
        altered[at] ^= 4;
        disk.replace(&path, &altered, true).expect("written");
        assert!(vault.load_xqcn(&backup).is_err(), "byte {at} of {}", whole.len());
        disk.replace(&path, &whole[..at], true).expect("written");
        assert!(vault.load_xqcn(&backup).is_err(), "cut off at {at} of {}", whole.len());
    }
    disk.replace(&path, &whole, true).expect("written");
    assert_eq!(vault.load_xqcn(&backup).expect("it is good again"), bytes);

    // The same file in the directory of another chip, and under a name that says so.
    let other = PathBuf::from("state/vault").join(chip(2).to_string());
    disk.create_dir_all(&other).expect("made");
    disk.replace(&other.join(&entry.name), &whole, true).expect("written");
    let error = vault.load_xqcn(&BackupRef { chip: chip(2), ..backup.clone() }).expect_err("another chip's");
    assert!(error.to_string().contains(&backup.id.to_string()), "{error}");
}
