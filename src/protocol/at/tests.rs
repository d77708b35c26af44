use proptest::prelude::*;

use super::*;
use crate::domain::{BandReply, FailureCode, limits};

const POLICY: &str = "AT+QNWPREFCFG=\"policy_band\"";
const POLICY_LINES: [&str; 4] = [
    "+QNWPREFCFG: \"gw_band\",1:2:4:5:8",
    "+QNWPREFCFG: \"lte_band\",1:2:3:5:7:8:12:13:20:25:28:38:40:41:66:71",
    "+QNWPREFCFG: \"nsa_nr5g_band\",1:3:41:77:78",
    "+QNWPREFCFG: \"nr5g_band\",1:2:3:5:7:8:12:20:25:28:38:40:41:48:66:71:77:78:79",
];
const ATI_LINES: [&str; 3] = ["Quectel", "RM502Q-AE", "Revision: RM502QAEAAR13A02M4G"];
const URCS: [&str; 8] = [
    "RDY",
    "+CPIN: READY",
    "+QUSIM: 1",
    "PB DONE",
    "+QIND: \"csq\",31,99",
    "+CREG: 1",
    "POWERED DOWN",
    "+CTZV: 22/01/01",
];

/// Queries with the lines of real modules' replies.
fn conversations() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("ATI", ATI_LINES.to_vec()),
        ("AT+QGMR", vec!["EG25GGCR07A02M1G_30.202.30.202"]),
        ("AT+CGSN", vec!["867395075101903"]),
        ("AT+EGMR=0,7", vec!["+EGMR: \"867395075101903\""]),
        ("AT+CFUN?", vec!["+CFUN: 5"]),
        (POLICY, POLICY_LINES.to_vec()),
        ("AT+QCFG=\"band\"", vec!["+QCFG: \"band\",0x5af0,0x2000001e0bb1f39df,0x0"]),
        ("AT+QTEMP", vec!["+QTEMP: \"modem-cpu\",\"60\"", "+QTEMP: \"tsens-pa\",\"46\""]),
    ]
}

/// What a module sends, with a certain end of each line.
fn wire(lines: &[&str], end: &str) -> Vec<u8> {
    lines.iter().map(|line| format!("{line}{end}")).collect::<String>().into_bytes()
}

fn ask(command: &str, stream: &[u8], cut: usize) -> Option<Reply> {
    let mut exchange = Exchange::new(command);
    stream.chunks(cut.max(1)).find_map(|piece| exchange.feed(piece).expect("a reply within its limits"))
}

fn answer(command: &str, lines: &[&str]) -> Reply {
    ask(command, &wire(&[lines, &["OK"]].concat(), "\r\n"), 4096).expect("it ends with OK")
}

fn set(bands: &[u16]) -> Option<std::collections::BTreeSet<u16>> {
    Some(bands.iter().copied().collect())
}

#[test]
fn real_replies_are_read() {
    let ati = answer("ATI", &ATI_LINES);
    assert_eq!(model(&ati).as_deref(), Some("RM502Q-AE"));
    assert_eq!(revision(&ati).as_deref(), Some("RM502QAEAAR13A02M4G"));
    assert_eq!(model(&answer("ATI", &["Quectel", "EC25", "Revision: EC25EFAR06A08M4G"])).as_deref(), Some("EC25"));
    let qgmr = answer("AT+QGMR", &["RM520NGLAAR03A03M4G_04.211.04.211"]);
    assert_eq!(revision(&qgmr).as_deref(), Some("RM520NGLAAR03A03M4G_04.211.04.211"));
    assert_eq!(cfun(&answer("AT+CFUN?", &["+CFUN: 5"])), Some(5));
    assert_eq!(item(&answer("AT+QNVFR=\"/nv/x\"", &["+QNVFR: 0a1BFF"])), Some(vec![0x0a, 0x1b, 0xff]));
    assert_eq!(item(&answer("AT+QNVFR=\"/nv/x\"", &["+QNVFR: 0a1"])), None);
    assert_eq!(item(&answer("AT+QNVFR=\"/nv/x\"", &[])), None);
}

