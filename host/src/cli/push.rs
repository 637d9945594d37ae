//! `spotter push`: pushes an application to a registry.

use clap::Args;

use super::attestations::AttestationArguments;
use super::build::ToolchainArguments;
use super::standalone::StandaloneArguments;
use crate::attestation::BuildParameters;
use spotter_progress::print;
use spotter_registry::{self as registry, pack};
use spotter_runtime::compile::prepare;
use spotter_up::{AppArguments, block_on};

/// Push an application to an OCI registry
#[derive(Args)]
pub(super) struct Push {
    /// The image: REGISTRY/NAME:TAG
    reference: String,
    #[command(flatten)]
    app: AppArguments,
    /// Build the application first
    #[arg(long)]
    build: bool,
    #[command(flatten)]
    toolchain: ToolchainArguments,
    /// Annotate the image's manifest; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, conflicts_with = "standalone")]
    annotation: Vec<(String, String)>,
    /// Push only the application's component, as a WebAssembly OCI artifact; there must be exactly one
    #[arg(long, conflicts_with = "standalone")]
    artifact: bool,
    #[command(flatten)]
    standalone: StandaloneArguments,
    #[command(flatten)]
    attestations: AttestationArguments,
}

impl Push {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let reference = registry::reference(&self.reference)?;
        let transport = self.app.registry.transport();
        let (app, manifest) = self.app.load_to_ship()?;
        if self.build {
            crate::build::build(&app, self.toolchain.options())?;
        }
        prepare::application(&app)?;
        let parameters = BuildParameters {
            source: self.app.source(),
            profile: self.app.profile,
            cpu_level: self.standalone.level_name(),
        };
        let attestations = self.attestations.prepare(&app, parameters)?;
        let (image, inventory) = if self.standalone.standalone {
            let image = self.standalone.build(app, manifest)?;
            (block_on(image.push(&reference, transport))?, image.inventory)
        } else {
            let mut package = if self.artifact {
                pack::artifact(&app)?
            } else {
                pack::application(manifest, &app)?
            };
            package.annotations.extend(self.annotation);
            let inventory = std::mem::take(&mut package.inventory);
            (block_on(registry::push(&reference, transport, package))?, inventory)
        };
        print(&image.digest);
        attestations.push(&reference, transport, &image, &inventory)
    }
}

fn key_value(text: &str) -> Result<(String, String), &'static str> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or("it is not of the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
