//! Programs of the system that tests run beside the host; installed where they are missing.

use std::path::PathBuf;
use std::process::Command;

/// The path of a program, from Debian's package of that name where it is not there.
pub fn program(name: &str, package: &str) -> PathBuf {
    if let Some(path) = on_path(name) {
        return path;
    }
    let apt = |arguments: &[&str]| {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output();
        status.is_ok_and(|output| output.status.success())
    };
    apt(&["update"]);
    apt(&["install", "-y", "--no-install-recommends", package]);
    on_path(name).unwrap_or_else(|| panic!("`{name}` is missing: install the package {package}"))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}