#[test]
fn band_lists_are_sets() {
    let list = BandReply::List { key: "nr5g_band" };
    let of = |text: &str| {
        let line = format!("+QNWPREFCFG: \"nr5g_band\",{text}");
        bands(&answer("AT+QNWPREFCFG=\"nr5g_band\"", &[&line]), &list)
    };
    assert_eq!(of("1:77:78"), set(&[1, 77, 78]));
    for same in ["78:77:1", "1,77,78", "n1:n77:n78", "1:77:77:78:1", " 1 : 77 : 78 ", "\"1:77:78\"", "0:1:77:78"] {
        assert_eq!(of(same), set(&[1, 77, 78]), "{same}");
    }
    assert_eq!(of("0"), set(&[]), "the empty set is an answer");
    for unreadable in ["", "x", "1:", "1::2", "-1", "99999", "1025", "1;2"] {
        assert_eq!(of(unreadable), None, "{unreadable:?} is no answer");
    }
    let reply = answer(POLICY, &POLICY_LINES);
    assert_eq!(bands(&reply, &BandReply::List { key: "nsa_nr5g_band" }), set(&[1, 3, 41, 77, 78]));
    assert!(bands(&reply, &list).expect("there").contains(&79));
    let other_key = answer("AT+QNWPREFCFG=\"nr5g_band\"", &[POLICY_LINES[1]]);
    assert_eq!(bands(&other_key, &list), None, "a late reply for another key is no answer");
}

#[test]
fn band_masks_may_be_wider_than_64_bits() {
    let of = |line: &str| bands(&answer("AT+QCFG=\"band\"", &[line]), &BandReply::LteMask);
    assert_eq!(of("+QCFG: \"band\",0x93,0x1a0080800c5,0x0"), set(&[1, 3, 7, 8, 20, 28, 38, 40, 41]));
    let wide = of("+QCFG: \"band\",0x5af0,0x2000001e0bb1f39df,0x0").expect("readable");
    assert!(wide.contains(&66) && wide.contains(&1) && !wide.contains(&6));
    assert_eq!(of("+QCFG: \"band\",0x0,0x0,0x0"), set(&[]));
    for unreadable in ["+QCFG: \"band\",0x93", "+QCFG: \"band\",0x93,0xg", "+QCFG: \"nwscanmode\",0,1"] {
        assert_eq!(of(unreadable), None, "{unreadable}");
    }
}

#[test]
fn errors_are_no_answers() {
    for (code, result) in [
        ("ERROR", Final::Error),
        ("+CME ERROR: 14", Final::Cme(14)),
        ("+CME ERROR: memory failure", Final::CmeText("memory failure".to_owned())),
        ("+CMS ERROR: 500", Final::Cms(500)),
    ] {
        let reply = ask(POLICY, &wire(&[&POLICY_LINES[..], &[code]].concat(), "\r\n"), 99).expect("it ended");
        assert_eq!(reply.result, result);
        assert_eq!(bands(&reply, &BandReply::List { key: "nr5g_band" }), None);
        let reply = ask("AT+CFUN?", &wire(&["+CFUN: 1", code], "\r\n"), 99).expect("it ended");
        assert_eq!(cfun(&reply), None);
    }
}

#[test]
fn imei_answers_are_given_as_they_are() {
    let of = |lines: &[&str]| imei_text(&answer("AT+CGSN", lines));
    for form in ["867395075101903", "+CGSN: \"867395075101903\"", "\"867395075101903\" ", "  867395075101903"] {
        assert_eq!(of(&[form]).as_deref(), Some("867395075101903"), "{form:?}");
    }
    assert_eq!(of(&["0"]).as_deref(), Some("0"));
    assert_eq!(of(&["memory failure"]).as_deref(), Some("memory failure"));
    assert_eq!(of(&["\u{1b}[2J"]), None, "noise is no identity");
    assert_eq!(of(&[]), None);
    let two = of(&["867395075101903", "490154203237518"]).expect("text for people");
    assert!(two.parse::<crate::domain::Imei>().is_err(), "two identities are none: {two}");
}

#[test]
fn tokens_count_as_whole_lines_only() {
    let reply = answer("AT+QENG=\"OK\"", &["AT+QENG=\"OK\"", "+QENG: \"ERROR\",\"OK\"", "NOT OK"]);
    assert_eq!(reply.lines, ["+QENG: \"ERROR\",\"OK\""]);
    assert_eq!(reply.result, Final::Ok);
}

