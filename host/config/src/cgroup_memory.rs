//! Reads the memory limit of this process's cgroup.

use std::fs;
use std::path::Path;

/// The smallest memory limit of this process's cgroup and those above it, in bytes, on the machine whose root is
/// `root`; `None` without a limit (<https://docs.kernel.org/admin-guide/cgroup-v2.html>, `memory.max`).
#[must_use]
pub fn cgroup_limit(root: &Path) -> Option<u64> {
    let cgroups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    cgroups.lines().filter_map(|line| smallest_limit(root, line)).min()
}

/// The smallest limit for one line of `/proc/self/cgroup`: number, controllers, path. Version 2 lists no controllers.
fn smallest_limit(root: &Path, line: &str) -> Option<u64> {
    /// Without a limit, version 1 states a number that no machine reaches.
    const CGROUP_V1_UNLIMITED_BYTES: u64 = 1 << 50;
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|one| one == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let limit = |cgroup: &Path| {
        let cgroup = cgroup.strip_prefix("/").unwrap_or(cgroup);
        let text = fs::read_to_string(root.join(mount).join(cgroup).join(file)).ok()?;
        text.trim().parse().ok().filter(|limit| *limit < CGROUP_V1_UNLIMITED_BYTES)
    };
    // In a container, the path may be the machine's, although only its last folder is mounted, as the root.
    Path::new(path).ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::cgroup_limit;

    #[test]
    fn the_smallest_limit_of_the_cgroups_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(cgroup_limit(root.path()), None);
        write("proc/self/cgroup", "0::/pod/container\n");
        write("sys/fs/cgroup/pod/container/memory.max", "max\n");
        assert_eq!(cgroup_limit(root.path()), None);
        write("sys/fs/cgroup/pod/memory.max", "2048\n");
        assert_eq!(cgroup_limit(root.path()), Some(2048));
        // Version 1, as a container sees it: the path is the machine's, and the mount the container's own.
        write("proc/self/cgroup", "4:cpu,cpuacct:/pod/c\n3:memory:/kubepods/pod/c\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(cgroup_limit(root.path()), None);
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
        assert_eq!(cgroup_limit(root.path()), Some(1 << 30));
    }
}
