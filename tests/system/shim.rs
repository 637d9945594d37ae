//! The shim under a real containerd, as `ctr` drives it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use spotter_tests::containerd::{Containerd, SCRATCH, wait_until};
use spotter_tests::network::Network;
use spotter_tests::oci::{self, LINUX_CONFIG, Layer};
use spotter_tests::registry::Registry;
use spotter_tests::{client, component, leftovers, pictures, root, run, slowness, stderr};

/// Whether a pod at this URL finds the cat.
fn finds_the_cat(url: &str) -> bool {
    let reply = client::post_picture(url, &pictures::jpeg(&pictures::cat()));
    let body = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, 200, "{body}");
    body.contains("\"cat\"")
}

/// Waits until a pod answers on its admin listener.
fn wait_until_ready(network: &Network) {
    let url = network.admin_url("/readyz");
    wait_until("the pod is ready", || client::is_ready(&url));
}

/// The first line of the answer that a pod gives to a client in its own network.
fn answer_within(pid: u32, address: &str) -> String {
    let ask = format!(
        r#"exec 3<>"/dev/tcp/{address}/3001"; printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3; head -n 1 <&3"#
    );
    let network = format!("--net=/proc/{pid}/ns/net");
    let asked = std::process::Command::new("nsenter").args([&network, "bash", "-c", &ask]).output();
    String::from_utf8_lossy(&asked.expect("nsenter starts").stdout).trim().to_owned()
}

