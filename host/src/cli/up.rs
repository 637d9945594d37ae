//! `spotter up`: serves an application, and builds it first if asked to.

use clap::Args;
use spotter_up::{CompiledComponents, Serve};

use super::build::ToolchainArguments;

/// Serve an application over HTTP
#[derive(Args)]
pub(super) struct Up {
    /// Build the application first
    #[arg(long, short)]
    build: bool,
    #[command(flatten)]
    toolchain: ToolchainArguments,
    #[command(flatten)]
    serve: Serve,
}

impl Up {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (build, toolchain) = (self.build, self.toolchain.options());
        self.serve.run(&CompiledComponents::new(), None, |app| match build {
            true => crate::build::build(app, toolchain),
            false => Ok(()),
        })
    }
}
