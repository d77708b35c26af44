//! Single fields: how text, times and numbers are written so that every program reads them the same, and no
//! spreadsheet takes them for a formula.
//!
//! Modules answer with lines such as `+QNWPREFCFG: …`, and a spreadsheet executes a cell that begins with `+`
//! (CWE-1236). Quoting does not help against that; only a character in front does.

use jiff::Timestamp;

use crate::domain::text;

/// What a spreadsheet may take for the start of a formula. The wide forms count too: some locales treat them alike.
const FORMULA_STARTS: &[char] = &['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Text for a field: one line without controls, with `'` in front where a spreadsheet could take it for a formula,
/// also after leading blanks.
#[must_use]
pub fn safe(text: &str) -> String {
    let inner = text.trim_start();
    let blanks = &text[..text.len() - inner.len()];
    let line = text::printable(text, usize::MAX);
    let is_formula =
        inner.starts_with(FORMULA_STARTS) || inner.starts_with('\0') || blanks.contains(['\t', '\r', '\n']);
    if is_formula { format!("'{line}") } else { line }
}

/// A moment in UTC with milliseconds: `2026-11-23T03:55:12.345Z`. Finer digits are cut, not rounded, so that a stamp
/// never lies after the moment it names.
#[must_use]
pub fn timestamp(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A duration in seconds with three decimals.
#[must_use]
pub fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_disarmed_and_the_rest_is_left_alone() {
        for (text, expected) in [
            ("=1+1", "'=1+1"),
            ("+QNWINFO: 1", "'+QNWINFO: 1"),
            ("-5", "'-5"),
            ("@SUM", "'@SUM"),
            ("  =1", "'  =1"),
            ("\t1", "'\\u{9}1"),
            ("\r\n=1", "'\\u{d}\\u{a}=1"),
            ("\0=1", "'\\u{0}=1"),
            ("\u{3000}＝1", "'\u{3000}＝1"),
            ("EG25GGBR07A08M2G", "EG25GGBR07A08M2G"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(safe(text), expected, "{text:?}");
        }
    }

    #[test]
    fn times_have_exactly_three_decimals() {
        let moment: Timestamp = "2026-11-23T03:55:12.3459Z".parse().expect("a timestamp");
        assert_eq!(timestamp(moment), "2026-11-23T03:55:12.345Z");
        let whole: Timestamp = "2026-11-23T03:55:12Z".parse().expect("a timestamp");
        assert_eq!(timestamp(whole), "2026-11-23T03:55:12.000Z");
        assert_eq!((seconds(0), seconds(61_007)), ("0.000".to_owned(), "61.007".to_owned()));
    }
}
