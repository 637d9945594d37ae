//! Turns the network's outputs into detections: applies thresholds and non-maximum suppression, and converts boxes to
//! pixels of the upright picture.

use crate::detections::{BoundingBox, Detection};
use crate::model::head::{Candidate, ScoreFilter};
use crate::model::{Model, Outputs, Suppression};
use crate::options::Options;
use crate::preprocess::InputTransform;

/// Only this many candidates, the most confident ones, are compared with each other. This limits the cost of a
/// request with `min_confidence=0`.
const MAX_CANDIDATES: usize = 10_000;

/// Selects the detections that are confident enough, are of a wanted class, and do not overlap a more confident one, as
/// far as the model's [`Suppression`] demands. Sorts them by confidence, highest first.
pub fn select<'m>(
    outputs: &Outputs,
    transform: &InputTransform,
    model: &'m Model,
    options: &Options,
) -> Vec<Detection<'m>> {
    let decoder = model.decoder(outputs);
    let suppression = model.config().output.suppression;
    let mut kept: Vec<(usize, Detection)> = Vec::new();
    let wanted = wanted(model, options);
    let filter = ScoreFilter { min_confidence: options.min_confidence, wanted: &wanted };
    let mut candidates = Vec::new();
    decoder.candidates(&filter, &mut |candidate| candidates.push(candidate));
    for Candidate { confidence, anchor, column } in most_confident(candidates) {
        let Some(label) = model.labels().name(column) else { continue };
        let bounding_box = to_picture(decoder.corners(anchor), transform);
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
            area_ratio: bounding_box.area() / transform.picture().area(),
            bounding_box,
        };
        kept.push((column, detection));
        if kept.len() == options.max_detections {
            break;
        }
    }
    kept.into_iter().map(|(_, detection)| detection).collect()
}

/// Whether the request wants each column of the scores.
fn wanted(model: &Model, options: &Options) -> Vec<bool> {
    let mut wanted = vec![options.classes.is_none(); model.labels().columns()];
    for &column in options.classes.iter().flatten() {
        wanted[column] = true;
    }
    wanted
}

/// At most [`MAX_CANDIDATES`], highest confidence first. Equal ones keep the order of the outputs.
fn most_confident(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let by_confidence = |a: &Candidate, b: &Candidate| {
        let by_position = (a.anchor, a.column).cmp(&(b.anchor, b.column));
        b.confidence.total_cmp(&a.confidence).then(by_position)
    };
    if candidates.len() > MAX_CANDIDATES {
        candidates.select_nth_unstable_by(MAX_CANDIDATES, by_confidence);
        candidates.truncate(MAX_CANDIDATES);
    }
    candidates.sort_unstable_by(by_confidence);
    candidates
}

fn to_picture([x_min, y_min, x_max, y_max]: [f32; 4], transform: &InputTransform) -> BoundingBox {
    let (x_min, y_min) = transform.to_picture((x_min, y_min));
    let (x_max, y_max) = transform.to_picture((x_max, y_max));
    BoundingBox { x_min, y_min, x_max, y_max }
}