#[test]
fn a_late_reply_is_not_taken_for_the_answer() {
    let reply = answer("AT+CFUN?", &["867395075101903", "+EGMR: \"867395075101903\"", "+CFUN: 1"]);
    assert_eq!(reply.lines, ["+CFUN: 1"]);
    assert_eq!(reply.urcs, ["867395075101903", "+EGMR: \"867395075101903\""]);
    // A starting module announces its mode by the same line as it answers with.
    assert_eq!(cfun(&answer("AT+CFUN?", &["+CFUN: 1", "+CFUN: 5"])), None);
    assert_eq!(cfun(&answer("AT+CFUN?", &["+CFUN: 1", "+CFUN: 1"])), Some(1));
}

#[test]
fn noise_is_dropped_and_counted() {
    let mut exchange = Exchange::new("ATI");
    let noisy: [&[u8]; 6] =
        [b"\xff\xfe\x00\x81", b"\x8fA7\x02", b"gar\x00bage9", &wire(&ATI_LINES, "\r\n"), b"\xff\xff", b"\xffOK"];
    let reply = exchange.feed(&noisy.join(&b"\r\n"[..])).expect("within limits");
    assert_eq!(reply, None);
    let reply = exchange.feed(b"\r").expect("within limits").expect("OK behind noise ends it");
    assert_eq!(reply.lines, ATI_LINES);
    assert_eq!(exchange.noise_lines(), 4);
    let reply = ask("AT+CFUN?", b"\xff\xff+CFUN: 1\r\nOK\r\n", 3).expect("a prefix says whose it is");
    assert_eq!(cfun(&reply), Some(1));
}

#[test]
fn replies_are_bounded() {
    let mut exchange = Exchange::new("ATI");
    let first = (0..10_000).find_map(|_| exchange.feed(&[b'A'; 1024]).err());
    assert_eq!(first, Some(AtError::LineTooLong));
    assert_eq!(exchange.feed(b"\r\nOK\r\n"), Err(AtError::LineTooLong), "a failed exchange stays failed");
    let mut exchange = Exchange::new("ATI");
    let first = (0..10_000).find_map(|_| exchange.feed(b"Quectel\r\n").err());
    assert_eq!(first, Some(AtError::TooManyLines));
    let mut exchange = Exchange::new("ATI");
    let first = (0..1_000_000).find_map(|_| exchange.feed(b"+CREG: 1\r\n").err());
    assert_eq!(first.as_ref().map(AtError::code), Some(FailureCode::NotReady));
    assert_eq!(first, Some(AtError::ReplyTooLong));
    let talkative = ["+CREG: 1"; 1000];
    assert_eq!(answer("ATI", &talkative).urcs.len(), limits::AT_URCS_MAX);
}

#[test]
fn reading_commands_are_allowed() {
    for command in [
        "ATI",
        "ati",
        "AT+CFUN?",
        "AT+CPIN?",
        "AT+COPS=?",
        "AT+CSQ",
        "AT+QGMR",
        "AT+QTEMP",
        "AT+QCFG=\"band\"",
        "AT+QCFG=\"secbootstat\"",
        "AT+QNWPREFCFG=\"nr5g_band\"",
        POLICY,
        "AT+QENG=\"servingcell\"",
        "AT+QNVFR=\"/nv/item_files/rfnv/00020175\"",
        "AT+EGMR=0,7",
        "AT+EGMR=0,10",
        "AT+QPRTPARA=4",
        "AT+QMBNCFG=\"List\"",
        "at+qcfg=\"PDP/DuplicateChk\"",
        "AT+QCFG=\"urc/ri/ring\"",
    ] {
        assert_eq!(is_reading_command(command), Ok(()), "{command}");
    }
}

