use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{FailureCode, Geometry, PageRange, limits};

const NAND_4K: Geometry = Geometry { page_bytes: 4096, pages_per_block: 64 };

fn document(element: &str) -> Vec<u8> {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\" ?><data>{element}</data>").into_bytes()
}

fn log(line: &str) -> Vec<u8> {
    document(&format!("<log value=\"{line}\" />"))
}

const ACK: &str = "<response value=\"ACK\" rawmode=\"false\" />";
const ACK_RAW: &str = "<response value=\"ACK\" rawmode=\"true\" />";

/// The answer of a real RM500Q-GL to its configure.
const CONFIGURED: &str = "<response value=\"ACK\" MemoryName=\"nand\" MinVersionSupported=\"1\" Version=\"1\" \
    MaxPayloadSizeToTargetInBytes=\"8192\" MaxPayloadSizeToTargetInBytesSupported=\"8192\" \
    MaxXMLSizeInBytes=\"4096\" DateTime=\"Apr 19 2020 - 17:49:11\" />";

/// The storage of a real RM500Q-GL.
const STORAGE: &str = "INFO: {\"storage_info\": {\"total_blocks\":131072, \"block_size\":4096, \"page_size\":4096, \
    \"num_physical\":1, \"manufacturer_id\":44, \"serial_num\":0, \"fw_version\":\"0\", \"mem_type\":\"NAND\", \
    \"prod_name\":\"NAND\"}}";

#[derive(Debug, Clone, PartialEq)]
enum Heard {
    Said(Message),
    Bad(FirehoseError),
}

/// Everything an inbox makes of a stream in pieces, where a `rawmode="true"` is followed by `raw` bytes of payload.
fn hear(pieces: &[&[u8]], raw: u64) -> (Vec<Heard>, Vec<u8>) {
    let (mut inbox, mut heard, mut payload) = (Inbox::new(), Vec::new(), Vec::new());
    for piece in pieces {
        inbox.feed(piece);
        loop {
            while let Some(bytes) = inbox.take_raw() {
                payload.extend(bytes);
            }
            match inbox.next() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    if matches!(&message, Message::Response(response) if response.rawmode == Some(true)) {
                        inbox.expect_raw(raw);
                    }
                    heard.push(Heard::Said(message));
                }
                Err(error) => heard.push(Heard::Bad(error)),
            }
        }
    }
    (heard, payload)
}

fn errors(stream: &[u8]) -> Vec<FirehoseError> {
    let bad = hear(&[stream], 0).0.into_iter();
    bad.filter_map(|heard| if let Heard::Bad(error) = heard { Some(error) } else { None }).collect()
}

fn response(element: &str) -> Response {
    let mut inbox = Inbox::new();
    inbox.feed(&document(element));
    match inbox.next() {
        Ok(Some(Message::Response(response))) => response,
        other => panic!("{element} became {other:?}"),
    }
}

/// A read: logs before and after the response, padding, payload that looks like XML, and an answer after it.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let payload = b"<?xml <data></data>\0\n<?xm\xee\xff".repeat(3);
    let stream = [
        b"\r\n\0\0".to_vec(),
        log("INFO: Calling handler for read"),
        b"\0\0\0\0".to_vec(),
        log("INFO: a &quot;quoted&quot; name"),
        document(ACK_RAW),
        payload.clone(),
        b"\n".to_vec(),
        document(ACK),
        log("INFO: late"),
    ];
    (stream.concat(), payload)
}

#[test]
fn a_read_with_everything_around_it() {
    let (stream, payload) = conversation();
    let (heard, raw) = hear(&[&stream], payload.len() as u64);
    assert_eq!(raw, payload);
    let line = |line: &str| Heard::Said(Message::Log(line.to_owned()));
    let answer = |element| Heard::Said(Message::Response(response(element)));
    let expected = [
        line("INFO: Calling handler for read"),
        line("INFO: a \"quoted\" name"),
        answer(ACK_RAW),
        answer(ACK),
        line("INFO: late"),
    ];
    assert_eq!(heard, expected);
}

#[test]
fn responses_are_read_as_real_programmers_write_them() {
    let configured = response(CONFIGURED);
    assert!(configured.ack);
    assert_eq!(configured.rawmode, None);
    assert_eq!(configured.attributes["DateTime"], "Apr 19 2020 - 17:49:11");
    assert_eq!(response(ACK_RAW).rawmode, Some(true));
    assert!(!response("<response value='NAK' rawmode='false'></response>").ack);
    assert!(!response("<response value=\"AttemptRetry\" />").ack, "only ACK is an ACK");
    assert_eq!(response("<response value=\"ACK\" rawmode=\"yes\" />").rawmode, None);
}

