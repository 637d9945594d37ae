//! The cgroup of a pod, and one below it for a process that works for the pod but is not one of its containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::cgroups;

/// A cgroup below a pod's, in each hierarchy that limits memory or processor time. It exists once a process has joined.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PodCgroup {
    folders: Vec<PathBuf>,
}

impl PodCgroup {
    /// A cgroup with this name in the pod of a container; `None` if the pod has no cgroup yet. `root` is the folder of
    /// the node's cgroups.
    #[must_use]
    pub fn of(spec: &Spec, name: &str, root: &Path) -> Option<Self> {
        let pod = cgroups::pod(spec)?;
        let is_version_2 = root.join("cgroup.controllers").exists();
        let hierarchies: &[&str] = if is_version_2 { &[""] } else { &["memory", "cpu"] };
        let folders = hierarchies.iter().map(|hierarchy| root.join(hierarchy).join(&pod));
        let found = folders.filter(|folder| folder.join("cgroup.procs").exists());
        let folders: Vec<PathBuf> = found.map(|folder| folder.join(name)).collect();
        (!folders.is_empty()).then_some(Self { folders })
    }

    /// The smallest memory limit of the pod and the cgroups above it, in bytes; `None` if there is none.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        let limits =
            self.folders.iter().flat_map(|folder| folder.ancestors().skip(1)).flat_map(|above| {
                ["memory.max", "memory.limit_in_bytes"].map(|file| {
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
        for folder in &self.folders {
            let context = || format!("cannot join the cgroup {}", folder.display());
            fs::create_dir_all(folder).with_context(context)?;
            // 0 is the process that writes.
            fs::write(folder.join("cgroup.procs"), "0").with_context(context)?;
        }
        Ok(())
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
        let of = |path: &str| PodCgroup::of(&spec(path), "compile", root.path());
        assert_eq!(of("/kubepods/pod1/c1"), None);
        // Version 1.
        write("memory/kubepods/pod1/cgroup.procs", "");
        write("memory/kubepods/pod1/memory.limit_in_bytes", "4096\n");
        write("memory/kubepods/memory.limit_in_bytes", "8192\n");
        let found = of("/kubepods/pod1/c1").unwrap();
        assert_eq!(found.folders, [root.path().join("memory/kubepods/pod1/compile")]);
        assert_eq!(found.memory(), Some(4096));
        write("cpu/kubepods/pod1/cgroup.procs", "");
        assert_eq!(of("/kubepods/pod1/c1").unwrap().folders.len(), 2);
        // Version 2, by systemd.
        write("cgroup.controllers", "memory");
        let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice";
        write(&format!("{pod}/cgroup.procs"), "");
        write(&format!("{pod}/memory.max"), "max\n");
        let found = of("kubepods-burstable-pod1.slice:cri-containerd:c1").unwrap();
        assert_eq!(found.folders, [root.path().join(pod).join("compile")]);
        assert_eq!(found.memory(), None);
        // A container without a pod.
        assert_eq!(of("/c1"), None);
        found.join().unwrap();
        assert!(root.path().join(pod).join("compile").exists());
        std::fs::remove_file(root.path().join(pod).join("compile/cgroup.procs")).unwrap();
        found.remove();
        assert!(!root.path().join(pod).join("compile").exists());
    }
}
