//! Turns the network's candidates into detections: applies thresholds and per-class non-maximum suppression, and
//! converts boxes to pixels of the upright picture.

use serde::{Serialize, Serializer};

use crate::model::{BoxFormat, Candidates, Model};
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

/// A score at or above the threshold, with its position in the network's outputs.
struct Candidate {
    confidence: f32,
    anchor: usize,
    column: usize,
}

/// Selects the detections that are confident enough, of a wanted class, and do not overlap a more confident one
/// of the same class. Sorted by confidence, highest first.
pub fn select<'m>(
    candidates: &Candidates,
    placement: &Placement,
    model: &'m Model,
    options: &Options,
) -> Vec<Detection<'m>> {
    let (Ok(boxes), Ok(scores)) = (
        candidates.boxes.to_plain_array_view::<f32>(),
        candidates.scores.to_plain_array_view::<f32>(),
    ) else {
        return Vec::new();
    };
    let (Some(boxes), Some(scores)) = (boxes.as_slice(), scores.as_slice()) else {
        return Vec::new();
    };
    let format = model.manifest().output.box_format;
    let mut kept: Vec<(usize, Detection)> = Vec::new();
    for candidate in confident(scores, model, options) {
        let Some(label) = model.labels().name(candidate.column) else { continue };
        let Some(corners) = boxes.chunks_exact(4).nth(candidate.anchor) else { continue };
        let bounding_box = to_picture(corners, format, placement);
        let overlaps = kept.iter().any(|(column, earlier)| {
            *column == candidate.column
                && earlier.bounding_box.intersection_over_union(&bounding_box)
                    > options.iou_threshold
        });
        if overlaps || bounding_box.area() <= 0.0 {
            continue;
        }
        let detection = Detection {
            label,
            class_id: model.labels().class_id(candidate.column),
            confidence: candidate.confidence,
            area_ratio: bounding_box.area() / placement.picture().area(),
            bounding_box,
        };
        kept.push((candidate.column, detection));
        if kept.len() == options.max_detections {
            break;
        }
    }
    kept.into_iter().map(|(_, detection)| detection).collect()
}

/// All scores in the wanted columns that are at or above the threshold, highest first.
fn confident(scores: &[f32], model: &Model, options: &Options) -> Vec<Candidate> {
    let columns = model.labels().columns();
    let mut wanted = vec![options.classes.is_none(); columns];
    for &column in options.classes.iter().flatten() {
        wanted[column] = true;
    }
    let mut found: Vec<Candidate> = scores
        .iter()
        .enumerate()
        .filter(|(index, confidence)| {
            **confidence >= options.min_confidence && wanted[index % columns]
        })
        .map(|(index, &confidence)| Candidate {
            confidence,
            anchor: index / columns,
            column: index % columns,
        })
        .collect();
    found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    found.truncate(MAX_CANDIDATES);
    found
}

fn to_picture(numbers: &[f32], format: BoxFormat, placement: &Placement) -> BoundingBox {
    let (a, b, c, d) = (numbers[0], numbers[1], numbers[2], numbers[3]);
    let (min, max) = match format {
        BoxFormat::Corners => ((a, b), (c, d)),
        BoxFormat::CornersYx => ((b, a), (d, c)),
        BoxFormat::Centre => ((a - c / 2.0, b - d / 2.0), (a + c / 2.0, b + d / 2.0)),
    };
    let (x_min, y_min) = placement.to_picture(min);
    let (x_max, y_max) = placement.to_picture(max);
    BoundingBox { x_min, y_min, x_max, y_max }
}

pub(crate) fn to_2_decimals<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f32((value * 100.0).round() / 100.0)
}

pub(crate) fn to_4_decimals<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f32((value * 10_000.0).round() / 10_000.0)
}
