//! Reads an inference request: JSON that contains the pictures as base64 or numbers, or is followed by them as binary
//! data.

use std::borrow::Cow;

use image::RgbImage;
use serde::Deserialize;

use super::INPUT_TENSOR_NAME;
use super::data::Data;
use crate::api::detection::PictureSource;
use crate::api::json::{Limited, OptionText};
use crate::api::{Request, base64};
use crate::error::{Error, shortened};
use crate::model::Model;
use crate::options::{MAX_PICTURES, Options};

/// A request for detections.
pub(super) struct InferenceRequest<'r> {
    pub(super) id: Option<String>,
    pub(super) pictures: Vec<PictureSource<'r>>,
    pub(super) options: Options,
    pub(super) outputs: RequestedOutputs,
}

/// The outputs that a client wants.
pub(super) struct RequestedOutputs {
    /// All, if it names none.
    pub(super) named: Vec<RequestedOutput>,
    /// Whether outputs without a setting of their own are sent as binary data.
    pub(super) binary_by_default: bool,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::api) struct InferenceRequestBody {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    inputs: Limited<RequestInput, 1>,
    #[serde(default)]
    outputs: Limited<RequestedOutput, 16>,
}

/// Parameters of a request. All others are for other servers, and are ignored.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
struct Parameters {
    #[serde(alias = "threshold", alias = "confidence")]
    min_confidence: Option<OptionText>,
    iou_threshold: Option<OptionText>,
    max_detections: Option<OptionText>,
    classes: Option<OptionText>,
    binary_data_output: bool,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RequestInput {
    name: String,
    datatype: String,
    shape: Limited<usize, 8>,
    #[serde(default)]
    parameters: InputParameters,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
struct InputParameters {
    binary_data_size: Option<usize>,
}

/// An output that a client names.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct RequestedOutput {
    pub(super) name: String,
    #[serde(default)]
    pub(super) parameters: OutputParameters,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub(super) struct OutputParameters {
    /// Whether to send it as binary data.
    pub(super) binary_data: Option<bool>,
}

impl<'r> InferenceRequest<'r> {
    /// Reads a request.
    ///
    /// # Errors
    /// If the JSON or the tensor is malformed, or an option is invalid.
    pub(super) fn read(model: &Model, request: &Request<'r>) -> Result<Self, Error> {
        let (json, binary) = split(request)?;
        let body: InferenceRequestBody =
            serde_json::from_slice(json).map_err(|error| Error::bad_json(&error, ""))?;
        let Parameters { min_confidence, iou_threshold, max_detections, classes, .. } =
            body.parameters;
        let mut options = Options::new(model.thresholds());
        for (name, value) in [
            ("min_confidence", min_confidence),
            ("iou_threshold", iou_threshold),
            ("max_detections", max_detections),
            ("classes", classes),
        ] {
            if let Some(OptionText(value)) = value {
                options.set(name, &value, model.labels())?;
            }
        }
        let input = body.inputs.0.into_iter().next().ok_or_else(|| {
            bad(format!("there is no input: send one named `{INPUT_TENSOR_NAME}`"))
        })?;
        Ok(Self {
            id: body.id,
            pictures: input.pictures(binary)?,
            options,
            outputs: RequestedOutputs {
                named: body.outputs.0,
                binary_by_default: body.parameters.binary_data_output,
            },
        })
    }
}

/// Splits a body into the JSON and the binary data behind it.
fn split<'r>(request: &Request<'r>) -> Result<(&'r [u8], &'r [u8]), Error> {
    let Some(length) = request.inference_header_length else { return Ok((request.body, &[])) };
    let size = request.body.len();
    length.trim().parse().ok().and_then(|length| request.body.split_at_checked(length)).ok_or_else(
        || {
            bad(format!(
                "Inference-Header-Content-Length is {:?}; it must be the length of the JSON, at most the \
                 body's {size} bytes",
                shortened(length)
            ))
        },
    )
}

impl RequestInput {
    fn pictures<'r>(self, binary: &'r [u8]) -> Result<Vec<PictureSource<'r>>, Error> {
        let content = match (self.parameters.binary_data_size, self.data) {
            (Some(size), _) if size != binary.len() => {
                return Err(bad(format!(
                    "binary_data_size is {size}, but {} bytes follow the JSON",
                    binary.len()
                )));
            }
            (Some(_), _) => Content::Binary(binary),
            (None, Some(Data::Texts(texts))) => Content::Texts(texts),
            (None, Some(Data::Numbers(numbers))) => Content::Numbers(numbers),
            (None, None) => {
                return Err(bad("it has neither `data` nor `binary_data_size`".into()));
            }
        };
        let (name, datatype, shape) = (&self.name, &self.datatype, &self.shape.0);
        Tensor { name, datatype, shape, content }.pictures()
    }
}

