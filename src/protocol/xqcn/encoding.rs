//! Windows-1252, which XQCN files are written in, and the bytes of streams.

use std::borrow::Cow;

/// What the bytes `80` to `9F` mean; five mean nothing.
const HIGH: [char; 32] = [
    '\u{20ac}', '\0', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2c6}', '\u{2030}',
    '\u{160}', '\u{2039}', '\u{152}', '\0', '\u{17d}', '\0', '\0', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}',
    '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\0', '\u{17e}',
    '\u{178}',
];

/// The text of a file. What encoding it is in, its XML declaration says; without one it is Windows-1252, too.
pub(super) fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match declared(bytes)?.to_ascii_lowercase().as_str() {
        "utf-8" => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        "windows-1252" | "cp1252" | "us-ascii" | "iso-8859-1" => {
            if bytes.is_ascii() {
                return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
            }
            bytes.iter().map(|byte| character(*byte)).collect::<Option<String>>().map(Cow::Owned)
        }
        _ => None,
    }
}

fn character(byte: u8) -> Option<char> {
    match byte {
        0x80..=0x9f => Some(HIGH[usize::from(byte - 0x80)]).filter(|c| *c != '\0'),
        _ => Some(char::from(byte)),
    }
}

/// The encoding that the XML declaration names; `None` when that cannot be read.
fn declared(bytes: &[u8]) -> Option<&str> {
    const DEFAULT: &str = "windows-1252";
    if !bytes.starts_with(b"<?xml") {
        return Some(DEFAULT);
    }
    let end = bytes.iter().take(256).position(|byte| *byte == b'>')?;
    let declaration = std::str::from_utf8(&bytes[..end]).ok()?;
    let Some((_, rest)) = declaration.split_once("encoding") else { return Some(DEFAULT) };
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest[1..].split_once(quote).map(|(name, _)| name)
}

/// A text between quotes in pure ASCII: what is special or not ASCII becomes a reference, what XML cannot hold an
/// underscore.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '\'' | '"' => out.push_str(&format!("&#{};", u32::from(c))),
            ' '..='~' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.push('_'),
            c if c.is_control() => out.push('_'),
            c => out.push_str(&format!("&#{};", u32::from(c))),
        }
    }
    out
}

/// The bytes of a stream: pairs of hexadecimal digits with single spaces between them. One space at the end is what
/// some tools write.
pub(super) fn unhex(value: &str) -> Option<Vec<u8>> {
    let value = value.strip_suffix(' ').unwrap_or(value).as_bytes();
    if value.is_empty() {
        return Some(Vec::new());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(value.len() / 3 + 1);
    for pair in value.chunks(3) {
        match *pair {
            [high, low] | [high, low, b' '] => bytes.push(digit(high)? << 4 | digit(low)?),
            _ => return None,
        }
    }
    // The last pair has no space behind it, the ones before it have.
    (value.len() % 3 == 2).then_some(bytes)
}

/// Writes bytes as a stream's value.
pub(super) fn hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.reserve(bytes.len() * 3);
    for (count, byte) in bytes.iter().enumerate() {
        if count > 0 {
            out.push(' ');
        }
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 0xf)]));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_encodings_are_read_and_others_are_not() {
        let head = |name: &str| format!("<?xml version=\"1.0\" encoding='{name}' ?>").into_bytes();
        let file = |name: &str, text: &[u8]| decode(&[&head(name), text].concat()).map(Cow::into_owned);
        assert!(file("Windows-1252", b"\x80\xe4").expect("text").ends_with("\u{20ac}\u{e4}"));
        assert!(file("UTF-8", "\u{e4}".as_bytes()).expect("text").ends_with('\u{e4}'));
        assert_eq!(file("utf-8", b"\xe4"), None);
        assert_eq!(file("windows-1252", b"\x81"), None);
        assert_eq!(file("UTF-16", b""), None);
        assert_eq!(decode(b"\xef\xbb\xbf<a/>").as_deref(), Some("<a/>"));
        assert_eq!(decode(b"<?xml encoding"), None);
    }

    #[test]
    fn only_pairs_with_single_spaces_are_bytes() {
        assert_eq!(unhex("0a FF"), Some(vec![0x0a, 0xff]));
        assert_eq!(unhex("0A "), Some(vec![0x0a]));
        assert_eq!(unhex(""), Some(vec![]));
        for bad in ["0", "0A  FF", "0AFF", " 0A", "0A FF  ", "0A,FF", "+A", "0A F", "0\u{e4}"] {
            assert_eq!(unhex(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_survive_both_cases(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut text = String::new();
            hex(&bytes, &mut text);
            prop_assert_eq!(unhex(&text.to_lowercase()), Some(bytes.clone()));
            prop_assert_eq!(unhex(&text), Some(bytes));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = unhex(&text);
            let _ = decode(&bytes);
            let _ = decode(&[b"<?xml encoding=".as_slice(), &bytes].concat());
        }
    }
}
