//! Hugging Face's object detection task: `POST /` and `POST /models/{model}`, as `huggingface_hub`'s
//! `InferenceClient.object_detection` sends it.
//!
//! Source: `@huggingface/tasks`, `object-detection/spec/input.json` and `output.json`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::detection::whole_pixels;
use super::{Reply, Request, base64};
use crate::detections::{Detection, to_4_decimals};
use crate::error::Error;
use crate::model::Model;
use crate::options::{Options, check_fraction};

/// The default of `transformers`' pipeline.
const DEFAULT_THRESHOLD: f32 = 0.5;

/// A picture with parameters. Without parameters, clients send the picture alone.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ObjectDetectionInput<'b> {
    /// Base64.
    #[serde(borrow)]
    inputs: Cow<'b, str>,
    #[serde(default)]
    parameters: Option<ObjectDetectionParameters>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ObjectDetectionParameters {
    #[serde(default)]
    threshold: Option<f32>,
}

/// One object.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ObjectDetectionOutputElement<'m> {
    label: &'m str,
    #[serde(serialize_with = "to_4_decimals")]
    score: f32,
    #[serde(rename = "box")]
    corners: ObjectDetectionBoundingBox,
}

/// A box in whole pixels of the upright picture.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ObjectDetectionBoundingBox {
    xmin: u32,
    ymin: u32,
    xmax: u32,
    ymax: u32,
}

/// `POST /` and `POST /models/{model}`.
pub(super) fn detect(model: &Model, request: &Request) -> Result<Reply, Error> {
    let mut options =
        Options { min_confidence: DEFAULT_THRESHOLD, ..Options::new(model.thresholds()) };
    let picture = if request.has_media_type("application/json") {
        let body: ObjectDetectionInput = serde_json::from_slice(request.body).map_err(|error| {
            Error::bad_json(&error, "; send {\"inputs\": \"<base64>\"}, or the picture alone")
        })?;
        if let Some(threshold) = body.parameters.and_then(|parameters| parameters.threshold) {
            options.min_confidence = check_fraction("threshold", threshold)?;
        }
        Cow::Owned(base64::decode(&body.inputs)?)
    } else {
        Cow::Borrowed(request.body)
    };
    let (report, _) = crate::detect(model, &picture, &options)?;
    let found: Vec<_> =
        report.detections.iter().map(ObjectDetectionOutputElement::from_detection).collect();
    Ok(Reply::json(200, &found).with_detection_counts(model, [&report]))
}

impl<'m> ObjectDetectionOutputElement<'m> {
    fn from_detection(detection: &Detection<'m>) -> Self {
        let [xmin, ymin, xmax, ymax] = whole_pixels(&detection.bounding_box);
        Self {
            label: detection.label,
            score: detection.confidence,
            corners: ObjectDetectionBoundingBox { xmin, ymin, xmax, ymax },
        }
    }
}
