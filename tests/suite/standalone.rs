//! `spotter image --standalone`: what is in the image, without a container runtime.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use spotter_tests::home::{assert_ran, command_in, run_in};
use spotter_tests::server::Server;
use spotter_tests::{client, elf, guests, stderr, stdout};
use tempfile::TempDir;

/// Makes an image of the hello component with binaries for both platforms, one of which carries a detector.
fn make(folder: &TempDir, name: &str, arguments: &[&str]) -> Output {
    guests();
    let arm64 = elf::carrying(&elf::arm64(), b"\0asm component", b"\0asm module");
    for (name, bytes) in [("amd64", elf::amd64()), ("arm64", arm64)] {
        fs::write(folder.path().join(name), bytes).expect("a file");
    }
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (amd64, arm64) =
        (format!("linux/amd64={}", at("amd64")), format!("linux/arm64={}", at("arm64")));
    let output = at(name);
    let mut all = vec!["image", "--standalone", "-f", "tests/guests", "-o", &output];
    all.extend(["--binary", &amd64, "--binary", &arm64]);
    all.extend(arguments);
    run_in(folder.path(), &all)
}

/// An OCI layout, unpacked.
struct Layout(PathBuf);

impl Layout {
    fn of(folder: &TempDir, archive: &str) -> Self {
        let layout = folder.path().join(format!("{archive}.layout"));
        untar(&folder.path().join(archive), &layout);
        Self(layout)
    }

    fn blob(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().expect("a digest");
        self.0.join("blobs").join(digest.replace(':', "/"))
    }

    fn json(&self, descriptor: &Value) -> Value {
        json_in(&self.blob(descriptor))
    }

    fn top(&self) -> Value {
        json_in(&self.0.join("index.json"))["manifests"][0].clone()
    }

    /// The manifest for an architecture.
    fn manifest(&self, architecture: &str) -> Value {
        let index = self.json(&self.top());
        let entries = index["manifests"].as_array().expect("an index").iter();
        let entry = entries.clone().find(|entry| {
            entry["platform"] == json!({"os": "linux", "architecture": architecture})
        });
        self.json(entry.unwrap_or_else(|| panic!("{index}")))
    }
}

fn json_in(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

fn untar(archive: &Path, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(folder).status();
    assert!(status.is_ok_and(|status| status.success()), "tar -xf {}", archive.display());
}

const NATIVE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

#[test]
fn a_standalone_image_has_a_variant_for_each_binary_and_no_root() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = make(&folder, "one.tar", &[]);
    assert_ran(&made);
    assert_ran(&make(&folder, "two.tar", &[]));
    let read = |name: &str| fs::read(folder.path().join(name)).expect("an archive");
    assert_eq!(read("one.tar"), read("two.tar"), "the image is not reproducible");
    let layout = Layout::of(&folder, "one.tar");
    assert_eq!(layout.top()["digest"], stdout(&made).trim());
    for architecture in ["amd64", "arm64"] {
        let manifest = layout.manifest(architecture);
        let image = layout.json(&manifest["config"]);
        assert_eq!(image["architecture"], architecture);
        assert_eq!(image["config"]["User"], "65532:65532");
        assert_eq!(image["config"]["Entrypoint"], json!(["/spotter", "up"]));
        assert_eq!(image["config"]["Healthcheck"]["Test"], json!(["CMD", "/spotter", "health"]));
        let labels = &image["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.title"], "guests");
        assert_eq!(*labels, manifest["annotations"]);
        let layers = manifest["layers"].as_array().expect("layers");
        assert_eq!(image["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(layers.len()));
        // Only this machine's architecture has compiled code.
        assert_eq!(layers.len(), if architecture == NATIVE { 3 } else { 2 });
        let root = folder.path().join(format!("root-{architecture}"));
        untar(&layout.blob(&layers[0]), &root);
        let own = if architecture == "amd64" { elf::amd64() } else { elf::arm64() };
        assert_eq!(fs::read(root.join("spotter")).expect("the binary"), own);
        assert!(root.join("var/lib/spotter").is_dir());
    }
}

#[test]
fn the_user_of_a_standalone_image_owns_the_folder_of_the_state() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_ran(&make(&folder, "image.tar", &[]));
    let layout = Layout::of(&folder, "image.tar");
    let layer = layout.blob(&layout.manifest(NATIVE)["layers"][0]);
    let listing = Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(layer).output();
    let listing = stdout(&listing.expect("tar runs"));
    let state = listing.lines().find(|line| line.ends_with(" var/lib/spotter"));
    let state = state.unwrap_or_else(|| panic!("{listing}"));
    assert!(state.starts_with("drwxr-xr-x 65532/65532 "), "{state}");
}

