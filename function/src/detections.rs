//! Detected objects, and their boxes in pixels of the upright picture.

use serde::{Serialize, Serializer};

/// One detected object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Detection<'m> {
    pub label: &'m str,
    /// The class's id in the data set the model was trained on.
    pub class_id: u32,
    /// 0 to 1.
    #[serde(serialize_with = "to_4_decimals")]
    pub confidence: f32,
    #[serde(rename = "box")]
    pub bounding_box: BoundingBox,
    /// The box's share of the picture's area, 0 to 1.
    #[serde(serialize_with = "to_4_decimals")]
    pub area_ratio: f32,
}

/// A box in pixels of the upright picture. The origin is the picture's top left corner.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BoundingBox {
    #[serde(serialize_with = "to_2_decimals")]
    pub x_min: f32,
    #[serde(serialize_with = "to_2_decimals")]
    pub y_min: f32,
    #[serde(serialize_with = "to_2_decimals")]
    pub x_max: f32,
    #[serde(serialize_with = "to_2_decimals")]
    pub y_max: f32,
}

impl BoundingBox {
    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        (self.x_max - self.x_min).max(0.0) * (self.y_max - self.y_min).max(0.0)
    }

    /// Intersection over union, 0 to 1.
    pub fn intersection_over_union(&self, other: &Self) -> f32 {
        let common = Self {
            x_min: self.x_min.max(other.x_min),
            y_min: self.y_min.max(other.y_min),
            x_max: self.x_max.min(other.x_max),
            y_max: self.y_max.min(other.y_max),
        }
        .area();
        let all = self.area() + other.area() - common;
        if all > 0.0 { common / all } else { 0.0 }
    }
}

pub(crate) fn to_2_decimals<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f32((value * 100.0).round() / 100.0)
}

pub(crate) fn to_4_decimals<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f32((value * 10_000.0).round() / 10_000.0)
}
