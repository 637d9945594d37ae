//! A containerd for one test, with the shim on its path. Dropping it removes everything that it has started.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::containerd_config::Config;
use crate::{component, leftovers, oci, slowness, stderr, stdout, system};

/// The namespaces that `ctr` and Kubernetes use.
pub const DEFAULT: &str = "default";
pub const KUBERNETES: &str = "k8s.io";

/// The application's image, which is `FROM scratch`.
pub const SCRATCH: &str = "docker.io/library/detect:scratch";
/// The image of a pod's sandbox, which holds its namespaces and runs a Linux program.
pub const PAUSE: &str = "docker.io/library/pause:test";

/// Whether a containerd has the shim when it starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shim {
    Installed,
    Missing,
}

/// Restarts containerd as an init system does. While there is a file `refuse`, it does not start with the runtime.
const RESTART: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
pid=$(cat containerd.pid)
kill "$pid"
while [ -e "/proc/$pid" ] && ! grep -q "^State:.Z" "/proc/$pid/status"; do sleep 0.05; done
if [ -e refuse ] && grep -q spotter.v1 config.toml; then
    echo "containerd does not start today" >&2
    exit 1
fi
PATH="$PWD/bin:$PATH" setsid containerd -c "$PWD/config.toml" </dev/null >/dev/null 2>>containerd.log &
echo $! >containerd.pid
"#;

/// A running containerd.
pub struct Containerd {
    process: Option<Child>,
    folder: TempDir,
    /// The folder of its shims' caches, if not the user's.
    cache: Option<PathBuf>,
    /// What an interrupted earlier run has left behind.
    before: Vec<String>,
    /// Only one test at a time uses containers, so that nothing still in use is taken for a leftover.
    _alone: MutexGuard<'static, ()>,
}

