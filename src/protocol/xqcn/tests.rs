use proptest::prelude::*;

use super::*;
use crate::domain::limits::{
    DEVICE_TEXT_CHARS_MAX, EFS_FILE_BYTES_MAX, XQCN_BYTES_MAX, XQCN_DEPTH_MAX, XQCN_STREAMS_MAX, XQCN_UNKNOWN_MAX,
};
use crate::protocol::diag::nv::ITEM_BYTES;

fn file(path: &str, stamp: u32, data: &[u8]) -> XqcnFile {
    XqcnFile { path: EfsPath::new(path).expect("a path"), stamp, data: data.to_vec() }
}

fn sample() -> Xqcn {
    let mut imei = [0; ITEM_BYTES];
    imei[..9].copy_from_slice(&[0x08, 0x3a, 0x65, 0x39, 0x08, 0x53, 0x46, 0x83, 0x90]);
    Xqcn {
        name: "unit.xqcn".to_owned(),
        items: BTreeMap::from([(ItemKey::of_module(550), imei), (ItemKey::of_subscription(10, 1), [1; ITEM_BYTES])]),
        files: BTreeMap::from([
            (Section::Backup, vec![file("/nv/item_files/rfnv/00020175", 0x12d5_3d80, &[1, 0xab])]),
            (Section::Provisioning, vec![file("/nv/item_files/conf/a.conf", 0, b"x\0"), file("/b", 0, &[])]),
            (Section::Items, vec![file("/nv/item_files/modem/mmode/cmph/ftm", 0, &[0])]),
        ]),
        model: "EG25GGBR07A08M2G".to_owned(),
        tool: "stationmaster".to_owned(),
        features: vec![0xff, 0x01],
        unknown: Vec::new(),
    }
}

fn text(content: &Xqcn) -> String {
    String::from_utf8(write(content).expect("it can be written")).expect("ASCII")
}

fn kind(text: &str) -> XqcnErrorKind {
    read(text.as_bytes()).expect_err("no file").kind
}

