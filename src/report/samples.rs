//! Records that the tests of this module and its neighbours share.

use std::collections::BTreeMap;

use crate::domain::{
    ChipId, Fact, Flags, Guard, Identity, KeyHash, Measurement, Outcome, Phase, PhaseTime, RunId, RunRecord,
    Sha256Digest, Verdict,
};

use super::Recorded;

pub(crate) fn run_id(number: u8) -> RunId {
    RunId::new(1_700_000_000_000 + u64::from(number), &[number; 10])
}

pub(crate) fn identity() -> Identity {
    Identity {
        model: "RM520N-GL".to_owned(),
        revision: "RM520NGLAAR03A03M4G".to_owned(),
        imei: "490154203237518".parse().ok(),
        imei_text: "490154203237518".to_owned(),
        cfun: Some(1),
        bands: BTreeMap::from([("lte_config".to_owned(), vec![]), ("nr_sa_config".to_owned(), vec![77, 78])]),
        calibration: Some(Sha256Digest::of(b"calibration")),
    }
}

/// A unit that passed.
pub(crate) fn record(number: u8) -> RunRecord {
    let measurement = |name: &str, value: &str, unit: &str, limits: &str| Measurement {
        name: name.to_owned(),
        value: value.to_owned(),
        unit: unit.to_owned(),
        limits: limits.to_owned(),
        verdict: Verdict::Pass,
    };
    RunRecord {
        run: run_id(number),
        batch: "DEMO-1".parse().expect("valid"),
        station: "demo".parse().expect("valid"),
        slot: "A1".parse().expect("valid"),
        chain_normal: "pci-0000:00:14.0/usb3/1.4".parse().ok(),
        chain_edl: "pci-0000:00:14.0/usb2/1.4".parse().ok(),
        profile: "rm520n".to_owned(),
        profile_digest: Some(Sha256Digest::of(b"profile")),
        package_digest: Some(Sha256Digest::of(b"package")),
        chip: Some(ChipId { hw_id: 0x000f_50e1_0000_0000, serial: u32::from(number) }),
        key_hash: KeyHash::new(&[0; 32]).ok(),
        before: Some(identity()),
        after: Some(identity()),
        measurements: vec![measurement("cfun", "1", "", "= 1"), measurement("temperature", "-5", "°C", "-20 .. 85")],
        outcome: Outcome::Pass,
        code: None,
        detail: String::new(),
        phase: Phase::Record,
        flags: Flags { resumed: true, simulated: true, ..Flags::default() },
        attempt: 1,
        boots_verified: 2,
        boots_required: 2,
        phases: vec![
            PhaseTime { phase: Phase::Identify, milliseconds: 1500 },
            PhaseTime { phase: Phase::Flash, milliseconds: 61_007 },
        ],
        waits: Vec::new(),
        bytes_written: 95_000_000,
        bytes_per_second: 3_800_000,
        bad_blocks: 2,
        diagnosis: None,
        backup: Some(Sha256Digest::of(b"backup")),
        guard: Some(Guard::RawXqcn),
        time_scale: 20,
        started: "2026-11-23T03:55:12.345Z".parse().expect("valid"),
        ended: "2026-11-23T03:56:00.001Z".parse().expect("valid"),
    }
}

/// `records` as the ledger would hold them, from entry 1 on.
pub(crate) fn recorded(facts: &[Fact]) -> Vec<Recorded<'_>> {
    facts
        .iter()
        .zip(1_u64..)
        .map(|(fact, seq)| Recorded { seq, hash: Sha256Digest::of(&seq.to_le_bytes()), fact })
        .collect()
}
