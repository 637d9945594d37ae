//! A network in tract, with this repository's kernels at the full width of the processor's vectors.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use prost::Message;
use spotter_nn::{
    ComputeError, CpuBudget, ElementType, Graph, InputSpec, NamedTensor, OnnxModel, OperatorTime,
    Tensor as HostTensor,
};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::Cost;
use tract_onnx::tract_core::plan;

use super::half_weights;
use super::threads::Threads;

/// How often a computation's budget is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// A network that is optimised and ready to run.
pub(super) struct TractGraph {
    plan: Arc<TypedRunnableModel>,
    input: InputSpec,
    outputs: Vec<String>,
    activation_bytes: u64,
    threads: Threads,
}

impl TractGraph {
    /// Parses and optimises a network.
    ///
    /// # Errors
    /// If it is not a valid ONNX file, has an operator that tract does not support, or lacks the input, or the system
    /// refuses a thread.
    pub(super) fn load(model: &OnnxModel, threads: NonZeroU16) -> anyhow::Result<Self> {
        let OnnxModel { input, onnx } = model;
        let fact = InferenceFact::dt_shape(datum_type(input.element)?, input.shape);
        let framework = tract_onnx::onnx();
        // Of `Bytes`, prost copies each tensor once, and of a slice twice.
        let proto = ModelProto::decode(onnx.clone()).map_err(TractError::from);
        let network = proto.and_then(|mut proto| {
            half_weights::widen(&mut proto);
            framework.model_for_proto_model(&proto)
        });
        let network = network.context("model.onnx is not a valid ONNX file")?;
        let outputs = network.output_outlets()?.iter();
        let outputs = outputs
            .map(|outlet| {
                let label = network.outlet_label(*outlet);
                label.unwrap_or(&network.node(outlet.node).name).to_owned()
            })
            .collect();
        let network = network
            .with_input_names([&input.name])
            .and_then(|network| network.with_input_fact(0, fact))
            .with_context(|| format!("model.onnx has no input `{}`", input.name))?;
        let network = network.into_typed().context("model.onnx")?;
        let plan = kernels::optimise(network).and_then(TypedModel::into_runnable);
        let plan = plan.context("model.onnx")?;
        let activation_bytes = activation_bytes(plan.model())?;
        let threads = Threads::start(threads)?;
        Ok(Self { plan, input: input.clone(), outputs, activation_bytes, threads })
    }
}

impl Graph for TractGraph {
    fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        budget: &dyn CpuBudget,
    ) -> Result<Vec<NamedTensor>, ComputeError> {
        let engine = |error: TractError| ComputeError::Engine(format!("{error:#}"));
        let input = self.input.take(inputs).and_then(|input| to_tract(&input));
        let input = input.map_err(|error| ComputeError::InvalidArgument(format!("{error:#}")))?;
        if budget.is_exceeded() {
            return Err(ComputeError::Cancelled);
        }
        self.threads.run(|other_threads| {
            let mut state = self.plan.spawn().map_err(engine)?;
            let mut is_cancelled = false;
            let mut counted = Instant::now();
            let outputs =
                state.run_plan_with_eval(tvec!(input.into()), |context, state, node, inputs| {
                    let elapsed = counted.elapsed();
                    if elapsed >= CHECK_INTERVAL {
                        budget.spend(elapsed * other_threads);
                        counted = Instant::now();
                        if budget.is_exceeded() {
                            is_cancelled = true;
                            bail!("cancelled");
                        }
                    }
                    plan::eval(context, state, node, inputs)
                });
            budget.spend(counted.elapsed() * other_threads);
            if is_cancelled {
                return Err(ComputeError::Cancelled);
            }
            let outputs = self.outputs.iter().zip(outputs.map_err(engine)?);
            outputs.map(|(name, value)| to_named(name, &value).map_err(engine)).collect()
        })
    }

    fn activation_bytes(&self) -> u64 {
        self.activation_bytes
    }

    fn profile(&self, runs: usize) -> anyhow::Result<Vec<OperatorTime>> {
        let multiply_adds = multiply_adds(self.plan.model())?;
        let mut times = BTreeMap::<String, (Duration, usize)>::new();
        for _ in 0..runs {
            let input = Tensor::zero_dt(datum_type(self.input.element)?, &self.input.shape)?;
            let mut state = self.plan.spawn()?;
            state.run_plan_with_eval(tvec!(input.into()), |context, state, node, inputs| {
                let started = Instant::now();
                let result = plan::eval(context, state, node, inputs);
                let (time, count) = times.entry(node.op().name().to_string()).or_default();
                *time += started.elapsed();
                *count += 1;
                result
            })?;
        }
        #[allow(clippy::cast_precision_loss, reason = "runs are few")]
        let mean = |time: Duration| time.as_secs_f64() * 1000.0 / runs as f64;
        let times = times.into_iter();
        let mut times: Vec<_> = times
            .map(|(name, (time, count))| OperatorTime {
                multiply_adds: multiply_adds.get(&name).copied().unwrap_or_default(),
                name,
                count: count / runs,
                milliseconds: mean(time),
            })
            .collect();
        times.sort_by(|one, other| other.milliseconds.total_cmp(&one.milliseconds));
        Ok(times)
    }
}

