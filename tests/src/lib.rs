//! Helpers for the black-box tests: the built binary, a running server, and a client.

#[cfg(feature = "system")]
pub mod api_server;
pub mod application;
#[cfg(feature = "system")]
pub mod autoscaler;
pub mod baked;
pub mod batch;
pub mod client;
#[cfg(feature = "system")]
pub mod cluster;
#[cfg(feature = "system")]
pub mod containerd;
#[cfg(feature = "system")]
mod containerd_config;
#[cfg(feature = "system")]
mod containers;
pub mod elf;
pub mod energy;
pub mod found;
#[cfg(feature = "system")]
pub mod front;
pub mod home;
#[cfg(feature = "system")]
pub mod kubelet;
#[cfg(feature = "system")]
pub mod kubernetes_tools;
#[cfg(feature = "system")]
pub mod leftovers;
pub mod load;
#[cfg(feature = "system")]
pub mod manifests;
pub mod native;
#[cfg(feature = "system")]
pub mod network;
#[cfg(feature = "system")]
pub mod node;
pub mod oci;
pub mod peer;
pub mod pictures;
#[cfg(feature = "system")]
pub mod policy;
pub mod ports;
pub mod raw;
#[cfg(feature = "system")]
pub mod rbac;
pub mod reference;
#[cfg(feature = "system")]
pub mod registry;
pub mod server;
#[cfg(feature = "system")]
pub mod service;
#[cfg(feature = "system")]
pub mod slowness;
pub mod stand_in_registry;
#[cfg(feature = "system")]
pub mod stand_ins;
#[cfg(feature = "system")]
pub mod standalone;
#[cfg(feature = "system")]
pub mod switch;
pub mod system;
#[cfg(feature = "system")]
pub mod virtual_machine;
pub mod yolox;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The `spotter` binary, built with the same features as this test, and with the engine `tract`; or, if `SPOTTER_BINARY`
/// is set, that one.
pub fn spotter() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = std::env::var_os("SPOTTER_BINARY") {
            return binary.into();
        }
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut build = Command::new(cargo);
        // The variables that cargo sets for this test would make build scripts run again.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_")
                || text.starts_with("CARGO_MANIFEST_")
                || text == "OUT_DIR"
            {
                build.env_remove(&name);
            }
        }
        let build = build
            // Build all packages that the tests were built with. Building one alone would select other features of
            // its dependencies, and so build all of them a second time.
            .args(["build", "--release", "--quiet", "--bins"])
            .arg("--features=tract")
            .args(cfg!(feature = "system").then_some("--workspace"))
            .args(cfg!(feature = "system").then_some("--features=onnxruntime,system"))
            .current_dir(root())
            .status()
            .expect("cargo starts");
        assert!(build.success(), "spotter does not build");
        // target/release/deps/suite-… of this test, or wherever the target folder is.
        let target = std::env::current_exe().expect("this test has a path");
        let target = target.ancestors().nth(3).expect("a target folder");
        target.join("release/spotter")
    })
}

/// Runs `spotter` with these arguments in the workspace, and returns its output.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(spotter()).args(arguments).current_dir(root()).output().expect("spotter starts")
}

/// `spotter` under a limit of the shell's `ulimit`, such as `-n 160`.
pub fn under_limit(limit: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"]).arg(spotter());
    command
}

/// The application's component, built and baked.
pub fn component() -> &'static Path {
    static COMPONENT: OnceLock<PathBuf> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let output = run(&["build"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        root().join("target/spotter/detector.wasm")
    })
}

/// The component of misbehaving guests, built.
pub fn guests() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        // Build the application first, so that the shared dependencies are already built.
        component();
        let output = run(&["build", "-f", "tests/guests"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

/// The function's core module, before a model is baked into it.
pub fn unbaked() -> PathBuf {
    component();
    root().join("target/wasm32-wasip1/component/detector.wasm")
}

/// The standard error of a finished command.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The standard output of a finished command.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
