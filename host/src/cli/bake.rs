//! `spotter bake`: puts a model into a compiled function, without a Rust toolchain.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::bake::ModelFolder;

/// Put a model into a compiled function
#[derive(Args)]
pub(super) struct Bake {
    /// The core module that the function's build command produces, before any model is in it
    component: PathBuf,
    /// The model's folder, with model.toml, model.onnx and labels.txt
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The component to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl Bake {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let module = std::fs::read(&self.component)
            .with_context(|| format!("cannot read {}", self.component.display()))?;
        let model = ModelFolder::read(&self.model)?;
        let component = crate::bake::bake_with_progress(&module, &model)?;
        std::fs::write(&self.output, component)
            .with_context(|| format!("cannot write {}", self.output.display()))
    }
}
