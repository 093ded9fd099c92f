//! What a process and its children have used, as the kernel counts it.

use std::time::Duration;

/// Ticks a second of the times in `/proc/PID/stat`; the kernel shows them so on every Linux.
const TICKS: u64 = 100;

/// A process and all below it.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        at += 1;
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else { continue };
        for task in tasks.flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// Processor time of a process and its children, those that have ended included.
pub fn cpu(pid: u32) -> Duration {
    let ticks: u64 = family(pid)
        .into_iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok())
        .filter_map(|stat| {
            // The name in brackets may hold anything; after it the state is field 3, utime to cstime fields 14 to 17.
            let (_, rest) = stat.rsplit_once(')')?;
            let times = rest.split_whitespace().skip(11).take(4);
            Some(times.filter_map(|time| time.parse::<u64>().ok()).sum::<u64>())
        })
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// The most memory that a process and its children had resident, in MiB.
pub fn memory(pid: u32) -> f64 {
    let kib: u64 = family(pid)
        .into_iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:").map(str::to_owned))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum();
    kib as f64 / 1024.0
}
