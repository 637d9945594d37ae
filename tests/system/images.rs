//! Images of others' making, and applications that another program left in the node's cache.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use spotter_tests::application::Application;
use spotter_tests::containerd::{Containerd, KUBERNETES};
use spotter_tests::kubelet::{Kubelet, Wanted};
use spotter_tests::oci::{self, LINUX_CONFIG};
use spotter_tests::{client, guests, root, stderr};

const UNCHECKED: &str = "docker.io/library/unchecked:1";
const PULLED: &str = "localhost/hello:pulled";

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

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_reads_an_application_that_root_has_pulled() {
    const MANIFEST: &str = r#"
[[trigger.http]]
route = "/..."
component = "hello"
[component.hello]
source = "hello.wasm"
"#;
    let application = Application::new(MANIFEST);
    let made = application.run(&["image", "-o", "hello.tar", "--name", PULLED]);
    assert!(made.status.success(), "{}", stderr(&made));
    let containerd = Containerd::start_without_cache();
    containerd.import(KUBERNETES, &application.folder().join("hello.tar"));
    let kubelet = Kubelet::of(&containerd);
    let wanted = Wanted { name: "hello", image: PULLED, user: 65_532, ..Wanted::default() };
    let (first, _) = kubelet.serve("first", &wanted);
    kubelet.remove_pod(&first);
    let applications = containerd.path("cache/spotter/applications");
    for folder in fs::read_dir(&applications).expect("applications") {
        make_private(&folder.expect("an application").path());
    }
    let (second, _) = kubelet.serve("second", &wanted);
    assert_eq!(client::get(&second.url("/")).status, 200, "{}", kubelet.log(&second));
    kubelet.remove_pod(&second);
    containerd.assert_nothing_left();
}
