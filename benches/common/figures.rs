//! What every bench prints: where it was measured, and the middle of its values.

#![expect(clippy::disallowed_methods, reason = "a bench measures the host itself, with its own clock")]
#![allow(dead_code, reason = "each bench uses what it needs")]

/// Says where and when this was measured.
pub(crate) fn print_machine() {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("CPU");
    let threads = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = field("/proc/meminfo", "MemTotal:").unwrap_or_default() / 1024;
    let date = jiff::Timestamp::now().to_string();
    println!("{}: {threads} threads of {model}, {memory} MiB, Linux {}", &date[..10], kernel.trim());
}

/// A number of a file of lines `name number unit`, such as /proc/self/status.
pub(crate) fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
