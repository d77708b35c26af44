use proptest::prelude::*;

use super::*;
use crate::domain::FailureCode;
use crate::protocol::rawprogram::{RawKind, parse};
use crate::protocol::table::tests::encode;

const UPDATE: &str = include_str!("../../../tests/data/packages/eg25-like/rawprogram_nand_p2K_b128K_update.xml");
const FACTORY: &str = include_str!("../../../tests/data/packages/eg25-like/rawprogram_nand_p2K_b128K_factory.xml");
const GEOMETRY: Geometry = Geometry { page_bytes: 2048, pages_per_block: 64 };
const TOTAL: u64 = 16_384;
const GUARDED: &[&str] = &["efs2", "sys_rev", "rawdata"];
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

fn table(partitions: &[(&str, u32, u32)]) -> PartitionTable {
    PartitionTable::parse_mibib(&encode(GEOMETRY, 1, partitions), GEOMETRY).expect("a table")
}

fn range(start: u64, pages: u64) -> PageRange {
    PageRange { start, pages }
}

/// Every file has 100 pages and a half, unless its name says how many pages it has.
fn resolve(name: &str) -> Option<(String, u64)> {
    let key = name.replace('\\', "/");
    let pages = key.split_once("pages-").and_then(|(_, pages)| pages.parse::<u64>().ok());
    (key != "missing").then_some((key, pages.map_or(100 * 2048 + 1024, |pages| pages * 2048)))
}

struct Case<'a> {
    document: String,
    module: PartitionTable,
    package: Option<PartitionTable>,
    guarded: &'a [&'a str],
    efs: EfsPolicy,
    geometry: Geometry,
    total_pages: u64,
}

impl Case<'_> {
    fn new(document: &str) -> Self {
        Self {
            document: document.to_owned(),
            module: table(PARTITIONS),
            package: Some(table(PARTITIONS)),
            guarded: GUARDED,
            efs: EfsPolicy::Keep,
            geometry: GEOMETRY,
            total_pages: TOTAL,
        }
    }

    /// The update document with more operations at its end.
    fn with(more: &str) -> Self {
        Self::new(&UPDATE.replace("</data>", &format!("{more}</data>")))
    }

    /// The update document with a text replaced.
    fn changed(from: &str, to: &str) -> Self {
        assert!(UPDATE.contains(from), "{from}");
        Self::new(&UPDATE.replace(from, to))
    }

    fn carve(mut self) -> Self {
        self.efs = EfsPolicy::Carve;
        self
    }

    fn build(&self) -> Result<Plan, PlanError> {
        let operations = parse(&self.document).expect("a document");
        build(&PlanInput {
            operations: &operations,
            resolve: &resolve,
            geometry: self.geometry,
            total_pages: self.total_pages,
            module_table: &self.module,
            package_table: self.package.as_ref(),
            guarded: self.guarded,
            efs: self.efs,
        })
    }
}

fn erase(start: u64, pages: u64) -> String {
    let geometry = r#"PAGES_PER_BLOCK="64" SECTOR_SIZE_IN_BYTES="2048""#;
    format!("<erase {geometry} num_partition_sectors=\"{pages}\" start_sector=\"{start}\"/>\n")
}

fn program(file: &str, start: u64, pages: u64) -> String {
    let geometry = r#"PAGES_PER_BLOCK="64" SECTOR_SIZE_IN_BYTES="2048""#;
    format!("<program {geometry} filename=\"{file}\" num_partition_sectors=\"{pages}\" start_sector=\"{start}\"/>\n")
}

/// Executes operations on a storage of pages: `true` is written.
fn written<'a>(operations: impl Iterator<Item = (bool, PageRange)> + 'a) -> Vec<bool> {
    let mut storage = vec![false; usize::try_from(TOTAL).expect("small")];
    for (program, range) in operations {
        let (start, end) = (usize::try_from(range.start).expect("small"), usize::try_from(range.end()).expect("small"));
        storage[start..end].fill(program);
    }
    storage
}

