use std::collections::BTreeMap;

use md5::{Digest, Md5};

use super::*;
use crate::domain::PageRange;
use crate::host::MemoryDisk;
use crate::sim::boot::{self, Boot};
use crate::sim::efs::EfsState;
use crate::sim::flash_map::FlashMap;
use crate::sim::models::MODELS;
use crate::sim::nand::{Nand, PagePool};
use crate::sim::programmer::programmer_info;
use crate::sim::unit::{factory_fresh, identity, inspect};

const BYTES_MAX: u64 = 256 * 1024 * 1024;

fn spec(model: &Model, variant: &str) -> PackageSpec {
    PackageSpec {
        model: model.name.to_owned(),
        revision: model.current_revision().to_owned(),
        megabytes: 2,
        variant: variant.to_owned(),
    }
}

fn made(model: &Model, variant: &str) -> MemoryDisk {
    let disk = MemoryDisk::new();
    generate(&disk, Path::new("/p"), &spec(model, variant)).expect("a package");
    disk
}

fn read(disk: &MemoryDisk, key: &str) -> Vec<u8> {
    disk.read(&Path::new("/p").join(key), BYTES_MAX).unwrap_or_else(|error| panic!("{key}: {error}"))
}

fn names(disk: &MemoryDisk, directory: &str) -> Vec<String> {
    disk.list(&Path::new("/p").join(directory)).expect("a directory").into_iter().map(|entry| entry.name).collect()
}

