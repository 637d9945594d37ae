//! A network in ONNX Runtime.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use ort::environment::Environment;
use ort::session::builder::{PrepackedWeights, SessionBuilder};
use ort::session::{NoSelectedOutputs, RunOptions, Session};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType};
use spotter_nn::{
    ComputeError, CpuBudget, ElementType, Graph, InputSpec, NamedTensor, OnnxModel, OperatorTime,
    Tensor,
};

/// How often a run's limit is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// A network in ONNX Runtime.
pub(super) struct OnnxRuntimeGraph {
    environment: Environment,
    onnx: Bytes,
    input: InputSpec,
    outputs: Vec<String>,
    /// The free sessions. A session runs one computation at a time, so there are as many as have run at once.
    idle: Mutex<Vec<Session>>,
    /// The sessions share the weights that the kernels have packed.
    weights: PrepackedWeights,
}

impl OnnxRuntimeGraph {
    /// Loads the library and the network.
    ///
    /// # Errors
    /// If the library is not ONNX Runtime 1.17 or later, or does not take the network, or the input's type is not
    /// supported.
    pub(super) fn load(model: &OnnxModel, library: &Path) -> anyhow::Result<Self> {
        let element = model.input.element;
        ensure!(
            matches!(element, ElementType::U8 | ElementType::F32),
            "model.toml: the ONNX Runtime engine takes no input of {element}; export the network with an input of \
             u8 or f32, or use the engine `tract`"
        );
        let environment = ort::init_from(library)
            .map_err(|error| anyhow!("{}: {error}", library.display()))?
            .with_name("spotter")
            .with_telemetry(false)
            .build()
            .with_context(|| library.display().to_string())?;
        let OnnxModel { input, onnx } = model;
        let mut graph = Self {
            environment,
            onnx: onnx.clone(),
            input: input.clone(),
            outputs: Vec::new(),
            idle: Mutex::default(),
            weights: PrepackedWeights::new(),
        };
        let session = graph.take_session().context("model.onnx")?;
        let inputs: Vec<&str> = session.inputs().iter().map(ort::value::Outlet::name).collect();
        ensure!(
            inputs == [&input.name],
            "the inputs of model.onnx are {inputs:?}; model.toml names `{}`",
            input.name
        );
        graph.outputs = session.outputs().iter().map(|output| output.name().to_owned()).collect();
        graph.return_session(session);
        Ok(graph)
    }

    fn take_session(&self) -> anyhow::Result<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = idle.pop() {
            return Ok(session);
        }
        drop(idle);
        let mut builder = builder(&self.environment, &self.weights)?;
        Ok(builder.commit_from_memory(&self.onnx)?)
    }

    fn return_session(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    fn run(
        &self,
        input: DynValue,
        options: &RunOptions<NoSelectedOutputs>,
    ) -> anyhow::Result<Vec<NamedTensor>> {
        let mut session = self.take_session()?;
        let computed = session.run_with_options(vec![(self.input.name.as_str(), input)], options);
        let tensors = computed.map_err(anyhow::Error::from).and_then(|outputs| {
            let named = self.outputs.iter().map(|name| {
                let output = outputs.get(name).with_context(|| format!("no output `{name}`"))?;
                Ok(NamedTensor { name: name.clone(), tensor: to_host(output)? })
            });
            named.collect()
        });
        self.return_session(session);
        tensors
    }
}

/// One thread for each computation: as many run at once as there are instances.
fn builder(environment: &Environment, weights: &PrepackedWeights) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(environment)?;
    Ok(builder.with_intra_threads(1)?.with_prepacked_weights(weights)?)
}

impl Graph for OnnxRuntimeGraph {
    fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        budget: &dyn CpuBudget,
    ) -> Result<Vec<NamedTensor>, ComputeError> {
        let invalid = |error: anyhow::Error| ComputeError::InvalidArgument(format!("{error:#}"));
        let engine = |error: anyhow::Error| ComputeError::Engine(format!("{error:#}"));
        let input = self.input.take(inputs).and_then(to_ort).map_err(invalid)?;
        let options = RunOptions::new().map_err(|error| engine(error.into()))?;
        std::thread::scope(|scope| {
            let (done, running) = mpsc::channel::<()>();
            let options = &options;
            let watcher = scope.spawn(move || {
                while running.recv_timeout(CHECK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    if budget.is_exceeded() {
                        // If the run has just ended, there is nothing to stop.
                        let _ = options.terminate();
                        return true;
                    }
                }
                false
            });
            let computed = self.run(input, options);
            drop(done);
            match watcher.join() {
                Ok(true) => Err(ComputeError::Cancelled),
                _ => computed.map_err(engine),
            }
        })
    }

    /// Unknown: ONNX Runtime's arena is its own, and outside of the instance's limit.
    fn activation_bytes(&self) -> u64 {
        0
    }

    fn profile(&self, _: usize) -> anyhow::Result<Vec<OperatorTime>> {
        bail!("only the engine `tract` measures operators")
    }
}

fn to_ort(tensor: Tensor) -> anyhow::Result<DynValue> {
    let Tensor { shape, element, data } = tensor;
    Ok(match element {
        ElementType::U8 => OrtTensor::from_array((shape, data))?.into_dyn(),
        ElementType::F32 => {
            let elements = data.as_chunks::<4>().0.iter();
            let elements: Vec<f32> = elements.map(|bytes| f32::from_le_bytes(*bytes)).collect();
            OrtTensor::from_array((shape, elements))?.into_dyn()
        }
        other => bail!("an input of {other} is not supported with ONNX Runtime"),
    })
}

fn to_host(value: &DynValue) -> anyhow::Result<Tensor> {
    fn bytes<T: PrimitiveTensorElementType, const SIZE: usize>(
        value: &DynValue,
        to_bytes: impl Fn(&T) -> [u8; SIZE],
    ) -> ort::Result<Vec<u8>> {
        Ok(value.try_extract_tensor::<T>()?.1.iter().flat_map(to_bytes).collect())
    }
    let kind = value.dtype().tensor_type().context("an output is not a tensor")?;
    let (element, data) = match kind {
        TensorElementType::Float32 => {
            (ElementType::F32, bytes::<f32, 4>(value, |number| number.to_le_bytes())?)
        }
        TensorElementType::Int64 => {
            (ElementType::I64, bytes::<i64, 8>(value, |number| number.to_le_bytes())?)
        }
        TensorElementType::Int32 => {
            (ElementType::I32, bytes::<i32, 4>(value, |number| number.to_le_bytes())?)
        }
        other => bail!(
            "an output is {other:?}; cast it to f32, i32 or i64 before you export the network"
        ),
    };
    let shape = value.dtype().tensor_shape().context("an output is not a tensor")?;
    let shape = shape.iter().map(|axis| usize::try_from(*axis)).collect::<Result<_, _>>()?;
    Ok(Tensor { shape, element, data })
}
