//! Nodes in LXC containers, as k8s/node makes them, and every step to a detector in one of them.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use spotter_tests::containerd::SCRATCH;
use spotter_tests::kubelet::{Pod, Processes, Wanted};
use spotter_tests::node::{Bridge, Node};
use spotter_tests::switch::Switch;
use spotter_tests::{client, pictures, root, stderr, stdout};

const FUNCTION: Wanted<'static> = Wanted {
    name: "detect",
    image: SCRATCH,
    environment: &[("SPIN_HTTP_LISTEN_ADDR", "0.0.0.0:8080")],
    memory: 0,
    cpu_quota: 0,
    user: 1000,
    processes: Processes::Own,
    volumes: &[],
};

fn finds_the_cat(pod: &Pod) -> bool {
    let reply =
        client::post_picture(&pod.url(":8080/detect"), &pictures::bytes("skimage_chelsea.png"));
    reply.status == 200 && String::from_utf8_lossy(&reply.body).contains("\"cat\"")
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_container_becomes_a_node_that_serves_and_serves_again_when_it_was_stopped() {
    let bridge = Bridge::new();
    let node = Node::make(&bridge, 11);
    let kubelet = node.kubelet();
    let (pod, container) =
        kubelet.serve("first", &Wanted { processes: Processes::Own, ..FUNCTION });
    assert!(finds_the_cat(&pod));

    // Running make-node again changes nothing, and the pods keep serving.
    let again = node.make_again(&[]);
    let said = stdout(&again);
    assert!(again.status.success() && said.contains("is up to date"), "{said}{}", stderr(&again));
    assert!(!said.lines().any(|line| line.starts_with("fail ")), "{said}");
    assert!(finds_the_cat(&pod));
    let changed = stdout(&node.make_again(&["--mtu", "1400", "--dry-run"]));
    assert!(changed.contains("write") && changed.contains("poweroff"), "{changed}");
    assert!(finds_the_cat(&pod));

    // Shut the node down, as when its host shuts down. Its pods end by themselves.
    node.stop();
    assert!(client::try_send("GET", &pod.url(":8080/healthz"), &[], &[]).is_err());
    // With a stand-in for a kubelet: it finds its files where its unit says they are.
    let folder = tempfile::tempdir().expect("a folder");
    let (kubelet, bootstrap) = (folder.path().join("kubelet"), folder.path().join("bootstrap"));
    let script = "#!/bin/sh\nfor given; do case $given in --version) exit 0 ;; --config=*|--bootstrap-*) [ -s \"${given#*=}\" ] || exit 1; esac; done\n[ -s /etc/kubernetes/pki/ca.crt ] && exec sleep infinity\n";
    std::fs::write(&kubelet, script).expect("a file");
    // A stand-in for the API server, on the host.
    let api = TcpListener::bind(format!("{}.1:0", bridge.network)).expect("a port");
    let server = format!("https://{}", api.local_addr().expect("an address"));
    let cluster =
        format!("    certificate-authority-data: YXV0aG9yaXR5Cg==\n    server: {server}\n");
    std::fs::write(&bootstrap, cluster).expect("a file");
    let proxy = folder.path().join("kube-proxy");
    let script = "#!/bin/sh\nfor given; do case $given in --version) exit 0 ;; --kubeconfig=*) [ -s \"${given#*=}\" ] || exit 1; esac; done\nsleep infinity\n";
    std::fs::write(&proxy, script).expect("a file");
    let [kubelet, bootstrap, proxy] =
        [&kubelet, &bootstrap, &proxy].map(|path| path.to_str().expect("a path"));
    let mut joining = vec!["--kubelet", kubelet, "--bootstrap", bootstrap];
    joining.extend(["--kube-proxy", proxy, "--kube-proxy-config", bootstrap]);
    let started = node.make_again(&joining);
    assert!(started.status.success(), "{}{}", stdout(&started), stderr(&started));
    for unit in ["kubelet", "kube-proxy"] {
        assert_eq!(node.attach(&["systemctl", "is-active", unit]), "active\n");
        let text = node.attach(&["systemctl", "cat", unit]);
        assert!(!text.contains('@'), "{text}");
    }
    let said = stdout(&started);
    for line in [
        format!("pass kubelet: the API server {server} answers [api-server]"),
        "[kubelet-certificate]\n     fix: kubectl get csr".into(),
        "pass containerd: the pod sandbox image is present [pause-image]".into(),
    ] {
        assert!(said.contains(&line), "{said} lacks {line}");
    }
    assert_eq!(node.attach(&["cat", "/etc/kubernetes/pki/ca.crt"]), "authority\n");
    assert!(!node.attach(&["cat", "/etc/kubernetes/kubelet.yaml"]).contains('@'));
    let kubelet = node.kubelet();
    assert_ne!(kubelet.exit_status(&container), 137, "the function was killed");
    kubelet.remove_pod(&pod);
    let (pod, _) = kubelet.serve("second", &Wanted { processes: Processes::Pods, ..FUNCTION });
    assert!(finds_the_cat(&pod));
    kubelet.remove_pod(&pod);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_node_of_debian_13_has_containerd_1_7_and_serves() {
    let bridge = Bridge::new();
    let node = Node::make_with(&bridge, 13, &["--release", "trixie"]);
    let version = node.attach(&["containerd", "--version"]);
    assert!(version.contains(" 1.7."), "{version}");
    assert_eq!(node.attach(&["systemctl", "is-active", "containerd"]), "active\n");
    let checked = stdout(&node.make_again(&[]));
    assert!(!checked.lines().any(|line| line.starts_with("fail ")), "{checked}");
    let kubelet = node.kubelet();
    let (pod, container) = kubelet.serve("trixie", &FUNCTION);
    assert!(finds_the_cat(&pod));
    assert!(kubelet.stats(&container).1 > 0);
    kubelet.remove_pod(&pod);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_unprivileged_container_starts_and_its_check_says_what_keeps_pods_from_it() {
    let bridge = Bridge::new();
    let node = Node::planned(&bridge, 14, &["--unprivileged"]);
    let made = node.make_again(&[]);
    assert_eq!(node.attach(&["id", "-u"]), "0\n");
    assert!(node.attach(&["cat", "/proc/self/uid_map"]).contains("100000"));
    let said = stdout(&made);
    // The host has cgroup v1 or v2; every other check passes.
    let faults: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("fail ") || line.starts_with("warn "))
        // It has no kubelet, and the host's limits are what they are.
        .filter(|line| !line.ends_with("[kubelet]") && !line.ends_with("[inotify]"))
        .collect();
    assert!(
        faults.iter().all(|line| line.contains("user namespace")) && faults.len() == 1,
        "{said}"
    );
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn make_node_says_what_is_wrong_with_its_arguments() {
    for (arguments, reason) in [
        (vec!["Node"], "lowercase letters"),
        (vec!["node1"], "--address must be an address"),
        (vec!["node1", "--address"], "needs a value"),
        (vec!["node1", "--what"], "there is no option --what"),
        (vec!["node1", "node2"], "one node at a time"),
        (vec!["node1", "--address", "10.0.0.2/24", "--spotter", "/nowhere"], "no spotter"),
        (vec!["node1", "--address", "10.0.0.2/24", "--release", "../13"], "a Debian release"),
    ] {
        let refused = Command::new(root().join("k8s/node/make-node")).args(&arguments).output();
        let refused = refused.expect("make-node starts");
        assert_eq!(refused.status.code(), Some(64), "{arguments:?}");
        assert!(stderr(&refused).contains(reason), "{}", stderr(&refused));
    }
}

/// The numbers of requests of two clients that succeed and that fail, while each link in turn goes down and comes
/// back.
fn while_links_drop(switch: &Switch, request: impl Fn() -> bool + Sync) -> (u32, u32) {
    let (answered, failed) = (AtomicU32::new(0), AtomicU32::new(0));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    let counted = if request() { &answered } else { &failed };
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for link in [1, 2] {
            std::thread::sleep(Duration::from_secs(2));
            switch.cut(link);
            std::thread::sleep(Duration::from_secs(3));
            switch.restore(link);
        }
        is_done.store(true, Ordering::SeqCst);
    });
    (answered.into_inner(), failed.into_inner())
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn from_a_client_through_bond_bridge_node_and_shim_to_the_detections_and_no_link_is_missed() {
    let bridge = Bridge::new();
    let node = Node::make(&bridge, 12);
    let switch = Switch::join(&bridge, Some("100mbit"));
    let kubelet = node.kubelet();
    let (pod, _) = kubelet.serve("whole", &Wanted { processes: Processes::Own, ..FUNCTION });
    let url = pod.url(":8080/detect");
    let picture = root().join("tests/pictures/skimage_chelsea.png");
    let post = || -> Option<Value> {
        let mut curl = Command::new("ip");
        curl.args(["netns", "exec", &switch.client(), "curl", "-sf", "-m", "20", "--data-binary"]);
        curl.arg(format!("@{}", picture.display())).args(["-H", "content-type: image/png", &url]);
        let answer = curl.stderr(Stdio::null()).output().expect("curl starts");
        serde_json::from_slice(&answer.stdout).ok()
    };
    let reply = post().expect("detections");
    assert_eq!(reply["detections"][0]["label"], "cat", "{reply}");

    let before = switch.bytes();
    let (answered, failed) = while_links_drop(&switch, || {
        post().is_some_and(|reply| reply["detections"][0]["label"] == "cat")
    });
    let after = switch.bytes();
    println!("{answered} answers while each link went down in turn, {failed} failed");
    assert!(answered > 20 && failed == 0, "{answered} answered, {failed} failed");
    for link in 0..2 {
        assert!(
            after[link].0 - before[link].0 > 100_000,
            "link {} carried nothing: {after:?}",
            link + 1
        );
    }
    kubelet.remove_pod(&pod);
}
