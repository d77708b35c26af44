//! What a module answers to AT commands.
//!
//! Everything said here comes from the module's flash, through [`Memory`]: the revision of the images that booted, the
//! identity, bands and calibration of the EFS that is in it. A module whose EFS is lost says so in the way its
//! family does.

use super::models::{BandDialect, Model};
use crate::domain::BandSet;

/// A reply: lines and the final code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) lines: Vec<String>,
    pub(super) code: String,
}

impl Reply {
    pub(super) fn ok(lines: Vec<String>) -> Self {
        Self { lines, code: "OK".to_owned() }
    }

    pub(super) fn error() -> Self {
        Self { lines: Vec::new(), code: "ERROR".to_owned() }
    }

    pub(super) fn cme(number: u16) -> Self {
        Self { lines: Vec::new(), code: format!("+CME ERROR: {number}") }
    }

    fn line(line: String) -> Self {
        Self::ok(vec![line])
    }
}

/// What a command does besides its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Echo on or off for this port.
    Echo(bool),
    /// The module restarts.
    Restart,
}

/// The part of a module that AT commands read and write.
pub(super) trait Memory {
    /// The model.
    fn model(&self) -> &'static Model;
    /// The full revision that booted.
    fn revision(&self) -> String;
    /// The IMEI; `None` where the EFS has none.
    fn imei(&self) -> Option<String>;
    /// Writes the IMEI; whether that worked.
    fn set_imei(&mut self, imei: &str) -> bool;
    /// The module's serial number.
    fn serial_number(&self) -> Option<String>;
    /// The function level the modem is in.
    fn cfun(&self) -> u8;
    /// Changes it; whether that worked.
    fn set_cfun(&mut self, level: u8) -> bool;
    /// Whether the EFS is a blank skeleton.
    fn is_lost(&self) -> bool;
    /// A band set.
    fn bands(&self, set: BandSet) -> Vec<u16>;
    /// Changes a configured band set; whether that worked.
    fn set_bands(&mut self, set: BandSet, bands: &[u16]) -> bool;
    /// An item of the EFS.
    fn item(&self, path: &str) -> Option<Vec<u8>>;
    /// Writes one; whether that worked.
    fn set_item(&mut self, path: &str, content: &[u8]) -> bool;
    /// Bad blocks of the storage.
    fn bad_blocks(&self) -> u32;
    /// Puts back the second copy of the EFS, to be seen after a restart; whether there was one.
    fn restore_golden(&mut self) -> bool;
}

/// Sets that `AT+QNWPREFCFG` knows: key, configured, policy.
const BAND_KEYS: &[(&str, BandSet, BandSet)] = &[
    ("lte_band", BandSet::LteConfig, BandSet::LtePolicy),
    ("nsa_nr5g_band", BandSet::NrNsaConfig, BandSet::NrNsaPolicy),
    ("nr5g_band", BandSet::NrSaConfig, BandSet::NrSaPolicy),
];
/// What the GSM and WCDMA sets of an NR module are called, and their bands.
const GW_BANDS: &str = "1:2:4:5:8:19";
const CME_NO_SIM: u16 = 10;
const CME_NOT_FOUND: u16 = 22;
const CME_NOT_READY: u16 = 14;

/// What a module answers before its modem is up: one error or the other.
pub(super) fn not_ready(count: u32) -> Reply {
    if count.is_multiple_of(2) { Reply::error() } else { Reply::cme(CME_NOT_READY) }
}

