//! `spotter build`: compiles and bakes the components of an application.

use clap::Args;

use crate::toolchain::{Installation, Preference, ToolchainOptions};
use spotter_up::AppArguments;

/// Compile and bake the components of an application
#[derive(Args)]
pub(super) struct Build {
    #[command(flatten)]
    app: AppArguments,
    #[command(flatten)]
    toolchain: ToolchainArguments,
}

/// Selects the toolchain that compiles components for WebAssembly.
#[derive(Args)]
pub(super) struct ToolchainArguments {
    /// The Rust toolchain that compiles components
    #[arg(long, env = "SPOTTER_TOOLCHAIN", value_enum, default_value_t = Preference::Auto)]
    toolchain: Preference,
    /// Install Debian's packages without asking if no toolchain can compile for WebAssembly [default: ask, if on a
    /// terminal]
    #[arg(long, env = "SPOTTER_INSTALL_TOOLCHAIN")]
    install_toolchain: bool,
}

impl ToolchainArguments {
    pub(super) fn options(&self) -> ToolchainOptions {
        let installation =
            if self.install_toolchain { Installation::Allowed } else { Installation::Asked };
        ToolchainOptions { preference: self.toolchain, installation }
    }
}

impl Build {
    pub(super) fn run(self) -> anyhow::Result<()> {
        crate::build::build(&self.app.load()?, self.toolchain.options())
    }
}