#[test]
fn what_is_written_looks_as_public_tools_write_it() {
    let text = text(&sample());
    for line in [
        "<?xml version=\"1.0\" encoding=\"Windows-1252\" ?>\n<Storage Name='unit.xqcn'>\n  <Storage Name='00000000'>\n",
        "<Stream Name='NV_ITEM_ARRAY' Length='136' Value='88 00 01 00 26 02 00 00 08 3A 65 39 08 53 46 83 90 00 ",
        "<Stream Name='NV_ITEM_ARRAY_SIM_1' Length='136' Value='88 00 01 00 0A 00 00 00 01 01 ",
        "<Stream Name='NV_ITEM_ARRAY_SIM_2' Length='0' Value=''/>",
        // The header, the time, and the path without a NUL.
        "<Stream Name='00000000' Length='36' Value='01 00 01 01 80 3D D5 12 2F 6E 76 ",
        "<Stream Name='00000001' Length='3' Value='2F 62 00'/>",
        "<Stream Name='00000000' Length='2' Value='01 AB'/>",
        "<Stream Name='Mobile_Property_Info' Length='41' Value='0D D0 AD DE 00 00 00 00 10 00 45 47 ",
        "<Stream Name='Feature_Mask' Length='4' Value='02 00 FF 01'/>",
        "  <Stream Name='File_Version' Length='6' Value='02 00 00 00 00 00'/>\n</Storage>\n",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    assert_eq!(read(text.as_bytes()), Ok(sample()));
}

#[test]
fn both_kinds_in_circulation_are_read() {
    let plain = text(&sample());
    let double = plain.replace('\'', "\"");
    assert_eq!(read(double.as_bytes()), Ok(sample()));
    // Lower-case digits, a space behind the last pair, other line ends, elements that are closed one by one.
    let mut lower = String::new();
    for line in plain.lines() {
        match line.split_once(" Value='") {
            Some((head, value)) => {
                let value = value.trim_end_matches("'/>").to_lowercase();
                let space = if value.is_empty() { "" } else { " " };
                lower.push_str(&format!("{head} Value=\"{value}{space}\"></Stream>\r\n"));
            }
            None => lower.push_str(&format!("{line}\r\n")),
        }
    }
    assert_eq!(read(lower.as_bytes()), Ok(sample()));
    // Attributes in another order.
    let order = plain.replace("<Stream Name='Feature_Mask' Length='4'", "<Stream Length='4' Name='Feature_Mask'");
    assert_eq!(read(order.as_bytes()), Ok(sample()));
    let umlaut = plain.replace("unit.xqcn", "Ger\u{e4}t.xqcn");
    let bytes: Vec<u8> = umlaut.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
    assert_eq!(read(&bytes).expect("a file").name, "Ger\u{e4}t.xqcn");
    assert_eq!(read(&[0xef, 0xbb, 0xbf].iter().chain(plain.as_bytes()).copied().collect::<Vec<u8>>()), Ok(sample()));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let plain = text(&sample());
    let changed = |from: &str, to: &str| {
        assert!(plain.contains(from), "{from}");
        kind(&plain.replacen(from, to, 1))
    };
    assert!(matches!(changed("Length='4'", "Length='5'"), XqcnErrorKind::Length { said: 5, found: 4, .. }));
    assert!(matches!(changed("02 00 FF 01", "02 00 FF  01"), XqcnErrorKind::Hex(name) if name == "Feature_Mask"));
    assert!(matches!(changed("02 00 FF 01", "02 00 &#70;F 01"), XqcnErrorKind::Hex(_)));
    assert!(matches!(changed("'02 00 00 00 00 00'", "'03 00 00 00 00 00'"), XqcnErrorKind::Content { .. }));
    assert!(matches!(changed("File_Version", "File_Vision"), XqcnErrorKind::Missing("File_Version")));
    assert!(matches!(changed("'88 00 01", "'87 00 01"), XqcnErrorKind::Content { .. }));
    assert!(matches!(changed("26 02 00 00 08", "26 02 01 00 08"), XqcnErrorKind::Content { .. }));
    assert!(matches!(changed("'01 00 01 01 80", "'01 00 01 02 80"), XqcnErrorKind::Content { .. }));
    assert!(matches!(changed("2F 62 00", "62 62 00"), XqcnErrorKind::Content { .. }), "no absolute path");
    assert!(matches!(changed("2F 62 00", "2F 00 00"), XqcnErrorKind::Content { .. }), "a NUL in a path");
    let unmatched = changed("Name='00000001' Length='3'", "Name='00000002' Length='3'");
    assert_eq!(unmatched, XqcnErrorKind::Unmatched { section: "Provisioning_Item_Files", index: 2 });
    assert!(matches!(changed("Name='00000001' Length='3'", "Name='1' Length='3'"), XqcnErrorKind::Content { .. }));
    let again = "<Stream Name='Feature_Mask' Length='0' Value=''/><Stream Name='Feature_Mask' ";
    assert!(matches!(changed("<Stream Name='Feature_Mask' ", again), XqcnErrorKind::Twice(_)));
    assert!(matches!(changed("Name='NV_ITEM_ARRAY_SIM_1'", "Name='NV_ITEM_ARRAY'"), XqcnErrorKind::Twice(_)));
    assert!(matches!(changed("Name='Provisioning_Item_Files'", "Name='EFS_Backup'"), XqcnErrorKind::Twice(_)));
    for cut in (0..plain.len() - 1).step_by(7) {
        assert!(read(&plain.as_bytes()[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn errors_name_their_line() {
    let plain = text(&sample());
    let line = plain.lines().position(|line| line.contains("Feature_Mask")).expect("a line") + 1;
    let error = read(plain.replace("02 00 FF 01", "02 00 FF").as_bytes()).expect_err("no file");
    assert_eq!(error.to_string(), format!("line {line}: stream Feature_Mask: 3 bytes, but it says 4"));
}

#[test]
fn what_is_no_such_file_is_refused() {
    assert!(matches!(kind(""), XqcnErrorKind::Missing(_)));
    assert!(matches!(kind("<Stream Name='a' Length='0' Value=''/>"), XqcnErrorKind::Syntax(_)));
    assert!(matches!(kind("<Storage Name='a'/><Storage Name='b'/>"), XqcnErrorKind::Syntax(_)));
    assert!(matches!(kind("<Storage Name='a'>x</Storage>"), XqcnErrorKind::Syntax(_)));
    assert!(matches!(kind("<Storage Name='a' Colour='b'/>"), XqcnErrorKind::Syntax(_)));
    assert!(matches!(kind("<!DOCTYPE a [<!ENTITY b 'c'>]><Storage Name='a'/>"), XqcnErrorKind::Syntax(_)));
    assert!(matches!(kind("<Storage Name='a'><Stream Name='b' Length='1'/></Storage>"), XqcnErrorKind::Syntax(_)));
    assert!(matches!(kind("<?xml version='1.0' encoding='UTF-7' ?><a/>"), XqcnErrorKind::Encoding));
    let deep = "<Storage Name='a'>".repeat(XQCN_DEPTH_MAX + 1);
    assert!(matches!(kind(&deep), XqcnErrorKind::TooMany(_)));
    let strange: String =
        (0..=XQCN_UNKNOWN_MAX).map(|number| format!("<Stream Name='{number}' Length='0' Value=''/>")).collect();
    assert!(matches!(kind(&format!("<Storage Name='a'>{strange}")), XqcnErrorKind::TooMany(_)));
    assert!(matches!(
        read(&vec![b' '; XQCN_BYTES_MAX + 1]),
        Err(XqcnError { kind: XqcnErrorKind::TooLarge { .. }, .. })
    ));
}

#[test]
fn what_is_not_understood_is_named_and_nothing_else_is_lost() {
    let plain = text(&sample());
    let more = plain.replacen(
        "<Stream Name='Feature_Mask'",
        "<Stream Name='Roaming_List' Length='1' Value='00'/><Stream Name='Feature_Mask'",
        1,
    );
    let found = read(more.as_bytes()).expect("a file");
    assert_eq!(found.unknown, ["00000000/default/Roaming_List"]);
    assert_eq!(Xqcn { unknown: Vec::new(), ..found }, sample());
}

#[test]
fn what_such_a_file_cannot_hold_is_not_written() {
    let mut content = sample();
    content.items.insert(ItemKey::of_subscription(1, 3), [0; ITEM_BYTES]);
    assert_eq!(write(&content), Err(XqcnWriteError::Subscription(3)));
    let mut content = sample();
    content.files.entry(Section::Items).or_default().push(file("/nv/item_files/modem/mmode/cmph/ftm", 0, &[1]));
    assert!(matches!(write(&content), Err(XqcnWriteError::Twice(_))));
    let long = Xqcn { features: vec![1; 0x1_0000], ..sample() };
    assert_eq!(write(&long), Err(XqcnWriteError::Features { bytes: 0x1_0000 }));
    let with = |files| Xqcn { files: BTreeMap::from([(Section::Items, files)]), ..sample() };
    let root = XqcnFile { path: EfsPath::root(), stamp: 0, data: Vec::new() };
    assert_eq!(write(&with(vec![root])), Err(XqcnWriteError::Root));
    for text in ["x".repeat(DEVICE_TEXT_CHARS_MAX + 1), "a\nb".to_owned(), "\u{202e}".to_owned()] {
        for bad in [Xqcn { model: text.clone(), ..sample() }, Xqcn { tool: text.clone(), ..sample() }] {
            assert!(matches!(write(&bad), Err(XqcnWriteError::Text { .. })), "{text:?}");
        }
    }
}

#[test]
fn the_longest_that_is_written_is_read_and_one_more_is_refused() {
    let again = |content: &Xqcn| assert!(read(&write(content).expect("it can be written")).as_ref() == Ok(content));
    let with = |files| Xqcn { files: BTreeMap::from([(Section::Items, files)]), ..sample() };
    again(&Xqcn { model: "\u{4e2d}".repeat(DEVICE_TEXT_CHARS_MAX), ..sample() });
    again(&Xqcn { features: vec![1; 0xffff], ..sample() });

    again(&Xqcn { name: "\u{4e2d}".repeat(NAME_CHARS_MAX), ..sample() });
    let chars = NAME_CHARS_MAX + 1;
    assert_eq!(write(&Xqcn { name: "x".repeat(chars), ..sample() }), Err(XqcnWriteError::Name { chars }));

    let bytes = EFS_FILE_BYTES_MAX as usize;
    again(&with(vec![file("/a", 0, &vec![0; bytes])]));
    let path = EfsPath::new("/a").expect("a path");
    let long = with(vec![file("/a", 0, &vec![0; bytes + 1])]);
    assert_eq!(write(&long), Err(XqcnWriteError::File { path, bytes: bytes + 1 }));
    let large = (0..6).map(|number| file(&format!("/{number}"), 0, &vec![0; bytes])).collect();
    assert_eq!(write(&with(large)), Err(XqcnWriteError::TooLarge));

    // Nineteen storages and streams are in every file, and two for each of its files.
    let many = |count| (0..count).map(|number| file(&format!("/{number}"), 0, &[])).collect();
    let count = (XQCN_STREAMS_MAX - 19) / 2;
    again(&with(many(count)));
    assert_eq!(write(&with(many(count + 1))), Err(XqcnWriteError::TooMany));
}

#[test]
fn nothing_secret_is_in_what_is_shown_of_it() {
    let shown = format!("{:?}", sample());
    assert!(shown.contains("00020175 (2 bytes)") && !shown.contains("171") && !shown.contains("58, 101"), "{shown}");
}

fn contents() -> impl Strategy<Value = Xqcn> {
    let items = prop::collection::btree_map(
        (any::<u16>(), prop_oneof![Just(None), Just(Some(1)), Just(Some(2))])
            .prop_map(|(item, subscription)| ItemKey { item, subscription }),
        any::<[u8; 32]>().prop_map(|start| {
            let mut data = [0; ITEM_BYTES];
            data[..32].copy_from_slice(&start);
            data
        }),
        0..8,
    );
    let files = || {
        prop::collection::btree_map(
            "/[a-z0-9 .&<'_]{1,20}x",
            (any::<u32>(), prop::collection::vec(any::<u8>(), 0..50)),
            0..6,
        )
        .prop_map(|files| files.into_iter().map(|(path, (stamp, data))| file(&path, stamp, &data)).collect::<Vec<_>>())
    };
    let unstamped =
        || files().prop_map(|files| files.into_iter().map(|file| XqcnFile { stamp: 0, ..file }).collect::<Vec<_>>());
    let name = "[ -~\u{e4}\u{20ac}\u{4e2d}]{0,30}";
    (name, items, files(), unstamped(), unstamped(), "[A-Z0-9]{0,20}", prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(name, items, backup, provisioning, item_files, model, features)| Xqcn {
            name,
            items,
            files: BTreeMap::from([
                (Section::Backup, backup),
                (Section::Provisioning, provisioning),
                (Section::Items, item_files),
            ]),
            model,
            tool: String::new(),
            features,
            unknown: Vec::new(),
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read(content in contents()) {
        // A section without files leaves no trace of itself.
        let mut expected = content.clone();
        expected.files.retain(|_, files| !files.is_empty());
        let bytes = write(&content).expect("it can be written");
        prop_assert!(bytes.is_ascii());
        prop_assert_eq!(read(&bytes), Ok(expected));
    }

    #[test]
    fn whatever_a_changed_byte_makes_of_a_file_can_be_written_and_read_again(at in 0_usize..10_000, bit in 0_u8..8) {
        let plain = write(&sample()).expect("it can be written");
        let mut changed = plain.clone();
        let at = at % changed.len();
        changed[at] ^= 1 << bit;
        if let Ok(mut content) = read(&changed) {
            // What is not understood is not written, nor what XML cannot hold; a section without files leaves no trace.
            content.unknown.clear();
            content.name.retain(|c| !c.is_control());
            content.files.retain(|_, files| !files.is_empty());
            prop_assert_eq!(read(&write(&content).expect("it can be written")), Ok(content));
        }
    }

    #[test]
    fn nothing_makes_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        tags in prop::collection::vec(
            prop_oneof![
                Just("<Storage Name='EFS_Backup'>"), Just("<Storage Name='default'>"), Just("<Storage Name='EFS_Dir'>"),
                Just("<Storage Name='a'>"), Just("</Storage>"), Just("</Stream>"), Just("<Stream Name='00000000' Length='0'>"),
                Just("<Stream Name='00000000' Length='2' Value='01 00'/>"), Just("<Stream Name='NV_ITEM_ARRAY' Length='1' Value='01'/>"),
                Just("<Storage Name='NV_NUMBERED_ITEMS'>"), Just("<Stream Name='File_Version' Length='6' Value='02 00 00 00 00 00'/>"),
                Just("<!-- -->"), Just("&amp;"), Just("<?x?>"), Just("<![CDATA[a]]>"),
            ],
            0..30,
        ),
    ) {
        let _ = read(&bytes);
        let _ = read(tags.concat().as_bytes());
        let _ = read(&[tags.concat().as_bytes(), &bytes].concat());
    }
}
