//! Neural networks that the host runs for guests: graphs by name, tensors, and the engines that compute.
//!
//! Guests reach them through `wasi:nn`: see [`spotter_runtime`].

mod folder;
mod half_weights;
pub mod heap;
mod metrics;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
pub mod operators;
mod tensor;
mod tract;

use std::path::Path;
use std::sync::Arc;

pub use metrics::{Computation, NnMetrics};
use spotter_app::nn_engine::NnEngine;
pub use tensor::{ElementType, NamedTensor, Tensor};

/// The files that the host needs of a model's folder.
pub const MODEL_FILE_NAMES: [&str; 2] = ["model.toml", "model.onnx"];

/// A network that is loaded and ready to run. All guests share it.
pub trait Graph: Send + Sync {
    /// Runs the network. Checks `is_cancelled` before each operator, or every few milliseconds.
    ///
    /// # Errors
    /// If the inputs are not what the network takes, the run is cancelled, or an operator fails.
    fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        is_cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<NamedTensor>, ComputeError>;

    /// The most memory that the tensors of one run take at once, in bytes.
    fn activation_bytes(&self) -> u64;
}

/// Why a network did not compute.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    #[error("{0}")]
    InvalidArgument(String),
    #[error("the computation was cancelled")]
    Cancelled,
    #[error("the network failed: {0}")]
    Engine(String),
}

/// Loads the network in a model's folder.
///
/// # Errors
/// If a file is missing or invalid, or the engine is not there. The error names the file.
pub fn load(folder: &Path, engine: &NnEngine) -> anyhow::Result<Arc<dyn Graph>> {
    let model = folder::OnnxModel::read(folder)?;
    let graph: Arc<dyn Graph> = match engine {
        NnEngine::Tract => Arc::new(tract::TractGraph::load(&model)?),
        #[cfg(feature = "onnxruntime")]
        NnEngine::OnnxRuntime(library) => {
            Arc::new(onnxruntime::OnnxRuntimeGraph::load(&model, library)?)
        }
        #[cfg(not(feature = "onnxruntime"))]
        NnEngine::OnnxRuntime(_) => anyhow::bail!(
            "this `spotter` has no ONNX Runtime engine; build it with `--features onnxruntime`"
        ),
    };
    drop(model);
    // Loading takes several times the memory that the network finally needs.
    heap::trim();
    Ok(graph)
}

/// The time of all operators of one kind in one run of a network.
pub struct OperatorTime {
    pub name: String,
    pub count: usize,
    pub milliseconds: f64,
}

/// Runs the network in a model's folder on zeros, and returns the mean time of each kind of operator, the longest
/// first.
///
/// # Errors
/// If the network cannot be loaded or run.
pub fn profile(folder: &Path, runs: usize) -> anyhow::Result<Vec<OperatorTime>> {
    let model = folder::OnnxModel::read(folder)?;
    tract::TractGraph::load(&model)?.profile(runs)
}
