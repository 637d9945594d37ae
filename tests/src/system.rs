//! System programs that tests run together with the host. Missing ones are installed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Finds a program, and installs the Debian package that contains it if it is missing.
pub fn program(name: &str, package: &str) -> PathBuf {
    if on_path(name).is_none() {
        install(package);
    }
    on_path(name).unwrap_or_else(|| panic!("`{name}` is missing: install the package {package}"))
}

/// Python's package installer, which is often packaged separately from Python.
pub fn pip() -> Command {
    let pip = || {
        let mut command = Command::new("python3");
        command.args(["-m", "pip"]);
        command
    };
    let works = |mut command: Command| {
        command.arg("--version").output().is_ok_and(|output| output.status.success())
    };
    if !works(pip()) {
        install("python3-pip");
    }
    pip()
}

/// Installs a Debian package. Only one at a time, because the package manager locks its database.
pub fn install(package: &str) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let apt = |arguments: &[&str]| {
        // If it failed, the program is still missing, which the caller reports.
        let _ = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output();
    };
    apt(&["update"]);
    let patience = "DPkg::Lock::Timeout=300";
    apt(&["install", "-y", "--no-install-recommends", "-o", patience, package]);
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}
