//! Detects what this machine has, so that a test whose precondition is missing is reported as ignored.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SPOTTER_SHARED");
    println!(
        "cargo::rustc-check-cfg=cfg(shared_pictures, root_on_debian, npm, debian_without_wasm, script, static_binary)"
    );
    println!("cargo::rerun-if-env-changed=SPOTTER_STATIC_BINARY");
    if let Some(folder) = std::env::var_os("SPOTTER_SHARED") {
        assert!(
            Path::new(&folder).join("coco").is_dir(),
            "SPOTTER_SHARED is {}, which holds no pictures of COCO",
            folder.display()
        );
        println!("cargo::rustc-cfg=shared_pictures");
        println!("cargo::rustc-env=SPOTTER_SHARED={}", folder.display());
    }
    if std::env::var_os("SPOTTER_STATIC_BINARY").is_some() {
        println!("cargo::rustc-cfg=static_binary");
    }
    let id = Command::new("id").arg("-u").output();
    let is_root = id.is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    let has_apt = Path::new("/usr/bin/apt-get").exists();
    if is_root && has_apt {
        println!("cargo::rustc-cfg=root_on_debian");
    }
    // Runs a program in a terminal.
    if Command::new("script").arg("--version").output().is_ok() {
        println!("cargo::rustc-cfg=script");
    }
    let npm = Command::new("npm").arg("--version").output();
    if npm.is_ok_and(|output| output.status.success()) {
        println!("cargo::rustc-cfg=npm");
    }
    // Changes whenever a package is installed.
    let dpkg = Path::new("/var/lib/dpkg/status");
    if dpkg.exists() {
        println!("cargo::rerun-if-changed={}", dpkg.display());
    }
    if has_apt && !Path::new("/usr/lib/wasm32-wasi").exists() {
        println!("cargo::rustc-cfg=debian_without_wasm");
    }
}
