//! A container's cgroup: which driver creates it, and how it is mounted in the container.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use anyhow::Context;
use oci_spec::runtime::{LinuxNamespaceType, Mount, MountBuilder, Spec};
use serde::{Deserialize, Serialize};

/// What creates the container's cgroup, in the kubelet's terms.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum CgroupDriver {
    Cgroupfs,
    Systemd,
}

impl CgroupDriver {
    /// Derives the driver from the path: containerd writes `SLICE:PREFIX:NAME` for systemd.
    #[must_use]
    pub fn from_spec(spec: &Spec) -> Self {
        let is_slice = path(spec).and_then(Path::to_str).is_some_and(|path| {
            path.split_once(':').is_some_and(|(slice, _)| slice.ends_with(".slice"))
        });
        if is_slice { Self::Systemd } else { Self::Cgroupfs }
    }
}

fn path(spec: &Spec) -> Option<&Path> {
    spec.linux().as_ref()?.cgroups_path().as_deref()
}

/// The cgroup of a container's pod, relative to the folder of a hierarchy; `None` if the container has no pod.
#[must_use]
pub fn pod(spec: &Spec) -> Option<PathBuf> {
    let path = path(spec)?;
    let pod = match (CgroupDriver::from_spec(spec), path.to_str()?.split_once(':')) {
        (CgroupDriver::Systemd, Some((slice, _))) => slice_folder(slice),
        _ => path.parent()?.strip_prefix("/").ok()?.to_owned(),
    };
    (!pod.as_os_str().is_empty()).then_some(pod)
}

/// The folder of a systemd slice. Slices are nested by name: `a-b.slice` is in `a.slice` (`systemd.slice(5)`).
fn slice_folder(slice: &str) -> PathBuf {
    let name = slice.trim_end_matches(".slice");
    let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
    ends.map(|end| format!("{}.slice", &name[..end])).collect()
}

/// Whether the container joins an existing PID namespace: its pod's, with `shareProcessNamespace`.
fn joins_pid_namespace(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces
        .into_iter()
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_some())
}

/// Replaces the mount of version 1 cgroups with one mount per controller, if the container joins a PID namespace.
/// Otherwise libcontainer looks up its parent's PID among the node's processes, and fails if there is none
/// with this PID. This is not possible with the systemd driver, as only systemd knows the folders, and not
/// necessary with version 2, which is a single folder.
///
/// `root` is the folder of the node's cgroups. Returns whether anything was changed.
///
/// # Errors
/// If the node's cgroups cannot be read.
pub fn expand_mounts(spec: &mut Spec, root: &Path) -> anyhow::Result<bool> {
    let is_version_2 = root.join("cgroup.controllers").exists();
    let Some(path) = path(spec).map(Path::to_owned) else { return Ok(false) };
    if is_version_2
        || CgroupDriver::from_spec(spec) == CgroupDriver::Systemd
        || !joins_pid_namespace(spec)
    {
        return Ok(false);
    }
    let mounts = spec.mounts().clone().unwrap_or_default();
    let mut changed = false;
    let mut written = Vec::new();
    for mount in mounts {
        if mount.typ().as_deref() == Some("cgroup") {
            written.extend(controller_mounts(&mount, root, &path)?);
            changed = true;
        } else {
            written.push(mount);
        }
    }
    spec.set_mounts(Some(written));
    Ok(changed)
}

/// A tmpfs, and in it a bind mount of this container's folder for each controller.
fn controller_mounts(mount: &Mount, root: &Path, path: &Path) -> anyhow::Result<Vec<Mount>> {
    let mount_point = mount.destination();
    let relative = path.strip_prefix("/").unwrap_or(path);
    let options = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let folder = MountBuilder::default()
        .destination(mount_point)
        .typ("tmpfs")
        .source("tmpfs")
        .options(options(&["noexec", "nosuid", "nodev", "mode=755"]))
        .build()?;
    let mut mounts = vec![folder];
    for controller in mounted_controllers(root)? {
        let mount = MountBuilder::default()
            .destination(mount_point.join(&controller))
            .typ("bind")
            .source(root.join(&controller).join(relative))
            .options(options(&["rbind", "ro", "noexec", "nosuid", "nodev"]))
            .build()?;
        mounts.push(mount);
    }
    Ok(mounts)
}

