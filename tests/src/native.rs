//! The detector as a native library, without WebAssembly.

use std::path::Path;

use detector::model::{Model, ModelFiles};

use crate::root;

/// The default model, parsed and optimised.
pub fn model() -> Model {
    model_in(&root().join("function/model/ssdlite_mobilenet_v2"))
}

/// The model of a folder, parsed and optimised.
pub fn model_in(folder: &Path) -> Model {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a model's file");
    let network = std::fs::read(folder.join("model.onnx")).expect("a network");
    load(&text("model.toml"), &text("labels.txt"), &network)
        .unwrap_or_else(|error| panic!("{}: {error:#}", folder.display()))
}

/// A model from the content of its files.
///
/// # Errors
/// If the model is refused.
pub fn load(config: &str, labels: &str, network: &[u8]) -> anyhow::Result<Model> {
    Model::load(&ModelFiles { config, labels, network })
}
