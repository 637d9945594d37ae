//! Finds a Rust toolchain that can compile for `wasm32-wasip1`, or installs one on request.

mod debian;
mod libc_stub;
mod rustup;

use std::process::Command;

use anyhow::{bail, ensure};
use clap::ValueEnum;

/// The target that components are compiled for, before they are wrapped.
pub const WASM_TARGET_TRIPLE: &str = "wasm32-wasip1";

/// The toolchain that the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preference {
    /// rustup's if available, otherwise Debian's
    Auto,
    /// The rustc on the PATH, with the target's standard library from rustup
    Rustup,
    /// Debian's packages, with the standard library compiled from source
    Debian,
}

/// Whether system packages may be installed for a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installation {
    Allowed,
    /// Only if the user agrees, when asked on a terminal.
    Asked,
}

/// The user's choices about toolchains.
#[derive(Clone, Copy, Debug)]
pub struct ToolchainOptions {
    pub preference: Preference,
    pub installation: Installation,
}

/// How to compile for [`WASM_TARGET_TRIPLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The `rustc` on the path has the target's standard library.
    OnPath,
    /// Debian's packages, with the standard library built from source.
    Debian,
}

/// Finds a toolchain, or installs what is missing: rustup's target without asking, system packages only on request.
///
/// # Errors
/// If there is no toolchain. The error gives the command that installs one.
pub fn find(request: ToolchainOptions) -> anyhow::Result<Toolchain> {
    if request.preference != Preference::Debian {
        if rustup::has_standard_library() {
            return Ok(Toolchain::OnPath);
        }
        // If rustup failed recently, try it again only if there is no other toolchain.
        let has_other = request.preference == Preference::Auto && debian::is_installed();
        if !(has_other && rustup::failed_recently()) && rustup::add_target() {
            return Ok(Toolchain::OnPath);
        }
    }
    if request.preference != Preference::Rustup {
        if debian::is_installed() {
            return Ok(Toolchain::Debian);
        }
        if debian::has_apt() {
            ensure!(debian::may_install(request.installation)?, "{}", advice());
            debian::install()?;
            return Ok(Toolchain::Debian);
        }
    }
    bail!("{}", advice())
}

fn advice() -> String {
    let mut advice = format!(
        "no Rust toolchain on this machine can compile for {WASM_TARGET_TRIPLE}. Add the target with \
         `rustup target add {WASM_TARGET_TRIPLE}`"
    );
    if debian::has_apt() {
        advice += &format!(
            ", or install Debian's packages with `{}` (`--install-toolchain` runs this for you)",
            debian::install_command()
        );
    }
    advice
}

impl Toolchain {
    /// Sets the environment variables that a build command needs.
    ///
    /// # Errors
    /// If the cache directory cannot be written.
    pub fn apply(self, command: &mut Command) -> anyhow::Result<()> {
        match self {
            Self::OnPath => Ok(()),
            Self::Debian => debian::apply(command),
        }
    }
}
