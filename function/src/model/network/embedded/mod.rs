//! Runs a network inside the component, with tract and this repository's kernels; the weights are in the snapshot.

mod graph;
mod outputs;
mod steps;

use std::sync::Arc;

use anyhow::Context;
use tract_onnx::prelude::*;

pub use outputs::Outputs;

use steps::Steps;

use crate::error::Error;
use crate::model::{ElementType, ModelConfig, head};
use crate::tensor::{self, Elements};

/// A network that is ready to run.
pub(in crate::model) enum Network {
    Steps(Steps),
    /// A network that only tract's plan can run.
    Plan(Arc<TypedRunnableModel>),
}

impl Network {
    /// Parses and optimises the network, and runs it once on a black picture. The run puts lazily built state into the
    /// snapshot, and rejects a network whose outputs are not what its head takes.
    ///
    /// # Errors
    /// If the network is not what `model.toml` describes, or its outputs do not fit the number of `labels`.
    pub(in crate::model) fn load(
        config: &ModelConfig,
        labels: usize,
        onnx: &[u8],
    ) -> anyhow::Result<Self> {
        let model = optimised(config, onnx).context("model.onnx")?;
        let outputs = model.output_outlets()?;
        let facts = outputs.iter().map(|outlet| model.outlet_fact(*outlet).map(fact));
        let facts: Vec<_> = facts.collect::<TractResult<_>>().context("model.onnx")?;
        let ModelConfig { input, output, .. } = config;
        head::check_facts(&output.head, input, labels, facts.into_iter()).context("model.onnx")?;
        let network = match Steps::new(&model).context("model.onnx")? {
            Some(steps) => Self::Steps(steps),
            None => Self::Plan(model.into_runnable().context("model.onnx")?),
        };
        let outputs = network.run(input.blank_tensor()).map_err(anyhow::Error::msg)?;
        head::check_values(&output.head, input, labels, &outputs)?;
        Ok(network)
    }

    /// Runs the network.
    ///
    /// # Errors
    /// [`Error::Internal`] if the network fails, which does not depend on the client's input.
    pub(in crate::model) fn run(&self, input: tensor::Tensor) -> Result<Outputs, Error> {
        let internal = |error: TractError| Error::Internal(format!("{error:#}"));
        let input = to_tract(input).map_err(internal)?;
        let outputs = match self {
            Self::Steps(steps) => steps.run(input.into()),
            Self::Plan(plan) => plan.run(tvec!(input.into())),
        };
        outputs.and_then(Outputs::new).map_err(internal)
    }
}

fn optimised(config: &ModelConfig, onnx: &[u8]) -> anyhow::Result<TypedModel> {
    let input = &config.input;
    let fact = InferenceFact::dt_shape(datum_type(input.element), input.shape());
    let network = tract_onnx::onnx().model_for_read(&mut std::io::Cursor::new(onnx))?;
    graph::check(&network, config)?;
    let network = network
        .with_input_names([&input.name])?
        .with_input_fact(0, fact)?
        .with_outputs_by_name(config.output.head.outputs())?
        .into_typed()?;
    kernels::optimise(network)
}

fn fact(fact: &TypedFact) -> head::OutputFact {
    let axes = fact.shape.iter().map(|axis| axis.as_i64().and_then(|n| n.try_into().ok()));
    head::OutputFact { element: type_name(fact.datum_type), shape: axes.collect() }
}

fn type_name(datum_type: DatumType) -> String {
    format!("{datum_type:?}").to_lowercase()
}

fn datum_type(element: ElementType) -> DatumType {
    match element {
        ElementType::U8 => DatumType::U8,
        ElementType::F16 => DatumType::F16,
        ElementType::F32 => DatumType::F32,
    }
}

fn to_tract(tensor: tensor::Tensor) -> TractResult<Tensor> {
    match tensor.elements {
        Elements::U8(elements) => shaped(&tensor.shape, elements),
        Elements::F16(elements) => shaped(&tensor.shape, elements),
        Elements::F32(elements) => shaped(&tensor.shape, elements),
    }
}

fn shaped<T: Datum>(shape: &[usize; 4], elements: Vec<T>) -> TractResult<Tensor> {
    Ok(tract_ndarray::Array4::from_shape_vec(*shape, elements)?.into())
}
