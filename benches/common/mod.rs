//! What the benches share: stations made for measuring, and what the kernel says about a process.

#![expect(clippy::disallowed_methods, reason = "a bench measures the host itself, with its own clock")]
#![allow(dead_code, reason = "each bench uses what it needs")]

mod figures;

use std::fmt::Write;
use std::path::{Path, PathBuf};

#[allow(unused_imports, reason = "each bench uses what it needs")]
pub(crate) use figures::{field, median, print_machine};

/// USER_HZ, in which the kernel counts CPU time for programs; 100 on every Linux that this product runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// An empty directory for one bench, below the build's own.
pub(crate) fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench").join(name);
    if directory.exists() {
        std::fs::remove_dir_all(&directory).expect("the bench's own directory can be emptied");
    }
    std::fs::create_dir_all(&directory).expect("the build directory is writable");
    directory
}

/// CPU seconds, in user and kernel mode, of this process: all of it, and of the threads with a name.
pub(crate) fn cpu_seconds(thread: &str) -> (f64, f64) {
    let ticks = |file: &Path| -> Option<f64> {
        let stat = std::fs::read_to_string(file).ok()?;
        // Fields 14 and 15; the name, field 2, may hold blanks and ends with the last parenthesis.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
    };
    let mut named = 0.0;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.trim() == thread {
            named += ticks(&task.path().join("stat")).unwrap_or_default();
        }
    }
    let all = ticks(Path::new("/proc/self/stat")).unwrap_or_default();
    (all / TICKS_PER_SECOND, named / TICKS_PER_SECOND)
}

/// What a station for measuring is.
pub(crate) struct Bench<'a> {
    pub(crate) slots: usize,
    pub(crate) models: &'a [(&'a str, &'a str)],
    pub(crate) megabytes: u32,
    pub(crate) time_scale: u32,
    pub(crate) flash: &'a str,
}

/// Writes a station file, eight slots to a hub and a root port, and the profiles that it needs: those of the tree
/// with packages of another size.
pub(crate) fn write_station(directory: &Path, bench: &Bench<'_>) -> PathBuf {
    let mut profiles = String::new();
    let mut units = String::new();
    for (model, revision) in bench.models {
        let name = format!("{}.yaml", model.to_ascii_lowercase());
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles").join(&name);
        let text = std::fs::read_to_string(tree).expect("a profile of the tree");
        let text = text.replace("megabytes: 24", &format!("megabytes: {}", bench.megabytes));
        std::fs::write(directory.join(&name), text).expect("the bench's directory is writable");
        let _infallible = writeln!(profiles, "  - {name}");
        let _infallible = writeln!(units, "    - {{ model: {model}, revision: {revision} }}");
    }
    let mut slots = String::new();
    for number in 0..bench.slots {
        let (hub, port) = (number / 8 + 1, number % 8 + 1);
        let _infallible = writeln!(
            slots,
            "  - {{ name: S{hub}-{port}, usb2: sim-0/usb2/{hub}.{port}, usb3: sim-0/usb3/{hub}.{port} }}"
        );
    }
    let text = format!(
        "name: bench\nhardware: simulated\nprofiles:\n{profiles}state: state\nreports: reports\n\
         permits_per_root_port: 8\nslots:\n{slots}simulation:\n  time_scale: {}\n  flash: {}\n  units:\n{units}  \
         operator: {{ insert_after_s: 4, remove_after_s: 0 }}\n",
        bench.time_scale, bench.flash
    );
    let path = directory.join("station.yaml");
    std::fs::write(&path, text).expect("the bench's directory is writable");
    path
}
