//! Sixty-four slots in one process, with the modules' flash in files: how much memory that takes.
//!
//! The real binary runs a station of 64 slots on 8 hubs until 64 units are finished; the kernel's high-water mark of
//! its resident memory is read while it runs. Everything is in that process: controller, simulator, display, ledger.
//!
//! `cargo bench --bench slots`; its first argument, if it has one, is the time scale (20).

#![expect(clippy::disallowed_methods, reason = "a bench measures the host itself, with its own clock")]
#![expect(clippy::print_stdout, reason = "its result is what it prints")]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, directory, field, print_machine, write_station};

const UNITS: usize = 64;
const MODELS: &[(&str, &str)] = &[
    ("EG25-G", "EG25GGBR07A07M2G_01.001.01.001"),
    ("RM500Q-GL", "RM500QGLABR11A06M4G_01.201.01.201"),
    ("RM520N-GL", "RM520NGLAAR03A02M4G_01.200.01.200"),
    ("EC25", "EC25EFAR06A06M4G_01.001.01.001"),
];

fn main() {
    let time_scale = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(20);
    print_machine();
    let root = directory("slots");
    let station =
        write_station(&root, &Bench { slots: UNITS, models: MODELS, megabytes: 24, time_scale, flash: "files" });
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_stationmaster"))
        .arg("run")
        .arg(&station)
        .args(["--batch", "BENCH", "--units", &UNITS.to_string(), "--listen", "off", "--json"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary was built with the bench");
    let file = format!("/proc/{}/status", child.id());
    let mut most = (0, 0, 0, 0);
    let status = loop {
        // The mark never falls, so the last look is the one that counts.
        if let Some(peak) = field(&file, "VmHWM:") {
            let anonymous = field(&file, "RssAnon:").unwrap_or_default();
            let mapped = field(&file, "RssFile:").unwrap_or_default();
            let threads = field(&file, "Threads:").unwrap_or_default();
            most = (peak.max(most.0), anonymous.max(most.1), mapped.max(most.2), threads.max(most.3));
        }
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let seconds = started.elapsed().as_secs_f64();
    let report = std::fs::read_to_string(root.join("reports").join("BENCH.csv")).expect("the run's report");
    let passed = report.lines().filter(|line| line.contains(",PASS,")).count();
    assert!(status.success() && passed == UNITS, "{status}, {passed} units passed");
    let mebibytes = |kibibytes: u64| kibibytes.div_ceil(1024);
    println!(
        "{UNITS} slots, {UNITS} units passed in {seconds:.0} s at time scale {time_scale}: peak RSS {} MiB (own memory \
         at most {} MiB, mapped files at most {} MiB), {} threads",
        mebibytes(most.0),
        mebibytes(most.1),
        mebibytes(most.2),
        most.3
    );
}
