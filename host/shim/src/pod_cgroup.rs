//! The cgroup of a pod, and one below it for a process that works for the pod but is not one of its containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use oci_spec::runtime::Spec;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::cgroups;

/// A cgroup below a pod's, or beside it, in each hierarchy that limits memory or CPU time. It exists once a
/// process has joined.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PodCgroup {
    folders: Vec<PathBuf>,
    /// The pod's folder for each of these, and a limit on memory in bytes, if the cgroup is beside the pod's.
    beside: Option<(Vec<PathBuf>, u64)>,
}

/// The files with a limit on memory, of version 1 and 2.
const MEMORY_LIMIT_FILES: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];
/// The files with limits on CPU time, in the order in which they can be written.
const CPU_LIMIT_FILES: [&str; 5] =
    ["cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares", "cpu.max", "cpu.weight"];

impl PodCgroup {
    /// The cgroup in which the shim compiles for a container with this id, in its pod; `None` if the pod has none yet.
    /// `root` is the folder of the node's cgroups.
    #[must_use]
    pub fn for_compiler(spec: &Spec, id: &str, root: &Path) -> Option<Self> {
        Self::for_container(spec, &format!("compile-{id}"), root)
    }

    /// A cgroup with this name in the pod of a container; `None` if the pod has no cgroup yet. `root` is the folder of
    /// the node's cgroups.
    #[must_use]
    pub fn for_container(spec: &Spec, name: &str, root: &Path) -> Option<Self> {
        let pod = cgroups::pod(spec)?;
        let is_version_2 = root.join("cgroup.controllers").exists();
        let hierarchies: &[&str] = if is_version_2 { &[""] } else { &["memory", "cpu"] };
        let folders = hierarchies.iter().map(|hierarchy| root.join(hierarchy).join(&pod));
        let found = folders.filter(|folder| folder.join("cgroup.procs").exists());
        let folders: Vec<PathBuf> = found.map(|folder| folder.join(name)).collect();
        (!folders.is_empty()).then_some(Self { folders, beside: None })
    }

    /// The same cgroup beside the pod's instead of in it, with the pod's limits on CPU time, and a limit on
    /// memory of its own.
    #[must_use]
    pub fn beside(self, max_bytes: u64) -> Self {
        let pods: Vec<PathBuf> =
            self.folders.iter().filter_map(|folder| Some(folder.parent()?.to_owned())).collect();
        let beside =
            |(folder, pod): (&PathBuf, &PathBuf)| Some(pod.parent()?.join(folder.file_name()?));
        let folders = self.folders.iter().zip(&pods).filter_map(beside).collect();
        Self { folders, beside: Some((pods, max_bytes)) }
    }

