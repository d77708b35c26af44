use proptest::prelude::*;

use super::*;

fn slot(name: &str, usb2: &str, usb3: Option<&str>) -> SlotConfig {
    SlotConfig {
        name: name.parse().expect("a name"),
        usb2: usb2.parse().expect("a chain"),
        usb3: usb3.map(|chain| chain.parse().expect("a chain")),
    }
}

fn edited(text: &str, slots: &[SlotConfig]) -> Result<String, String> {
    edit_slots(Path::new("s.yaml"), text.as_bytes(), slots)
        .map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
        .map_err(|errors| errors.to_string())
}

#[track_caller]
fn becomes(text: &str, slots: &[SlotConfig], expected: &str) {
    assert_eq!(edited(text, slots).expect("it can be edited"), expected);
}

const A1: (&str, &str) = ("pci-0000:00:14.0/usb2/1.4", "pci-0000:00:14.0/usb3/2.4");

#[test]
fn chains_are_replaced_where_they_stand_and_comments_stay() {
    becomes(
        "# top\nname: x # what\nslots:   # all\n  # hub A\n  - name: A1   # left\n    usb2:  c/usb2/1   # lower\n    \
         usb3: 'c/usb3/1'\n    note: kept\n  - { name: \"2\", usb2: \"c/usb2/2\",usb3: c/usb3/2 } # right\nend: 1\n",
        &[slot("2", "c/usb2/7", Some("c/usb3/7")), slot("A1", A1.0, Some(A1.1))],
        "# top\nname: x # what\nslots:   # all\n  # hub A\n  - name: A1   # left\n    usb2:  \
         \"pci-0000:00:14.0/usb2/1.4\"   # lower\n    usb3: 'pci-0000:00:14.0/usb3/2.4'\n    note: kept\n  - { name: \
         \"2\", usb2: \"c/usb2/7\",usb3: c/usb3/7 } # right\nend: 1\n",
    );
}

#[test]
fn what_is_right_already_stays_as_it_is() {
    let text = "slots:\n- {name: A1, usb2: 'c/usb2/1', usb3: \"c/usb3/1\"}";
    becomes(text, &[slot("A1", "c/usb2/1", Some("c/usb3/1"))], text);
    becomes(text, &[slot("A1", "c/usb2/1", None)], text);
    becomes(text, &[], text);
    becomes("name: x\n", &[], "name: x\n");
}

#[test]
fn a_superspeed_side_is_added_beside_the_other_one() {
    let learned = [slot("A1", "c/usb2/1", Some("c/usb3/9"))];
    becomes(
        "slots:\n  - {name: A1, usb2: c/usb2/1}\n",
        &learned,
        "slots:\n  - {name: A1, usb2: c/usb2/1, usb3: c/usb3/9}\n",
    );
    becomes(
        "slots:\n  - usb2: c/usb2/1 # low\n    name: A1\n",
        &learned,
        "slots:\n  - usb2: c/usb2/1 # low\n    usb3: c/usb3/9\n    name: A1\n",
    );
    becomes("slots:\n- name: A1\n  usb2: c/usb2/1", &learned, "slots:\n- name: A1\n  usb2: c/usb2/1\n  usb3: c/usb3/9");
    becomes(
        "slots:\n  -\n    name: A1\n    usb2:\n      c/usb2/1\n",
        &learned,
        "slots:\n  -\n    name: A1\n    usb2:\n      c/usb2/1\n    usb3: c/usb3/9\n",
    );
}

