//! Turns the network's outputs into detections: applies thresholds and non-maximum suppression, and converts boxes to pixels of the upright picture.

use serde::{Serialize, Serializer};

use crate::model::head::{Candidate, Filter};
use crate::model::{Model, Outputs, Suppression};
use crate::options::Options;
use crate::tensor::Placement;

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

/// Only this many candidates, the most confident ones, are compared with each other. This limits the cost of a
/// request with `min_confidence=0`.
const MAX_CANDIDATES: usize = 10_000;

/// Selects the detections that are confident enough, of a wanted class, and do not overlap a more confident one as
/// far as the model's suppression says. Sorted by confidence, highest first.
pub fn non_maximum_suppression<'m>(
    outputs: &Outputs,
    placement: &Placement,
    model: &'m Model,
    options: &Options,
) -> Vec<Detection<'m>> {
    let decoder = model.decoder(outputs);
    let suppression = model.manifest().output.suppression;
    let mut kept: Vec<(usize, Detection)> = Vec::new();
    let wanted = wanted(model, options);
    let filter = Filter { min_confidence: options.min_confidence, wanted: &wanted };
    let mut candidates = Vec::new();
    decoder.candidates(&filter, &mut |candidate| candidates.push(candidate));
    for Candidate { confidence, anchor, column } in most_confident(candidates) {
        let Some(label) = model.labels().name(column) else { continue };
        let bounding_box = to_picture(decoder.corners(anchor), placement);
        let is_suppressed = kept.iter().any(|(other, earlier)| {
            let may_suppress = match suppression {
                Suppression::PerClass => *other == column,
                Suppression::ClassAgnostic => true,
                Suppression::None => false,
            };
            may_suppress
                && earlier.bounding_box.intersection_over_union(&bounding_box)
                    > options.iou_threshold
        });
        let is_empty = bounding_box.area().is_nan() || bounding_box.area() <= 0.0;
        if is_suppressed || is_empty {
            continue;
        }
        let detection = Detection {
            label,
            class_id: model.labels().class_id(column),
            confidence,
            area_ratio: bounding_box.area() / placement.picture().area(),
            bounding_box,
        };
        kept.push((column, detection));
        if kept.len() == options.max_detections {
            break;
        }
    }
    kept.into_iter().map(|(_, detection)| detection).collect()
}

/// For each column of the scores, whether the request wants it.
fn wanted(model: &Model, options: &Options) -> Vec<bool> {
    let mut wanted = vec![options.classes.is_none(); model.labels().columns()];
    for &column in options.classes.iter().flatten() {
        wanted[column] = true;
    }
    wanted
}

/// At most [`MAX_CANDIDATES`], highest confidence first. Of equal ones, the first in the outputs is first.
fn most_confident(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let by_confidence = |a: &Candidate, b: &Candidate| {
        let by_place = (a.anchor, a.column).cmp(&(b.anchor, b.column));
        b.confidence.total_cmp(&a.confidence).then(by_place)
    };
    if candidates.len() > MAX_CANDIDATES {
        candidates.select_nth_unstable_by(MAX_CANDIDATES, by_confidence);
        candidates.truncate(MAX_CANDIDATES);
    }
    candidates.sort_unstable_by(by_confidence);
    candidates
}

fn to_picture([x_min, y_min, x_max, y_max]: [f32; 4], placement: &Placement) -> BoundingBox {
    let (x_min, y_min) = placement.to_picture((x_min, y_min));
    let (x_max, y_max) = placement.to_picture((x_max, y_max));
    BoundingBox { x_min, y_min, x_max, y_max }
}

pub(crate) fn to_2_decimals<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f32((value * 100.0).round() / 100.0)
}

pub(crate) fn to_4_decimals<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f32((value * 10_000.0).round() / 10_000.0)
}