    /// The smallest memory limit of the pod and the cgroups above it, in bytes; `None` if there is none.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        let limits =
            self.folders.iter().flat_map(|folder| folder.ancestors().skip(1)).flat_map(|above| {
                MEMORY_LIMIT_FILES.map(|file| {
                    // Version 2 writes "max" for none, which is not a number.
                    fs::read_to_string(above.join(file)).ok()?.trim().parse().ok()
                })
            });
        limits.flatten().min()
    }

    /// Moves this process into the cgroup.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn join(&self) -> anyhow::Result<()> {
        for (number, folder) in self.folders.iter().enumerate() {
            let context = || format!("cannot join the cgroup {}", folder.display());
            fs::create_dir_all(folder).with_context(context)?;
            self.limit(number, folder).with_context(context)?;
            // 0 is the process that writes.
            fs::write(folder.join("cgroup.procs"), "0").with_context(context)?;
        }
        Ok(())
    }

    /// Sets the limits of a cgroup that does not have the pod's, because it is beside it.
    fn limit(&self, number: usize, folder: &Path) -> std::io::Result<()> {
        let Some((pods, max_bytes)) = &self.beside else { return Ok(()) };
        let pod = &pods[number];
        for file in MEMORY_LIMIT_FILES.iter().filter(|file| pod.join(file).exists()) {
            fs::write(folder.join(file), max_bytes.to_string())?;
        }
        for file in CPU_LIMIT_FILES {
            if let Ok(limit) = fs::read(pod.join(file)) {
                fs::write(folder.join(file), limit)?;
            }
        }
        Ok(())
    }

    /// Kills the processes in the cgroup.
    pub fn kill(&self) {
        let processes = self.folders.iter().map(|folder| folder.join("cgroup.procs"));
        let listed: Vec<String> =
            processes.filter_map(|file| fs::read_to_string(file).ok()).collect();
        let ids = listed.iter().flat_map(|text| text.lines()).filter_map(|id| id.parse().ok());
        for process in ids.filter_map(Pid::from_raw) {
            // Fails if it has already ended.
            let _ = kill_process(process, Signal::KILL);
        }
    }

    /// Removes the cgroup, whose processes have ended.
    pub fn remove(&self) {
        const MAX_REMOVE_ATTEMPTS: u32 = 100;
        for folder in self.folders.iter().filter(|folder| folder.exists()) {
            // A process that was killed stays for a moment.
            let is_gone = |_| {
                let removed = fs::remove_dir(folder);
                if removed.is_err() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                removed.is_ok()
            };
            if !(0..MAX_REMOVE_ATTEMPTS).any(is_gone) {
                log::warn!("cannot remove the cgroup {}", folder.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PodCgroup;
    use oci_spec::runtime::{LinuxBuilder, Spec};

    fn spec(path: &str) -> Spec {
        let mut spec = Spec::default();
        spec.set_linux(Some(LinuxBuilder::default().cgroups_path(path).build().unwrap()));
        spec
    }

    #[test]
    fn a_pods_cgroup_is_found_with_either_driver_and_its_memory_is_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found_for = |path: &str| PodCgroup::for_container(&spec(path), "compile", root.path());
        assert_eq!(found_for("/kubepods/pod1/c1"), None);
        // Version 1.
        write("memory/kubepods/pod1/cgroup.procs", "");
        write("memory/kubepods/pod1/memory.limit_in_bytes", "4096\n");
        write("memory/kubepods/memory.limit_in_bytes", "8192\n");
        let found = found_for("/kubepods/pod1/c1").unwrap();
        assert_eq!(found.folders, [root.path().join("memory/kubepods/pod1/compile")]);
        assert_eq!(found.memory(), Some(4096));
        write("cpu/kubepods/pod1/cgroup.procs", "");
        assert_eq!(found_for("/kubepods/pod1/c1").unwrap().folders.len(), 2);
        // Version 2, by systemd.
        write("cgroup.controllers", "memory");
        let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice";
        write(&format!("{pod}/cgroup.procs"), "");
        write(&format!("{pod}/memory.max"), "max\n");
        let found = found_for("kubepods-burstable-pod1.slice:cri-containerd:c1").unwrap();
        assert_eq!(found.folders, [root.path().join(pod).join("compile")]);
        assert_eq!(found.memory(), None);
        // Beside the pod, with its limit on CPU time.
        write(&format!("{pod}/cpu.max"), "50000 100000\n");
        let beside = found.clone().beside(1 << 20);
        beside.join().unwrap();
        let folder = root.path().join("kubepods.slice/kubepods-burstable.slice/compile");
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(read("cpu.max"), "50000 100000\n");
        assert_eq!((read("memory.max"), read("cgroup.procs")), ("1048576".into(), "0".into()));
        // A container without a pod.
        assert_eq!(found_for("/c1"), None);
        found.join().unwrap();
        assert!(root.path().join(pod).join("compile").exists());
        std::fs::remove_file(root.path().join(pod).join("compile/cgroup.procs")).unwrap();
        found.remove();
        assert!(!root.path().join(pod).join("compile").exists());
    }
}