/// The folders of the controllers in which libcontainer creates a cgroup
/// (<https://docs.kernel.org/admin-guide/cgroup-v1/cgroups.html>).
fn mounted_controllers(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    const CGROUP_V1_CONTROLLERS: [&str; 10] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "hugetlb",
        "memory",
        "pids",
        "perf_event",
        "blkio",
        "freezer",
    ];
    let entries =
        std::fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
    let is_known = |name: &Path| {
        let name = name.to_string_lossy();
        name.split(',').all(|controller| CGROUP_V1_CONTROLLERS.contains(&controller))
    };
    // systemd leaves empty folders if a controller cannot be mounted.
    // A symbolic link leads to another of the folders.
    let is_folder = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let is_mounted = |entry: &DirEntry| entry.path().join("cgroup.procs").exists();
    let names = entries.flatten().filter(|entry| is_folder(entry) && is_mounted(entry));
    let mut names: Vec<PathBuf> = names
        .map(|entry| entry.file_name().into())
        .filter(|name: &PathBuf| is_known(name))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use oci_spec::runtime::{
        LinuxBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, MountBuilder, Spec,
    };

    use super::{CgroupDriver, expand_mounts};

    fn with_path(path: &str) -> LinuxBuilder {
        LinuxBuilder::default().cgroups_path(path)
    }

    #[test]
    fn systemd_is_told_by_the_cgroups_path() {
        for (path, expected) in [
            ("/kubepods/pod1/a", CgroupDriver::Cgroupfs),
            ("kubepods-pod1.slice:cri-containerd:a", CgroupDriver::Systemd),
            ("/a:b:c", CgroupDriver::Cgroupfs),
        ] {
            let mut spec = Spec::default();
            spec.set_linux(Some(with_path(path).build().unwrap()));
            assert_eq!(CgroupDriver::from_spec(&spec), expected, "{path}");
        }
    }

    #[test]
    fn cgroups_of_version_1_are_written_out_where_processes_are_shared() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["cpu,cpuacct", "memory", "systemd", "unified"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
            std::fs::write(root.path().join(folder).join("cgroup.procs"), "").unwrap();
        }
        std::fs::create_dir(root.path().join("cpu")).unwrap();
        let mount =
            MountBuilder::default().destination("/sys/fs/cgroup").typ("cgroup").build().unwrap();
        let shared = |path: Option<&str>| {
            let mut namespace = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Pid);
            if let Some(path) = path {
                namespace = namespace.path(path);
            }
            let linux = with_path("/kubepods/a").namespaces([namespace.build().unwrap()]);
            let mut spec = Spec::default();
            spec.set_linux(Some(linux.build().unwrap()));
            spec.set_mounts(Some(vec![mount.clone()]));
            spec
        };
        assert!(!expand_mounts(&mut shared(None), root.path()).unwrap());
        let mut spec = shared(Some("/proc/7/ns/pid"));
        assert!(expand_mounts(&mut spec, root.path()).unwrap());
        let mounts = spec.mounts().clone().unwrap();
        let destinations: Vec<&Path> =
            mounts.iter().map(|mount| mount.destination().as_path()).collect();
        let expected = ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"];
        assert_eq!(destinations, expected.map(Path::new));
        assert_eq!(mounts[2].source().as_deref(), Some(&*root.path().join("memory/kubepods/a")));
        // Version 2 has a single folder.
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory").unwrap();
        assert!(!expand_mounts(&mut shared(Some("/proc/7/ns/pid")), root.path()).unwrap());
    }
}
