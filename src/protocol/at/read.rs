//! What is read out of replies. Each reader accepts a strict form and answers `None` to everything else, so that a
//! strange reply is "not readable", never "no bands" or "no mode".

use std::collections::BTreeSet;

use super::{Final, Reply};
use crate::domain::text::printable;
use crate::domain::{BandReply, limits};

/// The model in a reply to `ATI`: `RM502Q-AE`, `EC25`.
#[must_use]
pub fn model(reply: &Reply) -> Option<String> {
    let name = |line: &&String| {
        line.starts_with(|c: char| c.is_ascii_uppercase())
            && line.contains(|c: char| c.is_ascii_digit())
            && line.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let line = ok(reply)?.iter().find(name)?;
    Some(printable(line, limits::DEVICE_TEXT_CHARS_MAX))
}

/// The revision in a reply to `AT+QGMR`, `AT+CGMR` or `ATI`.
#[must_use]
pub fn revision(reply: &Reply) -> Option<String> {
    let lines = ok(reply)?;
    let labelled = lines.iter().find_map(|line| line.strip_prefix("Revision:").map(str::trim));
    let plain = lines.iter().map(|line| value(line)).find(|line| is_revision(line));
    labelled.filter(|text| is_revision(text)).or(plain).map(|text| printable(text, limits::DEVICE_TEXT_CHARS_MAX))
}

fn is_revision(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.contains(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "-_.".contains(c))
}

/// The answer to `AT+CGSN` or `AT+EGMR=0,7` as it is, without prefix, quotes and blanks: for people, and for
/// [`crate::domain::Imei`] to judge. Several different answers are given all, so that none of them counts as an IMEI.
#[must_use]
pub fn imei_text(reply: &Reply) -> Option<String> {
    let lines: Vec<&str> = ok(reply)?.iter().map(|line| value(line)).collect();
    let digits = |line: &&str| !line.is_empty() && line.chars().all(|c| c.is_ascii_digit());
    let mut found: Vec<&str> = lines.iter().copied().filter(digits).collect();
    if found.is_empty() {
        found = lines;
    }
    found.dedup();
    let text = found.join(" ");
    (!text.is_empty()).then(|| printable(&text, limits::DEVICE_TEXT_CHARS_MAX))
}

/// The number in `+CFUN: n`. The same line is also a URC of a starting module: where two of them differ, there is no
/// telling which is the reply, and it has to be asked again.
#[must_use]
pub fn cfun(reply: &Reply) -> Option<u8> {
    let numbers: Option<BTreeSet<u8>> = ok(reply)?
        .iter()
        .filter_map(|line| after_prefix(line, "+CFUN:"))
        .map(|number| number.split(',').next().unwrap_or("").trim().parse().ok())
        .collect();
    only(numbers?)
}

/// The bands in a reply, of the key that `form` names.
#[must_use]
pub fn bands(reply: &Reply, form: &BandReply) -> Option<BTreeSet<u16>> {
    let sets: Option<BTreeSet<BTreeSet<u16>>> = match form {
        BandReply::List { key } => {
            let lists = ok(reply)?.iter().filter_map(|line| keyed(line, "+QNWPREFCFG:", key));
            lists.map(band_list).collect()
        }
        BandReply::LteMask => {
            let masks = ok(reply)?.iter().filter_map(|line| keyed(line, "+QCFG:", "band"));
            masks.map(|masks| band_mask(masks.split(',').nth(1)?.trim())).collect()
        }
    };
    only(sets?)
}

/// The bytes of an EFS item in a reply to `AT+QNVFR="<path>"`: `+QNVFR: 0A1B…`.
#[must_use]
pub fn item(reply: &Reply) -> Option<Vec<u8>> {
    let items: Option<BTreeSet<Vec<u8>>> =
        ok(reply)?.iter().filter_map(|line| after_prefix(line, "+QNVFR:")).map(|hex| bytes(unquoted(hex))).collect();
    only(items?)
}

/// The lines of a reply that ended well: an error says nothing of what was asked.
fn ok(reply: &Reply) -> Option<&[String]> {
    (reply.result == Final::Ok).then_some(&reply.lines)
}

/// The one element; `None` when there are none or several.
fn only<T: Ord>(mut set: BTreeSet<T>) -> Option<T> {
    if set.len() == 1 { set.pop_first() } else { None }
}

fn after_prefix<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = line.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| rest.trim())
}

/// What follows `+X: "key",`.
fn keyed<'a>(line: &'a str, prefix: &str, key: &str) -> Option<&'a str> {
    let (found, rest) = after_prefix(line, prefix)?.strip_prefix('"')?.split_once('"')?;
    if found == key { rest.trim_start().strip_prefix(',') } else { None }
}

/// A line's value: without `+X:`, quotes and blanks.
fn value(line: &str) -> &str {
    let rest = if line.starts_with('+') { line.split_once(':').map_or(line, |(_, rest)| rest) } else { line };
    unquoted(rest)
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).trim()
}

/// `1:3:78`, with `,` too, with an `n` or `B` before a number, in any order; `0` is no band. Or a mask.
fn band_list(text: &str) -> Option<BTreeSet<u16>> {
    let text = unquoted(text);
    if text.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x")) {
        return band_mask(text);
    }
    let mut bands = BTreeSet::new();
    for item in text.split([':', ',']) {
        let digits = item.trim().trim_start_matches(['n', 'N', 'b', 'B']);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        match digits.parse().ok()? {
            0 => {}
            band if band <= limits::BAND_NUMBER_MAX => _ = bands.insert(band),
            _ => return None,
        }
    }
    Some(bands)
}

/// A hexadecimal mask of any width: bit n-1 is band n.
fn band_mask(text: &str) -> Option<BTreeSet<u16>> {
    let text = unquoted(text);
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(text);
    if digits.is_empty() || digits.len() > usize::from(limits::BAND_NUMBER_MAX) / 4 {
        return None;
    }
    let mut bands = BTreeSet::new();
    for (position, digit) in (0_u16..).zip(digits.chars().rev()) {
        let digit = digit.to_digit(16)?;
        bands.extend((0..4_u16).filter(|bit| digit >> bit & 1 == 1).map(|bit| position * 4 + bit + 1));
    }
    Some(bands)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.is_empty() || !hex.len().is_multiple_of(2) || hex.len() / 2 > limits::AT_ITEM_BYTES_MAX {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    hex.as_bytes().chunks_exact(2).map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()).collect()
}
