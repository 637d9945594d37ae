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
        let InputConfig { element, scale, mean, std, .. } = &config.input;
        ensure!(
            *element != ElementType::U8 || (*scale, *mean, *std) == (1.0, [0.0; 3], [1.0; 3]),
            "input.scale, input.mean and input.std are for `element = \"f32\"` or \"f16\"; with \"u8\" the network \
             itself normalises"
        );
        Ok(config)
    }
}
