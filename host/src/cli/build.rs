//! `spotter build`: compiles and bakes the components of an application.

use clap::Args;

use super::AppArguments;

/// Compile and bake the components of an application
#[derive(Args)]
pub(super) struct Build {
    #[command(flatten)]
    app: AppArguments,
}

impl Build {
    pub(super) fn run(self) -> anyhow::Result<()> {
        crate::build::build(&self.app.load()?)
    }
}
