//! The kernel and the other programs of a host.

use super::super::budget::SHARE_BYTES;
use super::{Check, Host};

/// The first kernel that can switch a hub's port through sysfs (`Documentation/ABI/testing/sysfs-bus-usb`).
const KERNEL_MIN: (u32, u32) = (6, 0);
/// The name of the project's rules.
const RULES: &str = "70-stationmaster.rules";
/// The name of those that take back what the rules of brltty asked for.
const BRLTTY_RULES: &str = "99-stationmaster-brltty.rules";
/// Longest file of rules that is read, in bytes.
const RULES_BYTES_MAX: u64 = 256 * 1024;
/// Longest list of kernel modules that is read, in bytes.
const MODULES_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The drivers that make serial ports of modules.
const DRIVERS: [&str; 2] = ["option", "qcserial"];

fn release(host: &Host) -> Option<String> {
    host.sysfs.text(&host.proc.join("sys/kernel/osrelease")).filter(|text| !text.is_empty() && !text.contains('/'))
}

pub(super) fn kernel(host: &Host) -> Check {
    let name = "kernel";
    let Some(release) = release(host) else { return Check::unknown(name, "the kernel does not tell its version") };
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= KERNEL_MIN => Check::good(name, release),
        (Some(Ok(_)), Some(Ok(_))) => {
            Check::good(name, format!("{release}, which cannot switch the ports of hubs; hubs are asked directly"))
        }
        _ => Check::unknown(name, format!("{release} is no version that is understood")),
    }
}

pub(super) fn drivers(host: &Host) -> Check {
    let name = "drivers";
    let loaded = |driver: &str| {
        host.sysfs.is_there(&format!("module/{driver}"))
            || host.sysfs.is_there(&format!("bus/usb-serial/drivers/{driver}"))
    };
    let lists: Vec<String> = release(host)
        .map(|release| {
            let read = |file: &&str| host.sysfs.bytes(&host.modules.join(&release).join(file), MODULES_BYTES_MAX);
            let lists = ["modules.dep", "modules.builtin"];
            lists.iter().filter_map(read).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
        })
        .unwrap_or_default();
    let installed = |driver: &str| lists.iter().any(|list| list.contains(&format!("/{driver}.ko")));
    let missing: Vec<&str> = DRIVERS.into_iter().filter(|driver| !loaded(driver) && !installed(driver)).collect();
    if missing.is_empty() {
        return Check::good(name, "option and qcserial are there");
    }
    Check::finding(
        name,
        format!("the kernel has no driver {}", missing.join(", ")),
        "install the distribution's complete set of kernel modules (usb-serial drivers)",
    )
}

pub(super) fn udev_rules(host: &Host) -> Check {
    let name = "udev-rules";
    match host.rules.iter().map(|directory| directory.join(RULES)).find(|path| host.sysfs.exists(path)) {
        Some(path) => Check::good(name, path.display().to_string()),
        None => Check::finding(
            name,
            format!("{RULES} is not installed"),
            format!("install {RULES} in /etc/udev/rules.d, then run `udevadm control --reload` and `udevadm trigger`"),
        ),
    }
}

/// Whether a program runs, by the name that the kernel has of it (15 bytes at most).
fn runs(host: &Host, program: &str) -> bool {
    let processes = host.sysfs.names(&host.proc).unwrap_or_default();
    let is_it = |process: &String| {
        process.bytes().all(|byte| byte.is_ascii_digit())
            && host.sysfs.text(&host.proc.join(process).join("comm")).is_some_and(|name| name == program)
    };
    processes.iter().any(is_it)
}

/// Whether a file of rules is installed that says something about a key, other than in a comment.
fn has_rule(host: &Host, file: &str, key: &str) -> bool {
    host.rules.iter().any(|directory| {
        let bytes = host.sysfs.bytes(&directory.join(file), RULES_BYTES_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(key))
    })
}

pub(super) fn modem_manager(host: &Host) -> Check {
    let name = "modem-manager";
    if !runs(host, "ModemManager") {
        return Check::good(name, "ModemManager does not run");
    }
    if has_rule(host, RULES, "ID_MM_DEVICE_IGNORE") {
        return Check::good(name, "ModemManager runs, and is told to leave modules alone");
    }
    Check::finding(
        name,
        "ModemManager runs, and no rule of this station keeps it from probing the modules' AT ports",
        format!("install {RULES} with ENV{{ID_MM_DEVICE_IGNORE}}=\"1\", or remove ModemManager"),
    )
}

pub(super) fn brltty(host: &Host) -> Check {
    let name = "brltty";
    if !runs(host, "brltty") {
        return Check::good(name, "brltty does not run");
    }
    if has_rule(host, BRLTTY_RULES, "SYSTEMD_WANTS") {
        return Check::good(name, "brltty runs, and its claim on modules is taken back");
    }
    Check::finding(
        name,
        "brltty runs, and no rule of this station keeps it from taking modules' ports for Braille displays",
        format!("install {BRLTTY_RULES}, or remove brltty"),
    )
}

pub(super) fn usbfs_memory(host: &Host, slots: usize) -> Check {
    let name = "usbfs-memory";
    let Some(megabytes) = host.sysfs.module_parameter("usbcore", "usbfs_memory_mb") else {
        return Check::unknown(name, "the kernel does not tell usbfs_memory_mb");
    };
    let Ok(megabytes) = megabytes.parse::<u64>() else {
        return Check::unknown(name, "usbfs_memory_mb is no number");
    };
    // The same arithmetic as when a pipe is opened: a quarter is left to other programs.
    let wanted = SHARE_BYTES.saturating_mul(slots as u64);
    let wanted_mb = wanted.div_ceil(3).saturating_mul(4).div_ceil(1024 * 1024);
    if megabytes == 0 || megabytes >= wanted_mb {
        return Check::good(name, format!("{megabytes} MiB{}", if megabytes == 0 { ", no limit" } else { "" }));
    }
    Check::finding(
        name,
        format!("usbfs_memory_mb is {megabytes}, {slots} slots need {wanted_mb}"),
        "set usbcore.usbfs_memory_mb=256 on the kernel's command line, and write 256 to \
         /sys/module/usbcore/parameters/usbfs_memory_mb until the next start",
    )
}
