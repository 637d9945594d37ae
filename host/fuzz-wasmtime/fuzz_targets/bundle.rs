//! Any text as the `config.json` of a container whose image has an application: refused or planned. A plan survives the
//! way to the process that runs it, mounts nothing over itself, and the configuration can be read again.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use containerd_shim_spotter::container_log::ContainerLog;
use containerd_shim_spotter::plan::{Plan, Program};
use containerd_shim_spotter::request::ContainerRequest;
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use tempfile::TempDir;

const MANIFEST: &str = r#"
spin_manifest_version = 2
[application]
name = "fuzz"
[variables]
word = { default = "good" }
[[trigger.http]]
route = "/..."
component = "a"
executor = { type = "wagi" }
[component.a]
source = "a.wasm"
files = [{ source = "files", destination = "/" }]
[component.a.variables]
word = "{{ word }}"
[component.a.profile.fast]
source = "b.wasm"
"#;

struct Node {
    bundle: PathBuf,
    cgroups: PathBuf,
    _folders: [TempDir; 2],
}

static NODE: OnceLock<Node> = OnceLock::new();

fuzz_target!(
    init: {
        NODE.get_or_init(Node::new);
    },
    |text: &[u8]| {
        let Node { bundle, cgroups, .. } = NODE.get_or_init(Node::new);
        let file = bundle.join("config.json");
        std::fs::write(&file, text).expect("a file");
        let request = ContainerRequest {
            id: "c".to_owned(),
            namespace: "k8s.io".to_owned(),
            containerd: String::new(),
            bundle: bundle.clone(),
            stdin: String::new(),
            stdout: String::new(),
            stderr: String::new(),
        };
        let planned = Plan::for_bundle(&request, None, cgroups, &mut ContainerLog::new(""));
        let Ok((plan, _)) = planned else { return };
        let spec = Spec::load(&file).expect("the configuration is still one");
        let text = serde_json::to_string(&plan).expect("a plan in JSON");
        let again: Plan = serde_json::from_str(&text).expect("a plan");
        assert_eq!(serde_json::to_string(&again).expect("a plan in JSON"), text);
        let Program::Application(application) = plan.program else { return };
        assert!(application.manifest.is_absolute(), "{}", application.manifest.display());
        let mounts = spec.mounts().clone().unwrap_or_default();
        for component in application.compiled.values() {
            let is_mounted = |path: &Path| mounts.iter().any(|m| path.starts_with(m.destination()));
            assert!(component.source.is_absolute() && !is_mounted(&component.source));
            assert!(is_mounted(&component.code));
        }
    }
);

impl Node {
    fn new() -> Self {
        let cache = spotter_fuzz_wasmtime::use_own_cache();
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a folder");
        let at = |path: &str| folder.path().join(path);
        for path in [
            "bundle/rootfs/files",
            "bundle/rootfs/etc",
            "cgroups/memory/kubepods/pod1",
            "cgroups/cpu/kubepods/pod1",
        ] {
            std::fs::create_dir_all(at(path)).expect("a folder");
        }
        let program =
            wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))");
        let program = program.expect("a module");
        for (path, content) in [
            ("bundle/rootfs/spin.toml", MANIFEST.as_bytes()),
            ("bundle/rootfs/a.wasm", &program),
            ("bundle/rootfs/b.wasm", &program),
            ("bundle/rootfs/files/one.txt", b"one"),
            ("bundle/rootfs/etc/host.toml", b"[limits]\ninstances = 2\n"),
            ("cgroups/memory/cgroup.procs", b""),
            ("cgroups/memory/kubepods/pod1/cgroup.procs", b""),
            ("cgroups/memory/kubepods/pod1/memory.limit_in_bytes", b"1073741824\n"),
            ("cgroups/cpu/cgroup.procs", b""),
            ("cgroups/cpu/kubepods/pod1/cgroup.procs", b""),
        ] {
            std::fs::write(at(path), content).expect("a file");
        }
        std::os::unix::fs::symlink("/etc/passwd", at("bundle/rootfs/out.toml")).expect("a link");
        Self { bundle: at("bundle"), cgroups: at("cgroups"), _folders: [cache, folder] }
    }
}
