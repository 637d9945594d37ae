//! The API of Roboflow Inference: `POST /infer/object_detection`, and the list of models that `inference-sdk` reads
//! first.
//!
//! Sources: roboflow/inference's `core/entities/requests/inference.py` and `core/entities/responses/inference.py`;
//! `inference_sdk/http/client.py`.

pub(super) mod request;

use serde::{Deserialize, Serialize};

use super::detection::{self, Detected, PictureSource};
use super::{PictureCount, Reply, Request, base64, check_model};
use crate::detections::{Detection, to_2_decimals, to_4_decimals};
use crate::error::Error;
use crate::model::Model;
use crate::options::{Annotation, MAX_PICTURES, PictureFormat};
use crate::picture::ImageSize;
use crate::{BoundingBox, Report};
use request::{AddModelRequest, Image, Images, ObjectDetectionInferenceRequest};

/// The result for one picture.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ObjectDetectionInferenceResponse<'m> {
    inference_id: String,
    /// Seconds.
    time: f64,
    image: ImageSize,
    predictions: Vec<Prediction<'m>>,
    /// The annotated picture as a JPEG in base64, if the client wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    visualization: Option<String>,
}

/// One object. Its box is given by its centre and size, in pixels of the upright picture.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Prediction<'m> {
    #[serde(serialize_with = "to_2_decimals")]
    x: f32,
    #[serde(serialize_with = "to_2_decimals")]
    y: f32,
    #[serde(serialize_with = "to_2_decimals")]
    width: f32,
    #[serde(serialize_with = "to_2_decimals")]
    height: f32,
    #[serde(serialize_with = "to_4_decimals")]
    confidence: f32,
    class: &'m str,
    class_id: u32,
    detection_id: String,
}

/// The models that are loaded: always this component's.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ModelsDescriptions<'m> {
    models: [ModelDescriptionEntity<'m>; 1],
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ModelDescriptionEntity<'m> {
    model_id: &'m str,
    task_type: &'static str,
    batch_size: u32,
    input_width: u32,
    input_height: u32,
}

/// An error.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ErrorResponse {
    message: String,
}

/// `POST /infer/object_detection`.
pub(super) fn infer(model: &Model, request: &Request) -> Result<Reply, Error> {
    let body: ObjectDetectionInferenceRequest = read(request)?;
    if let Some(name) = &body.model_id {
        check_model(name, model)?;
    }
    let mut options = body.options(model)?;
    let visualize = body.visualize_predictions == Some(true);
    options.annotate = visualize.then_some(Annotation::As(PictureFormat::Jpeg));
    let (images, count) = match body.image {
        Images::One(image) => (vec![image], PictureCount::One),
        Images::Many(images) => (images, PictureCount::Many),
    };
    if images.is_empty() {
        return Err(Error::BadOption {
            name: "image".into(),
            value: "[]".into(),
            expected: format!("a picture, or a list of 1 to {MAX_PICTURES}"),
        });
    }
    let file = |image: &Image| image.file().map(|file| PictureSource::File(file.into()));
    let sources = images.iter().map(file).collect::<Result<_, _>>()?;
    let detected = detection::detect_all(model, sources, &options)?;
    let (reports, found): (Vec<_>, Vec<_>) = detected.into_iter().map(response).unzip();
    let reply = match (count, found.as_slice()) {
        (PictureCount::One, [found]) => Reply::json(200, found),
        _ => Reply::json(200, &found),
    };
    Ok(reply.with_detection_counts(model, &reports))
}

/// The report on one picture, and the reply's part about it.
fn response(detected: Detected) -> (Report, ObjectDetectionInferenceResponse) {
    let Detected { report, annotated } = detected;
    let visualization = annotated.map(|file| base64::encode(&file));
    let response = ObjectDetectionInferenceResponse::from_report(&report, visualization);
    (report, response)
}

/// `GET /model/registry`.
pub(super) fn registry(model: &Model, _: &Request) -> Result<Reply, Error> {
    let config = model.config();
    let description = ModelDescriptionEntity {
        model_id: &config.name,
        task_type: "object-detection",
        batch_size: 1,
        input_width: config.input.width,
        input_height: config.input.height,
    };
    Ok(Reply::json(200, &ModelsDescriptions { models: [description] }))
}

/// `POST /model/add`: only this component's model can be added, and is there already.
pub(super) fn add(model: &Model, request: &Request) -> Result<Reply, Error> {
    let AddModelRequest { model_id } = read(request)?;
    check_model(&model_id, model)?;
    registry(model, request)
}

/// The reply to an error.
pub(super) fn error(error: &Error) -> Reply {
    Reply::json(error.status(), &ErrorResponse { message: error.to_string() })
}

fn read<'b, T: Deserialize<'b>>(request: &Request<'b>) -> Result<T, Error> {
    serde_json::from_slice(request.body).map_err(|error| Error::bad_json(&error, ""))
}

impl<'m> ObjectDetectionInferenceResponse<'m> {
    fn from_report(report: &Report<'m>, visualization: Option<String>) -> Self {
        Self {
            inference_id: unique_id(),
            time: report.timings_ms.total / 1000.0,
            image: report.image,
            predictions: report.detections.iter().map(Prediction::from_detection).collect(),
            visualization,
        }
    }
}

impl<'m> Prediction<'m> {
    fn from_detection(detection: &Detection<'m>) -> Self {
        let BoundingBox { x_min, y_min, x_max, y_max } = detection.bounding_box;
        Self {
            x: (x_min + x_max) / 2.0,
            y: (y_min + y_max) / 2.0,
            width: x_max - x_min,
            height: y_max - y_min,
            confidence: detection.confidence,
            class: detection.label,
            class_id: detection.class_id,
            detection_id: unique_id(),
        }
    }
}

/// A random identifier in the form of a UUID (RFC 9562, version 4).
fn unique_id() -> String {
    let mut bytes = [0; 16];
    // Not std's random state, which the snapshot holds: it would be the same in each instance. Without randomness, the
    // identifier is only zeros.
    let _ = getrandom::fill(&mut bytes);
    let number = u128::from_be_bytes(bytes);
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        number >> 96,
        number >> 80 & 0xffff,
        number >> 64 & 0xfff,
        number >> 48 & 0x3fff | 0x8000,
        number & 0xffff_ffff_ffff
    )
}