#[test]
fn code_that_came_with_the_image_is_used_without_a_cache_and_compiled_again_if_it_does_not_fit() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_ran(&make(&folder, "image.tar", &["--cpu-level", "x86-64-v2"]));
    let layout = Layout::of(&folder, "image.tar");
    let root = folder.path().join("root");
    for layer in &layout.manifest(NATIVE)["layers"].as_array().expect("layers")[1..] {
        untar(&layout.blob(layer), &root);
    }
    let compiled = root.join("app/compiled");
    let up = || {
        let mut command = command_in(folder.path());
        // A cache can be written nowhere, as with a read-only root.
        command.env("XDG_CACHE_HOME", "/proc/none").env("SPOTTER_COMPILED", &compiled);
        command.arg("up").arg("-f").arg(root.join("app")).args(["--listen", "127.0.0.1:0"]);
        command.arg("--state-dir").arg(folder.path().join("state"));
        command
    };
    let server = Server::spawn(up());
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
    assert!(!server.log().contains("compiling"), "{}", server.log());
    drop(server);
    for entry in fs::read_dir(&compiled).expect("compiled code").flatten() {
        fs::write(entry.path(), "for another processor").expect("a file");
    }
    let server = Server::spawn(up());
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
    server.wait_for_log("does not fit this machine");
    drop(server);
    // Code that others can change is not run.
    fs::set_permissions(&compiled, Permissions::from_mode(0o777)).expect("permissions");
    let refused = up().output().expect("spotter starts");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("cannot be trusted"), "{}", stderr(&refused));
}

#[test]
fn a_binary_that_the_image_could_not_run_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |arguments: &[&str], reason: &str| {
        let output = make(&folder, "none.tar", arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    };
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(folder.path().join("script"), "#!/bin/sh\n").expect("a file");
    let shell = fs::canonicalize("/bin/sh").expect("a shell").display().to_string();
    refused(&["--binary", &shell], "needs shared libraries");
    refused(&["--binary", &at("script")], "is not a program for Linux");
    refused(&["--binary", &at("amd64")], "second binary for linux/amd64");
    let swapped = format!("linux/amd64={}", at("arm64"));
    refused(&["--binary", &swapped], "is a binary for linux/arm64, not for linux/amd64");
    let unknown = make(&folder, "none.tar", &["--binary", "linux/s390x=a"]);
    assert_eq!(unknown.status.code(), Some(64), "{}", stderr(&unknown));
    let alone = run_in(folder.path(), &["image", "-o", "a.tar", "--binary", "a"]);
    assert_eq!(alone.status.code(), Some(64), "{}", stderr(&alone));
}

#[test]
fn health_says_whether_the_server_is_ready() {
    let server = Server::guests(&[]);
    let admin = server.admin_url("");
    let admin = admin.trim_start_matches("http://");
    let health = |variable: Option<&str>| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = command_in(folder.path());
        command.arg("health").env_remove("SPOTTER_ADMIN");
        command.envs(variable.map(|address| ("SPOTTER_ADMIN", address)));
        command.output().expect("spotter starts")
    };
    let ready = health(Some(admin));
    assert_eq!((ready.status.code(), stdout(&ready).as_str()), (Some(0), "ready\n"));
    // An address that a server listens on is not one that a client connects to.
    let port = admin.rsplit_once(':').expect("a port").1;
    assert_eq!(health(Some(&format!("0.0.0.0:{port}"))).status.code(), Some(0));
    drop(server);
    let gone = health(Some(admin));
    assert_eq!(gone.status.code(), Some(1));
    assert!(stderr(&gone).contains("no answer from the admin listener"), "{}", stderr(&gone));
    assert_eq!(health(None).status.code(), Some(64));
}

#[test]
fn a_shim_is_in_the_image_of_its_platform_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let (amd64, other) = (folder.path().join("amd64"), folder.path().join("riscv"));
    let shim = amd64.display().to_string();
    assert_ran(&make(&folder, "shim.tar", &["--shim", &shim]));
    let layout = Layout::of(&folder, "shim.tar");
    for (architecture, is_there) in [("amd64", true), ("arm64", false)] {
        let root = folder.path().join(architecture.to_owned() + ".root");
        for layer in layout.manifest(architecture)["layers"].as_array().expect("layers") {
            untar(&layout.blob(layer), &root);
        }
        let shim = root.join("containerd-shim-spotter-v1");
        assert_eq!(shim.exists(), is_there, "{architecture}");
        if is_there {
            assert_eq!(fs::read(&shim).expect("a file"), elf::amd64());
            let mode = fs::metadata(&shim).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
        }
    }
    fs::write(&other, "#!/bin/sh").expect("a file");
    let refused = make(&folder, "other.tar", &["--shim", &other.display().to_string()]);
    assert!(stderr(&refused).contains("is not a program for Linux"), "{}", stderr(&refused));
}
