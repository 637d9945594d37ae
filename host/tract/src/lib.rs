//! The engine `tract` for networks that the host runs: tract, with this repository's kernels.
//!
//! tract takes longer to compile than any other part of the host, so it is a crate of its own, which programs may leave
//! out.

mod graph;
mod half_weights;

use std::sync::Arc;

use graph::TractGraph;
use spotter_nn::{Engine, Graph, OnnxModel};

/// tract with this repository's kernels.
pub struct Tract;

impl Engine for Tract {
    fn load(&self, model: &OnnxModel) -> anyhow::Result<Arc<dyn Graph>> {
        Ok(Arc::new(TractGraph::load(model)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use spotter_nn::operators;

    #[test]
    fn the_supported_operators_are_those_of_this_version_of_tract() {
        let registered = tract_onnx::onnx().op_register.0;
        let registered: BTreeSet<&str> = registered.keys().map(String::as_str).collect();
        let listed: BTreeSet<&str> = operators::supported().collect();
        let text: String = registered.iter().flat_map(|name| [name, "\n"]).collect();
        assert_eq!(listed, registered, "host/nn/src/operators.txt must be:\n{text}");
    }
}
