//! What the four numbers of a box mean.

use serde::Deserialize;

use crate::model::InputConfig;

/// The order of a box's four numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxFormat {
    /// `x_min, y_min, x_max, y_max`
    #[default]
    Corners,
    /// `y_min, x_min, y_max, x_max`
    CornersYx,
    /// `x_centre, y_centre, width, height`
    Centre,
}

impl BoxFormat {
    /// The corners of a box: `x_min, y_min, x_max, y_max`, in the box's own unit.
    pub(super) fn corners(self, [a, b, c, d]: [f32; 4]) -> [f32; 4] {
        match self {
            Self::Corners => [a, b, c, d],
            Self::CornersYx => [b, a, d, c],
            Self::Centre => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
        }
    }
}

/// The unit of a box's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxUnit {
    /// Pixels of the network's input.
    #[default]
    Pixels,
    /// Fractions of the network's input.
    Fractions,
}

impl BoxUnit {
    /// The unit of x and of y, in fractions of the input.
    pub(super) fn scale(self, input: &InputConfig) -> (f32, f32) {
        match self {
            Self::Pixels => (1.0 / input.width as f32, 1.0 / input.height as f32),
            Self::Fractions => (1.0, 1.0),
        }
    }
}

/// The same corners in fractions of the input.
pub(super) fn scaled([a, b, c, d]: [f32; 4], (x, y): (f32, f32)) -> [f32; 4] {
    [a * x, b * y, c * x, d * y]
}

/// The box at this position in a tensor `[N, 4]`; an empty box if there is none.
pub(super) fn at(boxes: &[f32], anchor: usize) -> [f32; 4] {
    boxes.as_chunks::<4>().0.get(anchor).copied().unwrap_or_default()
}
