//! Which commands a profile may add: those that only read.
//!
//! A profile is written by people who know the product, not the controller, and one command among its checks that
//! writes an IMEI or resets the bands would do so on every unit of a batch. So this is a list of what is known to
//! read, and what is not on it is refused with the reason.

use crate::domain::limits;

/// Commands that read when they stand alone (`AT+CSQ`).
const ALONE: &[&str] = &[
    "+CCID", "+CGMI", "+CGMM", "+CGMR", "+CGSN", "+CIMI", "+CNUM", "+CSQ", "+CSUB", "+GMI", "+GMM", "+GMR", "+GSN",
    "+QCCID", "+QCSQ", "+QGMR", "+QNWINFO", "+QRSRP", "+QRSRQ", "+QSINR", "+QSPN", "+QTEMP",
];
/// Commands that read when they have one quoted key and nothing else (`AT+QCFG="band"`).
const KEYED: &[&str] = &["+QCFG", "+QENG", "+QNVFR", "+QNWPREFCFG"];
/// Forms that read although they look like settings.
const WHOLE: &[&str] = &["ATI", "AT+QMBNCFG=\"LIST\"", "AT+QPRTPARA=4"];
/// Words in a key that say that it acts (`"restore_band"`, `"all_band_reset"`), although it has no value.
const ACTING: &[&str] = &["reset", "restore", "erase", "clear", "delete", "remove", "factory", "format", "default"];
/// Commands that leave normal operation, whatever their form.
const NEVER: &[&str] = &["+QDOWNLOAD", "+QFASTBOOT", "+QPOWD", "+QRST"];

/// Whether a profile may send `command`.
///
/// # Errors
/// A sentence that says why not.
pub fn is_reading_command(command: &str) -> Result<(), String> {
    check(command).map_err(|reason| format!("{reason}; a profile may only read"))
}

fn check(command: &str) -> Result<(), &'static str> {
    if command.len() > limits::AT_COMMAND_CHARS_MAX {
        return Err("the command is too long");
    }
    if !command.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err("the command has characters that are not printable ASCII");
    }
    if !command.matches('"').count().is_multiple_of(2) {
        return Err("the command has a quote that is not closed");
    }
    let outside: String = command.split('"').step_by(2).collect();
    if outside.contains(';') {
        return Err("the command is a chain of several");
    }
    if outside.contains(' ') {
        return Err("the command has a blank outside of quotes");
    }
    let upper = command.to_ascii_uppercase();
    if WHOLE.contains(&upper.as_str()) {
        return Ok(());
    }
    let body = upper.strip_prefix("AT").ok_or("the command does not begin with AT")?;
    if !body.starts_with('+') {
        return Err("of the commands without `+` only ATI is known to read");
    }
    let end = body[1..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(body.len(), |end| end + 1);
    let (name, form) = body.split_at(end);
    if name.len() < 2 || NEVER.contains(&name) {
        return Err("the command leaves normal operation");
    }
    match form {
        "?" | "=?" => Ok(()),
        "" if ALONE.contains(&name) => Ok(()),
        "" => Err("the command is not known to read when it stands alone"),
        _ => check_setting(name, form.strip_prefix('=').ok_or("the command has no known form")?),
    }
}

/// Forms with a value, in upper case.
fn check_setting(name: &str, value: &str) -> Result<(), &'static str> {
    if name == "+EGMR" {
        let item = value.strip_prefix("0,").ok_or("only AT+EGMR=0,n reads, the others write an identity")?;
        let plain = (1..=2).contains(&item.len()) && item.bytes().all(|byte| byte.is_ascii_digit());
        return if plain { Ok(()) } else { Err("AT+EGMR=0,n has one number") };
    }
    if !KEYED.contains(&name) {
        return Err("the command has a value, and is not known to read then");
    }
    let key = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let key = key.filter(|key| !key.is_empty() && !key.contains('"')).ok_or("the command does more than name a key")?;
    let path = name == "+QNVFR";
    if !key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c) || path && c == '/') {
        return Err("the key has characters that no key has");
    }
    let key = key.to_ascii_lowercase();
    if !path && ACTING.iter().any(|word| key.contains(word)) {
        return Err("the key names an action");
    }
    Ok(())
}
