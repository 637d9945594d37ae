//! A Kubernetes node in an LXC container, created by `k8s/node/make-node`, and the bridge it is connected to.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::MutexGuard;

use tempfile::TempDir;

use crate::containerd::{alone, scratch_image};
use crate::kubelet::Kubelet;
use crate::{oci, peer, root, spotter, stderr, stdout, system};

/// The name of the sandbox's image in the configuration of the node's containerd.
const PAUSE: &str = "registry.k8s.io/pause:3.10";

/// Runs a program that must succeed, and returns its output.
pub fn sure(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}{}", stdout(&done), stderr(&done));
    stdout(&done)
}

/// Runs `ip` with these arguments.
pub fn ip(words: &str) -> String {
    sure(Command::new("ip").args(words.split_whitespace()))
}

/// A bridge that belongs to this process, with an address for the host.
pub struct Bridge {
    pub name: String,
    /// The first three numbers of its network's addresses.
    pub network: String,
    /// Only one test at a time uses containers.
    _alone: MutexGuard<'static, ()>,
}

impl Bridge {
    pub fn new() -> Self {
        let alone = alone();
        let number = std::process::id();
        let name = format!("spb{}", number % 100_000);
        let bridge = Self { name, network: format!("10.48.{}", number % 250), _alone: alone };
        ip(&format!("link add {} type bridge", bridge.name));
        ip(&format!("address add {}.1/24 dev {}", bridge.network, bridge.name));
        ip(&format!("link set {} up", bridge.name));
        bridge
    }
}

impl Default for Bridge {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.name]).output();
    }
}

/// A container that is a node.
pub struct Node {
    folder: TempDir,
    name: String,
    arguments: Vec<String>,
    /// Its address on the bridge.
    pub address: String,
    /// Its pods' network.
    pub pods: String,
}

impl Node {
    /// Creates a node on this bridge, with the detector's image. `number` (2 or higher) distinguishes nodes.
    pub fn make(bridge: &Bridge, number: u32) -> Self {
        Self::make_with(bridge, number, &[])
    }

    /// The same with further arguments for `make-node`.
    pub fn make_with(bridge: &Bridge, number: u32, further: &[&str]) -> Self {
        let node = Self::planned(bridge, number, further);
        let made = node.make_again(&[]);
        assert!(made.status.success(), "{}{}", stdout(&made), stderr(&made));
        node.import(scratch_image());
        node.import(&oci::pause(&node.folder.path().join("pause.tar"), PAUSE));
        ip(&format!("route replace {} via {}", node.pods, node.address));
        node
    }

    /// A node that has not been created yet, with further arguments for `make-node`.
    pub fn planned(bridge: &Bridge, number: u32, further: &[&str]) -> Self {
        for (program, package) in [("lxc-start", "lxc"), ("debootstrap", "debootstrap")] {
            system::program(program, package);
        }
        let folder = tempfile::tempdir().expect("a folder");
        // The root of an unprivileged container is another user on this machine.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .expect("permissions");
        let address = format!("{}.{number}", bridge.network);
        let pods = format!("10.47.{}.0/24", (std::process::id() + number) % 250);
        let name = format!("spotter-node-{number}");
        let cache = peer::cache().join("nodes");
        let words = [
            name.clone(),
            format!("--address={address}/24"),
            format!("--gateway={}.1", bridge.network),
            format!("--bridge={}", bridge.name),
            format!("--pods={pods}"),
            format!("--spotter={}", spotter().display()),
            format!("--lxcpath={}", folder.path().display()),
            format!("--cache={}", cache.display()),
        ];
        let words = words.iter().flat_map(|word| word.splitn(2, '='));
        let arguments = words.chain(further.iter().copied()).map(str::to_owned).collect();
        Self { folder, name, arguments, address, pods }
    }

    /// Runs `make-node` with the node's arguments and these further ones. Can be called again.
    pub fn make_again(&self, further: &[&str]) -> Output {
        let mut make = Command::new(root().join("k8s/node/make-node"));
        make.args(&self.arguments).args(further).output().expect("make-node starts")
    }

    fn lxc(&self, program: &str, further: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("-P").arg(self.folder.path()).args(["-n", &self.name]).args(further);
        command
    }

    /// Runs a program in the container, and returns its output.
    pub fn attach(&self, words: &[&str]) -> String {
        sure(self.lxc("lxc-attach", &["--"]).args(words))
    }

    /// Shuts the container down from within.
    pub fn stop(&self) {
        self.attach(&["systemctl", "poweroff"]);
        sure(&mut self.lxc("lxc-wait", &["-s", "STOPPED", "-t", "60"]));
    }

    fn import(&self, archive: &Path) {
        let place = self.folder.path().join(&self.name).join("rootfs/root/image.tar");
        std::fs::copy(archive, &place).expect("a copy");
        std::fs::set_permissions(&place, Permissions::from_mode(0o644)).expect("permissions");
        self.attach(&["ctr", "-n", "k8s.io", "images", "import", "/root/image.tar"]);
    }

    /// A client of its containerd.
    pub fn kubelet(&self) -> Kubelet {
        let pid = sure(&mut self.lxc("lxc-info", &["-pH"]));
        let socket = format!("/proc/{}/root/run/containerd/containerd.sock", pid.trim());
        Kubelet::connect(Path::new(&socket), PathBuf::from("/var/log/pods"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.lxc("lxc-stop", &["-k"]).output();
        let _ = Command::new("ip").args(["route", "delete", &self.pods]).output();
    }
}