/// Executes a command line.
pub(super) fn execute(line: &str, memory: &mut dyn Memory) -> (Reply, Effect) {
    let Some(command) = line.get(..2).filter(|head| head.eq_ignore_ascii_case("at")).map(|_| &line[2..]) else {
        return (Reply::error(), Effect::None);
    };
    let (head, argument) = match command.split_once('=') {
        Some((head, argument)) => (head.to_ascii_uppercase(), Some(argument)),
        None => (command.to_ascii_uppercase(), None),
    };
    match (head.as_str(), argument) {
        ("", None) => (Reply::ok(vec![]), Effect::None),
        ("E0", None) => (Reply::ok(vec![]), Effect::Echo(false)),
        ("E" | "E1", None) => (Reply::ok(vec![]), Effect::Echo(true)),
        ("+CFUN", Some("1,1")) => (Reply::ok(vec![]), Effect::Restart),
        (_, None) => (read(&head, memory), Effect::None),
        (_, Some(argument)) => (write(&head, argument, memory), Effect::None),
    }
}

fn read(head: &str, memory: &dyn Memory) -> Reply {
    let model = memory.model();
    let revision = memory.revision();
    let short = revision.split('_').next().unwrap_or_default().to_owned();
    match head {
        "I" => Reply::ok(vec!["Quectel".to_owned(), model.name.to_owned(), format!("Revision: {short}")]),
        "+CGMI" | "+GMI" => Reply::line("Quectel".to_owned()),
        "+CGMM" | "+GMM" => Reply::line(model.name.to_owned()),
        "+CGMR" | "+GMR" => Reply::line(short),
        "+QGMR" => Reply::line(revision),
        "+CSUB" => Reply::line("SubEdition: V01".to_owned()),
        "+CGSN" | "+GSN" => match memory.imei() {
            Some(imei) => Reply::line(imei),
            None => Reply { lines: vec![], code: "+CME ERROR: memory failure".to_owned() },
        },
        "+CFUN?" => Reply::line(format!("+CFUN: {}", memory.cfun())),
        "+CPIN?" => Reply::cme(CME_NO_SIM),
        "+CSQ" => Reply::line(if memory.is_lost() { "+CSQ: 99,99" } else { "+CSQ: 23,99" }.to_owned()),
        "+QTEMP" => temperatures(model),
        _ => Reply::error(),
    }
}

fn write(head: &str, argument: &str, memory: &mut dyn Memory) -> Reply {
    match head {
        "+CFUN" => set_cfun(argument, memory),
        "+EGMR" => egmr(argument, memory),
        "+QNVFR" => match quoted(argument).and_then(|(path, _)| memory.item(path)) {
            Some(content) => Reply::line(format!("+QNVFR: {}", hex(&content))),
            None => Reply::cme(CME_NOT_FOUND),
        },
        "+QNVFW" => {
            let written = quoted(argument)
                .and_then(|(path, rest)| Some((path, unhex(rest.strip_prefix(',')?.trim_matches('"'))?)))
                .is_some_and(|(path, content)| memory.set_item(path, &content));
            if written { Reply::ok(vec![]) } else { Reply::error() }
        }
        "+QNWPREFCFG" if memory.model().bands == BandDialect::Qnwprefcfg => preferences(argument, memory),
        "+QCFG" => configuration(argument, memory),
        "+QPRTPARA" if argument == "3" => {
            if memory.restore_golden() {
                Reply::ok(vec![])
            } else {
                Reply::error()
            }
        }
        "+QPRTPARA" if argument == "4" => {
            Reply::line(format!("+QPRTPARA: 1,0,3,0,0,0,0,0,0,0,0,0,0,{}", memory.bad_blocks()))
        }
        _ => Reply::error(),
    }
}

fn set_cfun(argument: &str, memory: &mut dyn Memory) -> Reply {
    let Ok(level @ (0 | 1 | 4)) = argument.parse::<u8>() else { return Reply::error() };
    if memory.is_lost() {
        return Reply::cme(memory.model().lost_efs_cme);
    }
    if memory.set_cfun(level) { Reply::ok(vec![]) } else { Reply::error() }
}