fn check_list(disk: &MemoryDisk) -> BTreeMap<String, String> {
    let text = String::from_utf8(read(disk, "md5.txt")).expect("text");
    assert!(text.starts_with("VERSION:1.0\r\nFILE:START\r\nFILE:\\") && text.ends_with("FILE:END\r\n"));
    let line = |line: &str| {
        let (path, md5) = line.strip_prefix("FILE:\\")?.rsplit_once(':')?;
        Some((path.replace('\\', "/"), md5.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// The operations of a document as written, read without the generator's help.
fn document(disk: &MemoryDisk, kind: &str) -> Vec<(bool, PageRange, String)> {
    let name = names(disk, "update/firehose").into_iter().find(|name| name.ends_with(&format!("_{kind}.xml")));
    let text = String::from_utf8(read(disk, &format!("update/firehose/{}", name.expect("a document")))).expect("text");
    let value = |line: &str, name: &str| {
        let at = line.find(&format!("{name}=\"")).map(|at| at + name.len() + 2)?;
        Some(line[at..].split('"').next().unwrap_or_default().to_owned())
    };
    text.lines()
        .filter(|line| line.contains("<program") || line.contains("<erase"))
        .map(|line| {
            let number = |name| value(line, name).and_then(|text| text.parse().ok()).expect("a number");
            let range = PageRange { start: number("start_sector"), pages: number("num_partition_sectors") };
            let file = value(line, "filename").unwrap_or_default();
            let key = match file.strip_prefix("..\\") {
                Some(name) => format!("update/{name}"),
                None => format!("update/firehose/{file}"),
            };
            (line.contains("<erase"), range, key)
        })
        .collect()
}

fn unit(model: &'static Model) -> Nand {
    let mut nand = Nand::in_memory(model.geometry, model.total_pages, &PagePool::new());
    nand.scatter_bad_blocks(11, 6).expect("bad blocks");
    factory_fresh(&mut nand, &identity(model, 7, 1), model.revisions[0]).expect("a unit");
    nand
}

/// Executes operations as a programmer does; after each block erased and each page programmed, `seen` is called.
fn execute(
    disk: &MemoryDisk,
    nand: &mut Nand,
    model: &Model,
    operations: &[(bool, PageRange, String)],
    mut seen: impl FnMut(&Nand),
) {
    let map = FlashMap::of_module(nand, model);
    let per_block = u64::from(model.geometry.pages_per_block);
    for (is_erase, range, key) in operations {
        if *is_erase {
            for start in (range.start..range.end()).step_by(model.geometry.pages_per_block as usize) {
                map.erase(nand, PageRange { start, pages: per_block }).expect("an erase");
                seen(nand);
            }
            continue;
        }
        let mut image = read(disk, key);
        image.resize(image.len().next_multiple_of(nand.page_bytes()), 0);
        for (page, content) in (range.start..).zip(image.chunks(nand.page_bytes())) {
            map.program(nand, page, content).expect("a program");
            seen(nand);
        }
    }
}

/// The order that is safe: the boot loader erased first and programmed last.
fn safe(operations: &[(bool, PageRange, String)]) -> Vec<(bool, PageRange, String)> {
    let mut sorted = operations.to_vec();
    sorted.sort_by_key(|(is_erase, range, _)| match (is_erase, range.start == 0) {
        (true, true) => 0,
        (true, false) => 1,
        (false, false) => 2,
        (false, true) => 3,
    });
    sorted
}

#[test]
fn the_same_description_gives_the_same_files() {
    for model in MODELS {
        let (one, two) = (made(model, "update"), made(model, "update"));
        let list = check_list(&one);
        assert_eq!(list, check_list(&two));
        let images = |key: &&String| !key.ends_with(".xml") && !key.ends_with(".zip");
        assert!(list.keys().filter(images).count() >= 20, "{}: {list:?}", model.name);
        for (key, md5) in list.iter().filter(|(key, _)| !key.ends_with("targetfiles.zip")) {
            let bytes = read(&one, key);
            assert_eq!(bytes, read(&two, key));
            let digest: String = Md5::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
            assert_eq!(&digest, md5, "{key}");
        }
    }
}

#[test]
fn a_package_flashed_in_the_safe_order_never_strands_a_module() {
    for model in MODELS {
        let disk = made(model, "update");
        let mut nand = unit(model);
        let before = inspect(&nand, model).expect("an inspection");
        let operations = safe(&document(&disk, "update"));
        let mut states = Vec::new();
        execute(&disk, &mut nand, model, &operations, |nand| states.push(boot::look(nand, model)));
        let last = states.pop().expect("a last state");
        // From the first block that is erased to the last page but one, the boot ROM stays in download mode.
        assert!(states.iter().all(|state| matches!(state, Boot::Edl { .. })), "{}", model.name);
        let Boot::Normal(system) = last else { panic!("{}: {last:?}", model.name) };
        assert_eq!((system.revision.as_str(), system.efs), (model.current_revision(), EfsState::Present));
        let after = inspect(&nand, model).expect("an inspection");
        assert_eq!((after.imei, after.efs_digest), (before.imei, before.efs_digest));
    }
}

#[test]
fn a_package_executed_as_written_kills_the_module() {
    for model in MODELS {
        let disk = made(model, "update");
        let mut nand = unit(model);
        let mut operations = 0;
        execute(&disk, &mut nand, model, &document(&disk, "update"), |nand| {
            operations += 1;
            assert_ne!(boot::look(nand, model).as_str(), "normal", "{} after {operations}", model.name);
        });
        assert!(matches!(boot::look(&nand, model), Boot::Edl { .. }));
    }
}

#[test]
fn an_incomplete_set_of_images_does_not_start() {
    let model = Model::by_name("RM500Q-GL").expect("a model");
    let disk = made(model, "update");
    let operations = safe(&document(&disk, "update"));
    for (name, expected) in
        [("modem", "no-system"), ("system", "no-system"), ("tz", "memory-dump"), ("aop", "memory-dump")]
    {
        let left_out = model.range(name).expect("a partition");
        for with_erase in [false, true] {
            let mut nand = unit(model);
            let part: Vec<_> = operations
                .iter()
                .filter(|(is_erase, range, _)| range.start != left_out.start || (*is_erase && with_erase))
                .cloned()
                .collect();
            execute(&disk, &mut nand, model, &part, |_| ());
            assert_eq!(boot::look(&nand, model).as_str(), expected, "{name} {with_erase}");
        }
    }
    let table = model.range("MIBIB").expect("a partition");
    let mut nand = unit(model);
    let part: Vec<_> =
        operations.iter().filter(|(erase, range, _)| range.start != table.start || *erase).cloned().collect();
    execute(&disk, &mut nand, model, &part, |_| ());
    assert_eq!(boot::look(&nand, model).as_str(), "edl");
}

#[test]
fn a_factory_document_takes_the_calibration_away() {
    let model = Model::by_name("EG25-G").expect("a model");
    let disk = made(model, "factory");
    assert!(names(&disk, "update/firehose").iter().all(|name| !name.ends_with("_update.xml")));
    let mut nand = unit(model);
    execute(&disk, &mut nand, model, &safe(&document(&disk, "factory")), |_| ());
    let Boot::Normal(system) = boot::boot(&mut nand, model) else { panic!("dead") };
    assert_eq!((system.efs, system.cfun(), system.items.imei()), (EfsState::Skeleton, 5, None));
}

#[test]
fn a_table_that_moves_the_efs_loses_it() {
    let model = Model::by_name("RM520N-GL").expect("a model");
    let disk = made(model, "moves-efs");
    let mut nand = unit(model);
    execute(&disk, &mut nand, model, &safe(&document(&disk, "update")), |_| ());
    let Boot::Normal(system) = boot::boot(&mut nand, model) else { panic!("dead") };
    assert_eq!((system.efs, system.cfun()), (EfsState::Lost, 5));
}

#[test]
fn each_variant_is_what_it_says() {
    let model = Model::by_name("EG25-G").expect("a model");
    let programmer =
        |variant| programmer_info(&read(&made(model, variant), "update/firehose/prog_nand_firehose_9x07.mbn"));
    let plain = programmer("update").expect("a programmer");
    assert!(plain.can_read && plain.key_hash == model.key_hash());
    assert_ne!(programmer("foreign-programmer").expect("a programmer").key_hash, model.key_hash());
    assert!(!programmer("blind-programmer").expect("a programmer").can_read);

    let no_loader = made(model, "no-boot-loader");
    assert!(document(&no_loader, "update").iter().all(|(_, range, _)| range.start != 0));
    assert!(!check_list(&no_loader).contains_key("update/sbl1.mbn"));

    let other = made(model, "wrong-geometry");
    assert!(names(&other, "update/firehose").contains(&"rawprogram_nand_p4K_b256K_update.xml".to_owned()));

    let broken = made(model, "bad-checksum");
    let digest: String = Md5::digest(read(&broken, "update/tz.mbn")).iter().map(|byte| format!("{byte:02X}")).collect();
    let listed = &check_list(&broken)["update/tz.mbn"];
    assert!(digest[..31] == listed[..31] && digest != *listed);

    let overlap = document(&made(model, "overlap"), "update");
    let programs: Vec<PageRange> = overlap.iter().filter(|(erase, _, _)| !erase).map(|(_, range, _)| *range).collect();
    assert!(programs.iter().enumerate().any(|(at, one)| programs[at + 1..].iter().any(|two| one.overlaps(*two))));

    let old = made(model, "old");
    let mut nand = unit(model);
    execute(&old, &mut nand, model, &safe(&document(&old, "update")), |_| ());
    let Boot::Normal(system) = boot::look(&nand, model) else { panic!("dead") };
    assert_eq!(system.revision, model.revisions[0]);

    let both = names(&made(model, "update+factory"), "update/firehose");
    assert_eq!(both.iter().filter(|name| name.starts_with("rawprogram")).count(), 2);
    for (name, _) in VARIANTS {
        made(model, name);
    }
}

#[test]
fn what_cannot_be_made_is_refused() {
    let disk = MemoryDisk::new();
    let model = &MODELS[0];
    let attempt = |change: fn(&mut PackageSpec)| {
        let mut spec = spec(model, "update");
        change(&mut spec);
        generate(&disk, Path::new("/p"), &spec)
    };
    assert!(matches!(attempt(|spec| spec.model = "EG99".to_owned()), Err(PackageError::Model(_))));
    assert!(matches!(attempt(|spec| spec.variant = "none".to_owned()), Err(PackageError::Variant(_))));
    assert!(matches!(attempt(|spec| spec.revision = "a b".to_owned()), Err(PackageError::Revision)));
    assert!(matches!(attempt(|spec| spec.revision = "x".repeat(64)), Err(PackageError::Revision)));
    assert!(matches!(attempt(|spec| spec.megabytes = 9999), Err(PackageError::Megabytes { .. })));
}

#[test]
fn a_package_is_made_once_and_an_interrupted_one_again() {
    let model = &MODELS[0];
    let disk = made(model, "update");
    let calls = disk.calls();
    generate(&disk, Path::new("/p"), &spec(model, "update")).expect("nothing to do");
    assert!(disk.calls() - calls < 10);

    let list = check_list(&disk);
    let path = Path::new("/p/update/tz.mbn");
    disk.remove(Path::new("/p/md5.txt")).expect("a removal");
    disk.tamper(path, |bytes| bytes.truncate(100)).expect("a change");
    generate(&disk, Path::new("/p"), &spec(model, "update")).expect("a package");
    assert_eq!(check_list(&disk), list);
    assert!(read(&disk, "update/tz.mbn").len() > 100);

    let other = PackageSpec { megabytes: 3, ..spec(model, "update") };
    generate(&disk, Path::new("/p"), &other).expect("a package");
    assert_ne!(check_list(&disk), list);
}

#[test]
fn a_package_of_text_files_is_completed_flashed_and_boots() {
    let model = Model::by_name("EG25-G").expect("a model");
    let disk = made(model, "update");
    for key in check_list(&disk).keys() {
        if !key.ends_with(".xml") && !key.ends_with(".zip") {
            disk.remove(&Path::new("/p").join(key)).expect("a removal");
        }
    }
    let lengths = "path\tbytes\nupdate/tz.mbn\t526844\nupdate/NON-HLOS.ubi\tunknown\n";
    disk.replace(Path::new("/p/images.tsv"), lengths.as_bytes(), true).expect("a file");
    let before = read(&disk, "md5.txt");
    complete(&disk, Path::new("/p"), Path::new("/copy/p"), None).expect("a copy");
    assert_eq!(read(&disk, "md5.txt"), before);

    let copy = Path::new("/copy/p");
    let text = String::from_utf8(disk.read(&copy.join("md5.txt"), BYTES_MAX).expect("a list")).expect("text");
    assert_eq!(text.lines().count(), String::from_utf8(before).expect("text").lines().count());
    assert_eq!(disk.open(&copy.join("update/tz.mbn")).expect("a file").bytes().expect("bytes"), 526_844);
    assert!(disk.open(&copy.join("images.tsv")).is_err());

    // Flash the copy: it is read through the same helpers, from its own disk.
    let moved = MemoryDisk::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("FILE:\\")) {
        let key = line.rsplit_once(':').expect("a digest").0.replace('\\', "/");
        if let Ok(bytes) = disk.read(&copy.join(&key), BYTES_MAX) {
            let path = Path::new("/p").join(&key);
            moved.create_dir_all(path.parent().expect("a directory")).expect("a directory");
            moved.replace(&path, &bytes, true).expect("a file");
            let digest: String = Md5::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
            assert!(line.ends_with(&digest), "{key}");
        }
    }
    let mut nand = unit(model);
    execute(&moved, &mut nand, model, &safe(&document(&moved, "update")), |_| ());
    let Boot::Normal(system) = boot::look(&nand, model) else { panic!("dead: {:?}", boot::look(&nand, model)) };
    assert_eq!((system.revision.as_str(), system.efs), (model.current_revision(), EfsState::Present));
}

#[test]
fn directories_that_are_no_package_are_refused_with_the_reason() {
    let disk = MemoryDisk::new();
    let attempt = |files: &[(&str, &str)]| {
        let source = Path::new("/s");
        disk.create_dir_all(&source.join("update/firehose")).expect("a directory");
        for (key, text) in files {
            disk.replace(&source.join(key), text.as_bytes(), true).expect("a file");
        }
        complete(&disk, source, Path::new("/o"), None).map_err(|error| error.to_string())
    };
    assert!(attempt(&[]).is_err());
    assert!(attempt(&[("md5.txt", "VERSION:1.0\n")]).is_err_and(|error| error.contains("lists no file")));
    assert!(attempt(&[("md5.txt", "FILE:\\..\\x:00\n")]).is_err_and(|error| error.contains("not one of the package")));
    let list = ("md5.txt", "FILE:\\update\\tz.mbn:00\n");
    assert!(attempt(&[list]).is_err_and(|error| error.contains("no raw-program document")));
    let program = |line: &str| format!("<?xml version=\"1.0\"?><data>{line}</data>");
    let outside = program("<program filename=\"..\\..\\..\\x\" start_sector=\"0\" SECTOR_SIZE_IN_BYTES=\"2048\"/>");
    let name = "update/firehose/rawprogram_nand_p2K_b128K_update.xml";
    assert!(attempt(&[list, (name, &outside)]).is_err_and(|error| error.contains("lies outside")));
    let foreign = program("<program filename=\"..\\tz.mbn\" start_sector=\"77\" SECTOR_SIZE_IN_BYTES=\"2048\"/>");
    assert!(attempt(&[list, (name, &foreign)]).is_err_and(|error| error.contains("fit no simulated model")));
    let broken = program("<program filename=\"..\\tz.mbn\" start_sector=\"x\" SECTOR_SIZE_IN_BYTES=\"2048\"/>");
    assert!(attempt(&[list, (name, &broken)]).is_err_and(|error| error.contains("start_sector is no number")));
    let same = complete(&disk, Path::new("/s"), Path::new("/s"), None);
    assert!(same.is_err_and(|error| error.to_string().contains("directory of its own")));
}
