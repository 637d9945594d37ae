//! A containerd of a test's own, with the shim on its path: whatever it has started goes when it is
//! dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, StartRequest, container,
};
use containerd_client::tonic::{Request, Status};
use containerd_client::with_namespace;
use prost_types::Any;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{component, oci, spotter, stderr, system};

/// The namespace that `ctr` works in, and the one that Kubernetes does.
pub const DEFAULT: &str = "default";
pub const KUBERNETES: &str = "k8s.io";

/// The application as an image made of nothing.
pub const SCRATCH: &str = "docker.io/library/detect:scratch";
/// What holds a pod's namespaces, a program of Linux.
pub const PAUSE: &str = "docker.io/library/pause:test";

/// A running containerd.
pub struct Containerd {
    process: Option<Child>,
    folder: TempDir,
    /// What was there before it, of a run that was broken off.
    before: Vec<String>,
    /// One at a time: what is left behind can be told from what is still in use.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Containerd {
    /// Starts one that has the application's image, in both namespaces, and a sandbox's.
    pub fn start() -> Self {
        for (program, package) in
            [("containerd", "containerd"), ("runc", "runc"), ("ip", "iproute2")]
        {
            system::program(program, package);
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("a folder");
        let mut containerd = Self {
            process: None,
            folder,
            before: [cgroups(), sockets(), namespaces()].concat(),
            _alone: alone,
        };
        std::fs::write(containerd.path("config.toml"), containerd.configuration()).expect("a file");
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
        format!(
            r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  # The machines of these tests lack CAP_SYS_RESOURCE and AppArmor.
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "{PAUSE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.spotter]
    runtime_type = "io.containerd.spotter.v1"
"#,
            root = at("root"),
            state = at("state"),
            socket = self.socket().display(),
            cni = at("cni"),
        )
    }

    /// A bridge for pods, with a name and a network of this process's own.
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

    /// Starts the process, anew where it was killed, and waits until it answers.
    pub fn launch(&mut self) {
        let binaries = spotter().parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("containerd.log"))
            .expect("a log");
        let process = Command::new("containerd")
            .arg("-c")
            .arg(self.path("config.toml"))
            .env("PATH", format!("{}:{path}", binaries.display()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(process.expect("containerd starts"));
        wait_until("containerd answers", || self.ctr(&["version"]).status.success());
    }

    /// Kills the process as the system would; its containers live on.
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

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("containerd.log")).unwrap_or_default()
    }

    /// Runs `ctr` in the default namespace, whatever comes of it.
    pub fn ctr(&self, arguments: &[&str]) -> Output {
        self.ctr_in(DEFAULT, arguments)
    }

