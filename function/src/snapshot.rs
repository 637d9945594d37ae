//! The entry that `spotter bake` calls once, before it takes the snapshot: it loads the model from
//! the files the host has put at `/model`, so that an instance begins with it in memory.

use std::fs;
use std::sync::OnceLock;

use anyhow::Context;

use crate::model::{Model, ModelFiles};

static MODEL: OnceLock<Model> = OnceLock::new();

/// The baked model; `None` in a component that was never baked.
pub fn model() -> Option<&'static Model> {
    MODEL.get()
}

/// Loads the model. A failure ends the bake with the reason on standard error.
#[allow(unsafe_code, reason = "an export needs its name; nothing here is unsafe to call")]
#[unsafe(export_name = "wizer-initialize")]
pub extern "C" fn initialise() {
    if let Err(error) = load() {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}

fn load() -> anyhow::Result<()> {
    let text = |name: &str| {
        fs::read_to_string(format!("/model/{name}")).with_context(|| name.to_owned())
    };
    let (manifest, labels) = (text("model.toml")?, text("labels.txt")?);
    let network = fs::read("/model/model.onnx").context("model.onnx")?;
    let files = ModelFiles { manifest: &manifest, labels: &labels, network: &network };
    let _ = MODEL.set(Model::load(&files)?);
    Ok(())
}