#[test]
fn new_slots_come_behind_the_last_one_in_its_style() {
    let new = [slot("E1", A1.0, Some(A1.1)), slot("2", "c/usb2/5", None)];
    becomes(
        "slots:\n    - { name: A1, usb2: c/usb2/1 } # last\n    # the end\nname: x\n",
        &new,
        "slots:\n    - { name: A1, usb2: c/usb2/1 } # last\n    - { name: E1, usb2: \"pci-0000:00:14.0/usb2/1.4\", usb3: \
         \"pci-0000:00:14.0/usb3/2.4\" }\n    - { name: \"2\", usb2: c/usb2/5 }\n    # the end\nname: x\n",
    );
    becomes(
        "slots:\n- name: A1\n  usb2: c/usb2/1\nname: x\n",
        &[slot("E1", "c/usb2/4", Some("c/usb3/4"))],
        "slots:\n- name: A1\n  usb2: c/usb2/1\n- name: E1\n  usb2: c/usb2/4\n  usb3: c/usb3/4\nname: x\n",
    );
    becomes(
        "slots:\n  - { name: A1, # }\n      usb2: 'c/usb2/1'\n    }\nname: x\n",
        &[slot("off", "c/usb2/4", None)],
        "slots:\n  - { name: A1, # }\n      usb2: 'c/usb2/1'\n    }\n  - { name: \"off\", usb2: c/usb2/4 }\nname: x\n",
    );
    becomes(
        "slots:\n  -\n    # first\n    name: A1\n    usb2: c/usb2/1",
        &[slot("A2", "c/usb2/4", None)],
        "slots:\n  -\n    # first\n    name: A1\n    usb2: c/usb2/1\n  - name: A2\n    usb2: c/usb2/4",
    );
}

#[test]
fn a_comment_below_the_last_slot_stays_with_it() {
    let new = [slot("A2", "c/usb2/5", None)];
    for comment in ["    # usb3: later\n", "   # x\n      #\n", "    # usb3: later\r\n", ""] {
        for behind in ["  # the end\n", "# the end\n", "\n    # far away\nname: x\n", ""] {
            let text = |added: &str| format!("slots:\n  - name: A1\n    usb2: c/usb2/1\n{comment}{added}{behind}");
            becomes(&text(""), &new, &text("  - name: A2\n    usb2: c/usb2/5\n"));
        }
    }
    let last = "slots:\n- {name: A1, usb2: c/usb2/1}\n  # usb3: later";
    becomes(last, &new, &format!("{last}\n- {{ name: A2, usb2: c/usb2/5 }}"));
}

#[test]
fn a_file_without_slots_gets_them_at_its_end() {
    let new = [slot("A1", A1.0, None), slot("A2", "c/usb2/2", Some("c/usb3/2"))];
    let block = "slots:\n  - { name: A1, usb2: \"pci-0000:00:14.0/usb2/1.4\" }\n  - { name: A2, usb2: c/usb2/2, usb3: \
                 c/usb3/2 }\n";
    becomes("name: x\n", &new, &format!("name: x\n\n{block}"));
    becomes("name: x # no end", &new, &format!("name: x # no end\n\n{block}"));
    becomes("name: x\r\n", &new, &format!("name: x\n\n{block}").replace('\n', "\r\n"));
}

#[test]
fn both_line_ends_and_a_byte_order_mark_stay() {
    becomes(
        "\u{feff}name: é # ä\r\nslots:\r\n  - name: A1 # ü\r\n    usb2: c/usb2/1\r\nlast: 1\r\n",
        &[slot("A1", "c/usb2/3", Some("c/usb3/3")), slot("A2", "c/usb2/4", None)],
        "\u{feff}name: é # ä\r\nslots:\r\n  - name: A1 # ü\r\n    usb2: c/usb2/3\r\n    usb3: c/usb3/3\r\n  - name: \
         A2\r\n    usb2: c/usb2/4\r\nlast: 1\r\n",
    );
}