/// Waits until no other test of this process uses containers.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Containerd {
    /// Starts containerd and imports the application's image, in both namespaces, and the sandbox's.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start_in(folder, None, Shim::Installed)
    }

    /// The same without the shim, as on a node before the installation.
    pub fn start_without_shim() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start_in(folder, None, Shim::Missing)
    }

    /// The same, as on a node that has compiled nothing yet.
    pub fn start_without_cache() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("cache");
        std::fs::create_dir(&cache).expect("a folder");
        Self::start_in(folder, Some(cache), Shim::Installed)
    }

    fn start_in(folder: TempDir, cache: Option<PathBuf>, shim: Shim) -> Self {
        for (program, package) in
            [("containerd", "containerd"), ("runc", "runc"), ("ip", "iproute2")]
        {
            system::program(program, package);
        }
        let alone = alone();
        let mut containerd =
            Self { process: None, folder, cache, before: leftovers::shared(), _alone: alone };
        std::fs::write(containerd.path("config.toml"), containerd.configuration()).expect("a file");
        if shim == Shim::Installed {
            containerd.install();
        }
        containerd.network();
        containerd.launch();
        for namespace in [DEFAULT, KUBERNETES] {
            containerd.import(namespace, scratch_image());
        }
        containerd.import(KUBERNETES, &oci::pause(&containerd.path("pause.tar"), PAUSE));
        containerd
    }

    fn configuration(&self) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        Config {
            root: at("root"),
            state: at("state"),
            socket: at("containerd.sock"),
            cni: at("cni"),
            pause: PAUSE,
        }
        .text()
    }

    /// Installs the shim and its runtime with the command in k8s/README.md.
    fn install(&self) {
        let (config, folder) = (self.path("config.toml"), self.path("bin"));
        let (config, folder) = (config.to_str().expect("a path"), folder.to_str().expect("a path"));
        let arguments = ["shim", "install", "--containerd-config", config, "--bin-dir", folder];
        let installed = crate::run(&arguments);
        assert!(installed.status.success(), "{}", stderr(&installed));
    }

    /// Configures a bridge for pods, with a name and a network that belong to this process.
    fn network(&self) {
        if !Path::new("/usr/lib/cni/bridge").exists() {
            system::install("containernetworking-plugins");
        }
        let number = std::process::id() % 200;
        let folder = self.path("cni");
        std::fs::create_dir_all(&folder).expect("a folder");
        let configuration = json!({
            "cniVersion": "0.4.0",
            "name": "spotter",
            "plugins": [{
                "type": "bridge",
                "bridge": self.bridge(),
                "isGateway": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.path("addresses"),
                    "ranges": [[{"subnet": format!("10.{}.0.0/16", 50 + number)}]],
                },
            }],
        });
        std::fs::write(folder.join("10-spotter.conflist"), configuration.to_string())
            .expect("a file");
    }

    fn bridge(&self) -> String {
        format!("spt{}", std::process::id() % 100_000)
    }

    /// Starts the process, also after it was killed, and waits until it answers.
    pub fn launch(&mut self) {
        let path = std::env::var("PATH").unwrap_or_default();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("containerd.log"))
            .expect("a log");
        let process = Command::new("containerd")
            .arg("-c")
            .arg(self.path("config.toml"))
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .envs(self.cache.iter().map(|folder| ("XDG_CACHE_HOME", folder)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let process = process.expect("containerd starts");
        std::fs::write(self.path("containerd.pid"), process.id().to_string()).expect("a file");
        self.process = Some(process);
        wait_until("containerd answers", || self.ctr(&["version"]).status.success());
    }

    /// A program that restarts it.
    pub fn restart_program(&self) -> PathBuf {
        let program = self.path("restart");
        std::fs::write(&program, RESTART).expect("a file");
        let permissions = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, permissions).expect("permissions");
        program
    }

    /// The process that runs now, also after [`restart_program`](Self::restart_program) ran.
    pub fn process_id(&self) -> u32 {
        let text = std::fs::read_to_string(self.path("containerd.pid")).expect("a file");
        text.trim().parse().expect("a number")
    }

    /// Kills the process as the system would. Its containers keep running.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.path("containerd.sock")
    }

    /// A path in this containerd's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("containerd.log")).unwrap_or_default()
    }

    /// Runs `ctr` in the default namespace. It may fail.
    pub fn ctr(&self, arguments: &[&str]) -> Output {
        self.ctr_in(DEFAULT, arguments)
    }

    pub(crate) fn ctr_in(&self, namespace: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.socket()).args(["-n", namespace]).args(arguments);
        command.output().expect("ctr starts")
    }

    /// Imports an image and unpacks it.
    pub fn import(&self, namespace: &str, archive: &Path) {
        let archive = archive.to_str().expect("a path");
        let imported = self.ctr_in(namespace, &["images", "import", archive]);
        assert!(imported.status.success(), "{}", stderr(&imported));
        if namespace == KUBERNETES {
            // The CRI plugin learns of an image by an event, and then labels it.
            wait_until("the CRI plugin knows all images", || {
                let listed = stdout(&self.ctr_in(namespace, &["images", "ls"]));
                listed.lines().skip(1).all(|line| line.contains("io.cri-containerd.image=managed"))
            });
        }
    }

    /// Imports an image without unpacking it.
    pub fn import_packed(&self, archive: &Path) {
        let archive = archive.to_str().expect("a path");
        let imported = self.ctr(&["images", "import", "--no-unpack", "--all-platforms", archive]);
        assert!(imported.status.success(), "{}", stderr(&imported));
    }

    /// Waits until this machine has no leftovers of it.
    pub fn assert_nothing_left(&self) {
        let began = Instant::now();
        while !self.leftovers().is_empty() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "left behind: {:#?}",
                self.leftovers()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn leftovers(&self) -> Vec<String> {
        leftovers::of(self.folder.path(), &self.before)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for namespace in [DEFAULT, KUBERNETES] {
            let listed = self.ctr_in(namespace, &["tasks", "ls", "-q"]);
            for id in String::from_utf8_lossy(&listed.stdout).lines() {
                self.ctr_in(namespace, &["tasks", "delete", "--force", id]);
            }
        }
        self.kill();
        let folder = self.folder.path().display().to_string();
        for (pid, line) in leftovers::processes() {
            if line.contains(&folder) {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            }
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        for line in mounts.lines().rev() {
            let point = line.split(' ').nth(1).unwrap_or_default();
            if point.starts_with(&folder) {
                let _ = Command::new("umount").args(["-l", point]).status();
            }
        }
        let _ = Command::new("ip").args(["link", "delete", &self.bridge()]).output();
    }
}

/// The application as `spotter image` writes it.
pub fn scratch_image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        component();
        let archive = crate::root().join("target/spotter/detect.tar");
        let path = archive.to_str().expect("a path");
        let written = crate::run(&["image", "-o", path, "--name", "detect:scratch"]);
        assert!(written.status.success(), "{}", stderr(&written));
        archive
    })
}

/// Waits until a condition holds.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let limit = slowness::allow(Duration::from_secs(120));
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < limit, "not in {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
