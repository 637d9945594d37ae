//! Provides the granted networks through `wasi:nn` (<https://github.com/WebAssembly/wasi-nn>).
//!
//! A guest can only load a network by a name that its `ai_models` grants, not from bytes of its own. What the host
//! computes for a guest counts against the guest's limits, as if the guest computed it itself: CPU time, and the
//! memory of all tensors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use crate::limits::cpu_limit::CpuLimitExceeded;
use crate::limits::memory_limit::MemoryLimit;
use crate::limits::usage::Usage;
use spotter_nn::{ComputeError, CpuBudget, ElementType, Graph, NamedTensor, NnMetrics, Tensor};

mod bindings {
    wasmtime::component::bindgen!({
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
                enum error-code {
                    invalid-argument,
                    invalid-encoding,
                    timeout,
                    runtime-error,
                    unsupported-operation,
                    too-large,
                    not-found,
                    security,
                    unknown,
                }
                resource error {
                    code: func() -> error-code;
                    data: func() -> string;
                }
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
                enum graph-encoding {
                    openvino, onnx, tensorflow, pytorch, tensorflowlite, ggml, autodetect,
                }
                enum execution-target { cpu, gpu, tpu }
                load: func(builder: list<list<u8>>, encoding: graph-encoding, target: execution-target)
                    -> result<graph, error>;
                load-by-name: func(name: string) -> result<graph, error>;
            }
            world imports { import tensor; import graph; import inference; import errors; }
        ",
        with: {
            "wasi:nn/tensor.tensor": spotter_nn::Tensor,
            "wasi:nn/errors.error": super::NnError,
            "wasi:nn/inference.graph-execution-context": super::NamedGraph,
            "wasi:nn/graph.graph": super::NamedGraph,
        },
        imports: { default: trappable },
    });
}

use bindings::wasi::nn::errors::{self, ErrorCode};
use bindings::wasi::nn::graph::{self, ExecutionTarget, GraphEncoding};
use bindings::wasi::nn::inference;
use bindings::wasi::nn::tensor::{self, TensorType};

/// A network and the name under which it is granted.
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct NamedGraph {
    name: Arc<str>,
    graph: Arc<dyn Graph>,
}

/// An error as the guest sees it.
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Debug)]
pub struct NnError {
    code: ErrorCode,
    reason: String,
}

/// The networks that one component may use.
#[derive(Clone)]
pub(super) struct NnGrant {
    graphs: Arc<[NamedGraph]>,
    metrics: NnMetrics,
}

impl NnGrant {
    pub(super) fn new(graphs: BTreeMap<String, Arc<dyn Graph>>, metrics: NnMetrics) -> Self {
        let graphs = graphs.into_iter();
        let graphs = graphs.map(|(name, graph)| NamedGraph { name: name.into(), graph });
        Self { graphs: graphs.collect(), metrics }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.graphs.is_empty()
    }
}

/// What the interface needs of an instance's state.
pub(super) struct NnView<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) grant: &'a NnGrant,
    pub(super) memory: &'a mut MemoryLimit,
    pub(super) request_cpu: Duration,
}

/// The CPU time of the request that a guest serves.
struct RequestBudget<'u> {
    usage: &'u Usage,
    request_cpu: Duration,
}

impl CpuBudget for RequestBudget<'_> {
    fn spend(&self, time: Duration) {
        self.usage.add_cpu(time);
    }

    fn is_exceeded(&self) -> bool {
        self.usage.cpu() > self.request_cpu
    }
}

struct Nn;

impl HasData for Nn {
    type Data<'a> = NnView<'a>;
}

/// Adds the interface to the linker. `host_getter` finds what it needs in an instance's state.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host_getter: fn(&mut T) -> NnView<'_>,
) -> anyhow::Result<()> {
    tensor::add_to_linker::<T, Nn>(linker, host_getter)?;
    errors::add_to_linker::<T, Nn>(linker, host_getter)?;
    inference::add_to_linker::<T, Nn>(linker, host_getter)?;
    graph::add_to_linker::<T, Nn>(linker, host_getter)?;
    Ok(())
}

/// The most axes that a guest's tensor can have.
const MAX_TENSOR_RANK: usize = 8;

/// The longest reason that is kept for a guest.
const MAX_REASON_CHARACTERS: usize = 1000;

/// A call's result: what it returns to the guest, or a trap.
type HostResult<T> = wasmtime::Result<Result<T, Resource<NnError>>>;

impl NnView<'_> {
    fn refuse<T>(&mut self, code: ErrorCode, mut reason: String) -> HostResult<T> {
        // It may repeat what the guest sent.
        if let Some((end, _)) = reason.char_indices().nth(MAX_REASON_CHARACTERS) {
            reason.truncate(end);
        }
        Ok(Err(self.table.push(NnError { code, reason })?))
    }

    /// Counts memory that the host holds for the guest. Fails where the guest's own memory could not grow either.
    fn hold(&mut self, bytes: u64) -> Result<(), String> {
        if self.memory.try_grow(bytes) {
            return Ok(());
        }
        Err(format!("tensors of {bytes} bytes exceed the instance's limit on memory"))
    }

    fn run(
        &mut self,
        graph: &NamedGraph,
        inputs: Vec<NamedTensor>,
    ) -> Result<Vec<NamedTensor>, ComputeError> {
        let _measured = self.grant.metrics.start(&graph.name);
        let (usage, request_cpu) = (self.memory.usage(), self.request_cpu);
        graph.graph.compute(inputs, &RequestBudget { usage, request_cpu })
    }
}