#[test]
fn hostile_documents_are_refused_and_the_stream_goes_on() {
    let attributes = |count: usize| (0..count).map(|n| format!(" a{n}=\"\"")).collect::<String>();
    let hostile = [
        ("<log value=\"&lt;\" ".to_owned(), "malformed"),
        ("<a>".repeat(10_000), "deep"),
        (format!("<response value=\"ACK\"{} />", attributes(5_000)), "many attributes"),
        ("<response value=\"ACK\" value=\"NAK\" />".to_owned(), "the same attribute twice"),
        ("<response rawmode=\"true\" />".to_owned(), "no value"),
        ("<response value=\"&evil;\" />".to_owned(), "entity"),
        ("</data><data>".to_owned(), "closed early"),
        ("text".to_owned(), "text"),
        ("<![CDATA[x]]>".to_owned(), "CDATA"),
    ];
    for (element, what) in &hostile {
        let (heard, _) = hear(&[&[document(element), document(ACK)].concat()], 0);
        let refused = matches!(heard.first(), Some(Heard::Bad(FirehoseError::Document(_) | FirehoseError::Garbage(_))));
        // "closed early" is a good empty document, then garbage.
        assert!(refused, "{what}: {heard:?}");
        assert_eq!(heard.last(), Some(&Heard::Said(Message::Response(response(ACK)))), "{what}");
    }
    let dtd = b"<?xml version=\"1.0\"?><!DOCTYPE data [<!ENTITY a \"b\">]><data><log value=\"&a;\"/></data>";
    let error = &errors(dtd)[0];
    assert_eq!(error.to_string(), "the programmer sent a document that cannot be read: it has a DTD");
    assert_eq!(error.code(), FailureCode::FirehoseProtocol);
}

#[test]
fn a_document_without_end_takes_no_memory() {
    let mut inbox = Inbox::new();
    inbox.feed(b"<?xml version=\"1.0\"?><data><log value=\"");
    let mut found = Vec::new();
    for _ in 0..1000 {
        inbox.feed(&[b'A'; 4096]);
        found.extend(inbox.next().err());
    }
    assert_eq!(found, [FirehoseError::DocumentTooLong], "reported once");
    inbox.feed(b"\" /></data>");
    inbox.feed(&document(ACK));
    assert!(matches!(inbox.next(), Ok(Some(Message::Response(_)))));
}

