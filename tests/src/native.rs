//! The detector as a native library, without WebAssembly.

use detector::model::{Model, ModelFiles};

use crate::root;

/// The default model, parsed and optimised.
pub fn model() -> Model {
    let folder = root().join("function/model/ssdlite_mobilenet_v2");
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a model's file");
    let network = std::fs::read(folder.join("model.onnx")).expect("a network");
    let (manifest, labels) = (text("model.toml"), text("labels.txt"));
    let files = ModelFiles { manifest: &manifest, labels: &labels, network: &network };
    Model::load(&files).expect("a model")
}
