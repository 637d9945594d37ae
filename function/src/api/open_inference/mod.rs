//! The Open Inference Protocol, version 2, as KServe and Triton serve it: over HTTP at `/v2`, and over gRPC.
//!
//! Sources: `inference_rest.md` of kserve/open-inference-protocol; Triton's `extension_binary_data.md`.

pub(super) mod data;
pub(super) mod grpc;
pub(super) mod request;
pub(super) mod tensors;

use serde::Serialize;

use super::{Reply, Request, detection};
use crate::error::Error;
use crate::model::Model;
use request::InferenceRequest;
pub(super) use tensors::MODEL_VERSION;

const SERVER_NAME: &str = "spotter";

const PLATFORM_NAME: &str = "tract_onnx";

/// The name of the only input.
const INPUT_TENSOR_NAME: &str = "image";

/// The server's name, version and extensions.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 1],
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Live {
    live: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Ready {
    ready: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ModelReady<'m> {
    name: &'m str,
    ready: bool,
}

/// The model's inputs and outputs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ModelMetadata<'m> {
    name: &'m str,
    versions: [&'static str; 1],
    platform: &'static str,
    inputs: [TensorMetadata; 1],
    outputs: [TensorMetadata; 4],
}

/// A tensor's name, element type and shape. -1 stands for any length.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TensorMetadata {
    name: &'static str,
    datatype: &'static str,
    shape: &'static [i8],
}

/// An error.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ErrorResponse {
    error: String,
}

/// `GET /v2`.
pub(super) fn server(_: &Model, _: &Request) -> Result<Reply, Error> {
    let version = env!("CARGO_PKG_VERSION");
    Ok(Reply::json(
        200,
        &ServerMetadata { name: SERVER_NAME, version, extensions: ["binary_tensor_data"] },
    ))
}

/// `GET /v2/health/live`.
pub(super) fn live(_: &Model, _: &Request) -> Result<Reply, Error> {
    Ok(Reply::json(200, &Live { live: true }))
}

/// `GET /v2/health/ready`.
pub(super) fn ready(_: &Model, _: &Request) -> Result<Reply, Error> {
    Ok(Reply::json(200, &Ready { ready: true }))
}

/// `GET /v2/models/{model}/ready`.
pub(super) fn model_ready(model: &Model, _: &Request) -> Result<Reply, Error> {
    Ok(Reply::json(200, &ModelReady { name: &model.config().name, ready: true }))
}

/// `GET /v2/models/{model}`.
pub(super) fn metadata(model: &Model, _: &Request) -> Result<Reply, Error> {
    let metadata = ModelMetadata {
        name: &model.config().name,
        versions: [MODEL_VERSION],
        platform: PLATFORM_NAME,
        inputs: [TensorMetadata { name: INPUT_TENSOR_NAME, datatype: "BYTES", shape: &[-1] }],
        outputs: tensors::OUTPUT_METADATA,
    };
    Ok(Reply::json(200, &metadata))
}

/// `POST /v2/models/{model}/infer`.
pub(super) fn infer(model: &Model, request: &Request) -> Result<Reply, Error> {
    let InferenceRequest { id, pictures, options, outputs } =
        InferenceRequest::read(model, request)?;
    let reports = detection::report_all(model, pictures, &options)?;
    tensors::reply(model, id, &outputs, &reports)
        .map(|reply| reply.with_detection_counts(model, &reports))
}

/// The reply to an error.
pub(super) fn error(error: &Error) -> Reply {
    Reply::json(error.status(), &ErrorResponse { error: error.to_string() })
}