#[test]
fn everything_else_is_refused() {
    for command in [
        "",
        "AT",
        "AT&F",
        "ATZ",
        "ATD112;",
        "AT+",
        "AT+CFUN=1",
        "AT+CFUN=1,1",
        "AT+EGMR=1,7,\"867395075101903\"",
        "AT+EGMR=0,7,1",
        "AT+EGMR",
        "AT+QFASTBOOT",
        "AT+QFASTBOOT?",
        "AT+QPOWD",
        "AT+QPOWD=1",
        "AT+QDOWNLOAD=1",
        "AT+QPRTPARA=1",
        "AT+QPRTPARA=3",
        "AT+QPRTPARA",
        "AT+QNVFW=\"/nv/x\",00",
        "AT+QNVFR=\"/nv/x\",00",
        "AT+QCFG=\"usbnet\",1",
        "AT+QNWPREFCFG=\"nr5g_band\",77",
        "AT+QNWPREFCFG=\"restore_band\"",
        "AT+QNWPREFCFG=\"all_band_reset\"",
        "AT+QMBNCFG=\"Deactivate\"",
        "AT+CFUN?;+EGMR=1,7,\"1\"",
        "AT+CSQ;&F",
        "AT+QCFG=\"band",
        "AT+QCFG=\"\"",
        "AT+QCFG=band",
        "AT+QCFG=\"a\"\"b\"",
        "AT+QCFG=\"band\"\r",
        "AT+CSQ\r\nATZ",
        "AT+CFUN ?",
        "AT+CSQ\u{0}",
        "AT+CSQ\u{e9}",
        "+CSQ",
        "A/",
        "+++",
        "AT&W",
        "AT&V",
        "ATE0",
        "ATE0+CFUN=0",
        "ATI+CFUN=0",
        "ATI;&F",
        "ATS0?",
        "AT$QCRST",
        "AT^RESET",
        "AT^SYSCFG?",
        "AT!RESET",
        "AT*CFUN?",
        "at+cfun=1,1",
        "aT+QpOwD",
        "AT+CGSN=\"490154203237518\"",
        "AT+CGSN=1",
        "AT+CSQ=",
        "AT+CFUN?5",
        "AT+CFUN=?1",
        "AT+CFUN??",
        "AT+CFUN? ",
        " AT+CFUN?",
        "AT +CFUN?",
        "AT\tI",
        "AT+CFUN?\u{8}\u{8}=0",
        "AT+CFUN?\u{1a}",
        "AT+CFUN?\u{7f}",
        "AT+CFUN\u{ff1f}",
        "\u{ff21}T+CFUN?",
        "AT+C\u{455}Q",
        "AT+QNVR=7,0",
        "AT+QNVR?=1",
        "AT+QNVFR=\"/nv/x\"\"",
        "AT+QNVFR=\"/nv/x;+CFUN=0\"",
        "AT+QNVFD=\"/nv/x\"",
        "AT+QCFG=\"usbnet\";+CFUN=0",
        "AT+QCFG=\"usbnet;\"+CFUN=0",
        "AT+QCFG=\"usbnet\",",
        "AT+QCFG=\"usbnet\"?",
        "AT+QCFG= \"usbnet\"",
        "AT+QCFG=\"usb net\"",
        "AT+QCFG=\"fast/poweroff\"",
        "AT+QCFG=\"reboot\"",
        "AT+QCFG=\"resetfactory\"",
        "AT+QCFG=\"unheard\"",
        "AT+QENG=\"band\"",
        "AT+QNWPREFCFG=\"usbnet\"",
        "AT+EGMR=0,007",
        "AT+EGMR=0,7;",
        "AT+CFUN?;",
        ";AT+CFUN?",
        "AT+CFUN?;;+CSQ",
        "AT+CFUN?;AT+CSQ",
        "\"AT+CFUN?\"",
        "AT\"\"+CFUN?",
        "AT+CFUN?\";+CFUN=0\"",
    ] {
        assert!(is_reading_command(command).is_err(), "{command:?}");
    }
    let long = format!("AT+QCFG=\"{}\"", "a".repeat(limits::AT_COMMAND_CHARS_MAX));
    assert!(is_reading_command(&long).is_err());
}

#[test]
fn of_a_chain_the_command_that_is_refused_is_named() {
    for (command, why) in [
        (
            "AT+CFUN?;+CFUN=5",
            "it is a chain of 2 commands, and number 2, +CFUN=5, is refused: the command has a value, and is not known \
             to read then",
        ),
        (
            "AT+QNVFW=\"/a;b\",00;+CSQ;+CFUN=0",
            "it is a chain of 3 commands, and number 1, AT+QNVFW=\"/a;b\",00, is refused: the command has a value, and \
             is not known to read then",
        ),
        ("AT+CSQ;+CGSN", "it is a chain of 2 commands, and only one at a time is sent"),
        (
            "AT+CSQ;AT+CGSN",
            "it is a chain of 2 commands, and number 2, AT+CGSN, is refused: of the commands without `+` only ATI is \
             known to read",
        ),
    ] {
        assert_eq!(is_reading_command(command), Err(why.to_owned()), "{command}");
    }
    let long = format!("AT+CSQ;+X=\"{}\"", "y".repeat(200));
    assert!(is_reading_command(&long).expect_err("it writes").chars().count() < 200);
}

