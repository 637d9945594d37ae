//! The repository's application as a standalone image, and containers of it under runc and Podman.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::Server;
use crate::{component, root, run, stderr, system};

/// The name that the image has in a store.
pub const IMAGE: &str = "localhost/spotter:standalone";

/// The image with the static binary that `SPOTTER_STATIC_BINARY` names.
pub struct Image {
    pub archive: PathBuf,
    /// Its layers, unpacked one over the other.
    pub root: PathBuf,
    /// Its configuration.
    pub config: Value,
    /// The size of its layers, compressed, in bytes.
    pub compressed: u64,
}

/// Makes the image once.
pub fn image() -> &'static Image {
    static MADE: OnceLock<Image> = OnceLock::new();
    MADE.get_or_init(|| {
        component();
        let binary = std::env::var("SPOTTER_STATIC_BINARY").expect("SPOTTER_STATIC_BINARY");
        // runc refuses a root file system whose path leads over a link, as `target` may be.
        let folder = root().join("target/spotter").canonicalize().expect("a folder");
        let archive = folder.join("standalone.tar");
        let path = archive.to_str().expect("a path").to_owned();
        let arguments =
            ["image", "--standalone", "--binary", &binary, "--name", IMAGE, "-o", &path];
        let written = run(&arguments);
        assert!(written.status.success(), "{}", stderr(&written));
        unpacked(archive)
    })
}

fn unpacked(archive: PathBuf) -> Image {
    let folder = archive.with_extension("unpacked");
    let _ = std::fs::remove_dir_all(&folder);
    let (layout, root) = (folder.join("layout"), folder.join("rootfs"));
    untar(&archive, &layout);
    let json = |path: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
    };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a digest");
        layout.join("blobs").join(digest.replace(':', "/"))
    };
    let manifest = json(&blob(&json(&layout.join("index.json"))["manifests"][0]));
    let layers = manifest["layers"].as_array().expect("layers");
    for layer in layers {
        untar(&blob(layer), &root);
    }
    let compressed = layers.iter().filter_map(|layer| layer["size"].as_u64()).sum();
    Image { config: json(&blob(&manifest["config"])), archive, root, compressed }
}

fn untar(archive: &Path, folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let mut tar = Command::new("tar");
    let done = tar.arg("--no-same-owner").arg("-xpf").arg(archive).arg("-C").arg(folder).status();
    assert!(done.is_ok_and(|status| status.success()), "tar -xpf {}", archive.display());
}

/// A container under runc, in this machine's network. It is removed when it is dropped.
pub struct RuncContainer {
    id: String,
    folder: TempDir,
}

impl RuncContainer {
    /// Starts it, and returns it with runc in the foreground, which passes on its output and exit status. As under
    /// containerd, it gets what the image's configuration says, then these variables, and this much memory, in bytes.
    pub fn start(variables: &[(&str, &str)], memory: u64) -> (Self, Server) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        system::program("runc", "runc");
        let folder = tempfile::tempdir().expect("a folder");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("spotter-test-{}-{number}", std::process::id());
        let bundle = bundle(image(), variables, memory, &id);
        std::fs::write(folder.path().join("config.json"), bundle.to_string()).expect("a bundle");
        let mut command = runc(folder.path());
        command.arg("run").arg("--bundle").arg(folder.path()).arg(&id);
        let container = Self { id, folder };
        (container, Server::spawn(command))
    }

    /// Runs a command in the container.
    pub fn exec(&self, arguments: &[&str]) -> Output {
        let mut command = runc(self.folder.path());
        command.arg("exec").arg(&self.id).args(arguments).output().expect("runc")
    }

    /// Sends a signal to the container's first process.
    pub fn kill(&self, signal: &str) {
        let killed = runc(self.folder.path()).args(["kill", &self.id, signal]).output();
        assert!(killed.is_ok_and(|output| output.status.success()), "runc kill {signal}");
    }

    /// The container's first process.
    pub fn pid(&self) -> u64 {
        let state = runc(self.folder.path()).args(["state", &self.id]).output().expect("runc");
        let state: Value = serde_json::from_slice(&state.stdout).expect("a state");
        state["pid"].as_u64().expect("a process")
    }
}

impl Drop for RuncContainer {
    fn drop(&mut self) {
        let _ = runc(self.folder.path()).args(["delete", "--force", &self.id]).output();
    }
}

fn runc(folder: &Path) -> Command {
    let mut command = Command::new("runc");
    command.arg("--root").arg(folder.join("state"));
    command
}

/// The configuration of a container as a runtime makes it from the image's: read-only, without capabilities
/// (<https://github.com/opencontainers/image-spec/blob/main/conversion.md>).
fn bundle(image: &Image, variables: &[(&str, &str)], memory: u64, id: &str) -> Value {
    let config = &image.config["config"];
    let user = config["User"].as_str().expect("a user");
    let (user, group) = user.split_once(':').expect("a user and a group");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let mut environment = config["Env"].as_array().expect("variables").clone();
    environment.extend(variables.iter().map(|(name, value)| json!(format!("{name}={value}"))));
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": image.root, "readonly": true},
        "process": {
            "user": {"uid": number(user), "gid": number(group)},
            "args": config["Entrypoint"],
            "env": environment,
            "cwd": config["WorkingDir"],
            "noNewPrivileges": true,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "nodev", "noexec", "mode=1777", "size=64m"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "nodev", "noexec", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "nodev", "noexec", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {"memory": {"limit": memory}},
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}],
        },
    })
}

/// Podman with a store of its own, so that nothing is left behind.
pub struct Podman {
    folder: TempDir,
}

impl Podman {
    /// Loads the image.
    pub fn start() -> Self {
        system::program("podman", "podman");
        system::program("runc", "runc");
        let podman = Self { folder: tempfile::tempdir().expect("a folder") };
        let loaded = podman.command(&["load", "--input"]).arg(&image().archive).output();
        let loaded = loaded.expect("podman");
        assert!(loaded.status.success(), "{}", stderr(&loaded));
        podman
    }

    /// A command of Podman's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.folder.path().join("root"));
        command.arg("--runroot").arg(self.folder.path().join("run"));
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"]).args(arguments);
        command
    }

    /// Runs a container of the image in this machine's network, with a root that is read-only and no capabilities.
    pub fn run(&self, name: &str, options: &[&str]) -> Server {
        let mut command = self.command(&["run", "--rm", "--name", name, "--network", "host"]);
        command.args(["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]);
        // Podman's defaults are more than the machines of these tests may set.
        command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        Server::spawn({
            command.args(options).arg(IMAGE);
            command
        })
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "--all", "--force", "--time", "0"]).output();
        // Podman mounts its store onto itself.
        let store = self.folder.path().join("root/overlay");
        let _ = Command::new("umount").arg("-l").arg(store).output();
    }
}