impl graph::Host for NnView<'_> {
    fn load(
        &mut self,
        _: Vec<Vec<u8>>,
        _: GraphEncoding,
        _: ExecutionTarget,
    ) -> HostResult<Resource<NamedGraph>> {
        let reason = "this host loads networks by name only: see `ai_models` in spin.toml";
        self.refuse(ErrorCode::UnsupportedOperation, reason.to_owned())
    }

    fn load_by_name(&mut self, name: String) -> HostResult<Resource<NamedGraph>> {
        match self.grant.graphs.iter().find(|graph| *graph.name == *name) {
            Some(graph) => Ok(Ok(self.table.push(graph.clone())?)),
            None => self.refuse(
                ErrorCode::Security,
                format!("the component's `ai_models` in spin.toml does not grant {name:?}"),
            ),
        }
    }
}

impl graph::HostGraph for NnView<'_> {
    fn init_execution_context(
        &mut self,
        graph: Resource<NamedGraph>,
    ) -> HostResult<Resource<NamedGraph>> {
        let graph = self.table.get(&graph)?.clone();
        Ok(Ok(self.table.push(graph)?))
    }

    fn drop(&mut self, graph: Resource<NamedGraph>) -> wasmtime::Result<()> {
        self.table.delete(graph)?;
        Ok(())
    }
}

impl inference::Host for NnView<'_> {}

impl inference::HostGraphExecutionContext for NnView<'_> {
    fn compute(
        &mut self,
        context: Resource<NamedGraph>,
        inputs: Vec<(String, Resource<Tensor>)>,
    ) -> HostResult<Vec<(String, Resource<Tensor>)>> {
        let graph = self.table.get(&context)?.clone();
        let mut taken = Vec::new();
        let mut input_bytes = 0;
        for (name, tensor) in inputs {
            let tensor = self.table.delete(tensor)?;
            input_bytes += tensor.data.len() as u64;
            taken.push(NamedTensor { name, tensor });
        }
        let activations = graph.graph.activation_bytes();
        if let Err(reason) = self.hold(activations) {
            self.memory.shrink(input_bytes);
            return self.refuse(ErrorCode::TooLarge, reason);
        }
        let computed = self.run(&graph, taken);
        self.memory.shrink(activations + input_bytes);
        match computed {
            Ok(outputs) => {
                let mut returned = Vec::new();
                for NamedTensor { name, tensor } in outputs {
                    if let Err(reason) = self.hold(tensor.data.len() as u64) {
                        return self.refuse(ErrorCode::TooLarge, reason);
                    }
                    returned.push((name, self.table.push(tensor)?));
                }
                Ok(Ok(returned))
            }
            Err(ComputeError::InvalidArgument(reason)) => {
                self.refuse(ErrorCode::InvalidArgument, reason)
            }
            Err(ComputeError::Cancelled) => Err(wasmtime::Error::new(CpuLimitExceeded)),
            Err(ComputeError::Engine(reason)) => self.refuse(ErrorCode::RuntimeError, reason),
        }
    }

    fn drop(&mut self, context: Resource<NamedGraph>) -> wasmtime::Result<()> {
        self.table.delete(context)?;
        Ok(())
    }
}

impl tensor::Host for NnView<'_> {}

impl tensor::HostTensor for NnView<'_> {
    fn new(
        &mut self,
        dimensions: Vec<u32>,
        element: TensorType,
        data: Vec<u8>,
    ) -> wasmtime::Result<Resource<Tensor>> {
        // The constructor cannot return an error, so a guest beyond a limit ends here.
        if dimensions.len() > MAX_TENSOR_RANK {
            let text = format!(
                "a tensor has {} axes; at most {MAX_TENSOR_RANK} are allowed",
                dimensions.len()
            );
            return Err(wasmtime::Error::msg(text));
        }
        self.hold(data.len() as u64).map_err(wasmtime::Error::msg)?;
        let shape = dimensions.into_iter().map(|axis| axis as usize).collect();
        Ok(self.table.push(Tensor { shape, element: element.into(), data })?)
    }

    fn dimensions(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u32>> {
        let shape = self.table.get(&tensor)?.shape.iter();
        Ok(shape.map(|axis| u32::try_from(*axis)).collect::<Result<_, _>>()?)
    }

    fn ty(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<TensorType> {
        Ok(self.table.get(&tensor)?.element.into())
    }

    fn data(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&tensor)?.data.clone())
    }

    fn drop(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<()> {
        let tensor = self.table.delete(tensor)?;
        self.memory.shrink(tensor.data.len() as u64);
        Ok(())
    }
}

impl errors::Host for NnView<'_> {}

impl errors::HostError for NnView<'_> {
    fn code(&mut self, error: Resource<NnError>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&error)?.code)
    }

    fn data(&mut self, error: Resource<NnError>) -> wasmtime::Result<String> {
        Ok(self.table.get(&error)?.reason.clone())
    }

    fn drop(&mut self, error: Resource<NnError>) -> wasmtime::Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

impl From<TensorType> for ElementType {
    fn from(element: TensorType) -> Self {
        match element {
            TensorType::Fp16 => Self::F16,
            TensorType::Fp32 => Self::F32,
            TensorType::Fp64 => Self::F64,
            TensorType::Bf16 => Self::Bf16,
            TensorType::U8 => Self::U8,
            TensorType::I32 => Self::I32,
            TensorType::I64 => Self::I64,
        }
    }
}

impl From<ElementType> for TensorType {
    fn from(element: ElementType) -> Self {
        match element {
            ElementType::F16 => Self::Fp16,
            ElementType::F32 => Self::Fp32,
            ElementType::F64 => Self::Fp64,
            ElementType::Bf16 => Self::Bf16,
            ElementType::U8 => Self::U8,
            ElementType::I32 => Self::I32,
            ElementType::I64 => Self::I64,
        }
    }
}
