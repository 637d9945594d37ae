//! `model.toml`: everything specific to a model, so that a new model needs no Rust code.

use anyhow::ensure;
use serde::Deserialize;

use super::head::Output;
use crate::options::MAX_DETECTIONS;

/// A parsed `model.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's name in replies.
    pub name: String,
    /// The licence of the weights, as an SPDX expression; for a reader.
    pub license: Option<String>,
    pub input: Input,
    pub output: Output,
    pub thresholds: Thresholds,
}

/// A model's default thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    pub min_confidence: f32,
    pub iou_threshold: f32,
    pub max_detections: usize,
}

/// The network's input: one picture, batch size 1.
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
    /// Unless `element = "u8"`: each value, 0 to 255, is multiplied by it.
    #[serde(default = "one")]
    pub scale: f32,
    /// Unless `element = "u8"`: then subtracted from each channel, in the order of `channel_order`.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Unless `element = "u8"`: each channel is then divided by it.
    #[serde(default = "ones")]
    pub std: [f32; 3],
    pub fit: Fit,
    /// With `fit = "letterbox"`: the grey of the bars, 0 to 255.
    #[serde(default)]
    pub padding: u8,
    /// With `fit = "letterbox"`: where the picture lies.
    #[serde(default)]
    pub position: Position,
    #[serde(default)]
    pub filter: Filter,
    /// Whether the filter grows with the factor of reduction, so that every pixel counts.
    #[serde(default)]
    pub antialias: bool,
}

impl Input {
    /// The value of an element for a channel's value, 0 to 255.
    pub fn normalised(&self, channel: usize, value: u8) -> f32 {
        (f32::from(value) * self.scale - self.mean[channel]) / self.std[channel]
    }
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
    F16,
    F32,
}

/// How a picture is fitted to the input's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Scale width and height separately; the proportions are lost.
    Stretch,
    /// Keep the proportions, with grey bars around the picture or on one side of it.
    Letterbox,
}

/// Where a letterboxed picture lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    #[default]
    Centre,
    TopLeft,
}

/// How the resize computes a pixel from its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    Nearest,
    Box,
    #[default]
    Bilinear,
    Hamming,
    CatmullRom,
    Mitchell,
    Gaussian,
    Lanczos3,
}

fn one() -> f32 {
    1.0
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// The largest side of an input. A larger one would not fit into a function's memory together with the weights.
const MAX_INPUT_SIDE_PIXELS: u32 = 2048;

impl Manifest {
    /// Parses and validates a `model.toml`.
    ///
    /// # Errors
    /// If a key is unknown or missing, or a value is out of range.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let manifest: Self = toml::from_str(text)?;
        let Input { width, height, std, .. } = &manifest.input;
        for (key, side) in [("width", *width), ("height", *height)] {
            ensure!(
                (1..=MAX_INPUT_SIDE_PIXELS).contains(&side),
                "input.{key} is {side}; it must be 1 to {MAX_INPUT_SIDE_PIXELS}"
            );
        }
        ensure!(!std.contains(&0.0), "input.std is {std:?}; it must not contain 0");
        manifest.input.check_range()?;
        manifest.thresholds.check()?;
        let Input { element, scale, mean, std, .. } = &manifest.input;
        ensure!(
            *element != Element::U8 || (*scale, *mean, *std) == (one(), [0.0; 3], ones()),
            "input.scale, input.mean and input.std are for `element = \"f32\"` or \"f16\"; with \"u8\" the network \
             itself normalises"
        );
        Ok(manifest)
    }
}

impl Thresholds {
    /// Checks that a request may have them too.
    fn check(&self) -> anyhow::Result<()> {
        let Self { min_confidence, iou_threshold, max_detections } = *self;
        for (key, number) in [("min_confidence", min_confidence), ("iou_threshold", iou_threshold)]
        {
            ensure!(
                (0.0..=1.0).contains(&number),
                "thresholds.{key} is {number}; it must be 0 to 1"
            );
        }
        ensure!(
            (1..=MAX_DETECTIONS).contains(&max_detections),
            "thresholds.max_detections is {max_detections}; it must be 1 to {MAX_DETECTIONS}"
        );
        Ok(())
    }
}

impl Input {
    /// Checks that every pixel becomes a number.
    fn check_range(&self) -> anyhow::Result<()> {
        let ends = (0..3).flat_map(|channel| [0, 255].map(|value| self.normalised(channel, value)));
        ensure!(
            ends.into_iter().all(f32::is_finite),
            "with input.scale {}, input.mean {:?} and input.std {:?}, a pixel becomes no finite number",
            self.scale,
            self.mean,
            self.std
        );
        Ok(())
    }

    /// The shape of the input tensor.
    pub fn shape(&self) -> [usize; 4] {
        let (width, height) = (self.width as usize, self.height as usize);
        match self.layout {
            Layout::Nhwc => [1, height, width, 3],
            Layout::Nchw => [1, 3, height, width],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Manifest;

    const TEXT: &str = include_str!("../../model/nanodet_g/model.toml");

    #[test]
    fn numbers_that_no_request_or_picture_could_use_are_refused() {
        Manifest::parse(TEXT).expect("a manifest");
        let of = |element: &str| format!("element = \"f32\"\n{element}\nfit = \"letterbox\"");
        for (line, changed, reason) in [
            ("min_confidence = 0.4", "min_confidence = nan", "min_confidence is NaN"),
            ("min_confidence = 0.4", "min_confidence = 1.5", "min_confidence is 1.5"),
            ("iou_threshold = 0.5", "iou_threshold = -0.1", "iou_threshold is -0.1"),
            ("max_detections = 100", "max_detections = 0", "max_detections is 0"),
            ("max_detections = 100", "max_detections = 1001", "max_detections is 1001"),
            ("fit = \"letterbox\"", &of("scale = inf"), "input.scale inf"),
            ("fit = \"letterbox\"", &of("mean = [0, nan, 0]"), "NaN"),
            ("fit = \"letterbox\"", &of("std = [1, 1, 1e-45]"), "no finite number"),
            ("first_class_id = 0", "first_class_id = 4294967296", "expected u32"),
        ] {
            let refused = Manifest::parse(&TEXT.replace(line, changed)).expect_err(changed);
            assert!(format!("{refused:#}").contains(reason), "{changed}: {refused:#}");
        }
    }
}
