//! Programs of the system that tests run beside the host; installed where they are missing.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The path of a program, from Debian's package of that name where it is not there.
pub fn program(name: &str, package: &str) -> PathBuf {
    if on_path(name).is_none() {
        install(package);
    }
    on_path(name).unwrap_or_else(|| panic!("`{name}` is missing: install the package {package}"))
}

/// Python's package installer, which is often packaged apart from Python.
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

/// Installs one of Debian's packages; one at a time, as Debian's package manager wants it.
pub fn install(package: &str) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let apt = |arguments: &[&str]| {
        // What came of it shows in whether the program is there.
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