#[test]
fn the_documents_order_kills_and_the_plans_does_not() {
    let document = parse(UPDATE).expect("a document");
    let as_written = written(document.iter().map(|operation| (operation.kind == RawKind::Program, operation.range)));
    assert!(!as_written[0] && !as_written[640] && !as_written[4800], "boot loader, table and tz end up erased");

    let plan = Case::new(UPDATE).build().expect("a plan");
    let operations: Vec<Operation<'_>> = plan.operations().collect();
    assert!(matches!(operations[0], Operation::Erase(erase) if erase.range == range(0, 640)));
    let Operation::Program(last) = operations[operations.len() - 1] else { panic!("a program is last") };
    assert_eq!((last.range, last.image.as_str()), (range(0, 101), "../sbl1.mbn"));
    let as_planned = written(operations.iter().map(|operation| match operation {
        Operation::Erase(erase) => (false, erase.range),
        Operation::Program(program) => (true, program.range),
    }));
    for start in [0, 640, 4800, 5184, 5504, 5888, 7168, 8448, 11_008, 12_544] {
        assert!(as_planned[start], "page {start}");
    }
    assert_eq!(plan.erases.len(), 9);
    assert_eq!(plan.programs.len(), 9);
    assert_eq!(plan.bytes(), 10 * 101 * 2048);
    assert_eq!(plan.guarded, [range(1280, 2560), range(3840, 640), range(4480, 320)]);
    assert!(plan.carved.is_empty());
    let tz = plan.programs.iter().find(|program| program.image == "../tz.mbn").expect("tz");
    assert_eq!(tz.partition.as_deref(), Some("TZ"));
    assert!(plan.is_boot_chain(tz, &["sbl", "tz"]) && plan.is_boot_chain(&plan.boot_loader, &[]));
    assert!(!plan.is_boot_chain(tz, &["rpm"]));
}

#[test]
fn a_plan_and_its_digest_repeat_and_tell_plans_apart() {
    let plan = Case::new(UPDATE).build().expect("a plan");
    assert_eq!(plan, Case::new(UPDATE).build().expect("a plan"));
    let summary = plan.summary();
    assert_eq!(summary.digest, plan.digest());
    assert_eq!((summary.erases.len(), summary.programs.len()), (10, 10));
    assert_eq!((summary.erases[0], summary.programs[9]), (range(0, 640), range(0, 101)));
    let mut digests = vec![plan.digest()];
    let changes: &[fn(&mut Plan)] = &[
        |plan| plan.programs.swap(0, 1),
        |plan| plan.erases[0].range.pages += 64,
        |plan| plan.programs[0].image_bytes += 1,
        |plan| plan.programs[0].image.push('x'),
        |plan| plan.boot_loader.attributes.push(("label".to_owned(), "sbl".to_owned())),
        |plan| plan.guarded[0].pages += 1,
        |plan| plan.geometry.page_bytes = 4096,
    ];
    for change in changes {
        let mut changed = plan.clone();
        change(&mut changed);
        digests.push(changed.digest());
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), changes.len() + 1);
}

#[test]
fn a_factory_document_is_refused_or_carved() {
    let error = Case::new(FACTORY).build().expect_err("touches the EFS");
    assert_eq!(error.code(), FailureCode::PackageTouchesGuarded);
    assert!(error.to_string().contains("efs2"), "{error}");
    let carved = Case::new(FACTORY).carve().build().expect("a plan");
    assert_eq!(carved.carved, [range(1280, 2560)]);
    let update = Case::new(UPDATE).build().expect("a plan");
    assert_eq!((carved.erases, carved.programs), (update.erases, update.programs));
}

#[test]
fn an_erase_of_everything_is_split_around_guarded_partitions() {
    let whole = r#"<erase PAGES_PER_BLOCK="64" SECTOR_SIZE_IN_BYTES="2048" label="all"/>"#;
    assert_eq!(Case::with(whole).build().expect_err("whole").code(), FailureCode::PackageTouchesGuarded);
    let programs: String = UPDATE.lines().filter(|line| !line.contains("<erase")).collect();
    let plan = Case::new(&programs.replace("</data>", &format!("{whole}</data>"))).carve().build().expect("a plan");
    assert_eq!(plan.boot_loader_erase.range, range(0, 640));
    let erases: Vec<PageRange> = plan.erases.iter().map(|erase| erase.range).collect();
    assert_eq!(erases, [range(640, 640), range(4800, TOTAL - 4800)]);
    assert!(plan.erases.iter().all(|erase| erase.attributes.is_empty()), "a label would mean the whole partition");
    assert_eq!(plan.carved, [range(1280, 3520)]);
}

