//! `ModelInfer`: reads the request, detects, and writes the tensors.

use prost::bytes::Bytes;

use super::limits::{FieldLimit, check, decode_packed_bytes};
use super::messages::{
    InferRequest, InferResponse, InputContents, InputTensor, OutputContents, OutputTensor,
    Parameter,
};
use super::{check_name, decode, message, reply};
use crate::Report;
use crate::api::detection::{self, PictureSource};
use crate::api::open_inference::request::{Content, RequestedOutput, Tensor};
use crate::api::open_inference::tensors::MODEL_VERSION;
use crate::api::open_inference::tensors::{self, OutputData};
use crate::api::{MAX_BODY_BYTES, Reply, Request};
use crate::error::Error;
use crate::model::Model;
use crate::options::{MAX_PICTURES, Options};

/// The limits on `ModelInferRequest`.
const REQUEST_LIMITS: [FieldLimit; 4] = [
    FieldLimit { field: "parameters", tag: 4, max_count: 64, max_bytes: 64 << 10 },
    FieldLimit { field: "inputs", tag: 5, max_count: 1, max_bytes: MAX_BODY_BYTES },
    FieldLimit { field: "outputs", tag: 6, max_count: 16, max_bytes: 64 << 10 },
    FieldLimit { field: "raw_input_contents", tag: 7, max_count: 1, max_bytes: MAX_BODY_BYTES },
];

/// The limit on `InferInputTensor`.
const INPUT_LIMITS: [FieldLimit; 1] =
    [FieldLimit { field: "shape", tag: 3, max_count: 8, max_bytes: 96 }];

/// The limit on `InferTensorContents`. One more is decoded, so that it is refused as too many
/// pictures.
const CONTENTS_LIMITS: [FieldLimit; 1] = [FieldLimit {
    field: "bytes_contents",
    tag: 8,
    max_count: MAX_PICTURES + 1,
    max_bytes: MAX_BODY_BYTES,
}];

/// How tensors are encoded. A reply uses the encoding of its request.
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
    check(&bytes, &REQUEST_LIMITS)?;
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
    let RequestInput { tensor, raw, contents } =
        RequestInput::read(input, request.raw_input_contents.first().cloned())?;
    let shape = lengths(&tensor.shape)?;
    let content = content(&tensor, raw.as_ref(), contents.as_ref())?;
    let tensor = Tensor { name: &tensor.name, datatype: &tensor.datatype, shape: &shape, content };
    let pictures: Vec<PictureSource> = tensor.pictures()?;
    let reports = detection::report_all(model, pictures, &options)?;
    let response = response(model, request.id, &outputs, &reports, encoding);
    Ok(reply(&response).with_detection_counts(model, &reports))
}

/// The only input, with its elements in one of two forms.
struct RequestInput {
    tensor: InputTensor,
    raw: Option<Bytes>,
    contents: Option<InputContents>,
}

impl RequestInput {
    fn read(input: Option<Bytes>, raw: Option<Bytes>) -> Result<Self, Error> {
        let input = input.unwrap_or_default();
        check(&input, &INPUT_LIMITS)?;
        let tensor: InputTensor = decode(input)?;
        let contents = match &tensor.contents {
            Some(contents) if raw.is_none() => {
                check(contents, &CONTENTS_LIMITS)?;
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
            Ok(Content::Numbers(decode_packed_bytes(&contents.uint_contents)?))
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
    let mut options = Options::new(model.thresholds());
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
        model_name: model.config().name.clone(),
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

fn typed(data: OutputData) -> OutputContents {
    match data {
        OutputData::Fp32(fp32_contents) => {
            OutputContents { fp32_contents, ..OutputContents::default() }
        }
        OutputData::Int32(int_contents) => {
            OutputContents { int_contents, ..OutputContents::default() }
        }
    }
}
