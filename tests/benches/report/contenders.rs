//! The servers that are compared: the same network, behind `POST /detect`, each as a good engineer would deploy it.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use spotter_tests::peer::{self, WasmtimeServe};
use spotter_tests::server::Server;
use spotter_tests::{component, root, run, stderr};

use crate::tensorflow;

/// A server to measure.
pub struct Contender {
    pub name: &'static str,
    /// What is shipped besides the operating system and the runtime.
    pub files: Vec<PathBuf>,
    pub start: fn() -> Running,
}

/// A running server, stopped when dropped.
pub struct Running {
    pub url: String,
    pub pid: u32,
    _server: Box<dyn Any + Send + Sync>,
}

/// Spotter, in both of its modes.
pub fn spotter() -> Vec<Contender> {
    component();
    let output = run(&["build", "--profile", "accelerated"]);
    assert!(output.status.success(), "{}", stderr(&output));
    vec![
        Contender {
            name: "Spotter",
            files: vec![component().to_owned()],
            start: || Running::spotter(&[]),
        },
        Contender {
            name: "Spotter, accelerated",
            files: vec![root().join("target/spotter/detector-accelerated.wasm"), network()],
            start: || Running::spotter(&["--profile", "accelerated"]),
        },
    ]
}

/// What else serves the same network. Installs it in the cache if necessary.
pub fn peers() -> Vec<Contender> {
    let mut peers = onnx_peers();
    peers.extend(tensorflow::peers());
    peers
}

fn onnx_peers() -> Vec<Contender> {
    vec![
        Contender {
            name: "wasmtime serve, same component",
            files: vec![component().to_owned()],
            start: || {
                let server = WasmtimeServe::start(component(), &[]);
                Running { url: server.url("/detect"), pid: server.pid(), _server: Box::new(server) }
            },
        },
        Contender {
            name: "Flask + gunicorn + ONNX Runtime",
            files: vec![peer::flask_packages(), network()],
            start: || {
                Running::flask(
                    "flask_onnxruntime:app",
                    &peer::flask_packages(),
                    &["--workers", "2"],
                    &network(),
                )
            },
        },
        Contender {
            name: "Node + onnxruntime-web",
            files: vec![onnxruntime_web(), network()],
            start: || Running::node("node_onnxruntime_web.mjs", &onnxruntime_web(), &network()),
        },
    ]
}

impl Running {
    fn spotter(arguments: &[&str]) -> Self {
        let server = Server::start(arguments);
        Self { url: server.url("/detect"), pid: server.pid(), _server: Box::new(server) }
    }

    /// Starts gunicorn with an application of `tests/benches/peers`, which loads this network.
    pub fn flask(application: &str, packages: &Path, workers: &[&str], network: &Path) -> Self {
        let port = free_port();
        let mut command = Command::new("python3");
        command
            .args(["-m", "gunicorn", "--bind", &format!("127.0.0.1:{port}")])
            .args(workers)
            .args(["--log-level", "error", "--chdir", "tests/benches/peers", application])
            .env("MODEL", network)
            .env("PYTHONPATH", format!("{}:function/convert", packages.display()));
        Self::listening(command, port)
    }

    /// Starts a script of `tests/benches/peers`, which loads this network.
    pub fn node(script: &str, packages: &Path, network: &Path) -> Self {
        let port = free_port();
        // Modules are looked up from the script's folder, so it is beside the packages.
        for file in [script, "node_server.mjs"] {
            std::fs::copy(root().join("tests/benches/peers").join(file), packages.join(file))
                .expect("the server's script");
        }
        let mut command = Command::new("node");
        command.arg(packages.join(script)).env("MODEL", network).env("PORT", port.to_string());
        Self::listening(command, port)
    }

    /// Waits until a server listens on its port.
    fn listening(mut command: Command, port: u16) -> Self {
        let process = command
            .env("LABELS", model_folder().join("labels.txt"))
            .current_dir(root())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let address = format!("127.0.0.1:{port}");
        let mut tries = 0;
        while std::net::TcpStream::connect(&address).is_err() {
            tries += 1;
            assert!(tries < 6000, "nothing listens on {address}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let server = Server::of(process, address);
        Self { url: server.url("/detect"), pid: server.pid(), _server: Box::new(server) }
    }
}

fn onnxruntime_web() -> PathBuf {
    node_packages("node-onnxruntime-web", &["onnxruntime-web@1.30.0", "sharp@0.35.5"])
}

/// Installs packages from npm into a folder of this name in the cache, and returns the folder.
pub fn node_packages(name: &str, packages: &[&str]) -> PathBuf {
    let folder = peer::cache().join(name);
    if !folder.join("node_modules/sharp").exists() {
        std::fs::create_dir_all(&folder).expect("a folder");
        let installed = Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(&folder)
            .args(packages)
            .status();
        assert!(installed.is_ok_and(|status| status.success()), "npm cannot install {packages:?}");
    }
    folder
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("a port").port()
}

fn network() -> PathBuf {
    model_folder().join("model.onnx")
}

fn model_folder() -> PathBuf {
    root().join("function/model/ssdlite_mobilenet_v2").canonicalize().expect("a model")
}

/// The size of files and folders in a gzipped archive: what a registry stores and a node pulls.
pub fn gzipped(files: &[PathBuf]) -> u64 {
    let size = |path: &Path| {
        let (folder, name) = (path.parent().expect("a folder"), path.file_name().expect("a name"));
        let script = r#"tar -C "$1" -c "$2" | gzip | wc -c"#;
        let mut archive = Command::new("sh");
        archive.args(["-c", script, "sh"]).args([folder.as_os_str(), name]);
        let output = archive.output().expect("tar");
        String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().expect("a number")
    };
    files.iter().map(|file| size(file)).sum()
}