    fn ctr_in(&self, namespace: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.socket()).args(["-n", namespace]).args(arguments);
        command.output().expect("ctr starts")
    }

    /// Imports an image, and unpacks it.
    pub fn import(&self, namespace: &str, archive: &Path) {
        let archive = archive.to_str().expect("a path");
        let imported = self.ctr_in(namespace, &["images", "import", archive]);
        assert!(imported.status.success(), "{}", stderr(&imported));
    }

    /// Imports an image without unpacking it.
    pub fn import_packed(&self, archive: &Path) {
        let archive = archive.to_str().expect("a path");
        let imported = self.ctr(&["images", "import", "--no-unpack", "--all-platforms", archive]);
        assert!(imported.status.success(), "{}", stderr(&imported));
    }

    /// Runs a container of an image in a network of its own; what `ctr run` said.
    pub fn run(&self, image: &str, id: &str, network: &Network, environment: &[&str]) -> Output {
        let namespace = format!("network:{}", network.path().display());
        let variables = environment.iter().flat_map(|variable| ["--env", variable]);
        let mut arguments = vec!["run", "--detach", "--runtime", "io.containerd.spotter.v1"];
        arguments.extend(["--with-ns", &namespace]);
        arguments.extend(variables);
        let log = format!("file://{}", self.path(id).display());
        arguments.extend(["--log-uri", &log, image, id]);
        self.ctr(&arguments)
    }

    /// Creates and starts a container of an image whose layers containerd need not be able to unpack: its
    /// root file system is an empty folder. The error is containerd's.
    pub fn run_unpacked(
        &self,
        image: &str,
        id: &str,
        network: &Network,
        arguments: &[&str],
    ) -> Result<(), String> {
        let root = self.path(&format!("{id}.root"));
        std::fs::create_dir_all(&root).expect("a folder");
        let usual = self.ctr(&["oci", "spec"]);
        let mut spec: Value = serde_json::from_slice(&usual.stdout).expect("a specification");
        spec["process"]["args"] = json!(arguments);
        spec["root"]["path"] = json!(root);
        spec["linux"]["cgroupsPath"] = json!(format!("/default/{id}"));
        for namespace in spec["linux"]["namespaces"].as_array_mut().expect("namespaces") {
            if namespace["type"] == "network" {
                namespace["path"] = json!(network.path());
            }
        }
        let runtime = Runtime::new().expect("a runtime");
        runtime
            .block_on(self.create_and_start(image, id, &spec))
            .map_err(|status| status.message().to_owned())
    }

    async fn create_and_start(&self, image: &str, id: &str, spec: &Value) -> Result<(), Status> {
        let channel = containerd_client::connect(self.socket()).await.expect("containerd answers");
        let container = Container {
            id: id.to_owned(),
            image: image.to_owned(),
            runtime: Some(container::Runtime {
                name: "io.containerd.spotter.v1".to_owned(),
                options: None,
            }),
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
                value: spec.to_string().into_bytes(),
            }),
            ..Container::default()
        };
        let request = CreateContainerRequest { container: Some(container) };
        let request = with_namespace!(request, DEFAULT);
        ContainersClient::new(channel.clone()).create(request).await?;
        let mut tasks = TasksClient::new(channel);
        let log = format!("file://{}", self.path(id).display());
        let request = CreateTaskRequest {
            container_id: id.to_owned(),
            stdout: log.clone(),
            stderr: log,
            ..CreateTaskRequest::default()
        };
        tasks.create(with_namespace!(request, DEFAULT)).await?;
        let request = StartRequest { container_id: id.to_owned(), ..StartRequest::default() };
        tasks.start(with_namespace!(request, DEFAULT)).await?;
        Ok(())
    }

    /// The process of a container of Kubernetes'.
    pub fn pid_of_pod(&self, container: &str) -> Option<u32> {
        let listed = self.ctr_in(KUBERNETES, &["tasks", "ls"]);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with(container))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// What a container that [`run`](Self::run) started has written.
    pub fn container_log(&self, id: &str) -> String {
        std::fs::read_to_string(self.path(id)).unwrap_or_default()
    }

    /// The process of a container; none where it has ended.
    pub fn pid(&self, id: &str) -> Option<u32> {
        let listed = self.ctr(&["tasks", "ls"]);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut fields = text.lines().find(|line| line.starts_with(id))?.split_whitespace().skip(1);
        let pid = fields.next()?.parse().ok()?;
        (fields.next() == Some("RUNNING")).then_some(pid)
    }

    /// The process of the shim that serves a container.
    pub fn shim(&self, id: &str) -> Option<u32> {
        let socket = self.socket().display().to_string();
        processes()
            .into_iter()
            .find(|(_, line)| {
                line.contains("containerd-shim-spotter-v1")
                    && line.contains(&socket)
                    && line.split(' ').any(|word| word == id)
            })
            .map(|(pid, _)| pid)
    }

    /// Stops a container by a signal and removes it; gives its exit status.
    pub fn stop(&self, id: &str, signal: &str) -> i32 {
        self.ctr(&["tasks", "kill", "--signal", signal, id]);
        wait_until("the container ends", || self.pid(id).is_none());
        let deleted = self.ctr(&["tasks", "delete", id]);
        self.ctr(&["containers", "delete", id]);
        let said = stderr(&deleted);
        let status = said.split("exit code ").nth(1).map(|rest| rest.trim_end_matches(['"', '\n']));
        status.map_or(0, |status| status.parse().expect("an exit code"))
    }

    /// Waits until nothing is left on this machine of anything it started.
    pub fn assert_nothing_left(&self) {
        let began = Instant::now();
        while !self.leftovers().is_empty() {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "left behind: {:#?}",
                self.leftovers()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn leftovers(&self) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        let processes = processes().into_iter();
        let processes = processes
            .filter(|(_, line)| line.contains("containerd-shim-spotter") && line.contains(&folder))
            .map(|(pid, line)| format!("process {pid}: {line}"));
        let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
        let mounts = mounts
            .lines()
            .filter(|line| line.contains(&folder))
            .map(|line| format!("mount {line}"))
            .collect::<Vec<_>>();
        let states = ["/run/containerd/spotter/default", "/run/containerd/spotter/k8s.io"];
        let states = states
            .iter()
            .filter_map(|path| std::fs::read_dir(path).ok())
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let state = std::fs::read_to_string(path.join("state.json"));
                state.is_ok_and(|state| state.contains(&folder))
            })
            .map(|path| format!("state {}", path.display()));
        let others = cgroups().into_iter().chain(sockets()).chain(namespaces());
        let others = others.filter(|other| !self.before.contains(other));
        processes.chain(mounts).chain(states).chain(others).collect()
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
        for (pid, line) in processes() {
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

/// Every process with its command line.
fn processes() -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    let of = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    };
    entries.filter_map(of).collect()
}

