use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use md5::{Digest, Md5};
use proptest::prelude::*;

use super::*;
use crate::domain::{Geometry, PageRange};
use crate::host::{Disk, MemoryDisk, OsDisk};
use crate::protocol::plan::{self, EfsPolicy, PlanInput};
use crate::protocol::table::tests::encode;

const UPDATE: &str = include_str!("../../tests/data/packages/eg25-like/rawprogram_nand_p2K_b128K_update.xml");
const FACTORY: &str = include_str!("../../tests/data/packages/eg25-like/rawprogram_nand_p2K_b128K_factory.xml");
const PATCH: &str = include_str!("../../tests/data/packages/eg25-like/patch_p2K_b128K.xml");
const GEOMETRY: Geometry = Geometry { page_bytes: 2048, pages_per_block: 64 };
const PARTITIONS: &[(&str, u32, u32)] = &[
    ("0:SBL", 0, 10),
    ("0:MIBIB", 10, 10),
    ("0:EFS2", 20, 40),
    ("0:sys_rev", 60, 10),
    ("0:RAWDATA", 70, 5),
    ("0:TZ", 75, 6),
    ("0:RPM", 81, 5),
    ("0:aboot", 86, 6),
    ("0:boot", 92, 20),
    ("0:recovery", 112, 20),
    ("0:modem", 132, 40),
    ("0:usr_data", 172, 20),
    ("0:sec", 192, 4),
    ("0:system", 196, u32::MAX),
];
const UPDATE_XML: &str = "update/firehose/rawprogram_nand_p2K_b128K_update.xml";
const FACTORY_XML: &str = "update/firehose/rawprogram_nand_p2K_b128K_factory.xml";
const PATCH_XML: &str = "update/firehose/patch_p2K_b128K.xml";
const TABLE: &str = "update/firehose/partition_complete_p2K_b128K.mbn";
const PROGRAMMER: &str = "update/firehose/prog_nand_firehose_9x07.mbn";

/// A package to be written to a disk: files, and what the check list says of them beyond the truth.
#[derive(Clone)]
struct Draft {
    files: BTreeMap<String, Vec<u8>>,
    unlisted: Vec<String>,
    list: Option<Vec<u8>>,
    more_list: String,
}

impl Draft {
    fn new() -> Self {
        let mut files = BTreeMap::new();
        for name in
            ["sbl1.mbn", "tz.mbn", "rpm.mbn", "appsboot.mbn", "boot.img", "NON-HLOS.ubi", "usrdata.ubi", "sysfs.ubi"]
        {
            files.insert(format!("update/{name}"), format!("the content of {name} ").repeat(700).into_bytes());
        }
        files.insert("contents.xml".to_owned(), b"<contents/>".to_vec());
        files.insert(PROGRAMMER.to_owned(), vec![0x7f; 5000]);
        files.insert(TABLE.to_owned(), encode(GEOMETRY, 1, PARTITIONS));
        files.insert(UPDATE_XML.to_owned(), UPDATE.into());
        files.insert(PATCH_XML.to_owned(), PATCH.into());
        Self { files, unlisted: vec![], list: None, more_list: String::new() }
    }

    fn with(mut self, key: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(key.to_owned(), content.into());
        self
    }

    fn without(mut self, key: &str) -> Self {
        assert!(self.files.remove(key).is_some(), "{key}");
        self
    }

    fn unlisted(mut self, key: &str) -> Self {
        self.unlisted.push(key.to_owned());
        self
    }

    /// A text replaced in the update document.
    fn changed(self, from: &str, to: &str) -> Self {
        assert!(UPDATE.contains(from), "{from}");
        self.with(UPDATE_XML, UPDATE.replace(from, to))
    }

    fn with_factory(self) -> Self {
        self.with(FACTORY_XML, FACTORY).with("update/cefs.mbn", vec![0xff; 4096])
    }

    fn check_list(&self) -> String {
        let mut list = "VERSION:1.0\r\nFILE:START\r\n".to_owned();
        for (key, content) in self.files.iter().filter(|(key, _)| !self.unlisted.contains(key)) {
            let md5: String = Md5::digest(content).iter().map(|byte| format!("{byte:02X}")).collect();
            list += &format!("FILE:\\{}:{md5}\r\n", key.replace('/', "\\"));
        }
        list + &self.more_list + "FILE:\\upgrade\\targetfiles.zip:222EAA53A6C111E7F2E248587D6EA079\r\nFILE:END\r\n"
    }