#[test]
fn what_cannot_be_edited_is_said_with_its_place() {
    let known = [slot("A1", "c/usb2/3", None)];
    let new = [slot("A2", "c/usb2/3", None)];
    let refused = |text: &str, slots: &[SlotConfig], expected: &str| {
        let why = edited(text, slots).expect_err("it cannot be edited");
        assert!(why.contains(expected), "{text}: {why}");
    };
    refused("slots: [{name: A1, usb2: c/usb2/1}]\n", &new, "s.yaml:1:1: this list of slots cannot be added to");
    refused("slots: []\n", &new, "s.yaml:1:1: `slots` is empty");
    refused("slots: []\n", &new, "remove this line");
    refused("slots:\n", &new, "remove the line");
    refused("slots: {name: A1}\n", &new, "is no list");
    refused("{name: x}\n", &new, "a file in braces");
    refused("slots:\n  - name: A1\n    usb2: c/usb2/1\n      .2\n", &known, "s.yaml:3:11: this port chain");
    refused("slots:\n  - name: A1\n    usb2: \"c\\x2fusb2/1\"\n", &known, "this port chain");
    refused("slots:\n  - name: A1\n    usb2: [c]\n", &known, "here must be a port chain");
    refused("slots:\n  - name: A1\n", &known, "has no `usb2`");
    refused("slots: &all\n  - {name: A1, usb2: c/usb2/1}\n", &known, "anchors");
    refused("name: x\n...\n", &new, "s.yaml:1:1: the slots of this file");
}

#[test]
fn a_list_in_brackets_is_edited_where_nothing_is_added() {
    becomes(
        "slots: [{name: A1, usb2: c/usb2/1}, {name: A2, usb2: c/usb2/2}]",
        &[slot("A2", "c/usb2/3", Some("c/usb3/3"))],
        "slots: [{name: A1, usb2: c/usb2/1}, {name: A2, usb2: c/usb2/3, usb3: c/usb3/3}]",
    );
}

#[test]
fn quoted_and_folded_values_are_replaced_in_their_own_way() {
    let learned = [slot("A1", "c/usb2/3", Some(A1.1))];
    becomes(
        "slots:\n  - name: A1\n    usb2: >-\n      c/usb2/1\nz: 1\n",
        &learned,
        "slots:\n  - name: A1\n    usb2: >-\n      c/usb2/3\n    usb3: \"pci-0000:00:14.0/usb3/2.4\"\nz: 1\n",
    );
    // The parser takes blanks and line ends behind a quoted value for a part of it.
    becomes(
        "slots:\n  - { name: 'A1', usb2: 'c/usb2/1'  , usb3: \"c/usb3/1\"\n    }\n",
        &learned,
        "slots:\n  - { name: 'A1', usb2: 'c/usb2/3'  , usb3: \"pci-0000:00:14.0/usb3/2.4\"\n    }\n",
    );
}

#[test]
fn names_are_read_also_where_nothing_else_is() {
    let names = |text: &str| slot_names(Path::new("s.yaml"), text.as_bytes()).expect("YAML");
    assert_eq!(names("slots: [{name: A1}, {name: '2'}, {usb2: x}, 3]\n"), ["A1", "2"]);
    assert!(names("name: x\n").is_empty());
    slot_names(Path::new("s.yaml"), b"a: [").expect_err("no YAML");
}

/// One entry of a list in one of the styles that people write, with a comment behind it.
fn entry(index: usize, style: u8, with_usb3: bool, quote: &str, comment: &str) -> String {
    let usb2 = format!("{quote}c/usb2/{}{quote}", index + 1);
    let usb3 = if with_usb3 { format!("{quote}c/usb3/{}{quote}", index + 1) } else { String::new() };
    match (style, with_usb3) {
        (0, false) => format!("  - {{ name: S{index}, usb2: {usb2} }} #{comment}\n"),
        (0, true) => format!("  - {{ usb3: {usb3},  name: S{index}, usb2: {usb2} }}\n  #{comment}\n"),
        (_, false) => format!("  - name: S{index} #{comment}\n    usb2: {usb2}\n"),
        (_, true) => format!("  - usb3: {usb3} #{comment}\n    # - x\n    name: S{index}\n    usb2: {usb2}\n"),
    }
}

