//! `spotter node` on a copy of the machine in `tests/node`, with and without faults.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use spotter_tests::{root, run, stdout};
use tempfile::TempDir;

const KUBECONFIG: &str = "etc/kubernetes/kubelet.conf";

/// A stand-in for the API server of the machine's cluster, which accepts connections.
fn api_server() -> SocketAddr {
    static SERVER: LazyLock<TcpListener> =
        LazyLock::new(|| TcpListener::bind("127.0.0.1:0").expect("a port"));
    SERVER.local_addr().expect("an address")
}

/// A copy of the machine that a test can change.
fn machine() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let copied =
        Command::new("cp").arg("-a").arg(root().join("tests/node/.")).arg(folder.path()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    change(&folder, KUBECONFIG, "@API@", &api_server().to_string());
    folder
}

/// Runs `spotter node check`, and returns its exit status and output.
fn check(machine: &Path, further: &[&str]) -> (Option<i32>, String) {
    let machine = machine.to_str().expect("a path");
    let checked = run(&[&["node", "check", "--root", machine], further].concat());
    (checked.status.code(), stdout(&checked))
}

fn change(machine: &TempDir, file: &str, from: &str, to: &str) {
    let path = machine.path().join(file);
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replacen(from, to, 1)).expect("a file");
}

#[test]
fn a_machine_that_is_right_passes_its_check() {
    let machine = machine();
    assert_eq!(check(machine.path(), &["--host"]).0, Some(0));
    let (status, said) = check(machine.path(), &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.lines().all(|line| line.starts_with("pass ")), "{said}");
    for line in ["pass bond0: mode 802.3ad [bond-mode]", "pass containerd: the runtime `spotter`"] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn what_is_wrong_with_a_machine_is_said_with_what_mends_it() {
    for (file, from, to, code, fix) in [
        ("proc/net/bonding/bond0", "(ms): 100", "(ms): 0", "bond-miimon", "miimon 100"),
        (
            "proc/net/bonding/bond0",
            "MII Status: up\nSpeed",
            "MII Status: down\nSpeed",
            "bond-port-link",
            "eno1 up",
        ),
        ("sys/class/net/eno2/mtu", "9000", "1500", "mtu", "ip link set eno2 mtu 9000"),
        (
            "etc/containerd/config.toml",
            "spotter.v1",
            "other.v1",
            "containerd-config",
            "spotter shim install",
        ),
        ("sys/fs/cgroup/cgroup.controllers", "memory", "misc", "cgroups", "cgroup_enable=memory"),
        ("proc/filesystems", "overlay", "ramfs", "overlay", "modprobe overlay"),
        ("proc/sys/net/ipv4/ip_forward", "1", "0", "ip-forward", "sysctl -w"),
        ("proc/self/mountinfo", "shared:1 ", "", "mount-propagation", "--make-rshared"),
        ("proc/net/bonding/bond0", "state: 63", "state: 199", "bond-port-lacp", "active mode"),
        ("sys/class/net/eno2/carrier", "1", "0", "link-carrier", "check the cable"),
        (KUBECONFIG, "kubelet-client", "other", "kubelet-certificate", "systemctl restart kubelet"),
        (KUBECONFIG, "server: https", "server: http", "api-server", "check the firewall"),
        (KUBECONFIG, "server: ", "name: ", "api-server", "set-cluster"),
    ] {
        let machine = machine();
        change(&machine, file, from, to);
        let (status, said) = check(machine.path(), &[]);
        assert_eq!(status, Some(1), "{said}");
        let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("fail ")).collect();
        assert_eq!(failed.len(), 1, "{said}");
        assert!(failed[0].ends_with(&format!("[{code}]")), "{said}");
        let mut fixes = said.lines().filter_map(|line| line.trim_start().strip_prefix("fix: "));
        assert!(fixes.any(|line| line.contains(fix)), "{said}");
    }
    let machine = machine();
    std::fs::remove_file(machine.path().join("usr/local/bin/containerd-shim-spotter-v1"))
        .expect("a shim");
    let (_, said) = check(machine.path(), &["--json"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["ok"], false);
    let findings = said["findings"].as_array().expect("findings");
    let failed: Vec<&Value> =
        findings.iter().filter(|finding| finding["verdict"] == "fail").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0]["code"], &failed[0]["fix"]),
        (&"shim".into(), &"spotter shim install".into())
    );
    assert_eq!(said["bonds"][0]["aggregator"]["ports"], 2);
}

#[test]
fn what_a_node_of_a_cluster_lacks_is_said_with_what_mends_it() {
    for (file, verdict, code, fix) in [
        ("usr/local/bin/kubelet", "warn", "kubelet", "make-node --kubelet"),
        (KUBECONFIG, "fail", "kubelet-certificate", "kubeadm join"),
        ("proc/77/comm", "warn", "kube-proxy", "daemonset kube-proxy"),
        (
            "proc/sys/net/bridge/bridge-nf-call-iptables",
            "warn",
            "bridge-netfilter",
            "modprobe br_netfilter",
        ),
        ("proc/sys/fs/inotify/max_user_instances", "warn", "inotify", "max_user_instances=8192"),
    ] {
        let machine = machine();
        std::fs::remove_file(machine.path().join(file)).expect("a file");
        let (status, said) = check(machine.path(), &[]);
        assert_eq!(status, Some(i32::from(verdict == "fail")), "{said}");
        let faults: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("fail ") || line.starts_with("warn "))
            .collect();
        assert!(faults.len() == 1 && faults[0].starts_with(verdict), "{file}: {said}");
        assert!(faults[0].ends_with(&format!("[{code}]")) && said.contains(fix), "{said}");
    }
    // It has asked to join, and waits for its certificate.
    let machine = machine();
    let folder = machine.path().join("etc/kubernetes");
    std::fs::rename(machine.path().join(KUBECONFIG), folder.join("bootstrap.conf"))
        .expect("a file");
    let (status, said) = check(machine.path(), &[]);
    assert!(status == Some(0) && said.contains("kubectl certificate approve"), "{said}");
}

#[test]
fn a_host_that_must_have_a_bond_and_has_none_is_wrong() {
    let machine = machine();
    std::fs::remove_dir_all(machine.path().join("proc/net")).expect("a folder");
    assert_eq!(check(machine.path(), &[]).0, Some(0));
    let (status, said) = check(machine.path(), &["--host"]);
    assert!(status == Some(1) && said.contains("modprobe bonding"), "{said}");
}

#[test]
fn bonds_are_metrics_too() {
    let machine = machine();
    change(&machine, "proc/net/bonding/bond0", "MII Status: up\nSpeed", "MII Status: down\nSpeed");
    let path = machine.path().to_str().expect("a path");
    let text = stdout(&run(&["node", "metrics", "--root", path]));
    for line in [
        "spotter_bond_ports{bond=\"bond0\"} 2",
        "spotter_bond_ports_active{bond=\"bond0\"} 1",
        "spotter_bond_partner{bond=\"bond0\",partner=\"9a:1e:00:44:55:66\"} 1",
        "spotter_bond_port_up{bond=\"bond0\",port=\"eno1\"} 0",
        "spotter_bond_port_link_failures_total{bond=\"bond0\",port=\"eno2\"} 3",
        "spotter_bond_port_transmit_bytes_total{bond=\"bond0\",port=\"eno2\"} 2000",
        "spotter_bond_port_churned{bond=\"bond0\",port=\"eno1\",side=\"actor\"} 0",
    ] {
        assert!(text.contains(line), "{text} lacks {line}");
    }
    assert!(text.ends_with("# EOF\n"));
}