    fn write(&self, disk: &dyn Disk, directory: &Path) {
        let list = self.list.clone().unwrap_or_else(|| self.check_list().into_bytes());
        let files = self.files.iter().map(|(key, content)| (key.as_str(), content));
        for (key, content) in files.chain([("md5.txt", &list)]) {
            let path = directory.join(key);
            disk.create_dir_all(path.parent().expect("a directory")).expect("directories");
            disk.replace(&path, content, true).expect("a file");
        }
    }

    fn open_kind(&self, kind: Option<PackageKind>) -> Result<Package, PackageError> {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let directory = PathBuf::from("/packages/EG25");
        self.write(disk.as_ref(), &directory);
        match kind {
            Some(kind) => Package::open_with(&disk, &directory, kind),
            None => Package::open(&disk, &directory),
        }
    }

    fn open(&self) -> Result<Package, PackageError> {
        self.open_kind(None)
    }
}

#[test]
fn a_sound_package_is_opened_with_everything_in_it() {
    let package = Draft::new().open().expect("a package");
    assert_eq!((package.kind(), package.geometry()), (PackageKind::Update, GEOMETRY));
    assert_eq!(package.programmer().key, PROGRAMMER);
    assert_eq!(package.warnings(), [""; 0]);
    assert_eq!(package.operations().len(), 20);
    let (key, bytes) = package.resolve("..\\tz.mbn").expect("tz");
    assert_eq!((key.as_str(), bytes), ("update/tz.mbn", 15_400));
    assert_eq!(package.resolve("../tz.mbn"), package.resolve("..\\tz.mbn"));
    assert_eq!(package.resolve("..\\..\\contents.xml"), None, "not programmed, so not an image");
    assert_eq!(package.resolve("..\\..\\..\\etc\\shadow"), None);
    let image = package.image("update/tz.mbn").expect("tz");
    let mut start = [0; 14];
    image.read_exact_at(&mut start, 4).expect("bytes");
    assert_eq!(&start, b"content of tz.");
    assert!(image.read_exact_at(&mut start, 15_400).is_err());
    assert!(image.is_unchanged().expect("a good disk"));
    assert_eq!(package.images().count(), 10);
    assert_eq!(package.files().len(), 13);
    assert_eq!(package.table().and_then(|table| table.find("efs2")).map(|efs| efs.start_block), Some(20));
    assert_eq!(package.never_shipped(), ["upgrade/targetfiles.zip"]);
    assert_eq!(package.bytes(), Draft::new().files.values().map(|content| content.len() as u64).sum::<u64>());
}

#[test]
fn the_digest_is_of_the_content_and_of_nothing_else() {
    let digest = Draft::new().open().expect("a package").digest();
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    Draft::new().with("release notes.pdf", "x").unlisted("release notes.pdf").write(disk.as_ref(), Path::new("/a/b/c"));
    let nested = Package::open(&disk, Path::new("/a/b")).expect("the only subdirectory");
    assert_eq!(nested.digest(), digest);
    assert_eq!(nested.directory(), Path::new("/a/b/c"));
    assert!(nested.warnings()[0].contains("release notes.pdf"), "{:?}", nested.warnings());
    let other = Draft::new().with("update/tz.mbn", "another").open().expect("a package").digest();
    assert_ne!(other, digest);
    let factory = Draft::new().with_factory();
    let kinds = [None, Some(PackageKind::Factory)].map(|kind| factory.open_kind(kind).expect("a package").digest());
    assert_eq!(kinds[0], kinds[1]);
}