#[test]
fn the_boot_loaders_whole_partition_is_erased_even_if_the_document_erases_less() {
    let less =
        r#"num_partition_sectors="128" last_sector="127" label="SBL" physical_partition_number="0" start_sector="0""#;
    let from = r#"<erase PAGES_PER_BLOCK="64" SECTOR_SIZE_IN_BYTES="2048" num_partition_sectors="640" physical_partition_number="0" start_sector="0""#;
    let to = format!(r#"<erase PAGES_PER_BLOCK="64" SECTOR_SIZE_IN_BYTES="2048" {less}"#);
    let plan = Case::changed(from, &to).build().expect("a plan");
    assert_eq!(plan.boot_loader_erase.range, range(0, 640));
    let last = ("last_sector".to_owned(), "639".to_owned());
    assert_eq!(plan.boot_loader_erase.attributes, [last, ("label".to_owned(), "SBL".to_owned())]);
}

#[test]
fn packages_that_do_not_fit_are_refused_with_their_code() {
    use FailureCode::{GeometryMismatch, PackageTouchesGuarded, PlanInvalid, TableInvalid, TableMovesGuarded};
    let without = |from: &str| {
        Case::new(&UPDATE.lines().filter(|line| !line.contains(from)).map(|l| format!("{l}\n")).collect::<String>())
    };
    let moved = |name: &str, start: u32, blocks: u32| -> Vec<(&'static str, u32, u32)> {
        let entry = |&(n, s, b): &(&'static str, u32, u32)| if n == name { (n, start, blocks) } else { (n, s, b) };
        PARTITIONS.iter().map(entry).collect()
    };
    let with_package = |package: &[(&str, u32, u32)]| Case { package: Some(table(package)), ..Case::new(UPDATE) };
    let with_module = |module: &[(&str, u32, u32)]| Case { module: table(module), ..Case::new(UPDATE) };
    let fewer: Vec<_> = PARTITIONS.iter().copied().filter(|entry| entry.0 != "0:RAWDATA").collect();
    let no_efs: Vec<_> = PARTITIONS.iter().copied().filter(|entry| entry.0 != "0:EFS2").collect();
    let no_sbl: Vec<_> = PARTITIONS.iter().copied().filter(|entry| entry.0 != "0:SBL").collect();
    let vendor = r#"vendor="quectel" a_rawdata_start_sector="4480" b_rawdata_num_sector="320"/>"#;
    let cases: Vec<(&str, Case<'_>, FailureCode, &str)> = vec![
        (
            "block size",
            Case { geometry: Geometry { page_bytes: 4096, pages_per_block: 64 }, ..Case::new(UPDATE) },
            GeometryMismatch,
            "line 4 ",
        ),
        ("odd storage", Case { total_pages: 16_385, ..Case::new(UPDATE) }, GeometryMismatch, "makes no sense"),
        ("no storage", Case { total_pages: 0, ..Case::new(UPDATE) }, GeometryMismatch, "makes no sense"),
        ("small storage", Case { total_pages: 12_544, ..Case::new(UPDATE) }, TableInvalid, "system"),
        ("package table beyond", with_package(&moved("0:system", 300, u32::MAX)), PlanInvalid, "the package's table"),
        ("EFS moved", with_package(&moved("0:EFS2", 21, 39)), TableMovesGuarded, "efs2"),
        ("EFS shorter", with_package(&moved("0:EFS2", 20, 39)), TableMovesGuarded, "pages 1280 to 3775"),
        ("rawdata dropped", with_package(&fewer), TableMovesGuarded, "nowhere"),
        ("rawdata new", with_module(&fewer), TableMovesGuarded, "rawdata"),
        ("module without EFS", Case { package: None, ..with_module(&no_efs) }, TableInvalid, "efs2"),
        ("module without boot loader", with_module(&no_sbl), TableInvalid, "boot loader"),
        ("nothing guarded", Case { guarded: &[], ..Case::new(UPDATE) }, TableInvalid, "none is named"),
        ("EFS erased", Case::with(&erase(1280, 64)), PackageTouchesGuarded, "erases the guarded partition efs2"),
        ("rawdata written", Case::with(&program("a", 4480, 64)), PackageTouchesGuarded, "rawdata"),
        ("erase across", Case::with(&erase(640, 1280)), PackageTouchesGuarded, "efs2"),
        ("vendor's raw data", Case::with(&erase(12_288, 64).replace("/>", vendor)), PackageTouchesGuarded, "rawdata"),
        ("program across", Case::with(&program("a", 640, 704)).carve(), PackageTouchesGuarded, "efs2"),
        ("erase beyond", Case::with(&erase(16_320, 128)), PlanInvalid, "beyond the storage"),
        ("program beyond", Case::with(&program("a", 16_320, 65)), PlanInvalid, "beyond the storage"),
        ("erase far beyond", Case::with(&erase(u64::MAX - 63, 63)), PlanInvalid, "beyond the storage"),
        ("erase from the middle", Case::with(&erase(12_289, 64)), PlanInvalid, "boundaries"),
        ("erase to the middle", Case::with(&erase(12_288, 63)), PlanInvalid, "boundaries"),
        ("program from the middle", Case::with(&program("a", 12_289, 63)), PlanInvalid, "boundaries"),
        ("twice", Case::with(&program("a", 12_544, 3840)), PlanInvalid, "write the same pages"),
        ("overlap", Case::with(&program("pages-1", 12_608, 64)), PlanInvalid, "write the same pages"),
        ("not erased", Case::with(&program("a", 12_288, 256)), PlanInvalid, "no line erases"),
        ("half erased", Case::with(&(erase(12_288, 64) + &program("a", 12_288, 256))), PlanInvalid, "no line erases"),
        ("too large", Case::changed("..\\tz.mbn", "pages-385"), PlanInvalid, "385 pages where 384"),
        ("empty", Case::changed("..\\tz.mbn", "pages-0"), PlanInvalid, "empty file"),
        ("unknown file", Case::changed("..\\tz.mbn", "missing"), PlanInvalid, "missing"),
        ("no boot loader", without("sbl1.mbn"), PlanInvalid, "no boot loader"),
        ("boot loader not erased", without(r#"start_sector="0"/>"#), PlanInvalid, "erases the boot loader"),
        (
            "second boot loader",
            Case::with(&(erase(0, 640) + &program("pages-1", 0, 64))),
            PlanInvalid,
            "write the same pages",
        ),
        ("tz lost", without("tz.mbn"), PlanInvalid, "TZ"),
        ("table lost", without("partition_complete"), PlanInvalid, "MIBIB"),
        (
            "vendor's whole erase",
            Case::with(&erase(0, 0).replace("/>", " vendor=\"x\"/>")),
            PackageTouchesGuarded,
            "efs2",
        ),
        (
            "vendor's boot loader",
            Case::with(&erase(0, 640).replace("/>", " vendor=\"x\"/>")),
            PlanInvalid,
            "vendor's tag",
        ),
        (
            "patch of the storage",
            Case::with(r#"<patch SECTOR_SIZE_IN_BYTES="2048" filename="DISK" start_sector="N-1."/>"#),
            PlanInvalid,
            "patches the storage",
        ),
        (
            "part of a file",
            Case::changed("filename=\"..\\tz.mbn\"", "file_sector_offset=\"1\" filename=\"a\""),
            PlanInvalid,
            "middle",
        ),
    ];
    for (name, case, code, sentence) in cases {
        let error = case.build().expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        assert!(error.to_string().contains(sentence), "{name}: {error}");
    }
}

#[test]
fn two_programs_inside_the_boot_loaders_partition_are_refused() {
    let small = r#"filename="..\sbl1.mbn" num_partition_sectors="128""#;
    let from = r#"filename="..\sbl1.mbn" num_partition_sectors="640""#;
    let mut case = Case::changed(from, small);
    case.document = case.document.replace("</data>", &format!("{}</data>", program("a", 128, 128)));
    let error = case.build().expect_err("two");
    assert!(matches!(error, PlanError::BootLoaderShape { .. }), "{error}");
}

#[test]
fn patches_of_files_and_vendors_erases_beside_everything_else_are_no_obstacle() {
    let vendor = erase(12_288, 256).replace("/>", " vendor=\"quectel\" c_project_name=\"X\"/>");
    let patch = r#"<patch SECTOR_SIZE_IN_BYTES="2048" filename="table.mbn" start_sector="1"/>"#;
    let plan = Case::with(&(vendor + patch)).build().expect("a plan");
    let last = plan.erases.last().expect("erases");
    assert_eq!(last.range, range(12_288, 256));
    assert!(last.attributes.contains(&("vendor".to_owned(), "quectel".to_owned())));
    let vendor = r#"vendor="quectel" a_rawdata_start_sector="4480" b_rawdata_num_sector="320"/>"#;
    let plan = Case::with(&erase(12_288, 256).replace("/>", vendor)).carve().build().expect("a plan");
    assert!(plan.erases.iter().all(|erase| erase.range.start != 12_288), "its meaning is unknown: left out whole");
    assert_eq!(plan.carved, [range(4480, 320)]);
}

/// A document of random operations, most of which are plausible.
fn document() -> impl Strategy<Value = String> {
    let operation = (0u8..10, 0u64..258, 0u64..64, 1u64..40).prop_map(|(kind, block, pages, blocks)| match kind {
        0..=3 => erase(block * 64, blocks * 64),
        4 => erase(block * 64, 0),
        5..=7 => program(&format!("pages-{}", (blocks * 64).min(pages + 1)), block * 64, blocks * 64),
        8 => erase(block * 64 + pages, blocks * 64),
        _ => program(&format!("pages-{pages}"), block * 64, blocks * 64),
    });
    (prop::collection::vec(operation, 0..6), prop::bool::weighted(0.8)).prop_map(|(operations, on_update)| {
        let more = operations.concat();
        if on_update {
            UPDATE.replace("</data>", &format!("{more}</data>"))
        } else {
            let boot = erase(0, 0) + &program("pages-100", 0, 640) + &program("pages-4", 640, 640);
            format!("<data>{boot}{more}</data>")
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_plan_is_safe(text in document(), carve in any::<bool>(), minimal in any::<bool>()) {
        let mut case = Case::new(&text);
        if carve {
            case.efs = EfsPolicy::Carve;
        }
        if minimal {
            let partitions = [("0:SBL", 0, 10), ("0:MIBIB", 10, 10), ("0:EFS2", 20, 40), ("0:rest", 60, u32::MAX)];
            case.module = table(&partitions);
            case.package = None;
        }
        let Ok(plan) = case.build() else { return Ok(()) };
        let storage = range(0, TOTAL);
        let mut erased = vec![false; usize::try_from(TOTAL).expect("small")];
        let mut programs = 0;
        for (index, operation) in plan.operations().enumerate() {
            let touched = match operation {
                Operation::Erase(erase) => erase.range,
                Operation::Program(program) => program.range,
            };
            prop_assert!(storage.contains(touched) && touched.pages > 0);
            prop_assert!(plan.guarded.iter().all(|guarded| !guarded.overlaps(touched)), "guarded pages in the plan");
            let pages = usize::try_from(touched.start).expect("small")..usize::try_from(touched.end()).expect("small");
            match operation {
                Operation::Erase(erase) => {
                    prop_assert_eq!(programs, 0, "an erase after a program");
                    prop_assert_eq!(erase.range.start % 64 + erase.range.pages % 64, 0);
                    prop_assert_eq!(index == 0, erase.range.overlaps(range(0, 640)));
                    prop_assert!(erased[pages.clone()].iter().all(|erased| !erased), "erased twice");
                    erased[pages].fill(true);
                }
                Operation::Program(_) => {
                    programs += 1;
                    prop_assert!(erased[pages.clone()].iter().all(|erased| *erased), "written on what is not erased");
                    erased[pages].fill(false);
                }
            }
        }
        prop_assert_eq!(plan.boot_loader_erase.range, range(0, 640));
        prop_assert_eq!(plan.boot_loader.range.start, 0);
        prop_assert!(plan.programs.iter().all(|program| program.range.start != 0));
        prop_assert!(carve || plan.carved.is_empty());
    }
}

/// The property above would hold of a builder that refuses everything.
#[test]
fn the_random_documents_do_give_plans() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let plans = (0..200).filter(|_| {
        let text = document().new_tree(&mut runner).expect("a document").current();
        Case::new(&text).carve().build().is_ok()
    });
    assert!(plans.count() > 20);
}
