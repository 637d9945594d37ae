//! `model.toml`: all that is particular to one model, so that a new one needs no Rust.

use anyhow::ensure;
use serde::Deserialize;
use tract_onnx::prelude::DatumType;

use crate::options::Thresholds;

/// A parsed `model.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What replies call the model.
    pub name: String,
    pub input: Input,
    pub output: Output,
    pub thresholds: Thresholds,
}

/// What the network takes: one picture, batch size 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the input in the ONNX graph.
    pub name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    #[serde(default)]
    pub layout: Layout,
    #[serde(default)]
    pub channel_order: ChannelOrder,
    #[serde(default)]
    pub element: Element,
    /// With `element = "f32"`: what is subtracted from each channel (0-255), in the order of `channel_order`.
    #[serde(default)]
    pub mean: [f32; 3],
    /// With `element = "f32"`: what each channel is then divided by.
    #[serde(default = "ones")]
    pub std: [f32; 3],
    pub fit: Fit,
    /// With `fit = "letterbox"`: the grey (0-255) around the picture.
    #[serde(default)]
    pub padding: u8,
}

/// Order of the input's axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    #[default]
    Nhwc,
    Nchw,
}

/// Order of the input's channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    #[default]
    Rgb,
    Bgr,
}

/// Type of the input's elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    #[default]
    U8,
    F32,
}

/// How a picture of another shape is brought to the input's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Each side on its own; the picture's proportions are lost.
    Stretch,
    /// The whole picture, centred, with grey bars beside it.
    Letterbox,
}

/// What the network gives.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Name of the output f32 `[1, N, 4]` in the ONNX graph.
    pub boxes: String,
    /// Name of the output f32 `[1, N, classes]` in the ONNX graph, 0 to 1.
    pub scores: String,
    pub box_format: BoxFormat,
    /// The id of the scores' first column in the data set the model was trained on.
    #[serde(default)]
    pub first_class_id: u32,
}

/// What the four numbers of a box are: fractions of the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxFormat {
    /// `x_min, y_min, x_max, y_max`
    Corners,
    /// `y_min, x_min, y_max, x_max`
    CornersYx,
    /// `x_centre, y_centre, width, height`
    Centre,
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// Largest side of an input: more would not fit beside the weights in a function's memory.
const MAX_INPUT_SIDE_PIXELS: u32 = 2048;

impl Manifest {
    /// Parses and checks a `model.toml`.
    ///
    /// # Errors
    /// Unknown or missing keys, and values out of their range; each named.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let manifest: Self = toml::from_str(text)?;
        let Input { width, height, std, .. } = &manifest.input;
        for (key, side) in [("width", *width), ("height", *height)] {
            ensure!(
                (1..=MAX_INPUT_SIDE_PIXELS).contains(&side),
                "input.{key} is {side}; it takes 1 to {MAX_INPUT_SIDE_PIXELS}"
            );
        }
        ensure!(!std.contains(&0.0), "input.std is {std:?}; dividing by 0 is not possible");
        Ok(manifest)
    }
}

impl Input {
    /// Shape of the input tensor.
    pub fn shape(&self) -> [usize; 4] {
        let (width, height) = (self.width as usize, self.height as usize);
        match self.layout {
            Layout::Nhwc => [1, height, width, 3],
            Layout::Nchw => [1, 3, height, width],
        }
    }
}

impl Element {
    /// The element type in tract's terms.
    pub fn datum_type(self) -> DatumType {
        match self {
            Self::U8 => DatumType::U8,
            Self::F32 => DatumType::F32,
        }
    }
}
