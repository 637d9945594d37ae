//! `spotter build` on machines with different toolchains, simulated by scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use spotter_tests::{spotter, stderr};
use tempfile::TempDir;

const MANIFEST: &str = r#"spin_manifest_version = 2
[application]
name = "built"
[[trigger.http]]
route = "/..."
component = "one"
[component.one]
source = "one.wasm"
[component.one.build]
command = "echo compiled for wasm32-wasip1 > one.wasm"
"#;

/// A machine whose only programs are the shell and these scripts (name, content).
struct Machine(TempDir);

impl Machine {
    fn new(programs: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("bin")).expect("a folder");
        fs::write(folder.path().join("spin.toml"), MANIFEST).expect("a manifest");
        for (name, script) in programs {
            let path = folder.path().join("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a program");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        }
        let shell = folder.path().join("bin/sh");
        std::os::unix::fs::symlink("/bin/sh", shell).expect("a link");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn build(&self, toolchain: &str) -> Output {
        Command::new(spotter())
            .args(["build", "--toolchain", toolchain])
            .current_dir(self.path())
            .env("PATH", self.path().join("bin"))
            .env("XDG_CACHE_HOME", self.path().join("cache"))
            .env("LIBDIR", self.path().join("lib"))
            .env_remove("SPOTTER_INSTALL_TOOLCHAIN")
            .output()
            .expect("spotter starts")
    }
}

/// A `rustc` that prints the folder of the target's standard library.
const RUSTC: &str = "echo $LIBDIR";

#[test]
fn a_missing_target_is_added_by_rustup() {
    let rustup = "[ \"$*\" = 'target add wasm32-wasip1' ] && echo > $LIBDIR/libstd-0.rlib";
    let machine = Machine::new(&[("rustc", RUSTC), ("rustup", rustup)]);
    fs::create_dir(machine.path().join("lib")).expect("a folder");
    let output = machine.build("auto");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("Installed the standard library"), "{}", stderr(&output));
    let built = fs::read_to_string(machine.path().join("one.wasm")).expect("a component");
    assert_eq!(built, "compiled for wasm32-wasip1\n");
    // An installed target is not installed again.
    assert!(!stderr(&machine.build("auto")).contains("Install"));
}

#[test]
fn where_rustup_reaches_no_server_the_error_says_what_to_run() {
    let rustup = "echo error: could not download file >&2; exit 1";
    let machine = Machine::new(&[("rustc", RUSTC), ("rustup", rustup)]);
    let output = machine.build("rustup");
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("could not download file"), "{said}");
    assert!(said.contains("rustup target add wasm32-wasip1"), "{said}");
}

#[test]
#[cfg_attr(not(debian_without_wasm), ignore = "needs Debian without its packages for WebAssembly")]
fn system_packages_are_not_installed_unasked() {
    let machine = Machine::new(&[("rustc", RUSTC)]);
    let output = machine.build("debian");
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("apt-get install rustc-web"), "{said}");
    assert!(said.contains("--install-toolchain"), "{said}");
    assert!(!Path::new("/usr/lib/wasm32-wasi").exists());
}
