//! Finds what a containerd leaves behind on a machine if it does not clean up.

use std::path::Path;
use std::process::Command;

/// The containers' cgroups, sockets and namespaces that exist now, whichever process created them.
pub fn shared() -> Vec<String> {
    [cgroups(), sockets(), namespaces()].concat()
}

/// The leftovers of a containerd whose files are in `folder`, without those that existed `before`.
pub fn of(folder: &Path, before: &[String]) -> Vec<String> {
    let folder = folder.display().to_string();
    let processes = processes().into_iter();
    let processes = processes
        .filter(|(_, line)| line.contains("containerd-shim-spotter") && line.contains(&folder))
        .map(|(pid, line)| format!("process {pid}: {line}"));
    let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
    let mounts = mounts
        .lines()
        .filter(|line| line.contains(&folder))
        .map(|line| format!("mount {line}"))
        .collect::<Vec<_>>();
    let states = ["/run/containerd/spotter/default", "/run/containerd/spotter/k8s.io"];
    let states = states
        .iter()
        .filter_map(|path| std::fs::read_dir(path).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let state = std::fs::read_to_string(path.join("state.json"));
            state.is_ok_and(|state| state.contains(&folder))
        })
        .map(|path| format!("state {}", path.display()));
    let others = shared().into_iter();
    let others = others.filter(|other| !before.contains(other));
    processes.chain(mounts).chain(states).chain(others).collect()
}

/// Every process with its command line.
pub fn processes() -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    let of = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    };
    entries.filter_map(of).collect()
}

/// The cgroups of containers, of all controllers.
pub fn cgroups() -> Vec<String> {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-path", "*spotter-test*"])
        .output();
    let found = found.expect("find starts");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    // The parent of the pods' cgroups belongs to the kubelet, and is not a leftover.
    let of_containers = found
        .lines()
        .filter(|line| !line.ends_with("/spotter-test") && !line.ends_with("/spotter-test.slice"));
    of_containers.map(|line| format!("cgroup {line}")).collect()
}

/// The sockets of shims.
pub fn sockets() -> Vec<String> {
    let entries = std::fs::read_dir("/run/containerd/s").into_iter().flatten().flatten();
    entries.map(|entry| format!("socket {}", entry.path().display())).collect()
}

/// The network namespaces that containerd makes for pods.
pub fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/var/run/netns").into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path().display().to_string());
    paths.filter(|path| path.contains("/cni-")).map(|path| format!("namespace {path}")).collect()
}
