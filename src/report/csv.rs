//! One finished run as one row: which columns there are, and what stands in them.
//!
//! `reports/README.md` describes each column; a test holds the two together. The order is fixed: a change of columns
//! is a new [`SCHEMA`].

use crate::domain::{Identity, Measurement, Phase, RunRecord, Sha256Digest, Verdict};

use super::ReportError;
use super::field::{safe, seconds, timestamp};

/// What the first column says: the version of the columns.
pub const SCHEMA: &str = "run/2";

/// The columns in their order.
pub const COLUMNS: &[&str] = &[
    "schema",
    "run",
    "batch",
    "station",
    "slot",
    "port_normal",
    "port_edl",
    "profile",
    "profile_sha256",
    "package_sha256",
    "hw_id",
    "chip_serial",
    "key_hash",
    "model",
    "imei_before",
    "imei_after",
    "revision_before",
    "revision_after",
    "cfun_before",
    "cfun_after",
    "bands_before",
    "bands_after",
    "calibration_before",
    "calibration_after",
    "calibration_unchanged",
    "outcome",
    "code",
    "phase",
    "detail",
    "repaired",
    "resumed",
    "quarantined",
    "simulated",
    "flags",
    "attempt",
    "boots_verified",
    "boots_required",
    "identify_s",
    "admit_s",
    "permit_s",
    "enter_edl_s",
    "probe_s",
    "load_s",
    "backup_s",
    "flash_s",
    "reset_s",
    "verify_s",
    "record_s",
    "total_s",
    "bytes_written",
    "bytes_per_second",
    "bad_blocks",
    "backup_sha256",
    "guard",
    "time_scale",
    "started",
    "ended",
    "ledger_seq",
    "ledger_sha256",
    "measurements",
];

/// The header row.
#[must_use]
pub fn header() -> Vec<String> {
    COLUMNS.iter().map(|name| (*name).to_owned()).collect()
}

/// The row of a finished run. `entry_seq` and `hash` are those of the ledger's entry that holds `record`.
#[must_use]
pub fn row(entry_seq: u64, hash: &Sha256Digest, record: &RunRecord) -> Vec<String> {
    let mut row = Vec::with_capacity(COLUMNS.len());
    row.push(SCHEMA.to_owned());
    push_place(&mut row, record);
    push_unit(&mut row, record);
    push_result(&mut row, record);
    push_times(&mut row, record);
    row.push(entry_seq.to_string());
    row.push(hash.to_string());
    row.push(safe(&measurements(&record.measurements)));
    row
}