proptest! {
    #[test]
    fn whatever_is_no_chain_stays_byte_for_byte(
        entries in proptest::collection::vec((0_u8..2, any::<bool>(), prop_oneof![Just(""), Just("'"), Just("\"")], "[ a-zé{}\\[\\]'\":#-]{0,12}"), 1..6),
        edits in proptest::collection::vec((0_usize..8, 1_u8..=255, proptest::option::of(1_u8..=255)), 0..6),
        crlf in any::<bool>(),
        behind in prop_oneof![Just("\n# end\nz: 'é'\n"), Just("z: 1"), Just("")],
    ) {
        let mut text = "# top é\na: {b: [1, 'c']}\nslots: # here\n".to_owned();
        for (index, (style, with_usb3, quote, comment)) in entries.iter().enumerate() {
            text += &entry(index, *style, *with_usb3, quote, comment);
        }
        text += behind;
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        let mut slots: Vec<SlotConfig> = Vec::new();
        for (index, port, usb3) in edits {
            let name = format!("S{index}");
            if slots.iter().all(|slot| slot.name.as_str() != name) {
                let usb3 = usb3.map(|port| format!("pci-0:1/usb3/{port}"));
                slots.push(slot(&name, &format!("pci-0:1/usb2/{port}"), usb3.as_deref()));
            }
        }
        let new = edited(&text, &slots).map_err(TestCaseError::fail)?;
        // Without every chain and every new slot, both are the same text.
        let bare = |text: &str| -> String {
            let is_new = |line: &str| (entries.len()..8).any(|index| line.contains(&format!("name: S{index}")));
            let mut kept = Vec::new();
            let mut skipping = false;
            for line in text.split_inclusive('\n') {
                skipping = is_new(line) || (skipping && line.starts_with("    usb"));
                if !skipping {
                    kept.push(line);
                }
            }
            kept.concat().chars().filter(|c| !c.is_whitespace()).collect()
        };
        let mut expected = text.clone();
        for slot in &slots {
            let index: usize = slot.name.as_str()[1..].parse().expect("a number");
            if let Some((style, with_usb3, quote, _)) = entries.get(index) {
                let value = |chain: &PortChain| if quote.is_empty() { format!("\"{chain}\"") } else { format!("{quote}{chain}{quote}") };
                let old = |side: &str| format!("{side}: {quote}c/{side}/{}{quote}", index + 1);
                let mut usb2 = format!("usb2: {}", value(&slot.usb2));
                if let (Some(chain), false) = (&slot.usb3, with_usb3) {
                    let sign = if *style == 0 { ", " } else { "\n    " };
                    usb2 += &format!("{sign}usb3: \"{chain}\"");
                }
                let before = expected.len();
                expected = replace_once(&expected, &old("usb2"), &usb2);
                prop_assert_ne!(before, expected.len());
                if let (Some(chain), true) = (&slot.usb3, with_usb3) {
                    expected = replace_once(&expected, &old("usb3"), &format!("usb3: {}", value(chain)));
                }
            }
        }
        prop_assert_eq!(bare(&new), bare(&expected));
        // A second time it is right already.
        prop_assert_eq!(edited(&new, &slots).map_err(TestCaseError::fail)?, new);
    }

    #[test]
    fn no_input_panics(text in "(slots:\n)?([ \\-{}\\[\\],:#'\"a]|name: S1|usb2: c/usb2/1|usb3: c/usb3/1|\n|\r\n){0,24}") {
        let _ = edited(&text, &[slot("S1", "d/usb2/1", Some("d/usb3/1")), slot("S2", "d/usb2/2", None)]);
    }
}

/// The first place where `old` ends a value, replaced.
fn replace_once(text: &str, old: &str, new: &str) -> String {
    let at = text.match_indices(old).find(|(at, _)| {
        let rest = &text[at + old.len()..];
        !rest.starts_with(|c: char| c.is_ascii_digit())
    });
    match at {
        Some((at, _)) => format!("{}{new}{}", &text[..at], &text[at + old.len()..]),
        None => text.to_owned(),
    }
}
