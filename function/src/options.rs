//! What a request may ask for: thresholds, classes, and the annotated picture; the same names in
//! the query, the form and the JSON.

use crate::error::{Error, nearest, shortened};
use crate::model::Labels;

/// How many pictures one request may hold.
pub const MAX_PICTURES: usize = 16;

/// How many millions of pixels the pictures of one request may have in all: what bounds its time.
pub const MAX_REQUEST_MEGAPIXELS: u32 = 100;

/// Largest value of `max_detections`.
const MAX_DETECTIONS: usize = 1000;

/// Every name a request may hold, for suggestions.
const OPTION_NAMES: [&str; 6] =
    ["min_confidence", "iou_threshold", "max_detections", "classes", "annotate", "image"];

/// The options of one request; [`Options::new`] gives a model's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Detections below this are left out; 0 to 1.
    pub min_confidence: f32,
    /// Of two boxes of one class that overlap by more than this (intersection over union), the
    /// less confident one is left out; 0 to 1.
    pub iou_threshold: f32,
    /// At most this many detections, the most confident first.
    pub max_detections: usize,
    /// Columns of the model's scores to look at; all where `None`.
    pub classes: Option<Vec<usize>>,
    /// Whether to answer with the picture, drawn upon; `None` leaves it to the `Accept` header.
    pub annotate: Option<Annotation>,
}

/// What `annotate` may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// JSON, whatever the `Accept` header says.
    Off,
    As(PictureFormat),
}

/// How an annotated picture is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    Jpeg,
    Png,
}

/// The defaults a model states in its `model.toml`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    pub min_confidence: f32,
    pub iou_threshold: f32,
    pub max_detections: usize,
}

impl Options {
    /// The model's own defaults: all classes, JSON.
    pub fn new(thresholds: &Thresholds) -> Self {
        Self {
            min_confidence: thresholds.min_confidence,
            iou_threshold: thresholds.iou_threshold,
            max_detections: thresholds.max_detections,
            classes: None,
            annotate: None,
        }
    }

    /// Sets the option `name` from its text.
    ///
    /// # Errors
    /// [`Error::UnknownOption`], [`Error::BadOption`] or [`Error::UnknownClass`].
    pub fn set(&mut self, name: &str, value: &str, labels: &Labels) -> Result<(), Error> {
        let bad = |expected: String| Error::BadOption {
            name: name.to_owned(),
            value: shortened(value),
            expected,
        };
        match name {
            "min_confidence" => self.min_confidence = fraction(value).map_err(bad)?,
            "iou_threshold" => self.iou_threshold = fraction(value).map_err(bad)?,
            "max_detections" => self.max_detections = count(value).map_err(bad)?,
            // Given twice, it means both.
            "classes" => self.classes.get_or_insert_default().extend(classes(value, labels)?),
            "annotate" => self.annotate = Some(switch(value).map_err(bad)?),
            _ => {
                return Err(Error::UnknownOption {
                    name: shortened(name),
                    suggestion: nearest(name, OPTION_NAMES.into_iter()),
                });
            }
        }
        Ok(())
    }
}

fn fraction(value: &str) -> Result<f32, String> {
    value
        .trim()
        .parse()
        .ok()
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| "a number from 0 to 1".to_owned())
}

fn count(value: &str) -> Result<usize, String> {
    value
        .trim()
        .parse()
        .ok()
        .filter(|number| (1..=MAX_DETECTIONS).contains(number))
        .ok_or_else(|| format!("a whole number from 1 to {MAX_DETECTIONS}"))
}

fn switch(value: &str) -> Result<Annotation, String> {
    match value.trim() {
        "true" | "1" | "jpeg" => Ok(Annotation::As(PictureFormat::Jpeg)),
        "png" => Ok(Annotation::As(PictureFormat::Png)),
        "false" | "0" => Ok(Annotation::Off),
        _ => Err("true, false, jpeg or png".to_owned()),
    }
}

fn classes(value: &str, labels: &Labels) -> Result<Vec<usize>, Error> {
    let mut columns = Vec::new();
    for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let column = labels.column(name).ok_or_else(|| Error::UnknownClass {
            name: shortened(name),
            suggestion: nearest(name, labels.names()),
        })?;
        columns.push(column);
    }
    if columns.is_empty() {
        return Err(Error::BadOption {
            name: "classes".to_owned(),
            value: value.to_owned(),
            expected: "one or more names with commas between, such as person,dog".to_owned(),
        });
    }
    Ok(columns)
}
