//! Writes detections as tensors, in JSON or as binary data after it.

use serde::Serialize;

use super::TensorMetadata;
use super::request::{RequestedOutput, RequestedOutputs};
use crate::Report;
use crate::api::Reply;
use crate::error::{Error, shortened};
use crate::model::Model;

/// A component holds one version of its model.
pub(in crate::api) const MODEL_VERSION: &str = "1";

/// The outputs. The first axis is the picture; the second, if there is one, the detection, sorted by confidence.
/// Pictures with fewer detections than another are padded with zeros and [`NO_CLASS`].
pub(super) const OUTPUT_METADATA: [TensorMetadata; 4] = [
    // x_min, y_min, x_max, y_max in pixels of the upright picture.
    TensorMetadata { name: "detection_boxes", datatype: "FP32", shape: &[-1, -1, 4] },
    // 0 to 1.
    TensorMetadata { name: "detection_scores", datatype: "FP32", shape: &[-1, -1] },
    // Ids in the data set that the model was trained on.
    TensorMetadata { name: "detection_classes", datatype: "INT32", shape: &[-1, -1] },
    TensorMetadata { name: "num_detections", datatype: "INT32", shape: &[-1] },
];

/// The class where there is no detection.
const NO_CLASS: i32 = -1;

/// A reply to an inference request.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::api) struct InferenceResponse<'m> {
    model_name: &'m str,
    model_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<OutputTensor>,
}

/// An output tensor.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OutputTensor {
    name: &'static str,
    datatype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinaryData>,
    /// Row by row; missing if it is sent as binary data.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<OutputData>,
}

/// How many bytes of the binary data after the JSON belong to an output.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BinaryData {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub(super) enum OutputData {
    Fp32(Vec<f32>),
    Int32(Vec<i32>),
}

/// Writes the reply.
///
/// # Errors
/// If the client wants an output that does not exist.
pub(super) fn reply(
    model: &Model,
    id: Option<String>,
    wanted: &RequestedOutputs,
    reports: &[Report],
) -> Result<Reply, Error> {
    let mut binary = Vec::new();
    let mut outputs = Vec::new();
    for (metadata, is_binary) in selected(wanted)? {
        let (shape, data) = tensor(metadata.name, reports);
        let before = binary.len();
        if is_binary {
            binary.extend(data.to_bytes());
        }
        outputs.push(OutputTensor {
            name: metadata.name,
            datatype: metadata.datatype,
            shape,
            parameters: is_binary.then(|| BinaryData { binary_data_size: binary.len() - before }),
            data: (!is_binary).then_some(data),
        });
    }
    let has_binary = outputs.iter().any(|output| output.parameters.is_some());
    let model_name = &model.config().name;
    let mut reply = Reply::json(
        200,
        &InferenceResponse { model_name, model_version: MODEL_VERSION, id, outputs },
    );
    if has_binary {
        let length = reply.body.len().to_string();
        reply.content_type = "application/octet-stream";
        reply.body.append(&mut binary);
        reply = reply.with_header("inference-header-content-length", length);
    }
    Ok(reply)
}

/// The outputs that the client wants, and whether it wants each as binary data.
fn selected(wanted: &RequestedOutputs) -> Result<Vec<(TensorMetadata, bool)>, Error> {
    let is_binary = |index: usize| {
        let own = wanted.named.get(index).and_then(|output| output.parameters.binary_data);
        own.unwrap_or(wanted.binary_by_default)
    };
    let outputs = named(&wanted.named)?.into_iter().enumerate();
    Ok(outputs.map(|(index, metadata)| (metadata, is_binary(index))).collect())
}

/// The outputs of these names; all, if there is no name.
///
/// # Errors
/// If there is no output of a name.
pub(super) fn named(wanted: &[RequestedOutput]) -> Result<Vec<TensorMetadata>, Error> {
    if wanted.is_empty() {
        return Ok(OUTPUT_METADATA.into());
    }
    let find = |name: &str| OUTPUT_METADATA.into_iter().find(|output| output.name == name);
    let found = |output: &RequestedOutput| {
        find(&output.name).ok_or_else(|| Error::BadTensor {
            reason: format!(
                "there is no output {:?}; the outputs are {}",
                shortened(&output.name),
                OUTPUT_METADATA.map(|output| output.name).join(", ")
            ),
        })
    };
    wanted.iter().map(found).collect()
}

/// The shape and the elements of an output.
pub(super) fn tensor(name: &str, reports: &[Report]) -> (Vec<usize>, OutputData) {
    let longest = reports.iter().map(|report| report.detections.len()).max().unwrap_or(0);
    let rows =
        || reports.iter().flat_map(|report| (0..longest).map(|row| report.detections.get(row)));
    match name {
        "detection_boxes" => {
            let corners = rows().flat_map(|detection| {
                detection.map_or([0.0; 4], |detection| {
                    let frame = detection.bounding_box;
                    [frame.x_min, frame.y_min, frame.x_max, frame.y_max]
                })
            });
            (vec![reports.len(), longest, 4], OutputData::Fp32(corners.collect()))
        }
        "detection_scores" => {
            let scores = rows().map(|detection| detection.map_or(0.0, |it| it.confidence));
            (vec![reports.len(), longest], OutputData::Fp32(scores.collect()))
        }
        "detection_classes" => {
            let classes = rows().map(|detection| {
                detection.map_or(NO_CLASS, |it| i32::try_from(it.class_id).unwrap_or(i32::MAX))
            });
            (vec![reports.len(), longest], OutputData::Int32(classes.collect()))
        }
        _ => {
            let counts = reports
                .iter()
                .map(|report| i32::try_from(report.detections.len()).unwrap_or(i32::MAX));
            (vec![reports.len()], OutputData::Int32(counts.collect()))
        }
    }
}

impl OutputData {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Fp32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Int32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}
