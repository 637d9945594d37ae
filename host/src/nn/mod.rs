//! Neural networks that the host runs for guests: graphs by name, tensors, and the engines that compute.
//!
//! Guests reach them through `wasi:nn`: see [`crate::runtime`].

mod folder;
mod metrics;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod tensor;
mod tract;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

pub use metrics::{Computation, NnMetrics};
pub use tensor::{ElementType, NamedTensor, Tensor};

/// The files that the host needs of a model's folder.
pub const FILES: [&str; 2] = ["model.toml", "model.onnx"];

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

/// What computes networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// tract with this repository's kernels.
    #[default]
    Tract,
    /// ONNX Runtime in this shared library.
    OnnxRuntime(PathBuf),
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None if text == "tract" => Ok(Self::Tract),
            Some(("onnxruntime", path)) if !path.is_empty() => Ok(Self::OnnxRuntime(path.into())),
            _ => Err("it is neither `tract` nor `onnxruntime=PATH`".to_owned()),
        }
    }
}

/// Loads the network in a model's folder.
///
/// # Errors
/// If a file is missing or invalid, or the engine is not there. The error names the file.
pub fn load(folder: &Path, engine: &Engine) -> anyhow::Result<Arc<dyn Graph>> {
    let model = folder::Model::read(folder)?;
    match engine {
        Engine::Tract => Ok(Arc::new(tract::TractGraph::load(&model)?)),
        #[cfg(feature = "onnxruntime")]
        Engine::OnnxRuntime(library) => {
            Ok(Arc::new(onnxruntime::OnnxRuntimeGraph::load(&model, library)?))
        }
        #[cfg(not(feature = "onnxruntime"))]
        Engine::OnnxRuntime(_) => anyhow::bail!(
            "this `spotter` has no ONNX Runtime engine; build it with `--features onnxruntime`"
        ),
    }
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
    let model = folder::Model::read(folder)?;
    tract::TractGraph::load(&model)?.profile(runs)
}