/// An input tensor, from JSON or from gRPC.
pub(super) struct Tensor<'t, 'r> {
    pub(super) name: &'t str,
    pub(super) datatype: &'t str,
    pub(super) shape: &'t [usize],
    pub(super) content: Content<'r>,
}

/// A tensor's elements.
pub(super) enum Content<'r> {
    /// In the protocol's binary form.
    Binary(&'r [u8]),
    /// Files in base64.
    Texts(Vec<String>),
    Numbers(Vec<u8>),
    Files(Vec<&'r [u8]>),
}

impl<'r> Tensor<'_, 'r> {
    /// The pictures in the tensor.
    ///
    /// # Errors
    /// If its name, type or shape is not the input's, or its elements are malformed.
    pub(super) fn pictures(self) -> Result<Vec<PictureSource<'r>>, Error> {
        let Self { name, datatype, shape, content } = self;
        if name != INPUT_TENSOR_NAME {
            let name = shortened(name);
            return Err(bad(format!(
                "there is no input {name:?}: send one named `{INPUT_TENSOR_NAME}`"
            )));
        }
        let batch = shape.first().copied().unwrap_or(1);
        if batch > MAX_PICTURES {
            return Err(Error::TooManyPictures { count: batch, limit: MAX_PICTURES });
        }
        let borrowed = |files: Vec<&'r [u8]>| -> Vec<PictureSource<'r>> {
            files.into_iter().map(Cow::Borrowed).map(PictureSource::File).collect()
        };
        let pictures = match (datatype, content) {
            ("BYTES", Content::Binary(binary)) => borrowed(elements(binary)?),
            ("BYTES", Content::Files(elements)) => borrowed(elements),
            ("BYTES", Content::Texts(texts)) => files(&texts)?,
            ("UINT8", Content::Binary(binary)) => return frames(shape, binary),
            ("UINT8", Content::Numbers(numbers)) => return frames(shape, &numbers),
            ("BYTES" | "UINT8", _) => {
                return Err(bad(
                    "`data` must be base64 strings for BYTES, and numbers for UINT8".into()
                ));
            }
            (datatype, _) => {
                let datatype = shortened(datatype);
                return Err(bad(format!("{datatype:?} is not supported: send BYTES or UINT8")));
            }
        };
        let expected = shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side));
        match expected {
            Some(expected) if expected == pictures.len() && expected > 0 => Ok(pictures),
            _ => {
                Err(bad(format!("its shape is {shape:?}, but it has {} elements", pictures.len())))
            }
        }
    }
}

fn files<'r>(texts: &[String]) -> Result<Vec<PictureSource<'r>>, Error> {
    texts.iter().map(|text| Ok(PictureSource::File(Cow::Owned(base64::decode(text)?)))).collect()
}

/// The elements of a BYTES tensor as binary data: each is preceded by its length, four bytes, little-endian.
fn elements(mut binary: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let mut elements = Vec::new();
    while !binary.is_empty() {
        let element = binary.split_first_chunk().and_then(|(length, rest)| {
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
        });
        let (element, rest) = element.ok_or_else(|| {
            bad("its binary data ends within an element; each is preceded by its length in 4 bytes".into())
        })?;
        elements.push(element);
        if elements.len() > MAX_PICTURES {
            return Err(Error::TooManyPictures { count: elements.len(), limit: MAX_PICTURES });
        }
        binary = rest;
    }
    Ok(elements)
}

/// The pictures of a UINT8 tensor `[pictures, height, width, 3]`, RGB.
fn frames<'r>(shape: &[usize], pixels: &[u8]) -> Result<Vec<PictureSource<'r>>, Error> {
    let wrong = || {
        bad(format!(
            "its shape is {shape:?} and it has {} elements; UINT8 must be [pictures, height, width, 3]",
            pixels.len()
        ))
    };
    let &[count, height, width, 3] = shape else { return Err(wrong()) };
    let area = height.checked_mul(width).and_then(|area| area.checked_mul(3));
    let size = area.filter(|size| *size > 0 && size.checked_mul(count) == Some(pixels.len()));
    let (Some(size), Ok(height), Ok(width)) = (size, u32::try_from(height), u32::try_from(width))
    else {
        return Err(wrong());
    };
    let frames: Vec<_> = pixels
        .chunks_exact(size)
        .filter_map(|frame| RgbImage::from_raw(width, height, frame.to_vec()))
        .map(PictureSource::Pixels)
        .collect();
    if frames.is_empty() { Err(wrong()) } else { Ok(frames) }
}

fn bad(reason: String) -> Error {
    Error::BadTensor { reason }
}
