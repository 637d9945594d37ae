//! The API of Roboflow Inference: `POST /infer/object_detection`, and the list of models that `inference-sdk` reads
//! first.
//!
//! Sources: roboflow/inference's `core/entities/requests/inference.py` and `core/entities/responses/inference.py`;
//! `inference_sdk/http/client.py`.

pub(super) mod request;

use std::hash::{BuildHasher, RandomState};

use serde::{Deserialize, Serialize};

use super::detection::{self, PictureSource};
use super::{PictureCount, Reply, Request, base64, check_model};
use crate::Report;
use crate::detections::{Detection, to_2_decimals, to_4_decimals};
use crate::error::Error;
use crate::model::Model;
use crate::options::PictureFormat;
use crate::picture::ImageSize;
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
    let options = body.options(model)?;
    let (images, count) = match body.image {
        Images::One(image) => (vec![image], PictureCount::One),
        Images::Many(images) => (images, PictureCount::Many),
    };
    if images.is_empty() {
        return Err(Error::BadOption {
            name: "image".into(),
            value: "[]".into(),
            expected: "a picture, or a list of 1 to 16".into(),
        });
    }
    let files = images.iter().map(Image::file).collect::<Result<Vec<_>, _>>()?;
    let reports = if body.visualize_predictions == Some(true) {
        files
            .iter()
            .map(|file| {
                let jpeg = PictureFormat::Jpeg;
                let (report, picture) = detection::annotated(model, file, &options, jpeg)?;
                Ok((report, Some(base64::encode(&picture))))
            })
            .collect::<Result<Vec<_>, Error>>()?
    } else {
        let sources = files.into_iter().map(|file| PictureSource::File(file.into())).collect();
        let reports = detection::detect_all(model, sources, &options)?;
        reports.into_iter().map(|report| (report, None)).collect()
    };
    let found: Vec<_> = reports
        .iter()
        .map(|(report, picture)| {
            ObjectDetectionInferenceResponse::from_report(report, picture.clone())
        })
        .collect();
    let reply = match (count, found.as_slice()) {
        (PictureCount::One, [found]) => Reply::json(200, found),
        _ => Reply::json(200, &found),
    };
    Ok(reply.with_detection_counts(model, reports.iter().map(|(report, _)| report)))
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
    serde_json::from_slice(request.body)
        .map_err(|error| Error::BadJson { reason: error.to_string() })
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
        let frame = &detection.bounding_box;
        Self {
            x: (frame.x_min + frame.x_max) / 2.0,
            y: (frame.y_min + frame.y_max) / 2.0,
            width: frame.x_max - frame.x_min,
            height: frame.y_max - frame.y_min,
            confidence: detection.confidence,
            class: detection.label,
            class_id: detection.class_id,
            detection_id: unique_id(),
        }
    }
}

/// A random identifier in the form of a UUID (RFC 9562, version 4).
fn unique_id() -> String {
    let [high, low] = [(); 2].map(|()| RandomState::new().hash_one(0_u8));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}
