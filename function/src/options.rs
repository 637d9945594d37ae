//! Request options: thresholds, classes, the model, and the annotated picture. Their names are the same in the query,
//! the form and the JSON.

use crate::error::{Error, nearest, shortened};
use crate::model::{Labels, MAX_DETECTIONS, Thresholds};

/// The maximum number of pictures in one request.
pub const MAX_PICTURES: usize = 16;

/// The maximum number of pixels of all pictures in one request, in millions, which limits its time.
pub const MAX_REQUEST_MEGAPIXELS: u32 = 100;

/// The same if all of them are annotated: the reply holds their files.
pub const MAX_ANNOTATED_MEGAPIXELS: u32 = 25;

/// All names in a request, for suggestions.
const OPTION_NAMES: [&str; 7] =
    ["min_confidence", "iou_threshold", "max_detections", "classes", "model", "annotate", "image"];

/// The options of one request. [`Options::new`] returns a model's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Detections below this confidence are omitted; 0 to 1.
    pub min_confidence: f32,
    /// Of two boxes of one class that overlap by more than this (intersection over union), the less confident
    /// one is omitted; 0 to 1.
    pub iou_threshold: f32,
    /// At most this many detections, the most confident first.
    pub max_detections: usize,
    /// The columns of the model's scores to consider; `None` for all.
    pub classes: Option<Vec<usize>>,
    /// The name of the model that the client asks for. A component serves only its own: the host dispatches requests
    /// to the component that serves the model in the query.
    pub model: Option<String>,
    /// Whether to reply with the annotated picture; `None` leaves it to the `Accept` header.
    pub annotate: Option<Annotation>,
}

/// The value of `annotate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// Reply with JSON, whatever the `Accept` header says.
    Off,
    As(PictureFormat),
}

/// The format of an annotated picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    Jpeg,
    Png,
}

impl PictureFormat {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }
}

impl Options {
    /// The model's default thresholds, all classes, JSON.
    pub fn new(thresholds: &Thresholds) -> Self {
        Self {
            min_confidence: thresholds.min_confidence,
            iou_threshold: thresholds.iou_threshold,
            max_detections: thresholds.max_detections,
            classes: None,
            model: None,
            annotate: None,
        }
    }

    /// Sets the option `name` from text.
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
            // If it is given twice, both apply.
            "classes" => self.classes.get_or_insert_default().extend(classes(value, labels)?),
            "model" => self.model = Some(value.to_owned()),
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

    /// Sets the option `name` if there is one. Other servers' clients do not choose the kind of the reply, and name the
    /// model in their own ways.
    ///
    /// # Errors
    /// [`Error::BadOption`] or [`Error::UnknownClass`].
    pub fn set_if_known(&mut self, name: &str, value: &str, labels: &Labels) -> Result<(), Error> {
        if ["annotate", "model"].contains(&name) {
            return Ok(());
        }
        match self.set(name, value, labels) {
            Err(Error::UnknownOption { .. }) => Ok(()),
            result => result,
        }
    }
}

/// Checks a number that must be from 0 to 1.
///
/// # Errors
/// [`Error::BadOption`].
pub fn check_fraction(name: &str, number: f32) -> Result<f32, Error> {
    let value = number.to_string();
    fraction(&value).map_err(|expected| Error::BadOption { name: name.to_owned(), value, expected })
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
            value: shortened(value),
            expected: "one or more names separated by commas, such as person,dog".to_owned(),
        });
    }
    Ok(columns)
}
