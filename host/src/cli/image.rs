//! `spotter image`: writes an application as a container image without a Linux system, with or without this program.

use std::path::PathBuf;

use clap::Args;

use super::standalone::StandaloneArguments;
use spotter_progress::print;
use spotter_registry::archive;
use spotter_runtime::compile::prepare;
use spotter_up::AppArguments;

/// Write an application as a container image: an OCI archive for `ctr image import`
#[derive(Args)]
pub(super) struct Image {
    #[command(flatten)]
    app: AppArguments,
    /// The archive to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The image's name [default: localhost/, the application's name and version]
    #[arg(long, value_name = "NAME:TAG")]
    name: Option<String>,
    #[command(flatten)]
    standalone: StandaloneArguments,
}

impl Image {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (app, manifest) = self.app.load_to_ship()?;
        prepare::application(&app)?;
        let name = self.name.unwrap_or_else(|| {
            let version = Some(&manifest.application.version).filter(|text| !text.is_empty());
            // A name without a registry belongs to Docker Hub, where it may be someone else's.
            format!("localhost/{}:{}", app.name, version.map_or("latest", String::as_str))
        });
        let digest = if self.standalone.standalone {
            self.standalone.build(app, manifest)?.write(&name, &self.output)?
        } else {
            archive::write(manifest, &app, &name, &self.output)?
        };
        print(&digest);
        Ok(())
    }
}
