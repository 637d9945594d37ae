//! A pod's configuration: resolved once, from the container's arguments and environment, and checked before it runs.

use std::path::Path;

use spotter_tests::client;
use spotter_tests::containerd::{Containerd, KUBERNETES};
use spotter_tests::kubelet::{Kubelet, Wanted};
use spotter_tests::oci::{self, LINUX_CONFIG};

const IMAGE: &str = "docker.io/library/says:1";

/// An application whose component says which of two files it is.
const MANIFEST: &str = r#"
spin_manifest_version = 2
[application]
name = "says"
[variables]
greeting = { default = "hello" }
[[trigger.http]]
route = "/..."
component = "says"
executor = { type = "wagi" }
[component.says]
source = "usual.wasm"
[component.says.profile.other]
source = "other.wasm"
"#;

/// A command that answers with this text.
fn says(text: &str) -> Vec<u8> {
    let reply = format!("Content-Type: text/plain\n\n{text}");
    let module = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 64) {reply:?})
            (data (i32.const 0) "\40\00\00\00\{length:02x}\00\00\00")
            (func (export "_start")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#,
        length = reply.len()
    );
    wat::parse_str(module).expect("a module")
}

/// Imports an image of these files, and of the two components.
fn import(containerd: &Containerd, name: &str, arguments: &[&str], files: &[(&str, &str)]) {
    let (usual, other) = (says("usual"), says("other"));
    let mut all: Vec<(&str, u32, &[u8])> =
        vec![("usual.wasm", 0o644, &usual), ("other.wasm", 0o644, &other)];
    all.extend(files.iter().map(|(name, text)| (*name, 0o644, text.as_bytes())));
    let (archive, layer) = (containerd.path("image.tar"), oci::tar(&all));
    let config = oci::linux_config(arguments, &layer);
    oci::archive(&archive, name, &config, LINUX_CONFIG, &[(oci::TAR, layer)]);
    containerd.import(KUBERNETES, &archive);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pods_environment_selects_the_profile_that_is_compiled_and_served() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    import(&containerd, IMAGE, &["/spin.toml"], &[("spin.toml", MANIFEST)]);
    for (name, environment, expected) in
        [("plain", &[][..], "usual"), ("profile", &[("SPIN_PROFILE", "other")], "other")]
    {
        let wanted = Wanted { name: "detect", image: IMAGE, environment, ..Wanted::default() };
        let (pod, _) = kubelet.serve(name, &wanted);
        let reply = client::get(&pod.url("/"));
        assert_eq!(String::from_utf8_lossy(&reply.body), expected, "{}", kubelet.log(&pod));
        kubelet.remove_pod(&pod);
    }
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_is_wrong_with_a_pods_configuration_is_said_before_it_runs() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("wrong");
    let files = [("spin.toml", MANIFEST), ("host.toml", "[limits]\nbody_sise = \"1MiB\"\n")];
    import(&containerd, IMAGE, &["/spin.toml"], &files);
    // The first line of a file of the node must not show up in an error.
    std::fs::write(containerd.path("good.toml"), "[limits]\ninstances = 0\n").expect("a file");
    let (volume, manifest) = (containerd.path("good.toml"), containerd.path("other-spin.toml"));
    std::fs::write(&manifest, MANIFEST.replace("usual.wasm", "other.wasm")).expect("a file");
    let refused = |environment: &[(&str, &str)], volumes: &[(&Path, &str)]| {
        let wanted =
            Wanted { name: "wrong", image: IMAGE, environment, volumes, ..Wanted::default() };
        let container = kubelet.create(&pod, &wanted).expect("a container");
        let said = kubelet.start(&container).expect_err("a refusal");
        kubelet.remove(&container);
        said
    };
    for (name, value, reason) in [
        ("SPOTTER_INSTANCES", "none", "invalid value 'none'"),
        ("SPOTTER_BODY_SIZE", "0", "`body_size` is 0"),
        ("SPIN_PROFILE", "othre", "did you mean `other`?"),
        ("RUNTIME_CONFIG_FILE", "/host.toml", "did you mean `body_size`?"),
        ("RUNTIME_CONFIG_FILE", "/missing.toml", "the image does not contain /missing.toml"),
    ] {
        let said = refused(&[(name, value)], &[]);
        assert!(said.contains(reason), "{said} lacks {reason}");
    }
    let said =
        refused(&[("RUNTIME_CONFIG_FILE", "/etc/host.toml")], &[(&volume, "/etc/host.toml")]);
    assert!(said.contains("`instances` is 0"), "{said}");
    let said = refused(&[], &[(&manifest, "/spin.toml")]);
    assert!(said.contains("the volume at /spin.toml hides"), "{said}");
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_gets_files_of_its_image_however_large_they_are() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let large = "x".repeat(100 << 20);
    // A folder that is used in place takes no space, unless the component may change its files.
    let folder = r#"{ source = "folder", destination = "/" }"#;
    for (name, files, path, args) in [
        ("large", "\"large*\"", "large.txt", &["/spin.toml"] as &[&str]),
        ("changed", folder, "folder/large.txt", &["/spin.toml", "--allow-transient-write"]),
    ] {
        let source = "source = \"usual.wasm\"";
        let manifest = MANIFEST.replace(source, &format!("{source}\nfiles = [{files}]"));
        let image = format!("docker.io/library/{name}:1");
        import(&containerd, &image, args, &[("spin.toml", &manifest), (path, &large)]);
        let wanted = Wanted { name: "detect", image: &image, ..Wanted::default() };
        let (pod, _) = kubelet.serve(name, &wanted);
        assert_eq!(client::get(&pod.url("/")).body, b"usual", "{}", kubelet.log(&pod));
        kubelet.remove_pod(&pod);
    }
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_dependency_cannot_be_a_file_of_the_node() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("leads-out");
    for (number, path) in ["/dev/zero", "../../../../../../../../../etc/passwd"].iter().enumerate()
    {
        let name = format!("docker.io/library/leads-out:{number}");
        let manifest = format!(
            "{MANIFEST}\n[component.says.dependencies]\n\"a:b/c\" = {{ path = {path:?} }}\n"
        );
        // The profile's table is the last one.
        let manifest =
            manifest.replace("[component.says.profile.other]\nsource = \"other.wasm\"", "");
        import(&containerd, &name, &["/spin.toml"], &[("spin.toml", &manifest)]);
        let wanted = Wanted { name: "leads-out", image: &name, ..Wanted::default() };
        let container = kubelet.create(&pod, &wanted).expect("a container");
        let said = kubelet.start(&container).expect_err("a refusal");
        assert!(said.contains("leads outside the image"), "{said}");
        kubelet.remove(&container);
    }
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}
