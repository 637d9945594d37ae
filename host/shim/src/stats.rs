//! Resource usage of a container, in the format that containerd passes on to the kubelet.

use std::path::Path;

use anyhow::Context;
use containerd_shim::cgroup::{collect_metrics, get_cgroup};
use containerd_shim::protos::cgroups::metrics::{CPUStat, CPUUsage};
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::util::convert_to_any;

/// The CPU time, memory and number of processes of this process's container.
///
/// # Errors
/// If the process has ended.
pub fn collect(pid: u32) -> anyhow::Result<Any> {
    let mut metrics = collect_metrics(&get_cgroup(pid)?)?;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .with_context(|| format!("process {pid} has ended"))?;
    // The collected metrics lack it with version 1, and have it in microseconds with version 2.
    let mut usage = CPUUsage::new();
    usage.set_total(processor_time(Path::new("/sys/fs/cgroup"), &groups)?);
    let mut cpu = metrics.cpu.take().unwrap_or_else(CPUStat::new);
    cpu.set_usage(usage);
    metrics.set_cpu(cpu);
    if let (Some(inactive), Some(memory)) = (inactive_file(&groups), metrics.memory.as_mut()) {
        memory.set_total_inactive_file(inactive);
    }
    Ok(convert_to_any(Box::new(metrics))?)
}

/// The CPU time of a process with these cgroups, in nanoseconds: from version 1 if it has `cpuacct`
/// (<https://docs.kernel.org/admin-guide/cgroup-v1/cpuacct.html>), otherwise from version 2
/// (<https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>).
fn processor_time(root: &Path, groups: &str) -> anyhow::Result<u64> {
    let read = |file: &Path| {
        let text = std::fs::read_to_string(file);
        text.with_context(|| format!("cannot read {}", file.display()))
    };
    let number = |text: &str| {
        text.trim().parse::<u64>().with_context(|| format!("{text:?} is not a CPU time"))
    };
    if let Some((controllers, path)) = accounting(groups) {
        return number(&read(&root.join(controllers).join(path).join("cpuacct.usage"))?);
    }
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.context("no cgroup accounts for CPU time")?;
    let text = read(&root.join(path).join("cpu.stat"))?;
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Ok(number(usage.context("cpu.stat has no usage_usec")?)? * 1000)
}

/// Version 2's inactive page cache, which does not belong to the working set.
fn inactive_file(groups: &str) -> Option<u64> {
    if accounting(groups).is_some() {
        return None;
    }
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let file = Path::new("/sys/fs/cgroup").join(path).join("memory.stat");
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("inactive_file "))?.parse().ok()
}

/// The controllers that `cpuacct` is mounted with, and the group's path below them.
fn accounting(groups: &str) -> Option<(&str, &str)> {
    version_1(groups, "cpuacct")
}

/// The controllers that a version 1 controller is mounted with, and the group's path below them.
pub(super) fn version_1<'a>(groups: &'a str, wanted: &str) -> Option<(&'a str, &'a str)> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_wanted = controllers.split(',').any(|controller| controller == wanted);
        is_wanted.then_some((controllers, path.trim_start_matches('/')))
    })
}

#[cfg(test)]
mod tests {
    use super::processor_time;

    #[test]
    fn processor_time_is_found_in_both_versions_of_cgroups() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("cpu,cpuacct/kubepods/a/cpuacct.usage", "123456789\n");
        write("kubepods.slice/b/cpu.stat", "usage_usec 5000\nuser_usec 4000\n");
        let time = |groups: &str| processor_time(root.path(), groups);
        let version_1 = "9:name=systemd:/x\n2:cpu,cpuacct:/kubepods/a\n0::/\n";
        assert_eq!(time(version_1).unwrap(), 123_456_789);
        assert_eq!(time("0::/kubepods.slice/b\n").unwrap(), 5_000_000);
        assert!(time("0::/gone\n").is_err());
        assert!(time("9:name=systemd:/x\n").is_err());
    }
}
