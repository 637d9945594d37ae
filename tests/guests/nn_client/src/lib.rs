//! Uses `wasi:nn` in a different way on each path, most of them wrong. Replies with what the host says.

#![cfg(target_arch = "wasm32")]

use spin_sdk::http::{Request, Response};
use spin_sdk::http_component;

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
                enum error-code {
                    invalid-argument, invalid-encoding, timeout, runtime-error, unsupported-operation,
                    too-large, not-found, security, unknown,
                }
                resource error { code: func() -> error-code; data: func() -> string; }
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
        runtime_path: "::spin_sdk::wit_bindgen::rt",
    });
}

use bindings::wasi::nn::errors::Error;
use bindings::wasi::nn::graph::{ExecutionTarget, Graph, GraphEncoding, load, load_by_name};
use bindings::wasi::nn::tensor::{Tensor, TensorType};

/// The network's input has this many elements: 300 by 300 pixels of three bytes.
const INPUT_BYTES: usize = 300 * 300 * 3;

#[http_component]
fn handle(request: Request) -> Response {
    let path = request.header("spin-path-info").and_then(|path| path.as_str()).unwrap_or("/");
    let argument = request.query();
    let said = match path {
        "/load-by-name" => load_by_name(argument).map(|_| "loaded".to_owned()),
        "/load" => load(&[vec![0; 100]], GraphEncoding::Onnx, ExecutionTarget::Cpu)
            .map(|_| "loaded".to_owned()),
        "/compute" => compute("image", &[1, 300, 300, 3], TensorType::U8, INPUT_BYTES),
        "/wrong-name" => compute("picture", &[1, 300, 300, 3], TensorType::U8, INPUT_BYTES),
        "/wrong-shape" => compute("image", &[1, 3, 300, 300], TensorType::U8, INPUT_BYTES),
        "/wrong-type" => compute("image", &[1, 300, 300, 3], TensorType::Fp32, 4 * INPUT_BYTES),
        "/wrong-length" => compute("image", &[1, 300, 300, 3], TensorType::U8, 7),
        "/hoard" => {
            let hoard: Vec<Tensor> = (0..200)
                .map(|_| Tensor::new(&[8 << 20], TensorType::U8, &vec![1; 8 << 20]))
                .collect();
            Ok(hoard.len().to_string())
        }
        "/drop" => {
            for _ in 0..200 {
                drop(Tensor::new(&[8 << 20], TensorType::U8, &vec![1; 8 << 20]));
            }
            Ok("dropped".to_owned())
        }
        "/compute-for-ever" => loop {
            if let Err(error) = compute("image", &[1, 300, 300, 3], TensorType::U8, INPUT_BYTES) {
                break Err(error);
            }
        },
        _ => Ok("unknown".to_owned()),
    };
    let said = said.unwrap_or_else(|error| format!("{:?}: {}", error.code(), error.data()));
    Response::new(200, said)
}

/// Runs the network that the manifest grants. Returns the shapes of its outputs.
fn compute(name: &str, shape: &[u32], element: TensorType, bytes: usize) -> Result<String, Error> {
    let graph: Graph = load_by_name("ssdlite-mobilenet-v2")?;
    let context = graph.init_execution_context()?;
    let tensor = Tensor::new(shape, element, &vec![0; bytes]);
    let outputs = context.compute(vec![(name.to_owned(), tensor)])?;
    let outputs = outputs.iter().map(|(name, tensor)| format!("{name} {:?}", tensor.dimensions()));
    Ok(outputs.collect::<Vec<_>>().join(", "))
}