#[test]
fn what_is_said_to_be_allowed_is_allowed() {
    let lines = reading_commands();
    let mut count = 0;
    for line in &lines {
        let keyed = line.split_once("\"KEY\" with the key ");
        let commands: Vec<String> = match keyed {
            Some((name, keys)) => keys.split(' ').map(|key| format!("{name}\"{key}\"")).collect(),
            None if line.contains("NAME") => vec!["AT+ANY?".to_owned(), "AT+ANY=?".to_owned()],
            None => line.replace("0,N", "0,7").replace("PATH", "/nv/x").split(' ').map(str::to_owned).collect(),
        };
        count += commands.len();
        for command in commands {
            assert_eq!(is_reading_command(&command), Ok(()), "{command}");
        }
    }
    assert!(count > 60, "{lines:?}");
}

proptest! {
    #[test]
    fn echo_urcs_line_ends_and_splits_change_nothing(
        which in 0..8_usize,
        echo in prop::option::of(0..3_usize),
        urcs in prop::collection::vec((0..8_usize, 0..8_usize), 0..6),
        end in prop::sample::select(vec!["\r", "\n", "\r\n", "\r\r\n", "\r\n\r\n"]),
        cut in 1..80_usize,
    ) {
        let (command, reply) = conversations().swap_remove(which);
        let mut lines = reply.clone();
        if let Some(position) = echo {
            lines.insert(position.min(lines.len()), command);
        }
        for (urc, position) in urcs {
            lines.insert(position.min(lines.len()), URCS[urc]);
        }
        lines.push("OK");
        let heard = ask(command, &wire(&lines, end), cut).expect("it ends with OK");
        prop_assert_eq!(heard.lines, reply);
        prop_assert_eq!(heard.result, Final::Ok);
        prop_assert!(heard.urcs.iter().all(|urc| URCS.contains(&urc.as_str())));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_split_alike(
        which in 0..8_usize,
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'"'), Just(b'+')], 0..400),
        text in "\\PC{0,60}",
        cut in 1..50_usize,
    ) {
        let (command, _) = conversations().swap_remove(which);
        let stream = [&bytes[..], b"\r\nOK\r\n"].concat();
        let whole = ask(command, &stream, stream.len());
        prop_assert_eq!(&ask(command, &stream, cut), &whole);
        let line = format!("+QNWPREFCFG: \"nr5g_band\",{text}");
        let lines = vec![text.clone(), line, format!("+QCFG: \"band\",0,{text}"), format!("+QNVFR: {text}"), format!("+CFUN:{text}")];
        let reply = Reply { lines, result: Final::Ok, urcs: Vec::new() };
        let _ = (model(&reply), revision(&reply), imei_text(&reply), cfun(&reply), item(&reply));
        let _ = (bands(&reply, &BandReply::LteMask), bands(&reply, &BandReply::List { key: "nr5g_band" }));
        let _ = is_reading_command(&text);
    }

    #[test]
    fn nothing_can_be_hung_on_to_a_reading_command(
        command in prop::sample::select(vec!["ATI", "AT+CFUN?", "AT+COPS=?", "AT+CSQ", "AT+QCFG=\"band\"", "AT+EGMR=0,7"]),
        tail in "[;,\"=?&/ \\r\\n\\t]{1,3}[+A-Z]{0,4}[=,0-9\"]{0,6}",
        at in 0..20_usize,
    ) {
        let at = at.min(command.len());
        let mixed = [&command[..at], &tail, &command[at..]].concat();
        if is_reading_command(&mixed).is_ok() {
            // What is still allowed is `?` or `=?` behind a name.
            let (name, form) = mixed.split_at(mixed.find(['?', '=']).unwrap_or(mixed.len()));
            prop_assert!(matches!(form, "?" | "=?") && name.len() > 3, "{mixed:?}");
        }
    }

    #[test]
    fn no_reading_command_sets_a_value(command in "AT[+]?[A-Z0-9]{0,8}[=?]{0,2}[\"a-z0-9,;_/ ]{0,20}") {
        if is_reading_command(&command).is_ok() {
            prop_assert!(!command.contains([';', ' ', '\r']));
            prop_assert!(!command.ends_with("=") && !command.contains("?="));
            prop_assert!(!command.contains(',') || command.starts_with("AT+EGMR=0,"));
        }
    }
}
