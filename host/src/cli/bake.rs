//! `spotter bake`: puts a model into a compiled function, without a Rust toolchain.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::bake::ModelFolder;

/// Bake a model into a core module, and write the component
#[derive(Args)]
pub(super) struct Bake {
    /// The core module that the function's build command produces, before any model is in it
    module: PathBuf,
    /// The model's folder, with model.toml, model.onnx and labels.txt
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// The component to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

impl Bake {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let shown = self.module.display();
        let module = std::fs::read(&self.module).with_context(|| format!("cannot read {shown}"))?;
        let model = ModelFolder::read(&self.model)?;
        let component = crate::bake::bake_with_progress(&module, &model)
            .with_context(|| format!("cannot bake {shown}"))?;
        std::fs::write(&self.output, component)
            .with_context(|| format!("cannot write {}", self.output.display()))
    }
}
