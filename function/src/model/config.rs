//! `model.toml`: everything specific to a model, so that a new model needs no Rust code.

use anyhow::ensure;
use serde::Deserialize;

use super::head::OutputConfig;
use super::input::{ElementType, InputConfig};

/// A parsed `model.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The model's name in replies.
    pub name: String,
    /// The licence of the weights, as an SPDX expression. Only for readers.
    pub license: Option<String>,
    pub input: InputConfig,
    pub output: OutputConfig,
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

/// The largest value of `max_detections`, in `model.toml` and in a request.
pub const MAX_DETECTIONS: usize = 1000;

/// The largest side of an input. A larger one would not fit into a function's memory together with the weights.
const MAX_INPUT_SIDE_PIXELS: u32 = 2048;

impl ModelConfig {
    /// Parses and validates a `model.toml`.
    ///
    /// # Errors
    /// If a key is unknown or missing, or a value is out of range.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text)?;
        let InputConfig { width, height, std, .. } = &config.input;
        for (key, side) in [("width", *width), ("height", *height)] {
            ensure!(
                (1..=MAX_INPUT_SIDE_PIXELS).contains(&side),
                "input.{key} is {side}; it must be 1 to {MAX_INPUT_SIDE_PIXELS}"
            );
        }
        ensure!(!std.contains(&0.0), "input.std is {std:?}; it must not contain 0");
        config.input.check_range()?;
        config.thresholds.check()?;
        let InputConfig { element, scale, mean, std, .. } = &config.input;
        ensure!(
            *element != ElementType::U8 || (*scale, *mean, *std) == (1.0, [0.0; 3], [1.0; 3]),
            "input.scale, input.mean and input.std are for `element = \"f32\"` or \"f16\"; with \"u8\" the network \
             itself normalises"
        );
        Ok(config)
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

#[cfg(test)]
mod tests {
    use super::ModelConfig;

    const TEXT: &str = include_str!("../../model/nanodet_g/model.toml");

    #[test]
    fn numbers_that_no_request_or_picture_could_use_are_refused() {
        ModelConfig::parse(TEXT).expect("a configuration");
        let with = |element: &str| format!("element = \"f32\"\n{element}\nfit = \"letterbox\"");
        for (line, changed, reason) in [
            ("min_confidence = 0.4", "min_confidence = nan", "min_confidence is NaN"),
            ("min_confidence = 0.4", "min_confidence = 1.5", "min_confidence is 1.5"),
            ("iou_threshold = 0.5", "iou_threshold = -0.1", "iou_threshold is -0.1"),
            ("max_detections = 100", "max_detections = 0", "max_detections is 0"),
            ("max_detections = 100", "max_detections = 1001", "max_detections is 1001"),
            ("fit = \"letterbox\"", &with("scale = inf"), "input.scale inf"),
            ("fit = \"letterbox\"", &with("mean = [0, nan, 0]"), "NaN"),
            ("fit = \"letterbox\"", &with("std = [1, 1, 1e-45]"), "a finite number"),
            ("first_class_id = 0", "first_class_id = 4294967296", "expected u32"),
        ] {
            let refused = ModelConfig::parse(&TEXT.replace(line, changed)).expect_err(changed);
            assert!(format!("{refused:#}").contains(reason), "{changed}: {refused:#}");
        }
    }
}
