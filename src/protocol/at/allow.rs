//! Which commands a profile, or a person at a terminal, may add: those that only read.
//!
//! A profile is written by people who know the product, not the controller, and one command among its checks that
//! writes an IMEI or resets the bands would do so on every unit of a batch. So this is a list of what is known to
//! read, and what is not on it is refused with the reason. The forms `?` and `=?` read by definition (ITU-T V.250,
//! 5.4.3 and 5.4.4); everything else is listed, keys too: with many commands of modules, a key without a value is a
//! question for one word and an act for the next (`"nr5g_band"`, `"restore_band"`).

use std::fmt::Write;

use crate::domain::limits;
use crate::domain::text::printable;

/// Commands that read when they stand alone (`AT+CSQ`).
const ALONE: &[&str] = &[
    "+CCID", "+CGMI", "+CGMM", "+CGMR", "+CGSN", "+CIMI", "+CNUM", "+CSQ", "+CSUB", "+GMI", "+GMM", "+GMR", "+GSN",
    "+QCCID", "+QCSQ", "+QGMR", "+QNWINFO", "+QRSRP", "+QRSRQ", "+QSINR", "+QSPN", "+QTEMP",
];
/// Commands that read when they have one of these keys in quotes and nothing else (`AT+QCFG="band"`), from Quectel's
/// AT command manuals of EC2x and EG2x, and of RG50xQ and RM5xxQ.
const KEYED: &[(&str, &[&str])] = &[
    (
        "+QCFG",
        &[
            "airplanecontrol",
            "apready",
            "band",
            "bip/auth",
            "cops_control",
            "data_interface",
            "hsdpacat",
            "hsupacat",
            "ims",
            "ledmode",
            "msc",
            "nwscanmode",
            "nwscanseq",
            "pcie/mode",
            "pdp/duplicatechk",
            "risignaltype",
            "roamservice",
            "rrc",
            "secbootstat",
            "servicedomain",
            "sgsn",
            "tone/incoming",
            "urc/cache",
            "urc/delay",
            "urc/ri/other",
            "urc/ri/ring",
            "urc/ri/smsincoming",
            "usbcfg",
            "usbid",
            "usbnet",
            "usbspeed",
        ],
    ),
    ("+QENG", &["neighbourcell", "servingcell"]),
    (
        "+QNWPREFCFG",
        &[
            "gw_band",
            "lte_band",
            "mode_pref",
            "nr5g_band",
            "nr5g_disable_mode",
            "nsa_nr5g_band",
            "policy_band",
            "rat_acq_order",
            "roam_pref",
            "srv_domain",
            "ue_capability_band",
            "ue_usage_setting",
            "voice_domain",
        ],
    ),
];
/// Forms that read although they look like settings.
const WHOLE: &[&str] = &["ATI", "AT+QMBNCFG=\"LIST\"", "AT+QPRTPARA=4"];
/// Commands that leave normal operation, whatever their form.
const NEVER: &[&str] = &["+QDOWNLOAD", "+QFASTBOOT", "+QPOWD", "+QRST"];
/// Longest part of a chain that is repeated in a sentence, in characters.
const PART_CHARS: usize = 60;

/// Whether `command` is known to read and to do nothing else.
///
/// # Errors
/// A clause that says why not; of a chain, because of which of its commands.
pub fn is_reading_command(command: &str) -> Result<(), String> {
    check_line(command)?;
    let parts = parts(command);
    let [_] = parts.as_slice() else {
        let whole = |(number, part): (usize, &&str)| if number == 0 { (*part).to_owned() } else { format!("AT{part}") };
        let guilty = parts.iter().enumerate().find_map(|part| Some((part, check(&whole(part)).err()?)));
        return Err(match guilty {
            Some(((number, part), reason)) => format!(
                "it is a chain of {} commands, and number {}, {}, is refused: {reason}",
                parts.len(),
                number + 1,
                printable(part, PART_CHARS),
            ),
            None => format!("it is a chain of {} commands, and only one at a time is sent", parts.len()),
        });
    };
    Ok(check(command)?)
}

/// What [`is_reading_command`] allows, for people: lines without an end.
#[must_use]
pub fn reading_commands() -> Vec<String> {
    let names = |names: &[&str]| names.iter().map(|name| format!("AT{name}")).collect::<Vec<_>>().join(" ");
    let mut lines = vec![
        format!("AT+NAME? and AT+NAME=? of every name but {}", NEVER.join(" ")),
        format!("{} AT+EGMR=0,N", WHOLE.join(" ")),
        names(ALONE),
        "AT+QNVFR=\"PATH\"".to_owned(),
    ];
    lines.extend(KEYED.iter().map(|(name, keys)| {
        let mut line = format!("AT{name}=\"KEY\" with the key");
        for key in *keys {
            let _infallible = write!(line, " {key}");
        }
        line
    }));
    lines
}

/// The bounds of every line that is sent to a module.
fn check_line(command: &str) -> Result<(), &'static str> {
    if command.len() > limits::AT_COMMAND_CHARS_MAX {
        return Err("the command is too long");
    }
    if !command.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err("the command has characters that are not printable ASCII");
    }
    if !command.matches('"').count().is_multiple_of(2) {
        return Err("the command has a quote that is not closed");
    }
    Ok(())
}

/// The commands of a line: what is between semicolons outside of quotes (ITU-T V.250, 5.4.2).
fn parts(line: &str) -> Vec<&str> {
    let mut is_quoted = false;
    line.split(|c: char| {
        is_quoted ^= c == '"';
        c == ';' && !is_quoted
    })
    .collect()
}

fn check(command: &str) -> Result<(), &'static str> {
    if command.split('"').step_by(2).any(|outside| outside.contains(' ')) {
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
    if name.len() < 2 {
        return Err("the command has no name");
    }
    if NEVER.contains(&name) {
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
    let keys = KEYED.iter().find(|(keyed, _)| *keyed == name).map(|(_, keys)| *keys);
    if keys.is_none() && name != "+QNVFR" {
        return Err("the command has a value, and is not known to read then");
    }
    let key = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let key = key.filter(|key| !key.is_empty() && !key.contains('"')).ok_or("the command does more than name a key")?;
    match keys {
        Some(keys) if keys.iter().any(|known| known.eq_ignore_ascii_case(key)) => Ok(()),
        Some(_) => Err("the key is not among those that are known to read"),
        None if key.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c)) => Ok(()),
        None => Err("the path has characters that no path of an item has"),
    }
}
