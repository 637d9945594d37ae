//! Out-of-memory kills of a container, as the kernel counts them.

use std::path::{Path, PathBuf};

use super::stats::version_1;

/// The file in which the kernel counts a container's OOM kills. It outlives the processes
/// (<https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>, `memory.oom_control`, and
/// <https://docs.kernel.org/admin-guide/cgroup-v2.html>, `memory.events`).
pub struct OomKills(PathBuf);

impl OomKills {
    /// The file of this process's container; `None` if no cgroup accounts for memory.
    #[must_use]
    pub fn for_pid(pid: u32) -> Option<Self> {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Self::in_cgroups(Path::new("/sys/fs/cgroup"), &groups)
    }

    fn in_cgroups(root: &Path, groups: &str) -> Option<Self> {
        if let Some((controllers, path)) = version_1(groups, "memory") {
            return Some(Self(root.join(controllers).join(path).join("memory.oom_control")));
        }
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Some(Self(root.join(path).join("memory.events")))
    }

    /// Whether the kernel has killed a process of the container.
    #[must_use]
    pub fn occurred(&self) -> bool {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.is_some_and(|count| count.trim() != "0")
    }
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
}
