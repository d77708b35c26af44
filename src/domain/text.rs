//! Text that came from outside: how it is made safe to show.
//!
//! A module's revision string may hold terminal escapes, line ends or bidirectional controls. Every text from a
//! device, a package or a file passes [`printable`] before it becomes part of a fact, so no sink can forget it.

/// `text` with every control, format and bidirectional character written as `\u{..}`, cut to `chars_max` characters
/// (an ellipsis marks the cut). The result is one line.
#[must_use]
pub fn printable(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(chars_max));
    for (count, c) in text.chars().enumerate() {
        if count == chars_max {
            out.push('…');
            break;
        }
        if is_plain(c) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// The same for bytes that should be UTF-8; what is not is replaced.
#[must_use]
pub fn printable_bytes(bytes: &[u8], chars_max: usize) -> String {
    let end = bytes.len().min(chars_max.saturating_mul(4).saturating_add(4));
    printable(&String::from_utf8_lossy(&bytes[..end]), chars_max)
}

/// Width of the lines of a text for people, in characters.
pub const WIDTH: usize = 80;

/// A text in lines of at most [`WIDTH`] characters, broken at blanks; all but the first are indented. A longer word
/// stays whole.
#[must_use]
pub fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for (index, word) in text.split(' ').enumerate() {
        let chars = word.chars().count();
        if index > 0 && length + 1 + chars > WIDTH && length > indent {
            lines.truncate(lines.trim_end_matches(' ').len());
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            length = indent;
        } else if index > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += chars;
    }
    lines
}

fn is_plain(c: char) -> bool {
    !(c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_becomes_one_harmless_line() {
        assert_eq!(printable("\u{1b}[31mRED\r\n", 99), "\\u{1b}[31mRED\\u{d}\\u{a}");
        assert_eq!(printable("a\u{202e}b", 99), "a\\u{202e}b");
        assert_eq!(printable("EG25-G é 模块", 99), "EG25-G é 模块");
        assert_eq!(printable("abcdef", 3), "abc…");
        assert_eq!(printable_bytes(&[0xff, b'A'], 9), "\u{fffd}A");
    }
}