#[test]
fn update_and_factory_are_told_apart_by_name_and_by_content() {
    let both = Draft::new().with_factory();
    let update = both.open().expect("a package");
    assert_eq!(update.kind(), PackageKind::Update);
    assert!(update.warnings()[0].contains("the update one is used"), "{:?}", update.warnings());
    let kinds: Vec<_> = update.documents().iter().map(|document| (document.kind, document.chosen)).collect();
    assert_eq!(kinds, [(PackageKind::Factory, false), (PackageKind::Update, true)]);
    let factory = both.open_kind(Some(PackageKind::Factory)).expect("a package");
    assert_eq!((factory.kind(), factory.operations().len()), (PackageKind::Factory, 22));
    assert!(factory.image("update/cefs.mbn").is_some() && update.image("update/cefs.mbn").is_none());

    let only = both.clone().without(UPDATE_XML).open().expect("a package");
    assert_eq!(only.kind(), PackageKind::Factory);
    let unlisted = Draft::new().with(FACTORY_XML, FACTORY).unlisted(FACTORY_XML).open().expect("a package");
    assert_eq!((unlisted.kind(), unlisted.documents().len()), (PackageKind::Update, 1));

    let misnamed = Draft::new().with("update/cefs.mbn", "x").with(UPDATE_XML, FACTORY).open().expect("a package");
    assert_eq!(misnamed.kind(), PackageKind::Factory);
    assert!(misnamed.warnings()[0].contains("is called an update"), "{:?}", misnamed.warnings());
    let erases =
        |erase: &str| Draft::new().changed("</data>", &format!("{erase}</data>")).open().expect("a package").kind();
    let geometry = r#"PAGES_PER_BLOCK="64" SECTOR_SIZE_IN_BYTES="2048""#;
    assert_eq!(erases(&format!("<erase {geometry}/>")), PackageKind::Factory);
    let sys_rev = format!("<erase {geometry} start_sector=\"3840\" num_partition_sectors=\"64\"/>");
    assert_eq!(erases(&sys_rev), PackageKind::Factory);
    let sec = format!("<erase {geometry} start_sector=\"12288\" num_partition_sectors=\"64\"/>");
    assert_eq!(erases(&sec), PackageKind::Update);
    let renamed = both.without(UPDATE_XML).with(FACTORY_XML, UPDATE).open().expect("a package");
    assert_eq!(renamed.kind(), PackageKind::Factory, "the name is enough");
}

#[test]
fn a_package_gives_a_plan() {
    let package = Draft::new().with_factory().open_kind(Some(PackageKind::Factory)).expect("a package");
    let table = package.table().expect("a table");
    let input = PlanInput {
        operations: package.operations(),
        resolve: &|name| package.resolve(name),
        geometry: GEOMETRY,
        total_pages: 16_384,
        module_table: table,
        package_table: Some(table),
        guarded: &["efs2", "sys_rev", "rawdata"],
        efs: EfsPolicy::Carve,
    };
    let plan = plan::build(&input).expect("a plan");
    assert_eq!(plan.carved, [PageRange { start: 1280, pages: 2560 }]);
    assert!(
        plan.programs
            .iter()
            .chain([&plan.boot_loader])
            .all(|program| { package.image(&program.image).is_some_and(|image| image.bytes == program.image_bytes) })
    );
    let held = plan::build(&PlanInput { efs: EfsPolicy::Keep, ..input }).expect_err("touches the EFS");
    assert_eq!(held.code(), crate::domain::FailureCode::PackageTouchesGuarded);
}

