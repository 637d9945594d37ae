//! The API of DeepStack and CodeProject.AI: `/v1/vision/detection` and `/v1/vision/custom`.
//!
//! Sources: DeepStack's `server/server.go` and `intelligencelayer/shared/detection.py`; CodeProject.AI's
//! `ObjectDetectionYOLOv5Net` and `BackendResponse.cs`.

use std::time::Duration;

use serde::Serialize;

use super::detection::whole_pixels;
use super::{DetectRequest, Reply, Request};
use crate::Report;
use crate::detections::{Detection, to_4_decimals};
use crate::error::Error;
use crate::model::Model;
use crate::options::Options;

/// DeepStack's default, for clients that send no `min_confidence`.
const DEFAULT_MIN_CONFIDENCE: f32 = 0.4;

/// The message of a reply names at most this many objects.
const MAX_NAMED_OBJECTS: usize = 3;

/// The reply to a picture.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct DetectionResponse<'m> {
    #[serde(flatten)]
    common: Common,
    /// A sentence for people to read.
    message: String,
    count: usize,
    /// Sorted by confidence, highest first.
    predictions: Vec<Prediction<'m>>,
    inference_ms: u64,
    process_ms: u64,
    analysis_round_trip_ms: u64,
}

/// The names of the models.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ModelList<'m> {
    #[serde(flatten)]
    common: Common,
    models: [&'m str; 1],
}

/// The part that is in every reply except errors.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Common {
    success: bool,
    code: u16,
    command: &'static str,
    module_id: &'static str,
    execution_provider: &'static str,
    #[serde(rename = "canUseGPU")]
    can_use_gpu: bool,
}

/// One object. The corners are in whole pixels of the upright picture.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Prediction<'m> {
    label: &'m str,
    #[serde(serialize_with = "to_4_decimals")]
    confidence: f32,
    x_min: u32,
    y_min: u32,
    x_max: u32,
    y_max: u32,
}

/// An error.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ErrorResponse {
    success: bool,
    error: String,
    code: u16,
}

/// `POST /v1/vision/detection`.
pub(super) fn detection(model: &Model, request: &Request) -> Result<Reply, Error> {
    detect(model, request, "detect")
}

/// `POST /v1/vision/custom/{model}`.
pub(super) fn custom(model: &Model, request: &Request) -> Result<Reply, Error> {
    detect(model, request, "custom")
}

/// `/v1/vision/custom/list`.
pub(super) fn list(model: &Model, _: &Request) -> Result<Reply, Error> {
    let models = [model.config().name.as_str()];
    Ok(Reply::json(200, &ModelList { common: Common::new("list-custom"), models }))
}

/// The reply to an error. For a bad picture or option, clients expect the status 400.
pub(super) fn error(error: &Error) -> Reply {
    let code = match error.status() {
        415 | 422 => 400,
        status => status,
    };
    Reply::json(code, &ErrorResponse { success: false, error: error.to_string(), code })
}

fn detect(model: &Model, request: &Request, command: &'static str) -> Result<Reply, Error> {
    let defaults =
        Options { min_confidence: DEFAULT_MIN_CONFIDENCE, ..Options::new(model.thresholds()) };
    let read = DetectRequest::read_leniently(request, model.labels(), defaults)?;
    let [picture] = <[_; 1]>::try_from(read.pictures)
        .map_err(|pictures| Error::TooManyPictures { count: pictures.len(), limit: 1 })?;
    let (report, _) = crate::detect(model, &picture, &read.options)?;
    Ok(Reply::json(200, &DetectionResponse::new(&report, command))
        .with_detection_counts(model, [&report]))
}

impl<'m> DetectionResponse<'m> {
    fn new(report: &Report<'m>, command: &'static str) -> Self {
        let labels: Vec<&str> = report.detections.iter().map(|detection| detection.label).collect();
        let total = milliseconds(report.timings_ms.total);
        Self {
            common: Common::new(command),
            message: message(&labels),
            count: labels.len(),
            predictions: report.detections.iter().map(Prediction::from_detection).collect(),
            inference_ms: milliseconds(report.timings_ms.inference),
            process_ms: total,
            analysis_round_trip_ms: total,
        }
    }
}

impl Common {
    fn new(command: &'static str) -> Self {
        Self {
            success: true,
            code: 200,
            command,
            module_id: "spotter",
            execution_provider: "CPU",
            can_use_gpu: false,
        }
    }
}

impl<'m> Prediction<'m> {
    fn from_detection(detection: &Detection<'m>) -> Self {
        let [x_min, y_min, x_max, y_max] = whole_pixels(&detection.bounding_box);
        let Detection { label, confidence, .. } = *detection;
        Self { label, confidence, x_min, y_min, x_max, y_max }
    }
}

fn message(labels: &[&str]) -> String {
    match labels.get(..MAX_NAMED_OBJECTS) {
        _ if labels.is_empty() => "No objects found".to_owned(),
        Some(first) if first.len() < labels.len() => {
            format!("Found {}...", first.join(", "))
        }
        _ => format!("Found {}", labels.join(", ")),
    }
}

/// Clients in typed languages read whole milliseconds only.
fn milliseconds(time: f64) -> u64 {
    let time = Duration::from_secs_f64(time.max(0.0) / 1000.0);
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
