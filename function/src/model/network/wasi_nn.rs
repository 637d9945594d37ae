//! Runs a network in the host, through `wasi:nn` (<https://github.com/WebAssembly/wasi-nn>): the component contains
//! neither weights nor an engine.

use anyhow::Context;

use crate::error::Error;
use crate::model::head::{self, OutputFact};
use crate::model::{Head, InputConfig, ModelConfig};
use crate::tensor::{Elements, Tensor};

mod bindings {
    spin_sdk::wit_bindgen::generate!({
        inline: "
            package wasi:nn@0.2.0-rc-2024-10-28;
            interface tensor {
                enum tensor-type { FP16, FP32, FP64, BF16, U8, I32, I64 }
                resource tensor {
                    constructor(dimensions: list<u32>, ty: tensor-type, data: list<u8>);
                    dimensions: func() -> list<u32>;
                    ty: func() -> tensor-type;
                    data: func() -> list<u8>;
                }
            }
            interface errors {
                resource error { data: func() -> string; }
            }
            interface inference {
                use errors.{error};
                use tensor.{tensor};
                resource graph-execution-context {
                    compute: func(inputs: list<tuple<string, tensor>>)
                        -> result<list<tuple<string, tensor>>, error>;
                }
            }
            interface graph {
                use errors.{error};
                use inference.{graph-execution-context};
                resource graph {
                    init-execution-context: func() -> result<graph-execution-context, error>;
                }
                load-by-name: func(name: string) -> result<graph, error>;
            }
            world imports { import tensor; import graph; import inference; import errors; }
        ",
        runtime_path: "::spin_sdk::wit_bindgen::rt",
    });
}

use bindings::wasi::nn::errors::Error as NnError;
use bindings::wasi::nn::graph::load_by_name;
use bindings::wasi::nn::tensor::{Tensor as NnTensor, TensorType};

/// The name of a network, and what its outputs must be.
pub(in crate::model) struct Network {
    /// The name under which the host grants it.
    graph: String,
    input: InputConfig,
    head: Head,
    labels: usize,
}

impl Network {
    /// Takes what it needs from the configuration. The host has the graph, so there is nothing to load.
    ///
    /// # Errors
    /// None.
    pub(in crate::model) fn load(
        config: &ModelConfig,
        labels: usize,
        _: &[u8],
    ) -> anyhow::Result<Self> {
        Ok(Self {
            graph: config.name.replace('_', "-"),
            input: config.input.clone(),
            head: config.output.head.clone(),
            labels,
        })
    }

    /// Runs the network.
    ///
    /// # Errors
    /// [`Error::Internal`] if the host does not grant the graph, or the graph is not what `model.toml` describes.
    /// Neither depends on the client's input.
    pub(in crate::model) fn run(&self, input: Tensor) -> Result<Outputs, Error> {
        self.compute(input).map_err(|error| Error::Internal(format!("{error:#}")))
    }

    fn compute(&self, input: Tensor) -> anyhow::Result<Outputs> {
        let graph = load_by_name(&self.graph).map_err(reason).context("wasi:nn")?;
        let context = graph.init_execution_context().map_err(reason).context("wasi:nn")?;
        let inputs = vec![(self.input.name.clone(), to_host(input))];
        let mut computed = context.compute(inputs).map_err(reason).context("wasi:nn")?;
        let mut tensors = Vec::new();
        for name in self.head.outputs() {
            let position = computed.iter().position(|(computed, _)| computed == name);
            let position = position.with_context(|| format!("the graph has no output `{name}`"))?;
            tensors.push(OutputTensor::from_host(&computed.swap_remove(position).1)?);
        }
        let facts = tensors.iter().map(OutputTensor::fact);
        head::check_facts(&self.head, &self.input, self.labels, facts)?;
        Ok(Outputs { tensors })
    }
}

/// The output tensors of one run, all as f32, in the order of the head's names.
pub struct Outputs {
    tensors: Vec<OutputTensor>,
}

impl Outputs {
    /// All values of an output, in row-major order; none if there is no such output.
    pub fn values(&self, index: usize) -> &[f32] {
        self.tensors.get(index).map(|tensor| tensor.values.as_slice()).unwrap_or_default()
    }
}

struct OutputTensor {
    element: &'static str,
    shape: Vec<usize>,
    values: Values,
}

/// The elements of an output.
enum Values {
    /// As the host sent them, aligned as f32.
    Sent(Vec<u8>),
    /// Whole numbers (labels), or numbers that were not aligned.
    Converted(Vec<f32>),
}

impl Values {
    /// Does not copy the bytes if they are aligned: scores can be a megabyte.
    fn from_f32_bytes(bytes: Vec<u8>) -> Self {
        match bytemuck::try_cast_slice::<u8, f32>(&bytes) {
            Ok(_) => Self::Sent(bytes),
            Err(_) => Self::Converted(elements(&bytes, f32::from_le_bytes)),
        }
    }

    fn as_slice(&self) -> &[f32] {
        match self {
            Self::Sent(bytes) => bytemuck::try_cast_slice(bytes).unwrap_or_default(),
            Self::Converted(values) => values,
        }
    }
}

impl OutputTensor {
    fn from_host(tensor: &NnTensor) -> anyhow::Result<Self> {
        let data = tensor.data();
        #[allow(clippy::cast_precision_loss, reason = "labels are small")]
        let (element, values) = match tensor.ty() {
            TensorType::Fp32 => ("f32", Values::from_f32_bytes(data)),
            TensorType::I32 => {
                let labels = elements(&data, |bytes| i32::from_le_bytes(bytes) as f32);
                ("i32", Values::Converted(labels))
            }
            TensorType::I64 => {
                let labels = elements(&data, |bytes| i64::from_le_bytes(bytes) as f32);
                ("i64", Values::Converted(labels))
            }
            other => anyhow::bail!(
                "an output is {other:?}; cast it to f32, i32 or i64 before you export the network"
            ),
        };
        let shape = tensor.dimensions().into_iter().map(|axis| axis as usize).collect();
        Ok(Self { element, shape, values })
    }

    fn fact(&self) -> OutputFact {
        let shape = self.shape.iter().copied().map(Some).collect();
        OutputFact { element: self.element.to_owned(), shape }
    }
}

fn elements<const SIZE: usize>(data: &[u8], element: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    data.as_chunks::<SIZE>().0.iter().map(|bytes| element(*bytes)).collect()
}

fn to_host(tensor: Tensor) -> NnTensor {
    let dimensions: Vec<u32> =
        tensor.shape.iter().map(|axis| u32::try_from(*axis).unwrap_or(u32::MAX)).collect();
    let (element, data) = match tensor.elements {
        Elements::U8(elements) => (TensorType::U8, elements),
        Elements::F16(elements) => {
            (TensorType::Fp16, elements.into_iter().flat_map(half::f16::to_le_bytes).collect())
        }
        Elements::F32(elements) => {
            (TensorType::Fp32, elements.into_iter().flat_map(f32::to_le_bytes).collect())
        }
    };
    NnTensor::new(&dimensions, element, &data)
}

fn reason(error: NnError) -> anyhow::Error {
    anyhow::Error::msg(error.data())
}
