//! The engine `onnxruntime` for networks that the host runs: ONNX Runtime, from a shared library on this machine.

mod graph;

use std::path::Path;
use std::sync::Arc;

use graph::OnnxRuntimeGraph;
use spotter_nn::{Graph, OnnxModel};

/// Loads a network with the ONNX Runtime in this shared library.
///
/// # Errors
/// If the library is not ONNX Runtime 1.17 or later, or does not take the network, or the input's type is not
/// supported.
pub fn load(model: &OnnxModel, library: &Path) -> anyhow::Result<Arc<dyn Graph>> {
    Ok(Arc::new(OnnxRuntimeGraph::load(model, library)?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use spotter_nn::OnnxModel;

    #[test]
    fn a_library_that_is_not_there_is_named() {
        // Cargo runs a crate's tests in its folder.
        let folder = Path::new("../../function/model/ssdlite_mobilenet_v2");
        let model = OnnxModel::read(folder).unwrap();
        let error = super::load(&model, Path::new("/nowhere.so")).err().expect("an error");
        assert!(format!("{error:#}").starts_with("/nowhere.so: "), "{error:#}");
    }
}
