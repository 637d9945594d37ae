//! Reads the state of a machine: links, bonds, cgroups, file systems, containerd and kubelet.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::bond::Bond;
use super::kubelet::Kubelet;
use super::{install, programs};

/// A machine's state.
#[derive(Clone, Debug, Default)]
pub struct MachineState {
    pub bonds: Vec<Bond>,
    pub links: Vec<Link>,
    pub cgroups: Cgroups,
    /// The file system types that the kernel supports.
    pub file_systems: Vec<String>,
    pub containerd: Containerd,
    pub kubelet: Kubelet,
    /// The limits on watching files.
    pub watches: Watches,
    /// Whether IPv4 forwarding is on.
    pub forwards: bool,
    /// Whether `/` is a shared mount, so that mounts below it propagate to containers.
    pub shares_mounts: bool,
    pub has_kernel_log: bool,
    /// Whether it is in a user namespace, so that its root is an ordinary user on the host.
    pub is_unprivileged: bool,
    /// The kernel's release: `5.10.0-28-amd64`.
    pub kernel: String,
}

/// A network link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Link {
    pub name: String,
    /// The driver's device type: `bond`, `bridge`, `vxlan`; empty for most others.
    pub kind: String,
    /// In bytes.
    pub mtu: u32,
    pub index: u32,
    /// The index of the link below it (`iflink`), possibly in another namespace; its own index if there is none.
    pub peer: u32,
    /// Whether the default route goes through it.
    pub is_default_route: bool,
    /// The bond or bridge that it belongs to.
    pub master: Option<String>,
    /// Whether the link has a carrier; `None` if it is down.
    pub has_carrier: Option<bool>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

/// The cgroups that are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// 1 or 2; 0 if none are mounted.
    pub version: u8,
    pub controllers: Vec<String>,
}

/// The limits of inotify for each user; 0 if they cannot be read (`inotify(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watches {
    pub max_instances: u32,
    pub max_watches: u32,
}

/// containerd's configuration and shim.
#[derive(Clone, Debug)]
pub struct Containerd {
    /// The path of its configuration, whether or not the file exists.
    pub config: PathBuf,
    /// Whether the file exists.
    pub has_config: bool,
    /// Whether it, or a file that it imports, has the runtime `spotter`; otherwise why this is not known.
    pub has_runtime: Result<bool, String>,
    /// The executable shim on containerd's path, if any.
    pub shim: Option<PathBuf>,
}

impl Default for Containerd {
    fn default() -> Self {
        Self { config: PathBuf::new(), has_config: false, has_runtime: Ok(false), shim: None }
    }
}