/// A row as the bytes of its line: RFC 4180, ended by CR LF.
///
/// # Errors
/// Never for the rows of this module; the encoder's signature has one.
pub fn line(fields: &[String]) -> Result<Vec<u8>, ReportError> {
    let mut writer = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(fields).map_err(|error| ReportError::Encode(error.into()))?;
    writer.into_inner().map_err(|error| ReportError::Encode(error.into_error()))
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn push_place(row: &mut Vec<String>, record: &RunRecord) {
    row.extend([
        record.run.to_string(),
        record.batch.to_string(),
        record.station.to_string(),
        record.slot.to_string(),
        text(record.chain_normal.as_ref()),
        text(record.chain_edl.as_ref()),
        safe(&record.profile),
        text(record.profile_digest.as_ref()),
        text(record.package_digest.as_ref()),
    ]);
}

fn push_unit(row: &mut Vec<String>, record: &RunRecord) {
    let both = [record.before.as_ref(), record.after.as_ref()];
    row.push(record.chip.map(|chip| format!("{:016x}", chip.hw_id)).unwrap_or_default());
    row.push(record.chip.map(|chip| format!("{:08x}", chip.serial)).unwrap_or_default());
    row.push(text(record.key_hash.as_ref()));
    row.push(both.into_iter().flatten().map(|identity| safe(&identity.model)).next().unwrap_or_default());
    let columns: [fn(&Identity) -> String; 5] = [
        imei,
        |identity| safe(&identity.revision),
        |identity| text(identity.cfun.as_ref()),
        |identity| safe(&bands(identity)),
        |identity| text(identity.calibration.as_ref()),
    ];
    for column in columns {
        row.extend(both.map(|identity| identity.map(column).unwrap_or_default()));
    }
    row.push(match both {
        [Some(before), Some(after)] => {
            (before.calibration.is_some() && before.calibration == after.calibration).to_string()
        }
        _ => String::new(),
    });
}

fn push_result(row: &mut Vec<String>, record: &RunRecord) {
    let flags = record.flags;
    row.extend([
        record.outcome.to_string(),
        text(record.code.as_ref()),
        record.phase.to_string(),
        safe(&record.detail),
        flags.repaired.to_string(),
        flags.resumed.to_string(),
        flags.quarantined.to_string(),
        flags.simulated.to_string(),
        flags.to_string(),
        record.attempt.to_string(),
        record.boots_verified.to_string(),
        record.boots_required.to_string(),
    ]);
}

fn push_times(row: &mut Vec<String>, record: &RunRecord) {
    for phase in Phase::ALL {
        let time = record.phases.iter().find(|time| time.phase == phase);
        row.push(time.map(|time| seconds(time.milliseconds)).unwrap_or_default());
    }
    let total = record.phases.iter().fold(0_u64, |sum, time| sum.saturating_add(time.milliseconds));
    row.extend([
        seconds(total),
        record.bytes_written.to_string(),
        record.bytes_per_second.to_string(),
        record.bad_blocks.to_string(),
        text(record.backup.as_ref()),
        text(record.guard.as_ref()),
        record.time_scale.to_string(),
        timestamp(record.started),
        timestamp(record.ended),
    ]);
}

/// The IMEI, or what the module answered instead of one.
fn imei(identity: &Identity) -> String {
    identity.imei.map_or_else(|| safe(&identity.imei_text), |imei| imei.to_string())
}

/// `lte_config 1:3:7; nr_sa_config 77:78`: the way AT lists bands.
fn bands(identity: &Identity) -> String {
    let sets = identity.bands.iter().map(|(name, bands)| {
        let numbers: Vec<String> = bands.iter().map(u16::to_string).collect();
        format!("{name} {}", if numbers.is_empty() { "none".to_owned() } else { numbers.join(":") })
    });
    sets.collect::<Vec<String>>().join("; ")
}

/// `cfun=1 (= 1) pass; temperature=41 °C (-20 .. 85) pass`.
fn measurements(all: &[Measurement]) -> String {
    let each = all.iter().map(|m| {
        let unit = if m.unit.is_empty() { String::new() } else { format!(" {}", m.unit) };
        let verdict = match m.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
        };
        format!("{}={}{unit} ({}) {verdict}", m.name, m.value, m.limits)
    });
    each.collect::<Vec<String>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use std::collections::BTreeMap;

    fn cells(record: &RunRecord) -> BTreeMap<&'static str, String> {
        let row = row(42, &Sha256Digest::of(b"entry"), record);
        assert_eq!(row.len(), COLUMNS.len());
        COLUMNS.iter().copied().zip(row).collect()
    }

    #[test]
    fn a_full_record_fills_its_columns() {
        let cells = cells(&samples::record(1));
        for (column, expected) in [
            ("schema", "run/2"),
            ("batch", "DEMO-1"),
            ("slot", "A1"),
            ("port_edl", "pci-0000:00:14.0/usb2/1.4"),
            ("hw_id", "000f50e100000000"),
            ("chip_serial", "00000001"),
            ("model", "RM520N-GL"),
            ("imei_before", "490154203237518"),
            ("imei_after", "490154203237518"),
            ("cfun_after", "1"),
            ("bands_after", "lte_config none; nr_sa_config 77:78"),
            ("calibration_unchanged", "true"),
            ("outcome", "PASS"),
            ("code", ""),
            ("simulated", "true"),
            ("flags", "resumed simulated"),
            ("identify_s", "1.500"),
            ("permit_s", ""),
            ("flash_s", "61.007"),
            ("total_s", "62.507"),
            ("guard", "raw+xqcn"),
            ("started", "2026-11-23T03:55:12.345Z"),
            ("ledger_seq", "42"),
            ("measurements", "cfun=1 (= 1) pass; temperature=-5 °C (-20 .. 85) pass"),
        ] {
            assert_eq!(cells[column], expected, "{column}");
        }
    }

    #[test]
    fn an_unknown_unit_leaves_its_columns_empty_and_shows_what_it_said() {
        let mut record = samples::record(1);
        let before = record.before.as_mut().expect("the sample has one");
        before.imei = None;
        before.imei_text = "000000000000000".to_owned();
        record.after = None;
        record.chip = None;
        let cells = cells(&record);
        assert_eq!(cells["imei_before"], "000000000000000");
        for column in ["imei_after", "hw_id", "chip_serial", "calibration_unchanged", "cfun_after"] {
            assert_eq!(cells[column], "", "{column}");
        }
    }

    #[test]
    fn lost_calibration_is_never_called_unchanged() {
        let mut record = samples::record(1);
        record.before.as_mut().expect("the sample has one").calibration = None;
        record.after.as_mut().expect("the sample has one").calibration = None;
        assert_eq!(cells(&record)["calibration_unchanged"], "false");
    }

    #[test]
    fn every_column_is_described_in_the_reports_readme() {
        let readme = include_str!("../../reports/README.md");
        let described: Vec<&str> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .flat_map(|line| line.split(" | ").next().unwrap_or_default().split(", "))
            .map(|name| name.trim_matches(|c| c == '`' || c == ' '))
            .collect();
        assert_eq!(described, COLUMNS);
    }
}
