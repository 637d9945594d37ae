//! A Rust toolchain that can compile for `wasm32-wasip1`: the one there is, or one installed here.
//!
//! rustup brings the target's standard library where it can reach its server. Where it cannot, a
//! Debian system has all that is needed in packages of its own, but for a prebuilt standard
//! library, which cargo then builds from source.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::libc_stub;
use crate::progress::{Step, say};
use crate::runtime::cache;

/// The target that components are compiled for, before they are wrapped.
pub const TARGET: &str = "wasm32-wasip1";

/// Debian's packages: a compiler, cargo, the library's source, a C library for WASI, a linker.
const PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc", "lld"];

/// Where Debian's packages put the C library.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";

/// How to compile for [`TARGET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The `rustc` on the path has the target's standard library.
    OnPath,
    /// Debian's packages, with the standard library built from source.
    Debian,
}

/// Finds a toolchain, or installs what is missing.
///
/// # Errors
/// Where neither rustup nor apt can help, with the commands to run by hand.
pub fn find() -> anyhow::Result<Toolchain> {
    // What is here already comes first: asking rustup's server takes its time, at every build.
    if has_standard_library() {
        return Ok(Toolchain::OnPath);
    }
    if has_debian_packages() {
        return Ok(Toolchain::Debian);
    }
    if add_by_rustup() && has_standard_library() {
        return Ok(Toolchain::OnPath);
    }
    install_debian_packages()?;
    Ok(Toolchain::Debian)
}

impl Toolchain {
    /// Sets what a build command needs in its environment.
    ///
    /// # Errors
    /// Where the cache directory cannot be written.
    pub fn apply(self, command: &mut Command) -> anyhow::Result<()> {
        if self == Self::OnPath {
            return Ok(());
        }
        let stub = cache::folder("toolchain")?.join("libc-stub.o");
        cache::write_whole(&stub, &libc_stub::object())?;
        // /usr/bin first: Debian's cargo and rustc rather than rustup's, whose versions differ
        // from the library's source. What it compiles for this machine is linked by `cc` as ever.
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&rest));
        if let Ok(path) = std::env::join_paths(path) {
            command.env("PATH", path);
        }
        let flags = format!(
            "-L native={WASI_LIBC} -C linker=wasm-ld -C link-self-contained=no \
             -C link-arg={WASI_LIBC}/crt1-reactor.o -C link-arg={}",
            stub.display()
        );
        command
            .env("RUSTC", "/usr/bin/rustc")
            // Building the standard library is unstable in cargo's terms.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort")
            // Added to the project's own flags for the target, not in place of them.
            .env("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", flags);
        Ok(())
    }
}

fn has_standard_library() -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else { return false };
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

fn has_debian_packages() -> bool {
    let has_library_source =
        std::fs::read_dir("/usr/src").into_iter().flatten().flatten().any(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("rustc-")
                && entry.path().join("library/std").exists()
        });
    let programs = ["/usr/bin/rustc", "/usr/bin/cargo", "/usr/bin/wasm-ld"];
    has_library_source
        && programs.iter().all(|program| Path::new(program).exists())
        && Path::new(WASI_LIBC).join("crt1-reactor.o").exists()
}

fn add_by_rustup() -> bool {
    let step = Step::start(format!("Installing the standard library for {TARGET} with rustup"));
    let output = Command::new("rustup").args(["target", "add", TARGET]).output();
    match output {
        Ok(output) if output.status.success() => {
            step.done(format!("Installed the standard library for {TARGET}"));
            true
        }
        Ok(_) => {
            step.done("rustup could not reach its server; gave up");
            false
        }
        Err(_) => {
            step.done("There is no rustup; gave up");
            false
        }
    }
}

fn install_debian_packages() -> anyhow::Result<()> {
    let by_hand = format!(
        "install it by hand: `rustup target add {TARGET}`, or on Debian \
         `apt-get install {}`",
        PACKAGES.join(" ")
    );
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("there is no standard library for {TARGET} on this machine; {by_hand}");
    }
    say(&format!("Installing Debian's packages instead: {}", PACKAGES.join(" ")));
    // Lists may be missing or old on a fresh machine; a mirror that is down shows in the install.
    let _ = apt(&["update"]);
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(PACKAGES);
    apt(&install).with_context(|| by_hand.clone())?;
    if !has_debian_packages() {
        bail!("Debian's packages are installed, but lack the library's source; {by_hand}");
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("cannot start apt-get")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`apt-get {}` failed: {}", arguments.join(" "), errors.trim());
    }
    Ok(())
}
