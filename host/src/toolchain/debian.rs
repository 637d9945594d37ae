//! Debian's packages as a toolchain for WebAssembly. They lack a prebuilt standard library (cargo builds it from
//! source), rustc's start files, and two functions of the C library. This module makes up for each.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::{Installation, WASM_TARGET_TRIPLE, libc_stub};
use spotter_cache as cache;
use spotter_progress::print_message;

/// A compiler, cargo, the library's source, a C library for WASI, a linker.
const DEBIAN_PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc", "lld"];

/// The folder in which the packages install the C library.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";

/// The linker. LLD 14 crashes with `--emit-relocs`, so components that it links keep their dead code. Without rustc's own
/// start files, a program lacks `_start`; rustc exports `__main_void` of programs only. A program exports `cabi_realloc`
/// too: see [`libc_stub`].
const LINKER: &str = "#!/bin/sh
for argument in \"$@\"; do
    shift
    [ \"$argument\" = --emit-relocs ] || set -- \"$@\" \"$argument\"
done
for argument in \"$@\"; do
    [ \"$argument\" != __main_void ] || set -- \"$@\" --export=cabi_realloc \
        /usr/lib/wasm32-wasi/crt1-command.o
done
exec /usr/bin/wasm-ld \"$@\"
";

/// Whether this system has apt, so that the packages can be installed.
pub(super) fn has_apt() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}

/// Whether all of the packages are installed.
pub(super) fn is_installed() -> bool {
    let has_library_source =
        std::fs::read_dir("/usr/src").into_iter().flatten().flatten().any(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("rustc-")
                && entry.path().join("library/std").exists()
        });
    let programs = ["/usr/bin/rustc", "/usr/bin/cargo", "/usr/bin/wasm-ld"];
    has_library_source
        && programs.iter().all(|program| Path::new(program).exists())
        && Path::new(WASI_LIBC).join("libc.a").exists()
}

/// The command that installs the packages.
pub(super) fn install_command() -> String {
    format!("sudo apt-get install {}", DEBIAN_PACKAGES.join(" "))
}

/// Whether the user allows the installation. Asks on a terminal.
///
/// # Errors
/// If the answer cannot be read.
pub(super) fn may_install(installation: Installation) -> anyhow::Result<bool> {
    if installation == Installation::Allowed {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    print_message(&format!(
        "There is no toolchain for {WASM_TARGET_TRIPLE}. This command installs Debian's packages:"
    ));
    print_message(&format!("  {}", install_command()));
    let mut errors = std::io::stderr();
    errors.write_all(b"Run this now? [y/N] ").and_then(|()| errors.flush())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Installs the packages.
///
/// # Errors
/// If apt fails. The error gives its output and the command to run by hand.
pub(super) fn install() -> anyhow::Result<()> {
    print_message(&format!("Installing Debian's packages {}", DEBIAN_PACKAGES.join(" ")));
    // On a fresh machine, the package lists may be missing or old. If this fails, the installation reports it.
    let _ = apt(&["update"]);
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(DEBIAN_PACKAGES);
    apt(&arguments).with_context(|| format!("run `{}` yourself", install_command()))?;
    let packages = DEBIAN_PACKAGES.join(" ");
    ensure!(
        is_installed(),
        "apt-get succeeded, but a part of {packages} is still missing; run `sudo apt-get install --reinstall {packages}`"
    );
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

/// Sets the environment variables with which a build command compiles with the packages.
///
/// # Errors
/// If the cache directory cannot be written.
pub(super) fn apply(command: &mut Command) -> anyhow::Result<()> {
    let folder = cache::folder("toolchain")?;
    let object = libc_stub::object();
    // cargo links again if a flag changes, but not if a file does that a flag names.
    let digest = blake3::hash(&[&object, LINKER.as_bytes()].concat()).to_hex();
    let stub = folder.join(format!("libc-stub-{}.o", &digest[..8]));
    let linker = folder.join("wasm-ld");
    cache::write_atomically(&stub, &object)?;
    cache::write_with_mode(&linker, LINKER.as_bytes(), 0o755)?;
    // /usr/bin first, so that Debian's cargo and rustc are used: rustup's have other versions than the library's
    // source. Code for this machine, such as build scripts, is still linked by `cc`.
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(PathBuf::from("/usr/bin")).chain(std::env::split_paths(&rest));
    if let Ok(path) = std::env::join_paths(path) {
        command.env("PATH", path);
    }
    // No crt1-reactor.o in libraries: rustup's target does not link it either. So with both, the module has no
    // `_initialize`, and its exports run the constructors themselves.
    let flags = format!(
        "-L native={WASI_LIBC} -C linker={} -C link-self-contained=no -C link-arg={}",
        linker.display(),
        stub.display()
    );
    command
        .env("RUSTC", "/usr/bin/rustc")
        // `build-std` is an unstable feature of cargo.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort")
        // cargo adds these to the project's own flags for the target.
        .env("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", flags);
    Ok(())
}
