//! `spotter pull`: pulls an application from a registry.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use walkdir::WalkDir;

use spotter_progress::print;
use spotter_registry as registry;
use spotter_up::{RegistryArguments, block_on};

/// Pull an application from an OCI registry into the cache, or into a folder
#[derive(Args)]
pub(super) struct Pull {
    /// The image: REGISTRY/NAME:TAG or REGISTRY/NAME@DIGEST
    reference: String,
    /// Copy the application's manifest and files to this new folder
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArguments,
}

impl Pull {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let reference = registry::reference(&self.reference)?;
        let (folder, digest) = block_on(registry::pull(&reference, self.registry.transport()))?;
        if let Some(output) = &self.output {
            ensure!(!output.exists(), "{} already exists; name a new folder", output.display());
            for entry in WalkDir::new(&folder).sort_by_file_name() {
                let entry = entry?;
                let target = output.join(entry.path().strip_prefix(&folder)?);
                let made = if entry.file_type().is_dir() {
                    std::fs::create_dir_all(&target)
                } else {
                    std::fs::copy(entry.path(), &target).map(drop)
                };
                made.with_context(|| format!("cannot write {}", target.display()))?;
            }
        }
        print(&digest);
        Ok(())
    }
}
