//! `spotter model check`: bakes a model, and detects with it.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::bake::ModelFolder;
use crate::bake::description::Description;
use crate::build::baked;
use crate::cli::build::ToolchainArguments;
use crate::cli::detect::{Detector, Pictures};
use crate::detector;
use spotter_app::{App, LoadOptions};
use spotter_progress::print_message;

/// Bake a model, and detect objects in pictures with it
#[derive(Args)]
pub(super) struct Check {
    /// The model's folder, with model.toml, model.onnx and labels.txt
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    pictures: Pictures,
    #[command(flatten)]
    toolchain: ToolchainArguments,
}

impl Check {
    /// Runs what would be served: the same component, baked into the cache.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let folder = self.folder.display().to_string();
        let model = ModelFolder::read(&self.folder)?;
        let description = Description::from_folder(&model)?;
        let module = detector::module(self.toolchain.options())?;
        let component = baked(&module, &model).with_context(|| folder.clone())?;
        print_message(description.to_string().trim_end());
        let app = App::load(&component, &LoadOptions::default())?;
        self.pictures.run(|_, jobs| Detector::local(app, jobs))
    }
}