impl MachineState {
    /// Reads the state of the machine whose root is `root`, with containerd's configuration at `config` below
    /// it. Anything that cannot be read counts as missing.
    #[must_use]
    pub fn read(root: &Path, config: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let mount_information = text("proc/self/mountinfo");
        let file_systems = text("proc/filesystems");
        let watch_limit = |name: &str| {
            text(&format!("proc/sys/fs/inotify/{name}")).trim().parse().unwrap_or_default()
        };
        Self {
            bonds: bonds(root),
            links: links(root),
            cgroups: cgroups(root),
            file_systems: file_systems
                .lines()
                .filter_map(|line| Some(line.split_whitespace().next_back()?.to_owned()))
                .collect(),
            containerd: containerd(root, config),
            kubelet: Kubelet::read(root),
            watches: Watches {
                max_instances: watch_limit("max_user_instances"),
                max_watches: watch_limit("max_user_watches"),
            },
            forwards: text("proc/sys/net/ipv4/ip_forward").trim() == "1",
            shares_mounts: shares_mounts(&mount_information),
            has_kernel_log: root.join("dev/kmsg").exists(),
            is_unprivileged: maps_users(&text("proc/self/uid_map")),
            kernel: text("proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// The bonds of this network namespace.
#[must_use]
pub fn bonds(root: &Path) -> Vec<Bond> {
    named_files(&root.join("proc/net/bonding"))
        .into_iter()
        .filter_map(|(name, path)| Some(Bond::parse(&name, &fs::read_to_string(path).ok()?)))
        .collect()
}

/// The links of this network namespace.
#[must_use]
pub fn links(root: &Path) -> Vec<Link> {
    let routes = fs::read_to_string(root.join("proc/net/route")).unwrap_or_default();
    let default = default_route(&routes);
    named_files(&root.join("sys/class/net"))
        .into_iter()
        .filter(|(_, path)| path.join("mtu").exists())
        .map(|(name, path)| Link { is_default_route: default == Some(&*name), ..link(name, &path) })
        .collect()
}

/// The link of the default route: destination and mask are 0.
fn default_route(routes: &str) -> Option<&str> {
    routes.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        is_default.then(|| fields[0])
    })
}

fn link(name: String, path: &Path) -> Link {
    let number = |file: &str| {
        let text = fs::read_to_string(path.join(file)).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or_default()
    };
    let small = |file: &str| u32::try_from(number(file)).unwrap_or_default();
    let event = fs::read_to_string(path.join("uevent")).unwrap_or_default();
    let kind = event.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).unwrap_or_default();
    let master = fs::read_link(path.join("master")).ok();
    let master = master.and_then(|to| Some(to.file_name()?.to_string_lossy().into_owned()));
    let carrier = fs::read_to_string(path.join("carrier")).ok();
    Link {
        kind: kind.to_owned(),
        mtu: small("mtu"),
        index: small("ifindex"),
        peer: small("iflink"),
        is_default_route: false,
        master,
        has_carrier: carrier.map(|text| text.trim() == "1"),
        rx_bytes: number("statistics/rx_bytes"),
        tx_bytes: number("statistics/tx_bytes"),
        name,
    }
}

fn cgroups(root: &Path) -> Cgroups {
    let unified = root.join("sys/fs/cgroup/cgroup.controllers");
    if let Ok(text) = fs::read_to_string(unified) {
        let controllers = text.split_whitespace().map(str::to_owned).collect();
        return Cgroups { version: 2, controllers };
    }
    let controllers: Vec<String> = named_files(&root.join("sys/fs/cgroup"))
        .into_iter()
        .filter(|(_, path)| path.join("cgroup.procs").exists())
        .flat_map(|(name, _)| name.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    Cgroups { version: u8::from(!controllers.is_empty()), controllers }
}

fn containerd(root: &Path, config: &Path) -> Containerd {
    Containerd {
        config: config.to_owned(),
        has_config: root.join(config.strip_prefix("/").unwrap_or(config)).exists(),
        has_runtime: install::has_runtime(root, config).map_err(|error| format!("{error:#}")),
        shim: programs::find(root, "containerd-shim-spotter-v1"),
    }
}

/// Whether the mount at `/` is shared (<https://docs.kernel.org/filesystems/sharedsubtree.html>).
fn shares_mounts(mount_information: &str) -> bool {
    let root = mount_information.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    root.is_some_and(|line| line.split(' ').any(|field| field.starts_with("shared:")))
}

/// Whether this user namespace maps root to another user (`user_namespaces(7)`); false if the map is empty.
fn maps_users(map: &str) -> bool {
    map.split_whitespace().nth(1).is_some_and(|outside| outside != "0")
}

/// The entries of a folder, sorted by name; empty if there is no such folder.
fn named_files(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{MachineState, maps_users, shares_mounts};

    #[test]
    fn a_machine_is_read_from_its_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/net/bonding/bond0", crate::bond::tests::GOOD_BOND);
        write(
            "proc/net/route",
            "Iface Destination Gateway\nbr0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n",
        );
        write("proc/filesystems", "nodev\tsysfs\nnodev\toverlay\n\text4\n");
        write("proc/sys/net/ipv4/ip_forward", "1\n");
        write("sys/class/net/eno1/mtu", "9000\n");
        write("sys/class/net/eno1/carrier", "1\n");
        write("proc/sys/fs/inotify/max_user_instances", "128\n");
        write("sys/class/net/eno1/statistics/rx_bytes", "77\n");
        write("sys/class/net/br0/mtu", "1500\n");
        write("sys/class/net/br0/uevent", "DEVTYPE=bridge\nINTERFACE=br0\n");
        write("sys/class/net/bonding_masters", "bond0\n");
        write("sys/fs/cgroup/cpu,cpuacct/cgroup.procs", "");
        write("sys/fs/cgroup/memory/cgroup.procs", "");
        std::os::unix::fs::symlink("../../br0", root.path().join("sys/class/net/eno1/master"))
            .unwrap();
        write("etc/containerd/config.toml", "version = 2\n");
        let state = MachineState::read(root.path(), Path::new("/etc/containerd/config.toml"));
        assert_eq!(state.bonds.len(), 1);
        assert!(state.forwards && !state.has_kernel_log && state.containerd.shim.is_none());
        assert!(state.file_systems.contains(&"overlay".to_owned()));
        assert_eq!(state.cgroups.version, 1);
        assert_eq!(state.cgroups.controllers, ["cpu", "cpuacct", "memory"]);
        assert_eq!(state.links.len(), 2);
        let [bridge, port] = &state.links[..] else { panic!("{:?}", state.links) };
        assert_eq!((bridge.kind.as_str(), bridge.mtu), ("bridge", 1500));
        assert!(bridge.is_default_route && !port.is_default_route);
        assert_eq!((port.mtu, port.rx_bytes, port.master.as_deref()), (9000, 77, Some("br0")));
        assert_eq!((port.has_carrier, bridge.has_carrier), (Some(true), None));
        assert_eq!((state.watches.max_instances, state.watches.max_watches), (128, 0));
        let configuration = |state: MachineState| {
            (state.containerd.has_config, state.containerd.has_runtime.unwrap())
        };
        assert_eq!(configuration(state), (true, false));
        let main = "version = 3\nimports = [\"conf.d/*.toml\"]\n";
        write("etc/containerd/config.toml", main);
        let runtime = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.spotter]\n\
                       runtime_type = 'io.containerd.spotter.v1'\n";
        write("etc/containerd/conf.d/spotter.toml", runtime);
        let state = MachineState::read(root.path(), Path::new("/etc/containerd/config.toml"));
        assert_eq!(configuration(state), (true, true));
    }

    #[test]
    fn a_namespace_of_users_is_told_from_the_hosts_own() {
        assert!(maps_users("         0     100000      65536\n"));
        assert!(!maps_users("         0          0 4294967295\n"));
        assert!(!maps_users(""));
    }

    #[test]
    fn shared_mounts_are_told_from_private_ones() {
        assert!(shares_mounts("25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n"));
        assert!(!shares_mounts("25 1 8:1 / / rw,relatime - ext4 /dev/sda rw\n"));
        assert!(!shares_mounts("26 25 0:5 / /dev rw shared:2 - devtmpfs udev rw\n"));
    }
}
