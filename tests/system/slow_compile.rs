//! A slow compiler makes no pod fail, and the pods of other images wait for their turn.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use spotter_tests::containerd::{Containerd, KUBERNETES, SCRATCH, wait_until};
use spotter_tests::kubelet::{Kubelet, Wanted};
use spotter_tests::oci::{self, LINUX_CONFIG};
use spotter_tests::{client, guests, root};

use crate::compile::compiling;

/// An image with a component that compiles in a moment.
const SMALL: &str = "docker.io/library/hello:1";

/// Imports it.
fn import_small(containerd: &Containerd) {
    guests();
    let component = std::fs::read(root().join("target/spotter/hello.wasm")).expect("a component");
    let manifest = b"spin_manifest_version = 2
[application]
name = \"hello\"
[[trigger.http]]
route = \"/...\"
component = \"hello\"
[component.hello]
source = \"hello.wasm\"
";
    let layer = oci::tar(&[("spin.toml", 0o644, manifest), ("hello.wasm", 0o644, &component)]);
    let config = oci::linux_config(&["/spin.toml"], &layer);
    let archive = containerd.path("hello.tar");
    oci::archive(&archive, SMALL, &config, LINUX_CONFIG, &[(oci::TAR, layer)]);
    containerd.import(KUBERNETES, &archive);
}

fn processes(cgroup: &Path) -> Vec<String> {
    let processes = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    processes.lines().map(str::to_owned).collect()
}

/// Sends a signal to the processes of a cgroup.
fn signal(cgroup: &Path, name: &str) {
    for pid in processes(cgroup) {
        assert!(Command::new("kill").args([name, &pid]).status().is_ok_and(|done| done.success()));
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_slow_compiler_fails_no_pod_and_another_image_waits_for_its_turn() {
    let containerd = Containerd::start_without_cache();
    import_small(&containerd);
    let kubelet = Kubelet::of(&containerd);
    let first = kubelet.run_pod("first");
    let detect = Wanted { name: "detect", image: SCRATCH, ..Wanted::default() };
    let began = Instant::now();
    let compiled_first = kubelet.run(&first, &detect);
    wait_until("the compiler", || compiling().is_some_and(|cgroup| !processes(&cgroup).is_empty()));
    // The slowest compiler is one that does nothing.
    let cgroup = compiling().expect("a cgroup");
    signal(&cgroup, "-STOP");
    // The kubelet gives up a container that has not started after two minutes. This one has, long ago.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let second = kubelet.run_pod("second");
    let compiled_second = kubelet.run(&second, &Wanted { image: SMALL, ..detect.clone() });
    let waits = "Another image is being compiled on this node: `hello` waits for its turn";
    wait_until("the second to wait", || kubelet.log(&second).contains(waits));
    std::thread::sleep(Duration::from_secs(3));
    for (pod, container, id) in
        [(&first, &compiled_first, "detector"), (&second, &compiled_second, "hello")]
    {
        let log = kubelet.log(pod);
        assert!(log.contains("Waiting for the compiler"), "{log}");
        assert!(!log.contains(&format!("Compiled `{id}`")), "{log}");
        assert!(kubelet.is_running(container), "{log}");
        assert!(!client::is_ready(&pod.admin_url("/readyz")));
    }
    assert!(!kubelet.log(&second).contains("Compiling"), "{}", kubelet.log(&second));

    signal(&cgroup, "-CONT");
    kubelet.wait_until_ready(&second);
    assert_eq!(client::get(&second.url("/")).status, 200);
    // It compiles in a second. Had it not waited for its turn, the detector's code would not be there for a long time.
    // The turn ends a moment before the log says so.
    let (ready, compiled) = (Instant::now(), "Compiled `detector`");
    while !kubelet.log(&first).contains(compiled) && ready.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(kubelet.log(&first).contains(compiled), "both were compiled at a time");
    kubelet.wait_until_ready(&first);
    for pod in [&first, &second] {
        kubelet.remove_pod(pod);
    }
    containerd.assert_nothing_left();
}