/// The cgroups of containers, by any controller.
fn cgroups() -> Vec<String> {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-path", "*spotter-test*"])
        .output();
    let found = found.expect("find starts");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    // The parent of the pods' cgroups is the kubelet's, and stays.
    let of_containers = found.lines().filter(|line| !line.ends_with("/spotter-test"));
    of_containers.map(|line| format!("cgroup {line}")).collect()
}

/// The sockets of shims.
fn sockets() -> Vec<String> {
    let entries = std::fs::read_dir("/run/containerd/s").into_iter().flatten().flatten();
    entries.map(|entry| format!("socket {}", entry.path().display())).collect()
}

/// The network namespaces that containerd makes for pods.
fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/var/run/netns").into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path().display().to_string());
    paths.filter(|path| path.contains("/cni-")).map(|path| format!("namespace {path}")).collect()
}

/// A network namespace with one link to the outside.
pub struct Network {
    name: String,
    address: String,
}

impl Network {
    /// Makes one; numbers, below 60, tell those of one test apart.
    pub fn new(number: u32) -> Self {
        let unique = std::process::id() % 10_000 * 60 + number;
        let (third, fourth) = ((unique / 60) % 250, number * 4);
        let network = Self {
            name: format!("spotter{unique}"),
            address: format!("10.49.{third}.{}", fourth + 2),
        };
        let (outer, inner) = (format!("sp{unique}o"), format!("sp{unique}i"));
        let gateway = format!("10.49.{third}.{}/30", fourth + 1);
        let address = format!("{}/30", network.address);
        let name = network.name.as_str();
        for arguments in [
            vec!["netns", "add", name],
            vec!["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", name],
            vec!["address", "add", &gateway, "dev", &outer],
            vec!["link", "set", &outer, "up"],
            vec!["-n", name, "address", "add", &address, "dev", &inner],
            vec!["-n", name, "link", "set", &inner, "up"],
            vec!["-n", name, "link", "set", "lo", "up"],
        ] {
            let done = Command::new("ip").args(&arguments).output().expect("ip starts");
            assert!(done.status.success(), "ip {arguments:?}: {}", stderr(&done));
        }
        network
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/var/run/netns").join(&self.name)
    }

    /// The URL of a path on the port that pods listen on.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The URL of a path on the admin listener.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}:3001{path}", self.address)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
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

/// Waits until something is so.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "not in half a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
