use proptest::prelude::*;

use super::*;

const NAND: &str = r#"PAGES_PER_BLOCK="64" SECTOR_SIZE_IN_BYTES="2048""#;

fn document(body: &str) -> String {
    format!("<?xml version=\"1.0\" ?>\r\n<data>\r\n{body}\r\n</data>\r\n")
}

fn error_of(body: &str) -> RawProgramError {
    parse(&document(body)).expect_err(body)
}

#[test]
fn real_shapes_are_read_with_their_lines() {
    let text = document(&format!(
        "<!-- made by a tool -->\n\
         <program {NAND} filename=\"..\\boot.img\" label=\"boot\" last_sector=\"703\" num_partition_sectors=\"64\" \
         physical_partition_number=\"0\" start_sector=\"640\"/>\n\
         <erase {NAND} num_partition_sectors=\"64\" start_sector=\"640\"></erase>\n\
         <program {NAND} filename=\"\"/>\n\
         <erase {NAND}/>\n\
         <erase {NAND} num_partition_sectors=\"0\" start_sector=\"64\" vendor=\"quectel\" \
         a_rawdata_start_sector=\"128\" b_rawdata_num_sector=\"64\" c_project_name=\"X&amp;Y\"/>"
    ));
    let operations = parse(&text).expect("the document");
    assert_eq!(operations.len(), 4);
    let [program, erase, whole, vendor] = &operations[..] else { panic!("four operations") };
    assert_eq!(program.kind, RawKind::Program);
    assert_eq!(program.range, PageRange { start: 640, pages: 64 });
    assert_eq!(program.geometry, Geometry { page_bytes: 2048, pages_per_block: 64 });
    assert_eq!(program.file.as_deref(), Some("..\\boot.img"));
    let passed_on: Vec<&str> = program.attributes.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(passed_on, ["filename", "label", "last_sector"]);
    assert_eq!((program.line, erase.line, whole.line, vendor.line), (4, 5, 7, 8));
    assert_eq!(whole.range.pages, 0);
    assert_eq!(vendor.range.pages, 0);
    assert!(vendor.has_vendor_tag());
    assert_eq!(vendor.vendor_range(), Some(PageRange { start: 128, pages: 64 }));
    assert!(vendor.attributes.contains(&("c_project_name".to_owned(), "X&Y".to_owned())));
}

#[test]
fn patches_may_hold_expressions_and_only_disk_ones_are_for_the_device() {
    let text = "<patches>\n\
        <patch SECTOR_SIZE_IN_BYTES=\"2048\" byte_offset=\"484\" filename=\"table.mbn\" size_in_bytes=\"4\" \
        start_sector=\"1\" value=\"NUM_DISK_BLOCKS-10.\" what=\"length\"/>\n\
        <patch SECTOR_SIZE_IN_BYTES=\"2048\" byte_offset=\"0\" filename=\"DISK\" size_in_bytes=\"4\" \
        start_sector=\"NUM_DISK_SECTORS-33.\" value=\"0\" what=\"\"/>\n</patches>";
    let operations = parse(text).expect("the document");
    assert_eq!(operations[0].range, PageRange { start: 1, pages: 1 });
    assert!(!operations[0].is_disk_patch());
    assert_eq!(operations[1].range.pages, 0);
    assert!(operations[1].is_disk_patch());
}

