//! `ModelInfer`: reads the request, detects, and writes the tensors.

use prost::bytes::Bytes;

use super::limits::{Limit, bytes_of, check};
use super::messages::{
    InferRequest, InferResponse, InputContents, InputTensor, OutputContents, OutputTensor,
    Parameter,
};
use super::{check_name, decode, message, reply};
use crate::Report;
use crate::api::detection::{self, Source};
use crate::api::open_inference::request::{Content, RequestedOutput, Tensor};
use crate::api::open_inference::tensors::{self, Data};
use crate::api::routes::MODEL_VERSION;
use crate::api::{MAX_BODY_BYTES, Reply, Request};
use crate::error::Error;
use crate::model::Model;
use crate::options::{MAX_PICTURES, Options};

const ANY: usize = MAX_BODY_BYTES;

/// The limits on `ModelInferRequest`.
const OF_REQUEST: [Limit; 4] = [
    Limit { field: "parameters", tag: 4, most: 64, bytes: 64 << 10 },
    Limit { field: "inputs", tag: 5, most: 1, bytes: ANY },
    Limit { field: "outputs", tag: 6, most: 16, bytes: 64 << 10 },
    Limit { field: "raw_input_contents", tag: 7, most: 1, bytes: ANY },
];

/// The limit on `InferInputTensor`.
const OF_INPUT: [Limit; 1] = [Limit { field: "shape", tag: 3, most: 8, bytes: 96 }];

/// The limit on `InferTensorContents`. One more is counted, and refused as too many pictures.
const OF_CONTENTS: [Limit; 1] =
    [Limit { field: "bytes_contents", tag: 8, most: MAX_PICTURES + 1, bytes: ANY }];

/// How tensors are encoded: a reply's are what its request's are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// `raw_input_contents` and `raw_output_contents`: little-endian bytes.
    Raw,
    /// `contents`, by type.
    Typed,
}

/// `ModelInfer`.
pub(in crate::api) fn infer(model: &Model, request: &Request) -> Result<Reply, Error> {
    let bytes = message(request)?;
    check(&bytes, &OF_REQUEST)?;
    let request: InferRequest = decode(bytes)?;
    check_name(&request.model_name, &request.model_version, model)?;
    let options = options(&request.parameters, model)?;
    let wanted: Vec<RequestedOutput> = request
        .outputs
        .into_iter()
        .map(|output| RequestedOutput { name: output.name, parameters: Default::default() })
        .collect();
    let outputs = tensors::named(&wanted)?;
    let encoding =
        if request.raw_input_contents.is_empty() { Encoding::Typed } else { Encoding::Raw };
    let input = request.inputs.first().cloned();
    let Input { tensor, raw, contents } =
        Input::read(input, request.raw_input_contents.first().cloned())?;
    let shape = lengths(&tensor.shape)?;
    let content = content(&tensor, raw.as_ref(), contents.as_ref())?;
    let tensor = Tensor { name: &tensor.name, datatype: &tensor.datatype, shape: &shape, content };
    let pictures: Vec<Source> = tensor.pictures()?;
    let reports = detection::detect_all(model, pictures, &options)?;
    let response = response(model, request.id, &outputs, &reports, encoding);
    Ok(reply(&response).counting(model, &reports))
}

/// The only input, with its elements in one of two forms.
struct Input {
    tensor: InputTensor,
    raw: Option<Bytes>,
    contents: Option<InputContents>,
}

impl Input {
    fn read(input: Option<Bytes>, raw: Option<Bytes>) -> Result<Self, Error> {
        let input = input.unwrap_or_default();
        check(&input, &OF_INPUT)?;
        let tensor: InputTensor = decode(input)?;
        let contents = match &tensor.contents {
            Some(contents) if raw.is_none() => {
                check(contents, &OF_CONTENTS)?;
                Some(decode(contents.clone())?)
            }
            _ => None,
        };
        Ok(Self { tensor, raw, contents })
    }
}

/// The elements, in the form that the tensor's type asks for.
fn content<'r>(
    tensor: &InputTensor,
    raw: Option<&'r Bytes>,
    contents: Option<&'r InputContents>,
) -> Result<Content<'r>, Error> {
    match (raw, contents) {
        (Some(raw), _) => Ok(Content::Binary(raw)),
        (None, Some(contents)) if tensor.datatype == "UINT8" => {
            Ok(Content::Numbers(bytes_of(&contents.uint_contents)?))
        }
        (None, Some(contents)) => {
            Ok(Content::Files(contents.bytes_contents.iter().map(AsRef::as_ref).collect()))
        }
        (None, None) => Err(Error::BadTensor {
            reason: "it has neither `raw_input_contents` nor `contents`".to_owned(),
        }),
    }
}

fn lengths(shape: &[i64]) -> Result<Vec<usize>, Error> {
    let length = |length: &i64| {
        usize::try_from(*length)
            .map_err(|_| Error::BadTensor { reason: format!("its shape is {shape:?}") })
    };
    shape.iter().map(length).collect()
}

/// The options among the parameters. All others are for other servers.
fn options(parameters: &[Parameter], model: &Model) -> Result<Options, Error> {
    let mut options = model.default_options();
    for Parameter { key, value } in parameters {
        let option = match key.as_str() {
            "threshold" | "confidence" => "min_confidence",
            "min_confidence" | "iou_threshold" | "max_detections" | "classes" => key,
            _ => continue,
        };
        if let Some(value) = value.as_ref().and_then(|value| value.choice.as_ref()) {
            options.set(option, &value.to_string(), model.labels())?;
        }
    }
    Ok(options)
}

fn response(
    model: &Model,
    id: String,
    outputs: &[super::super::TensorMetadata],
    reports: &[Report],
    encoding: Encoding,
) -> InferResponse {
    let mut response = InferResponse {
        model_name: model.manifest().name.clone(),
        model_version: MODEL_VERSION.to_owned(),
        id,
        ..InferResponse::default()
    };
    for metadata in outputs {
        let (shape, data) = tensors::tensor(metadata.name, reports);
        let mut output = OutputTensor {
            name: metadata.name.to_owned(),
            datatype: metadata.datatype.to_owned(),
            shape: shape.into_iter().filter_map(|length| i64::try_from(length).ok()).collect(),
            contents: None,
        };
        match encoding {
            Encoding::Raw => response.raw_output_contents.push(data.to_bytes()),
            Encoding::Typed => output.contents = Some(typed(data)),
        }
        response.outputs.push(output);
    }
    response
}

fn typed(data: Data) -> OutputContents {
    match data {
        Data::Fp32(fp32_contents) => OutputContents { fp32_contents, ..OutputContents::default() },
        Data::Int32(int_contents) => OutputContents { int_contents, ..OutputContents::default() },
    }
}
