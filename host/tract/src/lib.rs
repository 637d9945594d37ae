//! The engine `tract` for networks that the host runs: tract, with this repository's kernels.
//!
//! tract takes longer to compile than any other part of the host, so it is a crate of its own, which programs may leave
//! out.

mod graph;
mod half_weights;
mod threads;

use std::num::NonZeroU16;
use std::sync::Arc;

use graph::TractGraph;
use spotter_nn::{Engine, Graph, OnnxModel};

/// tract with this repository's kernels.
pub struct Tract;

impl Engine for Tract {
    fn load(&self, model: &OnnxModel, threads: NonZeroU16) -> anyhow::Result<Arc<dyn Graph>> {
        Ok(Arc::new(TractGraph::load(model, threads)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use spotter_nn::{ComputeError, CpuBudget, Engine, NamedTensor, OnnxModel, Tensor, operators};

    use super::Tract;

    /// A budget that is enough for so many checks.
    struct Budget(AtomicU32);

    impl CpuBudget for Budget {
        fn spend(&self, _: Duration) {}

        fn is_exceeded(&self) -> bool {
            let left = |checks: u32| checks.checked_sub(1);
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_err()
        }
    }

    /// The outputs of a shipped network for numbers that look like noise.
    fn outputs(model: &str, threads: u16, checks: u32) -> Result<Vec<Vec<u8>>, ComputeError> {
        // Cargo runs a crate's tests in its folder.
        let folder = Path::new("../../function/model");
        let model = OnnxModel::read(&folder.join(model)).unwrap();
        let graph = Tract.load(&model, threads.try_into().unwrap()).unwrap();
        let spec = model.input;
        let bytes = spec.shape.iter().product::<usize>() * spec.element.bytes();
        let data =
            (0..bytes).map(|index| u8::try_from(index * index % 251 % 64).unwrap()).collect();
        let tensor = Tensor { shape: spec.shape.to_vec(), element: spec.element, data };
        let input = vec![NamedTensor { name: spec.name, tensor }];
        let outputs = graph.compute(input, &Budget(checks.into()))?;
        Ok(outputs.into_iter().map(|output| output.tensor.data).collect())
    }

    #[test]
    fn several_threads_compute_the_same_numbers() {
        for model in ["ssdlite_mobilenet_v2", "nanodet_g"] {
            let of = |threads| outputs(model, threads, u32::MAX).unwrap();
            let one = of(1);
            assert!(one.iter().any(|output| output.iter().any(|byte| *byte != 0)));
            for threads in [2, 3, 7] {
                assert!(one == of(threads), "{model} on {threads} threads");
            }
        }
    }

    #[test]
    fn an_exceeded_budget_ends_a_computation() {
        for (threads, checks) in [(1, 0), (1, 1), (2, 0), (2, 1)] {
            let ended = outputs("ssdlite_mobilenet_v2", threads, checks);
            assert!(matches!(ended, Err(ComputeError::Cancelled)), "{:?}", ended.err());
        }
    }

    #[test]
    fn the_supported_operators_are_those_of_this_version_of_tract() {
        let registered = tract_onnx::onnx().op_register.0;
        let registered: BTreeSet<&str> = registered.keys().map(String::as_str).collect();
        let listed: BTreeSet<&str> = operators::supported().collect();
        let text: String = registered.iter().flat_map(|name| [name, "\n"]).collect();
        assert_eq!(listed, registered, "host/nn/src/operators.txt must be:\n{text}");
    }
}
