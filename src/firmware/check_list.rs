//! `md5.txt`: which files a package has, and their MD5.
//!
//! MD5 proves nothing against an attacker; it is what vendors ship, and it finds a truncated download. All 32 digits
//! count, and so does completeness: other flashers compare half of the digits and pass over missing files. What pins
//! a package is its SHA-256 digest in the profile.

use std::collections::BTreeMap;

use super::error::PackageProblem as Problem;
use super::names::normalise;
use crate::domain::limits::PACKAGE_FILES_MAX;

/// The one file that vendors list and do not ship.
const NEVER_SHIPPED: &str = "targetfiles.zip";

/// What the list says of one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Listed {
    pub(super) md5: [u8; 16],
    pub(super) line: u32,
}

/// The list by key; and the keys of files that need not be there.
#[derive(Debug, Default)]
pub(super) struct CheckList {
    pub(super) files: BTreeMap<String, Listed>,
    pub(super) never_shipped: Vec<String>,
}

/// Reads the list. Errors come with their line.
pub(super) fn parse(text: &str) -> Result<CheckList, (u32, Problem)> {
    let mut list = CheckList::default();
    let (mut is_open, mut is_closed) = (false, false);
    let mut line = 0;
    for text in text.trim_start_matches('\u{feff}').lines() {
        line += 1;
        let at = |problem| (line, problem);
        let text = text.trim_matches([' ', '\t', '\r']);
        if text.is_empty() {
            continue;
        }
        match text.strip_prefix("FILE:") {
            _ if is_closed => return Err(at(Problem::CheckList("there is something after FILE:END"))),
            None if text.starts_with("VERSION:") && !is_open => {}
            Some("START") if !is_open => is_open = true,
            Some("END") if is_open => is_closed = true,
            Some(entry) if is_open => {
                let (name, digits) = entry.rsplit_once(':').ok_or(at(Problem::CheckList(ENTRY)))?;
                let md5 = md5(digits).ok_or(at(Problem::CheckList("an MD5 has 32 hexadecimal digits")))?;
                let name = name.strip_prefix(['\\', '/']).ok_or(at(Problem::CheckList(ENTRY)))?;
                if name.split(['/', '\\']).any(|component| component == "..") {
                    return Err(at(Problem::CheckList("a listed file is not in the package")));
                }
                let key = normalise(&[], name).map_err(|problem| at(Problem::Name(problem)))?;
                let base_name = key.rsplit('/').next().unwrap_or_default();
                if base_name.eq_ignore_ascii_case(NEVER_SHIPPED) {
                    list.never_shipped.push(key);
                } else if list.files.insert(key, Listed { md5, line }).is_some() {
                    return Err(at(Problem::CheckList("the file is listed twice")));
                }
                if list.files.len() + list.never_shipped.len() > PACKAGE_FILES_MAX {
                    return Err(at(Problem::TooManyFiles));
                }
            }
            _ => return Err(at(Problem::CheckList(ENTRY))),
        }
    }
    if is_closed { Ok(list) } else { Err((line.max(1), Problem::CheckList("FILE:START or FILE:END is missing"))) }
}

const ENTRY: &str = "the line is none of VERSION:…, FILE:START, FILE:\\path:md5 and FILE:END in their order";

fn md5(digits: &str) -> Option<[u8; 16]> {
    let mut md5 = [0; 16];
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    for (byte, pair) in md5.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |index: usize| (pair[index] as char).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(md5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn real_lists_are_read() {
        let text = "VERSION:1.0\r\nFILE:START\r\nFILE:\\update\\tz.mbn:00112233445566778899AABBCCDDEEFF\r\n\
                    FILE:/contents.xml:00112233445566778899aabbccddeeff\nFILE:\\upgrade\\targetfiles.zip:\
                    00112233445566778899AABBCCDDEEFF\r\nFILE:END\r\n\r\n";
        let list = parse(text).expect("a list");
        let keys: Vec<&str> = list.files.keys().map(String::as_str).collect();
        assert_eq!(keys, ["contents.xml", "update/tz.mbn"]);
        assert_eq!(list.never_shipped, ["upgrade/targetfiles.zip"]);
        assert_eq!(list.files["update/tz.mbn"], Listed { md5: list.files["contents.xml"].md5, line: 3 });
        assert_eq!(list.files["contents.xml"].md5[15], 0xff);
    }

    #[test]
    fn damaged_lists_are_refused_with_their_line() {
        let md5 = "00112233445566778899AABBCCDDEEFF";
        let entry = format!("FILE:\\a:{md5}\n");
        let cases = [
            (String::new(), 1, "FILE:END"),
            (format!("FILE:START\n{entry}"), 2, "FILE:END"),
            (entry.clone(), 1, "in their order"),
            (format!("FILE:START\n{entry}FILE:\\a:{}\nFILE:END", &md5[..31]), 3, "32 hex"),
            (format!("FILE:START\nFILE:\\a:{}\nFILE:END", md5.replace('F', "G")), 2, "32 hex"),
            (format!("FILE:START\nFILE:a:{md5}\nFILE:END"), 2, "in their order"),
            (format!("FILE:START\nFILE:\\..\\a:{md5}\nFILE:END"), 2, "not in the package"),
            (format!("FILE:START\nFILE:\\C:\\a:{md5}\nFILE:END"), 2, "does not say where"),
            (format!("FILE:START\n{entry}{entry}FILE:END"), 3, "listed twice"),
            (format!("FILE:START\n{entry}FILE:END\n{entry}"), 4, "after FILE:END"),
            (format!("FILE:START\n<html>\n{entry}FILE:END"), 2, "in their order"),
        ];
        for (text, line, sentence) in cases {
            let (at, problem) = parse(&text).expect_err(&text);
            assert_eq!(at, line, "{text}");
            assert!(problem.to_string().contains(sentence), "{text}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(FILE:|START|END|\\\\|:|\n|[0-9A-Fa-fé]|[0-9A-F]{32}){0,40}") {
            let _ = parse(&text);
        }
    }
}
