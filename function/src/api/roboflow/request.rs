//! Roboflow's requests.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use crate::api::base64;
use crate::api::json::{Limited, OptionText};
use crate::error::{Error, shortened};
use crate::model::Model;
use crate::options::{MAX_PICTURES, Options};

/// Roboflow's defaults: confidence, intersection over union, number of detections.
const DEFAULT_THRESHOLDS: (f32, f32, usize) = (0.4, 0.3, 300);

/// A request. All other keys are for Roboflow's own servers, and are ignored.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::api) struct ObjectDetectionInferenceRequest {
    #[serde(default)]
    pub(super) model_id: Option<String>,
    pub(super) image: Images,
    #[serde(default)]
    confidence: Option<OptionText>,
    #[serde(default)]
    iou_threshold: Option<OptionText>,
    #[serde(default)]
    max_detections: Option<OptionText>,
    #[serde(default)]
    class_filter: Option<OptionText>,
    #[serde(default)]
    class_agnostic_nms: Option<bool>,
    #[serde(default)]
    pub(super) visualize_predictions: Option<bool>,
}

/// One picture, or a list of them.
pub(in crate::api) enum Images {
    One(Image),
    Many(Vec<Image>),
}

impl<'de> Deserialize<'de> for Images {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ImagesVisitor)
    }
}

struct ImagesVisitor;

impl<'de> Visitor<'de> for ImagesVisitor {
    type Value = Images;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("{\"type\": \"base64\", \"value\": \"…\"}, or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Images, A::Error> {
        Image::deserialize(MapAccessDeserializer::new(map)).map(Images::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Images, A::Error> {
        Limited::<_, MAX_PICTURES>::deserialize(SeqAccessDeserializer::new(list))
            .map(|images| Images::Many(images.0))
    }
}

/// A picture.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::api) struct Image {
    /// `base64`; an address (`url`) is refused.
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

/// The model that a client wants to load.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::api) struct AddModelRequest {
    pub(super) model_id: String,
}

impl ObjectDetectionInferenceRequest {
    /// The options, with Roboflow's defaults.
    ///
    /// # Errors
    /// If a value is invalid, or not supported.
    pub(super) fn options(&self, model: &Model) -> Result<Options, Error> {
        let (min_confidence, iou_threshold, max_detections) = DEFAULT_THRESHOLDS;
        let mut options = Options {
            min_confidence,
            iou_threshold,
            max_detections,
            ..Options::new(model.thresholds())
        };
        // `best` and `default` name thresholds that Roboflow chooses for each model.
        let confidence = self
            .confidence
            .as_ref()
            .filter(|OptionText(text)| !matches!(text.as_str(), "best" | "default"));
        for (name, value) in [
            ("min_confidence", confidence),
            ("iou_threshold", self.iou_threshold.as_ref()),
            ("max_detections", self.max_detections.as_ref()),
            ("classes", self.class_filter.as_ref()),
        ] {
            if let Some(OptionText(value)) = value.filter(|OptionText(text)| !text.is_empty()) {
                options.set(name, value, model.labels())?;
            }
        }
        if self.class_agnostic_nms == Some(true) {
            return Err(Error::BadOption {
                name: "class_agnostic_nms".into(),
                value: "true".into(),
                expected:
                    "false: the model's `suppression` decides which boxes suppress each other"
                        .into(),
            });
        }
        Ok(options)
    }
}

impl Image {
    /// The picture's file.
    ///
    /// # Errors
    /// If it is not sent as base64.
    pub(super) fn file(&self) -> Result<Vec<u8>, Error> {
        if self.kind != "base64" {
            return Err(Error::BadOption {
                name: "image.type".into(),
                value: shortened(&self.kind),
                expected: "base64".into(),
            });
        }
        base64::decode(&self.value)
    }
}
