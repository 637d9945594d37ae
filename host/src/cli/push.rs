//! `spotter push`: pushes an application to a registry.

use clap::Args;

use super::standalone::StandaloneArguments;
use spotter_progress::print;
use spotter_registry::{self as registry, pack};
use spotter_runtime::checked;
use spotter_up::{AppArguments, block_on};

/// Push an application to an OCI registry
#[derive(Args)]
pub(super) struct Push {
    /// The image: REGISTRY/NAME:TAG
    reference: String,
    #[command(flatten)]
    app: AppArguments,
    /// Push the only component as a WebAssembly artifact instead of the application
    #[arg(long, conflicts_with = "standalone")]
    artifact: bool,
    #[command(flatten)]
    standalone: StandaloneArguments,
}

impl Push {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let reference = registry::reference(&self.reference)?;
        let (app, manifest) = self.app.load_to_ship()?;
        checked::application(&app)?;
        if self.standalone.standalone {
            let image = self.standalone.build(app, manifest)?;
            print(&block_on(image.push(&reference))?);
            return Ok(());
        }
        let package =
            if self.artifact { pack::artifact(&app)? } else { pack::application(manifest, &app)? };
        let digest = block_on(registry::push(&reference, package))?;
        print(&digest);
        Ok(())
    }
}
