//! Neural networks that the host runs for guests: graphs by name, tensors, and the engines that compute.
//!
//! Guests reach them through `wasi:nn`: see [`spotter_runtime`].

mod folder;
pub mod heap;
mod metrics;
pub mod operators;
mod tensor;

use std::num::NonZeroU16;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;

pub use folder::{InputSpec, OnnxModel};
pub use metrics::{Computation, NnMetrics};
use spotter_app::nn_engine::NnEngine;
pub use tensor::{ElementType, NamedTensor, Tensor};

/// The files that the host needs from a model's folder.
pub const MODEL_FILE_NAMES: [&str; 2] = ["model.toml", "model.onnx"];

/// An engine, which loads networks.
pub trait Engine: Send + Sync {
    /// Parses a network and prepares it to run, on up to so many threads while one computation runs alone.
    ///
    /// # Errors
    /// If it is not a valid ONNX file, has an operator that the engine does not support, or lacks the input, or the
    /// system refuses a thread.
    fn load(&self, model: &OnnxModel, threads: NonZeroU16) -> anyhow::Result<Arc<dyn Graph>>;
}

/// A network that is loaded and ready to run. All guests share it.
pub trait Graph: Send + Sync {
    /// Runs the network. Checks the budget every few milliseconds, or between two operators.
    ///
    /// # Errors
    /// If the inputs are not what the network takes, the budget is exceeded, or an operator fails.
    fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        budget: &dyn CpuBudget,
    ) -> Result<Vec<NamedTensor>, ComputeError>;

    /// The most memory that the tensors of one run take at once, in bytes.
    fn activation_bytes(&self) -> u64;

    /// Runs the network on zeros, and returns the mean time of each kind of operator, the longest first.
    ///
    /// # Errors
    /// If the engine does not measure operators, or one of them fails.
    fn profile(&self, runs: usize) -> anyhow::Result<Vec<OperatorTime>>;
}

/// The CPU time that a computation may take. What the calling thread takes is counted already.
pub trait CpuBudget: Sync {
    /// Counts the time of other threads.
    fn spend(&self, time: Duration);

    /// Whether the computation must end.
    fn is_exceeded(&self) -> bool;
}

/// The engine that the program contains, if it contains one.
static BUILT_IN: OnceLock<Box<dyn Engine>> = OnceLock::new();

/// Sets the engine `tract`. A program does this once, before it loads a network: tract takes long to compile, so only
/// programs that are meant to contain it do.
pub fn set_built_in(engine: Box<dyn Engine>) {
    let _ = BUILT_IN.set(engine);
}

fn built_in() -> anyhow::Result<&'static dyn Engine> {
    let engine = BUILT_IN.get().map(Box::as_ref);
    engine.context("this `spotter` has no engine for models; build it with `--features tract`")
}

/// Loads a network with the ONNX Runtime in a shared library.
///
/// # Errors
/// If the library is not ONNX Runtime, or does not take the network.
pub type LoadOnnxRuntime = fn(&OnnxModel, &Path) -> anyhow::Result<Arc<dyn Graph>>;

/// What loads networks with ONNX Runtime, if the program contains it.
static ONNX_RUNTIME: OnceLock<LoadOnnxRuntime> = OnceLock::new();

/// Sets what the engine `onnxruntime` loads networks with. A program does this once, before it loads a network.
pub fn set_onnx_runtime(load: LoadOnnxRuntime) {
    let _ = ONNX_RUNTIME.set(load);
}

fn onnx_runtime() -> anyhow::Result<&'static LoadOnnxRuntime> {
    ONNX_RUNTIME.get().context(
        "this `spotter` has no ONNX Runtime engine; build it with `--features onnxruntime`",
    )
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
/// If a file is missing or invalid, or the engine is not available. The error names the file.
pub fn load(folder: &Path, engine: &NnEngine) -> anyhow::Result<Arc<dyn Graph>> {
    let model = OnnxModel::read(folder)?;
    let graph: Arc<dyn Graph> = match engine {
        NnEngine::Tract { threads } => built_in()?.load(&model, *threads)?,
        NnEngine::OnnxRuntime(library) => onnx_runtime()?(&model, library)?,
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
    /// Their multiplications with additions; 0 if the engine does not know how many.
    pub multiply_adds: u64,
}

/// Measures the network in a model's folder in the built-in engine: see [`Graph::profile`].
///
/// # Errors
/// If the network cannot be loaded or run.
pub fn profile(folder: &Path, runs: usize) -> anyhow::Result<Vec<OperatorTime>> {
    built_in()?.load(&OnnxModel::read(folder)?, NonZeroU16::MIN)?.profile(runs)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{NnEngine, load};

    #[test]
    fn a_program_without_an_engine_says_how_to_get_one() {
        // Cargo runs a crate's tests in its folder.
        let folder = Path::new("../../function/model/ssdlite_mobilenet_v2");
        let engines = [
            (NnEngine::default(), "--features tract"),
            (NnEngine::OnnxRuntime("/any.so".into()), "--features onnxruntime"),
        ];
        for (engine, feature) in engines {
            let error = load(folder, &engine).err().expect("an error");
            assert!(format!("{error:#}").contains(feature), "{error:#}");
        }
    }
}
