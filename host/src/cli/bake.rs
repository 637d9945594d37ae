//! `spotter bake`: puts a model into a compiled function, without a Rust toolchain.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::bake::ModelFolder;

/// Put a model into a compiled function
#[derive(Args)]
pub(super) struct Bake {
    /// The function as its build command compiles it: a core module, with no model in it yet
    component: PathBuf,
    /// The model's folder: model.toml, model.onnx, labels.txt
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Where the component goes
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
