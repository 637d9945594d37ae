//! Out-of-memory kills of a container, as the kernel counts them.

use std::path::{Path, PathBuf};

use super::stats::version_1;

/// Where the kernel counts a container's OOM kills
/// (<https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>, `memory.oom_control`, and
/// <https://docs.kernel.org/admin-guide/cgroup-v2.html>, `memory.events`).
pub struct OomKills {
    file: PathBuf,
    /// With cgroup v2: the pod's `memory.events`, and its count when this container was created. systemd removes a
    /// container's cgroup as soon as its last process has ended, but the pod's count still includes the kills in it.
    pod: Option<(PathBuf, u64)>,
}

impl OomKills {
    /// The kills of the container in which the process `pid` runs; `None` if no cgroup accounts for memory.
    #[must_use]
    pub fn for_pid(pid: u32) -> Option<Self> {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Self::in_cgroups(Path::new("/sys/fs/cgroup"), &groups)
    }

    fn in_cgroups(root: &Path, groups: &str) -> Option<Self> {
        if let Some((controllers, path)) = version_1(groups, "memory") {
            let file = root.join(controllers).join(path).join("memory.oom_control");
            return Some(Self { file, pod: None });
        }
        let own = root.join(groups.lines().find_map(|line| line.strip_prefix("0::/"))?);
        let pod = own.parent().map(|pod| pod.join("memory.events"));
        let pod = pod.and_then(|file| Some((file.clone(), count(&file)?)));
        Some(Self { file: own.join("memory.events"), pod })
    }

    /// Whether the kernel has killed a process of the container. If the container's cgroup is gone, a kill in another
    /// container of its pod since this one was created counts too.
    #[must_use]
    pub fn occurred(&self) -> bool {
        if let Some(kills) = count(&self.file) {
            return kills > 0;
        }
        let is_gone = self.file.parent().is_some_and(|folder| !folder.exists());
        let Some((file, before)) = self.pod.as_ref().filter(|_| is_gone) else { return false };
        count(file).is_some_and(|now| now > *before)
    }
}

fn count(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::OomKills;

    #[test]
    fn kills_are_found_in_both_versions_of_cgroups() {
        let root = tempfile::tempdir().unwrap();
        for (groups, file, before, after) in [
            (
                "4:memory:/kubepods/a\n0::/\n",
                "memory/kubepods/a/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            ),
            (
                "0::/kubepods.slice/b\n",
                "kubepods.slice/b/memory.events",
                "max 4\noom 0\noom_kill 0\noom_group_kill 0\n",
                "max 9\noom 1\noom_kill 2\noom_group_kill 0\n",
            ),
        ] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let watch = OomKills::in_cgroups(root.path(), groups).unwrap();
            assert!(!watch.occurred());
            std::fs::write(&path, before).unwrap();
            assert!(!watch.occurred());
            std::fs::write(&path, after).unwrap();
            assert!(watch.occurred());
        }
    }

    #[test]
    fn kills_are_found_when_systemd_has_removed_the_containers_cgroup() {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join("pod.slice");
        let own = pod.join("a.scope");
        std::fs::create_dir_all(&own).unwrap();
        let write = |folder: &std::path::Path, kills: u32| {
            std::fs::write(folder.join("memory.events"), format!("oom 0\noom_kill {kills}\n"))
        };
        // An earlier container of the pod was killed.
        write(&pod, 1).unwrap();
        write(&own, 0).unwrap();
        let watch = OomKills::in_cgroups(root.path(), "0::/pod.slice/a.scope\n").unwrap();
        // Another container of the pod is killed while this one runs.
        write(&pod, 2).unwrap();
        assert!(!watch.occurred());
        std::fs::remove_dir_all(&own).unwrap();
        assert!(watch.occurred());
        let ended = OomKills::in_cgroups(root.path(), "0::/pod.slice/b.scope\n").unwrap();
        assert!(!ended.occurred());
        write(&pod, 3).unwrap();
        assert!(ended.occurred());
    }
}
