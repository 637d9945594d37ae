//! What a server's processes use: CPU time and memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The CPU time that a process and its children have used.
pub fn processor_time(pid: u32) -> Duration {
    // In clock ticks, which are a hundredth of a second on every Linux.
    let ticks: u64 = family(pid)
        .iter()
        .filter_map(|path| std::fs::read_to_string(path.join("stat")).ok())
        .filter_map(|stat| {
            let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        })
        .sum();
    Duration::from_millis(ticks * 10)
}

/// The proportional share of memory of a process and its children, in bytes: what they share counts once.
pub fn memory(pid: u32) -> u64 {
    let kilobytes: u64 = family(pid)
        .iter()
        .filter_map(|path| std::fs::read_to_string(path.join("smaps_rollup")).ok())
        .filter_map(|rollup| {
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        })
        .sum();
    kilobytes << 10
}

/// A process and its children.
fn family(pid: u32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let is_child = |path: &Path| {
        let status = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        let parent =
            status.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
        parent.is_some_and(|parent| parent == pid.to_string())
    };
    let children = entries.map(|entry| entry.path()).filter(|path| is_child(path));
    std::iter::once(PathBuf::from(format!("/proc/{pid}"))).chain(children).collect()
}