#[test]
fn logs_are_harmless_text() {
    let (heard, _) = hear(&[&log("ERROR: A & B \u{1b}[31m"), &log(&"x".repeat(9000)), &document("<odd />")], 0);
    let lines: Vec<String> = heard
        .into_iter()
        .map(|heard| match heard {
            Heard::Said(Message::Log(line)) => line,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lines[0], "ERROR: A & B \\u{1b}[31m");
    assert_eq!(lines[1].chars().count(), limits::FIREHOSE_LOG_CHARS_MAX + 1);
    assert_eq!(lines[2], "<odd>");
}

#[test]
fn logs_have_a_budget() {
    let mut budget = LogBudget::new();
    for n in 0..limits::FIREHOSE_LOG_LINES_MAX {
        budget.take(&format!("INFO: {n}")).expect("within the budget");
    }
    assert_eq!(budget.kept().len(), limits::FIREHOSE_LOG_LINES_KEPT);
    assert_eq!(budget.kept().last().map(String::as_str), Some("INFO: 19999"));
    assert_eq!(budget.take("INFO: x").map_err(|error| error.code()), Err(FailureCode::LogFlood));
    let mut budget = LogBudget::new();
    let long = "x".repeat(1 << 20);
    assert_eq!((0..9).filter(|_| budget.take(&long).is_err()).count(), 5, "4 MiB fit");
}

#[test]
fn errors_in_logs_are_seen() {
    let saw = |line: &str| {
        let mut budget = LogBudget::new();
        budget.take(line).expect("one line");
        budget.saw_error()
    };
    assert!(saw("ERROR: Failed to open device, type:nand, slot:0, lun:0 error:4"));
    assert!(saw("ERROR Write Failed sector 0, size 0 result 2"));
    assert!(saw("INFO: HANDLE_PROGRAM_FAILURE"));
    assert!(!saw("INFO: Calling handler for erase"));
    assert!(!saw("INFO: error counters are fine"));
}

#[test]
fn payload_is_negotiated() {
    let ack = |size: &str| response(&format!("<response value=\"ACK\" MaxPayloadSizeToTargetInBytes=\"{size}\" />"));
    let nak = |size: &str| response(&format!("<response value=\"NAK\" MaxPayloadSizeToTargetInBytes=\"{size}\" />"));
    let agreed = |payload_bytes| Ok(Negotiation::Agreed { payload_bytes });
    assert_eq!(negotiate(8192, 4096, &response(CONFIGURED)), agreed(8192));
    assert_eq!(negotiate(8192, 4096, &response("<response value=\"ACK\" />")), agreed(8192));
    assert_eq!(negotiate(16_384, 2048, &ack("8192")), agreed(8192));
    assert_eq!(negotiate(8192, 4096, &ack("1048576")), agreed(8192));
    assert_eq!(negotiate(16_384, 2048, &nak("8192")), Ok(Negotiation::Again { payload_bytes: 8192 }));
    let refused = negotiate(8192, 4096, &response("<response value=\"NAK\" />"));
    assert_eq!(refused, Err(FirehoseError::ConfigureRefused));
    for impossible in
        ["0", "1", "512", "4097", "4294967296", "99999999999999999999", "-8192", "+8192", "all", "", "0x2000"]
    {
        for answer in [ack(impossible), nak(impossible)] {
            let error = negotiate(8192, 4096, &answer).expect_err(impossible);
            assert_eq!(error.code(), FailureCode::PayloadInvalid, "{impossible}");
        }
    }
    assert!(negotiate(8192, 4096, &nak("8192")).is_err(), "a NAK to what it asks for would never end");
    assert!(negotiate(8192, 4096, &nak("16384")).is_err());
}

#[test]
fn both_styles_of_banner() {
    let mut new = Banner::new();
    for line in [
        "INFO: Binary build date: Apr 19 2020 @ 17:49:11",
        "INFO: Chip serial num: 1238095855 (0x49cbd7ef)",
        "INFO: Supported Functions (15):",
    ] {
        new.take(line);
    }
    let names = "program read nop patch configure setbootablestoragedrive erase power firmwarewrite getstorageinfo \
        benchmark emmc ufs fixgpt getsha256digest";
    names.split_whitespace().for_each(|name| new.take(name));
    assert!(!new.is_complete());
    new.take("INFO: End of supported functions 15");
    assert!(new.is_complete());
    assert_eq!(new.functions().len(), 15);
    assert_eq!(new.serial(), Some(0x49cb_d7ef));

    let mut old = Banner::new();
    old.take(&format!("Supported Functions: {names}"));
    assert!(old.is_complete());
    assert_eq!(old.functions(), new.functions());

    let mut hostile = Banner::new();
    hostile.take("INFO: Supported Functions (9):");
    (0..1000).for_each(|n| hostile.take(&format!("INFO: f{n}")));
    hostile.take("INFO: not a name");
    assert_eq!(hostile.functions().len(), limits::FIREHOSE_FUNCTIONS_MAX);
}

#[test]
fn storage_as_real_programmers_describe_it() {
    let info = storage_info(STORAGE).expect("it is the description").expect("it is possible");
    assert_eq!(info, StorageInfo { geometry: NAND_4K, total_pages: 131_072, bad_blocks: None });
    assert_eq!(storage_info("INFO: Calling handler for getstorageinfo"), None);
    let broken = [
        ("\"page_size\":4096", "\"page_size\":0"),
        ("131072", "0"),
        ("131072", "18446744073709551615"),
        ("\"page_size\":4096", "\"page_size\":4095"),
        ("NAND\",", "eMMC\","),
        ("}}", ""),
    ];
    for (from, to) in broken {
        let error = storage_info(&STORAGE.replace(from, to)).expect("it is one").expect_err(to);
        assert_eq!(error.code(), FailureCode::GeometryMismatch, "{to}");
    }
}

#[test]
fn bad_blocks_are_counted() {
    assert_eq!(bad_block_count("INFO: bad blocks: 3"), Some(3));
    let failure = "out of good blocks, total blocks:0xa badblocks:0x1f erased blocks:0xa";
    assert_eq!(bad_block_count(failure), Some(0x1f));
    assert_eq!(bad_block_count("INFO: skipping bad block 171"), Some(1));
    assert_eq!(bad_block_count("INFO: Calling handler for erase"), None);
    assert_eq!(bad_block_number("INFO: skipping bad block 171"), Some(171));
    assert_eq!(bad_block_number("INFO: NAND bad block skipped: 0xAb, going on"), Some(171));
    assert_eq!(bad_block_number("INFO: BadBlock=7"), Some(7));
    assert_eq!(bad_block_number("INFO: bad blocks: 3"), None);
    assert_eq!(bad_block_number("INFO: bad block 99999999999"), None);
    assert_eq!(bad_block_number("INFO: block 3 is bad"), None);
}

#[test]
fn commands_as_real_programmers_take_them() {
    let range = PageRange { start: 640, pages: 223 };
    let own = [("filename", "..\\tz.mbn"), ("label", "tz <&> \"x\""), ("num_partition_sectors", "640")];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(
        String::from_utf8(command::program(range, NAND_4K, &own).expect("plain")).expect("text"),
        "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<program PAGES_PER_BLOCK=\"64\" \
         SECTOR_SIZE_IN_BYTES=\"4096\" num_partition_sectors=\"223\" start_sector=\"640\" filename=\"..\\tz.mbn\" \
         label=\"tz &lt;&amp;&gt; &quot;x&quot;\" physical_partition_number=\"0\" />\n</data>"
    );
    assert_eq!(
        command::power_reset(),
        b"<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<power value=\"reset\" />\n</data>"
    );
    let configure = String::from_utf8(command::configure("nand", 8192)).expect("text");
    assert!(configure.contains("MemoryName=\"nand\"") && configure.contains("MaxPayloadSizeToTargetInBytes=\"8192\""));
}

#[test]
fn commands_that_would_mean_something_else_are_not_made() {
    let some = PageRange { start: 0, pages: 64 };
    let none = PageRange { start: 0, pages: 0 };
    assert_eq!(command::erase(none, NAND_4K, &[]), Err(FirehoseError::EmptyRange));
    assert_eq!(command::read(none, NAND_4K), Err(FirehoseError::EmptyRange));
    let with = |name: &str, value: &str| command::erase(some, NAND_4K, &[(name.to_owned(), value.to_owned())]);
    for (name, value) in [("a b", ""), ("", ""), ("x/><erase", ""), ("label", "a\nb"), ("1a", "")] {
        assert!(matches!(with(name, value), Err(FirehoseError::Attribute(_))), "{name:?}");
    }
    assert!(matches!(with("label", &"x".repeat(4096)), Err(FirehoseError::CommandTooLong { .. })));
    let twice = [("label".to_owned(), "a".to_owned()), ("label".to_owned(), "b".to_owned())];
    assert!(matches!(command::erase(some, NAND_4K, &twice), Err(FirehoseError::Attribute(_))));
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same(
        cuts in prop::collection::vec(0..30_usize, 1..60).prop_filter("some progress", |cuts| cuts.iter().any(|c| *c > 0)),
        damage in prop::collection::vec((0..600_usize, any::<u8>()), 0..4),
    ) {
        let (mut stream, payload) = conversation();
        for (at, byte) in damage {
            let length = stream.len();
            stream[at % length] = byte;
        }
        let (mut pieces, mut rest) = (Vec::new(), stream.as_slice());
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let bytes = payload.len() as u64;
        prop_assert_eq!(hear(&pieces, bytes), hear(&[&stream], bytes));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500), text in "\\PC{0,60}") {
        hear(&[&bytes, &document(&text)], 10);
        let _ = storage_info(&format!("{{\"storage_info\"{text}"));
        let _ = bad_block_count(&text);
        let _ = bad_block_number(&text);
        Banner::new().take(&text);
    }

    #[test]
    fn every_command_can_be_read_again_and_needs_no_zero_length_packet(
        start: u64,
        pages in 1..u64::MAX,
        value in "[ -~é]{0,1200}",
    ) {
        let own = [("label".to_owned(), value.clone())];
        let bytes = command::erase(PageRange { start, pages }, NAND_4K, &own).expect("it fits");
        prop_assert!(!bytes.len().is_multiple_of(512));
        let text = String::from_utf8(bytes).expect("text").replace("<erase", "<response value=\"ACK\"");
        let mut inbox = Inbox::new();
        inbox.feed(text.as_bytes());
        let Ok(Some(Message::Response(read))) = inbox.next() else { panic!("{text}") };
        let expected: BTreeMap<&str, String> = [
            ("start_sector", start.to_string()),
            ("num_partition_sectors", pages.to_string()),
            ("label", crate::domain::text::printable(&value, limits::FIREHOSE_ATTRIBUTE_CHARS_MAX)),
        ].into();
        for (name, value) in expected {
            prop_assert_eq!(&read.attributes[name], &value);
        }
    }
}