fn egmr(argument: &str, memory: &mut dyn Memory) -> Reply {
    match argument {
        "0,7" => Reply::line(format!("+EGMR: \"{}\"", memory.imei().unwrap_or_default())),
        "0,5" => Reply::line(format!("+EGMR: \"{}\"", memory.serial_number().unwrap_or_default())),
        _ => match argument.strip_prefix("1,7,").and_then(quoted) {
            Some((imei, "")) if imei.len() == 15 && imei.bytes().all(|b| b.is_ascii_digit()) => {
                if memory.set_imei(imei) { Reply::ok(vec![]) } else { Reply::error() }
            }
            _ => Reply::error(),
        },
    }
}

fn preferences(argument: &str, memory: &mut dyn Memory) -> Reply {
    let Some((key, rest)) = quoted(argument) else { return Reply::error() };
    let line = |key: &str, bands: &[u16]| format!("+QNWPREFCFG: \"{key}\",{}", list(bands));
    match (key, rest) {
        ("policy_band" | "ue_capability_band", "") => {
            let mut lines = vec![format!("+QNWPREFCFG: \"gw_band\",{GW_BANDS}")];
            for (name, config, policy) in BAND_KEYS {
                let permitted = memory.bands(*policy);
                let configured = memory.bands(*config);
                let bands: Vec<u16> = if key == "policy_band" {
                    permitted
                } else {
                    configured.into_iter().filter(|band| permitted.contains(band)).collect()
                };
                lines.push(line(name, &bands));
            }
            Reply::ok(lines)
        }
        ("gw_band", "") => Reply::line(format!("+QNWPREFCFG: \"gw_band\",{GW_BANDS}")),
        (key, rest) => {
            let Some((name, config, _)) = BAND_KEYS.iter().find(|(name, ..)| *name == key) else {
                return Reply::error();
            };
            let Some(bands) = rest.strip_prefix(',') else { return Reply::line(line(name, &memory.bands(*config))) };
            let bands: Option<Vec<u16>> = bands.split(':').map(|band| band.parse().ok()).collect();
            match bands {
                Some(bands) if memory.set_bands(*config, &bands) => Reply::ok(vec![]),
                _ => Reply::error(),
            }
        }
    }
}

fn configuration(argument: &str, memory: &mut dyn Memory) -> Reply {
    let model = memory.model();
    match quoted(argument) {
        Some(("band", "")) if model.bands == BandDialect::Qcfg => {
            let mask = memory
                .bands(BandSet::LteConfig)
                .iter()
                .filter(|band| (1..=128).contains(*band))
                .fold(0_u128, |mask, band| mask | 1 << (band - 1));
            // With the EFS the GSM and WCDMA sets are gone too.
            let gw = if memory.is_lost() { 0 } else { model.gw_mask };
            Reply::line(format!("+QCFG: \"band\",0x{gw:x},0x{mask:x},0x0"))
        }
        Some(("secbootstat", "")) => Reply::line("+QCFG: \"secbootstat\",1".to_owned()),
        Some(("usbnet", "")) => Reply::line("+QCFG: \"usbnet\",0".to_owned()),
        Some(("usbcfg", "")) => {
            let (vendor, product) = (model.normal.vendor_id, model.normal.product_id);
            Reply::line(format!("+QCFG: \"usbcfg\",0x{vendor:04X},0x{product:04X},1,1,1,1,1,0,0"))
        }
        _ => Reply::error(),
    }
}

fn temperatures(model: &Model) -> Reply {
    if model.bands == BandDialect::Qcfg {
        return Reply::line("+QTEMP: 31,31,30".to_owned());
    }
    let sensors = [("modem-lte-sub6-pa1", 38), ("modem-cpu", 41), ("tsens-pa", 39), ("modem-mmw0", -273)];
    Reply::ok(sensors.iter().map(|(name, degrees)| format!("+QTEMP: \"{name}\",\"{degrees}\"")).collect())
}

/// A quoted word at the beginning, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('"')?.split_once('"')
}

fn list(bands: &[u16]) -> String {
    if bands.is_empty() {
        return "0".to_owned();
    }
    bands.iter().map(u16::to_string).collect::<Vec<_>>().join(":")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests;
