//! Images of others' making, and applications that another program left in the node's cache.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use spotter_tests::containerd::{Containerd, KUBERNETES, wait_until};
use spotter_tests::kubelet::{Kubelet, Wanted};
use spotter_tests::network::Network;
use spotter_tests::oci::{self, LINUX_CONFIG};
use spotter_tests::{client, guests, root};

const UNCHECKED: &str = "docker.io/library/unchecked:1";
const PULLED: &str = "docker.io/library/hello:pulled";

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_image_cannot_leave_the_checks_out_of_its_code() {
    let containerd = Containerd::start();
    guests();
    let component = fs::read(root().join("target/spotter/guest.wasm")).expect("a component");
    let manifest = b"spin_manifest_version = 2
[application]
name = \"unchecked\"
[[trigger.http]]
route = \"/guest/...\"
component = \"guest\"
[component.guest]
source = \"guest.wasm\"
key_value_stores = [\"default\"]
[component.guest.tool.spotter]
interruption = \"watchdog\"
";
    let layer = oci::tar(&[("spin.toml", 0o644, manifest), ("guest.wasm", 0o644, &component)]);
    let config = oci::linux_config(&["/spin.toml"], &layer);
    let archive = containerd.path("unchecked.tar");
    oci::archive(&archive, UNCHECKED, &config, LINUX_CONFIG, &[(oci::TAR, layer)]);
    containerd.import(KUBERNETES, &archive);
    let kubelet = Kubelet::of(&containerd);
    let environment = [("SPOTTER_REQUEST_CPU", "300ms"), ("SPOTTER_STATE_DIR", "/tmp/state")];
    let wanted =
        Wanted { name: "guest", image: UNCHECKED, environment: &environment, ..Wanted::default() };
    let (pod, _) = kubelet.serve("unchecked", &wanted);
    let reply = client::get(&pod.url("/guest/loop"));
    assert_eq!((reply.status, reply.error_code().as_str()), (504, "cpu_limit_exceeded"));
    // It was interrupted, rather than left running.
    let metrics = client::get(&pod.admin_url("/metrics")).body;
    let metrics = String::from_utf8_lossy(&metrics);
    assert!(metrics.contains("\nspotter_instances_abandoned 0\n"), "{metrics}");
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

/// Takes an application from everybody but its owner, as `spotter pull` writes it.
fn make_private(path: &Path) {
    let is_folder = path.is_dir();
    if is_folder {
        fs::read_dir(path)
            .expect("a folder")
            .for_each(|entry| make_private(&entry.expect("an entry").path()));
    }
    let mode = if is_folder { 0o700 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
}

/// The permissions of all files below a folder.
fn modes(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    entries
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() { modes(&path) } else { vec![mode(&path)] }
        })
        .collect()
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_application_that_root_has_pulled_becomes_readable_for_pods() {
    guests();
    let component = fs::read(root().join("target/spotter/hello.wasm")).expect("a component");
    let containerd = Containerd::start_without_cache();
    let archive = containerd.path("pulled.tar");
    let digest = oci::digest(&component);
    let config = json!({"architecture": "wasm", "os": "wasip2", "layerDigests": [digest]});
    let layers = [(oci::WASM, component)];
    oci::archive(&archive, PULLED, &config, "application/vnd.wasm.config.v0+json", &layers);
    containerd.import_packed(&archive);
    let applications = containerd.path("cache/spotter/applications");
    for id in ["spotter-test-1", "spotter-test-2"] {
        let network = Network::new(0);
        containerd.run_unpacked(PULLED, id, &network, &["/"]).expect("a container");
        wait_until("it is ready", || client::is_ready(&network.admin_url("/readyz")));
        assert_eq!(client::get(&network.url("/")).status, 200);
        assert_eq!(containerd.stop(id, "SIGTERM"), 0);
        let found = modes(&applications);
        assert!(found.len() > 1 && found.iter().all(|mode| *mode == 0o644), "{found:?}");
        make_private(&applications);
    }
    containerd.assert_nothing_left();
}