#[test]
fn documents_for_other_storage_are_named_as_such() {
    for body in [
        r#"<program SECTOR_SIZE_IN_BYTES="512" filename="" start_byte_hex="0x0" start_sector="0"/>"#,
        r#"<program SECTOR_SIZE_IN_BYTES="4096" filename="a" start_byte_hex="0x6000" start_sector="NUM_DISK_SECTORS-5."/>"#,
        &format!(r#"<erase {NAND} physical_partition_number="1" start_sector="0" num_partition_sectors="64"/>"#),
    ] {
        let error = error_of(body);
        assert!(matches!(error.kind, Kind::NotNand(_)), "{error}");
        assert!(error.to_string().contains("eMMC/UFS"), "{error}");
        assert_eq!(error.line, 3);
    }
}

#[test]
fn hostile_documents_are_refused_with_line_and_sentence() {
    let range = r#"start_sector="0" num_partition_sectors="64""#;
    let cases: &[(&str, String)] = &[
        ("the element <peek> is not known", "<peek address=\"0\"/>".to_owned()),
        ("the element <Erase> is not known", format!("<Erase {NAND} {range}/>")),
        ("nothing inside of <erase>", format!("<erase {NAND} {range}><program/></erase>")),
        ("nothing inside of <erase>", format!("<erase {NAND} {range}>x</erase>")),
        ("text between the elements", "hello".to_owned()),
        ("an entity", "&lol;".to_owned()),
        ("a processing instruction", "<?run me?>".to_owned()),
        ("has no start_sector", format!("<erase {NAND} num_partition_sectors=\"64\"/>")),
        ("has no filename", format!("<program {NAND} {range}/>")),
        ("has no PAGES_PER_BLOCK", format!("<erase SECTOR_SIZE_IN_BYTES=\"2048\" {range}/>")),
        ("has no SECTOR_SIZE_IN_BYTES", format!("<erase PAGES_PER_BLOCK=\"64\" {range}/>")),
        ("is not a number in range", format!("<erase {NAND} start_sector=\"-1\" num_partition_sectors=\"1\"/>")),
        ("is not a number in range", format!("<erase {NAND} start_sector=\"0x10\" num_partition_sectors=\"1\"/>")),
        ("is not a number in range", format!("<erase {NAND} start_sector=\"N-1.\" num_partition_sectors=\"1\"/>")),
        (
            "is not a number in range",
            format!("<program {NAND} filename=\"a\" start_sector=\"0\" num_partition_sectors=\"0\"/>"),
        ),
        (
            "is not a number in range",
            format!("<erase {NAND} start_sector=\"99999999999999999999\" num_partition_sectors=\"1\"/>"),
        ),
        ("does not end", format!("<erase {NAND} start_sector=\"18446744073709551615\" num_partition_sectors=\"1\"/>")),
        ("contradicts", format!("<erase {NAND} {range} last_sector=\"99999\"/>")),
        ("contradicts", format!("<erase {NAND} last_sector=\"63\"/>")),
        ("is not a number in range", format!("<erase {NAND} {range} last_sector=\"NUM_DISK_SECTORS\"/>")),
        ("must be written start_sector", format!("<erase {NAND} {range} START_SECTOR=\"5\"/>")),
        ("may say where", format!("<program {NAND} filename=\"a\" {range} target_sector=\"5\"/>")),
        ("is not supported", format!("<program {NAND} filename=\"a\" {range} sparse=\"true\"/>")),
        ("has no vendor", format!("<erase {NAND} {range} a_rawdata_start_sector=\"0\"/>")),
        ("control characters", format!("<erase {NAND} {range} label=\"a&#27;b\"/>")),
        ("not well-formed", format!("<erase {NAND} {range} {NAND}/>")),
        ("not well-formed", format!("<erase {NAND} {range} label=\"&ext;\"/>")),
        ("not well-formed", "<erase".to_owned()),
        ("not a number in range", format!("<erase PAGES_PER_BLOCK=\"63\" SECTOR_SIZE_IN_BYTES=\"2048\" {range}/>")),
        ("not a number in range", format!("<erase PAGES_PER_BLOCK=\"64\" SECTOR_SIZE_IN_BYTES=\"0\" {range}/>")),
        ("or 2048 bytes", format!("<erase {NAND} {range} label=\"{}\"/>", "x".repeat(3000))),
        ("more than 32 attributes", format!("<erase {}/>", (0..40).map(|n| format!("a{n}=\"\" ")).collect::<String>())),
    ];
    for (expected, body) in cases {
        let error = error_of(body);
        assert!(error.to_string().contains(expected), "{body}\n{error}\nexpected: {expected}");
        assert_eq!(error.line, 3, "{body}: {error}");
        assert!(!error.kind.remedy().is_empty());
    }
}

#[test]
fn the_frame_of_a_document_is_checked() {
    let cases = [
        ("", "no <data>"),
        ("<data>", "not closed"),
        ("<nandboot/>", "not <nandboot>"),
        ("<data/><data/>", "one root"),
        ("<!DOCTYPE data [<!ENTITY a \"b\">]><data/>", "a document type"),
        ("<?xml version=\"1.0\" encoding=\"utf-16\"?><data/>", "encoding utf-16"),
    ];
    for (text, expected) in cases {
        let error = parse(text).expect_err(text);
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    let erase = format!("<erase {NAND} start_sector=\"0\" num_partition_sectors=\"64\"/>\n");
    let error = error_of(&erase.repeat(PACKAGE_OPERATIONS_MAX + 1));
    assert_eq!(error.kind, Kind::TooManyOperations(PACKAGE_OPERATIONS_MAX));
    assert!(parse("\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<data></data>").is_ok_and(|all| all.is_empty()));
    let huge = " ".repeat(2 * 1024 * 1024);
    assert!(matches!(parse(&huge).expect_err("too large").kind, Kind::TooLarge { .. }));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,400}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_mutation_of_a_document_panics(at in 0usize..600, with in "[<>&\"'/=a0 \u{0}\u{7f}é]{0,3}", cut in 0usize..5) {
        let good = document(&format!(
            "<program {NAND} filename=\"a\" num_partition_sectors=\"64\" start_sector=\"0\"/>\n\
             <erase {NAND} num_partition_sectors=\"64\" start_sector=\"0\"/>"
        ));
        let at = at.min(good.len());
        let end = (at + cut).min(good.len());
        let text = format!("{}{with}{}", &good[..at], &good[end..]);
        if let Ok(operations) = parse(&text) {
            for operation in operations {
                prop_assert!(operation.range.start.checked_add(operation.range.pages).is_some());
                prop_assert!(operation.line as usize <= text.lines().count());
            }
        }
    }

    #[test]
    fn numbers_come_through_unchanged(start in 0u64..1 << 40, pages in 1u64..1 << 40) {
        let body = format!("<erase {NAND} num_partition_sectors=\"{pages}\" start_sector=\"{start}\"/>");
        let operations = parse(&document(&body)).expect("a document");
        prop_assert_eq!(operations[0].range, PageRange { start, pages });
    }
}