#[test]
fn broken_packages_are_refused_with_file_line_and_remedy() {
    let draft = Draft::new;
    let listed = |line: &str| Draft { more_list: format!("{line}\r\n"), ..draft() };
    let with_list = |list: &[u8]| Draft { list: Some(list.to_vec()), ..draft() };
    let real_list = draft().check_list();
    let md5 = "00112233445566778899AABBCCDDEEFF";
    let tz = r#"filename="..\tz.mbn""#;
    let mut no_table = encode(GEOMETRY, 1, PARTITIONS);
    no_table[2048..4096].fill(0xff);
    let two_p = encode(GEOMETRY, 2, PARTITIONS);
    let four_k = "update/firehose/rawprogram_nand_p4K_b256K_update.xml";
    let cases: Vec<(Draft, &str)> = vec![
        (with_list(b""), "md5.txt:1: this is not a complete check list"),
        (with_list(b"FILE:START\n\xff\nFILE:END"), "md5.txt: the file is not UTF-8 text"),
        (with_list(&real_list.as_bytes()[..real_list.len() / 2]), "md5.txt:"),
        (
            listed(&format!("FILE:\\update\\gone.mbn:{md5}")),
            "md5.txt:16: the file update/gone.mbn is not in the package",
        ),
        (listed(&format!("FILE:\\update\\TZ.mbn:{md5}")), "update/TZ.mbn is not in the package, but update/tz.mbn is"),
        (listed(&format!("FILE:\\..\\..\\etc\\shadow:{md5}")), "md5.txt:16: this is not"),
        (
            draft().with("update/tz.mbn", "x").unlisted("update/tz.mbn"),
            "the file update/tz.mbn is used but not in the check list",
        ),
        (draft().unlisted(UPDATE_XML), "is used but not in the check list"),
        (draft().unlisted(PROGRAMMER), "is used but not in the check list"),
        (draft().without(PROGRAMMER), "update/firehose: the package has no programmer"),
        (draft().without(PROGRAMMER).with("update/firehose/prog_emmc_firehose_8916.mbn", "x"), "eMMC/UFS"),
        (draft().with("update/firehose/prog_firehose_sdx55.mbn", "x"), "there are several programmers"),
        (draft().without(UPDATE_XML), "the package has no update document"),
        (draft().with("update/firehose/rawprogram0.xml", UPDATE), "there are several documents of one kind"),
        (draft().without("update/tz.mbn"), "_update.xml:6: the file update/tz.mbn is not in the package"),
        (
            draft().changed(tz, r#"filename="..\TZ.mbn""#),
            ":6: the file update/TZ.mbn is not in the package, but update/tz.mbn is",
        ),
        (draft().changed(tz, r#"filename="..\..\..\etc\shadow""#), ":6: the file name leads out of the package"),
        (draft().changed(tz, r#"filename="/etc/shadow""#), ":6: the file name does not say where"),
        (draft().changed(tz, r#"filename="C:\tz.mbn""#), ":6: the file name does not say where"),
        (draft().changed(tz, r#"filename="\\host\share\tz.mbn""#), ":6: the file name does not say where"),
        (draft().changed(tz, r#"filename="..%2f..%2ftz.mbn""#), ":6: the file update/firehose/..%2f..%2ftz.mbn is not"),
        (draft().changed(tz, r#"filename="..\..""#), ":6: the file name names no file"),
        (draft().changed(tz, r#"filename="..\..\update""#), ":6: the file update is not in the package"),
        (draft().changed("</data>", "<poke/></data>"), ":24: the element <poke> is not known"),
        (draft().changed("</data>", ""), "not well-formed"),
        (draft().with(UPDATE_XML, vec![0xff, 0xfe, 0, 60]), "is not UTF-8"),
        (draft().with(UPDATE_XML, "<data/>"), "the document does nothing"),
        (draft().with(UPDATE_XML, " ".repeat(1_100_000)), "at most 1048576 are accepted"),
        (
            draft().with(
                UPDATE_XML,
                UPDATE.replace("PAGES_PER_BLOCK=\"64\" SECTOR_SIZE_IN_BYTES=\"2048\"", "SECTOR_SIZE_IN_BYTES=\"512\""),
            ),
            ":4: this package is for eMMC/UFS",
        ),
        (draft().with(UPDATE_XML, UPDATE.replacen("2048", "4096", 2)), ":4: 4096 B pages"),
        (
            draft().without(UPDATE_XML).with(four_k, UPDATE),
            ":4: 2048 B pages, 128 KiB blocks here, 4096 B pages, 256 KiB",
        ),
        (
            draft()
                .with(PATCH_XML, PATCH.replace("filename=\"partition_complete_p2K_b128K.mbn\"", "filename=\"DISK\"")),
            ":3: the patch is for the storage",
        ),
        (draft().with(PATCH_XML, UPDATE), ":4: a document of patches erases or programs"),
        (draft().with(TABLE, no_table), "no complete copy of the partition table"),
        (draft().with("update/tz.mbn", two_p), "there are several partition tables"),
        (draft().with("a/b/c/d/e/f/g/h/i", "x"), "nested deeper than 8"),
    ];
    assert!(cases.len() > 30);
    for (draft, expected) in cases {
        let error = draft.open().expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}\nexpected: {expected}");
        assert!(!error.to_string().chars().any(char::is_control));
        assert!(!error.remedy().is_empty());
    }
}

#[test]
fn a_file_that_differs_from_the_check_list_is_named_with_both_digests() {
    let disk = MemoryDisk::new();
    Draft::new().write(&disk, Path::new("/p"));
    let disk: Arc<dyn Disk> = {
        disk.tamper(Path::new("/p/contents.xml"), |bytes| bytes[3] ^= 1).expect("the file");
        Arc::new(disk)
    };
    let error = Package::open(&disk, Path::new("/p")).expect_err("differs");
    assert_eq!(error.place, "contents.xml");
    let listed: String = Md5::digest(b"<contents/>").iter().map(|byte| format!("{byte:02X}")).collect();
    assert!(matches!(&error.problem, PackageProblem::Digest { listed: l, found } if *l == listed && *found != listed));
}

#[test]
fn what_is_no_package_says_so() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    disk.create_dir_all(Path::new("/empty/sub")).expect("a directory");
    let error = Package::open(&disk, Path::new("/empty")).expect_err("empty");
    assert_eq!(error.problem, PackageProblem::Layout);
    let error = Package::open(&disk, Path::new("/nowhere")).expect_err("nowhere");
    assert!(matches!(error.problem, PackageProblem::Disk(_)), "{error}");
    disk.create_dir_all(Path::new("/bare/update/firehose")).expect("a directory");
    let error = Package::open(&disk, Path::new("/bare")).expect_err("bare");
    assert_eq!(error.problem, PackageProblem::NoCheckList);
}

#[test]
fn a_file_that_changes_afterwards_is_noticed() {
    let memory = MemoryDisk::new();
    Draft::new().write(&memory, Path::new("/p"));
    let tamper = memory.clone();
    let disk: Arc<dyn Disk> = Arc::new(memory);
    let package = Package::open(&disk, Path::new("/p")).expect("a package");
    let image = package.image("update/tz.mbn").expect("tz");
    assert!(image.is_unchanged().expect("a good disk"));
    tamper.tamper(Path::new("/p/update/tz.mbn"), |bytes| bytes.truncate(100)).expect("the file");
    assert!(!image.is_unchanged().expect("a good disk"));
    assert!(package.image("update/rpm.mbn").is_some_and(|image| image.is_unchanged().expect("a good disk")));
}

/// Links could point anywhere, also at the content that is expected.
#[cfg(unix)]
#[test]
fn links_are_not_followed_on_a_real_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    Draft::new().write(disk.as_ref(), directory.path());
    assert!(Package::open(&disk, directory.path()).is_ok());
    let (file, aside) = (directory.path().join("update/tz.mbn"), directory.path().join("aside"));
    std::fs::copy(&file, &aside).expect("a copy");
    disk.remove(&file).expect("removed");
    std::os::unix::fs::symlink(&aside, &file).expect("a link");
    let error = Package::open(&disk, directory.path()).expect_err("a link");
    assert_eq!(error.problem, PackageProblem::NotAFile("update/tz.mbn".to_owned()));
}

#[test]
fn an_inspection_says_what_would_happen() {
    let update = inspect(&Draft::new().with("extra.bin", "x").open().expect("a package"));
    assert!(update.usable && update.order.fatal, "the document's own order kills");
    let lost: Vec<(u32, u32, &str)> =
        update.order.lost.iter().map(|lost| (lost.line, lost.erased_in_line, lost.what.as_str())).collect();
    assert_eq!(lost, [(4, 22, "SBL"), (5, 21, "MIBIB"), (6, 20, "TZ")]);
    assert_eq!(update.order.unsafe_from_line, Some(5), "the table is written while the boot loader is there");
    assert!(!update.touches_guarded && !update.rewrites_efs && update.writes_table && update.writes_boot_loader);
    let roles: Vec<(&str, inspect::GuardedRole)> =
        update.guarded.iter().map(|partition| (partition.name.as_str(), partition.role)).collect();
    let copy = inspect::GuardedRole::Copy;
    assert_eq!(roles, [("EFS2", inspect::GuardedRole::Efs), ("sys_rev", copy), ("RAWDATA", copy)]);
    assert_eq!(update.unreferenced, ["contents.xml", "extra.bin", PATCH_XML]);
    let tz = &update.operations[2];
    assert_eq!((tz.does, tz.partitions.as_slice(), tz.image_pages), ("program", &["TZ".to_owned()][..], Some(8)));
    let boot = update.partitions.iter().find(|partition| partition.name == "boot").expect("it is written");
    assert_eq!((boot.range, boot.grows), (PageRange { start: 5888, pages: 1280 }, false));
    assert_eq!((boot.erased_in_lines.as_slice(), boot.written[0].line), (&[10][..], 11));
    let system = update.partitions.last().expect("the last partition");
    assert_eq!((system.name.as_str(), system.grows, system.range.start), ("system", true, 12_544));

    let factory = Draft::new().with_factory().open_kind(Some(PackageKind::Factory)).expect("a package");
    let factory = inspect(&factory);
    let touched: Vec<&str> = factory.guarded.iter().filter(|p| p.touched).map(|p| p.name.as_str()).collect();
    assert_eq!(touched, ["EFS2"]);
    assert!(factory.rewrites_efs);
    let text = factory.to_string();
    for expected in [
        "  EFS2        1280-3839     EFS     TOUCHED in lines 20,21\n",
        "  sys_rev     3840-4479     copy    untouched\n",
        "  EFS2        1280-3839     20      21      update/cefs.mbn (2 pages) GUARDED\n",
        "* it would rewrite the EFS (EFS2): the unit's calibration and IMEI would be lost\n",
        "  SBL: written in line 4, erased in line 24\n",
        "A module would not start after that: the order is FATAL.\n",
        "warning: there are update and factory documents; the factory one is used\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let json = serde_json::to_value(&factory).expect("JSON");
    assert_eq!(json["kind"], "factory");
    assert_eq!(json["order"]["fatal"], true);
}

/// Words of the findings, in their order.
fn words(inspection: &Inspection) -> Vec<&'static str> {
    inspection.findings.iter().map(|finding| finding.finding).collect()
}

#[test]
fn a_document_in_a_sound_order_is_not_called_fatal() {
    let (erases, rest): (Vec<&str>, Vec<&str>) = UPDATE.lines().partition(|line| line.contains("<erase"));
    let sound = rest.join("\n").replace("<data>", &format!("<data>\n{}", erases.join("\n")));
    let inspection = inspect(&Draft::new().with(UPDATE_XML, sound.as_str()).open().expect("a package"));
    assert!(!inspection.order.fatal && inspection.order.lost.is_empty());
    assert_eq!(inspection.order.unsafe_from_line, Some(3), "the boot loader is erased late");
    assert!(words(&inspection).contains(&"order-unsafe"));

    // Boot loader first of the erases, last of the programs.
    let mut erases = erases;
    erases.rotate_right(1);
    let (loader, others): (Vec<&str>, Vec<&str>) = rest.iter().partition(|line| line.contains("sbl1.mbn"));
    let others = others.join("\n").replace("<data>", &format!("<data>\n{}", erases.join("\n")));
    let safe = others.replace("</data>", &format!("{}\n</data>", loader[0]));
    let inspection = inspect(&Draft::new().with(UPDATE_XML, safe).open().expect("a package"));
    assert_eq!(inspection.order, inspect::DocumentOrder { fatal: false, lost: vec![], unsafe_from_line: None });
    assert!(words(&inspection).contains(&"order-safe"));
}

const LAYOUT: &str = include_str!("../../tests/data/packages/eg25-like/partition_nand.xml");
const LAYOUT_XML: &str = "update/partition_nand.xml";

/// What is left of a package when images may not be passed on; the check list names everything.
fn documents_only(draft: Draft) -> Draft {
    let mut draft = draft.with(LAYOUT_XML, LAYOUT);
    draft.list = Some(draft.check_list().into_bytes());
    draft.files.retain(|key, _| key.ends_with(".xml"));
    draft
}

fn surveyed(draft: &Draft) -> Result<Inspection, PackageError> {
    let disk = MemoryDisk::new();
    draft.write(&disk, Path::new("/p"));
    survey(&disk, Path::new("/p"), "nothing else")
}

#[test]
fn documents_without_images_are_analysed_and_what_is_missing_is_named() {
    let update = surveyed(&documents_only(Draft::new())).expect("documents");
    assert!(!update.usable && update.digest.is_none());
    assert_eq!(update.names_from.as_deref(), Some(LAYOUT_XML));
    assert_eq!(update.missing.len(), 10, "{:?}", update.missing);
    assert!(update.missing.contains(&PROGRAMMER.to_owned()) && update.missing.contains(&TABLE.to_owned()));
    assert!(update.order.fatal && !update.touches_guarded);
    assert_eq!(words(&update)[..3], ["missing", "guarded-untouched", "order-fatal"]);
    assert!(update.writes_table && update.writes_boot_loader);
    // The names from the list and those from the image are the same.
    let whole = inspect(&Draft::new().with(LAYOUT_XML, LAYOUT).open().expect("a package"));
    let places = |inspection: &Inspection| -> Vec<_> {
        inspection.partitions.iter().map(|p| (p.name.clone(), p.range, p.erased_in_lines.clone())).collect()
    };
    assert_eq!(places(&update), places(&whole));
    assert_eq!(whole.names_from.as_deref(), Some(TABLE));

    let factory = surveyed(&documents_only(Draft::new().with_factory())).expect("documents");
    assert_eq!((factory.kind, factory.rewrites_efs), (PackageKind::Factory, true));
    assert_eq!(words(&factory)[1], "efs-rewritten");
    assert!(factory.to_string().contains("update/cefs.mbn (MISSING) GUARDED"), "{factory}");
}

#[test]
fn everything_that_is_wrong_with_a_package_is_told_at_once() {
    let draft = documents_only(Draft::new())
        .with("update/firehose/prog_nand_firehose_9x07.mbn", "another")
        .with("update/firehose/prog_firehose_sdx55.mbn", "x")
        .with("update/firehose/rawprogram0.xml", UPDATE)
        .with("notes.txt", "a note");
    let draft = Draft { list: Some([draft.check_list().as_bytes(), b""].concat()), ..draft };
    let mut damaged = draft.clone();
    damaged.files.insert(LAYOUT_XML.to_owned(), LAYOUT.replace("0:boot<", "0:b\u{f6}\u{f6}t<").into_bytes());
    damaged.files.insert("update/gone.txt".to_owned(), b"x".to_vec());
    damaged.unlisted.push("update/gone.txt".to_owned());
    let inspection = surveyed(&damaged).expect("documents");
    assert!(!inspection.usable);
    let what: Vec<&str> = inspection.duplicate.iter().map(|duplicate| duplicate.what).collect();
    assert_eq!(what, ["document", "programmer", "content"]);
    assert_eq!(inspection.duplicate[2].names.len(), 2);
    assert!(inspection.damaged.iter().any(|what| what.contains("MD5")), "{:?}", inspection.damaged);
    assert!(inspection.damaged.iter().any(|what| what.contains("no usable name")), "{:?}", inspection.damaged);
    assert_eq!(inspection.unlisted, ["update/gone.txt"]);
    assert_eq!(inspection.names_from, None);
    assert!(words(&inspection).contains(&"no-table"));

    let mut listless = documents_only(Draft::new());
    listless.list = Some(b"nothing".to_vec());
    let inspection = surveyed(&listless).expect("documents");
    assert!(inspection.refused[0].contains("md5.txt:1"), "{:?}", inspection.refused);
    assert!(inspection.order.fatal && inspection.unlisted.is_empty());
    assert_eq!(surveyed(&documents_only(Draft::new().without(UPDATE_XML))).expect_err("none").place, "update/firehose");
    assert_eq!(surveyed(&Draft::new()).expect("all").refused, ["nothing else"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_damage_to_a_listed_file_goes_unnoticed(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), cut in any::<bool>()) {
        let draft = Draft::new();
        let key = which.get(&draft.files.keys().cloned().collect::<Vec<_>>()).clone();
        let list = draft.check_list().into_bytes();
        let mut damaged = Draft { list: Some(list), ..draft };
        let content = damaged.files.get_mut(&key).expect("the file");
        let at = at.index(content.len());
        if cut {
            content.truncate(at);
        } else {
            content[at] ^= 0x10;
        }
        let error = damaged.open().expect_err("damaged");
        prop_assert_eq!(error.place, key);
    }
}