/// Starts a container of the application, and waits until it answers.
fn serve(containerd: &Containerd, id: &str, network: &Network) {
    let ran = containerd.run(SCRATCH, id, network, &[]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    wait_until_ready(network);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_photograph_posted_into_a_containers_network_comes_back_with_its_detections() {
    let containerd = Containerd::start();
    let network = Network::new(0);
    let ran = containerd.run(SCRATCH, "spotter-test-1", &network, &["SPOTTER_INSTANCES=1"]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    wait_until_ready(&network);
    assert!(
        finds_the_cat(&network.url("/detect")),
        "{}",
        containerd.container_log("spotter-test-1")
    );
    let metrics = client::get(&network.admin_url("/metrics"));
    assert!(String::from_utf8_lossy(&metrics.body).contains("label=\"cat\""));
    let log = containerd.container_log("spotter-test-1");
    assert!(log.contains("Serving http://[::]:80") && log.contains("\"status\":200"), "{log}");
    let pid = containerd.pid("spotter-test-1").expect("a process");
    for address in ["127.0.0.1", "::1"] {
        assert_eq!(answer_within(pid, address), "HTTP/1.0 200 OK", "{address}");
    }
    // As the first process of its namespace, it would ignore the signal without a handler.
    let began = Instant::now();
    assert_eq!(containerd.stop("spotter-test-1", "SIGTERM"), 0);
    assert!(began.elapsed() < slowness::allow(Duration::from_secs(3)), "{:?}", began.elapsed());
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_container_that_is_killed_says_so_and_leaves_nothing() {
    let containerd = Containerd::start();
    let network = Network::new(0);
    serve(&containerd, "spotter-test-1", &network);
    let answered = under_load(&network, || {
        assert_eq!(containerd.stop("spotter-test-1", "SIGKILL"), 128 + 9);
    });
    assert!(
        answered.iter().all(|status| status.is_none_or(|status| status == 200)),
        "{answered:?}"
    );
    containerd.assert_nothing_left();
    // The next container starts.
    serve(&containerd, "spotter-test-1", &network);
    assert_eq!(containerd.stop("spotter-test-1", "SIGTERM"), 0);
    containerd.assert_nothing_left();
}

/// An image with one component, in the form of the OCI artifact for WebAssembly.
fn artifact(path: &std::path::Path, name: &str, layers: &[Layer]) {
    let digests: Vec<String> = layers.iter().map(|(_, bytes)| oci::digest(bytes)).collect();
    let config = json!({"architecture": "wasm", "os": "wasip2", "layerDigests": digests});
    oci::archive(path, name, &config, "application/vnd.wasm.config.v0+json", layers);
}

/// The application as `spin registry push` packs it.
fn spin_application(path: &std::path::Path, name: &str, component: Vec<u8>) {
    let locked = json!({
        "spin_lock_version": 1,
        "metadata": {"name": "detect"},
        "triggers": [{
            "id": "trigger--detect",
            "trigger_type": "http",
            "trigger_config": {"component": "detect", "route": "/..."},
        }],
        "components": [{
            "id": "detect",
            "source": {"content_type": "application/wasm", "digest": oci::digest(&component)},
        }],
    });
    let config = json!({"architecture": "wasm", "os": "wasip1", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
    let layers =
        [(oci::SPIN_WASM, component), (oci::SPIN_APPLICATION, locked.to_string().into_bytes())];
    oci::archive(path, name, &config, LINUX_CONFIG, &layers);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn layers_of_webassembly_are_read_from_containerds_content_store() {
    let containerd = Containerd::start();
    let component = std::fs::read(component()).expect("the component");
    let archive = containerd.path("image.tar");
    // containerd 1.6.20 cannot unpack such layers; the shim does not need it to.
    let images = ["docker.io/library/detect:artifact", "docker.io/library/detect:spin"];
    artifact(&archive, images[0], &[(oci::WASM, component.clone())]);
    containerd.import_packed(&archive);
    spin_application(&archive, images[1], component);
    containerd.import_packed(&archive);
    for (number, image) in (1..).zip(images) {
        let network = Network::new(number);
        let id = format!("spotter-test-{number}");
        containerd.run_unpacked(image, &id, &network, &["/"]).expect("a container");
        wait_until_ready(&network);
        assert!(finds_the_cat(&network.url("/detect")), "{image}");
        assert_eq!(containerd.stop(&id, "SIGTERM"), 0);
    }
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_layer_that_is_cut_short_on_the_node_is_refused() {
    let containerd = Containerd::start();
    let network = Network::new(0);
    // A separate image, so that no earlier test has left it unpacked.
    let mut component = std::fs::read(component()).expect("the component");
    component.extend_from_slice(b"\0\x04\x03cut");
    let (archive, image) = (containerd.path("image.tar"), "docker.io/library/detect:cut");
    artifact(&archive, image, &[(oci::WASM, component.clone())]);
    containerd.import_packed(&archive);
    let digest = oci::digest(&component);
    let blobs = containerd.path("root/io.containerd.content.v1.content/blobs");
    let blob = std::fs::File::options().write(true).open(blobs.join(digest.replace(':', "/")));
    blob.expect("the layer").set_len(1 << 20).expect("a cut");
    let refused = containerd.run_unpacked(image, "spotter-test-cut", &network, &["/"]);
    let said = refused.expect_err("a refusal");
    assert!(said.contains(&digest) && said.contains("pull the image again"), "{said}");
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_is_pushed_is_pulled_and_runs() {
    let containerd = Containerd::start();
    let registry = Registry::start(None);
    let reference = registry.reference("team/detect:1");
    let pushed = run(&["push", &reference]);
    assert!(pushed.status.success(), "{}", stderr(&pushed));
    let fetched = containerd.ctr(&["content", "fetch", "--plain-http", &reference]);
    assert!(fetched.status.success(), "{}", stderr(&fetched));
    let network = Network::new(0);
    containerd.run_unpacked(&reference, "spotter-test-1", &network, &["/"]).expect("a container");
    wait_until_ready(&network);
    assert!(finds_the_cat(&network.url("/detect")));
    assert_eq!(containerd.stop("spotter-test-1", "SIGTERM"), 0);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_bad_image_is_refused_when_it_is_created_and_the_error_says_why() {
    let containerd = Containerd::start();
    let network = Network::new(0);
    let archive = containerd.path("image.tar");
    let empty = b"\0asm\x01\0\0\0";
    let whole = std::fs::read(component()).expect("the component");
    let cut = whole[..whole.len() / 2].to_vec();
    let manifest = std::fs::read(root().join("spin.toml")).expect("a manifest");
    let scratch = |files: &[(&str, u32, &[u8])]| {
        let layer = oci::tar(files);
        let config = oci::linux_config(&["/spin.toml"], &layer);
        oci::archive(
            &archive,
            "docker.io/library/bad:1",
            &config,
            LINUX_CONFIG,
            &[(oci::TAR, layer)],
        );
        let archive = archive.to_str().expect("a path");
        containerd.ctr(&["images", "import", archive]);
        let refused = containerd.run("docker.io/library/bad:1", "spotter-test-bad", &network, &[]);
        containerd.ctr(&["containers", "delete", "spotter-test-bad"]);
        containerd.ctr(&["images", "delete", "--sync", "docker.io/library/bad:1"]);
        assert!(!refused.status.success());
        stderr(&refused)
    };
    let path = "target/spotter/detector.wasm";
    let imports = wat_component_with_a_foreign_import();
    for (files, reason) in [
        (vec![("other.txt", b"text".as_slice())], "the image does not contain /spin.toml"),
        (vec![("spin.toml", b"spin_manifest_version = 7")], "spin_manifest_version"),
        (vec![("spin.toml", &manifest)], "the image does not contain /detector.wasm"),
        (
            vec![("spin.toml", &manifest), (path, empty)],
            "exports neither wasi:http/incoming-handler",
        ),
        (vec![("spin.toml", &manifest), (path, &cut)], "detector"),
        (vec![("spin.toml", &manifest), (path, &imports)], "other:host/thing"),
    ] {
        let files: Vec<_> = files.into_iter().map(|(name, bytes)| (name, 0o644, bytes)).collect();
        let said = scratch(&files);
        assert!(said.contains(reason), "{said} lacks {reason}");
    }
    containerd.assert_nothing_left();
}

/// A component that would answer HTTP if it had no import that the host does not provide.
fn wat_component_with_a_foreign_import() -> Vec<u8> {
    wat::parse_str(
        r#"(component
            (import "other:host/thing" (instance))
            (instance $empty)
            (export "wasi:http/incoming-handler@0.2.0" (instance $empty))
        )"#,
    )
    .expect("a component")
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_shim_that_is_killed_is_cleaned_up_after() {
    let containerd = Containerd::start();
    let network = Network::new(0);
    serve(&containerd, "spotter-test-1", &network);
    let (shim, pid) =
        (containerd.shim("spotter-test-1").expect("a shim"), containerd.pid("spotter-test-1"));
    under_load(&network, || {
        kill(shim);
        wait_until("containerd notices", || containerd.pid("spotter-test-1").is_none());
    });
    containerd.ctr(&["tasks", "delete", "--force", "spotter-test-1"]);
    containerd.ctr(&["containers", "delete", "spotter-test-1"]);
    let pid = pid.expect("a process");
    wait_until("its container ends", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_shim_that_died_while_containerd_was_away_does_not_keep_it_from_starting() {
    let mut containerd = Containerd::start();
    let network = Network::new(0);
    serve(&containerd, "spotter-test-2", &network);
    let shim = containerd.shim("spotter-test-2").expect("a shim");
    containerd.kill();
    kill(shim);
    // containerd asks the shim to delete what is left, and must not wait for it forever.
    containerd.launch();
    containerd.ctr(&["tasks", "delete", "--force", "spotter-test-2"]);
    containerd.ctr(&["containers", "delete", "spotter-test-2"]);
    containerd.assert_nothing_left();
    let network = Network::new(1);
    serve(&containerd, "spotter-test-3", &network);
    assert!(finds_the_cat(&network.url("/detect")));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn containers_go_on_while_containerd_is_away() {
    let mut containerd = Containerd::start();
    let network = Network::new(0);
    serve(&containerd, "spotter-test-1", &network);
    let answered = under_load(&network, || {
        containerd.kill();
        std::thread::sleep(Duration::from_millis(500));
        containerd.launch();
    });
    assert!(answered.iter().all(|status| *status == Some(200)), "{answered:?}");
    assert!(containerd.pid("spotter-test-1").is_some());
    assert!(finds_the_cat(&network.url("/detect")));
    assert_eq!(containerd.stop("spotter-test-1", "SIGTERM"), 0);
    containerd.assert_nothing_left();
}

/// The results of two clients that post pictures while `what` runs.
fn under_load(network: &Network, what: impl FnOnce()) -> Vec<Option<u16>> {
    let (is_done, answered) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let (url, picture) = (network.url("/detect"), pictures::bytes("skimage_chelsea.png"));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    let reply = client::try_send("POST", &url, &[], &picture);
                    let status = reply.ok().map(|reply| reply.status);
                    answered.lock().expect("a list").push(status);
                    if status.is_none() {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            });
        }
        wait_until("load", || answered.lock().expect("a list").len() > 4);
        what();
        is_done.store(true, Ordering::SeqCst);
    });
    answered.into_inner().expect("a list")
}

pub(crate) fn kill(pid: u32) {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()), "kill -9 {pid}");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_image_that_lacks_its_runtime_class_says_so() {
    let containerd = Containerd::start();
    let run = ["run", "--rm", "--runtime", "io.containerd.runc.v2", SCRATCH, "plain"];
    let refused = containerd.ctr(&run);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("needs-runtimeClassName-spotter"), "{said}");
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn no_process_of_a_pod_leads_to_a_shim_that_can_be_overwritten() {
    let containerd = Containerd::start();
    let network = Network::new(0);
    serve(&containerd, "spotter-test-1", &network);
    let folder = containerd.path("").display().to_string();
    let shims = leftovers::processes().into_iter();
    let shims = shims
        .filter(|(_, line)| line.contains("containerd-shim-spotter-v1") && line.contains(&folder));
    let mut processes: Vec<u32> = shims.map(|(pid, _)| pid).collect();
    processes.extend(containerd.pid("spotter-test-1"));
    assert!(processes.len() > 2, "{processes:?}");
    let before = std::fs::metadata(containerd.path("bin/containerd-shim-spotter-v1"));
    let before = before.expect("a shim").len();
    for pid in processes {
        // Whether the file can be written is checked before whether it runs, if it would be truncated.
        let opened = std::fs::File::create(format!("/proc/{pid}/exe"));
        let refused = opened.expect_err("a refusal");
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{pid}: {refused}");
    }
    let after = std::fs::metadata(containerd.path("bin/containerd-shim-spotter-v1"));
    assert_eq!(after.expect("a shim").len(), before);
    assert_eq!(containerd.stop("spotter-test-1", "SIGTERM"), 0);
    containerd.assert_nothing_left();
}
