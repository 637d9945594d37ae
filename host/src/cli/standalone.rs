//! The flags of `spotter image` and `spotter push` for an image that also contains this program.

use anyhow::ensure;
use clap::{Args, ValueEnum};

use spotter_app::App;
use spotter_app::manifest::Manifest;
use spotter_registry::standalone::binary::{Binary, BinaryPath};
use spotter_registry::standalone::{self, Contents, StandaloneImage};
use spotter_runtime::compile::precompile::CpuLevel;

/// Whether and how this program is part of the image.
#[derive(Args)]
pub(super) struct StandaloneArguments {
    /// Add this program, so that any container runtime runs the image
    #[arg(long)]
    pub(super) standalone: bool,
    /// The static binary to add instead of this program; can be repeated, for an image with several platforms
    #[arg(long, value_name = "[PLATFORM=]PATH", requires = "standalone")]
    binary: Vec<BinaryPath>,
    /// Add this containerd shim too, for `spotter node install`; can be repeated, for an image with several platforms
    #[arg(long, value_name = "[PLATFORM=]PATH", requires = "standalone")]
    shim: Vec<BinaryPath>,
    /// The processor level to compile for; on older processors, the container compiles at each start
    #[arg(
        long,
        value_enum,
        value_name = "LEVEL",
        default_value = "x86-64-v3",
        requires = "standalone"
    )]
    cpu_level: CpuLevel,
}

impl StandaloneArguments {
    /// The processor level's name, if there is an image to compile for.
    pub(super) fn level_name(&self) -> Option<String> {
        let name = self.cpu_level.to_possible_value()?.get_name().to_owned();
        self.standalone.then_some(name)
    }

    /// Builds the image.
    ///
    /// # Errors
    /// If a binary is not static, a shim has no binary for its platform, or the application cannot be packed or
    /// compiled.
    pub(super) fn build(&self, app: App, manifest: Manifest) -> anyhow::Result<StandaloneImage> {
        let binaries = Binary::read_static(&self.binary)?;
        let shims = Binary::read_all(&self.shim)?;
        for shim in &shims {
            let has_binary = binaries.iter().any(|binary| binary.platform == shim.platform);
            ensure!(
                has_binary,
                "there is a shim for {0}, but no binary: name one with `--binary {0}=PATH`",
                shim.platform
            );
        }
        standalone::build(Contents { manifest, app, binaries, shims, level: self.cpu_level })
    }
}