/// How many multiplications with additions the operators of each kind do in one run.
fn multiply_adds(model: &TypedModel) -> TractResult<BTreeMap<String, u64>> {
    let mut sums = BTreeMap::new();
    for node in model.nodes() {
        let costs = node.op.cost(&model.node_input_facts(node.id)?)?;
        let fused = costs.iter().filter(|(cost, _)| matches!(cost, Cost::FMA(_)));
        let sum: u64 =
            fused.filter_map(|(_, count)| count.to_i64().ok()).map(i64::unsigned_abs).sum();
        *sums.entry(node.op().name().to_string()).or_default() += sum;
    }
    Ok(sums)
}

fn to_tract(tensor: &HostTensor) -> anyhow::Result<Tensor> {
    let mut taken = Tensor::zero_dt(datum_type(tensor.element)?, &tensor.shape)?;
    taken.try_as_plain_ram_mut()?.as_bytes_mut().copy_from_slice(&tensor.data);
    Ok(taken)
}

fn to_named(name: &str, tensor: &Tensor) -> TractResult<NamedTensor> {
    let element = match tensor.datum_type() {
        DatumType::F16 => ElementType::F16,
        DatumType::F32 => ElementType::F32,
        DatumType::F64 => ElementType::F64,
        DatumType::U8 => ElementType::U8,
        DatumType::I32 => ElementType::I32,
        DatumType::I64 => ElementType::I64,
        other => bail!(
            "the output `{name}` is {other:?}; cast it to f32, i32 or i64 before you export the network"
        ),
    };
    let data = tensor.try_as_plain_ram()?.as_bytes().to_vec();
    let tensor = HostTensor { shape: tensor.shape().to_vec(), element, data };
    Ok(NamedTensor { name: name.to_owned(), tensor })
}

fn datum_type(element: ElementType) -> anyhow::Result<DatumType> {
    Ok(match element {
        ElementType::F16 => DatumType::F16,
        ElementType::F32 => DatumType::F32,
        ElementType::F64 => DatumType::F64,
        ElementType::U8 => DatumType::U8,
        ElementType::I32 => DatumType::I32,
        ElementType::I64 => DatumType::I64,
        ElementType::Bf16 => bail!("tract does not support bf16"),
    })
}

/// The most memory that a run's tensors take at once. Constants are the graph's, not the run's.
fn activation_bytes(model: &TypedModel) -> anyhow::Result<u64> {
    let order = model.eval_order()?;
    let steps = model.eval_tmp_memory_usage(&order, |node| {
        !node.op_is::<tract_onnx::tract_core::ops::konst::Const>()
    })?;
    let bytes =
        steps.iter().filter_map(|(_, bytes)| bytes.to_i64().ok().map(i64::unsigned_abs)).max();
    bytes.context("the graph has no operators")
}
